"""Linear layers in a row, or behind a sum, compute what they did."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurodeploy.errors import GraphError
from neurodeploy.ir.float_layers import (
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Input,
    Integrator,
    Layer,
    MaxPool,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.linear_chains import compose_linear, split_sums


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


def test_a_dense_layer_stays_apart_from_a_convolution_and_padding_is_refused() -> None:
    conv = Conv(weight=np.ones((1, 1, 3, 3)), padding=(1, 1))
    mixed = chain(
        input=Input(shape=(1, 3, 3)), a=conv, b=Dense(weight=np.ones((2, 9))), out=Integrator()
    )
    assert list(compose_linear(mixed).nodes) == list(mixed.nodes)
    twice = chain(input=Input(shape=(1, 3, 3)), a=conv, b=conv, out=Cuba(threshold=1.0))
    with pytest.raises(GraphError, match=r"a -> b: .*the second padded by \(1, 1\)"):
        compose_linear(twice)


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


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (MaxPool(kernel=(2, 2), stride=(2, 2)), "last: MaxPool of a sum of b, a"),
        (BatchNorm(scale=np.ones(1), shift=np.ones(1)), "last: BatchNorm of a sum of b, a"),
    ],
)
def test_what_cannot_be_applied_to_each_term_of_a_sum_is_refused(last: Layer, message: str) -> None:
    nodes: dict[str, Layer] = {
        "input": Input(shape=(1, 2, 2)),
        "conv": Conv(weight=np.ones((1, 1, 1, 1))),
        "a": Cuba(threshold=1.0),
        "more": Conv(weight=np.ones((1, 1, 1, 1))),
        "b": Cuba(threshold=1.0),
        "last": last,
    }
    edges = (*itertools.pairwise(nodes), ("a", "last"))
    with pytest.raises(GraphError, match=message):
        split_sums(Graph(nodes=nodes, edges=edges))
