"""Recurrent layers against plain autograd, and against the same neurons without recurrence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurodeploy.errors import GraphError
from neurodeploy.nn import LIF, CubaLIF, EightBitQuantizer, Triangular
from neurodeploy.nn.functional.recurrence import recurrent_spikes
from tests.unit.nn.reference import cuba_loop, lif_loop

STEPS, SAMPLES, NEURONS = 9, 4, 6


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def on_grid(*shape: int, seed: int, size: float = 0.5) -> Tensor:
    """Return values that SLAYER's 8-bit weights can have, whose sums are exact."""
    return EightBitQuantizer(64)(size * drawn(*shape, seed=seed))


def gradients(spikes: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    upstream = drawn(*spikes.shape, seed=5)
    return torch.autograd.grad((spikes * upstream).sum(), leaves)


NEURONS_UNDER_TEST = {
    "lif": LIF(0.5, 0.75, Triangular(1.0)),
    "lif without gradient of the reset": LIF(0.5, 0.75, Triangular(1.0), reset_gradient=False),
    "cuba": CubaLIF(0.5, 0.25, 0.1, tau_grad=0.1, scale_grad=3),
}


@pytest.mark.parametrize("name", NEURONS_UNDER_TEST)
def test_spikes_and_gradients_are_those_of_autograd(name: str) -> None:
    neuron = NEURONS_UNDER_TEST[name]
    arriving = on_grid(STEPS, SAMPLES, NEURONS, seed=1, size=1.0).requires_grad_()
    weight = on_grid(NEURONS, NEURONS, seed=2).requires_grad_()
    if isinstance(neuron, LIF):
        wanted = lif_loop(
            arriving,
            tau=neuron.tau,
            threshold=neuron.threshold,
            surrogate=neuron.surrogate,
            reset_gradient=neuron.reset_gradient,
            recurrent=weight,
        )
    else:
        decays = neuron.current_decay, neuron.voltage_decay
        wanted = cuba_loop(arriving, *decays, neuron.constants, recurrent=weight)[0]
    found = recurrent_spikes(arriving, weight, neuron.cell())
    assert torch.equal(found, wanted)
    assert 0.1 < found.mean() < 0.9
    for ours, theirs in zip(
        gradients(found, arriving, weight), gradients(wanted, arriving, weight), strict=True
    ):  # float32 sums in another order
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", NEURONS_UNDER_TEST)
def test_without_weights_the_layer_is_the_neuron(name: str) -> None:
    neuron = NEURONS_UNDER_TEST[name]
    arriving = drawn(STEPS, SAMPLES, NEURONS, seed=3).requires_grad_()
    found = recurrent_spikes(arriving, torch.zeros(NEURONS, NEURONS), neuron.cell())
    wanted = neuron(arriving)
    assert torch.equal(found, wanted)
    torch.testing.assert_close(*gradients(found, arriving), *gradients(wanted, arriving))


def test_a_spike_arrives_a_step_later() -> None:
    neuron = LIF(0.5, 0.0, Triangular(1.0))
    arriving = torch.zeros(4, 1, 2)
    arriving[0, 0, 0] = 1.0
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # from the first neuron to the second
    spikes = recurrent_spikes(arriving, weight, neuron.cell())
    assert spikes[:, 0].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


def test_neurons_that_keep_more_than_a_layer_knows_are_refused() -> None:
    neuron = CubaLIF(0.5, 0.25, 0.1, graded_spike=True, requires_grad=True)
    with pytest.raises(GraphError, match="graded_spike, requires_grad in a recurrent layer"):
        neuron.cell()
