"""What a conversion refuses: where, what was found, what is allowed, what to do."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

from neurodeploy.conversion.assembly import run_stream, timing_of, with_latency
from neurodeploy.conversion.chaining import lower_rectified
from neurodeploy.conversion.converting import check_limits_of, convert_graph
from neurodeploy.errors import ConversionError, NeurodeployWarning
from neurodeploy.fixedpoint import STATE_MAX
from neurodeploy.ir.float_layers import (
    Addition,
    Conv,
    Dense,
    Flatten,
    Input,
    Layer,
    MaxPool,
    Rectifier,
    Shape,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.simulation import EventSimulator, Feed
from neurodeploy.simulation.synapses import apply_synapse


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(size=shape)


def chain_of(shape: Shape, **nodes: Layer) -> Graph:
    """Return layers in a row."""
    names = ["input", *nodes]
    return Graph(
        nodes={"input": Input(shape=shape), **nodes},
        edges=tuple(pairwise(names)),
    )


def conv(outputs: int, inputs: int, kernel: int = 3, padding: int = 1, **options: object) -> Conv:
    weight = random(outputs, inputs, kernel, kernel)
    return Conv(weight=weight, padding=(padding, padding), **options)  # type: ignore[arg-type]


def dense(outputs: int, inputs: int, bias: float = 0.0) -> Dense:
    weight = random(outputs, inputs) / inputs**0.5
    return Dense(weight=weight, bias=np.full(outputs, bias))


def convert(graph: Graph, frames: np.ndarray | None = None, **options: object) -> object:
    if frames is None:
        frames = np.random.default_rng(1).integers(0, 256, (2, 8, *graph.input.shape)) / 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeurodeployWarning)
        return convert_graph(graph, frames, **options)  # type: ignore[arg-type]


def small() -> Graph:
    return chain_of((6,), fc1=dense(12, 6), relu1=Rectifier(), fc2=dense(4, 12, 0.3))


def test_budget_that_cannot_be_held() -> None:
    wide = chain_of(
        (200,), fc1=dense(300, 200), relu1=Rectifier(), fc2=dense(300, 300), relu2=Rectifier(),
        fc3=dense(4, 300),
    )  # fmt: skip
    with pytest.raises(ConversionError) as refusal:
        convert(wide, error_budget=0.001)
    text = str(refusal.value)
    assert text.startswith("error budget 0.1%: the best that was found is ")
    assert "They are coarsest in 'relu" in text
    assert "more calibration frames (16 were given), a larger budget (--error-budget)" in text
    convert(wide, error_budget=0.001, thresholds="none")  # takes what there is


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (np.ones((3, 7)), r"samples: shape \(3, 7\); frames of \(6,\) are required, as \(seq"),
        (np.full((3, 6), np.inf), "samples: NaN or infinite values; every value must be a number"),
        (np.full((3, 6), 2.0), "samples: every value is 2; frames as the network will see them"),
        (np.array([["a"] * 6]), "samples: <U1; numbers are required"),
        (np.zeros((0, 6)), "one at least"),
    ],
)
def test_wrong_frames(frames: np.ndarray, reason: str) -> None:
    with pytest.raises(ConversionError, match=reason):
        convert(small(), frames)


def test_wrong_labels_and_thresholds() -> None:
    with pytest.raises(
        ConversionError, match=r"labels: float64 of shape \(2, 8\); one integer for"
    ):
        convert(small(), labels=[0.5, 1])
    with pytest.raises(ConversionError, match="thresholds 0: 1 or more, 'auto' or 'none' is all"):
        convert(small(), thresholds=0)


def test_frames_beyond_the_integers_of_the_input() -> None:
    frames = np.random.default_rng(0).random((2, 4, 6))
    conversion = convert(small(), frames, thresholds="none")
    with pytest.raises(ConversionError) as refusal:
        conversion.encode(3 * frames)  # type: ignore[attr-defined]
    assert "at spike exponent 6, 511 are allowed." in str(refusal.value)
    assert "or --spike-exp 3." in str(refusal.value)


def test_dead_network() -> None:
    asleep = chain_of((6,), fc1=dense(12, 6, -50.0), relu1=Rectifier(), fc2=dense(4, 12))
    with pytest.raises(ConversionError, match=r"relu1: no calibration frame activates it.*units"):
        convert(asleep)
    silent = Dense(weight=np.zeros((4, 12)))
    with pytest.raises(ConversionError, match=r"every weight or every result is 0.*trained"):
        convert(chain_of((6,), fc1=dense(12, 6), relu1=Rectifier(), fc2=silent))


def test_overflow_names_layer_channel_and_factor() -> None:
    conversion = convert(small(), thresholds="none")
    graph = conversion.graph  # type: ignore[attr-defined]
    run = run_stream(graph, np.full((1, 2, 6), 100))
    run.messages["relu1"][3] = 40_000
    with pytest.raises(ConversionError) as refusal:
        check_limits_of(graph, run)
    assert str(refusal.value) == (
        "relu1: 40,000 as the message in channel 3, 32,767 are allowed (1.22 times too large), "
        "pipeline fill included. Give calibration frames that show the largest values, or scale "
        "the network down."
    )


@pytest.mark.parametrize("largest", [100, 30_000])
def test_sums_of_a_run_are_of_channels_where_one_does_not_fit(largest: int) -> None:
    conversion = convert(small(), thresholds="none")
    graph = conversion.graph  # type: ignore[attr-defined]
    frames = np.full((2, 3, 6), largest)
    run = run_stream(graph, frames)
    spikes = (
        EventSimulator(graph)
        .run(with_latency(graph, frames), timing=timing_of(graph), feed=Feed.NEURON)
        .spikes
    )
    for sender, layer, sent in zip(graph.names, graph.layers[1:], spikes, strict=False):
        sums = apply_synapse(layer.connections[0].synapse, sent.astype(np.int32), wraps=False)
        most = np.abs(sums.reshape(-1, layer.neurons)).max(axis=0)
        found = run.sums[layer.name]
        if largest == 100:
            assert found.tolist() == [most.max()], sender
        elif most.max() > STATE_MAX:
            assert found.tolist() == most.tolist(), sender
    assert any(len(found) > 1 for found in run.sums.values()) == (largest > 100)


def test_bias_of_the_last_layer_that_no_constant_gives() -> None:
    with pytest.raises(ConversionError) as refusal:
        convert(small(), thresholds=1000)
    text = str(refusal.value)
    assert "its largest bias needs a constant of 64000 message units, 28000 are allowed" in text
    assert "a smaller threshold of the layer before it, help" in text


LOWERED: dict[str, tuple[Graph, str]] = {
    "maps at the end": (
        chain_of((1, 4, 4), conv=conv(2, 1), relu=Rectifier()),
        r"relu: the network ends with maps of \(2, 4, 4\).*End it with a pool or a linear layer",
    ),
    "no rectifier": (chain_of((6,), fc=dense(2, 6)), "no layer of the network is rectified"),
    "pool of negative values": (
        chain_of((1, 4, 4), conv=conv(2, 1), pool=MaxPool(kernel=(2, 2), stride=(2, 2)),
                 relu=Rectifier(), flat=Flatten(), fc=dense(2, 8)),
        r"pool \(MaxPool\): MaxPool of values that may be negative.*Put the ReLU before the pool",
    ),
    "wide kernel": (
        chain_of((1, 140, 1), conv=Conv(weight=np.ones((1, 1, 130, 1))), relu=Rectifier(),
                 flat=Flatten(), fc=dense(2, 11)),
        r"a kernel of \(130, 1\); Lava holds 127 at most along each axis. Use smaller kernels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOWERED)
def test_networks_that_no_chain_holds(name: str) -> None:
    graph, reason = LOWERED[name]
    with pytest.raises(ConversionError, match=reason):
        lower_rectified(graph)


def residual(*body: tuple[str, Layer]) -> Graph:
    """Return a skip connection over layers of four channels on 6x6 pixels."""
    nodes: dict[str, Layer] = {
        "input": Input(shape=(2, 6, 6)), "conv": conv(4, 2), "relu": Rectifier(), **dict(body),
        "add": Addition(), "end": Rectifier(), "flat": Flatten(), "fc": dense(2, 144),
    }  # fmt: skip
    row = ["relu", *(name for name, _ in body), "add", "end", "flat", "fc"]
    return Graph(
        nodes=nodes,
        edges=(("input", "conv"), ("conv", "relu"), *pairwise(row), ("relu", "add")),
    )


def test_skips_that_cannot_be_relayed() -> None:
    first = ("shrink", conv(4, 4)), ("middle", Rectifier())
    lower_rectified(residual(*first, ("grow", conv(4, 4))))
    # the layer between has no place for the last row and column of what the skip brings
    small = ("shrink", conv(4, 4, 2, 0)), ("middle", Rectifier())
    with pytest.raises(ConversionError) as refusal:
        lower_rectified(residual(*small, ("grow", conv(4, 4, 2, 1))))
    assert str(refusal.value) == (
        "the network cannot be converted.\n- middle (Rectifier): with kernel (2, 2) and padding "
        "(0, 0) it makes (5, 5) of (6, 6) pixels, so that a skip connection cannot pass over it "
        "with all of its pixels. Pad by half of an odd kernel."
    )
    wide = Conv(weight=random(4, 4, 2, 2), padding=(1, 1), dilation=(2, 2))
    with pytest.raises(ConversionError, match="the kernels must lie on each other"):
        lower_rectified(residual(("wide", wide)))
