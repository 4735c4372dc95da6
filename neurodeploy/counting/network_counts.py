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
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from neurodeploy.counting.count_tables import (
    Counts,
    LayerCounts,
    Spread,
    SynapseSize,
    count_cached,
    count_messages,
)
from neurodeploy.counting.fan_out import NumberArray, synapse_fan_out
from neurodeploy.counting.synapse_counts import (
    InputKind,
    SynapseCounts,
    check_kind,
    count_events,
    count_totals,
)
from neurodeploy.errors import DataError
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir import integer_layers as integers
from neurodeploy.ir.float_layers import BatchNorm
from neurodeploy.ir.graphs import INPUT, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import Connection, FixedLayer, Synapse
from neurodeploy.simulation.counters import count_spikes
from neurodeploy.simulation.recording import CountArray, EventCounts, Feed, Recording

_TYPES: Mapping[type[Synapse], str] = {
    integers.FixedConv: "conv",
    integers.FixedDense: "dense",
    integers.FixedComplexDense: "complex_dense",
    integers.FixedInjection: "injection",
}
"""Names of synapses in tables."""


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
        inputs: (samples, T, ...) integers as simulated; without T for `Feed.BIAS`.
        recording: The simulator's result for them, with spikes of all layers or with counts; both
            lead to the same numbers.
        feed: Entry of the input.
        active_updates: (samples,) active updates by layer, instead of those of the recording.
            Where neither knows, a layer is counted only if every neuron has a bias.

    Raises:
        DataError: If input, recording and graph do not belong together, or the recording holds
            neither counts nor the spikes of every layer.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> counts = nd.count(example.graph, example.inputs, recording)
        >>> [(layer.name, layer.sops) for layer in counts.layers]
        [('conv1', 69984), ('conv2', 131024), ('readout', 26033)]
    """
    _require_integers(graph)
    values = values_entering(graph, inputs, recording, feed)
    sent = _sent_events(graph, recording)
    samples, steps = recording.samples, recording.steps
    if active_updates is None and recording.updates is not None:
        counted_updates = zip(graph.names, recording.updates, strict=True)
        active_updates = {name: updates.active for name, updates in counted_updates}
    rows: list[LayerCounts] = []
    for layer in graph:
        active = None if active_updates is None else active_updates.get(layer.name)
        pairs = [
            (one, _count_connection(graph, layer, one, values, sent, feed))
            for one in layer.connections
        ]
        forward = [pair for pair in pairs if pair[0].source != layer.name]
        backward = [pair for pair in pairs if pair[0].source == layer.name]
        spikes = sent[layer.name].total
        rows.append(_layer_row(layer.name, layer, forward, (samples, steps), spikes, active))
        if backward:
            name = f"{layer.name}.recurrent"
            rows.append(_layer_row(name, layer, backward, (samples, steps), None, None))
    names = [name for name in rows[0].by_sample if all(name in row.by_sample for row in rows)]
    sums = {name: np.sum([row.by_sample[name] for row in rows], axis=0) for name in names}
    return Counts(
        samples=samples,
        steps=steps,
        input_kind=_kind_of_input(graph, feed),
        layers=tuple(rows),
        membrane_updates=_membrane_updates(recording),
        spread={name: Spread.of(values) for name, values in sums.items()},
    )


def _total(counts: Int64Array) -> int:
    """Add up in Python's integers: a sum over samples may pass 64 bits."""
    values: list[int] = counts.tolist()
    return sum(values)


def _require_integers(graph: object) -> None:
    """Refuse a float network, and name the passes that it still needs."""
    if isinstance(graph, FixedPointGraph):
        return
    nodes = graph.nodes.items() if isinstance(graph, Graph) else ()
    norms = [name for name, layer in nodes if isinstance(layer, BatchNorm)]
    problem = f"batch norm '{norms[0]}' is not folded" if norms else "the network holds floats"
    raise DataError(
        f"counts: {problem}; only deployed networks are counted. Fold (fold_batchnorm) and "
        "quantize (quantize) it first."
    )


def _membrane_updates(recording: Recording) -> int | None:
    by_layer = [updates.membrane for updates in recording.updates or ()]
    known = [_total(updates) for updates in by_layer if updates is not None]
    return sum(known) if known and len(known) == len(by_layer) else None


def _kind_of_input(graph: FixedPointGraph, feed: Feed) -> InputKind:
    if feed is Feed.BIAS:
        return InputKind.BIAS
    return InputKind.GRADED if graph.input.is_graded else InputKind.BINARY


def _kind_of_neuron(layer: FixedLayer) -> InputKind:
    return InputKind.GRADED if layer.neuron.is_graded else InputKind.BINARY


def values_entering(
    graph: FixedPointGraph, inputs: npt.NDArray[np.integer], recording: Recording, feed: Feed
) -> NumberArray:
    """Return the input as `check_inputs` does; a port without message bits sees just spikes."""
    values = check_inputs(graph, inputs, recording, feed)
    return values != 0 if _kind_of_input(graph, feed) is InputKind.BINARY else values


