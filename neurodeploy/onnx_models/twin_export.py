"""The ReLU twin of a network: the same layers and weights, ReLU for neurons, one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.errors import OnnxError
from neurodeploy.ir import float_layers as floats, integer_layers as integers
from neurodeploy.ir.float_layers import FloatArray, Layer, Shape
from neurodeploy.ir.graphs import INPUT, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import FixedLayer, Synapse
from neurodeploy.onnx_models.builder import Attribute, GraphBuilder
from neurodeploy.passes.dequantization import float_synapse

RELU_TWIN, LAYERS_AS_STORED = "relu_twin", "layers_as_stored"
"""Names of exported graphs: the twin of a trained network, or of layers lowered for the chip."""


def export_twin(network: Graph | FixedPointGraph, path: str | Path) -> None:
    """Write the ReLU twin of a float network (batch norm and pools too) or of a deployed one.

    Input `input` is (batch, *shape) float32: one frame in the units of the network's integer
    input, for instance the mean over its steps; output `output` holds the scores. The twin has
    the trained weights but was not trained itself: its accuracy is not the network's. The graph of
    a deployed network that was lowered is called `LAYERS_AS_STORED`: its relays and folded pools
    are no part of the trained network, and reports do not compare with it.

    Raises:
        OnnxError: If `onnx` is missing, or the network has parts without a counterpart.

    Example:
        >>> nd.export_twin(graph, "twin.onnx")
        >>> nd.count_onnx_macs("twin.onnx", bind_batch=True).macs_standard
        864768
    """
    graph, name = (network, RELU_TWIN) if isinstance(network, Graph) else _as_floats(network)
    shapes = graph.shapes()
    builder = GraphBuilder(name)
    entry = graph.input
    builder.input("input", entry.shape, np.float32)
    builder.store("input_scale", np.array(entry.scale, dtype=np.float32))
    value = "input"
    if entry.mean:
        for operator, constants in (("Sub", entry.mean), ("Div", entry.deviation)):
            channels = np.array(constants).reshape(-1, *(1,) * (len(entry.shape) - 1))
            constant = builder.store_floats(f"input.{operator.lower()}", channels)
            value = builder.add(operator, value, constant, out=f"input.{operator.lower()}.result")
    known = {graph.input_name: builder.add("Mul", value, "input_scale", out="scaled_input")}
    for name, layer in graph.nodes.items():
        if isinstance(layer, floats.Input):
            continue
        if graph.recurrent_synapse(name) is not None:
            raise _without_twin(name)
        sources = graph.sources(name)
        value = known[sources[0]]
        for number, source in enumerate(sources[1:]):
            value = builder.add("Add", value, known[source], out=f"{name}.sum{number}")
        known[name] = _add_layer(builder, name, layer, value, shapes[sources[0]])
    ends = [name for name in graph.nodes if not graph.destinations(name)]
    if len(ends) != 1:
        raise OnnxError(f"twin: {len(ends)} layers that nothing reads, one output is required.")
    builder.add("Identity", known[ends[0]], out="output")
    builder.output("output", shapes[ends[0]], np.float32)
    builder.save(path)


def _add_layer(builder: GraphBuilder, name: str, layer: Layer, value: str, source: Shape) -> str:
    def store(key: str, values: FloatArray) -> str:
        return builder.store_floats(f"{name}.{key}", values)

    match layer:
        case floats.Conv():
            return builder.conv(value, layer, layer.bias, name=name, out=name)
        case floats.Dense():
            if len(source) > 1:
                value = builder.add("Flatten", value, out=f"{name}.flat", axis=1)
            weight = store("weight", layer.weight)
            added = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
            return builder.add("Gemm", value, weight, store("bias", added), out=name, transB=1)
        case floats.BatchNorm():
            zeros = np.zeros(layer.scale.shape)
            numbers = {"scale": layer.scale, "shift": layer.shift, "mean": zeros, "var": zeros + 1}
            stored = [store(key, values) for key, values in numbers.items()]
            return builder.add("BatchNormalization", value, *stored, out=name, epsilon=0.0)
        case floats.MaxPool() | floats.AveragePool():
            attributes: dict[str, Attribute] = {
                "kernel_shape": list(layer.kernel),
                "strides": list(layer.stride),
                "pads": [*layer.padding, *layer.padding],
            }
            if isinstance(layer, floats.MaxPool):
                return builder.add("MaxPool", value, out=name, **attributes)
            return builder.add("AveragePool", value, out=name, count_include_pad=1, **attributes)
        case floats.GlobalAveragePool():
            mean = builder.add("GlobalAveragePool", value, out=f"{name}.mean")
            return builder.add("Flatten", mean, out=name, axis=1)
        case floats.Flatten():
            return builder.add("Flatten", value, out=name, axis=1)
        case floats.FiringNeuron():
            return builder.add("Relu", value, out=name)
        case floats.Integrator() | floats.SpikeDelay():
            return builder.add("Identity", value, out=name)
        case _:
            raise OnnxError(f"twin: '{name}' ({type(layer).__name__}) has no counterpart in ONNX.")


def _without_twin(name: str) -> OnnxError:
    return OnnxError(f"twin: '{name}' is recurrent; a single pass has no counterpart for it.")


# ------------------------------------------------------------------ of a deployed network


def _as_floats(fixed: FixedPointGraph) -> tuple[Graph, str]:
    """Return a deployed network as a float graph, weights as they act, and its name as a model."""
    nodes: dict[str, Layer] = {INPUT: floats.Input(shape=fixed.input.shape)}
    edges: list[tuple[str, str]] = []
    for layer in fixed:
        ends, has_synapse = [], False
        for number, connection in enumerate(layer.connections):
            if connection.source == layer.name:
                raise _without_twin(layer.name)
            if isinstance(connection.synapse, integers.FixedInjection):
                ends.append(connection.source)
                continue
            name = f"{layer.name}.synapse{number or ''}"
            nodes[name] = _float_synapse(layer, connection.synapse, has_bias=not has_synapse)
            has_synapse = True
            edges.append((connection.source, name))
            ends.append(name)
        if layer.bias.any() and not has_synapse:
            raise OnnxError(f"twin: '{layer.name}' has a bias, and no weights to add it to.")
        nodes[layer.name] = _float_neuron(layer)
        edges += [(end, layer.name) for end in ends]
    trained, stored = fixed.relu_twin, ann_macs(fixed)
    is_twin = trained is not None and trained.macs_border_exact == stored.macs_border_exact
    return Graph(nodes=nodes, edges=tuple(edges)), RELU_TWIN if is_twin else LAYERS_AS_STORED


def _float_synapse(
    layer: FixedLayer, synapse: Synapse, *, has_bias: bool
) -> floats.Conv | floats.Dense:
    bias = None
    if has_bias and layer.bias.any():
        bias = np.broadcast_to(layer.bias, layer.shape).astype(np.float64)
    if isinstance(synapse, integers.FixedConv):
        if bias is not None and (bias == bias[:, :1, :1]).all():
            bias = bias[:, 0, 0]
    elif isinstance(synapse, integers.FixedDense):
        bias = None if bias is None else bias.reshape(-1)
    else:
        raise OnnxError(f"twin: '{layer.name}' has complex synapses, which ONNX has not.")
    return float_synapse(synapse, bias)


def _float_neuron(layer: FixedLayer) -> Layer:
    neuron = layer.neuron
    if isinstance(neuron, integers.ResonateFireNeuron):
        raise OnnxError(f"twin: '{layer.name}' has resonators, which have no counterpart in ReLU.")
    if isinstance(neuron, integers.SigmaNeuron):
        return floats.Integrator()
    if isinstance(neuron, integers.CubaNeuron | integers.DeltaNeuron | integers.SigmaDeltaNeuron):
        return floats.Integrator() if neuron.is_readout else floats.Cuba(threshold=1.0)
    raise OnnxError(f"twin: '{layer.name}' has {neuron.label} neurons, without a ReLU counterpart.")
