"""Compiled layers of LIF neurons in which each event adds its weights to the sums in memory.

For layers of few channels: what `lif.run_lif` does for every output pixel, finding the events that
it sees, costs more there than the sums. Here each event of a source adds its rows of weights to a
frame of sums for each step, as `layouts.spreading` lays them out; then 64 neighbouring neurons at a
time, of several pixels, are updated over all steps. Lists of events, bounds and all results are the
same.

Where the source's spikes are bits, and the kernel is one of those that `layouts.windows` knows,
sums stay in registers while a window passes over a line of pixels: they are added to memory once
for all spikes of some pixels, and not once for each.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neurodeploy.llvm_vectors import WORD, clear, copy_word, count_set, first_set
from neurodeploy.simulation.kernels.event_lists import (
    TILE,
    kernel,
    list_spikes,
    place_of_bits,
    place_of_bounds,
    place_of_list,
    read_bits,
    store_bits,
)
from neurodeploy.simulation.kernels.lif import copy_voltages, count_changed, raise_health
from neurodeploy.simulation.kernels.neuron_vectors import (
    LANES_LEAST,
    LANES_MOST,
    make_row_adder,
    make_window_adder,
    step_frame,
)
from neurodeploy.simulation.kernels.structures import NOTES

_LANES: Final = LANES_MOST
_WAITING: Final = np.dtype([(name, np.int64) for name in ("step", "x", "channel", "idle")])

_add_16, _add_32 = make_row_adder(16), make_row_adder(32)
_add_3x3_16 = make_row_adder(16, lines=3, parts=3)
_add_3x3_32 = make_row_adder(32, lines=3, parts=3)
_add_2x2_32 = make_row_adder(32, lines=2, parts=2)
# In the order of `layouts.windows.WINDOW_SHAPES`: lines, vectors, advance.
_add_1_1_1, _add_1_2_1, _add_1_2_2 = (
    make_window_adder(1, vectors, advance) for vectors, advance in ((1, 1), (2, 1), (2, 2))
)
_add_2_2_1, _add_3_2_1, _add_3_3_1 = (
    make_window_adder(lines, vectors, 1) for lines, vectors in ((2, 2), (3, 2), (3, 3))
)
_add_1_4_2, _add_2_4_2, _add_3_6_2 = (
    make_window_adder(lines, vectors, 2) for lines, vectors in ((1, 4), (2, 4), (3, 6))
)


@kernel()
def gather_windows(base, bits, term, spread, lines, rows, store, frames):  # type: ignore[no-untyped-def]
    """Add what a step's spikes contribute to the sums from frames[base :], line by line."""
    vectors, advance = spread.vectors, spread.advance
    line_tiles = term.width * ((term.channels + TILE - 1) // TILE)
    for y in range(term.height):
        line = lines[np.uint64(spread.first_line + y)]
        count = line.lines
        if count == 0:
            pass
        elif vectors == 2 and advance == 1:
            if count == 3:
                _add_3_2_1(frames, base, spread, line, rows, store, bits)
            elif count == 2:
                _add_2_2_1(frames, base, spread, line, rows, store, bits)
            else:
                _add_1_2_1(frames, base, spread, line, rows, store, bits)
        elif vectors == 3:
            _add_3_3_1(frames, base, spread, line, rows, store, bits)
        elif vectors == 6:
            _add_3_6_2(frames, base, spread, line, rows, store, bits)
        elif vectors == 4:
            if count == 2:
                _add_2_4_2(frames, base, spread, line, rows, store, bits)
            else:
                _add_1_4_2(frames, base, spread, line, rows, store, bits)
        elif vectors == 2:
            _add_1_2_2(frames, base, spread, line, rows, store, bits)
        else:
            _add_1_1_1(frames, base, spread, line, rows, store, bits)
        bits += line_tiles


@kernel()
def gather_frames(sample, steps, width, terms, spreading, store, frames):  # type: ignore[no-untyped-def]
    """Add what all events of a sample contribute to the sums of each step, in `frames`.

    Arguments are those of `run_lif_frames`; rows of weights have `width` numbers.
    """
    spreads, places, rows, lines, window_rows, frame = spreading
    size = frame[0].size
    for k in range(terms.shape[0]):
        term, spread = terms[k], spreads[k]
        if spread.windows:
            for step in range(steps - term.lag):
                bits = place_of_bits(term.source, sample, step)
                base = (step + term.lag) * size
                gather_windows(base, bits, term, spread, lines, window_rows, store, frames)
            continue
        source, lag, depth = term.source, term.lag, term.channels
        to_values, inverse, first = source.to_values, spread.inverse, spread.first_place
        step_y, step_x = spread.step_y, spread.step_x
        line = spread.taps_x * width
        block = spread.taps_y * line
        lanes = 32 if width % 32 == 0 else 16
        taps_y, taps_x, parts = (
            np.uint64(spread.taps_y), np.uint64(spread.taps_x), np.uint64(width // lanes)
        )  # fmt: skip
        if step_x == width:  # taps of a line are neighbours in the frame as well
            parts, taps_x = np.uint64(line // lanes), np.uint64(1)
        is_3x3 = taps_y == 3 and taps_x == 1 and parts == 3
        is_2x2 = taps_y == 2 and taps_x == 1 and parts == 2 and lanes == 32
        value = np.int32(1)
        for step in range(steps - lag):
            base = (step + lag) * size
            total = store[
                np.uint64(place_of_bounds(source, sample, step) + term.height * term.width)
            ]
            begin = np.uint64(place_of_list(source, sample, step))
            for at in range(begin, begin + np.uint64(total)):
                event = np.int64(store[at])
                if to_values != 0:
                    value = store[at + np.uint64(to_values)]
                pixel = (event * inverse) >> 40
                target = base + places[np.uint64(first + pixel), 0]
                row = places[np.uint64(first + pixel), 1] + (event - pixel * depth) * block
                if is_3x3 and lanes == 16:
                    _add_3x3_16(frames, target, rows, row, value, step_y)
                elif is_3x3:
                    _add_3x3_32(frames, target, rows, row, value, step_y)
                elif is_2x2:
                    _add_2x2_32(frames, target, rows, row, value, step_y)
                else:
                    for _ in range(taps_y):
                        to = target
                        for _ in range(taps_x):
                            for part in range(parts):
                                if lanes == 16:
                                    _add_16(frames, to + np.int64(part) * 16, rows, row, value, 0)
                                else:
                                    _add_32(frames, to + np.int64(part) * 32, rows, row, value, 0)
                                row += lanes
                            to += step_x
                        target += step_y


@kernel()
def mask_of_channels(channel, lanes, tile, channels, width):  # type: ignore[no-untyped-def]
    """Return which lanes, from a channel of a pixel, are neurons rather than padding."""
    mask = np.uint64(0)
    for offset in range(0, lanes, tile):
        present = min(channels - channel, tile)
        mask |= (~np.uint64(0) >> np.uint64(WORD - present)) << np.uint64(offset)
        channel += tile
        if channel == width:
            channel = 0
    return mask


@kernel()
def put_off(idle, step, x, channel, waiting, number):  # type: ignore[no-untyped-def]
    """Note idle neurons, to see later whether events reach them; return how many notes there are.

    Whether any neuron is idle is a guess that goes wrong: a note without one is written over.
    """
    later = waiting[number]
    later.step, later.x, later.channel, later.idle = step, x, channel, idle
    return number + np.int64(idle != 0)


@kernel()
def reach_by_lists(idle, later, y, sample, term, store, reach, words):  # type: ignore[no-untyped-def]
    """Return which of some idle neurons of a pixel no event of a term reaches, from its lists."""
    word, bit, step = later.channel // WORD, np.uint64(later.channel % WORD), later.step - term.lag
    bounds = place_of_bounds(term.source, sample, step)
    events = place_of_list(term.source, sample, step)
    side_by_side = term.kernel_x if term.dilation_x == 1 else 1
    left = later.x * term.stride_x - term.padding_x
    for tap_y in range(term.kernel_y):
        row = y * term.stride_y - term.padding_y + tap_y * term.dilation_y
        is_inside = idle != 0 and 0 <= row < term.height
        for tap_x in range(0, term.kernel_x if is_inside else 0, side_by_side):
            column = left + tap_x * term.dilation_x
            low, high = max(column, 0), min(column + side_by_side, term.width)
            if low < high:
                skipped, tap = row * term.width, tap_y * term.kernel_x + tap_x
                first = term.first_row + (tap - skipped - column) * term.channels
                event = np.int64(store[bounds + skipped + low])
                stop = store[bounds + skipped + high]
                while idle != 0 and event < stop:
                    at = (first + store[events + event]) * words + word
                    idle &= ~(reach[at] >> bit)
                    event += 1
    return idle


@kernel()
def reach_by_bits(idle, later, y, sample, term, store, reach, words):  # type: ignore[no-untyped-def]
    """Return which of some idle neurons of a pixel no spike of a term reaches, from its bits.

    The term is one that windows read: without dilation, and of at most 64 channels.
    """
    word, bit = later.channel // WORD, np.uint64(later.channel % WORD)
    tiles = (term.channels + TILE - 1) // TILE
    bits = place_of_bits(term.source, sample, later.step - term.lag)
    present = ~np.uint64(0) >> np.uint64(WORD - term.channels)
    left = later.x * term.stride_x - term.padding_x
    for tap_y in range(term.kernel_y):
        row = y * term.stride_y - term.padding_y + tap_y
        is_inside = idle != 0 and 0 <= row < term.height
        for tap_x in range(term.kernel_x if is_inside else 0):
            if 0 <= left + tap_x < term.width:
                fired = read_bits(store, bits + (row * term.width + left + tap_x) * tiles) & present
                first = term.first_row + (tap_y * term.kernel_x + tap_x) * term.channels
                while idle != 0 and fired != 0:
                    at = (first + first_set(fired)) * words + word
                    idle &= ~(reach[at] >> bit)
                    fired &= fired - np.uint64(1)
    return idle


@kernel()
def count_waiting(waiting, number, where, terms, spreads, store, reach):  # type: ignore[no-untyped-def]
    """Count those of some neurons of a row of pixels that an event reaches.

    Not by `list_segments`: neighbours in `waiting` are of different pixels, and most are reached by
    the first events, so that listing all of them would take longer than the search.
    """
    reached, (sample, y, tile, width) = 0, where
    words, full = (width + WORD - 1) // WORD, ~np.uint64(0) >> np.uint64(WORD - tile)
    for k in range(number):
        later = waiting[k]
        others = np.uint64(later.idle)
        while others != 0:  # pixel by pixel
            idle = others & full
            others = (others >> np.uint64(tile - 1)) >> np.uint64(1)
            reached += count_set(idle)
            for of in range(terms.shape[0]):
                term = terms[of]
                if idle != 0 and later.step >= term.lag:
                    if spreads[of].windows:
                        idle = reach_by_bits(idle, later, y, sample, term, store, reach, words)
                    else:
                        idle = reach_by_lists(idle, later, y, sample, term, store, reach, words)
            reached -= count_set(idle)
            later.channel += tile
            if later.channel == width:
                later.x, later.channel = later.x + 1, 0
    return reached


@kernel()
def write_lanes(states, x, channel, lanes, layer, first_pixel, target):  # type: ignore[no-untyped-def]
    """Write the states of some lanes, which begin at a channel of a pixel; as `write_states`."""
    for lane in range(lanes):
        if channel < layer.channels:
            target[0, channel, first_pixel + x] = states[lane]
            target[1, channel, first_pixel + x] = states[_LANES + lane]
        channel += 1
        if channel == layer.padded:
            x, channel = x + 1, 0


@kernel()
def keep_lanes(states, lanes, traced, place):  # type: ignore[no-untyped-def]
    """Keep currents of some lanes in traced[0, place :], and voltages in traced[1, place :]."""
    voltages = place + traced.shape[1]
    if lanes == _LANES:
        copy_word(states, 0, traced, place)
        copy_word(states, _LANES, traced, voltages)
    else:
        for lane in range(lanes):
            traced[0, place + lane] = states[lane]
            traced[1, place + lane] = states[_LANES + lane]


@kernel()
def write_row(traced, width, channels, columns, first_pixel, target):  # type: ignore[no-untyped-def]
    """Write what `keep_lanes` kept of a row of pixels, channel by channel, as `write_states`."""
    for kind in range(2):
        for channel in range(channels):
            for x in range(columns):
                target[kind, channel, first_pixel + x] = traced[kind, x * width + channel]


@kernel()  # compiled for each type of rows when it is first met
def run_lif_frames(samples, described, terms, spreading, frames, weights, store, resets, results):  # type: ignore[no-untyped-def]
    """Run one layer as `lif.run_lif` does; no term may read the layer itself.

    `spreading` is a `layouts.spreading.Spreading`, as a plain tuple, in place of the rows, which
    `weights` lack;
    parameters that pixels share repeat after 64 lanes. `frames`, (T · size,) of the type of its
    rows, are zero, and left so but in the margins.
    """
    layer = described[0]
    spreads, _, _, _, _, described_frame = spreading
    reach, parameters = weights
    traces, finals, updates, health = results
    steps, width, channels, columns = resets.size, layer.padded, layer.channels, layer.width
    counts, lists, plane = layer.counts_updates != 0, layer.lists, layer.plane
    holds_current, shift = layer.holds_current != 0, layer.shift
    keeps_traces, frame = layer.keeps_traces != 0, described_frame[0]
    keeps_current = keeps_traces or layer.keeps_finals != 0
    size, origin, pitch = frame.size, frame.origin, frame.pitch
    waiting = np.empty(steps * (columns * width // _LANES + 4) + 1 if counts else 0, _WAITING)
    traced = np.empty((steps if keeps_traces else 0, 2, columns * width), np.int32)
    tile = 64 if width % 64 == 0 else 32 if width % 32 == 0 else 16
    states, peaks = np.empty(2 * _LANES, np.int32), np.zeros(2 * LANES_LEAST, np.int32)
    voltages = np.zeros(_LANES, np.int32)
    notes = np.zeros(1, NOTES)
    for sample in range(samples):
        gather_frames(sample, steps, width, terms, spreading, store, frames)
        first_bits = place_of_bits(lists, sample, 0)
        active = changed = 0
        notes[0].changes = 0
        for y in range(layer.height):
            first_pixel, end, lane, waiting_count = y * columns, columns * width, 0, 0
            while lane < end:
                is_whole = end - lane >= _LANES
                lanes, step_tile = (_LANES, tile) if is_whole else (16, 16)
                at = lane % plane if layer.parameters_by_pixel == 0 else y * end + lane
                x, channel = lane // width, lane % width
                clear(states, 2 * _LANES)
                existing = mask_of_channels(channel, lanes, step_tile, channels, width)
                for step in range(steps):
                    follows = counts and step > 0
                    if resets[step]:
                        if follows:
                            copy_voltages(states, _LANES, voltages)
                        clear(states, 2 * _LANES)
                    watches = follows and not resets[step]
                    source = step * size + origin + y * pitch + lane
                    fired = step_frame(
                        frames, source, parameters, plane, states, peaks, notes, at, shift,
                        is_whole, holds_current, keeps_current, watches, counts,
                    )  # fmt: skip
                    if counts:
                        idle = np.uint64(notes[0].idle) & existing
                        active += count_set(existing) - count_set(idle)
                        waiting_count = put_off(idle, step, x, channel, waiting, waiting_count)
                        if follows and not watches:  # a reset came: compare with what was there
                            changed += count_changed(states, _LANES, voltages, lanes)
                    place = first_bits + step * lists.bits_by_step + (y * end + lane) // TILE
                    store_bits(store, place, fired, lanes)
                    if keeps_traces:
                        keep_lanes(states, lanes, traced[step], lane)
                if layer.keeps_finals:
                    target = finals[sample]
                    write_lanes(states, x, channel, lanes, layer, first_pixel, target)
                lane += lanes
            for step in range(steps if keeps_traces else 0):
                target = traces[sample, step]
                write_row(traced[step], width, channels, columns, first_pixel, target)
            if waiting_count > 0:
                where = sample, y, tile, width
                active += count_waiting(waiting, waiting_count, where, terms, spreads, store, reach)
        for step in range(steps if layer.lists_spikes else 0):
            list_spikes(layer, sample, step, store)
        if counts:
            updates[sample, 0] += active
            updates[sample, 1] += changed + notes[0].changes + layer.height * columns * channels
    raise_health(health, peaks, notes[0])
