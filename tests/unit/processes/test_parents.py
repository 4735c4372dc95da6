from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
WATCHING = """
import os, time
from neurodeploy.processes.parents import watch_parent
watch_parent(os.getppid())
print(flush=True)
time.sleep(60)
"""
DYING = """
import hashlib
from neurodeploy.processes.parents import die_with_parent
die_with_parent()
print(flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000_000)  # no thread of Python may be needed
"""


@pytest.mark.parametrize("program", [WATCHING, DYING])
def test_a_child_ends_with_its_killed_parent(program: str) -> None:
    if program == DYING and sys.platform != "linux":
        pytest.skip("only Linux kills the children of a process that ended")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
