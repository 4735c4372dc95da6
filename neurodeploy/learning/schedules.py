"""Learning rate and branch weight by iteration: pure functions of its number.

A schedule of the branch weight is a function of the progress i / I, which gives the factor on λ.
As in the paper's Algorithm 1, i counts from 1: the progress is 1 / I in the first iteration and
exactly 1 in the last. To add a schedule, before training:

    from neurodeploy.learning.schedules import register_branch_schedule

    register_branch_schedule("late", lambda progress: 1.0 if progress < 0.5 else 0.0)

and name it in the recipe: `[shortcut] schedule = "late"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from neurodeploy.errors import RecipeError

BranchSchedule = Callable[[float], float]
"""Factor on λ for the progress i / I."""


def learning_rate_at(
    iteration: int, iterations: int, *, start: float, schedule: Literal["cosine", "constant"]
) -> float:
    """Return the learning rate of one iteration.

    Args:
        iteration: i, from 0 to iterations - 1.
        iterations: I, of the whole run.
        start: The first one.
        schedule: "cosine": start · (1 + cos(π i / I)) / 2. "constant": start.
    """
    if schedule == "constant":
        return start
    return start * 0.5 * (1.0 + math.cos(math.pi * iteration / iterations))


def _constant(progress: float) -> float:
    del progress
    return 1.0


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


_SCHEDULES: dict[str, BranchSchedule] = {
    "constant": _constant,  # eq. 6
    "linear": _linear,  # eq. 10
    "cosine": _cosine,  # an addition of ours
}
_OF_METHOD = {"shortcut": "constant", "evolutionary": "linear"}


def register_branch_schedule(name: str, schedule: BranchSchedule) -> None:
    """Make a schedule known to recipes under a name.

    Args:
        name: As `shortcut.schedule` names it.
        schedule: Factor on λ for the progress i / I; pure, so that resuming gives the same run.

    Raises:
        RecipeError: If the name is taken.
    """
    if name in _SCHEDULES:
        raise RecipeError(f"branch schedule '{name}': the name is taken. Choose another.")
    _SCHEDULES[name] = schedule


def branch_schedule(name: str) -> BranchSchedule:
    """Return a schedule by its name.

    Raises:
        RecipeError: If there is none.
    """
    if name not in _SCHEDULES:
        raise RecipeError(
            f"[shortcut]: schedule = '{name}', allowed: {', '.join(map(repr, _SCHEDULES))}. "
            "Others can be added with register_branch_schedule."
        )
    return _SCHEDULES[name]


def branch_weight_at(
    iteration: int,
    iterations: int,
    *,
    method: Literal["vanilla", "shortcut", "evolutionary"],
    weight: float | None = None,
    schedule: str | None = None,
) -> float:
    """Return the factor on the branches' outputs at one iteration.

    Args:
        iteration: i - 1, from 0 to iterations - 1; counted over the whole run, not per epoch.
        iterations: I.
        method: "evolutionary": λ · (1 - i / I), which is 0 in the last iteration. "shortcut": λ.
            "vanilla": 0.
        weight: λ; None for that of the paper: 0.25 for "evolutionary", 1 for "shortcut".
        schedule: Name of another schedule than the method's; no effect for "vanilla".

    Raises:
        RecipeError: If there is no such schedule.

    Source: Guo et al., "Take A Shortcut Back", NeurIPS 2024, eqs. 6 and 10, Algorithm 1.
    """
    if method == "vanilla":
        return 0.0
    if weight is None:
        weight = 1.0 if method == "shortcut" else 0.25
    progress = (iteration + 1) / iterations
    return weight * branch_schedule(schedule or _OF_METHOD[method])(progress)
