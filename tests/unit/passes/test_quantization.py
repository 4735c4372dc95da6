"""From floats to integers: scales, ranges, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.fixedpoint import CURRENT_LIMIT
from neurodeploy.ir.float_layers import BatchNorm, Conv, Cuba, Dense, Flatten, Input, Integrator
from neurodeploy.ir.graphs import Graph
from neurodeploy.ir.integer_layers import FixedConv, FixedDense
from neurodeploy.passes import choose_scales, quantize
from neurodeploy.passes.calibration import calibrate
from neurodeploy.simulation import EventSimulator

LOIHI2 = Target.load("loihi2")


def chain(**nodes: object) -> Graph:
    names = list(nodes)
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(names)))  # type: ignore[arg-type]


def two_layers(weight: np.ndarray, **input_options: object) -> Graph:
    return chain(
        input=Input(shape=(weight.shape[1],), **input_options),  # type: ignore[arg-type]
        fc=Dense(weight=weight, bias=np.array([0.25, -0.5])),
        lif=Cuba(threshold=0.5, voltage_decay=0.75),
        read=Dense(weight=np.array([[1.0, -2.0]])),
        out=Integrator(),
    )


def test_the_largest_weight_gets_the_largest_integer() -> None:
    fixed = quantize(two_layers(np.array([[0.1, 1.0], [-0.3, 0.2]])), LOIHI2, steps=4)
    synapse = fixed.layers[0].connections[0].synapse
    assert isinstance(synapse, FixedDense)
    assert synapse.weight.tolist() == [[26, 254], [-76, 50]]
    assert int(fixed.layers[0].neuron.threshold) == 127
    assert int(fixed.layers[0].neuron.voltage_decay) == 3072
    assert int(fixed.layers[0].neuron.current_decay) == 4096
    assert fixed.layers[0].bias.tolist() == [64, -127]
    assert fixed.input.message_bits == 0


def test_the_read_out_neither_leaks_nor_fires() -> None:
    fixed = quantize(two_layers(np.array([[0.1, 1.0], [-0.3, 0.2]])), LOIHI2, steps=4)
    neuron = fixed.layers[-1].neuron
    assert (int(neuron.current_decay), int(neuron.voltage_decay)) == (4096, 0)
    assert int(neuron.threshold) == 131071


def test_graded_input_carries_its_unit_into_the_first_weights() -> None:
    """x = integer / 16: weights per integer are 16 times smaller, the scale is 16 times larger."""
    weight = np.array([[0.1, 1.0], [-0.3, 0.2]])
    spikes = choose_scales(two_layers(weight), LOIHI2, steps=4, guard_overflow=False)
    graded = choose_scales(
        two_layers(weight, scale=1 / 16, largest=16), LOIHI2, steps=4, guard_overflow=False
    )
    assert graded["lif"] == 16 * spikes["lif"]
    fixed = quantize(two_layers(weight, scale=1 / 16, largest=16), LOIHI2, steps=4)
    assert fixed.input.message_bits == 5


def test_without_data_no_input_whatever_can_wrap_a_current() -> None:
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 1.0, (2, 600))
    weight[0, 0] = -1.0
    fixed = quantize(two_layers(weight, scale=1 / 16, largest=16), LOIHI2, steps=3)
    worst = np.full((1, 3, 600), 16, np.int32)
    health = EventSimulator(fixed).run(worst).health
    assert health is not None
    assert 0.5 * CURRENT_LIMIT < max(h.current_peak for h in health) <= CURRENT_LIMIT
    assert all(h.current_wraps == 0 and h.voltage_clips == 0 for h in health)


def test_calibration_keeps_the_margin_and_no_more() -> None:
    rng = np.random.default_rng(1)
    weight = rng.uniform(-0.2, 1.0, (2, 600))
    graph = two_layers(weight, scale=1 / 16, largest=16)
    samples = rng.integers(0, 17, (20, 3, 600))
    samples[0] = 0  # else every neuron would spike in every step, which is an error of its own
    health = calibrate(graph, LOIHI2, samples, margin=1.5).health[0]
    reached = max(health.current_peak, health.voltage_peak) * 1.5
    assert 0.9 * CURRENT_LIMIT < reached <= CURRENT_LIMIT


def test_a_network_that_goes_silent_is_an_error() -> None:
    graph = chain(
        input=Input(shape=(2,)),
        fc=Dense(weight=np.array([[0.1, -0.1]]), bias=np.array([-1.0])),
        lif=Cuba(threshold=5.0, voltage_decay=0.5),
        read=Dense(weight=np.array([[1.0], [-1.0]])),
        out=Integrator(),
    )
    with pytest.raises(QuantizationError, match="lif: no neuron spikes on any of the 8"):
        calibrate(graph, LOIHI2, np.ones((8, 4, 2), np.int32))


def test_a_network_that_says_the_same_always_is_an_error() -> None:
    graph = two_layers(np.array([[1.0, -0.1], [1.0, 0.1]]), scale=1.0, largest=1)
    with pytest.raises(QuantizationError, match="every neuron spikes in every step of all 8"):
        calibrate(graph, LOIHI2, np.ones((8, 4, 2), np.int32))


def test_slayer_integers_are_kept() -> None:
    """Weights on the grid of 2/64 become exactly their multiples of 64; θ = trunc(θ · 64)."""
    weight = np.array([[2 / 64, -4 / 64], [254 / 64, -256 / 64]])
    graph = chain(
        input=Input(shape=(2,)),
        fc=Dense(weight=weight),
        lif=Cuba(threshold=19 / 64, current_decay=1024 / 4096, voltage_decay=123 / 4096, scale=64),
    )
    layer = quantize(graph, LOIHI2, steps=4).layers[0]
    synapse = layer.connections[0].synapse
    assert isinstance(synapse, FixedDense)
    assert synapse.weight.tolist() == [[2, -4], [254, -256]]
    assert (int(layer.neuron.threshold), int(layer.neuron.current_decay)) == (19, 1024)
    assert int(layer.neuron.voltage_decay) == 123


def test_two_sources_of_one_population_share_its_scale() -> None:
    graph = Graph(
        nodes={
            "input": Input(shape=(2, 4, 4)),
            "conv1": Conv(weight=np.linspace(-1, 1, 36).reshape(2, 2, 3, 3), padding=(1, 1)),
            "lif1": Cuba(threshold=1.0),
            "conv2": Conv(weight=np.linspace(-0.5, 0.5, 36).reshape(2, 2, 3, 3), padding=(1, 1)),
            "skip": Conv(weight=np.array([[1.0, 0.0], [0.0, -1.0]])[:, :, None, None]),
            "lif2": Cuba(threshold=1.0),
        },
        edges=(
            ("input", "conv1"),
            ("conv1", "lif1"),
            ("lif1", "conv2"),
            ("input", "skip"),
            ("conv2", "lif2"),
            ("skip", "lif2"),
        ),
    )
    fixed = quantize(graph, LOIHI2, steps=2)
    second = fixed.layers[1]
    assert [connection.source for connection in second.connections] == ["lif1", "input"]
    main, skip = (connection.synapse for connection in second.connections)
    assert isinstance(main, FixedConv)
    assert isinstance(skip, FixedConv)
    assert (
        int(skip.weight.max()) == 2 * int(main.weight.max()) == 254
        or abs(int(skip.weight.max()) - 2 * int(main.weight.max())) <= 2
    )


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            chain(
                input=Input(shape=(2,)),
                fc=Dense(weight=np.zeros((2, 2))),
                lif=Cuba(threshold=1.0),
            ),
            "fc: all weights are zero",
        ),
        (
            chain(
                input=Input(shape=(2,)),
                fc=Dense(weight=np.full((2, 2), 1e-9), bias=np.array([1.0, 0.0])),
                lif=Cuba(threshold=1.0),
            ),
            "fc: all weights round to zero",
        ),
        (
            chain(
                input=Input(shape=(2,)),
                fc=Dense(weight=np.full((2, 2), -1.0)),
                lif=Cuba(threshold=1.0),
            ),
            "fc: weights from -256 to -256 are all of one sign",
        ),
        (
            chain(
                input=Input(shape=(2,)),
                fc=Dense(weight=np.eye(2)),
                norm=BatchNorm(scale=np.ones(2), shift=np.zeros(2)),
                lif=Cuba(threshold=1.0),
            ),
            "norm: batch norm is not folded",
        ),
        (
            chain(input=Input(shape=(2,)), flat=Flatten(), lif=Cuba(threshold=1.0)),
            "lif: reads Flatten 'flat'",
        ),
        (chain(input=Input(shape=(2,)), fc=Dense(weight=np.eye(2))), "no spiking layer"),
    ],
)
def test_what_integers_cannot_express_is_refused_by_name(graph: Graph, message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        quantize(graph, LOIHI2, steps=4)


def test_a_scale_beyond_the_weight_range_is_refused() -> None:
    graph = two_layers(np.array([[0.1, 1.0], [-0.3, 0.2]]))
    with pytest.raises(QuantizationError, match=r"fc: integer weights from -90 to 300"):
        quantize(graph, LOIHI2, steps=4, scales={"lif": 300.0, "out": 10.0})
