"""From floats to integers: scales, ranges, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.fixedpoint import CURRENT_LIMIT, VOLTAGE_LIMIT
from neurodeploy.ir.float_layers import BatchNorm, Conv, Cuba, Dense, Flatten, Input, Integrator
from neurodeploy.ir.graphs import Graph
from neurodeploy.ir.integer_layers import CubaNeuron, FixedConv, FixedDense
from neurodeploy.passes import choose_scales, quantize
from neurodeploy.passes.calibration import calibrate
from neurodeploy.passes.quantization import clip_weights
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


def test_thresholds_on_slayers_grid_are_truncated() -> None:
    """0.305 · 64 = 19.52: SLAYER's threshold is 19; without its grid the nearest integer is 20."""

    def threshold(scale: int | None) -> int:
        graph = chain(
            input=Input(shape=(2,)),
            fc=Dense(weight=np.array([[2 / 64, -4 / 64]])),
            lif=Cuba(threshold=0.305, scale=scale),
        )
        (layer,) = quantize(graph, LOIHI2, steps=4, scales={"lif": 64.0})
        return int(layer.neuron.threshold)

    assert threshold(64) == 19
    assert threshold(None) == 20


def test_slayers_grid_is_kept_before_a_graded_input() -> None:
    """The network saw integer / 16: in units of 1 / (64 · 16) its weights are the same integers."""
    graph = chain(
        input=Input(shape=(2,), scale=1 / 16, largest=16),
        fc=Dense(weight=np.array([[2 / 64, -4 / 64], [254 / 64, -256 / 64]])),
        lif=Cuba(threshold=19 / 64, current_decay=0.25, scale=64),
        read=Dense(weight=np.array([[6 / 64, -2 / 64]])),
        out=Cuba(threshold=1.0, scale=64),
    )
    assert choose_scales(graph, LOIHI2, steps=4) == {"lif": 1024.0, "out": 64.0}
    first, second = quantize(graph, LOIHI2, steps=4)
    weights = [layer.connections[0].synapse.weight.tolist() for layer in (first, second)]
    assert weights == [[[2, -4], [254, -256]], [[6, -2]]]
    assert (int(first.neuron.threshold), int(second.neuron.threshold)) == (19 * 16, 64)


def test_a_spiking_layer_never_gets_the_threshold_of_a_read_out() -> None:
    """131071 stands for neurons that do not fire; the largest threshold that can fire is 131070."""
    graph = chain(
        input=Input(shape=(2,)),
        fc=Dense(weight=np.array([[0.001, -0.001]])),
        lif=Cuba(threshold=10.0, voltage_decay=0.5),
        read=Dense(weight=np.array([[1.0], [-1.0]])),
        out=Integrator(),
    )
    scales = choose_scales(graph, LOIHI2, steps=1, guard_overflow=False)
    spiking, read_out = quantize(graph, LOIHI2, steps=1, scales=scales)
    assert int(spiking.neuron.threshold) == 131070
    assert int(read_out.neuron.threshold) == 131071


def test_a_read_out_holds_the_sum_of_all_steps() -> None:
    rng = np.random.default_rng(2)
    weight = rng.uniform(0.5, 1.0, (2, 600))
    weight[0, 0] = -1.0
    graph = chain(input=Input(shape=(600,)), read=Dense(weight=weight), out=Integrator())
    fixed = quantize(graph, LOIHI2, steps=20)
    health = EventSimulator(fixed).run(np.ones((1, 20, 600), np.int32)).health
    assert health is not None
    assert health[0].voltage_clips == 0
    assert 0.9 * VOLTAGE_LIMIT < health[0].voltage_peak <= VOLTAGE_LIMIT


