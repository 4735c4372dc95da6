"""The kernel of resonate-and-fire neurons behind complex dense synapses.

A row of weights holds those of the real parts of all neurons, then those of the imaginary parts.

Gather, step, write and count are those of `neurodeploy.simulation.layer_by_layer`, which this is
tested against.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neurodeploy.fixedpoint import DECAY_BITS, VOLTAGE_LIMIT
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
from neurodeploy.simulation.kernels.sigma_delta import gather_reach

_LIMIT: Final = np.int64(VOLTAGE_LIMIT)
_add_16 = make_row_adder(16)


@kernel()
def gather_rows(count, ranges, width, rows, store, sums):  # type: ignore[no-untyped-def]
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
def turn(of_real, real, of_imaginary, imaginary):  # type: ignore[no-untyped-def]
    """Return one part of a state that turns: both products drop their bits towards zero."""
    one, other = of_real * real, of_imaginary * imaginary
    one = -(-one >> DECAY_BITS) if one < 0 else one >> DECAY_BITS
    return one + (-(-other >> DECAY_BITS) if other < 0 else other >> DECAY_BITS)


@kernel()
def count_active(neurons, real, imaginary, reached):  # type: ignore[no-untyped-def]
    """Count the neurons with a state, or an event that reaches one of their parts."""
    active = 0
    for neuron in range(neurons):
        other = neuron + neurons
        bits = reached[neuron // WORD] >> np.uint64(neuron % WORD)
        bits |= reached[other // WORD] >> np.uint64(other % WORD)
        active += (bits & np.uint64(1)) != 0 or real[neuron] != 0 or imaginary[neuron] != 0
    return active


@kernel()
def run_resonators(samples, steps, described, terms, weights, store, results):  # type: ignore[no-untyped-def]
    """Run one layer of resonate-and-fire neurons over T steps, as `lif.run_lif` does LIF ones.

    The definition of a step is `simulation.neurons.ResonatorDynamics`. Parameters are sine,
    cosine, and whether neurons fire by phase; no term reads the layer itself. Health is that of
    real and imaginary parts.
    """
    layer = described[0]
    rows, reach, parameters = weights
    spikes, totals, traces, finals, updates, health = results
    sine, cosine = np.int64(parameters[0]), np.int64(parameters[1])
    is_phase, threshold, shift = parameters[2] != 0, layer.threshold, layer.shift
    width, neurons, lists, counts = (
        layer.padded, layer.channels, layer.lists, layer.counts_updates != 0
    )  # fmt: skip
    segments, ranges = make_room(terms, layer.rows_at_once)
    words = (width + WORD - 1) // WORD
    keeps_spikes, keeps_totals = layer.keeps_spikes != 0, layer.keeps_totals != 0
    reached, sums = np.zeros(words, np.uint64), np.zeros(width, np.int32)
    real, imaginary = np.zeros(neurons, np.int64), np.zeros(neurons, np.int64)
    sent = np.empty(steps, np.int64)
    for sample in range(samples):
        begin_lists(lists, sample, sent, store)
        segment_count = list_segments(sample, 0, 0, width, terms, segments)
        clear(real, neurons)
        clear(imaginary, neurons)
        for step in range(steps):
            count = list_ranges(segment_count, step, layer.rows_at_once, segments, store, ranges)
            clear(sums, width)
            gather_rows(count, ranges, width, rows, store, sums)
            if counts:
                gather_reach(count, ranges, words, reach, store, reached)
                updates[sample, 0] += count_active(neurons, real, imaginary, reached)
            place, number = place_of_list(lists, sample, step), 0
            for neuron in range(neurons):
                before_real, before = real[neuron], imaginary[neuron]
                total = turn(cosine, before_real, -sine, before) + (sums[neuron] << shift)
                other = turn(sine, before_real, cosine, before) + (sums[neurons + neuron] << shift)
                health[0], health[1] = max(health[0], abs(total)), max(health[1], abs(other))
                kept = min(max(total, -_LIMIT), _LIMIT)
                kept_other = min(max(other, -_LIMIT), _LIMIT)
                health[2] += kept != total
                health[3] += kept_other != other
                if is_phase:
                    fires = kept >= threshold and kept_other >= 0 and before < 0
                else:
                    fires = kept_other >= threshold
                    if fires:
                        kept, kept_other = np.int64(0), threshold - 1
                real[neuron], imaginary[neuron] = kept, kept_other
                if fires:
                    store[place + number] = neuron
                    number += 1
                    if keeps_spikes:
                        spikes[sample, step, neuron, 0] = 1
                    if keeps_totals:
                        totals[sample, neuron, 0] += 1
                if layer.keeps_traces:
                    traces[sample, step, 0, neuron, 0] = kept
                    traces[sample, step, 1, neuron, 0] = kept_other
                if layer.keeps_finals and step == steps - 1:
                    finals[sample, 0, neuron, 0] = kept
                    finals[sample, 1, neuron, 0] = kept_other
            store[place_of_bounds(lists, sample, step) + 1] = number
