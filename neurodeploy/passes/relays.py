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

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.fixedpoint import DECAY_UNITY
from neurodeploy.ir.float_layers import Shape
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import Connection, CubaNeuron, FixedConv, FixedLayer, IntArray
from neurodeploy.passes.folding import join_groups


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
            convolutions with LIF neurons; a skip is an identity or a 1x1 convolution whose stride
            equals that of the path it skips, or, where that path has stride 1, a convolution
            whose kernel lies on the taps of the kernel beside it.
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
    builder = _Builder(graph=graph, target=target, carried=carried)
    layers: list[FixedLayer] = []
    costs: list[RelayCost] = []
    previous = INPUT
    for layer in graph:
        if not carried[layer.name] and not carried.get(previous, ()):
            layers.append(layer)
        else:
            lowered, cost = builder.rebuild(layer, previous)
            layers.append(lowered)
            costs += [cost] if cost else []
        previous = layer.name
    return Lowered(
        graph=FixedPointGraph(input=graph.input, layers=tuple(layers)),
        channels=own,
        costs=tuple(costs),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builder:
    """Rebuilds one layer after the other."""

    graph: FixedPointGraph
    target: Target
    carried: Mapping[str, tuple[str, ...]]

    def rebuild(self, layer: FixedLayer, previous: str) -> tuple[FixedLayer, RelayCost | None]:
        """Return `layer` with relay inputs for its skips and relay outputs where it carries."""
        main = self._main(layer, previous)
        # Where each source's channels begin in the output of the layer before.
        offsets: dict[str, int] = {}
        inputs = 0
        for source in (previous, *self.carried.get(previous, ())):
            offsets[source] = inputs
            inputs += self._channels(source)
        own = layer.shape[0]
        relayed = self.carried[layer.name]
        outputs = own + sum(map(self._channels, relayed))
        weight = np.zeros((outputs, inputs, *main.weight.shape[2:]), np.int32)
        weight[:own, : self._channels(previous)] = _ungrouped(main)
        for connection in layer.connections:
            if connection.source != previous:
                skip = self._skip(layer, connection, main, previous)
                first = offsets[connection.source]
                weight[:own, first : first + skip.shape[1]] += skip
        relay_weight, relay_bias = self._relay_drive(layer) if relayed else (0, 0)
        row = own
        for source in relayed:
            self._check_relayed(layer, source)
            diagonal = np.arange(self._channels(source))
            places = (row + diagonal, offsets[source] + diagonal, *_tap(main, layer.name))
            weight[places] = relay_weight
            row += len(diagonal)
        shape = (outputs, *layer.shape[1:])
        synapse = dataclasses.replace(main, weight=weight, groups=1)
        rebuilt = FixedLayer(
            name=layer.name,
            shape=shape,
            connections=(Connection(source=previous, synapse=synapse),),
            neuron=self._neuron(layer, shape, has_relays=bool(relayed)),
            bias=_extend(layer.bias, layer.shape, shape, value=relay_bias),
        )
        if not relayed:
            return rebuilt, None
        return rebuilt, RelayCost(
            layer=layer.name,
            channels=outputs - own,
            neurons=(outputs - own) * prod(layer.shape[1:]),
            weights=weight.size - main.weight.size,
            relay_weight=relay_weight,
            relay_bias=relay_bias,
            threshold=int(_cuba(layer).threshold.max()),
        )

    def _channels(self, source: str) -> int:
        return self.graph.shape_of(source)[0]

    def _main(self, layer: FixedLayer, previous: str) -> FixedConv:
        """The synapse from the layer before; every layer of a block must have one."""
        synapses = [c.synapse for c in layer.connections if c.source == previous]
        main = synapses[0] if len(synapses) == 1 else None
        if not isinstance(main, FixedConv) or len(layer.shape) != 3:
            raise QuantizationError(
                f"{layer.name}: lies on the path of a skip connection but is not fed by one "
                f"convolution from '{previous}'. Skip connections over conv layers can be lowered."
            )
        return main

    def _skip(
        self, layer: FixedLayer, connection: Connection, main: FixedConv, previous: str
    ) -> IntArray:
        """The skip's weights on the taps of the main kernel, after checking that they fit."""
        synapse, source = connection.synapse, connection.source
        where = f"{source} -> {layer.name}"
        if source == layer.name:
            raise QuantizationError(f"{where}: recurrence inside a residual block is not lowered.")
        if not isinstance(synapse, FixedConv):
            raise QuantizationError(f"{where}: the skip is not a convolution or an identity.")
        before = self._path_stride(source, previous)
        stride = (before[0] * main.stride[0], before[1] * main.stride[1])
        if synapse.stride != stride:
            raise QuantizationError(
                f"{where}: the skip has stride {synapse.stride}, the path that it skips {stride}; "
                "they must be equal."
            )
        weight = _ungrouped(synapse)
        taps_read = []
        for axis in (0, 1):
            taps = weight.shape[axis + 2]
            # A relay holds every before-th pixel, so that only one tap can be read of it there.
            offset, rest = divmod(main.padding[axis] - synapse.padding[axis], main.dilation[axis])
            is_aligned = taps == 1 or (
                before[axis] == 1 and synapse.dilation[axis] == main.dilation[axis]
            )
            if (
                not is_aligned
                or (before[axis] > 1 and synapse.padding[axis])
                or rest
                or not 0 <= offset <= main.weight.shape[axis + 2] - taps
            ):
                raise QuantizationError(
                    f"{where}: the skip's kernel {weight.shape[2:]} with padding {synapse.padding} "
                    f"does not lie on the taps of the kernel {main.weight.shape[2:]} with padding "
                    f"{main.padding} that would read it. An identity or a 1x1 convolution does."
                )
            taps_read.append(slice(offset, offset + taps))
        placed = np.zeros((*weight.shape[:2], *main.weight.shape[2:]), np.int32)
        placed[:, :, *taps_read] = weight
        return placed

    def _path_stride(self, source: str, until: str) -> tuple[int, int]:
        """Product of the strides of the layers after `source` up to and with `until`."""
        names = [INPUT, *self.graph.names]
        path = slice(names.index(source), names.index(until))
        pairs = zip(self.graph.layers[path], names[path], strict=True)
        strides = [self._main(layer, before).stride for layer, before in pairs]
        return prod(rows for rows, _ in strides), prod(columns for _, columns in strides)

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


def _tap(conv: FixedConv, where: str) -> tuple[int, int]:
    """The kernel index at which output pixel i reads source pixel stride · i."""
    tap = []
    for axis in (0, 1):
        index, rest = divmod(conv.padding[axis], conv.dilation[axis])
        if rest or index >= conv.weight.shape[axis + 2]:
            raise QuantizationError(
                f"{where}: padding {conv.padding} with kernel {conv.weight.shape[2:]} and dilation "
                f"{conv.dilation}: no tap of the kernel sees the pixel that is skipped. Pad by "
                "half the kernel."
            )
        tap.append(index)
    return tap[0], tap[1]


def _ungrouped(conv: FixedConv) -> IntArray:
    return join_groups(conv.weight, conv.groups, conv.groups)


def _extend(values: IntArray, shape: Shape, extended: Shape, *, value: int) -> IntArray:
    """Return per-channel (or full) values for more channels, the new ones being `value`."""
    if shape == extended or (values.ndim == 0 and int(values) == value):
        return values
    spatial = shape[1:] if values.ndim == 3 and values.shape[1:] != (1, 1) else (1, 1)
    full = np.broadcast_to(values, (shape[0], *spatial))
    more = np.full((extended[0] - shape[0], *spatial), value, np.int32)
    return np.concatenate([full, more]).astype(np.int32)
