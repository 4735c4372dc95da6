"""What training makes small."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def combine_outputs(main: Tensor, branches: Sequence[Tensor], *, weight: float) -> Tensor:
    """Give the output that is trained: o = b_n + weight · Σ b_l.

    Args:
        main: b_n, (N, T, classes).
        branches: b_l, each (N, T, classes).
        weight: λ at this iteration (`schedules.branch_weight_at`).

    Source: Guo et al., "Take A Shortcut Back", NeurIPS 2024, eqs. 6 and 10.
    """
    if not branches:
        return main
    total = branches[0]
    for branch in branches[1:]:
        total = total + branch
    return main + weight * total


def classification_loss(
    output: Tensor, labels: Tensor, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Give the cross-entropy of the output's mean over time.

    Args:
        output: (N, T, classes) float.
        labels: (N,) int64.
        label_smoothing: Share of the target that is spread over all classes.
        reduction: "mean" or "sum" over the batch.

    Returns:
        Scalar.
    """
    return functional.cross_entropy(
        output.mean(dim=1), labels, label_smoothing=label_smoothing, reduction=reduction
    )
