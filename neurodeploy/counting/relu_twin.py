"""The other side of the comparison: MACs of the ReLU twin.

The twin has the network's topology and weight shapes and does one pass per sample, batch 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from neurodeploy.counting.fan_out import synapse_fan_out
from neurodeploy.ir.float_layers import Conv, Dense, Shape
from neurodeploy.ir.graphs import AnnLayerMacs, AnnMacs, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import FixedConv, FixedInjection, Synapse


def ann_macs(graph: Graph | FixedPointGraph) -> AnnMacs:
    """Count the MACs of a network's ReLU twin.

    Batch norm after a conv or dense layer folds into it and costs none. Of a deployed network these
    are the MACs of its layers as stored, more than its twin's: relay channels, blocks of zeros, and
    pools that were folded into weights are counted.

    Raises:
        GraphError: If shapes do not fit.
    """
    if isinstance(graph, Graph):
        return AnnMacs(layers=tuple(_float_macs(graph)))
    return AnnMacs(
        layers=tuple(
            _ann_row(layer.name, connection.synapse, graph.shape_of(connection.source), layer.shape)
            for layer in graph.layers
            for connection in layer.connections
            if not isinstance(connection.synapse, FixedInjection)
            and connection.source != layer.name
        )
    )


def _float_macs(graph: Graph) -> Iterator[AnnLayerMacs]:
    shapes = graph.shapes()
    for name, layer in graph.nodes.items():
        if isinstance(layer, Dense | Conv):
            yield _ann_row(name, layer, shapes[graph.sources(name)[0]], shapes[name])


def _ann_row(
    name: str, synapse: Synapse | Dense | Conv, source: Shape, output: Shape
) -> AnnLayerMacs:
    fan_out = synapse_fan_out(synapse, source)
    return AnnLayerMacs(
        name=name,
        type="conv" if isinstance(synapse, Conv | FixedConv) else "dense",
        macs_standard=fan_out.dense_macs,
        macs_border_exact=fan_out.dense_exact,
        macs_nonzero=int(fan_out.nonzero.sum()),
        weights=fan_out.weights,
        zero_weights=fan_out.zero_weights,
        inputs=int(fan_out.stored.size),
        outputs=prod(output),
    )
