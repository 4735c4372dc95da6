"""Which runs go on in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurodeploy.errors import RecipeError
from neurodeploy.files import MODEL, RECIPE
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.pipeline.directory import check_directory, load_model
from neurodeploy.recipes.recipe import Recipe


def recipe(compiled: bool | None) -> Recipe:
    overrides = {} if compiled is None else {"training.compile": str(compiled).lower()}
    return Recipe.load("digits", overrides=overrides)


@pytest.mark.parametrize(
    ("before", "now"), [(False, None), (True, None), (None, False), (None, None), (True, True)]
)
def test_a_run_goes_on_with_an_unset_compile(
    before: bool | None, now: bool | None, tmp_path: Path
) -> None:
    (tmp_path / RECIPE).write_text(recipe(before).to_toml())
    check_directory(recipe(now), tmp_path, resume=True)


def test_a_run_does_not_go_on_with_the_other_compile(tmp_path: Path) -> None:
    (tmp_path / RECIPE).write_text(recipe(False).to_toml())
    with pytest.raises(RecipeError, match=r"training\.compile = False, it cannot go on with True"):
        check_directory(recipe(True), tmp_path, resume=True)


FINE_TUNED = {"quantization.fine_tune_epochs": "2"}
PRUNED = {"pruning.sparsity": "0.5", "pruning.schedule": "one_shot"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, but for its training; its recipe asks for no fine-tune and no pruning."""
    directory = tmp_path_factory.mktemp("run")
    trained = Recipe.load("digits", overrides={"quantization.fine_tune_epochs": "0"})
    (directory / RECIPE).write_text(trained.to_toml())
    SpikingNetwork.from_recipe(trained).save(directory / MODEL)
    return directory


@pytest.mark.parametrize(
    "overrides",
    [
        {"quantization.margin": "2", "recipe.name": "other", "verification.lava_samples": "3"},
        FINE_TUNED | {"training.batch_size": "8", "training.loss.name": "tet", "data.shift": "0"},
        PRUNED | {"pruning.scope": "layer"},
        {"pruning.channels": "0.2"},
    ],
)
def test_settings_that_act_after_training_are_taken(run: Path, overrides: dict[str, str]) -> None:
    load_model(run, overrides=overrides)


@pytest.mark.parametrize(
    ("overrides", "unused"),
    [
        ({"training.epochs": "9"}, "training.epochs"),
        ({"quantization.margin": "2", "training.batch_size": "8"}, "training.batch_size"),
        (FINE_TUNED | {"training.learning_rate": "0.5"}, "training.learning_rate"),
        ({"data.test_fraction": "0.3", "recipe.seed": "1"}, "data.test_fraction, recipe.seed"),
        ({"pruning.sparsity": "0.5"}, "pruning.sparsity"),
        (PRUNED | {"pruning.interval": "2"}, "pruning.interval"),
        ({"verification.backend": "none"}, "verification.backend"),
        ({"shortcut.weight": "2"}, "shortcut.weight"),
        ({"network.steps": "8"}, "network.steps"),
    ],
)
def test_settings_without_effect_after_training_are_refused(
    run: Path, overrides: dict[str, str], unused: str
) -> None:
    with pytest.raises(
        RecipeError, match=f"does not use {unused}. It uses quantization, "
    ) as error:
        load_model(run, overrides=overrides)
    for words in ("data.path", "pruning.schedule=one_shot", "fine_tune_epochs above 0"):
        assert words in str(error.value)
