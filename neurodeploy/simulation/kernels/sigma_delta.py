"""Compiled layers of sigma-delta neurons, which follow events as `event_kernels` does.

Events carry values here, and sums have 32 bits. A sigma-delta neuron at which nothing arrives
changes nothing and sends nothing after the first step, so it is passed over; an output neuron sends
its sum at every step.

Source of the arithmetic: `neurodeploy.simulation.neurons`, which these loops are tested against.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from neurodeploy.simulation.kernels import lif as lists
from neurodeploy.simulation.kernels.lif import (
    list_ranges,
    list_segments,
    make_room,
)
from neurodeploy.simulation.kernels.neuron_vectors import clear, make_row_adder

VECTOR_CODE: Final = 0x5BEF0009
"""Checksum of `vector_code.py`; see `event_kernels`."""

# Entries of the numbers of a layer.
THRESHOLD: Final = 0
"""At the scale of the activation."""
IS_OUTPUT: Final = 1
"""Whether neurons send their sums (SigmaNeuron) instead of the changes of an activation."""
WRAPS_24: Final = 2
"""Whether sums are wrapped at 24 bits, as Lava's convolutions do with graded events."""
OWN_VALUES: Final = 3
"""Distance from an event of the layer to its value in the store."""
COMMON: Final = 4
"""Sums are scaled by 2**COMMON."""
NUMBER_FIELDS: Final = 5

_LOWEST: Final = np.int64(-(1 << 31))
_add_16 = make_row_adder(16)


