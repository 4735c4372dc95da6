"""Ways to join layers: each from a trained module and from NIR to a file, spike for spike."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import neurodeploy as nd
from neurodeploy.errors import InterchangeError, QuantizationError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks
nir = pytest.importorskip("nir", reason="the package nir is not installed")
pytest.importorskip("sinabs", reason="the package sinabs is not installed")
snntorch = pytest.importorskip("snntorch", reason="the package snntorch is not installed")

from sinabs.layers import SumPool2d  # noqa: E402

SIZE = 8
BETA, THRESHOLD = 0.75, 0.375
Edges = tuple[tuple[str, str], ...]


class Network(nn.Module):
    """Layers that each read the sum of their sources; "input" and "output" are its ends."""

    def __init__(self, edges: Edges, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.edges = edges
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {"input": x}
        for name in (*self.layers, "output"):
            value = reduce(torch.add, (values[a] for a, b in self.edges if b == name))
            values[name] = self.layers[name](value) if name in self.layers else value
        return values["output"]


def lif() -> nn.Module:
    return snntorch.Leaky(BETA, threshold=THRESHOLD, reset_mechanism="zero", init_hidden=True)


def conv(inputs: int, outputs: int, kernel: int = 3, padding: int = 1, **more: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, padding=padding, **more)


def join(*paths: str) -> Edges:
    """Return the edges of paths such as "input a b output"."""
    return tuple(
        edge for path in paths for edge in zip(path.split(), path.split()[1:], strict=False)
    )


STRUCTURES = {
    "a convolution beside an identity": lambda: Network(
        join("input c1 a c2 b output", "a b"),
        {"c1": conv(1, 3), "a": lif(), "c2": conv(3, 3), "b": lif()},
    ),
    "a dense layer beside an identity": lambda: Network(
        join("input f d1 a d2 b output", "a b"),
        {"f": nn.Flatten(), "d1": nn.Linear(64, 9), "a": lif(), "d2": nn.Linear(9, 9), "b": lif()},
    ),
    "two convolutions side by side": lambda: Network(
        join("input c1 a c2 b output", "a c3 b"),
        {
            "c1": conv(1, 3), "a": lif(), "c2": conv(3, 4, stride=2),
            "c3": conv(3, 4, 1, 0, stride=2), "b": lif(),
        },
    ),
    "two pools before a dense layer": lambda: Network(
        join("input c1 a p1 p2 f d b output"),
        {
            "c1": conv(1, 4), "a": lif(), "p1": nn.AvgPool2d(2), "p2": nn.AvgPool2d(2),
            "f": nn.Flatten(), "d": nn.Linear(16, 6), "b": lif(),
        },
    ),
    "two pools before a neuron": lambda: Network(
        join("input c1 a p1 p2 b output"),
        {"c1": conv(1, 4), "a": lif(), "p1": nn.AvgPool2d(2), "p2": nn.AvgPool2d(2), "b": lif()},
    ),
    "one synapse for two neurons": lambda: Network(
        join("input c1 a c2 d output", "c1 b c3 d"),
        {
            "c1": conv(1, 3), "a": lif(), "b": snntorch.Leaky(
                0.5, threshold=0.25, reset_mechanism="zero", init_hidden=True
            ),
            "c2": conv(3, 4), "c3": conv(3, 4), "d": lif(),
        },
    ),
    "one synapse for a neuron and a pool": lambda: Network(
        join("input c1 a p1 c2 d output", "c1 p2 b c3 d"),
        {
            "c1": conv(1, 3), "a": lif(), "p1": nn.AvgPool2d(2), "p2": nn.AvgPool2d(2),
            "b": lif(), "c2": conv(3, 4, 1, 0), "c3": conv(3, 4, 1, 0), "d": lif(),
        },
    ),
    "a mean and a sum of windows before a convolution": lambda: Network(
        join("input c1 a p c2 d output", "a s c2"),
        {
            "c1": conv(1, 3), "a": lif(), "p": nn.AvgPool2d(2), "s": SumPool2d(2),
            "c2": conv(3, 4), "d": lif(),
        },
    ),
    "a sum of spikes before a dense layer": lambda: Network(
        join("input c1 a c2 b c3 c p f d output", "a c3", "a p", "b p"),
        {
            "c1": conv(1, 3), "a": lif(), "c2": conv(3, 3), "b": lif(), "c3": conv(3, 3),
            "c": lif(), "p": nn.AvgPool2d(SIZE), "f": nn.Flatten(), "d": nn.Linear(3, 5),
        },
    ),
    "a flattened map before a neuron": lambda: Network(
        join("input c1 f a d1 b output"),
        {"c1": conv(1, 3), "f": nn.Flatten(), "a": lif(), "d1": nn.Linear(192, 5), "b": lif()},
    ),
    "a flattened pool before a neuron": lambda: Network(
        join("input c1 p f a d1 output"),
        {
            "c1": conv(1, 3), "p": nn.AvgPool2d(2), "f": nn.Flatten(), "a": lif(),
            "d1": nn.Linear(48, 5),
        },
    ),
    "a flattened map and a dense layer before a neuron": lambda: Network(
        join("input c1 f a output", "input g d1 a"),
        {
            "c1": conv(1, 3), "f": nn.Flatten(), "g": nn.Flatten(), "d1": nn.Linear(64, 192),
            "a": lif(),
        },
    ),
    "a flattened map for a neuron and a dense layer": lambda: Network(
        join("input c1 a c2 f b d2 c output", "f d1 c"),
        {
            "c1": conv(1, 2), "a": lif(), "c2": conv(2, 3), "f": nn.Flatten(), "b": lif(),
            "d1": nn.Linear(192, 5), "d2": nn.Linear(192, 5), "c": lif(),
        },
    ),
    "neurons on flattened spikes": lambda: Network(
        join("input c1 a f b d1 output", "f d1"),
        {"c1": conv(1, 3), "a": lif(), "f": nn.Flatten(), "b": lif(), "d1": nn.Linear(192, 5)},
    ),
    "a flatten behind spikes at the end": lambda: Network(
        join("input c1 a f output"), {"c1": conv(1, 3), "a": lif(), "f": nn.Flatten()}
    ),
    "a flatten behind a pool at the end": lambda: Network(
        join("input c1 a p f output"),
        {"c1": conv(1, 3), "a": lif(), "p": nn.AvgPool2d(SIZE), "f": nn.Flatten()},
    ),
    "a flatten behind a sum at the end": lambda: Network(
        join("input c1 a c2 b p f output", "a p"),
        {
            "c1": conv(1, 3), "a": lif(), "c2": conv(3, 3), "b": lif(), "p": nn.AvgPool2d(2),
            "f": nn.Flatten(),
        },
    ),
    "a sum of spikes at the end": lambda: Network(
        join("input c1 a c2 b output", "a output"),
        {"c1": conv(1, 3), "a": lif(), "c2": conv(3, 3), "b": lif()},
    ),
    "a sum of dense layers and flattened spikes at the end": lambda: Network(
        join("input c1 a f d1 output", "f d2 b d3 output", "c1 p g output"),
        {
            "c1": conv(1, 3), "a": lif(), "f": nn.Flatten(), "d1": nn.Linear(192, 12),
            "d2": nn.Linear(192, 9), "b": lif(), "d3": nn.Linear(9, 12), "p": nn.AvgPool2d(4),
            "g": nn.Flatten(),
        },
    ),
    "a skip over dense layers": lambda: Network(
        join("input f d1 a d2 b d3 c output", "a c"),
        {
            "f": nn.Flatten(), "d1": nn.Linear(64, 9), "a": lif(), "d2": nn.Linear(9, 7),
            "b": lif(), "d3": nn.Linear(7, 9), "c": lif(),
        },
    ),
    "a skip over convolutions that crop": lambda: Network(
        join("input c1 a c2 b c3 c output", "a c4 c"),
        {
            "c1": conv(1, 3), "a": lif(), "c2": conv(3, 3, padding=0), "b": lif(),
            "c3": conv(3, 2, padding=0), "c4": conv(3, 2, 5, 0), "c": lif(),
        },
    ),
    "a down-sampling block with neurons on both branches": lambda: Network(
        join("input c1 a c2 b c3 c d1 e output", "a c4 d d1"),
        {
            "c1": conv(1, 3), "a": lif(), "c2": conv(3, 4, stride=2), "b": lif(), "c3": conv(4, 4),
            "c": lif(), "c4": conv(3, 4, 1, 0, stride=2), "d": lif(), "d1": conv(4, 2), "e": lif(),
        },
    ),
}  # fmt: skip


def draw(name: str, seed: int) -> tuple[Network, np.ndarray]:
    """Return a network with random weights that keep it busy, and samples."""
    torch.manual_seed(seed)
    network = STRUCTURES[name]().eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                part.weight *= 2
    rng = np.random.default_rng(seed)
    return network, (rng.random((2, 12, 1, SIZE, SIZE)) < 0.3).astype(np.uint8)


def as_nir(network: Network) -> object:
    """Return the same network as a NIR graph, written as snnTorch's exporter does."""
    dt = 1e-4
    nodes: dict[str, object] = {
        "input": nir.Input({"input": np.array([1, SIZE, SIZE])}),
        "output": nir.Output({"output": np.array([1])}),
    }
    for name, layer in network.layers.items():
        match layer:
            case nn.Conv2d():
                nodes[name] = nir.Conv2d(
                    input_shape=None, weight=layer.weight.detach().numpy(),
                    stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
                    groups=1, bias=layer.bias.detach().numpy(),
                )  # fmt: skip
            case nn.Linear():
                nodes[name] = nir.Affine(layer.weight.detach().numpy(), layer.bias.detach().numpy())
            case nn.AvgPool2d():
                pair = np.array([layer.kernel_size] * 2)
                nodes[name] = nir.AvgPool2d(pair, pair, np.array([0, 0]))
            case SumPool2d():
                pair = np.array([layer.kernel_size] * 2)
                nodes[name] = nir.SumPool2d(pair, pair, np.array([0, 0]))
            case nn.Flatten():
                nodes[name] = nir.Flatten({"input": np.array([1])}, 0)
            case _:
                beta, threshold = float(layer.beta), float(layer.threshold)
                one = np.ones(1)
                nodes[name] = nir.LIF(
                    tau=one * dt / (1 - beta), r=one / (1 - beta), v_leak=one * 0,
                    v_threshold=one * threshold, v_reset=one * 0,
                )  # fmt: skip
    return nir.NIRGraph(nodes=nodes, edges=list(network.edges), type_check=False)


