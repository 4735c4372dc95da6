"""Linear maps and convolutions of spikes: rows of weights are added up, and none is multiplied.

Forward pass and gradient of the weights add one row for each spike; the gradient of the spikes is
torch's. Between the two passes spikes are kept as bits. The sums are those of a dense map in
another order: equal to the bit where they are exact (quantised weights), to float32's rounding
elsewhere.

What goes this way is decided from the inputs and the sizes alone, by limits that were measured
beforehand. Measuring at the first use would fit the machine better, but then two runs of a recipe,
or a run and its continuation, could go different ways and round differently. As it is, the same
inputs always go the same way, whatever was computed before.
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
    MOST_ROWS,
    NARROW,
    WIDE,
    Pair,
    Windows,
    Words,
    add_rows_span,
    gather_span,
    pack_span,
    turn_span,
)
from neurodeploy.nn.functional.sparse.packed_spikes import (
    Sliding,
    convolution_of_bits,
    input_gradient,
)

MOST: Final = 0.5
"""Share of spikes up to which adding rows is faster."""
MOST_OF_FEW_OUTPUTS: Final = 0.3
"""The same for convolutions of less than 64 outputs."""
FEWEST_ROWS: Final = 128
"""Rows of bits below which bringing weights into order costs too much."""
FEWEST_READ: Final = 128
"""Inputs of one output of a convolution below which finding them costs too much."""
FEWEST_PRODUCTS: Final = 1 << 22
"""Products of the whole map below which calling overheads rule."""


class Spikes(NamedTuple):
    """Images of zeros and ones as bits, and the windows that a kernel reads.

    Attributes:
        lines: (N, H, words), as `bit_loops.pack_span` packs them.
        windows: How the kernel moves.
    """

    lines: Words
    windows: Windows

    @property
    def rows(self) -> int:
        """Number of windows."""
        height, width = self.windows.outputs
        return len(self.lines) * height * width

    @property
    def columns(self) -> int:
        """Inputs of a window."""
        return self.windows.channels * self.windows.kernel[0] * self.windows.kernel[1]

    def gather(self) -> Words:
        """Return the windows as rows of bits; their number is rounded up to a multiple of 64."""
        words = np.empty((-(-self.columns // WORD), -(-self.rows // WORD) * WORD), np.uint64)
        words[:, self.rows :] = 0
        run_spans(
            cut_evenly(len(self.lines), min(SPANS, words.size >> 13)),
            lambda _, span: gather_span(self.lines, span, self.windows, words),
        )
        return words

    def multiply(self, values: Tensor, bias: Tensor | None) -> Tensor:
        """Return windows · values + bias, (rows, O), for values (columns, O)."""
        return _product(self.gather(), values, self.rows, bias)

    def multiply_turned(self, values: Tensor) -> Tensor:
        """Return windowsᵀ · values, (columns, O), for values (rows, O)."""
        words = self.gather()
        turned = np.empty((words.shape[1] // WORD, len(words) * WORD), np.uint64)
        run_spans(
            cut_evenly(len(turned), min(SPANS, words.size >> 13)),
            lambda _, span: turn_span(words, span, turned),
        )
        return _product(turned, values, self.columns, None)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x · weightᵀ + bias, (..., O), by adding rows where `pack_rows` finds it faster."""
    rows = x.flatten(0, -2)
    spikes = pack_rows(rows, weight)
    if spikes is None:
        return functional.linear(x, weight, bias)
    result: Tensor = _SpikeProduct.apply(rows, weight, bias, spikes)
    return result.view(*x.shape[:-1], -1)


