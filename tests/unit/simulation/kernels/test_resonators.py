"""Compiled resonators: equal to NumPy in everything that is recorded, and really used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compiled_runs import assert_equal_to_numpy
from hypothesis import HealthCheck, given, settings, strategies as st
from strategies import generators

from neurodeploy.ir import (
    Connection,
    FixedComplexDense,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    ResonateFireNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation import EventSimulator, Stream, Window
from neurodeploy.simulation.kernels.compiled_layer import compile_layer
from neurodeploy.simulation.kernels.layer_records import EventStore


def network(
    rng: np.random.Generator, *, is_phase: bool, bits: int, first: int = 8, least: int = 1
) -> FixedPointGraph:
    """Two layers of resonators, with thresholds from `least` on."""
    layers: list[FixedLayer] = []
    source, inputs = INPUT, 2 * 3 * 3
    for index, outputs in enumerate((first, 5)):
        halves = []
        for _ in range(2):
            weight = 2 * rng.integers(-60, 61, (outputs, inputs), dtype=np.int32)
            weight[rng.random(weight.shape) < 0.3] = 0
            weight[0, 0], weight[-1, -1] = 2, -2
            halves.append(FixedDense(weight=weight))
        angle, kept = rng.uniform(0.1, 3), rng.uniform(0.5, 1.1)
        neuron = ResonateFireNeuron(
            sine_decay=int(4096 * kept * np.sin(angle)),
            cosine_decay=int(4096 * kept * np.cos(angle)),
            threshold=int(rng.integers(least, 60)),
            is_phase=is_phase,
        )
        synapse = FixedComplexDense(real=halves[0], imaginary=halves[1])
        layers.append(
            FixedLayer(
                name=f"resonators{index}",
                shape=(outputs,),
                connections=(Connection(source=source, synapse=synapse),),
                neuron=neuron,
                bias=np.zeros((), np.int32),
            )
        )
        source, inputs = layers[-1].name, outputs
    port = FixedInput(shape=(2, 3, 3), message_bits=bits)
    return FixedPointGraph(input=port, layers=tuple(layers))


@pytest.mark.filterwarnings("ignore:simulation. .* cannot be reset")
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    generators,
    st.booleans(),
    st.sampled_from([0, 5, 12]),
    st.sampled_from([1, 8, 40, 70]),
    st.sampled_from([Window(), Stream(), Stream(reset_interval=3)]),
)
def test_all_that_is_recorded_is_equal(rng, is_phase, bits, first, timing) -> None:
    """Large values as well, with which states are clipped."""
    graph = network(rng, is_phase=is_phase, bits=bits, first=first, least=-3)
    inputs = rng.integers(-(2**bits) + 1 if bits else 0, 2 ** max(bits, 1), (3, 9, 2, 3, 3))
    inputs[rng.random(inputs.shape) < 0.5] = 0
    assert_equal_to_numpy(graph, inputs.astype(np.int32), timing)


def test_they_run_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    run = EventStore.run

    def watched(self, layer, *arguments, **options) -> None:
        ran.append(layer.name)
        run(self, layer, *arguments, **options)

    monkeypatch.setattr(EventStore, "run", watched)
    graph = network(np.random.default_rng(4), is_phase=True, bits=0)
    spikes = EventSimulator(graph).run(np.ones((1, 9, 2, 3, 3), np.int32)).spikes
    assert ran == list(graph.names)
    assert all(one.any() for one in spikes)


def test_rotations_that_may_overflow_are_left_to_numpy() -> None:
    """2**18 is the largest that fits 32 bits with states and sums of any size."""
    layer = network(np.random.default_rng(0), is_phase=False, bits=0).layers[0]
    for cosine, is_compiled in ((1 << 18, True), ((1 << 18) + 64, False)):
        neuron = ResonateFireNeuron(sine_decay=0, cosine_decay=cosine, threshold=7, is_phase=False)
        graph = FixedPointGraph(
            input=FixedInput(shape=(2, 3, 3)), layers=(replace(layer, neuron=neuron),)
        )
        assert (compile_layer(graph, graph.layers[0], largest_input=1) is not None) == is_compiled
        assert_equal_to_numpy(graph, np.ones((2, 9, 2, 3, 3), np.int32), Window())
