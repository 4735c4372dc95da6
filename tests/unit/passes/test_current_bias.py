"""Biases on decaying currents, carried by neurons that always fire, change no spike."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurodeploy.chips.target import Target
from neurodeploy.errors import GraphError, QuantizationError
from neurodeploy.interchange.floating import run_graph
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Flatten, Input, Integrator, Layer
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import (
    Carried,
    choose_scales,
    lower_current_biases,
    lower_residuals,
    quantize,
)
from neurodeploy.passes.calibration import calibrate, check_activity
from neurodeploy.passes.current_bias import always_on, carry_current_biases, drive_voltages
from neurodeploy.passes.quantization import find_populations
from neurodeploy.simulation import EventSimulator

LOIHI2 = Target.load("loihi2")
STEPS = 12
RNG = np.random.default_rng(3)
SLOW = Cuba(threshold=1.0, current_decay=0.5, voltage_decay=0.25)
FAST = Cuba(threshold=1.0, voltage_decay=0.25)


def chain(**nodes: Layer) -> Graph:
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(nodes)))


def dense(outputs: int, inputs: int, *, has_bias: bool = True) -> Dense:
    bias = RNG.normal(size=outputs) / 4 if has_bias else None
    return Dense(weight=RNG.normal(size=(outputs, inputs)), bias=bias)


def conv(outputs: int, inputs: int, **options: object) -> Conv:
    weight = RNG.normal(size=(outputs, inputs, 3, 3)) / 2
    return Conv(weight=weight, bias=RNG.normal(size=outputs) / 4, **options)  # type: ignore[arg-type]


def spikes_of(graph: Graph, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Every population's spikes, (T, ...), from the equations in `Cuba`'s docstring."""
    shapes, spikes = graph.shapes(), {}
    state = {name: [np.zeros(shape), np.zeros(shape)] for name, shape in shapes.items()}
    for step in inputs:
        values: dict[str, np.ndarray] = {}
        for name, layer in graph.nodes.items():
            x = sum((values[source] for source in graph.sources(name)), np.zeros(()))
            bias = getattr(layer, "bias", None)
            if isinstance(layer, Input):
                values[name] = step * layer.scale
            elif isinstance(layer, Flatten):
                values[name] = x.ravel()
            elif isinstance(layer, Dense):
                values[name] = layer.weight @ x.ravel() + (0 if bias is None else bias)
            elif isinstance(layer, Conv):
                values[name] = functional.conv2d(
                    torch.from_numpy(x[None]),
                    torch.from_numpy(layer.weight),
                    None if bias is None else torch.from_numpy(bias),
                    stride=layer.stride,
                    padding=layer.padding,
                )[0].numpy()
            else:
                assert isinstance(layer, Cuba)
                u, v = state[name]
                u = (1 - np.asarray(layer.current_decay)) * u + x
                v = (1 - np.asarray(layer.voltage_decay)) * v + u + (0 if bias is None else bias)
                values[name] = (v > layer.threshold).astype(float)
                state[name] = [u, np.where(v > layer.threshold, 0, v)]
                spikes.setdefault(name, []).append(values[name])
    return {name: np.array(found) for name, found in spikes.items()}


