"""NeuroBench's metrics of layers, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neurodeploy.counting.count_tables import Counts
from neurodeploy.counting.neurobench import (
    NeuroBenchMetrics,
    metrics_of_counts,
    metrics_of_layers,
)
from neurodeploy.counting.synapse_counts import SynapseCounts, count_layer
from neurodeploy.errors import DataError


def counted(samples: int) -> SynapseCounts:
    """Count two inputs, both spiking in each of three steps, onto two neurons by three weights."""
    return count_layer(np.array([[1, 0], [2, 3]]), np.ones((samples, 3, 2), int), kind="binary")


def metrics(layers: list[SynapseCounts], outputs: list[np.ndarray]) -> NeuroBenchMetrics:
    return metrics_of_layers(layers, steps=3, outputs=outputs, parameters=4, footprint=16)


def test_metrics_are_a_samples() -> None:
    spikes = np.zeros((2, 3, 2), int)
    spikes[0, 0] = 1
    found = metrics([counted(2)], [spikes])
    assert (found.effective_acs, found.effective_macs, found.dense) == (9, 0, 12)
    assert (found.connection_sparsity, found.activation_sparsity) == (0.25, 1 - 2 / 12)


@pytest.mark.parametrize(
    ("layers", "outputs"),
    [
        ([], [np.zeros((2, 3, 2))]),
        ([counted(2)], []),
        ([counted(2)], [np.zeros((1, 3, 2))]),
        ([counted(2), counted(1)], [np.zeros((2, 3, 2))]),
    ],
)
def test_layers_and_outputs_are_of_the_same_samples(
    layers: list[SynapseCounts], outputs: list[np.ndarray]
) -> None:
    with pytest.raises(DataError, match="at least one layer, one output, and the same samples"):
        metrics(layers, outputs)


@pytest.mark.parametrize("samples", [1, 3])
def test_metrics_of_counts_are_a_samples(
    count_alike: Callable[[int], Counts], samples: int
) -> None:
    found = metrics_of_counts(count_alike(samples), biases=1, states=8)
    assert found.dense == 4 * (4 + 4)
    assert found.effective_acs == 2 * 3 * 3
    assert found.activation_sparsity == 1 - 3 / 4
    assert found.connection_sparsity == 0.25
