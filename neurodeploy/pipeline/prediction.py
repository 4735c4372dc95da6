"""Run networks on samples: spikes, classes, accuracy, operations, agreement with real Lava."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from neurodeploy.counting.network_counts import count
from neurodeploy.data import Dataset
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.pipeline.observation import Observer
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.long_runs.long_run import record_in_pieces
from neurodeploy.simulation.recording import Record, Recording
from neurodeploy.testing import Comparison, compare


@torch.no_grad()
def float_spikes(
    network: SpikingNetwork, windows: npt.NDArray[np.int32]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the spikes (samples, T, ...) of a float network, by spiking layer."""
    network.eval()
    spikes = network.forward_with_spikes(torch.from_numpy(windows))[1]
    return {name: values.numpy() != 0 for name, values in spikes.items()}


def predict(recording: Recording) -> npt.NDArray[np.int64]:
    """Return each sample's class, (samples,): the largest read-out voltage after the last step.

    Raises:
        SimulationError: If the voltage of the last layer was not kept.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> int((nd.pipeline.predict(recording) == example.labels).sum())
        29
    """
    return np.asarray(recording.voltage[:, -1].reshape(recording.samples, -1).argmax(axis=1))


class DatasetSamples:
    """The samples of a data set as simulators read them, a few at a time."""

    def __init__(self, dataset: Dataset, steps: int) -> None:
        self._dataset, self._steps = dataset, steps
        self.name = "samples"
        self.count: int | None = len(dataset)
        self.shape: tuple[int, ...] = (steps, *dataset.shape)
        self.dtype: np.dtype[np.integer] = np.dtype(np.int32)

    def read(self, first: int, last: int) -> npt.NDArray[np.int32]:
        """Return samples `first` to `last` - 1, (last - first, T, ...)."""
        return self._dataset.subset(np.arange(first, last)).windows(self._steps)


def accuracy_of(
    graph: FixedPointGraph,
    dataset: Dataset,
    steps: int,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Return the share of samples that the integer network classifies correctly.

    Example:
        >>> graph, test = run.deployment.graph, nd.load_data(recipe)[2]
        >>> accuracy = nd.pipeline.accuracy_of(graph, test, recipe.network.steps)
        >>> accuracy == run.accuracy[2].value, run.accuracy[2].stage
        (True, 'integer')
    """
    pieces = record_in_pieces(
        graph, DatasetSamples(dataset, steps), record=Record(spikes=()), progress=progress
    )
    predicted = np.concatenate([predict(recording) for _, recording in pieces])
    return float(np.mean(predicted == dataset.labels))


def mean_sops(graph: FixedPointGraph, inputs: npt.NDArray[np.int32], recording: Recording) -> float:
    """Return the mean synaptic operations a sample of a recorded run."""
    return count(graph, inputs, recording).totals.sops / recording.samples


def compare_with_lava(
    path: Path,
    graph: FixedPointGraph,
    recipe: Recipe,
    inputs: npt.NDArray[np.int32],
    observer: Observer,
) -> tuple[Comparison, Recording, Recording]:
    """Run a netx file on our simulator and on real Lava; return comparison and both recordings.

    Raises:
        LavaRuntimeError: If Lava is missing or fails.
    """
    ours = EventSimulator(graph).run(inputs)
    lava = LavaSimulator(
        path,
        python=recipe.verification.lava_python,
        input_bits=graph.input.message_bits,
        input_shape=graph.input.shape,
        layer_names=graph.names,
    ).run(inputs, progress=observer.advance)
    return compare(ours, lava), ours, lava


def shown_samples(test: Dataset, recipe: Recipe) -> Dataset:
    """Return the test samples that Lava is asked about."""
    return test.subset(np.arange(min(recipe.verification.lava_samples, len(test))))
