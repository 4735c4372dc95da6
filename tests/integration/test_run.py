"""Whole runs of a tiny recipe: what they leave, and that it is true."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from neurodeploy import netx, pipeline
from neurodeploy.chips.target import Target
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.data import load_data
from neurodeploy.errors import VerificationError
from neurodeploy.lava_bridge import runtime
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.tracing import trace
from neurodeploy.onnx_models.measured_zeros import read_baseline
from neurodeploy.passes.calibration import calibrate
from neurodeploy.pipeline import prediction
from neurodeploy.pipeline.deployment import steps
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.report_builder import report
from neurodeploy.samples.array_files import load_inputs
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Record

FILES = frozenset(
    {
        "recipe.toml",
        "training",
        "fine_tuning",
        "model.safetensors",
        "network.net",
        "network.json",
        "samples.npz",
        "report.html",
        "summary.json",
        "twin.onnx",
        "certificate.json",
    }
)
WITH_LAVA = ("--set", "verification.backend=lava")


def check_run(
    directory: Path, *, has_lava: bool, files: frozenset[str] = FILES
) -> dict[str, object]:
    """Compute everything in `summary.json` again, from the files that the run left."""
    assert {entry.name for entry in directory.iterdir()} == files
    summary = json.loads((directory / "summary.json").read_text())
    recipe = Recipe.load(directory / "recipe.toml")
    steps = recipe.network.steps
    test = load_data(recipe)[2]
    network = SpikingNetwork.load(directory / "model.safetensors")
    graph = netx.read(directory / "network.net")
    inputs = test.windows(steps)
    recording = EventSimulator(graph).run(inputs, record=Record(counts=True))
    predicted = recording.voltage[:, -1].argmax(axis=1)

    assert summary["accuracy"].keys() == {"float", "quantized", "integer"}
    assert summary["accuracy"]["integer"] == np.mean(predicted == test.labels)
    assert summary["accuracy"]["float"] == evaluate(network, test).accuracy
    costs = report(
        graph,
        inputs,
        recording,
        network_file=directory / "network.net",
        twin_run=read_baseline(
            directory / "twin.onnx", network_inputs=inputs, labels=np.asarray(test.labels)
        ),
        accuracy=summary["accuracy"],
    )
    assert summary["sops_per_sample"] == costs.sops_per_sample
    assert summary["test"] == {"samples": len(test), "digest": test.digest()}
    trained = ann_macs(trace(network))
    assert summary["ann_macs"] == costs.ann.macs_border_exact == trained.macs_border_exact
    assert summary["ann_accuracy"] == costs.ann_accuracy
    assert costs.ann.macs_effective <= costs.ann.macs_nonzero <= trained.macs_border_exact
    record = json.loads((directory / "network.json").read_text())
    assert record["relu_twin"] == [asdict(layer) for layer in graph.relu_twin.layers]
    assert summary["energy"] == json.loads(json.dumps(costs.to_json()["tiers"]))
    timed = {"check", "train", "deploy", "simulate", "ReLU twin", "report"}
    assert summary["seconds"].keys() == timed | ({"verify"} if has_lava else set())
    assert {"neurodeploy", "python", "torch", "numpy"} <= summary["versions"].keys()
    assert Recipe.from_dict(summary["recipe"]) == recipe

    shown = load_inputs(directory / "samples.npz")
    labels = load_inputs(directory / "samples.npz", key="label")
    np.testing.assert_array_equal(shown, inputs[: recipe.verification.lava_samples])
    np.testing.assert_array_equal(labels, test.labels[: len(shown)])
    page = (directory / "report.html").read_text()
    assert recipe.recipe.description in page
    shares = [layer["deployed"] for layer in record["agreement"] if layer["deployed"] is not None]
    assert shares
    assert all(f">{100 * share:.2f} %</td>" in page for share in shares)
    assert ("what was deployed is what runs" in page) == has_lava
    if has_lava:
        lava = summary["lava"]
        assert lava.keys() == {"part", "samples", "differing_spikes", "accuracy", "seconds"}
        assert (lava["part"], lava["samples"], lava["differing_spikes"]) == ("test", 3, 0)
        assert summary["lava"]["accuracy"] == np.mean(predicted[:3] == labels)
    else:
        assert summary["lava"] is None
    certificate = Certificate.load(directory / "certificate.json")
    assert certificate.needs_lava == has_lava
    assert certificate.check(directory, directory).holds
    assert certificate.network.sha256[:12] in page
    return summary


@pytest.mark.lava
def test_a_run_leaves_files_that_agree(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    outcome = neurodeploy("run", tiny_recipe(), "--out", directory, *WITH_LAVA)
    assert outcome.code == 0, outcome.err
    assert "real Lava on 3 samples: equal in all of 3 layers" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    check_run(directory, has_lava=True)
    outcome = neurodeploy(
        "verify", directory / "network.net", "--input", directory / "samples.npz", "--json"
    )
    assert outcome.code == 0
    assert json.loads(outcome.out)["samples"] == 3


def test_a_run_on_events_without_lava(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    outcome = neurodeploy("run", tiny_recipe("events"), "--out", directory, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out) == check_run(directory, has_lava=False)
    assert json.loads(outcome.out)["accuracy"]["integer"] > 0.8


def test_runs_are_numbered(
    neurodeploy, tiny_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe()
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        outcome = neurodeploy("train", recipe, "--set", "training.epochs=1", "--json")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["directory"] == f"runs/tiny-{number}"
    saved = Recipe.load(tmp_path / "runs/tiny-1/recipe.toml")
    assert saved.training.epochs == 1


PAPER = """
[paper]
text = "v1"
targets = [
    { accuracy = 74.78, place = "Table 1" },
    { accuracy = 74.02, spread = 0.08, place = "Table 2" },
]
note = "the tables differ"
gpu_hours = 1
"""


def test_training_may_end_with_the_test_part(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    """Beside the paper's figure; what was measured is kept, and goes when the run goes on."""
    recipe, run = tiny_recipe(), tmp_path / "run"
    recipe.write_text(recipe.read_text() + PAPER)
    outcome = neurodeploy("train", recipe, "--out", run, "--test")
    assert outcome.code == 0, outcome.err
    kept = json.loads((run / "test.json").read_text())
    _, _, test = load_data(Recipe.load(recipe))
    network = SpikingNetwork.load(run / "model.safetensors")
    assert kept["accuracy"] == evaluate(network, test).accuracy
    assert kept["samples"] == len(test)
    assert kept["paper"]["targets"] == [
        {"accuracy": 74.78, "spread": None, "place": "Table 1"},
        {"accuracy": 74.02, "spread": 0.08, "place": "Table 2"},
    ]
    percent = 100 * kept["accuracy"]
    lines = [
        f"test accuracy {percent:.2f}%",
        f"paper, v1, Table 1: 74.78 % over 3 trials; this run {percent - 74.78:+.2f} points",
        f"paper, v1, Table 2: 74.02 ± 0.08 % over 3 trials; this run {percent - 74.02:+.2f} points",
        "note: the tables differ",
    ]
    assert "\n".join(lines) in outcome.out
    assert neurodeploy("train", recipe, "--out", run, "--resume").code == 0
    assert not (run / "test.json").exists()


