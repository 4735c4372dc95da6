"""Fold batch normalisation into the weights before it."""

from __future__ import annotations

import dataclasses

import numpy as np

from neurodeploy.errors import GraphError
from neurodeploy.ir.float_layers import (
    BatchNorm,
    Conv,
    Dense,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.rewriting import replace_nodes


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold every batch norm into the conv or dense layer before it.

    scale · (W x + b) + shift = (scale · W) x + (scale · b + shift), so the function is the same
    up to rounding in float64.

    Args:
        graph: A float graph.

    Returns:
        The same graph without `BatchNorm` nodes.

    Raises:
        GraphError: If a batch norm does not directly follow a conv or dense layer of its own.
    """
    changed: dict[str, Conv | Dense] = {}
    removed: list[str] = []
    for name, layer in graph.nodes.items():
        if not isinstance(layer, BatchNorm):
            continue
        sources = graph.sources(name)
        synapse = graph.nodes[sources[0]]
        if (
            len(sources) != 1
            or not isinstance(synapse, Conv | Dense)
            or graph.destinations(sources[0]) != (name,)
        ):
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
    return replace_nodes(graph, changed=changed, removed=removed)
