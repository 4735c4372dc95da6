"""Compiled layers of LIF neurons that follow events: what is silent costs nothing.

A sum is kept in registers over all events that an output pixel sees. For one output pixel all
steps are done before the next pixel: its states never leave the cache. See `event_lists` for how
events lie in memory.

Gather, step, write and count are those of `neurodeploy.simulation.layer_by_layer`, which this is
tested against.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neurodeploy.llvm_vectors import WORD, clear, count_set
from neurodeploy.simulation.kernels.event_lists import (
    TILE,
    kernel,
    list_ranges,
    list_segments,
    list_spikes,
    make_room,
    place_of_bits,
    store_bits,
)
from neurodeploy.simulation.kernels.neuron_vectors import LANES_LEAST, step_lif
from neurodeploy.simulation.kernels.structures import NOTES

_TRACED: Final = 16
"""Pixels whose states are written together: a line of a cache."""


@kernel()
def write_states(states, width, channels, pixel, target):  # type: ignore[no-untyped-def]
    """Write currents states[:channels] and voltages states[width:] to (2, channels, pixels)."""
    for channel in range(np.uint64(channels)):
        target[np.uint64(0), channel, np.uint64(pixel)] = states[channel]
        target[np.uint64(1), channel, np.uint64(pixel)] = states[channel + np.uint64(width)]


@kernel()
def write_pixels(traced, sample, first_pixel, count, traces):  # type: ignore[no-untyped-def]
    """Write the states of some pixels, `traced` by `write_states`, line by line."""
    for step in range(np.uint64(traced.shape[0])):
        for kind in range(np.uint64(2)):
            for channel in range(np.uint64(traced.shape[2])):
                for k in range(np.uint64(count)):
                    state = traced[step, kind, channel, k]
                    traces[np.uint64(sample), step, kind, channel, np.uint64(first_pixel) + k] = (
                        state
                    )


@kernel()
def copy_voltages(states, width, voltages):  # type: ignore[no-untyped-def]
    """Remember the voltages states[width:]."""
    for lane in range(np.uint64(voltages.size)):
        voltages[lane] = states[lane + np.uint64(width)]


@kernel()
def count_changed(states, width, voltages, count):  # type: ignore[no-untyped-def]
    """Count which of the voltages states[width:] are not what they were."""
    changed = 0
    for lane in range(np.uint64(count)):
        changed += states[lane + np.uint64(width)] != voltages[lane]
    return changed


@kernel()
def count_reached(idle, channel, step, segments, count, store, reach, words):  # type: ignore[no-untyped-def]
    """Count the neurons of a mask that an event of a step reaches through a weight.

    The mask begins at a channel of the pixel of which the segments are; see `list_segments`.
    `reach`, (rows · words,) uint64, has a bit for each weight that is not zero.
    """
    word, bit = channel // WORD, np.uint64(channel % WORD)
    waiting, k = idle, np.uint64(0)
    while waiting != 0 and k < np.uint64(count):  # until all are reached
        segment = segments[k]
        k += np.uint64(1)
        source_step = step - segment.lag
        if source_step >= 0:
            bounds = source_step * segment.bounds_by_step
            events = segment.events + source_step * segment.events_by_step
            event = events + store[np.uint64(segment.low + bounds)]
            stop = events + store[np.uint64(segment.high + bounds)]
            while waiting != 0 and event < stop:
                row = segment.first_row + store[np.uint64(event)]
                waiting &= ~(reach[np.uint64(row * words + word)] >> bit)
                event += 1
    return count_set(idle) - count_set(waiting)


@kernel()
def raise_health(health, peaks, notes):  # type: ignore[no-untyped-def]
    """Add to a layer's health the peaks of currents, then of voltages, and NOTES."""
    for lane in range(LANES_LEAST):
        health[0] = max(health[0], peaks[lane])
        health[1] = max(health[1], peaks[LANES_LEAST + lane])
    health[2] += notes.current_wraps
    health[3] += notes.voltage_clips


