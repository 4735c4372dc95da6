"""Averages fold into weights, maxima become spiking layers, many groups become few."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurodeploy import netx
from neurodeploy.chips.target import Target
from neurodeploy.errors import GraphError, NetxError, QuantizationError
from neurodeploy.ir.float_layers import (
    AveragePool,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Input,
    Integrator,
    Layer,
    MaxPool,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.ir.integer_layers import FixedConv
from neurodeploy.passes import (
    fold_average_pool,
    fold_normalization,
    lower_max_pool,
    merge_groups,
    quantize,
    run_passes,
)
from neurodeploy.simulation import EventSimulator

LOIHI2 = Target.load("loihi2")


def chain(**nodes: Layer) -> Graph:
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(nodes)))


def conv_of(layer: Conv, x: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(
        x,
        torch.from_numpy(layer.weight),
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
    )


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "conv"),
    [
        ((8, 6), (2, 2), (2, 2), (0, 0), {"padding": (1, 1)}),
        ((8, 6), (2, 2), (2, 2), (0, 0), {"stride": (2, 1)}),
        ((9, 9), (3, 3), (3, 3), (0, 0), {"padding": (2, 1), "dilation": (1, 1)}),
        ((9, 7), (3, 3), (2, 2), (0, 0), {}),
        ((12, 12), (2, 2), (2, 2), (0, 0), {"dilation": (2, 2), "padding": (2, 2)}),
        ((8, 8), (4, 2), (2, 2), (1, 0), {"groups": 2}),
    ],
)
def test_a_convolution_of_averages_is_one_convolution(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    conv: dict[str, object],
) -> None:
    rng = np.random.default_rng(0)
    groups = conv.get("groups", 1)
    assert isinstance(groups, int)
    layer = Conv(weight=rng.normal(size=(4, 4 // groups, 3, 3)), **conv)  # type: ignore[arg-type]
    graph = chain(
        input=Input(shape=(4, *size)),
        pool=AveragePool(kernel=kernel, stride=stride, padding=padding),
        conv=layer,
        out=Integrator(),
    )
    folded = run_passes(graph, fold_average_pool)
    after = folded.nodes["conv"]
    assert isinstance(after, Conv)
    assert list(folded.nodes) == ["input", "conv", "out"]
    x = torch.from_numpy(rng.normal(size=(3, 4, *size)))
    expected = conv_of(layer, functional.avg_pool2d(x, kernel, stride, padding))
    # float64 sums in another order
    assert torch.allclose(conv_of(after, x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 1)), ((3, 3), (3, 3), (0, 0))],
)
def test_a_dense_layer_reads_pixels_through_every_window(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    pool = AveragePool(kernel=kernel, stride=stride, padding=padding)
    pooled = pool.output_shape((2, 7, 6))
    dense = Dense(weight=rng.normal(size=(5, int(np.prod(pooled)))))
    graph = chain(
        input=Input(shape=(2, 7, 6)), pool=pool, flat=Flatten(), fc=dense, out=Integrator()
    )
    after = run_passes(graph, fold_average_pool).nodes["fc"]
    assert isinstance(after, Dense)
    x = rng.normal(size=(3, 2, 7, 6))
    means = functional.avg_pool2d(torch.from_numpy(x), kernel, stride, padding).numpy()
    expected = means.reshape(3, -1) @ dense.weight.T
    assert np.abs(x.reshape(3, -1) @ after.weight.T - expected).max() < 1e-12


@pytest.mark.parametrize(
    ("pool", "conv", "message"),
    [
        (AveragePool(kernel=(3, 3), stride=(2, 2)), {"padding": (1, 1)}, "pads with zeros where"),
        (AveragePool(kernel=(2, 2), stride=(2, 2)), {"padding": (1, 1)}, "pads with zeros where"),
    ],
)
def test_windows_beyond_the_border_that_would_hold_pixels_are_refused(
    pool: AveragePool, conv: dict[str, tuple[int, int]], message: str
) -> None:
    graph = chain(
        input=Input(shape=(1, 9, 9)),
        pool=pool,
        conv=Conv(weight=np.ones((1, 1, 3, 3)), **conv),
        out=Integrator(),
    )
    with pytest.raises(GraphError, match=f"pool -> conv: the convolution {message}"):
        fold_average_pool(graph)


def test_averages_read_by_a_neuron_are_refused() -> None:
    graph = chain(
        input=Input(shape=(1, 4, 4)),
        conv=Conv(weight=np.ones((1, 1, 1, 1))),
        pool=AveragePool(kernel=(2, 2), stride=(2, 2)),
        lif=Cuba(threshold=1.0),
    )
    with pytest.raises(GraphError, match="pool: average pool read by 'lif'"):
        fold_average_pool(graph)


@pytest.mark.parametrize("channels", [3, 127, 130, 131])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 1), (1, 1))]
)
def test_a_max_pool_of_spikes_is_a_layer_that_fires_with_any_of_them(
    channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    rng = np.random.default_rng(channels)
    graph = chain(
        input=Input(shape=(channels, 6, 5)),
        conv=Conv(
            weight=np.where(np.arange(channels) % 2, 1.0, 0.6)[:, None, None, None],
            groups=1 if channels == 1 else channels,
        ),
        lif=Cuba(threshold=0.5, current_decay=1.0, voltage_decay=0.0),
        pool=MaxPool(kernel=kernel, stride=stride, padding=padding),
        read=Dense(
            weight=rng.normal(
                size=(
                    2,
                    int(
                        np.prod(
                            MaxPool(kernel=kernel, stride=stride, padding=padding).output_shape(
                                (channels, 6, 5)
                            )
                        )
                    ),
                )
            )
        ),
        out=Integrator(),
    )
    fixed = quantize(run_passes(graph, lower_max_pool), LOIHI2, steps=3)
    assert fixed.names == ("lif", "pool", "out")
    synapse = fixed.layers[1].connections[0].synapse
    assert isinstance(synapse, FixedConv)
    assert synapse.groups == {3: 3, 127: 127, 130: 65, 131: 1}[channels]
    samples = (rng.random((2, 3, channels, 6, 5)) < 0.2).astype(np.int32)
    spikes = EventSimulator(fixed).run(samples).spikes
    sent = torch.from_numpy(spikes[0]).flatten(0, 1).float()
    expected = functional.max_pool2d(sent, kernel, stride, padding).numpy()
    assert np.array_equal(spikes[1].reshape(expected.shape), expected)
    assert 0 < expected.mean() < 1


def test_a_max_pool_of_currents_is_refused() -> None:
    graph = chain(
        input=Input(shape=(1, 4, 4)),
        conv=Conv(weight=np.ones((1, 1, 1, 1))),
        pool=MaxPool(kernel=(2, 2), stride=(2, 2)),
        lif=Cuba(threshold=1.0),
    )
    with pytest.raises(GraphError, match="pool: max pool of 'conv', a Conv; only spikes"):
        lower_max_pool(graph)


def test_pools_that_were_not_lowered_are_refused_by_quantization() -> None:
    graph = chain(
        input=Input(shape=(1, 4, 4)),
        conv=Conv(weight=np.ones((1, 1, 1, 1))),
        lif=Cuba(threshold=0.5),
        pool=MaxPool(kernel=(2, 2), stride=(2, 2)),
        read=Dense(weight=np.ones((1, 4))),
        out=Integrator(),
    )
    with pytest.raises(QuantizationError, match="pool: pooling is not lowered"):
        quantize(graph, LOIHI2, steps=2)


def grouped(rng: np.random.Generator, groups: int, outputs: int, inputs: int) -> Graph:
    """A convolution of so many groups, each of so many output and input channels."""
    weight = rng.normal(0, 1, (groups * outputs, inputs, 2, 3))
    nodes = {
        "input": Input(shape=(groups * inputs, 5, 6)),
        "conv": Conv(weight=weight, groups=groups, padding=(1, 1), stride=(2, 1)),
        "lif": Cuba(threshold=1.0, voltage_decay=0.5),
    }
    return Graph(nodes=nodes, edges=(("input", "conv"), ("conv", "lif")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("groups", "outputs", "inputs", "expected"),
    [
        (128, 1, 1, 64),
        (256, 2, 1, 64),
        (190, 1, 2, 95),
        (131, 1, 1, 1),
        (127, 1, 1, 127),
        (254, 1, 1, 127),
    ],
)
def test_the_function_stays_and_lava_can_hold_the_groups(
    groups: int, outputs: int, inputs: int, expected: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(groups)
    graph = grouped(rng, groups, outputs, inputs)
    merged = merge_groups(graph)
    conv = merged.nodes["conv"]
    assert isinstance(conv, Conv)
    assert conv.groups == expected
    values = torch.from_numpy(rng.normal(0, 1, (2, groups * inputs, 5, 6)))
    ours, reference = (
        torch.nn.functional.conv2d(
            values, torch.from_numpy(c.weight), stride=c.stride, padding=c.padding, groups=c.groups
        )
        for c in (conv, graph.nodes["conv"])
    )
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)  # another order of sums
    target = Target.load("loihi2")
    fixed, plain = (quantize(g, target, steps=3) for g in (merged, graph))
    samples = (rng.random((2, 3, groups * inputs, 5, 6)) < 0.4).astype(np.int32)
    first, second = (EventSimulator(g).run(samples) for g in (fixed, plain))
    assert np.array_equal(first.spikes[0], second.spikes[0])
    assert 0.01 < first.spikes[0].mean() < 0.99
    netx.write(fixed, tmp_path / "merged.net")
    if groups > 127:
        with pytest.raises(NetxError, match="group count of"):
            netx.write(plain, tmp_path / "plain.net")


PIXELS = Input(
    shape=(4, 7, 6),
    largest=256,
    mean=(120.5, 100.0, 33.25, 7.0),
    deviation=(60.0, 50.5, 12.0, 3.0),
)


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (PIXELS.mean, PIXELS.deviation))
    return (pixels - mean) / deviation


@pytest.mark.parametrize(
    ("conv", "has_positions"),
    [
        ({}, False),
        ({"padding": (1, 1)}, True),
        ({"padding": (3, 0), "stride": (2, 1), "dilation": (2, 1)}, True),
        ({"padding": (1, 2), "groups": 2}, True),
        ({"stride": (2, 2), "groups": 4}, False),
    ],
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_mean_and_deviation_fold_into_the_first_convolution(
    conv: dict[str, object], has_positions: bool, has_bias: bool
) -> None:
    """Normalised zeros around the image: in pixels they are means, not black."""
    rng = np.random.default_rng(3)
    groups = conv.get("groups", 1)
    assert isinstance(groups, int)
    layer = Conv(
        weight=rng.normal(size=(8, 4 // groups, 3, 3)),
        bias=rng.normal(size=8) if has_bias else None,
        **conv,  # type: ignore[arg-type]
    )
    folded = fold_normalization(chain(input=PIXELS, conv=layer, lif=Cuba(threshold=1.0)))
    assert (folded.input.mean, folded.input.deviation) == ((), ())
    (ours,) = (node for node in folded.nodes.values() if isinstance(node, Conv))
    assert ours.bias is not None
    assert ours.bias.ndim == (3 if has_positions else 1)
    pixels = torch.from_numpy(rng.integers(0, 256, (5, 4, 7, 6)).astype(np.float64))
    expected = conv_of(layer, normalized(pixels))
    if layer.bias is not None:
        expected = expected + torch.from_numpy(layer.bias)[:, None, None]
    bias = torch.from_numpy(ours.bias.reshape(8, *(ours.bias.shape[1:] or (1, 1))))
    # Sums of up to 36 products, a few hundred units each, in float64.
    torch.testing.assert_close(conv_of(ours, pixels) + bias, expected, rtol=0, atol=1e-10)


def test_mean_and_deviation_fold_into_a_dense_layer() -> None:
    rng = np.random.default_rng(4)
    layer = Dense(weight=rng.normal(size=(3, 4 * 7 * 6)), bias=rng.normal(size=3))
    folded = fold_normalization(
        chain(input=PIXELS, flat=Flatten(), fc=layer, lif=Cuba(threshold=1.0))
    )
    ours = folded.nodes["fc"]
    assert isinstance(ours, Dense)
    pixels = torch.from_numpy(rng.integers(0, 256, (5, 4, 7, 6)).astype(np.float64))
    given, expected = (
        values.flatten(1) @ torch.from_numpy(dense.weight).T + torch.from_numpy(dense.bias)
        for values, dense in ((pixels, ours), (normalized(pixels), layer))
    )
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-10)


def test_a_normalized_input_is_not_quantized_and_not_pooled() -> None:
    graph = chain(input=PIXELS, conv=Conv(weight=np.ones((1, 4, 1, 1))), lif=Cuba(threshold=1.0))
    with pytest.raises(QuantizationError, match="Run fold_normalization first"):
        quantize(graph, LOIHI2, steps=1)
    pooled = chain(input=PIXELS, pool=AveragePool(kernel=(2, 2), stride=(2, 2)))
    with pytest.raises(GraphError, match="input -> pool: the normalized input is read by"):
        fold_normalization(pooled)


def test_biases_by_position_are_quantized_and_written(tmp_path: Path) -> None:
    """The integers near the border are those of the folded floats, in our file as well."""
    rng = np.random.default_rng(5)
    graph = fold_normalization(
        chain(
            input=PIXELS,
            conv=Conv(weight=rng.normal(size=(5, 4, 3, 3)), padding=(1, 1)),
            lif=Cuba(threshold=1.0, voltage_decay=0.5),
            flat=Flatten(),
            read=Dense(weight=rng.normal(size=(2, 5 * 7 * 6))),
            out=Integrator(),
        )
    )
    folded = graph.nodes["conv"]
    assert isinstance(folded, Conv)
    assert folded.bias is not None
    scales = {"lif": 250.0, "out": 20.0}
    fixed = quantize(graph, LOIHI2, steps=3, scales=scales)
    assert np.array_equal(fixed.layers[0].bias, np.rint(folded.bias * 250.0))
    assert len(np.unique(fixed.layers[0].bias[0])) == 9  # corners, edges and the middle
    netx.write(fixed, tmp_path / "image.net")
    read = netx.read(tmp_path / "image.net")
    samples = np.repeat(rng.integers(0, 256, (6, 1, 4, 7, 6)), 3, axis=1)
    ours, theirs = (EventSimulator(g).run(samples) for g in (fixed, read))
    assert 0 < ours.spikes[0].mean() < 1
    for first, second in zip(ours.spikes, theirs.spikes, strict=True):
        assert np.array_equal(first, second.reshape(first.shape))
