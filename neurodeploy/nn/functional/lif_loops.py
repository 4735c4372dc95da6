"""Compiled loops of LIF neurons behind a batch norm, over all steps, on NumPy arrays.

Every array is float32 and C-contiguous, time first: (T, M), one column a neuron of the batch.
What differs from channel to channel repeats along the columns with a period of `lanes` columns (a
multiple of the channels, channels last), so the loops see plain vectors of `lanes` values. Each
function works on the columns of one *span* of tiles and lets go of the interpreter lock;
`functional.parallel` runs spans side by side. Sums over a span are made in an order that depends on
neither threads nor machine load: results are repeatable to the bit.

LLVM makes vector code of a loop only if it can tell its arrays apart with few comparisons of their
addresses: loops are short, write one or two arrays, and none writes into an array that another
argument may be. A row without a known distance between its values is not vectorised either.

No product is fused with a sum, so states are those of the torch loops in `functional.dynamics`,
which define them; `tests/unit/nn/test_fused.py` compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.compiled_code import compiled, source_key
from neurodeploy.nn.functional import surrogate as surrogates
from neurodeploy.nn.functional.parallel import Span, run_tiles
from neurodeploy.nn.functional.surrogate import Float32Array, Slope, slopes

Float64Array = npt.NDArray[np.float64]

_ONE: Final = np.float32(1)
_ZERO: Final = np.float32(0)
_NOTHING: Final = np.zeros(0, np.float32)
NO_ROWS: Final = np.zeros((0, 0), np.float32)

_kernel = compiled(source_key(Path(file) for file in (__file__, surrogates.__file__)))


class Lif(NamedTuple):
    """Share of the membrane that is kept, V_th, and whether gradients flow through the reset."""

    tau: np.float32
    threshold: np.float32
    has_reset_gradient: bool


class Currents(NamedTuple):
    """The currents of neurons, scale · inputs + shift (+ skip); or the inputs themselves.

    Attributes:
        inputs: (T, M) float32; (1, M) for the same input in every step.
        skip: (T, M) float32, or (0, 0) for none.
        scale: (lanes,) float32; (0,) for neurons on the inputs themselves.
        shift: (lanes,) float32; (0,) with an empty scale.
        mean: (lanes,) float32, of the inputs; (0,) with an empty scale.
        inverse: (lanes,) float32, 1 / standard deviation of the inputs; (0,) likewise.
    """

    inputs: Float32Array
    skip: Float32Array = NO_ROWS
    scale: Float32Array = _NOTHING
    shift: Float32Array = _NOTHING
    mean: Float32Array = _NOTHING
    inverse: Float32Array = _NOTHING


@_kernel
def sum_span(inputs: Float32Array, span: Span, centre: Float32Array, sums: Float64Array) -> None:
    """Add up inputs (T, M) and their squares around `centre`, (lanes,), into sums, (2, lanes).

    Values near the mean as the centre keep squares from cancelling.
    """
    lanes = centre.size
    first, second = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    sums[:] = 0
    added = 0
    for step in range(inputs.shape[0]):
        for begin in range(span[0], span[1], lanes):
            row = inputs[step, begin : min(begin + lanes, span[1])]
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


@_kernel
def _empty(partial: Float32Array, total: Float64Array) -> None:
    for i in range(partial.size):
        total[i] += partial[i]
        partial[i] = 0


@_kernel
def fire_span(currents: Currents, span: Span, neurons: Lif, spikes: Float32Array) -> None:
    """Run LIF neurons of a span, which starts at a multiple of the lanes, into spikes (T, M)."""
    inputs, skip, scale, shift = currents.inputs, currents.skip, currents.scale, currents.shift
    tau, threshold = neurons.tau, neurons.threshold
    lanes = 4096 if scale.size == 0 else scale.size
    state, kept = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
    for begin in range(span[0], span[1], lanes):
        end = min(begin + lanes, span[1])
        state[:] = 0
        for step in range(spikes.shape[0]):
            row = inputs[step if inputs.shape[0] > 1 else 0, begin:end]
            other = skip[step, begin:end] if skip.shape[0] else shift[:0]
            _charge(state, row, other, scale, shift, tau, threshold, kept)
            fired = spikes[step, begin:end]
            for i in range(fired.size):
                fired[i] = _ONE if kept[i] > threshold else _ZERO


@_kernel
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


@_kernel
def differentiate_span(
    currents: Currents,
    gradients: Float32Array,
    span: Span,
    neurons: Lif,
    surrogate: Slope,
    result: Float32Array,
    sums: Float64Array,
) -> None:
    """Go backwards through LIF neurons, up to their inputs; membranes are computed again.

    d[t] = g[t] · h + tau · d[t+1] · (1 - o[t] - u[t] · h), the last term with
    `has_reset_gradient` only; see `neurodeploy.nn.functional.dynamics.lif_spikes`.

    `gradients` g, of the spikes, are (T, M); the result d too, or with an input of one step (1, M)
    the sum over the steps. `sums` (2, lanes) become those of d and of d · (x - mean) · inverse.
    """
    inputs, skip, scale, shift = currents.inputs, currents.skip, currents.scale, currents.shift
    mean, inverse = currents.mean, currents.inverse
    tau, threshold = neurons.tau, neurons.threshold
    reset = tau if neurons.has_reset_gradient else _ZERO
    lanes = 1024 if scale.size == 0 else scale.size
    steps = gradients.shape[0]
    membranes = np.empty((steps, lanes), np.float32)
    state, slope = np.empty(lanes, np.float32), np.empty(lanes, np.float32)
    bits = np.empty(lanes, np.int32)
    first, second = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    sums[:] = 0
    is_static = inputs.shape[0] == 1
    added = 0
    for begin in range(span[0], span[1], lanes):
        end = min(begin + lanes, span[1])
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
            slopes(kept, threshold, surrogate, slope[:size], bits[:size])
            target = result[0 if is_static else step, begin:end]
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


@_kernel
def normalize_back_span(
    inputs: Float32Array,
    gradients: Float32Array,
    span: Span,
    of_gradient: Float32Array,
    of_input: Float32Array,
    constant: Float32Array,
    result: Float32Array,
) -> None:
    """Write of_gradient · d + of_input · x + constant: the gradient through batch statistics.

    The three factors are (lanes,), `inputs` x, `gradients` d and `result` (T, M), all float32;
    `gradients` may be `result`.
    """
    lanes = constant.size
    tile = np.empty(lanes, np.float32)
    for step in range(inputs.shape[0]):
        for begin in range(span[0], span[1], lanes):
            end = min(begin + lanes, span[1])
            x, d, target = (
                inputs[step, begin:end],
                gradients[step, begin:end],
                result[step, begin:end],
            )
            for i in range(x.size):
                tile[i] = of_gradient[i] * d[i] + of_input[i] * x[i] + constant[i]
            for i in range(x.size):
                target[i] = tile[i]


class LifRows(torch.autograd.Function):
    """The paper's LIF on rows (T, M); keeps its inputs and computes the membranes again."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, neurons: Lif, surrogate: Slope) -> Tensor:
        """Return spikes (T, M)."""
        inputs = inputs.contiguous()
        spikes = torch.empty_like(inputs)
        currents, fired = Currents(inputs.detach().numpy()), spikes.numpy()
        run_tiles(inputs.shape, lambda span: fire_span(currents, span, neurons, fired))
        ctx.neurons, ctx.surrogate = neurons, surrogate
        ctx.save_for_backward(inputs)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the inputs, (T, M)."""
        (inputs,) = ctx.saved_tensors
        neurons, surrogate = ctx.neurons, ctx.surrogate
        result, unused = torch.empty_like(inputs), np.empty((2, 0))
        currents = Currents(inputs.detach().numpy())
        upstream, into = grad.contiguous().numpy(), result.numpy()
        run_tiles(
            inputs.shape,
            lambda span: differentiate_span(
                currents, upstream, span, neurons, surrogate, into, unused
            ),
        )
        return result, None, None
