"""The runtime as it is really installed, and what happens to it when a run is cut short."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neurodeploy.errors import LavaRuntimeError
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.lava_bridge.runtime import diagnose, install_runtime
from neurodeploy.simulation.recording import Stream

pytestmark = pytest.mark.lava

NET = Path(__file__).parents[1] / "golden" / "24_mini_resnet.net"


def test_fresh_installation_is_quick_small_and_without_torch(tmp_path: Path) -> None:
    folder = tmp_path / "runtime"
    begin = time.perf_counter()
    python = install_runtime(folder)
    assert time.perf_counter() - begin < 90
    report = diagnose(folder)
    assert report.problem == ""
    assert report.is_working
    assert report.is_current
    assert report.is_torch_absent
    assert report.size_mb < 500
    assert report.versions["lava-nc"] == "0.10.0"
    assert report.versions["lava-dl"] == "0.6.0"
    made = python.lstat().st_ctime_ns
    begin = time.perf_counter()
    assert install_runtime(folder) == python
    assert time.perf_counter() - begin < 5
    assert python.lstat().st_ctime_ns == made
    next(folder.glob("lib/*/site-packages/lava/lib/dl/netx/hdf5.py")).unlink()
    damaged = diagnose(folder)
    assert not damaged.is_current
    assert not damaged.is_working
    assert damaged.problem


def shared_memory() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def workers_in(scratch: Path) -> list[str]:
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if f"run_netx.py {scratch}" in line]


def test_timeout_leaves_no_process_and_no_shared_memory(
    lava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = shared_memory()
    simulator = LavaSimulator(NET, timeout=4)
    with pytest.raises(LavaRuntimeError, match="not done after the 4 s allowed"):
        simulator.run(np.ones((1, 100_000, 3, 8, 8), np.int32), timing=Stream())
    assert workers_in(tmp_path) == []
    assert not {name for name in shared_memory() - before if name.startswith("psm_")}


def test_killed_parent_takes_everything_with_it(lava: Path, tmp_path: Path) -> None:
    code = (
        "import numpy, tempfile; from neurodeploy.simulation.recording import Stream\n"
        "from neurodeploy.lava_bridge.lava_simulator import LavaSimulator\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "x = numpy.ones((1, 100_000, 3, 8, 8), numpy.int32)\n"
        f"LavaSimulator({str(NET)!r}).run(x, timing=Stream())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while len(workers_in(tmp_path)) < 10 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(workers_in(tmp_path)) >= 10
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 20
    while (workers_in(tmp_path) or list(tmp_path.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
