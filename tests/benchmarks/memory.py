"""Memory of a process in MiB, as Linux's status file has it.

`getrusage` is not asked: its peak also counts what a large parent held when it started the process.
"""

from __future__ import annotations

from pathlib import Path


def memory_mib(entry: str, process: int | str = "self") -> float:
    """Memory of a process; "VmRSS" is what it holds now, "VmHWM" the most it has held.

    A process that has ended and is not yet waited for holds nothing.
    """
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(entry)), 0.0)


def peak_mib(process: int | str = "self") -> float:
    """Peak memory of a process; this one unless told otherwise."""
    return memory_mib("VmHWM", process)
