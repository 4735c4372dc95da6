"""Pruning of float graphs: which weights go, and what shrinking leaves unchanged."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from neurodeploy.errors import GraphError, QuantizationError
from neurodeploy.ir.float_layers import (
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    MaxPool,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import pruning
from neurodeploy.passes.pruning import (
    magnitude_masks,
    pattern_masks,
    prune_channels,
    prune_weights,
    zero_share,
)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def graph(*, skip: bool = False, head: str = "flatten") -> Graph:
    nodes = {
        "input": Input(shape=(2, 4, 4)),
        "a.synapse": Conv(weight=drawn(6, 2, 3, 3), bias=drawn(6, seed=9), padding=(1, 1)),
        "a": Cuba(threshold=0.5),
        "b.synapse": Conv(weight=drawn(6, 6, 3, 3, seed=1), padding=(1, 1)),
        "b": Cuba(threshold=0.5),
        "pool": MaxPool(kernel=(2, 2), stride=(2, 2)),
        "head": Flatten() if head == "flatten" else GlobalAveragePool(),
        "out.synapse": Dense(weight=drawn(3, 24 if head == "flatten" else 6, seed=2)),
        "out": Integrator(),
    }
    edges = [
        ("input", "a.synapse"),
        ("a.synapse", "a"),
        ("a", "b.synapse"),
        ("b.synapse", "b"),
        *([("a", "b")] if skip else []),
        ("b", "pool"),
        ("pool", "head"),
        ("head", "out.synapse"),
        ("out.synapse", "out"),
    ]
    return Graph(nodes=nodes, edges=tuple(edges))


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.75, 0.99])
def test_the_smallest_of_all_layers_go(sparsity: float) -> None:
    weights = {"a": drawn(7, 5), "b": 10 * drawn(4, 5, seed=1)}
    masks = magnitude_masks(weights, sparsity=sparsity)
    every = np.sort(np.concatenate([np.abs(w).ravel() for w in weights.values()]))
    bound = every[round(sparsity * every.size)] if sparsity < 0.99 else every[-1]
    for name, weight in weights.items():
        expected = np.abs(weight) >= bound
        expected |= np.abs(weight) == np.abs(weight).max()  # a layer never loses all of them
        assert np.array_equal(masks[name], expected)


def test_each_layer_loses_the_same_share() -> None:
    masks = magnitude_masks({"a": drawn(8, 5), "b": drawn(4, 5)}, sparsity=0.5, scope="layer")
    assert [int(mask.sum()) for mask in masks.values()] == [20, 10]


@pytest.mark.parametrize("inputs", [8, 10])
def test_two_of_four_inputs_stay(inputs: int) -> None:
    weight = drawn(3, inputs, 2, 2)
    mask = pattern_masks({"a": weight}, pattern="2:4")["a"]
    for out, ky, kx in np.ndindex(3, 2, 2):
        for first in range(0, inputs, 4):
            group = np.abs(weight[out, first : first + 4, ky, kx])
            kept = mask[out, first : first + 4, ky, kx]
            assert int(kept.sum()) == 2
            assert set(np.flatnonzero(kept)) == set(np.argsort(-group)[:2])


def test_weights_become_zero_and_nothing_else_changes() -> None:
    whole = graph()
    pruned = prune_weights(whole, sparsity=0.6)
    assert zero_share(whole) == 0
    assert zero_share(pruned) == pytest.approx(0.6, abs=0.005)
    for name, layer in whole.nodes.items():
        if isinstance(layer, Conv | Dense):
            other = pruned.nodes[name]
            assert isinstance(other, Conv | Dense)
            kept = other.weight != 0
            assert np.array_equal(other.weight[kept], layer.weight[kept])
            assert other.bias is layer.bias
        else:
            assert pruned.nodes[name] is layer


@pytest.mark.parametrize("head", ["flatten", "gap"])
def test_the_weakest_channels_go_with_all_that_reads_them(head: str) -> None:
    whole = graph(head=head)
    small = prune_channels(whole, 0.5)
    shapes = small.shapes()
    assert (shapes["a"], shapes["b"], shapes["out"]) == ((3, 4, 4), (3, 4, 4), (3,))
    first, second = whole.nodes["a.synapse"], whole.nodes["b.synapse"]
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    strong = np.sort(np.argsort(-np.abs(first.weight).sum((1, 2, 3)))[:3])
    strong_b = np.sort(np.argsort(-np.abs(second.weight[:, strong]).sum((1, 2, 3)))[:3])
    small_a, small_b = small.nodes["a.synapse"], small.nodes["b.synapse"]
    assert isinstance(small_a, Conv)
    assert isinstance(small_b, Conv)
    assert np.array_equal(small_a.weight, first.weight[strong])
    assert np.array_equal(small_a.bias, first.bias[strong])
    assert np.array_equal(small_b.weight, second.weight[strong_b][:, strong])
    reader, read = whole.nodes["out.synapse"], small.nodes["out.synapse"]
    assert isinstance(reader, Dense)
    assert isinstance(read, Dense)
    columns = reader.weight.reshape(3, 6, -1)[:, strong_b].reshape(3, -1)
    assert np.array_equal(read.weight, columns)


def test_channels_of_a_skip_stay() -> None:
    with pytest.raises(QuantizationError, match="belong to skip connections"):
        prune_channels(graph(skip=True), 0.5)


class Unknown:
    """A layer that no part of the package knows."""

    def output_shape(self, source: tuple[int, ...]) -> tuple[int, ...]:
        return source


def test_layers_of_an_unknown_kind_are_not_passed_over() -> None:
    whole = graph()
    strange = Graph(nodes={**whole.nodes, "b": cast(Cuba, Unknown())}, edges=whole.edges)
    with pytest.raises(GraphError, match="a layer of type Unknown"):
        prune_channels(strange, 0.5)


def test_only_neurons_that_can_shrink_are_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "is_neuron", lambda layer: not isinstance(layer, Input))
    with pytest.raises(GraphError, match=r"'a\.synapse' holds neurons of type Conv"):
        prune_channels(graph(), 0.5)


def test_channels_of_a_grouped_convolution_stay() -> None:
    """Without its partner a channel would read another group's inputs."""
    whole = graph()
    grouped = Conv(weight=drawn(6, 1, 3, 3), padding=(1, 1), groups=2)
    nodes = {**whole.nodes, "a.synapse": grouped}
    small = prune_channels(Graph(nodes=nodes, edges=whole.edges), 0.5)
    assert small.nodes["a.synapse"] is grouped
    shapes = small.shapes()
    assert (shapes["a"], shapes["b"]) == ((6, 4, 4), (3, 4, 4))


def test_what_cannot_be_pruned_is_refused() -> None:
    whole = graph()
    for call in (
        lambda: prune_weights(whole, sparsity=1.0),
        lambda: prune_weights(whole, sparsity=0.5, pattern="2:4"),
        lambda: prune_weights(whole, pattern="5:4"),
        lambda: prune_channels(whole, -0.1),
    ):
        with pytest.raises(QuantizationError, match="pruning"):
            call()
    unfolded = Graph(
        nodes={**whole.nodes, "bn": BatchNorm(scale=np.ones(6), shift=np.zeros(6))},
        edges=whole.edges,
    )
    with pytest.raises(QuantizationError, match="batch norm is not folded"):
        prune_weights(unfolded, sparsity=0.5)


def test_a_graph_without_weights_has_no_zeros() -> None:
    assert zero_share(Graph(nodes={"input": Input(shape=(3,))}, edges=())) == 0
