"""One layer at a time in NumPy: readable, general, and the definition that kernels must equal.

A layer's input over all steps is known once the layer before it has run, so each synapse is one
exact matrix product over (samples · steps), and only the neurons walk through time.

The kernels have the same four parts: gather what reaches the neurons, step, write, count.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import TypeVar

import numpy as np

from neurodeploy.errors import NeurodeployWarning, SimulationError
from neurodeploy.fixedpoint import STATE_MAX, Int64Array
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedInjection,
    FixedLayer,
    SigmaDeltaNeuron,
    SigmaNeuron,
    Synapse,
)
from neurodeploy.simulation.counters import LimitWatch, UpdateCounter
from neurodeploy.simulation.neurons import start_dynamics
from neurodeploy.simulation.outputs import LayerOutputs, Plan
from neurodeploy.simulation.recording import Feed, IntArray, SpikeArray, Stream, Timing, Window
from neurodeploy.simulation.synapses import BoolArray, apply_synapse, arrivals

Summed = TypeVar("Summed", Int64Array, BoolArray)


def run_layer(
    graph: FixedPointGraph,
    layer: FixedLayer,
    index: int,
    known: Mapping[str, SpikeArray],
    values: IntArray,
    plan: Plan,
    outputs: LayerOutputs,
    span: slice,
) -> SpikeArray:
    """Run one layer over all steps; return its events, (samples, T, *layer) uint8 or int32.

    Args:
        graph: The network.
        layer: One of its layers.
        index: Its place.
        known: Events of the input and of all layers that it reads, (samples, T, ...) integers.
        values: The input as it was given, for an input block.
        plan: Settings of the run.
        outputs: Get all that is to be kept.
        span: Where the samples are in `outputs`.
    """
    samples, steps = len(values), plan.steps
    ports = (2,) if any(isinstance(c.synapse, FixedComplexDense) for c in layer.connections) else ()
    drive = np.zeros((samples, steps, *layer.shape, *ports), np.int64)
    watch = LimitWatch(layer) if layer.neuron.is_graded else None
    gather(drive, _send_whole if watch else apply_synapse, layer, known, values, plan)
    whole = drive
    if watch is not None and np.abs(drive).max() > STATE_MAX:
        drive = np.zeros_like(drive)  # as Lava has it: cut to the bits of each synapse
        gather(drive, apply_synapse, layer, known, values, plan)
    recurrent = next((c.synapse for c in layer.connections if c.source == layer.name), None)
    bias_image = values if plan.feed is Feed.BIAS and index == 0 else None
    neurons = start_dynamics(layer, samples, bias_image=bias_image)
    counter: UpdateCounter | None = None
    arrives: BoolArray | None = None
    if plan.record.has_updates:
        counter = UpdateCounter(layer, samples, bias_image)
        arrives = np.zeros((samples, steps, *layer.shape), bool)
        gather(arrives, arrivals, layer, known, values, plan)
    reads_values = graph.reads_values(layer)
    resets = reset_steps(plan.timing, steps, index)
    dtype = np.int32 if layer.neuron.is_graded else np.uint8
    spikes: SpikeArray = np.zeros((samples, steps, *layer.shape), dtype)
    for step in range(steps):
        if resets[step]:
            neurons.reset()
        arriving, total = drive[:, step], whole[:, step]
        reaches = None if arrives is None else arrives[:, step]
        if recurrent is not None and step > 0:
            events = spikes[:, step - 1 : step]
            if not reads_values:
                events = (events != 0).astype(np.int32)
            arriving = arriving + apply_synapse(recurrent, events).reshape(arriving.shape)
            if watch is not None:
                total = total + _send_whole(recurrent, events).reshape(total.shape)
            if reaches is not None:
                reaches = reaches | arrivals(recurrent, events).reshape(reaches.shape)
        if counter is not None and reaches is not None:
            counter.count_active(neurons, reaches)
        sent = neurons.step(arriving)
        spikes[:, step] = sent
        if watch is not None:
            watch.note(total, sent)
        if counter is not None:
            counter.count_changed(neurons)
        if outputs.traces is not None:
            for k, name in enumerate(layer.neuron.states):
                outputs.traces[span, step, k] = neurons.states()[name]
    if outputs.finals is not None:
        for k, name in enumerate(layer.neuron.states):
            outputs.finals[span, k] = neurons.states()[name]
    if counter is not None:
        outputs.updates[span] = counter.updates
    outputs.write_spikes(span, spikes)
    health = neurons.health() if watch is None else watch.add_to(neurons.health())
    outputs.add_health(np.array(astuple(health), np.int64))
    return spikes


def _send_whole(synapse: Synapse, events: SpikeArray) -> Int64Array:
    return apply_synapse(synapse, events, wraps=False)


def gather(
    total: Summed,
    send: Callable[[Synapse, SpikeArray], Summed],
    layer: FixedLayer,
    known: Mapping[str, SpikeArray],
    values: IntArray,
    plan: Plan,
) -> None:
    """Add up in `total` what reaches the neurons from other layers at every step.

    It is (samples, T, *layer, *ports), zero; a sum of truth values is whether any is true. `send`
    applies a synapse to events; all else is as in `run_layer`. The share of a recurrent synapse is
    left out: it is known only step by step.
    """
    for connection in layer.connections:
        if isinstance(connection.synapse, FixedInjection):
            if plan.feed is not Feed.BIAS:
                total += send(connection.synapse, values)
        elif connection.source != layer.name:
            sent = send(connection.synapse, known[connection.source]).reshape(total.shape)
            if isinstance(plan.timing, Stream):
                total[:, 1:] += sent[:, :-1]
            else:
                total += sent


def reset_steps(timing: Timing, steps: int, index: int) -> list[bool]:
    """Return at which steps (0-based) a layer's states are set to zero.

    Lava: at step t = 1, 2, ... where t mod P == (offset + 1 + index) mod P. In windows every
    sample is a batch entry of its own that starts from zero.
    """
    if isinstance(timing, Window) or timing.reset_interval is None:
        return [False] * steps
    period = timing.reset_interval
    return [t % period == (timing.reset_offset + 1 + index) % period for t in range(1, steps + 1)]


def warn_of_missing_resets(graph: FixedPointGraph, timing: Timing) -> None:
    """Warn whoever called the caller of neurons that a reset interval does not reset."""
    if isinstance(timing, Window) or timing.reset_interval is None:
        return
    kept = [layer.name for layer in graph if not isinstance(layer.neuron, CubaNeuron)]
    if kept:
        warnings.warn(
            f"simulation: {', '.join(kept)} cannot be reset; Lava resets LIF neurons only. "
            "Run each sample by itself (--window) for a clean start.",
            NeurodeployWarning,
            stacklevel=3,
        )


def parts_between_refreshes(graph: FixedPointGraph, timing: Timing, steps: int) -> list[range]:
    """Return the steps of each part that runs from zero, without refreshes one part.

    Raises:
        SimulationError: If there are refreshes, and neurons that are none of sigma and delta.
    """
    if isinstance(timing, Window) or timing.refresh_interval is None:
        return [range(steps)]
    kinds = (DeltaNeuron, SigmaDeltaNeuron, SigmaNeuron)
    others = [layer.name for layer in graph if not isinstance(layer.neuron, kinds)]
    if others:
        raise SimulationError(
            f"simulation: {', '.join(others)} cannot be refreshed; sigma-delta neurons alone can. "
            "Leave the refresh interval out; --reset-interval resets LIF neurons."
        )
    if timing.reset_interval is not None:
        raise SimulationError(
            "simulation: a reset and a refresh interval; Lava resets LIF neurons only, and only "
            "sigma-delta neurons are refreshed. Leave the reset interval out."
        )
    interval = timing.refresh_interval
    return [range(first, min(first + interval, steps)) for first in range(0, steps, interval)]
