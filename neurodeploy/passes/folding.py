"""Rewrite what a netx file cannot hold as convolutions, dense layers and spiking neurons.

Batch norm, averages and the input's normalization fold into the weights beside them, a maximum of
spikes becomes a spiking layer, and convolutions of more groups than Lava allows get fewer, with
zeros between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError, PassError
from neurodeploy.fixedpoint import GEOMETRY_MAX
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    FiringNeuron,
    Flatten,
    FloatArray,
    GlobalAveragePool,
    Input,
    Layer,
    MaxPool,
    Shape,
)
from neurodeploy.ir.graphs import Graph

Number = TypeVar("Number", np.int32, np.int64, np.float64)
Pass = Callable[[Graph], Graph]
"""A pass takes a graph and returns a new one; it never changes its argument."""


def run_passes(graph: Graph, *passes: Pass) -> Graph:
    """Run passes one after the other, checking the graph before, between and after.

    Raises:
        GraphError: If the graph is inconsistent to begin with.
        NeurodeployError: If a pass cannot treat the graph.
        PassError: If a pass returns an inconsistent graph; names the pass and those before it.

    Example:
        >>> passes = nd.fold_batchnorm, nd.lower_max_pool, nd.merge_groups
        >>> list(nd.run_passes(nd.trace(network), *passes).nodes)[:3]
        ['input', 'conv1.synapse', 'conv1']
    """
    graph.check()
    done: list[str] = []
    for function in passes:
        name = getattr(function, "__name__", type(function).__name__)
        graph = function(graph)
        try:
            graph.check()
        except GraphError as error:
            raise PassError(
                f"pass {name} (after {', '.join(done) or 'none'}): returned a broken graph: {error}"
            ) from error
        done.append(name)
    return graph


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold every batch norm into the conv or dense layer before it.

    scale · (W x + b) + shift = (scale · W) x + (scale · b + shift), so the function is the same
    up to rounding in float64.

    Raises:
        GraphError: If a batch norm does not directly follow a conv or dense layer of its own.

    Example:
        >>> len(nd.trace(network).nodes), len(nd.fold_batchnorm(nd.trace(network)).nodes)
        (16, 12)
    """
    changed: dict[str, Conv | Dense] = {}
    removed: list[str] = []
    for name, layer in graph.nodes.items():
        if not isinstance(layer, BatchNorm):
            continue
        sources = graph.sources(name)
        synapse = graph.nodes[sources[0]]
        if not isinstance(synapse, Conv | Dense) or not follows_synapse(graph, name):
            raise GraphError(
                f"{name}: batch norm after {', '.join(sources)}; it can only be folded into a conv "
                "or dense layer that leads nowhere else. Put it directly after one."
            )
        scale = layer.scale.reshape(-1, *(1,) * (synapse.weight.ndim - 1))
        bias = np.zeros_like(layer.shift) if synapse.bias is None else synapse.bias
        changed[sources[0]] = dataclasses.replace(
            synapse, weight=synapse.weight * scale, bias=layer.scale * bias + layer.shift
        )
        removed.append(name)
    return graph.replace_nodes(changed=changed, removed=removed)


def follows_synapse(graph: Graph, name: str) -> bool:
    """Return whether a node alone reads a conv or dense layer, and nothing else."""
    sources = graph.sources(name)
    synapse = graph.nodes[sources[0]]
    is_alone = len(sources) == 1 and graph.destinations(sources[0]) == (name,)
    return is_alone and isinstance(synapse, Conv | Dense)