@njit(nogil=True, cache=True)
def run_sigma(  # type: ignore[no-untyped-def]
    first, stop, steps, layer, numbers, terms, rows, reach, biases, store, spikes, totals, traces,
    finals, updates, health, largest, counts,
):  # fmt: skip
    """Run one layer of sigma-delta or sigma neurons; what is not explained is as in `run_lif`.

    Args:
        first: First sample.
        stop: Sample after the last.
        steps: T.
        layer: (LAYER_FIELDS,) int64.
        numbers: (NUMBER_FIELDS,) int64.
        terms: (terms, TERM_FIELDS) int64; none reads the layer itself.
        rows: (rows · PADDED,) int32; times the values that arrive, sums must fit 32 bits.
        reach: (rows · words,) uint64.
        biases: (PADDED,) or (pixels · PADDED,) int32, at the scale of the activation.
        store: int32; lists, bounds and values of the layer are written.
        spikes: (samples, T, channels, pixels) int32, zero: gets the values.
        totals: (samples, channels, pixels) uint8 or int32, zero.
        traces: (samples, T, states, channels, pixels) int32.
        finals: (samples, states, channels, pixels) int32.
        updates: (samples, 2) int64: active updates are added.
        health: (4,) int64: largest |sigma|, largest |activation|, wraps of both; updated.
        largest: (1,) int64: size of the largest value that was sent; updated.
        counts: Whether updates are counted.
    """
    width, channels, keeps = layer[lists.PADDED], layer[lists.OUT_CHANNELS], layer[lists.KEEPS]
    common = numbers[COMMON]
    is_output, threshold = numbers[IS_OUTPUT] != 0, numbers[THRESHOLD]
    at_once = layer[lists.EVENTS_AT_ONCE]
    segments, ranges, first_rows = make_room(terms, at_once)
    words = (width + 63) // 64
    reached, sums = np.zeros(words, np.uint64), np.zeros(width, np.int32)
    sigma, activation, residue = (
        np.zeros(width, np.int64), np.zeros(width, np.int64), np.zeros(width, np.int64)
    )  # fmt: skip
    sent = np.empty(steps, np.int64)
    sigma_peak, activation_peak, greatest = health[0], health[1], largest[0]
    for sample in range(first, stop):
        begin = layer[lists.OUT_EVENTS] + sample * layer[lists.OUT_EVENTS_SAMPLE]
        bounds = layer[lists.OUT_BOUNDS] + sample * layer[lists.OUT_BOUNDS_SAMPLE]
        active = 0
        for step in range(steps):
            sent[step] = 0
            store[bounds + step * layer[lists.OUT_BOUNDS_STEP]] = 0
        x, y = -1, 0
        for pixel in range(layer[lists.OUT_HEIGHT] * layer[lists.OUT_WIDTH]):
            x += 1
            if x == layer[lists.OUT_WIDTH]:
                x, y = 0, y + 1
            count = list_segments(sample, x, y, width, terms, segments)
            at = pixel * layer[lists.PARAMETER_STEP]
            sigma[:] = 0
            activation[:] = 0
            residue[:] = 0
            standing = beyond = 0  # neurons with a state or a bias; activations that wrap
            for step in range(steps):
                seen = list_ranges(count, step, at_once, segments, store, ranges, first_rows)
                if seen == 0 and step > 0 and not is_output:
                    active += standing
                    health[3] += beyond
                else:
                    if counts:
                        reached[:] = 0
                    for slot in range(seen):
                        for event in range(ranges[slot, 0], ranges[slot, 1]):
                            source, factor = np.int64(store[event]), np.int32(1)
                            if ranges[slot, 3] != 0:
                                factor = store[event + ranges[slot, 3]]
                            row = ranges[slot, 2] + source * width
                            for lane in range(0, width, 16):
                                _add_16(sums, lane, rows, row + lane, factor, 0)
                            if counts:
                                row = (first_rows[slot] + source) * words
                                for word in range(words):
                                    reached[word] |= reach[row + word]
                    place = begin + step * layer[lists.OUT_EVENTS_STEP]
                    number = sent[step]
                    standing = beyond = 0
                    for channel in range(channels):
                        bias = np.int64(biases[at + channel])
                        if counts:
                            is_reached = reached[channel // 64] >> np.uint64(channel % 64)
                            before = sigma[channel] | activation[channel] | residue[channel] | bias
                            active += before != 0 or is_reached & np.uint64(1) != 0
                        arriving = np.int64(sums[channel]) << common
                        if numbers[WRAPS_24]:
                            arriving = ((arriving + (1 << 23)) & ((1 << 24) - 1)) - (1 << 23)
                        total = sigma[channel] + arriving
                        sigma_peak = max(sigma_peak, abs(total))
                        value = np.int64(np.int32(total))
                        health[2] += value != total
                        sigma[channel] = value
                        if not is_output:
                            total = value + bias
                            activation_peak = max(activation_peak, abs(total))
                            value = np.int64(np.int32(total))
                            beyond += value != total
                            value = max(value, np.int64(0))
                            change = np.int64(
                                np.int32(value - activation[channel] + residue[channel])
                            )
                            activation[channel] = value
                            # |-2**31| is -2**31 in int32, hence below every threshold.
                            size = change if change == _LOWEST else abs(change)
                            leaves = change if size >= threshold else np.int64(0)
                            residue[channel] = change - leaves
                            value = leaves >> 6
                            standing += (sigma[channel] | activation[channel] | residue[channel]
                                         | bias) != 0  # fmt: skip
                        if value != 0:
                            store[place + number] = pixel * channels + channel
                            store[place + number + numbers[OWN_VALUES]] = value
                            number += 1
                            greatest = max(greatest, abs(value))
                            if keeps & lists.KEEP_SPIKES:
                                spikes[sample, step, channel, pixel] = value
                            if keeps & lists.KEEP_TOTALS:
                                totals[sample, channel, pixel] += 1
                    health[3] += beyond
                    sent[step] = number
                    clear(sums, width)
                store[bounds + step * layer[lists.OUT_BOUNDS_STEP] + pixel + 1] = sent[step]
                if keeps & lists.KEEP_TRACES:
                    for channel in range(channels):
                        traces[sample, step, 0, channel, pixel] = sigma[channel]
                        if not is_output:
                            traces[sample, step, 1, channel, pixel] = activation[channel]
                            traces[sample, step, 2, channel, pixel] = residue[channel]
            if keeps & lists.KEEP_FINALS:
                for channel in range(channels):
                    finals[sample, 0, channel, pixel] = sigma[channel]
                    if not is_output:
                        finals[sample, 1, channel, pixel] = activation[channel]
                        finals[sample, 2, channel, pixel] = residue[channel]
        updates[sample, 0] += active
    health[0], health[1], largest[0] = sigma_peak, activation_peak, greatest


@njit(nogil=True, cache=True)
def note_values(  # type: ignore[no-untyped-def]
    samples, steps, channels, pixels, events, events_sample, events_step, bounds, bounds_sample,
    bounds_step, values, store, valued,
):  # fmt: skip
    """Look at the values of a layer's events, sample by sample.

    Args:
        samples: How many are in the store.
        steps: T.
        channels: Of the layer.
        pixels: Of the layer.
        events: Position of the first list in the store; then its distance by sample and step.
        events_sample: See there.
        events_step: See there.
        bounds: The same of the bounds.
        bounds_sample: See there.
        bounds_step: See there.
        values: Distance from an event to its value.
        store: int32.
        valued: (samples, channels, pixels) uint8 or int32, zero: gets the events of each neuron in
            the steps in which some neuron sent a value that is none of -1 and 1.

    Returns:
        Whether every sample sent the same at each of its steps.
    """
    is_static = True
    for sample in range(samples):
        list_first = events + sample * events_sample
        last_first = bounds + sample * bounds_sample + pixels
        for step in range(steps):
            place, number = list_first + step * events_step, store[last_first + step * bounds_step]
            has_values = False
            for at in range(place, place + number):
                has_values |= abs(store[at + values]) != 1
            for at in range(place, place + number if has_values else place):
                valued[sample, store[at] % channels, store[at] // channels] += 1
            if is_static and step > 0:
                is_static = number == store[last_first]
                for k in range(number if is_static else 0):
                    is_static &= store[place + k] == store[list_first + k]
                    is_static &= store[place + k + values] == store[list_first + k + values]
    return is_static
