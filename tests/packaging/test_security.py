"""SECURITY.md says what the code does."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LIMITS = re.findall(r"^\|[^|]*\|[^|]*\| ([\d,.]+) \| `([\w.]+)` \|$", TEXT, re.MULTILINE)


def test_the_table_of_limits_is_read() -> None:
    assert len(LIMITS) >= 20
    assert len(LIMITS) == TEXT.count("| `neurodeploy.")


@pytest.mark.parametrize(("value", "name"), LIMITS)
def test_a_limit_is_that_of_the_code(value: str, name: str) -> None:
    module, _, constant = name.rpartition(".")
    assert getattr(import_module(module), constant) == float(value.replace(",", ""))


def test_nothing_is_unpickled() -> None:
    """Modules that unpickle, run text as code or start a shell are not used."""
    found = []
    for path in (ROOT / "neurodeploy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [one.name for one in getattr(node, "names", ()) if isinstance(one, ast.alias)]
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names.append(f"{node.func.id}()")
            if isinstance(node, ast.Call):
                names += [f"{one.arg}={ast.unparse(one.value)}" for one in node.keywords]
            wrong = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml"}
            wrong |= {"eval()", "exec()", "allow_pickle=True", "shell=True", "weights_only=False"}
            found += [f"{path.relative_to(ROOT)}: {name}" for name in wrong.intersection(names)]
            if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "torch.load",
                "np.fromstring",
            ):
                found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    assert found == []


def test_arrays_are_read_without_pickles() -> None:
    """`numpy.load` is told so at every call, whatever NumPy's default is."""
    for path in (ROOT / "neurodeploy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "np.load",
                "np.lib.format.read_array",
            ):
                keywords = {one.arg: ast.unparse(one.value) for one in node.keywords}
                assert keywords.get("allow_pickle") == "False", path
