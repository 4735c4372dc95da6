"""The fine-tuned network's forward pass is the simulator's arithmetic."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurodeploy.chips.target import Target
from neurodeploy.errors import DataError
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Flatten, Input, Integrator
from neurodeploy.ir.graphs import Graph
from neurodeploy.nn.functional.surrogate import Rectangular, Triangular
from neurodeploy.passes import lower_current_biases
from neurodeploy.passes.calibration import calibrate
from neurodeploy.passes.current_bias import always_on
from neurodeploy.pipeline.deployment.integer_network import IntegerNetwork
from neurodeploy.simulation import EventSimulator, Recording

LOIHI2 = Target.load("loihi2")
STEPS = 5


def make_graph(rng: np.random.Generator, *, current_decay: float = 1.0) -> Graph:
    nodes = {
        "input": Input(shape=(2, 6, 5), scale=1 / 16, largest=16),
        "conv1": Conv(
            weight=rng.normal(0, 0.5, (6, 2, 3, 3)), bias=rng.normal(0, 0.1, 6), padding=(1, 1)
        ),
        "lif1": Cuba(threshold=0.5, current_decay=current_decay, voltage_decay=0.75),
        "conv2": Conv(
            weight=rng.normal(0, 0.4, (8, 3, 3, 2)), stride=(2, 1), padding=(1, 0), groups=2
        ),
        "lif2": Cuba(threshold=0.6, current_decay=current_decay, voltage_decay=0.1),
        "flat": Flatten(),
        "fc": Dense(weight=rng.normal(0, 0.3, (4, 8 * 3 * 4)), bias=rng.normal(0, 0.1, 4)),
        "out": Integrator(),
    }
    names = list(nodes)
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(names)))


def make_network(
    rng: np.random.Generator, **options: float
) -> tuple[IntegerNetwork, np.ndarray, dict[str, float]]:
    graph = lower_current_biases(make_graph(rng, **options)).graph
    samples = rng.integers(0, 17, (24, STEPS, 2, 6, 5)).astype(np.int32)
    calibration = calibrate(graph, LOIHI2, samples)
    network = IntegerNetwork(
        graph, LOIHI2, calibration.scales, steps=STEPS, surrogate=Rectangular()
    )
    return network, samples, calibration.scales


def compare_spikes(network: IntegerNetwork, samples: np.ndarray, recording: Recording) -> None:
    with torch.no_grad():
        _, spikes = network.forward_with_spikes(torch.from_numpy(samples))
    assert [*spikes, "out"] == list(recording.layers)
    for ours, simulated in zip(spikes.values(), recording.spikes, strict=False):
        assert np.array_equal(ours.numpy().astype(np.int64), simulated)
    assert not recording.spikes[-1].any()


def assert_equals_simulator(network: IntegerNetwork, samples: np.ndarray) -> None:
    recording = EventSimulator(network.to_fixed_point()).run(samples)
    compare_spikes(network, samples, recording)
    assert any(spikes.any() and not spikes.all() for spikes in recording.spikes)


@pytest.mark.parametrize("current_decay", [1.0, 0.3])
def test_spikes_equal_the_simulators_before_and_after_training(current_decay: float) -> None:
    network, samples, _ = make_network(np.random.default_rng(3), current_decay=current_decay)
    assert_equals_simulator(network, samples)
    before = [weight.detach().clone() for weight in network.parameters()]
    labels = torch.arange(24) % 4
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(samples)).mean(1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(
        not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)
    )
    assert_equals_simulator(network, samples)


def test_channels_that_carry_biases_keep_firing_while_their_readers_train() -> None:
    rng = np.random.default_rng(7)
    graph = make_graph(rng, current_decay=0.3)
    conv = graph.nodes["conv2"]
    assert isinstance(conv, Conv)
    conv = replace(conv, bias=rng.normal(0, 0.2, 8))
    carried = lower_current_biases(graph.replace_nodes(changed={"conv2": conv}))
    assert carried.carriers == {"lif2": "lif1"}
    samples = rng.integers(0, 17, (24, STEPS, 2, 6, 5)).astype(np.int32)
    scales = calibrate(carried.graph, LOIHI2, samples).scales
    network = IntegerNetwork(
        carried.graph, LOIHI2, scales, steps=STEPS, surrogate=Rectangular(), carried=carried
    )
    before = network.to_fixed_point()
    # An optimizer that moves every value, those without a gradient as well.
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02, weight_decay=0.5)
    for _ in range(8):
        scores = network(torch.from_numpy(samples)).mean(1)
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(24) % 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = network.to_fixed_point()
    recording = EventSimulator(after).run(samples)
    compare_spikes(network, samples, recording)
    carried.check_firing(recording)
    columns = []
    for fixed in (before, after):
        first, second = fixed.layers[:2]
        assert np.flatnonzero(always_on(first)).tolist() == [6]
        assert not first.connections[0].synapse.weight[6].any()
        assert int(first.bias.reshape(-1)[6]) > int(first.neuron.threshold)
        column = second.connections[0].synapse.weight[:, 6]
        assert np.argwhere(column.any(axis=0)).tolist() == [[1, 0]]  # at the tap, padding (1, 0)
        # Groups of two: what no weight led to before stays so.
        assert not second.connections[0].synapse.weight[:4, 3:6].any()
        columns.append(column[:, 1, 0])
    assert not np.array_equal(*columns)
    assert before.layers[0].bias.reshape(-1)[6] == after.layers[0].bias.reshape(-1)[6]


def test_class_scores_are_the_read_outs_voltage_in_float_units() -> None:
    network, samples, scales = make_network(np.random.default_rng(4))
    recording = EventSimulator(network.to_fixed_point()).run(samples)
    scores = network(torch.from_numpy(samples)).sum(1).detach().numpy()
    voltage = recording.voltage[:, -1] / (64 * scales["out"])
    assert np.abs(scores - voltage).max() < 1e-5 * np.abs(voltage).max()
    assert np.array_equal(scores.argmax(1), recording.voltage[:, -1].argmax(1))


def test_a_static_image_gives_what_its_repetition_gives() -> None:
    network, samples, _ = make_network(np.random.default_rng(5))
    image = torch.from_numpy(samples[:, 0])
    repeated = image.unsqueeze(1).expand(-1, STEPS, -1, -1, -1)
    assert torch.equal(network(image), network(repeated))


def test_wraps_and_clips_are_the_simulators() -> None:
    """Scales far beyond the safe ones: currents wrap, voltages clip, spikes still agree."""
    rng = np.random.default_rng(6)
    graph = make_graph(rng)
    layer = graph.nodes["conv1"]
    assert isinstance(layer, Conv)
    network = IntegerNetwork(
        graph,
        LOIHI2,
        {"lif1": 1000.0, "lif2": 100.0, "out": 200.0},
        steps=STEPS,
        surrogate=Triangular(),
    )
    samples = rng.integers(0, 1 << 14, (6, STEPS, 2, 6, 5)).astype(np.int32)
    fixed = network.to_fixed_point()
    object.__setattr__(fixed.input, "message_bits", 16)
    recording = EventSimulator(fixed).run(samples)
    assert recording.health is not None
    assert recording.health[0].current_wraps > 0
    compare_spikes(network, samples, recording)


@pytest.mark.parametrize("current_decay", [0.0, 0.3])
def test_states_beyond_32_bits_are_the_simulators(current_decay: float) -> None:
    """Lava's LIF sums wrap at 32 bits before the 24-bit rules; a dense sum can get that far."""
    rng = np.random.default_rng(8)
    nodes = {
        "input": Input(shape=(40,), largest=1 << 15),
        "fc": Dense(weight=rng.normal(0.2, 1.0, (200, 40))),
        "lif": Cuba(threshold=0.5, current_decay=current_decay, voltage_decay=0.1),
        "read": Dense(weight=rng.normal(0, 1, (3, 200))),
        "out": Integrator(),
    }
    graph = Graph(nodes=nodes, edges=tuple(itertools.pairwise(nodes)))
    network = IntegerNetwork(
        graph, LOIHI2, {"lif": 60.0, "out": 50.0}, steps=STEPS, surrogate=Rectangular()
    )
    samples = rng.integers(-(1 << 15), 1 << 15, (16, STEPS, 40)).astype(np.int32)
    recording = EventSimulator(network.to_fixed_point()).run(samples)
    assert recording.health is not None
    assert recording.health[0].current_peak > 1 << 31
    compare_spikes(network, samples, recording)


