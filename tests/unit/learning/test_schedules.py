from __future__ import annotations

import math

import pytest
import torch

from neurodeploy.errors import RecipeError
from neurodeploy.learning.losses import (
    classification_loss,
    combine_outputs,
    tet_loss,
    training_loss,
)
from neurodeploy.learning.schedules import (
    branch_weight_at,
    learning_rate_at,
    register_branch_schedule,
)
from neurodeploy.recipes.training_sections import CrossEntropyLoss, TetLoss


def test_evolutionary_weight_is_that_of_algorithm_1_at_every_iteration() -> None:
    """i = 1 ... I: λ(1) = λ (1 - 1 / I), and λ(I) = 0 exactly."""
    for i in range(1, 1001):
        assert branch_weight_at(i - 1, 1000, method="evolutionary") == 0.25 * (1 - i / 1000)
    assert branch_weight_at(999, 1000, method="evolutionary") == 0.0
    assert branch_weight_at(0, 1, method="evolutionary") == 0.0


def test_weights_of_the_three_methods() -> None:
    assert branch_weight_at(7, 10, method="vanilla", weight=0.5) == 0.0
    assert branch_weight_at(7, 10, method="shortcut") == 1.0
    assert branch_weight_at(7, 10, method="shortcut", weight=0.5) == 0.5
    assert branch_weight_at(0, 10, method="evolutionary", weight=0.5) == 0.45
    assert branch_weight_at(4, 10, method="evolutionary", weight=0.5) == 0.25
    assert branch_weight_at(9, 10, method="shortcut", weight=0.5) == 0.5


def test_learning_rate_follows_half_a_cosine_per_iteration() -> None:
    rates = [learning_rate_at(i, 4, start=0.2, schedule="cosine") for i in range(4)]
    expected = [0.1 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert rates == pytest.approx(expected, rel=1e-15)
    assert learning_rate_at(3, 4, start=0.2, schedule="constant") == 0.2


def test_outputs_are_combined_as_in_equation_10() -> None:
    main, first, second = (torch.full((2, 3, 4), value) for value in (1.0, 2.0, 4.0))
    assert torch.equal(combine_outputs(main, (), weight=0.5), main)
    assert torch.equal(
        combine_outputs(main, (first, second), weight=0.5), torch.full((2, 3, 4), 4.0)
    )


def test_loss_is_the_cross_entropy_of_the_mean_over_time() -> None:
    output = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]])
    labels = torch.tensor([0])
    expected = -math.log(math.e / (math.e + 1))
    assert classification_loss(output, labels).item() == pytest.approx(expected, rel=1e-6)
    smooth = classification_loss(output, labels, label_smoothing=0.2).item()
    assert smooth == pytest.approx(0.9 * expected + 0.1 * math.log(math.e + 1), rel=1e-6)


def test_other_schedules_scale_the_weight_by_progress() -> None:
    def at(i: int, schedule: str) -> float:
        return branch_weight_at(i, 4, method="evolutionary", weight=0.5, schedule=schedule)

    assert [at(i, "constant") for i in range(4)] == [0.5] * 4
    assert [at(i, "linear") for i in range(4)] == [0.375, 0.25, 0.125, 0.0]
    assert at(1, "cosine") == pytest.approx(0.25, rel=1e-15)
    assert at(3, "cosine") == 0.0
    assert branch_weight_at(0, 4, method="vanilla", schedule="constant") == 0.0


def test_a_schedule_of_ones_own() -> None:
    register_branch_schedule("first half", lambda progress: 1.0 if progress <= 0.5 else 0.0)
    weights = [
        branch_weight_at(i, 4, method="shortcut", weight=0.3, schedule="first half")
        for i in range(4)
    ]
    assert weights == [0.3, 0.3, 0.0, 0.0]
    with pytest.raises(RecipeError, match="'first half': the name is taken"):
        register_branch_schedule("first half", lambda progress: progress)


def test_an_unknown_schedule_is_refused_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"schedule = 'lineal', allowed: 'constant', 'linear'"):
        branch_weight_at(0, 4, method="evolutionary", schedule="lineal")


def test_tet_asks_every_step_to_classify() -> None:
    """Two steps, two classes: the mean of both steps' cross-entropies, not that of their mean."""
    output = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    labels = torch.tensor([0])
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    each = (right + wrong) / 2
    assert float(tet_loss(output, labels, weight=0.0, target=1.0)) == pytest.approx(each, rel=1e-6)
    # (2 - 1)² and (0 - 1)² are both 1, so the regulariser is 1.
    mixed = 0.9 * each + 0.1 * 1.0
    assert float(tet_loss(output, labels, weight=0.1, target=1.0)) == pytest.approx(mixed, rel=1e-6)
    assert float(classification_loss(output, labels)) == pytest.approx(math.log(2), rel=1e-6)


def test_a_recipe_chooses_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(5, 3, 4, generator=generator)
    labels = torch.arange(5) % 4
    tet = TetLoss(name="tet", weight=0.2, target=0.5)
    assert torch.equal(
        training_loss(output, labels, loss=tet, label_smoothing=0.1),
        tet_loss(output, labels, weight=0.2, target=0.5, label_smoothing=0.1),
    )
    assert torch.equal(
        training_loss(output, labels, loss=CrossEntropyLoss(), label_smoothing=0.1),
        classification_loss(output, labels, label_smoothing=0.1),
    )
