"""Bring synapses that lead side by side into one population onto one kernel, or add them up.

Convolutions of one stride differ in kernel, padding and dilation; on a kernel large enough for all
of them, with zeros elsewhere, each computes as it did.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class _Taps(NamedTuple):
    """The taps of a kernel along one axis of space."""

    taps: int
    padding: int
    dilation: int

    @property
    def end(self) -> int:
        """Offset of the last tap from the pixel at the output's place."""
        return (self.taps - 1) * self.dilation - self.padding


class Kernel(NamedTuple):
    """The taps that several convolutions share; each pair is (H, W)."""

    taps: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def place(self, conv: Convolution, weight: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return the weight (out, in, KH, KW) of a convolution on these taps, zeros elsewhere."""
        placed = np.zeros((*weight.shape[:2], *self.taps), weight.dtype)
        rows, columns = (
            [
                (tap * conv.dilation[axis] - conv.padding[axis] + self.padding[axis])
                // self.dilation[axis]
                for tap in range(weight.shape[axis + 2])
            ]
            for axis in (0, 1)
        )
        placed[:, :, np.array(rows)[:, None], np.array(columns)] = weight
        return placed


def common_kernel(convs: Sequence[Convolution], source: Shape, output: Shape) -> Kernel:
    """Return the smallest kernel whose taps hold those of every convolution.

    Args:
        convs: Convolutions of one stride.
        source: (C, H, W) of what they read.
        output: (C, H, W) of what they give.
    """
    axes = []
    for axis in (0, 1):
        parts = [
            _Taps(conv.weight.shape[axis + 2], conv.padding[axis], conv.dilation[axis])
            for conv in convs
        ]
        stride = convs[0].stride[axis]
        axes.append(_common_axis(parts, stride, source[axis + 1], output[axis + 1]))
    rows, columns = axes
    return Kernel(
        taps=(rows.taps, columns.taps),
        padding=(rows.padding, columns.padding),
        dilation=(rows.dilation, columns.dilation),
    )


def _common_axis(parts: Sequence[_Taps], stride: int, size: int, wanted: int) -> _Taps:
    before, after = max(part.padding for part in parts), max(part.end for part in parts)
    steps = [part.dilation for part in parts if part.taps > 1]
    dilation = gcd(*steps, *(before - part.padding for part in parts)) or 1
    taps = (before + after) // dilation + 1
    if (size + 2 * before - (before + after + 1)) // stride + 1 == wanted:
        return _Taps(taps, before, dilation)
    # Padding is the same on both sides: taps of zeros on one side make up for the difference.
    while (outputs := (size + before - after - 1) // stride + 1) != wanted:
        before, after = (before + 1, after) if outputs < wanted else (before, after + 1)
    return _Taps(before + after + 1, before, 1)


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
        kernel = common_kernel(convs, source, output)
        weight = np.sum(
            [
                kernel.place(conv, join_groups(conv.weight, conv.groups, conv.groups))
                for conv in convs
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
