"""Write and count results of a layer other than its events."""

from __future__ import annotations

import numpy as np

from neurodeploy.llvm_vectors import WORD, count_set
from neurodeploy.simulation.kernels.compilation import kernel


@kernel()
def write_states(states, width, channels, pixel, target):  # type: ignore[no-untyped-def]
    """Write currents states[:channels] and voltages states[width:] to a pixel of a target.

    The target is (2, channels, pixels) int32, of a sample's trace or final states.
    """
    for channel in range(np.uint64(channels)):
        target[np.uint64(0), channel, np.uint64(pixel)] = states[channel]
        target[np.uint64(1), channel, np.uint64(pixel)] = states[channel + np.uint64(width)]


@kernel()
def copy_voltages(states, width, voltages):  # type: ignore[no-untyped-def]
    """Remember the voltages states[width:]; a slice would count references."""
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
    """Count the neurons of a mask that an event reaches through a weight that is not zero.

    Args:
        idle: The mask, of neighbouring channels.
        channel: The first of them.
        step: The step.
        segments: Events that reach the pixel; see `event_lists.list_segments`.
        count: How many segments there are.
        store: int32.
        reach: (rows · words,) uint64.
        words: Words of a row.
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
def raise_health(health, peaks, width, notes):  # type: ignore[no-untyped-def]
    """Add to a layer's health the peaks of currents, then of voltages, and NOTES."""
    for lane in range(width):
        health[0] = max(health[0], peaks[lane])
        health[1] = max(health[1], peaks[width + lane])
    health[2] += notes.current_wraps
    health[3] += notes.voltage_clips