def test_options_of_training_reach_it(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    recipe, run = tiny_recipe(), tmp_path / "run"
    options = ("--precision", "bf16-mixed", "--accumulate", 2, "--accelerator", "cpu")
    outcome = neurodeploy("train", recipe, "--out", run, *options)
    assert outcome.code == 0, outcome.err
    assert Recipe.load(run / "recipe.toml").training.accumulate == 2
    assert neurodeploy("train", recipe, "--out", tmp_path / "plain").code == 0
    mixed, plain = (
        SpikingNetwork.load(folder / "model.safetensors").state_dict()
        for folder in (run, tmp_path / "plain")
    )
    assert all(tensor.dtype != torch.bfloat16 for tensor in mixed.values())
    assert any(not torch.equal(tensor, plain[name]) for name, tensor in mixed.items())
    for options, setting in ((["--compile"], True), (["--no-compile"], False), ([], None)):
        short = tmp_path / f"compile {setting}"
        outcome = neurodeploy(
            "train", recipe, "--out", short, *options, "--set", "training.epochs=0"
        )
        assert outcome.code == 0, outcome.err
        assert Recipe.load(short / "recipe.toml").training.compile is setting


# --- deploy ---------------------------------------------------------------------------------


def test_deploying_twice_gives_the_same_network(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert neurodeploy("train", tiny_recipe(), "--out", run).code == 0
    outcome = neurodeploy("deploy", run)
    assert outcome.code == 0, outcome.err
    assert "deployed: the quantized network" in outcome.out  # both are perfect: no reason to tune
    first = netx.read(run / "network.net")
    assert neurodeploy("deploy", run).code == 0
    second = netx.read(run / "network.net")
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.bias, other.bias)
        np.testing.assert_array_equal(
            one.connections[0].synapse.weight, other.connections[0].synapse.weight
        )


def test_the_target_that_was_used_is_recorded(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert neurodeploy("train", tiny_recipe(), "--out", run).code == 0
    own = tmp_path / "own chip.toml"
    loihi = (Path(__file__).parents[2] / "hardware/targets/loihi2.toml").read_text()
    assert 'name = "loihi2"' in loihi
    own.write_text(loihi.replace('name = "loihi2"', 'name = "own"'))
    assert Target.load(own).name == "own"
    for given, name in (("loihi1", "loihi1"), (own, "own")):
        out = tmp_path / name
        options = ("--target", given, "--set", "quantization.fine_tune_epochs=0", "--json")
        outcome = neurodeploy("deploy", run, "--out", out, *options)
        assert outcome.code == 0, outcome.err
        record = json.loads((out / "network.json").read_text())
        assert record["target"] == name
        assert record["recipe"]["quantization"]["target"] == str(given)
        assert record["deployed"] == "the quantized network: the recipe asks for no fine-tune"
        assert json.loads(outcome.out)["target"] == str(given)
    assert not (run / "network.net").exists()


@pytest.mark.parametrize(
    ("before", "after", "deployed"),
    [(0.5, 0.75, "fine-tuned"), (0.5, 0.5, "quantized"), (0.75, 0.5, "quantized")],
)
def test_the_better_network_is_deployed(
    neurodeploy,
    tiny_recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: float,
    after: float,
    deployed: str,
) -> None:
    run = tmp_path / "run"
    assert neurodeploy("train", tiny_recipe(), "--out", run).code == 0
    judgements = iter((before, after))
    monkeypatch.setattr(steps, "accuracy_of", lambda *arguments: next(judgements))
    outcome = neurodeploy(
        "deploy", run, "--json", "--set", "quantization.fine_tune_learning_rate=1.0"
    )
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)
    assert answer["deployed"].startswith(f"the {deployed} network")
    assert answer["validation_accuracy"]["deployed"] == max(before, after)
    layers = json.loads((run / "network.json").read_text())["calibration"]["layers"]
    network, recipe = pipeline.load_model(run)
    untuned = calibrate(
        pipeline.lower(network),
        Target.load("loihi2"),
        load_data(recipe)[0].windows(4),
        margin=recipe.quantization.margin,
    )
    assert [layer["scale"] for layer in layers] == list(untuned.scales.values())
    weights = [
        graph.layers[0].connections[0].synapse.weight
        for graph in (netx.read(run / "network.net"), untuned.graph)
    ]
    assert np.array_equal(*weights) == (deployed == "quantized")


def test_a_whole_run_is_not_contradicted_by_another_deployment(
    neurodeploy, tiny_recipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert neurodeploy("run", tiny_recipe(), "--out", run).code == 0
    net = (run / "network.net").read_bytes()
    outcome = neurodeploy("deploy", run, "--target", "loihi1")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "--out" in outcome.errors[0]
    assert (run / "network.net").read_bytes() == net


# --- what cannot work is said first ---------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.epoch=2"], "Did you mean 'epochs'?"),
        (["training.epochs=many"], "an integer is required"),
        (["quantization.target=loihi9"], "no such target"),
        (["data.path=nosuch.npz"], "no such file"),
        (["data.classes=2"], "label"),
        ([*WITH_LAVA[1:], "verification.lava_python=/nowhere"], "not an executable"),
        (["network.layers.0.kernel=9"], "larger than its source"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_run_that_cannot_work_does_not_begin(
    neurodeploy, tiny_recipe, tmp_path: Path, settings: list[str], words: str
) -> None:
    run = tmp_path / "run"
    options = [word for setting in settings for word in ("--set", setting)]
    outcome = neurodeploy("run", tiny_recipe(), "--out", run, *options)
    assert (outcome.code, outcome.out, len(outcome.errors)) == (1, "", 1)
    assert words in outcome.errors[0]
    assert not run.exists()


def test_a_missing_runtime_is_found_before_training(
    neurodeploy, tiny_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "runtime_path", lambda: tmp_path / "nowhere")
    outcome = neurodeploy("run", tiny_recipe(), "--out", tmp_path / "run", *WITH_LAVA)
    assert outcome.code == 1
    assert "neurodeploy lava install" in outcome.errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", ["nosuch", "nosuch.toml"])
def test_recipes_that_do_not_exist(neurodeploy, recipe: str) -> None:
    outcome = neurodeploy("run", recipe)
    assert (outcome.code, len(outcome.errors)) == (1, 1)


def test_a_directory_in_use_is_left_alone(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", tiny_recipe()
    assert neurodeploy("train", recipe, "--out", run).code == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for options, words in (
        ((), "holds a run already"),
        (("--resume", "--set", "training.epochs=9"), "training.epochs = 2"),
        (("--resume", "--set", "recipe.seed=1"), "recipe.seed = 0"),
    ):
        for command in ("train", "run"):
            outcome = neurodeploy(command, recipe, "--out", run, *options)
            assert outcome.code == 1
            assert words in outcome.errors[0]
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = neurodeploy("train", recipe, "--out", tmp_path / "other", "--resume")
    assert outcome.code == 1
    assert "no run to resume" in outcome.errors[0]


def test_a_file_in_place_of_the_directory(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.write_text("text")
    outcome = neurodeploy("train", tiny_recipe(), "--out", place)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert place.read_text() == "text"


@pytest.mark.parametrize("file", ["model.safetensors", "recipe.toml"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, None])
def test_a_damaged_model_is_not_deployed(
    neurodeploy, tiny_recipe, tmp_path: Path, file: str, content: bytes | None
) -> None:
    run = tmp_path / "run"
    assert neurodeploy("train", tiny_recipe(), "--out", run).code == 0
    whole = (run / file).read_bytes()
    (run / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    before = sorted(run.rglob("*"))
    outcome = neurodeploy("deploy", run)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert str(run) in outcome.errors[0]
    assert sorted(run.rglob("*")) == before


def test_a_damaged_checkpoint_is_not_resumed(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", tiny_recipe()
    assert neurodeploy("train", recipe, "--out", run).code == 0
    checkpoint = run / "training" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    outcome = neurodeploy("train", recipe, "--out", run, "--resume")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "checkpoint.safetensors" in outcome.errors[0]


# --- what goes wrong on the way -------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_in_one_error(
    neurodeploy, tiny_recipe, tmp_path: Path
) -> None:
    outcome = neurodeploy(
        *("train", tiny_recipe(), "--out", tmp_path / "run"),
        *("--set", "training.learning_rate=1e6", "--set", "training.weight_decay=1e6"),
    )
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "training.learning_rate" in outcome.errors[0]


def test_a_difference_to_lava_fails_the_run_after_its_report(
    tiny_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FaultyReference:
        def __init__(self, path: Path, **options: object) -> None:
            self._simulator = EventSimulator(netx.read(path))

        def run(self, inputs: np.ndarray, **options: object) -> object:
            recording = self._simulator.run(inputs)
            recording.spikes[1][0, 2, 0, 1, 1] ^= 1
            return recording

    monkeypatch.setattr(prediction, "LavaSimulator", FaultyReference)
    monkeypatch.setattr(pipeline.recipe_run, "_check_lava", lambda recipe: None)
    recipe = Recipe.load(tiny_recipe(), overrides={"verification.backend": "lava"})
    with pytest.raises(VerificationError, match=r"conv2.*step 2.*neuron \(0, 1, 1\)"):
        pipeline.run(recipe, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["lava"]["differing_spikes"] == 1


@pytest.mark.slow
def test_an_interrupted_training_resumes_to_the_same_weights(
    neurodeploy, tiny_recipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = ("--set", "training.epochs=20")
    command = [sys.executable, "-m", "neurodeploy", "train", str(recipe), *settings]
    process = subprocess.Popen(
        [*command, "--out", str(stopped)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # tests that a shell runs in the background are told to ignore Ctrl-C, and pass that on
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        checkpoint = stopped / "training" / "checkpoint.safetensors"
        while not checkpoint.exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    last = err.decode().splitlines()[-1]
    assert last.startswith("error: interrupted.")
    assert last.endswith(f"--out {stopped} --resume.")
    assert not list(stopped.rglob(".*"))
    assert not (stopped / "model.safetensors").exists()
    done = (stopped / "training" / "metrics.jsonl").read_text().splitlines()
    assert 1 <= len(done) < 20
    assert neurodeploy("train", recipe, *settings, "--out", stopped, "--resume").code == 0
    assert neurodeploy("train", recipe, *settings, "--out", whole).code == 0
    first, second = (
        SpikingNetwork.load(run / "model.safetensors").state_dict() for run in (whole, stopped)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("command", ["train", "run", "deploy"])
def test_a_directory_that_another_process_fills_is_left_alone(
    neurodeploy, tiny_recipe, tmp_path: Path, command: str
) -> None:
    recipe, out = tiny_recipe(), tmp_path / "out"
    assert neurodeploy("train", recipe, "--out", out).code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    program = "import sys, time; from pathlib import Path; from neurodeploy.files import locked\n"
    program += "with locked(Path(sys.argv[1])): print(flush=True); time.sleep(600)"
    words = [sys.executable, "-c", program, str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            rest = (out,) if command == "deploy" else (recipe, "--out", out, "--resume")
            outcome = neurodeploy(command, *rest)
        finally:
            process.kill()
    assert outcome.code == 1
    assert f"{out}: process {process.pid} (" in outcome.errors[0]
    (out / ".lock").unlink()
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert neurodeploy(command, *rest).code == 0


def test_a_variant_of_a_run_trains_nothing(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    trained, small = tmp_path / "trained", tmp_path / "small"
    assert neurodeploy("train", tiny_recipe(), "--out", trained).code == 0
    options = ("--set", "quantization.weight_bits=4", "--set", "pruning.sparsity=0.5")
    options = (*options, "--set", 'pruning.schedule="one_shot"', "--out", small)
    outcome = neurodeploy("run", "--from", trained, *options)
    assert outcome.code == 0, outcome.err
    check_run(small, has_lava=False, files=FILES - {"training"})
    model = [folder / "model.safetensors" for folder in (trained, small)]
    assert model[0].read_bytes() == model[1].read_bytes()
    record = json.loads((small / "network.json").read_text())
    assert record["weight_bits"] == 4
    assert record["pruning"]["zero_share"] >= 0.5
    assert neurodeploy("compare", small).code == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--set", "training.epochs=3"), 1, "training.epochs"),
        (("--set", "recipe.seed=9"), 1, "recipe.seed"),
        (("--resume", "--out", "OUT"), 2, "--from trains nothing"),
        (("digits",), 2, "either a RECIPE or a run"),
    ],
)
def test_a_variant_changes_only_what_follows_training(
    neurodeploy, tiny_recipe, tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    trained = tmp_path / "trained"
    assert neurodeploy("train", tiny_recipe(), "--out", trained).code == 0
    options = tuple(str(tmp_path / "out") if word == "OUT" else word for word in options)
    if code == 1:
        options = (*options, "--out", str(tmp_path / "out"))
    outcome = neurodeploy("run", "--from", trained, *options)
    assert outcome.code == code
    assert words in " ".join(outcome.err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
    assert neurodeploy("run").code == 2
