"""Synapses side by side are added up, on a kernel that holds the taps of all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurodeploy.interchange.floating import run_graph
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Input, Layer
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.parallel_synapses import common_kernel, join_parallel, offsets_of


@pytest.mark.parametrize(
    ("geometries", "stride"),
    [
        (((3, 1, 1), (1, 0, 1)), (1, 1)),
        (((3, 1, 1), (1, 0, 1)), (2, 2)),
        (((3, 2, 2), (5, 2, 1)), (1, 1)),
        (((3, 2, 2), (1, 0, 1)), (1, 2)),
        (((2, 0, 1), (3, 0, 1)), (3, 2)),  # two sizes of kernel, one size of output
        (((3, 3, 3), (1, 0, 1), (5, 6, 3)), (1, 1)),
        (((4, 2, 1), (1, 0, 1)), (2, 2)),
    ],
)
def test_each_computes_as_it_did(
    geometries: tuple[tuple[int, int, int], ...], stride: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    convs = [
        Conv(
            weight=rng.normal(size=(3, 2, taps, taps)),
            stride=stride,
            padding=(padding, padding),
            dilation=(dilation, dilation),
        )
        for taps, padding, dilation in geometries
    ]
    source = (2, 9, 9)
    output = convs[0].output_shape(source)
    assert {conv.output_shape(source) for conv in convs} == {output}
    kernel = common_kernel([offsets_of(conv) for conv in convs], stride, source, output)
    x = torch.from_numpy(rng.normal(size=(2, *source)))
    for conv in convs:
        expected = functional.conv2d(
            x, torch.from_numpy(conv.weight), None, stride, conv.padding, conv.dilation
        )
        placed = torch.from_numpy(kernel.place(offsets_of(conv), conv.weight))
        ours = functional.conv2d(x, placed, None, stride, kernel.padding, kernel.dilation)
        torch.testing.assert_close(ours, expected)


def test_the_kernel_is_no_larger_than_needed() -> None:
    point, wide = Conv(weight=np.ones((1, 1, 1, 1))), Conv(weight=np.ones((1, 1, 3, 3)))
    spread = Conv(weight=np.ones((1, 1, 3, 3)), padding=(2, 2), dilation=(2, 2))
    both = [offsets_of(point), offsets_of(spread)]
    assert common_kernel(both, (1, 1), (1, 9, 9), (1, 9, 9)) == ((3, 3), (2, 2), (2, 2))
    alone = common_kernel([offsets_of(wide)], (1, 1), (1, 9, 9), (1, 7, 7))
    assert alone == ((3, 3), (0, 0), (1, 1))


def network(synapse: Layer, shape: tuple[int, ...], *more: tuple[str, Layer, str]) -> Graph:
    """Two populations; the second reads the first through a synapse and as it is."""
    nodes: dict[str, Layer] = {
        "input": Input(shape=shape),
        "entry": Dense(weight=np.eye(shape[0])) if len(shape) == 1 else (
            Conv(weight=np.eye(shape[0])[:, :, None, None])
        ),
        "a": Cuba(threshold=0.5, voltage_decay=0.5),
        "synapse": synapse,
        "b": Cuba(threshold=0.5, voltage_decay=0.5),
    }  # fmt: skip
    edges = [("input", "entry"), ("entry", "a"), ("a", "synapse"), ("synapse", "b"), ("a", "b")]
    for name, layer, source in more:
        nodes[name] = layer
        edges.append((source, name))
    return Graph(nodes=nodes, edges=tuple(edges))


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("shape", [(6,), (2, 5, 5)])
def test_an_identity_becomes_a_part_of_the_synapse(
    shape: tuple[int, ...], *, is_shared: bool
) -> None:
    rng = np.random.default_rng(1)
    bias = rng.integers(-4, 5, shape[0]) / 8
    synapse: Layer = (
        Dense(weight=rng.integers(-8, 9, (6, 6)) / 8, bias=bias)
        if len(shape) == 1
        else Conv(weight=rng.integers(-8, 9, (2, 1, 3, 3)) / 8, bias=bias, padding=(1, 1), groups=2)
    )
    other = ("c", Cuba(threshold=0.25), "synapse")
    graph = network(synapse, shape, *([other] if is_shared else []))
    joined = join_parallel(graph)
    assert joined.sources("b") == ("synapse@b" if is_shared else "synapse",)
    samples = rng.integers(0, 2, (3, 12, *shape)).astype(np.float64)
    before, after = run_graph(graph, samples).values, run_graph(joined, samples).values
    for name, spikes in before.items():
        np.testing.assert_array_equal(spikes, after[name])
        assert 0.05 < spikes.mean() < 0.95


def test_a_recurrent_synapse_stays_apart() -> None:
    back = ("back", Dense(weight=np.eye(6)), "b")
    graph = network(Dense(weight=np.eye(6)), (6,), back)
    graph = Graph(nodes=graph.nodes, edges=(*graph.edges, ("back", "b")))
    joined = join_parallel(graph)
    assert joined.sources("b") == ("synapse", "back")
    assert joined.recurrent_synapse("b") == "back"
