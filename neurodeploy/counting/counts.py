"""Counts of a deployed network as data: one row a layer, their sums, and every sample by itself.

`neurodeploy.counting.network_counts.count` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from neurodeploy.counting.synapse_counts import InputKind
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.float_layers import Shape
from neurodeploy.ir.integer_layers import NeuronModel


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
        sops_mac: Those of `sops` that multiply (graded input).
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
        zero_weights: Those of them that are zero.
        neurobench_macs: Those of `sops` that NeuroBench, which looks at values, calls MACs.
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
        """Sums over the layers, (samples,) int64 by name; a count unknown of a layer is missing."""
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
        active = [row.updates_active for row in self.layers]
        known = [updates for updates in active if updates is not None]
        names = {entry.name for entry in fields(Totals)} - {"updates_active"}
        return Totals(
            updates_active=sum(known) if len(known) == len(active) else None,
            **{name: sum(getattr(row, name) for row in self.layers) for name in names},
        )

    @property
    def sigma(self) -> float:
        """Spikes per synapse per inference: stored SOPs of a sample / exact dense MACs."""
        totals = self.totals
        synapses = totals.dense_exact * self.samples
        return totals.sops_stored / synapses if synapses else 0.0
