"""Take weights or whole channels out of a float graph, smallest first.

Weights that become zero stay zero through quantization, and cost no synaptic operation. Channels
that are taken out leave smaller layers, and so cost neither neurons nor memory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError, QuantizationError
from neurodeploy.ir.float_layers import (
    BatchNorm,
    Conv,
    Dense,
    FiringNeuron,
    Flatten,
    FloatArray,
    Integrator,
    Layer,
    Pool,
    is_neuron,
)
from neurodeploy.ir.graphs import Graph

BoolArray = npt.NDArray[np.bool_]
Scope = Literal["global", "layer"]

_PATTERN = re.compile(r"(\d+):(\d+)")


def magnitude_masks(
    weights: Mapping[str, FloatArray], *, sparsity: float, scope: Scope = "global"
) -> dict[str, BoolArray]:
    """Return masks that keep the largest weights.

    Each layer keeps its largest weight whatever the share, as a layer without weights would cut
    the network in two. Of equal weights the first is kept.

    Args:
        weights: By layer, of any shape.
        sparsity: Share of weights to take out, 0 to less than 1, else QuantizationError.
        scope: "global": rank the weights of all layers together. "layer": the same share of each.
    """
    if not 0 <= sparsity < 1:
        raise QuantizationError(f"pruning: sparsity {sparsity}, 0 to less than 1 is allowed.")
    sizes = {name: np.abs(weight).ravel() for name, weight in weights.items()}
    if scope == "global":
        ranked = np.concatenate(list(sizes.values())) if sizes else np.zeros(0)
        ends = np.cumsum([size.size for size in sizes.values()])
        kept = np.split(_largest(ranked, sparsity), ends[:-1])
    else:
        kept = [_largest(size, sparsity) for size in sizes.values()]
    masks: dict[str, BoolArray] = {}
    for (name, size), mask in zip(sizes.items(), kept, strict=True):
        mask[int(size.argmax())] = True
        masks[name] = mask.reshape(weights[name].shape)
    return masks


def pattern_masks(weights: Mapping[str, FloatArray], *, pattern: str) -> dict[str, BoolArray]:
    """Keep the N largest of every M weights that follow each other along the inputs.

    Args:
        weights: By layer, (out, in, ...); for convolutions each tap has groups of its own.
        pattern: "N:M". A last group of fewer than M inputs keeps its N largest too.
    """
    keep, group = parse_pattern(pattern)
    masks: dict[str, BoolArray] = {}
    for name, weight in weights.items():
        last = np.moveaxis(np.abs(weight), 1, -1)
        inputs = last.shape[-1]
        padded = np.full((*last.shape[:-1], -(-inputs // group) * group), -1.0)
        padded[..., :inputs] = last
        grouped = padded.reshape(*last.shape[:-1], -1, group)
        order = np.argsort(-grouped, axis=-1, kind="stable")
        mask = np.zeros(grouped.shape, bool)
        np.put_along_axis(mask, order[..., :keep], True, axis=-1)
        masks[name] = np.moveaxis(mask.reshape(padded.shape)[..., :inputs], -1, 1)
    return masks


def parse_pattern(pattern: str) -> tuple[int, int]:
    """Read "N:M"; QuantizationError if it is anything else, or N is not between 1 and M."""
    match = _PATTERN.fullmatch(pattern)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise QuantizationError(
            f"pruning: pattern '{pattern}', N:M with 1 ≤ N ≤ M is required, such as 2:4."
        )
    return int(match[1]), int(match[2])


def prune_weights(
    graph: Graph, *, sparsity: float = 0.0, scope: Scope = "global", pattern: str = ""
) -> Graph:
    """Set the smallest weights to zero.

    Args:
        graph: A float graph with batch norm folded, pools still in place.
        sparsity: Share of weights to take out; see `magnitude_masks`.
        scope: Where the share holds.
        pattern: "N:M" instead of a share; see `pattern_masks`.

    Raises:
        QuantizationError: If both a share and a pattern are given, one is out of range, or batch
            norm is not folded.

    Example:
        >>> pruned = nd.prune_weights(graph, sparsity=0.5)
        >>> weight = pruned.nodes["conv2.synapse"].weight
        >>> round(float((weight == 0).mean()), 2)
        0.35
    """
    if sparsity and pattern:
        raise QuantizationError("pruning: a sparsity and a pattern exclude each other. Give one.")
    _require_folded(graph)
    synapses = _synapses(graph)
    weights = {name: layer.weight for name, layer in synapses.items()}
    masks = (
        pattern_masks(weights, pattern=pattern)
        if pattern
        else magnitude_masks(weights, sparsity=sparsity, scope=scope)
    )
    return graph.replace_nodes(
        changed={
            name: dataclasses.replace(layer, weight=np.where(masks[name], layer.weight, 0.0))
            for name, layer in synapses.items()
        }
    )


def prune_channels(graph: Graph, share: float) -> Graph:
    """Take out the weakest channels of each layer and shrink the graph.

    A channel's strength is the sum of its incoming |weights|. Channels that an identity skip adds
    to others stay, since taking one out would shift the rest, and so do those of grouped
    convolutions and their sources.

    Args:
        graph: A float graph with batch norm folded, pools still in place.
        share: Of each layer's channels, rounded down; at least one channel stays.

    Raises:
        QuantizationError: If the share is out of range, or no layer has channels to spare.
        GraphError: If neurons are of a kind that cannot be shrunk.

    Example:
        >>> pruned = nd.prune_channels(graph, 0.25)
        >>> graph.shapes()["conv1"], pruned.shapes()["conv1"]
        ((16, 8, 8), (12, 8, 8))
    """
    if not 0 <= share < 1:
        raise QuantizationError(f"pruning: {share} of the channels, 0 to less than 1 is allowed.")
    _require_folded(graph)
    if share == 0:
        return graph
    shapes = graph.shapes()
    nodes: dict[str, Layer] = dict(graph.nodes)
    shrunk = 0
    for name, layer in graph.nodes.items():
        readers = _free_readers(graph, name) if _is_prunable(name, layer) else None
        if readers is None:
            continue
        strength = np.zeros(shapes[name][0])
        for source in graph.sources(name):
            synapse = nodes[source]
            assert isinstance(synapse, Conv | Dense)
            strength += np.abs(synapse.weight).reshape(len(synapse.weight), -1).sum(axis=1)
        count = int(share * len(strength))
        if not count:
            continue
        keep = np.sort(np.argsort(-strength, kind="stable")[: len(strength) - count])
        shrunk += count
        for source in graph.sources(name):
            nodes[source] = _with_outputs(nodes[source], keep)
        for reader in readers:
            nodes[reader] = _with_inputs(nodes[reader], keep, len(strength))
    if not shrunk:
        raise QuantizationError(
            f"pruning: no layer has channels of which {share:.0%} could be taken out: they belong "
            "to skip connections or grouped convolutions, or are too few. Prune weights instead."
        )
    return Graph(nodes=nodes, edges=graph.edges)


def zero_share(graph: Graph) -> float:
    """Return the share of a float graph's weights that are zero."""
    weights = [layer.weight for layer in _synapses(graph).values()]
    zeros = sum(int(np.count_nonzero(weight == 0)) for weight in weights)
    return zeros / max(sum(weight.size for weight in weights), 1)


