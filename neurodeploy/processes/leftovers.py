"""Temporary folders, and the removal of those that a killed process left."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neurodeploy.errors import OutputError
from neurodeploy.processes.owners import owner_mark, owner_of

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps named segments and semaphores."""


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


def remove_leftovers() -> None:
    """Remove temporary folders and shared memory of ours whose process was killed."""
    with suppress(OSError):  # no place for temporary files: whoever needs one tells of it
        remove_leftovers_in(Path(tempfile.gettempdir()))
    with suppress(OSError):
        remove_leftovers_in(SHARED_MEMORY)


def remove_leftovers_in(folder: Path) -> None:
    """Remove what dead processes of this user left in a folder under names of theirs.

    Raises:
        OSError: If the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if owner_of(entry.name) is None:
                continue
            with suppress(OSError):  # another process removes it too, or it is another user's
                if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)  # noqa: PTH108 - scandir gives no Path
