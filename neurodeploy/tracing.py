"""From torch to the float `Graph`: the only bridge, and one way."""

from __future__ import annotations

from math import prod

import numpy as np
from torch import Tensor, nn

from neurodeploy.errors import TraceError
from neurodeploy.fixedpoint import DECAY_UNITY
from neurodeploy.ir.graph import Graph
from neurodeploy.ir.layers import (
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    FloatArray,
    GlobalAveragePool,
    Input,
    Integrator,
    Layer,
    Shape,
)
from neurodeploy.nn.blocks import Conv as ConvBlock, Dense as DenseBlock, GlobalAverageReadout
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import LIF, CubaLIF
from neurodeploy.nn.quantizer import EightBitQuantizer
from neurodeploy.nn.synapse import ConvSynapse, DenseSynapse


def trace(network: SpikingNetwork) -> Graph:
    """Write down what a network computes in each step, as it is in evaluation.

    A block `conv1` becomes the nodes `conv1.synapse`, `conv1.batch_norm` if it has one, and
    `conv1`, its neurons; the read-out ends in the integrator `readout`. The source of the first
    is `input`. Quantised weights are taken as they are used, decays as multiples of 1/4096.

    Args:
        network: Without branches; left as it is.

    Returns:
        The graph, in float64.

    Raises:
        TraceError: If the network has branches, or something without a counterpart.
    """
    if network.branches is not None:
        raise TraceError(
            f"network: has shortcut branches after {', '.join(network.architecture.branches)}, "
            "which exist for training only. Call remove_branches first."
        )
    nodes = _Nodes(
        Input(
            shape=network.architecture.shape,
            scale=network.input_scale,
            largest=network.largest_input,
        )
    )
    for name, block in network.blocks.items():
        if not isinstance(block, ConvBlock | DenseBlock):
            raise TraceError(
                f"{name}: a {type(block).__name__} has no counterpart. Conv and Dense have."
            )
        _trace_block(name, block, nodes)
    _trace_readout(network.readout, nodes)
    graph = nodes.graph()
    graph.check()
    return graph


class _Nodes:
    """Nodes in a row, and the shape at its end."""

    def __init__(self, entry: Input) -> None:
        self._nodes: dict[str, Layer] = {"input": entry}
        self._edges: list[tuple[str, str]] = []
        self.shape: Shape = entry.shape

    def append(self, name: str, layer: Layer) -> None:
        self._edges.append((next(reversed(self._nodes)), name))
        self._nodes[name] = layer
        self.shape = layer.output_shape(self.shape)

    def graph(self) -> Graph:
        return Graph(nodes=self._nodes, edges=tuple(self._edges))


def _trace_block(name: str, block: ConvBlock | DenseBlock, nodes: _Nodes) -> None:
    if block.delay is not None:
        raise TraceError(f"{name}: learned delays have no counterpart in the graph. Train without.")
    if block.delay_shift:
        raise TraceError(
            f"{name}: delay_shift moves spikes by a step, but output step t must answer input "
            "step t. Build the block with delay_shift=False."
        )
    mask = block.mask if isinstance(block, DenseBlock) else None
    _trace_synapse(f"{name}.synapse", block.synapse, nodes, mask=mask)
    if block.batch_norm is not None:
        nodes.append(f"{name}.batch_norm", _batch_norm(name, block.batch_norm))
    # Batch norm and biases leave the grid on which the quantised weights lie.
    is_on_grid = (
        block.batch_norm is None
        and block.synapse.bias is None
        and isinstance(block.synapse.pre_hook_fx, EightBitQuantizer)
    )
    nodes.append(name, _neuron(name, block.neuron, is_on_grid=is_on_grid))


