"""Sample files that other processes open by themselves, if what they see is the very same file.

A worker that reads its samples itself spares the process that hands out work reading, copying and
sending them. On another machine the same name can mean another file, or none. So a file is known
by its size, the time of its last change, and blocks from all over it; a process that finds anything
else leaves the samples to the one that asked.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from neurodeploy.errors import NeurodeployError
from neurodeploy.ir.float_layers import Shape
from neurodeploy.samples.array_files import ArrayFile
from neurodeploy.samples.camera_recordings import EventRecordings
from neurodeploy.samples.event_tables import EventTable, Hdf5Array
from neurodeploy.samples.sources import IntegerArray, Samples, open_samples

_BLOCKS = 16
_BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFile:
    """A file of samples, or a folder of recordings, as another process can open it.

    Attributes:
        path: Its absolute name.
        key: Of the array in it.
        steps: T, for recordings.
        port: (C, H, W), for recordings.
        fingerprint: Digest of size, time of change and some content.
    """

    path: Path
    key: str = "input"
    steps: int | None = None
    port: Shape | None = None
    fingerprint: str


def locate(samples: Samples) -> SampleFile | None:
    """Return the file behind samples; None where there is none that can be read from any place.

    Arrays that are compressed in an archive can only be read forwards. Files that are cut short are
    left to the process that says so.
    """
    match samples:
        case ArrayFile(is_seekable=True) | Hdf5Array():
            path, key = samples.path.absolute(), samples.key
            return SampleFile(path=path, key=key, fingerprint=_fingerprint([path]))
        case EventTable(is_seekable=True):
            path = samples.path.absolute()
            return SampleFile(path=path, fingerprint=_fingerprint([path]))
        case EventRecordings():
            path, (steps, *port) = samples.path.absolute(), samples.shape
            fingerprint = _fingerprint([one.absolute() for one in samples.files])
            return SampleFile(path=path, steps=steps, port=tuple(port), fingerprint=fingerprint)
    return None


class _Opened(threading.local):
    """The file that a thread read last: those of two threads would move each other's place."""

    file: SampleFile | None = None
    samples: Samples


_opened = _Opened()


def read_located(file: SampleFile, first: int, last: int) -> IntegerArray | None:
    """Return samples `first` to `last` - 1; None if they are not to be had here.

    Whoever located the file reads them then, and meets the error, if there is one.
    """
    try:
        if _opened.file != file:
            samples = open_samples(file.path, key=file.key, steps=file.steps, port=file.port)
            if locate(samples) != file:
                return None
            _opened.file, _opened.samples = file, samples
        return _opened.samples.read(first, last)
    except (NeurodeployError, OSError):
        return None


def _fingerprint(files: Sequence[Path]) -> str:
    """Return a digest of names, sizes, times, and blocks from evenly spread places of all bytes."""
    digest = hashlib.sha256()
    sizes = []
    for path in files:
        found = path.stat()
        sizes.append(found.st_size)
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    ends = list(accumulate(sizes))
    last_place = max(0, ends[-1] - 1)
    for number in range(_BLOCKS):
        place = last_place * number // (_BLOCKS - 1)
        index = min(bisect_right(ends, place), len(files) - 1)
        begin = ends[index] - sizes[index]
        with files[index].open("rb") as file:
            file.seek(min(place - begin, max(0, sizes[index] - _BLOCK_BYTES)))
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
