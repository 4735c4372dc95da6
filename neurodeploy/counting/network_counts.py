"""Exact operation counts of a deployed network: events, SOPs, neuron updates, spikes.

All counts are integers: one dot product per synapse of its fan-out map
(`neurodeploy.counting.fan_out`) with the recorded events (`neurodeploy.counting.synapse_counts`).

- Weights are those that act on the chip (`FixedDense.effective`), not those before quantization.
- The kind of a layer's input is declared by its sender (`InputKind`), never guessed.
- Biases are no SOPs. Delays do not change counts. A recurrent synapse is a row of its own whose
  input is the layer's own spikes of the step before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from neurodeploy.counting.fan_out import (
    Int64Array,
    NumberArray,
    synapse_fan_out,
)
from neurodeploy.counting.synapse_counts import (
    InputKind,
    SynapseCounts,
    check_kind,
    count_events,
    count_totals,
)
from neurodeploy.errors import DataError
from neurodeploy.fixedpoint import DECAY_UNITY
from neurodeploy.ir.float_layers import BatchNorm, Shape
from neurodeploy.ir.graphs import (
    INPUT,
    FixedPointGraph,
    Graph,
)
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedInjection,
    FixedLayer,
    ResonateFireNeuron,
)
from neurodeploy.simulation.counters import count_spikes
from neurodeploy.simulation.recording import (
    CountArray,
    EventCounts,
    Feed,
    Recording,
    SpikeArray,
)

# What was counted of a deployed network: a row a layer, sums, and every sample by itself.
#
# `neurodeploy.counting.network_counts.count` makes them.


class NeuronModel(StrEnum):
    """Neuron models that differ in the arithmetic of one update."""

    IF = "if"
    LIF = "lif"
    CUBA = "cuba"
    SIGMA_DELTA = "sigma_delta"
    RESONATE_FIRE = "resonate_fire"


@dataclass(frozen=True, slots=True, kw_only=True)
class SynapseSize:
    """Sizes of one synapse that models of memory energy need.

    Attributes:
        type: "conv", "dense", "complex_dense" or "injection".
        source: Name of the sender.
        source_neurons: Number of senders.
        weights: Stored weights, shared ones once.
        events: Events over all samples.
        sops: SOPs over all samples.
        sops_stored: The same, zero weights included.
        dense_macs: MACs of one pass by the textbook.
    """

    type: str
    source: str
    source_neurons: int
    weights: int
    events: int
    sops: int
    sops_stored: int
    dense_macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCounts:
    """Counts of one layer over all samples and steps.

    Attributes:
        name: The layer's name; a recurrent synapse is a row "<layer>.recurrent" without neurons.
        type: "conv", "dense", "complex_dense", "injection"; joined by "+" where several synapses
            lead in.
        kind: Declared kind of the input, joined likewise.
        shape: The layer's shape.
        events: Input events.
        sops: Operations through weights other than zero.
        sops_stored: The same, zero weights included.
        sops_mac: How many of `sops` multiply (graded input).
        sops_cached: `sops` if a static graded input were computed in its first step only;
            equal to `sops` where that does not apply.
        dense_exact: MACs of one pass, border exact.
        dense_macs: MACs of one pass by the textbook.
        neurons: Neurons of the layer.
        updates_dense: Neurons · steps.
        updates_active: Updates with potential, input or bias; None if the recording cannot tell.
        spikes: Output events.
        bias_adds: Neurons · steps where the layer has biases, else 0.
        messages: Events that must be sent to this layer, one each for all of its cores: a lower
            bound for any mapping.
        weights: Stored weights, shared ones once.
        zero_weights: How many of them are zero.
        neurobench_macs: How many of `sops` NeuroBench would call MACs, looking at values.
        model: Neuron model, for the arithmetic of an update; None for a row without neurons.
        synapses: Sizes of every synapse.
        by_sample: (samples,) int64 by name: events, sops, sops_stored, spikes and, where known,
            updates_active.
    """

    name: str
    type: str
    kind: str
    shape: Shape
    events: int
    sops: int
    sops_stored: int
    sops_mac: int
    sops_cached: int
    dense_exact: int
    dense_macs: int
    neurons: int
    updates_dense: int
    updates_active: int | None
    spikes: int
    bias_adds: int
    messages: int
    weights: int
    zero_weights: int
    neurobench_macs: int
    model: NeuronModel | None
    synapses: tuple[SynapseSize, ...] = field(repr=False)
    by_sample: Mapping[str, Int64Array] = field(repr=False, compare=False)

    @property
    def sops_ac(self) -> int:
        """Operations that only add."""
        return self.sops - self.sops_mac

    @property
    def zero_weight_fraction(self) -> float:
        """Share of the stored weights that is zero."""
        return self.zero_weights / self.weights if self.weights else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the layers, for all samples; the same names as in `LayerCounts`."""

    events: int
    sops: int
    sops_stored: int
    sops_ac: int
    sops_mac: int
    sops_cached: int
    dense_exact: int
    dense_macs: int
    neurons: int
    updates_dense: int
    updates_active: int | None
    spikes: int
    bias_adds: int
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Counts of a network for a recording.

    Attributes:
        samples: Number of samples.
        steps: Steps of a sample, T.
        input_kind: Declared kind of the network's input.
        layers: One row a layer.
        membrane_updates: NeuroBench's membrane updates over all samples; None if the recording
            cannot tell, or neurons have no voltage.
    """

    samples: int
    steps: int
    input_kind: InputKind
    layers: tuple[LayerCounts, ...]
    membrane_updates: int | None = None

    @property
    def by_sample(self) -> dict[str, Int64Array]:
        """Sums over the layers, (samples,) int64 by name; what a layer does not know is missing."""
        rows = self.layers
        names = [name for name in rows[0].by_sample if all(name in row.by_sample for row in rows)]
        return {name: np.sum([row.by_sample[name] for row in rows], axis=0) for name in names}

    @property
    def sops_by_sample(self) -> Int64Array:
        """SOPs of every sample, all layers: (samples,) int64."""
        return self.by_sample["sops"]

    @property
    def totals(self) -> Totals:
        """Sums over the layers."""
        active = [layer.updates_active for layer in self.layers]
        known = [count for count in active if count is not None]
        rows = self.layers
        return Totals(
            events=sum(row.events for row in rows),
            sops=sum(row.sops for row in rows),
            sops_stored=sum(row.sops_stored for row in rows),
            sops_ac=sum(row.sops_ac for row in rows),
            sops_mac=sum(row.sops_mac for row in rows),
            sops_cached=sum(row.sops_cached for row in rows),
            dense_exact=sum(row.dense_exact for row in rows),
            dense_macs=sum(row.dense_macs for row in rows),
            neurons=sum(row.neurons for row in rows),
            updates_dense=sum(row.updates_dense for row in rows),
            updates_active=sum(known) if len(known) == len(active) else None,
            spikes=sum(row.spikes for row in rows),
            bias_adds=sum(row.bias_adds for row in rows),
            messages=sum(row.messages for row in rows),
        )

    @property
    def sigma(self) -> float:
        """Spikes per synapse per inference: stored SOPs of a sample / exact dense MACs."""
        totals = self.totals
        synapses = totals.dense_exact * self.samples
        return totals.sops_stored / synapses if synapses else 0.0


def count(
    graph: FixedPointGraph,
    inputs: npt.NDArray[np.integer],
    recording: Recording,
    *,
    feed: Feed = Feed.PORT,
    active_updates: Mapping[str, Int64Array] | None = None,
) -> Counts:
    """Count every layer of a deployed network.

    Each layer's input is what its source sent over the whole recording: the samples themselves
    for the first layer, recorded spikes or their counts for the others. Where the recording runs
    longer than the input, the input repeats, as Lava's source does.

    Args:
        graph: The network.
        inputs: (samples, T, ...) integers as given to the simulator; without T for `Feed.BIAS`.
        recording: What the simulator returned for them, with spikes of all layers or with counts;
            the result is the same.
        feed: How the input entered.
        active_updates: (samples,) active updates by layer, instead of those of the recording.
            Where neither knows, a layer is counted only if every neuron has a bias.

    Raises:
        DataError: If input, recording and graph do not belong together, or the recording holds
            neither counts nor the spikes of every layer.
    """
    _require_integers(graph)
    values = _port_values(graph, inputs, recording, feed)
    sent = _sent_events(graph, recording)
    samples, steps = recording.samples, recording.steps
    if active_updates is None and recording.updates is not None:
        counted_updates = zip(graph.names, recording.updates, strict=True)
        active_updates = {name: found.active for name, found in counted_updates}
    rows: list[LayerCounts] = []
    for layer in graph:
        forward = tuple(one for one in layer.connections if one.source != layer.name)
        backward = tuple(one for one in layer.connections if one.source == layer.name)
        active = None if active_updates is None else active_updates.get(layer.name)
        for name, connections in ((layer.name, forward), (f"{layer.name}.recurrent", backward)):
            if not connections and name != layer.name:
                continue
            counted = [
                _count_connection(graph, layer, connection, values, sent, feed)
                for connection in connections
            ]
            rows.append(
                _layer_row(
                    name,
                    layer,
                    connections,
                    counted,
                    samples=samples,
                    steps=steps,
                    spikes=sent[layer.name].total if name == layer.name else None,
                    active=active if name == layer.name else None,
                )
            )
    return Counts(
        samples=samples,
        steps=steps,
        input_kind=_kind_of_input(graph, feed),
        layers=tuple(rows),
        membrane_updates=_membrane_updates(recording),
    )


def _require_integers(graph: object) -> None:
    """Refuse a float network, and name what is to be done with it.

    Raises:
        DataError: If it is one.
    """
    if isinstance(graph, FixedPointGraph):
        return
    nodes = graph.nodes.items() if isinstance(graph, Graph) else ()
    norms = [name for name, layer in nodes if isinstance(layer, BatchNorm)]
    found = f"batch norm '{norms[0]}' is not folded" if norms else "the network holds floats"
    raise DataError(
        f"counts: {found}; only deployed networks are counted. Fold (fold_batchnorm) and quantize "
        "(quantize) it first."
    )


def _membrane_updates(recording: Recording) -> int | None:
    found = [one.membrane for one in recording.updates or ()]
    known = [int(one.sum()) for one in found if one is not None]
    return sum(known) if known and len(known) == len(found) else None


def _kind_of_input(graph: FixedPointGraph, feed: Feed) -> InputKind:
    if feed is Feed.BIAS:
        return InputKind.BIAS
    return InputKind.GRADED if graph.input.is_graded else InputKind.BINARY


def _kind_of_neuron(layer: FixedLayer) -> InputKind:
    """What a layer's neurons can send."""
    return InputKind.GRADED if layer.neuron.is_graded else InputKind.BINARY


