"""Compiled loops of LIF neurons behind a batch norm, over all steps, on NumPy arrays.

Every array is float32 and C-contiguous, time first: (T, M), one column a neuron of the batch.
What differs from channel to channel repeats along the columns with a period of `lanes` columns (a
multiple of the channels, channels last), so the loops see plain vectors of `lanes` values. Each
function works on the columns of one *span* of tiles and lets go of the interpreter lock;
`functional.parallel` runs spans side by side. Sums over a span are made in an order that depends on
neither threads nor machine load: results are repeatable to the bit.

Neurons are run by `lif_vectors`. Of the other loops LLVM makes vector code by itself, but only if
it can tell their arrays apart with few comparisons of addresses: they are short, write one or two
arrays, and none writes into an array that another argument may be. A row without a known distance
between its values is not vectorised either.

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

from neurodeploy import llvm_vectors
from neurodeploy.compiled_code import compiled, source_key
from neurodeploy.nn.functional import lif_vectors, surrogate as surrogates
from neurodeploy.nn.functional.lif_vectors import WIDE, charge, differentiate, fire
from neurodeploy.nn.functional.parallel import TILE, Span, run_tiles
from neurodeploy.nn.functional.surrogate import Float32Array, Slope, slopes

Float64Array = npt.NDArray[np.float64]

_ZERO: Final = np.float32(0)
_NOTHING: Final = np.zeros(0, np.float32)

_FILES: Final = (__file__, lif_vectors.__file__, llvm_vectors.__file__, surrogates.__file__)
_kernel = compiled(source_key(map(Path, _FILES)))


class Lif(NamedTuple):
    """Share of the membrane that is kept, V_th, and whether gradients flow through the reset."""

    tau: np.float32
    threshold: np.float32
    has_reset_gradient: bool


class Currents(NamedTuple):
    """The currents of neurons, scale · inputs + shift + skip; unless told, the inputs themselves.

    Attributes:
        inputs: (T, M) float32; (1, M) for the same input in every step.
        skip: (T, M) float32; (1, lanes) for the same in every step and tile.
        scale: (lanes,) float32.
        shift: (lanes,) float32.
        mean: (lanes,) float32, of the inputs; (0,) without a norm.
        inverse: (lanes,) float32, 1 / standard deviation of the inputs; (0,) without a norm.
    """

    inputs: Float32Array
    skip: Float32Array = np.zeros((1, TILE), np.float32)
    scale: Float32Array = np.ones(TILE, np.float32)
    shift: Float32Array = np.zeros(TILE, np.float32)
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
    steps, columns = spikes.shape
    pitch = columns if inputs.shape[0] > 1 else 0
    skip_pitch = columns if skip.shape[0] > 1 else 0
    lanes = scale.size
    for begin in range(span[0], span[1], lanes):
        end = min(begin + lanes, span[1])
        skip_begin = begin if skip.shape[1] > lanes else 0
        at = begin
        while at < end:
            is_wide, lane = at + WIDE <= end, at - begin
            fire(
                inputs, at, pitch, skip, skip_begin + lane, skip_pitch, scale, shift, lane,
                neurons.tau, neurons.threshold, steps, spikes, at, columns, is_wide,
            )  # fmt: skip
            at += WIDE if is_wide else 1


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
    the sum over the steps. With a mean, `sums` (2, lanes) become those of d and of
    d · (x - mean) · inverse.
    """
    inputs, skip, scale, shift = currents.inputs, currents.skip, currents.scale, currents.shift
    mean, inverse = currents.mean, currents.inverse
    tau, threshold = neurons.tau, neurons.threshold
    reset = tau if neurons.has_reset_gradient else _ZERO
    steps, columns = gradients.shape
    pitch = columns if inputs.shape[0] > 1 else 0
    skip_pitch = columns if skip.shape[0] > 1 else 0
    lanes = scale.size
    # Of a block of columns, all steps' membranes and slopes stay in the first-level cache.
    block = max(1, min(4, 4096 // (steps * WIDE))) * WIDE
    membranes, slope = np.empty(steps * block, np.float32), np.empty(steps * block, np.float32)
    bits = np.empty(steps * block, np.int32)
    first, second = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    sums[:] = 0
    added = 0
    for begin in range(span[0], span[1], lanes):
        end = min(begin + lanes, span[1])
        skip_begin = begin if skip.shape[1] > lanes else 0
        for start in range(begin, end, block):
            stop = min(start + block, end)
            size = stop - start
            at = start
            while at < stop:
                is_wide, lane = at + WIDE <= stop, at - begin
                charge(
                    inputs, at, pitch, skip, skip_begin + lane, skip_pitch, scale, shift, lane,
                    tau, threshold, steps, membranes, at - start, size, is_wide,
                )  # fmt: skip
                at += WIDE if is_wide else 1
            count = steps * size
            slopes(membranes[:count], threshold, surrogate, slope[:count], bits[:count])
            at = start
            while at < stop:
                is_wide = at + WIDE <= stop
                differentiate(
                    inputs, at, pitch, gradients, columns, membranes, slope, at - start, size,
                    mean, inverse, at - begin, tau, reset, threshold, steps, result, first,
                    second, is_wide, mean.size > 0,
                )  # fmt: skip
                at += WIDE if is_wide else 1
        added += steps
        if added >= 64 and mean.size:
            _empty(first, sums[0])
            _empty(second, sums[1])
            added = 0
    if mean.size:
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
