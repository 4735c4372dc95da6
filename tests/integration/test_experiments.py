"""The experiments of training/scripts: what they would run, how they go on, what they write."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import neurodeploy as nd

SCRIPTS = Path(__file__).parents[2] / "training" / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    return script("ablation")


@pytest.fixture(scope="module")
def gradient_flow() -> ModuleType:
    return script("gradient_flow")


def options(**changes: object) -> argparse.Namespace:
    given = {"core": False, "additions": False, "seeds": 3, "epochs": None}
    return argparse.Namespace(**(given | changes))


def test_the_ablation_is_the_whole_grid_without_repetition(ablation: ModuleType) -> None:
    runs = ablation.plan(options())
    assert len(runs) == len(set(runs))
    paper = [run for run in runs if run.method in ablation.METHODS]
    assert len(paper) == 7 * 4 * 2 * 3  # methods, networks, optimizers, seeds
    assert {run.optimizer for run in runs if run.method in ablation.ADDITIONS} == {"sgd"}
    assert len(ablation.plan(options(core=True))) == 2 * 4 * 3
    assert set(ablation.plan(options(core=True))) <= set(runs)
    assert set(ablation.plan(options(additions=True))) <= set(runs)


def test_every_method_is_what_it_is_called(ablation: ModuleType) -> None:
    expected = {
        "vanilla": ("vanilla", None, ()),
        "shortcut, stage": ("shortcut", 1.0, "stage"),
        "constant 0.25, block": ("shortcut", 0.25, "block"),
        "evolutionary, block": ("evolutionary", 0.25, "block"),
    }
    layers = {"p14": 14, "p20": 20, "r20": 20, "r34": 34}
    for run in ablation.plan(options(seeds=1)):
        recipe = nd.Recipe.load(ablation.RECIPE, overrides=run.overrides())
        assert recipe.training.optimizer == run.optimizer
        assert recipe.training.keep == "last"
        if run.method in expected:
            method, weight, after = expected[run.method]
            found = recipe.shortcut
            assert found.method == method
            assert found.loss == "joint"
            assert method == "vanilla" or (found.weight, found.after) == (weight, after)
        if run.method == "vanilla" and run.optimizer == "sgd":
            network = nd.SpikingNetwork.from_recipe(recipe)
            weights = [each for each in network.parameters() if each.ndim > 1]
            skips = [each for each in weights if tuple(each.shape[2:]) == (1, 1)]
            assert len(weights) - len(skips) == layers[run.network]


def test_finished_runs_are_not_repeated_and_others_settings_are_not_taken(
    ablation: ModuleType, tmp_path: Path
) -> None:
    run, other = ablation.plan(options(core=True))[:2]
    result = {"recipe": run.digest(), "seconds": 12.0}
    (tmp_path / f"{run.name}.json").write_text(json.dumps(result))
    (tmp_path / f"{other.name}.json").write_text(json.dumps(result))
    assert ablation.finished(run, tmp_path) == result
    assert ablation.finished(other, tmp_path) is None
    assert ablation.estimates([run], tmp_path)[run.network] == 12.0


def test_tables_and_plot_give_mean_spread_and_number(
    ablation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [
        {
            "network": run.network,
            "optimizer": run.optimizer,
            "method": run.method,
            "epochs": 25,
            "test": 80.0 + 2 * run.seed,
            "validation": 70.0,
            "seconds": 60.0,
            "cpu_seconds": 30.0,
            "commit": "abc",
            "device": "a processor",
            "torch": "2",
            "python": "3",
        }
        for run in ablation.plan(options(core=True))
    ]
    ablation.write_results(results, tmp_path, name="table")
    assert "| vanilla | 82.0 ± 2.0 (n = 3) |" in capsys.readouterr().out
    table = json.loads((tmp_path / "table.json").read_text())["table"]
    assert {(row["n"], row["test_mean"], row["test_std"]) for row in table} == {(3, 82.0, 2.0)}
    assert (tmp_path / "table.png").stat().st_size > 1000
    assert (
        "12.0 minutes of CPU time in all (24.0 minutes of wall time"
        in (tmp_path / "table.md").read_text()
    )


def test_branches_bring_gradient_to_the_first_layer(gradient_flow: ModuleType) -> None:
    means = {}
    for branches in gradient_flow.BRANCHES:
        moment = gradient_flow.at_start("p20", branches, seeds=1)
        means[branches] = moment.mean
        assert len(moment.magnitudes) == 8 * 9
        assert moment.epoch == 0
    assert means["per block"] > 3 * means["no branches"] > 0
    assert means["per stage"] > means["no branches"]


def test_measuring_a_gradient_leaves_the_network_alone(gradient_flow: ModuleType) -> None:
    recipe = gradient_flow.recipe("r20", "per block", seed=0)
    training, _, _ = nd.load_data(recipe)
    network = nd.SpikingNetwork.from_recipe(recipe)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = gradient_flow.first_layer_gradient(network, recipe, training, branch_weight=0.25)
    again = gradient_flow.first_layer_gradient(network, recipe, training, branch_weight=0.25)
    assert (first == again).all()
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.fixture(scope="module")
def deployment() -> ModuleType:
    return script("deployment")


def test_every_network_is_deployed_every_way_from_one_training(deployment: ModuleType) -> None:
    networks = nd.Recipe.variants(deployment.RECIPES)
    assert networks == (
        "digits_resnet18",
        "digits_resnet34",
        "digits_vgg_max",
        "digits_vgg_average",
    )
    jobs = deployment.plan(networks)
    assert [job.way for job in jobs if job.network == "digits_resnet18"] == ["PTQ", "QAT", "pruned"]
    assert len({job.digest() for job in jobs}) == len(jobs) == 9
    for job in jobs:
        recipe = job.recipe()
        assert recipe.network.steps == 4
        assert min(recipe.data.shape[1:]) >= 16
        assert recipe.shortcut.after == "block"
        assert (recipe.quantization.fine_tune_epochs == 0) == (job.way == "PTQ")
        assert recipe.pruning.is_one_shot == (job.way == "pruned")
        plain = next(each for each in jobs if each.network == job.network).recipe()
        assert recipe.training == plain.training


def test_a_network_is_followed_to_the_file_and_tabled(
    deployment: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tuple(
        setting.split("=")
        for setting in (
            "training.epochs=1",
            "training.batch_size=4",
            "network.width=0.04",
            "quantization.calibration_samples=8",
            "data.test_fraction=0.02",
            "data.validation_fraction=0.9",
        )
    )
    jobs = deployment.plan(["digits_resnet18"], settings=settings)[:1]
    deployment.run_all(jobs, tmp_path, lava_samples=0)
    (result,) = [deployment.finished(job, tmp_path) for job in jobs]
    assert result["file_against_graph"]["differing"] == 0
    assert result["file_against_graph"]["layers"] == 18
    assert result["relaying"]["neurons"] > result["relaying"]["neurons_before"]
    assert deployment.finished(jobs[0], tmp_path, lava_samples=1) is None  # Lava has not seen it
    capsys.readouterr()
    deployment.run_all(jobs, tmp_path, lava_samples=0)
    assert capsys.readouterr().out == ""  # nothing is done twice
    deployment.write_results([result], tmp_path)
    table = (tmp_path / "deployment.md").read_text()
    assert f"0 of {result['file_against_graph']['values']:,} (36 samples) | not run" in table
    assert "stage4_block" in table
