"""Losses: cross-entropy and TET, of the sum of outputs or of each branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from neurodeploy.recipes.training_sections import CrossEntropyLoss, LossSection


def combine_outputs(main: Tensor, branches: Sequence[Tensor], *, weight: float) -> Tensor:
    """Return the output that is trained, o = b_n + λ · Σ b_l, each (N, T, classes).

    Source: Guo et al., "Take A Shortcut Back", NeurIPS 2024, eqs. 6 and 10.

    Example:
        >>> main, branch = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.5, 0.0]]])
        >>> nd.combine_outputs(main, [branch], weight=0.25)
        tensor([[[1.1250, 2.0000]]])
    """
    if not branches or weight == 0:
        # Not main + 0 · branches: where a branch reads the same tensor as a skip connection, even
        # a gradient of zeros changes the memory layout of their sum, and with it the order of
        # later summations: the last bit would differ from a network without branches.
        return main
    total = branches[0]
    for branch in branches[1:]:
        total = total + branch
    return main + weight * total


def classification_loss(
    output: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Return the cross-entropy of the output's mean over time, a scalar.

    Args:
        output: (N, T, classes) float.
        labels: (N,) int64.
        label_smoothing: Share of the target that is spread over all classes.
        reduction: "mean" or "sum" over the batch.
    """
    return functional.cross_entropy(
        output.mean(dim=1), labels, label_smoothing=label_smoothing, reduction=reduction
    )


def tet_loss(
    output: Tensor, labels: Tensor, *, weight: float, target: float, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss of temporal efficient training: (1 - λ) · L_TET + λ · L_MSE.

    L_TET is the mean over steps of each step's cross-entropy, L_MSE the mean over steps and
    classes of (output - φ)²: each step is asked to classify by itself, and outputs are kept near
    the potential at which a neuron fires. Arguments are those of `classification_loss`, and
    λ = `weight`, 0 to 1, and φ = `target`.

    Source: Deng et al., "Temporal Efficient Training of Spiking Neural Network via Gradient
    Re-weighting", ICLR 2022, L_TET, L_MSE and L_TOTAL.
    """
    steps = output.shape[1]
    each = functional.cross_entropy(
        output.flatten(0, 1), labels.repeat_interleave(steps), label_smoothing=label_smoothing
    )
    if weight == 0:
        return each
    distance = functional.mse_loss(output, torch.full_like(output, target))
    return (1 - weight) * each + weight * distance


def training_loss(
    output: Tensor, labels: Tensor, *, loss: LossSection, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss that a recipe's [training.loss] names, of an output with its branches."""
    if isinstance(loss, CrossEntropyLoss):
        return classification_loss(output, labels, label_smoothing=label_smoothing)
    return tet_loss(
        output, labels, weight=loss.weight, target=loss.target, label_smoothing=label_smoothing
    )


def shortcut_loss(
    main: Tensor,
    branches: Sequence[Tensor],
    labels: Tensor,
    *,
    weight: float,
    kind: Literal["joint", "separate"],
    loss: LossSection,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the output that is trained with branches, (N, T, classes), and its loss, a scalar.

    With λ = 0 both are those of the network without branches, to the bit.

    Args:
        main: b_n, (N, T, classes).
        branches: b_l, each (N, T, classes).
        labels: (N,) int64.
        weight: λ at this iteration.
        kind: "joint": L(b_n + λ Σ b_l), the paper's. "separate": L(b_n) + λ Σ L(b_l), ours.
        loss: [training.loss].
        label_smoothing: Share of the target that is spread over all classes.
    """

    def of(output: Tensor) -> Tensor:
        return training_loss(output, labels, loss=loss, label_smoothing=label_smoothing)

    if kind == "joint":
        output = combine_outputs(main, branches, weight=weight)
        return output, of(output)
    total = of(main)
    if weight != 0:
        for branch in branches:
            total = total + weight * of(branch)
    return main, total
