from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from neurodeploy.errors import TraceError
from neurodeploy.ir.graph import Graph
from neurodeploy.ir.layers import (
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
)
from neurodeploy.nn.blocks import Pool
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import CubaLIF
from neurodeploy.nn.normalization import Dropout, MeanOnlyBatchNorm
from neurodeploy.nn.shortcut import remove_branches
from neurodeploy.nn.synapse import ConvSynapse
from neurodeploy.recipe import Architecture
from neurodeploy.tracing import trace

LIF_NEURON: dict[str, object] = {"tau": 0.25, "threshold": 0.5}
CUBA_NEURON: dict[str, object] = {
    "model": "cuba",
    "threshold": 0.3,
    "current_decay": 0.25,
    "voltage_decay": 0.03,
}


def network(
    *,
    neuron: dict[str, object] = LIF_NEURON,
    readout: str = "linear",
    batch_norm: bool = True,
    dense: bool = True,
    branches: tuple[str, ...] = (),
) -> SpikingNetwork:
    layers: list[dict[str, object]] = [
        {"type": "conv", "channels": 4, "stride": 2, "batch_norm": batch_norm},
        {"type": "conv", "name": "grouped", "channels": 6, "groups": 2, "batch_norm": batch_norm},
    ]
    if dense:
        layers.append({"type": "dense", "neurons": 9, "batch_norm": batch_norm})
    made = SpikingNetwork(
        Architecture.from_dict(
            {
                "shape": [2, 6, 6],
                "classes": 3,
                "input_bits": 3,
                "network": {"steps": 5, "layers": layers, "readout": readout},
                "neuron": neuron,
                "branches": list(branches),
            },
            where="test",
        ),
        seed=2,
    )
    with torch.no_grad():
        for block in made.blocks.values():
            block.synapse.weight.mul_(3.0)  # so that every layer spikes
        for _ in range(20):  # moves the running statistics of batch norm
            made(inputs())
    return made.eval()


def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-8, 9, (4, 5, 2, 6, 6), generator=generator)


def test_nodes_carry_the_names_of_the_blocks() -> None:
    graph = trace(network())
    assert list(graph.nodes) == [
        "input",
        "conv1.synapse",
        "conv1.batch_norm",
        "conv1",
        "grouped.synapse",
        "grouped.batch_norm",
        "grouped",
        "dense3.flatten",
        "dense3.synapse",
        "dense3.batch_norm",
        "dense3",
        "readout.synapse",
        "readout",
    ]
    names = list(graph.nodes)
    assert graph.edges == tuple(itertools.pairwise(names))
    assert graph.shapes()["grouped"] == (6, 3, 3)
    assert graph.input == Input(shape=(2, 6, 6), scale=1 / 8, largest=8)


def test_lif_is_cuba_with_full_current_decay() -> None:
    neuron = trace(network()).nodes["grouped"]
    assert neuron == Cuba(threshold=0.5, current_decay=1.0, voltage_decay=0.75, scale=None)


def test_slayer_block_keeps_its_grid_and_its_decays() -> None:
    source = network(neuron=CUBA_NEURON, batch_norm=False)
    graph = trace(source)
    assert graph.nodes["conv1"] == Cuba(
        threshold=19 / 64, current_decay=1024 / 4096, voltage_decay=123 / 4096, scale=64
    )
    synapse = graph.nodes["conv1.synapse"]
    assert isinstance(synapse, Conv)
    assert synapse.bias is None
    integers = synapse.weight * 64
    assert np.array_equal(integers, 2 * np.round(integers / 2))
    expected = source.blocks["conv1"].synapse.effective_weight
    assert np.array_equal(synapse.weight, expected.detach().numpy().astype(np.float64))


def test_batch_norm_takes_a_slayer_block_off_its_grid() -> None:
    neuron = trace(network(neuron=CUBA_NEURON)).nodes["conv1"]
    assert isinstance(neuron, Cuba)
    assert neuron.scale is None


def test_pooled_readout() -> None:
    graph = trace(network(readout="gap_linear", dense=False))
    assert isinstance(graph.nodes["readout.pool"], GlobalAveragePool)
    assert graph.shapes()["readout"] == (3,)


@pytest.mark.parametrize("neuron", [LIF_NEURON, CUBA_NEURON])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("readout", "dense"), [("linear", True), ("gap_linear", False)])
def test_the_graph_computes_what_the_network_computes(
    neuron: dict[str, object], batch_norm: bool, readout: str, dense: bool
) -> None:
    source = network(neuron=neuron, batch_norm=batch_norm, readout=readout, dense=dense)
    with torch.no_grad():
        output, spikes = source.forward_with_spikes(inputs())
    found = run(trace(source), inputs().numpy())
    for name, values in spikes.items():
        assert values.any()
        agreement = np.mean(found[name] == values.numpy())
        assert agreement > 0.999  # a voltage within float32's rounding of the threshold may differ
    scores = output.sum(dim=1).numpy()
    if all(np.array_equal(found[name], values.numpy()) for name, values in spikes.items()):
        np.testing.assert_allclose(found["readout"][:, -1], scores, atol=1e-5)


