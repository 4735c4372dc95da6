"""Rebuild a graph with some nodes changed or taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neurodeploy.ir.float_layers import Layer
from neurodeploy.ir.graphs import Graph


def replace_nodes(
    graph: Graph, *, changed: Mapping[str, Layer], removed: Sequence[str] = ()
) -> Graph:
    """Give a new graph in which `changed` nodes have new content and `removed` ones are bridged.

    Args:
        graph: The graph to start from; it stays as it is.
        changed: New layers by name.
        removed: Names of nodes with one source each; what they led into reads that source.

    Returns:
        The new graph, with the same order of nodes and edges.
    """
    bridge: dict[str, str] = {}
    for name in graph.nodes:
        if name in removed:
            (source,) = graph.sources(name)
            bridge[name] = bridge.get(source, source)
    return Graph(
        nodes={
            name: changed.get(name, layer)
            for name, layer in graph.nodes.items()
            if name not in removed
        },
        edges=tuple(
            (bridge.get(source, source), destination)
            for source, destination in graph.edges
            if destination not in removed
        ),
    )
