"""Write a `FixedPointGraph` as a netx file that stock lava-dl loads and runs exactly."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError, NetxError
from neurodeploy.files import replacing
from neurodeploy.fixedpoint import wrap
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
    IntArray,
    Neuron,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
)
from neurodeploy.netx.schema import (
    GEOMETRY_MAX,
    LAYERS_MAX,
    NEURONS,
    RELU_TWIN,
    RESONATOR_PHASE_MARK,
    bias_bits,
)


def write(graph: FixedPointGraph, path: str | Path) -> None:
    """Write the network, whole or not at all.

    The number of input bits, which has no place in the format, and the layers' names are kept in
    HDF5 attributes, the counts of the ReLU twin in a dataset beside the layers; Lava ignores both.
    So it does the spike exponent and the refresh interval of sigma-delta neurons and the scales of
    a converted network, attributes as well: whoever loads a file of another exponent than 6 gives
    Lava's `Network` that one as `spike_exp`, and whoever runs one with a refresh interval sets
    states and buffers to zero that often. The input of a dense layer comes back flat, which is what
    Lava reads there.

    Raises:
        NetxError: If the graph is not sequential, or Lava would run a layer with other weights
            than these; every such layer is listed. Nothing is written then.
        OutputError: If the file cannot be written.

    Example:
        >>> example = nd.load_example()
        >>> nd.netx.write(example.graph, "copy.net")
        >>> nd.netx.read("copy.net").names == example.graph.names
        True
    """
    path = Path(path)
    faults = find_faults(graph)
    if faults:
        raise NetxError(f"{path}: cannot be written.\n" + "\n".join(f"- {line}" for line in faults))
    # HDF5 reports a full disk in many ways, some of them only when it closes; a plain write of
    # finished bytes fails in one.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        _write_network(file, graph)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def find_faults(graph: FixedPointGraph) -> list[str]:
    """List what keeps a graph from being a netx file that Lava runs exactly.

    Each fault is a sentence that begins with the layer's name.
    """
    faults: list[str] = []
    previous = INPUT
    for index, layer in enumerate(graph):
        forward = [c for c in layer.connections if c.source != layer.name]
        if len(forward) != 1 or forward[0].source != previous or len(layer.connections) > 2:
            sources = ", ".join(connection.source for connection in layer.connections)
            faults.append(
                f"{layer.name}: reads {sources}; a netx file holds a chain, in which each layer "
                f"reads the one before it ('{previous}')."
            )
        faults += [f"{layer.name}: {fault}" for fault in _layer_faults(layer, is_first=index == 0)]
        for connection in layer.connections:
            faults += [f"{layer.name}: {fault}" for fault in _synapse_faults(connection.synapse)]
        previous = layer.name
    exponents = {
        layer.neuron.spike_exponent
        for layer in graph
        if isinstance(layer.neuron, DeltaNeuron | SigmaDeltaNeuron)
    }
    if len(exponents) > 1:
        faults.append(
            f"network: spike exponents {sorted(exponents)}; Lava takes one for all layers."
        )
    # Counted generously: a flatten layer before each, and the input layer.
    if 2 * len(graph.layers) + 1 > LAYERS_MAX:
        faults.append(f"network: {len(graph.layers)} layers, {LAYERS_MAX // 2} are allowed.")
    return faults


def _layer_faults(layer: FixedLayer, *, is_first: bool) -> list[str]:
    faults = []
    forward = [c.synapse for c in layer.connections if c.source != layer.name]
    is_block = any(isinstance(synapse, FixedInjection) for synapse in forward)
    if is_block and not is_first:
        faults.append("fed without weights; only the first layer, an input block, can be.")
    is_flat = any(isinstance(synapse, FixedDense | FixedComplexDense) for synapse in forward)
    if is_flat and len(layer.shape) != 1:
        faults.append(f"shape {layer.shape} after dense weights; (N,) is required.")
    if type(layer.neuron) not in NEURONS:
        faults.append(f"neurons of kind {type(layer.neuron).__name__}; netx has no group for them.")
    is_block_neuron = isinstance(layer.neuron, CubaNeuron | DeltaNeuron)
    if not is_block_neuron if is_block else isinstance(layer.neuron, DeltaNeuron):
        faults.append(
            f"neurons of kind {type(layer.neuron).__name__}; an input block holds CubaNeuron or "
            "DeltaNeuron, and only it holds DeltaNeuron."
        )
    if is_block and layer.bias.any():
        faults.append("a bias in an input block; netx does not read one.")
    bits = bias_bits(layer.neuron)
    if bits and np.any(wrap(layer.bias, bits) != layer.bias):
        faults.append(
            f"bias from {layer.bias.min()} to {layer.bias.max()}, {bits} bits are allowed. "
            "Use a smaller scale."
        )
    if layer.is_recurrent:
        faults += _recurrence_faults(layer)
    return faults


def _recurrence_faults(layer: FixedLayer) -> list[str]:
    forward = [c.synapse for c in layer.connections if c.source != layer.name]
    backward = [c.synapse for c in layer.connections if c.source == layer.name]
    if len(forward) != 1 or len(backward) != 1:
        return []  # already named as not being a chain
    (first,), (second,) = forward, backward
    if not isinstance(first, FixedDense) or not isinstance(second, FixedDense):
        return ["recurrent, but not fed by dense weights; netx has no such layer."]
    if first.delay is not None:
        return ["recurrent and delayed; Lava scales its weights wrongly. Use either."]
    if (
        first.partner is None
        or second.partner is None
        or not np.array_equal(first.partner, second.weight)
        or not np.array_equal(second.partner, first.weight)
    ):
        return ["recurrent, but its two synapses do not name each other as partner."]
    return []


def _synapse_faults(
    synapse: FixedConv | FixedDense | FixedComplexDense | FixedInjection,
) -> list[str]:
    match synapse:
        case FixedInjection():
            return []
        case FixedComplexDense():
            return _synapse_faults(synapse.real) + _synapse_faults(synapse.imaginary)
        case FixedDense():
            try:
                if synapse.effective.is_exact:
                    return []
            except GraphError as error:
                return [str(error)]
            return [
                f"weights from {synapse.weight.min()} to {synapse.weight.max()} would act with "
                "other values in Lava. Keep them within [-256, 254] with at least one positive "
                "and one negative weight."
            ]
        case FixedConv():
            kernel = synapse.weight.shape[2:]
            geometry = (*kernel, *synapse.stride, *synapse.padding, *synapse.dilation)
            largest = max(*geometry, synapse.groups)
            if largest > GEOMETRY_MAX:
                return [
                    f"a kernel extent, stride, padding, dilation or group count of {largest}, "
                    f"Lava allows {GEOMETRY_MAX}. Use several layers or a dense kernel with zeros."
                ]
            return []


def _write_network(file: h5py.File, graph: FixedPointGraph) -> None:
    file.attrs["message_bits"] = graph.input.message_bits
    if graph.sends_changes:
        file.attrs["spike_exponent"] = graph.spike_exponent
    if graph.refresh_interval is not None:
        file.attrs["refresh"] = graph.refresh_interval
    if graph.frame_scales is not None:
        file.attrs["input_scale"] = graph.frame_scales.input
        file.attrs["output_scale"] = graph.frame_scales.output
        file.attrs["latency"] = len(graph.layers) - 1
    if graph.relu_twin is not None:
        text = json.dumps([asdict(layer) for layer in graph.relu_twin.layers])
        _write_array(file, RELU_TWIN.name, np.frombuffer(text.encode(), np.uint8))
    root = file.create_group("layer")
    previous = graph.input.shape
    if not graph.has_input_neuron:
        group = root.create_group("0")
        _write_type(group, "input")
        group.create_dataset("shape", data=np.array(graph.input.shape, np.int64))
    for layer in graph:
        if len(previous) == 3 and len(layer.shape) == 1:
            _write_type(root.create_group(str(len(root))), "flatten")
        _write_layer(root.create_group(str(len(root))), layer)
        previous = layer.shape


def _write_type(group: h5py.Group, kind: str) -> None:
    group.create_dataset("type", data=np.array([kind], "S10"))


def _write_layer(group: h5py.Group, layer: FixedLayer) -> None:
    group.attrs["name"] = np.bytes_(layer.name.encode())
    group.create_dataset("shape", data=np.array(layer.shape, np.int64))
    forward = next(c.synapse for c in layer.connections if c.source != layer.name)
    match forward:
        case FixedInjection():
            _write_type(group, "input")
        case FixedConv():
            _write_type(group, "conv")
            _write_conv(group, forward)
        case FixedDense():
            _write_type(group, "dense_rec" if layer.is_recurrent else "dense")
            _write_dense(group, forward)
        case FixedComplexDense():
            _write_type(group, "dense")
            _write_array(group, "weight/real", forward.real.weight)
            _write_array(group, "weight/imag", forward.imaginary.weight)
    if layer.bias.any():
        _write_bias(group, layer)
    _write_neuron(group.create_group("neuron"), layer.neuron)


def _write_array(group: h5py.Group, key: str, values: npt.NDArray[np.integer]) -> None:
    group.create_dataset(key, data=values, compression="gzip", shuffle=True)


def _write_conv(group: h5py.Group, synapse: FixedConv) -> None:
    weight = synapse.weight
    geometry = {
        "inChannels": weight.shape[1] * synapse.groups,
        "outChannels": weight.shape[0],
        "groups": synapse.groups,
        "kernelSize": weight.shape[2:],
        "stride": synapse.stride,
        "padding": synapse.padding,
        "dilation": synapse.dilation,
    }
    for name, value in geometry.items():
        group.create_dataset(name, data=np.array(value, np.int64))
    _write_array(group, "weight", weight)


def _write_dense(group: h5py.Group, synapse: FixedDense) -> None:
    group.create_dataset("inFeatures", data=np.int64(synapse.weight.shape[1]))
    group.create_dataset("outFeatures", data=np.int64(synapse.weight.shape[0]))
    _write_array(group, "weight", synapse.weight)
    if synapse.delay is not None:
        _write_array(group, "delay", synapse.delay)
    if synapse.partner is not None:
        _write_array(group, "weight_rec", synapse.partner)


def _write_bias(group: h5py.Group, layer: FixedLayer) -> None:
    """A value a channel where that suffices; conv layers need at least one a channel."""
    bias = layer.bias
    if len(layer.shape) == 3:
        is_per_channel = bias.ndim == 0 or (bias.ndim == 3 and bias.shape[1:] == (1, 1))
        bias = np.broadcast_to(bias, (layer.shape[0], 1, 1) if is_per_channel else layer.shape)
    group.create_dataset("bias", data=_in_lava_order(bias))


def _write_neuron(group: h5py.Group, neuron: Neuron) -> None:
    neuron_format = NEURONS[type(neuron)]
    is_phase = isinstance(neuron, ResonateFireNeuron) and neuron.is_phase
    suffix = f"_{RESONATOR_PHASE_MARK}" if is_phase else ""
    group.create_dataset("type", data=neuron_format.type + suffix)
    if neuron_format.mark:
        group.create_dataset(neuron_format.mark, data=True)
    for attribute, field in neuron_format.parameters.items():
        value: int | IntArray = getattr(neuron, attribute)
        stored = _in_lava_order(value) if isinstance(value, np.ndarray) else np.int64(value)
        group.create_dataset(field.name, data=stored.astype(np.int64))


def _in_lava_order(values: IntArray) -> IntArray:
    """From (C, H, W) to Lava's (W, H, C); one value a channel becomes (C,)."""
    if values.ndim == 3 and values.shape[1:] == (1, 1):
        return values.reshape(-1)
    return np.ascontiguousarray(values.transpose())
