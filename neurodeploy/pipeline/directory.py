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
_AFTER_TRAINING = (
    "quantization",
    "verification.lava_samples",
    "verification.lava_python",
    "recipe.name",
    "recipe.description",
    *(f"data.{key}" for key in ("path", "root", "cache", "workers")),
)
"""Sections and keys of a recipe that deployment uses."""
_PRUNING_KEYS = tuple(
    f"pruning.{key}" for key in ("sparsity", "scope", "pattern", "schedule", "channels")
)
_FINE_TUNE_KEYS = (
    *(
        f"training.{key}"
        for key in (
            *("batch_size", "accumulate", "optimizer", "momentum", "schedule", "loss"),
            *("label_smoothing", "threads", "checkpoint_activations", "compile"),
        )
    ),
    *(
        f"data.{key}"
        for key in (
            *("shift", "rotate", "zoom", "flip", "roll", "crop_padding", "random_crop"),
            "auto_augment",
        )
    ),
)
"""Keys that a fine-tune takes over from training."""


def next_run_directory(name: str, parent: Path = Path("runs")) -> Path:
    """Return `parent/name-<n>` with the first free n.

    Example:
        >>> str(nd.pipeline.next_run_directory("digits"))
        'runs/digits-2'
    """
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
    if isinstance(recipe.data, NpzData):
        require_apart(Path(recipe.data.path).expanduser(), directory, role="data of the recipe")


def require_apart(data: Path, directory: Path, *, role: str) -> None:
    """Check that no file that a run or a deployment writes is one that it reads.

    Raises:
        OutputError: If one is.
    """
    for name in RUN_FILES:
        if is_same_file(directory / name, data):
            raise OutputError(
                f"{directory / name}: is the {role} ({data}), and would be replaced. "
                "Name another directory (--out), or move the data."
            )


def require_no_run(directory: Path) -> None:
    """Check that a directory holds no whole run, whose report is about its own network.

    Raises:
        OutputError: If it does.
    """
    if (directory / SUMMARY).exists():
        raise OutputError(
            f"{directory}: holds a whole run, whose report would no longer be about its "
            "network. Name another directory (--out)."
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


def _require_used(before: Recipe, now: Recipe, overrides: Mapping[str, str], *, path: Path) -> None:
    """Refuse keys that deployment does not use, as those of the training that is over."""
    used = _AFTER_TRAINING
    if before.pruning.is_one_shot or now.pruning.is_one_shot:
        used += _PRUNING_KEYS
    if now.quantization.fine_tune_epochs:
        used += _FINE_TUNE_KEYS
    unused = [
        key for key in overrides if not any(f"{key}.".startswith(f"{known}.") for known in used)
    ]
    if unused:
        raise RecipeError(
            f"{path}: the network is trained, and its deployment does not use {', '.join(unused)}. "
            f"It uses {', '.join(_AFTER_TRAINING)}; with pruning.schedule=one_shot also "
            f"{', '.join(_PRUNING_KEYS)}; with quantization.fine_tune_epochs above 0 also "
            f"{', '.join(_FINE_TUNE_KEYS)}. Train another run to change anything else."
        )


def find_run(model: Path | str) -> Path:
    """Return the run's directory that a model lies in, in a folder of it, or that it is itself.

    Raises:
        RecipeError: If there is none.

    Example:
        >>> str(nd.pipeline.find_run("runs/digits-1/network.net"))
        'runs/digits-1'
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
        overrides: Values by dotted key that replace those of the recipe; only of keys that
            deployment uses.

    Raises:
        CheckpointError: If the model is missing, damaged, or not of this recipe.
        RecipeError: If the recipe is missing or damaged, or deployment does not use an override.

    Example:
        >>> narrow = {"quantization.weight_bits": "4"}
        >>> model, recipe = nd.pipeline.load_model("runs/digits-1", overrides=narrow)
        >>> recipe.quantization.weight_bits
        4
    """
    model = Path(model)
    path = find_run(model) / RECIPE
    recipe = Recipe.load(path, overrides=overrides)
    if overrides:
        _require_used(Recipe.load(path), recipe, overrides, path=path)
    is_model = model.is_file() and model.name not in RUN_FILES
    path = model if is_model else find_run(model) / MODEL
    network = remove_branches(SpikingNetwork.load(path, recipe=recipe))
    network.eval()
    return network, recipe


def versions() -> dict[str, str]:
    """Return the versions of all that a result depends on.

    Example:
        >>> sorted(nd.pipeline.versions())[:3]
        ['commit', 'h5py', 'neurodeploy']
    """
    return provenance.versions("torch", "numpy", "h5py", "scikit-learn")
