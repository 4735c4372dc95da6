"""Compare a sigma-delta network with the network that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurodeploy.conversion.assembly import run_answers, with_latency
from neurodeploy.conversion.thresholds import Trial
from neurodeploy.counting.network_counts import count
from neurodeploy.fixedpoint import FloatArray, Int64Array
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation import Feed

COUNTS = (1, 32, 128)
"""Numbers of frames after which errors are told, beside that of a whole sequence."""
WINDOW = 8
"""Frames up to such a number whose error is told, as that of a single one depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The growth of the error with the frames since the start, without refreshes.

    Neurons drop bits with each message, so errors grow with what changes, not with time.

    Attributes:
        frames: Numbers of frames: 1, 32, 128, as far as sequences are that long, and all.
        errors: Rms error of the last eight frames up to each, in deviations of the results.
        budget: Rms error that is allowed.
        frames_within: Most frames after which a refresh keeps the rms error within the budget,
            found by running it; all of a sequence where no refresh is needed; 0 if none helps.
        interval: The refresh interval in steps for them, those in which the last frame is answered
            included; None if none helps.
    """

    frames: tuple[int, ...]
    errors: tuple[float, ...]
    budget: float
    frames_within: int
    interval: int | None

    @property
    def needs_refresh(self) -> bool:
        """True if the error of whole sequences exceeds the budget, and refreshes help."""
        return 0 < self.frames_within < self.frames[-1]


class Judgement(NamedTuple):
    """A trial, and the mean square of the error by the number of the frame, (T,)."""

    trial: Trial
    squares: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Compares results with those of the network, (sequences, T, classes).

    Attributes:
        results: Those of the network.
        labels: (sequences, T), or None.
        scale: Units of the read-out's sum per float unit.
    """

    results: FloatArray
    labels: Int64Array | None
    scale: float

    def measure(self, graph: FixedPointGraph, integers: npt.NDArray[np.int32]) -> Judgement:
        """Run a network on sequences, and count what it does."""
        values = with_latency(graph, integers)
        answers, recording = run_answers(graph, values, counts=True)
        operations = count(graph, values, recording, feed=Feed.NEURON)
        found = answers / self.scale
        squares = self._squares(found)
        frames = integers.shape[0] * integers.shape[1]
        total = sum(layer.sops for layer in operations.layers)
        error = float(np.sqrt(squares.mean()))
        return Judgement(Trial(error, self._accuracy(found), total / frames), squares)

    def squares(self, graph: FixedPointGraph, integers: npt.NDArray[np.int32]) -> FloatArray:
        """Run a network on sequences for the mean square of the error of each frame, (T,)."""
        values = with_latency(graph, integers)
        answers, _ = run_answers(graph, values)
        return self._squares(answers / self.scale)

    def baseline(self) -> float:
        """Return the accuracy of the network itself."""
        return self._accuracy(self.results)

    def _squares(self, found: FloatArray) -> FloatArray:
        expected = self.results[: len(found), : found.shape[1]]
        deviation = float(self.results.std()) or 1.0
        squares: FloatArray = (((found - expected) / deviation) ** 2).mean(axis=(0, 2))
        return squares

    def _accuracy(self, found: FloatArray) -> float:
        expected = self.results.argmax(axis=-1) if self.labels is None else self.labels
        chosen = found.argmax(axis=-1)
        return float(np.mean(chosen == expected[: len(chosen), : chosen.shape[1]]))


def measure_drift(
    squares: FloatArray, budget: float, latency: int, run: Callable[[int], FloatArray]
) -> Drift:
    """Return how the error grows, and the longest refresh interval that holds the budget.

    Args:
        squares: (T,) mean square of the error of each frame, without refreshes.
        budget: Rms error that is allowed.
        latency: Steps until a frame is answered.
        run: Gives the same with a refresh interval in steps.
    """
    steps = len(squares)
    counts = (*(number for number in COUNTS if number < steps), steps)
    errors = [float(np.sqrt(squares[max(0, n - WINDOW) : n].mean())) for n in counts]
    within = steps
    if np.sqrt(squares.mean()) > budget:
        so_far = np.sqrt(np.cumsum(squares) / np.arange(1, steps + 1))
        held = np.flatnonzero(so_far <= budget)
        within = int(held[-1]) + 1 if held.size else 1
        # The start of a sequence need not be like the rest of it: what looks well is run.
        while within and np.sqrt(run(within + latency).mean()) > budget:
            within //= 2
    return Drift(
        frames=counts,
        errors=tuple(errors),
        budget=budget,
        frames_within=within,
        interval=within + latency if within else None,
    )


def find_drift(
    judge: Judge,
    graph: FixedPointGraph,
    integers: npt.NDArray[np.int32],
    budget: float,
    squares: FloatArray,
) -> Drift:
    """Return how errors grow; `squares` are those of the network as it is."""

    def run(interval: int | None) -> FloatArray:
        return judge.squares(replace(graph, refresh_interval=interval), integers)

    alone = squares if graph.refresh_interval is None else run(None)
    return measure_drift(alone, budget, len(graph.layers) - 1, run)
