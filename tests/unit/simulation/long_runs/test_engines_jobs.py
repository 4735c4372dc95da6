from __future__ import annotations

import math
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurodeploy.simulation.long_runs.jobs import run_jobs


def test_every_job_gives_its_result() -> None:
    results = dict(run_jobs(operator.neg, [3, 1, 2], workers=2))
    assert results == {3: -3, 1: -1, 2: -2}


def test_workers_have_one_thread_and_the_setting_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert list(run_jobs(os.getenv, ["OMP_NUM_THREADS"], workers=1)) == [("OMP_NUM_THREADS", "1")]
    assert "OMP_NUM_THREADS" not in os.environ


def test_an_error_of_a_job_is_raised() -> None:
    with pytest.raises(ValueError, match="math domain error"):
        list(run_jobs(math.sqrt, [4.0, -1.0], workers=1))


def test_killing_the_parent_ends_the_workers(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from neurodeploy.simulation.long_runs.jobs import run_jobs\n"
        "if __name__ == '__main__':\n"
        "    list(run_jobs(time.sleep, [60.0], workers=1))\n"
    )
    file = tmp_path / "program.py"
    file.write_text(program)
    parent = subprocess.Popen([sys.executable, str(file)])
    worker = _within(20, lambda: _worker_of(parent.pid))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _within(20, lambda: not Path(f"/proc/{worker}").exists() or _is_over(worker))


def _worker_of(parent: int) -> int:
    """Give the process that runs jobs; the other child tracks resources."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text()
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == parent and "spawn_main" in command:
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