@pytest.mark.parametrize("name", STRUCTURES)
def test_from_a_module_to_a_file(name: str, tmp_path: Path) -> None:
    network, samples = draw(name, 0)
    imported = nd.import_torch(network, samples)
    assert all(note.startswith("exact") for note in imported.notes.values())
    assert imported.agreement is not None
    assert imported.agreement.unexplained is None
    run = imported.run(samples)
    assert all(0.001 < np.abs(values).mean() < 20 for values in run.values())
    result = nd.deploy(imported, samples, out=tmp_path)
    assert all(layer.file_differing == 0 for layer in result.agreement)
    assert all(layer.deployed > 0.8 for layer in result.agreement if layer.deployed is not None)
    assert len(result.graph.layers) == len(run)


@pytest.mark.parametrize("name", STRUCTURES)
def test_from_nir_to_a_file(name: str, tmp_path: Path) -> None:
    """What the module sends is what the NIR graph of the same weights sends."""
    network, samples = draw(name, 1)
    theirs = nd.import_torch(network, samples)
    ours = nd.import_nir(as_nir(network), convention="snntorch")
    assert set(theirs.notes) == {
        note if note == "output" else f"layers.{note}" for note in ours.notes
    }
    recorded = {name.removeprefix("layers."): v for name, v in theirs.run(samples).items()}
    agreement = ours.compare(samples, recorded).agreement
    assert agreement is not None
    assert agreement.unexplained is None
    result = nd.deploy(ours, samples, out=tmp_path)
    assert all(layer.file_differing == 0 for layer in result.agreement)


