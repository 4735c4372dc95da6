"""Skip connections become relay channels with equal spikes, or are refused by name."""

from __future__ import annotations

import dataclasses
import itertools
from math import prod

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Input, Integrator
from neurodeploy.ir.graphs import FixedInput, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
)
from neurodeploy.passes import choose_scales, quantize
from neurodeploy.passes.calibration import calibrate
from neurodeploy.passes.relays import Lowered, find_carried, lower_residuals, relay_threshold_max
from neurodeploy.simulation import EventSimulator, Recording

LOIHI2 = Target.load("loihi2")
LAVA_CPU = Target.load("lava-cpu")


def neuron(threshold: int, *, current_decay: int = 4096, voltage_decay: int = 1024) -> CubaNeuron:
    return CubaNeuron(
        current_decay=np.array(current_decay, np.int32),
        voltage_decay=np.array(voltage_decay, np.int32),
        threshold=np.array(threshold, np.int32),
    )


def conv(
    rng: np.random.Generator, outputs: int, inputs: int, kernel: int = 3, **options: object
) -> FixedConv:
    weight = 2 * rng.integers(-52, 64, (outputs, inputs, kernel, kernel))
    return FixedConv(weight=weight.astype(np.int32), **options)  # type: ignore[arg-type]


def layer(
    name: str,
    shape: tuple[int, ...],
    threshold: int,
    rng: np.random.Generator,
    *connections: tuple[str, FixedConv],
    **options: int,
) -> FixedLayer:
    return FixedLayer(
        name=name,
        shape=shape,
        connections=tuple(Connection(source=s, synapse=c) for s, c in connections),
        neuron=neuron(threshold, **options),
        bias=rng.integers(-30, 30, (shape[0], 1, 1)).astype(np.int32),
    )


def residual_network(rng: np.random.Generator, **options: int) -> FixedPointGraph:
    """Stem, an identity block, a stride-2 projection block, and one skip over two layers."""
    eye = FixedConv(weight=np.eye(4, dtype=np.int32)[:, :, None, None] * 200)
    padded = {"padding": (1, 1)}
    return FixedPointGraph(
        input=FixedInput(shape=(2, 8, 6)),
        layers=(
            layer("stem", (4, 8, 6), 150, rng, ("input", conv(rng, 4, 2, **padded)), **options),
            layer("a1", (5, 8, 6), 200, rng, ("stem", conv(rng, 5, 4, **padded)), **options),
            layer(
                "a2",
                (4, 8, 6),
                250,
                rng,
                ("a1", conv(rng, 4, 5, **padded)),
                ("stem", eye),
                **options,
            ),
            layer(
                "b1",
                (6, 4, 3),
                220,
                rng,
                ("a2", conv(rng, 6, 4, **padded, stride=(2, 2))),
                **options,
            ),
            layer(
                "b2",
                (6, 4, 3),
                240,
                rng,
                ("b1", conv(rng, 6, 6, **padded)),
                ("a2", conv(rng, 6, 4, 1, stride=(2, 2))),
                **options,
            ),
            layer("c1", (3, 4, 3), 180, rng, ("b2", conv(rng, 3, 6, **padded)), **options),
            layer("c2", (3, 4, 3), 253, rng, ("c1", conv(rng, 3, 3, **padded)), **options),
            layer(
                "c3",
                (6, 4, 3),
                300,
                rng,
                ("c2", conv(rng, 6, 3, **padded)),
                ("b2", conv(rng, 6, 6, 1)),
                ("c1", conv(rng, 6, 3, 1)),
                **options,
            ),
        ),
    )


