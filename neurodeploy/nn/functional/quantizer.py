"""SLAYER's 8-bit quantiser: floats to the even integers that a Loihi weight can hold.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/neuron/base.py:Neuron.quantize_8bit` and
`lava/lib/dl/slayer/utils/quantize.py:quantize`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.compiled_code import kept
from neurodeploy.errors import GraphError
from neurodeploy.nn.functional.parallel import TILE, Span, cut_spans, is_compilable, run_spans
from neurodeploy.nn.functional.surrogate import Float32Array

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
        """Return the quantised weight, of its shape and dtype, differentiable; of any shape.

        With `descale`, the integers q8(w) · W instead, even and in [-256, 254].
        """
        quantized: Tensor = _RoundAndClamp.apply(weight, self.scale)
        return quantized * self.scale if descale else quantized


class _RoundAndClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: int) -> Tensor:
        # Divide and multiply by the step, as the reference does: for a scale that is no power
        # of two the product with its inverse would round differently.
        step, smallest, largest = 2 / scale, SMALLEST / scale, LARGEST / scale
        if is_compilable(weight) and weight.is_contiguous():
            result, is_inside = _quantized(weight, step, smallest, largest)
        else:
            rounded = torch.round(weight / step) * step
            is_inside = (rounded >= smallest) & (rounded <= largest)
            result = rounded.clamp_(smallest, largest)
        ctx.save_for_backward(is_inside)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (is_inside,) = ctx.saved_tensors
        return grad if is_inside is None else grad * is_inside, None


def _quantized(
    weight: Tensor, step: float, smallest: float, largest: float
) -> tuple[Tensor, Tensor | None]:
    """Return the weights and which were within the bounds; None if all were."""
    result, is_inside = torch.empty_like(weight), torch.empty(weight.shape, dtype=torch.bool)
    arrays = [tensor.detach().view(-1).numpy() for tensor in (weight, result, is_inside)]
    numbers = np.float32(step), np.float32(smallest), np.float32(largest)
    spans = cut_spans(1, weight.numel(), TILE)
    outside = np.empty(len(spans), np.int64)

    def work(number: int, span: Span) -> None:
        outside[number] = _quantize_span(arrays[0], span, *numbers, *arrays[1:])

    run_spans(spans, work)
    return result, is_inside if outside.any() else None


@kept
def _quantize_span(
    weight: Float32Array,
    span: Span,
    step: np.float32,
    smallest: np.float32,
    largest: np.float32,
    result: Float32Array,
    inside: npt.NDArray[np.bool_],
) -> int:
    """Round weights to multiples of a step, half to even, and clamp them: one pass, not eight.

    `inside` becomes whether a weight was within the bounds before it was clamped; returned is how
    many were not.
    """
    start, stop = span
    values, quantized, flags = weight[start:stop], result[start:stop], inside[start:stop]
    outside = np.int32(0)
    for i in range(values.size):
        rounded = np.rint(values[i] / step) * step
        is_inside = (rounded >= smallest) & (rounded <= largest)
        flags[i] = is_inside
        outside += np.int32(0) if is_inside else np.int32(1)
        raised = smallest if rounded < smallest else rounded
        quantized[i] = largest if raised > largest else raised
    return int(outside)
