"""Apply synapses: integer arrays in, integer arrays out.

Matrix products run in floating point where a bound computed from the weights and the input
proves every partial sum exact: below 2**24 in float32, below 2**53 in float64. Otherwise int64
is used. The result is the same integer in each case.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import SimulationError
from neurodeploy.fixedpoint import CONV_BITS, Int64Array, scale_down, wrap
from neurodeploy.ir.integer_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInjection,
    IntArray,
    Synapse,
)
from neurodeploy.simulation.recording import SpikeArray, unknown_kind

BoolArray = npt.NDArray[np.bool_]
_EXACT_FLOAT32 = 1 << 24
_EXACT_FLOAT64 = 1 << 53
_DENSE_BITS = 32
_COLUMN_BYTES = 4 * 2**20
"""Size of one block of unfolded images: stays in a processor's cache."""


def apply_synapse(synapse: Synapse, events: SpikeArray, *, wraps: bool = True) -> Int64Array:
    """Return what a synapse sends for events (samples, T, *source), below 2**31 in size.

    Unless it `wraps`, sums are left as they are, not cut to the bits that Lava has for them.

    Returns:
        (samples, T, *output) int64, for complex weights (samples, T, N, 2) with real and
        imaginary part; before the step of delay that Lava adds.

    Raises:
        SimulationError: If the sum of a convolution exceeds 32 bits, where Lava's result is
            undefined.
    """
    match synapse:
        case FixedConv():
            return _convolve(synapse, events, wraps=wraps)
        case FixedDense():
            effective = synapse.effective
            weight, shift = effective.mantissa, effective.shift
            return _multiply_dense(synapse, weight, events, shift=shift, wraps=wraps)
        case FixedComplexDense():
            both = (synapse.real, synapse.imaginary)
            parts = [apply_synapse(part, events, wraps=wraps) for part in both]
            return np.stack(parts, axis=-1)
        case FixedInjection():
            return events.astype(np.int64)
    raise unknown_kind(synapse, "synapses.apply_synapse")


def arrivals(synapse: Synapse, events: SpikeArray) -> BoolArray:
    """Return where an event arrives through a weight that is not zero.

    For events (samples, T, *source), (samples, T, *output) before the step of delay that Lava adds.
    """
    sent = (events != 0).astype(np.int32)
    match synapse:
        case FixedConv():
            counts = _convolve(replace(synapse, weight=_ones(synapse.weight)), sent)
        case FixedDense():
            counts = _multiply_dense(synapse, _ones(synapse.effective.mantissa), sent)
        case FixedComplexDense():
            return arrivals(synapse.real, sent) | arrivals(synapse.imaginary, sent)
        case FixedInjection():
            counts = sent.astype(np.int64)
        case _:
            raise unknown_kind(synapse, "synapses.arrivals")
    return counts.astype(bool)


def _ones(weight: IntArray) -> IntArray:
    """Return 1 where a weight is not zero: by them, a sum counts the events that arrive."""
    return weight.astype(bool).astype(np.int32)


def multiply_exactly(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> Int64Array:
    """Matrix product of integers below 2**31 in size, (M, K) and (K, N), without rounding.

    Returns:
        (M, N) int64; modulo 2**64 where the sum of the products' sizes reaches 2**63.
    """
    dtype = _exact_dtype(_largest(left) * _largest_column_sum(right))
    product: npt.NDArray[np.float64] = np.matmul(left.astype(dtype), right.astype(dtype))
    return product.astype(np.int64)


def _largest(array: npt.NDArray[np.integer]) -> int:
    """Largest size of a value; 0 for an empty array."""
    return max(int(array.max(initial=0)), -int(array.min(initial=0)))


def _largest_column_sum(array: npt.NDArray[np.integer]) -> int:
    return int(np.abs(array.astype(np.int64)).sum(axis=0).max(initial=0))


def _exact_dtype(bound: int) -> type[np.float32] | type[np.float64] | type[np.int64]:
    """Return the fastest dtype that sums exactly while every partial sum stays below `bound`."""
    if bound < _EXACT_FLOAT32:
        return np.float32
    return np.float64 if bound < _EXACT_FLOAT64 else np.int64


def _convolve(synapse: FixedConv, events: SpikeArray, *, wraps: bool = True) -> Int64Array:
    """Correlate; one matrix product for each group and image, images unfolded in blocks."""
    samples, steps, channels, height, width = events.shape
    outputs, out_height, out_width = synapse.output_shape(events.shape[2:])
    groups, images = synapse.groups, samples * steps
    weight = synapse.weight.reshape(groups, outputs // groups, -1)
    bound = _largest(events) * _largest_column_sum(weight.reshape(outputs, -1).T)
    dtype = _exact_dtype(bound)
    (pad_y, pad_x), (dilation_y, dilation_x) = synapse.padding, synapse.dilation
    kernel_height, kernel_width = synapse.weight.shape[2:]
    spans = (dilation_y * (kernel_height - 1) + 1, dilation_x * (kernel_width - 1) + 1)
    factors = weight.astype(dtype)
    sources = events.reshape(images, channels, height, width)
    pixels = out_height * out_width
    block = max(1, _COLUMN_BYTES // (factors[0, 0].size * groups * pixels * factors.itemsize))
    result = np.empty((images, groups, outputs // groups, pixels), np.int64)
    for first in range(0, images, block):
        part = sources[first : first + block]
        padded = np.zeros((len(part), channels, height + 2 * pad_y, width + 2 * pad_x), dtype)
        padded[:, :, pad_y : pad_y + height, pad_x : pad_x + width] = part
        windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))[
            :, :, :: synapse.stride[0], :: synapse.stride[1], ::dilation_y, ::dilation_x
        ]
        columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(len(part), groups, -1, pixels)
        result[first : first + block] = np.matmul(factors, columns)
    if bound >= 1 << 31 and (bound >= 1 << 63 or _largest(result) >= 1 << 31):
        raise SimulationError(
            "conv: a weighted sum of graded inputs exceeds 32 bits, where Lava's result is "
            "undefined. Scale the input or the weights down."
        )
    if wraps and bound >= 1 << (CONV_BITS - 1):
        result = wrap(result, CONV_BITS)
    return result.reshape(samples, steps, outputs, out_height, out_width)


def _multiply_dense(
    synapse: FixedDense,
    weight: IntArray,
    events: SpikeArray,
    *,
    shift: int = 0,
    wraps: bool = True,
) -> Int64Array:
    """Multiply by a weight; each delay's share is shifted down by itself, as in Lava.

    Lava wraps the sum only for graded events; binary ones would need 2**23 inputs to reach that.
    """
    samples, steps = events.shape[:2]
    rows = events.reshape(samples * steps, prod(events.shape[2:]))

    def product(weight: IntArray) -> Int64Array:
        sums = multiply_exactly(rows, weight.T)
        if wraps:
            sums = wrap(sums, _DENSE_BITS)
        return scale_down(sums, shift).reshape(samples, steps, -1)

    if synapse.delay is None:
        return product(weight)
    result = np.zeros((samples, steps, len(weight)), np.int64)
    for delay in np.unique(synapse.delay):
        if delay < steps:
            part = product(np.where(synapse.delay == delay, weight, 0))
            result[:, delay:] += part[:, : steps - delay]
    return result
