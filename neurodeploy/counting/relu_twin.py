"""The other side of the comparison: MACs of the ReLU twin.

The twin has the network's topology and weight shapes and does one pass per sample, batch 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from neurodeploy.counting.fan_out import synapse_fan_out
from neurodeploy.ir.float_layers import Conv, Dense, Shape
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import FixedConv, FixedInjection, Synapse


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnLayerMacs:
    """MACs of one layer in one pass.

    Attributes:
        name: The layer.
        type: "conv" or "dense"; the operator in an ONNX model.
        macs_standard: By the textbook, taps on padding included.
        macs_border_exact: Without the taps on padding.
        weights: Stored weights.
        inputs: Values read.
        outputs: Values written.
    """

    name: str
    type: str
    macs_standard: int
    macs_border_exact: int
    weights: int
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnMacs:
    """MACs of an ANN in one pass, batch 1: the ReLU twin, or an ONNX model.

    Attributes:
        layers: One row a layer.
        macs_effective: Mean of a pass without products with a zero weight or activation; None
            if not measured.
    """

    layers: tuple[AnnLayerMacs, ...]
    macs_effective: float | None = None

    @property
    def macs_standard(self) -> int:
        """Textbook MACs of a pass."""
        return sum(layer.macs_standard for layer in self.layers)

    @property
    def macs_border_exact(self) -> int:
        """MACs of a pass without the taps on padding."""
        return sum(layer.macs_border_exact for layer in self.layers)


def ann_macs(graph: Graph | FixedPointGraph) -> AnnMacs:
    """Count the MACs of a network's ReLU twin.

    The float graph is the better source: pooling that deployment folds into a dense layer costs
    no MACs there. Batch norm after a conv or dense layer folds into it and costs none.

    Args:
        graph: The float network, or the deployed one.

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
        weights=fan_out.weights,
        inputs=int(fan_out.stored.size),
        outputs=prod(output),
    )
