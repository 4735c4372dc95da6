"""Compiled input blocks: neurons that are fed the values of frames themselves.

What arrives is known for every neuron and step, so nothing is gathered: some neighbouring neurons
walk through all steps together, so many that what they are fed is read in long lines. Their events
are written as frames, which `event_lists.collect_events` lists.

Step and count are those of `neurodeploy.simulation.layer_by_layer`, which this is tested against.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from neurodeploy.llvm_vectors import (
    WORD,
    clear,
    copy_word,
    count_set,
    first_set,
    nonzero_bits,
    write_bits,
)
from neurodeploy.simulation.kernels.change_vectors import step_values
from neurodeploy.simulation.kernels.event_lists import kernel
from neurodeploy.simulation.kernels.lif import copy_voltages, count_changed, raise_health
from neurodeploy.simulation.kernels.neuron_vectors import LANES_LEAST, step_frame
from neurodeploy.simulation.kernels.structures import NOTES

TILE: Final = 128
"""Words of neurons that go through all steps together: their states stay in the nearest cache."""


@kernel()
def copy(values, first, present, target, place):  # type: ignore[no-untyped-def]
    """Copy values[first : first + present], at most 64, to target[place :]."""
    if present == WORD:
        copy_word(values, first, target, place)
    else:
        for lane in range(present):
            target[place + lane] = values[first + lane]


@kernel()
def run_delta_block(values, described, biases, frames, results, largest):  # type: ignore[no-untyped-def]
    """Run a block of delta neurons.

    Args:
        values: (samples · T · neurons,) int32, which times 2**(shift - 6) must fit 32 bits.
        described: (1,) LAYER.
        biases: (neurons,) int32; they change nothing, but count as something to do.
        frames: (samples · T · neurons,) int32, gets what the neurons send.
        results: Totals, traces, finals and updates, as in `lif.run_lif`, flat but for the last.
        largest: (2,) int64, gets the sizes of the largest activation and of the largest message.
    """
    layer = described[0]
    totals, traces, finals, updates = results
    scale, threshold = layer.shift - 6, layer.threshold
    keeps_totals, keeps_traces = layer.keeps_totals != 0, layer.keeps_traces != 0
    neurons, samples = biases.size, updates.shape[0]
    steps = values.size // (neurons * samples)
    rest, messages = np.zeros(WORD, np.int32), np.zeros(WORD, np.int32)
    states, with_bias = np.zeros((TILE, 2 * WORD), np.int32), np.zeros(WORD, np.int32)
    has_bias, standing = np.zeros(TILE, np.uint64), np.zeros(TILE, np.uint64)
    peaks = np.zeros(2 * LANES_LEAST, np.int32)
    for sample in range(samples):
        active = 0
        for begin in range(0, neurons, TILE * WORD):
            tiles = min(TILE, (neurons - begin + WORD - 1) // WORD)
            for k in range(tiles):
                first = begin + k * WORD
                clear(states[k], 2 * WORD)
                clear(with_bias, WORD)
                copy(biases, first, min(WORD, neurons - first), with_bias, 0)
                has_bias[k] = nonzero_bits(with_bias, 0)
                standing[k] = has_bias[k]
            for step in range(steps):
                for k in range(tiles):
                    first = begin + k * WORD
                    present = min(WORD, neurons - first)
                    place = (sample * steps + step) * neurons + first
                    before = standing[k]
                    if present == WORD:
                        arriving, leaving = nonzero_bits(values, place), np.uint64(0)
                        standing[k] = step_values(
                            values, place, states[k], frames, place, peaks, scale, threshold
                        )
                        if keeps_totals:
                            leaving = nonzero_bits(frames, place)
                    else:
                        copy(values, place, present, rest, 0)
                        arriving = nonzero_bits(rest, 0)
                        standing[k] = step_values(
                            rest, 0, states[k], messages, 0, peaks, scale, threshold
                        )
                        leaving = nonzero_bits(messages, 0)
                        copy(messages, 0, present, frames, place)
                    standing[k] |= has_bias[k]
                    active += count_set(before | arriving)
                    if keeps_totals:
                        while leaving != 0:
                            totals[sample * neurons + first + first_set(leaving)] += 1
                            leaving &= leaving - np.uint64(1)
                    if keeps_traces:
                        row = (sample * steps + step) * 3 * neurons + first
                        copy(states[k], 0, present, traces, row + neurons)
                        copy(states[k], WORD, present, traces, row + 2 * neurons)
            if layer.keeps_finals:
                for k in range(tiles):
                    first = begin + k * WORD
                    row, present = sample * 3 * neurons + first, min(WORD, neurons - first)
                    copy(states[k], 0, present, finals, row + neurons)
                    copy(states[k], WORD, present, finals, row + 2 * neurons)
        updates[sample, 0] += active
    for lane in range(LANES_LEAST):
        largest[0] = max(largest[0], np.int64(peaks[lane]))
        largest[1] = max(largest[1], np.int64(peaks[LANES_LEAST + lane]))


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
    sums, states = np.zeros(WORD, np.int32), np.empty((TILE, 2 * WORD), np.int32)
    peaks, voltages = np.zeros(2 * LANES_LEAST, np.int32), np.zeros(WORD, np.int32)
    notes = np.zeros(1, NOTES)
    for sample in range(samples):
        active = changed = 0
        notes[0].changes = 0
        if images.size > 0:
            for first in range(0, neurons, WORD):
                copy(
                    images, sample * neurons + first, min(WORD, neurons - first), parameters, first
                )
        for begin in range(0, neurons, TILE * WORD):
            tiles = min(TILE, (neurons - begin + WORD - 1) // WORD)
            for k in range(tiles):
                clear(states[k], 2 * WORD)
            for step in range(steps):
                follows = counts and step > 0
                watches = follows and not resets[step]
                for k in range(tiles):
                    state, first = states[k], begin + k * WORD
                    present = min(WORD, neurons - first)
                    existing = ~np.uint64(0) >> np.uint64(WORD - present)
                    place = (sample * steps + step) * neurons + first
                    if resets[step]:
                        if follows:
                            copy_voltages(state, WORD, voltages)
                        clear(state, 2 * WORD)
                    if values.size > 0:
                        copy(values, place, present, sums, 0)
                    fired = step_frame(
                        sums, 0, parameters, plane, state, peaks, notes, first, 6, True,
                        holds_current, keeps_current, watches, counts,
                    )  # fmt: skip
                    if counts:
                        active += present - count_set(np.uint64(notes[0].idle) & existing)
                        if follows and not watches:  # a reset came: compare with what was there
                            changed += count_changed(state, WORD, voltages, present)
                    if present == WORD:
                        write_bits(fired, frames, place)
                    while fired != 0 and (keeps_totals or present < WORD):
                        lane = first_set(fired)
                        fired &= fired - np.uint64(1)
                        frames[place + lane] = 1
                        if keeps_totals:
                            totals[sample * neurons + first + lane] += 1
                    if keeps_traces:
                        row = (sample * steps + step) * 2 * neurons + first
                        copy(state, 0, present, traces, row)
                        copy(state, WORD, present, traces, row + neurons)
            if layer.keeps_finals:
                for k in range(tiles):
                    first = begin + k * WORD
                    row, present = sample * 2 * neurons + first, min(WORD, neurons - first)
                    copy(states[k], 0, present, finals, row)
                    copy(states[k], WORD, present, finals, row + neurons)
        if counts:
            updates[sample, 0] += active
            updates[sample, 1] += changed + notes[0].changes + neurons
    raise_health(health, peaks, notes[0])
