"""Neurons, step by step: one class for each kind.

Each holds the state of a batch of neurons in int64 and applies Lava's widths explicitly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import (
    BIAS_BITS,
    CURRENT_LIMIT,
    DECAY_BITS,
    STATE_BITS,
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
from neurodeploy.simulation.recording import Health, unknown_kind


class _Range:
    """The width of one state, from low to high; remembers how far it went beyond, and how often."""

    def __init__(self, low: int, high: int, conform: Callable[[Int64Array], Int64Array]) -> None:
        self._low, self._high, self._conform = low, high, conform
        self.peak = 0
        self.overflows = 0

    def keep(self, values: Int64Array) -> Int64Array:
        """Return values as the state holds them."""
        low, high = int(values.min()), int(values.max())
        self.peak = max(self.peak, high, -low)
        if low >= self._low and high <= self._high:
            return values
        kept = self._conform(values)
        self.overflows += int(np.count_nonzero(values != kept))
        return kept


def _word_range() -> _Range:
    limit = 1 << (STATE_BITS - 1)
    return _Range(-limit, limit - 1, _wrap)


def _wrap(values: Int64Array) -> Int64Array:
    return wrap(values, STATE_BITS)


class Dynamics(ABC):
    """A batch of neurons of one layer, walking through time; its health is that of two states."""

    def __init__(self, first: _Range, second: _Range) -> None:
        """Take the ranges of those states."""
        self._first, self._second = first, second

    @abstractmethod
    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step.

        Args:
            arriving: (samples, *layer, *ports) int64, the sum of what the synapses sent; ports
                is (2,) for complex synapses (real, imaginary), else ().

        Returns:
            (samples, *layer) int32: the events; 0 where there is none.
        """

    @abstractmethod
    def states(self) -> Mapping[str, Int64Array]:
        """Return the states by name, each (samples, *layer) int64."""

    def reset(self) -> None:  # noqa: B027 - most do nothing
        """Set the states to zero where Lava does, which ignores `reset_interval` but for LIF."""

    def health(self) -> Health:
        """Return peaks and overflow counts so far."""
        return Health(
            current_peak=self._first.peak,
            voltage_peak=self._second.peak,
            current_wraps=self._first.overflows,
            voltage_clips=self._second.overflows,
        )


