"""Deployments that would not be true are refused: before training where that can be known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurodeploy import Certificate, netx, pipeline
from neurodeploy.errors import NeurodeployWarning
from neurodeploy.pipeline.deployment import steps
from neurodeploy.recipes.recipe import Recipe

RESIDUAL = (
    "network.layers=[{type='conv', name='conv1', channels=4}, "
    "{type='residual', name='block', channels=4, residual='%s'}]"
)
CUBA = (
    "neuron.model=cuba",
    "neuron.threshold=0.5",
    "neuron.current_decay=0.5",
    "neuron.voltage_decay=0.25",
)


def settings(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


def signed(tiny_recipe, tmp_path: Path) -> Path:
    """Write a recipe whose first two classes differ in nothing but the sign of their pixels."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    pattern = rng.integers(0, 2, (1, 5, 5))
    classes = np.stack([pattern, -pattern, 1 - pattern])
    inputs = classes[labels] * (rng.random((240, 1, 5, 5)) < 0.9)
    np.savez(tmp_path / "signed.npz", input=inputs.astype(np.int8), label=labels)
    recipe = tiny_recipe()
    text = recipe.read_text().replace("direct.npz", "signed.npz")
    recipe.write_text(text.replace("input_bits = 2", "input_bits = 0"))
    return recipe


def test_spikes_with_signs_stay_what_they_are(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    """As spikes of a binary port both signs would be 1, and the first two classes the same."""
    run = tmp_path / "run"
    options = settings("training.epochs=6", "verification.lava_samples=40")
    assert neurodeploy("train", signed(tiny_recipe, tmp_path), "--out", run, *options).code == 0
    outcome = neurodeploy("deploy", run, "--json")
    assert outcome.code == 0, outcome.err
    accuracy = json.loads(outcome.out)["validation_accuracy"]
    assert min(accuracy["float"], accuracy["quantized"], accuracy["deployed"]) > 0.9
    assert netx.read(run / "network.net").input.message_bits == 1
    with np.load(run / "samples.npz") as archive:
        assert set(np.unique(archive["input"])) == {-1, 0, 1}


@pytest.mark.lava
def test_real_lava_reads_signs(neurodeploy, tiny_recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert neurodeploy("train", signed(tiny_recipe, tmp_path), "--out", run).code == 0
    outcome = neurodeploy("deploy", run, "--json", "--lava", 6)
    assert outcome.code == 0, outcome.err
    layers = json.loads(outcome.out)["agreement"]
    assert [layer["lava_differing"] for layer in layers] == [0, 0, 0]
    lava = json.loads((run / "deployment.json").read_text())["lava"]
    assert (lava["part"], lava["samples"], lava["differing_spikes"]) == ("calibration", 6, 0)
    assert (
        "6 calibration samples ran on our simulator and on real Lava"
        in (run / "report.html").read_text()
    )
    certificate = Certificate.load(run / "certificate.json")
    assert "at deployment, 0 values differing on real Lava in 6 of " in certificate.describe()


def test_integers_far_worse_than_floats_are_not_deployed(
    neurodeploy, tiny_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    options = settings("training.epochs=6", "quantization.fine_tune_epochs=0")
    assert neurodeploy("train", tiny_recipe(), "--out", run, *options).code == 0
    monkeypatch.setattr(steps, "accuracy_of", lambda *_: 0.25)
    outcome = neurodeploy("deploy", run)
    assert outcome.code == 1
    (error,) = outcome.errors
    assert "quantized 25.00%, deployed 25.00%" in error
    assert "at most 10 are allowed by quantization.accuracy_loss_limit" in error
    assert "by layer: conv1 " in error
    assert not (run / "network.net").exists()
    accepted = neurodeploy("deploy", run, *settings("quantization.accuracy_loss_limit=1"))
    assert accepted.code == 0, accepted.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([RESIDUAL % "sew"], "block: a residual block of kind 'sew' adds spikes to values of 2"),
        (["network.norm=tebn"], "conv1: temporal batch norm with another factor for each step"),
        (
            [RESIDUAL % "standard", *CUBA],
            "block.conv1: iDecay 2048, but relay channels need a current that lives one step",
        ),
        (["quantization.target=loihi9"], "loihi9"),
        (["verification.backend=lava", "verification.lava_python=no-such-python"], "lava_python"),
        (["data.input_bits=0"], "input from 0 to 4, -1 to 1 is allowed by data.input_bits"),
    ],
)
def test_a_run_refuses_before_it_trains(
    neurodeploy, tiny_recipe, tmp_path: Path, changes: list[str], words: str
) -> None:
    run = tmp_path / "run"
    options = settings("shortcut.method=vanilla", *changes)
    outcome = neurodeploy("run", tiny_recipe(), "--out", run, *options)
    assert outcome.code == 1
    assert words in " ".join(outcome.err.split())
    assert not run.exists()


def test_a_run_refuses_a_directory_in_use_or_in_the_way(
    neurodeploy, tiny_recipe, tmp_path: Path
) -> None:
    used, blocked = tmp_path / "used", tmp_path / "file"
    used.mkdir()
    (used / "recipe.toml").write_text("[recipe]\n")
    blocked.write_text("a file")
    for directory, words in ((used, "holds a run already"), (blocked / "run", "cannot be written")):
        outcome = neurodeploy("run", tiny_recipe(), "--out", directory)
        assert outcome.code == 1
        assert words in " ".join(outcome.err.split())
    assert not (used / "training").exists()


def test_training_warns_of_a_network_that_cannot_be_deployed(tiny_recipe, tmp_path: Path) -> None:
    recipe = Recipe.load(tiny_recipe(), overrides={"network.norm": "tebn", "training.epochs": "1"})
    with pytest.warns(NeurodeployWarning, match="cannot be deployed: conv1: temporal batch norm"):
        result = pipeline.train(recipe, tmp_path / "run")
    assert len(result.history.epochs) == 1


def test_slayers_blocks_deploy_as_they_train(neurodeploy, tmp_path: Path) -> None:
    """Trained on the chip's grid, the integers of the file make the spikes of the floats."""
    run = tmp_path / "run"
    assert (
        neurodeploy("train", "digits_slayer", "--out", run, "--set", "training.epochs=1").code == 0
    )
    outcome = neurodeploy("deploy", run, "--json")
    assert outcome.code == 0, outcome.err
    answer = json.loads(outcome.out)
    scales = answer["scales"]
    assert scales.pop("readout") > 0
    assert scales == {"conv1": 1024.0, "conv2": 64.0, "conv3": 64.0, "conv4": 64.0}
    # The first layer counts its state in finer units than SLAYER, which may move a rare spike.
    assert min(layer["deployed"] for layer in answer["agreement"][:-1]) > 0.999
    decays = [int(layer.neuron.current_decay) for layer in netx.read(run / "network.net")]
    assert decays == [2048, 2048, 2048, 2048, 4096]
    accuracy = answer["validation_accuracy"]
    assert accuracy["float"] > 0.3
    assert accuracy["deployed"] > accuracy["float"] - 0.02
