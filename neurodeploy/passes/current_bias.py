"""Biases that pass through a decaying current, carried by neurons that fire at every step.

A synapse's bias b adds to the current: with current_decay < 1 it builds up to b / current_decay.
Loihi's bias drives the voltage instead. The population before gets one more channel without
weights whose bias exceeds its threshold: it fires at every step, and the biased population reads
it with the weights b. In front of the first layer stands a relay of the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Flatten, Input, Integrator, Layer, Shape
from neurodeploy.ir.graphs import INPUT, Graph
from neurodeploy.passes.linear_chains import spread_groups
from neurodeploy.passes.quantization import Branch, Population, find_populations

DRIVE = 1.25
"""Bias of a neuron that always fires, in thresholds: above 1 after any rounding, and no larger
than need be, because it bounds the scale of its population."""


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A graph without biases on decaying currents.

    Attributes:
        graph: The rewritten network; an added channel or neuron comes last in its population.
        channels: Channels, or neurons, that each population had before.
        relay: Name of the population that was put before the first layer, or None.
        is_exact: Whether every spike is that of the network before.
    """

    graph: Graph
    channels: Mapping[str, int]
    relay: str | None = None
    is_exact: bool = True


def drive_voltages(graph: Graph) -> Carried:
    """Let each bias that passes through a decaying current drive the voltage instead: b / decay.

    An approximation: it leaves out the steps in which the current builds up.
    """
    shapes = graph.shapes()
    changed: dict[str, Layer] = {}
    populations = find_populations(graph)
    for population in filter(_needs, populations):
        neuron = population.neuron
        assert isinstance(neuron, Cuba | Integrator)
        column = (-1, *(1,) * (len(shapes[population.name]) - 1))
        for branch in population.branches:
            if branch.layer.bias is None:
                continue
            bias = branch.layer.bias
            if np.any(np.asarray(neuron.current_decay) == 0):
                raise GraphError(
                    f"{population.name}: a bias into a current that never decays grows without "
                    "end; no drive of the voltage stands for it. Leave out 'current-bias'."
                )
            drive = (bias.reshape(column) if bias.ndim == 1 else bias) / neuron.current_decay
            drive = drive if neuron.bias is None else neuron.bias + drive
            neuron = dataclasses.replace(
                neuron, bias=np.broadcast_to(drive, shapes[population.name])
            )
            changed[branch.node] = dataclasses.replace(branch.layer, bias=None)
        changed[population.name] = neuron
    return Carried(
        graph.replace_nodes(changed=changed),
        {population.name: shapes[population.name][0] for population in populations},
        is_exact=not changed,
    )


def carry_current_biases(graph: Graph) -> Carried:
    """Let a channel that always fires stand for each bias that passes through a decaying current.

    Args:
        graph: A float graph with batch norm and pooling folded and one synapse a source.

    Raises:
        GraphError: If such a bias differs between positions, or belongs to a layer that reads
            graded input.
    """
    shapes = graph.shapes()
    channels = {p.name: shapes[p.name][0] for p in find_populations(graph)}
    relay = None
    if any(_needs(p) and _carrier(p) is None for p in find_populations(graph)):
        graph, relay = _relay_input(graph)
        channels[relay] = graph.input.shape[0]
    widening = _Widening(graph)
    for population in filter(_needs, find_populations(graph)):
        carrier = _carrier(population)
        assert carrier is not None
        widening.carriers.add(carrier.source)
        biases = [b.layer.bias for b in population.branches if b.layer.bias is not None]
        if any(bias.ndim > 1 for bias in biases):
            raise GraphError(
                f"{population.name}: a bias that differs between positions passes through a "
                "decaying current. Allow approximate={'current-bias'}."
            )
        widening.columns[carrier.node] = np.sum(biases, axis=0)
        widening.cleared |= {branch.node for branch in population.branches}
    return Carried(widening.widen() if widening.carriers else graph, channels, relay)


def _needs(population: Population) -> bool:
    """Return whether a synapse's bias passes through a current that lives longer than a step."""
    if not isinstance(population.neuron, Cuba | Integrator):
        return False  # without a current of its own
    lives = bool(np.any(np.asarray(population.neuron.current_decay) < 1))
    biases = [branch.layer.bias for branch in population.branches]
    return lives and any(bias is not None and np.any(bias) for bias in biases)


