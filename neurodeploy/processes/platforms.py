"""Differences between operating systems: usable cores, large pages, locks of files."""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress
from typing import IO, Any

_LOCKED_BYTE = 1 << 30
"""Windows locks bytes against readers too: this one lies behind the end of the file."""


def usable_cores() -> int:
    """Return the number of cores that this process may use; all of them where nobody can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_memory(size: int) -> mmap.mmap:
    """Return new memory, zeros, in large pages where the system has any.

    A forked process gets a copy of it, as of all else.

    Raises:
        MemoryError: If there is not enough.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows, where processes do not fork
        return mmap.mmap(-1, size)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:  # the system's word for what NumPy and torch call so
        raise MemoryError(f"{size} bytes of results") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def lock_file(file: IO[Any], *, waits: bool = False) -> None:
    """Lock an open file until it is closed, or the process ends.

    Raises:
        BlockingIOError: If another process or opening has it locked, unless this one `waits`.
        OSError: If the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if waits else msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from error
        finally:
            file.seek(0)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
