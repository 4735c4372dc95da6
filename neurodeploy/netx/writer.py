"""Write a `FixedPointGraph` as a netx file that stock lava-dl loads and runs exactly."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from neurodeploy.errors import NetxError
from neurodeploy.files import replacing
from neurodeploy.fixedpoint import BIAS_BITS, wrap
from neurodeploy.ir.fixed_layers import (
    Connection,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
    IntArray,
)
from neurodeploy.ir.graph import INPUT, FixedPointGraph
from neurodeploy.netx.schema import GEOMETRY_MAX, NEURON


def write(graph: FixedPointGraph, path: str | Path) -> None:
    """Write the network, whole or not at all.

    The number of input bits, which has no place in the format, and the layers' names are kept in
    HDF5 attributes, which Lava ignores.

    Args:
        graph: A sequential network: each layer reads the one before, and itself if recurrent.
        path: The `.net` file to create or replace.

    Raises:
        NetxError: If the graph is not sequential, or Lava would run a layer with other weights
            than these; every such layer is listed. Nothing is written then.
        OutputError: If the file cannot be written.
    """
    path = Path(path)
    faults = find_faults(graph)
    if faults:
        raise NetxError(f"{path}: cannot be written.\n" + "\n".join(f"- {line}" for line in faults))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["message_bits"] = graph.input.message_bits
        root = file.create_group("layer")
        previous = graph.input.shape
        if not graph.has_input_neuron:
            _write_input(root, graph)
        for layer in graph:
            if len(previous) == 3 and len(layer.shape) == 1:
                _write_type(root.create_group(str(len(root))), "flatten")
            _write_layer(root.create_group(str(len(root))), layer)
            previous = layer.shape


def find_faults(graph: FixedPointGraph) -> list[str]:
    """List what keeps a graph from being a netx file that Lava runs exactly.

    Args:
        graph: Any integer network.

    Returns:
        One sentence for each fault, starting with the layer's name; empty if there is none.
    """
    faults: list[str] = []
    previous = INPUT
    for layer in graph:
        forward = [c for c in layer.connections if c.source != layer.name]
        if len(forward) != 1 or forward[0].source != previous or len(layer.connections) > 2:
            sources = ", ".join(connection.source for connection in layer.connections)
            faults.append(
                f"{layer.name}: reads {sources}; a netx file holds a chain, in which each layer "
                f"reads the one before it ('{previous}')."
            )
        faults += [
            f"{layer.name}: {fault}"
            for connection in layer.connections
            for fault in _synapse_faults(connection, is_recurrent=layer.is_recurrent)
        ]
        if np.any(wrap(layer.bias, BIAS_BITS) != layer.bias):
            faults.append(
                f"{layer.name}: bias from {layer.bias.min()} to {layer.bias.max()}, 16 bits are "
                "allowed. Use a smaller scale."
            )
        previous = layer.name
    return faults


def _synapse_faults(connection: Connection, *, is_recurrent: bool) -> list[str]:
    synapse = connection.synapse
    if isinstance(synapse, FixedInjection):
        return []
    if not synapse.weight.any():
        return ["all weights are zero; Lava cannot load that. Remove the layer or its pruning."]
    if isinstance(synapse, FixedDense):
        faults = []
        if not synapse.effective.is_exact:
            faults.append(
                f"weights from {synapse.weight.min()} to {synapse.weight.max()} would act with "
                "other values in Lava. Keep them within [-256, 254] with at least one positive "
                "and one negative weight."
            )
        if is_recurrent and synapse.delay is not None:
            faults.append("recurrent and delayed; Lava scales its weights wrongly. Use either.")
        return faults
    largest = max(
        *synapse.weight.shape[2:],
        *synapse.stride,
        *synapse.padding,
        *synapse.dilation,
        synapse.groups,
    )
    if largest > GEOMETRY_MAX:
        return [
            f"a kernel extent, stride, padding, dilation or group count of {largest}, Lava allows "
            f"{GEOMETRY_MAX}. Use several layers or a dense kernel with zeros."
        ]
    return []


def _write_type(group: h5py.Group, kind: str) -> None:
    group.create_dataset("type", data=np.array([kind], "S10"))


def _write_input(root: h5py.Group, graph: FixedPointGraph) -> None:
    group = root.create_group("0")
    _write_type(group, "input")
    group.create_dataset("shape", data=np.array(graph.input.shape, np.int64))


def _write_layer(group: h5py.Group, layer: FixedLayer) -> None:
    group.attrs["name"] = layer.name
    group.create_dataset("shape", data=np.array(layer.shape, np.int64))
    forward = next(c.synapse for c in layer.connections if c.source != layer.name)
    if isinstance(forward, FixedInjection):
        _write_type(group, "input")
    elif isinstance(forward, FixedConv):
        _write_type(group, "conv")
        _write_conv(group, forward)
    else:
        _write_type(group, "dense_rec" if layer.is_recurrent else "dense")
        _write_dense(group, forward, layer)
    if layer.bias.any():
        _write_bias(group, layer)
    neuron = group.create_group("neuron")
    neuron.create_dataset("type", data="CUBA")
    values = (
        layer.neuron.current_decay,
        layer.neuron.voltage_decay,
        layer.neuron.threshold,
    )
    for field, value in zip(NEURON, values, strict=True):
        group.create_dataset(field.name, data=_in_lava_order(value).astype(np.int64))


def _write_conv(group: h5py.Group, synapse: FixedConv) -> None:
    weight = synapse.weight
    group.create_dataset("inChannels", data=np.int64(weight.shape[1] * synapse.groups))
    group.create_dataset("outChannels", data=np.int64(weight.shape[0]))
    group.create_dataset("groups", data=np.int64(synapse.groups))
    group.create_dataset("kernelSize", data=np.array(weight.shape[2:], np.int64))
    group.create_dataset("stride", data=np.array(synapse.stride, np.int64))
    group.create_dataset("padding", data=np.array(synapse.padding, np.int64))
    group.create_dataset("dilation", data=np.array(synapse.dilation, np.int64))
    group.create_dataset("weight", data=weight, compression="gzip", shuffle=True)


def _write_dense(group: h5py.Group, synapse: FixedDense, layer: FixedLayer) -> None:
    group.create_dataset("inFeatures", data=np.int64(synapse.weight.shape[1]))
    group.create_dataset("outFeatures", data=np.int64(synapse.weight.shape[0]))
    group.create_dataset("weight", data=synapse.weight, compression="gzip", shuffle=True)
    if synapse.delay is not None:
        group.create_dataset("delay", data=synapse.delay, compression="gzip", shuffle=True)
    for connection in layer.connections:
        if connection.source == layer.name and isinstance(connection.synapse, FixedDense):
            group.create_dataset("weight_rec", data=connection.synapse.weight)


def _write_bias(group: h5py.Group, layer: FixedLayer) -> None:
    """A value a channel where that suffices; conv layers need at least one a channel."""
    bias = layer.bias
    if len(layer.shape) == 3 and bias.shape != layer.shape:
        bias = np.broadcast_to(bias, (layer.shape[0], 1, 1))
    group.create_dataset("bias", data=_in_lava_order(bias))


def _in_lava_order(values: IntArray) -> IntArray:
    """From (C, H, W) to Lava's (W, H, C); one value a channel becomes (C,)."""
    if values.ndim == 3 and values.shape[1:] == (1, 1):
        return values.reshape(-1)
    return np.ascontiguousarray(values.transpose())
