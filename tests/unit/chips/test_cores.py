"""Core estimates: the worked examples, and small layers counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from neurodeploy.chips.cores import axon_bits, estimate_cores
from neurodeploy.chips.layer_sizes import (
    LayerSize,
    conv_instances,
    parse_sketch,
    weight_bits_of,
)
from neurodeploy.chips.target import Target
from neurodeploy.cli.app import make_app
from neurodeploy.errors import GraphError, TargetError
from neurodeploy.ir.integer_layers import FixedConv

PILOTNET = "3x66x200-24c3s2-36c3s2-48c3s2-64c3s2,1p1,0-64c3-100-50-10-1"
"""The public PilotNet files' shapes."""


def cores(shapes: str, target: str, *, weight_bits: int = 8) -> list[tuple[int | None, int | None]]:
    fit = estimate_cores(parse_sketch(shapes, weight_bits=weight_bits), Target.load(target))
    return [(layer.low, layer.high) for layer in fit.layers]


def test_pilotnet_on_loihi2_takes_the_cores_of_the_compile_logs() -> None:
    layers = parse_sketch(PILOTNET, weight_bits=5)
    assert [layer.shape for layer in layers[:5]] == [
        (24, 32, 99),
        (36, 15, 49),
        (48, 7, 24),
        (64, 4, 22),
        (64, 2, 20),
    ]
    spatial = [(25, 25), (13, 13), (3, 3), (3, 3), (2, 2)]
    assert cores(PILOTNET, "loihi2", weight_bits=5) == [*spatial, (7, 12), (1, 1), (1, 1), (1, 1)]
    target = Target.load("loihi2")
    fit = estimate_cores(layers, target)
    assert fit.cores_high == 61
    whole = estimate_cores((LayerSize(name="input", shape=(3, 66, 200)), *layers), target)
    assert whole.layers[0].low == 13
    assert whole.cores_high == 74
    assert (whole.chips_low, whole.chips_high) == (1, 1)
    assert sum(layer.neurons for layer in layers) == 118_909
    assert sum(layer.synapses for layer in layers) + 2560 * 100 + 5000 + 500 + 10 == 14_144_550


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [("784-256", 2), ("1024-1024", 9), ("4096-512", 18), ("2560-100", 3)],
)
def test_dense_layers_on_loihi1(shapes: str, expected: int) -> None:
    assert cores(shapes, "loihi1") == [(expected, expected)]


def test_too_many_axons_for_loihi1() -> None:
    fit = estimate_cores(parse_sketch("5000-10"), Target.load("loihi1"))
    (layer,) = fit.layers
    assert (layer.low, layer.high, layer.limiting_resource) == (None, None, "input axons")
    assert fit.cores_low is None
    assert fit.chips_high is None
    assert "5000 input axons, a core of 'loihi1' has 4096" in fit.warnings[0]


def test_bits_of_an_axon() -> None:
    assert [axon_bits(n, 8) for n in (256, 100, 10)] == [2304, 896, 128]
    assert [weight_bits_of(n) for n in (0, 1, 15, 16, 254, 256)] == [2, 2, 5, 6, 9, 10]


