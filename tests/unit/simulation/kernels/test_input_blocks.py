"""Compiled input blocks: equal to NumPy in everything that is recorded, and really used."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from compiled_runs import assert_equal_to_numpy
from hypothesis import HealthCheck, given, settings, strategies as st
from strategies import generators

from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedConv,
    FixedInjection,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    SigmaDeltaNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation import EventSimulator, Feed, Record, Stream, Window
from neurodeploy.simulation.kernels.layer_records import EventStore


def int32(value: object) -> np.ndarray:
    return np.array(value, np.int32)


def network(rng: np.random.Generator, shape: tuple[int, ...], *, is_delta: bool) -> FixedPointGraph:
    """An input block, and behind maps a convolution that reads its events."""
    exponent = int(rng.integers(0, 8))
    form = [(), shape][rng.integers(2)]
    neuron: CubaNeuron | DeltaNeuron = DeltaNeuron(
        threshold=int(rng.choice([0, 1, 30])), spike_exponent=exponent
    )
    if not is_delta:
        neuron = CubaNeuron(
            current_decay=rng.choice(int32([0, 1000, 4096]), form).astype(np.int32),
            voltage_decay=rng.integers(0, 4097, form, dtype=np.int32),
            threshold=rng.integers(1, 3000, form, dtype=np.int32),
        )
    block = FixedLayer(
        name="block",
        shape=shape,
        connections=(Connection(source=INPUT, synapse=FixedInjection()),),
        neuron=neuron,
        bias=int32(0) if is_delta else rng.integers(-300, 300, form, dtype=np.int32),
    )
    layers = [block]
    if len(shape) == 3:
        synapse = FixedConv(weight=rng.integers(-9, 10, (2, shape[0], 1, 1), dtype=np.int32))
        layers.append(
            FixedLayer(
                name="conv",
                shape=(2, *shape[1:]),
                connections=(Connection(source="block", synapse=synapse),),
                neuron=SigmaDeltaNeuron(threshold=1, spike_exponent=exponent),
                bias=int32(3),
            )
        )
    return FixedPointGraph(input=FixedInput(shape=shape), layers=tuple(layers))


@pytest.mark.filterwarnings("ignore:simulation. .* cannot be reset")
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    generators,
    st.sampled_from([(7,), (130,), (1, 8, 8), (3, 5, 7)]),
    st.booleans(),
    st.sampled_from([1, 500, 1 << 15, 1 << 24]),
    st.sampled_from([Window(), Stream(), Stream(reset_interval=3, reset_offset=1)]),
)
def test_all_that_is_recorded_is_equal(rng, shape, is_delta, largest, timing) -> None:
    """Huge values as well: with these states wrap, and NumPy takes over."""
    graph = network(rng, shape, is_delta=is_delta)
    feed = Feed.BIAS if not is_delta and rng.random() < 0.3 else Feed.NEURON
    inputs = rng.integers(-largest, largest + 1, (3, 6, *shape), dtype=np.int32)
    inputs[rng.random(inputs.shape) < rng.choice([0.2, 0.9])] = 0
    if feed is Feed.BIAS:
        inputs = np.clip(inputs[:, 0], -4096, 4095)
        timing = Window(steps=6) if isinstance(timing, Window) else Stream(steps=6)
    assert_equal_to_numpy(graph, inputs, timing, feed=feed)
    record = Record(spikes=(), states=(), counts=True, updates=False)
    ours, numpy = (
        EventSimulator(graph, threads=2, is_compiled=is_compiled).run(
            inputs, timing=timing, feed=feed, record=record
        )
        for is_compiled in (True, False)
    )
    assert ours.health == numpy.health
    for mine, theirs in zip(ours.events, numpy.events, strict=True):
        np.testing.assert_equal(asdict(mine), asdict(theirs))


@pytest.mark.parametrize(("largest", "expected"), [(511, ["block"]), (1 << 30, [])])
@pytest.mark.parametrize("is_delta", [True, False])
def test_they_run_compiled(
    largest: int, expected: list[str], *, is_delta: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = EventStore.run_block

    def watched(self, layer, *arguments, **options) -> None:
        ran.append(layer.name)
        run(self, layer, *arguments, **options)

    monkeypatch.setattr(EventStore, "run_block", watched)
    graph = network(np.random.default_rng(3), (1, 4, 4), is_delta=is_delta)
    inputs = np.full((1, 2, 1, 4, 4), largest, np.int32)
    EventSimulator(graph).run(inputs, feed=Feed.NEURON)
    assert ran == expected
