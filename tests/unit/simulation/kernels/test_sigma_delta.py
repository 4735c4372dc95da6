"""Compiled sigma-delta layers: equal to NumPy in everything that is recorded, and really used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from compiled_runs import assert_equal_to_numpy
from hypothesis import HealthCheck, assume, given, reject, settings, strategies as st
from strategies import generators

from neurodeploy.errors import GraphError, SimulationError
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation import (
    EventSimulator,
    Stream,
    Window,
)
from neurodeploy.simulation.kernels.layer_records import EventStore


def int32(value: object) -> np.ndarray:
    return np.array(value, np.int32)


def conv(rng: np.random.Generator, inputs: int, outputs: int, largest: int) -> FixedConv:
    groups = int(rng.choice([1, 2])) if inputs % 2 == 0 and outputs % 2 == 0 else 1
    shape = (outputs, inputs // groups, *map(int, rng.integers(1, 4, 2)))
    weight = rng.integers(-largest, largest + 1, shape, dtype=np.int32)
    weight[rng.random(shape) < 0.2] = 0
    return FixedConv(
        weight=weight * 2 ** int(rng.integers(0, 3)),
        stride=tuple(map(int, rng.integers(1, 3, 2))),
        padding=tuple(map(int, rng.integers(0, 3, 2))),
        dilation=tuple(map(int, rng.integers(1, 3, 2))),
        groups=groups,
    )


def dense(rng: np.random.Generator, inputs: int, outputs: int) -> FixedDense:
    weight = 2 * rng.integers(-60, 61, (outputs, inputs), dtype=np.int32)
    weight[0, 0], weight[-1, -1] = 2, -2
    delay = rng.integers(0, 4, weight.shape, dtype=np.int32) if rng.random() < 0.4 else None
    return FixedDense(weight=weight, delay=delay)


def network(rng: np.random.Generator, largest: int) -> FixedPointGraph:
    """Conv, conv and dense layers, then sums; one of them may be of LIF neurons."""
    port = FixedInput(shape=(int(rng.integers(1, 4)), 6, 7), message_bits=int(rng.choice([0, 5])))
    layers: list[FixedLayer] = []
    source, shape = INPUT, port.shape
    exponent = int(rng.integers(0, 8))
    of_lif = int(rng.integers(0, 6))
    for index, kind in enumerate(("conv", "conv", "dense", "sum")):
        if kind == "conv":
            outputs = int(rng.choice([1, 3, 16, 18, 34]))
            synapse: FixedConv | FixedDense = conv(rng, shape[0], outputs, largest)
        else:
            synapse = dense(rng, int(np.prod(shape)), int(rng.choice([3, 17])))
        target = synapse.output_shape(shape)
        neuron = SigmaDeltaNeuron(
            threshold=int(rng.choice([0, 1, 30, 300])), spike_exponent=exponent
        )
        if kind == "sum":
            neuron = SigmaNeuron()
        elif index == of_lif:
            neuron = CubaNeuron(
                current_decay=int32(2048), voltage_decay=int32(128), threshold=int32(500)
            )
        form = [(), target][rng.integers(2)]
        layers.append(
            FixedLayer(
                name=f"{kind}{index}",
                shape=target,
                connections=(Connection(source=source, synapse=synapse),),
                neuron=neuron,
                bias=int32(0)
                if kind == "sum" or rng.random() < 0.3
                else rng.integers(-300, 300, form, dtype=np.int32),
            )
        )
        source, shape = layers[-1].name, target
    return FixedPointGraph(input=port, layers=tuple(layers))


@pytest.mark.filterwarnings("ignore:simulation. .* cannot be reset")
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    generators,
    st.sampled_from([1, 10, 127, 2000, 30_000]),
    st.sampled_from([Window(), Stream(), Stream(reset_interval=3, reset_offset=1)]),
    st.booleans(),
)
def test_all_that_is_recorded_is_equal(rng, largest, timing, changes) -> None:
    """Small and huge weights: with these, states wrap and sums no longer fit the kernels."""
    try:
        graph = network(rng, largest)
    except GraphError:  # a kernel larger than what is left of the frame
        reject()
    bits = graph.input.message_bits
    inputs = rng.integers(
        -(2**bits) + 1 if bits else 0, 2**bits if bits else 2, (3, 5, *graph.input.shape)
    )
    inputs[rng.random(inputs.shape) < rng.choice([0.2, 0.9, 0.99])] = 0
    if not changes:
        inputs[:] = inputs[:, :1]
    try:
        assert_equal_to_numpy(graph, inputs.astype(np.int32), timing)
    except SimulationError as error:
        assume("exceeds 32 bits" not in str(error))
        raise


def sigma_delta(weight: int, *, bias: int = 0, exponent: int = 0) -> FixedPointGraph:
    """One input, two layers of one sigma-delta neuron each."""
    layers, source = [], INPUT
    for name, size in (("a", weight), ("b", 1)):
        synapse = FixedConv(weight=int32([[[[size]]]]))
        layers.append(
            FixedLayer(
                name=name,
                shape=(1, 1, 1),
                connections=(Connection(source=source, synapse=synapse),),
                neuron=SigmaDeltaNeuron(threshold=0, spike_exponent=exponent),
                bias=int32(bias if name == "a" else 0),
            )
        )
        source = name
    return FixedPointGraph(input=FixedInput(shape=(1, 1, 1), message_bits=8), layers=tuple(layers))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the layers that kernels ran."""
    names: list[str] = []
    run = EventStore.run

    def watched(self, layer, *arguments, **options) -> None:
        names.append(layer.name)
        run(self, layer, *arguments, **options)

    monkeypatch.setattr(EventStore, "run", watched)
    return names


