"""Biases that pass through a decaying current, carried by neurons that fire at every step.

A synapse's bias b adds to the current: with current_decay < 1 it builds up to b / current_decay.
Loihi's bias drives the voltage instead. The population before gets one more channel without
weights whose bias exceeds its threshold: it fires at every step, and the biased population reads
it with the weights b. Where b is larger than the weights beside it, several such channels share it,
or it would cost them their precision. In front of the first layer stands a relay of the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError, QuantizationError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Flatten, Integrator, Layer, SpikeDelay
from neurodeploy.ir.graphs import INPUT, Graph
from neurodeploy.ir.integer_layers import CubaNeuron, FixedLayer, IntArray
from neurodeploy.passes.quantization import Branch, Population, find_populations
from neurodeploy.passes.widening import Widening, identity_synapse, tap_on_map
from neurodeploy.simulation.recording import Recording

SHARED_MAX = 8
"""Most channels that share the biases of a population."""


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A graph without biases on decaying currents.

    Attributes:
        graph: The rewritten network; an added channel or neuron comes last in its population.
        original: The network before.
        channels: Channels, or neurons, that each population had before, a relay's included.
        carriers: By population whose bias is carried: the population with the channel.
        driven: By population whose bias drives the voltage instead, an approximation: the reason.
        steps: Steps to which that drive is fitted; None for bias / current_decay.
        relay: Name of the population that was put before the first layer, or None.
        trainable: By synapse that was rewritten: which of its weights belong to the network, or
            are a bias, and may train. The others are zeros and ones that carry spikes.
    """

    graph: Graph
    original: Graph
    channels: Mapping[str, int]
    carriers: Mapping[str, str] = field(default_factory=dict)
    driven: Mapping[str, str] = field(default_factory=dict)
    steps: int | None = None
    relay: str | None = None
    trainable: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        """True if every spike is that of the network before."""
        return not self.driven

    def _added(self, carrier: str) -> str:
        added = self.graph.shapes()[carrier][0] - self.channels[carrier]
        channels, verb = ("a channel", "fires") if added == 1 else (f"{added} channels", "fire")
        return f"{channels} of {carrier} that {verb}"

    def check_firing(self, run: Recording) -> None:
        """Check that the channels that carry biases fire at every step of a run.

        Raises:
            QuantizationError: If one does not; a fault of ours.
        """
        for name in set(self.carriers.values()):
            added = run.spikes_of(name)[:, :, self.channels[name] :]
            if not added.size or not added.all():
                raise QuantizationError(
                    f"{name}: its channel that carries biases does not fire at every step. Please "
                    "report this with the model; nothing was deployed."
                )

    def describe(self) -> str:
        """Return in one sentence a layer how its bias reaches the neurons; empty without any."""
        sentences = [
            f"{name}: exact, by {self._added(carrier)} at every step"
            for name, carrier in self.carriers.items()
        ]
        drive = "bias / current_decay"
        if self.steps is not None:
            drive = f"a constant, fitted to {self.steps} steps,"
        sentences += [
            f"{name}: approximated by {drive} on the voltage, since {reason}. To have it exact, "
            "train the layer without bias and batch norm"
            for name, reason in self.driven.items()
        ]
        return "; ".join(sentences)


def lower_current_biases(graph: Graph, *, steps: int | None = None) -> Carried:
    """Carry each bias that passes through a decaying current exactly; where none can, drive.

    `carry_current_biases` where it is possible, and `drive_voltages`, an approximation, for the
    populations that `Carried.driven` names with the reason.

    Args:
        graph: A float graph with batch norm and pooling folded, whose input declares the range of
            the data (`fit_input`).
        steps: T, steps of one sample, to which `drive_voltages` fits.

    Example:
        >>> slayer = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits_slayer"))
        >>> carried = nd.lower_current_biases(nd.trace(nd.remove_branches(slayer)), steps=4)
        >>> carried.is_exact, carried.driven
        (True, {})
    """
    obstacles = {
        population.name: obstacle
        for population in find_populations(graph)
        if population.has_current_bias and (obstacle := _obstacle(graph, population)) is not None
    }
    rough = drive_voltages(graph, obstacles, steps=steps)
    try:
        exact = carry_current_biases(rough.graph)
    except GraphError as error:  # of synapses that several populations read
        reasons = {p.name: str(error) for p in find_populations(graph) if p.has_current_bias}
        return drive_voltages(graph, reasons | obstacles, steps=steps)
    return dataclasses.replace(exact, original=graph, driven=rough.driven, steps=steps)


