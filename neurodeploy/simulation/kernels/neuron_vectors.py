"""Vector instructions for compiled loops: what numba alone would do in wider registers, or not.

Numba turns a sum of two int32 values into one of int64, and cannot keep an array in registers. The
functions made here are written in LLVM's vectors of a fixed number of lanes, so an addition has
exactly the width it is given; LLVM splits a vector that is too long for a processor.

All take arrays and positions in them; none checks a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from neurodeploy.fixedpoint import (
    CURRENT_LIMIT,
    DECAY_BITS,
    VOLTAGE_LIMIT,
)

_WORD = ir.IntType(64)
_STATE = ir.IntType(32)
_UNUSUAL: Final = 1 << 23
"""A power of two: smaller states are neither wrapped nor clipped."""
assert CURRENT_LIMIT >= _UNUSUAL > VOLTAGE_LIMIT >= _UNUSUAL - 1
CHANNELS_LEAST: Final = 16
"""Lanes of the narrowest vectors."""
STATES_APART: Final = 64
"""Distance between the states of a kind for `make_frame_step`."""


def make_lif_step(lanes: int, *, holds_current: bool) -> Callable[..., Any]:
    """Make one step of some LIF neurons: add up rows of weights, then `dynamics.LifDynamics`.

    `step_lif(rows, store, ranges, count, place, shift, parameters, at, plane, states, width,
    peaks, notes, watches, counts)` adds up rows[store[i] · width + start + place :][:lanes] over
    the events i of `count` ranges, each four numbers: first i, last i + 1, start, and the distance
    from an event to the value that it is multiplied with, or 0. Sums have 32 bits and wrap; rows of
    8 or 16 bits are first added up within each range, in 16 bits, which wrap as well.

    The sums times 2**shift reach the neurons. Their parameters are four planes: bias and threshold
    times 2**6, then 4096 minus the decays of current and voltage. Updated are the currents
    states[place :], the voltages states[width + place :], the largest sizes of both in `peaks` at
    the same places, and notes: how often a current was wrapped, a voltage clipped and, if
    `watches`, a voltage changed; if `counts`, notes[3] is the mask of the neurons with neither
    voltage, current left over after its decay, bias, nor a sum other than zero. The result is the
    mask of those that spiked, lowest lane first.

    Exact while |sum| · 2**shift < 2**29 and 4096 minus each decay is within [0, 4096]: then every
    value stays within 32 bits, as m · k >> 12 is (m >> 12) · k + ((m & 4095) · k >> 12).

    Args:
        lanes: Number of neurons, 16, 32 or 64.
        holds_current: Whether a current may outlive its step (its decay is not 4096).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, store, ranges, count, place, shift, parameters, at, plane, *others = arguments
        states, width, peaks, notes, watches, counts = others
        sums = _sum_rows(
            builder,
            lanes,
            signature.args[0].dtype.bitwidth,
            _pointer(context, builder, signature.args[0], rows, place),
            _pointer(context, builder, signature.args[1], store, _word(0)),
            _pointer(context, builder, signature.args[2], ranges, _word(0)),
            count,
            width,
        )
        of_parameters, of_states, of_notes = (signature.args[k] for k in (6, 9, 12))

        def planes_of(kind: Any, array: Any, place: Any, plane: Any, number: int) -> list[Any]:
            return [
                _pointer(context, builder, kind, array, _place(builder, place, plane, k))
                for k in range(number)
            ]

        return _update_lif(
            builder,
            sums,
            shift=shift,
            planes=planes_of(of_parameters, parameters, at, plane, 4),
            states=planes_of(of_states, states, place, width, 2),
            peaks=planes_of(of_states, peaks, place, width, 2),
            notes=planes_of(of_notes, notes, _word(0), _word(1), 4),
            watches=watches,
            counts=counts,
            holds_current=holds_current,
        )

    @intrinsic
    def step_lif(  # type: ignore[no-untyped-def]
        typing, rows, store, ranges, count, place, shift, parameters, at, plane, states, width,
        peaks, notes, watches, counts,
    ):  # fmt: skip
        kinds = (
            rows, store, ranges, count, place, shift, parameters, at, plane, states, width, peaks,
            notes, watches, counts,
        )  # fmt: skip
        return types.uint64(*kinds), generate

    return step_lif


