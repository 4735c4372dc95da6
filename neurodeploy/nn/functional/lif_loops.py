"""Compiled loops of LIF neurons behind a batch norm, over all steps, on NumPy arrays.

Every array is float32 and C-contiguous, time first: (T, M), one column a neuron of the batch.
What differs from channel to channel repeats along the columns with a period of `lanes` columns (a
multiple of the channels, channels last), so the loops see plain vectors of `lanes` values. Each
function works on a *share* of spans of tiles and lets go of the interpreter lock;
`functional.parallel` runs shares side by side. Sums over a span are made in an order that depends
on neither threads nor machine load: results are repeatable to the bit.

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
from neurodeploy.nn.functional.parallel import TILE, Share, run_shares, spans_of
from neurodeploy.nn.functional.surrogate import Float32Array, Slope, slopes

Float64Array = npt.NDArray[np.float64]

_NOTHING: Final = np.zeros(0, np.float32)

_FILES: Final = (__file__, lif_vectors.__file__, llvm_vectors.__file__, surrogates.__file__)
_kernel = compiled(source_key(map(Path, _FILES)))


class Lif(NamedTuple):
    """LIF neurons with a surrogate.

    Attributes:
        numbers: (5,) float32: share of the membrane that is kept, V_th, the share that the gradient
            through the reset has (that of the membrane, or 0), height and width of the surrogate.
        kind: That of the surrogate's `Slope`.
    """

    numbers: Float32Array
    kind: int

    @classmethod
    def of(cls, tau: float, threshold: float, slope: Slope, *, has_reset_gradient: bool) -> Lif:
        """Return neurons as compiled loops read them."""
        reset = tau if has_reset_gradient else 0.0
        numbers = np.array([tau, threshold, reset, slope.height, slope.width], np.float32)
        return cls(numbers, slope.kind)


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
def sum_spans(inputs: Float32Array, share: Share, centre: Float32Array, sums: Float64Array) -> None:
    """Add up inputs (T, M) and their squares around `centre`, (lanes,), in sums (S, 2, lanes).

    Values near the mean as the centre keep squares from cancelling.
    """
    spans, first_span, stride = share.spans, share.first, share.stride
    lanes = centre.size
    first, second = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    for number in range(first_span, len(spans), stride):
        start, stop = spans[number, 0], spans[number, 1]
        total = sums[number]
        total[:] = 0
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
                    _empty(first, total[0])
                    _empty(second, total[1])
                    added = 0
            _empty(first, total[0])  # so that equal steps add equal numbers
            _empty(second, total[1])


@_kernel
def _empty(partial: Float32Array, total: Float64Array) -> None:
    for i in range(partial.size):
        total[i] += partial[i]
        partial[i] = 0


@_kernel
def fire_spans(currents: Currents, share: Share, neurons: Lif, spikes: Float32Array) -> None:
    """Run LIF neurons of spans, which start at multiples of the lanes, into spikes (T, M)."""
    inputs, skip, scale, shift = currents.inputs, currents.skip, currents.scale, currents.shift
    spans, first, stride = share.spans, share.first, share.stride
    tau, threshold = neurons.numbers[0], neurons.numbers[1]
    steps, columns = spikes.shape
    pitch = columns if inputs.shape[0] > 1 else 0
    skip_pitch = columns if skip.shape[0] > 1 else 0
    lanes = scale.size
    for number in range(first, len(spans), stride):
        stop = spans[number, 1]
        for begin in range(spans[number, 0], stop, lanes):
            end = min(begin + lanes, stop)
            skip_begin = begin if skip.shape[1] > lanes else 0
            at = begin
            while at < end:
                is_wide, lane = at + WIDE <= end, at - begin
                fire(
                    inputs, at, pitch, skip, skip_begin + lane, skip_pitch, scale, shift, lane,
                    tau, threshold, steps, spikes, at, columns, is_wide,
                )  # fmt: skip
                at += WIDE if is_wide else 1


@_kernel
def differentiate_spans(
    currents: Currents,
    gradients: Float32Array,
    share: Share,
    neurons: Lif,
    result: Float32Array,
    sums: Float64Array,
) -> None:
    """Go backwards through LIF neurons, up to their inputs; membranes are computed again.

    d[t] = g[t] · h + tau · d[t+1] · (1 - o[t] - u[t] · h), the last term with
    `has_reset_gradient` only; see `neurodeploy.nn.functional.dynamics.lif_spikes`.

    `gradients` g, of the spikes, are (T, M); the result d too, or with an input of one step (1, M)
    the sum over the steps. With a mean, sums[span], (2, lanes), become those of d and
    of d · (x - mean) · inverse.
    """
    inputs, skip, scale, shift = currents.inputs, currents.skip, currents.scale, currents.shift
    mean, inverse = currents.mean, currents.inverse
    spans, first_span, stride = share.spans, share.first, share.stride
    numbers = neurons.numbers
    tau, threshold, reset = numbers[0], numbers[1], numbers[2]
    surrogate = Slope(neurons.kind, numbers[3], numbers[4])
    steps, columns = gradients.shape
    pitch = columns if inputs.shape[0] > 1 else 0
    skip_pitch = columns if skip.shape[0] > 1 else 0
    lanes = scale.size
    # Of a block of columns, all steps' membranes and slopes stay in the first-level cache.
    block = max(1, min(4, 4096 // (steps * WIDE))) * WIDE
    membranes, slope = np.empty(steps * block, np.float32), np.empty(steps * block, np.float32)
    bits = np.empty(steps * block, np.int32)
    first, second = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    for number in range(first_span, len(spans), stride):
        limit = spans[number, 1]
        added = 0
        if mean.size:
            sums[number] = 0
        for begin in range(spans[number, 0], limit, lanes):
            end = min(begin + lanes, limit)
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
                _empty(first, sums[number, 0])
                _empty(second, sums[number, 1])
                added = 0
        if mean.size:
            _empty(first, sums[number, 0])
            _empty(second, sums[number, 1])


@_kernel
def normalize_back_spans(
    inputs: Float32Array,
    gradients: Float32Array,
    share: Share,
    factors: Float32Array,
    result: Float32Array,
) -> None:
    """Write of_gradient · d + of_input · x + constant: the gradient through batch statistics.

    The factors are (3, lanes), `inputs` x, `gradients` d and `result` (T, M), all float32;
    `gradients` may be `result`.
    """
    spans, first, stride = share.spans, share.first, share.stride
    of_gradient, of_input, constant = factors[0], factors[1], factors[2]
    lanes = constant.size
    tile = np.empty(lanes, np.float32)
    for number in range(first, len(spans), stride):
        stop = spans[number, 1]
        for step in range(inputs.shape[0]):
            for begin in range(spans[number, 0], stop, lanes):
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


@_kernel
def average_spans(sums: Float64Array, inputs: Float32Array, moments: Float64Array) -> None:
    """Make mean and biased variance, moments (2, C), of what `sum_spans` added up, (S, 2, lanes).

    `inputs` (T, M) are those, around the first of which the sums were taken.
    """
    channels = moments.shape[1]
    add_spans(sums, moments)
    count = inputs.size // channels
    for channel in range(channels):
        offset = moments[0, channel] / count
        moments[0, channel] = inputs[0, channel] + offset
        moments[1, channel] = max(moments[1, channel] / count - offset * offset, 0.0)


@_kernel
def add_spans(sums: Float64Array, totals: Float64Array) -> None:
    """Add up sums (S, 2, lanes) of all spans to totals (2, C); channels repeat along lanes."""
    channels = totals.shape[1]
    totals[:] = 0
    for number in range(sums.shape[0]):
        for kind in range(2):
            for begin in range(0, sums.shape[2], channels):
                for channel in range(channels):
                    totals[kind, channel] += sums[number, kind, begin + channel]


@_kernel
def prepare_forward(
    moments: Float64Array,
    inverses: Float64Array,
    affine: tuple[Float32Array, Float32Array],
    numbers: Float64Array,
    running: tuple[Float32Array, Float32Array],
    vectors: Float32Array,
) -> None:
    """Make the vectors of `Currents`, scale, shift, mean and inverse, (4, lanes).

    `moments` (2, C) are mean and biased variance, `inverses` (C,) 1 / standard deviation, `affine`
    gamma and beta. `numbers` are the momentum of running statistics and the values of a channel;
    with a momentum above 0 the statistics are brought up to date, as torch does it.
    """
    gamma, beta = affine
    running_mean, running_variance = running
    momentum, size = numbers[0], numbers[1]
    for channel in range(gamma.size):
        mean, variance = moments[0, channel], moments[1, channel]
        if momentum > 0:
            unbiased = variance * (size / max(size - 1, 1.0))
            running_mean[channel] += momentum * (mean - running_mean[channel])
            running_variance[channel] += momentum * (unbiased - running_variance[channel])
        inverse = inverses[channel]
        scale = gamma[channel] * inverse
        shift = beta[channel] - mean * scale
        for lane in range(channel, vectors.shape[1], gamma.size):
            vectors[0, lane] = scale
            vectors[1, lane] = shift
            vectors[2, lane] = mean
            vectors[3, lane] = inverse


@_kernel
def prepare_backward(
    totals: Float64Array,
    gamma: Float32Array,
    vectors: Float32Array,
    share: Float64Array,
    factors: Float32Array,
) -> None:
    """Make the factors (3, lanes) of `normalize_back_spans`.

    With batch statistics, dz = scale · (d - mean(d) - z_hat · mean(d · z_hat)), where one z for all
    steps receives T times each mean.

    Args:
        totals: (2, C), over all processes the sums of d and of d · z_hat.
        gamma: (C,).
        vectors: Of `prepare_forward`.
        share: (1,), what a sum is multiplied with to make a mean; 0 for constant statistics.
        factors: (3, lanes), of d, of z, and a constant.
    """
    for channel in range(gamma.size):
        mean, inverse = np.float64(vectors[2, channel]), np.float64(vectors[3, channel])
        scale = gamma[channel] * inverse
        of_input = -scale * share[0] * totals[1, channel] * inverse
        constant = -scale * share[0] * totals[0, channel] - of_input * mean
        for lane in range(channel, factors.shape[1], gamma.size):
            factors[0, lane] = scale
            factors[1, lane] = of_input
            factors[2, lane] = constant


class LifRows(torch.autograd.Function):
    """The paper's LIF on rows (T, M); keeps its inputs and computes the membranes again."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, neurons: Lif) -> Tensor:
        """Return spikes (T, M)."""
        inputs = inputs.contiguous()
        spikes = torch.empty_like(inputs)
        currents, fired = Currents(inputs.detach().numpy()), spikes.numpy()
        run_shares(
            spans_of(*inputs.shape, TILE),
            inputs.shape[0],
            lambda share: fire_spans(currents, share, neurons, fired),
        )
        ctx.neurons = neurons
        ctx.save_for_backward(inputs)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the inputs, (T, M)."""
        (inputs,) = ctx.saved_tensors
        neurons: Lif = ctx.neurons
        result, unused = torch.empty_like(inputs), np.empty((0, 2, 0))
        currents = Currents(inputs.detach().numpy())
        upstream, into = grad.contiguous().numpy(), result.numpy()
        run_shares(
            spans_of(*inputs.shape, TILE),
            inputs.shape[0],
            lambda share: differentiate_spans(currents, upstream, share, neurons, into, unused),
        )
        return result, None
