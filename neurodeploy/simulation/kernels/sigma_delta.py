"""Compiled layers of sigma-delta neurons, which follow events as `lif` does.

Events carry values here, and sums have 32 bits. A sigma-delta neuron at which nothing arrives
changes nothing and sends nothing after the first step, so it is passed over; an output neuron sends
its sum at every step.

Gather, step, write and count are those of `neurodeploy.simulation.layer_by_layer`, which this is
tested against.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.llvm_vectors import WORD, clear, count_set, first_set
from neurodeploy.simulation.kernels.change_vectors import PEAKS, STATES, step_sums
from neurodeploy.simulation.kernels.event_lists import (
    begin_lists,
    kernel,
    list_ranges,
    list_segments,
    make_room,
    place_of_bounds,
    place_of_list,
)
from neurodeploy.simulation.kernels.structures import CHANGE_NOTES


@kernel()
def gather_reach(count, ranges, words, reach, store, reached):  # type: ignore[no-untyped-def]
    """Join which neurons some ranges of events reach, 64 channels a word."""
    clear(reached, words)
    for slot in range(count):
        found = ranges[slot]
        for event in range(found.first, found.stop):
            row = (found.first_row + store[event]) * words
            for word in range(words):
                reached[word] |= reach[row + word]


@kernel()
def count_active(standing, reached, words):  # type: ignore[no-untyped-def]
    """Count the neurons with a state, a bias or an event that reaches them; words of masks."""
    active = 0
    for word in range(words):
        active += count_set(standing[word] | reached[word])
    return active


@kernel()
def write_states(states, width, number, channels, pixel, target):  # type: ignore[no-untyped-def]
    """Write the first `number` planes of states, `width` apart, to a pixel of a target."""
    for state in range(np.uint64(number)):
        for channel in range(np.uint64(channels)):
            target[state, channel, np.uint64(pixel)] = states[state * np.uint64(width) + channel]


@kernel()
def raise_health(health, peaks, beyond, width, notes):  # type: ignore[no-untyped-def]
    """Add to a layer's health the sizes of sigmas, activations and sums, and what did not fit."""
    for lane in range(width):
        for state in range(2):
            most, least = peaks[2 * state * width + lane], peaks[(2 * state + 1) * width + lane]
            size = max(np.int64(most), -np.int64(least), beyond[state * width + lane])
            health[state] = max(health[state], size)
        health[4] = max(health[4], np.int64(peaks[4 * width + lane]))
    health[2] += notes.sigma_wraps
    health[3] += notes.activation_wraps
    health[6] += notes.sum_overflows


