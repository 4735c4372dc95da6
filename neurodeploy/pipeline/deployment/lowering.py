"""Lower a trained network to the float graph that is quantized: trace, prune, fold."""

from __future__ import annotations

from math import prod

from neurodeploy.ir.float_layers import Cuba, Integrator
from neurodeploy.ir.graphs import Graph
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.tracing import trace
from neurodeploy.passes import (
    fold_average_pool,
    fold_batchnorm,
    fold_global_average_pool,
    lower_max_pool,
    merge_groups,
    prune_channels,
    prune_weights,
    run_passes,
)
from neurodeploy.recipes.training_sections import PruningSection


def lower(network: SpikingNetwork, *, pruning: PruningSection | None = None) -> Graph:
    """Trace a network without branches, prune it, and fold the layers that the chip lacks.

    Args:
        network: A trained network.
        pruning: Weights and channels to take out on the way; by default none.

    Raises:
        TraceError: If the network holds something that has no counterpart.
        GraphError: If something cannot be folded.
        QuantizationError: If it cannot be pruned as asked.
    """
    graph = run_passes(trace(network), fold_batchnorm)
    if pruning is not None and pruning.channels:
        graph = run_passes(graph, lambda g: prune_channels(g, pruning.channels))
    if pruning is not None and pruning.is_one_shot and (pruning.sparsity or pruning.pattern):
        graph = run_passes(
            graph,
            lambda g: prune_weights(
                g, sparsity=pruning.sparsity, scope=pruning.scope, pattern=pruning.pattern
            ),
        )
    return run_passes(
        graph, merge_groups, lower_max_pool, fold_global_average_pool, fold_average_pool
    )


def count_neurons(graph: Graph) -> int:
    """Count the neurons of a float graph."""
    shapes = graph.shapes()
    return sum(
        prod(shapes[name])
        for name, layer in graph.nodes.items()
        if isinstance(layer, Cuba | Integrator)
    )
