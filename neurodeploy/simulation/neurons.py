"""Neurons, step by step: one class for each kind, one protocol for all.

Each holds the state of a batch of neurons in int64 and applies Lava's widths explicitly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import (
    BIAS_BITS,
    CURRENT_LIMIT,
    DECAY_BITS,
    STATE_EXPONENT,
    VOLTAGE_LIMIT,
    Int64Array,
    clip_voltage,
    decay,
    scale_down,
    scale_up,
    shift_towards_zero,
    wrap,
    wrap_current,
)
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    FixedLayer,
    IntArray,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.simulation.recording import Health

_STATE_BITS = 32


class Dynamics(Protocol):
    """A batch of neurons of one layer, walking through time."""

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step.

        Args:
            arriving: (samples, *layer, *ports) int64, the sum of what the synapses sent; ports
                is (2,) for complex synapses (real, imaginary), else ().

        Returns:
            (samples, *layer) int32: the events; 0 where there is none.
        """
        ...

    def reset(self) -> None:
        """Set the states to zero where Lava's neuron can be reset, else do nothing."""
        ...

    def states(self) -> Mapping[str, Int64Array]:
        """Return the states by name, each (samples, *layer) int64."""
        ...

    def health(self) -> Health:
        """Return peaks and overflow counts so far."""
        ...


def start_dynamics(
    layer: FixedLayer, samples: int, *, bias_image: IntArray | None = None
) -> Dynamics:
    """Return the neurons of `layer` in their zero state.

    Args:
        layer: The layer.
        samples: Size of the batch.
        bias_image: (samples, *layer) int32 in place of the layer's bias; LIF only.
    """
    shape = (samples, *layer.shape)
    match layer.neuron:
        case CubaNeuron() as neuron:
            return LifDynamics(neuron, layer.bias if bias_image is None else bias_image, shape)
        case DeltaNeuron() | SigmaDeltaNeuron() as neuron:
            return SigmaDeltaDynamics(neuron, layer.bias, shape)
        case SigmaNeuron():
            return SigmaDynamics(shape)
        case ResonateFireNeuron() as neuron:
            return ResonatorDynamics(neuron, shape)


class LifDynamics:
    """Leaky integrate-and-fire. This is the definition; all other forms are held equal to it.

        p = wrap32(decay(u, iDecay) + (a << 6));     u = wrap24(p)
        v = clip(wrap32(decay(v, vDecay) + u + (bias << 6)))
        s = v > (vThMant << 6);                      v = 0 where s

    Held equal to it, by tests: real Lava (`differential`), a restatement in Python's integers
    (`property/test_simulation.py`), compiled kernels (`unit/simulation/kernels/test_lif.py`), the
    ONNX step (`property/test_onnx_files.py`) and training (`property/test_neuron_properties.py`).
    The fine-tune in integers, `pipeline.deployment.fine_tuning`, runs this class itself.

    Source: lava-nc 0.10.0 `lava/proc/lif/models.py:PyLifModelBitAcc`.
    """

    def __init__(self, neuron: CubaNeuron, bias: IntArray, shape: tuple[int, ...]) -> None:
        """Start at zero; `bias` (…) int32 broadcasts over `shape` (samples, *layer)."""
        self._current_decay = neuron.current_decay.astype(np.int64)
        self._voltage_decay = neuron.voltage_decay.astype(np.int64)
        self._bias = scale_up(wrap(bias, BIAS_BITS))
        self._threshold = scale_up(neuron.threshold)
        self._current = np.zeros(shape, np.int64)
        self._voltage = np.zeros(shape, np.int64)
        self._current_peak = self._voltage_peak = 0
        self._current_wraps = self._voltage_clips = 0

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        self.integrate(arriving)
        return self.fire().astype(np.int32)

    def integrate(self, arriving: Int64Array) -> Int64Array:
        """Advance current and voltage; return the voltage, (samples, *layer), before its reset."""
        current = decay(self._current, self._current_decay) + scale_up(arriving)
        low, high = int(current.min()), int(current.max())
        self._current_peak = max(self._current_peak, high, -low)
        if high > CURRENT_LIMIT or low <= -CURRENT_LIMIT:
            self._current_wraps += int(
                np.count_nonzero((current > CURRENT_LIMIT) | (current <= -CURRENT_LIMIT))
            )
            current = wrap_current(wrap(current, _STATE_BITS))
        voltage = decay(self._voltage, self._voltage_decay) + current + self._bias
        low, high = int(voltage.min()), int(voltage.max())
        self._voltage_peak = max(self._voltage_peak, high, -low)
        if high > VOLTAGE_LIMIT or low < -VOLTAGE_LIMIT:
            self._voltage_clips += int(np.count_nonzero(np.abs(voltage) > VOLTAGE_LIMIT))
            voltage = clip_voltage(wrap(voltage, _STATE_BITS))
        self._current, self._voltage = current, voltage
        return voltage

    def fire(self) -> npt.NDArray[np.bool_]:
        """Return which neurons spike, (samples, *layer), and reset their voltage in place."""
        spikes = self._voltage > self._threshold
        self._voltage[spikes] = 0
        return spikes

    def reset(self) -> None:
        """Set current and voltage to zero."""
        self._current = np.zeros_like(self._current)
        self._voltage = np.zeros_like(self._voltage)

    def states(self) -> Mapping[str, Int64Array]:
        """Return "current" and "voltage", the latter after the spike reset."""
        return {"current": self._current, "voltage": self._voltage}

    def health(self) -> Health:
        """Return how close current and voltage came to 24 bits."""
        return Health(
            current_peak=self._current_peak,
            voltage_peak=self._voltage_peak,
            current_wraps=self._current_wraps,
            voltage_clips=self._voltage_clips,
        )


