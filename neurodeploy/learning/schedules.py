"""How learning rate and branch weight run through the iterations: pure functions of i."""

from __future__ import annotations

import math
from typing import Literal


def learning_rate_at(
    iteration: int, iterations: int, *, start: float, schedule: Literal["cosine", "constant"]
) -> float:
    """Give the learning rate of one iteration.

    Args:
        iteration: i, from 0 to iterations - 1.
        iterations: I, of the whole run.
        start: The first one.
        schedule: "cosine": start · (1 + cos(π i / I)) / 2. "constant": start.
    """
    if schedule == "constant":
        return start
    return start * 0.5 * (1.0 + math.cos(math.pi * iteration / iterations))


def branch_weight_at(
    iteration: int,
    iterations: int,
    *,
    method: Literal["vanilla", "shortcut", "evolutionary"],
    weight: float | None = None,
) -> float:
    """Give the factor on the branches' outputs at one iteration.

    Args:
        iteration: i, from 0 to iterations - 1; counted over the whole run, not per epoch.
        iterations: I.
        method: "evolutionary": λ · (1 - i / I). "shortcut": λ. "vanilla": 0.
        weight: λ; None for that of the paper: 0.25 for "evolutionary", 1 for "shortcut".

    Source: Guo et al., "Take A Shortcut Back", NeurIPS 2024, eqs. 6 and 10.
    """
    if method == "vanilla":
        return 0.0
    if method == "shortcut":
        return 1.0 if weight is None else weight
    return (0.25 if weight is None else weight) * (1.0 - iteration / iterations)
