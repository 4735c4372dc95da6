"""Convolutions that skip zero inputs, where that is faster.

Forward pass and gradient of the weights cost a few rows of products for each input that is not
zero; the gradient of the input has no zeros to skip and stays torch's. `is_sparse_faster` decides
at each call from the inputs themselves: the same inputs always go the same way, whatever was
computed before, so a run repeats to the bit.

The sums are those of a convolution in another order: equal to the bit where they are exact (spikes
and quantised weights), to float32's rounding elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.nn import sparse_kernels
from neurodeploy.nn.compiled import is_compilable
from neurodeploy.nn.spans import SPANS, Span, run_spans

Pair = tuple[int, int]

MOST_ACTIVE: Final = 0.08
"""Share of inputs above which torch's convolution is used: where both take as long with AVX-512."""
FEWEST_OUTPUTS: Final = 32
"""Output channels below which runs are too short to pay."""
FEWEST_REACHED: Final = 256
"""Products of one input below which listing it costs more than skipping it saves."""
FEWEST_PRODUCTS: Final = 1 << 24
"""Products of the whole convolution below which calling overheads rule."""
_CHANNELS_AT_ONCE: Final = 8
"""Fewest input channels whose weights' gradient is computed in one piece."""


def is_sparse_faster(
    images: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> bool:
    """Say whether a convolution is better computed from its non-zero inputs.

    Args:
        images: (N, C, H, W) inputs.
        weight: (O, C / groups, kH, kW).
        stride: (height, width).
        padding: (height, width).
        dilation: (height, width).
        groups: Channel groups.

    Returns:
        Whether the kernel is wider than a pixel, there are enough outputs and products (of one
        input and in all), and at most `MOST_ACTIVE` of the inputs are not zero.
    """
    if (
        groups != 1
        or dilation != (1, 1)
        or min(weight.shape[2:]) < 2
        or weight.shape[0] < FEWEST_OUTPUTS
        or not is_compilable(images)
        or weight.dtype != torch.float32
        or weight[:, 0].numel() < FEWEST_REACHED * stride[0] * stride[1]
        or images.numel() * weight[:, 0].numel() < FEWEST_PRODUCTS * stride[0] * stride[1]
        or not images.is_contiguous(memory_format=torch.channels_last)
    ):
        return False
    return active_share(images) <= MOST_ACTIVE


def active_share(images: Tensor) -> float:
    """Give the share of values that are not zero, for a dense tensor in any order of its axes."""
    values = images.detach().permute(0, 2, 3, 1).reshape(-1).numpy()
    spans = _even(values.size, max(1, min(SPANS, values.size >> 16)))
    counts = np.empty(len(spans), np.int64)

    def count(number: int, start: int, stop: int) -> None:
        counts[number] = sparse_kernels.count_span(values, start, stop)

    run_spans(spans, count)
    return float(counts.sum()) / max(values.size, 1)


def sparse_convolution(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
) -> Tensor:
    """Give torch's conv2d(images, weight, bias, stride, padding), skipping zero inputs.

    Args:
        images: (N, C, H, W) float32, on the CPU.
        weight: (O, C, kH, kW) float32.
        bias: (O,) float32, or None.
        stride: (height, width).
        padding: (height, width).

    Returns:
        (N, O, H', W') float32, channels last.
    """
    result: Tensor = _SparseConvolution.apply(images, weight, stride, padding)
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
    """Give (N, C, H, W) as (N, H, W, C), C-contiguous."""
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
    def of(cls, images: Tensor) -> _Events:
        """List those of (N, C, H, W)."""
        rows = _rows(images)
        count, height, width, channels = rows.shape
        values, size = rows.reshape(-1), height * width * channels
        offsets = np.zeros(count + 1, np.int64)
        spans = _even(count, min(SPANS, count))
        run_spans(
            spans,
            lambda _, start, stop: sparse_kernels.count_images_span(
                values, size, start, stop, offsets[1:]
            ),
        )
        np.cumsum(offsets, out=offsets)
        places = np.empty(offsets[-1], np.int32)
        run_spans(
            spans,
            lambda _, start, stop: sparse_kernels.list_events_span(
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
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        events = _Events.of(images)
        outputs, _, *taps = weight.shape
        kernel = (taps[0], taps[1])
        flat = weight.detach().permute(1, 2, 3, 0).contiguous().view(-1).numpy()
        size = _output_sizes(events.sizes[:2], kernel, stride, padding)
        result = torch.zeros(events.count, *size, outputs)
        target = result.numpy()
        run_spans(
            _even(events.count, min(SPANS, events.count)),
            lambda _, start, stop: sparse_kernels.convolve_span(
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
                target,
            ),
        )
        ctx.events = events
        ctx.stride, ctx.padding = stride, padding
        ctx.save_for_backward(images, weight)
        return result.permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images, _, _ = torch.ops.aten.convolution_backward(
                grad.contiguous(memory_format=torch.channels_last),
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
            )
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(ctx.events, grad, weight.shape, ctx.stride, ctx.padding)
        return of_images, of_weight, None, None


def _weight_gradient(
    events: _Events, grad: Tensor, shape: torch.Size, stride: Pair, padding: Pair
) -> Tensor:
    outputs, channels, *taps = shape
    upstream = _rows(grad)
    count, height, width, _ = upstream.shape
    ends = np.empty((count, channels + 1), np.int64)
    pixels = np.empty(events.places.size, np.int32)
    factors = np.empty(events.places.size, np.float32)
    run_spans(
        _even(count, min(SPANS, count)),
        lambda _, start, stop: sparse_kernels.sort_events_span(
            events.values,
            events.sizes,
            events.offsets,
            events.places,
            start,
            stop,
            ends,
            pixels,
            factors,
        ),
    )
    lines = _reached(events.sizes[0], taps[0], stride[0], padding[0], height) * width * outputs
    columns = _reached(events.sizes[1], taps[1], stride[1], padding[1], width) * outputs
    result = np.zeros((channels, *taps, outputs))
    flat = upstream.reshape(count, -1)
    run_spans(
        _even(channels, max(1, min(SPANS, channels // _CHANNELS_AT_ONCE))),
        lambda _, start, stop: sparse_kernels.weight_gradient_span(
            events.sizes, ends, pixels, factors, flat, lines, columns, start, stop, result
        ),
    )
    return torch.from_numpy(result).permute(3, 0, 1, 2).float().contiguous()


def _reached(
    size: int, taps: int, stride: int, padding: int, outputs: int
) -> npt.NDArray[np.int64]:
    """Give (size, taps): which output an input reaches through a tap; negative for none."""
    shifted = np.arange(size)[:, None] + padding - np.arange(taps)
    reached = shifted // stride
    return np.where((shifted % stride == 0) & (reached < outputs), reached, -1)
