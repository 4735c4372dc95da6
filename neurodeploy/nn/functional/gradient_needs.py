"""Which gradients of spikes their neurons make use of.

A neuron multiplies the gradient of its spike with h(u), the surrogate's slope. Where h(u) is zero
(a rectangle or a triangle, and a membrane far from threshold, as most are in a quiet layer) that
gradient has no effect, so who computes it may leave it out: no approximation, whatever came before.

`nn.fused` notes where h(u) is not zero and leaves the note with its place in autograd's
graph; `needs_of` finds it again from a tensor of these spikes. `sparse_convolution` uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

UInt8Array = npt.NDArray[np.uint8]

NO_NEEDS: Final = np.zeros((0, 0), np.uint8)
_VIEWS: Final = frozenset(
    f"{name}Backward0"
    for name in ("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "Unsqueeze")
)
"""Nodes of autograd's graph that hand a gradient on as it is, in another shape."""
_LONGEST: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Needs:
    """Where neurons need the gradient of their spikes.

    Attributes:
        flags: (M,) uint8, in the order of the spikes' memory: 0 where the gradient has no effect.
        address: Where the spikes begin.
        node: The neurons' place in autograd's graph; None before `needs_of` filled it in.
    """

    flags: UInt8Array
    address: int
    node: Any = None

    def hold(self) -> bool:
        """Say, within a backward pass, whether it leads to the neurons.

        It does not where somebody asks for the gradient of the spikes and no more.
        """
        executes: bool = torch._C._will_engine_execute_node(self.node)
        return executes


def needs_of(spikes: Tensor) -> Needs | None:
    """Find what the neurons noted that sent a tensor.

    Args:
        spikes: Any tensor, dense in memory.

    Returns:
        None unless the tensor is, but for its shape, what such neurons gave.
    """
    node: Any = spikes.grad_fn
    for _ in range(_LONGEST):
        if node is None or node.name() not in _VIEWS:
            break
        node = node.next_functions[0][0]
    needs = getattr(node, "needs", None)
    if (
        not isinstance(needs, Needs)
        or needs.address != spikes.data_ptr()
        or needs.flags.size != spikes.numel()
        or not torch.is_grad_enabled()
    ):
        return None
    return Needs(flags=needs.flags, address=needs.address, node=node)
