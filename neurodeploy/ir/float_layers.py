"""Float layers: what a trained network computes, without torch and without time.

A `Graph` (see `neurodeploy.ir.graphs`) connects them by name. Each computes its output shape from
its source's, and raises GraphError if the source does not fit. Arrays are float64. Several edges
into one node (a neuron, say) add up: a skip connection is a second edge.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import (
    DECAY_UNITY,
    THRESHOLD_MAX,
    FloatArray as FloatArray,
    Int64Array,
    round_half_even,
    truncate,
)

Shape = tuple[int, ...]


class KeepsShape:
    """A layer whose output has the shape of its source."""

    __slots__ = ()

    def output_shape(self, source: Shape) -> Shape:
        """Return the source's shape."""
        return source


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Where samples enter: x = scale · (integer - mean) / deviation, by channel.

    Attributes:
        shape: (C, H, W) or (N,).
        scale: Float value of one integer input unit.
        largest: Largest magnitude of an integer input value (1 for spikes).
        smallest: Smallest integer input value; below 0, values have signs, which spikes of a
            binary port do not carry.
        mean: Of each channel, in integer units; empty without normalization, as `deviation`.
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
class Convolution:
    """Convolution (a correlation, as torch's `conv2d`) with zero padding, of floats or integers.

    Attributes:
        weight: (out_channels, in_channels / groups, KH, KW).
        stride: (H, W).
        padding: (H, W).
        dilation: (H, W).
        groups: Channel groups.
    """

    weight: npt.NDArray[np.generic]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def output_shape(self, source: Shape) -> Shape:
        """Return (C, H, W) of the output for a source of shape (C, H, W)."""
        outputs, per_group, *kernel = self.weight.shape
        if len(source) != 3:
            raise GraphError(
                f"conv: source of shape {source}, (C, H, W) is required. "
                "A dense layer cannot be followed by a conv layer."
            )
        if source[0] != per_group * self.groups:
            raise GraphError(
                f"conv: source has {source[0]} channels, the weight reads "
                f"{per_group * self.groups}."
            )
        size = []
        for axis in (0, 1):
            extent = self.dilation[axis] * (kernel[axis] - 1) + 1
            room = source[axis + 1] + 2 * self.padding[axis] - extent
            size.append(room // self.stride[axis] + 1)
        if min(size) < 1:
            raise GraphError(
                f"conv: kernel {tuple(kernel)} with padding {self.padding} is larger than the "
                f"source {source}."
            )
        return (outputs, *size)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv(Convolution):
    """Convolution of floats.

    Attributes:
        weight: float64.
        bias: (out_channels,) float64; (out_channels, H, W) where it differs between positions;
            or None.
    """

    weight: FloatArray
    bias: FloatArray | None = None


class FullyConnected:
    """Linear map, of floats or integers; a spatial source is read flattened in C order."""

    __slots__ = ()
    weight: npt.NDArray[np.generic]

    def output_shape(self, source: Shape) -> Shape:
        """Return (N,) of the output for a source of any shape."""
        outputs, inputs = self.weight.shape
        if prod(source) != inputs:
            raise GraphError(
                f"dense: source of shape {source} has {prod(source)} values, "
                f"the weight reads {inputs}."
            )
        return (outputs,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense(FullyConnected):
    """Linear map of floats.

    Attributes:
        weight: (out, in) float64.
        bias: (out,) float64, or None.
    """

    weight: FloatArray
    bias: FloatArray | None = None


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
    """Windows that slide over an image; kernel, stride and padding with zeros are (H, W)."""

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
class Addition(KeepsShape):
    """Sum of its sources, where several layers read it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpikeDelay(KeepsShape):
    """Spikes that arrive later, each after steps of its own.

    Attributes:
        steps: Int64 array of the source's shape, 0 to 62.
    """

    steps: Int64Array

    def output_shape(self, source: Shape) -> Shape:
        """Return the source's shape."""
        if self.steps.shape != source:
            raise GraphError(f"delay: steps of shape {self.steps.shape}, the source has {source}.")
        return source

    def apply(self, value: FloatArray) -> FloatArray:
        """Return values (samples, T, ...) at their steps."""
        late = np.zeros_like(value)
        for steps in np.unique(self.steps[self.steps < value.shape[1]]):
            moved = value[:, : value.shape[1] - steps]
            late[:, steps:] += np.where(self.steps == steps, moved, 0.0)
        return late


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rectifier(KeepsShape):
    """Piecewise linear activation of an ordinary network: ReLU, ReLU6, leaky ReLU.

        y = min(max(x, 0), ceiling) + slope · min(x, 0)

    Attributes:
        ceiling: Largest value, above 0; None without.
        slope: Of negative values, one number or an array of shape (C,).
    """

    ceiling: float | None = None
    slope: float | FloatArray = 0.0

    def apply(self, value: FloatArray, channel_axis: int) -> FloatArray:
        """Return y for x with channels on the given axis."""
        positive = np.maximum(value, 0.0)
        if self.ceiling is not None:
            positive = np.minimum(positive, self.ceiling)
        slope = np.asarray(self.slope, np.float64)
        if not slope.any():
            return positive
        column = slope.reshape(-1, *(1,) * (value.ndim - channel_axis - 1))
        return np.asarray(positive + column * np.minimum(value, 0.0))


class FloatNeuron(KeepsShape, ABC):
    """A population of neurons, with the drive of their voltage at every step, if it has one."""

    __slots__ = ()
    bias: FloatArray | None

    @abstractmethod
    def held_steps(self, steps: int) -> float:
        """Return how many steps' worth of input a state can hold after so many steps."""

    @abstractmethod
    def integers(self, scale: float, *, is_whole: bool) -> dict[str, Int64Array]:
        """Return the parameters of the integer neuron.

        Args:
            scale: How many of its units make one float unit.
            is_whole: Whether all that is added up is whole in these units, so that a voltage can
                equal the threshold.
        """


class FiringNeuron(FloatNeuron):
    """Neurons that send spikes.

    Attributes:
        threshold: V_th, in units of the float weights.
        fires_at_threshold: Whether a voltage equal to the threshold fires as well.
        scale: Weight units per float unit when the network was trained on the chip's own grid
            (SLAYER's `scale`, 64), so that quantization must use just that; else None.
    """

    __slots__ = ()
    threshold: float
    fires_at_threshold: bool
    scale: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Leaky(FloatNeuron):
    """Neurons whose current and voltage leak.

    Attributes:
        current_decay: 0 to 1; 1 means that the current lives one step.
        voltage_decay: 0 to 1; 0 means no leak.
        bias: Drive of the voltage itself at every step, b; None for none. A bias that passes
            through the current belongs to the synapse.

    Each is one number, or an array of shape (N,), (C, 1, 1) or the layer's.
    """

    current_decay: float | FloatArray = 1.0
    voltage_decay: float | FloatArray = 0.0
    bias: FloatArray | None = None

    def _integer_decays(self) -> dict[str, Int64Array]:
        return {
            name: round_half_even(np.asarray(decay) * DECAY_UNITY)
            for name, decay in (
                ("current_decay", self.current_decay),
                ("voltage_decay", self.voltage_decay),
            )
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cuba(_Leaky, FiringNeuron):
    """Leaky integrate-and-fire neuron with a decaying current, reset to zero by its spikes.

        u[t] = (1 - current_decay) · u[t-1] + x[t]
        v[t] = (1 - voltage_decay) · v[t-1] + u[t] + b
        s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    A synapse's bias is a part of x: it builds up in u. The chip has b alone, see
    `neurodeploy.passes.current_bias`.

    The paper's LIF, u ← τ·u + W·x, is the case current_decay = 1, voltage_decay = 1 - τ. A dense
    synapse that reads the neuron and leads back to it alone is recurrent: it reads the step before.

    """

    threshold: float
    fires_at_threshold: bool = False
    scale: int | None = None

    def held_steps(self, steps: int) -> float:
        """Return the product of what both states hold, geometric sums of at most T."""

        def held(decays: float | FloatArray) -> float:
            decay = float(np.min(decays))
            return steps if decay <= 0 else min(steps, 1 / decay)

        return float(held(self.current_decay) * held(self.voltage_decay))

    def integers(self, scale: float, *, is_whole: bool) -> dict[str, Int64Array]:
        """Return decays and threshold, which on the chip's own grid loses its fraction."""
        exact = self.threshold * scale
        threshold = int(truncate(exact) if self.scale is not None else round_half_even(exact))
        if self.fires_at_threshold and is_whole:
            threshold -= 1  # of whole numbers, those above are those at and above the next
        return {**self._integer_decays(), "threshold": np.array(threshold)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Integrator(_Leaky):
    """Read-out: a neuron that does not fire, and by default does not leak.

    The class scores are its potential after the last step; of one without leak, that is the sum of
    all it received.

    Attributes:
        scale: As of `FiringNeuron`, where voltages are to be those of the chip's own grid.
    """

    scale: int | None = None

    def held_steps(self, steps: int) -> float:
        """Return T, as of a read-out without leak."""
        return float(steps)

    def integers(self, scale: float, *, is_whole: bool) -> dict[str, Int64Array]:
        """Return decays and the threshold of neurons that never fire."""
        return {**self._integer_decays(), "threshold": np.array(THRESHOLD_MAX)}


Pool = MaxPool | AveragePool | GlobalAveragePool
Layer = (
    Input
    | Conv
    | Dense
    | BatchNorm
    | Flatten
    | Pool
    | Addition
    | SpikeDelay
    | Rectifier
    | FiringNeuron
    | Integrator
)


def on_two_axes(values: Sequence[int], missing: int) -> tuple[int, int]:
    """Return numbers for (H, W) of those along two axes, or along one, which is the width.

    `missing` is that of the height then: 1 for extents and strides, 0 for padding.
    """
    return (values[0], values[1]) if len(values) == 2 else (missing, values[0])


def is_neuron(layer: Layer) -> bool:
    """Return whether a layer is a population of neurons; GraphError for an unknown kind."""
    match layer:
        case FloatNeuron():
            return True
        case Input() | Conv() | Dense() | BatchNorm() | Flatten() | _Pool() | GlobalAveragePool():
            return False
        case Addition() | SpikeDelay() | Rectifier():
            return False
    raise GraphError(
        f"graph: a layer of type {type(layer).__name__}, of which it is not known whether it "
        "holds neurons. Name it in `is_neuron`."
    )
