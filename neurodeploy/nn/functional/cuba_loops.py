"""Compiled loops of CUBA neurons over all steps; arrays and spans as in `lif_loops`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.compiled_code import compiled, source_key
from neurodeploy.nn.functional import surrogate as surrogates
from neurodeploy.nn.functional.parallel import Span, run_tiles
from neurodeploy.nn.functional.surrogate import (
    Exponential,
    Float32Array,
    Int32Array,
    Slope,
    Surrogate,
    slopes,
)

Keeps = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""1 - decay / 4096 of current and voltage, (1,) or (M,) float64."""

_ONE: Final = np.float32(1)
_ZERO: Final = np.float32(0)
_NOTHING: Final = np.zeros((0, 0), np.float32)

_kernel = compiled(source_key(Path(file) for file in (__file__, surrogates.__file__)))


class _Numbers(NamedTuple):
    """`CubaConstants` as the loops read them."""

    scale: np.float32
    is_power_of_two: bool
    level: float
    is_graded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CubaConstants:
    """The parameters that a group of CUBA neurons shares.

    Attributes:
        state_scale: S.
        level: A neuron spikes when V > level; integer state units.
        threshold: In SLAYER units.
        margin: SLAYER's `threshold_eps`: the surrogate is centred on threshold + margin.
        surrogate: Gives h.
        is_graded: The output is the voltage, not 1, where a neuron spikes.
        compat_decay_grad: Give the decays the reference's gradient, which has the wrong sign.
    """

    state_scale: int
    level: int
    threshold: float
    margin: float
    surrogate: Surrogate
    is_graded: bool = False
    compat_decay_grad: bool = False

    @property
    def is_power_of_two(self) -> bool:
        """True if dividing by S and multiplying by it again is exact."""
        return self.state_scale & (self.state_scale - 1) == 0

    @property
    def compiled_slope(self) -> Slope | None:
        """The numbers from which compiled loops compute `slope`; None if they cannot."""
        return Slope.of(self.surrogate, self.threshold, is_graded=self.is_graded)

    def slope(self, voltage: Tensor) -> Tensor:
        """Return d output / d voltage for a voltage in SLAYER units, as a new tensor."""
        centred = voltage - self.margin
        if self.is_graded and isinstance(self.surrogate, Exponential):
            return self.surrogate.graded_derivative(centred, self.threshold)
        return self.surrogate.derivative(centred, self.threshold)


@_kernel
def cuba_span(
    inputs: Float32Array,
    span: Span,
    keeps: Keeps,
    neurons: _Numbers,
    states: tuple[Int32Array, Int32Array],
    spikes: Float32Array,
    voltages: Float32Array,
    currents: Float32Array,
) -> None:
    """Run CUBA neurons; see `neurodeploy.nn.functional.dynamics` for the equations.

    States are whole numbers in float64: products with a share of 4096 are exact there up to
    2**41, and truncation is one instruction for a vector of them.

    Inputs, `voltages` before the reset and `currents`, unless these are (0, 0), are (T, M) in
    SLAYER units. `states`, U and reset V, (M,), are those before the first step, and on return
    those after the last.
    """
    scale, is_power_of_two, level, is_graded = neurons
    current_keep, voltage_keep = keeps
    current, voltage = states
    keep_u, keep_v = np.empty(1024), np.empty(1024)
    u, v = np.empty(1024), np.empty(1024)
    inverse = _ONE / scale  # exact for a power of two
    for begin in range(span[0], span[1], 1024):
        end = min(begin + 1024, span[1])
        size = end - begin
        for i in range(size):
            keep_u[i] = current_keep[begin + i if current_keep.size > 1 else 0]
            keep_v[i] = voltage_keep[begin + i if voltage_keep.size > 1 else 0]
            u[i], v[i] = current[begin + i], voltage[begin + i]
        for step in range(inputs.shape[0]):
            x, s, before = (
                inputs[step, begin:end],
                spikes[step, begin:end],
                voltages[step, begin:end],
            )
            if is_power_of_two:
                for i in range(size):
                    u[i] = np.trunc(u[i] * keep_u[i]) + np.trunc(np.float64(x[i] * scale))
                    v[i] = np.trunc(v[i] * keep_v[i]) + u[i]
                    before[i] = np.float32(v[i]) * inverse
            else:
                for i in range(size):
                    u[i] = np.trunc(u[i] * keep_u[i]) + np.trunc(np.float64(x[i] * scale))
                    handed = (np.float32(u[i]) / scale) * scale
                    v[i] = np.trunc(v[i] * keep_v[i]) + np.trunc(np.float64(handed))
                    before[i] = np.float32(v[i]) / scale
            if currents.shape[0]:
                kept = currents[step, begin:end]
                for i in range(size):
                    kept[i] = np.float32(u[i]) / scale
            for i in range(size):
                is_firing = v[i] > level
                s[i] = (before[i] if is_graded else _ONE) if is_firing else _ZERO
                v[i] = 0.0 if is_firing else v[i]
        for i in range(size):
            current[begin + i], voltage[begin + i] = np.int32(u[i]), np.int32(v[i])


