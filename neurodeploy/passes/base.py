"""Run passes over a float graph, checked after each, and rebuild a graph with other nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from neurodeploy.errors import GraphError, PassError
from neurodeploy.ir.float_layers import Layer
from neurodeploy.ir.graphs import Graph

Pass = Callable[[Graph], Graph]
"""A pass takes a graph and returns a new one; it never changes its argument."""


def run_passes(graph: Graph, *passes: Pass) -> Graph:
    """Run passes one after the other, checking the graph before, between and after.

    Raises:
        GraphError: If the graph is inconsistent to begin with.
        NeurodeployError: If a pass cannot treat the graph.
        PassError: If a pass returns an inconsistent graph; names the pass and those before it.
    """
    graph.check()
    done: list[str] = []
    for function in passes:
        name = getattr(function, "__name__", type(function).__name__)
        result = function(graph)
        try:
            result.check()
        except GraphError as error:
            raise PassError(
                f"pass {name} (after {', '.join(done) or 'none'}): returned a broken graph: {error}"
            ) from error
        graph = result
        done.append(name)
    return graph


def replace_nodes(
    graph: Graph, *, changed: Mapping[str, Layer], removed: Sequence[str] = ()
) -> Graph:
    """Return a new graph in which `changed` nodes have new content and `removed` ones are bridged.

    Nodes and edges keep their order.

    Args:
        graph: The graph to start from; it stays as it is.
        changed: New layers by name.
        removed: Names of nodes with one source each; their readers then read that source.
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