def fold_average_pool(graph: Graph) -> Graph:
    """Fold each average pool into the conv and dense layers that read it.

    Both are linear, so a convolution of averages is one convolution with a larger kernel and the
    product of the strides, and a dense layer reads each pixel through every window it lies in.

    Raises:
        GraphError: If something other than a conv or dense layer reads a pool, or a convolution
            pads the averages where the windows beyond the border would hold real pixels.

    Example:
        >>> pooled = {**plain, "network.layers.1": '{type = "average_pool"}'}
        >>> recipe = nd.Recipe.load("digits", overrides=pooled)
        >>> traced = nd.trace(nd.SpikingNetwork.from_recipe(recipe))
        >>> folded = nd.run_passes(traced, nd.fold_batchnorm, nd.fold_average_pool)
        >>> "average_pool2" in traced.nodes, "average_pool2" in folded.nodes
        (True, False)
    """
    shapes = graph.shapes()
    for name in reversed(list(graph.nodes)):  # of two pools in a row, the last one first
        layer = graph.nodes[name]
        if not isinstance(layer, AveragePool):
            continue
        (source,) = graph.sources(name)
        changed: dict[str, Layer] = {}
        for reader in _readers_behind_flatten(graph, name):
            synapse = graph.nodes[reader]
            if isinstance(synapse, Dense):
                changed[reader] = _dense_of_averages(synapse, layer, shapes[source], shapes[name])
            elif isinstance(synapse, Conv):
                changed[reader] = _conv_of_averages(
                    synapse, layer, shapes[source], shapes[name], where=f"{name} -> {reader}"
                )
            else:
                raise GraphError(
                    f"{name}: average pool read by '{reader}', a {type(synapse).__name__}. Averages"
                    " are no spikes; only the weights of a conv or dense layer can absorb them."
                )
        graph = graph.replace_nodes(changed=changed, removed=[name])
    return graph


def _readers_behind_flatten(graph: Graph, name: str) -> list[str]:
    readers: list[str] = []
    for reader in graph.destinations(name):
        if isinstance(graph.nodes[reader], Flatten):
            readers += _readers_behind_flatten(graph, reader)
        else:
            readers.append(reader)
    return readers


def _dense_of_averages(dense: Dense, pool: AveragePool, source: Shape, pooled: Shape) -> Dense:
    weight = dense.weight.reshape(-1, *pooled)
    padded = tuple(size + 2 * pad for size, pad in zip(source[1:], pool.padding, strict=True))
    spread: FloatArray = np.zeros((len(weight), source[0], *padded))
    share = weight / (pool.kernel[0] * pool.kernel[1])
    for y in range(pool.kernel[0]):
        for x in range(pool.kernel[1]):
            rows = slice(y, y + pool.stride[0] * pooled[1], pool.stride[0])
            columns = slice(x, x + pool.stride[1] * pooled[2], pool.stride[1])
            spread[:, :, rows, columns] += share
    (top, left), (height, width) = pool.padding, source[1:]
    inner = spread[:, :, top : top + height, left : left + width]
    return dataclasses.replace(dense, weight=inner.reshape(len(weight), -1))


def _conv_of_averages(
    conv: Conv, pool: AveragePool, source: Shape, pooled: Shape, *, where: str
) -> Conv:
    for axis in (0, 1):
        window, stride, pad = pool.kernel[axis], pool.stride[axis], pool.padding[axis]
        before_border = window <= stride + pad
        after_border = pooled[axis + 1] * stride - pad >= source[axis + 1]
        if conv.padding[axis] and not (before_border and after_border):
            raise GraphError(
                f"{where}: the convolution pads with zeros where an average would hold pixels of "
                "the image. Use padding 0 after this pool, or windows that tile the image."
            )
    outputs, inputs, *taps = conv.weight.shape
    steps = tuple(conv.dilation[axis] * pool.stride[axis] for axis in (0, 1))
    extent = tuple((taps[axis] - 1) * steps[axis] + pool.kernel[axis] for axis in (0, 1))
    weight: FloatArray = np.zeros((outputs, inputs, *extent))
    share = conv.weight / (pool.kernel[0] * pool.kernel[1])
    for y in range(taps[0]):
        for x in range(taps[1]):
            rows = slice(y * steps[0], y * steps[0] + pool.kernel[0])
            columns = slice(x * steps[1], x * steps[1] + pool.kernel[1])
            weight[:, :, rows, columns] += share[:, :, y, x, None, None]
    folded = dataclasses.replace(
        conv,
        weight=weight,
        stride=(conv.stride[0] * pool.stride[0], conv.stride[1] * pool.stride[1]),
        padding=(
            conv.padding[0] * pool.stride[0] + pool.padding[0],
            conv.padding[1] * pool.stride[1] + pool.padding[1],
        ),
        dilation=(1, 1),
    )
    if folded.output_shape(source) != conv.output_shape(pooled):
        raise GraphError(
            f"{where}: an image of {source[1:]} leaves pixels over at the border of the windows, "
            "which the folded convolution would read. Use windows that tile the image."
        )
    return folded