NETWORKS = {
    "behind a layer": chain(
        input=Input(shape=(3,)), a=dense(4, 3), fast=FAST, b=dense(5, 4), slow=SLOW
    ),
    "behind the input": chain(
        input=Input(shape=(3,), scale=0.5), a=dense(4, 3), slow=SLOW, b=dense(5, 4), next=SLOW
    ),
    "of convolutions": chain(
        input=Input(shape=(2, 5, 4)),
        a=conv(3, 2, padding=(1, 1)),
        fast=FAST,
        b=conv(4, 3, padding=(1, 1), stride=(2, 1)),
        slow=SLOW,
        flat=Flatten(),
        c=dense(3, 4 * 3 * 4),
        last=SLOW,
    ),
    "beside a skip": Graph(
        nodes={
            "input": Input(shape=(2, 4, 4)),
            "a": conv(3, 2, padding=(1, 1)),
            "one": FAST,
            "b": conv(3, 3, padding=(1, 1)),
            "two": SLOW,
            "c": conv(3, 3, padding=(1, 1)),
            "three": SLOW,
        },
        edges=(
            *itertools.pairwise(["input", "a", "one", "b", "two", "c", "three"]),
            ("one", "two"),
            ("two", "three"),
        ),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_stays(name: str) -> None:
    graph = NETWORKS[name]
    carried = carry_current_biases(graph)
    carried.graph.check()
    assert (carried.relay is not None) == (name == "behind the input")
    for node, layer in carried.graph.nodes.items():
        if isinstance(layer, Conv | Dense) and isinstance(graph.nodes.get(node), Conv | Dense):
            (reader,) = carried.graph.destinations(node)
            assert layer.bias is None or carried.graph.nodes[reader] is not SLOW
    inputs = (np.random.default_rng(4).random((12, *graph.input.shape)) < 0.4).astype(float)
    before, after = spikes_of(graph, inputs), spikes_of(carried.graph, inputs)
    for population, expected in before.items():
        own = after[population][:, : carried.channels[population]]
        assert np.array_equal(own, expected), population
        assert after[population][:, carried.channels[population] :].all()
        assert 0 < expected.mean() < 1


def test_what_needs_no_carrier_stays_as_it_is() -> None:
    """A bias behind a current of one step, and a decaying current without a bias."""
    graph = chain(
        input=Input(shape=(3,)),
        a=dense(4, 3),
        fast=FAST,
        b=dense(5, 4, has_bias=False),
        slow=SLOW,
    )
    assert carry_current_biases(graph).graph is graph
    assert drive_voltages(graph).is_exact


def test_biases_of_all_synapses_drive_the_voltage_together() -> None:
    two = Graph(
        nodes={
            "input": Input(shape=(2,)),
            "a": Dense(weight=np.eye(2), bias=np.array([1.0, 2.0])),
            "b": Dense(weight=np.eye(2), bias=np.array([0.5, -1.0])),
            "slow": Cuba(threshold=1.0, current_decay=0.5, bias=np.array([0.25, 0.0])),
        },
        edges=(("input", "a"), ("input", "b"), ("a", "slow"), ("b", "slow")),
    )
    driven = drive_voltages(two)
    slow = driven.graph.nodes["slow"]
    assert isinstance(slow, Cuba)
    assert slow.bias is not None
    assert slow.bias.tolist() == [3.25, 2.0]
    assert not driven.is_exact


@pytest.mark.parametrize("options", [{"padding": (3, 3)}, {"padding": (1, 1), "dilation": (2, 2)}])
def test_a_kernel_without_a_tap_on_the_map_is_refused(options: dict[str, object]) -> None:
    graph = chain(
        input=Input(shape=(2, 6, 6)),
        a=conv(3, 2, padding=(1, 1)),
        fast=FAST,
        b=conv(4, 3, **options),
        slow=SLOW,
    )
    with pytest.raises(GraphError, match=r"slow: .* padding .* no tap lies on the map"):
        carry_current_biases(graph)


@pytest.mark.parametrize(
    "entry",
    [Input(shape=(3,), largest=15), Input(shape=(3,), smallest=-1)],
    ids=["graded", "ternary"],
)
def test_input_of_more_than_spikes_cannot_be_relayed(entry: Input) -> None:
    graph = chain(input=entry, a=dense(4, 3), slow=SLOW)
    with pytest.raises(GraphError, match=r"slow: .*only binary input can be relayed"):
        carry_current_biases(graph)


def cuba_network(seed: int, *, largest: int = 1, **options: object) -> Graph:
    """Return a network of SLAYER's CUBA neurons whose every synapse has a bias."""
    rng = np.random.default_rng(seed)

    def neuron(threshold: float) -> Cuba:
        return Cuba(threshold=threshold, current_decay=0.25, voltage_decay=0.25)

    nodes: dict[str, Layer] = {
        "input": Input(shape=(2, 7, 6), largest=largest, scale=1 / largest),
        "conv1": Conv(
            weight=rng.normal(0, 0.3, (6, 2, 3, 3)), bias=rng.normal(0, 0.1, 6), padding=(1, 1)
        ),
        "one": neuron(1.0),
        "conv2": Conv(
            weight=rng.normal(0, 0.25, (8, 3, 3, 2)),
            bias=rng.normal(0, 0.1, 8),
            stride=(2, 1),
            padding=(1, 0),
            groups=2,
        ),
        "two": neuron(1.25),
        "flat": Flatten(),
        "fc": Dense(weight=rng.normal(0, 0.15, (10, 160)), bias=rng.normal(0, 0.1, 10)),
        "three": neuron(1.0),
        "read": Dense(weight=rng.normal(0, 0.4, (4, 10)), bias=rng.normal(0, 0.1, 4)),
        "out": Integrator(),
    }
    nodes |= options  # type: ignore[arg-type]
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(nodes)))


