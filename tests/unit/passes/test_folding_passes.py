"""Folding keeps the function; a pass that breaks a graph is named."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from neurodeploy.errors import GraphError, PassError
from neurodeploy.ir.float_layers import (
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    GlobalAveragePool,
    Input,
    Integrator,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import fold_batchnorm, fold_global_average_pool, run_passes


def chain(**nodes: object) -> Graph:
    names = list(nodes)
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(names)))  # type: ignore[arg-type]


def test_batchnorm_is_scaled_into_the_weights_of_its_channel() -> None:
    weight = np.arange(8.0).reshape(2, 1, 2, 2)
    graph = chain(
        input=Input(shape=(1, 4, 4)),
        conv=Conv(weight=weight, bias=np.array([1.0, 2.0])),
        norm=BatchNorm(scale=np.array([2.0, -1.0]), shift=np.array([0.5, 3.0])),
        lif=Cuba(threshold=1.0),
    )
    folded = fold_batchnorm(graph)
    conv = folded.nodes["conv"]
    assert isinstance(conv, Conv)
    assert conv.bias is not None
    assert list(folded.nodes) == ["input", "conv", "lif"]
    assert folded.edges == (("input", "conv"), ("conv", "lif"))
    assert np.array_equal(conv.weight[0], 2 * weight[0])
    assert np.array_equal(conv.weight[1], -weight[1])
    assert conv.bias.tolist() == [2.5, 1.0]
    assert "norm" in graph.nodes


def test_batchnorm_after_a_neuron_is_refused_by_name() -> None:
    graph = chain(
        input=Input(shape=(3,)),
        fc=Dense(weight=np.ones((2, 3))),
        lif=Cuba(threshold=1.0),
        norm=BatchNorm(scale=np.ones(2), shift=np.zeros(2)),
        out=Integrator(),
    )
    with pytest.raises(GraphError, match=r"norm: batch norm after lif"):
        fold_batchnorm(graph)


def test_global_average_pool_becomes_repeated_weights() -> None:
    graph = chain(
        input=Input(shape=(2, 2, 3)),
        pool=GlobalAveragePool(),
        fc=Dense(weight=np.array([[6.0, 12.0]])),
        out=Integrator(),
    )
    folded = fold_global_average_pool(graph)
    dense = folded.nodes["fc"]
    assert isinstance(dense, Dense)
    assert dense.weight.tolist() == [[1.0] * 6 + [2.0] * 6]
    assert folded.shapes()["out"] == (1,)


def test_a_pool_read_by_something_else_is_refused() -> None:
    graph = chain(input=Input(shape=(2, 2, 3)), pool=GlobalAveragePool(), out=Integrator())
    with pytest.raises(GraphError, match="pool: global average pool read by 'out'"):
        fold_global_average_pool(graph)


def test_a_pass_that_breaks_the_graph_is_named_with_those_before_it() -> None:
    graph = chain(input=Input(shape=(3,)), fc=Dense(weight=np.ones((2, 3))), out=Integrator())

    def cut_edges(graph: Graph) -> Graph:
        return Graph(nodes=graph.nodes, edges=())

    with pytest.raises(PassError, match=r"pass cut_edges \(after fold_batchnorm\)"):
        run_passes(graph, fold_batchnorm, cut_edges)


def test_a_broken_graph_is_refused_before_any_pass() -> None:
    graph = Graph(nodes={"input": Input(shape=(3,))}, edges=(("input", "nowhere"),))
    with pytest.raises(GraphError, match="no node 'nowhere'"):
        run_passes(graph, fold_batchnorm)
