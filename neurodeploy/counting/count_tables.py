"""Tables of counts: of a synapse, a layer, a network; those of further samples can be added.

All are integers of Python, exact for any number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import sqrt

import numpy as np

from neurodeploy.counting.synapse_counts import InputKind
from neurodeploy.errors import DataError
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.float_layers import Shape
from neurodeploy.ir.integer_layers import NeuronModel

_ADDED = (
    *("events", "sops", "sops_stored", "sops_ac", "sops_mac"),
    *("updates_dense", "spikes", "bias_adds", "neurobench_macs"),
)
"""Counts of a layer that are those of one half of the samples plus those of the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A count over samples: its sum, and that of its squares, exact however many there are."""

    samples: int
    total: int
    squares: int

    @classmethod
    def of(cls, counts: Int64Array) -> Spread:
        """Add up the count of each sample, (samples,)."""
        values: list[int] = counts.tolist()  # Python's integers: a square may pass 64 bits
        return cls(samples=len(values), total=sum(values), squares=sum(one * one for one in values))

    def __add__(self, other: Spread) -> Spread:
        """Take in further samples."""
        return Spread(
            samples=self.samples + other.samples,
            total=self.total + other.total,
            squares=self.squares + other.squares,
        )

    @property
    def deviation(self) -> float:
        """Standard deviation over the samples, of the population."""
        of_all = self.samples * self.squares - self.total * self.total
        return sqrt(of_all / self.samples**2) if self.samples else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SynapseSize:
    """Sizes of one synapse that models of memory energy need; counts are over all samples.

    Attributes:
        type: "conv", "dense", "complex_dense" or "injection".
        source: Name of the sender.
        source_neurons: Number of senders.
        weights: Stored weights, shared ones once.
        sops: Through weights other than zero.
        sops_stored: The same, zero weights included.
        sops_cached: See `Totals`; None where the input of some sample changes, or never has values.
        messages: Events of senders that reach anything, zero weights included.
        dense_macs: MACs of one pass by the textbook.
    """

    type: str
    source: str
    source_neurons: int
    weights: int
    events: int
    sops: int
    sops_stored: int
    sops_cached: int | None
    messages: int
    dense_macs: int

    def __add__(self, other: SynapseSize) -> SynapseSize:
        """Take in the counts of further samples."""
        cached = None
        if self.sops_cached is not None and other.sops_cached is not None:
            cached = self.sops_cached + other.sops_cached
        return replace(
            self,
            events=self.events + other.events,
            sops=self.sops + other.sops,
            sops_stored=self.sops_stored + other.sops_stored,
            sops_cached=cached,
            messages=self.messages + other.messages,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts over all samples and steps, of one layer or added up over the layers.

    Attributes:
        events: Input events.
        sops: Operations through weights other than zero.
        sops_stored: The same, zero weights included.
        sops_ac: Those of `sops` that only add.
        sops_mac: Those of `sops` that multiply (graded input).
        sops_cached: `sops` if a static graded input were computed in its first step only;
            equal to `sops` where that does not apply.
        dense_exact: MACs of one pass, border exact.
        dense_macs: MACs of one pass by the textbook.
        updates_dense: Neurons · steps.
        updates_active: Updates with potential, input or bias; None if the recording cannot tell.
        spikes: Output events.
        bias_adds: Neurons · steps where the layer has biases, else 0.
        messages: Events that must be sent to this layer, one each for all of its cores: a lower
            bound for any mapping.
    """

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCounts(Totals):
    """Counts of one layer.

    Attributes:
        name: The layer's name; a recurrent synapse is a row "<layer>.recurrent" without neurons.
        type: As in `SynapseSize`; joined by "+" where several synapses lead in.
        kind: Declared kind of the input, joined likewise.
        weights: Stored weights, shared ones once.
        zero_weights: Those of them that are zero.
        neurobench_macs: Those of `sops` that NeuroBench, which looks at values, calls MACs.
        model: Neuron model, for the arithmetic of an update; None for a row without neurons.
        spread: By name, over the samples: events, sops, sops_stored, spikes and, where known,
            updates_active.
        by_sample: The same of each sample, (samples,) int64; empty where samples were counted in
            pieces.
    """

    name: str
    type: str
    kind: str
    shape: Shape
    weights: int
    zero_weights: int
    neurobench_macs: int
    model: NeuronModel | None
    synapses: tuple[SynapseSize, ...] = field(repr=False)
    spread: Mapping[str, Spread] = field(repr=False)
    by_sample: Mapping[str, Int64Array] = field(repr=False, compare=False)

    def __add__(self, other: LayerCounts) -> LayerCounts:
        """Take in the counts of further samples."""
        pairs = zip(self.synapses, other.synapses, strict=True)
        synapses = tuple(one + more for one, more in pairs)
        return replace(
            self,
            synapses=synapses,
            sops_cached=count_cached(synapses),
            messages=count_messages(synapses),
            updates_active=_add_known(self.updates_active, other.updates_active),
            spread=_add_spread(self.spread, other.spread),
            by_sample={},
            **{name: getattr(self, name) + getattr(other, name) for name in _ADDED},
        )

    @property
    def zero_weight_fraction(self) -> float:
        """Share of the stored weights that is zero."""
        return self.zero_weights / self.weights if self.weights else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """Counts of a network for a recording, one row a layer.

    Attributes:
        samples: Number of samples.
        steps: Steps of a sample, T.
        input_kind: Declared kind of the network's input.
        membrane_updates: NeuroBench's membrane updates over all samples; None if the recording
            cannot tell, or neurons have no voltage.
        spread: As that of layers, of the sums over all layers; a count unknown of one is missing.
    """

    samples: int
    steps: int
    input_kind: InputKind
    layers: tuple[LayerCounts, ...]
    membrane_updates: int | None
    spread: Mapping[str, Spread]

    def __add__(self, other: Counts) -> Counts:
        """Take in the counts of further samples of the same network."""
        return replace(
            self,
            samples=self.samples + other.samples,
            layers=tuple(a + b for a, b in zip(self.layers, other.layers, strict=True)),
            membrane_updates=_add_known(self.membrane_updates, other.membrane_updates),
            spread=_add_spread(self.spread, other.spread),
        )

    @property
    def sops_by_sample(self) -> Int64Array:
        """SOPs of every sample, all layers: (samples,) int64.

        Raises:
            DataError: If samples were counted in pieces, which keeps sums only.
        """
        if not all(row.by_sample for row in self.layers):
            raise DataError(
                "counts: of samples that were counted in pieces, sums are kept (`spread`). Record "
                "them at once and count that."
            )
        return np.asarray(np.sum([row.by_sample["sops"] for row in self.layers], axis=0))

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


def _add_known(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _add_spread(one: Mapping[str, Spread], other: Mapping[str, Spread]) -> dict[str, Spread]:
    return {name: one[name] + other[name] for name in one if name in other}


def count_cached(synapses: Sequence[SynapseSize]) -> int:
    """Add up the operations of all synapses, the first step's where the input is static."""
    return sum(one.sops if one.sops_cached is None else one.sops_cached for one in synapses)


def count_messages(synapses: Sequence[SynapseSize]) -> int:
    """Add up the messages of all sources; several synapses from one share theirs."""
    messages: dict[str, int] = {}
    for one in synapses:
        messages[one.source] = max(messages.get(one.source, 0), one.messages)
    return sum(messages.values())
