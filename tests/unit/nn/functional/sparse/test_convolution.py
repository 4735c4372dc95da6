"""Convolutions that skip zeros against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurodeploy.nn.functional.sparse.convolution import (
    count_events,
    count_if_sparse,
    most_worthwhile,
    sparse_convolution as convolution,
)
from neurodeploy.nn.synapse import ConvSynapse

Pair = tuple[int, int]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spikes(*shape: int, share: float = 0.1) -> Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(7)) < share
    return values.float().contiguous(memory_format=torch.channels_last)


def sparse_convolution(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
) -> Tensor:
    """Skip zero inputs, however many there are."""
    return convolution(images, weight, bias, stride, padding, count_events(images))


CASES: list[tuple[Pair, Pair, Pair]] = [
    ((3, 3), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1)),
    ((5, 3), (2, 1), (0, 2)),
    ((2, 4), (1, 3), (1, 0)),
    ((3, 2), (4, 4), (2, 1)),
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
@pytest.mark.parametrize(("outputs", "threads"), [(6, 1), (90, 2), (128, 1)])
def test_exact_sums_are_equal_to_the_bit(
    kernel: Pair, stride: Pair, padding: Pair, outputs: int, threads: int
) -> None:
    """Spikes and quantised weights: whatever the order, the same sums, and the same gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = []
        for is_sparse in (False, True):
            images = spikes(9, 33, 8, 11).requires_grad_()
            weight = ((drawn(outputs, 33, *kernel) * 64).round() / 64).requires_grad_()
            output = (
                sparse_convolution(images, weight, None, stride, padding)
                if is_sparse
                else functional.conv2d(images, weight, None, stride, padding)
            )
            upstream = (drawn(*output.shape, seed=2) * 16).round() / 16
            of_images, of_weight = torch.autograd.grad(output, (images, weight), upstream)
            results.append((output.detach(), of_images, of_weight))
        for expected, actual in zip(*results, strict=True):
            assert torch.equal(expected, actual)
    finally:
        torch.set_num_threads(before)


def test_images_without_events() -> None:
    """Nothing in, nothing out: some images are empty, the last included."""
    images = spikes(6, 16, 5, 5)
    images[[0, 3, 5]] = 0
    weight = drawn(32, 16, 3, 3).requires_grad_()
    output = sparse_convolution(images, weight, None, (1, 1), (1, 1))
    assert not output[[0, 3, 5]].any()
    (gradient,) = torch.autograd.grad(output.sum(), weight)
    expected = functional.conv2d(images, weight, None, 1, 1)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), weight)[0])
    nothing = sparse_convolution(torch.zeros(2, 16, 5, 5), weight, None, (1, 1), (1, 1))
    assert not torch.autograd.grad(nothing.sum(), weight)[0].any()


def test_analogue_inputs_and_bias() -> None:
    """Other sums differ by float32's rounding only."""
    images = spikes(5, 16, 9, 9) * drawn(5, 16, 9, 9)
    weight, bias = drawn(32, 16, 3, 3), drawn(32, seed=4).requires_grad_()
    expected = functional.conv2d(images, weight, bias, 1, 1)
    actual = sparse_convolution(images, weight, bias, (1, 1), (1, 1))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(actual.sum(), bias)
    assert gradient.tolist() == [5.0 * 81] * 32


def test_result_does_not_depend_on_the_threads() -> None:
    """Gradients of the weights are summed in one order."""
    before = torch.get_num_threads()
    gradients = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            weight = drawn(16, 64, 3, 3).requires_grad_()
            output = sparse_convolution(spikes(12, 64, 6, 6), weight, None, (1, 1), (1, 1))
            (gradient,) = torch.autograd.grad(output, weight, drawn(*output.shape, seed=2))
            gradients.append(gradient)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("stride", [1, 2])