def events(seed: int, *, largest: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spikes = rng.random((24, STEPS, 2, 7, 6)) < 0.3
    return (spikes * rng.integers(1, largest + 1, spikes.shape)).astype(np.int32)


def shares(graph: Graph, lowered: Graph, inputs: np.ndarray) -> dict[str, float]:
    """Return the share of spikes that the integers of `lowered` have as the floats of `graph`."""
    floats = run_graph(graph, inputs * graph.input.scale)
    run = EventSimulator(calibrate(lowered, LOIHI2, inputs).graph).run(inputs)
    return {
        name: float(np.mean(run.spikes_of(name)[:, :, : values.shape[2]] == values))
        for name, values in floats.values.items()
        if values.dtype == np.uint8
    }


def on_the_voltage(graph: Graph) -> Graph:
    """Return what quantization once made of such biases: drives of the voltage, as they are."""
    changed: dict[str, Layer] = {}
    for population in find_populations(graph):
        for branch in population.branches:
            changed[branch.node] = dataclasses.replace(branch.layer, bias=None)
        changed[population.name] = dataclasses.replace(population.neuron, bias=population.bias)
    return graph.replace_nodes(changed=changed)


@pytest.mark.parametrize("seed", range(3))
def test_integers_have_the_spikes_of_decaying_currents_with_biases(seed: int) -> None:
    graph, inputs = cuba_network(seed), events(seed)
    before = shares(graph, on_the_voltage(graph), inputs)
    carried = lower_current_biases(graph)
    assert carried.is_exact
    after = shares(graph, carried.graph, inputs)
    assert min(after.values()) > 0.94  # before, down to 0.88
    for name in ("one", "two", "three"):
        assert 1 - after[name] < (1 - before[name]) / 2, name


def test_the_floats_of_the_lowered_network_are_the_floats_of_the_network() -> None:
    graph, inputs = cuba_network(4), events(4)
    carried = carry_current_biases(graph)
    assert carried.carriers == {"one": "input.relay", "two": "one", "three": "two"}
    before, after = (run_graph(network, inputs) for network in (graph, carried.graph))
    for name, values in before.values.items():
        own = after.values[name][:, :, : carried.channels[name]]
        if values.dtype == np.uint8:
            assert np.array_equal(own, values), name
            assert name == "three" or after.values[name][:, :, carried.channels[name] :].all()
        else:
            np.testing.assert_allclose(own, values, atol=1e-12)


def test_quantization_takes_no_bias_through_a_decaying_current() -> None:
    graph = cuba_network(0)
    for attempt in (quantize, choose_scales):
        with pytest.raises(QuantizationError, match=r"one: .*current_decay 0\.25.*lower_current_"):
            attempt(graph, LOIHI2, steps=STEPS)
    quantize(lower_current_biases(graph).graph, LOIHI2, steps=STEPS)


def test_graded_input_drives_the_first_voltage_and_says_so() -> None:
    graph, inputs = cuba_network(1, largest=7), events(1, largest=7)
    with pytest.raises(GraphError, match=r"one: .*only binary input can be relayed"):
        carry_current_biases(graph)
    carried = lower_current_biases(graph)
    assert carried.carriers == {"two": "one", "three": "two"}
    assert carried.describe() == (
        "two: exact, by a channel of one that fires at every step; "
        "three: exact, by a channel of two that fires at every step; "
        "one: approximated by bias / current_decay on the voltage, since the layer reads graded "
        "input: only binary input can be relayed. To have it exact, train the layer without bias "
        "and batch norm"
    )
    assert not carried.is_exact
    first, synapse = graph.nodes["conv1"], carried.graph.nodes["conv1"]
    neuron = carried.graph.nodes["one"]
    assert isinstance(first, Conv)
    assert first.bias is not None
    assert isinstance(synapse, Conv)
    assert isinstance(neuron, Cuba)
    assert neuron.bias is not None
    assert synapse.bias is None
    np.testing.assert_allclose(neuron.bias.ravel()[:6], first.bias / 0.25)
    before = shares(graph, on_the_voltage(graph), inputs)
    after = shares(graph, lower_current_biases(graph, steps=STEPS).graph, inputs)
    assert all(after[name] > before[name] for name in before)


def test_the_drive_is_fitted_to_the_steps() -> None:
    graph = cuba_network(1, largest=7)
    bias = graph.nodes["conv1"].bias  # type: ignore[union-attr]
    assert bias is not None
    ratios = np.array([1, 1.75, 2.3125, 2.734375]) / [1, 2.5, 4.1875, 5.875]
    fitted = ratios.sum() / np.square(ratios).sum()
    assert fitted == pytest.approx(1.352, abs=0.001)
    for steps, gain in ((1, 1.0), (4, fitted), (None, 4.0)):
        carried = lower_current_biases(graph, steps=steps)
        drive = carried.graph.nodes["one"].bias  # type: ignore[union-attr]
        assert (drive.ravel()[:6] / bias).tolist() == [pytest.approx(gain)] * 6
        words = "bias / current_decay" if steps is None else f"fitted to {steps} steps"
        assert words in carried.describe()


def conv2(**options: object) -> Conv:
    layer = cuba_network(0).nodes["conv2"]
    assert isinstance(layer, Conv)
    return dataclasses.replace(layer, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ({"conv2": conv2(bias=np.full((8, 4, 5), 0.1))}, "it differs between positions"),
        (
            {"conv2": conv2(padding=(3, 0)), "fc": Dense(weight=np.ones((10, 8 * 6 * 5)))},
            "with padding (3, 0) of a kernel dilated by (1, 1) no tap lies on the map at every "
            "position",
        ),
    ],
)
def test_a_bias_that_no_tap_can_carry_drives_the_voltage(
    layers: Mapping[str, Layer], reason: str
) -> None:
    graph = cuba_network(0, **layers)
    carried = lower_current_biases(graph)
    assert carried.driven == {"two": reason}
    assert "two" not in carried.carriers
    with pytest.raises(GraphError, match="two: its bias passes through a decaying current"):
        carry_current_biases(graph)
    quantize(carried.graph, LOIHI2, steps=STEPS)


