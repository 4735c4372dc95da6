"""Our simulator: Lava's integers, exactly, for whole batches at once.

The network is run layer by layer instead of step by step: a layer's input over all steps is
known once the layer before it has run, so each synapse is one exact matrix product over
(samples · steps), and only the neurons walk through time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, NeurodeployWarning, SimulationError
from neurodeploy.fixedpoint import BIAS_BITS, Int64Array
from neurodeploy.ir.fixed_layers import (
    CubaNeuron,
    FixedComplexDense,
    FixedDense,
    FixedInjection,
    FixedLayer,
    Synapse,
)
from neurodeploy.ir.graph import INPUT, FixedPointGraph
from neurodeploy.simulation.base import (
    Feed,
    Health,
    IntArray,
    Progress,
    Record,
    Recording,
    SpikeArray,
    Stream,
    Timing,
    UpdateCounts,
    Window,
    plan_steps,
)
from neurodeploy.simulation.dynamics import start_dynamics
from neurodeploy.simulation.event_counts import count_spikes
from neurodeploy.simulation.joining import join_recordings
from neurodeploy.simulation.kernels import apply_synapse
from neurodeploy.simulation.updates import UpdateCounter, arrivals

BATCH_BYTES = 256 * 2**20
"""Working memory that one batch of samples may take."""


@dataclass(slots=True)
class _LayerRun:
    """What one layer did over one batch: spikes (S, T, ...) and its states."""

    spikes: SpikeArray
    final: dict[str, IntArray]
    traces: dict[str, IntArray]
    health: Health
    updates: UpdateCounts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What to run, the same for all batches."""

    steps: int
    timing: Timing
    feed: Feed
    record: Record
    traced: frozenset[str]


