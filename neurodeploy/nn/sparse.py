"""Convolutions that skip zero inputs, where that is faster.

Forward pass and gradient of the weights cost one run of products for each input that is not
zero; the gradient of the input has no zeros to skip and stays torch's. `is_sparse_faster` decides
at each call from the inputs themselves: the same inputs always go the same way, whatever was
computed before, so a run repeats to the bit.

The sums are those of a convolution in another order: equal to the bit where they are exact (spikes
and quantised weights), to float32's rounding elsewhere.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from neurodeploy.nn import sparse_kernels
from neurodeploy.nn.compiled import is_compilable
from neurodeploy.nn.spans import SPANS, Span, run_spans

Pair = tuple[int, int]

MOST_ACTIVE: Final = 0.15
"""Share of inputs above which torch's convolution is used."""
FEWEST_OUTPUTS: Final = 32
"""Output channels below which runs are too short to pay."""
FEWEST_PRODUCTS: Final = 1 << 24
"""Products of the whole convolution below which calling overheads rule."""
_CHANNELS_AT_ONCE: Final = 16  # a cache line of inputs


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
        Whether the kernel is wider than a pixel, there are enough outputs and products, and at
        most `MOST_ACTIVE` of the inputs are not zero.
    """
    if (
        groups != 1
        or dilation != (1, 1)
        or min(weight.shape[2:]) < 2
        or weight.shape[0] < FEWEST_OUTPUTS
        or not is_compilable(images)
        or weight.dtype != torch.float32
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


def _sorted_columns(kernel: int, stride: int) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Sort kernel columns by remainder, falling within one; give where each remainder starts."""
    columns: list[int] = []
    starts = [0]
    for remainder in range(stride):
        columns.extend(range(remainder, kernel, stride)[::-1])
        starts.append(len(columns))
    return columns, np.array(starts, np.int64)


def _rows(images: Tensor) -> np.ndarray[Any, Any]:
    """Give (N, C, H, W) as (N, H, W, C), C-contiguous."""
    rows: np.ndarray[Any, Any] = images.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return rows


class _SparseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        x = _rows(images)
        outputs, _, *kernel = weight.shape
        columns, starts = _sorted_columns(kernel[1], stride[1])
        flat = weight.detach()[..., columns].permute(1, 2, 3, 0).contiguous().view(-1).numpy()
        height, width = (
            (size + 2 * pad - taps) // step + 1
            for size, pad, taps, step in zip(x.shape[1:3], padding, kernel, stride, strict=True)
        )
        result = torch.zeros(x.shape[0], height, width, outputs)
        target = result.numpy().reshape(x.shape[0], height, width * outputs)
        shape = (kernel[0], kernel[1])
        run_spans(
            _even(x.shape[0], min(SPANS, x.shape[0])),
            lambda _, start, stop: sparse_kernels.convolve_span(
                x, flat, starts, start, stop, stride, padding, shape, target
            ),
        )
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
            of_weight = _weight_gradient(images, grad, weight.shape, ctx.stride, ctx.padding)
        return of_images, of_weight, None, None


def _weight_gradient(
    images: Tensor, grad: Tensor, shape: torch.Size, stride: Pair, padding: Pair
) -> Tensor:
    outputs, channels, height, width = shape
    x, upstream = _rows(images), _rows(grad)
    upstream = upstream.reshape(*upstream.shape[:2], -1)
    columns, starts = _sorted_columns(width, stride[1])
    result = torch.zeros(channels, height, width, outputs, dtype=torch.float64)
    target = result.view(-1).numpy()
    run_spans(
        _even(channels, max(1, min(SPANS, channels // _CHANNELS_AT_ONCE))),
        lambda _, start, stop: sparse_kernels.weight_gradient_span(
            x, upstream, starts, start, stop, stride, padding, (height, width), outputs, target
        ),
    )
    of_weight = torch.empty(shape)
    of_weight[..., columns] = result.permute(3, 0, 1, 2).float()
    return of_weight
