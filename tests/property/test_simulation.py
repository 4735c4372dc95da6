"""`EventSimulator` equals the step-by-step restatement on random networks of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import restatement
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input

from neurodeploy.errors import SimulationError
from neurodeploy.ir import (
    CubaNeuron,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Record,
    Recording,
    Stream,
    Window,
)
from neurodeploy.testing import assert_bit_exact

pytestmark = pytest.mark.filterwarnings("ignore:simulation. .* cannot be reset")

any_graph = graphs(Options(is_chain=False, kinds=("lif", "lif", "lif", "sigma-delta", "resonator")))
feed_forward = graphs(Options(is_chain=True))
slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(graph: FixedPointGraph, inputs: np.ndarray, timing: Window | Stream) -> Recording:
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    try:
        return EventSimulator(graph).run(
            inputs, timing=timing, feed=feed, record=Record(final_states=True)
        )
    except SimulationError as error:
        assume("exceeds 32 bits" not in str(error))
        raise


def assert_equal(recording: Recording, sample: int, expected: restatement.Run) -> None:
    assert recording.final_states is not None
    for layer, spikes in enumerate(recording.spikes):
        np.testing.assert_array_equal(spikes[sample], expected.spikes[layer])
        for name, trace in expected.states[layer].items():
            np.testing.assert_array_equal(recording.final_states[layer][name][sample], trace[-1])
    assert set(recording.traces) == set(expected.states[-1])
    for name, trace in expected.states[-1].items():
        np.testing.assert_array_equal(recording.traces[name][sample], trace)


@slow
@given(any_graph, generators, st.integers(1, 6))
def test_windows(graph: FixedPointGraph, rng: np.random.Generator, steps: int) -> None:
    inputs = random_input(rng, graph, samples=2, steps=steps)
    recording = run(graph, inputs, Window())
    for sample in range(2):
        expected = restatement.simulate(graph, inputs[sample], steps=steps, is_stream=False)
        assert_equal(recording, sample, expected)


@slow
@given(
    any_graph,
    generators,
    st.integers(1, 5),
    st.integers(1, 9),
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(0, 6),
)
def test_streams(
    graph: FixedPointGraph,
    rng: np.random.Generator,
    input_steps: int,
    steps: int,
    interval: int | None,
    offset: int,
) -> None:
    """Repeating inputs, runs shorter than the input, resets of any period and phase."""
    inputs = random_input(rng, graph, samples=2, steps=input_steps)
    timing = Stream(steps=steps, reset_interval=interval, reset_offset=offset)
    recording = run(graph, inputs, timing)
    for sample in range(2):
        expected = restatement.simulate(
            graph,
            inputs[sample],
            steps=steps,
            is_stream=True,
            reset_interval=interval,
            reset_offset=offset,
        )
        assert_equal(recording, sample, expected)


@settings(slow, max_examples=40)
@given(feed_forward, generators, st.booleans())
def test_bias_images(graph: FixedPointGraph, rng: np.random.Generator, is_stream: bool) -> None:
    assume(graph.has_input_neuron)
    images = rng.integers(-500, 500, (2, *graph.input.shape), dtype=np.int32)
    timing = Stream(steps=5) if is_stream else Window(steps=5)
    recording = EventSimulator(graph).run(
        images, timing=timing, feed=Feed.BIAS, record=Record(final_states=True)
    )
    for sample in range(2):
        expected = restatement.simulate(
            graph, images[sample], steps=5, is_stream=is_stream, is_bias_image=True
        )
        assert_equal(recording, sample, expected)


@settings(slow, max_examples=60)
@given(any_graph, generators, st.integers(1, 4))
def test_samples_do_not_see_each_other(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int
) -> None:
    """Alone, in any order, and in any batch size, a sample gives the same."""
    inputs = random_input(rng, graph, samples=3, steps=steps)
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    whole = run(graph, inputs, Window())
    parts = EventSimulator(graph, batch_bytes=1).run(
        inputs, feed=feed, record=Record(final_states=True)
    )
    assert_bit_exact(whole, parts)
    assert whole.health == parts.health
    order = np.array([2, 0, 1])
    shuffled = run(graph, inputs[order], Window())
    for ours, theirs in zip(whole.spikes, shuffled.spikes, strict=True):
        np.testing.assert_array_equal(ours[order], theirs)


@settings(slow, max_examples=60)
@given(feed_forward, generators, st.integers(1, 5))
def test_a_stream_is_the_window_one_step_later_in_each_layer(
    graph: FixedPointGraph, rng: np.random.Generator, steps: int
) -> None:
    """Without biases, nothing happens while the pipeline fills."""
    silent = FixedPointGraph(
        input=graph.input, layers=tuple(without_bias(layer) for layer in graph)
    )
    inputs = random_input(rng, silent, samples=2, steps=steps)
    window = run(silent, inputs, Window())
    late = [depth + (0 if graph.has_input_neuron else 1) for depth in range(len(graph.layers))]
    padded = np.concatenate([inputs, np.zeros_like(inputs[:, :1].repeat(late[-1], 1))], axis=1)
    stream = run(silent, padded, Stream())
    for delay, ours, theirs in zip(late, window.spikes, stream.spikes, strict=True):
        assert not theirs[:, :delay].any()
        np.testing.assert_array_equal(ours, theirs[:, delay : delay + steps])


def without_bias(layer: FixedLayer) -> FixedLayer:
    return FixedLayer(
        name=layer.name,
        shape=layer.shape,
        connections=layer.connections,
        neuron=layer.neuron,
        bias=np.zeros((), np.int32),
    )


@settings(slow, max_examples=60)
@given(feed_forward, generators, st.integers(2, 4), st.integers(1, 4))
def test_resets_in_one_stream_are_windows(
    graph: FixedPointGraph, rng: np.random.Generator, windows: int, steps: int
) -> None:
    """With the offset that fits, samples back to back in one run give what windows give."""
    assume(not any(layer.is_recurrent for layer in graph))
    assume(
        all(
            getattr(connection.synapse, "delay", None) is None
            for layer in graph
            for connection in layer.connections
        )
    )
    assume(all(isinstance(layer.neuron, CubaNeuron) for layer in graph))
    inputs = random_input(rng, graph, samples=windows, steps=steps)
    alone = run(graph, inputs, Window())
    depth = len(graph.layers)
    tail = np.zeros((1, depth, *graph.input.shape), np.int32)
    joined = np.concatenate([inputs.reshape(1, -1, *graph.input.shape), tail], axis=1)
    timing = Stream(reset_interval=steps, reset_offset=0 if graph.has_input_neuron else 1)
    stream = run(graph, joined, timing)
    for index, (ours, theirs) in enumerate(zip(alone.spikes, stream.spikes, strict=True)):
        delay = index + (0 if graph.has_input_neuron else 1)
        part = theirs[0, delay : delay + windows * steps]
        np.testing.assert_array_equal(ours.reshape(part.shape), part)
