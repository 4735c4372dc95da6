"""Installing the Lava runtime: whole or not at all, with an explanation when it fails."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from neurodeploy.errors import LavaRuntimeError
from neurodeploy.files import hardware_path
from neurodeploy.lava_bridge import runtime
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator

GOLDEN = Path(__file__).parents[2] / "golden"
Usage = namedtuple("Usage", "total used free")


class FakeCalls:
    """Stands in for the commands that make a virtual environment; counts installations."""

    def __init__(self) -> None:
        self.installations = 0
        self.failing = ""
        self.output = ""

    def __call__(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        if self.failing and self.failing in command:
            return subprocess.CompletedProcess(command, 1, "", self.output)
        if "venv" in command:
            packages = Path(command[-1], "lib", "python3.11", "site-packages")
            for name in ("tests", "lava", "pip"):
                (packages / name).mkdir(parents=True)
                (packages / name / "content.py").write_text("x = 1\n")
            (Path(command[-1]) / "bin").mkdir()
            (Path(command[-1]) / "bin" / "python").symlink_to(sys.executable)
            (Path(command[-1]) / "bin" / "activate").write_text("names the building folder")
        self.installations += "install" in command
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> FakeCalls:
    fake = FakeCalls()
    monkeypatch.setattr(runtime, "_call", fake)
    monkeypatch.setattr(runtime, "self_test", lambda python: (0.1, {"lava-nc": "0.10.0"}))
    return fake


def siblings(folder: Path) -> list[str]:
    return [path.name for path in folder.parent.iterdir() if path.name != f".{folder.name}.lock"]


def test_missing_runtime_tells_how_to_install(tmp_path: Path) -> None:
    with pytest.raises(LavaRuntimeError, match="neurodeploy lava install"):
        runtime.find_runtime(tmp_path / "absent")


def test_simulator_without_runtime_tells_how_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "runtime_path", lambda: tmp_path / "absent")
    with pytest.raises(LavaRuntimeError, match="neurodeploy lava install"):
        LavaSimulator(GOLDEN / "01_dense_basic.net")


def test_runtime_lives_in_the_running_environment() -> None:
    assert runtime.runtime_path().is_relative_to(sys.prefix)


def test_installs_removes_what_is_not_needed_and_reports_stages(
    tmp_path: Path, calls: FakeCalls
) -> None:
    folder, stages = tmp_path / "runtime", list[str]()
    python = runtime.install_runtime(folder, progress=stages.append)
    packages = folder / "lib" / "python3.11" / "site-packages"
    assert python == folder / "bin" / "python"
    assert [path.name for path in packages.iterdir()] == ["lava"]
    assert not (folder / "bin" / "activate").exists()
    assert stages[0] == "creating the virtual environment"
    assert siblings(folder) == ["runtime"]


def test_second_call_does_nothing(tmp_path: Path, calls: FakeCalls) -> None:
    for _ in range(2):
        runtime.install_runtime(tmp_path / "runtime")
    assert calls.installations == 1


def test_damaged_runtime_is_rebuilt(tmp_path: Path, calls: FakeCalls) -> None:
    folder = tmp_path / "runtime"
    runtime.install_runtime(folder)
    damaged = folder / "lib" / "python3.11" / "site-packages" / "lava" / "content.py"
    damaged.write_text("")
    runtime.install_runtime(folder)
    assert calls.installations == 2
    assert damaged.read_text() == "x = 1\n"
    assert siblings(folder) == ["runtime"]


def test_changed_recipe_is_installed(
    tmp_path: Path, calls: FakeCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.install_runtime(tmp_path / "runtime")
    monkeypatch.setattr(runtime, "FORMAT", -1)
    runtime.install_runtime(tmp_path / "runtime")
    assert calls.installations == 2


@pytest.mark.parametrize(
    ("failing", "output", "message"),
    [
        ("venv", "No module named venv", "venv module(.|\n)*No module named venv"),
        ("install", "ERROR: no such host", "pip could not install(.|\n)*no such host"),
        ("install", f"OSError: {os.strerror(errno.ENOSPC)}", "no space left"),
    ],
)
def test_failure_is_explained_and_leaves_nothing(
    tmp_path: Path, calls: FakeCalls, failing: str, output: str, message: str
) -> None:
    calls.failing, calls.output = failing, output
    with pytest.raises(LavaRuntimeError, match=message):
        runtime.install_runtime(tmp_path / "runtime")
    assert siblings(tmp_path / "runtime") == []


def test_wrong_self_test_leaves_the_old_runtime(
    tmp_path: Path, calls: FakeCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runtime"
    runtime.install_runtime(folder)
    before = (folder / runtime.MANIFEST).read_text()

    def fail(python: Path) -> None:
        raise LavaRuntimeError("wrong spikes")

    monkeypatch.setattr(runtime, "self_test", fail)
    monkeypatch.setattr(runtime, "FORMAT", -1)
    with pytest.raises(LavaRuntimeError, match="wrong spikes"):
        runtime.install_runtime(folder)
    assert (folder / runtime.MANIFEST).read_text() == before
    assert siblings(folder) == ["runtime"]


def test_pip_that_comes_with_python_is_used_where_pip_is_missing(
    tmp_path: Path, calls: FakeCalls
) -> None:
    calls.failing, calls.output = "--version", "No module named pip"
    runtime.install_runtime(tmp_path / "runtime")
    assert calls.installations == 1


def test_too_little_space_is_noticed_before_anything_is_done(
    tmp_path: Path, calls: FakeCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 10))
    with pytest.raises(LavaRuntimeError, match="no space left; the Lava runtime needs 700 MB"):
        runtime.install_runtime(tmp_path / "runtime")
    assert siblings(tmp_path / "runtime") == []


def test_folder_that_cannot_be_made(tmp_path: Path, calls: FakeCalls) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LavaRuntimeError, match="Choose a folder that can be written"):
        runtime.install_runtime(tmp_path / "file" / "runtime")


def test_folder_with_something_else_is_left_alone(tmp_path: Path, calls: FakeCalls) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "thesis.txt").write_text("years of work")
    with pytest.raises(LavaRuntimeError, match="left as it is"):
        runtime.install_runtime(tmp_path / "runtime")
    assert (tmp_path / "runtime" / "thesis.txt").read_text() == "years of work"


def test_interpreter_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(LavaRuntimeError, match="not an executable"):
        runtime.install_runtime(tmp_path / "runtime", python="python-that-is-not-there")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_interpreter_that_does_not_run(tmp_path: Path) -> None:
    shim = script(tmp_path / "python3.10", "echo 'command not found' >&2; exit 127")
    with pytest.raises(LavaRuntimeError, match=r"not run as Python(.|\n)*command not found"):
        runtime.install_runtime(tmp_path / "runtime", python=shim)


def test_unsupported_version(tmp_path: Path) -> None:
    old = script(tmp_path / "python3.9", "echo 3 9")
    with pytest.raises(LavaRuntimeError, match=r"Python 3\.9; Lava runs on 3\.10 to 3\.13"):
        runtime.install_runtime(tmp_path / "runtime", python=old)


def test_every_supported_version_has_exact_requirements() -> None:
    for major, minor in runtime.SUPPORTED:
        path = hardware_path() / "lava_runtime" / f"requirements-py{major}{minor}.txt"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert all("==" in line for line in lines)
        assert not any(line.startswith("torch") for line in lines)


def test_doctor_reports_a_missing_runtime(tmp_path: Path) -> None:
    report = runtime.diagnose(tmp_path / "absent")
    assert not report.is_present
    assert not report.is_working
    assert "neurodeploy lava install" in report.problem
