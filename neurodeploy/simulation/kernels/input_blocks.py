"""Compiled input blocks: neurons that are fed the values of frames themselves.

What arrives is known for every neuron and step, so nothing is gathered: 64 neurons at a time walk
through all steps. Their events are written as frames, which `event_lists.collect_events` lists.

Step and count are those of `neurodeploy.simulation.layer_by_layer`, which this is tested against.
"""

from __future__ import annotations

import numpy as np

from neurodeploy.llvm_vectors import WORD, clear, count_set, first_set, nonzero_bits
from neurodeploy.simulation.kernels.change_vectors import step_values
from neurodeploy.simulation.kernels.event_lists import kernel
from neurodeploy.simulation.kernels.lif import copy_voltages, count_changed, raise_health
from neurodeploy.simulation.kernels.neuron_vectors import LANES_LEAST, step_frame
from neurodeploy.simulation.kernels.structures import NOTES


@kernel()
def load_values(values, first, present, target):  # type: ignore[no-untyped-def]
    """Copy values[first : first + present] to a target; a slice would count references."""
    for lane in range(np.uint64(present)):
        target[lane] = values[np.uint64(first) + lane]


@kernel()
def write_plane(states, place, present, target, first):  # type: ignore[no-untyped-def]
    """Write states[place : place + present] to target[first :]."""
    for lane in range(np.uint64(present)):
        target[np.uint64(first) + lane] = states[np.uint64(place) + lane]


@kernel()
def run_delta_block(values, described, biases, frames, results):  # type: ignore[no-untyped-def]
    """Run a block of delta neurons.

    Args:
        values: (samples · T · neurons,) int32, which times 2**(shift - 6) must fit 32 bits.
        described: (1,) LAYER.
        biases: (neurons,) int32; they change nothing, but count as something to do.
        frames: (samples · T · neurons,) int32, gets what the neurons send.
        results: Totals, traces, finals and updates, as in `lif.run_lif`, flat but for the last.
    """
    layer = described[0]
    totals, traces, finals, updates = results
    scale, threshold, counts = layer.shift - 6, layer.threshold, layer.counts_updates != 0
    keeps_totals, keeps_traces = layer.keeps_totals != 0, layer.keeps_traces != 0
    neurons, samples = biases.size, updates.shape[0]
    steps = values.size // (neurons * samples)
    arriving, messages = np.zeros(WORD, np.int32), np.zeros(WORD, np.int32)
    states, with_bias = np.zeros(2 * WORD, np.int32), np.zeros(WORD, np.int32)
    for sample in range(samples):
        active = 0
        for first in range(0, neurons, WORD):
            present = min(WORD, neurons - first)
            clear(states, 2 * WORD)
            clear(arriving, WORD)
            clear(with_bias, WORD)
            load_values(biases, first, present, with_bias)
            has_bias = nonzero_bits(with_bias, 0)
            standing = has_bias
            for step in range(steps):
                place = (sample * steps + step) * neurons + first
                load_values(values, place, present, arriving)
                if counts:
                    active += count_set(standing | nonzero_bits(arriving, 0))
                standing = has_bias | step_values(
                    arriving, states, messages, 0, WORD, scale, threshold
                )
                write_plane(messages, 0, present, frames, place)
                if keeps_totals:
                    leaving = nonzero_bits(messages, 0)
                    while leaving != 0:
                        totals[sample * neurons + first + first_set(leaving)] += 1
                        leaving &= leaving - np.uint64(1)
                if keeps_traces:
                    row = (sample * steps + step) * 3 * neurons + first
                    write_plane(states, 0, present, traces, row + neurons)
                    write_plane(states, WORD, present, traces, row + 2 * neurons)
            if layer.keeps_finals:
                row = sample * 3 * neurons + first
                write_plane(states, 0, present, finals, row + neurons)
                write_plane(states, WORD, present, finals, row + 2 * neurons)
        updates[sample, 0] += active


@kernel()
def run_lif_block(values, images, described, parameters, resets, frames, results, health):  # type: ignore[no-untyped-def]
    """Run a block of LIF neurons.

    Args:
        values: (samples · T · neurons,) int32, below 2**23 in size; or empty: nothing arrives.
        images: (samples · neurons,) int32, biases times 2**6 in place of the layer's; or empty.
        described: (1,) LAYER.
        parameters: (4 · plane,) int32 as `lif.run_lif` has them, a number for each neuron.
        resets: (T,) whether states are set to zero before a step.
        frames: (samples · T · neurons,) uint8, zero so far, gets the spikes.
        results: Totals, traces, finals and updates, as in `run_delta_block`.
        health: As in `lif.run_lif`.
    """
    layer = described[0]
    totals, traces, finals, updates = results
    counts, plane, holds_current = layer.counts_updates != 0, layer.plane, layer.holds_current != 0
    keeps_totals, keeps_traces = layer.keeps_totals != 0, layer.keeps_traces != 0
    keeps_current = keeps_traces or layer.keeps_finals != 0
    neurons = layer.channels * layer.height * layer.width
    samples, steps = updates.shape[0], resets.size
    sums, states = np.zeros(WORD, np.int32), np.empty(2 * WORD, np.int32)
    peaks, voltages = np.zeros(2 * LANES_LEAST, np.int32), np.zeros(WORD, np.int32)
    notes = np.zeros(1, NOTES)
    for sample in range(samples):
        active = changed = 0
        notes[0].changes = 0
        if images.size > 0:
            write_plane(images, sample * neurons, neurons, parameters, 0)
        for first in range(0, neurons, WORD):
            present = min(WORD, neurons - first)
            existing = ~np.uint64(0) >> np.uint64(WORD - present)
            clear(states, 2 * WORD)
            for step in range(steps):
                place = (sample * steps + step) * neurons + first
                follows = counts and step > 0
                if resets[step]:
                    if follows:
                        copy_voltages(states, WORD, voltages)
                    clear(states, 2 * WORD)
                watches = follows and not resets[step]
                if values.size > 0:
                    load_values(values, place, present, sums)
                fired = step_frame(
                    sums, 0, parameters, plane, states, peaks, notes, first, 6, True,
                    holds_current, keeps_current, watches, counts,
                )  # fmt: skip
                if counts:
                    active += present - count_set(np.uint64(notes[0].idle) & existing)
                    if follows and not watches:  # a reset came: compare with what was there
                        changed += count_changed(states, WORD, voltages, present)
                while fired != 0:
                    lane = first_set(fired)
                    fired &= fired - np.uint64(1)
                    frames[np.uint64(place + lane)] = 1
                    if keeps_totals:
                        totals[np.uint64(sample * neurons + first + lane)] += 1
                if keeps_traces:
                    row = (sample * steps + step) * 2 * neurons + first
                    write_plane(states, 0, present, traces, row)
                    write_plane(states, WORD, present, traces, row + neurons)
            if layer.keeps_finals:
                row = sample * 2 * neurons + first
                write_plane(states, 0, present, finals, row)
                write_plane(states, WORD, present, finals, row + neurons)
        if counts:
            updates[sample, 0] += active
            updates[sample, 1] += changed + notes[0].changes + neurons
    raise_health(health, peaks, notes[0])
