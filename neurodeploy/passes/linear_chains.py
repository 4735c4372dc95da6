"""Bring the linear layers between two populations into the form of one synapse a source.

Other frameworks add spikes up before a layer, and put several linear layers in a row. All of it is
linear, so it can be rewritten exactly, up to rounding in float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from math import prod

import numpy as np

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    Layer,
    MaxPool,
    Shape,
    is_neuron,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.folding import fold_batchnorm, join_groups
from neurodeploy.passes.parallel_synapses import common_kernel, offsets_of, sum_biases

_LINEAR = (Conv, Dense, BatchNorm, AveragePool, GlobalAveragePool, Flatten)
_LAYERS_MAX = 1 << 12
"""Layers with their copies, so that paths that part and meet over and over end in an error."""
_WEIGHTS_MAX = 1 << 26
"""Weights of a dense layer that stands for a convolution and the dense layer behind it."""


def separate_paths(graph: Graph) -> Graph:
    """Copy shared linear layers, so that each path between two populations has its own.

    Batch norm becomes weights. Neurons that read the same layer go on sharing it.

    Raises:
        GraphError: If a maximum is taken of a sum, or there are too many paths.
    """
    return fold_batchnorm(_spell_out_batchnorm(split_sums(_split_readers(graph))))


def _split_readers(graph: Graph) -> Graph:
    """Copy each linear layer that other layers without neurons read, once for each of them."""
    inputs = {name: list(graph.sources(name)) for name in graph.nodes}
    readers = {name: list(graph.destinations(name)) for name in graph.nodes}
    copies: dict[str, list[str]] = {name: [name] for name in graph.nodes}
    neurons = {name for name, layer in graph.nodes.items() if is_neuron(layer)}
    for name in reversed(list(graph.nodes)):
        layer = graph.nodes[name]
        apart = [reader for reader in readers[name] if reader not in neurons]
        if not isinstance(layer, _LINEAR) or not apart or len(readers[name]) < 2:
            continue
        if len(apart) == len(readers[name]):
            apart = apart[1:]  # one reader keeps the layer itself
        for reader in apart:
            copy = _free_name(f"{name}@{reader}", inputs)
            copies[name].append(copy)
            inputs[copy], readers[copy] = list(inputs[name]), [reader]
            readers[name].remove(reader)
            inputs[reader][inputs[reader].index(name)] = copy
            for source in inputs[copy]:
                readers[source].append(copy)
        if len(inputs) > _LAYERS_MAX:
            raise GraphError(
                f"{name}: with a layer for each path from one population to another there are more "
                f"than {_LAYERS_MAX}. Put neurons where paths meet."
            )
    return Graph(
        nodes={copy: layer for name, layer in graph.nodes.items() for copy in copies[name]},
        edges=tuple(
            (source, copy)
            for name in graph.nodes
            for copy in copies[name]
            for source in inputs[copy]
        ),
    )


def _free_name(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def split_sums(graph: Graph) -> Graph:
    """Copy each linear layer that reads a sum, once for every term; the first keeps the bias.

    W (a + b) + c = (W a + c) + W b. The neuron that the copies lead to adds them up.

    Raises:
        GraphError: If a maximum is taken of a sum, or there would be too many copies.
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
            copy = name if not place else _free_name(f"{name}@{term}", {*nodes, *graph.nodes})
            nodes[copy] = layer
            if place and isinstance(layer, Conv | Dense):
                nodes[copy] = dataclasses.replace(layer, bias=None)
            elif place and isinstance(layer, BatchNorm):
                nodes[copy] = dataclasses.replace(layer, shift=np.zeros_like(layer.shift))
            edges.append((term, copy))
            copies[name].append(copy)
        if len(nodes) > _LAYERS_MAX:
            raise GraphError(
                f"{name}: with a layer for each term of the sums before it there are more than "
                f"{_LAYERS_MAX}. Put neurons behind sums."
            )
    return Graph(nodes=nodes, edges=tuple(edges))


def _spell_out_batchnorm(graph: Graph) -> Graph:
    """Write each batch norm that follows no conv or dense layer of its own as one."""
    shapes = graph.shapes()
    changed: dict[str, Layer] = {}
    for name, layer in graph.nodes.items():
        if not isinstance(layer, BatchNorm):
            continue
        (source,) = graph.sources(name)
        before = graph.nodes[source]
        if isinstance(before, Conv | Dense) and graph.destinations(source) == (name,):
            continue
        if len(shapes[name]) == 3:
            changed[name] = Conv(
                weight=layer.scale[:, None, None, None], bias=layer.shift, groups=len(layer.scale)
            )
        else:
            _require_fit(len(layer.scale) ** 2, name)
            changed[name] = Dense(weight=np.diag(layer.scale), bias=layer.shift)
    return graph.replace_nodes(changed=changed) if changed else graph


def _require_fit(weights: int, name: str) -> None:
    if weights > _WEIGHTS_MAX:
        raise GraphError(
            f"{name}: without neurons before it, it becomes a dense layer of {weights} weights; at "
            f"most {_WEIGHTS_MAX} are allowed."
        )


