from __future__ import annotations

import pytest
import torch

from neurodeploy.learning.losses import (
    classification_loss,
    combine_outputs,
    shortcut_loss,
)
from neurodeploy.recipes.training_sections import CrossEntropyLoss

GENERATOR = torch.Generator().manual_seed(3)
MAIN, FIRST, SECOND = torch.randn((3, 5, 2, 4), generator=GENERATOR)
LABELS = torch.tensor([0, 3, 1, 2, 0])


def test_the_joint_loss_is_that_of_the_sum() -> None:
    output, loss = shortcut_loss(
        MAIN, (FIRST, SECOND), LABELS, weight=0.25, kind="joint", loss=CrossEntropyLoss()
    )
    expected = combine_outputs(MAIN, (FIRST, SECOND), weight=0.25)
    assert torch.equal(output, expected)
    assert torch.equal(loss, classification_loss(expected, LABELS))


def test_separate_losses_add_up() -> None:
    output, loss = shortcut_loss(
        MAIN, (FIRST, SECOND), LABELS, weight=0.25, kind="separate", loss=CrossEntropyLoss()
    )
    each = [float(classification_loss(branch, LABELS)) for branch in (MAIN, FIRST, SECOND)]
    assert torch.equal(output, MAIN)
    assert float(loss) == pytest.approx(each[0] + 0.25 * (each[1] + each[2]), rel=1e-6)


@pytest.mark.parametrize("kind", ["joint", "separate"])
def test_without_weight_branches_change_nothing(kind: str) -> None:
    for branches in ((FIRST, SECOND), ()):
        output, loss = shortcut_loss(
            MAIN,
            branches,
            LABELS,
            weight=0.0,
            kind=kind,  # type: ignore[arg-type]  # parametrised with both
            loss=CrossEntropyLoss(),
        )
        assert output is MAIN
        assert torch.equal(loss, classification_loss(MAIN, LABELS))
