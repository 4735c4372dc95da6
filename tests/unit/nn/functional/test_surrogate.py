"""Surrogate gradients: hand-computed values, areas, selection by name."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from neurodeploy.errors import GraphError
from neurodeploy.nn.functional.surrogate import (
    SURROGATES,
    Exponential,
    Rectangular,
    Surrogate,
    Tanh,
    TanhPrinted,
    Triangular,
)
from tests.unit.nn.reference import fire


def values(surrogate: Surrogate, *voltages: float, threshold: float) -> list[float]:
    tensor = torch.tensor(voltages, dtype=torch.float64)
    return surrogate.derivative(tensor, threshold).tolist()


def area(surrogate: Surrogate, threshold: float) -> float:
    grid = torch.linspace(-60, 60, 1_200_001, dtype=torch.float64)
    return float(torch.trapezoid(surrogate.derivative(grid, threshold), grid))


def test_triangular_is_equation_4() -> None:
    """gamma · max(0, 1 - |u / V_th - 1|) with gamma 3, V_th 0.5."""
    found = values(Triangular(3.0), -0.1, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, threshold=0.5)
    assert found == [0.0, 0.0, 1.5, 3.0, 1.5, 0.0, 0.0]


def test_rectangular_is_equation_4() -> None:
    """1 / a where |u - V_th| < a / 2, the bound itself outside; a = 0.5, V_th 1."""
    found = values(Rectangular(0.5), 0.7, 0.75, 0.8, 1.0, 1.2, 1.25, threshold=1.0)
    assert found == [0.0, 0.0, 2.0, 2.0, 2.0, 0.0]


def test_tanh_is_the_derivative_of_a_tanh_step() -> None:
    """0.5 a (1 - tanh²(a (u - V_th))) with a = 2: height 1, slope 2."""
    step = torch.tensor([-0.3, 0.4, 0.5, 1.7], dtype=torch.float64, requires_grad=True)
    (0.5 * torch.tanh(2 * (step - 0.5))).sum().backward()
    found = Tanh(height=0.5 * 2, slope=2.0).derivative(step.detach(), 0.5)
    torch.testing.assert_close(found, step.grad)


def test_printed_tanh_does_not_vanish_below_threshold() -> None:
    """Why the printed formula is taken for a misprint: 4 k far below, 0 far above."""
    low, at, high = values(TanhPrinted(0.5), -50.0, 1.0, 50.0, threshold=1.0)
    assert (low, at, high) == (2.0, 0.5, 0.0)
    assert values(Tanh(0.5, 1.0), -50.0, 50.0, threshold=1.0) == [0.0, 0.0]


def test_exponential_is_slayers() -> None:
    """0.1 s / (2 tau) · exp(-|u - V_th| / tau), tau = 100 · tau_grad · V_th."""
    surrogate = Exponential(tau_grad=0.02, scale_grad=3.0)
    tau = 100 * 0.02 * 1.25
    found = values(surrogate, 1.25, 3.75, -1.25, threshold=1.25)
    peak = 0.3 / 2 / tau
    assert found == pytest.approx([peak, peak * math.exp(-2.5 / tau), peak * math.exp(-2.5 / tau)])


def test_graded_exponential_is_flat_above_threshold() -> None:
    surrogate = Exponential(tau_grad=0.01, scale_grad=2.0)
    voltages = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    found = surrogate.graded_derivative(voltages, 1.0).tolist()
    assert found == pytest.approx([0.2 * math.exp(-1.0), 0.2, 0.2])


@pytest.mark.parametrize(
    ("surrogate", "expected"),
    [
        (Triangular(1.0), 0.7),
        (Rectangular(0.4), 1.0),
        (Tanh(height=1.5, slope=3.0), 1.0),
        (Exponential(tau_grad=0.01, scale_grad=2.0), 0.2),
    ],
)
def test_area(surrogate, expected) -> None:
    """A spike is a step of height 1; how much of it a surrogate passes on. V_th = 0.7."""
    assert area(surrogate, 0.7) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_made_by_name_with_its_parameters(name) -> None:
    kind = SURROGATES[name]
    parameters = {field.name: 0.25 for field in dataclasses.fields(kind)}
    surrogate = kind(**parameters)
    assert surrogate.name == name
    assert dataclasses.asdict(surrogate) == parameters


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_derivative_leaves_its_input_alone(name) -> None:
    voltage = torch.linspace(-2, 2, 9)
    before = voltage.clone()
    SURROGATES[name]().derivative(voltage, 0.5)
    assert torch.equal(voltage, before)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("rectangular", {"width": 0.0}, r"width = 0\.0, a finite number above 0"),
        ("triangular", {"height": math.nan}, r"height = nan"),
        ("exponential", {"tau_grad": -1.0}, r"tau_grad = -1\.0"),
    ],
)
def test_mistakes_are_named(name, parameters, message) -> None:
    with pytest.raises(GraphError, match=message):
        SURROGATES[name](**parameters)


def test_fire_is_a_hard_step_with_a_soft_gradient() -> None:
    """At threshold itself there is no spike; the gradient is h there all the same."""
    voltage = torch.tensor([0.4, 0.5, 0.6], requires_grad=True)
    spikes = fire(voltage, 0.5, Rectangular(1.0))
    spikes.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert spikes.tolist() == [0.0, 0.0, 1.0]
    assert voltage.grad.tolist() == [1.0, 2.0, 3.0]