def test_several_channels_share_a_bias_larger_than_the_weights() -> None:
    """One that carried it alone would halve the precision of the weights again and again."""
    graph = cuba_network(6)
    conv, fc = graph.nodes["conv2"], graph.nodes["fc"]
    assert isinstance(conv, Conv)
    assert isinstance(fc, Dense)
    largest = float(np.abs(conv.weight).max())
    bias = largest * np.array([0.5, -2.6, 1.2, 0, 0, 0, 0, 0])
    huge = np.full(10, 100 * float(np.abs(fc.weight).max()))
    carried = carry_current_biases(
        graph.replace_nodes(
            changed={
                "conv2": dataclasses.replace(conv, bias=bias),
                "fc": dataclasses.replace(fc, bias=huge),
            }
        )
    )
    synapse, dense = (carried.graph.nodes[name] for name in ("conv2", "fc"))
    assert isinstance(synapse, Conv)
    assert isinstance(dense, Dense)
    columns = synapse.weight[:8, 6:, 1, 0].T
    np.testing.assert_allclose(
        columns[:, :3] / largest, [[0.5, -1, 1], [0, -1, 0.2], [0, -0.6, 0]], atol=1e-12
    )
    assert not columns[:, 3:].any()
    assert np.abs(synapse.weight).max() == pytest.approx(largest)
    assert "three: exact, by 8 channels of two that fire at every step" in carried.describe()
    np.testing.assert_allclose(dense.weight[:, 160:].sum(axis=1), huge)
    assert np.count_nonzero(dense.weight[:, 160:]) == 8 * 10
    before, after = run_graph(carried.original, events(6)), run_graph(carried.graph, events(6))
    for name in ("one", "two", "three"):
        own = after.values[name][:, :, : carried.channels[name]]
        assert np.array_equal(own, before.values[name])


def test_nothing_changes_without_such_biases() -> None:
    plain = cuba_network(0)
    changed = {
        name: dataclasses.replace(layer, current_decay=1.0)
        for name, layer in plain.nodes.items()
        if isinstance(layer, Cuba)
    }
    graph = plain.replace_nodes(changed=changed)
    carried = lower_current_biases(graph)
    assert carried.graph is graph
    assert (carried.describe(), carried.trainable, carried.is_exact) == ("", {}, True)
    assert drive_voltages(graph).graph is graph