def start_dynamics(
    layer: FixedLayer, samples: int, *, bias_image: IntArray | None = None
) -> Dynamics:
    """Return the neurons of a layer for a batch of samples, in their zero state.

    `bias_image` is (samples, *layer) int32 in place of the layer's bias; LIF only.
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
    raise unknown_kind(layer.neuron, "neurons.start_dynamics")


class LifDynamics(Dynamics):
    """Leaky integrate-and-fire. This is the definition; all other forms are held equal to it.

        p = wrap32(decay(u, iDecay) + (a << 6));     u = wrap24(p)
        v = clip(wrap32(decay(v, vDecay) + u + (bias << 6)))
        s = v > (vThMant << 6);                      v = 0 where s

    Held equal to it, by tests: real Lava (`differential`), a restatement in Python's integers
    (`property/test_simulation.py`), compiled kernels (`unit/simulation/kernels/test_lif.py`), the
    ONNX step (`property/test_onnx_files.py`) and training (`property/test_neuron_properties.py`).
    The fine-tune in integers, `pipeline.deployment.integer_network`, runs this class itself.

    Source: lava-nc 0.10.0 `lava/proc/lif/models.py:PyLifModelBitAcc`.
    """

    def __init__(self, neuron: CubaNeuron, bias: IntArray, shape: tuple[int, ...]) -> None:
        """Start at zero; `bias` (…) int32 broadcasts over `shape` (samples, *layer)."""
        super().__init__(
            _Range(1 - CURRENT_LIMIT, CURRENT_LIMIT, lambda u: wrap_current(_wrap(u))),
            _Range(-VOLTAGE_LIMIT, VOLTAGE_LIMIT, lambda v: clip_voltage(_wrap(v))),
        )
        self._current_decay = neuron.current_decay.astype(np.int64)
        self._voltage_decay = neuron.voltage_decay.astype(np.int64)
        self._bias = scale_up(wrap(bias, BIAS_BITS))
        self._threshold = scale_up(neuron.threshold)
        self._current = np.zeros(shape, np.int64)
        self._voltage = np.zeros(shape, np.int64)

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        self.integrate(arriving)
        return self.fire().astype(np.int32)

    def integrate(self, arriving: Int64Array) -> Int64Array:
        """Advance current and voltage; return the voltage, (samples, *layer), before its reset."""
        current = decay(self._current, self._current_decay) + scale_up(arriving)
        self._current = self._first.keep(current)
        voltage = decay(self._voltage, self._voltage_decay) + self._current + self._bias
        self._voltage = self._second.keep(voltage)
        return self._voltage

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


class SigmaDeltaDynamics(Dynamics):
    """Sigma-delta neuron, and the delta neuron of an input block, which does not sum.

        delta:        act' = a << (e + 6)
        sigma-delta:  sigma += a;   act' = max(sigma + (bias << (e + 6)), 0)
        both:         d = act' - act + residue;   o = d where |d| >= vThMant << (e + 6), else 0
                      residue = d - o;   act = act';   sends o >> 6

    All in int32, wrapping.

    Source: lava-nc 0.10.0 `lava/proc/sdn/models.py`.
    """

    def __init__(
        self, neuron: DeltaNeuron | SigmaDeltaNeuron, bias: IntArray, shape: tuple[int, ...]
    ) -> None:
        """Start at zero; `bias` (…) int32 broadcasts over `shape` (samples, *layer)."""
        super().__init__(_word_range(), _word_range())
        self._exponent = neuron.spike_exponent + STATE_EXPONENT
        self._threshold = neuron.threshold << self._exponent
        self._bias = _wrap(scale_up(bias, self._exponent))
        self._has_sigma = isinstance(neuron, SigmaDeltaNeuron)
        self._sigma = np.zeros(shape, np.int64)
        self._activation = np.zeros(shape, np.int64)
        self._residue = np.zeros(shape, np.int64)

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        if self._has_sigma:
            self._sigma = self._first.keep(self._sigma + arriving)
            activation = self._second.keep(self._sigma + self._bias)
            activation = np.maximum(activation, 0)
        else:
            activation = self._second.keep(scale_up(arriving, self._exponent))
        change = _wrap(activation - self._activation + self._residue)
        # |-2**31| is -2**31 in int32, hence below every threshold.
        is_sent = _wrap(np.abs(change)) >= self._threshold
        sent = np.where(is_sent, change, 0)
        self._residue = change - sent
        self._activation = activation
        return scale_down(sent).astype(np.int32)

    def states(self) -> Mapping[str, Int64Array]:
        """Return "sigma" (zero in a delta neuron, as in Lava), "activation" and "residue"."""
        return {"sigma": self._sigma, "activation": self._activation, "residue": self._residue}


class SigmaDynamics(Dynamics):
    """Sums and sends the sum: sigma = wrap32(sigma + a).

    Source: lava-nc 0.10.0 `lava/proc/sdn/models.py:PySigmaModelFixed`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Start at zero; `shape` is (samples, *layer)."""
        super().__init__(_word_range(), _word_range())
        self._sigma = np.zeros(shape, np.int64)

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        self._sigma = self._first.keep(self._sigma + arriving)
        return self._sigma.astype(np.int32)

    def states(self) -> Mapping[str, Int64Array]:
        """Return "sigma"."""
        return {"sigma": self._sigma}


class ResonatorDynamics(Dynamics):
    """Resonate-and-fire, by phase or by level; see `ResonateFireNeuron` for the equations.

    Source: lava-nc 0.10.0 `lava/proc/rf/models.py:PyRFModelFixed`,
        `lava/proc/rf_iz/models.py:PyRF_IZModelFixed`.
    """

    def __init__(self, neuron: ResonateFireNeuron, shape: tuple[int, ...]) -> None:
        """Start at zero; `shape` is (samples, *layer)."""
        super().__init__(*(_Range(-VOLTAGE_LIMIT, VOLTAGE_LIMIT, clip_voltage) for _ in range(2)))
        self._sine, self._cosine = neuron.rotation
        self._threshold = neuron.threshold << STATE_EXPONENT
        self._is_phase = neuron.is_phase
        self._real = np.zeros(shape, np.int64)
        self._imaginary = np.zeros(shape, np.int64)

    def step(self, arriving: Int64Array) -> IntArray:
        """Advance by one step; see `Dynamics`."""
        drive = _wrap(scale_up(arriving))
        real = self._first.keep(self._turn(self._cosine, -self._sine) + drive[..., 0])
        imaginary = self._second.keep(self._turn(self._sine, self._cosine) + drive[..., 1])
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

    def states(self) -> Mapping[str, Int64Array]:
        """Return "real" and "imag"."""
        return {"real": self._real, "imag": self._imaginary}