def test_convolutions_on_loihi1_have_a_range() -> None:
    """At the low end neurons alone, at the high end each synapse instance with its address."""
    (layer,) = parse_sketch("8x16x16-16c3p1")
    instances = 16 * 8 * (3 * 16 - 2) ** 2
    assert layer.synapses == instances
    assert cores("8x16x16-16c3p1", "loihi1") == [(4, -(-instances * 18 // (16384 * 64)))]


def test_layers_that_nothing_can_hold() -> None:
    target = Target.load("loihi2")
    wide, tall = estimate_cores(
        (
            LayerSize(name="wide", shape=(4,), inputs=20_000),
            LayerSize(name="tall", shape=(2, 4096, 8)),
        ),
        target,
    ).layers
    assert (wide.limiting_resource, tall.limiting_resource) == ("synapse memory", "slice")
    assert (wide.low, tall.low) == (None, None)
    assert "4096 neurons in one column of one channel" in tall.problem


@pytest.mark.parametrize(
    ("shape", "low", "each"),
    [((63, 64, 8), 8, 4032), ((64, 64, 8), 16, 2048), ((128, 64, 8), 24, 43 * 64)],
)
def test_columns_that_are_too_large_are_split_by_channels(
    shape: tuple[int, ...], low: int, each: int
) -> None:
    fit = estimate_cores((LayerSize(name="tall", shape=shape),), Target.load("loihi2"))
    (layer,) = fit.layers
    assert (layer.low, layer.high, layer.neurons_per_core, layer.problem) == (low, low, each, "")
    assert bool(fit.warnings) == (shape[0] > 63)
    assert all("split by channels" in warning for warning in fit.warnings)


def test_output_axons_spread_a_layer_over_more_cores() -> None:
    """1024 neurons lead into 9 cores: 4096 axons are enough for 455 of them, so 3 cores."""
    assert cores("64-1024-1024", "loihi1") == [(3, 3), (9, 9)]
    assert cores("64-1024-100", "loihi1") == [(1, 1), (1, 1)]
    target = Target.load("loihi1")
    sizes = (
        LayerSize(name="few", shape=(10,), inputs=4),
        LayerSize(name="many", shape=(4097 * 1024,), inputs=10),
    )
    few, many = estimate_cores(sizes, target).layers
    assert many.low == 4097
    assert few.limiting_resource == "output axons"
    assert "leads into 4097 cores of 'many'" in few.problem


def test_more_cores_than_a_chip_has() -> None:
    sizes = (LayerSize(name="big", shape=(32, 64, 512)),)
    fit = estimate_cores(sizes, Target.load("loihi2"), cores_per_chip=120)
    assert (fit.cores_low, fit.chips_low) == (512, 5)
    assert "512 cores or more, a chip of 'loihi2' has 120" in fit.warnings[0]


def test_instances_are_counted_one_by_one() -> None:
    synapse = FixedConv(
        weight=np.ones((2, 3, 3, 2), np.int32), stride=(2, 1), padding=(1, 2), dilation=(1, 2)
    )
    source = (3, 5, 6)
    output = synapse.output_shape(source)
    count = sum(
        0 <= 2 * y - 1 + ky < 5 and 0 <= x - 2 + 2 * kx < 6
        for y in range(output[1])
        for x in range(output[2])
        for ky in range(3)
        for kx in range(2)
    )
    assert conv_instances(source, output, synapse) == 2 * 3 * count


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("784", "at least one layer"),
        ("3x4-10", "an input"),
        ("784-10c3", "cannot read a source of shape 784"),
        ("3x8x8-10k3", "neither a number of neurons nor a convolution"),
        ("3x8x8-10c9", "larger than"),
        ("3x8x8-8c3g2", "cannot read"),
        ("784-0", "needs a neuron"),
    ],
)
def test_shapes_that_make_no_sense(shapes: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        parse_sketch(shapes)


def test_a_simulator_has_no_cores() -> None:
    with pytest.raises(TargetError, match="no core_model"):
        estimate_cores(parse_sketch("4-2"), Target.load("lava-cpu"))


def test_the_command_reads_shapes() -> None:
    result = CliRunner().invoke(make_app(), ["fit", "2560-100-10", "--target", "loihi1", "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [layer["cores_low"] for layer in found["layers"]] == [3, 1]
    assert (found["cores_low"], found["chips_high"], found["is_estimate"]) == (4, 1, True)
    failed = CliRunner().invoke(make_app(), ["fit", "5000-10", "--target", "loihi1", "--json"])
    assert failed.exit_code == 1
    assert "input axons" in json.loads(failed.stdout)["violations"][0]
