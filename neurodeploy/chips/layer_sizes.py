"""Sizes of the layers of a network: all that an estimate of cores needs.

They come from a deployed network, or from one line of text before there is one:

784-256-10                          dense layers of 256 and 10 neurons on 784 inputs
3x66x200-24c3s2-36c3s2-100-10       convolutions: channels, c, kernel; s stride, p padding,
                                    d dilation, g groups; "s2,1" is rows and columns
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

import numpy as np

from neurodeploy.errors import GraphError
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    Shape,
    Synapse,
)

_INPUT = re.compile(r"\d+(x\d+x\d+)?")
_DENSE = re.compile(r"\d+")
_CONV = re.compile(
    r"(?P<channels>\d+)c(?P<kernel>\d+(,\d+)?)(?P<options>([spdg]\d+(,\d+)?)*)", re.IGNORECASE
)
_OPTION = re.compile(r"([spdg])(\d+(?:,\d+)?)", re.IGNORECASE)


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
    """Return the size of every layer of a deployed network.

    Example:
        >>> sizes = nd.sizes_of(nd.load_example().graph)
        >>> [(size.name, size.shape, size.synapses) for size in sizes]
        [('conv1', (8, 4, 4), 968), ('conv2', (16, 2, 2), 3200), ('readout', (10,), 0)]
    """
    return tuple(_size_of(graph, layer) for layer in graph)


def weight_bits_of(largest: int) -> int:
    """Return the bits of weights up to a magnitude, sign included."""
    return max(1, int(largest).bit_length()) + 1


def conv_instances(source: Shape, output: Shape, synapse: FixedConv) -> int:
    """Count the synapse instances of a convolution from (C, H, W) to (C', H', W').

    Taps on padding are none.
    """
    weight: Shape = synapse.weight.shape
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
        is_recurrent = connection.source == layer.name
        source = layer.shape if is_recurrent else graph.shape_of(connection.source)
        for synapse in _matrices(connection.synapse):
            largest = max(largest, int(np.abs(synapse.weight.astype(np.int64)).max()))
            if isinstance(synapse, FixedConv):
                instances += conv_instances(source, synapse.output_shape(source), synapse)
            else:
                inputs += synapse.weight.shape[1]
    return LayerSize(
        name=layer.name,
        shape=layer.shape,
        inputs=inputs,
        synapses=instances,
        weight_bits=weight_bits_of(largest),
    )


def _matrices(synapse: Synapse) -> tuple[FixedConv | FixedDense, ...]:
    if isinstance(synapse, FixedComplexDense):
        return synapse.real, synapse.imaginary
    return (synapse,) if isinstance(synapse, FixedConv | FixedDense) else ()


def parse_sketch(text: str, *, weight_bits: int = 8) -> tuple[LayerSize, ...]:
    """Read a network written as one line, input and layers joined by "-".

    Every weight has `weight_bits`, sign included; the result leaves the input out.

    Raises:
        GraphError: If a part cannot be read or does not fit the one before it.
    """
    first, *rest = (part.strip() for part in text.split("-"))
    if not _INPUT.fullmatch(first) or not rest:
        raise GraphError(
            f"shapes '{text}': an input (N or CxHxW) and at least one layer are required, joined "
            "by '-', as in 784-256-10 or 3x66x200-24c3s2-100-10."
        )
    shape: Shape = tuple(int(size) for size in first.split("x"))
    if min(shape) < 1:
        raise GraphError(f"shapes '{text}': an input without values.")
    layers = []
    counts = {"conv": 0, "dense": 0}
    for part in rest:
        kind, read = ("dense", _dense) if _DENSE.fullmatch(part) else ("conv", _conv)
        counts[kind] += 1
        layers.append(read(part, f"{kind}{counts[kind]}", shape, weight_bits))
        shape = layers[-1].shape
    return tuple(layers)


def _dense(part: str, name: str, source: Shape, weight_bits: int) -> LayerSize:
    if int(part) < 1:
        raise GraphError(f"shapes: '{part}': a layer needs a neuron.")
    return LayerSize(name=name, shape=(int(part),), inputs=prod(source), weight_bits=weight_bits)


def _conv(part: str, name: str, source: Shape, weight_bits: int) -> LayerSize:
    found = _CONV.fullmatch(part)
    if found is None:
        raise GraphError(
            f"shapes: '{part}' is neither a number of neurons nor a convolution such as 24c3s2p1."
        )
    options = {key.lower(): _pair(value) for key, value in _OPTION.findall(found["options"])}
    groups = options.get("g", (1, 1))[0]
    channels, kernel = int(found["channels"]), _pair(found["kernel"])
    if len(source) != 3 or groups < 1 or source[0] % groups or channels < 1:
        raise GraphError(
            f"shapes: '{part}' cannot read a source of shape {'x'.join(map(str, source))}."
        )
    synapse = FixedConv(
        weight=np.broadcast_to(np.int32(0), (channels, source[0] // groups, *kernel)),
        stride=options.get("s", (1, 1)),
        padding=options.get("p", (0, 0)),
        dilation=options.get("d", (1, 1)),
        groups=groups,
    )
    shape = synapse.output_shape(source)
    instances = conv_instances(source, shape, synapse)
    return LayerSize(name=name, shape=shape, synapses=instances, weight_bits=weight_bits)


def _pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition(",")
    return int(first), int(second or first)