def test_the_gradient_is_the_surrogates() -> None:
    """One neuron, one step: dL/dw = x · h(v), in float units."""
    nodes = {
        "input": Input(shape=(2,)),
        "fc": Dense(weight=np.array([[0.5, -0.25]])),
        "lif": Cuba(threshold=0.5),
        "read": Dense(weight=np.array([[1.0], [-1.0]])),
        "out": Integrator(),
    }
    names = list(nodes)
    graph = Graph(nodes=nodes, edges=tuple(itertools.pairwise(names)))
    network = IntegerNetwork(
        graph, LOIHI2, {"lif": 400.0, "out": 100.0}, steps=1, surrogate=Triangular(height=2.0)
    )
    scores = network(torch.tensor([[[1, 0]]]))
    scores[0, 0, 0].backward()
    (weight,) = network.populations[0].weights  # type: ignore[union-attr]
    height = 2.0 * (1 - abs(0.5 / 0.5 - 1))
    assert weight.grad.tolist() == [[height, 0.0]]


def test_input_of_another_shape_is_refused() -> None:
    network, samples, _ = make_network(np.random.default_rng(7))
    with pytest.raises(DataError, match=r"shape \(24, 4, 2, 6, 5\)"):
        network(torch.from_numpy(samples[:, :4]))


