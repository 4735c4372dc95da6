"""A recording holds what was asked for, and counts alone cost the same as spikes."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import restatement
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input

from neurodeploy.counting.network_counts import count
from neurodeploy.errors import DataError, SimulationError
from neurodeploy.ir import FixedPointGraph
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Record,
    Recording,
)
from neurodeploy.simulation.recording_files import recording_arrays

pytestmark = pytest.mark.filterwarnings("ignore:input. values from")
any_graph = graphs(Options(is_chain=False, kinds=("lif", "lif", "sigma-delta", "resonator")))
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(graph: FixedPointGraph, inputs: np.ndarray, record: Record, **options: int) -> Recording:
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    try:
        return EventSimulator(graph, **options).run(inputs, feed=feed, record=record)
    except SimulationError as error:
        assume("exceeds 32 bits" not in str(error))
        raise


@slow
@given(any_graph, generators, st.integers(1, 5))
def test_counts_alone_cost_what_spikes_cost(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int
) -> None:
    """Recurrence, graded senders and inputs that do not change included."""
    inputs = random_input(rng, graph, samples=2, steps=steps)
    if rng.random() < 0.3:
        inputs[:] = inputs[:, :1]
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    spikes = run(graph, inputs, Record())
    counts = run(graph, inputs, Record(spikes=(), states=(), counts=True))
    assert counts.spikes == (None,) * len(graph.layers)
    assert counts.states == {}
    assert counts.updates is not None
    active = {name: found.active for name, found in zip(graph.names, counts.updates, strict=True)}
    expected = count(graph, inputs, spikes, feed=feed, active_updates=active)
    found = count(graph, inputs, counts, feed=feed)
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        assert replace(ours, by_sample={}) == replace(theirs, by_sample={})
        np.testing.assert_equal(dict(ours.by_sample), dict(theirs.by_sample))
    assert counts.spike_totals() == spikes.spike_totals()
    events = run(graph, inputs, Record(spikes=(), states=(), counts=True, updates=False))
    assert events.updates is None
    for ours, theirs in zip(events.events or (), counts.events or (), strict=True):
        np.testing.assert_equal(asdict(ours), asdict(theirs))
    assert count(graph, inputs, events, feed=feed).totals.sops == found.totals.sops


@settings(slow, max_examples=8)
@given(any_graph, generators, st.sampled_from((254, 255, 256, 300)))
def test_more_events_than_a_byte_holds_are_counted(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int
) -> None:
    inputs = random_input(rng, graph, samples=1, steps=steps)
    spikes = run(graph, inputs, Record(states=()))
    counts = run(graph, inputs, Record(spikes=(), states=(), counts=True))
    for found, all_spikes in zip(counts.events or (), spikes.spikes, strict=True):
        assert all_spikes is not None
        np.testing.assert_array_equal(found.total, (all_spikes != 0).sum(1))


@slow
@given(any_graph, generators, st.integers(1, 4), st.data())
def test_chosen_layers_are_kept_and_no_others(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int, data: st.DataObject
) -> None:
    chosen = st.lists(st.sampled_from(graph.names), unique=True).map(tuple)
    record = Record(spikes=data.draw(chosen), states=data.draw(chosen))
    inputs = random_input(rng, graph, samples=2, steps=steps)
    whole, part = run(graph, inputs, Record()), run(graph, inputs, record)
    for name, spikes, all_spikes in zip(graph.names, part.spikes, whole.spikes, strict=True):
        if name in record.spikes:
            np.testing.assert_array_equal(spikes, all_spikes)
            assert part.spikes_of(name) is spikes
        else:
            assert spikes is None
            with pytest.raises(SimulationError, match=f"{name}: its spikes were not recorded"):
                part.spikes_of(name)
    assert set(part.states) == set(record.states)
    for sample in range(2):
        expected = restatement.simulate(graph, inputs[sample], steps=steps, is_stream=False)
        for index, layer in enumerate(graph):
            for name, trace in expected.states[index].items() if layer.name in part.states else ():
                np.testing.assert_array_equal(part.states[layer.name][name][sample], trace)


@slow
@given(any_graph, generators, st.integers(1, 4))
def test_samples_run_in_batches_or_apart_give_the_whole(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int
) -> None:
    record = Record(final_states=True, counts=True, states=graph.names)
    inputs = random_input(rng, graph, samples=4, steps=steps)
    whole = run(graph, inputs, record)
    single = run(graph, inputs, record, batch_bytes=1)
    assert (single.samples, single.steps, single.layers) == (4, steps, graph.names)
    assert single.health == whole.health
    arrays = recording_arrays(whole)
    np.testing.assert_equal(recording_arrays(single), arrays)
    parts = [run(graph, inputs[:1], record), run(graph, inputs[1:], record)]
    apart = [recording_arrays(part) for part in parts]
    for name in set(arrays) - {"layers"}:
        joined = np.concatenate([part[name] for part in apart])
        assert joined.dtype == arrays[name].dtype
        np.testing.assert_array_equal(joined, arrays[name])
    for k in range(len(graph.layers)):
        np.testing.assert_equal(asdict(single.events[k]), asdict(whole.events[k]))
        valued = np.concatenate([part.events[k].valued for part in parts])
        np.testing.assert_array_equal(valued, whole.events[k].valued)


def small() -> Recording:
    return Recording.from_spikes(("a", "b"), (np.ones((1, 2, 3), np.uint8),) * 2)


def test_layers_are_found_by_name_and_number() -> None:
    first, second = np.zeros((1, 2, 3), np.uint8), np.ones((1, 2, 4), np.uint8)
    recording = Recording.from_spikes(("a", "b"), (first, second))
    assert recording.spikes_of("a") is recording.spikes_of(0) is recording.spikes_of(-2) is first
    assert recording.spikes_of("b") is recording.spikes_of(1) is recording.spikes_of(-1) is second
    for unknown in ("c", 2, -3):
        with pytest.raises(SimulationError, match=f"no layer '{unknown}'"):
            small().spikes_of(unknown)
    with pytest.raises(SimulationError, match=r"record: no layer .x."):
        Record(states=("x",)).resolve(("a",))


def test_without_spikes_or_counts_nothing_can_be_counted(mlp_like: FixedPointGraph) -> None:
    inputs = np.ones((1, 2, 3), np.int32)
    nothing = EventSimulator(mlp_like).run(inputs, record=Record(spikes=()))
    with pytest.raises(DataError, match="neither its spikes nor counts were recorded"):
        count(mlp_like, inputs, nothing)
    assert nothing.spike_totals() == (None,)


@pytest.fixture
def mlp_like() -> FixedPointGraph:
    from neurodeploy.ir import (
        Connection,
        CubaNeuron,
        FixedDense,
        FixedInput,
        FixedLayer,
    )

    return FixedPointGraph(
        input=FixedInput(shape=(3,)),
        layers=(
            FixedLayer(
                name="out",
                shape=(2,),
                connections=(
                    Connection(
                        source="input",
                        synapse=FixedDense(weight=np.array([[1, -2, 3], [4, 5, 6]], np.int32)),
                    ),
                ),
                neuron=CubaNeuron(
                    current_decay=np.array(4096, np.int32),
                    voltage_decay=np.array(0, np.int32),
                    threshold=np.array(3, np.int32),
                ),
                bias=np.array(0, np.int32),
            ),
        ),
    )
