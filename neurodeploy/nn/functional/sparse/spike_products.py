"""Matrix products with spikes: rows of weights are added up, and none is multiplied.

Forward pass and gradient of the weights add one row for each spike; the gradient of the spikes is
torch's. Between the two passes spikes are kept as bits. The sums are those of a matrix product in
another order: equal to the bit where they are exact (quantised weights), to float32's rounding
elsewhere.

`pack_if_worthwhile` decides from the inputs and the sizes alone, by limits that were measured
beforehand, for the reason that `sparse.convolution` gives.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neurodeploy.llvm_vectors import WORD
from neurodeploy.nn.functional.parallel import (
    SPANS,
    Span,
    cut_evenly,
    is_compilable,
    run_spans,
)
from neurodeploy.nn.functional.sparse.bit_loops import (
    COLUMNS,
    ROWS,
    Words,
    add_rows_span,
    pack_span,
)

MOST: Final = 0.5
"""Share of spikes up to which adding rows is faster."""
FEWEST_ROWS: Final = 128
"""Steps times samples below which weights are turned round at too great a cost."""
FEWEST_PRODUCTS: Final = 1 << 22
"""Products of the whole map below which calling overheads rule."""


class Bits(NamedTuple):
    """A matrix (M, K) of zeros and ones, as `bit_loops.pack_span` packs it.

    Attributes:
        words: For products with a matrix (K, O).
        turned: For products of the transpose with a matrix (M, O); (0, 0) without gradients.
    """

    words: Words
    turned: Words


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x · weightᵀ + bias, (..., O), by `pack_if_worthwhile` or torch."""
    rows = x.flatten(0, -2)
    bits = pack_if_worthwhile(rows, weight)
    if bits is None:
        return functional.linear(x, weight, bias)
    result: Tensor = _SpikeProduct.apply(rows, weight, bias, bits)
    return result.view(*x.shape[:-1], -1)


def pack_if_worthwhile(x: Tensor, weight: Tensor) -> Bits | None:
    """Return spikes (M, K) as bits, for a weight (O, K).

    None unless all of x is 0 or 1, at most half of it 1, and the sizes make it worthwhile.
    """
    rows, columns = x.shape
    if (
        rows < FEWEST_ROWS
        or x.numel() * weight.shape[0] < FEWEST_PRODUCTS
        or not is_compilable(x)
        or weight.dtype != torch.float32
        or not x.is_contiguous()
    ):
        return None
    bands, across = -(-rows // WORD), -(-columns // WORD)
    is_learned = weight.requires_grad and torch.is_grad_enabled()
    words = np.empty((across, bands * WORD), np.uint64)
    turned = np.empty((bands, across * WORD) if is_learned else (0, 0), np.uint64)
    counts, values = np.empty(bands, np.int64), x.detach().numpy()
    run_spans(
        cut_evenly(bands, min(SPANS, x.numel() >> 16)),
        lambda _, span: pack_span(values, span, words, turned, counts),
    )
    if counts.min() < 0 or counts.sum() > MOST * x.numel():
        return None
    return Bits(words, turned)


class _SpikeProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, bits: Bits) -> Tensor:
        ctx.bits = bits
        ctx.save_for_backward(weight)
        return _product(bits.words, weight.t(), x.shape[0], bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        of_x = grad @ weight if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = _product(ctx.bits.turned, grad, weight.shape[1]).t().contiguous()
        of_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None


def _product(words: Words, values: Tensor, rows: int, bias: Tensor | None = None) -> Tensor:
    """Return bits · values + bias, (M, O), for bits (M, K) and values (K, O); M is `rows`."""
    values, columns = values.detach().contiguous(), values.shape[1]
    offsets = values.new_zeros(columns) if bias is None else bias.detach().contiguous()
    result = torch.empty(rows, columns)
    source, start, target = values.numpy(), offsets.numpy(), result.numpy()
    pieces = -(-rows // ROWS) * -(-columns // COLUMNS)

    def work(_: int, span: Span) -> None:
        scratch = torch.empty((WORD + ROWS) * COLUMNS)  # torch begins at lines of the cache
        add_rows_span(words, source, start, span, scratch.numpy(), target)

    run_spans(cut_evenly(pieces, SPANS), work)
    return result
