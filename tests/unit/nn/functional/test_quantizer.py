"""The compiled 8-bit quantiser against the steps that lava-dl takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurodeploy.nn.functional.quantizer import EightBitQuantizer


def weights(count: int, spread: float) -> Tensor:
    """Return weights with halves between steps, bounds, zeros and what is not a number."""
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(0)) * spread
    special = torch.tensor([0.0, -0.0, 3.97, 3.98, 3.99, -4.0, -4.02, 1e30, torch.nan, torch.inf])
    halves = torch.arange(-300, 300) / 64
    return torch.cat([drawn, special, halves, halves + 1 / 64])


@pytest.mark.parametrize("scale", [1, 3, 48, 64, 100, 4096])
@pytest.mark.parametrize("spread", [0.1, 3.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_values_and_gradients_are_those_of_torch(scale: int, spread: float, threads: int) -> None:
    """To the bit, signs of zeros included; a tensor in another order takes torch's own steps."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        values = weights(100_000, spread).reshape(2, -1)
        upstream = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
        results = []
        for is_compiled in (True, False):
            leaf = (values if is_compiled else values.t().contiguous().t()).requires_grad_()
            assert leaf.is_contiguous() == is_compiled
            quantized = EightBitQuantizer(scale)(leaf)
            (gradient,) = torch.autograd.grad(quantized, leaf, upstream)
            results.append((quantized.detach(), gradient))
        for actual, expected in zip(*results, strict=True):
            bits = [tensor.contiguous().view(torch.int32) for tensor in (actual, expected)]
            is_number = ~expected.isnan()
            assert torch.equal(bits[0][is_number], bits[1][is_number])
            assert torch.equal(actual.isnan(), expected.isnan())
    finally:
        torch.set_num_threads(before)


def test_weights_that_fit_pass_the_gradient_on() -> None:
    """Nothing is clamped, nothing is kept."""
    leaf = torch.linspace(-1, 1, 1000).requires_grad_()
    upstream = torch.linspace(2, 3, 1000)
    (gradient,) = torch.autograd.grad(EightBitQuantizer()(leaf), leaf, upstream)
    assert torch.equal(gradient, upstream)


def test_no_weights() -> None:
    """An empty tensor stays one."""
    assert EightBitQuantizer()(torch.zeros(0, 3)).shape == (0, 3)
