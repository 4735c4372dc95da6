"""Frames that were given for advice: their changes, and a network converted with them and run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurodeploy.conversion.assembly import with_latency
from neurodeploy.conversion.converting import convert_graph
from neurodeploy.counting.frame_counts import FrameCounts, count_frames
from neurodeploy.energy.predicted_costs import Interval, NetworkLoad, load_of_graph
from neurodeploy.errors import NeurodeployWarning
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import DeltaNeuron, SigmaDeltaNeuron
from neurodeploy.pipeline.frame_macs import count_frame_macs
from neurodeploy.reports.advice import FrameCost, FrameFacts
from neurodeploy.simulation import EventSimulator, Feed, Record, Stream

THRESHOLDS = (1, 4)
"""Thresholds that a network is run with: the smallest, and one that costs a little more error."""
SOME_FRAMES = 64
"""Most frames of a sequence that are run, and of the ordinary network."""
MUCH = 4
"""Units of a frame that a change by noise rarely reaches."""
_VALUES = 1 << 25


def frame_facts(integers: FloatArray) -> FrameFacts:
    """Return the facts about sequences (n, T, ...) in integers of the input."""
    changes = np.abs(np.diff(integers, axis=1))
    has_order = integers.shape[1] > 1
    axes = tuple(range(2, changes.ndim))
    return FrameFacts(
        sequences=integers.shape[0],
        frames=integers.shape[1],
        changed=float(np.mean(changes > 0)) if has_order else None,
        changed_much=float(np.mean(changes >= MUCH)) if has_order else None,
        repeated=float(np.mean((changes == 0).all(axis=axes))) if has_order else None,
        nonzero=float(np.mean(integers != 0)),
        levels=min(4, len(np.unique(integers[:, :SOME_FRAMES]))),
    )


def effective_macs(graph: Graph, frames: FloatArray) -> float:
    """Return the mean MACs of a pass without products with a weight or an activation of zero."""
    some = frames[:: max(1, -(-len(frames) // SOME_FRAMES))]
    return float(count_frame_macs(graph, some).mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledRun:
    """A network that was converted with frames and run on them.

    Attributes:
        graph: With the smallest thresholds.
        load: Its sizes.
        shares: For each of `THRESHOLDS`, by kind of frame, the share of each layer's synapses that
            frames of this kind use; kinds that did not come are missing.
        errors: Rms error of each, in deviations of the network's own results.
    """

    graph: FixedPointGraph
    load: NetworkLoad
    shares: tuple[dict[str, list[float]], ...]
    errors: tuple[float, ...]

    def costs(self) -> dict[str, FrameCost]:
        """Return the measured cost of every kind of frame that came."""
        costs = {}
        for kind in self.shares[0]:
            most, least = (self.load.energy(shares[kind]) for shares in self.shares)
            sops = [self.load.operations(shares[kind]).sops_mac for shares in self.shares]
            costs[kind] = FrameCost(
                kind=kind,
                sops=Interval(min(sops), max(sops)),
                arithmetic=_between(least.arithmetic, most.arithmetic),
                memory=_between(least.memory.low, most.memory.high),
                packed=_between(least.packed, most.packed),
                share=_between(*(value / self.load.most_sops for value in sops)),
                is_measured=True,
            )
        return costs


def _between(one: float, other: float) -> Interval:
    return Interval(min(one, other), max(one, other))


def run_frames(graph: Graph, frames: FloatArray) -> SampledRun:
    """Convert a network with sequences of frames, and run it on some of them.

    Raises:
        ConversionError: If the frames do not suit it, or a limit cannot be held.
    """
    with warnings.catch_warnings():  # few frames: the advice says so itself
        warnings.simplefilter("ignore", NeurodeployWarning)
        conversion = convert_graph(graph, frames, thresholds="none")
    made = conversion.graph
    load = load_of_graph(made)
    steps = min(SOME_FRAMES, frames.shape[1])
    most = _VALUES // (load.neurons * (steps + conversion.latency + 1))
    part = frames[: max(1, most), :steps]
    expected = conversion.chain.run(part.reshape(-1, *part.shape[2:])).reshape(*part.shape[:2], -1)
    # a copy of the last frame shows the cost of a still one
    integers = np.concatenate([conversion.encode(part), conversion.encode(part[:, -1:])], axis=1)
    shares, errors = [], []
    for threshold in THRESHOLDS:
        tried = _with_threshold(made, threshold, int(np.abs(integers).max()))
        by_kind, sums = _run(tried, integers, load)
        answers = conversion.decode(sums[:, :steps])
        rms = float(np.sqrt(np.mean((answers - expected) ** 2)))
        errors.append(rms / (float(expected.std()) or 1.0))
        shares.append(by_kind)
    return SampledRun(graph=made, load=load, shares=tuple(shares), errors=tuple(errors))


def _with_threshold(graph: FixedPointGraph, threshold: int, largest: int) -> FixedPointGraph:
    """Return the network with a threshold in units of 1/256 of each layer's range.

    The last hidden layer keeps its own: what it sends of the constant neuron is the bias. The range
    of the input ends at its largest integer.
    """
    layers = []
    for layer in graph.layers:
        neuron = layer.neuron
        if isinstance(neuron, DeltaNeuron):
            least = threshold * largest // 256 if threshold > 1 else 0
            layer = replace(layer, neuron=replace(neuron, threshold=least))
        elif isinstance(neuron, SigmaDeltaNeuron) and layer is not graph.layers[-2]:
            layer = replace(layer, neuron=replace(neuron, threshold=threshold))
        layers.append(layer)
    return replace(graph, layers=tuple(layers))


def _run(
    graph: FixedPointGraph, integers: npt.NDArray[np.int32], load: NetworkLoad
) -> tuple[dict[str, list[float]], npt.NDArray[np.int64]]:
    """Return the shares of synapses used, by kind of frame and layer, and the read-out's sums."""
    values = with_latency(graph, integers)
    recording = EventSimulator(graph).run(
        values, timing=Stream(), feed=Feed.NEURON, record=Record(states=())
    )
    counts = count_frames(graph, values, recording, feed=Feed.NEURON)
    assert counts is not None, "frames are held until they are answered"
    kinds = dict(_kinds_of(counts))
    shares: dict[str, list[float]] = {kind: [0.0] for kind in kinds}
    for layer, sizes in zip(graph.layers[1:], load.layers[1:], strict=True):
        used = counts.sops[layer.name].frames
        for kind, is_kind in kinds.items():
            shares[kind].append(float(used[is_kind].mean()) / max(1.0, sizes.sops))
    sums = recording.spikes_of(graph.names[-1])[:, len(graph.layers) - 1 :]
    return shares, sums.reshape(*sums.shape[:2], -1).astype(np.int64)


def _kinds_of(counts: FrameCounts) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yield, by kind, which of (sequences, frames) are of it."""
    is_first = np.zeros(counts.changed.shape, np.bool_)
    is_first[:, 0] = True
    for kind, found in (
        ("still", ~counts.is_new),
        ("moving", counts.is_new & ~is_first),
        ("new", is_first),
    ):
        if found.any():
            yield kind, found