def test_weights_in_pieces(monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    """Channels and images apart, unevenly: the same gradient as at once."""
    monkeypatch.setattr("neurodeploy.nn.functional.sparse.convolution._WEIGHTS_AT_ONCE", 4096)
    images, weight = spikes(43, 33, 6, 5), ((drawn(36, 33, 3, 3) * 64).round() / 64)
    weight.requires_grad_()
    gradients = []
    for is_sparse in (False, True):
        output = (
            sparse_convolution(images, weight, None, (stride, stride), (1, 1))
            if is_sparse
            else functional.conv2d(images, weight, None, stride, 1)
        )
        upstream = (drawn(*output.shape, seed=2) * 16).round() / 16
        gradients.append(torch.autograd.grad(output, weight, upstream)[0])
    assert torch.equal(*gradients)


def test_what_decides() -> None:
    """Quiet inputs of a big convolution are worth it; busy, small or grouped ones are not."""

    def decides(images: Tensor, weight: Tensor, stride: Pair, dilation: Pair, groups: int) -> bool:
        return count_if_sparse(images, weight, stride, dilation, groups) is not None

    weight = drawn(64, 64, 3, 3)
    quiet, busy = spikes(16, 64, 16, 16, share=0.04), spikes(16, 64, 16, 16, share=0.5)
    assert count_events(quiet).tolist() == quiet.sum((1, 2, 3)).tolist()
    one = (1, 1)
    assert decides(quiet, weight, one, one, 1)
    assert not decides(busy, weight, one, one, 1)
    assert not decides(spikes(16, 3, 64, 64, share=0.01), drawn(64, 3, 3, 3), one, one, 1)
    assert not decides(quiet[:1], weight, one, one, 1)
    assert not decides(quiet, weight[:, :32], one, one, 2)
    assert not decides(quiet, weight[:8], one, one, 1)
    assert not decides(quiet, weight[:48], (2, 2), one, 1)
    assert decides(quiet, weight, (2, 2), one, 1)
    assert not decides(quiet, weight, one, (2, 2), 1)
    assert not decides(quiet.double(), weight.double(), one, one, 1)


@pytest.mark.parametrize(
    ("has_avx512", "percent"), [(False, [10.6, 16.3, 22, 22]), (True, [4.9, 7.5, 10.2, 14.9])]
)
def test_limits_of_both_kinds_of_processors(
    monkeypatch: pytest.MonkeyPatch, has_avx512: bool, percent: list[float]
) -> None:
    """The more products an input has, the more inputs may be there, but never over 22 %."""
    monkeypatch.setattr(
        "neurodeploy.nn.functional.sparse.convolution.get_host_cpu_features",
        lambda: {"avx512f": has_avx512},
    )
    most_worthwhile.cache_clear()
    try:
        limits = [most_worthwhile(reached) for reached in (144, 288, 576, 4608)]
    finally:
        most_worthwhile.cache_clear()
    assert [round(100 * limit, 1) for limit in limits] == percent


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_counts_of_any_size(share: float) -> None:
    """Whole vectors of values and what is left over, in the last image as well."""
    images = spikes(3, 5, 7, 9, share=share) * -0.5
    assert count_events(images).tolist() == (images != 0).sum((1, 2, 3)).tolist()
    weight = (drawn(40, 5, 3, 3) * 64).round() / 64
    actual = sparse_convolution(images, weight, None, (1, 1), (1, 1))
    assert torch.equal(actual, functional.conv2d(images, weight, None, 1, 1))


def test_negative_zeros_are_no_events_and_other_numbers_are() -> None:
    """Of floats, -0.0 equals zero; infinity and not a number differ from it."""
    images = torch.full((2, 64, 2, 2), -0.0).contiguous(memory_format=torch.channels_last)
    images[1, 3, 0, 1], images[1, 60, 1, 1], images[1, 0, 0, 0] = torch.nan, torch.inf, 1e-45
    assert count_events(images).tolist() == [0, 3]


def test_hooks_see_every_gradient_of_the_inputs() -> None:
    """The gradient of inputs that are zero is computed, as for any convolution."""
    images, weight = spikes(4, 16, 6, 6).requires_grad_(), (drawn(32, 16, 3, 3) * 64).round() / 64
    noted: list[Tensor] = []
    images.register_hook(noted.append)
    sparse_convolution(images, weight, None, (1, 1), (1, 1)).sum().backward()
    (expected,) = torch.autograd.grad(functional.conv2d(images, weight, None, 1, 1).sum(), images)
    assert torch.equal(noted[0], expected)
    assert torch.equal(images.grad, expected)


def test_synapses_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution gives the same with and without."""
    synapse = ConvSynapse(64, 64, 3, 1, 1)
    inputs = spikes(16, 64, 16, 16, share=0.05).view(4, 4, 64, 16, 16)
    calls: list[int] = []

    def counted(*arguments: object) -> Tensor:
        calls.append(len(arguments))
        return convolution(*arguments)  # type: ignore[arg-type]  # what conv2d would get

    monkeypatch.setattr("neurodeploy.nn.synapse.sparse_convolution", counted)
    actual = synapse(inputs)
    monkeypatch.setattr("neurodeploy.nn.synapse.count_if_sparse", lambda *_: None)
    expected = synapse(inputs)
    assert len(calls) == 1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