def make_foreign(rng: np.random.Generator, *, last: Cuba | Integrator) -> Graph:
    """Return what networks of other frameworks have: recurrence, decays by neuron, shared weights.

    The first layer fires at its threshold; "shared" leads to two populations.
    """
    nodes = {
        "input": Input(shape=(9,)),
        "fc": Dense(weight=rng.normal(0, 0.7, (12, 9)), bias=rng.normal(0, 0.1, 12)),
        "first": Cuba(
            threshold=0.5,
            fires_at_threshold=True,
            current_decay=rng.uniform(0.4, 0.9, 12),
            voltage_decay=rng.uniform(0.1, 0.6, 12),
        ),
        "back": Dense(weight=rng.normal(0, 0.4, (12, 12))),
        "shared": Dense(weight=rng.normal(0, 0.5, (7, 12)), bias=rng.normal(0, 0.1, 7)),
        "left": Cuba(threshold=0.6, voltage_decay=0.2),
        "right": Cuba(threshold=0.9, voltage_decay=0.5),
        "from_left": Dense(weight=rng.normal(0, 0.5, (4, 7))),
        "from_right": Dense(weight=rng.normal(0, 0.5, (4, 7))),
        "last": last,
    }
    edges = (
        ("input", "fc"), ("fc", "first"), ("first", "back"), ("back", "first"),
        ("first", "shared"), ("shared", "left"), ("shared", "right"), ("left", "from_left"),
        ("right", "from_right"), ("from_left", "last"), ("from_right", "last"),
    )  # fmt: skip
    return Graph(nodes=nodes, edges=edges)


LASTS: dict[str, Cuba | Integrator] = {
    "spikes": Cuba(threshold=0.4, voltage_decay=0.3),
    "leaky read-out": Integrator(current_decay=0.5, voltage_decay=0.25),
    "sum": Integrator(),
}