@_kernel
def cuba_back_span(
    voltages: Float32Array,
    gradients: Float32Array,
    span: Span,
    keeps: Keeps,
    threshold: np.float32,
    margin: np.float32,
    surrogate: Slope,
    result: Float32Array,
) -> None:
    """Go backwards through CUBA neurons whose decays are not learned.

    gv[t] = g[t] · h + a_v · gv[t+1],  gx[t] = gv[t] + a_u · gx[t+1].

    `gradients` are g, of the spikes, `keeps` a_u and a_v, `surrogate` is h of voltage - margin, and
    `result` gx; arrays are (T, M) float32.
    """
    current_keep, voltage_keep = keeps
    keep_u, keep_v = np.empty(1024, np.float32), np.empty(1024, np.float32)
    into_v, into_u = np.empty(1024, np.float32), np.empty(1024, np.float32)
    centred, slope = np.empty(1024, np.float32), np.empty(1024, np.float32)
    bits = np.empty(1024, np.int32)
    for begin in range(span[0], span[1], 1024):
        end = min(begin + 1024, span[1])
        size = end - begin
        for i in range(size):
            keep_u[i] = current_keep[begin + i if current_keep.size > 1 else 0]
            keep_v[i] = voltage_keep[begin + i if voltage_keep.size > 1 else 0]
        into_v[:] = 0
        into_u[:] = 0
        for back in range(voltages.shape[0]):
            step = voltages.shape[0] - 1 - back
            v, g, target = (
                voltages[step, begin:end],
                gradients[step, begin:end],
                result[step, begin:end],
            )
            for i in range(size):
                centred[i] = v[i] - margin
            slopes(centred[:size], threshold, surrogate, slope[:size], bits[:size])
            for i in range(size):
                into_v[i] = slope[i] * g[i] + keep_v[i] * into_v[i]
                into_u[i] = into_v[i] + keep_u[i] * into_u[i]
                target[i] = into_u[i]


def run_cuba(
    inputs: Tensor,
    keeps: tuple[Tensor, Tensor],
    states: tuple[Tensor | None, Tensor | None],
    constants: CubaConstants,
    *,
    has_currents: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Run CUBA neurons over all steps, on inputs (T, M) float32 in SLAYER units.

    `keeps` are 1 - decay / 4096 of current and voltage, (1,) or (M,) float64; `states` U and reset
    V before the first step, (M,) int32, None for zero.

    Returns:
        Spikes, V before the reset and, with `has_currents`, U, all (T, M) float32; then U and V
        after the last step, (M,) int32.
    """
    inputs = inputs.detach().contiguous()
    x = inputs.numpy()
    u, v = (
        np.zeros(x.shape[1], np.int32) if state is None else state.numpy().copy()
        for state in states
    )
    spikes, voltages = torch.empty_like(inputs), torch.empty_like(inputs)
    currents = torch.empty_like(inputs) if has_currents else None
    kept = _NOTHING if currents is None else currents.numpy()
    fired, before = spikes.numpy(), voltages.numpy()
    shares = (keeps[0].contiguous().numpy(), keeps[1].contiguous().numpy())
    neurons = _Numbers(
        np.float32(constants.state_scale),
        constants.is_power_of_two,
        float(constants.level),
        constants.is_graded,
    )
    run_tiles(
        x.shape, lambda span: cuba_span(x, span, shares, neurons, (u, v), fired, before, kept)
    )
    return spikes, voltages, currents, torch.from_numpy(u), torch.from_numpy(v)


def run_cuba_back(
    voltages: Tensor,
    grad: Tensor,
    keeps: tuple[Tensor, Tensor],
    constants: CubaConstants,
    surrogate: Slope,
) -> Tensor:
    """Return the gradient of the inputs, (T, M), for decays that are not learned."""
    result = torch.empty_like(voltages)
    v, upstream, into = voltages.numpy(), grad.contiguous().numpy(), result.numpy()
    shares = (keeps[0].contiguous().numpy(), keeps[1].contiguous().numpy())
    centre = np.float32(constants.threshold), np.float32(constants.margin)
    run_tiles(
        v.shape, lambda span: cuba_back_span(v, upstream, span, shares, *centre, surrogate, into)
    )
    return result
