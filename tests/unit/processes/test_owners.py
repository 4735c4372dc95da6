from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurodeploy.processes import owners
from neurodeploy.processes.owners import owner_mark, owner_of


def marks_of(code: str) -> list[str]:
    """What another process prints, which has ended."""
    program = f"from neurodeploy.processes.owners import owner_mark\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stdout.decode().split()


def test_the_owner_of_a_mark_is_named_once_it_has_ended() -> None:
    process, mark = marks_of("import os; print(os.getpid(), owner_mark())")
    assert owner_of(f".results-{mark}1234.npz") == int(process)
    assert owner_of(f"{owner_mark()}x") is None  # it runs


def test_a_number_given_again_is_not_the_old_process(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells when a process started")
    begin, _, end = owner_mark().rstrip("-").rpartition("-")
    assert owner_of(f"{begin}-{int(end) - 1}-x") == os.getpid()


@pytest.mark.parametrize(
    "name",
    [
        "results.npz",
        "neurodeploy",
        "neurodeploy-lava-kx2a",
        "neurodeploy-0123abcd-1-x",  # no start
        "neurodeploy-0123abcd-99999999-1-x",  # of another machine
    ],
)
def test_other_names_have_no_owner_that_ended(name: str) -> None:
    assert owner_of(name) is None


def test_a_process_that_waits_to_be_reaped_has_ended() -> None:
    if not Path("/proc").is_dir():
        pytest.skip("there is no /proc here")
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    try:
        assert owners._start_of(process) is None
    finally:
        os.waitpid(process, 0)
