"""Products of rows that are kept in registers.

What LLVM does not make of a loop by itself, as in `row_vectors`: `multiply_rows` keeps
its sums in vector registers until all rows are through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from neurodeploy.nn.functional.row_vectors import Float32Array, Int64Array


def _multiplying(columns: int, partners: int) -> Callable[..., Any]:
    """Make the function that multiplies stretches of `columns` values and adds up the products."""

    @intrinsic
    def multiply(  # type: ignore[no-untyped-def]
        typing_context, left, lefts, right, rights, bases, place, count, column, stop
    ):
        """Sum left[lefts[k] + c + i] · right[bases[place + p] + rights[k] + c + i] over k, c, i."""
        word = types.intp
        result = types.UniTuple(types.float32, partners)  # type: ignore[no-untyped-call]
        signature = result(left, lefts, right, rights, bases, word, word, word, word)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data, offsets, others, places, starts = (
                context.make_array(kind)(context, builder, array).data
                for kind, array in zip(signature.args[:5], arguments[:5], strict=True)
            )
            place, count, column, stop = arguments[5:]
            vector = ir.VectorType(ir.FloatType(), columns)
            zeros = ir.Constant(vector, [0.0] * columns)
            totals = [
                cgutils.alloca_once_value(builder, zeros)  # type: ignore[no-untyped-call]
                for _ in range(partners)
            ]
            for total in totals:
                builder.store(zeros, total)
            rows = [
                builder.gep(
                    others,
                    [
                        builder.load(
                            builder.gep(starts, [builder.add(place, ir.Constant(place.type, p))])
                        )
                    ],
                )
                for p in range(partners)
            ]
            step = ir.Constant(column.type, columns)

            def load(row: Any, start: Any) -> Any:
                return builder.load(
                    builder.bitcast(builder.gep(row, [start]), vector.as_pointer()), align=4
                )

            with (
                cgutils.for_range_slice(builder, column, stop, step, inc=True) as (at, _),
                cgutils.for_range(builder, count) as loop,
            ):
                first = builder.add(at, builder.load(builder.gep(offsets, [loop.index])))
                second = builder.add(at, builder.load(builder.gep(places, [loop.index])))
                common = load(data, first)
                for row, total in zip(rows, totals, strict=True):
                    product = builder.fmul(common, load(row, second), flags=("contract",))
                    added = builder.fadd(product, builder.load(total), flags=("contract",))
                    builder.store(added, total)
            sums = [_sum_lanes(builder, builder.load(total)) for total in totals]
            return context.make_tuple(builder, signature.return_type, sums)

        return signature, generate

    return multiply


def _sum_lanes(builder: Any, values: Any) -> Any:
    """Add up the lanes of a vector, halves first."""
    lanes = values.type.count
    while lanes > 1:
        lanes //= 2
        low, high = (
            builder.shuffle_vector(
                values,
                values,
                ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(at, at + lanes))),
            )
            for at in (0, lanes)
        )
        values = builder.fadd(low, high)
    return builder.extract_element(values, ir.Constant(ir.IntType(32), 0))


_multiply_one = _multiplying(64, 1)
_multiply_two = _multiplying(32, 2)
_multiply_rest = _multiplying(8, 1)


@njit(inline="always")
def multiply_rows(
    left: Float32Array,
    lefts: Int64Array,
    right: Float32Array,
    rights: Int64Array,
    count: int,
    width: int,
    bases: Int64Array,
    places: npt.NDArray[np.int32],
    first: int,
    partners: int,
    origin: int,
    result: Float32Array,
) -> None:
    """Multiply rows on the left with rows of several partners on the right.

    result[origin + places[first + p]] becomes the sum over k and i < width of
    left[lefts[k] + i] · right[bases[p] + rights[k] + i].

    Args:
        left: (m,) float32.
        lefts: (rows,) int64; each row must lie within `left`, which is not checked.
        right: (n,) float32.
        rights: (rows,) int64.
        count: How many of the rows are meant.
        width: Length of a row.
        bases: (partners,) int64.
        places: (m,) int32.
        first: Of the places, that of the first partner.
        partners: How many there are.
        origin: Added to each place.
        result: (n,) float32.
    """
    two, one, rest = width // 32 * 32, width // 64 * 64, width // 8 * 8
    paired = partners // 2 * 2
    for p in range(partners):
        result[origin + places[first + p]] = 0
    for p in range(0, paired, 2):
        a, b = _multiply_two(left, lefts, right, rights, bases, p, count, 0, two)
        result[origin + places[first + p]] = a
        result[origin + places[first + p + 1]] = b
    if paired < partners and one:
        (a,) = _multiply_one(left, lefts, right, rights, bases, paired, count, 0, one)
        result[origin + places[first + paired]] = a
    for p in range(partners):
        column = two if p < paired else one
        if column < width:
            total = result[origin + places[first + p]]
            if column < rest:
                (a,) = _multiply_rest(left, lefts, right, rights, bases, p, count, column, rest)
                total += a
            for row in range(count):
                for i in range(rest, width):
                    total += left[lefts[row] + i] * right[bases[p] + rights[row] + i]
            result[origin + places[first + p]] = total
