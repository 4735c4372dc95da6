"""Round the weights of a chain to integers, so that its answers change the least.

Weights are coarse: a fan-in of a thousand leaves one or two steps for each. Rounding each to the
nearest lets the errors of a sum add up. Here the columns of a layer are rounded one after the
other, and the error of each is spread over those that are not rounded yet, in the way that changes
the layer's results on the calibration frames the least; then the bias takes what is left in the
mean. Each layer sees the values that the rounded layers before it give.

Source: the method is that of E. Frantar et al., "GPTQ", ICLR 2023, arXiv 2210.17323.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurodeploy.conversion.chain import NONE, Chain, ChainLayer
from neurodeploy.conversion.scaling import (
    GAIN,
    POOL_WEIGHT_MAX,
    WEIGHT_MAX,
    Peaks,
    Scales,
    relative,
)
from neurodeploy.fixedpoint import FloatArray, Int64Array, round_half_even
from neurodeploy.interchange.floating import windows_of
from neurodeploy.ir.float_layers import Dense

WEIGHT_MIN = -256
PATCHES_MAX = 6000
"""Most places of an image that the errors of a layer are measured at."""
_DAMPING = 0.01
"""Share of the mean energy of an input that is added to each, so that silent ones do no harm."""
_BLOCK = 128
"""Columns that take the errors of those before them at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Rounded:
    """The integers of one layer.

    Attributes:
        weight: int64, in the shape of the layer's weights.
        bias: (C,) int64, in units of 2**spike_exponent message units; of the read-out in units of
            its sum.
        error: Rms of the rounding of its weights, in weight units.
    """

    weight: Int64Array
    bias: Int64Array
    error: float


def targets(chain: Chain, scales: Scales, index: int) -> FloatArray:
    """Return what the weights of a layer would be without rounding, in weight units."""
    layer = chain.layers[index]
    weight = relative(layer, scales.of_source(chain, index))
    if layer.is_readout:
        return np.asarray(scales.output * weight)
    column = (-1, *(1,) * (weight.ndim - 1))
    return np.asarray(GAIN * scales.layers[index].reshape(column) * weight)


def round_to_grid(layer: ChainLayer, target: FloatArray) -> Int64Array:
    """Round to the nearest weight: even, or any in a pool, whose weights have one sign."""
    if layer.is_pool:
        return np.clip(round_half_even(target), 0, POOL_WEIGHT_MAX)
    return np.clip(2 * round_half_even(target / 2), WEIGHT_MIN, WEIGHT_MAX)


def round_chain(
    chain: Chain,
    scales: Scales,
    frames: FloatArray,
    *,
    unit: int,
    peaks: Sequence[Peaks] | None,
) -> list[Rounded]:
    """Round all layers in order.

    Args:
        chain: The network.
        scales: Its scales.
        frames: (n, ...) calibration frames.
        unit: Message units of one bias unit, 2**spike_exponent.
        peaks: What its layers compute on these frames, so that errors are spread by it; None:
            nearest rounding.
    """
    messages = np.rint(np.asarray(frames, np.float64) * scales.input / unit) * unit
    rounded = []
    for index, layer in enumerate(chain.layers):
        target = targets(chain, scales, index)
        weight = round_to_grid(layer, target)
        if peaks is not None and not layer.is_exact and getattr(layer.synapse, "groups", 1) == 1:
            weight = _spread_errors(layer, target, messages)
        step = 1 if layer.is_readout else GAIN
        scale = np.full(layer.shape[0], scales.output)
        if not layer.is_readout:
            scale = scales.layers[index]
        integer = replace(layer, synapse=replace(layer.synapse, weight=weight / step, bias=None))
        sums = integer.sums(messages)
        bias = layer.bias * scale
        if peaks is not None:
            bias = scale * (layer.bias + peaks[index].means) - _mean(sums)
        of_bias = 1 if layer.is_readout else unit
        whole = round_half_even(np.where(layer.tied == NONE, bias, 0.0) / of_bias)
        difference = weight - target
        rounded.append(Rounded(weight, whole, float(np.sqrt(np.mean(difference**2)))))
        if not layer.is_readout:
            messages = np.maximum(layer.add_bias(sums, (whole * of_bias).astype(np.float64)), 0.0)
    return rounded


def _mean(values: FloatArray) -> FloatArray:
    mean: FloatArray = values.mean(axis=(0, *range(2, values.ndim)))
    return mean


