"""A sigma-delta network answers a frame a step: the ordinary network makes a pass for each."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from neurodeploy import netx
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import FixedConv, FixedDense
from neurodeploy.reports.pages.tables import fact_rows
from neurodeploy.reports.report_builder import report
from neurodeploy.simulation import EventSimulator, Feed, Recording, Stream
from neurodeploy.simulation.synapses import apply_synapse

GOLDEN = Path(__file__).parents[2] / "golden" / "sigma_delta" / "11_digits_trained"


def test_the_ann_makes_a_pass_for_each_frame() -> None:
    with np.load(f"{GOLDEN}.npz") as found:
        frames, spec = found["x"].astype(np.int32), json.loads(str(found["spec"]))
    graph = netx.read(f"{GOLDEN}.net")
    values = np.concatenate([frames, np.repeat(frames[-1:], spec["latency"], axis=0)])[None]
    recording = EventSimulator(graph).run(values, timing=Stream(), feed=Feed.NEURON)
    result = report(graph, values, recording, feed=Feed.NEURON)

    steps = values.shape[1]
    one = ann_macs(graph).macs_border_exact
    assert result.ann.passes == steps
    assert result.ann.macs_border_exact == steps * one
    assert result.to_json()["ann"]["passes"] == steps  # type: ignore[index]
    assert dict(fact_rows(result))[f"MACs of the {result.ann_label}, {steps} frames"]
    assert any(f"a sequence of {steps} frames" in text for text in result.assumptions)
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
    single = report(graph, values[:, :1], _first(graph, values), feed=Feed.NEURON).tiers[0].ann
    assert single is not None
    assert tier.ann.nominal == pytest.approx(steps * single.nominal)


def _fields(synapse: object) -> dict[str, object]:
    return {field.name: getattr(synapse, field.name) for field in fields(synapse)}  # type: ignore[arg-type]


def _first(graph: FixedPointGraph, values: np.ndarray) -> Recording:
    return EventSimulator(graph).run(values[:, :1], timing=Stream(), feed=Feed.NEURON)