@kernel()
def run_sigma(samples, steps, described, terms, weights, store, results, largest):  # type: ignore[no-untyped-def]
    """Run one layer of sigma-delta or sigma neurons over T steps, as `lif.run_lif` does LIF ones.

    No term reads the layer itself; sums of weights times the values that arrive must fit 32 bits.
    Values are written to the store as well; the size of the largest raises `largest`, (1,) int64.
    Health is that of sigma, activation and sums; `count_large` has that of messages.
    """
    layer = described[0]
    rows, reach, biases = weights
    spikes, totals, traces, finals, updates, health = results
    width, channels, lists = layer.padded, layer.channels, layer.lists
    is_output, threshold, scale = layer.is_output != 0, layer.threshold, layer.shift - 6
    wraps_24, counts, to_values = layer.wraps_24 != 0, layer.counts_updates != 0, lists.to_values
    lists_step, bounds_step, rows_at_once = (
        lists.events_by_step, lists.bounds_by_step, layer.rows_at_once
    )  # fmt: skip
    segments, ranges = make_room(terms, rows_at_once)
    words, kept_states = (width + WORD - 1) // WORD, 1 if is_output else STATES
    keeps_spikes, keeps_totals = layer.keeps_spikes != 0, layer.keeps_totals != 0
    reached, standing = np.zeros(words, np.uint64), np.zeros(words, np.uint64)
    states, peaks = np.zeros(STATES * width, np.int32), np.zeros(PEAKS * width, np.int32)
    messages, beyond = np.zeros(width, np.int32), np.zeros(2 * width, np.int64)
    notes, sent = np.zeros(1, CHANGE_NOTES), np.empty(steps, np.int64)
    for sample in range(samples):
        begin_lists(lists, sample, sent, store)
        first_list, first_bound = place_of_list(lists, sample, 0), place_of_bounds(lists, sample, 0)
        active = 0
        x, y = -1, 0
        for pixel in range(layer.height * layer.width):
            x += 1  # counted, as divisions would take longer than a silent pixel
            if x == layer.width:
                x, y = 0, y + 1
            segment_count = list_segments(sample, x, y, width, terms, segments)
            at = pixel * layer.parameters_by_pixel
            clear(states, STATES * width)
            clear(standing, words)
            for channel in range(channels if counts else 0):
                has_bias = np.uint64(biases[at + channel] != 0)
                standing[channel // WORD] |= has_bias << np.uint64(channel % WORD)
            wraps = still = 0  # activations that wrap; neurons with a state or a bias
            for step in range(steps):
                count = list_ranges(segment_count, step, rows_at_once, segments, store, ranges)
                number = sent[step]
                if count == 0 and step > 0 and not is_output:
                    active += still
                    notes[0].activation_wraps += wraps
                else:
                    if counts:
                        gather_reach(count, ranges, words, reach, store, reached)
                        active += count_active(standing, reached, words)
                        clear(standing, words)
                    before, group = notes[0].activation_wraps, 0
                    place = first_list + step * lists_step
                    while group < width:
                        lanes = 64 if width - group >= 64 else 32 if width - group >= 32 else 16
                        leaving = step_sums(
                            rows, store, ranges, count, biases, at + group, states, peaks, beyond,
                            messages, notes, group, width, scale, threshold, lanes, wraps_24,
                            is_output,
                        )  # fmt: skip
                        mask = np.uint64(notes[0].standing) << np.uint64(group % WORD)
                        standing[group // WORD] |= mask
                        while leaving != 0:
                            lane = np.uint64(group + first_set(leaving))
                            leaving &= leaving - np.uint64(1)
                            value, event = messages[lane], np.uint64(place + number)
                            store[event] = pixel * channels + np.int64(lane)
                            store[event + np.uint64(to_values)] = value
                            number += 1
                            if keeps_spikes:
                                spikes[sample, step, lane, pixel] = value
                            if keeps_totals:
                                totals[sample, lane, pixel] += 1
                        group += lanes
                    wraps = notes[0].activation_wraps - before
                    still = count_active(standing, standing, words) if counts else 0
                    sent[step] = number
                store[np.uint64(first_bound + step * bounds_step + pixel + 1)] = number
                if layer.keeps_traces:
                    target = traces[sample, step]
                    write_states(states, width, kept_states, channels, pixel, target)
            if layer.keeps_finals:
                write_states(states, width, kept_states, channels, pixel, finals[sample])
        updates[sample, 0] += active
    raise_health(health, peaks, beyond, width, notes[0])
    for channel in range(width):
        sent_most = np.int64(peaks[(PEAKS - 1) * width + channel])
        if is_output:
            sent_most = max(np.int64(peaks[channel]), -np.int64(peaks[width + channel]))
        largest[0] = max(largest[0], sent_most)


@kernel()
def count_large(samples, steps, sender, store, limit):  # type: ignore[no-untyped-def]
    """Count the events of a layer, as in `note_values`, with a value larger than a limit."""
    lists, large = sender[0], 0
    pixels = lists.bounds_by_step - 1
    for sample in range(samples):
        for step in range(steps):
            first = place_of_list(lists, sample, step) + lists.to_values
            number = store[place_of_bounds(lists, sample, step) + pixels]
            for at in range(first, first + number):
                large += abs(np.int64(store[at])) > limit
    return large


@kernel()
def note_values(steps, sender, store, valued):  # type: ignore[no-untyped-def]
    """Look at the values of the events of a layer, whose lists `sender` describes, (1,) LISTS.

    `valued`, (samples, channels, pixels) uint8 or int32, zero so far, gets the events of each
    neuron in the steps in which some neuron sent a value that is none of -1 and 1.

    Returns:
        Whether every sample sent the same at each of its steps.
    """
    samples, channels, pixels = valued.shape
    is_static, lists = True, sender[0]
    values = lists.to_values
    for sample in range(samples):
        first = place_of_list(lists, sample, 0)
        first_number = store[place_of_bounds(lists, sample, 0) + pixels]
        for step in range(steps):
            place = place_of_list(lists, sample, step)
            number = store[place_of_bounds(lists, sample, step) + pixels]
            has_values = False
            for at in range(place, place + number):
                has_values |= abs(store[at + values]) != 1
            for at in range(place, place + number if has_values else place):
                valued[sample, store[at] % channels, store[at] // channels] += 1
            if is_static and step > 0:
                is_static = number == first_number
                for k in range(number if is_static else 0):
                    is_static &= store[place + k] == store[first + k]
                    is_static &= store[place + k + values] == store[first + k + values]
    return is_static
