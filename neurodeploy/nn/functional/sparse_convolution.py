"""Convolutions that skip zero inputs, where that is faster.

Forward pass and gradient of the weights cost a few rows of products for each input that is not
zero; the gradient of the inputs is torch's. `find_savings` decides at each call from the inputs
themselves: the same inputs always go the same way, whatever was computed before, so a run repeats
to the bit.

The sums are those of a convolution in another order: equal to the bit where they are exact (spikes
and quantised weights), to float32's rounding elsewhere.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from llvmlite.binding import get_host_cpu_features
from torch import Tensor

from neurodeploy.nn.functional import skipping_loops
from neurodeploy.nn.functional.compiled import is_compilable
from neurodeploy.nn.functional.rows import (
    SPANS,
    Span,
    run_spans,
)

Pair = tuple[int, int]

_REACH_OF_HALF: Final = 330
_LIMIT: Final = 0.35
_LIMIT_OF_AVX512: Final = 0.16
FEWEST_OUTPUTS: Final = 32
"""Output channels below which runs are too short to pay."""
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
    """Return the share of inputs above which skipping is slower than torch's convolution.

    Every input that is not skipped costs its products and a fixed amount, so the share is
    L · n / (n + 330) for n products of one input. Just below it skipping is faster: measured with
    AVX2 on Zen 3, where it gives 11 % for 144 products, 16 % for 288, 22 % for 576. With AVX-512
    torch's convolution gains more than rows of weights do that come from the second-level cache,
    and L is less than half of that.

    Args:
        reached: n.
    """
    has_wide = bool(get_host_cpu_features().get("avx512f", False))
    limit = _LIMIT_OF_AVX512 if has_wide else _LIMIT
    return limit * reached / (reached + _REACH_OF_HALF)


def find_savings(
    images: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> npt.NDArray[np.int64] | None:
    """Count the values of each image that are not zero; None where torch's own is faster.

    Args:
        images: (N, C, H, W) inputs.
        weight: (O, C / groups, kH, kW).
        stride: (height, width).
        padding: (height, width).
        dilation: (height, width).
        groups: Channel groups.

    Returns:
        (N,) int64; None unless the kernel is wider than a pixel, there are enough outputs and
        products (of one input and in all), and at most as many of the inputs are not zero as
        `most_worthwhile` allows, which depends on the weight's shape and the kind of processor.
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
    counts = active_counts(images)
    return None if counts.sum() > most_worthwhile(reached) * images.numel() else counts


def active_counts(images: Tensor) -> npt.NDArray[np.int64]:
    """Count the values of each image of (N, C, H, W) that are not zero."""
    values, count = _rows(images).reshape(-1), images.shape[0]
    counts, size = np.empty(count, np.int64), values.size // count

    def work(_: int, start: int, stop: int) -> None:
        skipping_loops.count_images_span(values, size, start, stop, counts)

    run_spans(_even(count, max(1, min(SPANS, count, values.size >> 16))), work)
    return counts


def sparse_convolution(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    counts: npt.NDArray[np.int64],
) -> Tensor:
    """Return torch's conv2d(images, weight, bias, stride, padding), skipping inputs that are zero.

    Args:
        images: (N, C, H, W) float32, on the CPU.
        weight: (O, C, kH, kW) float32.
        bias: (O,) float32, or None.
        stride: (height, width).
        padding: (height, width).
        counts: (N,) int64, values of each image that are not zero.

    Returns:
        (N, O, H', W') float32, channels last.
    """
    result: Tensor = _SparseConvolution.apply(images, weight, stride, padding, counts)
    return result if bias is None else result + bias[:, None, None]


