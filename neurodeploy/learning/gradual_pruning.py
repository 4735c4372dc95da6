"""Prune a network while it is trained: masks that grow along a cubic curve and hold.

The share of zeros at a point p of the pruning, 0 to 1, is s · (1 - (1 - p)³): fast while weights
are redundant, slow at the end.

Source: Zhu and Gupta, "To prune, or not to prune", arXiv 1710.01878, eq. 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from neurodeploy.errors import TrainingError
from neurodeploy.nn.synapse import ConvSynapse, DenseSynapse
from neurodeploy.passes.pruning import (
    magnitude_masks,
    parse_pattern,
    pattern_masks,
)
from neurodeploy.recipes.training_sections import PruningSection


class Pruner:
    """Keeps the zeros of a network, and adds to them as a recipe says.

    Which weights are masked follows from the weights alone, so a training that goes on from a
    checkpoint prunes as one that was never interrupted.

    Args:
        network: Changed in place, by `after_step`.
        settings: What to take out; None to keep the zeros that are there, and no more.
        iterations: Of the whole training.

    Raises:
        TrainingError: If a layer has no plain weight (weight normalisation).
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
        """Prune after an iteration's step.

        Args:
            iteration: Counted from 0 over the whole training.
        """
        if self._settings is not None and self._is_due(iteration):
            self._grow(self._curve(iteration))
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.mul_(self._masks[name])

    def is_done(self, iteration: int) -> bool:
        """Return whether the full sparsity is reached after an iteration."""
        return self._settings is None or self._progress(iteration) >= 1

    def sparsity_at(self, iteration: int) -> float:
        """Return the share of zeros asked for after an iteration."""
        assert self._settings is not None
        return self._settings.sparsity * self._curve(iteration)

    def _curve(self, iteration: int) -> float:
        return 1.0 - (1.0 - self._progress(iteration)) ** 3

    def _progress(self, iteration: int) -> float:
        assert self._settings is not None
        begin = self._settings.begin * self._iterations
        end = self._settings.end * self._iterations
        reached = iteration + 1
        return 1.0 if reached >= end else max(0.0, (reached - begin) / (end - begin))

    def _is_due(self, iteration: int) -> bool:
        assert self._settings is not None
        last = self._progress(iteration - 1) < 1 <= self._progress(iteration)
        return last or (
            0 < self._progress(iteration) < 1 and iteration % self._settings.interval == 0
        )

    def _grow(self, share: float) -> None:
        """Choose masks for a share, 0 to 1, of what is to be taken out in the end."""
        assert self._settings is not None
        weights = {
            name: weight.detach().double().cpu().numpy() for name, weight in self._weights.items()
        }
        if self._settings.pattern:
            keep, group = parse_pattern(self._settings.pattern)
            kept = group - round((group - keep) * share)
            masks = pattern_masks(weights, pattern=f"{kept}:{group}")
        else:
            sparsity = self._settings.sparsity * share
            masks = magnitude_masks(weights, sparsity=sparsity, scope=self._settings.scope)
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
            yield from (
                (f"{name}.{index}", weight)
                for index, weight in enumerate(module)
                if weight.requires_grad
            )