@pytest.mark.parametrize("last", LASTS)
def test_networks_of_other_frameworks_train_as_the_simulator_runs_them(last: str) -> None:
    rng = np.random.default_rng(11)
    samples = (rng.random((20, 12, 9)) < 0.4).astype(np.int32)
    drive = lower_current_biases(make_foreign(rng, last=LASTS[last]), steps=12)
    scales = calibrate(drive.graph, LOIHI2, samples).scales
    network = IntegerNetwork(drive.graph, LOIHI2, scales, steps=12, carried=drive)
    labels = torch.from_numpy(rng.integers(0, 4, 20))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02, weight_decay=0)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    losses = []
    for _ in range(16):
        recording = EventSimulator(network.to_fixed_point()).run(samples)
        with torch.no_grad():
            scores, spikes = network.forward_with_spikes(torch.from_numpy(samples))
        for name, values in spikes.items():
            assert np.array_equal(values.numpy(), recording.spikes_of(name)), name
        if last == "spikes":
            expected = recording.spikes_of("last").sum(axis=1)
            assert np.array_equal(scores.mean(1).numpy(), expected)
        else:
            expected = recording.voltage[:, -1] / (64 * scales["last"])
            total = scores[:, 0] if last == "leaky read-out" else scores.sum(1)
            assert np.abs(total.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
        loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(samples)).mean(1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    for name, weight in network.named_parameters():
        if weight.requires_grad and before[name].any():
            assert not torch.equal(before[name], weight), name


def test_gradients_of_a_recurrent_and_a_leaky_layer_are_those_of_torch() -> None:
    """On the chip's grid nothing is rounded: floats with the same surrogate do the same."""
    rng = np.random.default_rng(12)
    steps, scale = 5, 64.0

    def on_grid(*shape: int) -> np.ndarray:
        return 2 * rng.integers(-30, 31, shape) / scale

    decay = np.array([0.5, 1.0, 0.5, 0.5])
    nodes = {
        "input": Input(shape=(6,)),
        "fc": Dense(weight=on_grid(4, 6), bias=None),
        "lif": Cuba(threshold=0.75, current_decay=0.5, voltage_decay=decay),
        "back": Dense(weight=on_grid(4, 4)),
        "read": Dense(weight=on_grid(3, 4)),
        "out": Integrator(voltage_decay=0.5),
    }
    edges = (
        ("input", "fc"), ("fc", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "read"),
        ("read", "out"),
    )  # fmt: skip
    surrogate = Triangular(height=0.7)
    network = IntegerNetwork(
        Graph(nodes=nodes, edges=edges),
        LOIHI2,
        {"lif": scale, "out": scale},
        steps=steps,
        surrogate=surrogate,
    )
    samples = torch.from_numpy((rng.random((8, steps, 6)) < 0.5).astype(np.float64))
    factors = torch.from_numpy(rng.normal(size=(8, 3)))
    (network(samples)[:, 0] * factors).sum().backward()

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, voltage):
            ctx.save_for_backward(voltage)
            return (voltage > 0.75).double()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * surrogate.derivative(ctx.saved_tensors[0], 0.75)

    weights = [
        torch.tensor(nodes[name].weight, requires_grad=True) for name in ("fc", "back", "read")
    ]
    current = voltage = spikes = torch.zeros(8, 4, dtype=torch.float64)
    out = torch.zeros(8, 3, dtype=torch.float64)
    total = 0
    for step in range(steps):
        current = 0.5 * current + samples[:, step] @ weights[0].T + spikes @ weights[1].T
        voltage = (1 - torch.from_numpy(decay)) * voltage + current
        spikes = Spike.apply(voltage)
        voltage = voltage * (1 - spikes.detach())
        out = 0.5 * out + spikes @ weights[2].T
        total += int(spikes.sum())
    (out * factors).sum().backward()
    assert total > 20
    ours = [*network.populations[0].weights, *network.populations[1].weights]  # type: ignore[union-attr]
    for mine, reference in zip(ours, weights, strict=True):
        torch.testing.assert_close(mine.grad.double(), reference.grad, rtol=1e-5, atol=1e-6)