class EventSimulator:
    """Runs a `FixedPointGraph` in the integers of Lava's fixed-point CPU models.

    Equal to Lava on every spike, current and voltage; the test suite compares them.
    """

    def __init__(self, graph: FixedPointGraph, *, batch_bytes: int = BATCH_BYTES) -> None:
        """Prepare to run `graph`.

        Args:
            graph: The network; skip connections and recurrence are allowed.
            batch_bytes: Bound on the working memory of one batch; results do not depend on it.
        """
        self.graph = graph
        self._batch_bytes = batch_bytes

    def run(
        self,
        inputs: npt.NDArray[np.integer],
        *,
        timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
        feed: Feed = Feed.PORT,
        record: Record = Record(),  # noqa: B008 - likewise
        progress: Progress | None = None,
    ) -> Recording:
        """Run all samples; see `neurodeploy.simulation.base.Simulator`.

        Args:
            inputs: As there, and so on below.
            timing: Windows or Lava's time.
            feed: How the input enters.
            record: What to keep.
            progress: Called after each batch.

        Returns:
            What happened, health included.

        Raises:
            DataError: If the input has the wrong shape, kind or range.
            SimulationError: If timing, feed or record do not fit the network.
        """
        start = time.perf_counter()
        graph = self.graph
        values = conform_input(inputs, graph, feed=feed)
        steps = plan_steps(timing, None if feed is Feed.BIAS else int(values.shape[1]))
        if feed is not Feed.BIAS and steps != values.shape[1]:
            values = values[:, np.arange(steps) % values.shape[1]]
        _warn_of_missing_resets(graph, timing)
        kept, traced = record.resolve(graph.names)
        samples = len(values)
        batch = self._batch_size(steps)
        parts: list[Recording] = []
        plan = _Plan(steps=steps, timing=timing, feed=feed, record=record, traced=traced)
        startup = time.perf_counter() - start
        for first in range(0, samples, batch):
            begin = time.perf_counter()
            runs = self._run_batch(values[first : first + batch], plan)
            parts.append(self._recording(runs, plan, kept))
            seconds = time.perf_counter() - begin
            parts[-1] = replace(parts[-1], seconds=seconds, startup_seconds=startup)
            startup = 0.0
            if progress is not None:
                progress(min(first + batch, samples), samples)
        return join_recordings(parts)

    def _recording(self, runs: list[_LayerRun], plan: _Plan, kept: frozenset[str]) -> Recording:
        names, counts = self.graph.names, plan.record.counts
        updates = tuple(run.updates for run in runs if run.updates is not None)
        return Recording(
            layers=names,
            shapes=tuple(layer.shape for layer in self.graph),
            samples=len(runs[0].spikes),
            steps=plan.steps,
            spikes=tuple(
                run.spikes if name in kept else None for name, run in zip(names, runs, strict=True)
            ),
            states={
                name: run.traces
                for name, run in zip(names, runs, strict=True)
                if name in plan.traced
            },
            final_states=tuple(run.final for run in runs) if plan.record.final_states else None,
            events=tuple(
                count_spikes(
                    run.spikes,
                    is_graded=layer.neuron.is_graded,
                    is_recurrent=layer.is_recurrent,
                )
                for layer, run in zip(self.graph, runs, strict=True)
            )
            if counts
            else None,
            updates=updates if counts else None,
            health=tuple(run.health for run in runs),
        )

    def _batch_size(self, steps: int) -> int:
        """Samples whose largest layer fits `batch_bytes`: 8 bytes a value, a few arrays of it."""
        largest = max(prod(self.graph.input.shape), *(layer.neurons for layer in self.graph))
        return max(1, self._batch_bytes // (8 * 6 * steps * largest))

    def _run_batch(self, values: IntArray, plan: _Plan) -> list[_LayerRun]:
        known: dict[str, SpikeArray] = {}
        if plan.feed is not Feed.BIAS:
            is_graded = self.graph.input.is_graded
            known[INPUT] = values if is_graded else (values != 0).astype(np.int32)
        runs: list[_LayerRun] = []
        for index, layer in enumerate(self.graph):
            run = self._run_layer(layer, index, known, values, plan)
            known[layer.name] = run.spikes
            runs.append(run)
        return runs

    def _run_layer(
        self,
        layer: FixedLayer,
        index: int,
        known: Mapping[str, SpikeArray],
        values: IntArray,
        plan: _Plan,
    ) -> _LayerRun:
        """Run one layer over all steps.

        Args:
            layer: The layer.
            index: Its place in the network.
            known: Events of the input and of all layers before, (samples, T, ...) int32.
            values: The input as it was given, for an input block.
            plan: What to run.
        """
        samples, steps = len(values), plan.steps
        drive, recurrent = self._drive(layer, known, values, plan)
        bias_image = values if plan.feed is Feed.BIAS and index == 0 else None
        neurons = start_dynamics(layer, samples, bias_image=bias_image)
        counter = UpdateCounter(layer, samples, bias_image) if plan.record.counts else None
        arrives = self._arrivals(layer, known, values, plan) if plan.record.counts else None
        reads_values = self.graph.reads_values(layer)
        resets = _reset_steps(plan.timing, steps, index)
        dtype = np.int32 if layer.neuron.is_graded else np.uint8
        spikes: SpikeArray = np.zeros((samples, steps, *layer.shape), dtype)
        traces: dict[str, IntArray] = {}
        if layer.name in plan.traced:
            shape = spikes.shape
            traces = {name: np.empty(shape, np.int32) for name in neurons.states()}
        for step in range(steps):
            if resets[step]:
                neurons.reset()
            arriving = drive[:, step]
            reaches = None if arrives is None else arrives[:, step]
            if recurrent is not None and step > 0:
                events = spikes[:, step - 1 : step]
                if not reads_values:
                    events = (events != 0).astype(np.int32)
                arriving = arriving + apply_synapse(recurrent, events).reshape(arriving.shape)
                if reaches is not None:
                    reaches = reaches | arrivals(recurrent, events).reshape(reaches.shape)
            if counter is not None and reaches is not None:
                counter.before_step(neurons, reaches)
            spikes[:, step] = neurons.step(arriving)
            if counter is not None:
                counter.after_step(neurons)
            for name, trace in traces.items():
                trace[:, step] = neurons.states()[name]
        final: dict[str, IntArray] = {}
        if plan.record.final_states:
            final = {name: state.astype(np.int32) for name, state in neurons.states().items()}
        return _LayerRun(
            spikes=spikes,
            final=final,
            traces=traces,
            health=neurons.health(),
            updates=None if counter is None else counter.counts(),
        )

    def _arrivals(
        self, layer: FixedLayer, known: Mapping[str, SpikeArray], values: IntArray, plan: _Plan
    ) -> npt.NDArray[np.bool_]:
        """Say where events of other layers arrive: (samples, T, *layer)."""
        reached = np.zeros((len(values), plan.steps, *layer.shape), bool)
        for connection in layer.connections:
            if isinstance(connection.synapse, FixedInjection):
                if plan.feed is not Feed.BIAS:
                    reached |= values != 0
            elif connection.source != layer.name:
                found = arrivals(connection.synapse, known[connection.source])
                found = found.reshape(reached.shape)
                if isinstance(plan.timing, Stream):
                    reached[:, 1:] |= found[:, :-1]
                else:
                    reached |= found
        return reached

    def _drive(
        self, layer: FixedLayer, known: Mapping[str, SpikeArray], values: IntArray, plan: _Plan
    ) -> tuple[Int64Array, FixedDense | None]:
        """Add up what reaches the neurons from other layers at every step.

        Returns:
            (samples, T, *layer, *ports) int64, and the recurrent synapse, whose share is known
            only step by step, or None.
        """
        ports = (2,) if any(_is_complex(c.synapse) for c in layer.connections) else ()
        drive = np.zeros((len(values), plan.steps, *layer.shape, *ports), np.int64)
        recurrent: FixedDense | None = None
        for connection in layer.connections:
            synapse = connection.synapse
            if isinstance(synapse, FixedInjection):
                if plan.feed is not Feed.BIAS:
                    drive += values
            elif connection.source == layer.name:
                assert isinstance(synapse, FixedDense)
                recurrent = synapse
            else:
                sent = apply_synapse(synapse, known[connection.source]).reshape(drive.shape)
                if isinstance(plan.timing, Stream):
                    drive[:, 1:] += sent[:, :-1]
                else:
                    drive += sent
        return drive, recurrent


def _sources(layer: FixedLayer) -> set[str]:
    return {connection.source for connection in layer.connections}


def _is_complex(synapse: Synapse) -> bool:
    return isinstance(synapse, FixedComplexDense)


def conform_input(
    inputs: npt.NDArray[np.integer], graph: FixedPointGraph, *, feed: Feed
) -> IntArray:
    """Bring input to int32 of shape (samples, T, ...), or say what is wrong with it.

    A flat port also takes (samples, T, C, H, W), read in C order.

    Args:
        inputs: Integers; (samples, T, ...) or for `Feed.BIAS` (samples, ...).
        graph: The network to be fed.
        feed: Where the input enters.

    Returns:
        (samples, T, *port) int32, or (samples, *port) for `Feed.BIAS`.

    Raises:
        DataError: If the dtype is not integer, the shape does not fit, or a value exceeds what
            the port can carry.
        SimulationError: If the feed does not exist in this network.
    """
    if feed is Feed.BIAS and not isinstance(graph.layers[0].neuron, CubaNeuron):
        raise SimulationError(
            "simulation: feed 'bias' needs LIF neurons in the input block. Use --feed neuron."
        )
    if feed is Feed.BIAS and any(INPUT in _sources(layer) for layer in graph.layers[1:]):
        raise SimulationError(
            "simulation: feed 'bias' is for networks in which only the input block reads the input."
        )
    if (feed is Feed.PORT) == graph.has_input_neuron:
        raise SimulationError(
            "simulation: the file has an input neuron block; feed its neuron or its bias "
            "(--feed neuron or --feed bias). Lava does not connect its port."
            if graph.has_input_neuron
            else f"simulation: feed '{feed}' needs an input block with neurons, which this network "
            "does not have. Use --feed port."
        )
    array = np.asarray(inputs)
    if array.dtype.kind not in "iub":
        raise DataError(
            f"input: dtype {array.dtype}, integers are required. Quantize the samples first."
        )
    port = graph.input.shape
    leading = 1 if feed is Feed.BIAS else 2
    axes = ("samples", "T")[:leading]
    found = array.shape[leading:]
    if array.ndim <= leading or (
        found != port and not (len(port) == 1 and prod(found) == prod(port))
    ):
        expected = ", ".join((*axes, *map(str, port)))
        raise DataError(f"input: shape {array.shape}, ({expected}) is required.")
    if 0 in array.shape:
        raise DataError(f"input: shape {array.shape}; at least one sample and one step needed.")
    array = array.reshape(*array.shape[:leading], *port)
    limits = np.iinfo(np.int32)
    low, high = int(array.min()), int(array.max())
    if feed is Feed.BIAS:
        _require_range(low, high, 1 << (BIAS_BITS - 1), "the bias of an input block")
    elif feed is Feed.PORT and graph.input.is_graded:
        bits = graph.input.message_bits
        _require_range(low, high, 1 << bits, f"{bits} message bits (--input-bits)")
    elif feed is Feed.PORT and not (low >= 0 and high <= 1):
        warnings.warn(
            f"input: values from {low} to {high} on a binary port; every value other than 0 counts "
            "as one spike. Give the number of bits (--input-bits) if the values matter.",
            NeurodeployWarning,
            stacklevel=3,
        )
    if low < limits.min or high > limits.max:
        raise DataError(f"input: values from {low} to {high} exceed 32 bits.")
    return array.astype(np.int32, copy=False)


def _require_range(low: int, high: int, bound: int, carrier: str) -> None:
    """Refuse values of `bound` or more in size.

    Raises:
        DataError: If there are any.
    """
    if max(high, -low) >= bound:
        raise DataError(
            f"input: values from {low} to {high} do not fit {carrier}: less than {bound} in size "
            "is allowed. Scale the input."
        )


def _warn_of_missing_resets(graph: FixedPointGraph, timing: Timing) -> None:
    if isinstance(timing, Window) or timing.reset_interval is None:
        return
    kept = [layer.name for layer in graph if not isinstance(layer.neuron, CubaNeuron)]
    if kept:
        warnings.warn(
            f"simulation: {', '.join(kept)} cannot be reset; Lava resets LIF neurons only. "
            "Run each sample by itself (--window) for a clean start.",
            NeurodeployWarning,
            stacklevel=3,
        )


def _reset_steps(timing: Timing, steps: int, index: int) -> list[bool]:
    """Say at which steps (0-based) a layer's states are set to zero.

    Lava: at step t = 1, 2, ... where t mod P == (offset + 1 + index) mod P. In windows every
    sample is a batch entry of its own that starts from zero.
    """
    if isinstance(timing, Window) or timing.reset_interval is None:
        return [False] * steps
    period = timing.reset_interval
    return [t % period == (timing.reset_offset + 1 + index) % period for t in range(1, steps + 1)]
