"""Fold average pooling into the weights after it."""

from __future__ import annotations

import dataclasses

import numpy as np

from neurodeploy.errors import GraphError
from neurodeploy.ir.graph import Graph
from neurodeploy.ir.layers import Dense, GlobalAveragePool
from neurodeploy.passes.rewriting import replace_nodes


def fold_global_average_pool(graph: Graph) -> Graph:
    """Fold each global average pool into the dense layers that read it.

    W mean(x) = sum over positions of (W / positions) x: the dense layer reads the whole (C, H, W)
    source, with each weight repeated over the positions of its channel.

    Args:
        graph: A float graph.

    Returns:
        The same graph without `GlobalAveragePool` nodes.

    Raises:
        GraphError: If something other than a dense layer reads a pool.
    """
    shapes = graph.shapes()
    changed: dict[str, Dense] = {}
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
    return replace_nodes(graph, changed=changed, removed=removed)