@pytest.mark.parametrize("weight", [64, 1 << 14])
def test_they_run_compiled(weight: int, ran: list[str]) -> None:
    graph = sigma_delta(weight)
    inputs = int32([0, 200, 200, -100, 0, 0]).reshape(1, 6, 1, 1, 1)
    recording = EventSimulator(graph).run(inputs)
    assert ran == ["a", "b"]
    # Sums of what arrives are 0, 200, 400, 300, ... times the weight; the changes leave, / 64.
    expected = weight * int32([0, 200, 200, -100, 0, 0]) // 64
    np.testing.assert_array_equal(recording.spikes[0].ravel(), expected)


def test_values_too_large_for_the_kernels_are_left_to_numpy(ran: list[str]) -> None:
    """Two equal values, weights of either sign: the sum is zero, but could be large."""
    first, second = sigma_delta(1).layers
    weights = int32([1 << 14, 1 << 14])[:, None, None, None], int32([[[[1 << 20]], [[-(1 << 20)]]]])
    layers = tuple(
        replace(
            layer,
            shape=(len(weight), 1, 1),
            connections=(replace(layer.connections[0], synapse=FixedConv(weight=weight)),),
        )
        for layer, weight in zip((first, second), weights, strict=True)
    )
    graph = FixedPointGraph(input=FixedInput(shape=(1, 1, 1), message_bits=8), layers=layers)
    for size, expected in ((3, ["a", "b"]), (4, ["a"])):  # 2 · 2**20 · size · 2**8, below 2**31
        ran.clear()
        inputs = int32([0, size]).reshape(1, 2, 1, 1, 1)
        assert_equal_to_numpy(graph, inputs, Window())
        assert ran == expected


def test_silence_costs_no_state_but_an_overflow_counts_at_every_step() -> None:
    """An activation that wraps is counted in steps in which nothing arrives as well."""
    graph = sigma_delta(1 << 14, bias=4095, exponent=13)
    inputs = np.zeros((2, 7, 1, 1, 1), np.int32)
    inputs[:, 1] = 255
    recording = EventSimulator(graph).run(inputs)
    assert recording.health == EventSimulator(graph, is_compiled=False).run(inputs).health
    assert recording.health[0].voltage_clips == 2 * 6
