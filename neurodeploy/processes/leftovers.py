"""Temporary folders, and the removal of those that a killed process left."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neurodeploy.errors import OutputError
from neurodeploy.processes.owners import owner_mark, owner_of

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps named segments and semaphores."""
_marks: list[tempfile.TemporaryDirectory[str]] = []


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder for temporary files; remove it at the end, and what dead processes left.

    Raises:
        OutputError: If there is no place for temporary files.
    """
    remove_leftovers()
    try:
        folder = tempfile.TemporaryDirectory(prefix=owner_mark())
    except OSError as error:
        raise OutputError(
            f"temporary files: {error.strerror or error}. Set TMPDIR to a folder with free space "
            "that can be written."
        ) from error
    with folder as name:
        yield Path(name)


def mark_process() -> None:
    """Keep an empty temporary folder to the end of this process.

    joblib's semaphores and folders last as long. Their names carry the number of their process, but
    do not tell that they are ours: they are removed with this folder.
    """
    if not _marks:
        with suppress(OSError):  # no place for it: then a kill of all processes leaves semaphores
            _marks.append(tempfile.TemporaryDirectory(prefix=owner_mark()))


def remove_leftovers() -> None:
    """Remove temporary folders and shared memory of ours whose process was killed."""
    dead: set[int] = set()
    with suppress(OSError):  # no place for temporary files: whoever needs one tells of it
        dead = remove_leftovers_in(Path(tempfile.gettempdir()))
    with suppress(OSError):
        remove_leftovers_in(SHARED_MEMORY)
    for process in dead:
        for pattern in (f"sem.loky-{process}-*", f"joblib_memmapping_folder_{process}_*"):
            for path in SHARED_MEMORY.glob(pattern):
                _remove(path)


def remove_leftovers_in(folder: Path) -> set[int]:
    """Remove what dead processes of this user left in a folder under names of theirs.

    Returns:
        The numbers of those processes.

    Raises:
        OSError: If the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        owners = {entry.name: owner_of(entry.name) for entry in entries}
    return {owner for name, owner in owners.items() if owner is not None and _remove(folder / name)}


def _remove(path: Path) -> bool:
    """Remove a file or folder if it is this user's; return whether it was."""
    with suppress(OSError):  # another process removes it too
        if sys.platform == "win32" or path.lstat().st_uid == os.geteuid():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            return True
    return False
