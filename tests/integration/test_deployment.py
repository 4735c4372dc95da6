"""What `deploy` prints and records: steps, agreement, pruning, fewer bits, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy import netx, pipeline
from neurodeploy.files import hash_file
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.pipeline import prediction
from neurodeploy.pipeline.deployment import steps
from neurodeploy.pipeline.deployment.result import hash_weights
from neurodeploy.simulation import EventSimulator, Recording


@pytest.fixture
def trained(neurodeploy, tiny_recipe, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    assert neurodeploy("train", tiny_recipe(), "--out", run).code == 0
    return run


def deployed(neurodeploy, run: Path, *settings: str) -> dict:
    options = [part for setting in settings for part in ("--set", setting)]
    outcome = neurodeploy("deploy", run, "--json", *options)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_a_deployment_is_certified_on_the_samples_beside_it(neurodeploy, trained: Path) -> None:
    answer = deployed(neurodeploy, trained)
    certificate = nd.Certificate.load(trained / "certificate.json")
    assert certificate.check(trained, trained).holds
    assert certificate.result.compared_with == "integer network"
    assert certificate.deployment.source == "the trained network in floats"
    assert [one.equal_share for one in certificate.deployment.layers] == [
        layer["deployed"] for layer in answer["agreement"]
    ]
    assert certificate.network.sha256[:12] in (trained / "report.html").read_text()
    net, samples = trained / "network.net", trained / "samples.npz"
    page = trained / "page.html"
    assert neurodeploy("report", net, "-i", samples, "--html", page).code == 0
    assert "Certificate: network.net" in page.read_text()
    net.write_bytes(net.read_bytes() + b"\0")
    outcome = neurodeploy("report", net, "-i", samples, "--html", page)
    assert "does not certify network.net" in outcome.err
    assert "Certificate: network.net" not in page.read_text()


def zeros(path: Path) -> float:
    weights = [c.synapse.weight for layer in netx.read(path) for c in layer.connections]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)


def test_every_step_is_told_and_recorded(neurodeploy, trained: Path) -> None:
    answer = deployed(neurodeploy, trained)
    names = [step["name"] for step in answer["steps"]]
    assert names == [
        "trace",
        "fold",
        "quantize",
        "fine-tune",
        "check limits",
        "write",
        "check file",
    ]
    record = json.loads((trained / "network.json").read_text())
    assert record["steps_done"] == answer["steps"]
    assert record["agreement"] == answer["agreement"]
    assert record["sha256"] == hash_file(trained / "network.net")
    network, recipe = nd.pipeline.load_model(trained)
    assert record["weights_sha256"] == hash_weights(network)
    next(network.parameters()).data[0] += 1
    assert record["weights_sha256"] != hash_weights(network)
    assert record["calibration_data"] == nd.load_data(recipe)[0].digest()  # all of them
    assert {"neurodeploy", "python", "torch", "numpy"} <= record["versions"].keys()
    assert nd.Recipe.from_dict(record["recipe"]) == recipe
    layers = answer["agreement"]
    assert [entry["name"] for entry in layers] == ["conv1", "conv2", "readout"]
    for entry in layers[:-1]:
        assert 0.5 < entry["quantized"] <= 1
        assert entry["file_differing"] == entry["current_wraps"] == 0
    assert layers[-1]["quantized"] is None  # the float read-out has no spikes
    assert answer["fit"]["target"] == "loihi2"
    table = neurodeploy("deploy", trained)
    assert "Agreement on the calibration samples" in table.out
    assert "equal to the integer network in every spike" in table.out.replace("\n", " ")


def test_the_passes_by_hand_give_the_same_file(neurodeploy, trained: Path, tmp_path: Path) -> None:
    settings = ("quantization.fine_tune_epochs=0", "quantization.margin=1.5")
    deployed(neurodeploy, trained, *settings)
    network, recipe = nd.pipeline.load_model(trained)
    target = nd.Target.load("loihi2")
    graph = nd.run_passes(
        nd.trace(network),
        nd.fold_batchnorm,
        nd.merge_groups,
        nd.lower_max_pool,
        nd.fold_global_average_pool,
        nd.fold_average_pool,
    )
    samples = nd.load_data(recipe)[0].windows(recipe.network.steps)
    lowered = nd.lower_residuals(nd.calibrate(graph, target, samples).graph, target)
    nd.check_limits(lowered.graph, target)
    nd.netx.write(lowered.graph, tmp_path / "by_hand.net")
    ours, theirs = nd.netx.read(tmp_path / "by_hand.net"), nd.netx.read(trained / "network.net")
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(
            one.connections[0].synapse.weight, other.connections[0].synapse.weight
        )
        assert np.array_equal(one.neuron.threshold, other.neuron.threshold)
        assert np.array_equal(one.bias, other.bias)
    assert nd.estimate_cores(nd.sizes_of(theirs), target).cores_low == 3


def test_weights_are_pruned_before_the_fine_tune_and_stay_zero(neurodeploy, trained: Path) -> None:
    answer = deployed(neurodeploy, trained, "pruning.sparsity=0.5", "pruning.schedule=one_shot")
    outcome = answer["pruning"]
    assert 0.49 < outcome["zero_share"] < 0.52
    assert zeros(trained / "network.net") >= outcome["zero_share"]
    assert outcome["sops"] < outcome["sops_before"]
    assert outcome["accuracy"] == answer["validation_accuracy"]["deployed"]


def test_options_of_the_command_are_keys_of_the_recipe(neurodeploy, trained: Path) -> None:
    options = (
        "--prune",
        "0.5",
        "--prune-channels",
        "0.5",
        "--weight-bits",
        "6",
        "--fine-tune",
        "0",
    )
    outcome = neurodeploy("deploy", trained, "--json", *options)
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)
    assert answer["weight_bits"] == 6
    assert answer["pruning"]["zero_share"] > 0.49
    assert answer["pruning"]["neurons"] == 71
    recipe = json.loads((trained / "network.json").read_text())["recipe"]
    assert recipe["pruning"]["schedule"] == "one_shot"
    assert recipe["quantization"]["fine_tune_epochs"] == 0
    outcome = neurodeploy("deploy", trained, "--json", "--prune-pattern", "2:4")
    assert 0.4 < json.loads(outcome.out)["pruning"]["zero_share"] < 0.6
    outcome = neurodeploy("deploy", trained, "--json", "--accuracy-budget", "0.9")
    tried = json.loads((trained / "network.json").read_text())["bits_tried"]
    assert [entry["bits"] for entry in tried][:2] == [8, 7]
    outcome = neurodeploy("deploy", trained, "--prune", "1.5")
    assert outcome.code == 1
    assert "sparsity = 1.5" in outcome.errors[0]


@pytest.mark.lava
def test_calibration_samples_run_on_lava_too(neurodeploy, trained: Path) -> None:
    settings = ("--set", "quantization.fine_tune_epochs=0")
    outcome = neurodeploy("deploy", trained, "--lava", 3, "--json", *settings)
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)
    assert [entry["lava_differing"] for entry in answer["agreement"]] == [0, 0, 0]
    assert "check on Lava" in [step["name"] for step in answer["steps"]]


def test_a_file_that_lava_runs_otherwise_is_not_deployed(
    neurodeploy, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        """Answers for another network."""

        def __init__(self, path: Path, **options: object) -> None:
            self.graph = netx.read(path)

        def run(self, inputs: np.ndarray, progress: object) -> Recording:
            recording = EventSimulator(self.graph).run(inputs)
            recording.traces["voltage"][-1, -1, 0] += 1
            return recording

    monkeypatch.setattr(prediction, "LavaSimulator", Wrong)
    outcome = neurodeploy("deploy", trained, "--lava", 3)
    assert outcome.code == 1
    assert "readout: 1 values on real Lava differ" in outcome.errors[0]
    assert not (trained / "network.net").exists()


def test_a_fine_tune_that_leaves_the_range_is_an_error(
    neurodeploy, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = steps.EventSimulator.run

    def out_of_range(self: EventSimulator, *inputs: object, **options: object) -> Recording:
        recording = genuine(self, *inputs, **options)
        health = (dataclasses.replace(recording.health[0], voltage_clips=7), *recording.health[1:])
        return dataclasses.replace(recording, health=health)

    monkeypatch.setattr(steps.EventSimulator, "run", out_of_range)
    outcome = neurodeploy("deploy", trained)
    assert outcome.code == 1
    assert "conv1: on" in outcome.errors[0]
    assert "a voltage was clipped 7 times; none may" in outcome.errors[0]


def test_relays_are_counted_and_what_they_cost_in_precision(
    neurodeploy, tiny_recipe, tmp_path: Path
) -> None:
    run = tmp_path / "residual"
    layers = (
        "network.layers=[{type='conv', name='conv1', channels=4}, "
        "{type='residual', name='block', channels=4}]"
    )
    settings = ("--set", layers, "--set", "shortcut.method=vanilla")
    assert neurodeploy("train", tiny_recipe(), "--out", run, *settings).code == 0
    answer = deployed(neurodeploy, run)
    (relay,) = answer["relays"]
    assert (relay["layer"], relay["channels"]) == ("block.conv1", 4)
    assert relay["relay_weight"] + relay["relay_bias"] > relay["threshold"]
    counted = answer["relaying"]
    assert counted["neurons"] - counted["neurons_before"] == relay["neurons"]
    written = netx.read(run / "network.net")
    assert counted["neurons"] == sum(layer.neurons for layer in written)
    assert counted["bytes"] == (run / "network.net").stat().st_size > counted["bytes_before"]
    # Each spike of conv1 costs one operation more, at its relay; identities cost one either way.
    rate = next(entry for entry in answer["agreement"] if entry["name"] == "conv1")
    samples = json.loads((run / "network.json").read_text())["calibration_samples"]
    spikes = rate["rate"] * rate["values"] / samples
    assert counted["sops"] - counted["sops_before"] == pytest.approx(spikes, rel=1e-9)
    assert answer["skip_bits"]["block"] > 0
    assert answer["skip_bits"]["conv1"] == answer["skip_bits"]["readout"] == 0


def test_channels_are_taken_out(neurodeploy, trained: Path) -> None:
    answer = deployed(neurodeploy, trained, "pruning.channels=0.5")
    outcome = answer["pruning"]
    shapes = [layer.shape for layer in netx.read(trained / "network.net")]
    assert shapes == [(2, 5, 5), (2, 3, 3), (3,)]
    assert (outcome["neurons_before"], outcome["neurons"]) == (139, 71)
    assert answer["agreement"][0]["quantized"] is None  # there is no float layer of that shape


def test_pruning_while_training_leaves_zeros_in_the_file(
    neurodeploy, tiny_recipe, tmp_path: Path
) -> None:
    run = tmp_path / "pruned"
    settings = ("--set", "pruning.sparsity=0.6", "--set", "pruning.interval=1")
    assert neurodeploy("train", tiny_recipe(), "--out", run, *settings).code == 0
    deployed(neurodeploy, run)
    assert zeros(run / "network.net") >= 0.59


@pytest.mark.parametrize("bits", [4, 6])
def test_fewer_bits(neurodeploy, trained: Path, bits: int) -> None:
    answer = deployed(neurodeploy, trained, f"quantization.weight_bits={bits}")
    assert answer["weight_bits"] == bits
    for layer in netx.read(trained / "network.net"):
        weight = layer.connections[0].synapse.weight
        assert -(1 << bits) <= int(weight.min())
        assert int(weight.max()) <= (1 << bits) - 2


def test_the_fewest_bits_within_the_budget(
    neurodeploy, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8, 7 and 6 bits are good enough, 5 are not; so 6 it is, and 4 are not tried."""
    answers = {8: 0.9, 7: 0.95, 6: 0.88, 5: 0.8, 4: 1.0}

    def accuracy(graph: FixedPointGraph, *_: object) -> float:
        widest = max(
            int(np.abs(layer.connections[0].synapse.weight).max()) for layer in graph.layers
        )
        return answers[int(widest - 1).bit_length()]

    monkeypatch.setattr(steps, "accuracy_of", accuracy)
    answer = deployed(
        neurodeploy,
        trained,
        "quantization.accuracy_budget=0.03",
        "quantization.fine_tune_epochs=0",
    )
    assert answer["weight_bits"] == 6
    tried = json.loads((trained / "network.json").read_text())["bits_tried"]
    assert [entry["bits"] for entry in tried] == [8, 7, 6, 5]


