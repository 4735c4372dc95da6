"""Measure a network on a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from neurodeploy.data import Dataset, batches, require_samples
from neurodeploy.learning.engine import TrainingEngine
from neurodeploy.learning.losses import classification_loss

_BATCH = 256


@runtime_checkable
class RecordsSpikes(Protocol):
    """A network that shows its spikes."""

    def forward_with_spikes(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the main output and each layer's spikes, (N, T, ...)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        accuracy: Fraction of samples, 0 to 1.
        loss: Mean cross-entropy, no smoothing.
        spike_rates: Spikes per neuron and step, by layer; empty if the network shows none.
    """

    accuracy: float
    loss: float
    spike_rates: dict[str, float]


@torch.no_grad()
def evaluate(
    network: nn.Module,
    dataset: Dataset,
    *,
    engine: TrainingEngine | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a network; it is left in the mode, training or not, that it was in.

    Args:
        network: Gives (N, T, classes).
        dataset: At least one sample.
        engine: Share the work among its processes; all of them get the result. By default this
            process does it alone, on the CPU.
        progress: Called after each batch with samples done, of this process, and in all.

    Raises:
        DataError: If there are no samples.

    Example:
        >>> recipe = nd.Recipe.load("digits")
        >>> network = nd.SpikingNetwork.from_recipe(recipe)  # not trained yet
        >>> result = nd.evaluate(network, nd.load_data(recipe)[2])
        >>> 0 <= result.accuracy < 0.5, list(result.spike_rates)
        (True, ['conv1', 'conv2', 'conv3', 'conv4'])
    """
    require_samples(dataset, "data")
    was_training = network.training
    network.eval()
    correct, done, loss = 0, 0, 0.0
    spikes: dict[str, int] = {}
    places: dict[str, int] = {}
    part = dataset
    if engine is not None and engine.count > 1:
        part = dataset.subset(np.arange(engine.rank, len(dataset), engine.count))
    try:
        for inputs, labels in batches(part, _BATCH) if len(part) else ():
            if engine is not None:
                inputs, labels = engine.to_device(inputs), engine.to_device(labels)
            layers: dict[str, Tensor] = {}
            if isinstance(network, RecordsSpikes):
                output, layers = network.forward_with_spikes(inputs)
            else:
                output = network(inputs)
            correct += int((output.mean(dim=1).argmax(dim=1) == labels).sum())
            loss += float(classification_loss(output, labels, reduction="sum"))
            for name, values in layers.items():
                spikes[name] = spikes.get(name, 0) + int(values.count_nonzero())
                places[name] = places.get(name, 0) + values.numel()
            done += len(labels)
            if progress is not None:
                progress(done, len(part))
    finally:
        network.train(was_training)
    if engine is not None and engine.count > 1:
        names = sorted({name for found in engine.collect(list(spikes)) for name in found})
        own = [correct, loss, *(c.get(name, 0) for c in (spikes, places) for name in names)]
        total = engine.sum(torch.tensor(own, dtype=torch.float64)).tolist()
        correct, loss = int(total[0]), total[1]
        counts = [int(value) for value in total[2:]]
        spikes = dict(zip(names, counts[: len(names)], strict=True))
        places = dict(zip(names, counts[len(names) :], strict=True))
    return Evaluation(
        accuracy=correct / len(dataset),
        loss=loss / len(dataset),
        spike_rates={name: count / places[name] for name, count in spikes.items()},
    )