def _port_values(
    graph: FixedPointGraph,
    inputs: npt.NDArray[np.integer],
    recording: Recording,
    feed: Feed,
) -> NumberArray:
    """Return the network's input, (samples, T, ...), after checking it against the recording."""
    if recording.layers != graph.names:
        raise DataError(
            f"counts: the recording is of layers {', '.join(recording.layers)}, the network has "
            f"{', '.join(graph.names)}. Record the network that you count."
        )
    samples, steps = recording.samples, recording.steps
    values: npt.NDArray[np.integer] = np.asarray(inputs)
    if feed is Feed.BIAS:
        values = np.broadcast_to(values[:, None], (values.shape[0], steps, *values.shape[1:]))
    if values.ndim < 3 or values.shape[0] != samples or values.shape[1] < 1:
        raise DataError(
            f"counts: input of shape {np.shape(inputs)}, the recording has {samples} samples. "
            "Give the input that was recorded."
        )
    if values.shape[1] != steps:
        values = values[:, np.arange(steps) % values.shape[1]]
    is_binary = _kind_of_input(graph, feed) is InputKind.BINARY
    # a port without message bits sees a spike, not its payload
    return values != 0 if is_binary else values


def _sent_events(graph: FixedPointGraph, recording: Recording) -> dict[str, EventCounts]:
    """Return the events of every layer by name, from recorded counts or else from spikes."""
    sent: dict[str, EventCounts] = {}
    read = {connection.source for layer in graph for connection in layer.connections}
    for index, layer in enumerate(graph):
        spikes = recording.spikes[index]
        if recording.events is not None:
            found = recording.events[index]
        elif spikes is None:
            raise DataError(
                f"{layer.name}: neither its spikes nor counts were recorded. Run with "
                "Record(counts=True)."
            )
        else:
            expected = (recording.samples, recording.steps, *layer.shape)
            if spikes.shape != expected:
                raise DataError(
                    f"{layer.name}: recorded spikes of shape {spikes.shape}, {expected} is "
                    "required."
                )
            if layer.name in read:
                _check_sender(layer, spikes)
            found = count_spikes(
                spikes, is_graded=layer.neuron.is_graded, is_recurrent=layer.is_recurrent
            )
        if found.total.shape != (recording.samples, *layer.shape):
            raise DataError(
                f"{layer.name}: recorded counts of shape {found.total.shape}, "
                f"{(recording.samples, *layer.shape)} is required."
            )
        sent[layer.name] = found
    return sent