def delayed_graph(seed: int, delays: np.ndarray) -> object:
    """Return two populations of a NIR graph, the second of which reads the first one late."""
    rng, one = np.random.default_rng(seed), np.ones(1)
    dt, shape = 1e-3, {"input": np.array([1, 2, 4])}

    def lif() -> object:
        threshold = one * rng.uniform(0.3, 0.5)
        return nir.LIF(one * dt / 0.25, one / 0.25, one * 0, v_threshold=threshold, v_reset=one * 0)

    nodes = {
        "input": nir.Input(shape),
        "fc1": nir.Affine(rng.normal(0, 0.5, (12, 8)), rng.normal(0, 0.1, 12)),
        "a": lif(),
        "late": nir.Delay(delays * dt),
        "fc2": nir.Affine(rng.normal(0, 0.5, (5, 12)), rng.normal(0, 0.1, 5)),
        "b": lif(),
        "output": nir.Output({"output": np.array([5])}),
    }
    edges = [(first, second) for first, second in zip(nodes, list(nodes)[1:], strict=False)]
    nodes["flatten"] = nir.Flatten({"input": np.array([1, 2, 4])}, 0)
    edges = [edge for edge in edges if edge != ("input", "fc1")]
    edges += [("input", "flatten"), ("flatten", "fc1")]
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)