def test_only_channels_that_carry_biases_fire_whatever_arrives() -> None:
    carried = lower_current_biases(cuba_network(2))
    fixed = calibrate(carried.graph, LOIHI2, events(2)).graph
    found = {layer.name: np.flatnonzero(always_on(layer)).tolist() for layer in fixed}
    assert found == {"input.relay": [2], "one": [6], "two": [8], "three": [], "out": []}
    run = EventSimulator(fixed).run(np.zeros((1, 3, 2, 7, 6), np.int32))
    carried.check_firing(run)
    assert (run.spikes_of("one")[:, :, 6] == 1).all()


def silenced(carried: Carried) -> Graph:
    neuron = carried.graph.nodes["two"]
    assert isinstance(neuron, Cuba)
    assert neuron.bias is not None
    ratio = np.asarray(neuron.bias) / neuron.threshold
    quiet = dataclasses.replace(neuron, threshold=40.0, bias=40.0 * ratio)
    return carried.graph.replace_nodes(changed={"two": quiet})


def test_a_channel_that_carries_biases_hides_no_silent_layer() -> None:
    inputs = events(3)
    carried = lower_current_biases(cuba_network(3))
    with pytest.raises(QuantizationError, match="two: no neuron spikes on any of the 24"):
        calibrate(silenced(carried), LOIHI2, inputs)
    fixed = calibrate(carried.graph, LOIHI2, inputs)
    check_activity(fixed.graph, EventSimulator(fixed.graph).run(inputs))
    spikes = EventSimulator(fixed.graph).run(inputs).spikes_of("two")
    rate = dict(zip(fixed.graph.names, fixed.spike_rates, strict=True))["two"]
    assert rate == pytest.approx(float(np.mean(spikes[:, :, :8])))


def test_weights_that_carry_biases_are_told_from_the_networks_own() -> None:
    carried = lower_current_biases(cuba_network(5))
    masks = carried.trainable
    assert set(masks) == {"input.relay.synapse", "conv1", "conv2", "fc"}
    assert not masks["input.relay.synapse"].any()
    # 7 by 3 kernels: no weight of the added row, of the added column one tap by channel.
    assert masks["conv1"].shape == (7, 3, 3, 3)
    assert masks["conv1"][:6, :2].all()
    assert not masks["conv1"][6].any()
    assert masks["conv1"][:6, 2].sum(axis=0).tolist() == [[0, 0, 0], [0, 6, 0], [0, 0, 0]]
    # Groups were spread: half of the weights between are none of the network's.
    assert masks["conv2"][:8, :6].sum() == 8 * 3 * 3 * 2
    assert masks["fc"][:, 160:].sum(axis=1).tolist() == [1] * 10


def test_skips_and_carried_biases_are_lowered_together() -> None:
    rng = np.random.default_rng(0)

    def neuron() -> Cuba:
        return Cuba(threshold=1.0, current_decay=0.25, voltage_decay=0.25)

    def conv(inputs: int) -> Conv:
        weight = rng.normal(0, 0.25, (5, inputs, 3, 3))
        return Conv(weight=weight, bias=rng.normal(0, 0.1, 5), padding=(1, 1))

    nodes: dict[str, Layer] = {
        "input": Input(shape=(2, 7, 6)),
        "conv1": conv(2),
        "one": neuron(),
        "conv2": conv(5),
        "two": neuron(),
        "conv3": conv(5),
        "three": neuron(),
        "flat": Flatten(),
        "read": Dense(weight=rng.normal(0, 0.3, (3, 210))),
        "out": Integrator(),
    }
    graph = Graph(nodes=nodes, edges=(*itertools.pairwise(nodes), ("one", "three")))
    carried = lower_current_biases(graph)
    assert carried.is_exact
    assert not carried.trainable["one@three"].any()  # the identity, written out
    target, inputs = Target.load("lava-cpu"), events(0)
    fixed = calibrate(carried.graph, target, inputs).graph
    lowered = lower_residuals(fixed, target)
    floats = run_graph(graph, inputs)
    direct, chain = (EventSimulator(g).run(inputs) for g in (fixed, lowered.graph))
    for name in ("one", "two", "three"):
        spikes = direct.spikes_of(name)
        assert np.array_equal(spikes, chain.spikes_of(name)[:, :, : spikes.shape[2]]), name
        assert np.mean(spikes[:, :, :5] == floats.values[name]) > 0.96
    # Five of the network, and the channel that always fires.
    assert [(cost.layer, cost.channels) for cost in lowered.costs] == [("two", 6)]
