"""The arrays of a recording, filled group by group of samples.

All lie in one piece of memory; see `zeros_together`.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, fields
from threading import Lock
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import FixedLayer
from neurodeploy.simulation.counters import count_spikes
from neurodeploy.simulation.large_pages import ArraySpec, zeros_together
from neurodeploy.simulation.recording import (
    CountArray,
    Decision,
    EventCounts,
    Feed,
    Health,
    IntArray,
    Record,
    Recording,
    SpikeArray,
    States,
    Timing,
    UpdateCounts,
    count_type,
)
from neurodeploy.simulation.spike_bits import SpikeBits, Unmade, made_when_read, pack_bits, tiles_of

_COUNTED_STEPS = 8
"""Steps over which spikes, as bits, take no more memory than their number."""

_HEALTH = tuple(field.name for field in fields(Health))
_IS_PEAK = np.array([name.endswith("_peak") for name in _HEALTH])


def new_health() -> Int64Array:
    """Return the numbers of `Health` before anything has run."""
    return np.zeros(len(_HEALTH), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Settings of a run, the same for all samples."""

    steps: int
    timing: Timing
    feed: Feed
    record: Record
    kept: frozenset[str]
    traced: frozenset[str]


@dataclass(slots=True, eq=False)
class LayerOutputs:
    """Arrays of one layer for all samples; None where nothing is to be kept.

    Attributes:
        layer: The layer.
        steps: T.
        updates: (samples, 2) int64, active and membrane updates; (0, 2) if none are counted.
        spikes: (samples, T, *layer) uint8 or int32.
        bits: In place of it, as `SpikeBits.bits`; also where only their number is asked for.
        is_kept: Whether spikes are.
        traces: (samples, T, states, *layer) int32.
        finals: (samples, states, *layer) int32.
        total: (samples, *layer) `count_type(T)`, events.
        earlier: The same without those of the last step, for recurrent layers.
        valued: As `EventCounts.valued`, for layers whose events carry values.
        earlier_valued: The same without the last step, for recurrent layers.
        is_static: Whether all samples so far sent the same at each step.
        health: (8,) int64, as `Health`.
        lock: For the two above, which groups of samples join.
    """

    layer: FixedLayer
    steps: int
    updates: Int64Array
    spikes: SpikeArray | None = None
    bits: npt.NDArray[np.uint16] | None = None
    traces: IntArray | None = None
    finals: IntArray | None = None
    total: CountArray | None = None
    earlier: CountArray | None = None
    valued: CountArray | None = None
    earlier_valued: CountArray | None = None
    is_kept: bool = False
    is_static: bool = True
    health: Int64Array = field(default_factory=new_health)
    lock: Lock = field(default_factory=Lock)

    def add_health(self, health: Int64Array) -> None:
        """Join (8,) int64 of a group of samples."""
        with self.lock:
            largest = np.maximum(self.health, health)
            self.health[:] = np.where(_IS_PEAK, largest, self.health + health)

    def note_static(self, *, is_static: bool) -> None:
        """Note whether samples sent the same at each step."""
        with self.lock:
            self.is_static = self.is_static and is_static

    def write_spikes(self, span: slice, spikes: SpikeArray) -> None:
        """Write or count the events of a group of samples, as far as they are to be kept."""
        layer = self.layer
        if self.spikes is not None:
            self.spikes[span] = spikes
        if self.bits is not None:
            self.bits[span] = pack_bits(spikes)
        if self.total is not None:
            counted = count_spikes(
                spikes, is_graded=layer.neuron.is_graded, is_recurrent=layer.is_recurrent
            )
            self.total[span] = counted.total
            if self.valued is not None:
                self.valued[span] = counted.valued
            if counted.earlier is not None and self.earlier is not None:
                self.earlier[span] = counted.earlier.total
                if self.earlier_valued is not None:
                    self.earlier_valued[span] = counted.earlier.valued
            self.note_static(is_static=counted.is_static)

    def kept_spikes(self) -> SpikeArray | SpikeBits | None:
        """Return the spikes as far as they were to be kept, as arrays or bits."""
        return self._packed() if self.bits is not None and self.is_kept else self.spikes

    def _packed(self) -> SpikeBits:
        assert self.bits is not None
        return SpikeBits(bits=self.bits, shape=self.layer.shape)

    def states(self) -> States:
        """Return the states after every step by name."""
        if self.traces is None:
            return {}
        return {name: self.traces[:, :, k] for k, name in enumerate(self.layer.neuron.states)}

    def final_states(self) -> States:
        """Return the states after the last step by name."""
        assert self.finals is not None
        return {name: self.finals[:, k] for k, name in enumerate(self.layer.neuron.states)}

    def events(self) -> EventCounts | CountsOfBits:
        """Return the events of every neuron."""
        if self.total is None:
            return CountsOfBits(spikes=self._packed(), is_recurrent=self.layer.is_recurrent)
        is_static, earlier = self.is_static, None
        if self.steps > 1 and not self.layer.neuron.is_graded:  # at every step or at none
            is_static = all(bool(((n == 0) | (n == self.steps)).all()) for n in self.total)
        if self.earlier is not None:
            earlier = EventCounts(
                total=self.earlier,
                valued=_or_zeros(self.earlier_valued, self.earlier),
                is_static=self.steps > 1 and not self.earlier.any(),
            )
        return EventCounts(
            total=self.total,
            valued=_or_zeros(self.valued, self.total),
            is_static=self.steps > 1 and is_static,
            earlier=earlier,
        )

    def update_counts(self) -> UpdateCounts:
        """Return active and membrane updates."""
        has_voltage = "voltage" in self.layer.neuron.states
        return UpdateCounts(
            active=self.updates[:, 0].copy(),
            membrane=self.updates[:, 1].copy() if has_voltage else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountsOfBits(Unmade[EventCounts]):
    """Events of a layer, counted when they are read.

    Attributes:
        spikes: All of them.
        is_recurrent: Whether the layer reads its own.
    """

    spikes: SpikeBits
    is_recurrent: bool

    def count(self) -> int:
        """Return the number of all events."""
        return self.spikes.count()

    def make(self) -> EventCounts:
        """Count them."""
        bits, earlier = self.spikes.bits, None
        if self.is_recurrent:
            before = SpikeBits(bits=bits[:, :-1], shape=self.spikes.shape)
            total: CountArray = before.totals()
            if total.dtype != count_type(bits.shape[1]):  # one step less: 255 in place of 256
                total = total.astype(np.int32)
            earlier = EventCounts(
                total=total,
                valued=np.zeros_like(total),
                is_static=bits.shape[1] > 1 and not total.any(),
            )
        counted = self.spikes.totals()
        return EventCounts(
            total=counted,
            valued=np.zeros_like(counted),
            is_static=bits.shape[1] > 1 and all(bool((one == one[0]).all()) for one in bits),
            earlier=earlier,
        )


def _or_zeros(array: CountArray | None, like: CountArray) -> CountArray:
    return np.zeros_like(like) if array is None else array


def _array_specs(
    layer: FixedLayer, plan: Plan, samples: int, *, is_packed: bool
) -> dict[str, ArraySpec]:
    """Name the arrays of a layer that are to be kept, with their shapes and types."""
    record, steps, states = plan.record, plan.steps, len(layer.neuron.states)
    graded, shape = layer.neuron.is_graded, layer.shape
    total: ArraySpec = ((samples, *shape), count_type(steps))
    counts_bits = record.counts and steps <= _COUNTED_STEPS
    has_bits = is_packed and (layer.name in plan.kept or counts_bits)
    sent: ArraySpec = ((samples, steps, *shape), np.int32 if graded else np.uint8)
    arrays: dict[str, tuple[bool, ArraySpec]] = {
        "spikes": (layer.name in plan.kept and not is_packed, sent),
        "bits": (has_bits, ((samples, steps, tiles_of(shape)), np.uint16)),
        "traces": (layer.name in plan.traced, ((samples, steps, states, *shape), np.int32)),
        "finals": (record.final_states, ((samples, states, *shape), np.int32)),
        "total": (record.counts and not has_bits, total),
        "earlier": (record.counts and layer.is_recurrent and not has_bits, total),
        "valued": (record.counts and graded, total),
        "earlier_valued": (record.counts and graded and layer.is_recurrent, total),
    }
    return {name: spec for name, (is_kept, spec) in arrays.items() if is_kept}


class Outputs:
    """Arrays of all layers of a network, for a number of samples."""

    def __init__(
        self, graph: FixedPointGraph, plan: Plan, *, samples: int, packed: Container[str] = ()
    ) -> None:
        """Make them; of layers that are `packed`, spikes are kept as bits."""
        self._samples = samples
        self._plan = plan
        self._decision = Decision.of(graph)
        specs = [
            _array_specs(layer, plan, samples, is_packed=layer.name in packed) for layer in graph
        ]
        arrays = iter(zeros_together([spec for layer in specs for spec in layer.values()]))
        self.layers: list[LayerOutputs] = []
        for layer, names in zip(graph, specs, strict=True):
            updates = np.zeros((samples if plan.record.has_updates else 0, 2), np.int64)
            kept = cast("dict[str, Any]", {name: next(arrays) for name in names})
            kept["is_kept"] = layer.name in plan.kept
            self.layers.append(LayerOutputs(layer, plan.steps, updates, **kept))

    def take_part(self, part: Outputs, first: int) -> None:
        """Take over what was written in a run of its own over the steps from `first` on."""
        for whole, found in zip(self.layers, part.layers, strict=True):
            span = slice(first, first + found.steps)
            for name in ("spikes", "bits", "traces"):
                if (kept := getattr(whole, name)) is not None:
                    kept[:, span] = getattr(found, name)
            if whole.finals is not None and found.finals is not None:
                whole.finals[:] = found.finals
            for name in ("total", "earlier", "valued", "earlier_valued", "updates"):
                if (counted := getattr(whole, name)) is not None:
                    counted += getattr(found, name)
            whole.add_health(found.health)
            is_silent = found.total is None or not found.total.any()
            whole.note_static(is_static=is_silent)

    def recording(self, *, seconds: float, startup_seconds: float) -> Recording:
        """Make the recording of what was written."""
        plan, layers = self._plan, self.layers
        record = plan.record
        return Recording(
            layers=tuple(one.layer.name for one in layers),
            shapes=tuple(one.layer.shape for one in layers),
            samples=self._samples,
            steps=plan.steps,
            spikes=made_when_read([one.kept_spikes() for one in layers]),
            states={o.layer.name: o.states() for o in layers if o.layer.name in plan.traced},
            final_states=tuple(o.final_states() for o in layers) if record.final_states else None,
            events=made_when_read([one.events() for one in layers]) if record.counts else None,
            updates=tuple(one.update_counts() for one in layers) if record.has_updates else None,
            health=tuple(
                Health(**dict(zip(_HEALTH, map(int, one.health), strict=True))) for one in layers
            ),
            seconds=seconds,
            startup_seconds=startup_seconds,
            timing=plan.timing,
            decision=self._decision,
        )
