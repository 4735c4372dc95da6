"""Relay skip connections: make a network strictly sequential, with equal spikes.

A netx file is a chain: each layer reads the one before it. A skip connection from layer S over
one or more layers to layer L becomes *relay channels*: every layer in between gets extra output
channels that repeat S's spikes, one step later each, just as the main path is delayed; L reads
main and relay channels side by side, with the skip's weights at the taps that see its pixels.

A relay neuron repeats its input exactly if its current lives one step (iDecay 4096), and a spike,
of weight w, takes it over its threshold θ while without spikes it never gets there. With a bias b
of its own (biases may differ between the channels of a layer, thresholds on the chip may not):

    a spike fires at any voltage v >= 0:       w + b > θ
    rest, b / (1 - leak) at most, does not:    4096 · b <= θ · vDecay

Without leak (vDecay 0) b is 0 and θ must be below w. With leak the bias holds the relay just below
its threshold, and θ may be up to 4096 / (4096 - vDecay) times as large: twice for vDecay 2048.
The bound that remains (`relay_threshold_max`) limits the layer's scale and so costs precision
in its main weights.

Source: the construction without bias and its conditions were confirmed on lava-nc 0.10.0 with
lava-dl 0.6.0; `tests/differential` repeats that, and shows the one with bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.fixedpoint import DECAY_UNITY
from neurodeploy.ir.float_layers import Shape
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
    IntArray,
)
from neurodeploy.passes.folding import join_groups
from neurodeploy.passes.held_pixels import Held, Span, span_of
from neurodeploy.passes.parallel_synapses import Offsets, common_kernel, offsets_of

_WEIGHTS_MAX = 1 << 28
"""Weights of a dense layer with relays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayCost:
    """The relay channels and neurons of one layer.

    Attributes:
        weights: Stored weights more than without, zeros included.
        relay_weight: Integer weight of a relay.
        relay_bias: Bias that holds the relays below their threshold; 0 where none is needed.
        threshold: Largest threshold of the layer's main channels.
    """

    layer: str
    channels: int
    neurons: int
    weights: int
    relay_weight: int
    relay_bias: int
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lowered:
    """A sequential network and the price of its relays.

    Attributes:
        graph: Layers of the same names, in the same order, each with its own channels first and
            its relay channels behind them.
        channels: Number of its own channels (or neurons), by layer.
        costs: One entry for each layer with relays.
    """

    graph: FixedPointGraph
    channels: Mapping[str, int]
    costs: tuple[RelayCost, ...]