@pytest.mark.parametrize("clipping", ["percentile", "mse"])
def test_clipping_leaves_finer_steps(neurodeploy, trained: Path, clipping: str) -> None:
    plain = deployed(neurodeploy, trained, "quantization.fine_tune_epochs=0")["scales"]
    clipped = deployed(
        neurodeploy,
        trained,
        f"quantization.clipping={clipping}",
        "quantization.percentile=80",
        "quantization.weight_bits=4",
        "quantization.fine_tune_epochs=0",
    )["scales"]
    unclipped = deployed(
        neurodeploy, trained, "quantization.weight_bits=4", "quantization.fine_tune_epochs=0"
    )["scales"]
    assert all(clipped[name] >= unclipped[name] for name in plain)
    assert any(clipped[name] > unclipped[name] for name in plain)


def test_a_file_that_computes_something_else_is_not_deployed(
    neurodeploy, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(neurodeploy, trained)
    before = (trained / "network.net").read_bytes()
    genuine = netx.read

    def damaged(path: Path) -> FixedPointGraph:
        graph = genuine(path)
        graph.layers[0].neuron.threshold[...] = 1
        return graph

    monkeypatch.setattr(steps.netx, "read", damaged)
    outcome = neurodeploy("deploy", trained, "--set", "quantization.margin=2.5")
    assert outcome.code == 1
    assert "conv1: spikes of the file differ" in outcome.errors[0]
    assert (trained / "network.net").read_bytes() == before
    assert not list(trained.glob(".*.net"))


def test_layers_of_the_summary_name_where_floats_and_integers_part() -> None:
    entry = pipeline.LayerCheck(
        name="a",
        values=4,
        rate=0.5,
        quantized=1.0,
        deployed=1.0,
        file_differing=0,
        lava_differing=None,
        current_wraps=0,
        voltage_clips=0,
    )
    later = pipeline.LayerCheck(
        name="b",
        values=4,
        rate=0.5,
        quantized=0.75,
        deployed=0.75,
        file_differing=0,
        lava_differing=None,
        current_wraps=0,
        voltage_clips=0,
    )
    assert pipeline.first_difference((entry, later)) == "b"
    assert pipeline.first_difference((entry,)) is None


def test_a_deployment_is_tested_and_can_be_compared(
    neurodeploy, trained: Path, tmp_path: Path
) -> None:
    outcome = neurodeploy("deploy", trained)
    assert outcome.code == 0, outcome.err
    assert "test accuracy" in outcome.out
    assert (trained / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    small = tmp_path / "small"
    options = ("--out", small, "--weight-bits", 4, "--json")
    answer = json.loads(neurodeploy("deploy", trained, *options).out)
    _, recipe = nd.pipeline.load_model(trained)
    test = nd.load_data(recipe)[2]
    graph = netx.read(small / "network.net")
    expected = EventSimulator(graph).run(test.windows(recipe.network.steps))
    right = float(np.mean(expected.voltage[:, -1].argmax(axis=1) == test.labels))
    assert answer["test_accuracy"]["integer"] == right
    summary = json.loads((small / "deployment.json").read_text())
    assert summary["accuracy"] == answer["test_accuracy"]
    assert summary["test"]["samples"] == len(test)
    compared = json.loads(neurodeploy("compare", trained, small, "--json").out)
    accuracies = {entry["name"]: entry["accuracy"] for entry in compared["networks"]}
    assert accuracies.keys() == {"run", "small"}
    assert accuracies["small"] == right


def test_a_model_is_named_by_any_file_of_its_run(neurodeploy, trained: Path) -> None:
    """In Python as on the command line, as a path or as text."""
    assert neurodeploy("deploy", trained, "--no-test").code == 0
    network, recipe = pipeline.load_model(trained)
    for model in (str(trained), trained / "network.net", str(trained / "model.safetensors")):
        other, same = pipeline.load_model(model)
        assert hash_weights(other) == hash_weights(network)
        assert same == recipe
    net = (trained / "network.net").read_bytes()
    assert neurodeploy("deploy", trained / "network.net", "--no-test").code == 0
    assert (trained / "network.net").read_bytes() == net


def test_a_deployment_without_a_test_leaves_no_older_result(neurodeploy, trained: Path) -> None:
    assert neurodeploy("deploy", trained).code == 0
    answer = json.loads(neurodeploy("deploy", trained, "--no-test", "--json").out)
    assert (answer["test_accuracy"], answer["report"]) == (None, None)
    assert not (trained / "deployment.json").exists()
    assert not (trained / "report.html").exists()
    outcome = neurodeploy("compare", trained)
    assert outcome.code == 1
    for words in ("summary.json", "deployment.json", "report --json", "run: holds neither"):
        assert words in outcome.errors[0]


def test_a_setting_that_acts_in_training_is_refused(neurodeploy, trained: Path) -> None:
    outcome = neurodeploy("deploy", trained, "--set", "training.epochs=9")
    assert outcome.code == 1
    assert "deployment does not use training.epochs" in outcome.errors[0]
    assert not (trained / "network.net").exists()


def test_the_accuracy_of_every_width_is_shown(neurodeploy, trained: Path) -> None:
    outcome = neurodeploy("deploy", trained, "--accuracy-budget", 0.9)
    assert outcome.code == 0, outcome.err
    tried = json.loads((trained / "network.json").read_text())["bits_tried"]
    assert len(tried) > 1
    lines = [line.split() for line in outcome.out.split("Accuracy budget")[1].splitlines()]
    shown = {words[1]: words for words in lines if len(words) > 3 and words[1].isdecimal()}
    for entry in tried:
        assert f"{entry['validation_accuracy']:.2%}" in shown[str(entry["bits"])]
    assert sum("chosen" in words for words in shown.values()) == 1
