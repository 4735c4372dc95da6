"""From expressions to LLVM's instructions."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, Protocol

import numpy as np

from neurodeploy.llvm_vectors import Memory, Vector, VectorFunction, fill_zero
from neurodeploy.loops.operands import (
    BIT,
    BYTES,
    WORD,
    Array,
    Number,
    Structure,
    Value,
    constant,
    element_of,
    kind_of,
    rebuild,
    registers,
    resized,
)
from neurodeploy.loops.texts import FunctionText

_LINE: Final = 64
"""Bytes to which arrays are aligned."""
_COMPARED = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="
}  # fmt: skip
_OPERATIONS = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and_", ast.BitOr: "or_",
    ast.BitXor: "xor",
}  # fmt: skip


class Unit(Protocol):
    """The piece of machine code that a function becomes a part of.

    Attributes:
        malloc: C's function.
        failed: Where to go if memory is lacking.
        allocated: Where the addresses of all arrays are kept, to be freed.
    """

    malloc: Any
    failed: Any
    allocated: list[Any]

    def call(
        self, called: FunctionText, builder: Any, arguments: Sequence[Value], *, may_make: bool
    ) -> Value:
        """Call a function, which may make arrays if `may_make`."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable: a value of its kind, and where what it consists of is kept."""

    like: Value
    slots: list[Any]