def test_biases_alone_do_not_fill_a_voltage() -> None:
    """Without leak the bias of 20 steps adds up, whatever the input does."""
    graph = chain(
        input=Input(shape=(2,)),
        fc=Dense(weight=np.array([[0.5, -0.5]]), bias=np.array([-1.0])),
        lif=Cuba(threshold=1.0),
        read=Dense(weight=np.array([[1.0], [-1.0]])),
        out=Integrator(),
    )
    fixed = quantize(graph, LOIHI2, steps=300)
    health = EventSimulator(fixed).run(np.zeros((1, 300, 2), np.int32)).health
    assert health is not None
    assert health[0].voltage_clips == 0
    assert 0.45 * VOLTAGE_LIMIT < health[0].voltage_peak <= VOLTAGE_LIMIT


def scale_of(weight: np.ndarray, target: Target = LOIHI2, **options: object) -> float:
    graph = chain(input=Input(shape=(weight.shape[1],)), fc=Dense(weight=weight), out=Integrator())
    return choose_scales(graph, target, steps=1, guard_overflow=False, **options)["out"]  # type: ignore[arg-type]


def test_a_percentile_is_one_of_the_weights_that_are_there() -> None:
    """Pruned weights do not count: half of 1, 2, 3, 4, 5 lie below 3, beside however many zeros."""
    weight = np.concatenate([np.zeros(95), [1.0, -2.0, 3.0, -4.0, 5.0]])[None]
    assert scale_of(weight, clipping="percentile", percentile=50.0) == pytest.approx(254 / 3)


def test_the_smallest_error_may_need_hard_clipping() -> None:
    """1000 weights of ±0.3 and a single 1.0, with weights -4, -2, 0 and 2: 0.3 becomes 2."""
    weight = np.concatenate([np.tile([0.3, -0.3], 500), [1.0]])[None]
    narrow = LOIHI2.with_weight_bits(2)
    assert scale_of(weight, narrow, clipping="mse") == pytest.approx(2 / 0.3)


@pytest.mark.parametrize(
    ("options", "low", "high", "bits"),
    [
        ({}, 0, 1, 0),
        ({"scale": 0.5}, 0, 1, 0),
        ({}, -1, 1, 1),
        ({"scale": 0.5}, -1, 1, 1),
        ({"scale": 1 / 16, "largest": 16}, 0, 16, 5),
        ({"scale": 1 / 16, "largest": 16}, -5, 11, 5),
    ],
)
def test_the_deployed_input_reproduces_every_value(
    options: dict[str, float], low: int, high: int, bits: int
) -> None:
    """Only zeros and ones may enter a binary port, whatever their scale in floats."""
    rng = np.random.default_rng(6)
    weight = rng.normal(size=(2, 40))
    samples = rng.integers(low, high + 1, (30, 4, 40))
    graph = two_layers(weight, **options)
    calibration = calibrate(graph, LOIHI2, samples)
    fixed = calibration.graph
    assert fixed.input.message_bits == bits
    assert (
        quantize(calibration.float_graph, LOIHI2, steps=4, scales=calibration.scales).input
        == fixed.input
    )
    synapse = fixed.layers[0].connections[0].synapse
    assert isinstance(synapse, FixedDense)
    silent = CubaNeuron(
        current_decay=np.array(4096, np.int32),
        voltage_decay=np.array(4096, np.int32),
        threshold=np.array(131071, np.int32),
    )
    first = dataclasses.replace(fixed.layers[0], neuron=silent, bias=np.zeros(1, np.int32))
    sums = EventSimulator(dataclasses.replace(fixed, layers=(first,))).run(samples).voltage
    assert np.array_equal(sums.reshape(30, 4, 2), 64 * (samples @ synapse.weight.T))


def test_values_beyond_those_that_the_network_is_made_for_are_refused() -> None:
    graph = two_layers(np.array([[0.1, 1.0], [-0.3, 0.2]]), scale=0.5, largest=2)
    samples = np.array([[[0, 3]]])
    with pytest.raises(QuantizationError, match="input: values from 0 to 3, the network is made"):
        calibrate(graph, LOIHI2, samples)


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


