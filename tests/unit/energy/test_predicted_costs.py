"""Costs that are predicted from sizes equal those of a network that is run and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.counting.network_counts import count
from neurodeploy.energy.estimates import network_energy
from neurodeploy.energy.predicted_costs import (
    Interval,
    NetworkLoad,
    load_of_graph,
    ordinary_energy,
    spiking_energy,
)
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.ir.graphs import AnnLayerMacs, AnnMacs
from neurodeploy.ir.integer_layers import NeuronModel
from neurodeploy.simulation import EventSimulator, Feed, Record, Stream

GOLDEN = Path(__file__).parents[2] / "golden" / "sigma_delta" / "04_residual_identity.net"


def test_energy_of_a_run_follows_from_shares() -> None:
    """Shares of the events that a run had give the energy that its counts give."""
    graph = netx.read(GOLDEN)
    frames = np.random.default_rng(0).integers(0, 256, (1, 6, *graph.input.shape)).astype(np.int32)
    recording = EventSimulator(graph).run(
        frames, timing=Stream(), feed=Feed.NEURON, record=Record(counts=True, updates=False)
    )
    counts = count(graph, frames, recording, feed=Feed.NEURON)
    load = load_of_graph(graph)
    shares = [
        row.sops / 6 / (layer.sops or 1)
        for row, layer in zip(counts.layers, load.layers, strict=True)
    ]
    operations = load.operations(shares)
    assert operations.sops_mac * 6 == pytest.approx(counts.totals.sops)
    assert operations.sops_conv * 6 == pytest.approx(
        sum(row.sops for row in counts.layers if row.type == "conv")
    )
    assert load.neurons == sum(layer.neurons for layer in graph)
    assert operations.updates == {NeuronModel.SIGMA_DELTA: load.neurons}
    # Memory but for queues of events, whose number follows from the share only on average.
    arithmetic = EnergyPreset.load("cmos45_int8")
    memory = network_energy(counts, EnergyPreset.load("sram45"), arithmetic=arithmetic)
    queues, spikes = memory.breakdown["event queues"], memory.breakdown["spikes"]
    expected = (memory.nominal - queues - spikes) / 6
    assert expected < load.energy(shares).packed == pytest.approx(expected, rel=0.05)


def test_no_frame_costs_more_than_one_in_which_all_send() -> None:
    load = load_of_graph(netx.read(GOLDEN))
    ends = [load.energy(share).memory for share in (0.0, 0.4, 1.0)]
    assert ends[0].low < ends[1].low < ends[2].low
    assert ends[0].high < ends[1].high < ends[2].high
    assert load.operations(1.0).sops_mac == load.most_sops
    chip = load.chip_energy(1.0)
    assert 0 < chip.low < chip.high


def test_by_hand() -> None:
    """Ten synapses of three neurons: 3 · 3 additions, 10 products, and as many messages."""
    from neurodeploy.counting.fan_out import dense_fan_out
    from neurodeploy.energy.predicted_costs import input_load, layer_load

    weight = np.ones((2, 6))
    weight[0, :2] = 0
    load = NetworkLoad(
        layers=(input_load(6), layer_load(dense_fan_out(weight), 2)), is_conv=(False, False)
    )
    assert (load.neurons, load.most_sops) == (8, 10)
    operations = load.operations(0.5)
    assert (operations.sops_mac, operations.spikes) == (5, 3)
    # 0.3 pJ a product, 0.1 pJ an addition: 5 products, 3 additions a neuron, 1 a message
    assert load.energy(0.5).arithmetic == pytest.approx(5 * 0.3 + 8 * 3 * 0.1 + 3 * 0.1)


def test_ordinary_and_spiking_networks() -> None:
    row = AnnLayerMacs(
        name="fc", type="dense", macs_standard=100, macs_border_exact=100, macs_nonzero=80,
        weights=100, zero_weights=20, inputs=10, outputs=10,
    )  # fmt: skip
    ann = ordinary_energy(AnnMacs(layers=(row,)))
    assert ann.arithmetic == pytest.approx(100 * 0.3)
    # weights and inputs once, outputs: 120 · 8 bit · 10/64 pJ; at every use: 210 of them
    assert ann.packed == pytest.approx(30 + 120 * 8 * 10 / 64)
    assert ann.memory.high == pytest.approx(30 + 210 * 8 * 10 / 64)
    assert ann.memory.low < ann.packed  # zero weights skipped
    sops, spiking = spiking_energy(AnnMacs(layers=(row,)), steps=5, rate=0.1)
    assert sops == 40
    # 40 accumulations, two products and an addition for each of 50 updates, 5 input spikes
    assert spiking.arithmetic == pytest.approx(40 * 0.1 + 50 * (2 * 0.3 + 0.1) + 5 * 0.1)
    assert Interval(1, 3).scaled(2) == (2, 6)
