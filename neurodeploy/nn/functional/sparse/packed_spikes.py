"""Spikes kept as bits until the backward pass, by torch's convolutions and by skip connections.

The gradient of the weights needs the inputs, which torch keeps as float32. Zeros and ones take a
thirty-second of that as bits. In the backward pass they become numbers again, and are given back
before the gradient of the inputs needs as much memory. Outputs and gradients are torch's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from torch import Tensor
from torch.nn import functional

from neurodeploy import llvm_vectors
from neurodeploy.compiled_code import compiled, intrinsic, source_key
from neurodeploy.llvm_vectors import WORD, Memory, Vector, vector_function, where
from neurodeploy.nn.functional.memory_pool import reused
from neurodeploy.nn.functional.parallel import (
    SPANS,
    Span,
    cut_evenly,
    is_compilable,
    run_spans,
)
from neurodeploy.nn.functional.surrogate import Float32Array

FEWEST: Final = 1 << 14
"""Values below which bits save too little."""
_AT_ONCE: Final = 1 << 22
"""Values, about, that are unpacked at once: more calls cost more than they save in the cache."""

Words = npt.NDArray[np.uint64]
Booleans = npt.NDArray[np.bool_]
Pair = tuple[int, int]

_kernel = compiled(source_key(Path(file) for file in (__file__, llvm_vectors.__file__)))


class Sliding(NamedTuple):
    """How a convolution moves over its images, as torch's conv2d takes it."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


# Bits and numbers ------------------------------------------------------------------------------


@intrinsic
@vector_function("boolean")
def _pack(values: Memory, start: Vector, words: Memory, at: Vector) -> Vector:
    """Write which of values[start : start + 64] are one to words[at]; return if others are zero."""
    numbers = values.at(start).load(WORD)
    ones = numbers.differs(0)
    words.at(at).store(ones.bitmask())
    return (ones & numbers.differs(1)).bitmask().equals(0)


@intrinsic
@vector_function()
def _unpack(words: Memory, at: Vector, values: Memory, start: Vector) -> None:
    """Write the bits of words[at] to values[start : start + 64] as zeros and ones."""
    word = words.at(at).load()
    lanes = word.builder.bitcast(word.value, ir.VectorType(ir.IntType(1), WORD))
    values.at(start).store(where(Vector(word.builder, lanes), 1, values.zeros(WORD)))


@_kernel
def pack_binary(values: Float32Array, rows: Span, words: Words, is_binary: Booleans) -> None:
    """Pack some rows of values (R, M), up to the first that has others than zeros and ones."""
    size = values.shape[1]
    whole = size // WORD
    for row in range(rows[0], rows[1]):
        is_binary[row] = False
        for word in range(whole):
            if not _pack(values, row * size + word * WORD, words, row * words.shape[1] + word):
                return
        if size > whole * WORD:
            last = np.uint64(0)
            for place in range(whole * WORD, size):
                value = values[row, place]
                if value == 1:
                    last |= np.uint64(1) << np.uint64(place - whole * WORD)
                elif value != 0:
                    return
            words[row, whole] = last
        is_binary[row] = True


@_kernel
def unpack_rows(words: Words, first: int, rows: Span, values: Float32Array) -> None:
    """Write some rows of values (R, M), the first of which is row `first` of the words."""
    size = values.shape[1]
    whole = size // WORD
    for row in range(rows[0], rows[1]):
        source = first + row
        for word in range(whole):
            _unpack(words, source * words.shape[1] + word, values, row * size + word * WORD)
        for place in range(whole * WORD, size):
            bit = words[source, whole] >> np.uint64(place - whole * WORD) & np.uint64(1)
            values[row, place] = np.float32(bit)


