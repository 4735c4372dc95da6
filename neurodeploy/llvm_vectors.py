"""LLVM's vectors in compiled loops.

Numba turns a sum of two int32 values into one of int64, and cannot keep an array in registers.
`vector_function` makes a function for compiled loops of one that computes with `Vector`, whose
operators have exactly the width of their operands; LLVM splits vectors that are too long for a
processor. Nothing here checks a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llvmlite import ir

WORD: Final = 64
"""Bits of a word, and values that `nonzero_bits` looks at."""
_WORD_TYPE: Final = ir.IntType(WORD)
_FLOATS: Final = (ir.FloatType, ir.DoubleType)


def _operator(
    instruction: str, *sign: str, of_floats: str = ""
) -> Callable[[Vector, Vector | int], Vector]:
    def apply(left: Vector, right: Vector | int) -> Vector:
        is_float = isinstance(left.element, _FLOATS)
        operation = getattr(left.builder, of_floats if is_float and of_floats else instruction)
        return Vector(left.builder, operation(*sign, left.value, left._operand(right)))

    return apply


class Vector:
    """Numbers in registers: some lanes of them or, without lanes, a single one.

    Operators are those of NumPy's integers, wrapping at the width of the left operand. The right
    one may be a Python integer or a single number, which stand for as many as there are lanes.
    Comparisons are signed and result in lanes of one bit. Floats know `+`, `-`, `*`, `/`, `>`,
    `differs`, `times_plus`, `truncated` and `as_float` alone.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def lanes(self) -> int:
        """Number of lanes; 0 for a single number."""
        return getattr(self.value.type, "count", 0)

    @property
    def element(self) -> Any:
        """LLVM's type of one number."""
        return self.value.type.element if self.lanes else self.value.type

    def full(self, number: int) -> Vector:
        """Return a constant of this shape."""
        values = [number] * self.lanes if self.lanes else number
        return Vector(self.builder, ir.Constant(self.value.type, values))

    def spread(self, number: Vector) -> Vector:
        """Return a single number in all lanes."""
        return Vector(self.builder, self._operand(number))

    def _operand(self, other: Vector | int) -> Any:
        if not isinstance(other, Vector):
            return self.full(other).value
        if other.lanes == self.lanes:
            return other.value
        undefined = ir.Constant(self.value.type, ir.Undefined)
        position = ir.IntType(32)
        first = self.builder.insert_element(undefined, other.value, ir.Constant(position, 0))
        everywhere = ir.Constant(ir.VectorType(position, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    __add__ = _operator("add", of_floats="fadd")
    __mul__ = _operator("mul", of_floats="fmul")
    __sub__ = _operator("sub", of_floats="fsub")
    __and__ = _operator("and_")
    __or__ = _operator("or_")
    __xor__ = _operator("xor")
    __lshift__ = _operator("shl")
    __rshift__ = _operator("ashr")
    __truediv__ = _operator("sdiv", of_floats="fdiv")
    unsigned_rshift = _operator("lshr")
    """Shift right, zeros from the left; of numbers that are not negative the same as `>>`."""
    __lt__ = _operator("icmp_signed", "<")
    __le__ = _operator("icmp_signed", "<=")
    __gt__ = _operator("icmp_signed", ">", of_floats="fcmp_ordered")
    unsigned_reaches = _operator("icmp_unsigned", ">=")
    equals = _operator("icmp_signed", "==")
    """Compare; `==` is left to Python, which needs a truth value."""

    def differs(self, other: Vector | int) -> Vector:
        """Compare with `!=`; of floats, not a number differs from everything."""
        compare = self.builder.icmp_signed
        if isinstance(self.element, _FLOATS):
            compare = self.builder.fcmp_unordered
        return Vector(self.builder, compare("!=", self.value, self._operand(other)))

    def times_plus(self, factor: Vector, summand: Vector) -> Vector:
        """Return self · factor + summand of floats; where the processor can, rounded once."""
        product = self.builder.fmul(self.value, self._operand(factor), flags=("contract",))
        total = self.builder.fadd(product, self._operand(summand), flags=("contract",))
        return Vector(self.builder, total)

    def __abs__(self) -> Vector:
        return self.negated_where(self < 0)

    def negated_where(self, mask: Vector) -> Vector:
        """Change the sign where the mask is set."""
        return where(mask, self.full(0) - self, self)

    def resized(self, bits: int) -> Vector:
        """Return the numbers with another width, their sign kept."""
        kind = ir.IntType(bits)
        target = ir.VectorType(kind, self.lanes) if self.lanes else kind
        if target == self.value.type:
            return self
        change = self.builder.sext if bits > self.element.width else self.builder.trunc
        return Vector(self.builder, change(self.value, target))

    def numbered(self) -> Vector:
        """Return the numbers of the lanes: 0, 1, 2, ..."""
        return Vector(self.builder, ir.Constant(self.value.type, list(range(self.lanes))))

    def truncated(self) -> Vector:
        """Return floats rounded towards zero."""
        kind = self.value.type
        name = f"llvm.trunc.{f'v{self.lanes}' if self.lanes else ''}{self.element.intrinsic_name}"
        signature = ir.FunctionType(kind, [kind])
        function = self.builder.module.declare_intrinsic(name, (), signature)
        return Vector(self.builder, self.builder.call(function, [self.value]))

    def as_float(self, bits: int) -> Vector:
        """Return floats with another width."""
        kind = ir.DoubleType() if bits == WORD else ir.FloatType()
        target = ir.VectorType(kind, self.lanes) if self.lanes else kind
        change = self.builder.fpext if bits == WORD else self.builder.fptrunc
        return Vector(self.builder, change(self.value, target))

    def widened(self, bits: int) -> Vector:
        """Return the numbers with more bits, zeros in front."""
        kind = ir.IntType(bits)
        target = ir.VectorType(kind, self.lanes) if self.lanes else kind
        return Vector(self.builder, self.builder.zext(self.value, target))

    def half(self, number: int) -> Vector:
        """Return the first or the second half of the lanes."""
        lanes = range(number * self.lanes // 2, (number + 1) * self.lanes // 2)
        places = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
        return Vector(self.builder, self.builder.shuffle_vector(self.value, self.value, places))

    def lane(self, number: int) -> Vector:
        """Return the number in one lane."""
        place = ir.Constant(ir.IntType(32), number)
        return Vector(self.builder, self.builder.extract_element(self.value, place))

    def summed(self) -> Vector:
        """Return the sums of each lane and all before it."""
        total, shift = self, 1
        zeros, position = self.full(0).value, ir.IntType(32)
        while shift < self.lanes:
            sources = [self.lanes if lane < shift else lane - shift for lane in range(self.lanes)]
            places = ir.Constant(ir.VectorType(position, self.lanes), sources)
            total += Vector(self.builder, self.builder.shuffle_vector(total.value, zeros, places))
            shift *= 2
        return total

    def bitmask(self) -> Vector:
        """Return lanes of one bit as a word, the first lane lowest."""
        mask = self.builder.bitcast(self.value, ir.IntType(self.lanes))
        word = mask if self.lanes == WORD else self.builder.zext(mask, _WORD_TYPE)
        return Vector(self.builder, word)

    def lanes_of_bits(self) -> Vector:
        """Return a word as lanes of one bit, the lowest first."""
        kind = ir.VectorType(ir.IntType(1), self.element.width)
        return Vector(self.builder, self.builder.bitcast(self.value, kind))

    def count_set(self) -> Vector:
        """Return the number of bits that are set."""
        return Vector(self.builder, self.builder.ctpop(self.value))


def where(mask: Vector, values: Vector | int, others: Vector) -> Vector:
    """Choose lane by lane, as `np.where`."""
    chosen = others._operand(values)
    return Vector(mask.builder, mask.builder.select(mask.value, chosen, others.value))


def branch(
    condition: Vector,
    values: Callable[[], Vector],
    others: Callable[[], Vector],
    *,
    is_likely: bool | None = None,
) -> Vector:
    """Compute only one of two: the first if the condition, a single bit, is set."""
    builder = condition.builder
    with builder.if_else(condition.value, likely=is_likely) as branches:
        ends = []
        for block, compute in zip(branches, (values, others), strict=True):
            with block:
                ends.append((compute().value, builder.block))
    result = builder.phi(ends[0][0].type)
    for value, end in ends:
        result.add_incoming(value, end)
    return Vector(builder, result)


def fold(
    first: Vector, stop: Vector, start: Vector, step: Callable[[Vector, Vector], Vector]
) -> Vector:
    """Return the last of `total = step(index, total)` over range(first, stop), from `start`.

    The range must not be empty: the loop asks only at its end.
    """
    return fold_all(first, stop, [start], lambda index, total: [step(index, total)])[0]


def fold_all(
    first: Vector, stop: Vector, starts: Sequence[Vector], step: Callable[..., Sequence[Vector]]
) -> list[Vector]:
    """Return the last of `totals = step(index, *totals)`; see `fold`."""
    builder = first.builder
    before, inside = builder.block, builder.append_basic_block("loop")
    after = builder.append_basic_block("loop.done")
    builder.branch(inside)
    builder.position_at_end(inside)
    index, *totals = (builder.phi(value.value.type) for value in (first, *starts))
    results = step(Vector(builder, index), *(Vector(builder, total) for total in totals))
    following = Vector(builder, index) + 1
    for phi, initial, later in zip(
        (index, *totals), (first, *starts), (following, *results), strict=True
    ):
        phi.add_incoming(initial.value, before)
        phi.add_incoming(later.value, builder.block)
    builder.cbranch((following < stop).value, inside, after)
    builder.position_at_end(after)
    return list(results)


def fold_bits(
    word: Vector, starts: Sequence[Vector], step: Callable[..., Sequence[Vector]]
) -> list[Vector]:
    """Return the last of `totals = step(position, *totals)` over the bits that are set."""
    builder = word.builder
    before, inside = builder.block, builder.append_basic_block("bits")
    after = builder.append_basic_block("bits.done")
    builder.cbranch(word.differs(0).value, inside, after)
    builder.position_at_end(inside)
    left, *totals = (builder.phi(value.value.type) for value in (word, *starts))
    position = Vector(builder, builder.cttz(left, ir.Constant(ir.IntType(1), 1)))
    results = step(position, *(Vector(builder, total) for total in totals))
    others = Vector(builder, left) & (Vector(builder, left) - 1)
    for phi, initial, later in zip(
        (left, *totals), (word, *starts), (others, *results), strict=True
    ):
        phi.add_incoming(initial.value, before)
        phi.add_incoming(later.value, builder.block)
    end = builder.block
    builder.cbranch(others.differs(0).value, inside, after)
    builder.position_at_end(after)
    found = []
    for initial, later in zip(starts, results, strict=True):
        result = builder.phi(initial.value.type)
        result.add_incoming(initial.value, before)
        result.add_incoming(later.value, end)
        found.append(Vector(builder, result))
    return found


class Memory:
    """A place in an array, from which numbers are loaded and to which they are stored.

    In an array of records, whose fields must be of 64 bits, places are counted in records.
    """

    __slots__ = ("_fields", "builder", "pointer")

    def __init__(self, builder: Any, pointer: Any, fields: Sequence[str] = ()) -> None:
        self.builder, self.pointer, self._fields = builder, pointer, fields

    @property
    def bits(self) -> int:
        """Width of a number."""
        element = self.pointer.type.pointee
        if isinstance(element, _FLOATS):
            return 32 if isinstance(element, ir.FloatType) else WORD
        width: int = element.width
        return width

    def at(self, offset: Vector | int) -> Memory:
        """Return the place this many numbers or records further on."""
        distance = offset
        if isinstance(distance, int):
            distance = Vector(self.builder, ir.Constant(_WORD_TYPE, distance))
        if self._fields:
            distance *= len(self._fields)
        return Memory(self.builder, self.builder.gep(self.pointer, [distance.value]), self._fields)

    def field(self, name: str) -> Memory:
        """Return the place of a field of the record."""
        distance = ir.Constant(_WORD_TYPE, self._fields.index(name))
        return Memory(self.builder, self.builder.gep(self.pointer, [distance]))

    def load(self, lanes: int = 0) -> Vector:
        """Load neighbouring numbers, which need be aligned no more than each by itself."""
        source, element = self.pointer, self.pointer.type.pointee
        if lanes:
            source = self.builder.bitcast(source, ir.VectorType(element, lanes).as_pointer())
        return Vector(self.builder, self.builder.load(source, align=self.bits // 8))

    def store(self, vector: Vector) -> None:
        """Store neighbouring numbers."""
        target = self.builder.bitcast(self.pointer, vector.value.type.as_pointer())
        self.builder.store(vector.value, target, align=self.bits // 8)

    def as_integers(self, bits: int) -> Memory:
        """Return the same place in an array of integers of this width."""
        kind = ir.IntType(bits).as_pointer()
        return Memory(self.builder, self.builder.bitcast(self.pointer, kind))

    def load_as(self, bits: int) -> Vector:
        """Load one number of another width, which need be aligned no more than those here."""
        source = self.builder.bitcast(self.pointer, ir.IntType(bits).as_pointer())
        return Vector(self.builder, self.builder.load(source, align=self.bits // 8))

    def zeros(self, lanes: int) -> Vector:
        """Return zeros of this array's type; without lanes a single one."""
        kind = self.pointer.type.pointee
        if lanes:
            kind = ir.VectorType(kind, lanes)
        return Vector(self.builder, ir.Constant(kind, [0] * lanes if lanes else 0))


@dataclass(frozen=True)
class VectorFunction:
    """A function for compiled loops that computes with vectors.

    Attributes:
        body: Gets arrays as `Memory`, from their first number or record, and numbers as a `Vector`
            without lanes. Returns such a number, or None.
        returns: Type of the number: "int64", "uint64" or "boolean"; else empty.
    """

    body: Callable[..., Vector | None]
    returns: str = ""

    def __call__(self, *arguments: Any) -> Any:
        """Stand for the function in the text of a loop; Python itself cannot call it."""
        raise TypeError(f"{self.body.__name__} exists in compiled loops only")


def vector_function(
    returns: str = "",
) -> Callable[[Callable[..., Vector | None]], VectorFunction]:
    """Make a function for compiled loops of one that computes with vectors."""
    return lambda body: VectorFunction(body, returns)


@vector_function("uint64")
def nonzero_bits(values: Memory, start: Vector) -> Vector:
    """Return a mask of which of values[start : start + 64] are not zero, the first lowest."""
    numbers = values.at(start).load(WORD)
    return numbers.differs(0).bitmask()


@vector_function("int64")
def first_set(word: Vector) -> Vector:
    """Return the position of the lowest bit that is set; the word must not be zero."""
    return Vector(word.builder, word.builder.cttz(word.value, ir.Constant(ir.IntType(1), 1)))


@vector_function("int64")
def count_set(word: Vector) -> Vector:
    """Return the number of bits that are set."""
    return word.count_set()


@vector_function()
def copy_word(values: Memory, start: Vector, target: Memory, place: Vector) -> None:
    """Copy values[start : start + 64] to target[place :]."""
    target.at(place).store(values.at(start).load(WORD))


@vector_function()
def write_bits(word: Vector, target: Memory, place: Vector) -> None:
    """Write the bits of a word to target[place : place + 64], of 8 bits, as zeros and ones."""
    target.at(place).store(word.lanes_of_bits().widened(8))


@vector_function()
def clear(array: Memory, count: Vector) -> None:
    """Set the first `count` numbers to zero."""
    fill_zero(array.builder, array.pointer, (count * (array.bits // 8)).value)


def fill_zero(builder: Any, pointer: Any, size: Any) -> None:
    """Set some bytes to zero."""
    kind = ir.IntType(8).as_pointer()
    fill = builder.module.declare_intrinsic("llvm.memset", [kind, _WORD_TYPE])
    zeros = ir.IntType(8)(0), size, ir.IntType(1)(0)
    builder.call(fill, [builder.bitcast(pointer, kind), *zeros])


def constant_bytes(builder: Any, name: str, values: bytes) -> Memory:
    """Return constant bytes, of one name in a piece of machine code."""
    module, kind = builder.module, ir.ArrayType(ir.IntType(8), len(values))
    found = module.globals.get(name)
    if found is None:
        found = ir.GlobalVariable(module, kind, name)
        found.linkage, found.global_constant = "internal", True
        found.initializer = ir.Constant(kind, bytearray(values))
    return Memory(builder, builder.bitcast(found, ir.IntType(8).as_pointer()))
