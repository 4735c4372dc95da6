"""Compiled layers of LIF neurons that follow events: what is silent costs nothing.

Events live in one *store*, an int32 array that holds, for every sample and step of every layer, a
list of events and its *bounds*. An event is the number of its neuron with channels last,
(y · width + x) · channels + c; lists are in ascending order, and bounds[p] is how many events come
from pixels before p. So the events of neighbouring pixels stand side by side, and with weights
laid out (kernel y, kernel x, channel, output) each of them selects one row of weights: a layer is
a sum of rows, kept in registers over all events that an output pixel sees in a kernel row.

For one output pixel all steps are done before the next pixel: its states never leave the cache.

Indices of the innermost loops are unsigned, since numba checks signed ones for being negative.

Source of the arithmetic: `neurodeploy.simulation.neurons`, which these loops are tested against.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import int32, int64, njit, types, uint8, void

from neurodeploy.llvm_vectors import (
    WORD,
    count_set,
    first_set,
    nonzero_bits,
)
from neurodeploy.simulation.kernels.neuron_vectors import clear, make_lif_step

VECTOR_CODE: Final = 0x5BEF0009
"""Checksum of `vector_code.py` and `llvm_vectors.py`: kept here, and tested, because the cache
of compiled code looks at this file only, and must not outlive a change of those."""

# Columns of a table of terms: one row for each group of synapses with the same source and delay.
LAG: Final = 0
"""Steps that an event takes."""
EVENTS: Final = 1
"""Position of the source's first list in the store; then its distance by sample and by step."""
EVENTS_SAMPLE: Final = 2
EVENTS_STEP: Final = 3
BOUNDS: Final = 4
"""The same of its bounds."""
BOUNDS_SAMPLE: Final = 5
BOUNDS_STEP: Final = 6
VALUES: Final = 7
"""Distance from an event to its value in the store; 0 if events carry none."""
HEIGHT: Final = 8
WIDTH: Final = 9
CHANNELS: Final = 10
KERNEL_Y: Final = 11
KERNEL_X: Final = 12
STRIDE_Y: Final = 13
STRIDE_X: Final = 14
PADDING_Y: Final = 15
PADDING_X: Final = 16
DILATION_Y: Final = 17
DILATION_X: Final = 18
ROWS: Final = 19
"""Number of its first row of weights."""
TERM_FIELDS: Final = 20

# Entries of a description of a layer.
OUT_EVENTS: Final = 0
OUT_EVENTS_SAMPLE: Final = 1
OUT_EVENTS_STEP: Final = 2
OUT_BOUNDS: Final = 3
OUT_BOUNDS_SAMPLE: Final = 4
OUT_BOUNDS_STEP: Final = 5
OUT_HEIGHT: Final = 6
OUT_WIDTH: Final = 7
OUT_CHANNELS: Final = 8
PADDED: Final = 9
"""Output channels, padded to a multiple of 16."""
SHIFT: Final = 10
"""Sums are scaled by 2**SHIFT."""
PARAMETER_STEP: Final = 11
"""Distance between the parameters of neighbouring pixels; 0 if all have the same."""
HOLDS_CURRENT: Final = 12
KEEPS: Final = 13
"""Sum of the KEEP_ constants: what is written besides events."""
EVENTS_AT_ONCE: Final = 14
"""How many rows at most are added up before their sum is widened to 32 bits."""
LAYER_FIELDS: Final = 15

KEEP_SPIKES: Final = 1
KEEP_TOTALS: Final = 2
KEEP_TRACES: Final = 4
KEEP_FINALS: Final = 8

# Entries of a description of a segment: events of neighbouring pixels that one output pixel reads.
_LOW: Final = 0
_HIGH: Final = 1
_LIST: Final = 2
_START: Final = 3
_LAG: Final = 4
_BOUNDS_STEP: Final = 5
_LIST_STEP: Final = 6
_VALUES: Final = 7
_ROW: Final = 8
_SEGMENT_FIELDS: Final = 9


