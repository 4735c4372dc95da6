"""Fine-tune a quantized network in the chip's integers: one of ours, or an imported one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.data import ArrayDataset, Dataset
from neurodeploy.errors import TraceError, TrainingError
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.learning.checkpoints import History
from neurodeploy.learning.engine import Hardware, TrainingEngine
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.functional.surrogate import Surrogate
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import SpikingNeuron
from neurodeploy.pipeline.deployment.given_samples import SampleParts
from neurodeploy.pipeline.deployment.integer_network import IntegerNetwork
from neurodeploy.pipeline.observation import Observer, iteration_callback
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.recipes.training_sections import ShortcutSection, TrainingSection


def fine_tune(
    integer: IntegerNetwork,
    recipe: Recipe,
    directory: Path,
    training: Dataset,
    validation: Dataset,
    observer: Observer,
) -> History:
    """Train a network of integers and leave it with the weights of the best epoch.

    Epochs and learning rate stand in the recipe's [quantization]; all else is as in training.
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
        engine=_engine(),
        on_iteration=iteration_callback(observer),
    ).fit(integer, training, validation)


def _engine() -> TrainingEngine:
    """Return the processor: the chip's integers are computed in NumPy, whatever GPUs there are."""
    return TrainingEngine(Hardware(accelerator="cpu"))


def surrogate_of(network: SpikingNetwork) -> Surrogate:
    """Return the surrogate that the network was trained with."""
    for module in network.modules():
        if isinstance(module, SpikingNeuron):
            return module.surrogate
    raise TraceError("network: no spiking layer. There is nothing to fine-tune.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """Training of an imported network in the chip's integers: forward exact, backward surrogates.

    Of samples that the network was trained on elsewhere, its accuracy before the fine-tune is
    flattering; measure the file on others then.

    Attributes:
        epochs: Passes over the samples that it trains on.
        learning_rate: Of AdamW at the start; it falls to zero along a cosine.
        batch_size: Samples of one step.
        held_out: Share of the samples that it does not train on, every class in proportion. On one
            half of them the best epoch is chosen, and whether it is better than no fine-tune; on
            the other half the accuracies are measured.
        seed: Of this split, and of the order of the samples.

    Example:
        >>> further = nd.FineTuning(epochs=2, learning_rate=1e-4)
        >>> result = nd.deploy(network, spikes, labels, fine_tune=further)
        >>> sorted(result.accuracy)  # measured on samples aside
        ['deployed', 'fine-tuned', 'float', 'quantized']
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 64
    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings with which nothing can be trained or measured."""
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 1:
                raise TrainingError(f"fine-tuning: {name} = {value}, at least 1 is required.")
        if not 0 < self.learning_rate < float("inf"):
            raise TrainingError(
                f"fine-tuning: learning_rate = {self.learning_rate}, a number above 0 is required."
            )
        if not 0 < self.held_out < 1:
            raise TrainingError(
                f"fine-tuning: held_out = {self.held_out}, above 0 and below 1 is required."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FineTuned:
    """The result of `tune_imported`.

    Attributes:
        graph: The integers with the weights of the best epoch.
        history: Of the training; "validation" are the samples that the epoch is chosen by.
        before: Accuracy on these without the fine-tune.
        after: Accuracy on these with it.
        settings: As they were asked for.
        parts: The samples for each purpose.
    """

    graph: FixedPointGraph
    history: History
    settings: FineTuning
    parts: SampleParts
    before: float
    after: float

    @property
    def is_better(self) -> bool:
        """True if the fine-tuned integers are to be taken."""
        return self.after > self.before

    def describe(self) -> str:
        """Return in one sentence which network was taken, and why."""
        taken = "fine-tuned" if self.is_better else "quantized"
        return (
            f"the {taken} network: accuracy on the samples to choose by {self.before:.2%} before "
            f"the fine-tune, {self.after:.2%} after it"
        )

    def to_dict(self) -> dict[str, object]:
        """Return settings, numbers of samples, epochs and the choice, in JSON's types."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "samples": {
                field.name: len(getattr(self.parts, field.name))
                for field in dataclasses.fields(self.parts)
            },
            "epochs": [dataclasses.asdict(epoch) for epoch in self.history.epochs],
            "kept_epoch": self.history.kept_epoch,
            "is_deployed": self.is_better,
            "choice": self.describe(),
        }


def tune_imported(
    integer: IntegerNetwork,
    inputs: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int64],
    parts: SampleParts,
    settings: FineTuning,
    observer: Observer,
) -> FineTuned:
    """Train an imported network in integers on a part of its samples.

    Args:
        integer: The quantized network; trained in place.
        inputs: (samples, T, ...) all samples.
        labels: (samples,) their classes.
        parts: Which of them to train on, and which to choose by.
        settings: Epochs and their like.
        observer: Told of each iteration.

    Raises:
        TrainingError: If the loss is no longer finite.
        QuantizationError: If training drove a whole layer to zero or to one sign.
    """
    observer.stage("fine-tune", f"{settings.epochs} epochs in integers")
    everything = ArrayDataset(
        inputs=inputs,
        labels=labels,
        shape=integer.input_shape,
        classes=integer.classes,
        scale=1.0,
    )
    choice = everything.subset(parts.choice)
    before = evaluate(integer, choice).accuracy
    section = TrainingSection(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        optimizer="adamw",
        learning_rate=settings.learning_rate,
        weight_decay=0.0,
    )
    trainer = Trainer(
        section,
        seed=settings.seed,
        engine=_engine(),
        on_iteration=iteration_callback(observer),
    )
    history = trainer.fit(integer, everything.subset(parts.training), choice)
    after = evaluate(integer, choice).accuracy
    return FineTuned(
        graph=integer.to_fixed_point(),
        history=history,
        settings=settings,
        parts=parts,
        before=before,
        after=after,
    )
