"""Compiled inner loops of training: neurons and batch norm over all steps, on NumPy arrays.

Every array is float32 (or int32) and C-contiguous, time first: (T, M), one column a neuron of the
batch. What differs from channel to channel repeats along the columns with a period of `lanes`
columns (a multiple of the channels, channels last), so the loops see plain vectors of `lanes`
values. Each function works on the columns of one *span* of tiles and lets go of the interpreter
lock; `functional.spans` runs spans side by side. Sums over a span are made in an order that
depends on neither threads nor machine load: results are repeatable to the bit.

LLVM makes vector code of a loop only if it can tell its arrays apart with few comparisons of their
addresses: loops are short, write one or two arrays, and none writes into an array that another
argument may be. A row without a known distance between its values is not vectorised either.

No product is fused with a sum, so states are those of the torch loops in `functional.dynamics`,
which define them; `tests/unit/nn/test_fused.py` compares.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
Int32Array = npt.NDArray[np.int32]

TRIANGULAR: Final = 0
RECTANGULAR: Final = 1
TANH: Final = 2
TANH_PRINTED: Final = 3
EXPONENTIAL: Final = 4
GRADED: Final = 5
"""How `slopes` names the surrogates; GRADED is `Exponential.graded_derivative`."""

_LOG2_E: Final = np.float32(math.log2(math.e))
_LN_2_HIGH: Final = np.float32(0.693359375)
_LN_2_LOW: Final = np.float32(math.log(2) - 0.693359375)
_ONE: Final = np.float32(1)
_ZERO: Final = np.float32(0)


@njit(cache=True, nogil=True)
def exponentials(values: Float32Array, bits: Int32Array) -> None:
    """Replace values by exp(value), in place; for values of at most 0, those below -87 give 0.

    exp(x) = 2**n · exp(r), |r| <= ln(2) / 2, by the power series to r**7: within 2 units in the
    last place of float32. Written out because only loops without calls become vector code.

    Args:
        values: (m,) float32.
        bits: (m,) int32, scratch.
    """
    for i in range(values.size):
        x = max(values[i], np.float32(-88))
        n = np.floor(x * _LOG2_E + np.float32(0.5))
        r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
        p = np.float32(1 / 5040)
        p = p * r + np.float32(1 / 720)
        p = p * r + np.float32(1 / 120)
        p = p * r + np.float32(1 / 24)
        p = p * r + np.float32(1 / 6)
        p = p * r + np.float32(0.5)
        p = p * r + _ONE
        values[i] = p * r + _ONE
        bits[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    powers = bits.view(np.float32)
    for i in range(values.size):
        values[i] *= powers[i]


@njit(cache=True, nogil=True)
def slopes(
    membranes: Float32Array,
    threshold: np.float32,
    kind: int,
    height: np.float32,
    width: np.float32,
    result: Float32Array,
    bits: Int32Array,
) -> None:
    """Return the surrogate's h(u); `neurodeploy.nn.functional.surrogate` has the formulas.

    Args:
        membranes: (m,) float32, u.
        threshold: V_th.
        kind: One of the constants above.
        height: Value at threshold.
        width: RECTANGULAR: half its width; TANH: the slope; EXPONENTIAL, GRADED: 1 / τρ.
        result: (m,) float32, h(u).
        bits: (m,) int32, scratch.
    """
    if kind == TRIANGULAR:
        for i in range(membranes.size):
            distance = abs(membranes[i] / threshold - _ONE)
            result[i] = height * max(_ONE - distance, _ZERO)
    elif kind == RECTANGULAR:
        for i in range(membranes.size):
            result[i] = height if abs(membranes[i] - threshold) < width else _ZERO
    elif kind == TANH:
        for i in range(membranes.size):
            result[i] = np.float32(-2) * abs((membranes[i] - threshold) * width)
        exponentials(result, bits)
        for i in range(membranes.size):
            share = _ONE / (_ONE + result[i])
            result[i] = np.float32(4) * height * result[i] * share * share
    elif kind == TANH_PRINTED:
        for i in range(membranes.size):
            result[i] = np.float32(-2) * abs(membranes[i] - threshold)
        exponentials(result, bits)
        for i in range(membranes.size):
            # 1 - tanh(z) is 2e / (1 + e) above and 2 / (1 + e) below, e = exp(-2 |z|).
            top = result[i] if membranes[i] > threshold else _ONE
            once = np.float32(2) * top / (_ONE + result[i])
            result[i] = height * once * once
    else:
        for i in range(membranes.size):
            distance = membranes[i] - threshold
            if kind == GRADED:
                result[i] = min(distance, _ZERO) * width
            else:
                result[i] = -abs(distance) * width
        exponentials(result, bits)
        for i in range(membranes.size):
            result[i] *= height


@njit(cache=True, nogil=True)
def sum_span(
    inputs: Float32Array, start: int, stop: int, centre: Float32Array, sums: Float64Array
) -> None:
    """Add up inputs and their squares, around a centre.

    Args:
        inputs: (T, M) float32.
        start: First column, a multiple of the lanes.
        stop: Column after the last.
        centre: (lanes,) float32, a value near the mean, so that squares do not cancel.
        sums: (2, lanes) float64: of x - centre, and of its square; overwritten.
    """
    lanes = centre.size
    first, second = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    sums[:] = 0
    added = 0
    for step in range(inputs.shape[0]):
        for begin in range(start, stop, lanes):
            row = inputs[step, begin : min(begin + lanes, stop)]
            for i in range(row.size):
                x = row[i] - centre[i]
                first[i] += x
                second[i] += x * x
            added += 1
            if added == 64:  # float32 sums of few terms, float64 sums of those
                _empty(first, sums[0])
                _empty(second, sums[1])
                added = 0
        _empty(first, sums[0])  # so that equal steps add equal numbers
        _empty(second, sums[1])


@njit(cache=True, nogil=True)
def _empty(partial: Float32Array, total: Float64Array) -> None:
    for i in range(partial.size):
        total[i] += partial[i]
        partial[i] = 0


@njit(cache=True, nogil=True)
def fire_span(
    inputs: Float32Array,
    skip: Float32Array,
    start: int,
    stop: int,
    scale: Float32Array,
    shift: Float32Array,
    tau: np.float32,
    threshold: np.float32,
    spikes: Float32Array,
) -> None:
    """Run LIF neurons on scale · x + shift (+ skip).

    Args:
        inputs: (T, M) float32; (1, M) for the same input in every step.
        skip: (T, M) float32, or (0, 0) for none.
        start: First column, a multiple of the lanes.
        stop: Column after the last.
        scale: (lanes,) float32; (0,) for neurons on x itself.
        shift: (lanes,) float32; (0,) with an empty scale.
        tau: Share of the membrane that is kept.
        threshold: V_th.
        spikes: (T, M) float32, the result.
    """
    lanes = 4096 if scale.size == 0 else scale.size
    state, kept = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
    for begin in range(start, stop, lanes):
        end = min(begin + lanes, stop)
        state[:] = 0
        for step in range(spikes.shape[0]):
            row = inputs[step if inputs.shape[0] > 1 else 0, begin:end]
            other = skip[step, begin:end] if skip.shape[0] else shift[:0]
            _charge(state, row, other, scale, shift, tau, threshold, kept)
            fired = spikes[step, begin:end]
            for i in range(fired.size):
                fired[i] = _ONE if kept[i] > threshold else _ZERO


@njit(cache=True, nogil=True)
def _charge(
    state: Float32Array,
    row: Float32Array,
    skip: Float32Array,
    scale: Float32Array,
    shift: Float32Array,
    tau: np.float32,
    threshold: np.float32,
    kept: Float32Array,
) -> None:
    """Advance one tile by one step: membranes before the reset into `kept`, after it in `state`."""
    if scale.size == 0:
        for i in range(row.size):
            u = state[i] * tau + row[i]
            kept[i] = u
            state[i] = _ZERO if u > threshold else u
    elif skip.size == 0:
        for i in range(row.size):
            u = state[i] * tau + (row[i] * scale[i] + shift[i])
            kept[i] = u
            state[i] = _ZERO if u > threshold else u
    else:
        for i in range(row.size):
            kept[i] = (row[i] * scale[i] + shift[i]) + skip[i]
        for i in range(row.size):
            u = state[i] * tau + kept[i]
            kept[i] = u
            state[i] = _ZERO if u > threshold else u


@njit(cache=True, nogil=True)
def differentiate_span(
    inputs: Float32Array,
    skip: Float32Array,
    gradients: Float32Array,
    start: int,
    stop: int,
    scale: Float32Array,
    shift: Float32Array,
    mean: Float32Array,
    inverse: Float32Array,
    tau: np.float32,
    threshold: np.float32,
    has_reset_gradient: bool,
    kind: int,
    height: np.float32,
    width: np.float32,
    result: Float32Array,
    sums: Float64Array,
) -> None:
    """Go backwards through LIF neurons, up to their inputs; membranes are computed again.

    d[t] = g[t] · h + tau · d[t+1] · (1 - o[t] - u[t] · h), the last term with
    `has_reset_gradient` only; see `neurodeploy.nn.functional.dynamics.lif_spikes`.

    Args:
        inputs: As in `fire_span`.
        skip: As in `fire_span`.
        gradients: (T, M) float32, of the spikes.
        start: First column, a multiple of the lanes.
        stop: Column after the last.
        scale: (lanes,) float32; (0,) for neurons on x itself.
        shift: (lanes,) float32; (0,) with an empty scale.
        mean: (lanes,) float32, of x; (0,) with an empty scale.
        inverse: (lanes,) float32, 1 / standard deviation of x.
        tau: Share of the membrane that is kept.
        threshold: V_th.
        has_reset_gradient: Differentiate through the reset.
        kind: Surrogate; see `slopes`.
        height: See `slopes`.
        width: See `slopes`.
        result: d, (T, M) float32; with an input of one step (1, M), the sum over the steps.
        sums: (2, lanes) float64: of d, and of d · (x - mean) · inverse; overwritten.
    """
    lanes = 1024 if scale.size == 0 else scale.size
    steps = gradients.shape[0]
    membranes = np.empty((steps, lanes), np.float32)
    state, slope = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
    bits = np.empty(lanes, np.int32)
    first, second = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    sums[:] = 0
    is_static = inputs.shape[0] == 1
    added = 0
    for begin in range(start, stop, lanes):
        end = min(begin + lanes, stop)
        size = end - begin
        state[:] = 0
        for step in range(steps):
            row = inputs[0 if is_static else step, begin:end]
            other = skip[step, begin:end] if skip.shape[0] else shift[:0]
            _charge(state, row, other, scale, shift, tau, threshold, membranes[step])
        state[:] = 0
        for back in range(steps):
            step = steps - 1 - back
            kept, grad = membranes[step, :size], gradients[step, begin:end]
            slopes(kept, threshold, kind, height, width, slope[:size], bits[:size])
            target = result[0 if is_static else step, begin:end]
            reset = tau if has_reset_gradient else _ZERO
            for i in range(size):
                passed = _ZERO if kept[i] > threshold else tau
                state[i] = slope[i] * grad[i] + (passed - reset * (kept[i] * slope[i])) * state[i]
            if is_static and back:
                for i in range(size):
                    target[i] += state[i]
            else:
                for i in range(size):
                    target[i] = state[i]
            if scale.size:
                row = inputs[0 if is_static else step, begin:end]
                for i in range(size):
                    first[i] += state[i]
                for i in range(size):
                    second[i] += state[i] * ((row[i] - mean[i]) * inverse[i])
        added += steps
        if added >= 64 and scale.size:
            _empty(first, sums[0])
            _empty(second, sums[1])
            added = 0
    if scale.size:
        _empty(first, sums[0])
        _empty(second, sums[1])


@njit(cache=True, nogil=True)
def normalize_back_span(
    inputs: Float32Array,
    gradients: Float32Array,
    start: int,
    stop: int,
    of_gradient: Float32Array,
    of_input: Float32Array,
    constant: Float32Array,
    result: Float32Array,
) -> None:
    """Return of_gradient · d + of_input · x + constant: the gradient through batch statistics.

    Args:
        inputs: (T, M) float32, x.
        gradients: (T, M) float32, d; may be `result`.
        start: First column, a multiple of the lanes.
        stop: Column after the last.
        of_gradient: (lanes,) float32.
        of_input: (lanes,) float32.
        constant: (lanes,) float32.
        result: (T, M) float32.
    """
    lanes = constant.size
    tile = np.empty(lanes, np.float32)
    for step in range(inputs.shape[0]):
        for begin in range(start, stop, lanes):
            end = min(begin + lanes, stop)
            x, d, target = (
                inputs[step, begin:end],
                gradients[step, begin:end],
                result[step, begin:end],
            )
            for i in range(x.size):
                tile[i] = of_gradient[i] * d[i] + of_input[i] * x[i] + constant[i]
            for i in range(x.size):
                target[i] = tile[i]


@njit(cache=True, nogil=True)
def cuba_span(
    inputs: Float32Array,
    start: int,
    stop: int,
    current_keep: Float64Array,
    voltage_keep: Float64Array,
    scale: np.float32,
    is_power_of_two: bool,
    level: float,
    is_graded: bool,
    current: Int32Array,
    voltage: Int32Array,
    spikes: Float32Array,
    voltages: Float32Array,
    currents: Float32Array,
) -> None:
    """Run CUBA neurons; see `neurodeploy.nn.functional.dynamics` for the equations.

    States are whole numbers in float64: products with a share of 4096 are exact there up to
    2**41, and truncation is one instruction for a vector of them.

    Args:
        inputs: (T, M) float32, SLAYER units.
        start: First column.
        stop: Column after the last.
        current_keep: (1,) or (M,) float64, 1 - decay / 4096.
        voltage_keep: The same.
        scale: S.
        is_power_of_two: Whether S is; else the current is handed over in float32.
        level: A neuron spikes when V > level.
        is_graded: Emit the voltage instead of 1.
        current: (M,) int32, U before the first step; after the last one on return.
        voltage: (M,) int32, V after the reset, likewise.
        spikes: (T, M) float32, the result.
        voltages: (T, M) float32, V before the reset in SLAYER units, the result.
        currents: (T, M) float32, U in SLAYER units, the result; (0, 0) if not wanted.
    """
    keep_u, keep_v = np.empty(1024), np.empty(1024)
    u, v = np.empty(1024), np.empty(1024)
    inverse = _ONE / scale  # exact for a power of two
    for begin in range(start, stop, 1024):
        end = min(begin + 1024, stop)
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


@njit(cache=True, nogil=True)
def cuba_back_span(
    voltages: Float32Array,
    gradients: Float32Array,
    start: int,
    stop: int,
    current_keep: Float64Array,
    voltage_keep: Float64Array,
    threshold: np.float32,
    margin: np.float32,
    kind: int,
    height: np.float32,
    width: np.float32,
    result: Float32Array,
) -> None:
    """Go backwards through CUBA neurons whose decays are not learned.

    gv[t] = g[t] · h + a_v · gv[t+1],  gx[t] = gv[t] + a_u · gx[t+1].

    Args:
        voltages: (T, M) float32, as `cuba_span` gives them.
        gradients: (T, M) float32, of the spikes.
        start: First column.
        stop: Column after the last.
        current_keep: (1,) or (M,) float64, a_u.
        voltage_keep: The same, a_v.
        threshold: In SLAYER units.
        margin: Taken off the voltage before the surrogate.
        kind: Surrogate; see `slopes`.
        height: See `slopes`.
        width: See `slopes`.
        result: gx, (T, M) float32.
    """
    keep_u, keep_v = np.empty(1024, np.float32), np.empty(1024, np.float32)
    into_v, into_u = np.empty(1024, np.float32), np.empty(1024, np.float32)
    centred, slope = np.empty(1024, np.float32), np.empty(1024, np.float32)
    bits = np.empty(1024, np.int32)
    for begin in range(start, stop, 1024):
        end = min(begin + 1024, stop)
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
            slopes(centred[:size], threshold, kind, height, width, slope[:size], bits[:size])
            for i in range(size):
                into_v[i] = slope[i] * g[i] + keep_v[i] * into_v[i]
                into_u[i] = into_v[i] + keep_u[i] * into_u[i]
                target[i] = into_u[i]
