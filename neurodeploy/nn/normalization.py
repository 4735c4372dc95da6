"""Normalisation of the current and dropout of the spikes, inside a CUBA neuron.

Both act on time-first tensors (T, N, C, ...), the channel on axis 2. They go into
`neuron_params` as SLAYER's do: `norm=MeanOnlyBatchNorm`, a class, and `dropout=Dropout(0.1)`,
an instance.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/neuron/norm.py`, `dropout.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn

from neurodeploy.errors import GraphError
from neurodeploy.nn.quantizer import EightBitQuantizer
from neurodeploy.recipes.network_sections import NormKind

# Batch statistics over all processes of a training, not of one alone.
#
# Several processes that each hold a part of a batch compute what one process with the whole batch
# would: means and variances come from sums over all of them, and so do the sums of the backward
# pass. Without `torch.distributed`, or with one process, nothing is exchanged.

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
    """Return norm(x), a batch norm's statistics taken over all processes.

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


CHANNEL_AXIS = 2


def _over_channels(values: Tensor, like: Tensor) -> Tensor:
    """Shape a value a channel, or one for all, so that it broadcasts over (T, N, C, ...)."""
    return values.reshape(1, 1, -1, *(1,) * (like.dim() - 3))


class MeanOnlyBatchNorm(nn.Module):
    """Subtract the mean of each channel, quantised: c - q8(m).

    In training m is the mean over steps, samples and space, and
    running_mean <- (1 - momentum) · running_mean + momentum · m; the gradient flows through m.
    In evaluation m is the running mean. On the chip it becomes a bias of -q8(running_mean) · W.

    The float32 sum runs in another order than in the reference: a mean within rounding error of
    a quantisation boundary may fall on the other side.

    Attributes:
        running_mean: (C,) float32 buffer; (1,) before the first forward pass.
        momentum: Weight of the newest mean.
        pre_hook_fx: The quantiser, set by the neuron that owns this module; None for no rounding.
        update: False freezes the mean while training.
    """

    running_mean: Tensor

    def __init__(
        self,
        num_features: int | None = None,
        momentum: float = 0.1,
        pre_hook_fx: EightBitQuantizer | None = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.momentum = momentum
        self.pre_hook_fx = pre_hook_fx
        self.update = True
        self.register_buffer("running_mean", torch.zeros(num_features or 1))

    @property
    def bias(self) -> Tensor:
        """What the neuron's bias is on the chip: (C,) float32, even integers."""
        if self.pre_hook_fx is None:
            return -self.running_mean
        return -self.pre_hook_fx(self.running_mean, descale=True)

    def forward(self, current: Tensor) -> Tensor:
        """Normalise a current.

        Args:
            current: (T, N, C, ...) float32, SLAYER units.

        Returns:
            Tensor of the same shape.
        """
        mean = self._mean(current)
        quantized = mean if self.pre_hook_fx is None else self.pre_hook_fx(mean)
        return current - _over_channels(quantized, current)

    def _mean(self, current: Tensor) -> Tensor:
        channels = current.shape[CHANNEL_AXIS]
        if self.num_features is None:
            self.num_features = channels
        if channels != self.num_features:
            raise GraphError(
                f"{type(self).__name__}: input has {channels} channels, "
                f"{self.num_features} are required."
            )
        if not (self.training and self.update):
            return self.running_mean
        mean = current.mean(dim=[axis for axis in range(current.dim()) if axis != CHANNEL_AXIS])
        with torch.no_grad():
            self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * mean
        return mean

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take the stored shape: one value before the first forward pass, else one a channel."""
        found = state_dict.get(f"{prefix}running_mean")
        if isinstance(found, Tensor) and self.num_features in (None, found.numel()):
            self.running_mean = torch.zeros_like(found)
            if found.numel() > 1:
                self.num_features = found.numel()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class WgtScaleBatchNorm(MeanOnlyBatchNorm):
    """Subtract the quantised mean and divide by a power of two near the standard deviation.

    (c - q8(m)) / 2**k with k = ceil(log2 sqrt(var + eps)) within ±weight_exp_bits. The variance
    is one number over all channels, biased; running_var starts at 0 and takes
    momentum · var · n / (n + 1), n elements a channel.

    Attributes:
        running_var: (1,) float32 buffer.
        weight_exp_bits: Largest |k|.
        eps: Added to the variance.
    """

    running_var: Tensor

    def __init__(
        self,
        num_features: int | None = None,
        momentum: float = 0.1,
        weight_exp_bits: int = 3,
        eps: float = 1e-5,
        pre_hook_fx: EightBitQuantizer | None = None,
    ) -> None:
        super().__init__(num_features, momentum, pre_hook_fx)
        self.weight_exp_bits = weight_exp_bits
        self.eps = eps
        self.register_buffer("running_var", torch.zeros(1))

    @property
    def weight_exp(self) -> Tensor:
        """The exponent k of the running variance, *not* limited, as SLAYER exports it: (1,)."""
        return (self.running_var + self.eps).sqrt().log2().ceil()

    def forward(self, current: Tensor) -> Tensor:
        """Normalise a current; see `MeanOnlyBatchNorm.forward`."""
        centred = super().forward(current)
        variance = self.running_var
        if self.training and self.update:
            variance = current.var(correction=0)
            count = current.numel() / current.shape[CHANNEL_AXIS]
            with torch.no_grad():
                self.running_var = (
                    1 - self.momentum
                ) * self.running_var + self.momentum * variance * count / (count + 1)
        exponent = (variance + self.eps).sqrt().log2().ceil()
        limit = self.weight_exp_bits
        return centred / _over_channels(torch.pow(2.0, exponent.clamp(-limit, limit)), current)


class Dropout(nn.Module):
    """Silence whole neurons for all steps with probability p; scale the others by 1 / (1 - p).

    Attributes:
        p: Probability, in [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise GraphError(f"Dropout: p = {p}, a number in [0, 1) is required.")
        self.p = p

    def forward(self, spikes: Tensor) -> Tensor:
        """Drop neurons of (T, N, ...) spikes; in evaluation nothing is dropped."""
        if not self.training or self.p == 0:
            return spikes
        return spikes * nn.functional.dropout(torch.ones_like(spikes[0]), self.p)


# Batch norm of the currents: plain, threshold-dependent, and with a factor for each step.
#
# All normalise (T · N, C, ...), steps folded into the batch, so that one mean and one variance
# hold for all steps.
#
#     bn     gamma starts at 1
#     tdbn   gamma starts at alpha · V_th: normalised currents start on the scale of the threshold
#     tebn   as tdbn, times a learned factor p[t] of each step, which starts at 1
#
# Source: tdBN: Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks",
# AAAI 2021; there alpha · V_th is a constant factor and gamma starts at 1, the same function at the
# start. TEBN: Duan et al., "Temporal Effective Batch Normalization in Spiking Neural Networks",
# NeurIPS 2022.


class TemporalBatchNorm(nn.Module):
    """Batch norm over all steps, then a learned factor for each step: y[t] = p[t] · BN(x)[t].

    A chip has one weight for all steps, so that only equal factors can be folded into it.

    Args:
        norm: The batch norm.
        steps: T.

    Attributes:
        norm: As given.
        factors: Parameter p, (T,).
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, steps: int) -> None:
        super().__init__()
        self.norm = norm
        self.factors = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        """Return (T · N, C, ...) for the same shape.

        Raises:
            GraphError: If the first axis is no multiple of T.
        """
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
    """Make the batch norm of a recipe.

    Args:
        kind: "bn", "tdbn" or "tebn".
        channels: C.
        is_spatial: Whether currents are (T · N, C, H, W); else (T · N, C).
        threshold: V_th.
        steps: T.
        alpha: Share of the threshold; below 1 where several currents add up.
    """
    norm: nn.BatchNorm1d | nn.BatchNorm2d = (
        nn.BatchNorm2d(channels) if is_spatial else nn.BatchNorm1d(channels)
    )
    if kind == "bn":
        return norm
    nn.init.constant_(norm.weight, alpha * threshold)
    return norm if kind == "tdbn" else TemporalBatchNorm(norm, steps)


def affine_norm(module: nn.Module) -> nn.BatchNorm1d | nn.BatchNorm2d | None:
    """Return the batch norm that holds gamma and beta, or None for a module of another kind."""
    if isinstance(module, TemporalBatchNorm):
        return module.norm
    return module if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) else None
