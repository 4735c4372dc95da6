"""What networks say about samples: spikes, classes, accuracy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from neurodeploy.data import Dataset
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Recording


@torch.no_grad()
def float_spikes(
    network: SpikingNetwork, windows: npt.NDArray[np.int32]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the spikes of a trained network by layer.

    Args:
        network: With floats.
        windows: (samples, T, ...) integers.

    Returns:
        (samples, T, ...) for each spiking layer.
    """
    network.eval()
    spikes = network.forward_with_spikes(torch.from_numpy(windows))[1]
    return {name: values.numpy() != 0 for name, values in spikes.items()}


def predict(recording: Recording) -> npt.NDArray[np.int64]:
    """Return the class of every sample: the largest membrane voltage after the last step.

    Args:
        recording: Of a network whose last layer integrates.

    Returns:
        (samples,) int64.
    """
    return np.asarray(recording.voltage[:, -1].reshape(recording.samples, -1).argmax(axis=1))


def accuracy_of(graph: FixedPointGraph, dataset: Dataset, steps: int) -> float:
    """Return the share of samples that the integer network classifies correctly."""
    recording = EventSimulator(graph).run(dataset.windows(steps))
    return float(np.mean(predict(recording) == dataset.labels))


def shown_samples(test: Dataset, recipe: Recipe) -> Dataset:
    """Return the test samples that Lava is asked about."""
    return test.subset(np.arange(min(recipe.verification.lava_samples, len(test))))
