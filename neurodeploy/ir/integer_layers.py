"""Layers that hold integers and nothing else.

A `FixedLayer` is a population of neurons with the synapses that lead into it, as on the chip:
skip connections are a second synapse into the same population, recurrence is a synapse from the
population itself. A netx file holds the special case of one synapse from the layer before.

Spatial shapes are (C, H, W), flat ones (N,). `output_shape` raises GraphError if a source does
not fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import prod
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from neurodeploy import fixedpoint
from neurodeploy.errors import GraphError
from neurodeploy.ir.float_layers import (
    Convolution,
    Cuba,
    FullyConnected,
    Integrator,
    KeepsShape,
    Shape as Shape,
)

IntArray = npt.NDArray[np.int32]

PARAMETER_LIMIT = 1 << 25
"""Neuron parameters stay below this in size: times 2**6, they must fit Lava's int32."""
SPIKE_EXPONENT_MAX = 24
"""Beyond, one unit of a sigma-delta message does not fit Lava's int32."""


def require_integers(array: npt.NDArray[np.generic], *, where: str) -> None:
    """Raise GraphError for an array that is not int32: a float must never be stored here."""
    if array.dtype != np.int32:
        raise GraphError(
            f"{where}: dtype {array.dtype}, int32 is required. Quantize before you build the layer."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedConv(Convolution):
    """Convolution with int32 weights, used as they are."""

    weight: IntArray

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


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedDense(FullyConnected):
    """All-to-all synapse with integer weights, optionally delayed.

    Lava's dense synapse changes some stored matrices; `effective` is the one it uses.

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
            if self.delay.min() < 0 or self.delay.max() > fixedpoint.DELAY_MAX:
                raise GraphError(
                    f"dense delay: values from {self.delay.min()} to {self.delay.max()}, "
                    f"0 to {fixedpoint.DELAY_MAX} are allowed."
                )

    @cached_property
    def effective(self) -> fixedpoint.DenseWeight:
        """The weights that Lava's synapse acts with; GraphError if all are zero."""
        stored = (self.weight,) if self.partner is None else (self.weight, self.partner)
        try:
            return fixedpoint.effective_dense_weight(*stored)[0]
        except ZeroDivisionError as error:
            raise GraphError(
                "dense weight: all weights are zero; Lava fails to load such a layer. "
                "Remove the layer or give it a weight."
            ) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedComplexDense:
    """Two all-to-all synapses of one shape from one source, into both inputs of a resonator."""

    real: FixedDense
    imaginary: FixedDense

    def __post_init__(self) -> None:
        if self.real.weight.shape != self.imaginary.weight.shape:
            raise GraphError(
                f"complex dense weight: real part {self.real.weight.shape}, imaginary part "
                f"{self.imaginary.weight.shape}; both must have the same shape."
            )
        if self.real.delay is not None or self.imaginary.delay is not None:
            raise GraphError("complex dense: delays are not possible. Leave them out.")

    def output_shape(self, source: Shape) -> Shape:
        """Return (N,) of the output for a source of any shape."""
        return self.real.output_shape(source)


@dataclass(frozen=True, kw_only=True, eq=False)
class FixedInjection(KeepsShape):
    """Input added to the neuron's current as it is: no weight and no step of delay."""


Synapse = FixedConv | FixedDense | FixedComplexDense | FixedInjection


class NeuronModel(StrEnum):
    """Arithmetic of one update of a neuron.

    Attributes:
        states: State words read and written.
        macs: Multiplications with an addition.
        acs: Additions alone.
    """

    IF = "if", 1, 0, 1
    LIF = "lif", 1, 1, 1
    CUBA = "cuba", 2, 2, 1
    SIGMA_DELTA = "sigma_delta", 3, 0, 3
    # two sums of two products onto an input
    RESONATE_FIRE = "resonate_fire", 2, 4, 0

    states: int
    macs: int
    acs: int

    def __new__(cls, value: str, states: int, macs: int, acs: int) -> Self:
        """Hold the numbers beside the name."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.states, member.macs, member.acs = states, macs, acs
        return member


class LimitedParameter(NamedTuple):
    """A neuron's attribute, whose values lie between 0 and a limit from a target's file."""

    name: str
    values: IntArray
    limit: Literal["threshold_max", "decay_max"]


class IntegerNeuron(ABC):
    """Attributes of every kind of neuron; one that lacks any cannot be made."""

    bias_bits: ClassVar[int] = 0
    """Width of a layer's bias; 0 if neurons of this kind have none."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the kind for people."""

    @property
    @abstractmethod
    def states(self) -> tuple[str, ...]:
        """Names of the states, in the order in which recordings hold them."""

    @property
    @abstractmethod
    def is_graded(self) -> bool:
        """True if the events of this kind of neuron carry a value."""

    @property
    @abstractmethod
    def model(self) -> NeuronModel:
        """Arithmetic of an update, that of the most general neuron of the layer."""

    @property
    def is_readout(self) -> bool:
        """True if no neuron of the layer ever fires: its voltages are the result."""
        return False

    @abstractmethod
    def limited(self) -> tuple[LimitedParameter, ...]:
        """Return the parameters that chips limit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CubaNeuron(IntegerNeuron):
    """Leaky integrate-and-fire neuron with a decaying current, in Lava's integers.

        u[t] = wrap24(decay(u[t-1], current_decay) + (a[t] << 6))
        v[t] = clip(decay(v[t-1], voltage_decay) + u[t] + (bias << 6))
        s[t] = v[t] > (threshold << 6);   v[t] = 0 where s[t]

    Attributes:
        current_decay: iDecay, 0 to 4096 (4096: the current lives one step).
        voltage_decay: vDecay, 0 to 4096 (0: no leak).
        threshold: vThMant. At 131072 and above the neuron never spikes, at 131071 only when
            its voltage is clipped: a read-out integrator.

    Each is int32 of shape (), (C, 1, 1), (N,) or the layer's full shape, below 2**25 in size.

    Source: lava-nc 0.10.0 `lava/proc/lif/models.py:PyLifModelBitAcc`.
    """

    current_decay: IntArray
    voltage_decay: IntArray
    threshold: IntArray

    label: ClassVar[str] = "LIF"
    states: ClassVar[tuple[str, ...]] = ("current", "voltage")
    bias_bits: ClassVar[int] = fixedpoint.BIAS_BITS
    is_graded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, array, _ in self.limited():
            require_integers(array, where=f"neuron {name}")
            if array.size and max(int(array.max()), -int(array.min())) >= PARAMETER_LIMIT:
                raise GraphError(
                    f"neuron {name}: values from {array.min()} to {array.max()}, less than "
                    f"{PARAMETER_LIMIT} in size is required: beyond, Lava's 32 bits overflow."
                )

    @property
    def is_readout(self) -> bool:
        """True if only a clipped voltage could reach any threshold."""
        return bool((self.threshold >= fixedpoint.THRESHOLD_MAX).all())

    @property
    def model(self) -> NeuronModel:
        """IF without leak, LIF where a current lives one step, else CUBA."""
        if bool(np.any(self.current_decay != fixedpoint.DECAY_UNITY)):
            return NeuronModel.CUBA
        return NeuronModel.LIF if bool(np.any(self.voltage_decay != 0)) else NeuronModel.IF

    def limited(self) -> tuple[LimitedParameter, ...]:
        """Return the threshold and both decays."""
        return (
            LimitedParameter("threshold", self.threshold, "threshold_max"),
            LimitedParameter("current_decay", self.current_decay, "decay_max"),
            LimitedParameter("voltage_decay", self.voltage_decay, "decay_max"),
        )


class _Unlimited(IntegerNeuron):
    """A neuron whose parameters no target limits more than its constructor does."""

    def limited(self) -> tuple[LimitedParameter, ...]:
        """Return nothing."""
        return ()


@dataclass(frozen=True, kw_only=True)
class _SendsChanges(_Unlimited):
    """A neuron that sends changes of a value once they reach a threshold.

    Attributes:
        threshold: vThMant; 0 sends every change.
        spike_exponent: e, `spike_exp` of Lava's `Network`.
    """

    threshold: int
    spike_exponent: int

    states: ClassVar[tuple[str, ...]] = ("sigma", "activation", "residue")
    is_graded: ClassVar[bool] = True
    model: ClassVar[NeuronModel] = NeuronModel.SIGMA_DELTA

    def __post_init__(self) -> None:
        exponent = self.spike_exponent
        if not 0 <= exponent <= SPIKE_EXPONENT_MAX:
            raise GraphError(
                f"neuron: spike exponent {exponent}, 0 to {SPIKE_EXPONENT_MAX} are allowed."
            )
        largest = (1 << (25 - exponent)) - 1
        if not 0 <= self.threshold <= largest:
            raise GraphError(
                f"neuron: threshold {self.threshold} with spike exponent {exponent}, "
                f"0 to {largest} are allowed: beyond, Lava's 32 bits overflow."
            )


@dataclass(frozen=True, kw_only=True)
class DeltaNeuron(_SendsChanges):
    """Input neuron of a sigma-delta network: sends the change of its input.

        act' = a << (e + 6),   d = act' - act + residue
        o = d where |d| >= threshold << (e + 6), else 0;   residue = d - o;   sends o >> 6

    Source: lava-nc 0.10.0 `lava/proc/sdn/models.py:PyDeltaModelFixed`.
    """

    label: ClassVar[str] = "delta"


@dataclass(frozen=True, kw_only=True)
class SigmaDeltaNeuron(_SendsChanges):
    """Sums the changes it receives, rectifies, and sends the change of the result.

        sigma += a,   act' = max(sigma + (bias << (e + 6)), 0);   then as `DeltaNeuron`

    Source: lava-nc 0.10.0 `lava/proc/sdn/models.py:PySigmaDeltaModelFixed`.
    """

    label: ClassVar[str] = "sigma-delta"
    bias_bits: ClassVar[int] = 32


@dataclass(frozen=True, kw_only=True)
class SigmaNeuron(_Unlimited):
    """Output neuron of a sigma-delta network: adds up its input and sends the sum.

    Source: lava-nc 0.10.0 `lava/proc/sdn/models.py:PySigmaModelFixed`.
    """

    label: ClassVar[str] = "sigma"
    states: ClassVar[tuple[str, ...]] = ("sigma",)
    is_graded: ClassVar[bool] = True
    model: ClassVar[NeuronModel] = NeuronModel.SIGMA_DELTA


@dataclass(frozen=True, kw_only=True)
class ResonateFireNeuron(_Unlimited):
    """Neuron whose complex state turns and shrinks each step.

        re' = clip(tz(c·re) - tz(s·im) + (a_re << 6))
        im' = clip(tz(s·re) + tz(c·im) + (a_im << 6))

    tz drops 12 bits towards zero; (s, c) is `rotation`. With `is_phase` it spikes where the phase
    passes zero with re' >= threshold << 6; else where im' >= threshold << 6, and is then reset.

    Attributes:
        sine_decay: sinDecay as stored.
        cosine_decay: cosDecay as stored.
        threshold: vThMant.
        is_phase: Whether it fires by phase (RF_PHASE) or by level (RF).

    Source: lava-nc 0.10.0 `lava/proc/rf/models.py`, `lava/proc/rf_iz/models.py`.
    """

    sine_decay: int
    cosine_decay: int
    threshold: int
    is_phase: bool

    label: ClassVar[str] = "resonate-and-fire"
    states: ClassVar[tuple[str, ...]] = ("real", "imag")
    is_graded: ClassVar[bool] = False
    model: ClassVar[NeuronModel] = NeuronModel.RESONATE_FIRE

    def __post_init__(self) -> None:
        largest = max(abs(self.sine_decay), abs(self.cosine_decay), abs(self.threshold))
        if largest >= PARAMETER_LIMIT:
            raise GraphError(
                f"neuron: a parameter of {largest} in size, less than {PARAMETER_LIMIT} is "
                "required: beyond, Lava's 32 bits overflow."
            )

    @property
    def rotation(self) -> tuple[int, int]:
        """(sine, cosine) that Lava turns the state by, times 2**12."""
        return fixedpoint.resonator_decay(self.sine_decay, self.cosine_decay)


Neuron = CubaNeuron | DeltaNeuron | SigmaDeltaNeuron | SigmaNeuron | ResonateFireNeuron

INTEGER_FORMS: dict[type, Callable[..., Neuron]] = {Cuba: CubaNeuron, Integrator: CubaNeuron}
"""Integer neurons by the kind of float neuron whose `integers` are their parameters."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connection:
    """A synapse and the name of its source: a layer, or the graph's input.

    A layer that is its own source receives its events of the step before.
    """

    source: str
    synapse: Synapse


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedLayer:
    """A population of neurons with its incoming synapses, whose contributions add up.

    Attributes:
        name: Unique within the graph.
        shape: (C, H, W) or (N,).
        bias: int32 of shape (), (C, 1, 1), (N,) or full. LIF: in int16 range, added to the
            voltage every step, times 2**6. Sigma-delta: added to the sum, times 2**(e + 6).
            Other neurons have none: zero.
    """

    name: str
    shape: Shape
    connections: tuple[Connection, ...]
    neuron: Neuron
    bias: IntArray

    def __post_init__(self) -> None:
        if not isinstance(self.neuron, IntegerNeuron):
            raise GraphError(
                f"{self.name}: neuron of type {type(self.neuron).__name__}, an IntegerNeuron is "
                "required. Derive its class from it."
            )
        require_integers(self.bias, where=f"{self.name} bias")
        if not self.shape or min(self.shape) < 1:
            raise GraphError(f"{self.name}: shape {self.shape}, every extent must be at least 1.")
        self._check_shape("bias", self.bias)
        for parameter in self.neuron.limited():
            self._check_shape(parameter.name, parameter.values)
        if not self.neuron.bias_bits and self.bias.any():
            raise GraphError(
                f"{self.name}: a bias, but neurons of this kind ({type(self.neuron).__name__}) "
                "have none. Leave it out."
            )
        is_resonator = isinstance(self.neuron, ResonateFireNeuron)
        for connection in self.connections:
            synapse = connection.synapse
            if isinstance(synapse, FixedComplexDense) != is_resonator:
                raise GraphError(
                    f"{self.name}: resonate-and-fire neurons and complex synapses need each other."
                )
            if connection.source != self.name:
                continue
            if not isinstance(synapse, FixedDense):
                raise GraphError(f"{self.name}: only dense synapses can be recurrent.")
            if synapse.delay is not None:
                raise GraphError(
                    f"{self.name}: a recurrent synapse with delays; Lava scales its weights "
                    "wrongly. Leave the delays out."
                )

    def _check_shape(self, name: str, array: IntArray) -> None:
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
        """True if the layer reads its own events."""
        return any(connection.source == self.name for connection in self.connections)
