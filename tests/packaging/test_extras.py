"""Extras name what the tests run with."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def test_the_frameworks_of_interop_are_those_that_tests_run_with() -> None:
    """Sinabs is left out: pip cannot install it with the others."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extra = [Requirement(text) for text in table["project"]["optional-dependencies"]["interop"]]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    made = (ROOT / "Makefile").read_text().split("pip install --quiet", 1)[1].split("--no-deps")
    installed = {name for line in made[1:] for name in line.splitlines()[0].split()}
    for requirement in extra:
        assert requirement.specifier.contains(version(requirement.name)), requirement
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
    assert {requirement.name for requirement in extra} - installed == {"nir"}  # of `test`
    assert "sinabs" in installed