def _even(size: int, count: int) -> list[Span]:
    return [(size * i // count, size * (i + 1) // count) for i in range(count)]


def _output_sizes(sizes: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    height, width = (
        (size + 2 * pad - taps) // step + 1
        for size, pad, taps, step in zip(sizes, padding, kernel, stride, strict=True)
    )
    return height, width


def _rows(images: Tensor) -> np.ndarray[Any, Any]:
    """Return (N, C, H, W) as (N, H, W, C), C-contiguous."""
    rows: np.ndarray[Any, Any] = images.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Events:
    """The values of images that are not zero; see `sparse_kernels`.

    Attributes:
        values: (N * H * W * C,) float32, the images, channels last.
        count: N.
        sizes: (H, W, C).
        offsets: (N + 1,) int64.
        places: (m,) int32.
    """

    values: npt.NDArray[np.float32]
    count: int
    sizes: tuple[int, int, int]
    offsets: npt.NDArray[np.int64]
    places: npt.NDArray[np.int32]

    @classmethod
    def of(cls, images: Tensor, counts: npt.NDArray[np.int64]) -> _Events:
        """List those of (N, C, H, W)."""
        rows = _rows(images)
        count, height, width, channels = rows.shape
        values, size = rows.reshape(-1), height * width * channels
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        places = np.empty(offsets[-1], np.int32)
        run_spans(
            _even(count, min(SPANS, count)),
            lambda _, start, stop: skipping_loops.list_events_span(
                values, size, start, stop, offsets, places
            ),
        )
        return cls(
            values=values,
            count=count,
            sizes=(height, width, channels),
            offsets=offsets,
            places=places,
        )


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        stride: Pair,
        padding: Pair,
        counts: npt.NDArray[np.int64],
    ) -> Tensor:
        ctx.stride, ctx.padding, ctx.events = stride, padding, _Events.of(images, counts)
        ctx.save_for_backward(images, weight)
        return _convolve(ctx.events, weight, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = torch.ops.aten.convolution_backward(
                grad,
                images,
                weight.contiguous(memory_format=torch.channels_last),
                None,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                1,
                (True, False, False),
            )[0]
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(ctx.events, grad, weight.shape, ctx.stride, ctx.padding)
        return of_images, of_weight, None, None, None


def _channels_first(weight: Tensor) -> npt.NDArray[np.float32]:
    """Return (O, C, kH, kW) as (C, kH, kW, O), flat."""
    flat: npt.NDArray[np.float32]
    flat = weight.detach().permute(1, 2, 3, 0).contiguous().view(-1).numpy()
    return flat


def _convolve(events: _Events, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    outputs, _, *taps = weight.shape
    kernel = (taps[0], taps[1])
    flat = _channels_first(weight)
    size = _output_sizes(events.sizes[:2], kernel, stride, padding)
    result = torch.empty(events.count, *size, outputs)
    target = result.view(-1).numpy()
    run_spans(
        _even(events.count, min(SPANS, events.count)),
        lambda _, start, stop: skipping_loops.convolve_span(
            events.values,
            events.sizes,
            events.offsets,
            events.places,
            flat,
            kernel,
            stride,
            padding,
            start,
            stop,
            (*size, outputs),
            target,
        ),
    )
    return result.permute(0, 3, 1, 2)


def _weight_gradient(
    events: _Events, grad: Tensor, shape: torch.Size, stride: Pair, padding: Pair
) -> Tensor:
    outputs, channels, *taps = shape
    kernel = (taps[0], taps[1])
    upstream = _rows(grad)
    count, height, width, _ = upstream.shape
    gradients = upstream.reshape(-1)
    size = math.prod(taps) * outputs
    # Sums of a piece stay in the second-level cache; how many there are depends on sizes alone.
    pieces = _even(channels, -(-channels * size // _WEIGHTS_AT_ONCE))
    shares = _even(count, max(1, min(count // skipping_loops.FLUSH, SPANS // len(pieces))))
    result = np.zeros((len(shares), channels * size))
    frame, corner, pixels, steps = _framed(
        events.sizes[:2], kernel, stride, padding, (height, width)
    )
    work = list(itertools.product(range(len(shares)), pieces))

    def add(number: int, _: int, __: int) -> None:
        share, piece = work[number]
        skipping_loops.weight_gradient_span(
            events.values,
            events.sizes,
            events.offsets,
            events.places,
            gradients,
            (height, width, outputs),
            frame,
            corner,
            pixels,
            steps,
            shares[share],
            piece,
            result[share, piece[0] * size : piece[1] * size],
        )

    run_spans([(0, 0)] * len(work), add)
    total = torch.from_numpy(result.sum(0)).view(channels, *taps, outputs)
    return total.permute(3, 0, 1, 2).float().contiguous()


def _framed(
    sizes: Pair, kernel: Pair, stride: Pair, padding: Pair, outputs: Pair
) -> tuple[Pair, int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return frame, corner, pixels and taps as `weight_gradient_span` takes them."""
    before = [(taps - 1) // step for taps, step in zip(kernel, stride, strict=True)]
    shifted = [np.arange(size) + pad for size, pad in zip(sizes, padding, strict=True)]
    high, wide = (
        first + max(int(places[-1]) // step + 1, size)
        for first, places, step, size in zip(before, shifted, stride, outputs, strict=True)
    )
    y, x = shifted[0][:, None], shifted[1]
    residues = y % stride[0] * stride[1] + x % stride[1]
    reached = (y // stride[0] + before[0]) * wide + x // stride[1] + before[1]
    ky, kx = np.arange(kernel[0])[:, None], np.arange(kernel[1])
    of_taps = ky % stride[0] * stride[1] + kx % stride[1]
    steps = ky // stride[0] * wide + kx // stride[1]
    numbers = np.arange(of_taps.size)
    taps = np.stack([of_taps.ravel(), steps.ravel(), numbers], 1)
    pixels = np.stack([residues.ravel(), reached.ravel()], 1)
    return (
        (high, wide),
        before[0] * wide + before[1],
        pixels,
        taps[np.argsort(of_taps.ravel(), kind="stable")],
    )
