"""Layers that hold integers and nothing else.

A `FixedLayer` is a population of neurons with the synapses that lead into it, as on the chip:
skip connections are a second synapse into the same population, recurrence is a synapse from the
population itself. A netx file holds the special case of one synapse from the layer before.

Spatial shapes are (C, H, W), flat ones (N,). Where a dense synapse reads a spatial source, it
reads it flattened in C order (channel slowest).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import DELAY_MAX, DenseWeight, effective_dense_weight

Shape = tuple[int, ...]
IntArray = npt.NDArray[np.int32]


def require_integers(array: npt.NDArray[np.generic], *, where: str) -> None:
    """Refuse an array that is not int32.

    Raises:
        GraphError: If the dtype is anything else; a float must never be stored here.
    """
    if array.dtype != np.int32:
        raise GraphError(
            f"{where}: dtype {array.dtype}, int32 is required. Quantize before you build the layer."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedConv:
    """Convolution (a correlation, as torch's `conv2d`) with integer weights, used as they are.

    Attributes:
        weight: (out_channels, in_channels / groups, KH, KW) int32.
        stride: (H, W).
        padding: (H, W), zeros.
        dilation: (H, W).
        groups: Channel groups.
    """

    weight: IntArray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        require_integers(self.weight, where="conv weight")
        if self.weight.ndim != 4 or 0 in self.weight.shape:
            raise GraphError(
                f"conv weight: shape {self.weight.shape}, (out, in / groups, KH, KW) without a "
                "zero is required."
            )
        if min(self.stride) < 1 or min(self.dilation) < 1 or min(self.padding) < 0:
            raise GraphError(
                f"conv: stride {self.stride}, padding {self.padding}, dilation {self.dilation}; "
                "stride and dilation must be at least 1, padding at least 0."
            )
        if self.groups < 1 or self.weight.shape[0] % self.groups:
            raise GraphError(
                f"conv: {self.groups} groups do not divide {self.weight.shape[0]} output channels."
            )

    def output_shape(self, source: Shape) -> Shape:
        """Give (C, H, W) of the output for a source of shape (C, H, W).

        Raises:
            GraphError: If the source does not fit, or the output would be empty.
        """
        if len(source) != 3:
            raise GraphError(
                f"conv: source of shape {source}, (C, H, W) is required. "
                "A dense layer cannot be followed by a conv layer."
            )
        expected = self.weight.shape[1] * self.groups
        if source[0] != expected:
            raise GraphError(f"conv: source has {source[0]} channels, the weight reads {expected}.")
        size = tuple(
            (source[axis + 1] + 2 * self.padding[axis] - self._extent(axis)) // self.stride[axis]
            + 1
            for axis in (0, 1)
        )
        if min(size) < 1:
            raise GraphError(
                f"conv: kernel {self.weight.shape[2:]} with padding {self.padding} is larger than "
                f"the source {source}."
            )
        return (self.weight.shape[0], *size)

    def _extent(self, axis: int) -> int:
        return int(self.dilation[axis] * (self.weight.shape[axis + 2] - 1) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedDense:
    """All-to-all synapse with integer weights, optionally delayed.

    Lava's dense synapse does not take every matrix as stored; `effective` is what it uses.

    Attributes:
        weight: (out, in) int32, as stored in the file.
        delay: (out, in) int32 steps, 0 to 62, or None for none.
        partner: For one of the two synapses of a recurrent layer: the other's stored weight,
            since Lava chooses one exponent for both.
    """

    weight: IntArray
    delay: IntArray | None = None
    partner: IntArray | None = None

    def __post_init__(self) -> None:
        require_integers(self.weight, where="dense weight")
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise GraphError(
                f"dense weight: shape {self.weight.shape}, (out, in) without a zero is required."
            )
        if self.delay is not None:
            require_integers(self.delay, where="dense delay")
            if self.delay.shape != self.weight.shape:
                raise GraphError(
                    f"dense delay: shape {self.delay.shape}, that of the weight "
                    f"{self.weight.shape} is required."
                )
            if self.delay.min() < 0 or self.delay.max() > DELAY_MAX:
                raise GraphError(
                    f"dense delay: values from {self.delay.min()} to {self.delay.max()}, "
                    f"0 to {DELAY_MAX} are allowed."
                )

    @cached_property
    def effective(self) -> DenseWeight:
        """The weights that Lava's synapse acts with.

        Raises:
            GraphError: If all weights are zero: Lava cannot load such a layer.
        """
        stored = (self.weight,) if self.partner is None else (self.weight, self.partner)
        try:
            return effective_dense_weight(*stored)[0]
        except ZeroDivisionError as error:
            raise GraphError(
                "dense weight: all weights are zero; Lava fails to load such a layer. "
                "Remove the layer or give it a weight."
            ) from error

    def output_shape(self, source: Shape) -> Shape:
        """Give (N,) of the output for a source of any shape.

        Raises:
            GraphError: If the number of inputs differs.
        """
        if prod(source) != self.weight.shape[1]:
            raise GraphError(
                f"dense: source of shape {source} has {prod(source)} values, "
                f"the weight reads {self.weight.shape[1]}."
            )
        return (self.weight.shape[0],)


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedInjection:
    """Input added to the neuron's current as it is: no weight and no step of delay."""

    def output_shape(self, source: Shape) -> Shape:
        """Give the shape of the source."""
        return source


Synapse = FixedConv | FixedDense | FixedInjection


@dataclass(frozen=True, kw_only=True, eq=False)
class CubaNeuron:
    """Leaky integrate-and-fire neuron with a decaying current, in Lava's integers.

        u[t] = wrap24(decay(u[t-1], current_decay) + (a[t] << 6))
        v[t] = clip(decay(v[t-1], voltage_decay) + u[t] + (bias << 6))
        s[t] = v[t] > (threshold << 6);   v[t] = 0 where s[t]

    Attributes:
        current_decay: iDecay, 0 to 4096 (4096: the current lives one step).
        voltage_decay: vDecay, 0 to 4096 (0: no leak).
        threshold: vThMant. At 131072 and above the neuron never spikes, at 131071 only when
            its voltage is clipped: a read-out integrator.

    Each is int32 of shape (), (C, 1, 1), (N,) or the layer's full shape.

    Source: lava-nc 0.10.0 `lava/proc/lif/models.py:PyLifModelBitAcc`.
    """

    current_decay: IntArray
    voltage_decay: IntArray
    threshold: IntArray

    def __post_init__(self) -> None:
        for name in ("current_decay", "voltage_decay", "threshold"):
            require_integers(getattr(self, name), where=f"neuron {name}")


Neuron = CubaNeuron


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connection:
    """A synapse and where its events come from.

    Attributes:
        source: Name of a layer, of the graph's input, or of the layer itself (recurrence: events
            of the step before).
        synapse: The weights.
    """

    source: str
    synapse: Synapse


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedLayer:
    """A population of neurons with its incoming synapses.

    Attributes:
        name: Unique within the graph.
        shape: (C, H, W) or (N,).
        connections: Incoming synapses; their contributions add up.
        neuron: Dynamics.
        bias: int32 of shape (), (C, 1, 1), (N,) or full, in int16 range; added to the voltage
            every step, times 2**6.
    """

    name: str
    shape: Shape
    connections: tuple[Connection, ...]
    neuron: Neuron
    bias: IntArray

    def __post_init__(self) -> None:
        require_integers(self.bias, where=f"{self.name} bias")
        if not self.shape or min(self.shape) < 1:
            raise GraphError(f"{self.name}: shape {self.shape}, every extent must be at least 1.")
        for name, array in (
            ("bias", self.bias),
            ("current_decay", self.neuron.current_decay),
            ("voltage_decay", self.neuron.voltage_decay),
            ("threshold", self.neuron.threshold),
        ):
            try:
                fits = np.broadcast_shapes(array.shape, self.shape) == self.shape
            except ValueError:
                fits = False
            if not fits:
                raise GraphError(
                    f"{self.name}: {name} of shape {array.shape} does not fit the layer's shape "
                    f"{self.shape}. One value, one a channel, or one a neuron is allowed."
                )

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    @property
    def is_recurrent(self) -> bool:
        """Whether the layer reads its own events."""
        return any(connection.source == self.name for connection in self.connections)
