"""Active and membrane updates against neurons and synapses looked at one by one."""

from __future__ import annotations

import numpy as np
from enumeration import enumerate_updates
from hypothesis import HealthCheck, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input

from neurodeploy.ir import FixedPointGraph
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Record,
)

any_graph = graphs(Options(is_chain=False, kinds=("lif", "lif", "lif", "sigma-delta", "resonator")))


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
