"""The shape of the package: small folders, names used once, tests that mirror it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "neurodeploy"
UNIT_TESTS = ROOT / "tests" / "unit"
COMMANDS = PACKAGE / "cli" / "commands"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules_by_folder() -> dict[Path, list[str]]:
    folders = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.stem.startswith("_"):
            folders[path.parent].append(path.stem)
    return dict(folders)


FOLDERS = modules_by_folder()
TREES = {path: ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}
each_folder = pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT))
)


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of these kinds with its place: `neurodeploy/files.py:12 name`."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                line, name = getattr(node, "lineno", 1), getattr(node, "name", "")
                yield f"{path.relative_to(ROOT)}:{line} {name}", node


def parameters(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    is_method = bool(named) and named[0].arg in ("self", "cls")
    return len(named) + len(arguments.kwonlyargs) - is_method


@each_folder
def test_a_folder_has_two_to_twelve_modules(folder: Path) -> None:
    assert 2 <= len(FOLDERS[folder]) <= 12, FOLDERS[folder]


def test_a_module_name_is_used_once() -> None:
    """The module of a command is named as the command, whatever else has that name."""
    places = defaultdict(list)
    for folder, names in FOLDERS.items():
        for name in names:
            if folder != COMMANDS:
                places[name].append(str(folder.relative_to(ROOT)))
    assert {name: folders for name, folders in places.items() if len(folders) > 1} == {}


def test_unit_tests_lie_and_are_named_as_the_modules() -> None:
    """A suffix tells several files of tests of one module apart: `test_folding_pools.py`."""
    strays = []
    for path in sorted(UNIT_TESTS.rglob("test_*.py")):
        folder = PACKAGE / path.parent.relative_to(UNIT_TESTS)
        subject = path.stem.removeprefix("test_")
        names = FOLDERS.get(folder, [])
        if not any(subject == name or subject.startswith(f"{name}_") for name in names):
            strays.append(str(path.relative_to(ROOT)))
    assert strays == []


def test_functions_are_short() -> None:
    long = {}
    for place, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, Function)
        assert node.end_lineno is not None
        if (lines := node.end_lineno - node.lineno + 1) > 80:
            long[place] = lines
    assert len(long) <= 5, long
    assert max(long.values(), default=0) <= 120, long


def test_functions_have_few_parameters() -> None:
    counts = {
        place: count
        for place, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, Function) and (count := parameters(node)) > 8
    }
    assert len(counts) <= 20, counts