def assert_equal_in_own_channels(graph: FixedPointGraph, lowered: Lowered, seed: int) -> Recording:
    samples = (np.random.default_rng(seed).random((6, 7, *graph.input.shape)) < 0.3).astype(
        np.int32
    )
    direct = EventSimulator(graph).run(samples)
    chained = EventSimulator(lowered.graph).run(samples)
    assert direct.layers == chained.layers
    for name, ours, theirs in zip(direct.layers, direct.spikes, chained.spikes, strict=True):
        assert np.array_equal(ours, theirs[:, :, : lowered.channels[name]]), name
        assert 0.01 < ours.mean() < 0.99, f"{name} tells nothing at rate {ours.mean()}"
    return chained


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("target", [LOIHI2, LAVA_CPU], ids=lambda target: target.name)
def test_spikes_of_every_original_channel_are_equal(seed: int, target: Target) -> None:
    graph = residual_network(np.random.default_rng(seed))
    lowered = lower_residuals(graph, target)
    chained = assert_equal_in_own_channels(graph, lowered, seed)
    assert all(
        [c.source for c in each.connections] == [before]
        for before, each in zip(("input", *lowered.graph.names), lowered.graph, strict=False)
    )
    # The relay of c1 behind c2's own channels repeats c1.
    names = chained.layers
    c1 = chained.spikes[names.index("c1")][:, :, :3]
    relayed = chained.spikes[names.index("c2")][:, :, lowered.channels["c2"] :]
    assert any(np.array_equal(c1, relayed[:, :, i : i + 3]) for i in range(relayed.shape[2] - 2))


def test_a_lowered_network_can_be_written_and_read(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    graph = residual_network(np.random.default_rng(5))
    path = tmp_path_factory.mktemp("net") / "residual.net"
    lowered = lower_residuals(graph, LOIHI2)
    netx.write(lowered.graph, path)
    samples = np.ones((1, 5, *graph.input.shape), np.int32)
    ours = EventSimulator(lowered.graph).run(samples)
    read = EventSimulator(netx.read(path)).run(samples)
    assert all(np.array_equal(a, b) for a, b in zip(ours.spikes, read.spikes, strict=True))


def test_costs_count_the_relays() -> None:
    lowered = lower_residuals(residual_network(np.random.default_rng(0)), LOIHI2)
    costs = {cost.layer: cost for cost in lowered.costs}
    assert {name: (c.channels, c.neurons) for name, c in costs.items()} == {
        "a1": (4, 4 * 48),
        "b1": (4, 4 * 12),
        "c1": (6, 6 * 12),
        "c2": (9, 9 * 12),
    }
    assert all(c.relay_weight == 254 > c.threshold for c in lowered.costs)
    # c2: 3 kernels of 3 inputs become 12 kernels of 9 inputs.
    assert costs["c2"].weights == (12 * 9 - 3 * 3) * 9


def test_a_chain_comes_back_as_it_is() -> None:
    rng = np.random.default_rng(0)
    graph = FixedPointGraph(
        input=FixedInput(shape=(2, 8, 6)),
        layers=(layer("a", (3, 6, 4), 100, rng, ("input", conv(rng, 3, 2))),),
    )
    lowered = lower_residuals(graph, LOIHI2)
    assert lowered.graph is graph
    assert lowered.costs == ()


def test_what_each_layer_carries() -> None:
    chain = [("s", ["input"]), ("a", ["s"]), ("b", ["a", "s"]), ("c", ["b", "a", "s"])]
    assert find_carried(chain) == {"s": (), "a": ("s",), "b": ("s", "a"), "c": ()}


def skip_over(
    rng: np.random.Generator,
    *,
    skip: FixedConv,
    main: FixedConv | None = None,
    bits: int = 0,
    source: str = "s",
    **options: int,
) -> FixedPointGraph:
    middle = main or conv(rng, 4, 4, padding=(1, 1))
    threshold = options.pop("threshold", 200)
    shape = middle.output_shape((4, 6, 6))
    return FixedPointGraph(
        input=FixedInput(shape=(4, 6, 6), message_bits=bits),
        layers=(
            layer("s", (4, 6, 6), 100, rng, ("input", conv(rng, 4, 4, padding=(1, 1)))),
            layer("a", shape, threshold, rng, ("s", middle), **options),
            layer("b", shape, 100, rng, ("a", conv(rng, 4, 4, padding=(1, 1))), (source, skip)),
        ),
    )


RNG = np.random.default_rng(1)
POINT = conv(RNG, 4, 4, 1)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (skip_over(RNG, skip=POINT, threshold=338), "a: threshold 338, but relays of weight 254"),
        (
            skip_over(RNG, skip=POINT, threshold=254, voltage_decay=0),
            "up to a threshold of 253 at vDecay 0",
        ),
        (skip_over(RNG, skip=POINT, current_decay=1024), "a: iDecay 1024, but relay channels"),
        (skip_over(RNG, skip=POINT, threshold=-1), "a: threshold -1; relay channels would"),
        (skip_over(RNG, skip=conv(RNG, 4, 4, 5, padding=(2, 2))), None),
        (skip_over(RNG, skip=conv(RNG, 4, 4, 3, padding=(2, 2), dilation=(2, 2))), None),
        (skip_over(RNG, skip=conv(RNG, 4, 4, 3, padding=(1, 1))), None),
        (
            skip_over(
                RNG,
                skip=conv(RNG, 4, 4, 3, padding=(1, 1), stride=(2, 2)),
                main=conv(RNG, 4, 4, padding=(1, 1), stride=(2, 2)),
            ),
            None,
        ),
        (
            skip_over(
                RNG,
                skip=conv(RNG, 4, 4, 1),
                main=conv(RNG, 4, 4, padding=(1, 1), groups=1),
                threshold=100,
            ),
            None,
        ),
        (
            skip_over(
                RNG,
                skip=conv(RNG, 4, 4, 1, stride=(2, 2)),
                main=conv(RNG, 4, 4, padding=(1, 1), stride=(2, 2)),
                source="input",
                bits=4,
            ),
            "s: would have to relay the graded input",
        ),
        (
            skip_over(
                RNG, skip=conv(RNG, 4, 4, 1, stride=(2, 2)), main=conv(RNG, 4, 4, 2, stride=(2, 2))
            ),
            None,
        ),
    ],
)
def test_what_cannot_be_relayed_is_refused_by_name(
    graph: FixedPointGraph, message: str | None
) -> None:
    if message is None:  # these can be relayed: other kernels, other paddings
        assert_equal_in_own_channels(graph, lower_residuals(graph, LOIHI2), 3)
        return
    with pytest.raises(QuantizationError, match=message):
        lower_residuals(graph, LOIHI2)


