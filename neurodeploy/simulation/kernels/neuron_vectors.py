"""One step of LIF neurons, many side by side in registers.

The definition is `neurodeploy.simulation.neurons.LifDynamics`, followed line by line;
tests/unit/simulation/kernels/test_lif.py holds both equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from neurodeploy.fixedpoint import CURRENT_LIMIT, DECAY_BITS, DECAY_UNITY, VOLTAGE_LIMIT
from neurodeploy.llvm_vectors import (
    Memory,
    Vector,
    branch,
    fold,
    fold_all,
    fold_bits,
    vector_function,
    where,
)

_SUMS: Final = 32
"""Sums in a vector of a window."""
_UNUSUAL: Final = 1 << 23
"""Smaller states are neither wrapped nor clipped."""
assert CURRENT_LIMIT >= _UNUSUAL > VOLTAGE_LIMIT >= _UNUSUAL - 1
LANES_LEAST: Final = 16
"""Lanes of the narrowest vectors, and distance between the peaks of currents and of voltages."""
LANES_MOST: Final = 64
"""Lanes of the widest ones, and distance between the currents and voltages of `step_frame`."""


@vector_function("uint64")
def step_lif(
    rows: Memory, store: Memory, ranges: Memory, count: Vector, parameters: Memory, plane: Vector,
    states: Memory, peaks: Memory, notes: Memory, at: Vector, place: Vector, width: Vector,
    shift: Vector, lanes: Vector, holds_current: Vector, keeps_current: Vector, watches: Vector,
    counts: Vector,
) -> Vector:  # fmt: skip
    """Gather what reaches some LIF neurons, and advance them by one step.

    Added up are rows[store[i] · width + start + place :][:lanes] over the events i of `count`
    ranges (`structures.RANGE`), times the value of each where events carry some. Sums have 32 bits
    and wrap; rows of 8 or 16 bits are first added up within each range, in 16 bits, which wrap as
    well. The sums times 2**shift reach the neurons.

    Parameters are four planes from parameters[at :]: bias and threshold times 2**6, then 4096
    minus the decays of current and voltage. Updated are the currents states[place :], if they are
    held or `keeps_current`, and the voltages states[width + place :]; the largest sizes of both, by
    lane modulo `LANES_LEAST`, in `peaks`, first those of currents; and `notes`
    (`structures.NOTES`): changes of voltages if `watches`; if `counts`, the mask of the neurons
    with neither voltage, current left over after its decay, bias, nor a sum other than zero.

    Exact while |sum| · 2**shift < 2**29 and 4096 minus each decay is within [0, 4096]: then every
    value stays within 32 bits, as m · k >> 12 is (m >> 12) · k + ((m & 4095) · k >> 12).

    There may be 16, 32 or 64 lanes; only 16 where `holds_current`, that is where a current may
    outlive its step since its decay is not 4096.

    Returns:
        The mask of those that spiked, lowest lane first.
    """

    def step(lanes: int, *, holds_current: bool = False) -> Vector:
        return _step(
            sum_rows(lanes, rows.at(place), store, ranges, count, width),
            shift, parameters.at(at), plane, states.at(place), width, peaks, notes,
            keeps_current, watches, counts, holds_current=holds_current,
        )  # fmt: skip

    return branch(
        holds_current,
        lambda: step(16, holds_current=True),
        lambda: branch(
            lanes.equals(64),
            lambda: step(64),
            lambda: branch(lanes.equals(32), lambda: step(32), lambda: step(16)),
        ),
    )


@vector_function("uint64")
def step_frame(
    frames: Memory, source: Vector, parameters: Memory, plane: Vector, states: Memory,
    peaks: Memory, notes: Memory, at: Vector, shift: Vector, is_whole: Vector,
    holds_current: Vector, keeps_current: Vector, watches: Vector, counts: Vector,
) -> Vector:  # fmt: skip
    """Advance 64 LIF neurons, or if not `is_whole` 16, by sums that are in memory.

    The sums frames[source :], of 16 or 32 bits, are set to zero; with 16 bits, sums times 2**shift
    must stay below 2**23 in size. States are those of 64 currents, then those of voltages; all else
    is as in `step_lif`.
    """

    def step(lanes: int, *, holds_current: bool) -> Vector:
        place = frames.at(source)
        sums = place.load(lanes)
        place.store(sums.full(0))
        return _step(
            sums.resized(32), shift, parameters.at(at), plane, states, LANES_MOST, peaks, notes,
            keeps_current, watches, counts, holds_current=holds_current,
            may_wrap=holds_current or frames.bits == 32,
        )  # fmt: skip

    def step_whole() -> Vector:
        return branch(
            holds_current,
            lambda: step(64, holds_current=True),
            lambda: step(64, holds_current=False),
        )

    # The end of a row is rare: its code is exact for both kinds.
    return branch(is_whole, step_whole, lambda: step(16, holds_current=True))


def make_row_adder(lanes: int, *, lines: int = 1, parts: int = 1) -> Callable[..., Any]:
    """Make `add_rows(frames, place, rows, source, value, pitch)`.

    It adds rows[source :][: lines · parts · lanes] to the frame, parts · lanes of them from
    frames[place :], the next from frames[place + pitch :], and so on; in frames of 32 bits after
    multiplying with value, an int32. Sums wrap.
    """

    @vector_function()
    def add_rows(
        frames: Memory, place: Vector, rows: Memory, source: Vector, value: Vector, pitch: Vector
    ) -> None:
        line, weights = frames.at(place), rows.at(source)
        for number in range(lines * parts):
            if number and number % parts == 0:
                line = line.at(pitch)
            added = weights.at(number * lanes).load(lanes)
            if frames.bits == 32:
                added *= value
            target = line.at(number % parts * lanes)
            target.store(target.load(lanes) + added)

    return add_rows


def make_window_adder(lines: int, vectors: int, advance: int) -> Callable[..., Any]:
    """Make `add_windows(frames, base, spread, line, rows, store, bits)`.

    It adds what the spikes of a line of pixels contribute to a frame, in windows of some lines of
    some vectors, of 32 sums each, that stay in registers while spikes add to them.

    Args of it:
        frames: int16 or int32, sums; the frame is from `base` on.
        base: See above.
        spread: SPREAD, of the term.
        line: LINE, of the line.
        rows: int16; for each bit of a block what it adds to a window.
        store: int32; holds the spikes as bits, those of the line from `bits` on, counted in 16.
        bits: See above.
    """
    size = lines * vectors
    dead = -(-vectors // advance)  # blocks without spikes after which a window holds zeros

    @vector_function()
    def add_windows(
        frames: Memory, base: Vector, spread: Memory, line: Memory, rows: Memory, store: Memory,
        bits: Vector,
    ) -> None:  # fmt: skip
        pitch, blocks, tiles, last = (
            spread.field(name).load() for name in ("step_y", "blocks", "block_tiles", "last_bits")
        )
        place, weights = base + line.field("target").load(), rows.at(line.field("start").load())
        whole = place.full(-1)
        mask = whole.unsigned_rshift(place.full(64) - tiles * 16)
        last_mask = whole.unsigned_rshift(place.full(64) - last)
        zero = rows.zeros(_SUMS)

        def flush(number: Vector, sums: Sequence[Vector], count: int) -> None:
            for row in range(lines):
                start = frames.at(place + pitch * row + number * (advance * _SUMS))
                for k in range(count):
                    target = start.at(k * _SUMS)
                    added = sums[row * vectors + k].resized(frames.bits)
                    target.store(target.load(_SUMS) + added)

        def add_block(number: Vector, age: Vector, *sums: Vector) -> list[Vector]:
            word = store.as_integers(16).at(bits + number * tiles).load_as(64)
            word &= where(number.equals(blocks - 1), last_mask, mask)

            def add_spike(position: Vector, *sums: Vector) -> list[Vector]:
                row = weights.at(position * (size * _SUMS))
                return [one + row.at(k * _SUMS).load(_SUMS) for k, one in enumerate(sums)]

            found = fold_bits(word, sums, add_spike)
            age = where(word.equals(0), age + 1, age.full(0))
            with word.builder.if_then((age < dead).value):
                flush(number, found, advance)
            rest = [zero] * advance
            shifted = [found[k * vectors :][advance:vectors] + rest for k in range(lines)]
            return [age, *(one for sums in shifted for one in sums)]

        start = [place.full(dead), *[zero] * size]
        _, *sums = fold_all(place.full(0), blocks, start, add_block)
        flush(blocks, sums, vectors - advance)

    return add_windows


def _step(
    sums: Vector, shift: Vector, parameters: Memory, plane: Vector, states: Memory,
    apart: Vector | int, peaks: Memory, notes: Memory, keeps_current: Vector, watches: Vector,
    counts: Vector, *, holds_current: bool, may_wrap: bool = True,
) -> Vector:  # fmt: skip
    """Advance neurons by their sums, of 32 bits; see `step_lif`. Voltages lie `apart`."""
    lanes = sums.lanes
    kept: Vector | None = None

    def parameter(number: int) -> Vector:
        return parameters.at(plane * number).load(lanes)

    current = sums << shift.resized(32)
    if holds_current:
        kept = decay(states.load(lanes), parameter(2))
        current = kept + current
    size = raise_peaks(peaks, current)
    if may_wrap:
        current = _where_unusual(current, size, _wrap, notes.field("current_wraps"))
    before, bias = states.at(apart).load(lanes), parameter(0)
    voltage = decay(before, parameter(3)) + current + bias
    size = raise_peaks(peaks.at(LANES_LEAST), voltage)
    voltage = clip_counted(voltage, size, notes.field("voltage_clips"))
    fired = voltage > parameter(1)
    voltage = where(fired, 0, voltage)
    if holds_current:
        states.store(current)
    else:  # a fifth of what is stored, if nobody reads it
        with voltage.builder.if_then(keeps_current.value):
            states.store(current)
    states.at(apart).store(voltage)
    with voltage.builder.if_then(watches.value):
        _count(voltage.differs(before), notes.field("changes"))
    with voltage.builder.if_then(counts.value):
        state = before | bias | sums
        idle = (state if kept is None else state | kept).equals(0)
        notes.field("idle").store(idle.bitmask())
    return fired.bitmask()


def sum_rows(
    lanes: int, rows: Memory, store: Memory, ranges: Memory, count: Vector, width: Vector
) -> Vector:
    """Add up rows of weights in registers: 32 bits a sum; see `step_lif`."""
    bits = 32 if rows.bits == 32 else 16
    zeros = store.zeros(lanes)

    def add_range(number: Vector, sums: Vector) -> Vector:
        events = ranges.at(number)
        first, stop, start, to_values = (
            events.field(name).load() for name in ("first", "stop", "start", "to_values")
        )
        weights = rows.at(start)

        def add_up(sums: Vector, *, has_values: bool = False) -> Vector:
            def add_event(index: Vector, total: Vector) -> Vector:
                event = store.at(index).load().resized(64)
                added = weights.at(event * width).load(lanes).resized(bits)
                if has_values:
                    added *= store.at(index + to_values).load()
                return total + added

            return fold(first, stop, sums, add_event)

        if bits == 16:
            return sums + add_up(zeros.resized(16)).resized(32)
        return branch(
            to_values.equals(0), lambda: add_up(sums), lambda: add_up(sums, has_values=True)
        )

    return branch(count > 0, lambda: fold(count.full(0), count, zeros, add_range), lambda: zeros)


def decay(state: Vector, kept: Vector) -> Vector:
    """sign(x) · (|x| · kept >> 12), in 32 bits; see `step_lif`."""
    size = abs(state)
    low = ((size & (DECAY_UNITY - 1)) * kept).unsigned_rshift(DECAY_BITS)
    return (size.unsigned_rshift(DECAY_BITS) * kept + low).negated_where(state < 0)


def raise_peaks(peaks: Memory, values: Vector) -> Vector:
    """Update the largest sizes, by lane modulo `LANES_LEAST`; return those of these values."""
    size = abs(values)
    while size.lanes > LANES_LEAST:
        size = _larger(size.half(0), size.half(1))
    peaks.store(_larger(size, peaks.load(size.lanes)))
    return size


def clip_counted(values: Vector, size: Vector, clips: Memory) -> Vector:
    """Clip as `fixedpoint.clip_voltage`; `size` are the largest sizes of the values."""
    return _where_unusual(values, size, _clip, clips)


def _larger(one: Vector, other: Vector) -> Vector:
    return where(one > other, one, other)


def _where_unusual(
    values: Vector, size: Vector, change: Callable[[Vector], tuple[Vector, Vector]], counter: Memory
) -> Vector:
    """Return values, changed and counted where their largest sizes ask for it, which is rarely."""

    def changed() -> Vector:
        result, flags = change(values)
        _count(flags, counter)
        return result

    is_unusual = size.unsigned_reaches(_UNUSUAL).bitmask().differs(0)
    return branch(is_unusual, changed, lambda: values, is_likely=False)


def _wrap(current: Vector) -> tuple[Vector, Vector]:
    """Wrap once, as `fixedpoint.wrap_current`; and say where."""
    above, below = current > CURRENT_LIMIT, current <= -CURRENT_LIMIT
    turn = where(below, 2 * CURRENT_LIMIT, current.full(0))
    turn = where(above, -2 * CURRENT_LIMIT, turn)
    return current + turn, above | below


def _clip(voltage: Vector) -> tuple[Vector, Vector]:
    """Clip, as `fixedpoint.clip_voltage`; and say where."""
    above, below = voltage > VOLTAGE_LIMIT, voltage < -VOLTAGE_LIMIT
    clipped = where(below, -VOLTAGE_LIMIT, voltage)
    return where(above, VOLTAGE_LIMIT, clipped), above | below


def _count(flags: Vector, counter: Memory) -> None:
    counter.store(counter.load() + flags.bitmask().count_set())