def test_tracing_leaves_the_network_as_it_was() -> None:
    source = network()
    before = copy.deepcopy(source.state_dict())
    trace(source)
    assert all(torch.equal(before[name], t) for name, t in source.state_dict().items())


def test_branches_are_refused_until_removed() -> None:
    source = network(branches=("conv1",))
    with pytest.raises(TraceError, match=r"after conv1.*Call remove_branches first"):
        trace(source)
    assert list(trace(remove_branches(source)).nodes)[-1] == "readout"


def _dropout(made: SpikingNetwork) -> None:
    made.blocks["conv1"].neuron.drop = Dropout(0.5)


def _norm(made: SpikingNetwork) -> None:
    made.blocks["conv1"].neuron.norm = MeanOnlyBatchNorm()


def _graded(made: SpikingNetwork) -> None:
    made.blocks["conv1"].neuron.graded_spike = True


def _persistent(made: SpikingNetwork) -> None:
    made.blocks["conv1"].neuron.persistent_state = True


def _unshared(made: SpikingNetwork) -> None:
    made.blocks["conv1"].neuron = CubaLIF(1.0, 0.5, 0.5, shared_param=False)


def _unknown_neuron(made: SpikingNetwork) -> None:
    made.blocks["conv1"].neuron = nn.ReLU()


def _unknown_block(made: SpikingNetwork) -> None:
    made.blocks["conv1"] = Pool({"threshold": 1, "current_decay": 0, "voltage_decay": 0}, 2)


def _unknown_norm(made: SpikingNetwork) -> None:
    made.blocks["conv1"].batch_norm = nn.GroupNorm(2, 4)


def _unknown_readout(made: SpikingNetwork) -> None:
    made.readout = ConvSynapse(1, 1, 1)


def _no_statistics(made: SpikingNetwork) -> None:
    made.blocks["conv1"].batch_norm = nn.BatchNorm2d(4, track_running_stats=False)


def _shift(made: SpikingNetwork) -> None:
    made.blocks["conv1"].delay_shift = True


def _delay(made: SpikingNetwork) -> None:
    made.blocks["conv1"].delay = nn.Identity()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_dropout, "conv1: dropout"),
        (_norm, "conv1: norm"),
        (_graded, "conv1: graded_spike"),
        (_persistent, "conv1: persistent_state"),
        (_unshared, "conv1: shared_param=False"),
        (_unknown_neuron, "conv1: a neuron ReLU"),
        (_unknown_block, "conv1: a Pool"),
        (_unknown_norm, "conv1: a GroupNorm"),
        (_unknown_readout, "readout: a ConvSynapse"),
        (_no_statistics, "conv1: batch norm without running statistics"),
        (_shift, "conv1: delay_shift"),
        (_delay, "conv1: learned delays"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    spoil: Callable[[SpikingNetwork], None], message: str
) -> None:
    made = network(neuron=CUBA_NEURON)
    spoil(made)
    with pytest.raises(TraceError, match=message):
        trace(made)


def run(graph: Graph, values: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Step through a graph in float64: a plain restatement of what its layers mean."""
    shapes = graph.shapes()
    samples, steps = values.shape[:2]
    current = {name: np.zeros((samples, *shape)) for name, shape in shapes.items()}
    voltage = copy.deepcopy(current)
    found: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in graph.nodes}
    for step in range(steps):
        known: dict[str, npt.NDArray[np.float64]] = {}
        for name, layer in graph.nodes.items():
            x = sum((known[source] for source in graph.sources(name)), np.zeros(()))
            match layer:
                case Input():
                    y = values[:, step] * layer.scale
                case Conv():
                    y = torch.nn.functional.conv2d(
                        torch.from_numpy(x),
                        torch.from_numpy(layer.weight),
                        None if layer.bias is None else torch.from_numpy(layer.bias),
                        layer.stride,
                        layer.padding,
                        layer.dilation,
                        layer.groups,
                    ).numpy()
                case Dense():
                    y = x.reshape(samples, -1) @ layer.weight.T
                    y = y if layer.bias is None else y + layer.bias
                case BatchNorm():
                    over = (-1, *(1,) * (x.ndim - 2))
                    y = x * layer.scale.reshape(over) + layer.shift.reshape(over)
                case Flatten():
                    y = x.reshape(samples, -1)
                case GlobalAveragePool():
                    y = x.mean(axis=(2, 3))
                case Integrator():
                    voltage[name] = y = voltage[name] + x
                case Cuba():
                    current[name] = (1 - layer.current_decay) * current[name] + x
                    v = (1 - layer.voltage_decay) * voltage[name] + current[name]
                    y = (v > layer.threshold).astype(np.float64)
                    voltage[name] = v * (1 - y)
            known[name] = y
            found[name].append(y)
    return {name: np.stack(history, axis=1) for name, history in found.items()}
