"""From torch to the float `Graph`: the only bridge, and one way."""

from __future__ import annotations

from math import prod

import numpy as np
from torch import Tensor, nn

from neurodeploy.errors import TraceError
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    FiringNeuron,
    Flatten,
    FloatArray,
    GlobalAveragePool,
    Input,
    Integrator,
    Layer,
    MaxPool,
    Shape,
    SpikeDelay,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.nn.batch_norm import TemporalBatchNorm
from neurodeploy.nn.blocks import (
    AveragePool as AverageBlock,
    Conv as ConvBlock,
    Dense as DenseBlock,
    GlobalAveragePool as GlobalAverageBlock,
    GlobalAverageReadout,
    MaxPool as PoolBlock,
    RecurrentDense,
)
from neurodeploy.nn.functional.quantizer import EightBitQuantizer
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import SpikingNeuron
from neurodeploy.nn.residual import (
    Neurons,
    NormalizedConv,
    PreActivationBlock,
    SpikeElementWiseBlock,
    StandardBlock,
)
from neurodeploy.nn.spiking_block import Delay
from neurodeploy.nn.synapse import ConvSynapse, DenseSynapse


def trace(network: SpikingNetwork) -> Graph:
    """Write down what a network computes in each step, as it is in evaluation.

    A block `conv1` becomes the nodes `conv1.synapse`, `conv1.batch_norm` if it has one, and
    `conv1`, its neurons; the read-out ends in the integrator `readout`. The source of the first
    is `input`. The two paths of a residual block are two edges into the same neurons. Quantised
    weights are taken as they are used, decays as multiples of 1/4096.

    Args:
        network: Without branches; left as it is.

    Returns:
        The graph, in float64.

    Raises:
        TraceError: If the network has branches, or something without a counterpart.

    Example:
        >>> list(nd.trace(network).nodes)[:4]
        ['input', 'conv1.synapse', 'conv1.batch_norm', 'conv1']
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
            mean=network.architecture.input_mean,
            deviation=network.architecture.input_deviation,
        )
    )
    for name, block in network.blocks.items():
        _trace_any(name, block, nodes)
    _trace_readout(network.readout, nodes)
    graph = nodes.graph()
    graph.check()
    return graph


class _Nodes:
    """Nodes so far, the ones whose values add up to the current value, and its shape."""

    def __init__(self, entry: Input) -> None:
        self._nodes: dict[str, Layer] = {"input": entry}
        self._edges: list[tuple[str, str]] = []
        self.sources: tuple[str, ...] = ("input",)
        self.shape: Shape = entry.shape

    def append(self, name: str, layer: Layer) -> None:
        """Add a node that reads the current value; its output is the new one."""
        self._edges += [(source, name) for source in self.sources]
        self._nodes[name] = layer
        self.sources = (name,)
        self.shape = layer.output_shape(self.shape)

    def append_recurrence(self, name: str, layer: Dense) -> None:
        """Add a synapse from the neurons that are the current value back to themselves."""
        (neurons,) = self.sources
        self._nodes[name] = layer
        self._edges += [(neurons, name), (name, neurons)]

    def go_back(self, sources: tuple[str, ...], shape: Shape) -> None:
        """Make an earlier value the current one, for a second path from it."""
        self.sources, self.shape = sources, shape

    def add(self, sources: tuple[str, ...]) -> None:
        """Add an earlier value to the current one."""
        self.sources += sources

    def graph(self) -> Graph:
        return Graph(nodes=self._nodes, edges=tuple(self._edges))


def _trace_any(name: str, block: nn.Module, nodes: _Nodes) -> None:
    match block:
        case ConvBlock() | DenseBlock():
            _trace_block(name, block, nodes)
        case Delay():
            nodes.append(name, SpikeDelay(steps=block.steps.cpu().numpy()))
        case Neurons():
            nodes.append(name, _neuron(name, block.neuron, is_on_grid=False))
        case StandardBlock():
            _trace_sum(name, block, nodes, skip=nodes.sources)
            nodes.append(name, _neuron(name, block.neurons.neuron, is_on_grid=False))
        case PreActivationBlock():
            skip, entry = nodes.sources, f"{name}.entry"
            nodes.append(entry, _neuron(entry, block.entry.neuron, is_on_grid=False))
            _trace_sum(name, block, nodes, skip=skip)
        case SpikeElementWiseBlock():
            raise TraceError(
                f"{name}: a residual block of kind 'sew' adds spikes to values of 2 and more, "
                "which are no binary events. Train with residual = 'standard' or 'ms' to deploy."
            )
        case PoolBlock() | AverageBlock():
            kind = MaxPool if isinstance(block, PoolBlock) else AveragePool
            nodes.append(
                name,
                kind(
                    kernel=(block.kernel, block.kernel),
                    stride=(block.stride, block.stride),
                    padding=(block.padding, block.padding),
                ),
            )
        case GlobalAverageBlock():
            nodes.append(name, GlobalAveragePool())
        case _:
            raise TraceError(f"{name}: a {type(block).__name__} has no counterpart in the graph.")


def _trace_sum(
    name: str,
    block: StandardBlock | PreActivationBlock,
    nodes: _Nodes,
    *,
    skip: tuple[str, ...],
) -> None:
    """Trace both paths from the current value, `skip` the second without a projection.

    The sum stays a sum until neurons read it.
    """
    start, shape = nodes.sources, nodes.shape
    _trace_block(f"{name}.conv1", block.conv1, nodes)
    _trace_normalized(f"{name}.conv2", block.conv2, nodes)
    main, main_shape = nodes.sources, nodes.shape
    if block.projection is not None:
        nodes.go_back(start, shape)
        _trace_normalized(f"{name}.projection", block.projection, nodes)
        skip = nodes.sources
    nodes.go_back(main, main_shape)
    nodes.add(skip)


def _trace_normalized(name: str, block: NormalizedConv, nodes: _Nodes) -> None:
    _trace_synapse(f"{name}.synapse", block.synapse, nodes)
    nodes.append(f"{name}.batch_norm", _batch_norm(name, block.batch_norm))


def _trace_block(name: str, block: ConvBlock | DenseBlock, nodes: _Nodes) -> None:
    if block.delay is not None:
        raise TraceError(
            f"{name}: learned delays inside of a block have no counterpart in the graph. Use a "
            "layer of type 'delay' behind it."
        )
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
    if isinstance(block, RecurrentDense):
        weight = _array(block.recurrent_synapse.effective_weight)
        nodes.append_recurrence(f"{name}.recurrent", Dense(weight=weight))


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
    if isinstance(module, TemporalBatchNorm):
        factors = _array(module.factors)
        if np.any(factors != factors[0]):
            raise TraceError(
                f"{name}: temporal batch norm with another factor for each step "
                f"({', '.join(f'{factor:.3g}' for factor in factors)}); the chip has one weight "
                "for all steps. Train with norm = 'tdbn' or 'bn' to deploy."
            )
        plain = _batch_norm(name, module.norm)
        return BatchNorm(scale=plain.scale * factors[0], shift=plain.shift * factors[0])
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


def _neuron(name: str, neuron: nn.Module | None, *, is_on_grid: bool) -> FiringNeuron:
    if not isinstance(neuron, SpikingNeuron):
        raise TraceError(
            f"{name}: a neuron {type(neuron).__name__} has no counterpart. LIF and CubaLIF have."
        )
    return neuron.to_graph(name, is_on_grid=is_on_grid)


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().cpu().numpy().astype(np.float64)
