"""The base of all blocks: neurons, and the axons on which their spikes leave.

An axon is the step that a spike takes to the next layer, and a learned delay.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/block/base.py`, `block/cuba.py`, `axon/delay.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import DELAY_MAX
from neurodeploy.nn.fused import normalized_spikes, normalized_sums
from neurodeploy.nn.neuron import CubaLIF, SpikingNeuron
from neurodeploy.nn.slayer_parameters import NeuronParams
from neurodeploy.nn.synapse import PreHook, Synapse


class _Absent(enum.Enum):
    TOKEN = enum.auto()


ABSENT: Literal[_Absent.TOKEN] = _Absent.TOKEN
"""Marks `pre_hook_fx` as not given: 8-bit weights for `neuron_params`, none for a ready neuron."""

OptionalPreHook = PreHook | None | Literal[_Absent.TOKEN]
Output = Tensor | tuple[Tensor, Tensor | None]
"""Output of a block: spikes, or with `count_log` spikes and their mean count."""


def shift_in_time(x: Tensor, first: Tensor | None = None) -> Tensor:
    """Return x, (T, ...), one step later: (first, x[0], ..., x[T-2]); zeros for no `first`."""
    entering = torch.zeros_like(x[:1]) if first is None else first.unsqueeze(0)
    return torch.cat((entering, x[:-1]))


class Delay(nn.Module):
    """Delay each channel by a learned number of steps, applied as the whole number below it.

    The gradient of a delay is -sum of g[t] · (y[t] - y[t-1]) over the channel, y the output.

    Args:
        max_delay: Delays are limited to [0, max_delay] at each forward pass.
        generator: Draws the delays; None for torch's default one.

    Attributes:
        delay: Parameter, float32 steps: (1,) zero before the first forward pass, then (C,),
            drawn uniformly from [0, 1).
    """

    def __init__(
        self, max_delay: int = DELAY_MAX, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.max_delay = max_delay
        self.delay = nn.Parameter(torch.zeros(1))
        self._is_drawn = False
        self._is_loaded = False
        self._seed = int(torch.randint(2**62, (), generator=generator).item())

    @property
    def steps(self) -> Tensor:
        """Delays as they are applied: whole steps in [0, max_delay], int64."""
        return self.delay.detach().clamp(0, self.max_delay).floor().to(torch.int64)

    def clamp(self) -> None:
        """Limit the delays to [0, max_delay], in place."""
        with torch.no_grad():
            self.delay.clamp_(0, self.max_delay)

    def draw(self, channels: int, *, longest: int = 1) -> None:
        """Draw each channel's delay from [0, longest), unless a delay of one channel was loaded."""
        self._is_drawn = True
        if not (self._is_loaded and channels == 1):
            generator = torch.Generator().manual_seed(self._seed)
            drawn = longest * torch.rand(channels, generator=generator)
            self.delay.data = drawn.to(self.delay.device)

    def forward(self, x: Tensor) -> Tensor:
        """Delay spikes (T, N, C, ...); GraphError unless there are as many delays as channels."""
        channels = x.shape[2]
        if not self._is_drawn:
            self.draw(channels)
        if self.delay.numel() != channels:
            raise GraphError(
                f"Delay: input has {channels} channels, there are {self.delay.numel()} delays."
            )
        self.clamp()
        delayed: Tensor = _DelayChannels.apply(x, self.delay)
        return delayed

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take the stored shape: one value until drawn, then one a channel."""
        found = state_dict.get(f"{prefix}delay")
        if isinstance(found, Tensor) and found.dim() == 1:
            self.delay.data = self.delay.new_zeros(found.shape)
            self._is_drawn = found.numel() > 1
            self._is_loaded = True
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _channels_by_steps(delay: Tensor) -> Iterator[tuple[int, Tensor]]:
    steps = delay.detach().floor().to(torch.int64)
    for value in sorted(set(steps.tolist())):
        yield value, (steps == value).nonzero().flatten()


class _DelayChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, delay: Tensor) -> Tensor:
        delayed = torch.zeros_like(x)
        for steps, channels in _channels_by_steps(delay):
            if steps < x.shape[0]:
                delayed[steps:, :, channels] = x[: x.shape[0] - steps, :, channels]
        ctx.save_for_backward(delayed, delay)
        return delayed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        delayed, delay = ctx.saved_tensors
        grad_x = torch.zeros_like(grad)
        for steps, channels in _channels_by_steps(delay):
            if steps < grad.shape[0]:
                grad_x[: grad.shape[0] - steps, :, channels] = grad[steps:, :, channels]
        change = grad * (delayed - shift_in_time(delayed))
        axes = [axis for axis in range(grad.dim()) if axis != 2]
        return grad_x, -change.sum(dim=axes)


def make_neuron(
    neuron_params: NeuronParams | nn.Module, generator: torch.Generator | None = None
) -> nn.Module:
    """Return the neuron of a block: `CubaLIF` for a dictionary, a ready module as it is.

    Raises:
        GraphError: For unknown or missing keys, or values that `CubaLIF` refuses.
    """
    if isinstance(neuron_params, nn.Module):
        return neuron_params
    allowed = NeuronParams.__annotations__
    unknown = [key for key in neuron_params if key not in allowed]
    missing = [key for key in NeuronParams.__required_keys__ if key not in neuron_params]
    if unknown or missing:
        raise GraphError(
            f"neuron_params: unknown keys {unknown}, missing keys {sorted(missing)}; "
            f"allowed are {', '.join(allowed)}."
        )
    return CubaLIF(**neuron_params, generator=generator)


class SpikingBlock(nn.Module):
    """A block with neurons: the way from weighted sums to the spikes that leave."""

    def __init__(
        self,
        neuron_params: NeuronParams | nn.Module | None,
        delay: bool = False,
        delay_shift: bool | None = None,
        count_log: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.neuron = None if neuron_params is None else make_neuron(neuron_params, generator)
        self.delay = Delay(generator=generator) if delay else None
        self._is_slayer = not isinstance(neuron_params, nn.Module)
        self.delay_shift = self._is_slayer if delay_shift is None else delay_shift
        self.count_log = count_log
        self.batch_norm: nn.Module | None = None
        self._last_spikes: Tensor | None = None

    @property
    def shape(self) -> torch.Size | None:
        """Shape of the output without steps and batch; None before the first forward pass."""
        shape = None if self.neuron is None else self.neuron.shape
        return shape if isinstance(shape, torch.Size) else None

    def reset_state(self) -> None:
        """Forget what `persistent_state` kept."""
        self._last_spikes = None
        if isinstance(self.neuron, SpikingNeuron):
            self.neuron.reset_state()

    def resolve_hook(self, pre_hook_fx: OptionalPreHook) -> PreHook | None:
        """Replace an absent `pre_hook_fx`: by q8 with `neuron_params`, by None otherwise."""
        if not isinstance(pre_hook_fx, _Absent):
            return pre_hook_fx
        if self._is_slayer and isinstance(self.neuron, CubaLIF):
            return self.neuron.quantize_8bit
        return None

    def _leave(self, spikes: Tensor) -> Output:
        return self._depart(self._shifted(spikes) if self.delay_shift else spikes)

    def _depart(self, spikes: Tensor) -> Output:
        if self.delay is not None:
            spikes = self.delay(spikes)
        return (spikes, (spikes > 0).float().mean()) if self.count_log else spikes

    def _shifted(self, spikes: Tensor) -> Tensor:
        if not getattr(self.neuron, "persistent_state", False):
            return shift_in_time(spikes)
        first = self._last_spikes
        if first is not None and first.shape != spikes.shape[1:]:
            first = None
        self._last_spikes = spikes[-1].detach()
        return shift_in_time(spikes, first)


class WeightedBlock(SpikingBlock):
    """A block with a synapse."""

    synapse: Synapse

    @property
    def effective_weight(self) -> Tensor:
        """The weight in use, normalised and quantised, differentiable; 2-D or 4-D float32."""
        return self.synapse.effective_weight

    @property
    def bias(self) -> Tensor | None:
        """The synapse's bias, (O,), or None."""
        return self.synapse.bias

    def weighted_sum(self, x: Tensor) -> Tensor:
        """Return what the synapse makes of an input."""
        z: Tensor = self.synapse(x)
        return z

    def fire(self, z: Tensor, *, steps: int | None = None) -> Tensor:
        """Return what norm and neurons make of weighted sums.

        Args:
            z: (T, N, C, ...), or (1, N, C, ...) for the same sums in every step.
            steps: T, where z has one step.
        """
        if self.neuron is None:
            raise GraphError(f"{type(self).__name__}: there is no neuron. Give neuron_params.")
        return normalized_spikes(z, self.batch_norm, self.neuron, steps=steps)

    def forward(self, x: Tensor) -> Output:
        """Return the spikes that leave the block.

        Args:
            x: (T, N, C, H, W) float, or (T, N, C) for a dense block.

        Returns:
            Spikes, time first; with `count_log` also the mean of (spikes > 0).
        """
        z = self.weighted_sum(x)
        if not self._fires_late():
            return self._leave(self.fire(z))
        assert self.neuron is not None
        return self._depart(self.neuron(normalized_sums(z, self.batch_norm), is_late=True))

    def _fires_late(self) -> bool:
        """Return whether neurons can shift their spikes themselves, which spares a copy of them."""
        return (
            self.delay_shift
            and isinstance(self.neuron, CubaLIF)
            and not self.neuron.persistent_state
            and self.neuron.drop is None
            and type(self).fire is WeightedBlock.fire
        )
