"""Memory of results, which is new and written once: in large pages, of which few are touched."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.processes.platforms import map_memory

_LINE = 64
"""Arrays are multiples of this many bytes apart: lines of a processor's cache."""
_PAGE = 2**21
"""A large page of x86-64 and of most others."""
_LEAST = 2**20
"""Bytes below which a large page is not worth clearing."""
ArraySpec = tuple[tuple[int, ...], type[np.generic]]
"""Shape and type of an array."""


def zeros_together(specs: Sequence[ArraySpec]) -> list[npt.NDArray[np.generic]]:
    """Make arrays of zeros side by side in one piece of memory.

    New memory comes page by page, and each first touch of one costs a trip into the system: for the
    spikes of a run, which are written once, that is a good part of the time. So Linux is asked for
    pages of 2 MiB instead of 4 KiB; elsewhere, and where it refuses, they are ordinary ones.

    The memory is given back when the last of them is gone: copy what is kept much longer.
    """
    starts, size = [], 0
    for shape, dtype in specs:
        starts.append(size)
        size += -(-prod(shape) * np.dtype(dtype).itemsize // _LINE) * _LINE
    memory = _large_pages(size) if size >= _LEAST else np.zeros(size, np.uint8)
    return [
        memory[start : start + prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)
        for start, (shape, dtype) in zip(starts, specs, strict=True)
    ]


def _large_pages(size: int) -> npt.NDArray[np.uint8]:
    """Return (size,) zeros in large pages, where there are any."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(size, np.uint8)
    memory = np.frombuffer(map_memory(size + _PAGE), np.uint8)
    start = -memory.ctypes.data % _PAGE
    return memory[start : start + size]
