"""Operands of loops: numbers in registers, arrays and records, and tuples of these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from llvmlite import ir

WORD: Final = ir.IntType(64)
BIT: Final = ir.IntType(1)
BYTES: Final = ir.IntType(8).as_pointer()


@dataclass(frozen=True, slots=True)
class Number:
    """An integer in a register; constants take the sign of whatever they meet."""

    value: Any
    is_signed: bool = True
    is_constant: bool = False

    @property
    def bits(self) -> int:
        """Width; 1 of a truth value."""
        width: int = self.value.type.width
        return width


@dataclass(frozen=True, slots=True)
class Array:
    """An array in C order: its first number or word, the length of each axis, and its type."""

    pointer: Any
    shape: tuple[Number, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Structure:
    """A record of int64, or a part of one: its first word."""

    pointer: Any
    dtype: np.dtype[Any]


Value: TypeAlias = "Number | Array | Structure | tuple[Value, ...] | None"


def constant(number: int) -> Number:
    """Return a constant of Python's."""
    return Number(WORD(number), is_constant=True)


def registers(value: Value) -> list[Any]:
    """Return what a value consists of."""
    match value:
        case Number():
            return [value.value]
        case Array():
            return [value.pointer, *(size.value for size in value.shape)]
        case Structure():
            return [value.pointer]
        case None:
            return []
    return [one for part in value for one in registers(part)]


def rebuild(like: Value, registers: Iterator[Any]) -> Value:
    """Return a value of the same kind as another from what it consists of."""
    match like:
        case Number():
            return Number(next(registers), like.is_signed)
        case Array():
            pointer = next(registers)
            return Array(pointer, tuple(Number(next(registers)) for _ in like.shape), like.dtype)
        case Structure():
            return Structure(next(registers), like.dtype)
        case None:
            return None
    return tuple([rebuild(part, registers) for part in like])


def kind_of(value: Value) -> Any:
    """Return what a function is compiled for once."""
    match value:
        case Number():
            return value.bits, value.is_signed
        case Array():
            return "array", value.dtype, len(value.shape)
        case Structure():
            return "record", value.dtype
        case None:
            return None
    return tuple([kind_of(part) for part in value])


def element_of(dtype: np.dtype[Any]) -> Any:
    """Return LLVM's type of the numbers of an array, or of the words of its records."""
    return WORD if dtype.names else ir.IntType(8 * dtype.itemsize)


def resized(builder: Any, number: Number, bits: int) -> Any:
    """Return a number in another width."""
    if number.bits == bits:
        return number.value
    kind = ir.IntType(bits)
    if bits == 1:
        return builder.icmp_unsigned("!=", number.value, number.value.type(0))
    if number.bits > bits:
        return builder.trunc(number.value, kind)
    widen = builder.sext if number.is_signed and number.bits > 1 else builder.zext
    return widen(number.value, kind)
