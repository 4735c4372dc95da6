"""From a recipe to its data; the digits, and NumPy archives of one's own, are read here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.data.augmentation import Warp
from neurodeploy.data.dataset import TEST_SPLIT_SEED, ArrayDataset, Dataset, require_integers, split
from neurodeploy.data.event_frames import read_frames
from neurodeploy.data.images import read_images
from neurodeploy.data.sequences import read_sequences
from neurodeploy.errors import DataError, RecipeError
from neurodeploy.recipes.data_sections import DigitsData, EventSection, NpzData, SequenceData
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.samples.array_files import listed, load_array, member_names

DIGITS_MEAN = 5
"""Of all pixels of the digits, 4.88, rounded."""


def load_data(recipe: Recipe) -> tuple[Dataset, Dataset, Dataset]:
    """Load the recipe's training, validation and test part. Nothing is ever downloaded.

    The test part is the published one; where none was published it is stratified and the same
    for every seed. The validation part is taken from the rest, stratified, by the recipe's seed.
    Only what the training part gives in a seeded batch is augmented.

    Raises:
        DataError: If a file is missing or malformed, values do not fit, or a class has too few
            samples to be in every part.
        RecipeError: If `recipe` is something else.

    Example:
        >>> train, validation, test = nd.load_data(nd.Recipe.load("digits"))
        >>> len(train), len(validation), len(test), train.shape
        (1221, 216, 360, (1, 8, 8))
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"load_data: {type(recipe).__name__} in place of a Recipe. Load one: "
            "Recipe.load('digits'), or Recipe.load(path)."
        )
    section = recipe.data
    steps = recipe.network.steps
    for key in ("path", "root"):
        _require_name(getattr(section, key, None), key=f"data.{key}")
    if isinstance(section, DigitsData):
        rest, test = split(_read_digits(section), section.test_fraction, seed=section.test_seed)
    elif isinstance(section, NpzData):
        archive = _read_archive(section, steps=steps)
        rest, test = split(archive, section.test_fraction, seed=TEST_SPLIT_SEED)
    elif isinstance(section, SequenceData):
        rest, test = read_sequences(section, steps=steps)
    elif isinstance(section, EventSection):
        rest, test = read_frames(section, steps=steps)
    else:
        rest, test = read_images(section)
    train, validation = split(rest, section.validation_fraction, seed=recipe.recipe.seed)
    return train, validation, test


def _require_name(path: str | None, *, key: str) -> None:
    """Refuse a path that the system cannot look up, rather than not find."""
    if path is None:
        return
    try:
        Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, NUL in it, no home
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{key} = {path[:60]!r}: cannot be looked up ({reason}). Give the path of your data."
        ) from error


def _read_digits(section: DigitsData) -> ArrayDataset:
    """Return the digits that scikit-learn brings along."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    warp = Warp(degrees=section.rotate, zoom=section.zoom)
    mean = DIGITS_MEAN if section.normalization == "center" else 0
    pixels = bunch.images.astype(np.int32).repeat(section.enlarge, 1).repeat(section.enlarge, 2)
    return ArrayDataset(
        inputs=pixels[:, np.newaxis] - mean,
        labels=bunch.target.astype(np.int64),
        shape=section.shape,
        classes=section.classes,
        scale=2.0**-section.input_bits,
        warp=warp if section.rotate or section.zoom else None,
    )


def _read_archive(section: NpzData, *, steps: int) -> ArrayDataset:
    """Read a NumPy archive for a network of T steps."""
    path = Path(section.path).expanduser()
    inputs, labels = read_labelled(path)
    return _check_arrays(inputs, labels, section=section, steps=steps, where=str(path))


def read_labelled(path: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    """Read the arrays `input` and `label` of a NumPy archive as they are stored.

    Raises:
        DataError: If the file is missing or damaged, or one of them is not there.
    """
    if not path.exists() and not path.is_symlink():
        raise DataError(
            f"{path}: no such file in {Path.cwd()}, where relative paths start. Set data.path."
        )
    names = member_names(path)
    if not {"input", "label"} <= set(names):
        raise DataError(
            f"{path}: holds {listed(sorted(names))}; the arrays 'input' and 'label' are required. "
            "Write it with numpy.savez(path, input=..., label=...)."
        )
    return load_array(path, key="input"), load_array(path, key="label")


def _check_arrays(
    inputs: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    *,
    section: NpzData,
    steps: int,
    where: str,
) -> ArrayDataset:
    """Turn arrays of a user into an `ArrayDataset`, if they fit the recipe."""
    is_static = section.encoding == "direct"
    expected = section.shape if is_static else (steps, *section.shape)
    if inputs.ndim == 0 or inputs.shape[1:] != expected:
        wanted = ", ".join(map(str, expected))
        raise DataError(
            f"{where}: input has shape {inputs.shape}, (samples, {wanted}) is required by "
            f"data.shape and encoding = '{section.encoding}'."
            f"{_encoding_hint(inputs.shape, section, steps)}"
        )
    if labels.shape != inputs.shape[:1]:
        raise DataError(
            f"{where}: label has shape {labels.shape}, {inputs.shape[:1]} is required by input."
        )
    if not len(inputs):
        raise DataError(f"{where}: no samples.")
    largest = 2**section.input_bits
    require_integers(inputs, where=f"{where}: input")
    require_integers(labels, where=f"{where}: label")
    for name, array, low, high, key in (
        ("input", inputs, -largest, largest, "data.input_bits"),
        ("label", labels, 0, section.classes - 1, "data.classes"),
    ):
        found = int(array.min()), int(array.max())
        if found[0] < low or found[1] > high:
            raise DataError(
                f"{where}: {name} from {found[0]} to {found[1]}, {low} to {high} is allowed by "
                f"{key}. Change the key or the data."
            )
    return ArrayDataset(
        inputs=np.ascontiguousarray(inputs.astype(np.int32)),
        labels=labels.astype(np.int64),
        shape=section.shape,
        classes=section.classes,
        scale=1.0 / largest,
    )


def _encoding_hint(found: tuple[int, ...], section: NpzData, steps: int) -> str:
    """Return the advice for arrays that another key would fit; empty where none would."""
    if found[1:] == section.shape:
        return " These are still images: set data.encoding = 'direct'."
    if found[2:] == section.shape and section.encoding == "direct":
        return f" These have {found[1]} steps each: set data.encoding = 'events'."
    if found[2:] == section.shape:
        return f" Set network.steps = {found[1]}, not {steps}."
    if (1, *found[1:]) == section.shape:
        return " Add the axis of the channels: input[:, None]."
    return ""
