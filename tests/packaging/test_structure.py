"""The shape of the package: small folders, names used once, tests that mirror it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "neurodeploy"
UNIT_TESTS = ROOT / "tests" / "unit"
COMMANDS = PACKAGE / "cli" / "commands"

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef | ast.Module

# The blocks a user builds a network from are called as the layers they become in its graph.
SHARED_CLASS_NAMES = {
    "AveragePool", "Conv", "Dense", "Flatten", "GlobalAveragePool", "Input", "MaxPool",
}  # fmt: skip


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


@each_folder
def test_a_folders_docstring_names_its_modules(folder: Path) -> None:
    text = ast.get_docstring(TREES[folder / "__init__.py"]) or ""
    assert [name for name in FOLDERS[folder] if not re.search(rf"\b{name}\b", text)] == []


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
        lines = node.end_lineno - node.lineno + 1
        _, heading, example = (ast.get_docstring(node) or "").partition("\n\nExample:\n")
        if heading:  # an example is not work that the function does
            lines -= 2 + len(example.splitlines())
        if lines > 80:
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


def test_docstrings_begin_as_python_readers_expect() -> None:
    found = {}
    for place, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module):
        assert isinstance(node, Documented)
        text = ast.get_docstring(node) or ""
        if re.match(r"(Give|Say|Tell|What|Whether)\b", text):
            found[place] = text.splitlines()[0]
    assert found == {}


def test_a_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for place, node in nodes(ast.ClassDef):
        assert isinstance(node, ast.ClassDef)
        places[node.name].append(place)
    repeated = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: repeated[name] for name in repeated.keys() - SHARED_CLASS_NAMES} == {}
    assert repeated.keys() >= SHARED_CLASS_NAMES  # else the list above is out of date


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (r'h5py\.File\([^)]*"r"\)', "untrusted/hdf5.py"),
        (r"aedat\.Decoder\(", "samples/camera_recordings.py"),
        (r"tomllib\.loads?\(", "untrusted/documents.py"),
        (r"zipfile\.ZipFile\(path\)", "samples/array_files.py"),
    ],
)
def test_files_of_strangers_come_in_by_one_door(call: str, place: str) -> None:
    """A parser that is called elsewhere would be called without its bounds."""
    found = [
        str(path.relative_to(PACKAGE)) for path in TREES if re.search(call, path.read_text("utf-8"))
    ]
    assert found == [place]
