"""Shortcut branches: outputs of inner blocks that carry the loss straight back to them.

Each is a global average pool and a linear map on a block's spikes. They exist during training
only: inference, and what is deployed, is the main output alone.

Source: Guo et al., "Take A Shortcut Back: Mitigating the Gradient Vanishing for Training Spiking
Neural Networks", NeurIPS 2024, arXiv 2401.04486.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from neurodeploy.nn.blocks import GlobalAverageReadout

if TYPE_CHECKING:
    from neurodeploy.nn.network import SpikingNetwork


class ShortcutBranches(nn.Module):
    """One branch b_l for each chosen block.

    Args:
        channels: Channels (or neurons) of the block, by its name; one branch each, in order.
        classes: Outputs.
        generator: Draws the initial weights.
    """

    def __init__(
        self, channels: Mapping[str, int], classes: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {
                name: GlobalAverageReadout(count, classes, generator=generator)
                for name, count in channels.items()
            }
        )

    def __len__(self) -> int:
        return len(self.heads)

    def forward(self, outputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Give each branch's output.

        Args:
            outputs: (T, N, C, H, W) or (T, N, C) by block: spikes; currents of a pre-activation
                block.

        Returns:
            Currents (T, N, classes), one tensor a branch.
        """
        return tuple(head(outputs[name]) for name, head in self.heads.items())


def remove_branches(network: SpikingNetwork) -> SpikingNetwork:
    """Give a copy of the network without branches; its main output is the same to the bit.

    Args:
        network: Left as it is.
    """
    return network.without_branches()
