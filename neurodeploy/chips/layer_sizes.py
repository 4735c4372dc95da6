"""Sizes of the layers of a network: all that an estimate of cores needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    Shape,
    Synapse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSize:
    """The numbers that decide how many cores a layer takes.

    Attributes:
        name: Of the layer.
        shape: (C, H, W) or (N,).
        inputs: Neurons that each of its dense synapses reads, added up; 0 for none.
        synapses: Synapse instances of its convolutions, taps on padding left out.
        weight_bits: Bits of its largest weight, sign included.
    """

    name: str
    shape: Shape
    inputs: int = 0
    synapses: int = 0
    weight_bits: int = 8

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return prod(self.shape)


def sizes_of(graph: FixedPointGraph) -> tuple[LayerSize, ...]:
    """Return the size of every layer of a deployed network."""
    return tuple(_size_of(graph, layer) for layer in graph)


def weight_bits_of(largest: int) -> int:
    """Return the bits of weights up to a magnitude, sign included."""
    return max(1, int(largest).bit_length()) + 1


def conv_instances(weight: Shape, source: Shape, output: Shape, synapse: FixedConv) -> int:
    """Count the synapse instances of a convolution; taps on padding are none.

    Args:
        weight: Its shape, (out, in / groups, KH, KW).
        source: (C, H, W).
        output: (C', H', W').
        synapse: Gives stride, padding and dilation.
    """
    reached = 1
    for axis in (0, 1):
        taps = np.arange(weight[axis + 2]) * synapse.dilation[axis]
        places = np.arange(output[axis + 1]) * synapse.stride[axis] - synapse.padding[axis]
        pixels = places[:, None] + taps
        reached *= int(np.count_nonzero((pixels >= 0) & (pixels < source[axis + 1])))
    return weight[0] * weight[1] * reached


def _size_of(graph: FixedPointGraph, layer: FixedLayer) -> LayerSize:
    inputs = instances = largest = 0
    for connection in layer.connections:
        source = (
            layer.shape if connection.source == layer.name else graph.shape_of(connection.source)
        )
        for weight, synapse in _matrices(connection.synapse):
            largest = max(largest, int(np.abs(weight.astype(np.int64)).max()))
            if isinstance(synapse, FixedConv):
                shape = synapse.output_shape(source)
                instances += conv_instances(weight.shape, source, shape, synapse)
            else:
                inputs += weight.shape[1]
    return LayerSize(
        name=layer.name,
        shape=layer.shape,
        inputs=inputs,
        synapses=instances,
        weight_bits=weight_bits_of(largest),
    )


def _matrices(
    synapse: Synapse,
) -> list[tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], FixedConv | FixedDense]]:
    if isinstance(synapse, FixedComplexDense):
        return [(part.weight, part) for part in (synapse.real, synapse.imaginary)]
    if isinstance(synapse, FixedConv | FixedDense):
        return [(synapse.weight, synapse)]
    return []
