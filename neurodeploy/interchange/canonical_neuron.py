"""Neurons of other frameworks in one canonical form, which is Loihi's but for rounding.

    u[t] = (1 - current_decay) · u[t-1] + x[t]
    v[t] = (1 - voltage_decay) · v[t-1] + u[t] + bias
    s[t] = v[t] > threshold, or >=;   v[t] = 0 where s[t];   u = v = 0 before the first step

Two rules lead there, exact in real arithmetic: a gain g on the input is divided out of threshold
and bias, and voltages are measured from the potential of the reset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurodeploy.errors import InterchangeError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.interchange.convention import Convention, Gain, Scheme
from neurodeploy.interchange.nir_schema import CANONICAL, CANONICAL_READ_OUT, NirNode
from neurodeploy.ir.float_layers import Shape

APPROXIMATIONS = {
    "soft-reset": "the voltage is set to zero where the threshold would be subtracted",
    "lost-step": "the step after a spike is not lost",
    "many-spikes": "one spike where there would be several in a step",
    "minimum-voltage": "voltages have no floor",
    "initial-state": "every sample starts at the potential of the reset",
    "input-rounding": "real inputs are rounded to integers",
    "current-bias": "a bias that passes through a decaying current drives the voltage instead",
}
"""Departures from a framework, each allowed by its name only."""

SOFT_RESET = (
    "subtracts its threshold after a spike; Loihi resets to zero (in snnTorch "
    "reset_mechanism='zero', in SpikingJelly v_reset=0.0, in sinabs reset_fn=MembraneReset())"
)
INITIAL_STATE = "starts at v_leak, which is not v_reset; Loihi's voltages start at the reset"

_UNITY = 1e-6
"""Quotients of float32 numbers do not tell a gain or decay this close to 1 from 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanonicalNeuron:
    """A population in canonical form, its gain not yet divided out.

    Attributes:
        current_decay: 0 to 1; 1: the current lives one step.
        voltage_decay: 0 to 1; 0: no leak.
        gain: Factor of the input on the voltage, above 0.
        bias: Drive of the voltage at each step, in the framework's voltage.
        threshold: In the framework's voltage, from the potential of the reset; None: never fires.
        fires_at_threshold: Whether a voltage equal to the threshold fires.
        grid: Steps of the weights in one unit where states are whole numbers of 1/64 step, whose
            fractions decays drop, as on the chip; None for real numbers.
        rest: Of a read-out: the voltage where ours is 0, at the start and without input.

    All but a missing threshold are float64 arrays, 0-d or of the parameter's shape in the file.
    """

    current_decay: FloatArray
    voltage_decay: FloatArray
    gain: FloatArray
    bias: FloatArray
    threshold: FloatArray | None
    fires_at_threshold: bool
    grid: int | None = None
    rest: float = 0.0

    def sizes(self) -> set[int]:
        """Return how many numbers its parameters hold."""
        arrays = self.current_decay, self.voltage_decay, self.gain, self.bias, self.threshold
        return {values.size for values in arrays if values is not None}

    def reshape(self, shape: Shape) -> CanonicalNeuron:
        """Return the same neurons on a map: parameters of one a neuron get its shape."""

        def on_map(values: FloatArray) -> FloatArray:
            return values.reshape(shape) if values.size > 1 else values

        return CanonicalNeuron(
            current_decay=on_map(self.current_decay),
            voltage_decay=on_map(self.voltage_decay),
            gain=on_map(self.gain),
            bias=on_map(self.bias),
            threshold=None if self.threshold is None else on_map(self.threshold),
            fires_at_threshold=self.fires_at_threshold,
            grid=self.grid,
            rest=self.rest,
        )


