"""Batch norm and LIF neurons over all steps as one differentiable function on the CPU.

The weighted sums z are read where the convolution left them, channels last, and nothing but z is
kept for the backward pass: normalised currents and membranes are computed again, tile by tile,
in the first-level cache. Between z and the spikes there is no other tensor.

    forward    statistics of z (one pass), spikes (one pass)
    backward   gradient of the currents and its sums (one pass), gradient of z (one pass)

`is_fusable` says what is computed so; the rest goes through torch's batch norm and
`neurodeploy.nn.functional.dynamics`, with the same meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurodeploy.nn.batch_norm import (
    add_over_processes,
    batch_normalized,
    process_count,
)
from neurodeploy.nn.functional.lif_loops import (
    Currents,
    Float64Array,
    Lif,
    add_spans,
    average_spans,
    differentiate_spans,
    fire_spans,
    normalize_back_spans,
    prepare_backward,
    prepare_forward,
    sum_spans,
)
from neurodeploy.nn.functional.memory_pool import reused, reused_tensor
from neurodeploy.nn.functional.parallel import (
    Int64Array,
    Share,
    is_compilable,
    lanes_of,
    run_shares,
    spans_of,
)
from neurodeploy.nn.functional.rows import Rows, at_least_float32
from neurodeploy.nn.functional.sparse.packed_spikes import pack, unpack
from neurodeploy.nn.functional.surrogate import Float32Array, Slope
from neurodeploy.nn.neuron import LIF


def normalized_spikes(
    z: Tensor,
    norm: nn.Module | None,
    neuron: nn.Module,
    *,
    steps: int | None = None,
    skip: Tensor | None = None,
) -> Tensor:
    """Return the spikes of neuron(norm(z) + skip).

    In training mode the running statistics of `norm` are brought up to date, as torch does it.
    Sums and skips of lower precision, as autocast makes them, become float32: norm and neurons
    never compute in less.

    Args:
        z: (T, N, C, ...) weighted sums; or (1, N, C, ...) for the same in every step.
        norm: Batch norm over steps, samples and space; None for none.
        neuron: Takes (T, N, C, ...) and gives spikes of that shape.
        steps: T, where z has one step; None for the steps of z.
        skip: (T, N, C, ...) current to add after the norm.

    Returns:
        (T, N, C, ...) float32.
    """
    z, skip = at_least_float32(z), None if skip is None else at_least_float32(skip)
    if is_fusable(z, norm, neuron):
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        assert isinstance(neuron, LIF)
        return _fused(z, norm, neuron, steps=z.shape[0] if steps is None else steps, skip=skip)
    z = normalized_sums(z, norm, steps=steps)
    spikes: Tensor = neuron(z if skip is None else z + skip)
    return spikes


def normalized_sums(z: Tensor, norm: nn.Module | None, *, steps: int | None = None) -> Tensor:
    """Return norm(z), (T, N, C, ...) float32; arguments as of `normalized_spikes`."""
    z = at_least_float32(z)
    steps = z.shape[0] if steps is None else steps
    if z.shape[0] != steps:
        z = torch.cat([z] * steps)
    if norm is None:
        return z
    normalized = batch_normalized(z.flatten(0, 1), norm)
    return normalized.view(steps, -1, *normalized.shape[1:])


def is_fusable(z: Tensor, norm: nn.Module | None, neuron: nn.Module) -> bool:
    """Return whether norm and neurons are computed as one function here."""
    return (
        isinstance(neuron, LIF)
        and type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d)
        and isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and is_compilable(z)
        and norm.weight.dtype == torch.float32
        and norm.running_mean is not None
        and norm.running_mean.dtype == torch.float32
        and z.shape[2] == norm.num_features
        and z.numel() > norm.num_features  # torch's own error says why one value is too few
        and Slope.of(neuron.surrogate, neuron.threshold) is not None
    )


def _fused(
    z: Tensor,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    neuron: LIF,
    *,
    steps: int,
    skip: Tensor | None,
) -> Tensor:
    if skip is not None and z.shape[0] != steps:
        z = torch.cat([z] * steps)
    neuron.shape = z.shape[2:]
    plan = _Plan.of(z, norm, neuron, steps=steps)
    words = None
    if skip is not None and plan.is_laid_out(skip):
        words = pack(skip, steps * z.shape[1])
    spikes: Tensor = _NormalizedSpikes.apply(z, norm.weight, norm.bias, skip, words, plan)
    return spikes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """Everything about one call that is not a tensor to differentiate."""

    rows: Rows
    norm: nn.BatchNorm1d | nn.BatchNorm2d
    neurons: Lif
    steps: int
    channels: int
    lanes: int
    columns: int
    spans: Int64Array

    @classmethod
    def of(
        cls, z: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d, neuron: LIF, *, steps: int
    ) -> _Plan:
        slope = Slope.of(neuron.surrogate, neuron.threshold)
        assert slope is not None  # `is_fusable` looked
        channels_last = (0, 1, *range(3, z.dim()), 2)
        lanes, columns = lanes_of(norm.num_features), z.numel() // z.shape[0]
        return cls(
            rows=Rows(channels_last, tuple([z.shape[axis] for axis in channels_last])),
            norm=norm,
            neurons=Lif.of(
                neuron.tau, neuron.threshold, slope, has_reset_gradient=neuron.reset_gradient
            ),
            steps=steps,
            channels=norm.num_features,
            lanes=lanes,
            columns=columns,
            spans=spans_of(steps, columns, lanes),
        )

    def read(self, x: Tensor) -> Float32Array:
        """Return a tensor (T, N, C, ...) as rows (T, M), channels last, copied only if need be."""
        rows = x.detach().permute(self.rows.order).reshape(x.shape[0], -1)
        read: Float32Array = rows.contiguous().numpy()
        return read

    def is_laid_out(self, x: Tensor) -> bool:
        """Return whether a tensor (T, N, C, ...) is read as rows without a copy."""
        return x.permute(self.rows.order).is_contiguous()

    def read_skip(self, skip: Tensor | None) -> Float32Array:
        """Return the skip of `Currents`; zeros where there is none."""
        return np.zeros((1, self.lanes), np.float32) if skip is None else self.read(skip)

    def unpack_skip(self, words: Tensor) -> Float32Array:
        """Return the skip of `Currents` for spikes kept as bits."""
        values = reused(self.steps * self.columns)
        unpack(words, (0, len(words)), values.reshape(len(words), -1))
        return values.reshape(self.steps, self.columns)

    def empty(self, steps: int) -> tuple[Tensor, Float32Array]:
        """Return a new tensor (T, N, C, ...), channels last, and its rows (T, M)."""
        rows = Rows(self.rows.order, (steps, *self.rows.sizes[1:]))
        made = reused_tensor(*rows.layout)
        return made, self.read(made)

    def new_sums(self) -> Float64Array:
        """Return room for the sums of every span."""
        return np.empty((len(self.spans), 2, self.lanes))

    def run(self, work: Callable[[Share], object]) -> None:
        """Call work(share) for shares of the spans, side by side."""
        run_shares(self.spans, self.steps, work)


def _moments(z: Float32Array, plan: _Plan) -> tuple[Float64Array, float]:
    """Return mean and biased variance, (2, C), and how many values of a channel are behind them.

    A z of one step stands for equal steps, which change neither mean nor variance.
    """
    centre = np.tile(z[0, : plan.channels], plan.lanes // plan.channels)
    sums, moments = plan.new_sums(), np.empty((2, plan.channels))
    plan.run(lambda share: sum_spans(z, share, centre, sums))
    average_spans(sums, z, moments)
    count = float(z.size // plan.channels)
    if process_count() > 1:
        # Each process has its own centre: what adds up are means and squares around the joint one.
        mean, variance = moments
        total, size = np.split(add_over_processes(np.append(mean * count, count)), [-1])
        joint = total / size
        squares = add_over_processes((variance + (mean - joint) ** 2) * count)
        moments, count = np.stack([joint, squares / size]), float(size[0])
    return moments, count * (plan.steps // z.shape[0])


class _NormalizedSpikes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        skip: Tensor | None,
        words: Tensor | None,
        plan: _Plan,
    ) -> Tensor:
        norm, inputs = plan.norm, plan.read(z)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        running = norm.running_mean.numpy(), norm.running_var.numpy()
        if norm.training:
            moments, size = _moments(inputs, plan)
            norm.num_batches_tracked.add_(1)
        else:
            moments, size = np.array(running, np.float64), 0.0
        vectors = np.empty((4, plan.lanes), np.float32)
        prepare_forward(
            moments,
            1 / np.sqrt(moments[1] + norm.eps),
            (weight.detach().numpy(), bias.detach().numpy()),
            np.array([norm.momentum if norm.training else 0.0, size]),
            running,
            vectors,
        )
        currents = Currents(inputs, plan.read_skip(skip), *vectors)
        spikes, fired = plan.empty(plan.steps)
        plan.run(lambda share: fire_spans(currents, share, plan.neurons, fired))
        # Without the arrays that `save_for_backward` guards against changes in place.
        ctx.plan, ctx.size, ctx.vectors = plan, size, vectors
        ctx.has_skip = skip is not None
        ctx.save_for_backward(z, weight, skip if words is None else None, words)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, skip, words = ctx.saved_tensors
        plan: _Plan = ctx.plan
        inputs, upstream, vectors = plan.read(z), plan.read(grad), ctx.vectors
        other = plan.read_skip(skip) if words is None else plan.unpack_skip(words)
        currents = Currents(inputs, other, *vectors)
        drive, into = plan.empty(len(inputs))
        sums, totals = plan.new_sums(), np.empty((2, plan.channels))
        plan.run(
            lambda share: differentiate_spans(currents, upstream, share, plan.neurons, into, sums)
        )
        add_spans(sums, totals)
        of_norm = torch.from_numpy(totals).float()
        share_of_sum = 0.0
        if ctx.size:
            totals = add_over_processes(totals)
            share_of_sum = plan.steps // len(inputs) / ctx.size
        factors = np.empty((3, plan.lanes), np.float32)
        prepare_backward(
            totals, weight.detach().numpy(), vectors, np.array([share_of_sum]), factors
        )
        of_inputs, target = plan.empty(len(inputs)) if ctx.has_skip else (drive, into)
        plan.run(lambda share: normalize_back_spans(inputs, into, share, factors, target))
        of_skip = drive if ctx.has_skip else None
        return of_inputs, of_norm[1], of_norm[0], of_skip, None, None
