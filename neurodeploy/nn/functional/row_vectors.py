"""Sums of rows that are kept in registers: what LLVM does not make of a loop by itself.

A loop that adds many rows to one writes the sum to memory after every row. `add_rows` keeps up to
64 columns of it in vector registers until the last row has been added. Written with llvmlite, which
numba brings in the version that it needs.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

WIDE: Final = 64
NARROW: Final = 16
"""Columns at once: four registers of AVX-512, and one."""


def _summing(columns: int) -> Any:
    """Make the function that adds weighted stretches of `columns` values."""

    @intrinsic
    def add(
        typing_context: Any,
        values: Any,
        starts: Any,
        factors: Any,
        ranges: Any,
        count: Any,
        column: Any,
        result: Any,
        place: Any,
    ) -> Any:
        """Add to result[place + column + i] what `add_rows` says, for i below `columns`."""
        word = types.intp
        signature = types.void(values, starts, factors, ranges, word, word, result, word)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = (*signature.args[:4], signature.args[6])
            arrays = (*arguments[:4], arguments[6])
            data, offsets, weights, bounds, target = (
                context.make_array(kind)(context, builder, array).data
                for kind, array in zip(kinds, arrays, strict=True)
            )
            count, column, place = arguments[4], arguments[5], arguments[7]
            vector = ir.VectorType(ir.FloatType(), columns)
            place = builder.bitcast(
                builder.gep(target, [builder.add(place, column)]), vector.as_pointer()
            )
            known = builder.load(place, align=4)
            zeros = ir.Constant(vector, [0.0] * columns)
            total = cgutils.alloca_once_value(builder, zeros)  # type: ignore[no-untyped-call]
            builder.store(zeros, total)
            lane = ir.Constant(ir.IntType(32), 0)
            spread = ir.Constant(ir.VectorType(ir.IntType(32), columns), [0] * columns)
            one, three = (ir.Constant(column.type, number) for number in (1, 3))
            with cgutils.for_range(builder, count) as outer:
                field = builder.gep(bounds, [builder.mul(outer.index, three)])
                low, high, offset = (
                    builder.load(builder.gep(field, [ir.Constant(column.type, number)]))
                    for number in range(3)
                )
                shifted = builder.gep(data, [builder.add(offset, column)])
                with cgutils.for_range_slice(builder, low, high, one, inc=True) as (index, _):
                    start = builder.load(builder.gep(offsets, [index]))
                    source = builder.bitcast(builder.gep(shifted, [start]), vector.as_pointer())
                    row = builder.load(source, align=4)
                    factor = builder.load(builder.gep(weights, [index]))
                    factor = builder.insert_element(ir.Constant(vector, ir.Undefined), factor, lane)
                    factor = builder.shuffle_vector(factor, factor, spread)
                    product = builder.fmul(factor, row, flags=("contract",))
                    added = builder.fadd(product, builder.load(total), flags=("contract",))
                    builder.store(added, total)
            builder.store(builder.fadd(known, builder.load(total)), place, align=4)
            return context.get_dummy_value()

        return signature, generate

    return add


_add_wide = _summing(WIDE)
_add_narrow = _summing(NARROW)


@njit(inline="always")
def add_rows(
    values: Float32Array,
    starts: Int64Array,
    factors: Float32Array,
    ranges: Int64Array,
    count: int,
    result: Float32Array,
    place: int,
    width: int,
) -> None:
    """Add rows of `values` times factors to result[place : place + width].

    Added is the sum over ranges (low, high, offset) and low <= k < high of
    factors[k] · values[starts[k] + offset :][:width].

    Args:
        values: (m,) float32.
        starts: (rows,) int64; each row must lie within `values`, which is not checked.
        factors: (rows,) float32.
        ranges: (ranges, 3) int64.
        count: How many of the ranges are meant.
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
            for row in range(ranges[number, 0], ranges[number, 1]):
                total += factors[row] * values[starts[row] + ranges[number, 2] + column]
        result[place + column] += total