def canonical(node: NirNode, convention: Convention) -> CanonicalNeuron:
    """Return a NIR neuron in canonical form.

    Raises:
        InterchangeError: If a parameter is out of range; the message begins with its name.
    """
    node = _aligned(node)
    one, zero = np.array(1.0), np.array(0.0)
    du, dv, bias = one, zero, zero
    fires_at_threshold = convention.fires_at_threshold
    grid, rest = 0, 0.0
    match node.kind:
        case kind if kind in (CANONICAL, CANONICAL_READ_OUT):
            du, dv = node.array("current_decay"), node.array("voltage_decay")
            gain, bias = node.array("gain"), node.array("bias")
            fires_at_threshold = bool(node.array("fires_at_threshold"))
            grid, rest = int(node.array("grid")), float(node.array("rest"))
        case "Threshold":
            gain, dv = one, one
        case "IF" | "I":
            assert convention.dt is not None
            gain = node.array("r") * (convention.dt if convention.gain is Gain.FILE else 1.0)
        case "LIF" | "LI":
            dv = _decay(node, "tau", convention)
            match convention.gain:
                case Gain.FILE:
                    gain = node.array("r") * dv
                case Gain.DECAY:
                    gain = dv
                case Gain.UNITY | Gain.CURRENT:
                    gain = np.ones_like(dv)
            bias = dv * node.array("v_leak")
        case "CubaLIF" | "CubaLI":
            du, dv = _decay(node, "tau_syn", convention), _decay(node, "tau_mem", convention)
            match convention.gain:
                case Gain.FILE:
                    gain = _near_unity(node.array("w_in") * du) * _near_unity(node.array("r") * dv)
                case Gain.DECAY:
                    gain = dv if convention.scheme is Scheme.NORSE else dv * (1 - du)
                case Gain.UNITY | Gain.CURRENT:
                    gain = 1 - du
            bias = dv * node.array("v_leak")
        case _:
            raise InterchangeError(f"{node.kind} is not known as a neuron. Name it in `canonical`.")
    gain = _near_unity(gain)
    if not (np.isfinite(gain).all() and gain.min() > 0):
        raise InterchangeError(
            f"gain: its input is scaled by {float(gain.min()):g}, above 0 is required. Look at r "
            "and w_in."
        )
    threshold = None
    if node.kind in ("Threshold", CANONICAL):
        threshold = node.array("threshold")
    elif "v_threshold" in node.values:
        reset = node.array("v_reset")
        threshold = node.array("v_threshold") - reset
        bias = bias - dv * reset
    if threshold is not None and not threshold.min() > 0:
        raise InterchangeError(
            f"v_threshold: {float(threshold.min()):g} above the reset, more than 0 is required; "
            "the neuron would fire without end."
        )
    return CanonicalNeuron(
        current_decay=du,
        voltage_decay=dv,
        gain=gain,
        bias=np.asarray(bias),
        threshold=threshold,
        fires_at_threshold=fires_at_threshold,
        grid=grid or None,
        rest=rest,
    )


def _aligned(node: NirNode) -> NirNode:
    """Return the neuron with parameters that broadcast: one number, or one a channel or neuron."""
    largest = max((np.shape(value) for value in node.values.values()), key=lambda s: (len(s), s))
    values: dict[str, FloatArray | str] = {}
    for name in node.values:
        value = node.array(name)
        if value.size == 1:
            value = value.reshape(())
        elif len(largest) == 3 and value.shape == largest[:1]:
            value = value.reshape(-1, 1, 1)
        elif value.ndim != len(largest) or any(
            extent not in (1, most) for extent, most in zip(value.shape, largest, strict=True)
        ):
            raise InterchangeError(
                f"{name} of shape {value.shape}, another parameter has {largest}; one shape for "
                "all is required."
            )
        values[name] = value
    return NirNode(node.kind, values)


def _decay(node: NirNode, name: str, convention: Convention) -> FloatArray:
    tau = node.array(name)
    if tau.min() <= 0:
        raise InterchangeError(f"{name}: {float(tau.min()):g} s, above 0 is required.")
    decay = _near_unity(convention.decay(tau))
    if decay.max() > 1:
        raise InterchangeError(
            f"{name}: {float(tau.min()):g} s is less than a step of {convention.dt:g} s by "
            f"convention '{convention.name}'. Give the convention or dt that the file was written "
            "with."
        )
    return decay


def _near_unity(values: FloatArray) -> FloatArray:
    return np.where(np.abs(values - 1) <= _UNITY, 1.0, values)
