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
from neurodeploy.passes.parallel_synapses import common_kernel

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
            it skips, and reads no pixel that the path drops: an identity or a 1x1 convolution
            over layers that stride, any convolution, or a dense layer, over those that keep the
            size.
        target: Decides how a relay outbids the threshold: by its weight, or, where every channel
            may have its own parameters, by a threshold of its own.

    Raises:
        QuantizationError: If a skip cannot be relayed exactly; the message names it.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Where a layer's output holds the spikes of a source, its own or relayed.

    Attributes:
        first: First channel (or neuron).
        shape: Of the source: (C, H, W), or (N,); (C·H·W,) behind a dense layer that relays a map.
        stride: Rows and columns of the source from one held pixel to the next.
        held: Rows and columns that are held.
    """

    first: int
    shape: Shape
    stride: tuple[int, int] = (1, 1)
    held: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, shape: Shape, first: int = 0) -> _Held:
        """Return a block that holds all of a source."""
        return cls(first=first, shape=shape, held=_size(shape))

    @property
    def is_whole(self) -> bool:
        """True if every value is held."""
        return self.stride == (1, 1) and self.held == _size(self.shape)


def _size(shape: Shape) -> tuple[int, int]:
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)


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
        self.blocks = {INPUT: _Held.of(graph.input.shape)}

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
        self.blocks = {layer.name: _Held.of(layer.shape)}
        return layer

    # ------------------------------------------------------------------ convolutions

    def _convolution(
        self, layer: FixedLayer, relayed: Sequence[str], relay_weight: int
    ) -> tuple[FixedConv | FixedDense, dict[str, _Held]]:
        """Return the synapse of a convolutional layer, and what the layer's output then holds."""
        stride = self._stride_of(layer)
        placed = [
            (self.blocks[c.source], self._on_block(layer, c.source, c.synapse, stride))
            for c in layer.connections
            if isinstance(c.synapse, FixedConv)
        ]
        point = FixedConv(weight=np.ones((1, 1, 1, 1), np.int32), stride=stride)
        convs = [conv for _, conv in placed] + [point] * bool(relayed)
        kernel = common_kernel(convs, self.shape, layer.shape)
        own = layer.shape[0]
        outputs = own + sum(self.blocks[source].shape[0] for source in relayed)
        weight = np.zeros((outputs, self.shape[0], *kernel.taps), np.int32)
        for block, conv in placed:
            channels = slice(block.first, block.first + block.shape[0])
            weight[:own, channels] += kernel.place(conv, conv.weight)
        blocks, row = {layer.name: _Held.of(layer.shape)}, own
        for source in relayed:
            block = self.blocks[source]
            diagonal = np.arange(block.shape[0])
            rows, columns = _quotient(kernel.padding, kernel.dilation)
            weight[row + diagonal, block.first + diagonal, rows, columns] = relay_weight
            blocks[source] = _Held(
                first=row,
                shape=block.shape,
                stride=_product(block.stride, stride),
                held=_least(layer.shape[1:], _quotient(block.held, stride)),
            )
            row += len(diagonal)
        synapse = FixedConv(
            weight=weight, stride=stride, padding=kernel.padding, dilation=kernel.dilation
        )
        return synapse, blocks

    def _on_block(
        self, layer: FixedLayer, source: str, synapse: FixedConv, stride: tuple[int, int]
    ) -> FixedConv:
        """Return a convolution of a source as one of the pixels that the layer before holds of it.

        Raises:
            QuantizationError: If it reads others.
        """
        block, where = self.blocks[source], f"{source} -> {layer.name}"
        path = _product(block.stride, stride)
        if synapse.stride != path:
            raise QuantizationError(
                f"{where}: the skip has stride {synapse.stride}, the path that it skips {path}; "
                "they must be equal."
            )
        dilation, padding = list(synapse.dilation), list(synapse.padding)
        for axis in (0, 1):
            taps, every = synapse.weight.shape[axis + 2], block.stride[axis]
            dilation[axis], rest = divmod(dilation[axis], every) if taps > 1 else (1, 0)
            padding[axis], more = divmod(padding[axis], every)
            end = (taps - 1) * dilation[axis] - padding[axis]
            needed = (layer.shape[axis + 1] - 1) * stride[axis] + end + 1
            there = -(-block.shape[axis + 1] // every)
            if rest or more or min(needed, there) > block.held[axis]:
                raise QuantizationError(
                    f"{where}: the skip's kernel {synapse.weight.shape[2:]} with stride "
                    f"{synapse.stride} and padding {synapse.padding} reads pixels that its path "
                    f"drops: it holds {block.held} of {block.shape[1:]}, one in {block.stride}. An "
                    "identity or a 1x1 convolution over layers that keep the size reads no others."
                )
        return FixedConv(
            weight=_ungrouped(synapse),
            stride=stride,
            padding=(padding[0], padding[1]),
            dilation=(dilation[0], dilation[1]),
        )

    def _stride_of(self, layer: FixedLayer) -> tuple[int, int]:
        """Return the stride over the layer before: that of the synapse from it, if there is one."""
        strides = {
            c.source: _quotient(c.synapse.stride, self.blocks[c.source].stride)
            for c in layer.connections
            if isinstance(c.synapse, FixedConv)
        }
        return strides.get(self.previous, next(iter(strides.values())))

    # ------------------------------------------------------------------ dense layers

    def _dense(
        self, layer: FixedLayer, relayed: Sequence[str], relay_weight: int
    ) -> tuple[FixedConv | FixedDense, dict[str, _Held]]:
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
        blocks, row = {layer.name: _Held.of(layer.shape)}, own
        for source in relayed:
            neurons = len(columns[source])
            weight[row + np.arange(neurons), columns[source]] = relay_weight
            blocks[source] = _Held.of((neurons,), row)
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
        if not block.is_whole:
            raise QuantizationError(
                f"{source} -> {layer.name}: a dense layer reads all pixels, and the path holds "
                f"{block.held} of {block.shape[1:]}, one in {block.stride}. Skip over layers that "
                "keep the size."
            )
        places = np.arange(prod(self.shape)).reshape(self.shape)
        places = places[block.first : block.first + block.shape[0]]
        rows, columns = _size(block.shape)
        return (places[:, :rows, :columns] if places.ndim == 3 else places).reshape(-1)

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


def _quotient(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Return quotients, rounded up."""
    return -(-one[0] // other[0]), -(-one[1] // other[1])


def _least(one: Shape, other: tuple[int, int]) -> tuple[int, int]:
    return min(one[0], other[0]), min(one[1], other[1])


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
