"""Gradients of spikes that have no effect are left out; those that have one stay the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurodeploy.nn.functional.gradient_needs import needs_of
from neurodeploy.nn.functional.sparse_convolution import (
    Savings,
    active_counts,
    find_savings,
    sparse_convolution,
)
from neurodeploy.nn.functional.surrogate import (
    Rectangular,
    Surrogate,
    Tanh,
    Triangular,
)
from neurodeploy.nn.fused import normalized_spikes
from neurodeploy.nn.network import recomputed
from neurodeploy.nn.neuron import LIF

Pair = tuple[int, int]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sent(
    z: Tensor, surrogate: Surrogate, *, bias: float = -0.9, skip: Tensor | None = None
) -> Tensor:
    """Return the spikes (T, N, C, H, W) of quiet neurons behind a batch norm."""
    norm = nn.BatchNorm2d(z.shape[2])
    nn.init.constant_(norm.bias, bias)
    return normalized_spikes(z, norm, LIF(0.5, 0.5, surrogate), skip=skip)


def sums(*shape: int, seed: int = 1) -> Tensor:
    """Return (T, N, C, H, W) as a convolution leaves them."""
    steps, count, *rest = shape
    values = drawn(steps * count, *rest, seed=seed).contiguous(memory_format=torch.channels_last)
    return values.view(steps, count, *rest).requires_grad_()


def as_images(spikes: Tensor) -> Tensor:
    return spikes.flatten(0, 1).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("surrogate", [Rectangular(), Rectangular(0.3), Triangular(0.7)])
@pytest.mark.parametrize("has_skip", [False, True])
def test_notes_say_where_the_slope_is_not_zero(surrogate: Surrogate, has_skip: bool) -> None:
    """The note is h(u) != 0 of the membranes of a loop in torch."""
    z = sums(3, 2, 5, 4, 3)
    skip = drawn(*z.shape, seed=5) if has_skip else None
    spikes = sent(z, surrogate, skip=skip)
    needs = needs_of(as_images(spikes))
    assert needs is not None
    flat = z.flatten(0, 1)
    currents = functional.batch_norm(flat, None, None, None, torch.full((5,), -0.9), True)
    currents = currents.view_as(z) if skip is None else currents.view_as(z) + skip
    u, expected = torch.zeros_like(z[0]), []
    for current in currents:
        u = u * 0.5 + current
        expected.append(surrogate.derivative(u, 0.5) != 0)
        u = torch.where(u > 0.5, 0.0, u)
    flags = torch.from_numpy(needs.flags).view(3, 2, 4, 3, 5).permute(0, 1, 4, 2, 3) != 0
    assert torch.equal(flags, torch.stack(expected))


def test_only_the_spikes_themselves_have_a_note() -> None:
    """Not their copies, parts or products, nor leaves that share their memory."""
    z = sums(2, 3, 8, 4, 4)
    spikes = sent(z, Rectangular())
    images = as_images(spikes)
    assert needs_of(images) is not None
    assert needs_of(spikes.transpose(0, 1)) is not None
    for other in (
        images.clone(),
        images * 1,
        images[1:],
        images.detach(),
        images.detach().requires_grad_(),
        sent(z, Tanh()).flatten(0, 1),
        drawn(2, 2),
    ):
        assert needs_of(other) is None
    with torch.no_grad():
        assert needs_of(images) is None
        assert needs_of(as_images(sent(z, Rectangular()))) is None


CASES: list[tuple[Pair, Pair, Pair]] = [
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((5, 3), (2, 1), (0, 2)),
    ((2, 4), (1, 3), (1, 0)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
@pytest.mark.parametrize(("outputs", "threads"), [(6, 1), (90, 2), (109, 1), (128, 2)])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_gradients_that_matter_are_equal_to_the_bit(
    kernel: Pair, stride: Pair, padding: Pair, outputs: int, threads: int, is_sparse: bool
) -> None:
    """Exact sums: the same gradient before the neurons, and zeros where it has no effect."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        weight = ((drawn(outputs, 21, *kernel) * 64).round() / 64).requires_grad_()
        found: list[list[Tensor]] = []
        for leaves_out in (False, True):
            z = sums(3, 2, 21, 8, 11)
            images = as_images(sent(z, Rectangular()))
            if leaves_out:
                needs = needs_of(images)
                assert needs is not None
                counts = active_counts(images) if is_sparse else None
                savings = Savings(counts=counts, needs=needs)
                output = sparse_convolution(images, weight, None, stride, padding, savings)
            else:
                output = functional.conv2d(images, weight, None, stride, padding)
            upstream = (drawn(*output.shape, seed=2) * 16).round() / 16
            found.append([output, *torch.autograd.grad(output, (z, weight), upstream)])
        for expected, actual in zip(*found, strict=True):
            assert torch.equal(expected, actual)
    finally:
        torch.set_num_threads(before)


def test_who_asks_for_gradients_of_spikes_gets_all() -> None:
    """Without a way on to the neurons there is nothing to leave out."""
    images = as_images(sent(sums(2, 2, 9, 6, 6), Rectangular()))
    weight = (drawn(32, 9, 3, 3) * 64).round() / 64
    savings = Savings(counts=None, needs=needs_of(images))
    assert savings.needs is not None
    actual = sparse_convolution(images, weight, None, (1, 1), (1, 1), savings)
    expected = functional.conv2d(images, weight, None, 1, 1)
    upstream = (drawn(*actual.shape, seed=2) * 16).round() / 16
    (gradient,) = torch.autograd.grad(actual, images, upstream)
    assert torch.equal(gradient, torch.autograd.grad(expected, images, upstream)[0])
    assert torch.count_nonzero(gradient) > 0.9 * gradient.numel()


def test_what_decides() -> None:
    """Few gradients that matter are computed alone; of busy neurons, all are."""
    weight = drawn(64, 64, 3, 3)
    for bias, is_quiet in ((-1.5, True), (0.4, False)):
        images = as_images(sent(sums(2, 8, 64, 16, 16), Rectangular(), bias=bias))
        savings = find_savings(images, weight, (1, 1), (1, 1), (1, 1), 1)
        assert (savings is not None and savings.needs is not None) == is_quiet


def test_recomputed_neurons_need_the_same() -> None:
    """Activation checkpointing: the gradients of an ordinary call, to the bit."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(64)
            nn.init.constant_(self.norm.bias, -1.5)
            self.weight = nn.Parameter(drawn(64, 64, 3, 3))

        def forward(self, z: Tensor) -> Tensor:
            images = as_images(normalized_spikes(z, self.norm, LIF(0.5, 0.5, Rectangular())))
            savings = find_savings(images, self.weight, (1, 1), (1, 1), (1, 1), 1)
            assert savings is not None
            assert savings.needs is not None
            return sparse_convolution(images, self.weight, None, (1, 1), (1, 1), savings)

    gradients = []
    for is_recomputed in (False, True):
        block, z = Block(), sums(2, 8, 64, 16, 16)
        output = recomputed(block, z) if is_recomputed else block(z)
        upstream = drawn(*output.shape, seed=2)
        gradients.append(torch.autograd.grad(output, (z, block.weight), upstream))
    for expected, actual in zip(*gradients, strict=True):
        assert torch.equal(expected, actual)