def _carrier(population: Population) -> Branch | None:
    """Return a synapse from another population, which can carry the bias, or None."""
    return next(
        (
            branch
            for branch in population.branches
            if branch.source not in (INPUT, population.name) and not branch.is_identity
        ),
        None,
    )


def _relay_input(graph: Graph) -> tuple[Graph, str]:
    """Put a population that repeats the input, spike for spike, before all that read it."""
    entry, name = graph.input, graph.input_name
    if entry.largest != 1 or entry.smallest < 0 or entry.mean:
        raise GraphError(
            f"{name}: its readers have biases that pass through a decaying current, and only "
            "binary input can be relayed. Allow approximate={'current-bias'}, or train the first "
            "layer without a bias."
        )
    relay = f"{name}.relay"
    nodes: dict[str, Layer] = {}
    for node, layer in graph.nodes.items():
        nodes[node] = layer
        if node == name:
            nodes[f"{relay}.synapse"] = _eye(entry.shape, entry.shape[0], entry.shape[0])
            nodes[relay] = Cuba(threshold=entry.scale / 2, voltage_decay=1.0)
    edges = tuple(
        (relay if source == name else source, destination) for source, destination in graph.edges
    )
    added = ((name, f"{relay}.synapse"), (f"{relay}.synapse", relay))
    changed = Graph(nodes=nodes, edges=(*added, *edges))
    return _scale_readers(changed, relay, entry.scale), relay


def _scale_readers(graph: Graph, relay: str, scale: float) -> Graph:
    """Multiply the weights that read the relay by the value that an input spike stood for."""
    if scale == 1:
        return graph
    changed: dict[str, Layer] = {}
    for reader in _readers(graph, relay):
        layer = graph.nodes[reader]
        assert isinstance(layer, Conv | Dense)
        changed[reader] = dataclasses.replace(layer, weight=layer.weight * scale)
    return graph.replace_nodes(changed=changed)


def _readers(graph: Graph, name: str) -> list[str]:
    """Return the nodes that read a population, behind any flatten."""
    readers: list[str] = []
    for reader in graph.destinations(name):
        is_flatten = isinstance(graph.nodes[reader], Flatten)
        readers += _readers(graph, reader) if is_flatten else [reader]
    return readers


def _eye(shape: Shape, outputs: int, inputs: int) -> Conv | Dense:
    """Return an identity from `inputs` channels, of which those beyond `outputs` are not read."""
    weight = np.eye(outputs, inputs)
    return Conv(weight=weight[:, :, None, None]) if len(shape) == 3 else Dense(weight=weight)


