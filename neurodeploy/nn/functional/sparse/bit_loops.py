"""Compiled loops of products with a matrix of zeros and ones, of which each takes one bit.

Rows of a float32 matrix are added up, those whose bits are set. A word of 64 bits chooses from 64
rows; of these, 64 columns are copied to where they fit the first-level cache, so that an addition
waits for nothing and costs as much as the products of a dense matrix product would, of which most
are left out. Sums stay in vector registers for a word.

Sums are made in an order that depends on neither threads nor load: row after row, in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from neurodeploy import llvm_vectors
from neurodeploy.compiled_code import compiled, intrinsic, source_key
from neurodeploy.llvm_vectors import WORD, Memory, Vector, fold_all, vector_function
from neurodeploy.nn.functional.parallel import Span
from neurodeploy.nn.functional.surrogate import Float32Array

Words = npt.NDArray[np.uint64]

COLUMNS: Final = 64
"""Columns that are summed at once: four registers of AVX-512, eight of AVX2."""
ROWS: Final = 512
"""Rows of the result that are summed at once: their sums stay in the second-level cache."""

count_set = intrinsic(llvm_vectors.count_set)
nonzero_bits = intrinsic(llvm_vectors.nonzero_bits)

_ONE: Final = np.uint64(1)
_kernel = compiled(source_key(Path(file) for file in (__file__, llvm_vectors.__file__)))


@intrinsic
@vector_function("boolean")
def _has_others(values: Memory, start: Vector) -> Vector:
    """Return whether any of values[start : start + 64] is neither zero nor one."""
    numbers = values.at(start).load(WORD)
    return (numbers.differs(0) & numbers.differs(1)).bitmask().differs(0)


@intrinsic
@vector_function()
def _add_chosen(words: Memory, at: Vector, tile: Memory, sums: Memory, place: Vector) -> None:
    """Add to sums[place :] the rows of a tile whose bits are set in words[at], which is not 0."""
    target, word = sums.at(place), words.at(at).load()
    is_never_zero = ir.Constant(ir.IntType(1), 1)

    def add(_: Vector, bits: Vector, total: Vector) -> list[Vector]:
        lowest = Vector(bits.builder, bits.builder.cttz(bits.value, is_never_zero))
        return [bits & (bits - 1), total + tile.at(lowest * COLUMNS).load(COLUMNS)]

    count = word.count_set()
    _, total = fold_all(count.full(0), count, [word, target.load(COLUMNS)], add)
    target.store(total)


@_kernel
def pack_span(
    values: Float32Array, bands: Span, words: Words, turned: Words, counts: npt.NDArray[np.int64]
) -> None:
    """Pack some bands of 64 rows of zeros and ones into bits.

    Args:
        values: (M, K).
        bands: Which bands, of ceil(M / 64).
        words: (ceil(K / 64), ceil(M / 64) * 64): bit b of [w, m] becomes values[m, 64 · w + b].
        turned: (ceil(M / 64), ceil(K / 64) * 64): bit b of [w, k] becomes values[64 · w + b, k];
            (0, 0) if that is not wanted.
        counts: (bands,) becomes how many values of a band are one, -1 if any is neither.
    """
    rows, columns = values.shape
    flat = values.reshape(-1)
    block = np.empty(WORD, np.uint64)
    for band in range(bands[0], bands[1]):
        count, is_binary = 0, True
        first = band * WORD
        size = min(WORD, rows - first)
        block[:] = 0
        for word in range(words.shape[0]):
            begin = word * WORD
            for row in range(size):
                start = (first + row) * columns + begin
                bits = np.uint64(0)
                if begin + WORD <= columns:
                    bits = nonzero_bits(flat, start)
                    is_binary &= not _has_others(flat, start)
                else:
                    for place in range(columns - begin):
                        value = flat[start + place]
                        if value != 0:
                            bits |= _ONE << np.uint64(place)
                            is_binary &= value == 1
                block[row] = bits
                count += count_set(bits)
            words[word, first : first + WORD] = block
            if turned.size:
                _turn(block, turned[band, begin : begin + WORD])
        counts[band] = count if is_binary else -1


@_kernel
def _turn(block: Words, result: Words) -> None:
    """Write the transpose of 64 words as a matrix of bits, by halves, quarters and so on."""
    result[:] = block
    distance, mask = 32, np.uint64(0xFFFFFFFF)
    while distance:
        shift = np.uint64(distance)
        for start in range(0, WORD, 2 * distance):
            for row in range(start, start + distance):
                low, high = result[row], result[row + distance]
                changed = ((low >> shift) ^ high) & mask
                result[row] = low ^ (changed << shift)
                result[row + distance] = high ^ changed
        distance //= 2
        mask ^= mask << np.uint64(distance)


@_kernel
def add_rows_span(
    words: Words,
    values: Float32Array,
    bias: Float32Array,
    pieces: Span,
    scratch: Float32Array,
    result: Float32Array,
) -> None:
    """Compute some pieces of bits · values + bias, the bits a matrix (M, K).

    Args:
        words: (ceil(K / 64), at least M): bit b of [w, m] is entry (m, 64 · w + b).
        values: (K, O).
        bias: (O,).
        pieces: Which pieces; they are of `ROWS` rows and `COLUMNS` columns, row after row.
        scratch: ((64 + ROWS) * COLUMNS,), which should begin at a line of the cache.
        result: (M, O).
    """
    inner, columns = values.shape
    across = -(-columns // COLUMNS)
    tile, sums = scratch[: WORD * COLUMNS], scratch[WORD * COLUMNS :]
    pitch = words.shape[1]
    flat = words.reshape(-1)
    for piece in range(pieces[0], pieces[1]):
        first, column = piece // across * ROWS, piece % across * COLUMNS
        rows = min(ROWS, result.shape[0] - first)
        width = min(COLUMNS, columns - column)
        tile[:] = 0
        sums[:] = 0
        for word in range(words.shape[0]):
            begin = word * WORD
            for row in range(min(WORD, inner - begin)):
                source = values[begin + row, column : column + width]
                target = tile[row * COLUMNS : row * COLUMNS + width]
                for i in range(width):
                    target[i] = source[i]
            start = word * pitch + first
            for row in range(rows):
                if flat[start + row]:
                    _add_chosen(flat, start + row, tile, sums, row * COLUMNS)
        for row in range(rows):
            source = sums[row * COLUMNS : row * COLUMNS + width]
            target = result[first + row, column : column + width]
            offset = bias[column : column + width]
            for i in range(width):
                target[i] = source[i] + offset[i]
