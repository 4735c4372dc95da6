"""Compiled layers of sigma-delta neurons, which follow events as `lif` does.

Events carry values here, and sums have 32 bits. A sigma-delta neuron at which nothing arrives
changes nothing and sends nothing after the first step, so it is passed over; an output neuron sends
its sum at every step.

Gather, step, write and count are those of `neurodeploy.simulation.layer_by_layer`, which this is
tested against.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neurodeploy.llvm_vectors import WORD, clear
from neurodeploy.simulation.kernels.event_lists import (
    begin_lists,
    kernel,
    list_ranges,
    list_segments,
    make_room,
    place_of_bounds,
    place_of_list,
)
from neurodeploy.simulation.kernels.neuron_vectors import make_row_adder

_LOWEST: Final = np.int64(-(1 << 31))
_add_16 = make_row_adder(16)


@kernel()
def gather_values(count, ranges, width, rows, store, sums):  # type: ignore[no-untyped-def]
    """Add the weights of some ranges of events, times their values, to sums[:width]."""
    for slot in range(count):
        found = ranges[slot]
        for event in range(found.first, found.stop):
            value = np.int32(1)
            if found.to_values != 0:
                value = store[event + found.to_values]
            row = found.start + np.int64(store[event]) * width
            for lane in range(0, width, 16):
                _add_16(sums, lane, rows, row + lane, value, 0)


@kernel()
def gather_reach(count, ranges, words, reach, store, reached):  # type: ignore[no-untyped-def]
    """Join which neurons some ranges of events reach, 64 channels a word."""
    reached[:] = 0
    for slot in range(count):
        found = ranges[slot]
        for event in range(found.first, found.stop):
            row = (found.first_row + store[event]) * words
            for word in range(words):
                reached[word] |= reach[row + word]


@kernel()
def count_active(states, biases, first_bias, reached, channels):  # type: ignore[no-untyped-def]
    """Count the neurons with a state, a bias or an event that reaches them."""
    active = 0
    for channel in range(channels):
        is_reached = (reached[channel // WORD] >> np.uint64(channel % WORD)) & np.uint64(1) != 0
        active += (
            is_reached
            or states[0, channel] | states[1, channel] | states[2, channel] != 0
            or biases[first_bias + channel] != 0
        )
    return active


@kernel()
def step_sigma_delta(sigma, activation, residue, bias, threshold):  # type: ignore[no-untyped-def]
    """Advance one neuron, as `simulation.neurons.SigmaDeltaDynamics.step` does after its sum.

    That is the definition; tests/unit/simulation/kernels/test_sigma_delta.py holds both equal.

    Returns:
        The activation before it is wrapped and rectified, the one after, the residue, and the
        value that is sent.
    """
    total = sigma + bias
    rectified = max(np.int64(np.int32(total)), np.int64(0))
    change = np.int64(np.int32(rectified - activation + residue))
    # |-2**31| is -2**31 in int32, hence below every threshold.
    size = change if change == _LOWEST else abs(change)
    leaves = change if size >= threshold else np.int64(0)
    return total, rectified, change - leaves, leaves >> 6


@kernel()
def write_states(states, is_output, channels, pixel, target):  # type: ignore[no-untyped-def]
    """Write sigma and, but of output neurons, activation and residue to a pixel of a target."""
    for state in range(1 if is_output else 3):
        for channel in range(channels):
            target[state, channel, pixel] = states[state, channel]


@kernel()
def run_sigma(samples, steps, described, terms, weights, store, results, largest):  # type: ignore[no-untyped-def]
    """Run one layer of sigma-delta or sigma neurons over T steps, as `lif.run_lif` does LIF ones.

    No term reads the layer itself; sums of weights times the values that arrive must fit 32 bits.
    Values are written to the store as well; the size of the largest raises `largest`, (1,) int64.
    Health is that of sigma and activation.
    """
    layer = described[0]
    rows, reach, biases = weights
    spikes, totals, traces, finals, updates, health = results
    width, channels, lists = layer.padded, layer.channels, layer.lists
    is_output, threshold, scale = layer.is_output != 0, layer.threshold, layer.shift - 6
    wraps_24, counts, to_values = layer.wraps_24 != 0, layer.counts_updates != 0, lists.to_values
    segments, ranges = make_room(terms, layer.rows_at_once)
    words = (width + WORD - 1) // WORD
    keeps_spikes, keeps_totals = layer.keeps_spikes != 0, layer.keeps_totals != 0
    reached, sums = np.zeros(words, np.uint64), np.zeros(width, np.int32)
    states, sent = np.zeros((3, width), np.int64), np.empty(steps, np.int64)
    sigma_peak, activation_peak, greatest = health[0], health[1], largest[0]
    for sample in range(samples):
        begin_lists(lists, sample, sent, store)
        active = 0
        x, y = -1, 0
        for pixel in range(layer.height * layer.width):
            x += 1  # counted, as divisions would take longer than a silent pixel
            if x == layer.width:
                x, y = 0, y + 1
            segment_count = list_segments(sample, x, y, width, terms, segments)
            at = pixel * layer.parameters_by_pixel
            states[:] = 0
            standing = beyond = 0  # neurons with a state or a bias; activations that wrap
            for step in range(steps):
                count = list_ranges(
                    segment_count, step, layer.rows_at_once, segments, store, ranges
                )
                if count == 0 and step > 0 and not is_output:
                    active += standing
                    health[3] += beyond
                else:
                    gather_values(count, ranges, width, rows, store, sums)
                    if counts:
                        gather_reach(count, ranges, words, reach, store, reached)
                        active += count_active(states, biases, at, reached, channels)
                    place = place_of_list(lists, sample, step) + sent[step]
                    first = place
                    standing = beyond = 0
                    for channel in range(channels):
                        arriving = np.int64(sums[channel]) << scale
                        if wraps_24:
                            arriving = ((arriving + (1 << 23)) & ((1 << 24) - 1)) - (1 << 23)
                        total = states[0, channel] + arriving
                        value = sigma = np.int64(np.int32(total))
                        states[0, channel] = sigma
                        sigma_peak = max(sigma_peak, abs(total))
                        health[2] += sigma != total
                        if not is_output:
                            bias = np.int64(biases[at + channel])
                            total, activation, residue, value = step_sigma_delta(
                                sigma, states[1, channel], states[2, channel], bias, threshold
                            )
                            states[1, channel], states[2, channel] = activation, residue
                            activation_peak = max(activation_peak, abs(total))
                            beyond += np.int64(np.int32(total)) != total
                            standing += sigma | activation | residue | bias != 0
                        if value != 0:
                            store[place], store[place + to_values] = (
                                pixel * channels + channel,
                                value,
                            )
                            place += 1
                            greatest = max(greatest, abs(value))
                            if keeps_spikes:
                                spikes[sample, step, channel, pixel] = value
                            if keeps_totals:
                                totals[sample, channel, pixel] += 1
                    health[3] += beyond
                    sent[step] += place - first
                    clear(sums, width)
                store[place_of_bounds(lists, sample, step) + pixel + 1] = sent[step]
                if layer.keeps_traces:
                    target = traces[sample, step]
                    write_states(states, is_output, channels, pixel, target)
            if layer.keeps_finals:
                write_states(states, is_output, channels, pixel, finals[sample])
        updates[sample, 0] += active
    health[0], health[1], largest[0] = sigma_peak, activation_peak, greatest


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
