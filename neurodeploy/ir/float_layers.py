"""Float layers: what a trained network computes, without torch and without time.

A `Graph` (see `neurodeploy.ir.graphs`) connects them by name. Each computes its output shape from
its source's, and raises GraphError if the source does not fit. Arrays are float64. Several edges
into one node (a neuron, say) add up: a skip connection is a second edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import FloatArray as FloatArray

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Where samples enter: x = scale · (integer - mean) / deviation, by channel.

    Attributes:
        shape: (C, H, W) or (N,).
        scale: Float value of one integer input unit.
        largest: Largest magnitude of an integer input value (1 for spikes).
        smallest: Smallest integer input value; below 0, values have signs, which spikes of a
            binary port do not carry.
        mean: Of each channel, in integer units; empty without normalization.
        deviation: Of each channel, in integer units; empty without normalization.
    """

    shape: Shape
    scale: float = 1.0
    largest: int = 1
    smallest: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def output_shape(self, source: Shape) -> Shape:
        """Return the input's own shape."""
        del source
        return self.shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv:
    """Convolution (correlation) with zero padding.

    Attributes:
        weight: (out_channels, in_channels / groups, KH, KW) float64.
        bias: (out_channels,) float64; (out_channels, H, W) where it differs between positions;
            or None.
        stride: (H, W).
        padding: (H, W).
        dilation: (H, W).
        groups: Channel groups.
    """

    weight: FloatArray
    bias: FloatArray | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_shape(self, source: Shape) -> Shape:
        """Return (C, H, W)."""
        return convolved_shape(
            source, self.weight.shape, self.stride, self.padding, self.dilation, self.groups
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense:
    """Linear map; a spatial source is read flattened in C order.

    Attributes:
        weight: (out, in) float64.
        bias: (out,) float64, or None.
    """

    weight: FloatArray
    bias: FloatArray | None = None

    def output_shape(self, source: Shape) -> Shape:
        """Return (N,)."""
        return dense_shape(source, self.weight.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchNorm:
    """Batch normalisation with fixed statistics, one affine map a channel: scale · x + shift.

    Attributes:
        scale: (C,) float64, gamma / sqrt(variance + epsilon).
        shift: (C,) float64, beta - mean · scale.
    """

    scale: FloatArray
    shift: FloatArray

    def output_shape(self, source: Shape) -> Shape:
        """Return the source's shape."""
        if source[0] != self.scale.shape[0]:
            raise GraphError(
                f"batch norm: source of shape {source}, {self.scale.shape[0]} channels are "
                "required."
            )
        return source


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten:
    """(C, H, W) to (C·H·W,), channel slowest."""

    def output_shape(self, source: Shape) -> Shape:
        """Return (N,)."""
        return (prod(source),)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """Windows that slide over an image.

    Attributes:
        kernel: Window, (H, W).
        stride: (H, W).
        padding: Zeros on each side, (H, W).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)

    kind: ClassVar[str]

    def output_shape(self, source: Shape) -> Shape:
        """Return (C, H, W)."""
        if len(source) != 3:
            raise GraphError(f"{self.kind}: source of shape {source}, (C, H, W) is required.")
        size = tuple(
            (source[axis + 1] + 2 * self.padding[axis] - self.kernel[axis]) // self.stride[axis] + 1
            for axis in (0, 1)
        )
        if min(size) < 1:
            raise GraphError(
                f"{self.kind}: window {self.kernel} is larger than the source {source}."
            )
        return (source[0], *size)


class MaxPool(_Pool):
    """Largest value of each window: of spikes, whether any neuron of the window spiked."""

    __slots__ = ()
    kind = "max pool"


class AveragePool(_Pool):
    """Mean of each window, zeros of the padding counted."""

    __slots__ = ()
    kind = "average pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePool:
    """Mean over space: (C, H, W) to (C,)."""

    def output_shape(self, source: Shape) -> Shape:
        """Return (C,)."""
        if len(source) != 3:
            raise GraphError(f"global average pool: source of shape {source}, (C, H, W) needed.")
        return (source[0],)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuba:
    """Leaky integrate-and-fire neuron with a decaying current, reset to zero by its spikes.

        u[t] = (1 - current_decay) · u[t-1] + x[t]
        v[t] = (1 - voltage_decay) · v[t-1] + u[t]
        s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    The paper's LIF, u ← τ·u + W·x, is the case current_decay = 1, voltage_decay = 1 - τ.

    Attributes:
        threshold: V_th, in units of the float weights.
        current_decay: 0 to 1; 1 means that the current lives one step.
        voltage_decay: 0 to 1; 0 means no leak.
        scale: Weight units per float unit when the network was trained on the chip's own grid
            (SLAYER's `scale`, 64), so that quantization must use just that; else None.
    """

    threshold: float
    current_decay: float = 1.0
    voltage_decay: float = 0.0
    scale: int | None = None

    def output_shape(self, source: Shape) -> Shape:
        """Return the source's shape."""
        return source


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrator:
    """Read-out: a neuron that neither leaks nor fires.

    Its potential after step T is the sum of all it received; the class scores are that sum
    divided by T.
    """

    def output_shape(self, source: Shape) -> Shape:
        """Return the source's shape."""
        return source


Layer = (
    Input
    | Conv
    | Dense
    | BatchNorm
    | Flatten
    | MaxPool
    | AveragePool
    | GlobalAveragePool
    | Cuba
    | Integrator
)


def is_neuron(layer: Layer) -> bool:
    """Return whether a layer is a population of neurons.

    Raises:
        GraphError: If it is of a kind that is not known here.
    """
    match layer:
        case Cuba() | Integrator():
            return True
        case Input() | Conv() | Dense() | BatchNorm() | Flatten():
            return False
        case MaxPool() | AveragePool() | GlobalAveragePool():
            return False
    raise GraphError(
        f"graph: a layer of type {type(layer).__name__}, of which it is not known whether it "
        "holds neurons. Name it in `is_neuron`."
    )


def convolved_shape(
    source: Shape,
    weight: Shape,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Shape:
    """Return (C, H, W) of a convolution's output.

    Args:
        source: Shape of the source.
        weight: Shape of the weight, (out, in / groups, KH, KW).
        stride: (H, W).
        padding: (H, W).
        dilation: (H, W).
        groups: Channel groups.

    Raises:
        GraphError: If the source does not fit, or the output would be empty.
    """
    if len(source) != 3:
        raise GraphError(
            f"conv: source of shape {source}, (C, H, W) is required. "
            "A dense layer cannot be followed by a conv layer."
        )
    if source[0] != weight[1] * groups:
        raise GraphError(
            f"conv: source has {source[0]} channels, the weight reads {weight[1] * groups}."
        )
    extent = [dilation[axis] * (weight[axis + 2] - 1) + 1 for axis in (0, 1)]
    size = [
        (source[axis + 1] + 2 * padding[axis] - extent[axis]) // stride[axis] + 1 for axis in (0, 1)
    ]
    if min(size) < 1:
        raise GraphError(
            f"conv: kernel {weight[2:]} with padding {padding} is larger than the source {source}."
        )
    return (weight[0], *size)


def dense_shape(source: Shape, weight: Shape) -> Shape:
    """Return (N,) of a dense layer's output for a source of any shape.

    Raises:
        GraphError: If the number of inputs differs.
    """
    if prod(source) != weight[1]:
        raise GraphError(
            f"dense: source of shape {source} has {prod(source)} values, "
            f"the weight reads {weight[1]}."
        )
    return (weight[0],)
