"""The runtime as it is really installed, and what happens to it when a run is cut short."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGSTOP

import numpy as np
import pytest

from neurodeploy.errors import LavaRuntimeError
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.lava_bridge.runtime import diagnose, install_runtime
from neurodeploy.simulation.recording import Stream

pytestmark = pytest.mark.lava

NET = Path(__file__).parents[1] / "golden" / "24_mini_resnet.net"


def processor_seconds() -> float:
    """Return what this process and those that it waited for have used, however busy others are."""
    return sum(os.times()[:4])


def test_fresh_installation_is_quick_small_and_without_torch(tmp_path: Path) -> None:
    folder = tmp_path / "runtime"
    begin = processor_seconds()
    python = install_runtime(folder)
    assert processor_seconds() - begin < 90
    report = diagnose(folder)
    assert report.problem == ""
    assert report.is_working
    assert report.is_current
    assert report.is_torch_absent
    assert report.size_mb < 500
    assert report.versions["lava-nc"] == "0.10.0"
    assert report.versions["lava-dl"] == "0.6.0"
    made = python.lstat().st_ctime_ns
    begin = processor_seconds()
    assert install_runtime(folder) == python
    assert processor_seconds() - begin < 5
    assert python.lstat().st_ctime_ns == made
    next(folder.glob("lib/*/site-packages/lava/lib/dl/netx/hdf5.py")).unlink()
    damaged = diagnose(folder)
    assert not damaged.is_current
    assert not damaged.is_working
    assert damaged.problem


def shared_memory(process: int) -> list[str]:
    """Names of what a process and its children have there."""
    folder = Path("/dev/shm")
    return [path.name for path in folder.glob(f"neurodeploy-*-{process}-*")]


def workers_in(scratch: Path) -> list[str]:
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    )
    return [line for line in listed.stdout.splitlines() if f"run_netx.py {scratch}" in line]


def test_timeout_leaves_no_process_and_no_shared_memory(
    lava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    simulator = LavaSimulator(NET, timeout=4)
    with pytest.raises(LavaRuntimeError, match="not done after the 4 s allowed"):
        simulator.run(np.ones((1, 100_000, 3, 8, 8), np.int32), timing=Stream())
    assert workers_in(tmp_path) == []
    assert shared_memory(os.getpid()) == []


def children_of(process: int) -> list[int]:
    """The processes that one has started, in order."""
    return sorted(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


FAULTS = {
    "parent killed": [("parent", SIGKILL)],
    "supervisor killed": [("supervisor", SIGKILL)],
    "both killed": [("parent", SIGKILL), ("supervisor", SIGKILL)],
    "worker killed": [("worker", SIGKILL)],
    "supervisor stopped, parent killed": [("supervisor", SIGSTOP), ("parent", SIGKILL)],
    "all stopped, parent killed": [
        *((part, SIGSTOP) for part in ("tracker", "worker", "heir", "supervisor")),
        ("parent", SIGKILL),
    ],
    "interrupted twice": [("parent", SIGINT), ("parent", SIGINT)],
    "all but Lava killed": [
        (part, SIGKILL) for part in ("tracker", "heir", "supervisor", "parent")
    ],
}


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_of_lava_is_left(lava: Path, tmp_path: Path, fault: str) -> None:
    code = (
        "import numpy; from neurodeploy.simulation.recording import Stream\n"
        "from neurodeploy.lava_bridge.lava_simulator import LavaSimulator\n"
        "x = numpy.ones((1, 100_000, 3, 8, 8), numpy.int32)\n"
        f"LavaSimulator({str(NET)!r}).run(x, timing=Stream())\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as parent:
        try:
            assert within(60, lambda: len(workers_in(tmp_path)) >= 10)
            (supervisor,) = children_of(parent.pid)
            names = ("tracker", "worker", "heir")
            parts = dict(zip(names, children_of(supervisor), strict=True))
            parts |= {"parent": parent.pid, "supervisor": supervisor}
            for part, number in FAULTS[fault]:
                os.kill(parts[part], number)
            assert within(60, lambda: not workers_in(tmp_path)), workers_in(tmp_path)
            parent.wait(60)  # it removes its folder last
        finally:
            parent.kill()
    if fault == "all but Lava killed":
        code = "from neurodeploy.processes.leftovers import remove_leftovers as r; r()"
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert within(60, lambda: not list(tmp_path.iterdir())), list(tmp_path.iterdir())
    assert within(60, lambda: not shared_memory(parent.pid)), shared_memory(parent.pid)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()
