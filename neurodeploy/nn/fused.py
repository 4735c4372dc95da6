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

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodeploy.nn.batch_norm import (
    add_over_processes,
    batch_normalized,
    process_count,
    update_running,
)
from neurodeploy.nn.functional.lif_loops import (
    Currents,
    Float64Array,
    Lif,
    differentiate_span,
    fire_span,
    normalize_back_span,
    sum_span,
)
from neurodeploy.nn.functional.parallel import Span, cut_spans, is_compilable, lanes_of, run_spans
from neurodeploy.nn.functional.rows import Rows, at_least_float32
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
    channels_last = (0, 1, *range(3, z.dim()), 2)
    rows = Rows(channels_last, tuple(z.shape[axis] for axis in channels_last))
    neuron.shape = z.shape[2:]
    flat = rows.flatten(z)
    other = None if skip is None else rows.flatten(skip)
    plan = _Plan.of(norm, neuron, steps=steps, columns=flat.shape[1])
    spikes: Tensor = _NormalizedSpikes.apply(flat, norm.weight, norm.bias, other, plan)
    return Rows(channels_last, (steps, *rows.sizes[1:])).restore(spikes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """Everything about one call that is not a tensor to differentiate."""

    norm: nn.BatchNorm1d | nn.BatchNorm2d
    neurons: Lif
    surrogate: Slope
    steps: int
    channels: int
    lanes: int
    spans: list[Span]

    @classmethod
    def of(
        cls, norm: nn.BatchNorm1d | nn.BatchNorm2d, neuron: LIF, *, steps: int, columns: int
    ) -> _Plan:
        surrogate = Slope.of(neuron.surrogate, neuron.threshold)
        assert surrogate is not None  # `is_fusable` looked
        lanes = lanes_of(norm.num_features)
        return cls(
            norm=norm,
            neurons=Lif(
                np.float32(neuron.tau), np.float32(neuron.threshold), neuron.reset_gradient
            ),
            surrogate=surrogate,
            steps=steps,
            channels=norm.num_features,
            lanes=lanes,
            spans=cut_spans(steps, columns, lanes),
        )

    @property
    def no_skip(self) -> Float32Array:
        """Zeros, (1, lanes): the skip of `Currents` where there is none."""
        return np.zeros((1, self.lanes), np.float32)

    def spread(self, values: npt.NDArray[np.float64]) -> Float32Array:
        """Repeat one value a channel over the lanes."""
        spread = np.empty((self.lanes // self.channels, self.channels), np.float32)
        spread[:] = values
        return spread.reshape(-1)

    def gather(self, sums: Float64Array) -> Float64Array:
        """Add up (spans, 2, lanes) to (2, channels)."""
        gathered: Float64Array = sums.sum(0).reshape(2, -1, self.channels).sum(1)
        return gathered


def _moments(z: Float32Array, plan: _Plan) -> tuple[Float64Array, Float64Array, float]:
    """Return mean and biased variance of each channel, and how many values are behind them.

    A z of one step stands for equal steps, which change neither mean nor variance.
    """
    centre = np.tile(z[0, : plan.channels], plan.lanes // plan.channels)
    sums = np.empty((len(plan.spans), 2, plan.lanes))
    run_spans(
        plan.spans,
        lambda number, span: sum_span(z, span, centre, sums[number]),
    )
    count = float(z.size // plan.channels)
    first, second = plan.gather(sums) / count
    mean, variance = first + centre[: plan.channels], np.maximum(second - first**2, 0.0)
    if process_count() > 1:
        # Each process has its own centre: what adds up are means and squares around the joint one.
        total, size = np.split(add_over_processes(np.append(mean * count, count)), [-1])
        joint = total / size
        squares = add_over_processes((variance + (mean - joint) ** 2) * count)
        mean, variance, count = joint, squares / size, float(size[0])
    return mean, variance, count * (plan.steps // z.shape[0])


class _NormalizedSpikes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, weight: Tensor, bias: Tensor, skip: Tensor | None, plan: _Plan
    ) -> Tensor:
        norm, inputs = plan.norm, z.detach().numpy()
        if norm.training:
            mean, variance, size = _moments(inputs, plan)
            update_running(
                norm,
                torch.from_numpy(mean),
                torch.from_numpy(variance),
                size=size,
            )
        else:
            size = 0.0
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean = norm.running_mean.double().numpy()
            variance = norm.running_var.double().numpy()
        inverse = 1 / np.sqrt(variance + norm.eps)
        gamma = weight.detach().double().numpy()
        scale = gamma * inverse
        currents = Currents(
            inputs=inputs,
            skip=plan.no_skip if skip is None else skip.detach().numpy(),
            scale=plan.spread(scale),
            shift=plan.spread(bias.detach().double().numpy() - mean * scale),
            mean=plan.spread(mean),
            inverse=plan.spread(inverse),
        )
        spikes = torch.empty(plan.steps, inputs.shape[1])
        fired = spikes.numpy()
        run_spans(plan.spans, lambda _, span: fire_span(currents, span, plan.neurons, fired))
        # Without the arrays that `save_for_backward` guards against changes in place.
        ctx.plan, ctx.size, ctx.is_training = plan, size, norm.training
        ctx.vectors = currents[2:]
        ctx.save_for_backward(z, weight, skip)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, skip = ctx.saved_tensors
        plan: _Plan = ctx.plan
        inputs, upstream = z.detach().numpy(), grad.contiguous().numpy()
        other = plan.no_skip if skip is None else skip.detach().numpy()
        currents = Currents(inputs, other, *ctx.vectors)
        drive = torch.empty_like(z)
        into = drive.numpy()
        sums = np.empty((len(plan.spans), 2, plan.lanes))
        run_spans(
            plan.spans,
            lambda number, span: differentiate_span(
                currents, upstream, span, plan.neurons, plan.surrogate, into, sums[number]
            ),
        )
        of_bias, of_weight = plan.gather(sums)
        of_inputs = torch.empty_like(z) if skip is not None else drive
        mean = currents.mean[: plan.channels].astype(np.float64)
        inverse = currents.inverse[: plan.channels].astype(np.float64)
        scale = weight.detach().double().numpy() * inverse
        of_input, constant = np.zeros_like(scale), np.zeros_like(scale)
        if ctx.is_training:
            # Batch statistics: dz = scale · (d - mean(d) - z_hat · mean(d · z_hat)), where one z
            # for all steps receives T times each mean.
            share = scale / ctx.size * (plan.steps // inputs.shape[0])
            all_bias, all_weight = add_over_processes(np.stack([of_bias, of_weight]))
            of_input = -share * all_weight * inverse
            constant = -share * all_bias - of_input * mean
        spread = plan.spread(scale), plan.spread(of_input), plan.spread(constant)
        target = of_inputs.numpy()
        run_spans(
            plan.spans,
            lambda _, span: normalize_back_span(inputs, into, span, *spread, target),
        )
        return (
            of_inputs,
            torch.from_numpy(of_weight).float(),
            torch.from_numpy(of_bias).float(),
            drive if skip is not None else None,
            None,
        )
