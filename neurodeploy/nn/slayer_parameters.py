"""SLAYER's `neuron_params` of a CUBA neuron, and the modules that they can name.

`norm=MeanOnlyBatchNorm`, a class, normalises the current, and `dropout=Dropout(0.1)`, an instance,
drops spikes. Both act on time-first tensors (T, N, C, ...), the channel on axis 2.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/neuron/norm.py`, `dropout.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import DECAY_UNITY
from neurodeploy.nn.functional.quantizer import EightBitQuantizer
from neurodeploy.nn.functional.surrogate import Surrogate

Decay = float | Sequence[float]


class _RequiredParams(TypedDict):
    threshold: float
    current_decay: Decay
    voltage_decay: Decay


class NeuronParams(_RequiredParams, total=False):
    """Keywords of `CubaLIF`; the first twelve are SLAYER's `neuron_params`."""

    tau_grad: float
    scale_grad: float
    scale: int
    norm: Callable[[], nn.Module] | None
    dropout: nn.Module | None
    shared_param: bool
    persistent_state: bool
    requires_grad: bool
    graded_spike: bool
    surrogate: Surrogate | None
    compat_decay_grad: bool
    compat_threshold: bool


class DeviceParams(TypedDict):
    """A CUBA group as the chip sees it; keys are the names of SLAYER's HDF5 datasets."""

    type: str
    iDecay: int | npt.NDArray[np.int64]
    vDecay: int | npt.NDArray[np.int64]
    vThMant: int
    refDelay: int
    gradedSpike: bool


def neuron_params(
    device_params: DeviceParams, scale: int = 64, p_scale: int = DECAY_UNITY
) -> NeuronParams:
    """Turn device parameters, whose decays must be scalars, back into threshold and decays.

    Args:
        device_params: As `CubaLIF.device_params` gives them.
        scale: W, weight units in one SLAYER unit.
        p_scale: Denominator of the decays.
    """
    return {
        "threshold": device_params["vThMant"] / scale,
        "current_decay": float(device_params["iDecay"]) / p_scale,
        "voltage_decay": float(device_params["vDecay"]) / p_scale,
    }


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
        """The neuron's bias on the chip: (C,) float32, even integers."""
        if self.pre_hook_fx is None:
            return -self.running_mean
        return -self.pre_hook_fx(self.running_mean, descale=True)

    def forward(self, current: Tensor) -> Tensor:
        """Normalise a current (T, N, C, ...), float32, SLAYER units."""
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
