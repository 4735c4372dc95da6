"""The kernel of resonate-and-fire neurons behind complex dense synapses.

A row of weights holds those of the real parts of all neurons, filled up to a multiple of 16, then
those of the imaginary parts.

Gather, step, write and count are those of `neurodeploy.simulation.layer_by_layer`, which this is
tested against.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.llvm_vectors import (
    WORD,
    Memory,
    Vector,
    branch,
    clear,
    count_set,
    first_set,
    vector_function,
    where,
)
from neurodeploy.simulation.kernels.event_lists import (
    begin_lists,
    kernel,
    list_ranges,
    list_segments,
    make_room,
    place_of_bounds,
    place_of_list,
)
from neurodeploy.simulation.kernels.lif import raise_health
from neurodeploy.simulation.kernels.neuron_vectors import (
    LANES_LEAST,
    clip_counted,
    decay,
    raise_peaks,
    sum_rows,
)
from neurodeploy.simulation.kernels.sigma_delta import gather_reach
from neurodeploy.simulation.kernels.structures import NOTES, RESONATORS


@vector_function("uint64")
def step_resonators(
    rows: Memory, store: Memory, ranges: Memory, count: Vector, group: Memory, states: Memory,
    peaks: Memory, notes: Memory,
) -> Vector:  # fmt: skip
    """Gather what reaches a group of resonators, RESONATORS, and advance them by one step.

    Added up are rows as in `neuron_vectors.step_lif`; sums times 2**shift reach the neurons.
    Updated are states, `peaks` and `notes`, whose `idle` is the mask of those without a state.
    Exact while |sum| · 2**shift < 2**29 and sine and cosine are within 2**18 in size.

    Returns:
        The mask of those that spiked, lowest lane first.
    """
    place, width, lanes = (group.field(name).load() for name in ("place", "width", "lanes"))
    shift, sine, cosine, threshold, present = (
        group.field(name).load().resized(32)
        for name in ("shift", "sine", "cosine", "threshold", "present")
    )
    half = width.unsigned_rshift(1)

    def turn(part: Vector, by: Vector) -> Vector:
        """The product drops its bits towards zero."""
        return decay(part, abs(by)) * where(by < 0, -1, by.full(1))

    def step(lanes: int) -> Vector:
        of_real, of_imaginary = states.at(place), states.at(place + half)
        real, before = of_real.load(lanes), of_imaginary.load(lanes)
        notes.field("idle").store((real | before).equals(0).bitmask())
        arriving, other = (
            sum_rows(lanes, rows.at(begin), store, ranges, count, width) << shift
            for begin in (place, place + half)
        )
        total = turn(real, cosine) - turn(before, sine) + arriving
        other = turn(real, sine) + turn(before, cosine) + other
        size = raise_peaks(peaks, total)
        total = clip_counted(total, size, notes.field("current_wraps"))
        size = raise_peaks(peaks.at(LANES_LEAST), other)
        other = clip_counted(other, size, notes.field("voltage_clips"))
        is_neuron = before.numbered() < present
        below = threshold - 1  # what fires is above it

        def pass_zero() -> Vector:
            fired = (total > below) & (other > -1) & (before < 0) & is_neuron
            of_real.store(total)
            of_imaginary.store(other)
            return fired.bitmask()

        def reach_level() -> Vector:
            fired = (other > below) & is_neuron
            of_real.store(where(fired, 0, total))
            of_imaginary.store(where(fired, below, other))
            return fired.bitmask()

        return branch(group.field("is_phase").load().differs(0), pass_zero, reach_level)

    return branch(
        lanes.equals(64),
        lambda: step(64),
        lambda: branch(lanes.equals(32), lambda: step(32), lambda: step(16)),
    )


@kernel()
def bits_from(words, position):  # type: ignore[no-untyped-def]
    """Return 64 bits from a position on; those beyond the last word are zero."""
    word, shift = position // WORD, np.uint64(position % WORD)
    bits = words[word] >> shift
    if shift != 0 and word + 1 < words.size:
        bits |= words[word + 1] << (np.uint64(WORD) - shift)
    return bits


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
    groups = np.empty(1, RESONATORS)
    group = groups[0]
    group.sine, group.cosine, group.is_phase = parameters[0], parameters[1], parameters[2]
    group.threshold, group.shift, group.width = layer.threshold, layer.shift, layer.padded
    width, neurons, lists, counts = (
        layer.padded, layer.channels, layer.lists, layer.counts_updates != 0
    )  # fmt: skip
    segments, ranges = make_room(terms, layer.rows_at_once)
    words, half = (width + WORD - 1) // WORD, width // 2
    keeps_spikes, keeps_totals = layer.keeps_spikes != 0, layer.keeps_totals != 0
    reached, states = np.zeros(words, np.uint64), np.zeros(width, np.int32)
    peaks, notes = np.zeros(2 * LANES_LEAST, np.int32), np.zeros(1, NOTES)
    sent = np.empty(steps, np.int64)
    for sample in range(samples):
        begin_lists(lists, sample, sent, store)
        segment_count = list_segments(sample, 0, 0, width, terms, segments)
        clear(states, width)
        for step in range(steps):
            count = list_ranges(segment_count, step, layer.rows_at_once, segments, store, ranges)
            if counts:
                gather_reach(count, ranges, words, reach, store, reached)
            place, number, first = place_of_list(lists, sample, step), 0, 0
            while first < neurons:
                lanes = 64 if half - first >= 64 else 32 if half - first >= 32 else 16
                present = min(neurons - first, lanes)
                group.place, group.lanes, group.present = first, lanes, present
                fired = step_resonators(rows, store, ranges, count, groups, states, peaks, notes)
                if counts:
                    awake = ~np.uint64(notes[0].idle) | bits_from(reached, first)
                    awake |= bits_from(reached, first + half)
                    there = ~np.uint64(0) >> np.uint64(WORD - present)
                    updates[sample, 0] += count_set(awake & there)
                while fired != 0:
                    neuron = first + first_set(fired)
                    fired &= fired - np.uint64(1)
                    store[place + number] = neuron
                    number += 1
                    if keeps_spikes:
                        spikes[sample, step, neuron, 0] = 1
                    if keeps_totals:
                        totals[sample, neuron, 0] += 1
                first += lanes
            if layer.keeps_traces:
                for neuron in range(neurons):
                    traces[sample, step, 0, neuron, 0] = states[neuron]
                    traces[sample, step, 1, neuron, 0] = states[neuron + half]
            store[place_of_bounds(lists, sample, step) + 1] = number
        if layer.keeps_finals:
            for neuron in range(neurons):
                finals[sample, 0, neuron, 0] = states[neuron]
                finals[sample, 1, neuron, 0] = states[neuron + half]
    raise_health(health, peaks, notes[0])
