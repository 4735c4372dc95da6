"""Words of bits in compiled loops: which of 64 values are not zero, and walking through them.

LLVM has one instruction, or a few, for each; numba has no name for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WORD: Final = 64
"""Bits of a word, and values that `nonzero_bits` looks at."""


def _nonzero_bits(typing, values, start):  # type: ignore[no-untyped-def]
    """Return a mask of which of values[start : start + 64] are not zero, the first lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, arguments[0]).data
        element = data.type.pointee
        vector = ir.VectorType(element, WORD)
        place = builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())
        loaded = builder.load(place, align=kind.dtype.bitwidth // 8)
        if isinstance(element, ir.FloatType):
            flags = builder.fcmp_unordered("!=", loaded, ir.Constant(vector, [0.0] * WORD))
        else:
            flags = builder.icmp_unsigned("!=", loaded, ir.Constant(vector, [0] * WORD))
        return builder.bitcast(flags, ir.IntType(WORD))

    return types.uint64(values, types.intp), generate


nonzero_bits: Callable[..., Any] = intrinsic(_nonzero_bits)


def _first_set(typing, word):  # type: ignore[no-untyped-def]
    """Return the position of the lowest bit that is set; the word must not be zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


first_set: Callable[..., Any] = intrinsic(_first_set)


def _count_set(typing, word):  # type: ignore[no-untyped-def]
    """Return the number of bits that are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


count_set: Callable[..., Any] = intrinsic(_count_set)