_step_lif_64 = make_lif_step(64, holds_current=False)
_step_lif_32 = make_lif_step(32, holds_current=False)
_step_lif_16 = make_lif_step(16, holds_current=False)
_step_cuba_16 = make_lif_step(16, holds_current=True)


@njit(nogil=True, cache=True)
def make_room(terms, at_once):  # type: ignore[no-untyped-def]
    """The arrays that `list_segments` and `list_ranges` fill, for ranges of `at_once` events.

    Returns:
        segments, ranges and first_rows, as those describe them.
    """
    most = most_ranges = 0
    for k in range(terms.shape[0]):
        taps = terms[k, KERNEL_X]
        span = taps if terms[k, DILATION_X] == 1 else 1
        number = terms[k, KERNEL_Y] * (taps // span)
        most += number
        most_ranges += number * (1 + span * terms[k, CHANNELS] // at_once)
    return (
        np.empty((most, _SEGMENT_FIELDS), np.int64),
        np.empty((most_ranges, 4), np.int64),
        np.empty(most_ranges, np.int64),
    )


@njit(nogil=True, cache=True)
def list_segments(sample, x, y, width, terms, segments):  # type: ignore[no-untyped-def]
    """Find where the events are that an output pixel sees; give the number of segments.

    Args:
        sample: Number of the sample within the store.
        x: Column of the pixel.
        y: Its row.
        width: Padded channels.
        terms: (terms, TERM_FIELDS) int64.
        segments: (any, _SEGMENT_FIELDS) int64, written.
    """
    count = 0
    for k in range(terms.shape[0]):
        source_width, depth = terms[k, WIDTH], terms[k, CHANNELS]
        bound = terms[k, BOUNDS] + sample * terms[k, BOUNDS_SAMPLE]
        events = terms[k, EVENTS] + sample * terms[k, EVENTS_SAMPLE]
        taps = terms[k, KERNEL_X]
        span = taps if terms[k, DILATION_X] == 1 else 1
        left = x * terms[k, STRIDE_X] - terms[k, PADDING_X]
        for tap_y in range(terms[k, KERNEL_Y]):
            row = y * terms[k, STRIDE_Y] - terms[k, PADDING_Y] + tap_y * terms[k, DILATION_Y]
            for tap_x in range(0, taps if 0 <= row < terms[k, HEIGHT] else 0, span):
                column = left + tap_x * terms[k, DILATION_X]
                low, high = max(column, 0), min(column + span, source_width)
                if low < high:
                    tap, skipped = tap_y * taps + tap_x, row * source_width
                    segments[count, _LOW] = bound + skipped + low
                    segments[count, _HIGH] = bound + skipped + high
                    segments[count, _LIST] = events
                    start = terms[k, ROWS] + (tap - skipped - column) * depth
                    segments[count, _START] = start * width
                    segments[count, _ROW] = start
                    segments[count, _LAG] = terms[k, LAG]
                    segments[count, _BOUNDS_STEP] = terms[k, BOUNDS_STEP]
                    segments[count, _LIST_STEP] = terms[k, EVENTS_STEP]
                    segments[count, _VALUES] = terms[k, VALUES]
                    count += 1
    return count


@njit(nogil=True, cache=True)
def list_ranges(count, step, at_once, segments, store, ranges, first_rows):  # type: ignore[no-untyped-def]
    """Find the events of a step that an output pixel sees; give the number of ranges.

    Args:
        count: How many segments there are.
        step: The step.
        at_once: Most events of a range.
        segments: From `list_segments`.
        store: int32.
        ranges: (any, 4) int64, written: first event, last + 1, where the rows of its weights
            begin, and the distance from an event to its value.
        first_rows: (any,) int64, written: number of the row of event 0.
    """
    seen = 0
    for i in range(np.uint64(count)):
        source_step = step - segments[i, _LAG]
        if source_step >= 0:
            bound = source_step * segments[i, _BOUNDS_STEP]
            low = store[np.uint64(segments[i, _LOW] + bound)]
            high = store[np.uint64(segments[i, _HIGH] + bound)]
            events = segments[i, _LIST] + source_step * segments[i, _LIST_STEP]
            while low < high:
                slot = np.uint64(seen)
                ranges[slot, 0] = events + low
                low = min(high, low + at_once)
                ranges[slot, 1] = events + low
                ranges[slot, 2] = segments[i, _START]
                ranges[slot, 3] = segments[i, _VALUES]
                first_rows[slot] = segments[i, _ROW]
                seen += 1
    return seen


@njit(nogil=True, cache=True)  # compiled for each type of rows when it is first met
def run_lif(  # type: ignore[no-untyped-def]
    first, stop, layer, terms, rows, reach, parameters, plane, store, resets,
    spikes, totals, traces, finals, updates, health, counts,
):  # fmt: skip
    """Run one layer of LIF neurons over all steps of some samples.

    Args:
        first: First sample, counted within the store and all arrays below.
        stop: Sample after the last.
        layer: (LAYER_FIELDS,) int64.
        terms: (terms, TERM_FIELDS) int64.
        rows: (rows · PADDED,) int8, int16 or int32: weights, row after row. All sums must fit 23
            bits, and those of EVENTS_AT_ONCE rows of int8 or int16 fit 16 bits.
        reach: (rows · words,) uint64: which weights are not zero, 64 channels a word.
        parameters: (4 · plane,) int32; see `make_lif_step`.
        plane: PADDED, or pixels · PADDED.
        store: int32; the layer's own lists and bounds are written.
        resets: (T,) whether states are set to zero before a step.
        spikes: (samples, T, channels, pixels) uint8, zero: gets 1 for each event.
        totals: (samples, channels, pixels) uint8 or int32, zero: gets the events of each neuron.
        traces: (samples, T, 2, channels, pixels) int32: gets current and voltage.
        finals: (samples, 2, channels, pixels) int32: gets both after the last step.
        updates: (samples, 2) int64: active and membrane updates are added.
        health: (4,) int64: largest |current|, largest |voltage|, wraps, clips; updated.
        counts: Whether updates are counted.

    `spikes`, `totals`, `traces` and `finals` are touched only if `layer` says so.
    """
    steps, width = resets.size, layer[PADDED]
    channels, shift, keeps = layer[OUT_CHANNELS], layer[SHIFT], layer[KEEPS]
    holds_current = layer[HOLDS_CURRENT] != 0
    lists_step, bounds_step = layer[OUT_EVENTS_STEP], layer[OUT_BOUNDS_STEP]
    keeps_spikes, keeps_totals = keeps & KEEP_SPIKES != 0, keeps & KEEP_TOTALS != 0
    words = (width + WORD - 1) // WORD
    states, peaks = np.empty(2 * width, np.int32), np.zeros(2 * width, np.int32)
    notes, sent = np.zeros(4, np.int64), np.empty(steps, np.int64)
    voltages = np.empty(width, np.int32)
    at_once = layer[EVENTS_AT_ONCE]
    segments, ranges, first_rows = make_room(terms, at_once)
    for sample in range(first, stop):
        lists = layer[OUT_EVENTS] + sample * layer[OUT_EVENTS_SAMPLE]
        bounds = layer[OUT_BOUNDS] + sample * layer[OUT_BOUNDS_SAMPLE]
        notes[2] = 0
        active = 0
        for step in range(steps):
            sent[step] = 0
            store[bounds + step * layer[OUT_BOUNDS_STEP]] = 0
        x, y = -1, 0
        for pixel in range(layer[OUT_HEIGHT] * layer[OUT_WIDTH]):
            x += 1
            if x == layer[OUT_WIDTH]:
                x, y = 0, y + 1
            count = list_segments(sample, x, y, width, terms, segments)
            clear(states, 2 * width)
            at = pixel * layer[PARAMETER_STEP]
            at_sample, at_pixel = np.uint64(sample), np.uint64(pixel)
            for step in range(steps):
                follows = counts and step > 0  # by itself: a branch within a call copies arrays
                if resets[step]:
                    if follows:
                        for channel in range(channels):
                            voltages[channel] = states[width + channel]
                    clear(states, 2 * width)
                watches = follows and not resets[step]
                seen = list_ranges(count, step, at_once, segments, store, ranges, first_rows)
                place = lists + step * lists_step
                at_step = np.uint64(step)
                number = sent[step]
                group = 0
                while group < width:
                    if holds_current:
                        fired = _step_cuba_16(
                            rows, store, ranges, seen, group, shift, parameters, at + group, plane,
                            states, width, peaks, notes, watches, counts,
                        )  # fmt: skip
                        lanes = 16
                    elif width - group >= 64:
                        fired = _step_lif_64(
                            rows, store, ranges, seen, group, shift, parameters, at + group, plane,
                            states, width, peaks, notes, watches, counts,
                        )  # fmt: skip
                        lanes = 64
                    elif width - group >= 32:
                        fired = _step_lif_32(
                            rows, store, ranges, seen, group, shift, parameters, at + group, plane,
                            states, width, peaks, notes, watches, counts,
                        )  # fmt: skip
                        lanes = 32
                    else:
                        fired = _step_lif_16(
                            rows, store, ranges, seen, group, shift, parameters, at + group, plane,
                            states, width, peaks, notes, watches, counts,
                        )  # fmt: skip
                        lanes = 16
                    if counts:  # what has no state and no sum may still be reached by events
                        present = min(channels - group, lanes)
                        wanted = np.uint64(notes[3]) & (~np.uint64(0) >> np.uint64(64 - present))
                        word, bit = group // WORD, np.uint64(group % WORD)
                        slot = np.uint64(0)
                        while wanted != 0 and slot < np.uint64(seen):  # until all are reached
                            event, last = ranges[slot, 0], ranges[slot, 1]
                            while wanted != 0 and event < last:
                                row = first_rows[slot] + store[np.uint64(event)]
                                wanted &= ~(reach[np.uint64(row * words + word)] >> bit)
                                event += 1
                            slot += np.uint64(1)
                        active += present - count_set(wanted)
                    while fired != 0:
                        lane = np.uint64(group + first_set(fired))
                        fired &= fired - np.uint64(1)
                        store[np.uint64(place + number)] = pixel * channels + np.int64(lane)
                        number += 1
                        if keeps_spikes:
                            spikes[at_sample, at_step, lane, at_pixel] = 1
                        if keeps_totals:
                            totals[at_sample, lane, at_pixel] += 1
                    group += lanes
                sent[step] = number
                store[np.uint64(bounds + step * bounds_step + pixel + 1)] = number
                if follows and not watches:  # a reset came before: compare with what was there
                    for channel in range(channels):
                        notes[2] += states[width + channel] != voltages[channel]
                if keeps & KEEP_TRACES:
                    for channel in range(channels):
                        traces[sample, step, 0, channel, pixel] = states[channel]
                        traces[sample, step, 1, channel, pixel] = states[width + channel]
            if keeps & KEEP_FINALS:
                for channel in range(channels):
                    finals[sample, 0, channel, pixel] = states[channel]
                    finals[sample, 1, channel, pixel] = states[width + channel]
            if counts:
                notes[2] += channels
        updates[sample, 0] += active
        updates[sample, 1] += notes[2]
    for group in range(width):
        health[0] = max(health[0], peaks[group])
        health[1] = max(health[1], peaks[width + group])
    health[2] += notes[0]
    health[3] += notes[1]


@njit(nogil=True, cache=True)
def _bits_of(flat, place, present):  # type: ignore[no-untyped-def]
    """Return which of at most 64 neighbouring values are not zero, the first in the lowest bit."""
    if present == WORD:
        return nonzero_bits(flat, place)
    bits = np.uint64(0)
    for lane in range(np.uint64(present)):
        bits |= np.uint64(flat[np.uint64(place) + lane] != 0) << lane
    return bits


@njit(
    [
        void(
            types.Array(value, 4, "C", readonly=True), int64, int64, int64, int64, int64, int64,
            int64, int32[::1],
        )
        for value in (uint8, int32)
    ],
    nogil=True,
    cache=True,
)  # fmt: skip
def collect_events(  # type: ignore[no-untyped-def]
    frames, events, events_sample, events_step, bounds, bounds_sample, bounds_step, values, store
):  # fmt: skip
    """List the values of frames that are not zero.

    Args:
        frames: (samples, T, channels, pixels) uint8 or int32.
        events: Position of the first list in the store; then its distance by sample and step.
        events_sample: See there.
        events_step: See there.
        bounds: The same of the bounds.
        bounds_sample: See there.
        bounds_step: See there.
        values: Distance from an event to its value; 0 to keep none.
        store: int32, written.
    """
    samples, steps, channels, pixels = frames.shape
    flat = frames.reshape(frames.size)
    if pixels == 1:
        for sample in range(samples):
            for step in range(steps):
                place = events + sample * events_sample + step * events_step
                bound = bounds + sample * bounds_sample + step * bounds_step
                first = (sample * steps + step) * channels
                number = place
                for begin in range(0, channels, WORD):
                    bits = _bits_of(flat, first + begin, min(WORD, channels - begin))
                    while bits != 0:
                        channel = begin + first_set(bits)
                        bits &= bits - np.uint64(1)
                        store[np.uint64(number)] = channel
                        if values != 0:
                            store[np.uint64(number + values)] = flat[np.uint64(first + channel)]
                        number += 1
                store[bound], store[bound + 1] = 0, number - place
        return
    # By channel is how they lie in memory, by pixel how they are wanted: 64 pixels at a time, bits
    # are taken from all channels, then counted, then listed from where each pixel's list begins.
    bits_of = np.empty(channels, np.uint64)
    places = np.empty(WORD, np.int64)
    for sample in range(samples):
        for step in range(steps):
            place = events + sample * events_sample + step * events_step
            bound = bounds + sample * bounds_sample + step * bounds_step
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
                        neuron = (begin + lane) * channels + np.int64(channel)
                        store[np.uint64(target)] = neuron
                        if values != 0:
                            store[np.uint64(target + values)] = flat[np.uint64(at + lane)]


@njit(
    [
        void(
            types.Array(value, 4, "C"), int64, int64, int64, int64, int64, int64, int64, int64,
            int32[::1],
        )
        for value in (uint8, int32)
    ],
    nogil=True,
    cache=True,
)  # fmt: skip
def spread_events(  # type: ignore[no-untyped-def]
    frames, first_step, events, events_sample, events_step, bounds, bounds_sample, bounds_step,
    values, store,
):  # fmt: skip
    """Write events into frames.

    Args:
        frames: (samples, T - first_step, channels, pixels) uint8 or int32, zero: gets the values,
            1 where events carry none.
        first_step: Step of the first frame.
        events: As in `collect_events`, and so on below.
        events_sample: See there.
        events_step: See there.
        bounds: See there.
        bounds_sample: See there.
        bounds_step: See there.
        values: See there.
        store: int32.
    """
    samples, steps, channels, pixels = frames.shape
    for sample in range(samples):
        for step in range(steps):
            source = first_step + step
            place = events + sample * events_sample + source * events_step
            last = store[bounds + sample * bounds_sample + source * bounds_step + pixels]
            for i in range(last):
                neuron = store[place + i]
                value = store[place + i + values] if values != 0 else np.int32(1)
                frames[sample, step, neuron % channels, neuron // channels] = value