@pytest.mark.parametrize(
    ("leak", "largest"), [(0, 253), (1, 253), (1024, 337), (2048, 506), (3072, 1012), (4096, 33020)]
)
def test_a_bias_just_below_the_threshold_lets_relays_outbid_larger_ones(
    leak: int, largest: int
) -> None:
    """At the largest threshold a relay rests as high as it may and still repeats every spike."""
    assert relay_threshold_max(LOIHI2, leak) == largest
    for threshold in {253, (253 + largest) // 2, largest}:
        graph = skip_over(
            np.random.default_rng(5), skip=POINT, threshold=threshold, voltage_decay=leak
        )
        lowered = lower_residuals(graph, LOIHI2)
        (cost,) = lowered.costs
        assert cost.relay_bias == threshold - 253
        assert 4096 * cost.relay_bias <= threshold * leak
        samples = (np.random.default_rng(6).random((8, 30, 4, 6, 6)) < 0.3).astype(np.int32)
        direct, chained = (EventSimulator(g).run(samples) for g in (graph, lowered.graph))
        sent, relayed = direct.spikes[0], chained.spikes[1][:, :, 4:]
        assert np.array_equal(sent, relayed)
        assert 0.01 < sent.mean() < 0.99
        assert np.array_equal(direct.spikes[2], chained.spikes[2])


def test_relays_without_spikes_stay_silent_for_ever() -> None:
    graph = skip_over(np.random.default_rng(5), skip=POINT, threshold=506, voltage_decay=2048)
    lowered = lower_residuals(graph, LOIHI2)
    nothing = np.zeros((1, 200, 4, 6, 6), np.int32)
    chained = EventSimulator(lowered.graph).run(nothing)
    own = EventSimulator(graph).run(nothing)
    assert np.array_equal(own.spikes[0], chained.spikes[1][:, :, 4:])


def test_parameters_by_channel_lift_both_conditions() -> None:
    rng = np.random.default_rng(2)
    graph = skip_over(rng, skip=conv(rng, 4, 4, 1), threshold=400, current_decay=1024)
    lowered = lower_residuals(graph, LAVA_CPU)
    assert_equal_in_own_channels(graph, lowered, 4)
    relay = lowered.graph.layers[1].neuron
    assert isinstance(relay, CubaNeuron)
    assert relay.threshold.ravel().tolist() == [400] * 4 + [1] * 4
    assert relay.current_decay.ravel().tolist() == [1024] * 4 + [4096] * 4


def float_residual(rng: np.random.Generator) -> Graph:
    nodes = {
        "input": Input(shape=(1, 6, 6)),
        "stem.synapse": Conv(weight=rng.normal(0, 0.6, (4, 1, 3, 3)), padding=(1, 1)),
        "stem": Cuba(threshold=0.5, voltage_decay=0.5),
        "a1.synapse": Conv(weight=rng.normal(0, 0.05, (4, 4, 3, 3)), padding=(1, 1)),
        "a1": Cuba(threshold=0.5, voltage_decay=0.5),
        "a2.synapse": Conv(weight=rng.normal(0, 0.2, (4, 4, 3, 3)), padding=(1, 1)),
        "a2": Cuba(threshold=0.5, voltage_decay=0.5),
        "read.synapse": Dense(weight=rng.normal(0, 0.3, (3, 144))),
        "read": Integrator(),
    }
    edges = [*itertools.pairwise(nodes), ("stem", "a2")]
    return Graph(nodes=nodes, edges=tuple(edges))


def test_scales_leave_room_for_relays_and_identities() -> None:
    """a1 will relay at a leak of one half: V_th · s ≤ 506; a2 adds spikes of weight 1: s ≤ 254."""
    graph = float_residual(np.random.default_rng(0))
    scales = choose_scales(graph, LOIHI2, steps=4, guard_overflow=False)
    assert scales["a1"] == 506 / 0.5
    free = choose_scales(graph, LOIHI2, steps=4, guard_overflow=False, has_skips=False)
    assert {name: free[name] > scales[name] for name in scales} == {
        "stem": False,
        "a1": True,
        "a2": True,
        "read": False,
    }
    samples = np.random.default_rng(1).integers(0, 2, (32, 4, 1, 6, 6))
    lost = calibrate(graph, LOIHI2, samples).skip_bits
    assert lost == {
        "stem": 0,
        "a1": np.log2(free["a1"] / scales["a1"]),
        "a2": np.log2(free["a2"] / scales["a2"]),
        "read": 0,
    }
    assert scales["a2"] == 254
    fixed = quantize(graph, LOIHI2, steps=4, scales=scales)
    skip = fixed.layers[2].connections[1]
    assert skip.source == "stem"
    assert isinstance(skip.synapse, FixedConv)
    assert np.array_equal(skip.synapse.weight[:, :, 0, 0], 254 * np.eye(4))
    lowered = lower_residuals(fixed, LOIHI2)
    assert [cost.layer for cost in lowered.costs] == ["a1"]
    assert_lowered_read_out_is_equal(fixed, lowered)


def assert_lowered_read_out_is_equal(graph: FixedPointGraph, lowered: Lowered) -> None:
    samples = (np.random.default_rng(9).random((8, 4, *graph.input.shape)) < 0.4).astype(np.int32)
    direct, chained = (EventSimulator(g).run(samples) for g in (graph, lowered.graph))
    assert np.array_equal(direct.voltage, chained.voltage)
    assert direct.spikes[2].any()


def test_height_and_width_of_a_kernel_are_placed_apart() -> None:
    """A skip's one tap lies at row 1, column 2 of a 3x5 kernel padded by (1, 2)."""
    rng = np.random.default_rng(7)
    wide = FixedConv(
        weight=(2 * rng.integers(-52, 64, (4, 4, 3, 5))).astype(np.int32), padding=(1, 2)
    )
    graph = skip_over(rng, skip=POINT, main=wide)
    first, middle, last = graph.layers
    main, skip = last.connections
    last = dataclasses.replace(last, connections=(dataclasses.replace(main, synapse=wide), skip))
    graph = dataclasses.replace(graph, layers=(first, middle, last))
    lowered = lower_residuals(graph, LOIHI2)
    synapse = lowered.graph.layers[2].connections[0].synapse
    assert isinstance(synapse, FixedConv)
    rows, columns = synapse.weight[:, 4:].any(axis=(0, 1)).nonzero()
    assert (rows.tolist(), columns.tolist()) == ([1], [2])
    assert_equal_in_own_channels(graph, lowered, 8)


@pytest.mark.parametrize("stride", [(2, 1), (1, 2), (2, 2)])
def test_a_skip_may_end_at_a_layer_that_strides(stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(9)
    graph = skip_over(rng, skip=POINT)
    first, middle, _ = graph.layers
    main = conv(rng, 4, 4, padding=(1, 1), stride=stride)
    skip = conv(rng, 4, 4, 1, stride=stride)
    shape = main.output_shape(middle.shape)
    graph = dataclasses.replace(
        graph, layers=(first, middle, layer("b", shape, 100, rng, ("a", main), ("s", skip)))
    )
    assert_equal_in_own_channels(graph, lower_residuals(graph, LOIHI2), 10)


def dense_layer(
    name: str, neurons: int, rng: np.random.Generator, *sources: tuple[str, int]
) -> FixedLayer:
    return FixedLayer(
        name=name,
        shape=(neurons,),
        connections=tuple(
            Connection(
                source=source,
                synapse=FixedDense(
                    weight=(2 * rng.integers(-52, 64, (neurons, inputs))).astype(np.int32)
                ),
            )
            for source, inputs in sources
        ),
        neuron=neuron(180),
        bias=rng.integers(-30, 30, (neurons,)).astype(np.int32),
    )


@pytest.mark.parametrize("target", [LOIHI2, LAVA_CPU], ids=lambda target: target.name)
def test_skips_lead_into_and_over_dense_layers(target: Target) -> None:
    """A map and a flat population, each relayed to the dense layer after the next one."""
    rng = np.random.default_rng(11)
    graph = FixedPointGraph(
        input=FixedInput(shape=(2, 4, 3)),
        layers=(
            layer("s", (3, 4, 3), 150, rng, ("input", conv(rng, 3, 2, padding=(1, 1)))),
            layer("m", (2, 4, 3), 150, rng, ("s", conv(rng, 2, 3, padding=(1, 1)))),
            dense_layer("a", 7, rng, ("m", 24), ("s", 36)),
            dense_layer("b", 6, rng, ("a", 7), ("m", 24)),
            dense_layer("c", 5, rng, ("b", 6), ("a", 7), ("s", 36)),
        ),
    )
    lowered = lower_residuals(graph, target)
    assert_equal_in_own_channels(graph, lowered, 12)
    assert [len(each.connections) for each in lowered.graph] == [1] * 5
    costs = {cost.layer: cost.neurons for cost in lowered.costs}
    assert costs == {"m": 3 * 12, "a": 24 + 36, "b": 7 + 36}


def test_a_layer_need_not_read_the_one_before_it() -> None:
    """Two branches of a map, side by side, and a layer that reads both."""
    rng = np.random.default_rng(12)
    padded = {"padding": (1, 1)}
    graph = FixedPointGraph(
        input=FixedInput(shape=(2, 6, 6)),
        layers=(
            layer("s", (3, 6, 6), 150, rng, ("input", conv(rng, 3, 2, **padded))),
            layer("a", (4, 3, 3), 150, rng, ("s", conv(rng, 4, 3, **padded, stride=(2, 2)))),
            layer("b", (2, 3, 3), 80, rng, ("s", conv(rng, 2, 3, 1, stride=(2, 2)))),
            layer("c", (3, 3, 3), 100, rng, ("a", conv(rng, 3, 4, 1)), ("b", conv(rng, 3, 2, 1))),
            dense_layer("d", 4, rng, ("a", 36)),
        ),
    )
    assert_equal_in_own_channels(graph, lower_residuals(graph, LOIHI2), 13)


def test_a_skip_that_needs_more_pixels_at_a_time_than_its_path_holds_is_refused() -> None:
    """The layer between has 3 x 3 pixels, and each tap of the skip reads 6 x 6."""
    rng = np.random.default_rng(14)
    graph = FixedPointGraph(
        input=FixedInput(shape=(4, 6, 6)),
        layers=(
            layer("s", (4, 6, 6), 100, rng, ("input", conv(rng, 4, 4, padding=(1, 1)))),
            layer("a", (4, 3, 3), 100, rng, ("s", conv(rng, 4, 4, 4))),
            layer(
                "b", (4, 6, 6), 100, rng, ("a", conv(rng, 4, 4, 4, padding=(3, 3))), ("s", POINT)
            ),
        ),
    )
    with pytest.raises(QuantizationError, match="rows or columns 0 to 5 through one tap"):
        lower_residuals(graph, LOIHI2)


def cropping_network(rng: np.random.Generator) -> FixedPointGraph:
    """Return layers that drop pixels at the border, and skips that read those nonetheless."""
    extents = [int(extent) for extent in rng.integers(9, 14, 2)]
    layers = [layer("s", (2, *extents), 90, rng, ("input", conv(rng, 2, 1, padding=(1, 1))))]
    paths, strides = {"s": extents}, {"s": [1, 1]}
    for depth in range(int(rng.integers(1, 4))):
        kernel = rng.integers(1, 4, 2)
        stride = [int(rng.integers(1, 3)) if depth == 0 else 1 for _ in range(2)]
        before = layers[-1]
        dilation = [int(rng.integers(1, 3)) for _ in range(2)]
        main = FixedConv(
            weight=(2 * rng.integers(-52, 64, (2, 2, *kernel))).astype(np.int32),
            stride=(stride[0], stride[1]), dilation=(dilation[0], dilation[1]),
        )  # fmt: skip
        if any(dilation[axis] * (kernel[axis] - 1) + 3 > before.shape[axis + 1] for axis in (0, 1)):
            break
        shape = main.output_shape(before.shape)
        skips = []
        for source, size in paths.items():
            strides[source] = [a * b for a, b in zip(strides[source], stride, strict=True)]
            reach = [size[axis] - (shape[axis + 1] - 1) * strides[source][axis] for axis in (0, 1)]
            if source == before.name or min(reach) < 1 or rng.random() < 0.2:
                continue
            weight = (2 * rng.integers(-52, 64, (2, 2, *reach))).astype(np.int32)
            skip = FixedConv(weight=weight, stride=(strides[source][0], strides[source][1]))
            if skip.output_shape((2, *size)) == shape:
                skips.append((source, skip))
        name = f"l{depth}"
        layers.append(layer(name, shape, 250, rng, (before.name, main), *skips))
        paths[name], strides[name] = list(shape[1:]), [1, 1]
    sizes = [(each.name, int(np.prod(each.shape))) for each in layers if rng.random() < 0.5]
    last = layers[-1]
    sizes = [entry for entry in sizes if entry[0] != last.name]
    layers.append(dense_layer("d", 5, rng, (last.name, int(np.prod(last.shape))), *sizes))
    return FixedPointGraph(
        input=FixedInput(shape=(1, extents[0], extents[1])), layers=tuple(layers)
    )


@pytest.mark.parametrize("seed", range(20))
def test_skips_lead_over_layers_that_crop(seed: int) -> None:
    """What a layer between has no room for lies in channels that begin further down or right."""
    graph = cropping_network(np.random.default_rng(seed))
    lowered = lower_residuals(graph, LOIHI2)
    samples = np.random.default_rng(seed).integers(0, 2, (2, 6, *graph.input.shape))
    direct = EventSimulator(graph).run(samples.astype(np.int32))
    chained = EventSimulator(lowered.graph).run(samples.astype(np.int32))
    for name, ours, theirs in zip(direct.layers, direct.spikes, chained.spikes, strict=True):
        assert np.array_equal(ours, theirs[:, :, : lowered.channels[name]]), name


def test_a_crop_costs_the_channels_that_its_borders_need() -> None:
    """Rows and columns 0 to 5 of eight are held by the layer's own place, 2 to 7 beside them."""
    rng = np.random.default_rng(16)
    graph = FixedPointGraph(
        input=FixedInput(shape=(2, 8, 8)),
        layers=(
            layer("s", (3, 8, 8), 100, rng, ("input", conv(rng, 3, 2, padding=(1, 1)))),
            layer("a", (2, 6, 6), 100, rng, ("s", conv(rng, 2, 3))),
            layer("b", (2, 4, 4), 100, rng, ("a", conv(rng, 2, 2)), ("s", conv(rng, 2, 3, 5))),
        ),
    )
    lowered = lower_residuals(graph, LOIHI2)
    assert_equal_in_own_channels(graph, lowered, 17)
    (cost,) = lowered.costs
    assert cost.channels == 3 * 2 * 2
    assert lowered.graph.layers[1].connections[0].synapse.weight.shape == (2 + 12, 3, 3, 3)


@pytest.mark.parametrize("target", [LOIHI2, LAVA_CPU], ids=lambda target: target.name)
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_skips_of_any_kernel_lead_over_layers_that_stride(
    size: tuple[int, int], target: Target
) -> None:
    """Pixels between those of the path go side by side; a dense layer reads all of them."""
    rng = np.random.default_rng(15)
    padded = {"padding": (1, 1)}
    twice = {"stride": (2, 2)}
    half = tuple(-(-extent // 2) for extent in size)
    quarter = tuple(-(-extent // 2) for extent in half)
    wide = FixedConv(
        weight=(2 * rng.integers(-52, 64, (3, 3, 3, 5))).astype(np.int32),
        stride=(4, 4), padding=(1, 2),
    )  # fmt: skip
    graph = FixedPointGraph(
        input=FixedInput(shape=(2, *size)),
        layers=(
            layer("s", (3, *size), 150, rng, ("input", conv(rng, 3, 2, **padded))),
            layer("a", (2, *half), 120, rng, ("s", conv(rng, 2, 3, **padded, **twice))),
            layer("b", (3, *quarter), 120, rng, ("s", wide),
                  ("a", conv(rng, 3, 2, **padded, **twice))),
            layer("c", (2, *quarter), 120, rng, ("b", conv(rng, 2, 3, **padded)),
                  ("a", conv(rng, 2, 2, 3, **padded, **twice))),
            dense_layer("d", 4, rng, ("c", 2 * prod(quarter)), ("a", 2 * prod(half)),
                        ("s", 3 * prod(size))),
        ),
    )  # fmt: skip
    lowered = lower_residuals(graph, target)
    assert_equal_in_own_channels(graph, lowered, 16)
    costs = {cost.layer: cost.channels for cost in lowered.costs}
    assert costs == {"a": 3 * 4, "b": 3 * 16 + 2 * 4, "c": 3 * 16 + 2 * 4}
