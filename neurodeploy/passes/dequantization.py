"""Integer networks as floats: what the chip would compute without rounding, wrapping, clipping."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import BIAS_BITS, DECAY_UNITY, STATE_EXPONENT, FloatArray, wrap
from neurodeploy.ir import float_layers as floats, integer_layers as integers
from neurodeploy.ir.float_layers import Layer
from neurodeploy.ir.graphs import INPUT, FixedPointGraph, Graph

_BETWEEN_STATES = 2.0 ** -(STATE_EXPONENT + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Dequantized:
    """An integer network in units of its weights.

    Attributes:
        nodes: Layers by name, a synapse each; a layer of dense synapses is flat.
        edges: See `Graph`.
        thresholds: By firing layer: T + 1/128 of each neuron, of the layer's shape. States are
            multiples of 1/64, so that "above" and "at or above" it are the same.
        refusals: What floats cannot say, by layer; something else stands in its place.
    """

    nodes: dict[str, Layer] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    thresholds: dict[str, FloatArray] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    @property
    def graph(self) -> Graph:
        """The float network; its thresholds are the largest of a layer."""
        return Graph(nodes=self.nodes, edges=tuple(self.edges))


def dequantize(fixed: FixedPointGraph) -> Dequantized:
    """Return an integer network as floats, its weights as they act.

    Leaky neurons and read-outs have float forms; others, delays and input blocks are refusals.
    """
    result = Dequantized({INPUT: floats.Input(shape=fixed.input.shape)})
    for layer in fixed:
        back: dict[str, Layer] = {}
        for connection in layer.connections:
            name = f"{layer.name}.synapse"
            while name in {*fixed.names, *result.nodes, *back}:
                name += "_"
            is_back = connection.source == layer.name
            (back if is_back else result.nodes)[name] = _synapse(layer, connection, result.refusals)
            result.edges.extend([(connection.source, name), (name, layer.name)])
        is_read = any(one.source == layer.name for other in fixed for one in other.connections)
        result.nodes[layer.name] = _neuron(layer, result, is_read=is_read)
        result.nodes.update(back)
    return result


def float_synapse(
    synapse: integers.FixedConv | integers.FixedDense, bias: FloatArray | None = None
) -> floats.Conv | floats.Dense:
    """Return a synapse with the weights that act, which of a dense one may not be those stored."""
    if isinstance(synapse, integers.FixedDense):
        acting = synapse.effective
        return floats.Dense(weight=acting.mantissa / 2.0**acting.shift, bias=bias)
    return floats.Conv(
        weight=synapse.weight.astype(np.float64),
        bias=bias,
        stride=synapse.stride,
        padding=synapse.padding,
        dilation=synapse.dilation,
        groups=synapse.groups,
    )


def _synapse(
    layer: integers.FixedLayer, connection: integers.Connection, refusals: list[str]
) -> Layer:
    synapse = connection.synapse
    if isinstance(synapse, integers.FixedInjection):
        refusals.append(f"{layer.name}: an input block, which takes values in without weights.")
        return floats.Cuba(threshold=1.0)
    if isinstance(synapse, integers.FixedComplexDense):  # of resonators, which are refused
        synapse = synapse.real
    elif isinstance(synapse, integers.FixedDense) and np.any(synapse.delay):
        refusals.append(f"{layer.name}: delays have no counterpart. Train without them.")
    return float_synapse(synapse)


def _neuron(layer: integers.FixedLayer, result: Dequantized, *, is_read: bool) -> Layer:
    neuron = layer.neuron
    if not isinstance(neuron, integers.CubaNeuron):
        result.refusals.append(f"{layer.name}: {neuron.label} neurons have no counterpart.")
        return floats.Cuba(threshold=1.0)
    is_flat = any(isinstance(one.synapse, integers.FixedDense) for one in layer.connections)

    def full(values: npt.NDArray[np.integer]) -> FloatArray:
        spread = np.broadcast_to(values, layer.shape).astype(np.float64)
        return spread.ravel() if is_flat else spread

    current_decay = full(neuron.current_decay) / DECAY_UNITY
    voltage_decay = full(neuron.voltage_decay) / DECAY_UNITY
    bias = full(wrap(layer.bias, BIAS_BITS))
    if neuron.is_readout and not is_read:
        return floats.Integrator(
            current_decay=current_decay, voltage_decay=voltage_decay, bias=bias
        )
    threshold = result.thresholds[layer.name] = full(neuron.threshold) + _BETWEEN_STATES
    return floats.Cuba(
        current_decay=current_decay,
        voltage_decay=voltage_decay,
        bias=bias,
        threshold=float(threshold.max()),
    )