class Expressions:
    """Computes the expressions of one function.

    Args:
        unit: What it becomes a part of.
        text: The function.
        builder: LLVM's, where its instructions begin.
        may_make: Whether it may make arrays.
    """

    def __init__(self, unit: Unit, text: FunctionText, builder: Any, *, may_make: bool) -> None:
        self._unit, self._text, self._build, self._may_make = unit, text, builder, may_make
        self._names = text.names()
        self._variables: dict[str, Variable] = {}
        self._loops: list[tuple[Any, Any]] = []

    def _refuse(self, node: ast.AST, reason: str) -> NoReturn:
        line, text = getattr(node, "lineno", 0), ast.unparse(node)
        raise SyntaxError(f"{self._text.path}:{line}: {text}: {reason}")

    def _load(self, variable: Variable) -> Value:
        return rebuild(variable.like, (self._build.load(slot) for slot in variable.slots))

    # Memory

    def _place(self, node: ast.expr) -> tuple[Any, np.dtype[Any]]:
        """Return where a number of an array or a record is, and its type there."""
        match node:
            case ast.Attribute(owner, name):
                record = self._value(owner)
                if isinstance(record, Structure) and record.dtype[name] == np.int64:
                    return self._field(record, name).pointer, record.dtype[name]
            case ast.Subscript(owner, index):
                array = self._value(owner)
                if isinstance(array, Array) and not array.dtype.names:
                    found = self._part(array, index, node)
                    if not found.shape:
                        return found.pointer, array.dtype
        self._refuse(node, "no place of a number")

    def _field(self, record: Structure, name: str) -> Structure:
        assert record.dtype.fields is not None
        dtype, offset = record.dtype.fields[name][:2]
        place = self._build.gep(record.pointer, [WORD(offset // 8)], inbounds=True)
        return Structure(place, dtype)

    def _part(self, array: Array, index: ast.expr, node: ast.expr) -> Array:
        """Return what the first of an array's axes are indexed by: again an array."""
        indices = index.elts if isinstance(index, ast.Tuple) else [index]
        if len(indices) > len(array.shape):
            self._refuse(node, "more indices than axes")
        offset = WORD(0)
        for axis, size in enumerate(array.shape):
            offset = self._build.mul(offset, size.value) if axis else offset
            if axis < len(indices):
                at = self._wide(self._number(indices[axis]))
                if getattr(at, "constant", 0) < 0:
                    self._refuse(node, "indices count from the front")
                offset = self._build.add(offset, at) if axis else at
        if array.dtype.names:
            offset = self._build.mul(offset, WORD(array.dtype.itemsize // 8))
        place = self._build.gep(array.pointer, [offset], inbounds=True)
        return Array(place, array.shape[len(indices) :], array.dtype)

    def _get(self, place: Any, dtype: np.dtype[Any]) -> Number:
        number = Number(self._build.load(place), dtype.kind == "i")
        return Number(resized(self._build, number, 1), False) if dtype.kind == "b" else number

    def _put(self, place: Any, dtype: np.dtype[Any], number: Number) -> None:
        if dtype.kind == "b":
            number = Number(resized(self._build, number, 1), False)
        self._build.store(resized(self._build, number, 8 * dtype.itemsize), place)

    def _make(self, node: ast.Call, *, is_zero: bool) -> Array:
        """Make an array that lives until the call from Python ends."""
        if self._loops or not self._may_make:
            self._refuse(node, "arrays are made outside of loops, by what Python calls")
        lengths, kind = self._value(node.args[0]), self._evaluate(node.args[1])
        shape = lengths if isinstance(lengths, tuple) else (lengths,)
        dtype, size = np.dtype(kind), WORD(1)
        sizes = [self._checked(length, node) for length in shape]
        for factor in (*map(self._wide, sizes), WORD(dtype.itemsize)):
            size = self._unless_too_large(self._build.umul_with_overflow(size, factor))
        whole = self._unless_too_large(self._build.uadd_with_overflow(size, WORD(_LINE)))
        room = self._build.call(self._unit.malloc, [whole])
        with self._build.goto_entry_block():
            slot = self._build.alloca(BYTES)
            self._build.store(BYTES(None), slot)
        self._unit.allocated.append(slot)
        self._build.store(room, slot)
        self._fail_if(self._build.icmp_unsigned("==", room, BYTES(None)))
        first = self._build.add(self._build.ptrtoint(room, WORD), WORD(_LINE - 1))
        data = self._build.inttoptr(self._build.and_(first, WORD(-_LINE)), BYTES)
        if is_zero:
            fill_zero(self._build, data, size)
        pointer = self._build.bitcast(data, element_of(dtype).as_pointer())
        return Array(pointer, tuple(Number(self._wide(one)) for one in sizes), dtype)

    def _unless_too_large(self, result: Any) -> Any:
        self._fail_if(self._build.extract_value(result, 1))
        return self._build.extract_value(result, 0)

    def _fail_if(self, condition: Any) -> None:
        fits = self._build.append_basic_block("fits")
        self._build.cbranch(condition, self._unit.failed, fits)
        self._build.position_at_end(fits)

    # Expressions

    def _evaluate(self, node: ast.expr) -> Any:
        """Return what an expression stands for: a value, or a function or type of Python's."""
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                if name in self._variables:
                    return self._load(self._variables[name])
                if name in self._names:
                    return self._names[name]
            case ast.Tuple(parts):
                return tuple([self._value(part) for part in parts])
            case ast.Attribute(owner, name):
                return self._attribute(self._evaluate(owner), name, node)
            case ast.Subscript(owner, index):
                return self._item(self._value(owner), index, node)
            case ast.Call(called, arguments, []):
                return self._call(self._evaluate(called), arguments, node)
            case ast.BinOp(left, operator, right):
                return self._compute(operator, self._number(left), self._number(right), node)
            case ast.UnaryOp(ast.Not(), operand):
                return Number(self._build.not_(self._truth(operand)), False)
            case ast.UnaryOp(ast.USub(), ast.Constant(int(value))):
                return -value
            case ast.UnaryOp(ast.USub() | ast.Invert() as operator, operand):
                number = self._number(operand)
                change = self._build.neg if isinstance(operator, ast.USub) else self._build.not_
                return replace(number, value=change(self._wide(number)))
            case ast.Compare(first, operators, others):
                return self._compare(first, operators, others, node)
            case ast.BoolOp(operator, operands):
                return self._join(isinstance(operator, ast.And), operands)
            case ast.IfExp(test, yes, no):
                return self._choose(test, yes, no)
        self._refuse(node, "loops know no such expression")

    def _value(self, node: ast.expr) -> Value:
        found = self._evaluate(node)
        if isinstance(found, bool):
            return Number(BIT(found), False)
        if isinstance(found, int):
            return constant(found)
        if isinstance(found, np.integer):
            return Number(element_of(found.dtype)(int(found)), found.dtype.kind == "i")
        if isinstance(found, Number | Array | Structure | tuple) or found is None:
            return found
        self._refuse(node, "nothing to compute with")

    def _number(self, node: ast.expr) -> Number:
        return self._checked(self._value(node), node)

    def _checked(self, value: Value, node: ast.AST) -> Number:
        if not isinstance(value, Number):
            self._refuse(node, "no number")
        return value

    def _truth(self, node: ast.expr) -> Any:
        return resized(self._build, self._number(node), 1)

    def _wide(self, number: Number) -> Any:
        return resized(self._build, number, 64)

    def _sign_of(self, node: ast.AST, *numbers: Number) -> bool:
        """Return whether an operation on numbers is signed: narrow ones fit int64."""
        signs = {one.is_signed or one.bits < 64 for one in numbers if not one.is_constant}
        if len(signs) > 1:
            self._refuse(node, "int64 with uint64")
        return signs.pop() if signs else True

    def _attribute(self, owner: Any, name: str, node: ast.Attribute) -> Any:
        if isinstance(owner, Structure):
            found = self._field(owner, name)
            return found if found.dtype.names else self._get(found.pointer, found.dtype)
        if not isinstance(owner, Array):
            return getattr(owner, name)
        if name == "size":
            size = owner.shape[0].value
            for other in owner.shape[1:]:
                size = self._build.mul(size, other.value)
            return Number(size)
        if name in {"shape", "dtype"}:
            return getattr(owner, name)
        self._refuse(node, "arrays have no such part")

    def _item(self, owner: Value, index: ast.expr, node: ast.Subscript) -> Value:
        if isinstance(owner, tuple) and isinstance(place := self._evaluate(index), int):
            return owner[place]
        if not isinstance(owner, Array):
            self._refuse(node, "neither array nor tuple")
        found = self._part(owner, index, node)
        if found.shape:
            return found
        if owner.dtype.names:
            return Structure(found.pointer, owner.dtype)
        return self._get(found.pointer, owner.dtype)

    def _call(self, called: Any, nodes: Sequence[ast.expr], node: ast.Call) -> Value:
        if called is np.empty or called is np.zeros:
            return self._make(node, is_zero=called is np.zeros)
        arguments = [self._value(one) for one in nodes]
        if isinstance(called, FunctionText):
            may_make = self._may_make and not self._loops
            return self._unit.call(called, self._build, arguments, may_make=may_make)
        if isinstance(called, VectorFunction):
            return self._call_vectors(called, arguments)
        numbers = [self._checked(one, node) for one in arguments]
        if isinstance(called, type) and issubclass(called, np.integer):
            (number,), dtype = numbers, np.dtype(called)
            return Number(resized(self._build, number, 8 * dtype.itemsize), dtype.kind == "i")
        if called is abs:
            return self._larger(node, *numbers, Number(self._build.neg(self._wide(numbers[0]))))
        if called is max:
            return self._larger(node, *numbers)
        if called is min:
            return self._larger(node, *reversed(numbers), is_least=True)
        self._refuse(node, "loops cannot call this")

    def _call_vectors(self, called: VectorFunction, arguments: Sequence[Value]) -> Value:
        operands: list[Memory | Vector] = []
        for argument in arguments:
            if isinstance(argument, Array | Structure):
                fields = argument.dtype.names or ()
                operands.append(Memory(self._build, argument.pointer, fields))
            else:
                assert isinstance(argument, Number)
                operands.append(Vector(self._build, argument.value))
        result = called.body(*operands)
        return None if result is None else Number(result.value, called.returns == "int64")

    def _larger(self, node: ast.AST, *numbers: Number, is_least: bool = False) -> Number:
        is_signed = self._sign_of(node, *numbers)
        compare = self._build.icmp_signed if is_signed else self._build.icmp_unsigned
        found, *others = map(self._wide, numbers)
        for other in others:
            is_better = compare("<" if is_least else ">", other, found)
            found = self._build.select(is_better, other, found)
        return Number(found, is_signed)

    def _compute(self, operator: ast.operator, one: Number, other: Number, node: ast.AST) -> Number:
        left, right = self._wide(one), self._wide(other)
        is_constant = one.is_constant and other.is_constant
        if isinstance(operator, ast.LShift | ast.RShift):
            is_signed = one.is_signed or one.bits < 64
            shift = self._build.ashr if is_signed else self._build.lshr
            shift = self._build.shl if isinstance(operator, ast.LShift) else shift
            return Number(shift(left, right), is_signed, is_constant)
        is_signed = self._sign_of(node, one, other)
        if isinstance(operator, ast.FloorDiv | ast.Mod):
            quotient, rest = self._divide(left, right, is_signed=is_signed)
            return Number(quotient if isinstance(operator, ast.FloorDiv) else rest, is_signed)
        if type(operator) not in _OPERATIONS:
            self._refuse(node, "loops know no such operation")
        operation = getattr(self._build, _OPERATIONS[type(operator)])
        if one.bits == other.bits == 1 and isinstance(operator, ast.BitAnd | ast.BitOr):
            return Number(operation(one.value, other.value), False)
        return Number(operation(left, right), is_signed, is_constant)

    def _divide(self, left: Any, right: Any, *, is_signed: bool) -> tuple[Any, Any]:
        """Return quotient, rounded down, and rest."""
        build = self._build
        if not is_signed:
            return build.udiv(left, right), build.urem(left, right)
        divisor = getattr(right, "constant", 0)
        if divisor > 0 and divisor & (divisor - 1) == 0:
            shift = WORD(divisor.bit_length() - 1)
            return build.ashr(left, shift), build.and_(left, WORD(divisor - 1))
        quotient, rest = build.sdiv(left, right), build.srem(left, right)
        is_above = build.and_(
            build.icmp_signed("!=", rest, WORD(0)),
            build.icmp_signed("<", build.xor(rest, right), WORD(0)),
        )
        quotient = build.sub(quotient, build.zext(is_above, WORD))
        return quotient, build.add(rest, build.select(is_above, right, WORD(0)))

    def _compare(
        self, first: ast.expr, operators: list[ast.cmpop], others: list[ast.expr], node: ast.expr
    ) -> Number:
        """Compare; of a chain, all parts are computed."""
        result, left = None, self._number(first)
        for operator, other in zip(operators, others, strict=True):
            right = self._number(other)
            is_signed = self._sign_of(node, left, right)
            compare = self._build.icmp_signed if is_signed else self._build.icmp_unsigned
            if type(operator) not in _COMPARED:
                self._refuse(node, "loops know no such comparison")
            holds = compare(_COMPARED[type(operator)], self._wide(left), self._wide(right))
            result = holds if result is None else self._build.and_(result, holds)
            left = right
        return Number(result, False)

    def _join(self, is_and: bool, operands: list[ast.expr]) -> Number:
        """Return whether all, or any, of some hold; none is computed after the answer is known."""
        after, incoming = self._build.append_basic_block("known"), []
        for operand in operands[:-1]:
            holds = self._truth(operand)
            incoming.append((BIT(not is_and), self._build.block))
            following = self._build.append_basic_block("unknown")
            ways = (following, after) if is_and else (after, following)
            self._build.cbranch(holds, *ways)
            self._build.position_at_end(following)
        last = self._truth(operands[-1])
        incoming.append((last, self._build.block))
        self._build.branch(after)
        self._build.position_at_end(after)
        result = self._build.phi(BIT)
        for value, block in incoming:
            result.add_incoming(value, block)
        return Number(result, False)

    def _fork(self, test: ast.expr) -> tuple[Any, Any]:
        yes, no = (self._build.append_basic_block(name) for name in ("yes", "no"))
        self._build.cbranch(self._truth(test), yes, no)
        return yes, no

    def _choose(self, test: ast.expr, yes: ast.expr, no: ast.expr) -> Value:
        """Compute one of two."""
        blocks, after = self._fork(test), self._build.append_basic_block("chosen")
        ends = []
        for block, node in zip(blocks, (yes, no), strict=True):
            self._build.position_at_end(block)
            value = self._wide_ones(self._value(node))
            ends.append((value, self._build.block))
            self._build.branch(after)
        self._build.position_at_end(after)
        (one, _), (other, _) = ends
        if kind_of(one) != kind_of(other):
            self._refuse(no, "another kind than if the condition holds")
        phis = []
        for pair in zip(registers(one), registers(other), strict=True):
            phi = self._build.phi(pair[0].type)
            for register, (_, block) in zip(pair, ends, strict=True):
                phi.add_incoming(register, block)
            phis.append(phi)
        return rebuild(one, iter(phis))

    def _wide_ones(self, value: Value) -> Value:
        """Return a value with all numbers but truth values widened."""
        if isinstance(value, tuple):
            return tuple([self._wide_ones(part) for part in value])
        if isinstance(value, Number) and value.bits > 1:
            is_signed = value.is_signed or value.bits < 64
            return Number(self._wide(value), is_signed, value.is_constant)
        return value
