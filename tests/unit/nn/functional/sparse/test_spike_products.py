"""Products with spikes as bits against torch's, with numbers whose sums are exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurodeploy.nn.functional.sparse import spike_products
from neurodeploy.nn.functional.sparse.spike_products import (
    convolve,
    linear,
    pack_images,
    pack_rows,
)
from neurodeploy.nn.synapse import ConvSynapse

Pair = tuple[int, int]
ONE: Pair = (1, 1)


def whole(*shape: int, seed: int = 0) -> Tensor:
    """Return whole numbers of up to eight bits."""
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed)).float()


def spikes(*shape: int, share: float = 0.2) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share).float()


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [
        ((2, 64), 640, 64),
        ((3, 65), 450, 130),
        ((1, 1100), 1, 65),
        ((10, 60), 63, 1),
        ((128,), 70, 9),
    ],
)
def test_sums_and_gradients_are_those_of_torch(
    rows: tuple[int, ...],
    inputs: int,
    outputs: int,
    has_bias: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit: whole words of spikes and what is left over, one piece of the result and many."""
    monkeypatch.setattr(spike_products, "FEWEST_PRODUCTS", 0)
    upstream, results = whole(*rows, outputs, seed=2), []
    for function in (linear, functional.linear):
        x, weight = spikes(*rows, inputs).requires_grad_(), whole(outputs, inputs).requires_grad_()
        bias = whole(outputs, seed=3).requires_grad_() if has_bias else None
        result = function(x, weight, bias)
        assert pack_rows(x.flatten(0, -2), weight) is not None
        result.backward(upstream)
        results.append((result, x.grad, weight.grad, None if bias is None else bias.grad))
    for found, wanted in zip(*results, strict=True):
        assert (found is None) == (wanted is None)
        assert found is None or torch.equal(found, wanted)