def convolve(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """Return torch's conv2d, by adding rows where `pack_images` finds it faster.

    Arguments are those of torch's, images (N, C, H, W) channels last, as the result.
    """
    if groups == 1 and dilation == (1, 1):
        spikes = pack_images(images, weight, stride, padding)
        if spikes is not None:
            result: Tensor = _SpikeConvolution.apply(images, weight, bias, spikes)
            return result
    weight = weight.contiguous(memory_format=torch.channels_last)
    return convolution_of_bits(images, weight, bias, Sliding(stride, padding, dilation, groups))


def pack_rows(x: Tensor, weight: Tensor) -> Spikes | None:
    """Return spikes (M, K) as bits, for a weight (O, K).

    None unless all of x is 0 or 1, at most half of it 1, and the sizes make it worthwhile.
    """
    rows, columns = x.shape
    if not (
        rows >= FEWEST_ROWS
        and x.numel() * len(weight) >= FEWEST_PRODUCTS
        and _is_packable(x, weight)
        and x.is_contiguous()
    ):
        return None
    windows = Windows(columns, (1, 1), (1, 1), (0, 0), (1, 1))
    return _pack(x.detach().view(-1), (rows, 1, 1), windows, MOST)


def pack_images(images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Spikes | None:
    """Return spikes (N, C, H, W) as bits, for a weight (O, C, kH, kW).

    None unless all of the images is 0 or 1, at most half of them 1 (or 30 % for less than 64
    outputs), and the sizes make it worthwhile.
    """
    outputs, channels, *kernel = weight.shape
    count, _, *size = images.shape
    across = [
        (extent + 2 * pad - taps) // step + 1
        for extent, pad, taps, step in zip(size, padding, kernel, stride, strict=True)
    ]
    windows = Windows(channels, (kernel[0], kernel[1]), stride, padding, (across[0], across[1]))
    rows = count * across[0] * across[1]
    if not (
        outputs >= NARROW
        and weight[0].numel() >= FEWEST_READ
        and rows >= FEWEST_ROWS
        and min(across) > 0
        and rows * weight.numel() >= FEWEST_PRODUCTS
        and _is_packable(images, weight)
        and images.is_contiguous(memory_format=torch.channels_last)
    ):
        return None
    most = MOST if outputs >= WIDE else MOST_OF_FEW_OUTPUTS
    flat = images.detach().permute(0, 2, 3, 1).reshape(-1)
    return _pack(flat, (count, size[0], size[1]), windows, most)


def _is_packable(values: Tensor, weight: Tensor) -> bool:
    return is_compilable(values) and weight.dtype == torch.float32


def _pack(
    flat: Tensor, shape: tuple[int, int, int], windows: Windows, most: float
) -> Spikes | None:
    """Pack images (N, H, W), channels last; None if there are too many spikes or other values."""
    count, height, width = shape
    size, margin = width * windows.channels, windows.padding[1] * windows.channels
    lines = np.empty((count, height, -(-(size + 2 * margin) // WORD) + 1), np.uint64)
    counts, values = np.zeros(count, np.int64), flat.numpy()
    run_spans(
        cut_evenly(count, min(SPANS, values.size >> 16)),
        lambda _, span: pack_span(values, span, size, margin, lines, counts),
    )
    if counts.min() < 0 or counts.sum() > most * values.size:
        return None
    return Spikes(lines, windows)


class _SpikeProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, spikes: Spikes) -> Tensor:
        ctx.spikes = spikes
        ctx.save_for_backward(weight)
        return spikes.multiply(weight.t(), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            grad @ weight if needs_x else None,
            ctx.spikes.multiply_turned(grad).t().contiguous() if needs_weight else None,
            grad.sum(0) if needs_bias else None,
            None,
        )


class _SpikeConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, spikes: Spikes
    ) -> Tensor:
        ctx.spikes, ctx.size = spikes, images.shape[2:]
        ctx.save_for_backward(weight)
        rows = weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
        result = spikes.multiply(rows, bias)
        return result.view(len(images), *spikes.windows.outputs, -1).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        windows: Windows = ctx.spikes.windows
        needs_images, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = None
        if needs_images:
            of_images = input_gradient(
                grad,
                weight.contiguous(memory_format=torch.channels_last),
                (*grad.shape[:1], windows.channels, *ctx.size),
                Sliding(windows.stride, windows.padding, (1, 1), 1),
            )
        if needs_weight:
            rows = ctx.spikes.multiply_turned(grad.permute(0, 2, 3, 1).reshape(-1, len(weight)))
            of_weight = rows.view(*windows.kernel, windows.channels, -1)
            of_weight = of_weight.permute(3, 2, 0, 1).contiguous()
        return of_images, of_weight, grad.sum((0, 2, 3)) if needs_bias else None, None


def _product(words: Words, values: Tensor, rows: int, bias: Tensor | None) -> Tensor:
    """Return bits · values + bias, (M, O), for bits (M, K) and values (K, O); M is `rows`."""
    values, columns = values.detach().contiguous(), values.shape[1]
    offsets = values.new_zeros(columns) if bias is None else bias.detach().contiguous()
    result = torch.empty(rows, columns)
    source, start, target = values.numpy(), offsets.numpy(), result.numpy()
    across = -(-columns // WIDE)
    # Each row is summed by itself: how many make a piece changes no sum.
    count = max(-(-rows // MOST_ROWS), -(-2 * torch.get_num_threads() // across))
    height = -(-rows // min(count, rows))
    pieces = -(-rows // height) * across

    def work(_: int, span: Span) -> None:
        scratch = torch.empty((WORD + MOST_ROWS) * WIDE)  # torch begins at lines of the cache
        add_rows_span(words, source, start, height, span, scratch.numpy(), target)

    run_spans(cut_evenly(pieces, SPANS), work)
    return result