def find_carried(chain: Sequence[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Find the sources that each layer of a chain has to relay to later ones, in chain order.

    Args:
        chain: (name, names of its sources) in order; a source earlier than the layer before is a
            skip connection.
    """
    position = {INPUT: -1} | {name: index for index, (name, _) in enumerate(chain)}
    carried: dict[str, set[str]] = {name: set() for name, _ in chain}
    for index, (_, sources) in enumerate(chain):
        for source in sources:
            for between, _ in chain[position[source] + 1 : index]:
                carried[between].add(source)
    return {name: tuple(sorted(held, key=position.__getitem__)) for name, held in carried.items()}


def relay_threshold_max(target: Target, voltage_decay: int) -> int:
    """Return the largest threshold that a layer with relays may have at a vDecay of 0 to 4096.

    A chip with a set of neuron parameters for every channel sets no such bound.
    """
    if _has_channel_parameters(target):
        return target.threshold_max
    below = target.weight_max - 1
    kept = DECAY_UNITY - voltage_decay
    reached = target.threshold_max if kept <= 0 else below * DECAY_UNITY // kept
    return min(reached, below + target.bias_max, target.threshold_max)


def lower_residuals(graph: FixedPointGraph, target: Target) -> Lowered:
    """Turn skip connections into relay channels.

    Args:
        graph: Integer network whose layers, in order, form a chain with skip connections on it:
            convolutions and dense layers with LIF neurons, each with at most one synapse from any
            other. A layer need not read the one before it. A skip has the stride of the path that
            it skips. Over layers that stride, and those that crop, pixels that are read later go
            side by side, in channels of their own.
        target: Decides how a relay outbids the threshold: by its weight, or, where every channel
            may have its own parameters, by a threshold of its own.

    Raises:
        QuantizationError: If a skip cannot be relayed exactly; the message names it.

    Example:
        >>> residual = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits_residual"))
        >>> traced = nd.trace(nd.remove_branches(residual))
        >>> folded = nd.run_passes(traced, nd.fold_batchnorm, nd.fold_global_average_pool)
        >>> lowered = nd.lower_residuals(nd.quantize(folded, loihi2, steps=4), loihi2)
        >>> [cost.layer for cost in lowered.costs]
        ['stage1_block1.conv1', 'stage2_block1.conv1', 'stage3_block1.conv1']
    """
    chain = [(layer.name, [c.source for c in layer.connections]) for layer in graph]
    carried = find_carried(chain)
    own = {layer.name: layer.shape[0] for layer in graph}
    if not any(carried.values()):
        return Lowered(graph=graph, channels=own, costs=())
    builder = _Builder(graph, target, carried)
    layers: list[FixedLayer] = []
    costs: list[RelayCost] = []
    for layer in graph:
        is_plain = {c.source for c in layer.connections} <= {builder.previous, layer.name}
        if is_plain and not carried[layer.name] and len(builder.blocks) == 1:
            layers.append(builder.keep(layer))
            continue
        lowered, cost = builder.rebuild(layer)
        layers.append(lowered)
        costs += [cost] if cost else []
    return Lowered(
        graph=FixedPointGraph(input=graph.input, layers=tuple(layers)),
        channels=own,
        costs=tuple(costs),
    )


class _Builder:
    """Rebuilds one layer after the other."""

    def __init__(
        self, graph: FixedPointGraph, target: Target, carried: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.graph = graph
        self.target = target
        self.carried = carried
        self.previous = INPUT
        self.shape = graph.input.shape
        self.blocks = {INPUT: Held.of(graph.input.shape)}

    def rebuild(self, layer: FixedLayer) -> tuple[FixedLayer, RelayCost | None]:
        """Return `layer` with relay inputs for its skips and relay outputs where it carries."""
        for connection in layer.connections:
            if connection.source == layer.name:
                raise QuantizationError(
                    f"{layer.name}: recurrence inside a residual block is not lowered."
                )
        relayed = self.carried[layer.name]
        for source in relayed:
            self._check_relayed(layer, source)
        drive = self._relay_drive(layer) if relayed else (0, 0)
        is_conv = all(isinstance(c.synapse, FixedConv) for c in layer.connections)
        build = self._convolution if is_conv else self._dense
        synapse, blocks = build(layer, relayed, drive[0])
        outputs = len(synapse.weight)
        shape = (outputs, *layer.shape[1:])
        rebuilt = FixedLayer(
            name=layer.name,
            shape=shape,
            connections=(Connection(source=self.previous, synapse=synapse),),
            neuron=self._neuron(layer, shape, has_relays=bool(relayed)),
            bias=_extend(layer.bias, layer.shape, shape, value=drive[1]),
        )
        own = [c.synapse for c in layer.connections if c.source == self.previous]
        stored = sum(s.weight.size for s in own if isinstance(s, FixedConv | FixedDense))
        self.previous, self.shape, self.blocks = layer.name, shape, blocks
        if not relayed:
            return rebuilt, None
        more = outputs - layer.shape[0]
        return rebuilt, RelayCost(
            layer=layer.name,
            channels=more,
            neurons=more * prod(layer.shape[1:]),
            weights=synapse.weight.size - stored,
            relay_weight=drive[0],
            relay_bias=drive[1],
            threshold=int(_cuba(layer).threshold.max()),
        )

    def keep(self, layer: FixedLayer) -> FixedLayer:
        """Return a layer as it is that neither reads nor carries a skip."""
        self.previous, self.shape = layer.name, layer.shape
        self.blocks = {layer.name: Held.of(layer.shape)}
        return layer

    # ------------------------------------------------------------------ convolutions

    def _convolution(
        self, layer: FixedLayer, relayed: Sequence[str], relay_weight: int
    ) -> tuple[FixedConv | FixedDense, dict[str, Held]]:
        """Return the synapse of a convolutional layer, and what the layer's output then holds."""
        stride = self._stride_of(layer)
        placed = [
            part
            for c in layer.connections
            if isinstance(c.synapse, FixedConv)
            for part in self._on_block(layer, c.source, c.synapse, stride)
        ]
        blocks, row = {layer.name: Held.of(layer.shape)}, layer.shape[0]
        for source in relayed:
            spans = self._spans(layer, source, 0), self._spans(layer, source, 1)
            blocks[source] = self.blocks[source].relayed(row, stride, layer.shape[1:], spans)
            row += blocks[source].channels
        taps = [
            ([block.origins[0][row][1]], [block.origins[1][column][1]])
            for block in (blocks[source] for source in relayed)
            for (row, column), _ in block
        ]
        kernel = common_kernel(
            [*(offsets for _, offsets, _ in placed), *taps], stride, self.shape, layer.shape
        )
        weight = np.zeros((row, self.shape[0], *kernel.taps), np.int32)
        for channels, offsets, share in placed:
            weight[: layer.shape[0], channels] += kernel.place(offsets, share)
        for source in relayed:
            block, before = blocks[source], dict(self.blocks[source])
            for (row, column), channels in block:
                (above, down), (beside, right) = block.origins[0][row], block.origins[1][column]
                weight[channels, before[above, beside], kernel.at(down, 0), kernel.at(right, 1)] = (
                    relay_weight * np.eye(channels.stop - channels.start, dtype=np.int32)
                )
        synapse = FixedConv(
            weight=weight, stride=stride, padding=kernel.padding, dilation=kernel.dilation
        )
        return synapse, blocks

    def _spans(self, layer: FixedLayer, source: str, axis: int) -> set[Span]:
        """Return what later layers read of a source: each tap of a convolution, or all pixels."""
        size = self.blocks[source].size(axis)
        read: set[Span] = set()
        for later in self.graph.layers[self.graph.names.index(layer.name) + 1 :]:
            for connection in later.connections:
                if connection.source != source:
                    continue
                synapse = connection.synapse
                if isinstance(synapse, FixedConv):
                    for offset in offsets_of(synapse)[axis]:
                        span = span_of(offset, synapse.stride[axis], later.shape[axis + 1], size)
                        read |= set() if span is None else {span}
                else:
                    read |= {(pixel, pixel) for pixel in range(size)}
        return read

    def _on_block(
        self, layer: FixedLayer, source: str, synapse: FixedConv, stride: tuple[int, int]
    ) -> list[tuple[slice, Offsets, IntArray]]:
        """Return which channels before a convolution reads, at which taps, with which weights.

        Raises:
            QuantizationError: If the layer before does not hold what it reads.
        """
        block, where = self.blocks[source], f"{source} -> {layer.name}"
        path = _product(block.stride, stride)
        if synapse.stride != path:
            raise QuantizationError(
                f"{where}: the skip has stride {synapse.stride}, the path that it skips {path}; "
                "they must be equal."
            )
        weight = _ungrouped(synapse)
        taps: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
        places: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
        for axis in (0, 1):
            for tap, offset in enumerate(offsets_of(synapse)[axis]):
                span = span_of(offset, path[axis], layer.shape[axis + 1], block.size(axis))
                if span is None:
                    continue  # it reads padding alone
                start = block.start_for(axis, span)
                if start is None:
                    raise QuantizationError(
                        f"{where}: the skip's kernel {synapse.weight.shape[2:]} with padding "
                        f"{synapse.padding} reads rows or columns {span[0]} to {span[1]} through "
                        "one tap, more than the layers between have room for. Pad the convolutions "
                        "that the skip leads over."
                    )
                taps[axis].setdefault(start, []).append(tap)
                place = (offset - start) // block.stride[axis]
                places[axis].setdefault(start, []).append(place)
        return [
            (
                channels,
                (places[0][row], places[1][column]),
                weight[:, :, np.array(taps[0][row])[:, None], np.array(taps[1][column])],
            )
            for (row, column), channels in block
            if row in taps[0] and column in taps[1]
        ]

    def _stride_of(self, layer: FixedLayer) -> tuple[int, int]:
        """Return the stride over the layer before: that of the synapse from it, if there is one."""
        strides = {
            c.source: (
                _divide_up(c.synapse.stride[0], self.blocks[c.source].stride[0]),
                _divide_up(c.synapse.stride[1], self.blocks[c.source].stride[1]),
            )
            for c in layer.connections
            if isinstance(c.synapse, FixedConv)
        }
        return strides.get(self.previous, next(iter(strides.values())))

    # ------------------------------------------------------------------ dense layers

    def _dense(
        self, layer: FixedLayer, relayed: Sequence[str], relay_weight: int
    ) -> tuple[FixedConv | FixedDense, dict[str, Held]]:
        """Return the synapse of a dense layer, and what the layer's output then holds."""
        own = layer.shape[0]
        columns = {
            source: self._columns(layer, source)
            for source in dict.fromkeys([*(c.source for c in layer.connections), *relayed])
        }
        outputs = own + sum(len(columns[source]) for source in relayed)
        if outputs * prod(self.shape) > _WEIGHTS_MAX:
            raise QuantizationError(
                f"{layer.name}: {outputs - own} relays in a dense layer make "
                f"{outputs * prod(self.shape)} weights; at most {_WEIGHTS_MAX} are allowed. Let "
                "no skip lead over this layer."
            )
        weight = np.zeros((outputs, prod(self.shape)), np.int32)
        for connection in layer.connections:
            synapse = connection.synapse
            if not isinstance(synapse, FixedDense) or synapse.delay is not None:
                raise QuantizationError(
                    f"{layer.name}: lies on the path of a skip connection but is fed by a "
                    f"{type(synapse).__name__} that is no plain convolution or dense layer."
                )
            weight[:own, columns[connection.source]] += synapse.weight
        blocks, row = {layer.name: Held.of(layer.shape)}, own
        for source in relayed:
            neurons = len(columns[source])
            weight[row + np.arange(neurons), columns[source]] = relay_weight
            blocks[source] = Held.of((neurons,), row)
            row += neurons
        synapse = FixedDense(weight=weight)
        if not synapse.effective.is_exact:
            raise QuantizationError(
                f"{layer.name}: with its skips all weights are of one sign, and would act with "
                "other values in Lava. Train on, so that it has weights of both signs."
            )
        return synapse, blocks

    def _columns(self, layer: FixedLayer, source: str) -> npt.NDArray[np.int64]:
        """Return at which inputs of a dense layer the values of a source lie, in their order."""
        block = self.blocks[source]
        places = np.arange(prod(self.shape)).reshape(self.shape)
        if len(self.shape) == 1:
            return places[block.first : block.first + block.channels]
        starts: list[npt.NDArray[np.int64]] = []
        for axis in (0, 1):
            found = [block.start_for(axis, (pixel, pixel)) for pixel in range(block.size(axis))]
            assert None not in found  # a single pixel always finds room
            starts.append(np.array(found, np.int64))
        columns = np.zeros(block.shape, np.int64)
        for (row, column), channels in block:
            rows, beside = (
                np.flatnonzero(starts[axis] == at) for axis, at in ((0, row), (1, column))
            )
            down, right = (rows - row) // block.stride[0], (beside - column) // block.stride[1]
            columns[:, rows[:, None], beside] = places[channels, down[:, None], right]
        return columns.reshape(-1)

    # ------------------------------------------------------------------ relays

    def _check_relayed(self, layer: FixedLayer, source: str) -> None:
        """A relay repeats single spikes of LIF neurons only."""
        if source == INPUT and self.graph.input.is_graded:
            raise QuantizationError(
                f"{layer.name}: would have to relay the graded input; only spikes can be "
                "relayed. Put a spiking layer before the first skip connection."
            )
        if any(other.name == source and other.neuron.is_graded for other in self.graph):
            raise QuantizationError(
                f"{layer.name}: would have to relay graded spikes of '{source}'; only binary ones "
                "can be relayed."
            )

    def _relay_drive(self, layer: FixedLayer) -> tuple[int, int]:
        """An even weight and a bias with which a spike, and nothing else, fires a relay."""
        if _has_channel_parameters(self.target):
            return 2, 0
        neuron = _cuba(layer)
        threshold = int(neuron.threshold.max())
        if int(neuron.current_decay.min()) != DECAY_UNITY:
            raise QuantizationError(
                f"{layer.name}: iDecay {int(neuron.current_decay.min())}, but relay channels need "
                f"a current that lives one step ({DECAY_UNITY}), and target "
                f"'{self.target.name}' has one decay a layer. Train with full current decay, or "
                "deploy to a target with parameters by channel ('lava-cpu')."
            )
        leak = int(neuron.voltage_decay.min())
        largest = relay_threshold_max(self.target, leak)
        if threshold > largest:
            raise QuantizationError(
                f"{layer.name}: threshold {threshold}, but relays of weight "
                f"{self.target.weight_max}, the largest on target '{self.target.name}', repeat "
                f"spikes exactly up to a threshold of {largest} at vDecay {leak}. Use a smaller "
                "scale for this layer (choose_scales does), or a target with parameters by "
                "channel ('lava-cpu')."
            )
        if int(neuron.threshold.min()) < 0:
            raise QuantizationError(
                f"{layer.name}: threshold {int(neuron.threshold.min())}; relay channels would "
                "spike without input."
            )
        weight = self.target.weight_max
        return weight, max(0, threshold + 1 - weight)

    def _neuron(self, layer: FixedLayer, shape: Shape, *, has_relays: bool) -> CubaNeuron:
        neuron = _cuba(layer)
        if not has_relays or not _has_channel_parameters(self.target):
            return neuron
        return CubaNeuron(
            current_decay=_extend(neuron.current_decay, layer.shape, shape, value=DECAY_UNITY),
            voltage_decay=_extend(neuron.voltage_decay, layer.shape, shape, value=DECAY_UNITY),
            threshold=_extend(neuron.threshold, layer.shape, shape, value=1),
        )


def _has_channel_parameters(target: Target) -> bool:
    return "neuron_parameter_sets" in target.limits and target.limit("neuron_parameter_sets") > 1


def _cuba(layer: FixedLayer) -> CubaNeuron:
    if not isinstance(layer.neuron, CubaNeuron):
        raise QuantizationError(
            f"{layer.name}: {type(layer.neuron).__name__} on the path of a skip connection; only "
            "LIF neurons can relay."
        )
    return layer.neuron


def _product(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] * other[0], one[1] * other[1]


def _divide_up(number: int, by: int) -> int:
    return -(-number // by)


def _ungrouped(conv: FixedConv) -> IntArray:
    return join_groups(conv.weight, conv.groups, conv.groups)


def _extend(values: IntArray, shape: Shape, extended: Shape, *, value: int) -> IntArray:
    """Return per-channel (or full) values for more channels, the new ones being `value`."""
    if shape == extended or (values.ndim == 0 and int(values) == value):
        return values
    spatial = (1,) * len(shape[1:])
    if values.ndim == 3 and values.shape[1:] != spatial:
        spatial = shape[1:]
    full = np.broadcast_to(values, (shape[0], *spatial))
    more = np.full((extended[0] - shape[0], *spatial), value, np.int32)
    return np.concatenate([full, more]).astype(np.int32)
