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

from neurodeploy.counting.counts import Counts, LayerCounts, SynapseSize
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
from neurodeploy.ir.float_layers import BatchNorm
from neurodeploy.ir.graphs import INPUT, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import (
    Connection,
    FixedComplexDense,
    FixedConv,
    FixedInjection,
    FixedLayer,
)
from neurodeploy.simulation.counters import count_spikes
from neurodeploy.simulation.recording import CountArray, EventCounts, Feed, Recording, SpikeArray


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
        recording: The simulator's result for them, with spikes of all layers or with counts; both
            lead to the same numbers.
        feed: Entry of the input.
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
        active_updates = {name: updates.active for name, updates in counted_updates}
    rows: list[LayerCounts] = []
    for layer in graph:
        forward = tuple(c for c in layer.connections if c.source != layer.name)
        backward = tuple(c for c in layer.connections if c.source == layer.name)
        active = None if active_updates is None else active_updates.get(layer.name)
        counted = [_count_connection(graph, layer, c, values, sent, feed) for c in forward]
        spikes = sent[layer.name].total
        rows.append(
            _layer_row(layer.name, layer, forward, counted, (samples, steps), spikes, active)
        )
        if backward:
            name = f"{layer.name}.recurrent"
            counted = [_count_connection(graph, layer, c, values, sent, feed) for c in backward]
            rows.append(_layer_row(name, layer, backward, counted, (samples, steps), None, None))
    return Counts(
        samples=samples,
        steps=steps,
        input_kind=_kind_of_input(graph, feed),
        layers=tuple(rows),
        membrane_updates=_membrane_updates(recording),
    )


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
    known = [int(updates.sum()) for updates in by_layer if updates is not None]
    return sum(known) if known and len(known) == len(by_layer) else None


def _kind_of_input(graph: FixedPointGraph, feed: Feed) -> InputKind:
    if feed is Feed.BIAS:
        return InputKind.BIAS
    return InputKind.GRADED if graph.input.is_graded else InputKind.BINARY


def _kind_of_neuron(layer: FixedLayer) -> InputKind:
    """Return the kind of events that a layer's neurons send."""
    return InputKind.GRADED if layer.neuron.is_graded else InputKind.BINARY


def _port_values(
    graph: FixedPointGraph, inputs: npt.NDArray[np.integer], recording: Recording, feed: Feed
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
    if values.shape[1] != steps:  # Lava's source starts again from its first step
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
            events = recording.events[index]
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


def _check_sender(layer: FixedLayer, spikes: SpikeArray) -> None:
    """Refuse spikes that neurons of this kind cannot send."""
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
    extent: tuple[int, int],
    spikes: CountArray | None,
    active: Int64Array | None,
) -> LayerCounts:
    """Put one row together.

    Args:
        name: Of the row.
        layer: The layer.
        connections: Those that the row is about.
        counted: Counts of each.
        extent: (samples, steps).
        spikes: (samples, *layer), events of every neuron; None for a row without neurons.
        active: (samples,), active updates, or None.
    """
    samples, steps = extent
    sizes = tuple(
        SynapseSize(
            type=_type_of(connection),
            source=connection.source,
            source_neurons=int(counts.fan_out.stored.size),
            weights=counts.fan_out.weights,
            events=int(counts.events.sum()),
            sops=int(counts.sops.sum()),
            sops_stored=int(counts.sops_stored.sum()),
            dense_macs=counts.fan_out.dense_macs,
        )
        for connection, counts in zip(connections, counted, strict=True)
    )
    neurons = layer.neurons if spikes is not None else 0
    biased = int(np.count_nonzero(np.broadcast_to(layer.bias, layer.shape))) if neurons else 0
    if active is None and biased == neurons:  # a bias makes every update active
        active = np.full(samples, neurons * steps, dtype=np.int64)
    messages: dict[str, int] = {}
    for size, counts in zip(sizes, counted, strict=True):
        # several synapses from one source share their messages
        messages[size.source] = max(messages.get(size.source, 0), int(counts.messages.sum()))
    none = np.zeros(samples, dtype=np.int64)
    by_sample = {
        "events": sum((counts.events for counts in counted), none),
        "sops": sum((counts.sops for counts in counted), none),
        "sops_stored": sum((counts.sops_stored for counts in counted), none),
        "spikes": none
        if spikes is None
        else spikes.reshape(samples, -1).sum(axis=1, dtype=np.int64),
        **({} if active is None else {"updates_active": active}),
    }
    return LayerCounts(
        name=name,
        type="+".join(dict.fromkeys(size.type for size in sizes)),
        kind="+".join(dict.fromkeys(counts.kind.value for counts in counted)),
        shape=layer.shape,
        events=sum(size.events for size in sizes),
        sops=sum(size.sops for size in sizes),
        sops_stored=sum(size.sops_stored for size in sizes),
        sops_mac=sum(int(c.sops.sum()) for c in counted if c.kind is InputKind.GRADED),
        sops_cached=sum(
            int((c.sops if c.encoder_macs_cached is None else c.encoder_macs_cached).sum())
            for c in counted
        ),
        dense_exact=sum(counts.fan_out.dense_exact for counts in counted),
        dense_macs=sum(size.dense_macs for size in sizes),
        neurons=neurons,
        updates_dense=neurons * samples * steps,
        updates_active=None if active is None else int(active.sum()),
        spikes=int(by_sample["spikes"].sum()),
        bias_adds=neurons * samples * steps if biased else 0,
        messages=sum(messages.values()),
        weights=sum(size.weights for size in sizes),
        zero_weights=sum(counts.fan_out.zero_weights for counts in counted),
        neurobench_macs=sum(int(counts.neurobench_macs.sum()) for counts in counted),
        model=layer.neuron.model if neurons else None,
        synapses=sizes,
        by_sample=MappingProxyType(by_sample),
    )


def _type_of(connection: Connection) -> str:
    if isinstance(connection.synapse, FixedInjection):
        return "injection"
    if isinstance(connection.synapse, FixedComplexDense):
        return "complex_dense"
    return "conv" if isinstance(connection.synapse, FixedConv) else "dense"
