"""Which runs go on in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurodeploy.errors import RecipeError
from neurodeploy.files import RECIPE
from neurodeploy.pipeline.directory import check_directory
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
