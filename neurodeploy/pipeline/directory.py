"""The directory of a run: owner, model, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from neurodeploy import provenance
from neurodeploy.errors import OutputError, RecipeError
from neurodeploy.files import (
    CERTIFICATE,
    DEPLOYMENT,
    MODEL,
    RECIPE,
    REPORT,
    RUN_FILES,
    SUMMARY,
    TEST,
    TWIN,
    is_same_file,
    write_text,
)
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.recipes.data_sections import NpzData
from neurodeploy.recipes.recipe import Recipe

_TRAINING_KEYS = ("data", "network", "neuron", "shortcut", "training", "pruning")
"""Sections of a recipe that trained weights depend on; of [recipe] it is the seed."""


def next_run_directory(name: str, parent: Path = Path("runs")) -> Path:
    """Return `parent/name-<n>` with the first free n."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def check_directory(recipe: Recipe, directory: Path, *, resume: bool) -> None:
    """Check that a directory holds no other run; a resumed run may differ only after training.

    Errors are those of `begin_run`.
    """
    require_data_apart(recipe, directory)
    path = directory / RECIPE
    if resume:
        if not path.exists():
            raise RecipeError(
                f"{directory}: no run to resume. Name the directory of an interrupted run (--out), "
                "or leave --resume out."
            )
        _require_same_training(Recipe.load(path), recipe, path=path)
    elif path.exists():
        raise RecipeError(
            f"{directory}: holds a run already. Resume it (--resume), or name another directory "
            "(--out)."
        )


def require_data_apart(recipe: Recipe, directory: Path) -> None:
    """Check that no file that a run or a deployment writes is the recipe's own archive of samples.

    Raises:
        OutputError: If one is.
    """
    if not isinstance(recipe.data, NpzData):
        return
    data = Path(recipe.data.path).expanduser()
    for name in RUN_FILES:
        if is_same_file(directory / name, data):
            raise OutputError(
                f"{directory / name}: is the data of the recipe ({data}), and would be replaced. "
                "Name another directory (--out), or move the data."
            )


def begin_run(recipe: Recipe, directory: Path, *, resume: bool) -> None:
    """Check the directory as `check_directory` does, and keep the effective recipe in it.

    Raises:
        RecipeError: If the directory belongs to a run that this does not continue.
        OutputError: If it cannot be written, or a file of it is the recipe's data.
    """
    check_directory(recipe, directory, resume=resume)
    try:
        # Of a finished run that goes on from here.
        for stale in (SUMMARY, CERTIFICATE, DEPLOYMENT, REPORT, TEST, TWIN):
            (directory / stale).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot be written ({error.strerror}). Name a directory (--out)."
        ) from error
    write_text(directory / RECIPE, recipe.to_toml())


def require_source(source: Path, recipe: Recipe) -> None:
    """Refuse a recipe that trains another network than that of `source`.

    Pruning in one shot comes after training, and may differ.
    """
    path = find_run(source) / RECIPE
    before = Recipe.load(path)
    if recipe.pruning.is_one_shot:
        before = replace(before, pruning=recipe.pruning)
    _require_same_training(before, recipe, path=path)


def _require_same_training(before: Recipe, now: Recipe, *, path: Path) -> None:
    old, new = _training_settings(before), _training_settings(now)
    for key in sorted(old.keys() | new.keys()):
        if key == "training.compile" and None in (old.get(key), new.get(key)):
            continue  # unset, it follows the checkpoint
        if old.get(key) != new.get(key):
            raise RecipeError(
                f"{path}: the run was started with {key} = {old.get(key)}, it cannot go on with "
                f"{new.get(key)}. Keep the recipe it was started with, or train another run."
            )


def _training_settings(recipe: Recipe) -> dict[str, object]:
    table = recipe.to_dict()
    settings: dict[str, object] = {"recipe.seed": recipe.recipe.seed}
    for section in _TRAINING_KEYS:
        settings |= _flattened(section, table[section])
    settings.pop("training.threads")
    return settings


def _flattened(path: str, value: object) -> dict[str, object]:
    """Return the leaves of nested tables by dotted key."""
    if not isinstance(value, Mapping):
        return {path: value}
    leaves: dict[str, object] = {}
    for key, entry in value.items():
        leaves |= _flattened(f"{path}.{key}", entry)
    return leaves


def find_run(model: Path | str) -> Path:
    """Return the run's directory that a model lies in, in a folder of it, or that it is itself.

    Raises:
        RecipeError: If there is none.
    """
    model = Path(model)
    candidates = (model.parent, model.parent.parent) if model.is_file() else (model,)
    for directory in candidates:
        if (directory / RECIPE).is_file():
            return directory
    raise RecipeError(
        f"{model}: no trained network here ({RECIPE} and {MODEL} are needed). Name the directory "
        "that `neurodeploy train` wrote."
    )


def load_model(
    model: Path | str, *, overrides: Mapping[str, str] | None = None
) -> tuple[SpikingNetwork, Recipe]:
    """Load the result of `train`: the network without branches, and its recipe.

    Args:
        model: Directory of the run, or a file in it: a model, such as `training/best.safetensors`,
            or any other, such as `network.net`, for the run's trained network.
        overrides: Values by dotted key that replace those of the recipe.

    Raises:
        CheckpointError: If the model is missing, damaged, or not of this recipe.
        RecipeError: If the recipe is missing or damaged.
    """
    model = Path(model)
    recipe = Recipe.load(find_run(model) / RECIPE, overrides=overrides)
    is_model = model.is_file() and model.name not in RUN_FILES
    path = model if is_model else find_run(model) / MODEL
    network = remove_branches(SpikingNetwork.load(path, recipe=recipe))
    network.eval()
    return network, recipe


def versions() -> dict[str, str]:
    """Return the versions of all that a result depends on."""
    return provenance.versions("torch", "numpy", "h5py", "scikit-learn")
