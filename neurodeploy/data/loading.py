"""From a recipe to its data."""

from __future__ import annotations

from neurodeploy.data.dataset import TEST_SPLIT_SEED, Dataset, split
from neurodeploy.data.event_frames import read_frames
from neurodeploy.data.images import read_images
from neurodeploy.data.in_memory import read_archive, read_digits
from neurodeploy.errors import RecipeError
from neurodeploy.recipes.data_sections import (
    Cifar10DvsData,
    DigitsData,
    DvsGestureData,
    NmnistData,
    NpzData,
    ShdData,
)
from neurodeploy.recipes.recipe import Recipe


def load_data(recipe: Recipe) -> tuple[Dataset, Dataset, Dataset]:
    """Load the recipe's data in three parts. Nothing is ever downloaded.

    The test part is the published one; where none was published it is stratified and the same
    for every seed. The validation part is taken from the rest, stratified, by the recipe's seed.
    Only what the training part gives in a seeded batch is augmented.

    Args:
        recipe: Its [data], [recipe] seed and [network] steps are read.

    Returns:
        Training, validation and test part.

    Raises:
        DataError: If a file is missing or malformed, values do not fit, or a class has too few
            samples to be in every part.
        RecipeError: If `recipe` is something else.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"load_data: {type(recipe).__name__} in place of a Recipe. Load one: "
            "Recipe.load('digits'), or Recipe.load(path)."
        )
    section = recipe.data
    steps = recipe.network.steps
    if isinstance(section, DigitsData):
        rest, test = split(read_digits(section), section.test_fraction, seed=section.test_seed)
    elif isinstance(section, NpzData):
        archive = read_archive(section, steps=steps)
        rest, test = split(archive, section.test_fraction, seed=TEST_SPLIT_SEED)
    elif isinstance(section, Cifar10DvsData | NmnistData | DvsGestureData | ShdData):
        rest, test = read_frames(section, steps=steps)
    else:
        rest, test = read_images(section)
    train, validation = split(rest, section.validation_fraction, seed=recipe.recipe.seed)
    return train, validation, test