def _spread_errors(layer: ChainLayer, target: FloatArray, messages: FloatArray) -> Int64Array:
    """Round the columns of a matrix one by one; see the module."""
    matrix = target.reshape(len(target), -1)
    free = layer.tied == NONE
    used = np.flatnonzero((matrix[free] != 0).any(axis=0))
    result = round_to_grid(layer, matrix)
    if not used.size:
        return result.reshape(target.shape)
    patches = _patches(layer, messages)[:, used]
    energy = patches.T @ patches
    mean = float(np.diag(energy).mean())
    if not mean:
        return result.reshape(target.shape)
    energy[np.diag_indices_from(energy)] += _DAMPING * mean
    order = np.argsort(-np.diag(energy), kind="stable")
    backwards = order[::-1]  # from the last column on: so no inverse is needed
    factor = np.asarray(
        np.linalg.cholesky(energy[np.ix_(backwards, backwards)])[::-1, ::-1], np.float64
    )
    columns = used[order]
    work = matrix[np.ix_(free, columns)]
    fixed = _fixed_places(layer, matrix, columns)[free]
    whole = _round_columns(layer, work, factor, fixed)
    result[np.ix_(free, columns)] = whole
    return result.reshape(target.shape)


def _round_columns(
    layer: ChainLayer, work: FloatArray, factor: FloatArray, fixed: FloatArray
) -> Int64Array:
    """Round columns in order, each with what those before it have left to it.

    Errors e of a row cost |e · factor|**2, factor being upper triangular. Rounding a column makes
    its own term of that as small as it can, given the errors before it.
    """
    whole, errors = np.zeros(work.shape, np.int64), np.zeros(work.shape)
    width = work.shape[1]
    for first in range(0, width, _BLOCK):
        last = min(first + _BLOCK, width)
        left = errors[:, :first] @ factor[:first, first:last]
        for column in range(first, last):
            here = column - first
            target = work[:, column] + left[:, here] / factor[column, column]
            value = round_to_grid(layer, target)
            kept = ~np.isnan(fixed[:, column])
            value[kept] = fixed[kept, column]
            whole[:, column] = value
            error = errors[:, column] = work[:, column] - value
            left[:, here + 1 :] += np.outer(error, factor[column, column + 1 : last])
    return whole


def _fixed_places(layer: ChainLayer, matrix: FloatArray, columns: Int64Array) -> FloatArray:
    """Return the weights of skips that must stay exact, NaN elsewhere: (C, columns)."""
    fixed = np.full((len(matrix), matrix.shape[1]), np.nan)
    taps = matrix.shape[1] // layer.source[0]
    for row in np.flatnonzero(layer.identity != NONE):
        places = slice(layer.identity[row] * taps, (layer.identity[row] + 1) * taps)
        values = matrix[row, places]
        whole = round_half_even(values)
        # The skip's own tap is a whole even number; where the main path reads it too, it is not.
        is_kept = (np.abs(values - whole) < 1e-6) & (whole % 2 == 0) & (whole != 0)
        fixed[row, places] = np.where(is_kept, whole, np.nan)
    return fixed[:, columns]


def _patches(layer: ChainLayer, messages: FloatArray) -> FloatArray:
    """Return (at most PATCHES_MAX, fan-in) of what the layer's outputs read."""
    synapse = layer.synapse
    if isinstance(synapse, Dense):
        rows = messages.reshape(len(messages), -1)
        return rows[:: max(1, -(-len(rows) // PATCHES_MAX))]
    places = len(messages) * int(np.prod(layer.shape[1:]))
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(places)[:PATCHES_MAX])
    return np.concatenate(list(_chosen_patches(layer, messages, chosen)))


def _chosen_patches(
    layer: ChainLayer, messages: FloatArray, chosen: Int64Array
) -> Iterator[FloatArray]:
    synapse = layer.synapse
    assert not isinstance(synapse, Dense)
    each = int(np.prod(layer.shape[1:]))
    for index in np.unique(chosen // each):
        frame = messages[index].reshape(1, 1, *layer.source)
        windows = windows_of(
            frame, synapse.weight.shape[2:], synapse.stride, synapse.padding, synapse.dilation
        )[0, 0]
        rows = np.moveaxis(windows, 0, 2).reshape(each, -1)
        yield rows[chosen[chosen // each == index] % each]