def compose_linear(graph: Graph) -> Graph:
    """Merge each conv or dense layer with the one that alone reads it, behind a flatten or not.

    Raises:
        GraphError: If the second pads a map whose values at the border are not the first one's
            alone, or the dense layer that stands for both is too large.
    """
    for name in list(graph.nodes):
        layer = graph.nodes[name]
        readers = graph.destinations(name)
        while len(readers) == 1 and isinstance(graph.nodes[readers[0]], Flatten):
            readers = graph.destinations(readers[0])
        if not isinstance(layer, Conv | Dense) or len(readers) != 1:
            continue
        second = graph.nodes[readers[0]]
        if not isinstance(second, Conv | Dense) or len(graph.sources(readers[0])) != 1:
            continue
        shapes, (source,) = graph.shapes(), graph.sources(name)
        merged: Layer
        if isinstance(layer, Dense) and isinstance(second, Dense):
            merged = _dense_of_dense(layer, second)
        elif isinstance(layer, Conv) and isinstance(second, Dense):
            _require_fit(len(second.weight) * prod(shapes[source]), readers[0])
            merged = _dense_of_conv(layer, second, shapes[source], shapes[name])
        elif isinstance(layer, Conv) and isinstance(second, Conv):
            ends = shapes[source], shapes[name], shapes[readers[0]]
            merged = _conv_of_conv(layer, second, ends, where=f"{name} -> {readers[0]}")
        else:
            continue  # refused, by name, where populations are found
        graph = graph.replace_nodes(changed={readers[0]: merged}, removed=[name])
    return graph


def _dense_of_dense(first: Dense, second: Dense) -> Dense:
    through = None if first.bias is None else second.weight @ first.bias
    return Dense(weight=second.weight @ first.weight, bias=sum_biases(second.bias, through))


def _dense_of_conv(first: Conv, second: Dense, source: Shape, between: Shape) -> Dense:
    outputs, (channels, height, width) = len(second.weight), between
    reading = second.weight.reshape(outputs, channels, height, width)
    weight = spread_groups(first)
    (top, left), (rows, columns) = first.padding, source[1:]
    padded: FloatArray = np.zeros((outputs, source[0], rows + 2 * top, columns + 2 * left))
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            share = np.einsum("ochw,ci->oihw", reading, weight[:, :, y, x], optimize=True)
            padded[:, :, *_seen_through(first, (y, x), (height, width))] += share
    inner = padded[:, :, top : top + rows, left : left + columns]
    through: FloatArray | None = None
    if first.bias is not None:
        through = second.weight @ np.broadcast_to(_as_map(first.bias), between).reshape(-1)
    return Dense(weight=inner.reshape(outputs, -1), bias=sum_biases(second.bias, through))


def _seen_through(conv: Conv, tap: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of a padded map that a tap reads for an output of some size."""
    rows, columns = (
        slice(first, first + (n - 1) * stride + 1, stride)
        for first, n, stride in (
            (tap[axis] * conv.dilation[axis], size[axis], conv.stride[axis]) for axis in (0, 1)
        )
    )
    return rows, columns


def _as_map(bias: FloatArray) -> FloatArray:
    return bias.reshape(len(bias), *(bias.shape[1:] or (1, 1)))


def _conv_of_conv(
    first: Conv, second: Conv, shapes: tuple[Shape, Shape, Shape], *, where: str
) -> Conv:
    """Return one convolution for two; `shapes` are before, between and behind them."""
    is_point = first.weight.shape[2:] == (1, 1) and not any(first.padding)
    if any(second.padding) and not is_point:
        raise GraphError(
            f"{where}: two convolutions without neurons between them, the second padded by "
            f"{second.padding}; only an unpadded one can be merged with the one before it, or any "
            "with a 1x1 convolution."
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
    through_second: FloatArray | None = None
    if first.bias is not None:
        constant = np.broadcast_to(_as_map(first.bias), shapes[1])
        through_second = _bias_behind(second, two, constant)
    merged = Conv(
        weight=weight,
        bias=sum_biases(second.bias, through_second),
        stride=(first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]),
        padding=(
            first.padding[0] + first.stride[0] * second.padding[0],
            first.padding[1] + first.stride[1] * second.padding[1],
        ),
    )
    if not any(second.padding):
        return merged
    kernel = common_kernel([offsets_of(merged)], merged.stride, shapes[0], shapes[2])
    return dataclasses.replace(
        merged,
        weight=kernel.place(offsets_of(merged), weight),
        padding=kernel.padding,
        dilation=kernel.dilation,
    )


def _bias_behind(conv: Conv, weight: FloatArray, constant: FloatArray) -> FloatArray:
    """Return the share of a constant map in a convolution's output: by channel, or by position."""
    around = [(0, 0), *((pad, pad) for pad in conv.padding)]
    padded = np.pad(constant, around)
    _, height, width = conv.output_shape(constant.shape)
    total: FloatArray = np.zeros((len(weight), height, width))
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            seen = padded[:, *_seen_through(conv, (y, x), (height, width))]
            total += np.tensordot(weight[:, :, y, x], seen, axes=1)
    rows = total.reshape(len(total), -1)
    is_border_free = not any(conv.padding) and bool((constant == constant[:, :1, :1]).all())
    return rows[:, 0] if is_border_free or np.ptp(rows, axis=1).max() == 0 else total


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