def make_frame_step(lanes: int, *, holds_current: bool) -> Callable[..., Any]:
    """Make `make_lif_step` for sums that are in memory.

    `step_frame(frame, source, shift, parameters, at, plane, states, peaks, notes, watches, counts)`
    takes the sums frame[source :][:lanes], of 16 or 32 bits, and sets them to zero; with 16 bits,
    sums times 2**shift must stay below 2**23 in size. States and
    peaks are those of currents, then STATES_APART further on those of voltages; all else is as
    there.

    Args:
        lanes: Number of neurons, 16, 32 or 64.
        holds_current: As there.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        frame, source, shift, parameters, at, plane, *others, watches, counts = arguments
        kind = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), lanes)
        is_narrow = kind.element.width != _STATE.width
        place = _pointer(context, builder, signature.args[0], frame, source)
        sums = _load(builder, place, kind)
        _store(builder, _constant(sums, 0), place)
        if is_narrow:
            sums = builder.sext(sums, ir.VectorType(_STATE, lanes))
        states, peaks, notes = (
            [
                _pointer(context, builder, signature.args[6 + number], array, _word(k * distance))
                for k in range(planes)
            ]
            for number, (array, planes, distance) in enumerate(
                zip(others, (2, 2, 4), (STATES_APART, STATES_APART, 1), strict=True)
            )
        )
        return _update_lif(
            builder,
            sums,
            shift=shift,
            planes=[
                _pointer(
                    context, builder, signature.args[3], parameters, _place(builder, at, plane, k)
                )
                for k in range(4)
            ],
            states=states,
            peaks=peaks,
            notes=notes,
            watches=watches,
            counts=counts,
            holds_current=holds_current,
            wraps=holds_current or not is_narrow,
        )

    @intrinsic
    def step_frame(  # type: ignore[no-untyped-def]
        typing, frame, source, shift, parameters, at, plane, states, peaks, notes, watches, counts
    ):  # fmt: skip
        kinds = (
            frame, source, shift, parameters, at, plane, states, peaks, notes, watches, counts,
        )  # fmt: skip
        return types.uint64(*kinds), generate

    return step_frame


def make_row_adder(lanes: int, *, lines: int = 1, parts: int = 1) -> Callable[..., Any]:
    """Make `add_rows(frame, place, rows, source, value, pitch)`.

    It adds rows[source :][: lines · parts · lanes] to the frame, parts · lanes of them from
    frame[place :], the next from frame[place + pitch :], and so on; in frames of 32 bits after
    multiplying with value, an int32. Sums wrap.

    Args:
        lanes: Sums at a time.
        lines: How many runs of sums.
        parts: How often `lanes` a run has.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        frame, place, rows, source, value, pitch = arguments
        vector = ir.VectorType(ir.IntType(signature.args[0].dtype.bitwidth), lanes)
        sums = _pointer(context, builder, signature.args[0], frame, place)
        weights = _pointer(context, builder, signature.args[2], rows, source)
        for line in range(lines):
            for part in range(parts):
                offset = _word((line * parts + part) * lanes)
                added = _load(builder, builder.gep(weights, [offset]), vector)
                if vector.element == _STATE:
                    added = builder.mul(added, _splat(builder, value, vector))
                target = builder.gep(sums, [_word(part * lanes)])
                _store(builder, builder.add(_load(builder, target, vector), added), target)
            sums = builder.gep(sums, [pitch])
        return context.get_dummy_value()

    @intrinsic
    def add_rows(typing, frame, place, rows, source, value, pitch):  # type: ignore[no-untyped-def]
        return types.void(frame, place, rows, source, value, pitch), generate

    return add_rows


def _update_lif(
    builder: Any,
    sums: Any,
    *,
    shift: Any,
    planes: list[Any],
    states: list[Any],
    peaks: list[Any],
    notes: list[Any],
    watches: Any,
    counts: Any,
    holds_current: bool,
    wraps: bool = True,
) -> Any:
    """Update neurons by their sums, vectors of int32; see `make_lif_step`. Gives a mask.

    `wraps` says whether a current may be beyond its limit.
    """
    vector = sums.type
    left = None
    current = builder.shl(sums, _splat(builder, builder.trunc(shift, _STATE), vector))
    if holds_current:
        left = _decay(builder, _load(builder, states[0], vector), _load(builder, planes[2], vector))
        current = builder.add(left, current)
    size = _raise_peak(builder, peaks[0], current)
    if wraps:
        current = _change_if_beyond(builder, current, size, CURRENT_LIMIT, _wrap, notes[0])
    before, bias = _load(builder, states[1], vector), _load(builder, planes[0], vector)
    voltage = _decay(builder, before, _load(builder, planes[3], vector))
    voltage = builder.add(voltage, current)
    voltage = builder.add(voltage, bias)
    size = _raise_peak(builder, peaks[1], voltage)
    voltage = _change_if_beyond(builder, voltage, size, VOLTAGE_LIMIT, _clip, notes[1])
    fired = builder.icmp_signed(">", voltage, _load(builder, planes[1], vector))
    voltage = builder.select(fired, _constant(sums, 0), voltage)
    _store(builder, current, states[0])
    _store(builder, voltage, states[1])
    with builder.if_then(watches):
        _note(builder, notes[2], builder.icmp_signed("!=", voltage, before))
    with builder.if_then(counts):
        any_of = builder.or_(builder.or_(before, bias), sums)
        if left is not None:
            any_of = builder.or_(any_of, left)
        is_open = builder.icmp_signed("==", any_of, _constant(sums, 0))
        builder.store(_mask(builder, is_open), notes[3])
    return _mask(builder, fired)


