"""Compiled loops of CUBA neurons over all steps; arrays and spans as in `lif_loops`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy import llvm_vectors
from neurodeploy.compiled_code import compiled, source_key
from neurodeploy.nn.functional import cuba_vectors, surrogate as surrogates
from neurodeploy.nn.functional.cuba_vectors import FIELDS, WIDE, filter_back, fire
from neurodeploy.nn.functional.parallel import TILE, Span, run_tiles
from neurodeploy.nn.functional.surrogate import (
    Exponential,
    Float32Array,
    Int32Array,
    Slope,
    Surrogate,
    slopes,
)

Int64Array = npt.NDArray[np.int64]
Keep = npt.NDArray[np.float64]
Keeps = tuple[Keep, Keep]
"""1 - decay / 4096 of current and voltage, (1,) or (M,) float64."""

_NOTHING: Final = np.zeros((0, 0), np.float32)

_FILES: Final = (__file__, cuba_vectors.__file__, llvm_vectors.__file__, surrogates.__file__)
_kernel = compiled(source_key(map(Path, _FILES)))


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

    Inputs, `voltages` before the reset and `currents`, unless these are (0, 0), are (T, M) in
    SLAYER units. `states`, U and reset V, (M,), are those before the first step, and on return
    those after the last.
    """
    steps, columns = inputs.shape
    vectors, places = np.empty((4, TILE)), np.empty(len(FIELDS), np.int64)
    numbers, flags = np.empty(2), np.empty(3, np.int64)
    numbers[0], numbers[1] = neurons.scale, neurons.level
    flags[0], flags[1], flags[2] = neurons.is_power_of_two, neurons.is_graded, currents.size > 0
    for begin in range(span[0], span[1], TILE):
        end = min(begin + TILE, span[1])
        for kind in range(2):
            _spread(keeps[kind], begin, end, vectors[kind])
            for i in range(end - begin):
                vectors[2 + kind, i] = states[kind][begin + i]
        at = begin
        while at < end:
            is_wide = at + WIDE <= end
            _place(places, at, at - begin, columns, steps, is_wide)
            fire(inputs, vectors, places, numbers, flags, spikes, voltages, currents)
            at += WIDE if is_wide else 1
        for kind in range(2):
            for i in range(end - begin):
                states[kind][begin + i] = np.int32(vectors[2 + kind, i])


@_kernel
def _place(places: Int64Array, at: int, lane: int, columns: int, steps: int, is_wide: bool) -> None:
    """Write what `FIELDS` says."""
    places[0], places[1], places[2], places[3], places[4] = at, lane, columns, steps, is_wide


@_kernel
def _spread(values: Keep, begin: int, end: int, result: Keep) -> None:
    """Write values[begin:end], or as many times the only value."""
    for i in range(end - begin):
        result[i] = values[begin + i if values.size > 1 else 0]


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
    steps, columns = voltages.shape
    # Of a block of columns, all steps' slopes stay in the first-level cache.
    block = max(1, min(TILE // WIDE, 4096 // (steps * WIDE))) * WIDE
    shares, places = np.empty((2, TILE), np.float32), np.empty(len(FIELDS) + 1, np.int64)
    centred, slope = np.empty(steps * block, np.float32), np.empty(steps * block, np.float32)
    bits = np.empty(steps * block, np.int32)
    for begin in range(span[0], span[1], block):
        end = min(begin + block, span[1])
        size = end - begin
        for kind in range(2):
            _spread(keeps[kind], begin, end, shares[kind])
        for step in range(steps):
            v, row = voltages[step, begin:end], centred[step * size : (step + 1) * size]
            for i in range(size):
                row[i] = v[i] - margin
        count = steps * size
        slopes(centred[:count], threshold, surrogate, slope[:count], bits[:count])
        places[5] = size
        at = begin
        while at < end:
            is_wide = at + WIDE <= end
            _place(places, at, at - begin, columns, steps, is_wide)
            filter_back(slope, gradients, shares, places, result)
            at += WIDE if is_wide else 1


def run_cuba(
    inputs: Tensor,
    keeps: tuple[Tensor, Tensor],
    states: tuple[Tensor | None, Tensor | None],
    constants: CubaConstants,
    *,
    has_currents: bool,
    is_late: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Run CUBA neurons over all steps, on inputs (T, M) float32 in SLAYER units.

    `keeps` are 1 - decay / 4096 of current and voltage, (1,) or (M,) float64; `states` U and reset
    V before the first step, (M,) int32, None for zero. With `is_late`, spikes come a step later:
    zeros first, and not the last.

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
    voltages = torch.empty_like(inputs)
    currents = torch.empty_like(inputs) if has_currents else None
    kept = _NOTHING if currents is None else currents.numpy()
    sent = torch.empty(x.shape[0] + is_late, x.shape[1])
    if is_late:
        sent[0] = 0
    fired, before = sent[is_late:].numpy(), voltages.numpy()
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
    last = torch.from_numpy(u), torch.from_numpy(v)
    return sent[: x.shape[0]], voltages, currents, *last


def run_cuba_back(
    voltages: Tensor,
    grad: Tensor,
    keeps: tuple[Tensor, Tensor],
    constants: CubaConstants,
    surrogate: Slope,
    *,
    is_late: bool,
) -> Tensor:
    """Return the gradient of the inputs, (T, M), for decays that are not learned."""
    result = torch.empty_like(voltages)
    v, upstream, into = voltages.numpy(), grad.contiguous().numpy(), result.numpy()
    if is_late:  # what the last step sent was dropped
        v, upstream, into = v[:-1], upstream[1:], into[:-1]
        result[-1] = 0
        if not into.size:
            return result
    shares = (keeps[0].contiguous().numpy(), keeps[1].contiguous().numpy())
    centre = np.float32(constants.threshold), np.float32(constants.margin)
    run_tiles(
        v.shape, lambda span: cuba_back_span(v, upstream, span, shares, *centre, surrogate, into)
    )
    return result
