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
from neurodeploy.ir.float_layers import Shape
from neurodeploy.ir.integer_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    Synapse,
)

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
    padding: Sequence[int] | int | str = 0,
    padding_after: Sequence[int] | int | None = None,
    padding_mode: str = "zeros",
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
    is_transposed: bool = False,
    output_padding: Sequence[int] | int = 0,
) -> FanOut:
    """Count the instances that leave every source neuron of a convolution, in any dimension.

    An instance is a (tap, output position) pair. Which source pixel it reads is decided on each
    axis by itself; padding that repeats the frame reads the pixel it repeats. With n the nonzero
    weights of a tap summed over output channels, and R how often a tap reads a coordinate,

        fan_out[c, y, x] = sum over ky, kx of n[c, ky, kx] · R[ky, y] · R[kx, x].

    Sum pooling is the depthwise case: weights of one, groups = channels.

    Args:
        weight: (out, in / groups, *kernel); (in, out / groups, *kernel) if transposed.
        source: (C, *space).
        stride: One number, or one an axis; likewise below.
        padding: Pixels before (and, without `padding_after`, behind) the frame; "valid" for none,
            "same" for an output of size / stride rounded up, the odd pixel behind the frame, as
            torch and ONNX's SAME_UPPER have it; "same_lower" with the odd pixel before it.
        padding_after: Pixels behind the frame where they differ.
        padding_mode: What they hold: "zeros", or the frame's own pixels: "circular", "reflect",
            "replicate", as in torch.
        dilation: Distance between taps.
        groups: Channel groups.
        is_transposed: Count a transposed convolution; of padding only numbers and zeros.
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
    if min(strides) < 1 or min(dilations) < 1:
        raise DataError(f"conv: stride {strides}, dilation {dilations}; at least 1 is required.")
    kernel, space = tuple(map(int, weight.shape[2:])), tuple(map(int, source[1:]))
    if isinstance(padding, str):
        if is_transposed or padding_after is not None:
            raise DataError(
                f"conv: padding '{padding}' of a transposed convolution, or with padding_after. "
                "Give numbers."
            )
        before, behind = _named_padding(padding, space, kernel, strides, dilations)
    else:
        before = _per_axis(padding, axes, "padding")
        behind = before
        if padding_after is not None:
            behind = _per_axis(padding_after, axes, "padding_after")
    _check_padding_mode(padding_mode, before, behind, space, is_transposed=is_transposed)
    extra = _per_axis(output_padding, axes, "output_padding")
    channels = weight.shape[0] if is_transposed else weight.shape[1] * groups
    if groups < 1 or weight.shape[0] % groups or source[0] != channels:
        raise DataError(
            f"conv: weight of shape {weight.shape} with {groups} groups does not read a source "
            f"of {source[0]} channels."
        )
    if min(*before, *behind, *extra) < 0:
        raise DataError(f"conv: padding {before} and {behind}, {extra}; it must not be negative.")

    reach: list[Int64Array] = []
    outputs: list[int] = []
    for axis in range(axes):
        size = space[axis]
        extent = dilations[axis] * (kernel[axis] - 1) + 1
        pads = before[axis] + behind[axis]
        if is_transposed:
            output = (size - 1) * strides[axis] - pads + extent + extra[axis]
        else:
            output = (size + pads - extent) // strides[axis] + 1
        if output < 1 or size < 1:
            raise DataError(
                f"conv: kernel {kernel} with dilation {dilations} and padding {before} "
                f"is larger than the source {source}."
            )
        outputs.append(output)
        taps = dilations[axis] * np.arange(kernel[axis], dtype=np.int64)[:, None]
        if is_transposed:
            pixels = np.arange(size, dtype=np.int64)[None, :]
            position = pixels * strides[axis] - before[axis] + taps
            reach.append(((position >= 0) & (position < output)).astype(np.int64))
        else:
            starts = strides[axis] * np.arange(output, dtype=np.int64)[None, :] - before[axis]
            reach.append(_times_read(starts + taps, size, padding_mode))

    per_tap = _nonzero_per_tap(weight, groups=groups, is_transposed=is_transposed)
    served = weight.shape[1] if is_transposed else weight.shape[0] // groups
    every_tap = np.full(per_tap.shape, served, dtype=np.int64)
    passes = prod(space) if is_transposed else prod(outputs)
    return FanOut(
        nonzero=_reach_sum(per_tap, reach),
        stored=_reach_sum(every_tap, reach),
        dense_macs=weight.size * passes,
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


def _named_padding(
    name: str,
    space: Shape,
    kernel: Shape,
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the pixels before and behind the frame, by axis."""
    if name not in ("valid", "same", "same_lower"):
        raise DataError(f"conv: padding '{name}', valid, same or same_lower is allowed.")
    before, behind = [], []
    for size, taps, stride, dilation in zip(space, kernel, strides, dilations, strict=True):
        total = (-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1 - size
        total = 0 if name == "valid" else max(total, 0)
        less = total // 2
        before.append(total - less if name == "same_lower" else less)
        behind.append(total - before[-1])
    return tuple(before), tuple(behind)


def _check_padding_mode(
    mode: str,
    before: tuple[int, ...],
    behind: tuple[int, ...],
    space: Shape,
    *,
    is_transposed: bool,
) -> None:
    largest = {"zeros": None, "circular": 0, "reflect": -1, "replicate": None}
    if mode not in largest or (is_transposed and mode != "zeros"):
        raise DataError(
            f"conv: padding_mode '{mode}', one of {', '.join(largest)} is allowed (for a "
            "transposed convolution only zeros)."
        )
    bound = largest[mode]
    for size, *pads in zip(space, before, behind, strict=True):
        if bound is not None and max(pads) > size + bound:
            raise DataError(
                f"conv: padding {max(pads)} with mode '{mode}' on an extent of {size}, at most "
                f"{size + bound} is possible."
            )


def _times_read(positions: Int64Array, size: int, mode: str) -> Int64Array:
    """Return (taps, size): how often each tap reads each pixel.

    Args:
        positions: (taps, outputs), where each reads; the frame is 0 to `size` - 1.
        size: Extent of the frame.
        mode: What lies outside.
    """
    is_inside = np.ones(positions.shape, dtype=bool)
    if mode == "zeros":
        is_inside = (positions >= 0) & (positions < size)
    elif mode == "circular":
        positions = positions % size
    elif mode == "replicate":
        positions = np.clip(positions, 0, size - 1)
    else:
        positions = np.abs(positions)
        positions = np.where(positions >= size, 2 * (size - 1) - positions, positions)
    times = np.zeros((positions.shape[0], size), dtype=np.int64)
    tap, place = np.nonzero(is_inside)
    np.add.at(times, (tap, positions[tap, place]), 1)
    return times


def _nonzero_per_tap(weight: NumberArray, *, groups: int, is_transposed: bool) -> Int64Array:
    """Return (in channels, *kernel): nonzero weights of every tap, over the output channels."""
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


# How many taps of a kernel read data and not padding, in closed form.
#
# Counting needs no array: on one axis it is a number of lattice points below a line, for which the
# steps of Euclid's algorithm are enough. A declared extent of 10^9 costs as little as one of 10.


def count_taps(
    *, positions: int, taps: int, stride: int, dilation: int, padding: int, size: int
) -> int:
    """Count pairs of position o and tap t with 0 <= o · stride + t · dilation - padding < size.

    For a convolution o runs over outputs and `size` is the input's extent; for a transposed one
    o runs over inputs and `size` is the output's extent.

    Args:
        positions: Number of positions, o = 0, 1, ...
        taps: Kernel size, t = 0, 1, ...
        stride: At least 1.
        dilation: At least 1.
        padding: Before the frame; negative where the frame is cropped.
        size: Extent of the frame.
    """
    if positions < 1 or taps < 1 or size < 1:
        return 0

    def below(limit: int) -> int:
        """Count the pairs with o · stride + t · dilation < limit."""
        if limit <= 0:
            return 0
        some = min(taps, _divide_up(limit, dilation))  # taps that fit at position 0
        every = _divide_up(limit - (positions - 1) * stride, dilation)
        every = min(max(every, 0), some)  # taps that fit at every position
        last = limit - (some - 1) * dilation  # what the last of them leaves for o · stride
        return every * positions + _sum_of_floors(some - every, stride, dilation, last + stride - 1)

    return below(size + padding) - below(padding)


def _divide_up(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _sum_of_floors(count: int, divisor: int, factor: int, offset: int) -> int:
    """Return the sum of (factor · i + offset) // divisor over i = 0 ... count - 1.

    Whole multiples of the divisor are summed at once; what is left counts points under a line
    of slope below one, whose axes are then exchanged, as in Euclid's algorithm.
    """
    total = 0
    while count > 0:
        total += (factor // divisor) * (count * (count - 1) // 2) + (offset // divisor) * count
        factor, offset = factor % divisor, offset % divisor
        height = factor * count + offset
        if height < divisor:
            break
        count, offset = height // divisor, height % divisor
        factor, divisor = divisor, factor
    return total
