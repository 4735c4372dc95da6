"""Convolutions that skip inputs that are zero, where that is faster.

Forward pass and gradient of the weights cost a few rows of products for each input that is not
zero; the gradient of the inputs is torch's. The sums are those of a convolution in another order:
equal to the bit where they are exact (spikes and quantised weights), to float32's rounding
elsewhere.

`count_if_sparse` decides from the inputs, the shape and the kind of processor, by limits that were
measured beforehand. Measuring at the first use would fit the machine better, but then two runs of a
recipe, or a run and its continuation, could go different ways and round differently. As it is, the
same inputs always go the same way, whatever was computed before.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from llvmlite.binding import get_host_cpu_features
from torch import Tensor
from torch.nn.grad import conv2d_input

from neurodeploy.nn.functional.parallel import (
    SPANS,
    Span,
    cut_evenly,
    is_compilable,
    run_spans,
)
from neurodeploy.nn.functional.sparse.skipping_loops import (
    FLUSH,
    Events,
    Frame,
    Int64Array,
    Pair,
    Shape,
    Windows,
    convolve_span,
    count_span,
    list_span,
    weight_gradient_span,
)
from neurodeploy.nn.functional.surrogate import Float32Array

_REACH_OF_HALF: Final = 330
_LIMIT: Final = 0.35
_LIMIT_OF_AVX512: Final = 0.16
_MOST: Final = 0.22
FEWEST_OUTPUTS: Final = 32
"""Output channels below which rows are too short to pay."""
FEWEST_READ: Final = 128
"""Inputs of one output below which going to the output costs more than skipping inputs saves."""
FEWEST_REACHED: Final = 128
"""Products of one input below which listing it costs more than skipping it saves."""
FEWEST_PRODUCTS: Final = 1 << 24
"""Products of the whole convolution below which calling overheads rule."""
_WEIGHTS_AT_ONCE: Final = 1 << 17
"""Most weights, about, whose gradient is computed in one piece."""


@cache
def most_worthwhile(reached: int) -> float:
    """Return the share of inputs that are not zero up to which skipping the others is faster.

    Every input that is not skipped costs its products and a fixed amount, so the share is
    L · n / (n + 330) for n products of one input, and at most 22 %: beyond that, inference was
    slower where the weights outgrow the second-level cache.

    Measured on Zen 4, for AVX2 with AVX-512 turned off, just below the limits: with AVX2, L = 0.35
    (11 % for 144 products, 16 % for 288, 22 % from 576 on), a convolution with its gradients is 1.2
    to 1.4 times as fast as torch's, the forward pass 1.2 to 1.9 times. With AVX-512, L = 0.16 (5, 7
    and 10 %), it is 1.2 to 1.8 and 1.6 to 3 times. The limits of AVX2 would have done there, but
    Zen 4 takes two passes for 512 bits: where one is enough, torch's convolution gains up to twice
    as much, and rows from the second-level cache gain nothing.

    Args:
        reached: n.
    """
    has_wide = bool(get_host_cpu_features().get("avx512f", False))
    limit = _LIMIT_OF_AVX512 if has_wide else _LIMIT
    return min(_MOST, limit * reached / (reached + _REACH_OF_HALF))


def count_if_sparse(
    images: Tensor, weight: Tensor, stride: Pair, dilation: Pair, groups: int
) -> Int64Array | None:
    """Count the values of each image (N, C, H, W) that are not zero.

    Arguments are those of torch's conv2d.

    Returns:
        (N,) int64; None unless the kernel is wider than a pixel, there are enough outputs and
        products (of one input and in all), and at most as many of the inputs are not zero as
        `most_worthwhile` allows.
    """
    reached = weight[:, 0].numel() // (stride[0] * stride[1])
    if (
        groups != 1
        or dilation != (1, 1)
        or min(weight.shape[2:]) < 2
        or weight.shape[0] < FEWEST_OUTPUTS
        or not is_compilable(images)
        or weight.dtype != torch.float32
        or reached < FEWEST_REACHED
        or weight[0].numel() < FEWEST_READ
        or images.numel() * reached < FEWEST_PRODUCTS
        or not images.is_contiguous(memory_format=torch.channels_last)
    ):
        return None
    counts = count_events(images)
    return None if counts.sum() > most_worthwhile(reached) * images.numel() else counts


def count_events(images: Tensor) -> Int64Array:
    """Count the values of each image of (N, C, H, W) that are not zero."""
    values, count = _flat(images), images.shape[0]
    counts, size = np.empty(count, np.int64), values.size // count
    spans = cut_evenly(count, min(SPANS, values.size >> 16))
    run_spans(spans, lambda _, span: count_span(values, size, span, counts))
    return counts


def sparse_convolution(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    counts: Int64Array,
) -> Tensor:
    """Return torch's conv2d(images, weight, bias, stride, padding), skipping inputs that are zero.

    All is float32 and on the CPU; `counts` are those of `count_if_sparse`. The result is channels
    last.
    """
    result: Tensor = _SparseConvolution.apply(images, weight, stride, padding, counts)
    return result if bias is None else result + bias[:, None, None]


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair, counts: Int64Array
    ) -> Tensor:
        events = _list_events(images, counts)
        height, width = (
            (size + 2 * pad - taps) // step + 1
            for size, pad, taps, step in zip(
                images.shape[2:], padding, weight.shape[2:], stride, strict=True
            )
        )
        kernel = weight.shape[2], weight.shape[3]
        windows = Windows(kernel, stride, padding, (height, width, weight.shape[0]))
        ctx.events, ctx.windows = events, windows
        ctx.save_for_backward(images, weight)
        rows = weight.detach().permute(1, 2, 3, 0).contiguous().view(-1).numpy()
        result = torch.empty(images.shape[0], *windows.outputs)
        target = result.view(-1).numpy()
        run_spans(
            cut_evenly(images.shape[0], SPANS),
            lambda _, span: convolve_span(events, rows, windows, span, target),
        )
        return result.permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = conv2d_input(  # type: ignore[no-untyped-call]
                images.shape,
                weight.contiguous(memory_format=torch.channels_last),
                grad,
                ctx.windows.stride,
                ctx.windows.padding,
            )
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(ctx.events, ctx.windows, grad)
        return of_images, of_weight, None, None, None


def _flat(images: Tensor) -> Float32Array:
    """Return (N, C, H, W) as (N * H * W * C,)."""
    flat: Float32Array = images.detach().permute(0, 2, 3, 1).contiguous().view(-1).numpy()
    return flat


def _list_events(images: Tensor, counts: Int64Array) -> Events:
    count, channels, height, width = images.shape
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    places = np.empty(offsets[-1], np.int32)
    events = Events(_flat(images), (height, width, channels), offsets, places)
    run_spans(cut_evenly(count, SPANS), lambda _, span: list_span(events, span))
    return events


def _weight_gradient(events: Events, windows: Windows, grad: Tensor) -> Tensor:
    count, channels = len(events.offsets) - 1, events.shape[2]
    gradients, frame = _flat(grad), _frame(events.shape, windows)
    taps, outputs = math.prod(windows.kernel), windows.outputs[2]
    size = taps * outputs
    # Sums of a piece stay in the second-level cache; how many there are depends on sizes alone.
    pieces = cut_evenly(channels, -(-channels * size // _WEIGHTS_AT_ONCE))
    shares = cut_evenly(count, min(count // FLUSH, SPANS // len(pieces)))
    result = np.zeros((len(shares), channels * size))
    work = list(itertools.product(range(len(shares)), pieces))

    def add(number: int, _: Span) -> None:
        share, piece = work[number]
        of_piece = result[share, piece[0] * size : piece[1] * size]
        weight_gradient_span(events, gradients, frame, shares[share], piece, of_piece)

    run_spans([(0, 0)] * len(work), add)
    total = torch.from_numpy(result.sum(0)).view(channels, *windows.kernel, outputs)
    return total.permute(3, 0, 1, 2).float().contiguous()


def _frame(shape: Shape, windows: Windows) -> Frame:
    """Frame the gradients of a convolution's result for events of images of a shape (H, W, C)."""
    kernel, stride, padding, outputs = windows
    before = [(taps - 1) // step for taps, step in zip(kernel, stride, strict=True)]
    shifted = [np.arange(size) + pad for size, pad in zip(shape[:2], padding, strict=True)]
    high, wide = (
        first + max(int(places[-1]) // step + 1, size)
        for first, places, step, size in zip(before, shifted, stride, outputs[:2], strict=True)
    )
    y, x = shifted[0][:, None], shifted[1]
    residues = y % stride[0] * stride[1] + x % stride[1]
    reached = (y // stride[0] + before[0]) * wide + x // stride[1] + before[1]
    ky, kx = np.arange(kernel[0])[:, None], np.arange(kernel[1])
    of_taps = (ky % stride[0] * stride[1] + kx % stride[1]).ravel()
    steps = (ky // stride[0] * wide + kx // stride[1]).ravel()
    order = np.argsort(of_taps, kind="stable")
    return Frame(
        outputs=outputs,
        size=(high, wide),
        corner=before[0] * wide + before[1],
        pixels=np.stack([residues.ravel(), reached.ravel()], 1),
        taps=np.stack([of_taps[order], steps[order], order], 1),
    )
