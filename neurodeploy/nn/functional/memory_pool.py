"""Large arrays that are used again as soon as nobody holds them.

C's allocator cuts the room of spikes and gradients into pieces that fit nothing else: training then
took up to 2.7 times the memory that was in use. New memory from the system each time would cost
a quarter of a step. So what the functions of this folder make lies outside of the allocator's room,
in blocks that are kept, the `KEPT` that were given back last, and handed out again.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from neurodeploy.nn.functional.surrogate import Float32Array
from neurodeploy.processes.platforms import map_memory

LEAST: Final = 1 << 18
"""Values from which an array is not left to the allocator."""
KEPT: Final = 4
"""Blocks that are kept while nobody holds them."""

_free: list[mmap.mmap] = []


def reused(count: int) -> Float32Array:
    """Return an array of some values, (count,) float32, which are anything."""
    if count < LEAST:
        return np.empty(count, np.float32)
    size = 4 * count
    block = _take(size)
    if block is None:
        block = map_memory(size)
    array = np.frombuffer(block, np.float32, count)
    weakref.finalize(array, _give_back, block).atexit = False
    return array


def reused_tensor(sizes: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Return a tensor without gaps of these sizes and strides, whose values are anything.

    It is no view of another tensor: autograd forbids changes in place of views.
    """
    array = reused(math.prod(sizes))
    laid: Float32Array = np.ndarray(
        tuple(sizes), np.float32, array, strides=[array.itemsize * stride for stride in strides]
    )
    return torch.from_numpy(laid)


def _take(size: int) -> mmap.mmap | None:
    """Take the smallest block of at least a size; None if there is none."""
    while True:
        fitting = [block for block in _free if len(block) >= size]
        if not fitting:
            return None
        block = min(fitting, key=len)
        try:
            _free.remove(block)
        except ValueError:  # another thread was faster
            continue
        return block


def _give_back(block: mmap.mmap) -> None:
    _free.append(block)
    del _free[:-KEPT]
