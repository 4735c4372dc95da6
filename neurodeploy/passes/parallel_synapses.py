"""Bring synapses that lead side by side into one population onto one kernel, or add them up.

Convolutions of one stride differ in kernel, padding and dilation; on a kernel large enough for all
of them, with zeros elsewhere, each computes as it did.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurodeploy.ir.float_layers import (
    Conv,
    Convolution,
    Dense,
    Flatten,
    FloatArray,
    Input,
    Layer,
    Shape,
    is_neuron,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.folding import Number, join_groups

Offsets = tuple[Sequence[int], Sequence[int]]
"""Rows and columns of a kernel's taps, from the pixel at the output's place."""


class Kernel(NamedTuple):
    """The taps that several convolutions share; each pair is (H, W)."""

    taps: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def at(self, offset: int, axis: int) -> int:
        """Return the index of the tap at an offset."""
        return (offset + self.padding[axis]) // self.dilation[axis]

    def place(self, offsets: Offsets, weight: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return a weight (out, in, KH, KW) whose taps lie at offsets on these, zeros elsewhere."""
        placed = np.zeros((*weight.shape[:2], *self.taps), weight.dtype)
        rows, columns = (
            np.array([self.at(offset, axis) for offset in offsets[axis]]) for axis in (0, 1)
        )
        placed[:, :, rows[:, None], columns] = weight
        return placed


def offsets_of(conv: Convolution) -> Offsets:
    """Return where the taps of a convolution lie."""
    rows, columns = conv.weight.shape[2:]
    return (
        [tap * conv.dilation[0] - conv.padding[0] for tap in range(rows)],
        [tap * conv.dilation[1] - conv.padding[1] for tap in range(columns)],
    )


def common_kernel(
    offsets: Sequence[Offsets], stride: tuple[int, int], source: Shape, output: Shape
) -> Kernel:
    """Return the smallest kernel that has a tap at every offset.

    Args:
        offsets: Of each convolution, all of one stride.
        stride: (H, W).
        source: (C, H, W) of what they read.
        output: (C, H, W) of what they give.
    """
    (rows, top, down), (columns, left, right) = (
        _common_axis(
            {offset for pair in offsets for offset in pair[axis]},
            stride[axis],
            source[axis + 1],
            output[axis + 1],
        )
        for axis in (0, 1)
    )
    return Kernel(taps=(rows, columns), padding=(top, left), dilation=(down, right))


def _common_axis(offsets: Set[int], stride: int, size: int, wanted: int) -> tuple[int, int, int]:
    """Return taps, padding and dilation of a kernel along one axis."""
    before, after = max(0, -min(offsets)), max(offsets)
    dilation = gcd(*(offset + before for offset in offsets)) or 1
    if (size + before - after - 1) // stride + 1 == wanted:
        return (before + after) // dilation + 1, before, dilation
    # Padding is the same on both sides: taps of zeros on one side make up for the difference.
    while (outputs := (size + before - after - 1) // stride + 1) != wanted:
        before, after = (before + 1, after) if outputs < wanted else (before, after + 1)
    return before + after + 1, before, 1


def join_parallel(graph: Graph) -> Graph:
    """Add up the synapses that lead from one population to another, identities included.

    W x + V x = (W + V) x. An identity skip beside a synapse becomes a part of its weights.
    """
    shapes = graph.shapes()
    for name, layer in graph.nodes.items():
        if not is_neuron(layer):
            continue
        by_origin: dict[str, list[str]] = {}
        for source in graph.sources(name):
            origin = _origin(graph, source)
            if origin not in (None, name):
                by_origin.setdefault(str(origin), []).append(source)
        for origin, synapses in by_origin.items():
            if len(synapses) > 1:
                graph = _join(graph, name, synapses, shapes[origin], shapes[name])
    return graph


def _origin(graph: Graph, name: str) -> str | None:
    """Return what a synapse or an identity reads, behind any flatten; None for other layers."""
    layer = graph.nodes[name]
    if isinstance(layer, Conv | Dense):
        (name,) = graph.sources(name)
        while isinstance(graph.nodes[name], Flatten):
            (name,) = graph.sources(name)
        layer = graph.nodes[name]
    return name if is_neuron(layer) or isinstance(layer, Input) else None


def _join(graph: Graph, name: str, synapses: list[str], source: Shape, output: Shape) -> Graph:
    """Return a graph in which one synapse stands for several between the same populations."""
    layers = [graph.nodes[synapse] for synapse in synapses]
    kept, first = next(
        (synapse, layer)
        for synapse, layer in zip(synapses, layers, strict=True)
        if isinstance(layer, Conv | Dense)
    )
    total: Layer
    if isinstance(first, Dense):
        eye = Dense(weight=np.eye(first.weight.shape[0]))
        dense = [layer if isinstance(layer, Dense) else eye for layer in layers]
        weight = np.sum([layer.weight for layer in dense], axis=0)
        total = Dense(weight=weight, bias=sum_biases(*(layer.bias for layer in dense)))
    else:
        point = Conv(weight=np.eye(source[0])[:, :, None, None])
        convs = [layer if isinstance(layer, Conv) else point for layer in layers]
        offsets = [offsets_of(conv) for conv in convs]
        kernel = common_kernel(offsets, first.stride, source, output)
        weight = np.sum(
            [
                kernel.place(places, join_groups(conv.weight, conv.groups, conv.groups))
                for places, conv in zip(offsets, convs, strict=True)
            ],
            axis=0,
        )
        total = Conv(
            weight=weight,
            bias=sum_biases(*(conv.bias for conv in convs)),
            stride=first.stride,
            padding=kernel.padding,
            dilation=kernel.dilation,
        )
    return _replace(graph, name, kept, synapses, total)


def sum_biases(*biases: FloatArray | None) -> FloatArray | None:
    """Return the sum of biases by channel, or by position where one is; None if there are none."""
    present = sorted((bias for bias in biases if bias is not None), key=np.ndim)
    if not present:
        return None
    total = present[0]
    for bias in present[1:]:
        total = total.reshape(-1, *(1,) * (bias.ndim - total.ndim)) + bias
    return total


def _replace(
    graph: Graph, name: str, kept: str, synapses: Sequence[str], total: Conv | Dense
) -> Graph:
    """Put one synapse in the place of several; those that others read as well stay for them."""
    shared = {s for s in synapses if len(graph.destinations(s)) > 1 or is_neuron(graph.nodes[s])}
    joined = kept if kept not in shared else f"{kept}@{name}"
    (reads,) = graph.sources(kept)
    gone = {s for s in synapses if s not in shared and s != kept}
    nodes: dict[str, Layer] = {}
    for node, layer in graph.nodes.items():
        if node == name and joined != kept:
            nodes[joined] = total
        if node not in gone:
            nodes[node] = total if node == joined else layer
    edges = [
        (start, end)
        for start, end in graph.edges
        if end not in gone and not (end == name and start in synapses)
    ]
    place = next(i for i, (_, end) in enumerate(graph.edges) if end == name)
    place = len([end for _, end in graph.edges[:place] if end not in gone])
    edges.insert(place, (joined, name))
    if joined != kept:
        edges.insert(place, (reads, joined))
    return Graph(nodes=nodes, edges=tuple(edges))