def _clear(typing, array, count):  # type: ignore[no-untyped-def]
    """Set the first `count` values of an array to zero; a slice would count references."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, count = arguments
        kind = signature.args[0]
        size = builder.mul(count, _word(kind.dtype.bitwidth // 8))
        cgutils.memset(  # type: ignore[no-untyped-call]
            builder, _pointer(context, builder, kind, array, _word(0)), size, 0
        )
        return context.get_dummy_value()

    return types.void(array, count), generate


clear: Callable[..., None] = intrinsic(_clear)


def _word(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _place(builder: Any, at: Any, plane: Any, number: int) -> Any:
    return builder.add(at, builder.mul(plane, _word(number)))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


def _load(builder: Any, pointer: Any, kind: Any) -> Any:
    """Load a vector from an address that is aligned for its elements only."""
    source = builder.bitcast(pointer, kind.as_pointer())
    return builder.load(source, align=kind.element.width // 8)


def _store(builder: Any, vector: Any, pointer: Any) -> None:
    target = builder.bitcast(pointer, vector.type.as_pointer())
    builder.store(vector, target, align=vector.type.element.width // 8)


def _sum_rows(
    builder: Any, lanes: int, bits: int, rows: Any, events: Any, ranges: Any, count: Any, width: Any
) -> Any:
    """Add up rows of weights in registers; see `make_lif_step`. Gives int32."""
    stored, wide = ir.VectorType(ir.IntType(bits), lanes), ir.VectorType(_STATE, lanes)
    vector = wide if bits == 32 else ir.VectorType(ir.IntType(16), lanes)
    nothing = ir.Constant(wide, [0] * lanes)
    entry = builder.block
    outer = builder.append_basic_block("ranges")
    following = builder.append_basic_block("ranges.next")
    done = builder.append_basic_block("ranges.done")
    builder.cbranch(builder.icmp_signed("<", _word(0), count), outer, done)

    builder.position_at_end(outer)
    number, sums = builder.phi(_WORD), builder.phi(wide)
    fields = builder.mul(number, _word(4))
    low, high, start, values = (
        builder.load(builder.gep(ranges, [builder.add(fields, _word(k))])) for k in range(4)
    )
    data = builder.gep(rows, [start])

    def loop(*, is_graded: bool) -> Any:
        """Add up the events of one range, at least one."""
        before = builder.block
        inner = builder.append_basic_block("events")
        end = builder.append_basic_block("events.done")
        builder.branch(inner)
        builder.position_at_end(inner)
        index, total = builder.phi(_WORD), builder.phi(vector)
        event = builder.sext(builder.load(builder.gep(events, [index])), _WORD)
        added = _load(builder, builder.gep(data, [builder.mul(event, width)]), stored)
        if stored != vector:
            added = builder.sext(added, vector)
        if is_graded:
            value = builder.load(builder.gep(events, [builder.add(index, values)]))
            added = builder.mul(added, _splat(builder, value, vector))
        after, later = builder.add(total, added), builder.add(index, _word(1))
        index.add_incoming(low, before)
        index.add_incoming(later, inner)
        total.add_incoming(sums if vector == wide else ir.Constant(vector, [0] * lanes), before)
        total.add_incoming(after, inner)
        builder.cbranch(builder.icmp_signed("<", later, high), inner, end)
        builder.position_at_end(end)
        if vector != wide:
            after = builder.add(sums, builder.sext(after, wide))
        builder.branch(following)
        return after, end

    if bits == 32:
        plain, graded = (builder.append_basic_block(name) for name in ("plain", "graded"))
        builder.cbranch(builder.icmp_signed("==", values, _word(0)), plain, graded)
        builder.position_at_end(plain)
        found = [loop(is_graded=False)]
        builder.position_at_end(graded)
        found.append(loop(is_graded=True))
    else:
        found = [loop(is_graded=False)]

    builder.position_at_end(following)
    summed = builder.phi(wide)
    for value, block in found:
        summed.add_incoming(value, block)
    one_more = builder.add(number, _word(1))
    number.add_incoming(_word(0), entry)
    number.add_incoming(one_more, following)
    sums.add_incoming(nothing, entry)
    sums.add_incoming(summed, following)
    builder.cbranch(builder.icmp_signed("<", one_more, count), outer, done)
    builder.position_at_end(done)
    result = builder.phi(wide)
    result.add_incoming(nothing, entry)
    result.add_incoming(summed, following)
    return result


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_STATE, 0))
    zeros = ir.Constant(ir.VectorType(_STATE, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, nothing, zeros)


def _constant(values: Any, number: int) -> Any:
    return ir.Constant(values.type, [number] * values.type.count)


def _negated_where_negative(builder: Any, signs: Any, values: Any) -> Any:
    zeros = _constant(values, 0)
    is_negative = builder.icmp_signed("<", signs, zeros)
    return builder.select(is_negative, builder.sub(zeros, values), values)


def _decay(builder: Any, values: Any, kept: Any) -> Any:
    """sign(x) · (|x| · kept >> 12), in 32 bits; see `make_lif_step`."""
    bits = _constant(values, DECAY_BITS)
    size = _negated_where_negative(builder, values, values)
    high = builder.lshr(size, bits)
    low = builder.and_(size, _constant(values, (1 << DECAY_BITS) - 1))
    part = builder.lshr(builder.mul(low, kept), bits)
    return _negated_where_negative(builder, values, builder.add(builder.mul(high, kept), part))


def _raise_peak(builder: Any, pointer: Any, values: Any) -> Any:
    """Update the largest sizes in memory; give the sizes."""
    size, before = (
        _negated_where_negative(builder, values, values),
        _load(builder, pointer, values.type),
    )
    larger = builder.select(builder.icmp_signed(">", size, before), size, before)
    _store(builder, larger, pointer)
    return size


def _change_if_beyond(
    builder: Any,
    values: Any,
    size: Any,
    limit: int,
    change: Callable[..., tuple[Any, Any]],
    note: Any,
) -> Any:
    """Return values, changed and noted where their size asks for it, which is rarely.

    The limit is looked at in detail only where the bits of all sizes together reach a power of two,
    which no size within the limit exceeds.
    """
    together = size
    while together.type.count > CHANNELS_LEAST:
        half = together.type.count // 2
        kind = ir.VectorType(_STATE, half)
        low, high = (
            builder.shuffle_vector(
                together, together, ir.Constant(kind, list(range(first, first + half)))
            )
            for first in (0, half)
        )
        together = builder.or_(low, high)
    beyond = builder.icmp_unsigned(">=", together, _constant(together, _UNUSUAL))
    before = builder.block
    with builder.if_then(
        builder.icmp_unsigned("!=", _mask(builder, beyond), _word(0)), likely=False
    ):
        changed, flags = change(builder, values, limit)
        _note(builder, note, flags)
        inside = builder.block
    result = builder.phi(values.type)
    result.add_incoming(values, before)
    result.add_incoming(changed, inside)
    return result


def _wrap(builder: Any, current: Any, limit: int) -> tuple[Any, Any]:
    above = builder.icmp_signed(">", current, _constant(current, limit))
    below = builder.icmp_signed("<=", current, _constant(current, -limit))
    turn = builder.select(below, _constant(current, 2 * limit), _constant(current, 0))
    turn = builder.select(above, _constant(current, -2 * limit), turn)
    return builder.add(current, turn), builder.or_(above, below)


def _clip(builder: Any, voltage: Any, limit: int) -> tuple[Any, Any]:
    highest, lowest = _constant(voltage, limit), _constant(voltage, -limit)
    above = builder.icmp_signed(">", voltage, highest)
    below = builder.icmp_signed("<", voltage, lowest)
    clipped = builder.select(below, lowest, voltage)
    return builder.select(above, highest, clipped), builder.or_(above, below)


def _mask(builder: Any, flags: Any) -> Any:
    lanes = flags.type.count
    mask = builder.bitcast(flags, ir.IntType(lanes))
    return mask if lanes == _WORD.width else builder.zext(mask, _WORD)


def _note(builder: Any, pointer: Any, flags: Any) -> None:
    counted = builder.ctpop(_mask(builder, flags))
    builder.store(builder.add(builder.load(pointer), counted), pointer)
