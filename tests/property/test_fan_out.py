"""Fan-out maps of convolutions against torch's, and against single taps, in every geometry."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from neurodeploy.counting.fan_out import conv_fan_out
from neurodeploy.counting.synapse_counts import (
    count_layer,
)
from neurodeploy.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def gradient_map(module: nn.Module, source: tuple[int, ...], weight: np.ndarray) -> np.ndarray:
    """Fan-out by definition: the gradient of the sum of outputs with weights of one or zero."""
    module = module.double()
    module.weight.data = torch.from_numpy((weight != 0).astype(np.float64))
    frame = torch.ones((1, *source), dtype=torch.float64, requires_grad=True)
    module(frame).sum().backward()
    return frame.grad[0].round().to(torch.int64).numpy()


@settings(max_examples=80, deadline=None)
@given(
    rng=generators,
    axes=st.integers(1, 3),
    mode=st.sampled_from(["zeros", "zeros", "circular", "reflect", "replicate"]),
    groups=st.integers(1, 2),
    data=st.data(),
)
def test_maps_are_gradients_of_torch(rng, axes, mode, groups, data):
    def numbers(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, dilation, padding = (
        numbers(1, 3), numbers(1, 3), numbers(1, 2), numbers(0, 2)
    )  # fmt: skip
    space = tuple(
        max(3, d * (k - 1) + 1) + int(rng.integers(3))
        for k, d in zip(kernel, dilation, strict=True)
    )
    if data.draw(st.booleans()) and mode == "zeros":
        padding, stride = "same", (1,) * axes
    inputs, outputs = 2 * groups, groups * int(rng.integers(1, 3))
    weight = rng.integers(-1, 2, (outputs, inputs // groups, *kernel))
    module = CONVS[axes](
        inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation,
        groups=groups, bias=False, padding_mode=mode,
    )  # fmt: skip
    geometry = {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        "padding_mode": mode,
    }  # fmt: skip
    found = conv_fan_out(weight, (inputs, *space), **geometry)
    assert np.array_equal(found.nonzero, gradient_map(module, (inputs, *space), weight))
    ones = np.ones_like(weight)
    assert np.array_equal(found.stored, gradient_map(module, (inputs, *space), ones))
    positions = module(torch.zeros((1, inputs, *space), dtype=torch.float64)).numel()
    assert found.dense_macs == positions * weight[0].size
    if mode != "zeros":  # no tap reads nothing
        assert found.dense_exact == found.dense_macs


@settings(max_examples=40, deadline=None)
@given(rng=generators, axes=st.integers(1, 3), groups=st.integers(1, 2), data=st.data())
def test_transposed_maps_are_gradients_of_torch(rng, axes, groups, data):
    def numbers(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, dilation = numbers(1, 3), numbers(1, 3), numbers(1, 2)
    padding = tuple(
        data.draw(st.integers(0, d * (k - 1))) for k, d in zip(kernel, dilation, strict=True)
    )
    extra = tuple(
        data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    space = tuple(2 + int(rng.integers(3)) + p for p in padding)
    inputs, outputs = 2 * groups, groups * int(rng.integers(1, 3))
    weight = rng.integers(-1, 2, (inputs, outputs // groups, *kernel))
    module = TRANSPOSED[axes](
        inputs, outputs, kernel, stride=stride, padding=padding, output_padding=extra,
        dilation=dilation, groups=groups, bias=False,
    )  # fmt: skip
    found = conv_fan_out(
        weight, (inputs, *space), stride=stride, padding=padding, dilation=dilation,
        groups=groups, is_transposed=True, output_padding=extra,
    )  # fmt: skip
    assert np.array_equal(found.nonzero, gradient_map(module, (inputs, *space), weight))


@pytest.mark.parametrize(
    ("name", "size", "kernel", "stride", "pads"),
    [
        ("same", 5, 2, 1, (0, 1)),
        ("same_lower", 5, 2, 1, (1, 0)),
        ("same", 6, 3, 2, (0, 1)),
        ("same", 7, 3, 2, (1, 1)),
        ("valid", 7, 3, 2, (0, 0)),
    ],
)
def test_named_padding(name, size, kernel, stride, pads):
    weight = np.ones((1, 1, kernel), int)
    named = conv_fan_out(weight, (1, size), stride=stride, padding=name)
    given_ = conv_fan_out(weight, (1, size), stride=stride, padding=pads[0], padding_after=pads[1])
    assert np.array_equal(named.stored, given_.stored)
    assert named.dense_macs == given_.dense_macs


def test_one_call_takes_any_layer():
    rng = np.random.default_rng(1)
    spikes = rng.integers(0, 2, (2, 3, 4, 5, 5))
    conv = rng.integers(-1, 2, (6, 2, 3, 3))
    counted = count_layer(conv, spikes, kind="binary", padding="same", groups=2)
    expected = [0, 0]
    for (s, _, c, y, x), (ky, kx) in product(np.argwhere(spikes), product(range(3), range(3))):
        if 0 <= y + 1 - ky < 5 and 0 <= x + 1 - kx < 5:
            group = c // 2
            expected[s] += int(np.count_nonzero(conv[3 * group : 3 * group + 3, c % 2, ky, kx]))
    assert counted.sops.tolist() == expected
    own = rng.integers(0, 2, (2, 3, 4))
    back = rng.integers(-1, 2, (4, 4))
    again = count_layer(back, own, kind="binary", is_recurrent=True)
    first = count_layer(back, own[:, :2], kind="binary")
    assert again.sops.tolist() == first.sops.tolist()
    frame, window = np.ones((1, 1, 2, 5, 5), int), np.ones((2, 1, 2, 2), int)
    pooled = count_layer(window, frame, kind="binary", stride=2, groups=2)
    assert pooled.sops.tolist() == [32]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "loud"}, "kind 'loud'"),
        ({"kind": "binary", "padding": "full"}, "padding 'full'"),
        ({"kind": "binary", "padding": 5, "padding_mode": "reflect"}, "mode 'reflect'"),
        ({"kind": "binary", "padding_mode": "mirror"}, "padding_mode 'mirror'"),
        ({"kind": "binary", "is_recurrent": True}, "recurrent"),
        ({"kind": "binary", "is_transposed": True, "padding": "same"}, "padding 'same'"),
    ],
)
def test_refuses_what_makes_no_sense(options, message):
    with pytest.raises(DataError, match=message):
        count_layer(np.ones((1, 1, 2, 2), int), np.ones((1, 1, 1, 3, 3), int), **options)