def _check_sender(layer: FixedLayer, spikes: SpikeArray) -> None:
    """Refuse spikes that neurons of this kind cannot send.

    Raises:
        DataError: Naming the layer.
    """
    try:
        check_kind(spikes, _kind_of_neuron(layer))
    except DataError as error:
        raise DataError(f"{layer.name}: {error}") from error


def _count_connection(
    graph: FixedPointGraph,
    layer: FixedLayer,
    connection: Connection,
    values: NumberArray,
    sent: Mapping[str, EventCounts],
    feed: Feed,
) -> SynapseCounts:
    source = connection.source
    try:
        fan_out = synapse_fan_out(connection.synapse, graph.shape_of(source))
        if source == INPUT:
            return count_events(fan_out, values, kind=_kind_of_input(graph, feed))
        kind = _kind_of_neuron(graph.layers[graph.names.index(source)])
        events = sent[source]
        if source == layer.name:
            assert events.earlier is not None
            events = events.earlier
        return count_totals(fan_out, events, kind=kind, steps=values.shape[1])
    except DataError as error:
        raise DataError(f"'{source}' -> '{layer.name}': {error}") from error


def _layer_row(
    name: str,
    layer: FixedLayer,
    connections: Sequence[Connection],
    counted: Sequence[SynapseCounts],
    *,
    samples: int,
    steps: int,
    spikes: CountArray | None,
    active: Int64Array | None,
) -> LayerCounts:
    """Put together one row.

    Args:
        name: Of the row.
        layer: The layer.
        connections: Those that the row is of.
        counted: Counts of each.
        samples: Number of samples.
        steps: Steps of each.
        spikes: (samples, *layer), events of each neuron; None for a row without neurons of its
            own.
        active: (samples,), active updates, or None.
    """
    sizes = tuple(
        SynapseSize(
            type=_type_of(connection),
            source=connection.source,
            source_neurons=int(one.fan_out.stored.size),
            weights=one.fan_out.weights,
            events=int(one.events.sum()),
            sops=int(one.sops.sum()),
            sops_stored=int(one.sops_stored.sum()),
            dense_macs=one.fan_out.dense_macs,
        )
        for connection, one in zip(connections, counted, strict=True)
    )
    neurons = layer.neurons if spikes is not None else 0
    passes = samples * steps
    biased = int(np.count_nonzero(np.broadcast_to(layer.bias, layer.shape))) if neurons else 0
    updates_active = None if active is None else int(active.sum())
    if active is None and biased == neurons:
        updates_active = neurons * passes
    messages: dict[str, int] = {}
    for size, one in zip(sizes, counted, strict=True):
        # several synapses from one source share their messages
        messages[size.source] = max(messages.get(size.source, 0), int(one.messages.sum()))
    by_sample = _by_sample(counted, samples, spikes, active, updates_active)
    return LayerCounts(
        name=name,
        type="+".join(dict.fromkeys(one.type for one in sizes)),
        kind="+".join(dict.fromkeys(one.kind.value for one in counted)),
        shape=layer.shape,
        events=sum(one.events for one in sizes),
        sops=sum(one.sops for one in sizes),
        sops_stored=sum(one.sops_stored for one in sizes),
        sops_mac=sum(int(one.sops.sum()) for one in counted if one.kind is InputKind.GRADED),
        sops_cached=sum(
            int((one.sops if one.encoder_macs_cached is None else one.encoder_macs_cached).sum())
            for one in counted
        ),
        dense_exact=sum(one.fan_out.dense_exact for one in counted),
        dense_macs=sum(one.fan_out.dense_macs for one in counted),
        neurons=neurons,
        updates_dense=neurons * passes,
        updates_active=updates_active,
        spikes=0 if spikes is None else int(spikes.sum(dtype=np.int64)),
        bias_adds=neurons * passes if biased else 0,
        messages=sum(messages.values()),
        weights=sum(one.weights for one in sizes),
        zero_weights=sum(one.fan_out.zero_weights for one in counted),
        neurobench_macs=sum(int(one.neurobench_macs.sum()) for one in counted),
        model=_model_of(layer) if neurons else None,
        synapses=sizes,
        by_sample=MappingProxyType(by_sample),
    )


