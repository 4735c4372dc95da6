"""What a run writes into: the arrays of its recording, filled group by group."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np

from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.fixed_layers import (
    CubaNeuron,
    FixedLayer,
    ResonateFireNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graph import FixedPointGraph
from neurodeploy.simulation.base import (
    EventCounts,
    Health,
    IntArray,
    Recording,
    SpikeArray,
    States,
    UpdateCounts,
)
from neurodeploy.simulation.event_counts import count_spikes
from neurodeploy.simulation.reference import LayerRun, Plan


def state_names(layer: FixedLayer) -> tuple[str, ...]:
    """Give the names of the states of a layer's neurons, in the order of their arrays."""
    match layer.neuron:
        case CubaNeuron():
            return ("current", "voltage")
        case ResonateFireNeuron():
            return ("real", "imag")
        case SigmaNeuron():
            return ("sigma",)
        case _:
            return ("sigma", "activation", "residue")


class LayerOutputs:
    """Arrays of one layer for all samples; None where nothing is to be kept.

    Attributes:
        spikes: (samples, T, *layer) uint8 or int32.
        traces: (samples, T, states, *layer) int32.
        finals: (samples, states, *layer) int32.
        total: (samples, *layer) int32, events.
        earlier: The same without those of the last step, for recurrent layers.
        valued: As `EventCounts.valued`, for layers whose events carry values.
        earlier_valued: The same without the last step, for recurrent layers.
        is_static: Whether all samples so far sent the same at each step.
        updates: (samples, 2) int64, active and membrane updates.
        health: (4,) int64: peaks of current and voltage, wraps, clips.
    """

    def __init__(self, layer: FixedLayer, plan: Plan, samples: int) -> None:
        record, steps, states = plan.record, plan.steps, len(state_names(layer))
        graded, shape = layer.neuron.is_graded, layer.shape
        self.layer = layer
        self.steps = steps
        self.spikes: SpikeArray | None = None
        if layer.name in plan.kept:
            dtype = np.int32 if graded else np.uint8
            self.spikes = np.zeros((samples, steps, *shape), dtype)
        is_traced, has_counts = layer.name in plan.traced, record.counts

        def zeros(wanted: bool, *axes: int) -> IntArray | None:
            return np.zeros((*axes, *shape), np.int32) if wanted else None

        self.traces = zeros(is_traced, samples, steps, states)
        self.finals = zeros(record.final_states, samples, states)
        self.total = zeros(has_counts, samples)
        self.earlier = zeros(has_counts and layer.is_recurrent, samples)
        self.valued = zeros(has_counts and graded, samples)
        self.earlier_valued = zeros(has_counts and graded and layer.is_recurrent, samples)
        self.is_static = True
        self.updates: Int64Array = np.zeros((samples if has_counts else 0, 2), np.int64)
        self.health: Int64Array = np.zeros(4, np.int64)
        self._lock = Lock()

    def add_health(self, found: Int64Array) -> None:
        """Join (4,) int64 of a group of samples."""
        with self._lock:
            self.health[:2] = np.maximum(self.health[:2], found[:2])
            self.health[2:] += found[2:]

    def put(self, span: slice, run: LayerRun) -> None:
        """Write what the reference found for a group of samples."""
        layer = self.layer
        if self.spikes is not None:
            self.spikes[span] = run.spikes
        for number, name in enumerate(state_names(layer)):
            if self.traces is not None:
                self.traces[span, :, number] = run.traces[name]
            if self.finals is not None:
                self.finals[span, number] = run.final[name]
        if self.total is not None:
            counted = count_spikes(
                run.spikes, is_graded=layer.neuron.is_graded, is_recurrent=layer.is_recurrent
            )
            self.total[span] = counted.total
            if self.valued is not None:
                self.valued[span] = counted.valued
            if counted.earlier is not None and self.earlier is not None:
                self.earlier[span] = counted.earlier.total
                if self.earlier_valued is not None:
                    self.earlier_valued[span] = counted.earlier.valued
            with self._lock:
                self.is_static = self.is_static and counted.is_static
        if run.updates is not None:
            self.updates[span, 0] = run.updates.active
            if run.updates.membrane is not None:
                self.updates[span, 1] = run.updates.membrane
        health = run.health
        self.add_health(
            np.array(
                [
                    health.current_peak,
                    health.voltage_peak,
                    health.current_wraps,
                    health.voltage_clips,
                ],
                np.int64,
            )
        )

    def states(self) -> States:
        """Give the states after every step by name."""
        return {
            name: self.traces[:, :, number]
            for number, name in enumerate(state_names(self.layer))
            if self.traces is not None
        }

    def final_states(self) -> States:
        """Give the states after the last step by name."""
        return {
            name: self.finals[:, number]
            for number, name in enumerate(state_names(self.layer))
            if self.finals is not None
        }

    def events(self) -> EventCounts:
        """Give the events of every neuron."""
        assert self.total is not None
        is_binary = not self.layer.neuron.is_graded
        is_static = self.steps > 1 and self.is_static
        if is_binary:  # the same at every step: always or never
            is_static = self.steps > 1 and bool(
                ((self.total == 0) | (self.total == self.steps)).all()
            )
        earlier = None
        if self.earlier is not None:
            earlier = EventCounts(
                total=self.earlier,
                valued=_or_zeros(self.earlier_valued, self.earlier),
                is_static=self.steps > 1 and not self.earlier.any(),
            )
        return EventCounts(
            total=self.total,
            valued=_or_zeros(self.valued, self.total),
            is_static=is_static,
            earlier=earlier,
        )

    def update_counts(self) -> UpdateCounts:
        """Give active and membrane updates."""
        has_voltage = "voltage" in state_names(self.layer)
        return UpdateCounts(
            active=self.updates[:, 0].copy(),
            membrane=self.updates[:, 1].copy() if has_voltage else None,
        )


def _or_zeros(array: IntArray | None, like: IntArray) -> IntArray:
    return np.zeros_like(like) if array is None else array


class Outputs:
    """Arrays of all layers.

    Args:
        graph: The network.
        plan: What to run and to keep.
        samples: Number of samples.
    """

    def __init__(self, graph: FixedPointGraph, plan: Plan, *, samples: int) -> None:
        self._samples = samples
        self._plan = plan
        self.layers: Sequence[LayerOutputs] = [
            LayerOutputs(layer, plan, samples) for layer in graph
        ]

    def recording(self, *, seconds: float, startup_seconds: float) -> Recording:
        """Make the recording of what was written."""
        record = self._plan.record
        layers = [one.layer for one in self.layers]
        return Recording(
            layers=tuple(layer.name for layer in layers),
            shapes=tuple(layer.shape for layer in layers),
            samples=self._samples,
            steps=self._plan.steps,
            spikes=tuple(one.spikes for one in self.layers),
            states={
                one.layer.name: one.states()
                for one in self.layers
                if one.layer.name in self._plan.traced
            },
            final_states=tuple(one.final_states() for one in self.layers)
            if record.final_states
            else None,
            events=tuple(one.events() for one in self.layers) if record.counts else None,
            updates=tuple(one.update_counts() for one in self.layers) if record.counts else None,
            health=tuple(
                Health(
                    current_peak=int(one.health[0]),
                    voltage_peak=int(one.health[1]),
                    current_wraps=int(one.health[2]),
                    voltage_clips=int(one.health[3]),
                )
                for one in self.layers
            ),
            seconds=seconds,
            startup_seconds=startup_seconds,
        )
