"""The float64 run against torch, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurodeploy.errors import GraphError
from neurodeploy.interchange.floating import apply, run_graph
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    MaxPool,
)
from neurodeploy.ir.graphs import Graph

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1)),
        ((2, 3), (2, 1), (0, 2), (1, 2)),
        ((1, 1), (1, 1), (0, 0), (1, 1)),
    ],
)
def test_convolution_is_torchs(
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    value = RNG.normal(size=(2, 3, 4, 7, 6))
    weight, bias = RNG.normal(size=(8, 4 // groups, *kernel)), RNG.normal(size=8)
    layer = Conv(
        weight=weight, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    theirs = functional.conv2d(
        torch.from_numpy(value.reshape(6, 4, 7, 6)),
        torch.from_numpy(weight),
        torch.from_numpy(bias),
        stride,
        padding,
        dilation,
        groups,
    )
    ours = apply(layer, value)
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs.numpy(), atol=1e-12)
    assert ours.shape[2:] == layer.output_shape((4, 7, 6))


@pytest.mark.parametrize(("kind", "theirs"), [
    (MaxPool, functional.max_pool2d), (AveragePool, functional.avg_pool2d)
])  # fmt: skip
def test_pools_are_torchs(kind: type, theirs: object) -> None:
    value = RNG.random(size=(1, 2, 3, 7, 6))
    layer = kind(kernel=(3, 2), stride=(2, 2), padding=(1, 0))
    expected = theirs(torch.from_numpy(value[0]), (3, 2), (2, 2), (1, 0))  # type: ignore[operator]
    np.testing.assert_allclose(apply(layer, value)[0], expected.numpy(), atol=1e-12)


def test_the_other_layers() -> None:
    value = RNG.normal(size=(2, 3, 4, 5, 6))
    np.testing.assert_array_equal(apply(Flatten(), value), value.reshape(2, 3, 120))
    np.testing.assert_allclose(apply(GlobalAveragePool(), value), value.mean(axis=(3, 4)))
    scale, shift = RNG.normal(size=4), RNG.normal(size=4)
    normed = apply(BatchNorm(scale=scale, shift=shift), value)
    np.testing.assert_allclose(normed[:, :, 2], value[:, :, 2] * scale[2] + shift[2])
    with pytest.raises(GraphError, match="type Cuba cannot be run"):
        apply(Cuba(threshold=1.0), value)


def test_a_neuron_by_hand() -> None:
    """u halves, v keeps three quarters, a drive of 1/8, fires above 1, and reads itself."""
    graph = Graph(
        nodes={
            "in": Input(shape=(1,)),
            "fc": Dense(weight=np.array([[1.0]])),
            "lif": Cuba(
                threshold=1.0, current_decay=0.5, voltage_decay=0.25, bias=np.array([0.125])
            ),
            "rec": Dense(weight=np.array([[-0.5]]), bias=np.array([0.25])),
            "out": Dense(weight=np.array([[2.0]])),
            "sum": Integrator(voltage_decay=0.5, bias=np.array([1.0])),
        },
        edges=(
            ("in", "fc"), ("fc", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "out"),
            ("out", "sum"),
        ),
    )  # fmt: skip
    graph.check()
    run = run_graph(graph, np.array([1.0, 0.0, 0.0, 1.0]).reshape(1, 4, 1))
    # u: 1.25, .625 + .25 - .5 = .375, .1875 + .25 = .4375, .21875 + 1.25 = 1.46875
    # v: 1.375 fires, .5, .375 + .4375 + .125 = .9375, .703125 + 1.46875 + .125 fires
    assert run.values["lif"].ravel().tolist() == [1, 0, 0, 1]
    np.testing.assert_allclose(run.margins["lif"][0], [0.375, 0.5, 0.0625, 1.296875])
    # 2 + 1, 1.5 + 1, 1.25 + 1, 1.125 + 2 + 1
    np.testing.assert_allclose(run.values["sum"].ravel(), [3.0, 2.5, 2.25, 4.125])


@pytest.mark.parametrize(("at", "spikes"), [(False, [0, 0]), (True, [1, 1])])
def test_a_voltage_equal_to_the_threshold(at: bool, spikes: list[int]) -> None:
    graph = Graph(
        nodes={
            "in": Input(shape=(1,)),
            "fc": Dense(weight=np.array([[1.0]])),
            "lif": Cuba(threshold=1.0, voltage_decay=1.0, fires_at_threshold=at),
        },
        edges=(("in", "fc"), ("fc", "lif")),
    )
    assert run_graph(graph, np.ones((1, 2, 1))).values["lif"].ravel().tolist() == spikes
