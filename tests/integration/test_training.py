"""Training from a recipe to a float graph, and training that is killed on its way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from neurodeploy.data import load_data
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.learning.trainer import (
    CHECKPOINT,
    LAST,
    METRICS,
    Trainer,
)
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.nn.tracing import trace
from neurodeploy.passes import fold_batchnorm, run_passes
from neurodeploy.recipes.recipe import Recipe

DIGITS = Path(__file__).parents[2] / "training" / "recipes" / "digits.toml"
SMALL = {
    "network.steps": "2",
    "network.layers.0.channels": "4",
    "network.layers.1.channels": "8",
    "network.layers.1.stride": "2",
    "network.layers.2.channels": "8",
    "network.layers.3.channels": "8",
    "training.epochs": "4",
    "training.threads": "1",
}
SCRIPT = """
import sys
from neurodeploy.data import load_data
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.recipes.recipe import Recipe

recipe = Recipe.load(sys.argv[1])
train, validation, _ = load_data(recipe)
network = SpikingNetwork.from_recipe(recipe)
Trainer(
    recipe.training, seed=recipe.recipe.seed, shortcut=recipe.shortcut, shift=recipe.data.shift,
    directory=sys.argv[2],
).fit(network, train, validation, resume=True)
"""


def test_a_small_network_learns_the_digits_and_becomes_a_graph() -> None:
    recipe = Recipe.load(DIGITS, overrides=SMALL)
    train, validation, test = load_data(recipe)
    network = SpikingNetwork.from_recipe(recipe)
    trainer = Trainer(
        recipe.training,
        seed=recipe.recipe.seed,
        shortcut=recipe.shortcut,
        shift=recipe.data.shift,
    )
    history = trainer.fit(network, train, validation)
    assert history.epochs[-1].validation_accuracy > 0.6  # chance is 0.1
    bare = remove_branches(network)
    assert evaluate(bare, test) == evaluate(network, test)
    graph = run_passes(trace(bare), fold_batchnorm)
    assert graph.shapes()["readout"] == (10,)
    synapse = graph.nodes["conv1.synapse"]
    assert np.isfinite(synapse.weight).all()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(Recipe.load(DIGITS, overrides=SMALL).to_toml(), encoding="utf-8")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(recipe)]
    process = subprocess.Popen([*command, str(killed)])
    try:
        deadline = time.monotonic() + 120
        while not (killed / CHECKPOINT).exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = len((killed / METRICS).read_text().splitlines())
    assert 1 <= done < 4
    subprocess.run([*command, str(killed)], check=True, timeout=300)
    subprocess.run([*command, str(whole)], check=True, timeout=300)
    first = SpikingNetwork.load(whole / LAST).state_dict()
    second = SpikingNetwork.load(killed / LAST).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert len((killed / METRICS).read_text().splitlines()) == 4
