"""Batch statistics over all processes of a training, not of one alone.

Several processes that each hold a part of a batch compute what one process with the whole batch
would: means and variances come from sums over all of them, and so do the sums of the backward
pass. Without `torch.distributed`, or with one process, nothing is exchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def process_count() -> int:
    """Give the number of processes that train together; 1 without `torch.distributed`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def add_over_processes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the sum of every process's array, any shape, float64."""
    if process_count() == 1:
        return values
    summed = torch.from_numpy(np.ascontiguousarray(values))
    distributed.all_reduce(summed)
    return summed.numpy()


def batch_normalized(x: Tensor, norm: nn.Module) -> Tensor:
    """Give norm(x), a batch norm's statistics taken over all processes.

    Args:
        x: (N, C, ...), this process's part of the batch.
        norm: Any module; only torch's batch norms with running statistics are synchronised.

    Returns:
        Of the shape of x.
    """
    is_shared = (
        process_count() > 1
        and isinstance(norm, Norm)
        and norm.training
        and norm.track_running_stats
        and norm.momentum is not None
    )
    if not is_shared:
        normalized: Tensor = norm(x)
        return normalized
    assert isinstance(norm, Norm)
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

    Args:
        norm: Has running statistics and a momentum.
        mean: (C,) of the batch.
        variance: (C,) of the batch, biased.
        size: Values per channel that they come from.
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