def fold_global_average_pool(graph: Graph) -> Graph:
    """Fold each global average pool into the dense layers that read it, else GraphError.

    W mean(x) = sum over positions of (W / positions) x: the dense layer reads the whole (C, H, W)
    source, with each weight repeated over the positions of its channel.

    Example:
        >>> recipe = nd.Recipe.load("digits", overrides={**plain, "network.readout": "gap_linear"})
        >>> traced = nd.trace(nd.SpikingNetwork.from_recipe(recipe))
        >>> folded = nd.fold_global_average_pool(traced)
        >>> [one.nodes["readout.synapse"].weight.shape for one in (traced, folded)]
        [(10, 48), (10, 768)]
    """
    shapes = graph.shapes()
    changed: dict[str, Layer] = {}
    removed: list[str] = []
    for name, layer in graph.nodes.items():
        if not isinstance(layer, GlobalAveragePool):
            continue
        (source,) = graph.sources(name)
        _, height, width = shapes[source]
        for reader in graph.destinations(name):
            dense = graph.nodes[reader]
            if not isinstance(dense, Dense):
                raise GraphError(
                    f"{name}: global average pool read by '{reader}', which is not a dense layer. "
                    "Put the linear read-out directly after the pool."
                )
            repeated = np.repeat(dense.weight / (height * width), height * width, axis=1)
            changed[reader] = dataclasses.replace(dense, weight=repeated)
        removed.append(name)
    return graph.replace_nodes(changed=changed, removed=removed)


def fold_normalization(graph: Graph) -> Graph:
    """Fold the normalization of the input into the conv and dense layers that read it.

    W ((x - mean) / deviation) + b = (W / deviation) x + (b - W (mean / deviation)), so the chip
    reads the integers x themselves. The function is the same up to rounding in float64, padding
    included: a convolution pads with normalized zeros, so the constant term of an output position
    sums over the taps that lie on the image only, and the bias differs between positions near the
    border and inside. Pooling must be folded before.

    Raises:
        GraphError: If something other than a conv or dense layer reads the input.

    Example:
        >>> normalized = replace(graph.input, mean=(8.0,), deviation=(4.0,))
        >>> with_mean = graph.replace_nodes(changed={graph.input_name: normalized})
        >>> with_mean.input.mean, nd.fold_normalization(with_mean).input.mean
        ((8.0,), ())
    """
    entry = graph.input
    if not entry.mean:
        return graph
    name = graph.input_name
    changed: dict[str, Layer] = {name: dataclasses.replace(entry, mean=(), deviation=())}
    for reader in _readers_behind_flatten(graph, name):
        synapse = graph.nodes[reader]
        if isinstance(synapse, Dense):
            changed[reader] = _dense_of_pixels(synapse, entry)
        elif isinstance(synapse, Conv):
            changed[reader] = _conv_of_pixels(synapse, entry)
        else:
            raise GraphError(
                f"{name} -> {reader}: the normalized input is read by a {type(synapse).__name__}; "
                "only the weights of a conv or dense layer can absorb mean and deviation."
            )
    return graph.replace_nodes(changed=changed)


def _dense_of_pixels(dense: Dense, entry: Input) -> Dense:
    repeats = dense.weight.shape[1] // len(entry.mean)
    weight = dense.weight / np.repeat(entry.deviation, repeats)
    constant = -entry.scale * (weight @ np.repeat(entry.mean, repeats))
    return Dense(weight=weight, bias=constant if dense.bias is None else dense.bias + constant)


def _conv_of_pixels(conv: Conv, entry: Input) -> Conv:
    outputs, inputs, *taps = conv.weight.shape
    # The input channels that each output channel reads, (outputs, inputs per group).
    groups = np.arange(outputs) // (outputs // conv.groups)
    channels = groups[:, None] * inputs + np.arange(inputs)
    weight = conv.weight / np.array(entry.deviation)[channels][:, :, None, None]
    means = np.array(entry.mean)[channels][:, :, None, None]
    constants = -entry.scale * (weight * means).sum(axis=1)
    size = conv.output_shape(entry.shape)
    # Whether tap k lies on the image for output position i: (taps, positions) of each axis.
    rows, columns = (
        _on_image(taps[axis], size[axis + 1], entry.shape[axis + 1], conv, axis) for axis in (0, 1)
    )
    bias: FloatArray = np.einsum("okl,ki,lj->oij", constants, rows, columns)
    if rows.all() and columns.all():
        bias = bias[:, 0, 0]
    if conv.bias is not None:
        bias = bias + conv.bias.reshape(-1, *(1,) * (bias.ndim - 1))
    return dataclasses.replace(conv, weight=weight, bias=bias)


