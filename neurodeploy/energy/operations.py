"""The operations of one inference as plain numbers, from which every model of energy starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType

from neurodeploy.counting.network_counts import Counts, LayerCounts
from neurodeploy.errors import DataError
from neurodeploy.ir.integer_layers import NeuronModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAccesses:
    """Memory accesses of one synapse and its neurons in one inference; tier B needs them.

    Attributes:
        sops: Each reads a weight and reads and writes an accumulator.
        weights: Stored weights, shared ones once.
        events: Each is written to and read from a queue.
        source_neurons: Senders.
        neurons: Of the layer.
        updates: Neuron updates to charge here; 0 for a second synapse into the same neurons.
        states: State words of a neuron.
    """

    sops: float
    weights: int
    events: float
    source_neurons: int
    neurons: int
    updates: float
    states: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Operations of one inference, as plain numbers.

    Attributes:
        steps: T.
        sops_ac: Operations on binary or ternary input, through weights other than zero.
        sops_mac: Operations on graded or analog input.
        sops_conv: Those of both in convolutions, whose synapses a chip stores in another format.
        sops_stored: All operations, zero weights included; None: as many as without them.
        sops_stored_conv: Those of them in convolutions; None likewise.
        sops_saved: Multiplications that computing a static input once would save.
        updates: Neuron updates by model, every neuron at every step.
        updates_active: Those of them that are active; None if not known.
        spikes: Of all neurons.
        bias_adds: Additions of biases.
        messages: Spikes · destination layers.
        accesses: One entry a synapse; tier B needs them.
    """

    steps: int
    sops_ac: float = 0.0
    sops_mac: float = 0.0
    sops_conv: float = 0.0
    sops_stored: float | None = None
    sops_stored_conv: float | None = None
    sops_saved: float = 0.0
    updates: Mapping[NeuronModel, float] = field(default_factory=dict)
    updates_active: float | None = None
    spikes: float = 0.0
    bias_adds: float = 0.0
    messages: float = 0.0
    accesses: tuple[LayerAccesses, ...] = ()

    @property
    def updates_dense(self) -> float:
        """Updates of all neurons."""
        return sum(self.updates.values())


def operations_of(counts: Counts) -> Operations:
    """Return the operations of one inference: the mean over the samples.

    Raises:
        DataError: If there are no samples.
    """
    samples = counts.samples
    if samples < 1:
        raise DataError("energy: no samples were counted. Record at least one.")
    totals = counts.totals
    updates: dict[NeuronModel, float] = {}
    accesses = []
    for row in counts.layers:
        if row.model is not None:
            updates[row.model] = updates.get(row.model, 0.0) + row.updates_dense / samples
        for number, synapse in enumerate(row.synapses):
            accesses.append(
                LayerAccesses(
                    sops=synapse.sops / samples,
                    weights=synapse.weights,
                    events=synapse.events / samples,
                    source_neurons=synapse.source_neurons,
                    neurons=prod(row.shape),
                    updates=row.updates_dense / samples if number == 0 else 0.0,
                    states=1 if row.model is None else row.model.states,
                )
            )
    active = totals.updates_active
    return Operations(
        steps=counts.steps,
        sops_ac=totals.sops_ac / samples,
        sops_mac=totals.sops_mac / samples,
        sops_conv=sum(_conv_sops(row)[0] for row in counts.layers) / samples,
        sops_stored=totals.sops_stored / samples,
        sops_stored_conv=sum(_conv_sops(row)[1] for row in counts.layers) / samples,
        sops_saved=(totals.sops - totals.sops_cached) / samples,
        updates=MappingProxyType(updates),
        updates_active=None if active is None else active / samples,
        spikes=totals.spikes / samples,
        bias_adds=totals.bias_adds / samples,
        messages=totals.messages / samples,
        accesses=tuple(accesses),
    )


def _conv_sops(row: LayerCounts) -> tuple[int, int]:
    """Return the SOPs, and the stored ones, of a row's convolutions."""
    convs = [synapse for synapse in row.synapses if synapse.type == "conv"]
    return sum(size.sops for size in convs), sum(size.sops_stored for size in convs)
