"""A sigma-delta network answers a frame a step: the ordinary network makes a pass for each."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from small_sigma_delta import FRAMES, small_network

from neurodeploy import netx
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.energy.estimates import ann_energy
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.errors import DataError
from neurodeploy.ir.graphs import AnnLayerMacs, AnnMacs
from neurodeploy.ir.integer_layers import FixedConv, FixedDense
from neurodeploy.reports.pages.tables import fact_rows
from neurodeploy.reports.report_builder import report
from neurodeploy.reports.statements import statements
from neurodeploy.simulation import EventSimulator, Feed, Stream
from neurodeploy.simulation.synapses import apply_synapse

GOLDEN = Path(__file__).parents[2] / "golden" / "sigma_delta" / "11_digits_trained"


def test_the_ann_makes_a_pass_for_each_frame() -> None:
    with np.load(f"{GOLDEN}.npz") as found:
        frames, spec = found["x"].astype(np.int32), json.loads(str(found["spec"]))
    graph = netx.read(f"{GOLDEN}.net")
    values = np.concatenate([frames, np.repeat(frames[-1:], spec["latency"], axis=0)])[None]
    recording = EventSimulator(graph).run(values, timing=Stream(), feed=Feed.NEURON)
    result = report(graph, values, recording, feed=Feed.NEURON)

    number = len(frames)  # the repeated ones at the end answer the last and are no frames
    one = ann_macs(graph).macs_border_exact
    assert result.ann.passes == number
    assert result.ann.macs_border_exact == number * one
    assert result.to_json()["ann"]["passes"] == number  # type: ignore[index]
    assert dict(fact_rows(result))[f"MACs of the {result.ann_label}, {number} frames"]
    assert any(f"a sequence of {number} frames" in text for text in result.assumptions)
    assert not result.changes_over_time  # no pass sees a mean of frames

    # Brute force: ones through weights that are not zero.
    total = 0
    for layer, sent in zip(graph.layers[1:], recording.spikes[:-1], strict=True):
        assert sent is not None
        synapse = layer.connections[0].synapse
        assert isinstance(synapse, FixedConv | FixedDense)
        ones = (synapse.weight != 0).astype(np.int32)
        counter = type(synapse)(**{**_fields(synapse), "weight": ones})
        total += int(apply_synapse(counter, (sent != 0).astype(np.int32)).sum())
    assert result.sops_per_sample == pytest.approx(total)
    assert sum(spec["sops"].values()) == total

    tier = result.tiers[0]
    assert tier.ann is not None
    single = ann_energy(ann_macs(graph), EnergyPreset.load(tier.ann.preset))
    assert single is not None
    assert tier.ann.nominal == pytest.approx(number * single.nominal)


def test_ordinary_networks_that_skip() -> None:
    """Three frames, the second a repeat: the graph and its counts are those of the unit test."""
    twin = AnnMacs(
        layers=(
            AnnLayerMacs(
                name="hidden", type="dense", macs_standard=4, macs_border_exact=4, macs_nonzero=3,
                weights=4, zero_weights=1, inputs=2, outputs=2,
            ),
            AnnLayerMacs(
                name="out", type="dense", macs_standard=2, macs_border_exact=2, macs_nonzero=2,
                weights=2, inputs=2, outputs=1,
            ),
        )
    )  # fmt: skip
    graph = replace(small_network(), relu_twin=twin)
    recording = EventSimulator(graph).run(FRAMES, timing=Stream(), feed=Feed.NEURON)
    estimated = report(graph, FRAMES, recording, feed=Feed.NEURON)
    measured = report(
        graph, FRAMES, recording, feed=Feed.NEURON, frame_macs=np.array([[5, 5, 2]]),
        accuracy={"deployed": 0.9}, ann_accuracy=0.9,
    )  # fmt: skip
    assert [(one.name, one.passes, one.macs) for one in estimated.frame_anns] == [
        ("dense", 3.0, 18.0),
        ("zero-skipping", 3.0, 9.0),  # 4 + 4 + 1, as the network's own values are
        ("frame-skipping", 2.0, 12.0),
        ("frame- and zero-skipping", 2.0, 5.0),
    ]
    assert [one.macs for one in measured.frame_anns] == [18.0, 12.0, 12.0, 7.0]
    mac = EnergyPreset.load("cmos45_int8").value("mac")
    energies = [one.energies["cmos45_int8"] for one in measured.frame_anns]
    assert [one.nominal / mac for one in energies] == pytest.approx([18, 12, 12, 7])
    # No comparison favours the network: the range of the ANN begins at the most sparing one.
    tier = measured.tiers[0]
    assert tier.ann is not None
    assert tier.ann.low / mac == pytest.approx(7)
    assert tier.ann.high / mac == pytest.approx(18)
    # What is estimated is no measurement, and allows no headline.
    assert not estimated.has_measured_zeros
    assert estimated.ann.macs_effective is None
    assert measured.ann.macs_effective == pytest.approx(4.0)
    rule = measured.rules[-1]
    assert rule.holds
    assert rule.found.startswith("33.3 % of the frames do")
    assert measured.headline is not None
    memory = EnergyPreset.load("sram45")
    whole = ann_energy(
        replace(twin, passes=3), memory, arithmetic=EnergyPreset.load("cmos45_int8"),
        skips_zeros=True,
    )  # fmt: skip
    own = next(pair.network for pair in measured.tiers if pair.network.tier is Tier.MEMORY)
    assert whole is not None
    assert measured.headline.ratio == pytest.approx(own.nominal / (whole.nominal * 2 / 3))
    with pytest.raises(DataError, match=r"shape \(1, 2\), \(1, 3\)"):
        report(graph, FRAMES, recording, feed=Feed.NEURON, frame_macs=np.array([[5, 5]]))

    document = measured.to_json()["frames"]
    assert isinstance(document, dict)
    assert document["sops"] == {
        "mean": 3.0, "first": 4.0, "median": 4.0, "largest": 5.0, "fill": 1.0, "rest": 0.0,
    }  # fmt: skip
    assert document["updates_per_frame"] == pytest.approx(5 * 5 / 3)
    assert document["changed"]["mean"] == pytest.approx(0.5)
    assert document["repeated"] == 1
    sentences = " ".join(statements(measured))
    assert "Neuron updates dominate. 5 neurons are updated at every step" in sentences
    assert "6 dense, 4 zero-skipping, 4 frame-skipping, 2 frame- and zero-skipping" in sentences
    assert "33.3 % of the frames repeat the one before, zeros are measured" in sentences


def test_sequences_without_an_answer_allow_no_comparison() -> None:
    graph = small_network()
    recording = EventSimulator(graph).run(FRAMES[:, :2], timing=Stream(), feed=Feed.NEURON)
    result = report(graph, FRAMES[:, :2], recording, feed=Feed.NEURON)
    assert result.frames is None
    assert not result.is_comparable
    assert "end after 2 steps, before a frame is answered" in statements(result)[0]


def _fields(synapse: object) -> dict[str, object]:
    return {field.name: getattr(synapse, field.name) for field in fields(synapse)}  # type: ignore[arg-type]
