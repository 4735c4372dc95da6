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
        count: Any,
        column: Any,
        result: Any,
    ) -> Any:
        """Add up factors[k] · values[starts[k] + column + i] over k, for i below `columns`."""
        signature = types.void(values, starts, factors, types.intp, types.intp, result)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kinds = (*signature.args[:3], signature.args[5])
            arrays = (*arguments[:3], arguments[5])
            data, offsets, weights, target = (
                context.make_array(kind)(context, builder, array).data
                for kind, array in zip(kinds, arrays, strict=True)
            )
            vector = ir.VectorType(ir.FloatType(), columns)
            zeros = ir.Constant(vector, [0.0] * columns)
            total = cgutils.alloca_once_value(builder, zeros)  # type: ignore[no-untyped-call]
            first = ir.Constant(ir.IntType(32), 0)
            spread = ir.Constant(ir.VectorType(ir.IntType(32), columns), [0] * columns)
            with cgutils.for_range(builder, arguments[3]) as loop:
                start = builder.add(builder.load(builder.gep(offsets, [loop.index])), arguments[4])
                place = builder.bitcast(builder.gep(data, [start]), vector.as_pointer())
                row = builder.load(place, align=4)
                factor = builder.load(builder.gep(weights, [loop.index]))
                factor = builder.insert_element(ir.Constant(vector, ir.Undefined), factor, first)
                factor = builder.shuffle_vector(factor, factor, spread)
                product = builder.fmul(factor, row)
                builder.store(builder.fadd(builder.load(total), product), total)
            place = builder.gep(target, [arguments[4]])
            place = builder.bitcast(place, vector.as_pointer())
            known = builder.load(place, align=4)
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
    count: int,
    result: Float32Array,
) -> None:
    """Add the sum over k of factors[k] · values[starts[k] : starts[k] + width] to a row.

    Args:
        values: (m,) float32.
        starts: (rows,) int64; each row must lie within `values`, which is not checked.
        factors: (rows,) float32.
        count: How many of the rows are meant.
        result: (width,) float32, C-contiguous; added to.
    """
    width = result.size
    column = 0
    while column + WIDE <= width:
        _add_wide(values, starts, factors, count, column, result)
        column += WIDE
    while column + NARROW <= width:
        _add_narrow(values, starts, factors, count, column, result)
        column += NARROW
    for index in range(column, width):
        total = np.float32(0)
        for row in range(count):
            total += factors[row] * values[starts[row] + index]
        result[index] += total
