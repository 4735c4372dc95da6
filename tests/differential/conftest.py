"""The Lava runtimes of every Python on this machine that Lava can run on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from neurodeploy.lava_bridge.runtime import SUPPORTED, install_runtime

RUNNING = sys.version_info[:2]


def _output(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


@cache
def interpreters() -> dict[tuple[int, int], str]:
    """Find an interpreter for each supported version but the running one.

    A name on the path may be a shim that refuses to run, so each candidate is asked. pyenv is
    asked as well, since it hides all but one of its versions.
    """
    candidates = [f"python{major}.{minor}" for major, minor in SUPPORTED]
    if shutil.which("pyenv"):
        prefixes = (
            _output("pyenv", "prefix", name) for name in _output("pyenv", "versions", "--bare")
        )
        candidates += [str(Path(prefix[0], "bin", "python")) for prefix in prefixes if prefix]
    found: dict[tuple[int, int], str] = {}
    for candidate in candidates:
        answer = _output(candidate, "-c", "import sys; print(*sys.version_info[:2])")
        if len(answer) == 2:
            version = (int(answer[0]), int(answer[1]))
            if version in SUPPORTED and version != RUNNING:
                found.setdefault(version, candidate)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "any_lava" in metafunc.fixturenames:
        versions = sorted([RUNNING, *interpreters()])
        metafunc.parametrize(
            "any_lava",
            versions,
            ids=[f"py{major}.{minor}" for major, minor in versions],
            indirect=True,
            scope="session",
        )


@pytest.fixture(scope="session")
def lava() -> Path:
    """The runtime of the running environment; installed if it is missing."""
    return install_runtime()


@pytest.fixture(scope="session")
def any_lava(request: pytest.FixtureRequest, lava: Path) -> Path:
    """A runtime for each Python found; those of other versions are kept in pytest's cache."""
    version: tuple[int, int] = request.param
    if version == RUNNING:
        return lava
    folder = Path(request.config.cache.mkdir("lava-runtimes")) / "python{}.{}".format(*version)
    return install_runtime(folder, python=interpreters()[version])