@dataclass(slots=True)
class _Widening:
    """A graph some of whose populations get one more channel.

    Attributes:
        graph: The network as it is.
        carriers: Populations that get a channel.
        columns: By synapse: the weights with which it reads the new channel of its source.
        cleared: Synapses that lose their bias.
    """

    graph: Graph
    carriers: set[str] = field(default_factory=set)
    columns: dict[str, FloatArray] = field(default_factory=dict)
    cleared: set[str] = field(default_factory=set)

    def widen(self) -> Graph:
        shapes = self.graph.shapes()
        nodes: dict[str, Layer] = {}
        edges: list[tuple[str, str]] = []
        for name, layer in self.graph.nodes.items():
            sources = self.graph.sources(name)
            if isinstance(layer, Cuba):
                sources = tuple(
                    self._explicit(source, name, shapes, nodes, edges) for source in sources
                )
            if isinstance(layer, Conv | Dense):
                layer = self._synapse(name, layer, shapes)
            elif isinstance(layer, Cuba) and name in self.carriers:
                layer = _always_on(layer, shapes[name])
            nodes[name] = layer
            edges += [(source, name) for source in sources]
        return Graph(nodes=nodes, edges=tuple(edges))

    def _explicit(
        self,
        source: str,
        name: str,
        shapes: Mapping[str, Shape],
        nodes: dict[str, Layer],
        edges: list[tuple[str, str]],
    ) -> str:
        """Write an identity skip out as a synapse where one of its ends gets a channel."""
        is_skip = isinstance(self.graph.nodes[source], Cuba | Input)
        if not is_skip or not {source, name} & self.carriers:
            return source
        size = shapes[name][0]
        synapse = f"{source}@{name}"
        wide = _eye(shapes[name], size + (name in self.carriers), size + (source in self.carriers))
        nodes[synapse] = dataclasses.replace(wide, weight=_without_corner(wide.weight, size))
        edges.append((source, synapse))
        return synapse

    def _synapse(self, name: str, layer: Conv | Dense, shapes: Mapping[str, Shape]) -> Layer:
        """Add a column for the channel that is read, and a row for the one that is fed."""
        readers = self.graph.destinations(name)
        if len(readers) != 1:
            raise GraphError(
                f"{name}: read by {', '.join(readers)}; one synapse for each is required."
            )
        bias = None if name in self.cleared else layer.bias
        origin = self._origin(name)
        if origin in self.carriers:
            layer = self._with_column(layer, self.columns.get(name), shapes[origin], name)
        if readers[0] in self.carriers:
            weight = spread_groups(layer) if isinstance(layer, Conv) else layer.weight
            layer = dataclasses.replace(
                layer, weight=np.concatenate([weight, np.zeros((1, *weight.shape[1:]))])
            )
            if isinstance(layer, Conv):
                layer = dataclasses.replace(layer, groups=1)
            if bias is not None:
                bias = np.concatenate([bias, np.zeros((1, *bias.shape[1:]))])
        return dataclasses.replace(layer, bias=bias)

    def _origin(self, name: str) -> str:
        (source,) = self.graph.sources(name)
        while isinstance(self.graph.nodes[source], Flatten):
            (source,) = self.graph.sources(source)
        return source

    @staticmethod
    def _with_column(
        layer: Conv | Dense, bias: FloatArray | None, shape: Shape, where: str
    ) -> Conv | Dense:
        if isinstance(layer, Dense):
            pixels = shape[1] * shape[2] if len(shape) == 3 else 1
            added = np.zeros((len(layer.weight), pixels))
            if bias is not None:
                added[:, 0] = bias
            return dataclasses.replace(layer, weight=np.concatenate([layer.weight, added], axis=1))
        weight = spread_groups(layer)
        added = np.zeros((len(weight), 1, *weight.shape[2:]))
        if bias is not None:
            # This tap reads position i · stride for output i, which lies on the map.
            row, column = (_tap_on_map(layer, shape, axis, where) for axis in (0, 1))
            added[:, 0, row, column] = bias
        return dataclasses.replace(layer, weight=np.concatenate([weight, added], axis=1), groups=1)


def _tap_on_map(layer: Conv, shape: Shape, axis: int, where: str) -> int:
    tap, rest = divmod(layer.padding[axis], layer.dilation[axis])
    last = (layer.output_shape(shape)[axis + 1] - 1) * layer.stride[axis]
    if rest or tap >= layer.weight.shape[axis + 2] or last >= shape[axis + 1]:
        raise GraphError(
            f"{where}: padding {layer.padding} of a kernel dilated by {layer.dilation}: no tap "
            "lies on the map at every position, to carry the bias. Allow "
            "approximate={'current-bias'}."
        )
    return tap


def _without_corner(weight: FloatArray, size: int) -> FloatArray:
    """Return an identity's weight without the one from an added channel to an added channel."""
    weight = weight.copy()
    weight[size:, size:] = 0
    return weight


def _always_on(neuron: Cuba, shape: Shape) -> Cuba:
    """Return a population with one more channel, which its bias lets fire at every step."""
    column = (-1, *(1,) * (len(shape) - 1))

    def extend(value: float | FloatArray, added: float) -> FloatArray:
        values = np.asarray(value)
        if values.ndim <= 1 or values.shape[1:] == (1, 1):
            values = np.broadcast_to(values.reshape(column) if values.ndim else values,
                                     (shape[0], *(1,) * (len(shape) - 1)))  # fmt: skip
        tail = np.full((1, *values.shape[1:]), added)
        return np.concatenate([values, tail])

    bias = extend(0.0 if neuron.bias is None else neuron.bias, DRIVE * neuron.threshold)
    decays = {
        name: value if np.ndim(value) == 0 else extend(value, 1.0)
        for name, value in (
            ("current_decay", neuron.current_decay),
            ("voltage_decay", neuron.voltage_decay),
        )
    }
    return dataclasses.replace(
        neuron,
        bias=bias,
        current_decay=decays["current_decay"],
        voltage_decay=decays["voltage_decay"],
    )
