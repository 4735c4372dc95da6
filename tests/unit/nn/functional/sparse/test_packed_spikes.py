"""Spikes kept as bits by torch's convolutions and by skip connections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurodeploy.nn.functional.sparse.packed_spikes import (
    Sliding,
    convolution_of_bits,
    pack,
    unpack,
)


def spikes(*shape: int) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()


@pytest.mark.parametrize("size", [64, 1000, 1024])
def test_bits_become_the_same_numbers_again(size: int) -> None:
    x = spikes(300, size)
    words = pack(x, 300)
    assert words is not None
    found = np.full((2, size), 7, np.float32)
    unpack(words, (3, 5), found)
    assert np.array_equal(found, x[3:5].numpy())


def test_other_values_and_runs_without_gradients_are_not_packed() -> None:
    x = spikes(40, 1000)
    for value in (0.5, -1.0, 2.0, float("nan")):
        for place in (0, 999):
            other = x.clone()
            other[39, place] = value
            assert pack(other, 40) is None
    with torch.no_grad():
        assert pack(x, 40) is None
    assert pack(x.double(), 40) is None
    assert pack(x[:, ::2], 40) is None


@pytest.mark.parametrize(
    ("kernel", "sliding"),
    [(3, Sliding((1, 1), (1, 1), (1, 1), 1)), (3, Sliding((2, 1), (0, 1), (1, 2), 2))],
)
def test_a_convolution_keeps_bits_and_gives_torchs_gradients(kernel: int, sliding: Sliding) -> None:
    weight = torch.randn(
        6, 4 // sliding.groups, kernel, kernel, generator=torch.Generator().manual_seed(1)
    )
    results = []
    for compute in (convolution_of_bits, None):
        images = spikes(12, 21, 21, 4).permute(0, 3, 1, 2).requires_grad_()
        w = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
        bias = torch.zeros(6, requires_grad=True)
        y = (
            functional.conv2d(images, w, bias, *sliding)
            if compute is None
            else compute(images, w, bias, sliding)
        )
        if compute is not None:
            assert y.grad_fn is not None
            saved = [one for one in y.grad_fn.saved_tensors if one is not None]
            assert sum(one.numel() for one in saved if one is not w) < images.numel() / 32
        y.square().sum().backward()
        results.append((y, images.grad, w.grad, bias.grad))
    for mine, theirs in zip(*results, strict=True):
        # The same products; sums of the bias in another order.
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
