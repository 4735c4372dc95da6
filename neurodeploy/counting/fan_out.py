"""Fan-out maps: the exact number of synapse instances that leave every source neuron.

A synapse *instance* leads from one neuron to another; a shared convolution weight is one instance
at every output position it serves, and none where it would read padding. An event at neuron i
costs as many synaptic operations as instances leave i, so these maps are all that counting needs.

The other side of a comparison, the network's ReLU twin, passes once through every instance: it has
the network's topology and weight shapes and does one pass a sample, batch 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, GraphError
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir import float_layers as floats, integer_layers as integers
from neurodeploy.ir.float_layers import Shape
from neurodeploy.ir.graphs import AnnLayerMacs, AnnMacs, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import Synapse

NumberArray = npt.NDArray[np.integer] | npt.NDArray[np.floating] | npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FanOut:
    """Numbers of synapse instances that leave every source neuron of one synapse.

    Attributes:
        nonzero: Shape of the source: instances whose weight is not zero.
        stored: Same shape: instances with zero weights included.
        dense_macs: MACs of one pass by the textbook, taps on padding included.
        weights: Stored weights, shared ones once.
        zero_weights: Those of them that are zero.
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
    """Count the instances that leave every input of a dense synapse of weights (out, in).

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


class ConvGeometry(TypedDict, total=False):
    """Keywords that describe a convolution; a number holds for every axis, a sequence names each.

    Attributes:
        stride: 1 by default.
        padding: Pixels before (and, without `padding_after`, behind) the frame, 0 by default;
            "valid" for none, "same" for an output of size / stride rounded up, the odd pixel
            behind the frame, as torch and ONNX's SAME_UPPER have it; "same_lower" with the odd
            pixel before it.
        padding_after: Pixels behind the frame where they differ.
        padding_mode: "zeros" by default, or the frame's own pixels: "circular", "reflect",
            "replicate", as in torch.
        dilation: Distance between taps, 1 by default.
        groups: Channel groups, 1 by default.
        is_transposed: A transposed convolution, with weight (in, out / groups, *kernel); its
            padding is a number of zeros.
        output_padding: Extra size of a transposed convolution's output.
    """

    stride: Sequence[int] | int
    padding: Sequence[int] | int | str
    padding_after: Sequence[int] | int | None
    padding_mode: str
    dilation: Sequence[int] | int
    groups: int
    is_transposed: bool
    output_padding: Sequence[int] | int


def check_keywords(geometry: ConvGeometry) -> None:
    """Refuse the keywords that Python lets through, since it sees only `**geometry`."""
    unknown = sorted(geometry.keys() - ConvGeometry.__annotations__.keys())
    if unknown:
        raise TypeError(f"conv: unexpected keyword argument '{unknown[0]}'")


def conv_fan_out(weight: NumberArray, source: Shape, **geometry: Unpack[ConvGeometry]) -> FanOut:
    """Count the instances that leave every source neuron of a convolution, in any dimension.

    An instance is a (tap, output position) pair. Which source pixel it reads is decided on each
    axis by itself; padding that repeats the frame reads the pixel it repeats. With n the nonzero
    weights of a tap summed over output channels, and R how often a tap reads a coordinate,

        fan_out[c, y, x] = sum over ky, kx of n[c, ky, kx] · R[ky, y] · R[kx, x].

    Sum pooling is the depthwise case: weights of one, groups = channels.

    Args:
        weight: (out, in / groups, *kernel); (in, out / groups, *kernel) if transposed.
        source: (C, *space).
        **geometry: See `ConvGeometry`.

    Raises:
        DataError: If shapes or numbers do not fit each other.
    """
    axes = _axes(weight, source, **geometry)
    groups = geometry.get("groups", 1)
    is_transposed = geometry.get("is_transposed", False)
    per_tap = _nonzero_per_tap(weight, groups=groups, is_transposed=is_transposed)
    served = weight.shape[1] if is_transposed else weight.shape[0] // groups
    reach = [axis.times_read() for axis in axes]
    passes = prod(axis.size if is_transposed else axis.outputs for axis in axes)
    return FanOut(
        nonzero=_reach_sum(per_tap, reach),
        stored=_reach_sum(np.full(per_tap.shape, served, dtype=np.int64), reach),
        dense_macs=weight.size * passes,
        weights=weight.size,
        zero_weights=weight.size - int(np.count_nonzero(weight)),
    )


def synapse_fan_out(synapse: Synapse | floats.Dense | floats.Conv, source: Shape) -> FanOut:
    """Count the instances that leave every source of a synapse, deployed or of the float network.

    An injection has no instances.

    Raises:
        GraphError: If all weights of a deployed dense synapse are zero, or the synapse is of an
            unknown kind.
    """
    if isinstance(synapse, floats.Dense):
        return dense_fan_out(synapse.weight)
    if isinstance(synapse, integers.FixedDense):
        return dense_fan_out(synapse.effective.mantissa)
    if isinstance(synapse, floats.Convolution):
        return conv_fan_out(
            synapse.weight,
            source,
            stride=synapse.stride,
            padding=synapse.padding,
            dilation=synapse.dilation,
            groups=synapse.groups,
        )
    if isinstance(synapse, integers.FixedComplexDense):
        real, imaginary = synapse.real.effective.mantissa, synapse.imaginary.effective.mantissa
        return dense_fan_out(np.concatenate([real, imaginary]))
    if isinstance(synapse, integers.FixedInjection):
        nothing = np.zeros(source, dtype=np.int64)
        return FanOut(nonzero=nothing, stored=nothing, dense_macs=0, weights=0, zero_weights=0)
    raise GraphError(
        f"fan-out: a synapse of type {type(synapse).__name__}, whose instances are not known. "
        "Count it in `synapse_fan_out`."
    )


_WITHOUT_MACS = (
    floats.Input
    | floats.BatchNorm
    | floats.Flatten
    | floats.Pool
    | floats.Addition
    | floats.SpikeDelay
    | floats.Rectifier
    | floats.Cuba
    | floats.Integrator
)
"""Layers of a twin that add, compare or move values."""


def ann_macs(graph: Graph | FixedPointGraph) -> AnnMacs:
    """Count the MACs of a network's ReLU twin.

    Batch norm after a conv or dense layer folds into it and costs none. Of a deployed network these
    are the MACs of its layers as stored, more than its twin's: relay channels, blocks of zeros, and
    pools that were folded into weights are counted.

    Raises:
        GraphError: If shapes do not fit, or a layer is of an unknown kind.
    """
    if isinstance(graph, Graph):
        return AnnMacs(layers=tuple(_float_macs(graph)))
    return AnnMacs(
        layers=tuple(
            _ann_row(layer.name, connection.synapse, graph.shape_of(connection.source), layer.shape)
            for layer in graph.layers
            for connection in layer.connections
            if not isinstance(connection.synapse, integers.FixedInjection)
            and connection.source != layer.name
        )
    )


def _float_macs(graph: Graph) -> Iterator[AnnLayerMacs]:
    shapes = graph.shapes()
    for name, layer in graph.nodes.items():
        if isinstance(layer, floats.Dense | floats.Conv):
            yield _ann_row(name, layer, shapes[graph.sources(name)[0]], shapes[name])
        elif not isinstance(layer, _WITHOUT_MACS):
            raise GraphError(
                f"'{name}': a layer of type {type(layer).__name__}, whose MACs are not known. "
                "Count it in `ann_macs`."
            )


def _ann_row(
    name: str, synapse: Synapse | floats.Dense | floats.Conv, source: Shape, output: Shape
) -> AnnLayerMacs:
    fan_out = synapse_fan_out(synapse, source)
    return AnnLayerMacs(
        name=name,
        type="conv" if isinstance(synapse, floats.Convolution) else "dense",
        macs_standard=fan_out.dense_macs,
        macs_border_exact=fan_out.dense_exact,
        macs_nonzero=int(fan_out.nonzero.sum()),
        weights=fan_out.weights,
        zero_weights=fan_out.zero_weights,
        inputs=int(fan_out.stored.size),
        outputs=prod(output),
    )


@dataclass(frozen=True, slots=True)
class _ConvAxis:
    """A convolution along one axis of space: every axis is decided by itself."""

    padding_mode: str
    is_transposed: bool
    size: int
    taps: int
    stride: int
    dilation: int
    before: int
    behind: int
    extra: int

    @property
    def outputs(self) -> int:
        """Output positions; below one where the kernel is larger than the padded frame."""
        extent = self.dilation * (self.taps - 1) + 1
        pads = self.before + self.behind
        if self.is_transposed:
            return (self.size - 1) * self.stride - pads + extent + self.extra
        return (self.size + pads - extent) // self.stride + 1

    def times_read(self) -> Int64Array:
        """Return (taps, size): how often each tap reads (transposed: serves) each pixel."""
        taps = self.dilation * np.arange(self.taps, dtype=np.int64)[:, None] - self.before
        if self.is_transposed:
            written = self.stride * np.arange(self.size, dtype=np.int64) + taps
            return ((written >= 0) & (written < self.outputs)).astype(np.int64)
        read = self.stride * np.arange(self.outputs, dtype=np.int64) + taps
        return _times_read(read, self.size, self.padding_mode)


def _axes(
    weight: NumberArray, source: Shape, **geometry: Unpack[ConvGeometry]
) -> tuple[_ConvAxis, ...]:
    """Check a convolution's shapes and keywords, and return it axis by axis."""
    check_keywords(geometry)
    number = weight.ndim - 2
    if number < 1 or len(source) != number + 1 or 0 in weight.shape:
        raise DataError(
            f"conv: weight of shape {weight.shape} and source {source}; "
            "(out, in / groups, *kernel) and (C, *space) with as many axes are required."
        )
    strides = _per_axis(geometry.get("stride", 1), number, "stride")
    dilations = _per_axis(geometry.get("dilation", 1), number, "dilation")
    if min(strides) < 1 or min(dilations) < 1:
        raise DataError(f"conv: stride {strides}, dilation {dilations}; at least 1 is required.")
    kernel, space = tuple(map(int, weight.shape[2:])), tuple(map(int, source[1:]))
    is_transposed = geometry.get("is_transposed", False)
    padding, after = geometry.get("padding", 0), geometry.get("padding_after")
    if isinstance(padding, str):
        if is_transposed or after is not None:
            raise DataError(
                f"conv: padding '{padding}' of a transposed convolution, or with padding_after. "
                "Give numbers."
            )
        before, behind = _named_padding(padding, space, kernel, strides, dilations)
    else:
        before = _per_axis(padding, number, "padding")
        behind = before if after is None else _per_axis(after, number, "padding_after")
    mode = geometry.get("padding_mode", "zeros")
    _check_padding_mode(mode, before, behind, space, is_transposed=is_transposed)
    extra = _per_axis(geometry.get("output_padding", 0), number, "output_padding")
    groups = geometry.get("groups", 1)
    channels = weight.shape[0] if is_transposed else weight.shape[1] * groups
    if groups < 1 or weight.shape[0] % groups or source[0] != channels:
        raise DataError(
            f"conv: weight of shape {weight.shape} with {groups} groups does not read a source "
            f"of {source[0]} channels."
        )
    if min(*before, *behind, *extra) < 0:
        raise DataError(f"conv: padding {before} and {behind}, {extra}; it must not be negative.")
    numbers = zip(space, kernel, strides, dilations, before, behind, extra, strict=True)
    axes = tuple(_ConvAxis(mode, is_transposed, *axis) for axis in numbers)
    if any(axis.outputs < 1 or axis.size < 1 for axis in axes):
        raise DataError(
            f"conv: kernel {kernel} with dilation {dilations} and padding {before} "
            f"is larger than the source {source}."
        )
    return axes


