"""How passes are run: graph in, graph out, checked after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from neurodeploy.errors import GraphError, PassError
from neurodeploy.ir.float_layers import Layer
from neurodeploy.ir.graphs import Graph

Pass = Callable[[Graph], Graph]
"""A pass takes a graph and returns a new one; it never changes its argument."""


def run_passes(graph: Graph, *passes: Pass) -> Graph:
    """Run passes one after the other, checking the graph before, between and after.

    Args:
        graph: A consistent graph.
        passes: Functions from graph to graph.

    Returns:
        The last pass's graph.

    Raises:
        GraphError: If the graph is inconsistent to begin with.
        NeurodeployError: What a pass raises when the graph is not one it can treat.
        PassError: If a pass returns an inconsistent graph; names the pass and those before it.
    """
    graph.check()
    done: list[str] = []
    for each in passes:
        name = getattr(each, "__name__", type(each).__name__)
        result = each(graph)
        try:
            result.check()
        except GraphError as error:
            raise PassError(
                f"pass {name} (after {', '.join(done) or 'none'}): returned a broken graph: {error}"
            ) from error
        graph = result
        done.append(name)
    return graph


# Rebuild a graph with some nodes changed or taken out.


def replace_nodes(
    graph: Graph, *, changed: Mapping[str, Layer], removed: Sequence[str] = ()
) -> Graph:
    """Return a new graph in which `changed` nodes have new content and `removed` ones are bridged.

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