def pack(x: Tensor, rows: int) -> Tensor | None:
    """Return spikes as bits: `rows` rows of neighbours in memory, each of whole words.

    None if some value is neither zero nor one, there are few, compiled loops cannot read them, or
    nothing will be differentiated.

    Returns:
        (rows, words) int64: bit b of word w is value 64 · w + b of a row.
    """
    if x.numel() < FEWEST or not torch.is_grad_enabled() or not is_compilable(x):
        return None
    strides = x.stride()
    order = sorted(range(x.dim()), key=lambda axis: (-strides[axis], axis))
    laid = x.detach().permute(order)
    if not laid.is_contiguous():
        return None
    values = laid.reshape(rows, -1).numpy()
    words = torch.empty(rows, -(-values.shape[1] // WORD), dtype=torch.int64)
    is_binary, target = np.zeros(rows, np.bool_), words.numpy().view(np.uint64)
    run_spans(
        cut_evenly(rows, min(SPANS, x.numel() >> 18)),
        lambda _, span: pack_binary(values, span, target, is_binary),
    )
    return words if is_binary.all() else None


def unpack(words: Tensor, rows: Span, values: Float32Array) -> None:
    """Write rows `rows` of spikes to values, (rows, M)."""
    source = words.numpy().view(np.uint64)
    run_spans(
        cut_evenly(len(values), min(SPANS, values.size >> 18)),
        lambda _, span: unpack_rows(source, rows[0], span, values),
    )


# Convolution -----------------------------------------------------------------------------------


def convolution_of_bits(
    images: Tensor, weight: Tensor, bias: Tensor | None, sliding: Sliding
) -> Tensor:
    """Return torch's conv2d of images (N, C, H, W), channels last as the weight.

    Images of zeros and ones are kept as bits. Under autocast torch does everything itself.
    """
    if weight.requires_grad and not torch.is_autocast_enabled("cpu"):
        words = pack(images, len(images))
        if words is not None:
            result: Tensor = _KeptConvolution.apply(images, weight, bias, sliding, words)
            return result
    return functional.conv2d(images, weight, bias, *sliding)


def input_gradient(
    grad: Tensor, weight: Tensor, shape: tuple[int, ...], sliding: Sliding
) -> Tensor:
    """Return the gradient of the inputs, of shape (N, C, H, W), of a convolution.

    Torch's own function asks for inputs, of which it uses nothing, and copies them.
    """
    stride, padding, dilation, groups = sliding
    beyond = [
        (size + 2 * pad - apart * (taps - 1) - 1) % step
        for size, pad, apart, taps, step in zip(
            shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
        )
    ]
    return functional.conv_transpose2d(
        grad, weight, None, stride, padding, beyond, groups, dilation
    )


class _KeptConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        sliding: Sliding,
        words: Tensor,
    ) -> Tensor:
        ctx.shape, ctx.sliding = images.shape, sliding
        ctx.save_for_backward(weight, words)
        return functional.conv2d(images, weight, bias, *sliding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, words = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_weight = of_images = of_bias = None
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(grad, weight, words, ctx.shape, ctx.sliding)
        if ctx.needs_input_grad[0]:  # after the spikes have been given back: no memory for both
            of_images = input_gradient(grad, weight, ctx.shape, ctx.sliding)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum((0, 2, 3))
        return of_images, of_weight, of_bias, None, None


def _weight_gradient(
    grad: Tensor, weight: Tensor, words: Tensor, shape: torch.Size, sliding: Sliding
) -> Tensor:
    """Return the gradient of the weights, the inputs (N, C, H, W) given as bits."""
    count, channels, height, width = shape
    stride, padding, dilation, groups = sliding
    pieces = cut_evenly(count, -(-shape.numel() // _AT_ONCE))
    longest = max(stop - first for first, stop in pieces)
    room = torch.from_numpy(reused(longest * height * width * channels))
    room = room.view(longest, height, width, channels)
    total: Tensor | None = None
    for first, stop in pieces:
        unpacked = room[: stop - first]
        unpack(words, (first, stop), unpacked.view(stop - first, -1).numpy())
        _, part, _ = torch.ops.aten.convolution_backward(
            grad[first:stop], unpacked.permute(0, 3, 1, 2), weight, None, stride, padding,
            dilation, False, [0, 0], groups, [False, True, False],
        )  # fmt: skip
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
