"""Products with spikes as bits against torch's, with numbers whose sums are exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurodeploy.nn.functional.sparse import spike_products
from neurodeploy.nn.functional.sparse.spike_products import linear, pack_if_worthwhile


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
        assert pack_if_worthwhile(x.flatten(0, -2), weight) is not None
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


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 600])
def test_what_is_no_spike_goes_through_torch(value: float, place: int) -> None:
    """Within a whole word, and in what is left over behind the last."""
    x, weight = spikes(256, 601), whole(64, 601)
    assert pack_if_worthwhile(x, weight) is not None
    x[200, place] = value
    assert pack_if_worthwhile(x, weight) is None
    assert linear(x, weight, None).equal(functional.linear(x, weight)) or value != value


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
def test_what_would_not_gain_goes_through_torch(x: Tensor, outputs: int) -> None:
    weight = whole(outputs, x.shape[1]).to(x.dtype)
    assert pack_if_worthwhile(x, weight) is None
    assert linear(x, weight, None).equal(functional.linear(x, weight))


def test_without_gradients_nothing_is_kept_for_them() -> None:
    x, weight = spikes(256, 600), whole(64, 600).requires_grad_()
    with torch.no_grad():
        bits = pack_if_worthwhile(x, weight)
    assert bits is not None
    assert bits.turned.size == 0