@kernel()  # compiled for each type of rows when it is first met
def run_lif(samples, described, terms, weights, store, resets, results):  # type: ignore[no-untyped-def]
    """Run one layer of LIF neurons over all steps of some samples.

    Args:
        samples: How many are in the store and in all arrays of `results`.
        described: (1,) LAYER.
        terms: (terms,) TERM.
        weights: `structures.Weights`, as a plain tuple.
        store: int32; the layer's own bits are written, and its lists and bounds.
        resets: (T,) whether states are set to zero before a step.
        results: As in `outputs.LayerOutputs`, but with the axes (channels, pixels) of a layer:
            traces, finals, updates and health. The last two are added to, the others written
            where the layer asks for it.
    """
    layer = described[0]
    steps, width, channels = resets.size, layer.padded, layer.channels
    counts, lists, plane = layer.counts_updates != 0, layer.lists, layer.plane
    holds_current, shift = layer.holds_current != 0, layer.shift
    keeps_traces, rows_at_once = layer.keeps_traces != 0, layer.rows_at_once
    keeps_current = keeps_traces or layer.keeps_finals != 0
    rows, reach, parameters = weights
    words = (width + WORD - 1) // WORD
    traces, finals, updates, health = results
    states, peaks = np.empty(2 * width, np.int32), np.zeros(2 * LANES_LEAST, np.int32)
    notes, voltages = np.zeros(1, NOTES), np.empty(width, np.int32)
    pixels = layer.height * layer.width
    traced = np.empty((steps if keeps_traces else 0, 2, channels, _TRACED), np.int32)
    segments, ranges = make_room(terms, rows_at_once)
    for sample in range(samples):
        first_bits = place_of_bits(lists, sample, 0)
        notes[0].changes = 0
        active = 0
        x, y, first_traced = -1, 0, 0
        for pixel in range(pixels):
            x += 1  # counted, as divisions would take longer than a silent pixel
            if x == layer.width:
                x, y = 0, y + 1
            segment_count = list_segments(sample, x, y, width, terms, segments)
            clear(states, 2 * width)
            at = pixel * layer.parameters_by_pixel
            for step in range(steps):
                follows = counts and step > 0  # by itself: a branch within a call copies arrays
                if resets[step]:
                    if follows:
                        copy_voltages(states, width, voltages)
                    clear(states, 2 * width)
                watches = follows and not resets[step]
                count = list_ranges(segment_count, step, rows_at_once, segments, store, ranges)
                place = first_bits + step * lists.bits_by_step + pixel * (width // TILE)
                group = 0
                while group < width:
                    lanes = 64 if width - group >= 64 else 32 if width - group >= 32 else 16
                    if holds_current:
                        lanes = 16
                    fired = step_lif(
                        rows, store, ranges, count, parameters, plane, states, peaks, notes,
                        at + group, group, width, shift, lanes, holds_current, keeps_current,
                        watches, counts,
                    )  # fmt: skip
                    if counts:  # what has no state and no sum may still be reached by events
                        present = min(channels - group, lanes)
                        idle = np.uint64(notes[0].idle) & (~np.uint64(0) >> np.uint64(64 - present))
                        active += present - count_set(idle)
                        active += count_reached(
                            idle, group, step, segments, segment_count, store, reach, words
                        )
                    store_bits(store, place + group // TILE, fired, lanes)
                    group += lanes
                if follows and not watches:  # a reset came before: compare with what was there
                    notes[0].changes += count_changed(states, width, voltages, channels)
                if keeps_traces:
                    write_states(states, width, channels, pixel - first_traced, traced[step])
                if pixels == 1 and layer.lists_spikes:  # so that a layer may read itself
                    list_spikes(layer, sample, step, store)
            if keeps_traces and (pixel - first_traced == _TRACED - 1 or pixel == pixels - 1):
                write_pixels(traced, sample, first_traced, pixel - first_traced + 1, traces)
                first_traced = pixel + 1
            if layer.keeps_finals:
                write_states(states, width, channels, pixel, finals[sample])
            if counts:
                notes[0].changes += channels
        for step in range(steps if pixels > 1 and layer.lists_spikes else 0):
            list_spikes(layer, sample, step, store)
        updates[sample, 0] += active
        updates[sample, 1] += notes[0].changes
    raise_health(health, peaks, notes[0])
