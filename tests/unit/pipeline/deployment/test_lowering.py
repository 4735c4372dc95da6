"""The ReLU twin that travels with a deployed network: counted before anything was lowered."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from neurodeploy.chips.target import Target
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.errors import GraphError
from neurodeploy.ir import FixedConv, FixedPointGraph, Graph
from neurodeploy.ir.float_layers import AveragePool, Conv, Cuba, Dense, Flatten, Input, Layer
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.onnx_models.macs import count_onnx_macs
from neurodeploy.onnx_models.twin_export import export_twin
from neurodeploy.passes import lower_current_biases, lower_residuals, quantize
from neurodeploy.pipeline.deployment.lowering import (
    count_neurons,
    fold_layers,
    lower,
    make_twin,
    prune,
)
from neurodeploy.recipes.recipe import Recipe

RECIPES = Path(__file__).parents[4] / "training/recipes/digits_deployment.toml"
TARGET = Target.load("loihi2")


CHANNELS = {32: [(1, 8)], 16: [(8, 16)], 8: [(16, 32), (32, 32)], 4: [(32, 64), (64, 64)],
            2: [(64, 64), (64, 64)]}  # fmt: skip
VGG_11 = 64 * 10 + sum(
    sources * outputs * (3 * size - 2) ** 2
    for size, layers in CHANNELS.items()
    for sources, outputs in layers
)
"""MACs of 3x3 kernels without taps on padding: (3 n - 2)² on a map of n x n; and the read-out."""


def chain(**nodes: Layer) -> Graph:
    return Graph(nodes=nodes, edges=tuple(pairwise(nodes)))


def test_neurons_of_an_unknown_kind_are_not_counted_as_none() -> None:
    class Unknown:
        def output_shape(self, source: tuple[int, ...]) -> tuple[int, ...]:
            return source

    known = {"input": Input(shape=(3,)), "a": Dense(weight=np.eye(3)), "b": Cuba(threshold=1.0)}
    assert count_neurons(chain(**known)) == 3
    strange = chain(**known, c=cast(Cuba, Unknown()))
    with pytest.raises(GraphError, match="a layer of type Unknown"):
        count_neurons(strange)
    with pytest.raises(GraphError, match="a layer of type Unknown"):
        quantize(strange, TARGET, steps=4)


@pytest.mark.parametrize(
    ("name", "twin", "stored"),
    [
        ("digits_resnet18", 1_640_224, 2_979_296),
        ("digits_vgg_average", VGG_11, 4_199_968),
        ("digits_vgg_max", VGG_11, 1_846_688),
    ],
)
def test_relays_and_pools_are_no_macs_of_the_twin(name: str, twin: int, stored: int) -> None:
    """Counted on the deployed layers, each of these networks has up to 2.3 times its MACs."""
    recipe = Recipe.load(f"{RECIPES}#{name}")
    torch.manual_seed(0)
    network = remove_branches(SpikingNetwork.from_recipe(recipe))
    network.eval()
    trained = prune(network)
    lowered = lower(network)
    fixed = quantize(lowered, TARGET, steps=4)
    assert ann_macs(make_twin(trained, lowered, fixed)).macs_border_exact == twin
    assert ann_macs(lower_residuals(fixed, TARGET).graph).macs_border_exact == stored


def test_the_twin_has_no_channels_that_carry_biases() -> None:
    """Zeros of the integers are found behind the added channels, the channels left out."""
    rng = np.random.default_rng(0)
    small = rng.normal(0, 1, (4, 3, 3, 3))
    small[:, :, 0, 0] = 1e-6

    def neuron() -> Cuba:
        return Cuba(threshold=1.0, current_decay=0.25)

    trained = chain(
        input=Input(shape=(2, 5, 5)),
        first=Conv(weight=rng.normal(0, 1, (3, 2, 3, 3)), bias=rng.normal(0, 1, 3), padding=(1, 1)),
        one=neuron(),
        second=Conv(weight=small, bias=rng.normal(0, 1, 4), padding=(1, 1)),
        two=neuron(),
        flatten=Flatten(),
        dense=Dense(weight=rng.normal(0, 1, (6, 100)), bias=rng.normal(0, 1, 6)),
        three=neuron(),
    )
    carried = lower_current_biases(trained)
    fixed = quantize(carried.graph, TARGET, steps=4)
    assert [layer.shape[0] for layer in fixed] == [3, 4, 5, 6]  # the relay, and one more each
    twin = make_twin(trained, carried.graph, fixed, folded=carried.original)
    assert twin.shapes() == trained.shapes()
    kept = twin.nodes["second"].weight  # type: ignore[union-attr]
    assert not kept[:, :, 0, 0].any()
    stored = fixed.layers[2].connections[0].synapse.weight[:4, :3]
    assert np.array_equal(kept != 0, stored != 0)


def twin_of(trained: Graph, target: Target = TARGET) -> tuple[Graph, FixedPointGraph]:
    lowered = fold_layers(trained)
    fixed = quantize(lowered, target, steps=4)
    return make_twin(trained, lowered, fixed), fixed


def test_the_twin_has_the_zeros_of_the_deployed_integers() -> None:
    """Weights that are too small for eight bits are zero in the file, so the twin skips them."""
    weight = np.array([[1.0, -1.0, 1e-6], [0.0, 0.5, -1e-6]])
    trained = chain(input=Input(shape=(3,)), dense=Dense(weight=weight), neuron=Cuba(threshold=1.0))
    twin, fixed = twin_of(trained)
    (row,) = ann_macs(twin).layers
    assert (row.macs_border_exact, row.macs_nonzero, row.zero_weights) == (6, 3, 3)
    (connection,) = fixed.layers[0].connections
    assert np.count_nonzero(connection.synapse.weight) == 3


def test_a_weight_that_folding_repeats_is_zero_if_all_of_its_copies_are() -> None:
    weight = np.array([1.0, -0.5, 1e-6, 0.0]).reshape(1, 1, 2, 2)
    trained = chain(
        input=Input(shape=(1, 4, 4)),
        pool=AveragePool(kernel=(2, 2), stride=(2, 2)),
        conv=Conv(weight=weight),
        neuron=Cuba(threshold=1.0),
    )
    twin, fixed = twin_of(trained)
    (connection,) = fixed.layers[0].connections
    assert isinstance(connection.synapse, FixedConv)
    assert connection.synapse.weight.shape == (1, 1, 4, 4)
    (row,) = ann_macs(twin).layers
    assert (row.macs_border_exact, row.macs_nonzero, row.zero_weights) == (4, 2, 2)


def test_an_export_of_lowered_layers_is_not_called_a_twin(tmp_path: Path) -> None:
    """`report --ann` compares with the twin of the trained network, never with relays and pools."""
    pooled = chain(
        input=Input(shape=(1, 4, 4)),
        pool=AveragePool(kernel=(2, 2), stride=(2, 2)),
        conv=Conv(weight=np.array([1.0, -0.5, 0.5, 0.25]).reshape(1, 1, 2, 2)),
        neuron=Cuba(threshold=1.0),
    )
    plain = chain(
        input=Input(shape=(2,)),
        dense=Dense(weight=np.array([[1.0, -1.0]])),
        neuron=Cuba(threshold=1.0),
    )
    names = []
    for trained in (pooled, plain):
        twin, fixed = twin_of(trained)
        for network in (twin, replace(fixed, relu_twin=ann_macs(twin)), fixed):
            export_twin(network, tmp_path / "a.onnx")
            names.append(count_onnx_macs(tmp_path / "a.onnx", bind_batch=True).name)
    stored = "layers_as_stored"
    assert names == ["relu_twin", stored, stored, "relu_twin", "relu_twin", stored]


def test_behind_a_pool_a_dense_layer_has_the_zeros_that_it_was_trained_with() -> None:
    weight = np.array([[1.0, -1.0, 1e-6, 0.0]])
    trained = chain(
        input=Input(shape=(1, 4, 4)),
        pool=AveragePool(kernel=(2, 2), stride=(2, 2)),
        flatten=Flatten(),
        dense=Dense(weight=weight),
        neuron=Cuba(threshold=1.0),
    )
    twin, _ = twin_of(trained)
    (row,) = ann_macs(twin).layers
    assert (row.macs_border_exact, row.macs_nonzero, row.zero_weights) == (4, 3, 1)