def _on_image(taps: int, positions: int, pixels: int, conv: Conv, axis: int) -> FloatArray:
    first = np.arange(positions) * conv.stride[axis] - conv.padding[axis]
    pixel = first + np.arange(taps)[:, None] * conv.dilation[axis]
    return ((pixel >= 0) & (pixel < pixels)).astype(np.float64)


def lower_max_pool(graph: Graph) -> Graph:
    """Turn each max pool of spikes into a spiking layer that fires when any input does.

    A depthwise convolution with weights above the threshold and neurons that keep nothing from
    step to step computes the OR of each window, which is the maximum of 0s and 1s. The new neurons
    have the pool's name.

    Raises:
        GraphError: If a pool does not read spikes.

    Example:
        >>> pooled = {**plain, "network.layers.1": '{type = "max_pool"}'}
        >>> recipe = nd.Recipe.load("digits", overrides=pooled)
        >>> traced = nd.trace(nd.SpikingNetwork.from_recipe(recipe))
        >>> lowered = nd.lower_max_pool(traced)
        >>> [type(one.nodes["max_pool2"]).__name__ for one in (traced, lowered)]
        ['MaxPool', 'Cuba']
    """
    shapes = graph.shapes()
    nodes: dict[str, Layer] = {}
    edges: list[tuple[str, str]] = []
    for name, layer in graph.nodes.items():
        if not isinstance(layer, MaxPool):
            nodes[name] = layer
            edges += [(source, name) for source in graph.sources(name)]
            continue
        (source,) = graph.sources(name)
        if not isinstance(nodes[source], FiringNeuron):  # a pool before this one is spiking by now
            raise GraphError(
                f"{name}: max pool of '{source}', a {type(graph.nodes[source]).__name__}; only "
                "spikes can be pooled by their maximum. Put the pool after a spiking layer."
            )
        channels = shapes[source][0]
        ones = np.ones((channels, 1, *layer.kernel))
        nodes[f"{name}.synapse"] = _with_fewer_groups(
            Conv(weight=ones, stride=layer.stride, padding=layer.padding, groups=channels)
        )
        nodes[name] = Cuba(threshold=0.5, current_decay=1.0, voltage_decay=1.0)
        edges += [(source, f"{name}.synapse"), (f"{name}.synapse", name)]
    return Graph(nodes=nodes, edges=tuple(edges))


def merge_groups(graph: Graph) -> Graph:
    """Reduce each convolution to the groups that Lava can hold; its function stays the same.

    Example:
        >>> depthwise = {"network.layers.1": '{type = "conv", channels = 256, groups = 256}'}
        >>> wide = {**plain, "network.layers.0.channels": "256", **depthwise}
        >>> recipe = nd.Recipe.load("digits", overrides=wide)
        >>> traced = nd.trace(nd.SpikingNetwork.from_recipe(recipe))
        >>> [one.nodes["conv2.synapse"].groups for one in (traced, nd.merge_groups(traced))]
        [256, 64]
    """
    changed: dict[str, Layer] = {
        name: _with_fewer_groups(layer)
        for name, layer in graph.nodes.items()
        if isinstance(layer, Conv) and layer.groups > GEOMETRY_MAX
    }
    return graph.replace_nodes(changed=changed) if changed else graph


def _with_fewer_groups(conv: Conv) -> Conv:
    if conv.groups <= GEOMETRY_MAX:
        return conv
    groups = max(n for n in range(1, GEOMETRY_MAX + 1) if conv.groups % n == 0)
    weight = join_groups(conv.weight, conv.groups, conv.groups // groups)
    return dataclasses.replace(conv, weight=weight, groups=groups)


def join_groups(weight: npt.NDArray[Number], groups: int, together: int) -> npt.NDArray[Number]:
    """Return a convolution's weight with `together` neighbouring groups made one.

    A channel has zeros for the inputs of the groups that joined its own.
    """
    outputs, inputs, *taps = weight.shape
    joined = np.zeros((outputs, together, inputs, *taps), weight.dtype)
    channels = np.arange(outputs)
    joined[channels, channels // (outputs // groups) % together] = weight
    return joined.reshape(outputs, together * inputs, *taps)
