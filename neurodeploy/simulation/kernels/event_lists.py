"""Lists of events: how they lie in memory, and the loops that write, read and search them.

Events live in one *store*, an int32 array that holds, for every sample and step of every layer, a
list of events and its *bounds*. An event is the number of its neuron with channels last,
(y · width + x) · channels + c; lists are in ascending order, and bounds[p] is how many events come
from pixels before p. So the events of neighbouring pixels stand side by side, and with weights
laid out (kernel y, kernel x, channel, output) each of them selects one row of weights: a layer is
a sum of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurodeploy.llvm_vectors import WORD, clear, first_set, nonzero_bits
from neurodeploy.loops.linking import linked
from neurodeploy.simulation.kernels.structures import RANGE, SEGMENT


def kernel() -> Callable[..., Any]:
    """Return the decorator of compiled functions; Python calls those of `layer_records`."""
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
def begin_lists(lists, sample, sent, store):  # type: ignore[no-untyped-def]
    """Begin the lists of a sample; sent: (T,) int64, gets how many events each has so far."""
    for step in range(sent.size):
        sent[step] = 0
        store[place_of_bounds(lists, sample, step)] = 0


@kernel()
def note_fired(fired, place, lane, step, pixel, noted, count):  # type: ignore[no-untyped-def]
    """Append a mask to `noted`, FIRED, unless it is zero; return how many there are.

    Spikes are listed later, those of many masks together. How many bits a mask has is a guess that
    processors get wrong; right after the neurons' step they would wait for its end first.
    """
    one = noted[np.uint64(count)]
    one.mask, one.place, one.lane, one.step, one.pixel = fired, place, lane, step, pixel
    return count + np.int64(fired != 0)


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
    bits_of, places = np.empty(channels, np.uint64), np.empty(WORD, np.int64)
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
                clear(places, WORD)
                for channel in range(np.uint64(channels)):
                    bits = bits_of[channel]
                    while bits != 0:
                        places[np.uint64(first_set(bits))] += 1
                        bits &= bits - np.uint64(1)
                for lane in range(present):
                    here = places[np.uint64(lane)]
                    places[np.uint64(lane)] = place + number
                    number += here
                    store[np.uint64(bound + begin + lane + 1)] = number
                for channel in range(np.uint64(channels)):
                    bits = bits_of[channel]
                    at = first + np.int64(channel) * pixels + begin
                    while bits != 0:
                        lane = first_set(bits)
                        bits &= bits - np.uint64(1)
                        target = places[np.uint64(lane)]
                        places[np.uint64(lane)] = target + 1
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