def drive_voltages(
    graph: Graph, reasons: Mapping[str, str] | None = None, *, steps: int | None = None
) -> Carried:
    """Let biases that pass through a decaying current drive the voltage instead, at a constant.

    An approximation: it leaves out that the current builds up, step by step, to b / decay.

    Args:
        graph: A float graph with batch norm and pooling folded.
        reasons: Of the populations to change; None for all, because it is allowed.
        steps: Fit the constant to so many steps; None for b / decay, the limit for many. Few steps
            end long before that: at decays of 1/4, the constant for 4 steps is 1.35 b.
    """
    shapes = graph.shapes()
    populations = find_populations(graph)
    if reasons is None:
        reasons = {p.name: "it is allowed" for p in populations if p.has_current_bias}
    cleared = {b.node for p in populations if p.name in reasons for b in p.branches}
    changed: dict[str, Layer] = {}
    driven: dict[str, str] = {}
    for population in populations:
        neuron = population.neuron
        column = (-1, *(1,) * (len(shapes[population.name]) - 1))
        for branch in population.branches:
            bias = branch.layer.bias
            if bias is None or branch.node not in cleared:
                continue
            assert isinstance(neuron, Cuba | Integrator)
            drive = bias.reshape(column) if bias.ndim == 1 else bias
            drive = drive * _gain(neuron, steps)
            neuron = dataclasses.replace(
                neuron, bias=drive if neuron.bias is None else neuron.bias + drive
            )
            changed[branch.node] = dataclasses.replace(branch.layer, bias=None)
        if isinstance(neuron, Cuba | Integrator) and neuron is not population.neuron:
            changed[population.name] = neuron
            if population.has_current_bias:
                driven[population.name] = reasons.get(population.name, "its synapse is shared")
    return Carried(
        graph.replace_nodes(changed=changed) if changed else graph,
        graph,
        {population.name: shapes[population.name][0] for population in populations},
        driven=driven,
        steps=steps,
    )


def _gain(neuron: Cuba | Integrator, steps: int | None) -> float | FloatArray:
    """Return the constant drive that stands for an input of 1 to the current at each step.

    Of all constants, it takes a voltage from rest along with the least relative error, in squares
    summed over the steps. A mean of the current would overshoot in the first steps, whose spikes
    decide.
    """
    if steps is None:
        if np.any(np.asarray(neuron.current_decay) == 0):
            raise GraphError(
                "a bias into a current that never decays grows without end; no drive of the "
                "voltage stands for it. Leave out 'current-bias'."
            )
        return 1 / neuron.current_decay
    current: float | FloatArray = 0.0
    through_current: float | FloatArray = 0.0
    direct: float | FloatArray = 0.0
    total: float | FloatArray = 0.0
    squares: float | FloatArray = 0.0
    for _ in range(steps):
        current = (1 - neuron.current_decay) * current + 1
        through_current = (1 - neuron.voltage_decay) * through_current + current
        direct = (1 - neuron.voltage_decay) * direct + 1
        ratio = direct / through_current
        total, squares = total + ratio, squares + ratio**2
    return total / squares


