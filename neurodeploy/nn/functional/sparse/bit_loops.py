"""Compiled loops of products with zeros and ones, of which each takes one bit.

A product of a matrix of bits and one of floats adds up those rows of floats whose bits are set. A
*word* of 64 bits chooses from 64 rows; of these, up to 64 columns are copied to where they fit the
first-level cache, so that an addition waits for nothing and costs as much as the products of a
dense matrix product would, of which most are left out. Sums of a word stay in vector registers.

A dense map reads rows of inputs, a convolution windows of images: both are rows of bits. Matrices
of bits are stored by words, (w, m): bit b of [w, m] is column 64 · w + b of row m.

Sums are made in an order that depends on neither threads nor load.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from neurodeploy import llvm_vectors
from neurodeploy.compiled_code import compiled, intrinsic, source_key
from neurodeploy.llvm_vectors import WORD, Memory, Vector, fold_all, vector_function
from neurodeploy.nn.functional.parallel import Span
from neurodeploy.nn.functional.surrogate import Float32Array

Words = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]
Pair = tuple[int, int]

WIDE: Final = 64
"""Columns that are summed at once: four registers of AVX-512, eight of AVX2."""
NARROW: Final = 32
"""The same where no more columns are left."""
MOST_ROWS: Final = 512
"""Rows of a result that are summed together: their sums stay in the second-level cache."""

count_set = intrinsic(llvm_vectors.count_set)
nonzero_bits = intrinsic(llvm_vectors.nonzero_bits)

_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_kernel = compiled(source_key(Path(file) for file in (__file__, llvm_vectors.__file__)))


class Windows(NamedTuple):
    """How a kernel moves over images of bits.

    Attributes:
        channels: Channels of the images.
        kernel: (height, width), as all pairs.
        stride: Step between windows.
        padding: Zeros around an image.
        outputs: Windows of an image.
    """

    channels: int
    kernel: Pair
    stride: Pair
    padding: Pair
    outputs: Pair


@intrinsic
@vector_function("boolean")
def _has_others(values: Memory, start: Vector) -> Vector:
    """Return whether any of values[start : start + 64] is neither zero nor one."""
    numbers = values.at(start).load(WORD)
    return (numbers.differs(0) & numbers.differs(1)).bitmask().differs(0)


def _make_adder(lanes: int) -> Callable[..., Any]:
    @intrinsic
    @vector_function()
    def add_chosen(words: Memory, at: Vector, tile: Memory, sums: Memory, place: Vector) -> None:
        """Add to sums[place :] the rows of a tile whose bits are set in words[at], which is not 0.

        The tile is (64, lanes).
        """
        target, word = sums.at(place), words.at(at).load()
        is_never_zero = ir.Constant(ir.IntType(1), 1)

        def add(_: Vector, bits: Vector, total: Vector) -> list[Vector]:
            lowest = Vector(bits.builder, bits.builder.cttz(bits.value, is_never_zero))
            return [bits & (bits - 1), total + tile.at(lowest * lanes).load(lanes)]

        count = word.count_set()
        _, total = fold_all(count.full(0), count, [word, sums.zeros(lanes)], add)
        target.store(target.load(lanes) + total)

    return add_chosen


_add_wide = _make_adder(WIDE)
_add_narrow = _make_adder(NARROW)


@_kernel
def pack_span(
    values: Float32Array,
    images: Span,
    size: int,
    margin: int,
    lines: Words,
    counts: Int64Array,
) -> None:
    """Pack the lines of some images into bits, until a value is neither zero nor one.

    Args:
        values: (N * H * size,), lines of W · C values, channels last.
        images: Which images, of N.
        size: W · C.
        margin: Zeros before and behind a line.
        lines: (N, H, words) become the bits, with a word of zeros or more behind them.
        counts: (N,) become how many values of an image are one; -1 for the image that has others.
    """
    for image in range(images[0], images[1]):
        total = 0
        for line in range(lines.shape[1]):
            start, target = (image * lines.shape[1] + line) * size, lines[image, line]
            target[:] = 0
            for begin in range(0, size, WORD):
                bits = _ZERO
                if begin + WORD <= size:
                    bits = nonzero_bits(values, start + begin)
                    is_binary = not _has_others(values, start + begin)
                else:
                    is_binary = True
                    for place in range(size - begin):
                        value = values[start + begin + place]
                        if value != 0:
                            bits |= _ONE << np.uint64(place)
                            is_binary &= value == 1
                if not is_binary:
                    counts[image] = -1
                    return
                total += count_set(bits)
                word, shift = (begin + margin) >> 6, np.uint64((begin + margin) & 63)
                target[word] |= bits << shift
                target[word + 1] |= (bits >> _ONE) >> (np.uint64(63) - shift)
        counts[image] = total


@_kernel
def gather_span(lines: Words, images: Span, windows: Windows, words: Words) -> None:
    """Gather the windows of some images as rows of bits.

    Args:
        lines: (N, H, words), of `pack_span` with a margin of padding · channels.
        images: Which images.
        windows: How the kernel moves; columns are (kernel's height, width, channels).
        words: (columns / 64, at least N * H' * W'): windows one after the other.
    """
    channels, kernel, stride, padding, outputs = windows
    height, run, step = lines.shape[1], kernel[1] * channels, stride[1] * channels
    for word in range(words.shape[0]):
        bit, stop = word * WORD, min((word + 1) * WORD, kernel[0] * run)
        while bit < stop:
            tap, first = bit // run, bit % run
            count, shift = min(stop - bit, run - first), np.uint64(bit % WORD)
            mask, is_first = _ALL >> np.uint64(WORD - count), bit % WORD == 0
            for image in range(images[0], images[1]):
                for y in range(outputs[0]):
                    start = (image * outputs[0] + y) * outputs[1]
                    target = words[word, start : start + outputs[1]]
                    number = y * stride[0] + tap - padding[0]
                    if number < 0 or number >= height:
                        if is_first:
                            target[:] = 0
                        continue
                    line, place = lines[image, number], first
                    for x in range(outputs[1]):
                        at, low = place >> 6, np.uint64(place & 63)
                        bits = line[at] >> low | (line[at + 1] << _ONE) << (np.uint64(63) - low)
                        bits = (bits & mask) << shift
                        target[x] = bits if is_first else target[x] | bits
                        place += step
            bit += count


@_kernel
def turn_span(words: Words, bands: Span, turned: Words) -> None:
    """Transpose some bands of 64 rows of a matrix of bits.

    Args:
        words: (w, m), m a multiple of 64.
        bands: Which bands, of m / 64.
        turned: (m / 64, 64 · w).
    """
    for band in range(bands[0], bands[1]):
        for word in range(words.shape[0]):
            block = turned[band, word * WORD : (word + 1) * WORD]
            block[:] = words[word, band * WORD : (band + 1) * WORD]
            # Swap halves beside the diagonal, then quarters within halves, and so on.
            distance, mask = 32, _ALL >> np.uint64(32)
            while distance:
                shift = np.uint64(distance)
                for start in range(0, WORD, 2 * distance):
                    for row in range(start, start + distance):
                        low, high = block[row], block[row + distance]
                        changed = (low >> shift ^ high) & mask
                        block[row] = low ^ changed << shift
                        block[row + distance] = high ^ changed
                distance //= 2
                mask ^= mask << np.uint64(distance)


@_kernel
def add_rows_span(
    words: Words,
    values: Float32Array,
    bias: Float32Array,
    height: int,
    pieces: Span,
    scratch: Float32Array,
    result: Float32Array,
) -> None:
    """Compute some pieces of bits · values + bias.

    Args:
        words: (ceil(K / 64), at least M), a matrix of bits (M, K).
        values: (K, O).
        bias: (O,).
        height: Rows of a piece, at most `MOST_ROWS`.
        pieces: Which pieces, of `height` rows and `WIDE` columns each, row after row.
        scratch: ((64 + MOST_ROWS) * WIDE,), which should begin at a line of the cache.
        result: (M, O).
    """
    inner, columns = values.shape
    across = -(-columns // WIDE)
    tile, sums = scratch[: WORD * WIDE], scratch[WORD * WIDE :]
    flat = words.reshape(-1)
    for piece in range(pieces[0], pieces[1]):
        first, column = piece // across * height, piece % across * WIDE
        rows, width = min(height, result.shape[0] - first), min(WIDE, columns - column)
        lanes = NARROW if width <= NARROW else WIDE
        tile[:] = 0
        sums[:] = 0
        for word in range(words.shape[0]):
            for row in range(min(WORD, inner - word * WORD)):
                source = values[word * WORD + row, column : column + width]
                target = tile[row * lanes : row * lanes + width]
                for i in range(width):
                    target[i] = source[i]
            start = word * words.shape[1] + first
            for row in range(rows):
                if flat[start + row]:
                    if lanes == WIDE:
                        _add_wide(flat, start + row, tile, sums, row * WIDE)
                    else:
                        _add_narrow(flat, start + row, tile, sums, row * NARROW)
        for row in range(rows):
            source = sums[row * lanes : row * lanes + width]
            target = result[first + row, column : column + width]
            offset = bias[column : column + width]
            for i in range(width):
                target[i] = source[i] + offset[i]
