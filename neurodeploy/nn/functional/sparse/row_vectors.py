"""Sums of rows that stay in registers, which LLVM does not make of a loop by itself.

A loop that adds many rows to one writes the sum to memory after every row. `add_rows` keeps up to
64 columns of it in vector registers until the last row has been added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from neurodeploy.llvm_vectors import Memory, Vector, fold, vector_function

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

_FIELDS: Final = ("first", "stop", "offset")
RANGE: Final = np.dtype([(name, np.int64) for name in _FIELDS])
"""Rows to add up: the numbers of the first and of that after the last, and what to add to where
each starts."""
WIDE: Final = 64
NARROW: Final = 16
"""Columns at once: four registers of AVX-512, and one."""


def _make_column_adder(columns: int) -> Callable[..., Any]:
    @vector_function(types.void)
    def add_columns(
        values: Memory, starts: Memory, factors: Memory, ranges: Memory, count: Vector,
        column: Vector, result: Memory, place: Vector,
    ) -> None:  # fmt: skip
        """Add to result[place + column + i] the sum of `add_rows`, for i below `columns`."""
        target = result.at(place + column)

        def add_range(number: Vector, total: Vector) -> Vector:
            first, stop, offset = (ranges.at(number).field(name).load() for name in _FIELDS)
            source = values.at(offset + column)

            def add_row(index: Vector, total: Vector) -> Vector:
                row = source.at(starts.at(index).load()).load(columns)
                return row * factors.at(index).load() + total

            return fold(first, stop, total, add_row)

        total = fold(count.full(0), count, values.zeros(columns), add_range)
        target.store(target.load(columns) + total)

    return add_columns


_add_wide = _make_column_adder(WIDE)
_add_narrow = _make_column_adder(NARROW)


@njit(inline="always")
def add_rows(
    values: Float32Array,
    starts: Int64Array,
    factors: Float32Array,
    ranges: npt.NDArray[np.void],
    count: int,
    result: Float32Array,
    place: int,
    width: int,
) -> None:
    """Add rows of `values` times factors to result[place : place + width].

    Added is the sum of factors[k] · values[starts[k] + offset :][:width] over first <= k < stop of
    each range.

    Args:
        values: (m,) float32.
        starts: (rows,) int64; each row must lie within `values`, which is not checked.
        factors: (rows,) float32.
        ranges: (any,) `RANGE`, none empty.
        count: How many of the ranges are meant, at least one.
        result: (n,) float32.
        place: Where the row begins that is added to.
        width: Length of a row.
    """
    wide = width // WIDE * WIDE
    narrow = width // NARROW * NARROW
    for column in range(0, wide, WIDE):
        _add_wide(values, starts, factors, ranges, count, column, result, place)
    for column in range(wide, narrow, NARROW):
        _add_narrow(values, starts, factors, ranges, count, column, result, place)
    for column in range(narrow, width):
        total = np.float32(0)
        for number in range(count):
            rows = ranges[number]
            for row in range(rows.first, rows.stop):
                total += factors[row] * values[starts[row] + rows.offset + column]
        result[place + column] += total