@pytest.mark.lava
def test_delays_of_nir_by_whole_steps(tmp_path: Path) -> None:
    """The second population makes of the first one's spikes, moved, what it makes of them late."""
    rng = np.random.default_rng(0)
    delays = rng.integers(0, 5, 12)
    graph = delayed_graph(0, delays)
    samples = (rng.random((3, 14, 1, 2, 4)) < 0.5).astype(np.uint8)
    imported = nd.import_nir(graph, dt=1e-3)
    run = imported.run(samples)
    moved = np.zeros_like(run["a"])
    for neuron, steps in enumerate(delays):
        moved[:, steps:, neuron] = run["a"][:, : 14 - steps, neuron]
    second = nir.NIRGraph(
        nodes={
            "input": nir.Input({"input": np.array([12])}), "fc2": graph.nodes["fc2"],
            "b": graph.nodes["b"], "output": graph.nodes["output"],
        },
        edges=[("input", "fc2"), ("fc2", "b"), ("b", "output")], type_check=False,
    )  # fmt: skip
    assert run["b"].sum() > 10
    np.testing.assert_array_equal(nd.import_nir(second, dt=1e-3).run(moved)["b"], run["b"])
    result = nd.deploy(imported, samples, samples[:, 0, 0, 0, 0], out=tmp_path, lava_samples=1)
    assert [layer.file_differing for layer in result.agreement] == [0, 0]
    assert [layer.lava_differing for layer in result.agreement] == [0, 0]
    assert result.graph.layers[1].connections[0].synapse.delay.max() == delays.max()
    with pytest.raises(QuantizationError, match="fc2: reads delayed spikes"):
        nd.deploy(
            imported, np.repeat(samples, 20, 0), np.arange(60) % 5, out=tmp_path,
            fine_tune=nd.FineTuning(epochs=1),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("delays", "message"),
    [(0.5, "late: delay: 0.5 to 0.5 steps"), (63.0, "late: delay: 63 to 63 steps of 0.001 s")],
)
def test_other_delays_are_refused(delays: float, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        nd.import_nir(delayed_graph(0, np.full(12, delays)), dt=1e-3)


@pytest.mark.lava
@pytest.mark.parametrize(
    "name",
    [
        "a convolution beside an identity",
        "a sum of spikes before a dense layer",
        "a skip over dense layers",
    ],
)
def test_real_lava_makes_the_same_spikes(name: str, tmp_path: Path) -> None:
    network, samples = draw(name, 2)
    result = nd.deploy(network, samples, out=tmp_path, lava_samples=1)
    assert all(layer.lava_differing == 0 for layer in result.agreement)
