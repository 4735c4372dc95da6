"""Active and membrane updates against neurons and synapses looked at one by one."""

from __future__ import annotations

from itertools import product

import numpy as np
import restatement
from hypothesis import HealthCheck, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input

from neurodeploy.ir import (
    CubaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graph import INPUT
from neurodeploy.simulation import EventSimulator, Feed, Record

any_graph = graphs(Options(is_chain=False, kinds=("lif", "lif", "lif", "sigma-delta", "resonator")))


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


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_graph, generators, st.integers(1, 5))
def test_updates_are_those_of_neurons_looked_at_one_by_one(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int
) -> None:
    inputs = random_input(rng, graph, samples=2, steps=steps)
    inputs[rng.random(inputs.shape) < 0.5] = 0
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    try:
        recording = EventSimulator(graph, batch_bytes=1).run(
            inputs, feed=feed, record=Record(counts=True)
        )
    except Exception as error:
        if "exceeds 32 bits" in str(error):
            return
        raise
    assert recording.updates is not None
    for sample in range(2):
        expected = enumerate_updates(graph, inputs[sample], steps)
        for found, (active, membrane) in zip(recording.updates, expected, strict=True):
            assert int(found.active[sample]) == active
            assert (None if found.membrane is None else int(found.membrane[sample])) == membrane