def test_threads_change_nothing() -> None:
    x, before, results = spikes(1500, 300), torch.get_num_threads(), []
    weight = torch.randn(200, 300, generator=torch.Generator().manual_seed(0)).requires_grad_()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            result = linear(x, weight, None)
            (gradient,) = torch.autograd.grad(result.square().sum(), weight)
            results.append((result, gradient))
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(found, results[0], strict=True))
    wanted = functional.linear(x, weight).detach()
    # Sums of some hundred float32 terms in another order.
    assert float((results[0][0].detach() - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def images(*shape: int, share: float = 0.2) -> Tensor:
    return spikes(*shape, share=share).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3), (1, 1), (1, 1)),
        ((3, 3), (2, 2), (1, 1)),
        ((5, 3), (2, 1), (0, 2)),
        ((2, 4), (1, 3), (1, 0)),
        ((1, 1), (1, 1), (0, 0)),
    ],
)
@pytest.mark.parametrize(("outputs", "has_bias", "threads"), [(40, True, 1), (150, False, 2)])
def test_convolutions_are_those_of_torch(
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    outputs: int,
    has_bias: bool,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit, with spikes and whole weights, in all gradients as well."""
    monkeypatch.setattr(spike_products, "FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(spike_products, "FEWEST_READ", 0)
    before, results = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for is_packed in (True, False):
            x = images(9, 33, 8, 11).requires_grad_()
            weight = whole(outputs, 33, *kernel).requires_grad_()
            bias = whole(outputs, seed=3).requires_grad_() if has_bias else None
            assert pack_images(x, weight, stride, padding) is not None
            result = (
                convolve(x, weight, bias, stride, padding, ONE, 1)
                if is_packed
                else functional.conv2d(x, weight, bias, stride, padding)
            )
            upstream = whole(*result.shape, seed=2)
            leaves = [x, weight, *([] if bias is None else [bias])]
            results.append((result, *torch.autograd.grad(result, leaves, upstream)))
    finally:
        torch.set_num_threads(before)
    for found, wanted in zip(*results, strict=True):
        assert torch.equal(found, wanted)
    assert results[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan"), float("inf"), 1e-45])
@pytest.mark.parametrize("place", [0, 600])
def test_what_is_no_spike_goes_through_torch(value: float, place: int) -> None:
    """Within a whole word, and in what is left over behind the last."""
    x, weight = spikes(256, 601), whole(64, 601)
    assert pack_rows(x, weight) is not None
    x[200, place] = value
    assert pack_rows(x, weight) is None
    found, wanted = linear(x, weight, None), functional.linear(x, weight)
    assert torch.equal(found.nan_to_num(7), wanted.nan_to_num(7))


def test_negative_zeros_are_no_spikes() -> None:
    x, weight = spikes(256, 600), whole(64, 600)
    x[x == 0] = -0.0
    assert pack_rows(x, weight) is not None
    assert torch.equal(linear(x, weight, None), functional.linear(x, weight))


@pytest.mark.parametrize(
    ("x", "outputs"),
    [
        (spikes(256, 600, share=0.6), 64),
        (spikes(127, 600), 64),
        (spikes(256, 300), 32),
        (spikes(256, 600).double(), 64),
        (spikes(600, 256).t(), 64),
    ],
    ids=["many spikes", "few rows", "few products", "float64", "another order"],
)
def test_maps_that_would_not_gain_go_through_torch(x: Tensor, outputs: int) -> None:
    weight = whole(outputs, x.shape[1]).to(x.dtype)
    assert pack_rows(x, weight) is None
    assert linear(x, weight, None).equal(functional.linear(x, weight))


def test_convolutions_that_would_not_gain_go_through_torch() -> None:
    weight, quiet = whole(64, 64, 3, 3), images(8, 64, 16, 16)

    def gains(x: Tensor, weight: Tensor) -> bool:
        return pack_images(x, weight, ONE, ONE) is not None

    assert gains(quiet, weight)
    assert gains(quiet, weight[:32])
    assert gains(images(8, 64, 16, 16, share=0.4), weight)
    assert not gains(images(8, 64, 16, 16, share=0.4), weight[:32])
    assert not gains(images(8, 64, 16, 16, share=0.6), weight)
    assert not gains(quiet, weight[:16])
    assert not gains(quiet[:, :8].contiguous(memory_format=torch.channels_last), weight[:, :8])
    assert not gains(quiet[:, :, :2, :2].contiguous(memory_format=torch.channels_last), weight)
    assert not gains(quiet.contiguous(), weight)
    assert not gains(quiet.double(), weight.double())


@pytest.mark.parametrize(("dilation", "groups"), [((2, 2), 1), ((1, 1), 2)])
def test_dilated_and_grouped_convolutions_go_through_torch(dilation: Pair, groups: int) -> None:
    x, weight = images(8, 64, 16, 16), whole(64, 64 // groups, 3, 3)
    found = convolve(x, weight, None, ONE, ONE, dilation, groups)
    assert found.equal(functional.conv2d(x, weight, None, ONE, ONE, dilation, groups))


def test_hooks_see_every_gradient_of_the_spikes() -> None:
    """The gradient of inputs that are zero is computed, as for any convolution."""
    x, weight = images(8, 64, 16, 16).requires_grad_(), whole(64, 64, 3, 3)
    noted: list[Tensor] = []
    x.register_hook(noted.append)
    convolve(x, weight, None, ONE, ONE, ONE, 1).sum().backward()
    (expected,) = torch.autograd.grad(functional.conv2d(x, weight, None, ONE, ONE).sum(), x)
    assert torch.equal(noted[0], expected)


def test_synapses_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    synapse = ConvSynapse(64, 64, 3, 1, 1)
    x, results = images(16, 64, 16, 16).view(4, 4, 64, 16, 16), []
    for most in (1.0, 0.0):
        monkeypatch.setattr(spike_products, "MOST", most)
        results.append(synapse(x))
    assert "SpikeConvolution" in type(results[0].grad_fn.next_functions[0][0]).__name__
    assert "SpikeConvolution" not in type(results[1].grad_fn.next_functions[0][0]).__name__
    # Sums of some hundred float32 terms in another order.
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