class SigmaDeltaDynamics:
    """Sigma-delta neuron, and the delta neuron of an input block, which does not sum.

        delta:        act' = a << (e + 6)
        sigma-delta:  sigma += a;   act' = max(sigma + (bias << (e + 6)), 0)
        both:         d = act' - act + residue;   o = d where |d| >= vThMant << (e + 6), else 0
                      residue = d - o;   act = act';   sends o >> 6

    All in int32, wrapping.

    Source: lava-nc 0.10.0 `lava/proc/sdn/models.py`.
    """

    def __init__(
        self,
        neuron: DeltaNeuron | SigmaDeltaNeuron,
        bias: IntArray,
        shape: tuple[int, ...],
    ) -> None:
        """Start at zero; `bias` (…) int32 broadcasts over `shape` (samples, *layer)."""
        self._exponent = neuron.spike_exponent + STATE_EXPONENT
        self._threshold = neuron.threshold << self._exponent
        self._bias = wrap(scale_up(bias, self._exponent), _STATE_BITS)
        self._has_sigma = isinstance(neuron, SigmaDeltaNeuron)
        self._sigma = np.zeros(shape, np.int64)
        self._activation = np.zeros(shape, np.int64)
        self._residue = np.zeros(shape, np.int64)
        self._sigma_range, self._activation_range = _Range(), _Range()

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        if self._has_sigma:
            self._sigma = self._sigma_range.wrap(self._sigma + arriving)
            activation = self._activation_range.wrap(self._sigma + self._bias)
            activation = np.maximum(activation, 0)
        else:
            activation = self._activation_range.wrap(scale_up(arriving, self._exponent))
        change = wrap(activation - self._activation + self._residue, _STATE_BITS)
        # |-2**31| is -2**31 in int32, hence below every threshold.
        is_sent = wrap(np.abs(change), _STATE_BITS) >= self._threshold
        sent = np.where(is_sent, change, 0)
        self._residue = change - sent
        self._activation = activation
        return scale_down(sent).astype(np.int32)

    def reset(self) -> None:
        """Do nothing: Lava ignores `reset_interval` in sigma-delta layers."""

    def states(self) -> Mapping[str, Int64Array]:
        """Return "sigma" (zero in a delta neuron, as in Lava), "activation" and "residue"."""
        return {
            "sigma": self._sigma,
            "activation": self._activation,
            "residue": self._residue,
        }

    def health(self) -> Health:
        """Return how close sigma and the activation came to 32 bits."""
        return _health(self._sigma_range, self._activation_range)


