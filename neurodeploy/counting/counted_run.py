"""Count samples of any number, a few in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neurodeploy.counting.count_tables import Counts
from neurodeploy.counting.frame_counts import FrameCounts, count_frames
from neurodeploy.counting.network_counts import count
from neurodeploy.errors import DataError
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation.long_runs.long_run import AnySamples, record_in_pieces
from neurodeploy.simulation.long_runs.parts import Facts, join_facts
from neurodeploy.simulation.recording import (
    Decision,
    Feed,
    Progress,
    Record,
    Recording,
    Timing,
    Window,
    member_of,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountedRun:
    """All that a report needs of a run.

    Attributes:
        counts: Of every layer, over all samples.
        changes_over_time: Whether the input of some sample changes from step to step.
        facts: Spikes and health of every layer.
        prediction: The class of each sample, (samples,) int64, or after each step, (samples, T),
            where sigma-delta neurons sum; None where the network chooses none.
        frames: Counts of every frame, of networks that send changes; None of others, or where no
            frame is answered.
    """

    counts: Counts
    changes_over_time: bool
    facts: Facts
    prediction: npt.NDArray[np.int64] | None
    frames: FrameCounts | None = None

    @classmethod
    def of(
        cls,
        graph: FixedPointGraph,
        counts: Counts,
        inputs: npt.NDArray[np.integer],
        recording: Recording,
        *,
        feed: Feed = Feed.PORT,
    ) -> CountedRun:
        """Take them from one recording that was counted; `inputs` are its samples."""
        frames = None
        if graph.sends_changes:
            frames = count_frames(graph, inputs, recording, feed=feed)
        changes = feed is Feed.PORT and bool((inputs[:, 1:] != inputs[:, :1]).any())
        return cls(
            counts=counts,
            changes_over_time=changes,
            facts=Facts.of(recording),
            prediction=recording.prediction,
            frames=frames,
        )


def count_samples(
    graph: FixedPointGraph,
    samples: AnySamples,
    *,
    timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
    feed: Feed = Feed.PORT,
    memory: int | None = None,
    progress: Progress | None = None,
) -> CountedRun:
    """Simulate samples of any number and count them; the numbers are those of one run over all.

    Beside what `memory` bounds, the class of each sample is kept: 8 bytes. Of networks that send
    changes, the counts of every frame are: 8 bytes for each layer, and 24 more.

    Args:
        graph: The network.
        samples: A file (`open_samples`), an array, a torch or tonic data set, a list, a generator.
        timing: Windows or Lava's time.
        feed: How the input enters.
        memory: Bytes that this process may take; None for half of the memory available, at most
            4 GiB.
        progress: Called with (samples done, samples in all).

    Raises:
        DataError: If samples are malformed or end early.
        SimulationError: If the run cannot be carried out as asked.

    Example:
        >>> example = nd.load_example()
        >>> run = nd.count_samples(example.graph, example.samples)
        >>> run.counts.totals.sops, run.prediction[:4]
        (227041, array([7, 6, 3, 7]))
    """
    feed = member_of(Feed, feed, name="feed")
    decision = Decision.of(graph)
    read = {graph.names[-1]} if decision is Decision.SUMS else set()
    if graph.sends_changes:  # frames are counted by what others read
        read |= {connection.source for layer in graph for connection in layer.connections}
    spikes = tuple(name for name in graph.names if name in read)
    states = None if decision is Decision.VOLTAGE else ()
    record = Record(spikes=spikes, states=states, counts=True)
    pieces = record_in_pieces(
        graph, samples, timing=timing, feed=feed, record=record, memory=memory, progress=progress
    )
    joined: CountedRun | None = None
    predictions: list[npt.NDArray[np.int64]] = []
    for values, recording in pieces:
        counted = count(graph, values, recording, feed=feed)
        run = CountedRun.of(graph, counted, values, recording, feed=feed)
        if run.prediction is not None:
            predictions.append(run.prediction)
        joined = run if joined is None else _join(joined, run)
    if joined is None:
        raise DataError("counts: no samples; at least one sample is needed.")
    prediction = np.concatenate(predictions) if predictions else None
    return replace(joined, prediction=prediction)


def _join(run: CountedRun, more: CountedRun) -> CountedRun:
    """Add the counts of further samples; predictions are left out."""
    frames = None
    if run.frames is not None and more.frames is not None:
        frames = run.frames.joined(more.frames)
    return CountedRun(
        counts=run.counts + more.counts,
        changes_over_time=run.changes_over_time or more.changes_over_time,
        facts=join_facts([run.facts, more.facts]),
        prediction=None,
        frames=frames,
    )
