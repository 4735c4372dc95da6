"""Sums in windows: every shape that the kernel knows, blocks cut short, and silence."""

from __future__ import annotations

import numpy as np
import pytest
from compiled_runs import assert_equal_to_numpy

from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation import EventSimulator, Record, Stream, Window
from neurodeploy.simulation.kernels.compiled_layer import CompiledLayer, compile_layer
from neurodeploy.simulation.kernels.layouts.windows import WINDOW_SHAPES, window_vectors_most

GEOMETRIES = [
    (outputs, kernel, stride)
    for outputs in (3, 16, 30, 32, 64)
    for kernel, stride in ((1, 1), (3, 1), (3, 2))
]
"""Channels, kernel and stride of the layers that are read in windows."""


def lif(threshold: int) -> CubaNeuron:
    return CubaNeuron(
        current_decay=np.array(4096, np.int32),
        voltage_decay=np.array(1000, np.int32),
        threshold=np.array(threshold, np.int32),
    )


def conv(
    rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...], outputs: int,
    kernel: int, stride: int, *, largest: int = 60,
) -> FixedLayer:  # fmt: skip
    weight = rng.integers(-largest, largest + 1, (outputs, shape[0], kernel, kernel))
    padding = (int(rng.integers(0, kernel)), int(rng.integers(0, kernel)))
    synapse = FixedConv(
        weight=2 * weight.astype(np.int32), stride=(stride, stride), padding=padding
    )
    return FixedLayer(
        name=name,
        shape=synapse.output_shape(shape),
        connections=(Connection(source=source, synapse=synapse),),
        neuron=lif(largest),
        bias=np.array(0, np.int32),
    )


def two_convs(
    rng: np.random.Generator, channels: int, geometry: tuple[int, int, int], *, largest: int = 60
) -> FixedPointGraph:
    """A layer of spikes, and one behind it."""
    port = (2, int(rng.integers(5, 8)), int(rng.integers(5, 11)))
    first = conv(rng, "first", INPUT, port, channels, 1, 1)
    second = conv(rng, "second", "first", first.shape, *geometry, largest=largest)
    return FixedPointGraph(input=FixedInput(shape=port), layers=(first, second))


def compiled(graph: FixedPointGraph) -> CompiledLayer:
    layer = compile_layer(graph, graph.layers[-1], largest_input=1)
    assert layer is not None
    return layer


def has_windows(graph: FixedPointGraph) -> bool:
    spreading = compiled(graph).spreading
    return spreading is not None and all(spreading.has_windows)


def samples(rng: np.random.Generator, graph: FixedPointGraph, activity: float) -> np.ndarray:
    return (rng.random((2, 3, *graph.input.shape)) < activity).astype(np.int32)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_windows_add_up_what_events_do(geometry: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(sum(geometry))
    for channels in (1, 5, 16, 20, 32, 64):
        graph = two_convs(rng, channels, geometry)
        timing = (Window(), Stream(reset_interval=2))[channels % 2]
        for activity in (0.01, 0.3, 1):
            assert_equal_to_numpy(graph, samples(rng, graph, activity), timing)


def test_every_shape_of_a_window_is_met() -> None:
    rng, found = np.random.default_rng(0), set()
    for geometry in GEOMETRIES:
        for channels in (16, 32, 64):
            spreading = compiled(two_convs(rng, channels, geometry)).spreading
            if spreading is not None and spreading.has_windows == [True]:
                vectors, advance = (int(spreading.spreads[0][k]) for k in ("vectors", "advance"))
                found |= {(int(n), vectors, advance) for n in spreading.lines["lines"] if n}
    largest = {shape[1:]: 0 for shape in WINDOW_SHAPES}
    for lines, vectors, advance in WINDOW_SHAPES:  # a layer has all lines of its kind, or none
        largest[vectors, advance] = max(largest[vectors, advance], lines * vectors)
    most = window_vectors_most()
    assert found == {shape for shape in WINDOW_SHAPES if largest[shape[1:]] <= most}


def test_sums_that_may_pass_16_bits_are_added_up_elsewhere() -> None:
    """A line of 3 x 32 weights of at most 340 is below 2**15, one of 1,000 is not."""
    rng = np.random.default_rng(0)
    narrow = two_convs(rng, 32, (16, 3, 1), largest=170)
    wide = two_convs(rng, 32, (16, 3, 1), largest=1000)
    assert has_windows(narrow)
    assert not has_windows(wide)
    for graph in (narrow, wide):  # all spike, and all sums together need 32 bits
        assert_equal_to_numpy(graph, samples(rng, graph, 1), Window())


def test_spikes_that_only_windows_read_are_not_listed() -> None:
    """Counting updates searches lists; all results are the same with and without."""
    rng = np.random.default_rng(0)
    graph = two_convs(rng, 32, (32, 3, 1))
    inputs = samples(rng, graph, 0.3)
    listed = EventSimulator(graph).run(inputs, record=Record(counts=True))
    unlisted = EventSimulator(graph).run(inputs, record=Record(counts=True, updates=False))
    for one, other in zip(listed.spikes, unlisted.spikes, strict=True):
        np.testing.assert_array_equal(one, other)
    assert listed.spike_totals() == unlisted.spike_totals()
    assert listed.events is not None
    for counted, spikes in zip(listed.events, listed.spikes, strict=True):
        np.testing.assert_array_equal(counted.total, spikes.sum(axis=1))