class SigmaDynamics:
    """Sums and sends the sum: sigma = wrap32(sigma + a).

    Source: lava-nc 0.10.0 `lava/proc/sdn/models.py:PySigmaModelFixed`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Start at zero; `shape` is (samples, *layer)."""
        self._sigma = np.zeros(shape, np.int64)
        self._range = _Range()

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        self._sigma = self._range.wrap(self._sigma + arriving)
        return self._sigma.astype(np.int32)

    def reset(self) -> None:
        """Do nothing: Lava ignores `reset_interval` in sigma-delta layers."""

    def states(self) -> Mapping[str, Int64Array]:
        """Return "sigma"."""
        return {"sigma": self._sigma}

    def health(self) -> Health:
        """Return how close sigma came to 32 bits."""
        return _health(self._range, _Range())


class ResonatorDynamics:
    """Resonate-and-fire, by phase or by level; see `ResonateFireNeuron` for the equations.

    Source: lava-nc 0.10.0 `lava/proc/rf/models.py:PyRFModelFixed`,
        `lava/proc/rf_iz/models.py:PyRF_IZModelFixed`.
    """

    def __init__(self, neuron: ResonateFireNeuron, shape: tuple[int, ...]) -> None:
        """Start at zero; `shape` is (samples, *layer)."""
        self._sine, self._cosine = neuron.rotation
        self._threshold = neuron.threshold << STATE_EXPONENT
        self._is_phase = neuron.is_phase
        self._real = np.zeros(shape, np.int64)
        self._imaginary = np.zeros(shape, np.int64)
        self._real_range, self._imaginary_range = _Range(), _Range()

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        drive = wrap(scale_up(arriving), _STATE_BITS)
        real = self._real_range.clip(self._turn(self._cosine, -self._sine) + drive[..., 0])
        imaginary = self._imaginary_range.clip(self._turn(self._sine, self._cosine) + drive[..., 1])
        if self._is_phase:
            spikes = (real >= self._threshold) & (imaginary >= 0) & (self._imaginary < 0)
            self._real, self._imaginary = real, imaginary
        else:
            spikes = imaginary >= self._threshold
            self._real = np.where(spikes, 0, real)
            self._imaginary = np.where(spikes, self._threshold - 1, imaginary)
        return spikes.astype(np.int32)

    def _turn(self, of_real: int, of_imaginary: int) -> Int64Array:
        return shift_towards_zero(of_real * self._real, DECAY_BITS) + shift_towards_zero(
            of_imaginary * self._imaginary, DECAY_BITS
        )

    def reset(self) -> None:
        """Do nothing: Lava has no reset for these neurons."""

    def states(self) -> Mapping[str, Int64Array]:
        """Return "real" and "imag"."""
        return {"real": self._real, "imag": self._imaginary}

    def health(self) -> Health:
        """Return how close the real and the imaginary part came to their limit."""
        return _health(self._real_range, self._imaginary_range)


class _Range:
    """Applies the width of one state and remembers how far it went before."""

    def __init__(self) -> None:
        self.peak = 0
        self.overflows = 0

    def wrap(self, values: Int64Array) -> Int64Array:
        return self._note(values, wrap(values, _STATE_BITS))

    def clip(self, values: Int64Array) -> Int64Array:
        return self._note(values, clip_voltage(values))

    def _note(self, values: Int64Array, kept: Int64Array) -> Int64Array:
        self.peak = max(self.peak, int(np.abs(values).max()))
        self.overflows += int(np.count_nonzero(values != kept))
        return kept


def _health(first: _Range, second: _Range) -> Health:
    return Health(
        current_peak=first.peak,
        voltage_peak=second.peak,
        current_wraps=first.overflows,
        voltage_clips=second.overflows,
    )