def test_weights_that_round_beyond_the_range_are_clipped_and_no_others() -> None:
    """255 lies as near to 254 as to 256 and rounds to 256, but -257 rounds to -256."""
    weight = np.array([[255.0, 254.9, 3.0, -257.0, -257.1, -400.0]])
    graph = chain(input=Input(shape=(6,)), fc=Dense(weight=weight), out=Integrator())
    clipped = clip_weights(graph, LOIHI2, {"out": 1.0})
    dense = clipped.nodes["fc"]
    assert isinstance(dense, Dense)
    assert dense.weight.tolist() == [[254.0, 254.9, 3.0, -257.0, -256.0, -256.0]]
    synapse = quantize(clipped, LOIHI2, steps=1, scales={"out": 1.0}).layers[0].connections[0]
    assert isinstance(synapse.synapse, FixedDense)
    assert synapse.synapse.weight.tolist() == [[254, 254, 4, -256, -256, -256]]


def test_a_large_bias_makes_its_layers_scale_small_enough() -> None:
    """By its weights the scale could be 254; a bias of 500 would then exceed 15 bits and a sign."""
    graph = two_layers(np.array([[1.0, -1.0], [0.5, -0.25]]))
    fc = graph.nodes["fc"]
    assert isinstance(fc, Dense)
    large = graph.replace_nodes(
        changed={"fc": dataclasses.replace(fc, bias=np.array([400.0, -500.0]))}
    )
    scales = choose_scales(large, LOIHI2, steps=4, guard_overflow=False)
    assert scales["lif"] == LOIHI2.bias_max / 500
    fixed = quantize(large, LOIHI2, steps=4, scales=scales)
    assert fixed.layers[0].bias.tolist() == [round(400 * scales["lif"]), -LOIHI2.bias_max]


def test_weights_of_one_sign_with_zeros_have_a_scale() -> None:
    assert scale_of(np.array([[0.0, 2.0]])) == LOIHI2.weight_max / 2
    assert scale_of(np.array([[0.0, -2.0]])) == -LOIHI2.weight_min / 2


def test_slayers_grid_is_kept_where_graded_input_and_spikes_meet() -> None:
    """The finer unit of the two decides: the other's weights are 16 times as many of them."""
    nodes = {
        "input": Input(shape=(2,), scale=1 / 16, largest=16),
        "fc": Dense(weight=np.array([[2 / 64, -4 / 64], [254 / 64, -256 / 64]])),
        "lif": Cuba(threshold=19 / 64, scale=64),
        "read": Dense(weight=np.array([[6 / 64, -2 / 64]])),
        "direct": Dense(weight=np.array([[10 / 64, -12 / 64]])),
        "out": Cuba(threshold=1.0, scale=64),
    }
    edges = (("input", "fc"), ("fc", "lif"), ("lif", "read"), ("input", "direct"))
    graph = Graph(nodes=nodes, edges=(*edges, ("read", "out"), ("direct", "out")))
    fixed = quantize(graph, LOIHI2, steps=4)
    found = [connection.synapse.weight.tolist() for connection in fixed.layers[1].connections]
    assert found == [[[6 * 16, -2 * 16]], [[10, -12]]]


@pytest.mark.parametrize(("weight", "threshold"), [(-0.4, 9), (-0.45, 10)])
def test_a_voltage_can_equal_the_threshold_only_if_every_number_is_whole(
    weight: float, threshold: int
) -> None:
    """At 10 units each, neurons that fire at a threshold of 10 fire above 9."""
    graph = chain(
        input=Input(shape=(2,)),
        fc=Dense(weight=np.array([[1.0, weight]])),
        lif=Cuba(threshold=1.0, fires_at_threshold=True),
    )
    fixed = quantize(graph, LOIHI2, steps=1, scales={"lif": 10.0})
    assert int(fixed.layers[0].neuron.threshold) == threshold