def _named_padding(
    name: str, space: Shape, kernel: Shape, strides: Shape, dilations: Shape
) -> tuple[Shape, Shape]:
    """Return the pixels before and behind the frame, by axis."""
    if name not in ("valid", "same", "same_lower"):
        raise DataError(f"conv: padding '{name}', valid, same or same_lower is allowed.")
    before, behind = [], []
    for size, taps, stride, dilation in zip(space, kernel, strides, dilations, strict=True):
        total = (-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1 - size
        total = 0 if name == "valid" else max(total, 0)
        before.append(-(-total // 2) if name == "same_lower" else total // 2)
        behind.append(total - before[-1])
    return tuple(before), tuple(behind)


def _check_padding_mode(
    mode: str, before: Shape, behind: Shape, space: Shape, *, is_transposed: bool
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

    Positions are (taps, outputs), the pixel of each; the frame is 0 to `size` - 1.
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
    if not is_transposed:  # the output channels of each group in a row
        weight = weight.reshape(groups, -1, *weight.shape[1:])
    counted: Int64Array = np.count_nonzero(weight, axis=1).astype(np.int64)
    return counted if is_transposed else counted.reshape(-1, *counted.shape[2:])


def _reach_sum(per_tap: Int64Array, reach: Sequence[Int64Array]) -> Int64Array:
    """Contract the kernel axes, first to last; each leaves its axis of space at the end."""
    for hits in reach:
        per_tap = np.tensordot(per_tap, hits, axes=([1], [0]))
    return per_tap


def _per_axis(value: Sequence[int] | int, axes: int, name: str) -> Shape:
    values = (value,) * axes if isinstance(value, int) else tuple(map(int, value))
    if len(values) != axes:
        raise DataError(f"conv: {name} {values}, {axes} numbers (or one) are required.")
    return values