def carry_current_biases(graph: Graph) -> Carried:
    """Let a channel that always fires stand for each bias that passes through a decaying current.

    Args:
        graph: A float graph with batch norm and pooling folded and one synapse a source.

    Raises:
        GraphError: If such a bias differs between positions, or belongs to a layer that reads
            graded input.
    """
    original, shapes = graph, graph.shapes()
    populations = find_populations(graph)
    channels = {population.name: shapes[population.name][0] for population in populations}
    biased = [population for population in populations if population.has_current_bias]
    for population in biased:
        obstacle = _obstacle(graph, population)
        if obstacle is not None:
            raise GraphError(
                f"{population.name}: its bias passes through a decaying current, and {obstacle}. "
                "Allow approximate={'current-bias'}, or train the layer without a bias."
            )
    if not biased:
        return Carried(graph, original, channels)
    relay = None
    if any(_carrier(population) is None for population in biased):
        graph, relay = _relay_input(graph)
        channels[relay] = graph.input.shape[0]
    widening = Widening(graph)
    carriers: dict[str, str] = {}
    for population in find_populations(graph):
        if not population.has_current_bias:
            continue
        carrier = _carrier(population)
        assert carrier is not None
        carriers[population.name] = carrier.source
        biases = [b.layer.bias for b in population.branches if b.layer.bias is not None]
        weights = [b.layer.weight * b.unit for b in population.branches]
        columns = _share(np.sum(biases, axis=0), max(np.abs(weight).max() for weight in weights))
        widening.columns[carrier.node] = columns
        widening.carriers[carrier.source] = max(
            len(columns), widening.carriers.get(carrier.source, 0)
        )
        widening.cleared |= {branch.node for branch in population.branches}
    widened = widening.widen()
    return Carried(
        widened, original, channels, carriers, relay=relay, trainable=widening.trainable(original)
    )


def always_on(layer: FixedLayer) -> npt.NDArray[np.bool_]:
    """Return which channels of an integer layer fire at every step whatever arrives.

    Those read nothing, and their bias exceeds their threshold: the channels that carry biases.
    """
    channels = layer.shape[0]
    if not isinstance(layer.neuron, CubaNeuron):
        return np.zeros(channels, bool)

    def least(values: IntArray) -> IntArray:
        full = np.broadcast_to(values, layer.shape) if values.ndim else np.full(channels, values)
        return np.asarray(full.reshape(channels, -1).min(axis=1))

    fires = least(layer.bias - layer.neuron.threshold) > 0
    for connection in layer.connections:
        weight = getattr(connection.synapse, "weight", None)
        if weight is None:
            return np.zeros(channels, bool)
        fires &= ~weight.reshape(channels, -1).any(axis=1)
    return np.asarray(fires)


def _obstacle(graph: Graph, population: Population) -> str | None:
    """Return why no channel can carry the bias of a population, or None."""
    if any(b.layer.bias is not None and b.layer.bias.ndim > 1 for b in population.branches):
        return "it differs between positions"
    carrier = _carrier(population)
    if carrier is None:
        entry = graph.input
        if entry.largest != 1 or entry.smallest < 0 or entry.mean:
            return "the layer reads graded input: only binary input can be relayed"
        carrier = next((b for b in population.branches if b.source == INPUT), None)
        if carrier is None:
            return "no synapse of another population leads into it"
    layer = carrier.layer
    shape = graph.input.shape if carrier.source == INPUT else graph.shapes()[carrier.source]
    if isinstance(layer, Conv) and None in (tap_on_map(layer, shape, axis) for axis in (0, 1)):
        return (
            f"with padding {layer.padding} of a kernel dilated by {layer.dilation} no tap lies on "
            "the map at every position"
        )
    return None


def _share(bias: FloatArray, largest: float) -> FloatArray:
    """Split biases (channels,) into parts (parts, channels) no larger than the weights, if few."""
    reach = float(np.abs(bias).max())
    parts = min(int(np.ceil(reach / largest)) if largest else 1, SHARED_MAX)
    room = max(largest, reach / parts)
    columns = [
        np.sign(bias) * np.clip(np.abs(bias) - part * room, 0, room) for part in range(parts)
    ]
    return np.stack(columns)


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
    relay = f"{name}.relay"
    nodes: dict[str, Layer] = {}
    for node, layer in graph.nodes.items():
        nodes[node] = layer
        if node == name:
            nodes[f"{relay}.synapse"] = identity_synapse(
                entry.shape, entry.shape[0], entry.shape[0]
            )
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
    """Return the nodes that read a population, behind any flatten or delay."""
    readers: list[str] = []
    for reader in graph.destinations(name):
        is_between = isinstance(graph.nodes[reader], Flatten | SpikeDelay)
        readers += _readers(graph, reader) if is_between else [reader]
    return readers
