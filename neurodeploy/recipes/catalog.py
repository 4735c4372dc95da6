"""The recipes that come with neurodeploy, by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from neurodeploy.errors import RecipeError
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.resources import recipes_path


def recipe_sources() -> dict[str, str]:
    """Give, by name, where each recipe is: `FILE.toml`, or `FILE.toml#VARIANT`.

    A file that is one recipe has the file's name; variants have names of their own.

    Raises:
        RecipeError: If two recipes have the same name.
    """
    sources: dict[str, str] = {}
    for path in sorted(recipes_path().glob("*.toml")):
        variants = Recipe.variants(path)
        found = {name: f"{path}#{name}" for name in variants} or {path.stem: str(path)}
        for name, source in found.items():
            if name in sources:
                raise RecipeError(f"{source}: {sources[name]} has the same name. Rename one.")
            sources[name] = source
    return sources


def load_named(name: str, *, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Load a recipe by its name.

    Args:
        name: As `recipe_sources` gives it.
        overrides: As in `Recipe.load`.

    Raises:
        RecipeError: If there is none, or anything in it is not allowed.
    """
    sources = recipe_sources()
    if name not in sources:
        close = get_close_matches(name, sources, n=3)
        meant = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise RecipeError(
            f"{name}: no such recipe.{meant} `neurodeploy recipes` lists all {len(sources)}; the "
            "path of a TOML file is allowed too."
        )
    return Recipe.load(sources[name], overrides=overrides)
