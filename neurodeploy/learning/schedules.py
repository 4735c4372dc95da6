"""Settings that change with the iteration: learning rate, branch weight, share of pruned weights.

A schedule of the branch weight is a function of the progress i / I, which gives the factor on λ.
As in the paper's Algorithm 1, i counts from 1: the progress is 1 / I in the first iteration and
exactly 1 in the last. To add a schedule, before training:

    from neurodeploy.learning.schedules import register_branch_schedule

    register_branch_schedule("late", lambda progress: 1.0 if progress < 0.5 else 0.0)

and name it in the recipe: `[shortcut] schedule = "late"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from neurodeploy.errors import RecipeError, TrainingError
from neurodeploy.nn.synapse import ConvSynapse, DenseSynapse
from neurodeploy.passes.pruning import magnitude_masks, parse_pattern, pattern_masks
from neurodeploy.recipes.training_sections import PruningSection

BranchSchedule = Callable[[float], float]
"""Factor on λ for the progress i / I."""


def learning_rate_at(
    iteration: int, iterations: int, *, start: float, schedule: Literal["cosine", "constant"]
) -> float:
    """Return the learning rate of iteration i of I, i from 0 to I - 1.

    "cosine" is start · (1 + cos(π i / I)) / 2.
    """
    if schedule == "constant":
        return start
    return start * 0.5 * (1.0 + math.cos(math.pi * iteration / iterations))


_SCHEDULES: dict[str, BranchSchedule] = {
    "constant": lambda progress: 1.0,  # eq. 6
    "linear": lambda progress: 1.0 - progress,  # eq. 10
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),  # an addition of ours
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
    """Return a schedule by its name, or raise a `RecipeError` with those there are."""
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

    Source: Guo et al., "Take A Shortcut Back", NeurIPS 2024, eqs. 6 and 10, Algorithm 1.

    Example:
        >>> [round(nd.branch_weight_at(i, 5, method="evolutionary"), 2) for i in range(5)]
        [0.2, 0.15, 0.1, 0.05, 0.0]
        >>> nd.branch_weight_at(4, 5, method="shortcut", weight=0.5)
        0.5
    """
    if method == "vanilla":
        return 0.0
    if weight is None:
        weight = 1.0 if method == "shortcut" else 0.25
    progress = (iteration + 1) / iterations
    return weight * branch_schedule(schedule or _OF_METHOD[method])(progress)


class Pruner:
    """Masks that grow while a network is trained: its zeros stay, and more weights become zero.

    The share of zeros at a point p of the pruning, 0 to 1, is s · (1 - (1 - p)³): fast while
    weights are redundant, slow at the end. Which weights are masked follows from the weights
    alone, so a training that goes on from a checkpoint prunes as one that was never interrupted.
    Without settings it keeps the zeros that are there, and no more.

    Source: Zhu and Gupta, "To prune, or not to prune", arXiv 1710.01878, eq. 1.
    """

    def __init__(
        self, network: nn.Module, settings: PruningSection | None, *, iterations: int
    ) -> None:
        self._weights = dict(_prunable(network))
        self._settings = settings
        self._iterations = max(1, iterations)
        self._masks: dict[str, Tensor] = {}

    def start(self) -> None:
        """Take up the zeros of the weights as they are now; at the start of each epoch."""
        self._masks = {name: weight.detach() != 0 for name, weight in self._weights.items()}

    def after_step(self, iteration: int) -> None:
        """Prune after the step of an iteration, counted from 0 over the whole training."""
        if self._is_due(iteration):
            self._grow(iteration)
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.mul_(self._masks[name])

    def is_done(self, iteration: int) -> bool:
        """Return whether the full sparsity is reached after an iteration."""
        return self._progress(iteration) >= 1

    def sparsity_at(self, iteration: int) -> float:
        """Return the share of zeros asked for after an iteration."""
        assert self._settings is not None
        return self._settings.sparsity * self._curve(iteration)

    def _curve(self, iteration: int) -> float:
        return 1.0 - (1.0 - self._progress(iteration)) ** 3

    def _progress(self, iteration: int) -> float:
        if self._settings is None:
            return 1.0
        begin = self._settings.begin * self._iterations
        end = self._settings.end * self._iterations
        reached = iteration + 1
        return 1.0 if reached >= end else max(0.0, (reached - begin) / (end - begin))

    def _is_due(self, iteration: int) -> bool:
        if self._settings is None:
            return False
        before, now = self._progress(iteration - 1), self._progress(iteration)
        return before < 1 <= now or (0 < now < 1 and iteration % self._settings.interval == 0)

    def _grow(self, iteration: int) -> None:
        """Choose the masks that are due after an iteration."""
        assert self._settings is not None
        weights = {
            name: weight.detach().double().cpu().numpy() for name, weight in self._weights.items()
        }
        if self._settings.pattern:
            keep, group = parse_pattern(self._settings.pattern)
            kept = group - round((group - keep) * self._curve(iteration))
            masks = pattern_masks(weights, pattern=f"{kept}:{group}")
        else:
            masks = magnitude_masks(
                weights, sparsity=self.sparsity_at(iteration), scope=self._settings.scope
            )
        self._masks = {
            name: torch.from_numpy(mask).to(self._weights[name].device)
            for name, mask in masks.items()
        }


def _prunable(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the weights of a network's synapses that training may change."""
    for name, module in network.named_modules():
        if isinstance(module, ConvSynapse | DenseSynapse):
            if module.weight_norm_enabled:
                raise TrainingError(
                    f"{name}: pruning with weight normalisation is not possible. Train without it."
                )
            if module.weight.requires_grad:
                yield name, module.weight
        elif isinstance(module, nn.ParameterList):
            for index, weight in enumerate(module):
                if weight.requires_grad:
                    yield f"{name}.{index}", weight
