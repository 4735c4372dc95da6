"""Compiled inner loops of SLAYER's 8-bit quantiser: one pass over the weights in place of eight."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Float32Array = npt.NDArray[np.float32]


@njit(cache=True, nogil=True)
def quantize_span(
    weight: Float32Array,
    start: int,
    stop: int,
    step: np.float32,
    smallest: np.float32,
    largest: np.float32,
    result: Float32Array,
    inside: npt.NDArray[np.bool_],
) -> int:
    """Round weights to multiples of a step, half to even, and clamp them.

    Args:
        weight: (m,) float32.
        start: First weight.
        stop: Weight after the last.
        step: Divides the weights and multiplies what was rounded.
        smallest: Least result.
        largest: Largest result.
        result: (m,) float32, the result.
        inside: (m,) bool, the result: whether a weight was within the bounds before it was clamped.

    Returns:
        How many were not.
    """
    values, quantized, flags = weight[start:stop], result[start:stop], inside[start:stop]
    outside = np.int32(0)
    for i in range(values.size):
        rounded = np.rint(values[i] / step) * step
        is_inside = (rounded >= smallest) & (rounded <= largest)
        flags[i] = is_inside
        outside += np.int32(0) if is_inside else np.int32(1)
        raised = smallest if rounded < smallest else rounded
        quantized[i] = largest if raised > largest else raised
    return int(outside)
