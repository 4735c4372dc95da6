"""Counts of every frame of a sequence, for networks of sigma-delta neurons, which answer each.

A frame enters at every step, and layers pass it on one step later each in Lava's time. The
operations of a frame are those of the events that it causes: of the k-th layer, those that it sends
k steps after the frame. What a layer sends before its first frame is the fill of the pipeline.
That is exact for chains; where synapses delay, a frame is counted at the longest way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.counting.fan_out import FanOut, synapse_fan_out
from neurodeploy.counting.network_counts import check_inputs, values_entering
from neurodeploy.errors import DataError
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import DeltaNeuron, FixedDense, FixedInjection, SigmaDeltaNeuron
from neurodeploy.simulation.recording import Feed, Recording, Stream, Timing

Sent = npt.NDArray[np.generic]
_CHUNK = 1 << 21
"""Values looked at together, which bounds the memory of counting."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs:
    """One quantity of sequences: by frame, and outside of the frames that are answered.

    Attributes:
        frames: (sequences, frames) int64.
        fill: (sequences,) int64, before the first frame.
        rest: (sequences,) int64, of frames whose answer the recording does not hold.
    """

    frames: Int64Array
    fill: Int64Array
    rest: Int64Array

    @property
    def total(self) -> int:
        """All of it."""
        return int(self.frames.sum()) + int(self.fill.sum()) + int(self.rest.sum())

    def __add__(self, other: Costs) -> Costs:
        """Add those of another layer, sequence by sequence."""
        return Costs(
            frames=self.frames + other.frames,
            fill=self.fill + other.fill,
            rest=self.rest + other.rest,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameCounts:
    """Counts of sequences of frames.

    Attributes:
        latency: Steps between a frame and its answer.
        steps: Of a sequence; all but the last `latency`, and those before a refresh, bring a frame
            that is answered.
        places: (frames,) int64, the steps at which answered frames enter, counted from 0.
        sops: Synaptic operations by layer, through weights other than zero.
        messages: Events that reach some synapse.
        updates: Neurons, each of which is updated at every step, changed or not.
        inputs: Values of a frame.
        changed: (sequences, frames) int64, those of them that are others than in the frame before;
            of the first frame, those that are not zero.
        nonzero: (sequences, frames) int64, MACs of a pass through the deployed layers that are no
            products with zero: values count from the threshold on, below which nothing is sent, so
            that an ordinary network has at least these. None where a layer sends no changes.
    """

    latency: int
    steps: int
    places: Int64Array
    sops: dict[str, Costs]
    messages: Costs
    updates: int
    inputs: int
    changed: Int64Array
    nonzero: Int64Array | None
    possible: int

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return int(self.changed.shape[0])

    @property
    def frames(self) -> int:
        """Answered frames of a sequence."""
        return int(self.changed.shape[1])

    @property
    def all_sops(self) -> Costs:
        """Operations of all layers."""
        return sum(self.sops.values(), _nothing(*self.changed.shape))

    @property
    def is_new(self) -> npt.NDArray[np.bool_]:
        """(sequences, frames), whether a frame is another than the one before; the first is."""
        found = self.changed > 0
        found[:, :1] = True
        return np.asarray(found)

    def joined(self, more: FrameCounts) -> FrameCounts:
        """Take in further sequences of the same network."""
        nonzero = None
        if self.nonzero is not None and more.nonzero is not None:
            nonzero = np.concatenate([self.nonzero, more.nonzero])
        return replace(
            self,
            sops={name: _joined(costs, more.sops[name]) for name, costs in self.sops.items()},
            messages=_joined(self.messages, more.messages),
            changed=np.concatenate([self.changed, more.changed]),
            nonzero=nonzero,
        )


def _joined(one: Costs, more: Costs) -> Costs:
    return Costs(
        frames=np.concatenate([one.frames, more.frames]),
        fill=np.concatenate([one.fill, more.fill]),
        rest=np.concatenate([one.rest, more.rest]),
    )


def _lags(graph: FixedPointGraph, timing: Timing | None) -> dict[str, int]:
    """Return how many steps after a frame each layer has seen it."""
    each = 1 if isinstance(timing, Stream) else 0
    lags = {INPUT: 0}
    for layer in graph:
        ways = []
        for connection in layer.connections:
            synapse = connection.synapse
            if connection.source == layer.name:
                continue
            lag = lags[connection.source]
            if not isinstance(synapse, FixedInjection):
                lag += each
            if isinstance(synapse, FixedDense) and synapse.delay is not None:
                lag += int(synapse.delay.max())
            ways.append(lag)
        lags[layer.name] = max(ways)
    return lags


def find_answered(graph: FixedPointGraph, timing: Timing | None, steps: int) -> Int64Array:
    """Return the steps, counted from 0, at which frames enter that are answered within a run."""
    latency = _lags(graph, timing)[graph.names[-1]]
    parts = _parts(timing, steps)
    return np.concatenate([np.arange(p.start, max(p.start, p.stop - latency)) for p in parts])


def find_answers(graph: FixedPointGraph, timing: Timing | None, steps: int) -> Int64Array:
    """Return the steps, counted from 0, at which frames are answered within a run."""
    return find_answered(graph, timing, steps) + _lags(graph, timing)[graph.names[-1]]


def count_frames(
    graph: FixedPointGraph,
    inputs: npt.NDArray[np.integer],
    recording: Recording,
    *,
    feed: Feed = Feed.PORT,
) -> FrameCounts | None:
    """Count every frame of sequences; None where none is answered within the recording.

    Args:
        graph: A network with sigma-delta neurons.
        inputs: (sequences, T, ...) integers as simulated.
        recording: The simulator's result for them, with spikes of all layers that others read.
        feed: Entry of the input.

    Raises:
        DataError: If spikes are missing, or input and recording do not belong together.
    """
    lags = _lags(graph, recording.timing)
    steps = recording.steps
    parts = _parts(recording.timing, steps)
    frames = find_answered(graph, recording.timing, steps)
    if not frames.size:
        return None
    values: npt.NDArray[np.generic]
    if feed is Feed.PORT:
        values = values_entering(graph, inputs, recording, feed)
    else:  # neurons take values as they are, whatever a port would see of them
        values = check_inputs(graph, inputs, recording, feed)
    flat = values.reshape(*values.shape[:2], -1)
    shape = (len(flat), frames.size)
    sops: dict[str, Costs] = {}
    messages = _nothing(*shape)
    nonzero: Int64Array | None = np.zeros(shape, np.int64)
    possible = 0
    for layer in graph:
        for connection in layer.connections:
            if isinstance(connection.synapse, FixedInjection):
                continue
            source = connection.source
            sent = flat if source == INPUT else _sent(recording, source)
            fan_out = synapse_fan_out(connection.synapse, graph.shape_of(source))
            maps = (fan_out.nonzero.reshape(-1), (fan_out.stored > 0).reshape(-1))
            by_step = _weigh(sent, maps)
            if source == layer.name:  # a recurrent synapse reads the step before
                by_step = [np.pad(one[:, :-1], ((0, 0), (1, 0))) for one in by_step]
            operations, events = (_divide(one, lags[source], frames, parts) for one in by_step)
            known = sops.get(layer.name)
            sops[layer.name] = operations if known is None else known + operations
            messages = messages + events
            if source == layer.name:
                continue
            possible += int(fan_out.nonzero.sum())
            if nonzero is not None:
                found = _nonzero_macs(graph, source, sent, fan_out, parts)
                nonzero = None if found is None else nonzero + found[:, frames + lags[source]]
    before = np.concatenate([np.zeros_like(flat[:, :1]), flat[:, :-1]], axis=1)
    differs = flat[:, frames] != before[:, frames]
    return FrameCounts(
        latency=lags[graph.names[-1]],
        steps=steps,
        places=frames,
        sops=sops,
        messages=messages,
        updates=sum(layer.neurons for layer in graph),
        inputs=int(flat.shape[2]),
        changed=np.count_nonzero(differs, axis=2).astype(np.int64),
        nonzero=nonzero,
        possible=possible,
    )


def _nothing(sequences: int, frames: int) -> Costs:
    none = np.zeros(sequences, np.int64)
    return Costs(frames=np.zeros((sequences, frames), np.int64), fill=none, rest=none)


def _sent(recording: Recording, name: str) -> Sent:
    spikes = recording.spikes_of(name)
    if spikes.shape[:2] != (recording.samples, recording.steps):
        raise DataError(
            f"{name}: recorded spikes of shape {spikes.shape}; {recording.samples} samples of "
            f"{recording.steps} steps are required."
        )
    return spikes.reshape(*spikes.shape[:2], -1)


def _weigh(sent: Sent, maps: tuple[npt.NDArray[np.generic], ...]) -> list[Int64Array]:
    """Add up each map over the senders of every step: (sequences, T) int64 for each."""
    weights = np.stack([one.astype(np.float64) for one in maps], axis=1)  # exact below 2**53
    found = np.zeros((*sent.shape[:2], len(maps)), np.int64)
    for sequence, steps in _pieces(sent):
        events = (sent[sequence, steps] != 0).astype(np.float64)
        found[sequence, steps] = events @ weights
    return [found[..., index] for index in range(len(maps))]


def _pieces(sent: Sent) -> Iterator[tuple[int, slice]]:
    """Yield parts of a recording, in order, so large that memory stays bounded."""
    size = max(1, _CHUNK // prod(sent.shape[2:]))
    for sequence in range(sent.shape[0]):
        for first in range(0, sent.shape[1], size):
            yield sequence, slice(first, first + size)


def _parts(timing: Timing | None, steps: int) -> list[range]:
    """Return the steps between refreshes, after each of which the network begins anew."""
    interval = timing.refresh_interval if isinstance(timing, Stream) else None
    every = interval or steps
    return [range(first, min(first + every, steps)) for first in range(0, steps, every)]


def _divide(by_step: Int64Array, lag: int, frames: Int64Array, parts: Sequence[range]) -> Costs:
    """Assign what a layer caused at every step to frames, of which it is `lag` steps behind."""
    found = by_step[:, frames + lag]
    fill = np.zeros(len(by_step), np.int64)
    for part in parts:
        fill += by_step[:, part.start : min(part.start + lag, part.stop)].sum(axis=1)
    return Costs(frames=found, fill=fill, rest=by_step.sum(axis=1) - found.sum(axis=1) - fill)


def _nonzero_macs(
    graph: FixedPointGraph,
    source: str,
    sent: Sent,
    fan_out: FanOut,
    parts: Sequence[range],
) -> Int64Array | None:
    """Return the MACs at each step with values other than zero; None where they are not known.

    The value of a neuron is what it has sent in all.
    """
    maps = (fan_out.nonzero.reshape(-1),)
    if source == INPUT:
        return _weigh(sent, maps)[0]
    neuron = graph.layers[graph.names.index(source)].neuron
    if not isinstance(neuron, DeltaNeuron | SigmaDeltaNeuron):
        return None
    least = max(1, neuron.threshold << neuron.spike_exponent)
    weights = maps[0].astype(np.float64)
    found = np.zeros(sent.shape[:2], np.int64)
    for part in parts:
        value = np.zeros((len(sent), sent.shape[2]), np.int64)
        for sequence, steps in _pieces(sent[:, part.start : part.stop]):
            span = slice(part.start + steps.start, min(part.start + steps.stop, part.stop))
            values = value[sequence] + np.cumsum(sent[sequence, span], axis=0, dtype=np.int64)
            value[sequence] = values[-1]
            # an input block may send negative values; rectified ones are not, but for dropped bits
            sizes = np.abs(values) if isinstance(neuron, DeltaNeuron) else values
            found[sequence, span] = (sizes >= least).astype(np.float64) @ weights
    return found