def _synapses(graph: Graph) -> dict[str, Conv | Dense]:
    return {name: node for name, node in graph.nodes.items() if isinstance(node, Conv | Dense)}


def _require_folded(graph: Graph) -> None:
    if any(isinstance(layer, BatchNorm) for layer in graph.nodes.values()):
        raise QuantizationError("pruning: batch norm is not folded. Run fold_batchnorm first.")


def _largest(sizes: FloatArray, sparsity: float) -> BoolArray:
    mask = np.ones(sizes.size, bool)
    first = sizes.size - round(sparsity * sizes.size)
    mask[np.argsort(-sizes, kind="stable")[first:]] = False
    return mask


def _is_prunable(name: str, layer: Layer) -> bool:
    """Return whether a layer is a population whose channels may go; a read-out's are classes."""
    if not is_neuron(layer) or isinstance(layer, Integrator):
        return False
    if not isinstance(layer, FiringNeuron):
        raise GraphError(
            f"pruning: '{name}' holds neurons of type {type(layer).__name__}, only channels of "
            "neurons that fire can be taken out. Prune weights instead."
        )
    return True


def _free_readers(graph: Graph, name: str) -> list[str] | None:
    """Return the synapses that read a population's channels; None if those are tied to others."""
    for source in graph.sources(name):
        synapse = graph.nodes[source]
        if not isinstance(synapse, Conv | Dense) or graph.destinations(source) != (name,):
            return None
        if isinstance(synapse, Conv) and synapse.groups != 1:
            return None
    readers: list[str] = []
    waiting = list(graph.destinations(name))
    while waiting:
        reader = waiting.pop()
        layer = graph.nodes[reader]
        if isinstance(layer, Pool | Flatten):
            waiting += graph.destinations(reader)
        elif isinstance(layer, Dense) or (isinstance(layer, Conv) and layer.groups == 1):
            readers.append(reader)
        else:
            return None
    return readers


def _with_outputs(layer: Layer, keep: npt.NDArray[np.int64]) -> Layer:
    assert isinstance(layer, Conv | Dense)
    bias = None if layer.bias is None else layer.bias[keep]
    return dataclasses.replace(layer, weight=layer.weight[keep], bias=bias)


def _with_inputs(layer: Layer, keep: npt.NDArray[np.int64], channels: int) -> Layer:
    """Read only the channels to keep; a dense layer may read each at several pixels."""
    assert isinstance(layer, Conv | Dense)
    if isinstance(layer, Conv):
        return dataclasses.replace(layer, weight=layer.weight[:, keep])
    by_channel = layer.weight.reshape(len(layer.weight), channels, -1)
    return dataclasses.replace(layer, weight=by_channel[:, keep].reshape(len(layer.weight), -1))
