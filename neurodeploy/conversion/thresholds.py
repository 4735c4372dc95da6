"""Choose the thresholds of sigma-delta neurons: as few messages as the budget of errors allows.

A neuron sends a change once it reaches its threshold. From the smallest thresholds on, the one is
doubled, again and again, that saves the most operations for the error that it adds, on sequences
of frames as they will come.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.conversion.chain import NONE, Chain

INPUT_MAX = 64
"""Largest threshold of the input block that is tried, in integers of a frame."""
HIDDEN_MAX = 256


@dataclass(frozen=True, slots=True)
class Trial:
    """Measurements of a network with some thresholds.

    Attributes:
        error: Rms error of its answers, in deviations of the network's own.
        accuracy: Share of right answers, or of those that agree with the float network's.
        operations: Synaptic operations a frame.
    """

    error: float
    accuracy: float
    operations: float


def least_thresholds(chain: Chain) -> tuple[int, ...]:
    """Return the smallest useful thresholds: 0 for the input, 1 elsewhere.

    With 0, a hidden neuron would lose changes of less than a message unit without sending any.
    """
    return (0, *(1 for _ in chain.layers[:-1]))


def search_thresholds(
    chain: Chain,
    run: Callable[[Sequence[int]], Trial],
    *,
    error_budget: float,
    accuracy_budget: float,
    progress: Callable[[Sequence[int], Trial], None] | None = None,
) -> tuple[int, ...]:
    """Return the thresholds that were found.

    Args:
        chain: The network.
        run: Measures thresholds.
        error_budget: Largest error that is allowed.
        accuracy_budget: Most accuracy that may be lost against the smallest thresholds.
        progress: Called with each step that is taken.
    """
    current = list(least_thresholds(chain))
    best = run(current)
    floor = best.accuracy - accuracy_budget
    # A step's gain changes little when others are taken: only the one that looks best is measured
    # again before it is taken.
    queue = [(-np.inf, -1, place) for place in range(len(current))]
    heapq.heapify(queue)
    round_ = 0
    while queue:
        _, measured, place = heapq.heappop(queue)
        tried = list(current)
        tried[place] = max(1, 2 * tried[place])
        if tried[place] > most_allowed(chain, current, place):
            continue
        trial = run(tried)
        saved = best.operations - trial.operations
        if trial.error > error_budget or trial.accuracy < floor or saved <= 0:
            continue
        gain = saved / max(trial.error - best.error, 1e-9)
        if measured != round_ and queue and -queue[0][0] > gain:
            heapq.heappush(queue, (-gain, round_, place))
            continue
        current, best = tried, trial
        round_ += 1
        if progress is not None:
            progress(tuple(current), best)
        heapq.heappush(queue, (-gain, -1, place))
        if place + 1 < len(current) and all(entry[2] != place + 1 for entry in queue):
            heapq.heappush(queue, (-np.inf, -1, place + 1))  # it may have waited for this one
    return tuple(current)


def most_allowed(chain: Chain, thresholds: Sequence[int], place: int) -> int:
    """Return the largest threshold at a place: relays must pass on every message at once."""
    if place == 0:
        return INPUT_MAX
    layer = chain.layers[place - 1]
    has_relays = bool((layer.tied != NONE).any()) and not layer.is_readout
    return max(1, thresholds[place - 1]) if has_relays else HIDDEN_MAX
