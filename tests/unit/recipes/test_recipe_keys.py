"""Every key of a recipe is described, and described as recipes are read."""

from __future__ import annotations

import pytest

from neurodeploy.errors import RecipeError
from neurodeploy.recipes.recipe import Recipe, load_named, recipe_sources
from neurodeploy.recipes.recipe_keys import RecipeKey, SectionKeys, list_recipe_keys
from neurodeploy.untrusted.documents import Table

ALL = list_recipe_keys()


def key(section: str, name: str) -> RecipeKey:
    return next(one for one in list_recipe_keys(section)[0].keys if one.name == name)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.title)
def test_every_key_has_a_meaning(table: SectionKeys) -> None:
    assert [one.name for one in table.keys if not one.meaning] == []
    assert table.meaning
    assert all(one.type and one.default for one in table.keys)


def keys_used(table: Table, section: str = "") -> set[tuple[str, str]]:
    """Return the keys that a recipe has, each with its section."""
    found = set()
    for name, value in table.items():
        inner = f"{section}.{name}" if section else name
        tables = value if isinstance(value, list) else [value]
        if tables and all(isinstance(one, dict) for one in tables):
            for one in tables:
                found |= keys_used(one, inner)
        found.add((section, name))
    return found


def test_every_key_of_the_built_in_recipes_is_listed() -> None:
    listed = {(table.section, one.name) for table in ALL for one in table.keys}
    for name in recipe_sources():
        used = {(section, one) for section, one in keys_used(load_named(name).to_dict()) if section}
        assert used - listed == set()


def test_types_defaults_and_limits_are_those_of_the_section() -> None:
    assert key("training", "loss").default == '{ name = "cross_entropy" }'
    shape = key("data.npz", "shape")
    assert (shape.type, shape.allowed) == ("list of integers", "1 or 3 entries, at least 1")
    weight = key("training.loss.tet", "weight")
    assert (weight.type, weight.default, weight.allowed) == (
        "number", "0.05", "at least 0 and at most 1",
    )  # fmt: skip
    assert key("shortcut", "after").type == "text or list of texts"
    assert key("shortcut", "schedule").default == "unset"
    assert key("neuron.surrogate.tanh", "slope").default == "2"
    assert key("network.mlp", "hidden").allowed == "not empty, at least 1"


def test_a_described_limit_is_the_one_that_is_checked() -> None:
    text = """
    [recipe]
    name = "small"
    [data]
    source = "digits"
    [network]
    steps = 2
    layers = [{ type = "dense", neurons = 4 }]
    [neuron]
    [training]
    epochs = 1
    """
    for name in ("quantization.weight_bits", "training.momentum", "neuron.tau"):
        section, _, one = name.partition(".")
        section += ".lif" if section == "neuron" else ""
        with pytest.raises(RecipeError, match=key(section, one).allowed):
            Recipe.parse(text, overrides={name: "9" if one == "weight_bits" else "-1"})


def test_a_section_is_found_by_its_name_and_by_its_kind() -> None:
    assert {one.section for one in list_recipe_keys("training")} == {"training", "training.loss"}
    assert [one.choices for one in list_recipe_keys("[network.layers.conv]")] == [("conv",)]
    assert list_recipe_keys("data.npz")[0].title == '[data] source = "npz"'
    assert list_recipe_keys("network.layers")[0].title == '[[network.layers]] type = "conv"'


def test_an_unknown_section_is_refused_with_the_right_one() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'quantization'"):
        list_recipe_keys("quantisation")
    with pytest.raises(RecipeError, match="Known: recipe, data, network"):
        list_recipe_keys("x")
