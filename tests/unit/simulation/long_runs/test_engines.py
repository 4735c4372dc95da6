from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurodeploy.errors import SimulationError
from neurodeploy.simulation.long_runs.engines import Crew


def test_the_text_of_an_engine_is_that_engine() -> None:
    assert Crew(engine="local").is_here
    with pytest.raises(SimulationError, match=r"engine is 'spark', one of Engine\.LOCAL, Engine"):
        Crew(engine="spark")


def test_killing_the_parent_ends_the_workers(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from neurodeploy.simulation.long_runs.engines import Crew, open_pool\n"
        "def work(_, seconds):\n"
        "    time.sleep(seconds)\n"
        "if __name__ == '__main__':\n"
        "    with open_pool(Crew(workers=2), None) as pool:\n"
        "        list(pool.run(work, [60.0, 60.0]))\n"
    )
    file = tmp_path / "program.py"
    file.write_text(program)
    parent = subprocess.Popen([sys.executable, str(file)])
    worker = _within(60, lambda: _worker_of(parent.pid))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _within(60, lambda: not Path(f"/proc/{worker}").exists() or _is_over(worker))


def _worker_of(parent: int) -> int:
    """The process of a worker; the other child tracks resources."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text()
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == parent and "popen_loky_posix" in command:
            return int(entry.name)
    return 0


def _is_over(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _within(seconds: float, condition):  # type: ignore[no-untyped-def]  # gives what it waits for
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("nothing happened in time")
