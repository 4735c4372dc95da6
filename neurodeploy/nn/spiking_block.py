"""What the blocks of `neurodeploy.nn.blocks` have in common.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/block/base.py`, `block/cuba.py`.
"""

from __future__ import annotations

import enum
from typing import Literal

import torch
from torch import Tensor, nn

from neurodeploy.errors import GraphError
from neurodeploy.nn.axon import Delay, shift_in_time
from neurodeploy.nn.fused import normalized_spikes
from neurodeploy.nn.neuron import CubaLIF, NeuronParams
from neurodeploy.nn.synapse import PreHook, Synapse


class _Absent(enum.Enum):
    TOKEN = enum.auto()


ABSENT: Literal[_Absent.TOKEN] = _Absent.TOKEN
"""Marks `pre_hook_fx` as not given: 8-bit weights for `neuron_params`, none for a ready neuron."""

OptionalPreHook = PreHook | None | Literal[_Absent.TOKEN]
Output = Tensor | tuple[Tensor, Tensor | None]
"""What a block returns: spikes, or with `count_log` spikes and their mean count."""


def make_neuron(
    neuron_params: NeuronParams | nn.Module, generator: torch.Generator | None = None
) -> nn.Module:
    """Give the neuron of a block: `CubaLIF` for a dictionary, a ready module as it is.

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
    """What all blocks with a neuron share: the way from weighted sums to spikes that leave."""

    def __init__(
        self,
        neuron_params: NeuronParams | nn.Module | None,
        *,
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
        if isinstance(self.neuron, CubaLIF):
            self.neuron.reset_state()

    def resolve_hook(self, pre_hook_fx: OptionalPreHook) -> PreHook | None:
        """Replace an absent `pre_hook_fx`: by q8 with `neuron_params`, by None otherwise."""
        if not isinstance(pre_hook_fx, _Absent):
            return pre_hook_fx
        if self._is_slayer and isinstance(self.neuron, CubaLIF):
            return self.neuron.quantize_8bit
        return None

    def _leave(self, spikes: Tensor) -> Output:
        if self.delay_shift:
            spikes = self._shifted(spikes)
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

    def forward(self, x: Tensor) -> Output:
        """Give the spikes that leave the block.

        Args:
            x: (T, N, C, H, W) float, or (T, N, C) for a dense block.

        Returns:
            Spikes, time first; with `count_log` also the mean of (spikes > 0).

        Raises:
            GraphError: If the input does not fit.
        """
        if self.neuron is None:
            raise GraphError(f"{type(self).__name__}: there is no neuron. Give neuron_params.")
        return self._leave(normalized_spikes(self.synapse(x), self.batch_norm, self.neuron))


def checked_mask(mask: Tensor | None, shape: torch.Size) -> Tensor | None:
    """Give a mask in the shape of the weight.

    Raises:
        GraphError: If it has another number of rows, columns or elements.
    """
    if mask is None:
        return None
    if mask.shape[:2] != shape[:2] or mask.numel() != shape.numel():
        raise GraphError(
            f"mask of shape {tuple(mask.shape)}, {tuple(shape)} as the weight's is required."
        )
    return mask.reshape(shape)
