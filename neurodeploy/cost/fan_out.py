"""Fan-out maps: how many synapse instances leave every source neuron, exactly.

A synapse *instance* leads from one neuron to another; a shared convolution weight is one instance
at every output position it serves, and none where it would read padding. An event at neuron i
costs as many synaptic operations as instances leave i, so these maps are all that counting needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.ir.fixed_layers import FixedComplexDense, FixedConv, FixedDense, Synapse
from neurodeploy.ir.layers import Shape

Int64Array = npt.NDArray[np.int64]
NumberArray = npt.NDArray[np.integer] | npt.NDArray[np.floating] | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FanOut:
    """How many synapse instances leave every source neuron of one synapse.

    Attributes:
        nonzero: int64, shape of the source: instances whose weight is not zero.
        stored: int64, same shape: instances with zero weights included.
        dense_macs: MACs of one pass by the textbook, taps on padding included.
        weights: Number of stored weights (shared ones once).
        zero_weights: How many of them are zero.
    """

    nonzero: Int64Array
    stored: Int64Array
    dense_macs: int
    weights: int
    zero_weights: int

    @property
    def dense_exact(self) -> int:
        """MACs of one pass without the taps on padding."""
        return int(self.stored.sum())


def dense_fan_out(weight: NumberArray) -> FanOut:
    """Count the instances that leave every input of a dense synapse.

    Args:
        weight: (out, in), the weights as they act.

    Raises:
        DataError: If the weight is not two-dimensional.
    """
    if weight.ndim != 2:
        raise DataError(f"dense weight: shape {weight.shape}, (out, in) is required.")
    nonzero = np.count_nonzero(weight, axis=0).astype(np.int64)
    return FanOut(
        nonzero=nonzero,
        stored=np.full(weight.shape[1], weight.shape[0], dtype=np.int64),
        dense_macs=weight.size,
        weights=weight.size,
        zero_weights=weight.size - int(nonzero.sum()),
    )


def conv_fan_out(
    weight: NumberArray,
    source: Shape,
    *,
    stride: Sequence[int] | int = 1,
    padding: Sequence[int] | int = 0,
    padding_after: Sequence[int] | int | None = None,
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
    is_transposed: bool = False,
    output_padding: Sequence[int] | int = 0,
) -> FanOut:
    """Count the instances that leave every source neuron of a convolution, in any dimension.

    An instance is a (tap, output position) pair. A tap serves a source pixel at most once, and
    whether it does is decided on each axis by itself. With n the nonzero weights of a tap summed
    over output channels, and R the taps that reach a coordinate,

        fan_out[c, y, x] = sum over ky, kx of n[c, ky, kx] · R[ky, y] · R[kx, x].

    Sum pooling is the depthwise case: weights of one, groups = channels.

    Args:
        weight: (out, in / groups, *kernel); (in, out / groups, *kernel) if transposed.
        source: (C, *space).
        stride: One number, or one an axis; likewise below.
        padding: Zeros before (and, without `padding_after`, behind) the frame.
        padding_after: Zeros behind the frame where they differ.
        dilation: Distance between taps.
        groups: Channel groups.
        is_transposed: Count a transposed convolution.
        output_padding: Extra size of a transposed convolution's output.

    Raises:
        DataError: If shapes or numbers do not fit each other.
    """
    axes = weight.ndim - 2
    if axes < 1 or len(source) != axes + 1 or 0 in weight.shape:
        raise DataError(
            f"conv: weight of shape {weight.shape} and source {source}; "
            "(out, in / groups, *kernel) and (C, *space) with as many axes are required."
        )
    strides, dilations = _per_axis(stride, axes, "stride"), _per_axis(dilation, axes, "dilation")
    before = _per_axis(padding, axes, "padding")
    behind = before if padding_after is None else _per_axis(padding_after, axes, "padding_after")
    extra = _per_axis(output_padding, axes, "output_padding")
    channels = weight.shape[0] if is_transposed else weight.shape[1] * groups
    if groups < 1 or weight.shape[0] % groups or source[0] != channels:
        raise DataError(
            f"conv: weight of shape {weight.shape} with {groups} groups does not read a source "
            f"of {source[0]} channels."
        )
    if min(strides) < 1 or min(dilations) < 1 or min(*before, *behind, *extra) < 0:
        raise DataError(
            f"conv: stride {strides}, dilation {dilations}, padding {before}; stride and dilation "
            "must be at least 1, padding not negative."
        )

    reach: list[Int64Array] = []
    outputs: list[int] = []
    for axis in range(axes):
        kernel, size = weight.shape[axis + 2], source[axis + 1]
        extent = dilations[axis] * (kernel - 1) + 1
        pads = before[axis] + behind[axis]
        if is_transposed:
            output = (size - 1) * strides[axis] - pads + extent + extra[axis]
        else:
            output = (size + pads - extent) // strides[axis] + 1
        if output < 1 or size < 1:
            raise DataError(
                f"conv: kernel {weight.shape[2:]} with dilation {dilations} and padding {before} "
                f"is larger than the source {source}."
            )
        outputs.append(output)
        taps = dilations[axis] * np.arange(kernel, dtype=np.int64)[:, None]
        pixels = np.arange(size, dtype=np.int64)[None, :]
        if is_transposed:
            position = pixels * strides[axis] - before[axis] + taps
            hits = (position >= 0) & (position < output)
        else:
            position = pixels + before[axis] - taps
            hits = (position >= 0) & (position % strides[axis] == 0)
            hits &= position // strides[axis] < output
        reach.append(hits.astype(np.int64))

    per_tap = _nonzero_per_tap(weight, groups=groups, is_transposed=is_transposed)
    served = weight.shape[1] if is_transposed else weight.shape[0] // groups
    every_tap = np.full(per_tap.shape, served, dtype=np.int64)
    space = prod(source[1:]) if is_transposed else prod(outputs)
    return FanOut(
        nonzero=_reach_sum(per_tap, reach),
        stored=_reach_sum(every_tap, reach),
        dense_macs=weight.size * space,
        weights=weight.size,
        zero_weights=weight.size - int(np.count_nonzero(weight)),
    )


def synapse_fan_out(synapse: Synapse, source: Shape) -> FanOut:
    """Count the instances that leave every source of a deployed synapse.

    Args:
        synapse: The synapse; an injection has no instances.
        source: Shape of its source.

    Raises:
        GraphError: If all of a dense synapse's weights are zero.
    """
    if isinstance(synapse, FixedDense):
        return dense_fan_out(synapse.effective.mantissa)
    if isinstance(synapse, FixedConv):
        return conv_fan_out(
            synapse.weight,
            source,
            stride=synapse.stride,
            padding=synapse.padding,
            dilation=synapse.dilation,
            groups=synapse.groups,
        )
    if isinstance(synapse, FixedComplexDense):
        real, imaginary = synapse.real.effective.mantissa, synapse.imaginary.effective.mantissa
        return dense_fan_out(np.concatenate([real, imaginary]))
    nothing = np.zeros(source, dtype=np.int64)
    return FanOut(nonzero=nothing, stored=nothing, dense_macs=0, weights=0, zero_weights=0)


def _nonzero_per_tap(weight: NumberArray, *, groups: int, is_transposed: bool) -> Int64Array:
    """Give (in channels, *kernel): nonzero weights of every tap, over the output channels."""
    kernel = weight.shape[2:]
    if is_transposed:
        of_input: Int64Array = np.count_nonzero(weight, axis=1).astype(np.int64)
        return of_input
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], *kernel)
    counted: Int64Array = np.count_nonzero(grouped, axis=1).astype(np.int64)
    return counted.reshape(groups * weight.shape[1], *kernel)


def _reach_sum(per_tap: Int64Array, reach: Sequence[Int64Array]) -> Int64Array:
    """Contract the kernel axes, first to last; each leaves its axis of space at the end."""
    result = per_tap
    for hits in reach:
        result = np.tensordot(result, hits, axes=([1], [0]))
    return result


def _per_axis(value: Sequence[int] | int, axes: int, name: str) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(int(one) for one in value)
    if len(values) != axes:
        raise DataError(f"conv: {name} {values}, {axes} numbers (or one) are required.")
    return values