def _by_sample(
    counted: Sequence[SynapseCounts],
    samples: int,
    spikes: CountArray | None,
    active: Int64Array | None,
    updates_active: int | None,
) -> dict[str, Int64Array]:
    """Return the counts of a row sample by sample, (samples,) int64 by name."""
    none = np.zeros(samples, dtype=np.int64)
    found = {
        "events": sum((one.events for one in counted), none),
        "sops": sum((one.sops for one in counted), none),
        "sops_stored": sum((one.sops_stored for one in counted), none),
        "spikes": none,
    }
    if spikes is not None:
        found["spikes"] = spikes.reshape(samples, -1).sum(axis=1, dtype=np.int64)
    if spikes is None:
        found["updates_active"] = none
    elif active is not None:
        found["updates_active"] = active
    elif updates_active is not None:
        found["updates_active"] = np.full(samples, updates_active // samples, dtype=np.int64)
    return found


def _type_of(connection: Connection) -> str:
    if isinstance(connection.synapse, FixedInjection):
        return "injection"
    if isinstance(connection.synapse, FixedComplexDense):
        return "complex_dense"
    return "conv" if isinstance(connection.synapse, FixedConv) else "dense"


def _model_of(layer: FixedLayer) -> NeuronModel:
    """Name the arithmetic of a layer's neurons by its most general neuron."""
    neuron = layer.neuron
    if isinstance(neuron, ResonateFireNeuron):
        return NeuronModel.RESONATE_FIRE
    if not isinstance(neuron, CubaNeuron):
        return NeuronModel.SIGMA_DELTA
    if bool(np.any(neuron.current_decay != DECAY_UNITY)):
        return NeuronModel.CUBA
    return NeuronModel.LIF if bool(np.any(neuron.voltage_decay != 0)) else NeuronModel.IF
