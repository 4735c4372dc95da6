"""SLAYER's 8-bit quantiser: floats to the even integers that a Loihi weight can hold.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/neuron/base.py:Neuron.quantize_8bit` and
`lava/lib/dl/slayer/utils/quantize.py:quantize`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurodeploy.errors import GraphError

SMALLEST, LARGEST = -256, 254
"""Range of a weight integer; with mixed signs it is even."""


@dataclass(frozen=True, slots=True)
class EightBitQuantizer:
    """q8(w) = clamp(round_half_even(w · W / 2) · 2 / W, -256 / W, 254 / W).

    The gradient is 1 where the rounded, not yet clamped, value lies in the closed range and 0
    elsewhere: at W = 64, 3.98 learns (it rounds to 254 / 64) and 3.99 does not. This is what
    lava-dl does with the torch it asks for. Newer ones, 2.14.1 for instance, give `clamp` the
    gradient 0 *at* its bounds, and lava-dl on top of them freezes weights of -256 and 254; here
    the rule does not depend on torch's version.

    Attributes:
        scale: W, weight units in one SLAYER unit; 64 in SLAYER's own default.
    """

    scale: int = 64

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise GraphError(f"quantiser: scale = {self.scale}, at least 1 is required.")

    def __call__(self, weight: Tensor, descale: bool = False) -> Tensor:
        """Quantise.

        Args:
            weight: Float tensor of any shape, SLAYER units.
            descale: Give the integers q8(w) · W instead, even and in [-256, 254].

        Returns:
            Tensor of the same shape and dtype, differentiable.
        """
        quantized: Tensor = _RoundAndClamp.apply(weight, self.scale)
        return quantized * self.scale if descale else quantized


class _RoundAndClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: int) -> Tensor:
        # Divide and multiply by the step, as the reference does: for a scale that is no power
        # of two the product with its inverse would round differently.
        step = 2 / scale
        rounded = torch.round(weight / step) * step
        ctx.save_for_backward((rounded >= SMALLEST / scale) & (rounded <= LARGEST / scale))
        return rounded.clamp_(SMALLEST / scale, LARGEST / scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (is_inside,) = ctx.saved_tensors
        return grad * is_inside, None
