"""Compiled layers of LIF neurons in which each event adds its weights to the sums in memory.

For layers of few channels: what `event_kernels.run_lif` does for every output pixel, finding the
events that it sees, costs more there than the sums. Here each event of a source adds its rows of
weights to a frame of sums for each step, as `spreading` lays them out; then 64 neighbouring
neurons at a time, of several pixels, are updated over all steps. Lists of events, bounds and all
results are the same.

Source of the arithmetic: `neurodeploy.simulation.neurons`, which these loops are tested against.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from neurodeploy.llvm_vectors import count_set, first_set
from neurodeploy.simulation.kernels import frame_layout, lif as lists
from neurodeploy.simulation.kernels.neuron_vectors import (
    STATES_APART,
    clear,
    make_frame_step,
    make_row_adder,
)

VECTOR_CODE: Final = 0x5BEF0009
"""Checksum of `vector_code.py`; see `event_kernels`."""

# Numba keeps these as constants; what other modules hold it would look up at each compilation too.
_LAG, _EVENTS, _EVENTS_SAMPLE, _EVENTS_STEP = (
    lists.LAG, lists.EVENTS, lists.EVENTS_SAMPLE, lists.EVENTS_STEP
)  # fmt: skip
_BOUNDS, _BOUNDS_SAMPLE, _BOUNDS_STEP = lists.BOUNDS, lists.BOUNDS_SAMPLE, lists.BOUNDS_STEP
_LANES: Final = STATES_APART

_step_lif_64 = make_frame_step(64, holds_current=False)
_step_cuba_64 = make_frame_step(64, holds_current=True)
_step_cuba_16 = make_frame_step(16, holds_current=True)
_add_16, _add_32 = make_row_adder(16), make_row_adder(32)
_add_3x3_16 = make_row_adder(16, lines=3, parts=3)
_add_3x3_32 = make_row_adder(32, lines=3, parts=3)
_add_2x2_32 = make_row_adder(32, lines=2, parts=2)


@njit(nogil=True, cache=True)
def add_events(sample, steps, width, terms, spreads, places, rows, store, frames, size):  # type: ignore[no-untyped-def]
    """Add what all events of a sample contribute to the sums of each step.

    Args:
        sample: Number of the sample within the store.
        steps: T.
        width: Padded channels.
        terms: (terms, TERM_FIELDS) int64; see `event_kernels`.
        spreads: (terms, SPREAD_FIELDS) int64, and so on below: see `spreading.Spreading`.
        places: (pixels, 2) int64.
        rows: (rows · width,) int16 or int32, as frames.
        store: int32.
        frames: (T · size,) int16 or int32; sums are added to.
        size: Numbers in a frame.
    """
    for k in range(terms.shape[0]):
        taps_y, taps_x = np.uint64(spreads[k, frame_layout.TAPS_Y]), spreads[k, frame_layout.RUN]
        step_y, step_x = spreads[k, frame_layout.STEP_Y], spreads[k, frame_layout.STEP_X]
        first, inverse = spreads[k, frame_layout.FIRST_PLACE], spreads[k, frame_layout.INVERSE]
        depth, values, lag = terms[k, lists.CHANNELS], terms[k, lists.VALUES], terms[k, _LAG]
        pixels = terms[k, lists.HEIGHT] * terms[k, lists.WIDTH]
        line = taps_x * width
        block = np.int64(taps_y) * line
        lanes = 32 if width % 32 == 0 else 16
        parts, taps = np.uint64(width // lanes), np.uint64(taps_x)
        if step_x == width:  # taps of a line are neighbours in the frame as well
            parts, taps = np.uint64(line // lanes), np.uint64(1)
        is_3x3 = taps_y == 3 and taps == 1 and parts == 3
        is_2x2 = taps_y == 2 and taps == 1 and parts == 2 and lanes == 32
        value = np.int32(1)
        start = terms[k, _EVENTS] + sample * terms[k, _EVENTS_SAMPLE]
        bound = terms[k, _BOUNDS] + sample * terms[k, _BOUNDS_SAMPLE] + pixels
        for step in range(steps - lag):
            base = (step + lag) * size
            total = store[np.uint64(bound + step * terms[k, _BOUNDS_STEP])]
            begin = np.uint64(start + step * terms[k, _EVENTS_STEP])
            for at in range(begin, begin + np.uint64(total)):
                event = np.int64(store[at])
                if values != 0:
                    value = store[at + np.uint64(values)]
                pixel = (event * inverse) >> 40
                target = base + places[np.uint64(first + pixel), 0]
                source = places[np.uint64(first + pixel), 1] + (event - pixel * depth) * block
                if is_3x3 and lanes == 16:
                    _add_3x3_16(frames, target, rows, source, value, step_y)
                elif is_3x3:
                    _add_3x3_32(frames, target, rows, source, value, step_y)
                elif is_2x2:
                    _add_2x2_32(frames, target, rows, source, value, step_y)
                else:
                    for _ in range(taps_y):
                        to = target
                        for _ in range(taps):
                            for part in range(parts):
                                if lanes == 16:
                                    _add_16(
                                        frames, to + np.int64(part) * 16, rows, source, value, 0
                                    )
                                else:
                                    _add_32(
                                        frames, to + np.int64(part) * 32, rows, source, value, 0
                                    )
                                source += lanes
                            to += step_x
                        target += step_y


@njit(nogil=True, cache=True)
def count_reached(waiting, number, sample, y, terms, store, reach, words):  # type: ignore[no-untyped-def]
    """Count those of some neurons whom an event reaches.

    Args:
        waiting: (any, 4) int64: step, column, channel of a first neuron, mask of those after it.
        number: How many of these are to be looked at.
        sample: Number of the sample within the store.
        y: Row of the neurons.
        terms: (terms, TERM_FIELDS) int64; see `event_kernels`.
        store: int32.
        reach: (rows · words,) uint64.
        words: Words of a row.
    """
    found = 0
    for k in range(number):
        step, x, channel = waiting[k, 0], waiting[k, 1], waiting[k, 2]
        word, bit = channel // 64, np.uint64(channel % 64)
        wanted = np.uint64(waiting[k, 3])
        found += count_set(wanted)
        for of in range(terms.shape[0]):
            source = step - terms[of, _LAG]
            bound = terms[of, _BOUNDS] + sample * terms[of, _BOUNDS_SAMPLE]
            bound += source * terms[of, _BOUNDS_STEP]
            start = terms[of, _EVENTS] + sample * terms[of, _EVENTS_SAMPLE]
            start += source * terms[of, _EVENTS_STEP]
            depth, taps = terms[of, lists.CHANNELS], terms[of, lists.KERNEL_X]
            span = taps if terms[of, lists.DILATION_X] == 1 else 1
            left = x * terms[of, lists.STRIDE_X] - terms[of, lists.PADDING_X]
            for tap_y in range(terms[of, lists.KERNEL_Y] if source >= 0 else 0):
                row = y * terms[of, lists.STRIDE_Y] - terms[of, lists.PADDING_Y]
                row += tap_y * terms[of, lists.DILATION_Y]
                is_inside = wanted != 0 and 0 <= row < terms[of, lists.HEIGHT]
                for tap_x in range(0, taps if is_inside else 0, span):
                    column = left + tap_x * terms[of, lists.DILATION_X]
                    low, high = max(column, 0), min(column + span, terms[of, lists.WIDTH])
                    if low < high:
                        skipped = row * terms[of, lists.WIDTH]
                        tap = tap_y * taps + tap_x
                        first = terms[of, lists.ROWS] + (tap - skipped - column) * depth
                        event = store[np.uint64(bound + skipped + low)]
                        last = store[np.uint64(bound + skipped + high)]
                        while wanted != 0 and event < last:
                            at = (first + store[np.uint64(start + event)]) * words + word
                            wanted &= ~(reach[np.uint64(at)] >> bit)
                            event += 1
        found -= count_set(wanted)
    return found


@njit(nogil=True, cache=True)  # compiled for each type of rows when it is first met
def run_spreading_lif(  # type: ignore[no-untyped-def]
    first, stop, layer, terms, spreads, places, rows, numbers, frames, size, pitch, origin, reach,
    parameters, plane, store, resets, spikes, totals, traces, finals, updates, health, counts,
):  # fmt: skip
    """Run one layer as `event_kernels.run_lif` does; what is not explained is as there.

    Args:
        first: First sample.
        stop: Sample after the last.
        layer: (LAYER_FIELDS,) int64.
        terms: (terms, TERM_FIELDS) int64; none reads the layer itself.
        spreads: (terms, SPREAD_FIELDS) int64, and so on below: see `spreading.Spreading`.
        places: (pixels, 2) int64.
        rows: (rows · PADDED,) int16 or int32.
        numbers: (lanes of a row, 2) int32; see `spreading.Spreading.lanes`.
        frames: (T · size,) of the same type; zero, and left so but in the margins.
        size: Numbers in a frame.
        pitch: From one row of a frame to the next.
        origin: Where the layer's first pixel is in it.
        reach: (rows · words,) uint64, in the order of `terms`.
        parameters: (4 · plane,) int32; if pixels share them, as many as repeat after 64 lanes.
        plane: Distance between parameters of two kinds.
        store: int32.
        resets: (T,).
        spikes: (samples, T, channels, pixels) uint8.
        totals: (samples, channels, pixels) uint8 or int32.
        traces: (samples, T, 2, channels, pixels) int32.
        finals: (samples, 2, channels, pixels) int32.
        updates: (samples, 2) int64.
        health: (4,) int64.
        counts: Whether updates are counted.
    """
    steps, width = resets.size, layer[lists.PADDED]
    channels, shift, keeps = layer[lists.OUT_CHANNELS], layer[lists.SHIFT], layer[lists.KEEPS]
    holds_current = layer[lists.HOLDS_CURRENT] != 0
    is_uniform = layer[lists.PARAMETER_STEP] == 0
    columns = layer[lists.OUT_WIDTH]
    lists_step, bounds_step = layer[lists.OUT_EVENTS_STEP], layer[lists.OUT_BOUNDS_STEP]
    keeps_spikes = keeps & lists.KEEP_SPIKES != 0
    keeps_totals = keeps & lists.KEEP_TOTALS != 0
    waiting = np.empty((steps * (columns * width // 16) if counts else 0, 4), np.int64)
    tallies = np.zeros(columns * width, np.int32)
    row_size = channels * columns  # spikes of a row of pixels: written out together, line by line
    row_spikes = np.zeros(steps * row_size if keeps_spikes else 0, np.uint8)
    keeps_states = keeps & (lists.KEEP_TRACES | lists.KEEP_FINALS) != 0
    words = (width + 63) // 64
    tile = 64 if width % 64 == 0 else 32 if width % 32 == 0 else 16
    states, peaks = np.empty(2 * _LANES, np.int32), np.zeros(2 * _LANES, np.int32)
    voltages = np.zeros(_LANES, np.int32)
    notes, sent = np.zeros(4, np.int64), np.empty(steps, np.int64)
    for sample in range(first, stop):
        add_events(sample, steps, width, terms, spreads, places, rows, store, frames, size)
        begin = layer[lists.OUT_EVENTS] + sample * layer[lists.OUT_EVENTS_SAMPLE]
        bounds = layer[lists.OUT_BOUNDS] + sample * layer[lists.OUT_BOUNDS_SAMPLE]
        active = changed = 0
        for step in range(steps):
            sent[step] = 0
            store[bounds + step * bounds_step] = 0
        for y in range(layer[lists.OUT_HEIGHT]):
            lane, end, doubtful = 0, columns * width, 0
            while lane < end:
                is_whole = end - lane >= _LANES
                lanes = _LANES if is_whole else 16
                step_tile = tile if is_whole else 16
                at = lane % plane if is_uniform else y * end + lane
                x_first, channel_first = lane // width, lane % width
                clear(states, 2 * _LANES)
                existing = np.uint64(0)
                if counts:
                    channel = channel_first
                    for offset in range(0, lanes, step_tile):
                        number = min(channels - channel, step_tile)
                        full = ~np.uint64(0) >> np.uint64(64 - number)
                        existing |= full << np.uint64(offset)
                        channel += step_tile
                        if channel == width:
                            channel = 0
                for step in range(steps):
                    follows = counts and step > 0
                    if resets[step]:
                        if follows:
                            for i in range(lanes):
                                voltages[i] = states[_LANES + i]
                        clear(states, 2 * _LANES)
                    watches = follows and not resets[step]
                    source = step * size + origin + y * pitch + lane
                    if is_whole:
                        if holds_current:
                            fired = _step_cuba_64(
                                frames, source, shift, parameters, at, plane, states, peaks, notes,
                                watches, counts,
                            )  # fmt: skip
                        else:
                            fired = _step_lif_64(
                                frames, source, shift, parameters, at, plane, states, peaks, notes,
                                watches, counts,
                            )  # fmt: skip
                    else:  # what is left of a row, rarely: exact for both kinds
                        fired = _step_cuba_16(
                            frames, source, shift, parameters, at, plane, states, peaks, notes,
                            watches, counts,
                        )  # fmt: skip
                    wanted = np.uint64(0)
                    if counts:
                        wanted = np.uint64(notes[3]) & existing
                        active += count_set(existing) - count_set(wanted)
                        if follows and not watches:  # a reset came: compare with what was there
                            for i in range(lanes):
                                changed += states[_LANES + i] != voltages[i]
                    number = sent[step]
                    bound = bounds + step * bounds_step + y * columns + x_first + 1
                    to_end = width - channel_first
                    while to_end <= lanes:  # pixels that end within these lanes
                        earlier = fired & (~np.uint64(0) >> np.uint64(64 - to_end))
                        store[np.uint64(bound)] = number + count_set(earlier)
                        bound += 1
                        to_end += width
                    place = np.uint64(begin + step * lists_step + number)
                    sent[step] = number + count_set(fired)
                    in_row = step * row_size
                    while fired != 0:
                        at_lane = np.uint64(lane + first_set(fired))
                        fired &= fired - np.uint64(1)
                        store[place] = numbers[at_lane, np.uint64(0)] + y * columns * channels
                        place += np.uint64(1)
                        if keeps_spikes:
                            row_spikes[np.uint64(in_row + numbers[at_lane, np.uint64(1)])] = 1
                        if keeps_totals:
                            tallies[at_lane] += 1
                    if wanted != 0:
                        x, channel = x_first, channel_first
                        full = ~np.uint64(0) >> np.uint64(64 - step_tile)
                        for offset in range(0, lanes, step_tile):
                            part = (wanted >> np.uint64(offset)) & full
                            if part != 0:
                                waiting[doubtful, 0], waiting[doubtful, 1] = step, x
                                waiting[doubtful, 2], waiting[doubtful, 3] = channel, part
                                doubtful += 1
                            channel += step_tile
                            if channel == width:
                                x, channel = x + 1, 0
                    if keeps_states:
                        x, channel = x_first, channel_first
                        for i in range(lanes):
                            if channel < channels:
                                current, voltage = states[i], states[_LANES + i]
                                pixel = y * columns + x
                                if keeps & lists.KEEP_TRACES:
                                    traces[sample, step, 0, channel, pixel] = current
                                    traces[sample, step, 1, channel, pixel] = voltage
                                if keeps & lists.KEEP_FINALS and step == steps - 1:
                                    finals[sample, 0, channel, pixel] = current
                                    finals[sample, 1, channel, pixel] = voltage
                            channel += 1
                            if channel == width:
                                x, channel = x + 1, 0
                lane += lanes
            if doubtful > 0:
                active += count_reached(waiting, doubtful, sample, y, terms, store, reach, words)
            if keeps_spikes:
                taken = np.uint64(0)
                for step in range(np.uint64(steps)):
                    for channel in range(np.uint64(channels)):
                        for x in range(np.uint64(columns)):
                            at_pixel = np.uint64(y * columns) + x
                            spikes[np.uint64(sample), step, channel, at_pixel] = row_spikes[
                                taken + x
                            ]
                        taken += np.uint64(columns)
                clear(row_spikes, steps * row_size)
            if keeps_totals:
                for channel in range(np.uint64(channels)):
                    for x in range(np.uint64(columns)):
                        at_lane = x * np.uint64(width) + channel
                        pixel = np.uint64(y * columns) + x
                        totals[np.uint64(sample), channel, pixel] = tallies[at_lane]
                clear(tallies, columns * width)
        if counts:
            updates[sample, 0] += active
            updates[sample, 1] += changed + notes[2] + columns * layer[lists.OUT_HEIGHT] * channels
            notes[2] = 0
    for i in range(_LANES):
        health[0] = max(health[0], peaks[i])
        health[1] = max(health[1], peaks[_LANES + i])
    health[2] += notes[0]
    health[3] += notes[1]
