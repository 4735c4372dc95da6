"""Counts by looking at every synapse instance and every neuron, one by one, in plain Python."""

from __future__ import annotations

from itertools import product

import numpy as np
import restatement

from neurodeploy.ir import (
    CubaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graphs import INPUT


def targets(synapse: object, source: tuple, layer: FixedLayer, where: tuple) -> list[tuple]:
    """(delay, neuron) that one sender reaches through weights that are not zero."""
    if isinstance(synapse, FixedComplexDense):
        return [
            *targets(synapse.real, source, layer, where),
            *targets(synapse.imaginary, source, layer, where),
        ]
    if isinstance(synapse, FixedDense):
        sender = int(np.ravel_multi_index(where, source))
        mantissa = synapse.effective.mantissa
        found = []
        for neuron in range(len(mantissa)):
            if mantissa[neuron, sender]:
                delay = 0 if synapse.delay is None else int(synapse.delay[neuron, sender])
                found.append((delay, tuple(map(int, np.unravel_index(neuron, layer.shape)))))
        return found
    if isinstance(synapse, FixedConv):
        outputs, inputs, height, width = synapse.weight.shape
        found = []
        for out, y, x in product(*map(range, layer.shape)):
            group = out // (outputs // synapse.groups)
            for channel, ky, kx in product(range(inputs), range(height), range(width)):
                row = y * synapse.stride[0] - synapse.padding[0] + ky * synapse.dilation[0]
                column = x * synapse.stride[1] - synapse.padding[1] + kx * synapse.dilation[1]
                if (group * inputs + channel, row, column) == where and synapse.weight[
                    out, channel, ky, kx
                ]:
                    found.append((0, (out, y, x)))
        return found
    return [(0, where)]  # an input block: each value reaches its own neuron


def enumerate_updates(
    graph: FixedPointGraph, inputs: np.ndarray, steps: int
) -> list[tuple[int, int | None]]:
    run = restatement.simulate(graph, inputs, steps=steps, is_stream=False)
    sent = {INPUT: inputs, **dict(zip(graph.names, run.spikes, strict=True))}
    counts = []
    for index, layer in enumerate(graph):
        reached = np.zeros((steps, *layer.shape), bool)
        for connection in layer.connections:
            later = 1 if connection.source == layer.name else 0
            source = layer.shape if later else graph.shape_of(connection.source)
            for step, *where in np.argwhere(sent[connection.source]):
                for delay, neuron in targets(
                    connection.synapse, source, layer, tuple(map(int, where))
                ):
                    if step + delay + later < steps:
                        reached[(step + delay + later, *neuron)] = True
        states = run.states[index]
        active = 0
        for step in range(steps):
            busy = reached[step] | np.broadcast_to(layer.bias != 0, layer.shape)
            if step:
                for name, trace in states.items():
                    before = trace[step - 1]
                    if name == "current" and isinstance(layer.neuron, CubaNeuron):
                        keep = 4096 - layer.neuron.current_decay.astype(np.int64)
                        before = np.abs(before) * np.abs(keep) // 4096
                    busy = busy | (before != 0)
            active += int(busy.sum())
        membrane = None
        if "voltage" in states:
            voltage = states["voltage"]
            membrane = layer.neurons + int((voltage[1:] != voltage[:-1]).sum())
        counts.append((active, membrane))
    return counts


def instances(synapse: object, source: tuple, layer: FixedLayer) -> list[tuple[int, bool]]:
    """(sender, whether its weight is not zero) of every synapse instance."""
    if isinstance(synapse, FixedComplexDense):
        return instances(synapse.real, source, layer) + instances(synapse.imaginary, source, layer)
    if isinstance(synapse, FixedDense):
        stored = [one.tolist() for one in (synapse.weight, synapse.partner) if one is not None]
        mantissa, _ = restatement.effective_weights(*stored)[0]
        return [(i, weight != 0) for row in mantissa for i, weight in enumerate(row)]
    if not isinstance(synapse, FixedConv):
        return []
    outputs, inputs, rows, columns = synapse.weight.shape
    _, height, width = source
    found = []
    for out, y, x in product(*map(range, layer.shape)):
        group = out // (outputs // synapse.groups)
        for channel, ky, kx in product(range(inputs), range(rows), range(columns)):
            row = y * synapse.stride[0] - synapse.padding[0] + ky * synapse.dilation[0]
            column = x * synapse.stride[1] - synapse.padding[1] + kx * synapse.dilation[1]
            if 0 <= row < height and 0 <= column < width:
                sender = ((group * inputs + channel) * height + row) * width + column
                found.append((sender, bool(synapse.weight[out, channel, ky, kx])))
    return found


def textbook_macs(synapse: object, layer: FixedLayer) -> int:
    """MACs of one pass, taps on padding included."""
    if isinstance(synapse, FixedComplexDense):
        return 2 * synapse.real.weight.size
    if isinstance(synapse, FixedDense):
        return synapse.weight.size
    if not isinstance(synapse, FixedConv):
        return 0
    return layer.neurons * int(np.prod(synapse.weight.shape[1:]))


def enumerate_row(
    graph: FixedPointGraph,
    layer: FixedLayer,
    sent: dict[str, np.ndarray],
    *,
    is_recurrent: bool,
    is_bias: bool = False,
) -> dict[str, int]:
    """Counts of one row of a report for one sample; `sent` is (T, ...) of every sender."""
    row = dict.fromkeys(
        ("events", "sops", "sops_stored", "sops_mac", "neurobench_macs", "dense_exact",
         "dense_macs", "messages"), 0
    )  # fmt: skip
    for connection in layer.connections:
        if (connection.source == layer.name) != is_recurrent:
            continue
        source = graph.shape_of(connection.source)
        values = sent[connection.source]
        steps = [step.reshape(-1).tolist() for step in values]
        if is_recurrent:
            steps = [[0] * len(steps[0]), *steps[:-1]]
        is_graded = (
            graph.input.is_graded or graph.has_input_neuron
            if connection.source == INPUT
            else graph.layers[graph.names.index(connection.source)].neuron.is_graded
        )
        found = instances(connection.synapse, source, layer)
        row["dense_exact"] += len(found)
        row["dense_macs"] += textbook_macs(connection.synapse, layer)
        if is_bias and connection.source == INPUT:
            continue
        for step in steps:
            fired = [value != 0 for value in step]
            row["events"] += sum(fired)
            row["messages"] += sum(fired[sender] for sender in {sender for sender, _ in found})
            sops = sum(fired[sender] and is_nonzero for sender, is_nonzero in found)
            row["sops"] += sops
            row["sops_stored"] += sum(fired[sender] for sender, _ in found)
            row["sops_mac"] += sops if is_graded else 0
            if any(value not in (-1, 0, 1) for value in step):
                row["neurobench_macs"] += sops
    return row
