"""Bring the linear layers between two populations into the form of one synapse a source.

Other frameworks add spikes up before a layer, and put several linear layers in a row. All of it is
linear, so it can be rewritten exactly, up to rounding in float64.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    AveragePool,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    Layer,
    MaxPool,
    is_neuron,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.folding import join_groups

_LINEAR = (Conv, Dense, AveragePool, GlobalAveragePool, Flatten)


def split_sums(graph: Graph) -> Graph:
    """Copy each linear layer that reads a sum, once for every term; the first keeps the bias.

    W (a + b) + c = (W a + c) + W b. The neuron that the copies lead to adds them up.

    Raises:
        GraphError: If a maximum is taken of a sum.
    """
    copies: dict[str, list[str]] = {}
    nodes: dict[str, Layer] = {}
    edges: list[tuple[str, str]] = []
    for name, layer in graph.nodes.items():
        terms = [copy for source in graph.sources(name) for copy in copies.get(source, [source])]
        if len(terms) < 2 or is_neuron(layer) or isinstance(layer, Input):
            nodes[name] = layer
            edges += [(term, name) for term in terms]
            continue
        if isinstance(layer, MaxPool) or not isinstance(layer, _LINEAR):
            raise GraphError(
                f"{name}: {type(layer).__name__} of a sum of {', '.join(terms)}; only linear "
                "layers can be applied to each term. Pool before the sum."
            )
        copies[name] = []
        for place, term in enumerate(terms):
            copy = name if not place else f"{name}@{term}"
            nodes[copy] = layer
            if place and isinstance(layer, Conv | Dense):
                nodes[copy] = dataclasses.replace(layer, bias=None)
            edges.append((term, copy))
            copies[name].append(copy)
    return Graph(nodes=nodes, edges=tuple(edges))


def compose_linear(graph: Graph) -> Graph:
    """Merge each conv or dense layer with the one that alone reads it.

    Raises:
        GraphError: If the second pads: at the border it would see the first one's bias.
    """
    for name in list(graph.nodes):
        layer = graph.nodes[name]
        readers = graph.destinations(name)
        if not isinstance(layer, Conv | Dense) or len(readers) != 1:
            continue
        second = graph.nodes[readers[0]]
        if not isinstance(second, Conv | Dense) or len(graph.sources(readers[0])) != 1:
            continue
        merged: Layer
        if isinstance(layer, Dense) and isinstance(second, Dense):
            merged = _dense_of_dense(layer, second)
        elif isinstance(layer, Conv) and isinstance(second, Conv):
            merged = _conv_of_conv(layer, second, where=f"{name} -> {readers[0]}")
        else:
            continue  # refused, by name, where populations are found
        graph = graph.replace_nodes(changed={readers[0]: merged}, removed=[name])
    return graph


def _dense_of_dense(first: Dense, second: Dense) -> Dense:
    bias = second.bias
    if first.bias is not None:
        through = second.weight @ first.bias
        bias = through if bias is None else bias + through
    return Dense(weight=second.weight @ first.weight, bias=bias)


def _conv_of_conv(first: Conv, second: Conv, *, where: str) -> Conv:
    if any(second.padding):
        raise GraphError(
            f"{where}: two convolutions without neurons between them, the second padded by "
            f"{second.padding}; only an unpadded one can be merged with the one before it."
        )
    one, two = spread_groups(first), spread_groups(second)
    extent = tuple(
        first.dilation[axis] * (one.shape[axis + 2] - 1)
        + first.stride[axis] * second.dilation[axis] * (two.shape[axis + 2] - 1)
        + 1
        for axis in (0, 1)
    )
    weight: FloatArray = np.zeros((two.shape[0], one.shape[1], *extent))
    for y in range(two.shape[2]):
        for x in range(two.shape[3]):
            through = np.tensordot(two[:, :, y, x], one, axes=1)
            top, left = (
                first.stride[axis] * second.dilation[axis] * tap for axis, tap in ((0, y), (1, x))
            )
            height, width = (
                first.dilation[axis] * (one.shape[axis + 2] - 1) + 1 for axis in (0, 1)
            )
            rows = slice(top, top + height, first.dilation[0])
            columns = slice(left, left + width, first.dilation[1])
            weight[:, :, rows, columns] += through
    bias = second.bias
    if first.bias is not None:
        if first.bias.ndim > 1:
            raise GraphError(f"{where}: a bias that differs between positions.")
        through = two.sum(axis=(2, 3)) @ first.bias
        bias = through if bias is None else bias + through
    return Conv(
        weight=weight,
        bias=bias,
        stride=(first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]),
        padding=first.padding,
    )


def spread_groups(conv: Conv) -> FloatArray:
    """Return the weight (out, in, KH, KW) of a convolution as one without groups."""
    return join_groups(conv.weight, conv.groups, conv.groups)


def flatten_explicitly(graph: Graph) -> Graph:
    """Put a flatten wherever a dense layer reads a map, and behind every mean over a whole map."""
    shapes = graph.shapes()
    nodes: dict[str, Layer] = {}
    edges: list[tuple[str, str]] = []
    for name, layer in graph.nodes.items():
        sources = graph.sources(name)
        shape = shapes[sources[0]] if sources else ()
        added: tuple[str, Layer] | None = None
        if isinstance(layer, Dense) and len(shape) > 1:
            added = f"{name}.flatten", Flatten()
        elif isinstance(layer, GlobalAveragePool):
            size = shape[1], shape[2]
            added = f"{name}.pool", AveragePool(kernel=size, stride=size)
            layer = Flatten()
        if added is not None:
            before, new = added
            while before in graph.nodes:
                before += "_"
            nodes[before] = new
            edges += [(source, before) for source in sources]
            sources = (before,)
        nodes[name] = layer
        edges += [(source, name) for source in sources]
    return Graph(nodes=nodes, edges=tuple(edges))


def settle_biases(graph: Graph) -> tuple[Graph, list[str]]:
    """Move biases of neurons into the weights before them, where no current lasts in between.

    Recurrent biases and those that differ between positions go there as well. What no weights can
    hold stays with the neuron; returned are also the neurons that have no place for it, since it
    passes through a current that lasts.
    """
    changed: dict[str, Layer] = {}
    homeless: list[str] = []
    shapes = graph.shapes()
    for name, neuron in graph.nodes.items():
        if not isinstance(neuron, Cuba | Integrator):
            continue
        is_brief = bool(np.all(np.asarray(neuron.current_decay) == 1))
        moved = np.zeros(shapes[name])
        if is_brief and neuron.bias is not None:
            moved += neuron.bias
            changed[name] = dataclasses.replace(neuron, bias=None)
        host: str | None = None
        for source in graph.sources(name):
            layer = graph.nodes[source]
            if not isinstance(layer, Conv | Dense) or graph.destinations(source) != (name,):
                continue
            is_recurrent = source == graph.recurrent_synapse(name)
            host = host if is_recurrent else host or source
            if layer.bias is not None and (is_recurrent or layer.bias.ndim > 1):
                moved += layer.bias
                changed[source] = dataclasses.replace(layer, bias=None)
        if not moved.any():
            continue
        layer = changed.get(host or name, graph.nodes[host or name])
        rows = moved.reshape(shapes[name][0], -1)
        if isinstance(layer, Conv | Dense) and np.ptp(rows, axis=1).max() == 0:
            bias = rows[:, 0] if layer.bias is None else rows[:, 0] + layer.bias
            changed[host or name] = dataclasses.replace(layer, bias=bias)
        elif is_brief:
            changed[name] = dataclasses.replace(neuron, bias=moved)
        else:
            homeless.append(name)
    return graph.replace_nodes(changed=changed), homeless
