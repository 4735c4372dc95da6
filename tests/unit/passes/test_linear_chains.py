"""Linear layers in a row, or behind a sum, compute what they did."""

from __future__ import annotations

import dataclasses
import itertools
from math import prod

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurodeploy.errors import GraphError
from neurodeploy.interchange.floating import run_graph
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Input,
    Integrator,
    Layer,
    MaxPool,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import fold_average_pool, run_passes
from neurodeploy.passes.linear_chains import compose_linear, separate_paths, split_sums
from neurodeploy.passes.parallel_synapses import join_parallel
from neurodeploy.passes.quantization import find_populations


def chain(**nodes: Layer) -> Graph:
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(nodes)))


def conv_of(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    assert isinstance(layer, Conv)
    return functional.conv2d(
        x,
        torch.from_numpy(layer.weight),
        None if layer.bias is None else torch.from_numpy(layer.bias),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
def test_two_convolutions_in_a_row_are_one(biases: tuple[bool, bool]) -> None:
    """Strides, dilations and groups of both, apart for height and width."""
    rng = np.random.default_rng(0)
    first = Conv(
        weight=rng.normal(size=(6, 2, 2, 3)),
        bias=rng.normal(size=6) if biases[0] else None,
        stride=(2, 1),
        padding=(1, 2),
        dilation=(2, 1),
        groups=2,
    )
    second = Conv(
        weight=rng.normal(size=(3, 2, 3, 2)),
        bias=rng.normal(size=3) if biases[1] else None,
        stride=(1, 2),
        dilation=(1, 3),
        groups=3,
    )
    graph = chain(input=Input(shape=(4, 13, 12)), a=first, b=second, out=Cuba(threshold=1.0))
    merged = compose_linear(graph)
    assert list(merged.nodes) == ["input", "b", "out"]
    assert merged.shapes()["out"] == graph.shapes()["out"]
    x = torch.from_numpy(rng.normal(size=(2, 4, 13, 12)))
    torch.testing.assert_close(conv_of(merged.nodes["b"], x), conv_of(second, conv_of(first, x)))


def test_two_dense_layers_in_a_row_are_one() -> None:
    first = Dense(weight=np.array([[1.0, 2.0], [3.0, 4.0]]), bias=np.array([1.0, -1.0]))
    second = Dense(weight=np.array([[1.0, 10.0]]), bias=np.array([0.5]))
    merged = compose_linear(chain(input=Input(shape=(2,)), a=first, b=second, out=Integrator()))
    dense = merged.nodes["b"]
    assert isinstance(dense, Dense)
    assert dense.bias is not None
    assert (dense.weight.tolist(), dense.bias.tolist()) == ([[31.0, 42.0]], [-8.5])


def test_padding_behind_a_kernel_is_refused() -> None:
    conv = Conv(weight=np.ones((1, 1, 3, 3)), padding=(1, 1))
    twice = chain(input=Input(shape=(1, 3, 3)), a=conv, b=conv, out=Cuba(threshold=1.0))
    with pytest.raises(GraphError, match=r"a -> b: .*the second padded by \(1, 1\)"):
        compose_linear(twice)


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_padding_behind_a_point_sees_no_bias_beyond_the_border(stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    first = Conv(weight=rng.normal(size=(3, 2, 1, 1)), bias=rng.normal(size=3), stride=stride)
    second = Conv(
        weight=rng.normal(size=(4, 3, 3, 2)), bias=rng.normal(size=4), padding=(1, 2), stride=(2, 1)
    )
    graph = chain(input=Input(shape=(2, 9, 8)), a=first, b=second, out=Cuba(threshold=1.0))
    merged = compose_linear(graph)
    assert list(merged.nodes) == ["input", "b", "out"]
    x = torch.from_numpy(rng.normal(size=(1, 2, 9, 8)))
    layer = merged.nodes["b"]
    assert isinstance(layer, Conv)
    assert layer.bias is not None
    linear = dataclasses.replace(layer, bias=None)
    ours = conv_of(linear, x) + torch.from_numpy(layer.bias)
    torch.testing.assert_close(ours, conv_of(second, conv_of(first, x)))


def test_a_convolution_and_a_dense_layer_are_one_dense_layer() -> None:
    rng = np.random.default_rng(2)
    conv = Conv(
        weight=rng.normal(size=(4, 1, 3, 2)),
        bias=rng.normal(size=4),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(1, 2),
        groups=2,
    )
    shape = conv.output_shape((2, 6, 5))
    dense = Dense(weight=rng.normal(size=(3, prod(shape))), bias=rng.normal(size=3))
    graph = chain(
        input=Input(shape=(2, 6, 5)), a=conv, flat=Flatten(), b=dense, out=Cuba(threshold=1.0)
    )
    merged = compose_linear(graph)
    assert list(merged.nodes) == ["input", "flat", "b", "out"]
    x = torch.from_numpy(rng.normal(size=(7, 2, 6, 5)))
    whole = merged.nodes["b"]
    assert isinstance(whole, Dense)
    assert dense.bias is not None
    ours = x.flatten(1).numpy() @ whole.weight.T + whole.bias
    theirs = conv_of(conv, x).flatten(1).numpy() @ dense.weight.T + dense.bias
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_dense_layer_too_large_is_refused() -> None:
    conv = Conv(weight=np.ones((1, 1, 1, 1)), stride=(1000, 1000))
    graph = chain(
        input=Input(shape=(1, 5000, 5000)), a=conv, b=Dense(weight=np.ones((3, 25))),
        out=Integrator(),
    )  # fmt: skip
    with pytest.raises(GraphError, match="b: without neurons before it"):
        compose_linear(graph)


def test_a_layer_behind_a_sum_is_applied_to_every_term_and_its_bias_once() -> None:
    nodes: dict[str, Layer] = {
        "input": Input(shape=(2,)),
        "fc": Dense(weight=np.eye(2)),
        "a": Cuba(threshold=1.0),
        "back": Dense(weight=np.eye(2)),
        "b": Cuba(threshold=1.0),
        "read": Dense(weight=np.array([[1.0, -1.0]]), bias=np.array([3.0])),
        "out": Integrator(),
    }
    edges = (*itertools.pairwise(nodes), ("a", "read"))
    split = split_sums(Graph(nodes=nodes, edges=edges))
    first, copy = split.nodes["read"], split.nodes["read@a"]
    assert isinstance(first, Dense)
    assert isinstance(copy, Dense)
    assert first.bias is not None
    assert (first.bias.tolist(), copy.bias) == ([3.0], None)
    assert split.sources("out") == ("read", "read@a")
    assert (split.sources("read"), split.sources("read@a")) == (("b",), ("a",))


def test_a_maximum_of_a_sum_is_refused() -> None:
    nodes: dict[str, Layer] = {
        "input": Input(shape=(1, 2, 2)),
        "conv": Conv(weight=np.ones((1, 1, 1, 1))),
        "a": Cuba(threshold=1.0),
        "more": Conv(weight=np.ones((1, 1, 1, 1))),
        "b": Cuba(threshold=1.0),
        "last": MaxPool(kernel=(2, 2), stride=(2, 2)),
    }
    edges = (*itertools.pairwise(nodes), ("a", "last"))
    with pytest.raises(GraphError, match="last: MaxPool of a sum of b, a"):
        split_sums(Graph(nodes=nodes, edges=edges))


def dyadic(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Values whose sums and products are exact in float64."""
    return rng.integers(-8, 9, shape) / 8


def test_paths_that_part_and_meet_get_layers_of_their_own() -> None:
    """One convolution is read by a neuron, a batch norm and two pools; batch norms read sums."""
    rng = np.random.default_rng(6)

    def norm(channels: int) -> BatchNorm:
        return BatchNorm(scale=dyadic(rng, channels), shift=dyadic(rng, channels))

    def cuba() -> Cuba:
        return Cuba(threshold=0.5, voltage_decay=0.5)

    nodes: dict[str, Layer] = {
        "input": Input(shape=(2, 8, 8)),
        "conv": Conv(weight=dyadic(rng, 3, 2, 3, 3), bias=dyadic(rng, 3), padding=(1, 1)),
        "a": cuba(),
        "norm": norm(3),
        "b": cuba(),
        "pool": AveragePool(kernel=(2, 2), stride=(2, 2)),
        "again": AveragePool(kernel=(2, 2), stride=(2, 2)),
        "point": Conv(weight=dyadic(rng, 3, 3, 1, 1), bias=dyadic(rng, 3), stride=(4, 4)),
        "sum": norm(3),
        "c": cuba(),
        "flat": Flatten(),
        "flat norm": norm(12),
        "last": Dense(weight=dyadic(rng, 4, 12), bias=dyadic(rng, 4)),
        "out": Integrator(),
    }
    edges = (
        ("input", "conv"), ("conv", "a"), ("conv", "norm"), ("norm", "b"), ("conv", "pool"),
        ("pool", "again"), ("again", "sum"), ("a", "point"), ("b", "point"), ("point", "sum"),
        ("sum", "c"), ("c", "flat"), ("flat", "flat norm"), ("again", "flat"),
        ("flat norm", "last"), ("last", "out"),
    )  # fmt: skip
    graph = Graph(nodes=nodes, edges=edges)
    folded = run_passes(graph, separate_paths, fold_average_pool, compose_linear, join_parallel)
    samples = rng.integers(0, 2, (4, 9, 2, 8, 8)).astype(np.float64)
    before, after = run_graph(graph, samples).values, run_graph(folded, samples).values
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name], err_msg=name)
        assert np.abs(values).mean() > 0.01
    for population in find_populations(folded):
        sources = [branch.source for branch in population.branches]
        assert len(set(sources)) == len(sources), population.name


def test_paths_without_end_are_refused() -> None:
    """Each of 16 layers reads the two before it: the number of paths doubles with each."""
    nodes: dict[str, Layer] = {"input": Input(shape=(2,)), "0": Dense(weight=np.eye(2))}
    edges = [("input", "0")]
    for place in range(1, 32, 2):
        for branch in (place, place + 1):
            nodes[str(branch)] = Dense(weight=np.eye(2))
            edges += [(str(place - 1), str(branch))] + [(str(place - 2), str(branch))] * (place > 1)
    nodes["out"] = Integrator()
    edges += [("32", "out"), ("31", "out")]
    with pytest.raises(GraphError, match="there are more than 4096"):
        separate_paths(Graph(nodes=nodes, edges=tuple(edges)))
