"""Axons: the step that a spike takes to the next layer, and learned delays.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/axon/delay.py` and `block/base.py:step_delay`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neurodeploy.errors import GraphError

MAX_DELAY = 62
"""Longest learned delay, in steps."""


def shift_in_time(x: Tensor, first: Tensor | None = None) -> Tensor:
    """Give x one step later: (first, x[0], ..., x[T-2]).

    Args:
        x: (T, ...).
        first: What enters at step 0, (...); None for zeros.

    Returns:
        Tensor of the same shape.
    """
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
        self, max_delay: int = MAX_DELAY, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.max_delay = max_delay
        self.delay = nn.Parameter(torch.zeros(1))
        self._is_drawn = False
        self._is_loaded = False
        self._seed = int(torch.randint(2**62, (), generator=generator).item())

    def clamp(self) -> None:
        """Limit the delays to [0, max_delay], in place."""
        with torch.no_grad():
            self.delay.clamp_(0, self.max_delay)

    def forward(self, x: Tensor) -> Tensor:
        """Delay spikes (T, N, C, ...).

        Raises:
            GraphError: If the number of channels is not that of the delays.
        """
        channels = x.shape[2]
        if not self._is_drawn:
            self._is_drawn = True
            if not (self._is_loaded and channels == 1):
                generator = torch.Generator().manual_seed(self._seed)
                drawn = torch.rand(channels, generator=generator)
                self.delay.data = drawn.to(self.delay.device)
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
