"""Every shipped recipe goes from training to a file with equal integers, narrow and on few data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neurodeploy import netx, pipeline
from neurodeploy.data import ArrayDataset, Dataset, StoredDataset, load_data
from neurodeploy.data.images import MemoryImages
from neurodeploy.data.stored import PixelEncoding
from neurodeploy.nn.blocks import Dense
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.passes.current_bias import always_on
from neurodeploy.pipeline import stages
from neurodeploy.pipeline.deployment import steps
from neurodeploy.pipeline.deployment.lowering import check_deployable
from neurodeploy.recipes.data_sections import DigitsData, EventData, SequenceData
from neurodeploy.recipes.network_sections import ConvLayer, SequentialNetwork
from neurodeploy.recipes.recipe import Recipe, load_named, recipe_sources
from neurodeploy.simulation import EventSimulator

RECIPES = {name: load_named(name) for name in recipe_sources()}
PARTS = (16, 6, 6)
"""Samples for training, validation and test."""
ON_LAVA = (
    "cifar100_resnet18_t2_evolutionary",
    "cifar10_resnet20m_t2_shortcut",
    "imagenet_resnet18_t4_shortcut",
    "digits_slayer",
    "pen_digits_delays",
    "pen_digits_slayer",
)
WIDE = {
    (recipe.data.source, recipe.network.architecture): name
    for name, recipe in RECIPES.items()
    if recipe.paper is not None
}
"""One recipe for each network of full size."""


def narrow(recipe: Recipe) -> Recipe:
    """Return a recipe with few channels, pixels and iterations; all else is its own."""
    data, network = recipe.data, recipe.network
    if hasattr(data, "size"):
        data = dataclasses.replace(data, size=32)
    if hasattr(network, "width"):
        network = dataclasses.replace(network, width=0.0625)
    fine_tune = min(recipe.quantization.fine_tune_epochs, 1)
    return dataclasses.replace(
        recipe,
        data=data,
        network=network,
        training=dataclasses.replace(recipe.training, epochs=1, batch_size=8, threads=1),
        quantization=dataclasses.replace(recipe.quantization, fine_tune_epochs=fine_tune),
        verification=dataclasses.replace(recipe.verification, lava_samples=2),
    )


def made_up(recipe: Recipe) -> tuple[Dataset, ...]:
    """Return data of the recipe's own kind, shape and range."""
    section = recipe.data
    if isinstance(section, DigitsData | SequenceData):
        return tuple(
            part.subset(np.arange(size))
            for part, size in zip(load_data(recipe), PARTS, strict=True)
        )
    rng = np.random.default_rng(0)
    parts: list[Dataset] = []
    for size in PARTS:
        labels = np.arange(size) % section.classes
        if isinstance(section, EventData):
            events = (size, recipe.network.steps, *section.shape)
            parts.append(
                ArrayDataset(
                    inputs=rng.poisson(1.0, events).clip(max=16).astype(np.int32),
                    labels=labels,
                    shape=section.shape,
                    classes=section.classes,
                    scale=2.0**-section.input_bits,
                )
            )
            continue
        # Samples that differ at large: the mean over an image of noise would always be the same.
        channels, height, width = section.shape
        coarse = rng.integers(0, 256, (size, channels, 2, 2), dtype=np.uint8)
        pixels = coarse.repeat(height // 2, axis=2).repeat(width // 2, axis=3)
        images = MemoryImages(
            images=torch.from_numpy(pixels), crop_padding=0, flip=False, policy=None
        )
        encoding = PixelEncoding(
            input_bits=section.input_bits,
            normalization=section.normalization,
            mean=section.mean,
        )
        parts.append(
            StoredDataset(
                source=images,
                indices=np.arange(size),
                labels=labels,
                shape=section.shape,
                classes=section.classes,
                encoding=encoding,
            )
        )
    return tuple(parts)


@torch.no_grad()
def settle(network: SpikingNetwork, samples: Dataset) -> None:
    """Stand in for long training: statistics of all samples, and no layer that is silent."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
            module.weight.clamp_(min=0.5)  # some start at zero
    inputs = samples.batch(torch.arange(len(samples)))
    network(inputs)
    network.eval()
    for _ in range(8):
        spikes = network.forward_with_spikes(inputs)[1]
        for name, block in network.blocks.items():
            if isinstance(block, Dense) and spikes[name].mean() < 0.05:
                block.synapse.weight.mul_(2)


def deployed(
    recipe: Recipe, directory: Path, monkeypatch: pytest.MonkeyPatch, *, lava_samples: int = 0
) -> pipeline.Deployment:
    recipe = narrow(recipe)
    parts = made_up(recipe)
    for module in (stages, steps):
        monkeypatch.setattr(module, "load_data", lambda _: parts)
    network = pipeline.train(recipe, directory).network  # a warning would be an error
    settle(network, parts[0])
    return pipeline.deploy(network, recipe, directory, lava_samples=lava_samples)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_deploys_to_an_equal_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = deployed(RECIPES[name], tmp_path, monkeypatch)
    written = netx.read(result.path)
    with np.load(result.samples) as archive:
        samples = archive["input"]
    assert samples.dtype.kind in "iu"
    ours, theirs = (EventSimulator(graph).run(samples) for graph in (result.direct, written))
    for layer, expected, spikes in zip(result.direct, ours.spikes, theirs.spikes, strict=True):
        own = spikes[:, :, : layer.shape[0]]
        assert np.array_equal(own.reshape(expected.shape), expected), layer.name
    assert np.array_equal(ours.voltage, theirs.voltage.reshape(ours.voltage.shape))
    assert any(spikes.any() for spikes in ours.spikes[:-1])


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.parametrize("name", ON_LAVA)
def test_real_lava_makes_the_same_spikes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = deployed(RECIPES[name], tmp_path, monkeypatch, lava_samples=1)
    assert [layer.lava_differing for layer in result.agreement] == [0] * len(result.agreement)


@pytest.mark.lava
def test_biases_through_slayers_currents_are_carried_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batch norm and a current decay of 0.25, fine-tuned in integers and run on Lava."""
    plain = RECIPES["digits_slayer"]
    assert isinstance(plain.network, SequentialNetwork)
    layers = tuple(
        dataclasses.replace(layer, batch_norm=True)
        for layer in plain.network.layers
        if isinstance(layer, ConvLayer)
    )
    recipe = dataclasses.replace(
        plain,
        network=dataclasses.replace(plain.network, layers=layers),
        neuron=dataclasses.replace(plain.neuron, current_decay=0.25),
        quantization=dataclasses.replace(
            plain.quantization, fine_tune_epochs=1, accuracy_loss_limit=1.0
        ),
    )
    result = deployed(recipe, tmp_path, monkeypatch, lava_samples=1)
    assert [layer.lava_differing for layer in result.agreement] == [0] * 5
    assert [layer.file_differing for layer in result.agreement] == [0] * 5
    assert result.carried.carriers == {"conv2": "conv1", "conv3": "conv2", "conv4": "conv3"}
    record = json.loads((tmp_path / "network.json").read_text())
    assert record["current_biases"]["carried_by"] == result.carried.carriers
    reason = "the layer reads graded input: only binary input can be relayed"
    assert record["current_biases"]["approximated"] == {"conv1": reason}
    (said,) = (step.result for step in result.steps if step.name == "bias through the current")
    constant = "a constant, fitted to 4 steps, on the voltage"
    assert f"conv1: approximated by {constant}, since {reason}" in said
    for layer, trained in zip(result.direct, (16, 32, 48, 48, 10), strict=True):
        added = np.flatnonzero(always_on(layer))
        assert result.carried.channels[layer.name] == trained
        assert added.tolist() == list(range(trained, layer.shape[0]))
    assert result.twin.shapes()["conv1"][0] == 16


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDE.values())
def test_networks_of_full_size_fit_their_target(name: str) -> None:
    recipe = RECIPES[name]
    check_deployable(recipe, (0, 2**recipe.data.input_bits))
