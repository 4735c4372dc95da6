"""What `neurodeploy doctor` finds out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurodeploy.cli.commands.doctor import (
    Diagnosis,
    examine,
    run_small_network,
)

KERNELS = """
from numba import njit

@njit(cache=True)
def double(x):
    return 2 * x
"""


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    return examine()


def test_versions_and_cores_are_those_of_this_process(found: Diagnosis) -> None:
    import numpy as np

    assert found.versions["numpy"] == np.__version__
    assert found.versions["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found.cores == len(os.sched_getaffinity(0))


def test_a_missing_package_is_named_with_its_purpose(found: Diagnosis) -> None:
    from importlib.util import find_spec

    ray = next(one for one in found.packages if one.name == "ray")
    assert (ray.version is None) == (find_spec("ray") is None)
    assert ray.purpose == "`--engine ray`"
    assert ray.install == "pip install 'neurodeploy[ray]'"


def test_the_small_network_runs() -> None:
    run_small_network()


def test_specialisations_are_counted_and_outdated_ones_told_apart(tmp_path: Path) -> None:
    """In a process of its own, as the module is compiled there, changed, and loaded again."""
    source = tmp_path / "kernels_here.py"
    program = (
        "import sys; sys.path.insert(0, {folder!r})\n"
        "import kernels_here\n"
        "from neurodeploy.cli.commands.doctor import _compiled_module\n"
        "{call}\n"
        "found = _compiled_module('kernels_here', [kernels_here.double])\n"
        "print(found.functions, found.cached, found.outdated, found.is_writable)\n"
    )

    def run(call: str) -> str:
        text = program.format(folder=str(tmp_path), call=call)
        done = subprocess.run(
            [sys.executable, "-c", text], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        return done.stdout.strip()

    source.write_text(KERNELS, encoding="utf-8")
    assert run("pass") == "1 0 0 True"
    assert run("kernels_here.double(1); kernels_here.double(1.0)") == "1 2 0 True"
    later = source.stat().st_mtime + 60
    source.write_text(KERNELS, encoding="utf-8")
    os.utime(source, (later, later))
    assert run("pass") == "1 0 2 True"
