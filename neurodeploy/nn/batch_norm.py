"""Batch norm of the currents: plain, threshold-dependent, and with a factor for each step.

All normalise (T · N, C, ...), steps folded into the batch, so that one mean and one variance
hold for all steps.

    bn     gamma starts at 1
    tdbn   gamma starts at alpha · V_th: normalised currents start on the scale of the threshold
    tebn   as tdbn, times a learned factor p[t] of each step, which starts at 1

Several processes that each hold a part of a batch compute the statistics of one process with the
whole batch: means and variances come from sums over all of them, and so do the sums of the backward
pass. Without `torch.distributed`, or with one process, nothing is exchanged.

Source: tdBN: Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks",
AAAI 2021; there alpha · V_th is a constant factor and gamma starts at 1, the same function at the
start. TEBN: Duan et al., "Temporal Effective Batch Normalization in Spiking Neural Networks",
NeurIPS 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

from neurodeploy.errors import GraphError
from neurodeploy.nn.functional.rows import at_least_float32
from neurodeploy.recipes.network_sections import NormKind

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def process_count() -> int:
    """Return the number of processes that train together; 1 without `torch.distributed`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def add_over_processes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sum of every process's array, any shape, float64."""
    if process_count() == 1:
        return values
    summed = torch.from_numpy(np.ascontiguousarray(values))
    distributed.all_reduce(summed)
    return summed.numpy()


def batch_normalized(x: Tensor, norm: nn.Module) -> Tensor:
    """Return norm(x) for this process's part (N, C, ...) of the batch, or any other module of x.

    Torch's batch norms with running statistics take their statistics over all processes.
    """
    x = at_least_float32(x)
    is_shared = (
        process_count() > 1
        and isinstance(norm, Norm)
        and norm.training
        and norm.track_running_stats
        and norm.momentum is not None
    )
    if is_shared:
        assert isinstance(norm, Norm)
        normalized: Tensor = _normalized_together(x, norm)
    else:
        normalized = norm(x)
    return normalized


# Compiled blocks are cut here: torch.compile cannot trace an exchange whose result is a number.
@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch declares no types for it
def _normalized_together(x: Tensor, norm: Norm) -> Tensor:
    axes = [0, *range(2, x.dim())]
    shape = (1, -1, *(1,) * (x.dim() - 2))
    local = x.sum(axes)
    count = torch.full_like(local[:1], x.numel() / x.shape[1])
    totals = _SumOverProcesses.apply(torch.cat([local, count]))
    mean, size = totals[:-1] / totals[-1], float(totals[-1].detach())
    centred = x - mean.view(shape)
    variance = _SumOverProcesses.apply(centred.square().sum(axes)) / size
    update_running(norm, mean.detach(), variance.detach(), size=size)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    result: Tensor = centred * scale.view(shape) + norm.bias.view(shape)
    return result


def update_running(norm: Norm, mean: Tensor, variance: Tensor, *, size: float) -> None:
    """Bring running statistics up to date, as torch does it.

    Mean and biased variance, (C,), are those of a batch with `size` values a channel; the norm has
    running statistics and a momentum.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    with torch.no_grad():
        unbiased = variance * (size / max(size - 1, 1))
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
        norm.num_batches_tracked.add_(1)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        summed = grad.clone()
        distributed.all_reduce(summed)
        return summed


class TemporalBatchNorm(nn.Module):
    """Batch norm over all steps, then a learned factor for each step: y[t] = p[t] · BN(x)[t].

    A chip has one weight for all steps, so that only equal factors can be folded into it.

    Attributes:
        factors: Parameter p, (T,).
    """

    def __init__(self, norm: Norm, steps: int) -> None:
        super().__init__()
        self.norm = norm
        self.factors = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        """Return (T · N, C, ...) for the same; GraphError if T does not divide its first axis."""
        steps = len(self.factors)
        if x.shape[0] % steps:
            raise GraphError(
                f"TemporalBatchNorm: {x.shape[0]} steps times samples, a multiple of {steps} "
                "steps is required."
            )
        normalized = batch_normalized(x, self.norm)
        scale = self.factors.repeat_interleave(x.shape[0] // steps)
        return normalized * scale.view(-1, *(1,) * (x.dim() - 1))


def make_batch_norm(
    kind: NormKind,
    channels: int,
    *,
    is_spatial: bool,
    threshold: float,
    steps: int,
    alpha: float = 1.0,
) -> nn.Module:
    """Make the batch norm of a recipe: of kind "bn", "tdbn" or "tebn" for T `steps`.

    Currents are (T · N, C, H, W) if `is_spatial`, else (T · N, C). `alpha` is the share of the
    threshold that normalised currents start with; below 1 where several currents add up.
    """
    norm: Norm = nn.BatchNorm2d(channels) if is_spatial else nn.BatchNorm1d(channels)
    if kind == "bn":
        return norm
    nn.init.constant_(norm.weight, alpha * threshold)
    return norm if kind == "tdbn" else TemporalBatchNorm(norm, steps)


def affine_norm(module: nn.Module) -> Norm | None:
    """Return the batch norm that holds gamma and beta, or None for a module of another kind."""
    if isinstance(module, TemporalBatchNorm):
        return module.norm
    return module if isinstance(module, Norm) else None
