"""Lowered residual networks on real Lava: every spike of every original channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.chips.target import Target
from neurodeploy.ir.graphs import FixedInput, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
)
from neurodeploy.lava_bridge import LavaSimulator
from neurodeploy.passes import lower_residuals
from neurodeploy.simulation import EventSimulator
from neurodeploy.testing import assert_bit_exact

pytestmark = pytest.mark.lava


def conv(
    rng: np.random.Generator, outputs: int, inputs: int, kernel: int, stride: int
) -> FixedConv:
    weight = 2 * rng.integers(-50, 70, (outputs, inputs, kernel, kernel))
    return FixedConv(
        weight=weight.astype(np.int32),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
    )


def neuron(threshold: int, leak: int) -> CubaNeuron:
    return CubaNeuron(
        current_decay=np.array(4096, np.int32),
        voltage_decay=np.array(leak, np.int32),
        threshold=np.array(threshold, np.int32),
    )


def residual_network(rng: np.random.Generator, thresholds: tuple[int, int]) -> FixedPointGraph:
    """Graded stem, identity block, stride-2 projection block, read-out."""

    def spiking(name: str, shape: tuple[int, ...], *inputs: tuple[str, FixedConv]) -> FixedLayer:
        return FixedLayer(
            name=name,
            shape=shape,
            connections=tuple(Connection(source=s, synapse=c) for s, c in inputs),
            neuron=neuron(int(rng.integers(*thresholds)), 2048),
            bias=rng.integers(-20, 20, (shape[0], 1, 1)).astype(np.int32),
        )

    eye = FixedConv(weight=254 * np.eye(4, dtype=np.int32)[:, :, None, None])
    readout = FixedLayer(
        name="readout",
        shape=(5,),
        connections=(
            Connection(
                source="b2",
                synapse=FixedDense(weight=2 * rng.integers(-99, 99, (5, 54)).astype(np.int32)),
            ),
        ),
        neuron=neuron(131071, 0),
        bias=np.zeros((), np.int32),
    )
    return FixedPointGraph(
        input=FixedInput(shape=(2, 6, 6), message_bits=4),
        layers=(
            spiking("stem", (4, 6, 6), ("input", conv(rng, 4, 2, 3, 1))),
            spiking("a1", (4, 6, 6), ("stem", conv(rng, 4, 4, 3, 1))),
            spiking("a2", (4, 6, 6), ("a1", conv(rng, 4, 4, 3, 1)), ("stem", eye)),
            spiking("b1", (6, 3, 3), ("a2", conv(rng, 6, 4, 3, 2))),
            spiking("b2", (6, 3, 3), ("b1", conv(rng, 6, 6, 3, 1)), ("a2", conv(rng, 6, 4, 1, 2))),
            readout,
        ),
    )


@pytest.mark.parametrize(
    ("target", "thresholds"),
    [
        ("loihi2", (120, 254)),
        ("loihi2", (400, 506)),  # beyond the relays' weight: a bias helps them
        ("lava-cpu", (120, 254)),
    ],
)
def test_direct_graph_lowered_file_and_lava_agree(
    target: str, thresholds: tuple[int, int], lava: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(11)
    graph = residual_network(rng, thresholds)
    lowered = lower_residuals(graph, Target.load(target))
    assert [cost.relay_bias > 0 for cost in lowered.costs] == [thresholds[0] > 254] * 2
    path = tmp_path / "residual.net"
    netx.write(lowered.graph, path)
    samples = rng.integers(0, 16, (8, 5, 2, 6, 6)).astype(np.int32)
    direct = EventSimulator(graph).run(samples)
    ours = EventSimulator(netx.read(path)).run(samples)
    reference = LavaSimulator(path, python=lava, input_bits=4, layer_names=lowered.graph.names).run(
        samples
    )
    assert_bit_exact(ours, reference)
    for name, spikes, theirs in zip(direct.layers, direct.spikes, reference.spikes, strict=True):
        assert np.array_equal(spikes, theirs[:, :, : lowered.channels[name]])
        assert name == "readout" or 0.01 < spikes.mean() < 0.99
    assert np.array_equal(direct.voltage, reference.voltage)
