"""Random ReLU networks: the lowered chain equals the network, the integers equal a restatement."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
import restatement
from hypothesis import given, settings

from neurodeploy.conversion.converting import convert_graph
from neurodeploy.errors import ConversionError, NeurodeployWarning
from neurodeploy.interchange.floating import apply
from neurodeploy.ir.float_layers import (
    Addition,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    Input,
    Layer,
    MaxPool,
    Rectifier,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.simulation import EventSimulator, Feed, Stream

Draw = Callable[[st.SearchStrategy[int]], int]


class Builder:
    """Appends layers to a graph, on maps of one size."""

    def __init__(self, draw: Draw, rng: np.random.Generator) -> None:
        self.draw, self.rng = draw, rng
        size = 2 * draw(st.integers(2, 3))
        self.nodes: dict[str, Layer] = {"x": Input(shape=(draw(st.integers(1, 2)), size, size))}
        self.edges: list[tuple[str, str]] = []
        self.end = "x"

    def shape(self, name: str) -> tuple[int, ...]:
        return Graph(nodes=self.nodes, edges=tuple(self.edges)).shapes()[name]

    def add(self, layer: Layer, *sources: str) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes[name] = layer
        self.edges += [(source, name) for source in sources or (self.end,)]
        self.end = name
        return name

    def conv(self, outputs: int, kernel: int = 3, stride: int = 1, source: str = "") -> str:
        inputs = self.shape(source or self.end)[0]
        weight = self.rng.normal(size=(outputs, inputs, kernel, kernel)) / np.sqrt(inputs * 9)
        layer = Conv(
            weight=weight,
            bias=0.1 * self.rng.normal(size=outputs),
            stride=(stride, stride),
            padding=(kernel // 2, kernel // 2),
        )
        return self.add(layer, source or self.end)

    def rectify(self) -> str:
        kind = self.draw(st.integers(0, 4))
        if kind == 3:
            return self.add(Rectifier(ceiling=0.3))
        return self.add(Rectifier(slope=0.2) if kind == 4 else Rectifier())

    def block(self) -> None:
        channels = self.shape(self.end)[0]
        before = self.end
        match self.draw(st.integers(0, 5)):
            case 0:
                self.conv(self.draw(st.integers(1, 3)), self.draw(st.sampled_from([1, 3])))
                self.rectify()
            case 1:  # an identity skip; the input itself, where it is the first block
                self.conv(channels)
                self.add(Rectifier())
                path = self.conv(channels)
                self.add(Addition(), path, before)
                self.rectify()
            case 2:  # a projection
                outputs = self.draw(st.integers(1, 3))
                stride = self.draw(st.sampled_from([1, 2])) if self.shape(before)[1] > 2 else 1
                self.conv(outputs, stride=stride)
                self.add(Rectifier())
                path = self.conv(outputs)
                skip = self.conv(outputs, kernel=1, stride=stride, source=before)
                self.add(Addition(), path, skip)
                self.add(Rectifier())
            case 3:  # a signed bottleneck
                self.conv(self.draw(st.integers(1, 2)), kernel=1)
                self.conv(2)
                self.add(Rectifier())
            case 4:
                self.conv(2)
                self.add(Rectifier(ceiling=0.3 if self.draw(st.booleans()) else None))
                size = min(self.draw(st.integers(1, 3)), *self.shape(self.end)[1:])
                stride = self.draw(st.integers(1, 2))
                self.add(MaxPool(kernel=(size, size), stride=(stride, stride)))
            case 5:
                self.conv(2)
                count = self.shape(self.end)[0]
                self.add(
                    BatchNorm(
                        scale=self.rng.uniform(0.5, 2, count), shift=self.rng.normal(size=count) / 9
                    )
                )
                self.add(Rectifier())
                if self.shape(self.end)[1] % 2 == 0:
                    self.add(AveragePool(kernel=(2, 2), stride=(2, 2)))


@st.composite
def networks(draw: Draw) -> tuple[Graph, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    builder = Builder(draw, rng)
    for _ in range(draw(st.integers(1, 3))):
        builder.block()
    if not any(isinstance(layer, Rectifier) for layer in builder.nodes.values()):
        builder.add(Rectifier())
    builder.add(Flatten())
    inputs = builder.shape(builder.end)[0]
    builder.add(Dense(weight=rng.normal(size=(3, inputs)) / 3, bias=rng.normal(size=3) / 3))
    graph = Graph(nodes=builder.nodes, edges=tuple(builder.edges))
    frames = rng.integers(-255 if draw(st.booleans()) else 0, 256, (2, 3, *graph.input.shape))
    return graph, frames / 255


def run_plainly(graph: Graph, frames: np.ndarray) -> np.ndarray:
    sent: dict[str, np.ndarray] = {}
    for name, layer in graph.nodes.items():
        values = [sent[source] for source in graph.sources(name)]
        sent[name] = frames if isinstance(layer, Input) else apply(layer, sum(values, 0.0))
    return sent[name]


@given(networks())
@settings(settings.get_profile("lowering"), deadline=None)
def test_converted_networks(case: tuple[Graph, np.ndarray]) -> None:
    graph, frames = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeurodeployWarning)
        try:
            conversion = convert_graph(graph, frames, thresholds="none")
        except ConversionError as error:
            if "no calibration frame activates it" in str(error):
                return  # these few frames leave a layer silent
            raise
    expected = run_plainly(graph, frames)
    found = conversion.chain.run(frames.reshape(-1, *graph.input.shape))
    np.testing.assert_allclose(
        found, expected.reshape(found.shape), atol=1e-9 * max(1, np.abs(expected).max())
    )
    integers = conversion.encode(frames)
    recording = EventSimulator(conversion.graph).run(integers, timing=Stream(), feed=Feed.NEURON)
    restated = restatement.simulate(
        conversion.graph, integers[0], steps=integers.shape[1], is_stream=True
    )
    for spikes, other in zip(recording.spikes, restated.spikes, strict=True):
        assert spikes is not None
        np.testing.assert_array_equal(spikes[0], other)


def test_threshold_search_saves_operations_within_the_budget() -> None:
    rng = np.random.default_rng(0)
    builder = Builder(lambda strategy: 2, rng)
    builder.nodes["x"] = Input(shape=(1, 6, 6))
    builder.conv(4)
    builder.add(Rectifier())
    builder.conv(4)
    builder.add(Rectifier())
    builder.add(Flatten())
    builder.add(Dense(weight=rng.normal(size=(3, 144)), bias=None))
    graph = Graph(nodes=builder.nodes, edges=tuple(builder.edges))
    still = rng.integers(0, 256, (4, 1, 1, 6, 6)) + rng.integers(-3, 4, (4, 40, 1, 6, 6))
    conversion = convert_graph(graph, np.clip(still, 0, 255) / 255, error_budget=0.1)
    assert conversion.final.error <= 0.1
    assert conversion.final.operations < 0.8 * conversion.rounded.operations
    others = rng.integers(0, 256, (4, 1, 1, 6, 6)) + rng.integers(-3, 4, (4, 40, 1, 6, 6))
    frames = np.clip(others, 0, 255) / 255
    expected = run_plainly(graph, frames)
    error = np.sqrt(np.mean((conversion.run(frames) - expected) ** 2)) / expected.std()
    assert error <= 0.12


def pooled(size: tuple[int, int], kernel: tuple[int, int], stride: int = 1) -> Graph:
    """A convolution, an average pool and a read-out."""
    rng = np.random.default_rng(0)
    builder = Builder(lambda strategy: 2, rng)
    builder.nodes["x"] = Input(shape=(1, *size))
    builder.conv(2)
    builder.add(Rectifier())
    builder.add(AveragePool(kernel=kernel, stride=(stride, stride)))
    builder.add(Flatten())
    inputs = builder.shape(builder.end)[0]
    builder.add(Dense(weight=rng.normal(size=(3, inputs)), bias=None))
    return Graph(nodes=builder.nodes, edges=tuple(builder.edges))


@pytest.mark.filterwarnings("ignore:The frames have no order")
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "counts"),
    [
        ((7, 7), (7, 7), 1, [49]),
        ((8, 8), (8, 8), 1, [64]),
        ((9, 8), (9, 8), 1, [9, 8]),
        ((1, 100), (1, 100), 1, [10, 10]),
        ((24, 10), (12, 8), 6, [12, 8]),
        ((1, 160), (1, 96), 32, [8, 12]),
        ((40, 40), (40, 40), 1, [40, 40]),
    ],
)
def test_means_of_many_values_are_taken_in_steps(
    size: tuple[int, int], kernel: tuple[int, int], stride: int, counts: list[int]
) -> None:
    graph = pooled(size, kernel, stride)
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (100, 1, *size)) * rng.integers(1, 4, (100, 1, 1, 1)) / 765
    conversion = convert_graph(graph, frames)
    pools = [layer.synapse.weight for layer in conversion.chain.layers if layer.is_pool]
    assert [weight[0].size for weight in pools] == counts
    expected = run_plainly(graph, frames[:, None])[:, 0]
    found = conversion.chain.run(frames)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())
    assert conversion.rounded.error < 0.05


def test_a_mean_of_a_large_prime_number_of_values_is_refused() -> None:
    """67 equal values: their mean needs the scale that each of them has."""
    plain = pooled((1, 67), (1, 67))
    conv = Conv(weight=np.ones((2, 1, 1, 1)), bias=np.zeros(2))
    graph = Graph(nodes={**plain.nodes, "n1": conv}, edges=plain.edges)
    frames = np.repeat(np.arange(156, 256).reshape(-1, 1, 1, 1) / 255, 67, axis=3)
    with pytest.raises(ConversionError, match="the mean of 67 values does not fit"):
        convert_graph(graph, frames)
