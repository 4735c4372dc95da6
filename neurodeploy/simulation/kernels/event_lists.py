"""Lists and bits of events: how they lie in memory, and the loops that write and read them.

Events live in one *store*, an int32 array that holds, for every sample and step of every layer, a
list of events and its *bounds*. An event is the number of its neuron with channels last,
(y · width + x) · channels + c; lists are in ascending order, and bounds[p] is how many events come
from pixels before p. So the events of neighbouring pixels stand side by side, and with weights
laid out (kernel y, kernel x, channel, output) each of them selects one row of weights: a layer is
a sum of rows.

Spikes of LIF layers are also bits, 16 channels of a pixel a tile, padded with zeros, pixel after
pixel; a step begins at a multiple of four tiles. The neurons' steps write them, and lists are made
of them only where some layer reads lists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from neurodeploy.llvm_vectors import (
    WORD,
    Memory,
    Vector,
    constant_bytes,
    copy_word,
    count_set,
    first_set,
    fold,
    nonzero_bits,
    vector_function,
)
from neurodeploy.loops.linking import linked
from neurodeploy.simulation.kernels.structures import RANGE, SEGMENT

TILE: Final = 16
"""Bits in which places of bits are counted: those that channels of a pixel are a multiple of."""


def kernel() -> Callable[..., Any]:
    """Return the decorator of compiled functions; Python calls those of `kernel_code`."""
    return linked


@kernel()
def place_of_list(lists, sample, step):  # type: ignore[no-untyped-def]
    """Return the position in the store of a list of events."""
    return lists.events + sample * lists.events_by_sample + step * lists.events_by_step


@kernel()
def place_of_bounds(lists, sample, step):  # type: ignore[no-untyped-def]
    """Return the position in the store of the bounds of a list."""
    return lists.bounds + sample * lists.bounds_by_sample + step * lists.bounds_by_step


@kernel()
def place_of_bits(lists, sample, step):  # type: ignore[no-untyped-def]
    """Return the position of the bits of a step, counted in 16 bits."""
    return lists.bits + sample * lists.bits_by_sample + step * lists.bits_by_step


@kernel()
def begin_lists(lists, sample, sent, store):  # type: ignore[no-untyped-def]
    """Begin the lists of a sample; sent: (T,) int64, gets how many events each has so far."""
    for step in range(sent.size):
        sent[step] = 0
        store[place_of_bounds(lists, sample, step)] = 0


@vector_function()
def store_bits(store: Memory, place: Vector, fired: Vector, lanes: Vector) -> None:
    """Write 64, 32 or 16 bits to a place in the store that is counted in 16 bits."""
    halves, builder = store.as_integers(TILE).at(place), fired.builder
    with builder.if_else(lanes.equals(WORD).value) as (whole, part):
        with whole:
            halves.store(fired)
        with part, builder.if_else(lanes.equals(32).value) as (half, quarter):
            with half:
                halves.store(fired.resized(32))
            with quarter:
                halves.store(fired.resized(TILE))


@vector_function("uint64")
def read_bits(store: Memory, place: Vector) -> Vector:
    """Return the 64 bits at a place in the store that is counted in 16 bits."""
    return store.as_integers(TILE).at(place).load_as(WORD)


@vector_function("int64")
def list_bits(store: Memory, place: Vector, bits: Vector, first: Vector) -> Vector:
    """List the bits of a word that are set, the lowest as `first`, and return their number.

    To guess how many there are would go wrong most of the time. So eight numbers are written for
    each byte, of which those of the next write over as many as were too many; up to eight are left
    behind the last.
    """
    numbers = constant_bytes(bits.builder, "bit_numbers", _NUMBERS)
    count = bits.full(0)
    for byte in range(WORD // 8):
        part = bits.unsigned_rshift(8 * byte) & 255
        found = numbers.at(part * 8).load(8).widened(32) + (first + 8 * byte).resized(32)
        store.at(place + count).store(found)
        count += part.count_set()
    return count


_NUMBERS: Final = bytes(
    number
    for byte in range(256)
    for number in ([bit for bit in range(8) if byte >> bit & 1] + [0] * 8)[:8]
)
"""Of each byte, the places of its bits that are set."""


@kernel()
def list_spikes(layer, sample, step, store):  # type: ignore[no-untyped-def]
    """List the spikes of a step, from their bits."""
    lists, channels, padded = layer.lists, layer.channels, layer.padded
    place, bound = place_of_list(lists, sample, step), place_of_bounds(lists, sample, step)
    bits_place, pixels = place_of_bits(lists, sample, step), layer.height * layer.width
    number = pixel = 0
    store[np.uint64(bound)] = 0
    if channels == padded and WORD % padded == 0:  # several pixels a word, without gaps
        while pixel <= pixels - WORD // padded:
            bits = read_bits(store, bits_place)
            first, before = pixel * padded, number
            if bits != 0:
                number += list_bits(store, place + number, bits, first)
            for end in range(padded, WORD + 1, padded):
                pixel += 1
                earlier = bits & (~np.uint64(0) >> np.uint64(WORD - end))
                store[np.uint64(bound + pixel)] = before + count_set(earlier)
            bits_place += WORD // TILE
    while pixel < pixels:
        for begin in range(0, channels, WORD):
            bits = read_bits(store, bits_place + begin // TILE)
            bits &= ~np.uint64(0) >> np.uint64(max(0, WORD - (channels - begin)))
            if bits != 0:
                first = pixel * channels + begin
                number += list_bits(store, place + number, bits, first)
        bits_place += padded // TILE
        pixel += 1
        store[np.uint64(bound + pixel)] = number


@kernel()
def make_room(terms, rows_at_once):  # type: ignore[no-untyped-def]
    """Return arrays for `list_segments` and `list_ranges`, for ranges of `rows_at_once` events."""
    most = most_ranges = 0
    for k in range(terms.shape[0]):
        term = terms[k]
        side_by_side = term.kernel_x if term.dilation_x == 1 else 1
        number = term.kernel_y * (term.kernel_x // side_by_side)
        most += number
        most_ranges += number * (1 + side_by_side * term.channels // rows_at_once)
    return np.empty(most, SEGMENT), np.empty(most_ranges, RANGE)


@kernel()
def list_segments(sample, x, y, width, terms, segments):  # type: ignore[no-untyped-def]
    """Find where the events are that the output pixel (x, y) sees, over all steps of a sample.

    Of `terms`, TERM; rows of weights have `width` numbers. `segments`, SEGMENT, are written.

    Returns:
        The number of segments.
    """
    count = 0
    for k in range(terms.shape[0]):
        term = terms[k]
        source = term.source
        bounds, events = place_of_bounds(source, sample, 0), place_of_list(source, sample, 0)
        # Without dilation, a kernel's row sees neighbouring pixels: all its events are one segment.
        side_by_side = term.kernel_x if term.dilation_x == 1 else 1
        left = x * term.stride_x - term.padding_x
        for tap_y in range(term.kernel_y):
            row = y * term.stride_y - term.padding_y + tap_y * term.dilation_y
            is_inside = 0 <= row < term.height
            for tap_x in range(0, term.kernel_x if is_inside else 0, side_by_side):
                column = left + tap_x * term.dilation_x
                low, high = max(column, 0), min(column + side_by_side, term.width)
                if low < high:
                    skipped = row * term.width
                    segment = segments[count]
                    segment.low, segment.high = bounds + skipped + low, bounds + skipped + high
                    segment.bounds_by_step = source.bounds_by_step
                    segment.events, segment.events_by_step = events, source.events_by_step
                    segment.to_values, segment.lag = source.to_values, term.lag
                    tap = tap_y * term.kernel_x + tap_x
                    first_row = term.first_row + (tap - skipped - column) * term.channels
                    segment.first_row, segment.start = first_row, first_row * width
                    count += 1
    return count


@kernel()
def list_ranges(count, step, rows_at_once, segments, store, ranges):  # type: ignore[no-untyped-def]
    """Find the events of a step in segments from `list_segments`.

    The ranges, RANGE, are written, each of `rows_at_once` events at most.

    Returns:
        The number of ranges.
    """
    number = 0
    for k in range(np.uint64(count)):
        segment = segments[k]
        source_step = step - segment.lag
        if source_step >= 0:
            bounds = source_step * segment.bounds_by_step
            low = np.int64(store[np.uint64(segment.low + bounds)])
            high = store[np.uint64(segment.high + bounds)]
            events = segment.events + source_step * segment.events_by_step
            while low < high:
                found = ranges[np.uint64(number)]
                found.first = events + low
                low = min(high, low + rows_at_once)
                found.stop = events + low
                found.start, found.first_row = segment.start, segment.first_row
                found.to_values = segment.to_values
                number += 1
    return number


@kernel()
def _bits_of(flat, place, present):  # type: ignore[no-untyped-def]
    """Return which of at most 64 neighbouring values are not zero, the first in the lowest bit."""
    if present == WORD:
        return nonzero_bits(flat, place)
    bits = np.uint64(0)
    for lane in range(np.uint64(present)):
        bits |= np.uint64(flat[np.uint64(place) + lane] != 0) << lane
    return bits


@kernel()
def _collect_flat(flat, samples, steps, channels, lists, store):  # type: ignore[no-untyped-def]
    """List the events of all frames of a single pixel, whose channels lie side by side."""
    to_values = lists.to_values
    for sample in range(samples):
        for step in range(steps):
            place, bound = place_of_list(lists, sample, step), place_of_bounds(lists, sample, step)
            first, number = (sample * steps + step) * channels, place
            for begin in range(0, channels, WORD):
                bits = _bits_of(flat, first + begin, min(WORD, channels - begin))
                while bits != 0:
                    channel = begin + first_set(bits)
                    bits &= bits - np.uint64(1)
                    store[np.uint64(number)] = channel
                    if to_values != 0:
                        store[np.uint64(number + to_values)] = flat[np.uint64(first + channel)]
                    number += 1
            store[bound], store[bound + 1] = 0, number - place


@vector_function("int64")
def count_pixels(
    bits_of: Memory, channels: Vector, number: Vector, begins: Memory, ends: Memory
) -> Vector:
    """Count the events of 64 pixels, whose bits are given channel by channel.

    Before these pixels there are `number` events; `begins` and `ends` get how many there are before
    each pixel and up to its last.

    Returns:
        How many events there are up to the last pixel.
    """

    def add(channel: Vector, counts: Vector) -> Vector:
        return counts + bits_of.at(channel).load().lanes_of_bits().widened(32)

    counts = fold(channels.full(0), channels, ends.zeros(WORD), add)
    upto = counts.summed() + number.resized(32)
    begins.store(upto - counts)
    ends.store(upto)
    return upto.lane(WORD - 1).resized(64)


@kernel()
def collect_events(flat, shape, sender, store):  # type: ignore[no-untyped-def]
    """List the values other than zero of frames, uint8 or int32.

    `flat` are the frames in one line, `shape` is (samples, T, channels, pixels). `sender`,
    (1,) LISTS, is where in the store they are written.
    """
    samples, steps, channels, pixels = shape
    lists = sender[0]
    if pixels == 1:  # all frames in one call, which would take a tenth of a list
        _collect_flat(flat, samples, steps, channels, lists, store)
        return
    # By channel is how they lie in memory, by pixel how they are listed: 64 pixels at a time,
    # bits are taken from all channels, counted, then listed from where each pixel's list is.
    to_values = lists.to_values
    bits_of = np.empty(channels, np.uint64)
    begins, ends = np.empty(WORD, np.int32), np.empty(WORD, np.int32)
    for sample in range(samples):
        for step in range(steps):
            place, bound = place_of_list(lists, sample, step), place_of_bounds(lists, sample, step)
            first = (sample * steps + step) * channels * pixels
            number = 0
            store[bound] = 0
            for begin in range(0, pixels, WORD):
                present = min(WORD, pixels - begin)
                any_of = np.uint64(0)
                for channel in range(np.uint64(channels)):
                    at = first + np.int64(channel) * pixels + begin
                    bits = _bits_of(flat, at, present)
                    bits_of[channel] = bits
                    any_of |= bits
                if any_of == 0:
                    for pixel in range(begin, begin + present):
                        store[np.uint64(bound + pixel + 1)] = number
                    continue
                number = count_pixels(bits_of, channels, number, begins, ends)
                if present == WORD:
                    copy_word(ends, 0, store, bound + begin + 1)
                else:
                    for lane in range(present):
                        store[bound + begin + lane + 1] = ends[lane]
                for channel in range(np.uint64(channels)):
                    bits = bits_of[channel]
                    at = first + np.int64(channel) * pixels + begin
                    while bits != 0:
                        lane = first_set(bits)
                        bits &= bits - np.uint64(1)
                        target = place + begins[lane]
                        begins[lane] += 1
                        store[np.uint64(target)] = (begin + lane) * channels + np.int64(channel)
                        if to_values != 0:
                            store[np.uint64(target + to_values)] = flat[np.uint64(at + lane)]


@kernel()
def spread_events(frames, first_step, sender, store):  # type: ignore[no-untyped-def]
    """Write the events of a sender, (1,) LISTS, into frames, zero so far, from `first_step` on.

    They are (samples, T - first_step, channels, pixels) uint8 or int32, and get the values, 1 where
    events carry none.
    """
    samples, steps, channels, pixels = frames.shape
    lists = sender[0]
    for sample in range(samples):
        for step in range(steps):
            place = place_of_list(lists, sample, first_step + step)
            number = store[place_of_bounds(lists, sample, first_step + step) + pixels]
            for at in range(place, place + number):
                neuron, value = store[at], np.int32(1)
                if lists.to_values != 0:
                    value = store[at + lists.to_values]
                frames[sample, step, neuron % channels, neuron // channels] = value


@vector_function()
def _spread_channel(words: Memory, channel: Vector, frames: Memory, place: Vector) -> None:
    """Write a bit of 64 words of 16 bits to as many bytes."""
    bits = words.load(WORD).unsigned_rshift(channel.resized(TILE)) & 1
    frames.at(place).store(bits.resized(8))


@kernel()
def expand_bits(shape, bits, flat):  # type: ignore[no-untyped-def]
    """Write bits, (frames, pixels · tiles) uint16, to `flat`, uint8.

    `shape` is (frames, channels, pixels), the order of `flat`.
    """
    count, channels, pixels = shape
    tiles = (channels + TILE - 1) // TILE
    words = np.empty(WORD, np.uint16)
    for frame in range(count):
        for begin in range(0, pixels, WORD):
            present = min(WORD, pixels - begin)
            for tile in range(tiles):
                for k in range(present):
                    words[k] = bits[frame, (begin + k) * tiles + tile]
                for channel in range(tile * TILE, min(channels, tile * TILE + TILE)):
                    place = (frame * channels + channel) * pixels + begin
                    if present == WORD:
                        _spread_channel(words, channel % TILE, flat, place)
                    else:
                        for k in range(present):
                            flat[place + k] = (words[k] >> (channel % TILE)) & 1


@vector_function()
def _count_channel(
    words: Memory, channel: Vector, steps: Vector, totals: Memory, place: Vector
) -> None:
    """Count a bit of 64 words of 16 bits over some steps."""

    def add_step(step: Vector, total: Vector) -> Vector:
        found = words.at(step * WORD).load(WORD).unsigned_rshift(channel.resized(TILE)) & 1
        return total + found.resized(totals.bits)

    totals.at(place).store(fold(steps.full(0), steps, totals.zeros(WORD), add_step))


@vector_function()
def _count_lanes(
    bits: Memory, place: Vector, by_step: Vector, steps: Vector, totals: Memory, first: Vector
) -> None:
    """Count each of 64 bits over some steps."""

    def add_step(step: Vector, total: Vector) -> Vector:
        found = bits.at(place + step * by_step).load_as(WORD)
        return total + found.lanes_of_bits().widened(totals.bits)

    totals.at(first).store(fold(steps.full(0), steps, totals.zeros(WORD), add_step))


@kernel()
def count_bits(shape, bits, flat):  # type: ignore[no-untyped-def]
    """Count the spikes of each neuron over all steps, from bits as `expand_bits` takes them.

    `shape` is (samples, T, channels, pixels); `flat`, uint8 or int32, gets
    (samples, channels, pixels) in one line.
    """
    samples, steps, channels, pixels = shape
    tiles = (channels + TILE - 1) // TILE
    words = np.empty(steps * WORD, np.uint16)
    for sample in range(samples):
        first = sample * steps
        if pixels == 1:
            for begin in range(0, channels - WORD + 1, WORD):
                place = first * tiles + begin // TILE
                _count_lanes(bits, place, tiles, steps, flat, sample * channels + begin)
            for channel in range(channels - channels % WORD, channels):
                number = np.int64(0)
                for step in range(steps):
                    number += (bits[first + step, channel // TILE] >> (channel % TILE)) & 1
                flat[sample * channels + channel] = number
            continue
        for begin in range(0, pixels, WORD):
            present = min(WORD, pixels - begin)
            for tile in range(tiles):
                for step in range(steps):
                    for k in range(present):
                        word = bits[first + step, (begin + k) * tiles + tile]
                        words[step * WORD + k] = word
                for channel in range(tile * TILE, min(channels, tile * TILE + TILE)):
                    at = (sample * channels + channel) * pixels + begin
                    if present == WORD:
                        _count_channel(words, channel % TILE, steps, flat, at)
                        continue
                    for k in range(present):
                        number = np.int64(0)
                        for step in range(steps):
                            number += (words[step * WORD + k] >> (channel % TILE)) & 1
                        flat[at + k] = number
