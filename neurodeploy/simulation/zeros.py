"""Arrays of zeros that the operating system hands over in large pages.

New memory comes page by page, and each first touch of one costs a trip into the system: for the
spikes of a run, which are written once, that is a good part of the time. So the arrays of a run
share one piece of memory, for which Linux is asked for pages of 2 MiB instead of 4 KiB
(MADV_HUGEPAGE); elsewhere, and where it is refused, they are ordinary ones.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from math import prod

import numpy as np
import numpy.typing as npt

_LINE = 64
"""Arrays are multiples of this many bytes apart: lines of a processor's cache."""
_PAGE = 2**21
"""A large page of x86-64 and of most others."""
_LEAST = 2**20
"""Bytes below which a large page is not worth clearing."""

Wanted = tuple[tuple[int, ...], type[np.generic]]
"""Shape and type of an array."""


def zeros_together(wanted: Sequence[Wanted]) -> list[npt.NDArray[np.generic]]:
    """Make arrays of zeros side by side in one piece of memory.

    The memory is given back when the last of them is gone; what is to be kept long beside the
    others is better copied.

    Args:
        wanted: Of each array.
    """
    starts, size = [], 0
    for shape, dtype in wanted:
        starts.append(size)
        size += -(-prod(shape) * np.dtype(dtype).itemsize // _LINE) * _LINE
    memory = _large_pages(size) if size >= _LEAST else np.zeros(size, np.uint8)
    return [
        memory[start : start + prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
        for start, (shape, dtype) in zip(starts, wanted, strict=True)
    ]


def _large_pages(size: int) -> npt.NDArray[np.uint8]:
    """Give (size,) zeros in large pages, where there are any."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(size, np.uint8)
    mapping = mmap.mmap(-1, size + _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them
        mapping.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(mapping, np.uint8)
    start = -memory.ctypes.data % _PAGE
    return memory[start : start + size]
