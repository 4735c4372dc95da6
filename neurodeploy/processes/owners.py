"""Names that tell which process a file belongs to, and whether that process still runs or works.

Whatever lies outside the results of a command carries such a name, so that a later process can tell
what a killed one left from what a running one still needs.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

_MARK = re.compile(r"neurodeploy-([0-9a-f]{8})-(\d+)-(\d+)-")


def owner_mark() -> str:
    """Return a part of a name: "neurodeploy-", this machine, process and its start, and "-"."""
    process = os.getpid()
    return f"neurodeploy-{_machine()}-{process}-{_start_of(process) or 0}-"


def owner_of(name: str) -> int | None:
    """Return the number of the process that marked a name, if it ran here and has ended.

    None stands for a name without a mark, or with one of a process that still runs or ran on
    another machine, where nobody here can look.
    """
    mark = _MARK.search(name)
    if mark is None or mark[1] != _machine():
        return None
    process, start = int(mark[2]), int(mark[3])
    return None if _start_of(process) == start else process


@cache
def _machine() -> str:
    """Return a short name of this machine and of its space of process numbers (a container)."""
    space = ""
    with suppress(OSError):  # other systems have no such spaces
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{_node()} {space}".encode()).hexdigest()[:8]


def _node() -> str:
    if sys.platform == "win32":
        return os.environ.get("COMPUTERNAME", "")
    return os.uname().nodename


def _start_of(process: int) -> int | None:
    """Return when a process started, in ticks since the machine did; None if it has ended.

    0 stands for a time that the system does not tell, or for a process of which it tells nothing.
    """
    if sys.platform == "win32":  # where `os.kill` with any number ends the process
        return 0
    try:
        if sys.platform != "linux":
            os.kill(process, 0)
            return 0
        state, *fields = _read_state(process)
    except PermissionError:
        return 0
    except (OSError, OverflowError):
        return None
    return None if state in b"ZX" else int(fields[18])


def activity_of(process: int) -> tuple[bool, int]:
    """Return whether a process sleeps or waits for a disk, and the processor time it has used.

    False where the system does not tell.
    """
    try:
        state, *fields = _read_state(process)
    except OSError:
        return False, 0
    return state in b"SD", int(fields[10]) + int(fields[11])


def _read_state(process: int) -> list[bytes]:
    """Return the state of a process as Linux tells it, and the numbers after it."""
    # The name of the program, in parentheses, may hold anything.
    return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
