from __future__ import annotations

from pathlib import Path

import pytest

from neurodeploy.errors import RecipeError
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.recipes.training_sections import LifNeuronSection

TEXT = """
[recipe]
description = "common"
seed = 3
[data]
[network]
architecture = "residual"
channels = 4
[neuron]
tau = 0.25
[shortcut]
after = "stage"
[training]
epochs = 7

[[variant]]
name = "shallow"
network = { blocks = [1, 1], steps = 2 }

[[variant]]
name = "deep"
recipe = { description = "its own" }
network = { blocks = [2, 2], steps = 4 }
shortcut = { method = "evolutionary" }

[variant.paper]
text = "v1"
targets = [{ accuracy = 74.78, place = "Table 1" }, { accuracy = 74, spread = 0.1, place = "T" }]
gpu_hours = 3
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "several.toml"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_a_variant_is_the_common_part_with_keys_of_its_own(path: Path) -> None:
    assert Recipe.variants(path) == ("shallow", "deep")
    shallow = Recipe.load(f"{path}#shallow")
    deep = Recipe.load(f"{path}#deep")
    assert (shallow.recipe.name, shallow.recipe.description) == ("shallow", "common")
    assert (deep.recipe.name, deep.recipe.description) == ("deep", "its own")
    assert shallow.recipe.seed == deep.recipe.seed == 3
    assert (shallow.network.steps, deep.network.steps) == (2, 4)
    assert (shallow.shortcut.method, deep.shortcut.method) == ("vanilla", "evolutionary")
    assert deep.shortcut.after == "stage"
    assert isinstance(deep.neuron, LifNeuronSection)
    assert deep.neuron.tau == 0.25
    assert shallow.paper is None
    assert deep.paper is not None
    assert [str(target) for target in deep.paper.targets] == ["74.78", "74.00 ± 0.10"]
    assert deep.paper.trials == 3


def test_a_variant_is_a_whole_recipe_once_loaded(path: Path) -> None:
    deep = Recipe.load(f"{path}#deep")
    assert Recipe.parse(deep.to_toml()) == deep


def test_overrides_come_after_the_variant(path: Path) -> None:
    overrides = {"network.steps": "8", "recipe.name": "mine"}
    changed = Recipe.load(f"{path}#deep", overrides=overrides)
    assert (changed.network.steps, changed.recipe.name) == (8, "mine")


def test_a_file_that_is_one_recipe_has_no_variants(tmp_path: Path) -> None:
    recipe = Recipe.parse(TEXT, variant="shallow")
    file = tmp_path / "one#.toml"
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.variants(file) == ()
    assert Recipe.load(file) == recipe


@pytest.mark.parametrize(
    ("change", "variant", "message"),
    [
        ("", None, "holds 2 variants: shallow, deep. Name one, as in several.toml#shallow"),
        ("", "deeep", "no variant 'deeep'. Did you mean 'deep'"),
        ('[[variant]]\nname = "deep"', "deep", "a second variant 'deep'"),
        ("[[variant]]\nnetwork = {}", "deep", "a name without '#' is required"),
        ('[[variant]]\nname = "x"\nnetwrk = {}', "x", "several.toml#x: unknown section 'netwrk'"),
        (
            '[[variant]]\nname = "x"\nnetwork = { steps = 1, blocks = [1] }\n'
            'paper = { text = "v1" }',
            "x",
            r"\[paper\]: key 'gpu_hours' is missing",
        ),
    ],
)
def test_what_is_wrong_with_a_variant_is_said(
    change: str, variant: str | None, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.parse(f"{TEXT}\n{change}\n", variant=variant, where="several.toml")


def test_variants_must_be_a_list() -> None:
    with pytest.raises(RecipeError, match=r"write \[\[variant\]\]"):
        Recipe.parse('variant = "deep"\n')
