"""Random networks with pools and skips: direct graph, lowered file and plain Python agree.

`pytest tests/property/test_lowering.py --lowering-examples 5000` is the long run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import restatement
from float_networks import LOIHI2, float_graphs, integers_of
from hypothesis import HealthCheck, event, given, settings, strategies as st
from strategies import generators, random_input

from neurodeploy import netx
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import lower_residuals
from neurodeploy.simulation import EventSimulator


@settings(
    settings.get_profile("lowering"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    float_graphs(),
    generators,
    st.integers(1, 3),
    st.sampled_from([1.0, 0.6, 0.2]),
    st.sampled_from([0.0, 0.0, 0.5]),
)
def test_all_ways_of_running_a_network_agree(
    graph: Graph, rng: np.random.Generator, steps: int, factor: float, sparsity: float
) -> None:
    direct = integers_of(graph, steps, factor, sparsity)
    lowered = lower_residuals(direct, LOIHI2)
    event(f"relays: {sum(cost.channels > 0 for cost in lowered.costs)}")
    event(f"relays with a bias: {sum(cost.relay_bias > 0 for cost in lowered.costs)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.net"
        netx.write(lowered.graph, path)
        written = netx.read(path)
    inputs = np.abs(random_input(rng, direct, samples=2, steps=steps))
    ours = EventSimulator(direct).run(inputs)
    from_file = EventSimulator(written).run(inputs)
    plain = restatement.simulate(direct, inputs[0], steps=steps, is_stream=False)
    for index, layer in enumerate(direct):
        own = lowered.channels[layer.name]
        assert np.array_equal(ours.spikes[index], from_file.spikes[index][:, :, :own])
        np.testing.assert_array_equal(ours.spikes[index][0], plain.spikes[index])
    assert np.array_equal(ours.voltage, from_file.voltage)
    np.testing.assert_array_equal(ours.voltage[0], plain.states[-1]["voltage"])