def _trace_readout(readout: nn.Module, nodes: _Nodes) -> None:
    if isinstance(readout, GlobalAverageReadout):
        if len(nodes.shape) == 3:
            nodes.append("readout.pool", GlobalAveragePool())
        _trace_synapse("readout.synapse", readout.synapse, nodes)
    elif isinstance(readout, DenseSynapse):
        _trace_synapse("readout.synapse", readout, nodes)
    else:
        raise TraceError(
            f"readout: a {type(readout).__name__} has no counterpart. DenseSynapse and "
            "GlobalAverageReadout have."
        )
    nodes.append("readout", Integrator())


def _trace_synapse(
    name: str, synapse: nn.Module, nodes: _Nodes, *, mask: Tensor | None = None
) -> None:
    if isinstance(synapse, ConvSynapse):
        nodes.append(
            name,
            Conv(
                weight=_array(synapse.effective_weight),
                bias=None if synapse.bias is None else _array(synapse.bias),
                stride=synapse.stride,
                padding=synapse.padding,
                dilation=synapse.dilation,
                groups=synapse.groups,
            ),
        )
        return
    if not isinstance(synapse, DenseSynapse):
        raise TraceError(f"{name}: a {type(synapse).__name__} has no counterpart.")
    weight = synapse.effective_weight
    if mask is not None:
        weight = weight * mask
    if weight.ndim > 2 and weight.shape[1:] != nodes.shape:
        raise TraceError(
            f"{name}: reads windows of {tuple(weight.shape[1:])} of a source {nodes.shape}. "
            "Use a Conv block for windows."
        )
    if len(nodes.shape) == 3:
        if weight.ndim == 2 and weight.shape[1] != prod(nodes.shape):
            raise TraceError(
                f"{name}: {weight.shape[1]} inputs for a source {nodes.shape}. Use a Conv block "
                "with kernel 1 to act on every pixel."
            )
        nodes.append(f"{name.removesuffix('.synapse')}.flatten", Flatten())
    nodes.append(
        name,
        Dense(
            weight=_array(weight.flatten(1)),
            bias=None if synapse.bias is None else _array(synapse.bias),
        ),
    )


def _batch_norm(name: str, module: nn.Module) -> BatchNorm:
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        raise TraceError(f"{name}: a {type(module).__name__} has no counterpart. Use batch_norm.")
    if module.running_mean is None or module.running_var is None:
        raise TraceError(
            f"{name}: batch norm without running statistics depends on the batch. Train with "
            "track_running_stats=True."
        )
    scale = 1.0 / np.sqrt(_array(module.running_var) + module.eps)
    if module.affine:
        scale = scale * _array(module.weight)
    shift = -_array(module.running_mean) * scale
    if module.affine:
        shift = shift + _array(module.bias)
    return BatchNorm(scale=scale, shift=shift)


def _neuron(name: str, neuron: nn.Module | None, *, is_on_grid: bool) -> Cuba:
    if isinstance(neuron, LIF):
        return Cuba(threshold=neuron.threshold, current_decay=1.0, voltage_decay=1.0 - neuron.tau)
    if not isinstance(neuron, CubaLIF):
        raise TraceError(
            f"{name}: a neuron {type(neuron).__name__} has no counterpart. LIF and CubaLIF have."
        )
    refusals = {
        "dropout": (neuron.drop is not None, "Train without, or set it to None afterwards"),
        "norm": (neuron.norm is not None, "Use batch_norm of the block"),
        "graded_spike": (neuron.graded_spike, "The deployed neuron sends spikes of 1"),
        "persistent_state": (neuron.persistent_state, "Every sample starts from rest"),
        "shared_param=False": (not neuron.shared_param, "Use one decay for the whole layer"),
    }
    for what, (is_found, advice) in refusals.items():
        if is_found:
            raise TraceError(f"{name}: {what} has no counterpart in the graph. {advice}.")
    return Cuba(
        threshold=neuron.threshold,
        current_decay=int(neuron.cx_current_decay) / DECAY_UNITY,
        voltage_decay=int(neuron.cx_voltage_decay) / DECAY_UNITY,
        scale=neuron.w_scale if is_on_grid else None,
    )


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().cpu().numpy().astype(np.float64)
