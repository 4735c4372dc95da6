"""How passes are run: graph in, graph out, checked after each."""

from __future__ import annotations

from collections.abc import Callable

from neurodeploy.errors import GraphError, PassError
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
