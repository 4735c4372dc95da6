from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from neurodeploy.chips.target import Target
from neurodeploy.errors import TraceError
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    MaxPool,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.nn.batch_norm import TemporalBatchNorm
from neurodeploy.nn.blocks import Pool
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.nn.neuron import CubaLIF
from neurodeploy.nn.slayer_parameters import Dropout, MeanOnlyBatchNorm
from neurodeploy.nn.synapse import ConvSynapse
from neurodeploy.nn.tracing import trace
from neurodeploy.passes import (
    fold_average_pool,
    fold_batchnorm,
    fold_global_average_pool,
    lower_max_pool,
    lower_residuals,
    run_passes,
)
from neurodeploy.passes.calibration import calibrate
from neurodeploy.recipes.recipe import Architecture
from neurodeploy.simulation import EventSimulator

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
    assert isinstance(neuron, Cuba)
    assert asdict(neuron) == asdict(Cuba(threshold=0.5, current_decay=1.0, voltage_decay=0.75))


def test_slayer_block_keeps_its_grid_and_its_decays() -> None:
    source = network(neuron=CUBA_NEURON, batch_norm=False)
    graph = trace(source)
    neuron = graph.nodes["conv1"]
    assert isinstance(neuron, Cuba)
    assert asdict(neuron) == asdict(
        Cuba(threshold=19 / 64, current_decay=1024 / 4096, voltage_decay=123 / 4096, scale=64)
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


def deep(norm: str = "tdbn", **section: object) -> SpikingNetwork:
    """A network of a named architecture, its batch norms moved off their initial statistics."""
    made = SpikingNetwork(
        Architecture.from_dict(
            {
                "shape": [2, 8, 8],
                "classes": 3,
                "input_bits": 3,
                "network": {"steps": 4, "norm": norm, **section},
                "neuron": LIF_NEURON,
                "branches": [],
            },
            where="test",
        ),
        seed=4,
    )
    with torch.no_grad():
        for _ in range(20):
            made(images())
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.bias.uniform_(0.1, 0.5)
    return made.eval()


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 9, (6, 4, 2, 8, 8), generator=generator)


RESIDUAL: dict[str, object] = {"architecture": "residual", "blocks": [1, 2], "channels": 4}
CONV: dict[str, object] = {"type": "conv", "channels": 4}
POOLED: list[dict[str, object]] = [CONV, {"type": "max_pool", "kernel": 2}, CONV]
AVERAGED: list[dict[str, object]] = [CONV, {"type": "average_pool", "kernel": 2}, CONV]


@pytest.mark.parametrize(
    "section",
    [
        RESIDUAL,
        {**RESIDUAL, "residual": "ms"},
        {"layers": POOLED},
        {"layers": AVERAGED},
        {"layers": [*POOLED, {"type": "global_average_pool"}, {"type": "dense", "neurons": 7}]},
    ],
    ids=["standard", "ms", "max pool", "average pool", "global average pool"],
)
def test_deep_networks_are_computed_by_their_graphs(section: dict[str, object]) -> None:
    source = deep(**section)
    with torch.no_grad():
        output, spikes = source.forward_with_spikes(images())
    found = run(trace(source), images().numpy())
    for name, values in spikes.items():
        assert 0 < values.mean() < 1
        agreement = np.mean(found[name] == values.numpy())
        assert agreement > 0.999  # a voltage within float32's rounding of the threshold may differ
    if all(np.array_equal(found[name], values.numpy()) for name, values in spikes.items()):
        np.testing.assert_allclose(found["readout"][:, -1], output.sum(dim=1).numpy(), atol=1e-4)


def test_both_paths_of_a_block_lead_into_its_neurons() -> None:
    graph = trace(deep(**RESIDUAL))
    sources = {name: graph.sources(name) for name in graph.nodes}
    assert sources["stage1_block1"] == ("stage1_block1.conv2.batch_norm", "stem")
    assert sources["stage2_block1"] == (
        "stage2_block1.conv2.batch_norm",
        "stage2_block1.projection.batch_norm",
    )
    assert sources["stage2_block2"] == ("stage2_block2.conv2.batch_norm", "stage2_block1")


@pytest.mark.parametrize("kind", ["standard", "ms"])
def test_residual_networks_reach_the_chips_integers_with_equal_spikes(kind: str) -> None:
    """Trace, fold, calibrate, lower: the direct graph and the chain agree in every spike."""
    graph = run_passes(
        trace(deep(**RESIDUAL, residual=kind)),
        fold_batchnorm,
        lower_max_pool,
        fold_average_pool,
        fold_global_average_pool,
    )
    target, samples = Target.load("loihi2"), images().numpy().astype(np.int32)
    fixed = calibrate(graph, target, samples).graph
    lowered = lower_residuals(fixed, target)
    assert lowered.costs
    direct, chained = (EventSimulator(g).run(samples) for g in (fixed, lowered.graph))
    for name, ours, theirs in zip(direct.layers, direct.spikes, chained.spikes, strict=True):
        assert np.array_equal(ours, theirs[:, :, : lowered.channels[name]])
        assert name == "readout" or 0 < ours.mean() < 1
    assert np.array_equal(direct.voltage, chained.voltage)


def test_integer_spikes_are_refused() -> None:
    with pytest.raises(TraceError, match=r"stage1_block1: a residual block of kind 'sew' adds"):
        trace(deep(**RESIDUAL, residual="sew"))


def test_temporal_batch_norm_folds_only_equal_factors() -> None:
    made = deep(norm="tebn", **RESIDUAL)
    norms = [module for module in made.modules() if isinstance(module, TemporalBatchNorm)]
    assert norms
    with torch.no_grad():
        for norm in norms:
            norm.factors.fill_(0.75)
        _, spikes = made.forward_with_spikes(images())
    found = run(trace(made), images().numpy())
    for name, values in spikes.items():
        assert np.mean(found[name] == values.numpy()) > 0.999  # rounding, as above
    with torch.no_grad():
        norms[0].factors[1] = 0.5
    with pytest.raises(TraceError, match=r"temporal batch norm with another factor for each step"):
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
                case MaxPool():
                    y = torch.nn.functional.max_pool2d(
                        torch.from_numpy(x), layer.kernel, layer.stride, layer.padding
                    ).numpy()
                case AveragePool():
                    y = torch.nn.functional.avg_pool2d(
                        torch.from_numpy(x), layer.kernel, layer.stride, layer.padding
                    ).numpy()
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
