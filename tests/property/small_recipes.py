"""A recipe of one small layer, for tests of data."""

from __future__ import annotations

from neurodeploy.recipes.recipe import Recipe


def small_recipe(data: str, *, seed: int = 0, steps: int = 2) -> Recipe:
    """Return a recipe whose section [data] has these lines."""
    return Recipe.parse(
        f"""
        [recipe]
        name = "small"
        seed = {seed}
        [data]
        {data}
        [network]
        steps = {steps}
        layers = [{{type = "dense", neurons = 4}}]
        [neuron]
        [training]
        epochs = 1
        """
    )
