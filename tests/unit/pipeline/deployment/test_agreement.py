"""Accuracy that deployment may lose."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.ir.float_layers import Cuba, Dense, Input, Integrator
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import lower_current_biases, quantize
from neurodeploy.pipeline.deployment.agreement import check_accuracy, compare_layers
from neurodeploy.simulation import EventSimulator, Recording


@pytest.fixture(scope="module")
def recording() -> Recording:
    names = ("input", "fc", "lif", "read", "out")
    graph = Graph(
        nodes=dict(
            zip(
                names,
                (
                    Input(shape=(2,)),
                    Dense(weight=np.array([[1.0, -1.0]])),
                    Cuba(threshold=0.5),
                    Dense(weight=np.array([[1.0], [-1.0]])),
                    Integrator(),
                ),
                strict=True,
            )
        ),
        edges=tuple(itertools.pairwise(names)),
    )
    fixed = quantize(graph, Target.load("loihi2"), steps=2)
    return EventSimulator(fixed).run(np.array([[[1, 0], [0, 0]]]))


def test_a_channel_that_carries_biases_is_in_no_share_but_in_the_file() -> None:
    weight = np.array([[1.0, -1.0]])
    nodes = {
        "input": Input(shape=(2,)),
        "fc": Dense(weight=weight),
        "lif": Cuba(threshold=0.5),
        "next": Dense(weight=np.array([[1.0]]), bias=np.array([0.2])),
        "slow": Cuba(threshold=0.9, current_decay=0.25),
        "read": Dense(weight=np.array([[1.0], [-1.0]])),
        "out": Integrator(),
    }
    carried = lower_current_biases(Graph(nodes=nodes, edges=tuple(itertools.pairwise(nodes))))
    fixed = quantize(carried.graph, Target.load("loihi2"), steps=2)
    run = EventSimulator(fixed).run(np.array([[[1, 0], [0, 0]]]))
    floats = {"lif": np.array([[[True], [False]]])}
    channels = {layer.name: layer.shape[0] for layer in fixed}
    assert channels["lif"] == 2
    trained = carried.channels
    check = compare_layers(floats, run, run, run, channels, trained=trained)[0]
    assert (check.values, check.rate, check.quantized, check.deployed) == (2, 0.5, 1.0, 1.0)
    broken = np.array(run.spikes_of("lif"))
    broken[0, 1, 1] = 0
    other = dataclasses.replace(run, spikes=(broken, *run.spikes[1:]))
    check = compare_layers(floats, run, run, other, channels, trained=trained)[0]
    assert check.file_differing == 1
    accuracy = {"float": 1.0, "deployed": 0.0}
    wrong = {"lif": np.array([[[True], [True]]])}
    with pytest.raises(QuantizationError, match=r"lif 50\.0%"):
        check_accuracy(accuracy, 60, 0.1, floats=wrong, deployed=run, trained=trained)


@pytest.mark.parametrize(
    ("before", "after", "samples", "limit", "is_refused"),
    [
        (1.0, 0.5, 60, 0.1, True),  # half of two classes: chance
        (0.98, 0.98, 1000, 0.1, False),
        (0.9, 0.95, 1000, 0.0, False),  # a gain is no loss
        (1.0, 0.0, 3, 0.1, False),  # three samples say nothing
        (1.0, 0.0, 12, 0.1, True),
        (0.98, 0.85, 200, 0.1, False),  # 13 points, of which chance may be 10
        (0.98, 0.85, 20000, 0.1, True),
        (0.98, 0.1, 20000, 1.0, False),  # every loss accepted
    ],
)
def test_only_a_loss_beyond_chance_and_limit_is_refused(
    recording: Recording, before: float, after: float, samples: int, limit: float, is_refused: bool
) -> None:
    floats = {"lif": np.array([[[True], [True]]])}
    accuracy = {"float": before, "quantized": after, "deployed": after}
    if not is_refused:
        check_accuracy(accuracy, samples, limit, floats=floats, deployed=recording)
        return
    with pytest.raises(QuantizationError, match=r"by layer: lif 50\.0%\. Use more weight bits"):
        check_accuracy(accuracy, samples, limit, floats=floats, deployed=recording)
