"""Chip limits: everything that is exceeded is in one error, each with a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.chips.limits import check_limits, find_violations
from neurodeploy.chips.target import Target
from neurodeploy.errors import TargetLimitError
from neurodeploy.ir.graphs import (
    INPUT,
    FixedInput,
    FixedPointGraph,
)
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
    IntArray,
)

GOLDEN = Path(__file__).parents[2] / "golden"


def number(value: int) -> IntArray:
    return np.array(value, np.int32)


def neuron(**changes: IntArray) -> CubaNeuron:
    given = {"current_decay": 4096, "voltage_decay": 1024, "threshold": 100}
    return CubaNeuron(**{name: number(value) for name, value in given.items()} | changes)


def graph(
    weight: IntArray,
    *,
    cells: CubaNeuron | None = None,
    bias: int = 0,
    delay: IntArray | None = None,
) -> FixedPointGraph:
    is_conv = weight.ndim == 4
    synapse = FixedConv(weight=weight) if is_conv else FixedDense(weight=weight, delay=delay)
    shape = (weight.shape[1], 1, 1) if is_conv else (weight.shape[1],)
    layer = FixedLayer(
        name="layer",
        shape=synapse.output_shape(shape),
        connections=(Connection(source=INPUT, synapse=synapse),),
        neuron=cells or neuron(),
        bias=number(bias),
    )
    return FixedPointGraph(input=FixedInput(shape=shape), layers=(layer,))


def mixed(*values: int) -> IntArray:
    return np.array([values], np.int32)


def test_all_of_them_at_once() -> None:
    weight = np.array([300, -2], np.int32).reshape(1, 2, 1, 1)
    cells = neuron(threshold=number(200_000), voltage_decay=number(5000))
    broken = graph(weight, cells=cells, bias=40_000)
    with pytest.raises(TargetLimitError) as caught:
        check_limits(broken, Target.load("loihi2"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "target 'loihi2': 4 limits are exceeded."
    for line, words in zip(
        lines[1:],
        (
            "input -> layer: weights from -2 to 300, target 'loihi2' allows -256 to 254",
            "biases from 40000 to 40000",
            "thresholds from 200000 to 200000, target 'loihi2' allows 0 to 131071",
            "voltage decays from 5000 to 5000",
        ),
        strict=True,
    ):
        assert words in line


def test_delays_and_parameters_that_differ_within_a_layer() -> None:
    weight = np.array([[2, -4], [6, 8]], np.int32)
    cells = neuron(threshold=np.array([10, 20], np.int32))
    found = find_violations(graph(weight, cells=cells), Target.load("loihi1"))
    assert len(found) == 1
    assert "one set a layer" in found[0]
    assert find_violations(graph(weight, cells=cells), Target.load("lava-cpu")) == ()
    late = np.full((2, 2), 62, np.int32)
    assert find_violations(graph(weight, delay=late), Target.load("loihi2")) == ()


def test_what_no_core_can_hold() -> None:
    wide = np.zeros((2, 5000), np.int32)
    wide[0, 0], wide[1, 0] = 2, -2
    (violation,) = find_violations(graph(wide), Target.load("loihi1"))
    assert "5000 input axons" in violation
    assert find_violations(graph(wide), Target.load("lava-cpu")) == ()


def test_weights_of_one_sign_have_a_bit_more() -> None:
    assert find_violations(graph(mixed(255, 7)), Target.load("loihi2")) == ()
    assert find_violations(graph(mixed(254, -256)), Target.load("loihi2")) == ()


@pytest.mark.parametrize(
    "name", ["10_conv_flatten_dense", "18_residual_identity", "24_mini_resnet"]
)
def test_files_within_the_limits(name: str) -> None:
    check_limits(netx.read(GOLDEN / f"{name}.net"), Target.load("loihi2"))


def test_narrower_weights_have_just_one_more_bit() -> None:
    """Of 4 bits: -16 to 14, and 15 where all have one sign; 16 is one too many."""
    narrow = Target.load("loihi2").with_weight_bits(4)
    assert find_violations(graph(mixed(15, 7)), narrow) == ()
    (violation,) = find_violations(graph(mixed(16, -2)), narrow)
    assert "weights as they act from -2 to 16, target 'loihi2' allows -16 to 15" in violation


def test_biases_are_whole_16_bit_integers() -> None:
    loihi2 = Target.load("loihi2")
    for bias in (-32768, 32767):
        assert find_violations(graph(mixed(2, -2), bias=bias), loihi2) == ()
    for bias in (-32769, 32768):
        (violation,) = find_violations(graph(mixed(2, -2), bias=bias), loihi2)
        assert f"biases from {bias} to {bias}" in violation