def check_inputs(
    graph: FixedPointGraph, inputs: npt.NDArray[np.integer], recording: Recording, feed: Feed
) -> npt.NDArray[np.integer]:
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
    if values.shape[1] != steps:  # Lava's source starts again from its first step
        values = values[:, np.arange(steps) % values.shape[1]]
    return values


def _sent_events(graph: FixedPointGraph, recording: Recording) -> dict[str, EventCounts]:
    """Return the events of every layer by name, from recorded counts or else from spikes."""
    sent: dict[str, EventCounts] = {}
    read = {connection.source for layer in graph for connection in layer.connections}
    for index, layer in enumerate(graph):
        if recording.events is not None:
            events = recording.events[index]
        elif (spikes := recording.spikes[index]) is None:
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
                try:
                    check_kind(spikes, _kind_of_neuron(layer))
                except DataError as error:
                    raise DataError(f"{layer.name}: {error}") from error
            events = count_spikes(
                spikes, is_graded=layer.neuron.is_graded, is_recurrent=layer.is_recurrent
            )
        if events.total.shape != (recording.samples, *layer.shape):
            raise DataError(
                f"{layer.name}: recorded counts of shape {events.total.shape}, "
                f"{(recording.samples, *layer.shape)} is required."
            )
        sent[layer.name] = events
    return sent


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
    pairs: Sequence[tuple[Connection, SynapseCounts]],
    extent: tuple[int, int],
    spikes: CountArray | None,
    active: Int64Array | None,
) -> LayerCounts:
    """Put one row together.

    Args:
        name: Of the row.
        layer: Whose row it is.
        pairs: The connections that the row is about, and the counts of each.
        extent: (samples, steps).
        spikes: (samples, *layer), events of every neuron; None for a row without neurons.
        active: (samples,), active updates of the layer, or None.
    """
    samples, steps = extent
    counted = [counts for _, counts in pairs]
    sizes = tuple(_size_of(connection, counts) for connection, counts in pairs)
    none = np.zeros(samples, dtype=np.int64)
    by_sample = {
        name: sum((getattr(counts, name) for counts in counted), none)
        for name in ("events", "sops", "sops_stored")
    }
    neurons = biased = 0
    by_sample["spikes"] = none
    if spikes is None:
        active = none
    else:
        neurons = layer.neurons
        by_sample["spikes"] = spikes.reshape(samples, -1).sum(axis=1, dtype=np.int64)
        biased = int(np.count_nonzero(np.broadcast_to(layer.bias, layer.shape)))
        if active is None and biased == neurons:  # a bias makes every update active
            active = np.full(samples, neurons * steps, dtype=np.int64)
    if active is not None:
        by_sample["updates_active"] = active
    spread = {name: Spread.of(values) for name, values in by_sample.items()}
    added = {
        name: sum(getattr(size, name) for size in sizes)
        for name in ("events", "sops", "sops_stored", "dense_macs", "weights")
    }
    graded = [counts.kind is InputKind.GRADED for counts in counted]
    sops_mac = sum(size.sops for size, is_graded in zip(sizes, graded, strict=True) if is_graded)
    return LayerCounts(
        name=name,
        type="+".join(dict.fromkeys(size.type for size in sizes)),
        kind="+".join(dict.fromkeys(counts.kind.value for counts in counted)),
        shape=layer.shape,
        sops_ac=added["sops"] - sops_mac,
        sops_mac=sops_mac,
        sops_cached=count_cached(sizes),
        dense_exact=sum(counts.fan_out.dense_exact for counts in counted),
        neurons=neurons,
        updates_dense=neurons * samples * steps,
        updates_active=None if active is None else spread["updates_active"].total,
        spikes=spread["spikes"].total,
        bias_adds=neurons * samples * steps if biased else 0,
        messages=count_messages(sizes),
        zero_weights=sum(counts.fan_out.zero_weights for counts in counted),
        neurobench_macs=sum(_total(counts.neurobench_macs) for counts in counted),
        model=layer.neuron.model if neurons else None,
        synapses=sizes,
        spread=spread,
        by_sample=MappingProxyType(by_sample),
        **added,
    )


def _size_of(connection: Connection, counts: SynapseCounts) -> SynapseSize:
    return SynapseSize(
        type=_TYPES[type(connection.synapse)],
        source=connection.source,
        source_neurons=int(counts.fan_out.stored.size),
        weights=counts.fan_out.weights,
        events=_total(counts.events),
        sops=_total(counts.sops),
        sops_stored=_total(counts.sops_stored),
        sops_cached=None
        if counts.encoder_macs_cached is None
        else _total(counts.encoder_macs_cached),
        messages=_total(counts.messages),
        dense_macs=counts.fan_out.dense_macs,
    )
