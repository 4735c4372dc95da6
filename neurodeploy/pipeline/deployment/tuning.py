"""Fine-tune a quantized network with its own integers as forward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from neurodeploy.data import Dataset
from neurodeploy.errors import TraceError
from neurodeploy.learning.records import History, IterationRecord
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.functional.surrogate import Surrogate
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import LIF, CubaLIF
from neurodeploy.pipeline.deployment.fine_tuning import IntegerNetwork
from neurodeploy.pipeline.observation import Observer
from neurodeploy.recipes.recipe import Recipe, ShortcutSection


def fine_tune(
    integer: IntegerNetwork,
    recipe: Recipe,
    directory: Path,
    training: Dataset,
    validation: Dataset,
    observer: Observer,
) -> History:
    """Train a network of integers for the epochs that the recipe says.

    Args:
        integer: Is left with the weights of the best epoch.
        recipe: Its [quantization] says how long and how fast; the rest is as in training.
        directory: Of the deployment; gets checkpoints.
        training: Data to learn from.
        validation: Data to choose the epoch by.
        observer: Told of each iteration.
    """
    settings = recipe.quantization
    observer.stage("fine-tune", f"{settings.fine_tune_epochs} epochs in integers")
    section = dataclasses.replace(
        recipe.training,
        epochs=settings.fine_tune_epochs,
        learning_rate=settings.fine_tune_learning_rate,
        weight_decay=0.0,
        keep="best",
    )
    return Trainer(
        section,
        seed=recipe.recipe.seed,
        shortcut=ShortcutSection(),
        shift=recipe.data.shift,
        keeps_zeros=recipe.pruning.is_any,
        directory=directory / "fine_tuning",
        on_iteration=iteration_callback(observer),
    ).fit(integer, training, validation)


def surrogate_of(network: SpikingNetwork) -> Surrogate:
    """Give the surrogate that the network was trained with."""
    for module in network.modules():
        if isinstance(module, LIF | CubaLIF):
            return module.surrogate
    raise TraceError("network: no spiking layer. There is nothing to fine-tune.")


def iteration_callback(observer: Observer) -> Callable[[IterationRecord], None]:
    """Give a trainer's callback that tells an observer."""

    def tell(record: IterationRecord) -> None:
        note = f"epoch {record.epoch}/{record.epochs}, loss {record.loss:.3f}"
        observer.advance(record.iteration + 1, record.iterations, note)

    return tell
