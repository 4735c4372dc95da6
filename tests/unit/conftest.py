"""The 784-256-10 network of the worked example, with a recording of known activity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from neurodeploy.counting.count_tables import Counts
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.counting.network_counts import count
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.reports.report import Report
from neurodeploy.reports.report_builder import report
from neurodeploy.simulation import EventSimulator
from neurodeploy.simulation.recording import Recording


def lif() -> CubaNeuron:
    return CubaNeuron(
        current_decay=np.array(4096, dtype=np.int32),
        voltage_decay=np.array(1024, dtype=np.int32),
        threshold=np.array(10, dtype=np.int32),
    )


def dense(name: str, source: str, weight: np.ndarray) -> FixedLayer:
    return FixedLayer(
        name=name,
        shape=(weight.shape[0],),
        connections=(Connection(source=source, synapse=FixedDense(weight=weight)),),
        neuron=lif(),
        bias=np.array(0, dtype=np.int32),
    )


def first_ones(steps: int, size: int, number: int) -> np.ndarray:
    """(1, steps, size) with `number` ones."""
    flat = np.zeros(steps * size, dtype=np.int32)
    flat[:number] = 1
    return flat.reshape(1, steps, size)


@pytest.fixture(scope="session")
def mlp() -> FixedPointGraph:
    return with_twin(
        FixedPointGraph(
            input=FixedInput(shape=(784,)),
            layers=(
                dense("hidden", INPUT, np.ones((256, 784), dtype=np.int32)),
                dense("output", "hidden", np.ones((10, 256), dtype=np.int32)),
            ),
        )
    )


def with_twin(graph: FixedPointGraph) -> FixedPointGraph:
    """A network that was deployed layer by layer: its twin has the layers as stored."""
    return replace(graph, relu_twin=ann_macs(graph))


@pytest.fixture(scope="session")
def mlp_run() -> tuple[np.ndarray, Recording]:
    """784 input events, 128 hidden and 10 output spikes in ten steps."""
    spikes = (first_ones(10, 256, 128), first_ones(10, 10, 10))
    recording = Recording.from_spikes(("hidden", "output"), spikes)
    return first_ones(10, 784, 784), recording


@pytest.fixture(scope="session")
def count_alike() -> Callable[[int], Counts]:
    """Two layers of two neurons with one weight of zero; all spike in three of four steps."""
    weight = np.array([[20, 0], [40, 60]], dtype=np.int32)
    layers = (dense("a", INPUT, weight), dense("b", "a", weight))
    graph = FixedPointGraph(input=FixedInput(shape=(2,)), layers=layers)

    def count_alike(samples: int) -> Counts:
        inputs = np.zeros((samples, 4, 2), dtype=np.int32)
        inputs[:, :3] = 1
        return count(graph, inputs, EventSimulator(graph).run(inputs))

    return count_alike


@pytest.fixture(scope="session")
def make_report(
    mlp: FixedPointGraph, mlp_run: tuple[np.ndarray, Recording]
) -> Callable[..., Report]:
    """Report on the network, all of its updates active, with further options."""

    def make(**options: object) -> Report:
        active = {"hidden": np.array([2560]), "output": np.array([100])}
        return report(mlp, *mlp_run, active_updates=active, **options)

    return make


@pytest.fixture(scope="session")
def make_deep_report() -> Callable[[int], Report]:
    """Report on a chain of that many small layers."""

    def make(depth: int) -> Report:
        names = [f"layer{number}" for number in range(1, depth + 1)]
        layers = tuple(
            dense(name, source, np.eye(8, dtype=np.int32))
            for name, source in zip(names, [INPUT, *names], strict=False)
        )
        graph = with_twin(FixedPointGraph(input=FixedInput(shape=(8,)), layers=layers))
        spikes = tuple(first_ones(4, 8, number % 9) for number in range(depth))
        recording = Recording.from_spikes(graph.names, spikes)
        return report(graph, first_ones(4, 8, 20), recording)

    return make
