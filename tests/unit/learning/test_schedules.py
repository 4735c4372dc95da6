from __future__ import annotations

import math

import pytest
import torch

from neurodeploy.learning.losses import classification_loss, combine_outputs
from neurodeploy.learning.schedules import branch_weight_at, learning_rate_at


def test_evolutionary_weight_is_equation_10_at_every_iteration() -> None:
    for i in range(1000):
        assert branch_weight_at(i, 1000, method="evolutionary") == 0.25 * (1 - i / 1000)


def test_weights_of_the_three_methods() -> None:
    assert branch_weight_at(7, 10, method="vanilla", weight=0.5) == 0.0
    assert branch_weight_at(7, 10, method="shortcut") == 1.0
    assert branch_weight_at(7, 10, method="shortcut", weight=0.5) == 0.5
    assert branch_weight_at(0, 10, method="evolutionary", weight=0.5) == 0.5
    assert branch_weight_at(5, 10, method="evolutionary", weight=0.5) == 0.25


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
