"""Refreshes: from zero again after every so many steps, with all that is recorded."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from neurodeploy.errors import SimulationError
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import FixedInjection, Neuron, Synapse
from neurodeploy.simulation import EventSimulator, Feed, Record, Recording, Stream

EVERYTHING = {"final_states": True, "counts": True}


def layer(name: str, source: str, synapse: Synapse, neuron: Neuron, *shape: int) -> FixedLayer:
    bias = np.int32(0 if isinstance(neuron, DeltaNeuron | SigmaNeuron) else 5)
    connections = (Connection(source=source, synapse=synapse),)
    return FixedLayer(
        name=name, shape=shape, connections=connections, neuron=neuron, bias=np.array(bias)
    )


def network() -> FixedPointGraph:
    """An input block, a conv layer, a dense layer with delays that reads itself, and sums."""
    rng = np.random.default_rng(3)
    delayed = FixedDense(
        weight=2 * rng.integers(-60, 60, (6, 32), dtype=np.int32),
        delay=rng.integers(0, 3, (6, 32), dtype=np.int32),
    )
    layers = [
        layer("in", INPUT, FixedInjection(), DeltaNeuron(threshold=1, spike_exponent=6), 1, 4, 4),
        layer(
            "conv",
            "in",
            FixedConv(
                weight=2 * rng.integers(-60, 60, (2, 1, 3, 3), dtype=np.int32), padding=(1, 1)
            ),
            SigmaDeltaNeuron(threshold=2, spike_exponent=6),
            2,
            4,
            4,
        ),
        layer("dense", "conv", delayed, SigmaDeltaNeuron(threshold=1, spike_exponent=6), 6),
        layer(
            "sum",
            "dense",
            FixedDense(weight=2 * rng.integers(-60, 60, (3, 6), dtype=np.int32)),
            SigmaNeuron(),
            3,
        ),
    ]
    return FixedPointGraph(input=FixedInput(shape=(1, 4, 4)), layers=tuple(layers))


def frames(steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-9, 9, (3, steps, 1, 4, 4), dtype=np.int32)


def run(
    graph: FixedPointGraph, values: np.ndarray, interval: int | None, *, is_compiled: bool
) -> Recording:
    return EventSimulator(graph, is_compiled=is_compiled, threads=2).run(
        values,
        timing=Stream(refresh_interval=interval),
        feed=Feed.NEURON,
        record=Record(states=graph.names, **EVERYTHING),
    )


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("interval", [1, 4, 9, 10, 30])
def test_a_refreshed_run_is_fresh_runs_in_a_row(interval: int, *, is_compiled: bool) -> None:
    graph, values = network(), frames(10)
    whole = run(graph, values, interval, is_compiled=is_compiled)
    parts = [
        run(graph, values[:, first : first + interval], None, is_compiled=is_compiled)
        for first in range(0, 10, interval)
    ]
    assert whole.steps == 10
    for index, name in enumerate(graph.names):
        sent = np.concatenate([part.spikes_of(index) for part in parts], axis=1)
        np.testing.assert_array_equal(whole.spikes_of(index), sent)
        for state, trace in whole.states[name].items():
            found = np.concatenate([part.states[name][state] for part in parts], axis=1)
            np.testing.assert_array_equal(trace, found)
        np.testing.assert_equal(whole.final_states[index], parts[-1].final_states[index])
        total = sum(part.events[index].total.astype(int) for part in parts)
        np.testing.assert_array_equal(whole.events[index].total, total)
        assert total.any() == (interval > 1 or name != "sum")
        valued = sum(part.events[index].valued.astype(int) for part in parts)
        np.testing.assert_array_equal(whole.events[index].valued, valued)
        active = sum(part.updates[index].active for part in parts)
        np.testing.assert_array_equal(whole.updates[index].active, active)
        healths = [asdict(part.health[index]) for part in parts]
        for key, value in asdict(whole.health[index]).items():
            join = max if key.endswith("peak") else sum
            assert value == join(health[key] for health in healths)


def test_progress_counts_samples_once() -> None:
    seen: list[tuple[int, int]] = []
    EventSimulator(network()).run(
        frames(10),
        timing=Stream(refresh_interval=3),
        feed=Feed.NEURON,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (3, 3)


def test_what_cannot_be_refreshed() -> None:
    graph = network()
    with pytest.raises(SimulationError, match="refresh interval 0, at least 1"):
        run(graph, frames(4), 0, is_compiled=False)
    both = Stream(refresh_interval=2, reset_interval=2)
    with (
        pytest.warns(match="cannot be reset"),
        pytest.raises(SimulationError, match="a reset and a refresh interval"),
    ):
        EventSimulator(graph).run(frames(4), timing=both, feed=Feed.NEURON)
    one = np.array(1, np.int32)
    spiking = CubaNeuron(current_decay=one, voltage_decay=one, threshold=one)
    mixed = replace(graph, layers=(*graph.layers[:2], replace(graph.layers[2], neuron=spiking)))
    with pytest.raises(SimulationError, match="dense cannot be refreshed"):
        run(mixed, frames(4), 2, is_compiled=False)
