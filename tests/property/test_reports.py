"""Every integer of `report --json` on random files equals a count of single synapses and neurons.

Files of every kind that netx can hold: convolutions, dense, recurrent and delayed synapses, input
blocks, graded input, sigma-delta and resonator networks; and deployed ones: lowered skips and
pools, pruned weights.

`pytest tests/property/test_reports.py --report-examples 2000` is the long run.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import restatement
from enumeration import enumerate_row, enumerate_updates
from float_networks import LOIHI2, float_graphs, integers_of
from hypothesis import HealthCheck, Phase, assume, given, settings, strategies as st
from jsonschema import Draft202012Validator
from strategies import Options, generators, graphs, random_input
from typer.testing import CliRunner

from neurodeploy import netx
from neurodeploy.cli.app import make_app
from neurodeploy.ir import FixedPointGraph
from neurodeploy.ir.graphs import INPUT, Graph
from neurodeploy.passes import lower_residuals
from neurodeploy.reports.json_form import schema

chains = graphs(Options(is_chain=True, kinds=("lif", "lif", "lif", "sigma-delta", "resonator")))
slow = settings(
    settings.get_profile("reports"),
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would take many minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
VALIDATOR = Draft202012Validator(schema())
SUMMED = (
    "events", "sops", "sops_stored", "sops_mac", "dense_exact", "dense_macs", "neurons",
    "updates_dense", "updates_active", "spikes", "messages",
)  # fmt: skip


def run_report(folder: Path, inputs: np.ndarray, *options: str) -> dict:
    np.savez(folder / "in.npz", input=inputs)
    arguments = ["report", str(folder / "random.net"), "-i", str(folder / "in.npz"), "--json"]
    outcome = CliRunner().invoke(make_app(), [*arguments, *options])
    assume("exceeds 32 bits" not in str(outcome.exception))
    if outcome.exception is not None:
        raise outcome.exception
    return json.loads(outcome.stdout)


def expected_rows(
    graph: FixedPointGraph,
    inputs: np.ndarray,
    steps: int,
    *,
    is_stream: bool = False,
    is_bias: bool = False,
) -> dict[str, list[dict]]:
    """Return one entry a sample for every row, (S, T, ...) inputs looked at one by one."""
    rows: dict[str, list[dict]] = {}
    for sample in inputs:
        run = restatement.simulate(
            graph, sample, steps=steps, is_stream=is_stream, is_bias_image=is_bias
        )
        updates: list = [(None, None)] * len(graph.layers)  # looked at in windows only
        if not (is_stream or is_bias):
            updates = enumerate_updates(graph, sample, steps)
        entered = np.broadcast_to(sample, (steps, *sample.shape)) if is_bias else sample
        sent = {INPUT: entered, **dict(zip(graph.names, run.spikes, strict=True))}
        for layer, (active, membrane), spikes in zip(graph, updates, run.spikes, strict=True):
            row = enumerate_row(graph, layer, sent, is_recurrent=False, is_bias=is_bias) | {
                "neurons": layer.neurons,
                "updates_dense": layer.neurons * steps,
                "updates_active": active,
                "spikes": int(np.count_nonzero(spikes)),
                "membrane": membrane,
            }
            rows.setdefault(layer.name, []).append(row)
            if layer.is_recurrent:
                row = enumerate_row(graph, layer, sent, is_recurrent=True) | dict.fromkeys(
                    ("neurons", "updates_dense", "updates_active", "spikes", "membrane"), 0
                )
                rows.setdefault(f"{layer.name}.recurrent", []).append(row)
    return rows


def check(document: dict, rows: dict[str, list[dict]], steps: int) -> None:
    samples = document["workload"]["samples"]
    assert [row["name"] for row in document["layers"]] == list(rows)
    VALIDATOR.validate(document)
    once = ("dense_exact", "dense_macs", "neurons")
    totals = dict.fromkeys(SUMMED, 0)
    for found in document["layers"]:
        expected = rows[found["name"]]
        for key in SUMMED:
            values = [one[key] for one in expected]
            if values[0] is None:
                continue
            whole = values[0] if key in once else sum(values)
            assert found[key] == whole, (found["name"], key)
            totals[key] += whole
            if key not in once:
                assert found["per_sample"][key] == whole / samples
            if key in found["per_sample_std"]:
                assert found["per_sample_std"][key] == pytest.approx(np.std(values))
    everything = [one for expected in rows.values() for one in expected]
    for key in SUMMED:
        if all(one[key] is not None for one in everything):
            assert document["totals"][key] == totals[key], key
    macs = sum(one["neurobench_macs"] for one in everything)
    bench = document["neurobench"]
    assert bench["Effective_MACs"] == macs / samples
    assert bench["Effective_ACs"] == (totals["sops"] - macs) / samples
    assert bench["Dense"] == steps * totals["dense_exact"]
    outputs = totals["neurons"] * steps * samples
    assert bench["ActivationSparsity"] == (outputs - totals["spikes"]) / outputs
    membrane = [one["membrane"] for one in everything]
    if all(one["updates_active"] is not None for one in everything):
        known = None if None in membrane else sum(membrane) / samples
        assert bench["MembraneUpdates"] == known
    if totals["dense_exact"]:
        passes = samples * document["ann"]["passes"]
        assert document["sigma"] == pytest.approx(
            totals["sops_stored"] / (totals["dense_exact"] * passes), rel=1e-12
        )


@slow
@given(chains, generators, st.integers(1, 4))
def test_files_of_every_kind(graph: FixedPointGraph, rng: np.random.Generator, steps: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        netx.write(graph, folder / "random.net")
        written = netx.read(folder / "random.net")
        assert written.spike_exponent == graph.spike_exponent
        inputs = random_input(rng, written, samples=2, steps=steps)
        inputs[rng.random(inputs.shape) < 0.5] = 0
        document = run_report(folder, inputs, "--window", str(steps))
    check(document, expected_rows(written, inputs, steps), steps)


@slow
@given(float_graphs(), generators, st.integers(1, 3), st.sampled_from([0.0, 0.5, 0.8]))
def test_deployed_networks(
    graph: Graph, rng: np.random.Generator, steps: int, sparsity: float
) -> None:
    """Skips that became relay channels, pools, and pruned weights."""
    lowered = lower_residuals(integers_of(graph, steps, 0.6, sparsity), LOIHI2).graph
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        netx.write(lowered, folder / "random.net")
        written = netx.read(folder / "random.net")
        inputs = np.abs(random_input(rng, written, samples=2, steps=steps))
        document = run_report(folder, inputs)
    check(document, expected_rows(written, inputs, steps), steps)


@slow
@given(chains, generators, st.integers(1, 5))
def test_lavas_own_time(graph: FixedPointGraph, rng: np.random.Generator, steps: int) -> None:
    """One step of delay a layer: other spikes, the same rules."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        netx.write(graph, folder / "random.net")
        written = netx.read(folder / "random.net")
        inputs = random_input(rng, written, samples=2, steps=steps)
        document = run_report(folder, inputs, "--stream")
    check(document, expected_rows(written, inputs, steps, is_stream=True), steps)


@slow
@given(graphs(Options(is_chain=True)), generators, st.integers(1, 4))
def test_images_as_biases(graph: FixedPointGraph, rng: np.random.Generator, steps: int) -> None:
    """The input block has no events and no operations; its neurons and spikes count."""
    assume(graph.has_input_neuron)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        netx.write(graph, folder / "random.net")
        written = netx.read(folder / "random.net")
        image = rng.integers(-300, 300, (2, *written.input.shape), dtype=np.int32)
        document = run_report(folder, image, "--feed", "bias", "--window", str(steps))
    check(document, expected_rows(written, image, steps, is_bias=True), steps)
