from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Literal, cast, get_args, get_origin, get_type_hints

import pytest

from neurodeploy.errors import RecipeError
from neurodeploy.nn.functional.surrogate import SURROGATES
from neurodeploy.recipes.data_sections import NpzData
from neurodeploy.recipes.layouts import layout_of
from neurodeploy.recipes.network_sections import ConvLayer, DenseLayer, SequentialNetwork
from neurodeploy.recipes.recipe import Recipe, load_named, recipe_sources
from neurodeploy.recipes.training_sections import (
    CubaNeuronSection,
    LifNeuronSection,
    SurrogateSection,
    TanhSurrogate,
)

TEXT = """
[recipe]
name = "small"
seed = 3

[data]
source = "digits"

[network]
steps = 2
readout = "linear"

[[network.layers]]
type = "conv"
channels = 4

[[network.layers]]
type = "dense"
name = "hidden"
neurons = 8

[neuron]
model = "lif"
tau = 1

[shortcut]
method = "evolutionary"
after = ["conv1"]

[training]
epochs = 2
"""


def parse(old: str = "", new: str = "", **overrides: str) -> Recipe:
    assert old in TEXT
    return Recipe.parse(
        TEXT.replace(old, new) if old else TEXT, where="small.toml", overrides=overrides
    )


def test_reads_values_and_defaults() -> None:
    recipe = parse()
    assert recipe.recipe.seed == 3
    assert isinstance(recipe.network, SequentialNetwork)
    assert recipe.network.layers == (
        ConvLayer(type="conv", channels=4),
        DenseLayer(type="dense", name="hidden", neurons=8),
    )
    assert [layer.name for layer in layout_of(recipe.network).layers] == ["conv1", "hidden"]
    assert isinstance(recipe.neuron, LifNeuronSection)
    assert recipe.neuron.tau == 1.0
    assert type(recipe.neuron.tau) is float
    assert recipe.shortcut.weight is None
    assert recipe.verification.lava_samples == 64


def test_effective_recipe_round_trips_through_toml() -> None:
    recipe = parse()
    assert Recipe.parse(recipe.to_toml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_round_trip_keeps_strings_that_need_escapes() -> None:
    recipe = parse(**{"recipe.description": '"a \\"quoted\\" line\\nand \\u007f, é, \\\\"'})
    assert recipe.recipe.description == 'a "quoted" line\nand \x7f, é, \\'
    assert Recipe.parse(recipe.to_toml()) == recipe


def test_overrides_are_toml_or_else_text() -> None:
    recipe = parse(
        **{
            "training.epochs": "5",
            "training.optimizer": "adamw",
            "network.layers.0.channels": "6",
            "neuron.surrogate.name": "tanh",
            "neuron.surrogate.slope": "3",
            "shortcut.after": '["hidden"]',
            "quantization.margin": "2",
        }
    )
    assert recipe.training.epochs == 5
    assert recipe.training.optimizer == "adamw"
    assert isinstance(recipe.network, SequentialNetwork)
    assert isinstance(recipe.network.layers[0], ConvLayer)
    assert recipe.network.layers[0].channels == 6
    assert isinstance(recipe.neuron, LifNeuronSection)
    assert recipe.neuron.surrogate == TanhSurrogate(name="tanh", slope=3.0)
    assert recipe.shortcut.after == ("hidden",)
    assert recipe.quantization.margin == 2.0


def test_cuba_neuron_and_npz_data() -> None:
    recipe = Recipe.parse(
        """
        [recipe]
        name = "own"
        [data]
        source = "npz"
        path = "own.npz"
        shape = [5]
        classes = 2
        encoding = "events"
        [network]
        steps = 3
        layers = [{type = "dense", neurons = 4, batch_norm = false}]
        [neuron]
        model = "cuba"
        threshold = 1.25
        current_decay = 0.25
        voltage_decay = 0.03
        [training]
        epochs = 1
        """
    )
    assert isinstance(recipe.neuron, CubaNeuronSection)
    assert recipe.neuron.scale == 64
    assert isinstance(recipe.data, NpzData)
    assert recipe.data.shape == (5,)
    assert Recipe.parse(recipe.to_toml()) == recipe


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "epochs = 2",
            "epochs = 2\nlearning_rte = 1",
            "small.toml [training]: unknown key 'learning_rte'. Did you mean 'learning_rate'?",
        ),
        ("[training]", "[trainning]", "unknown section 'trainning'. Did you mean 'training'?"),
        ("epochs = 2", "", "small.toml [training]: key 'epochs' is missing."),
        ("epochs = 2", "epochs = 2.0", "[training]: epochs = 2.0, an integer is required."),
        ("epochs = 2", "epochs = true", "[training]: epochs = true, an integer is required."),
        ("epochs = 2", "epochs = -1", "[training]: epochs = -1, it must be at least 0."),
        ("seed = 3", 'seed = "3"', '[recipe]: seed = "3", an integer is required.'),
        ('name = "small"', 'name = ""', "[recipe]: name is empty"),
        ("tau = 1", "tau = 1.5", "tau = 1.5, it must be at least 0 and at most 1."),
        ("tau = 1", "tau = nan", "tau = nan"),
        ("tau = 1", "current_decay = 1", "[neuron]: unknown key 'current_decay'."),
        ('model = "lif"', 'model = "life"', "allowed: 'lif', 'cuba'. Did you mean 'lif'?"),
        (
            'source = "digits"',
            'source = "digits"\npath = "x"',
            "[data]: unknown key 'path'.",
        ),
        (
            'readout = "linear"',
            'readout = "lineal"',
            "[network]: readout = \"lineal\", allowed: 'linear', 'gap_linear'. "
            "Did you mean 'linear'?",
        ),
        ('readout = "linear"', 'readout = "gap_linear"', "'gap_linear' after a dense layer"),
        ("channels = 4", "", "[network.layers.0]: key 'channels' is missing."),
        ("channels = 4", "chanels = 4", "Did you mean 'channels'?"),
        ("channels = 4", "channels = 4\nkernel = 99", "kernel = 99 with padding = 1 is larger"),
        ("channels = 4", "channels = 4\ngroups = 3", "groups = 3 does not divide"),
        ('name = "hidden"', 'name = "conv1"', "a second block called 'conv1'"),
        ('name = "hidden"', 'name = "readout"', "'input' and 'readout' are taken"),
        ('name = "hidden"', 'name = "a.b"', "letters, digits and underscores"),
        ('after = ["conv1"]', 'after = ["conv2"]', "Did you mean 'conv1'?"),
        ('after = ["conv1"]', 'after = ["conv1", "conv1"]', "names a block twice"),
        ('after = ["conv1"]', "", "'evolutionary' without branches"),
        ('after = ["conv1"]', 'after = "conv1"', "allowed: 'stage', 'block', or a list"),
        ('after = ["conv1"]', 'after = "stage"', "'sequential' has no stages"),
        ('type = "conv"\nchannels = 4', 'type = "dense"\nneurons = 4', ""),
        ('source = "digits"', 'source = "digits"\ninput_bits = 3', "Use input_bits = 4."),
        ("[data]", "[data", "not valid TOML"),
    ],
)
def test_what_is_not_allowed_is_named(old: str, new: str, message: str) -> None:
    if message == "":
        new = new.replace("neurons", "name = 'conv1'\nneurons")
        assert parse(old, new).network.layers[0].type == "dense"
        return
    with pytest.raises(RecipeError) as caught:
        parse(old, new)
    assert message in str(caught.value)
    assert str(caught.value).startswith("small.toml")


def test_conv_after_dense_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"network.layers.1.*a conv layer needs a source"):
        parse(
            'type = "dense"\nname = "hidden"\nneurons = 8',
            'type = "conv"\nchannels = 8',
            **{"network.layers.0": '{type = "dense", neurons = 3, name = "conv1"}'},
        )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("epochs", "section.key is required"),
        ("training.epoch", "Did you mean 'epochs'?"),
        ("network.layers.7.channels", "'network.layers' has 2 entries"),
        ("recipe.name.x", "'recipe.name' is not a table"),
    ],
)
def test_bad_overrides_are_named(key: str, message: str) -> None:
    with pytest.raises(RecipeError, match=r"small\.toml") as caught:
        parse(**{key: "1"})
    assert message in str(caught.value)


def test_missing_file_and_binary_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        Recipe.load(tmp_path / "absent.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="utf-8"):
        Recipe.load(binary)


def test_every_surrogate_has_a_section_with_its_parameters() -> None:
    parameters = {}
    for kind in get_args(SurrogateSection):
        (name,) = get_args(get_type_hints(kind)["name"])
        parameters[name] = {field.name for field in fields(kind)} - {"name"}
    assert parameters.keys() == SURROGATES.keys()
    for name, known in parameters.items():
        SURROGATES[name](**dict.fromkeys(known, 1.0))


def test_shipped_recipes_load() -> None:
    sources = recipe_sources()
    assert "digits" in sources
    for name in sources:
        recipe = load_named(name)
        assert recipe.recipe.name == name
        assert Recipe.parse(recipe.to_toml()) == recipe


def test_a_recipe_is_loaded_by_its_name_too() -> None:
    assert Recipe.load("digits") == load_named("digits")
    changed = Recipe.load("digits", overrides={"training.epochs": "2"})
    assert changed.training.epochs == 2
    with pytest.raises(RecipeError, match="Did you mean 'digits"):
        Recipe.load("digit")


def test_a_share_given_in_percent_is_answered_with_the_share() -> None:
    with pytest.raises(RecipeError, match=r"it must be .* below 1\. For 70 % write 0\.7"):
        Recipe.parse(TEXT, overrides={"pruning.sparsity": "70"})
    with pytest.raises(RecipeError) as error:
        Recipe.parse(TEXT, overrides={"pruning.sparsity": "-1"})
    assert "%" not in str(error.value)


def sections_in(hint: object) -> Iterator[tuple[type, bool]]:
    """Yield the dataclasses that a type may be, and whether they are entries of a list."""
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint, False
    for inner in get_args(hint):
        for section, is_list in sections_in(inner):
            yield section, is_list or get_origin(hint) is tuple


Place = tuple[tuple[str, type, bool], ...]
"""Name, class and is-a-list of each table on the way to a key."""


def places(kind: type = Recipe, above: Place = ()) -> Iterator[Place]:
    hints = get_type_hints(kind, include_extras=True)
    for spec in fields(kind):
        for section, is_list in sections_in(hints[spec.name]):
            place = (*above, (spec.name, section, is_list))
            yield place
            yield from places(section, place)


def keys() -> Iterator[tuple[Place, str]]:
    for place in places():
        for spec in fields(place[-1][1]):
            yield place, spec.name


def tag_of(section: type) -> dict[str, object]:
    """The key that chooses this class among others, if there is one."""
    first = fields(section)[0].name
    hint = get_type_hints(section)[first]
    return {first: get_args(hint)[0]} if get_origin(hint) is Literal else {}


def test_every_key_is_meant_by_its_misspelling() -> None:
    """Of every section, surrogate, layer, loss and architecture there is."""
    found = list(keys())
    assert {"ResidualLayer", "TanhSurrogate", "PaperTarget", "ShdData", "VggNetwork"} <= {
        place[-1][1].__name__ for place, _ in found
    }
    for place, key in found:
        table: dict[str, object] = tomllib.loads(TEXT)
        here, path = table, ""
        for name, section, is_list in place:
            inner = {**tag_of(section), **({"steps": 1} if name == "network" else {})}
            if not tag_of(section):
                inner = {**cast("dict[str, object]", here.get(name, {})), **inner}
            here[name] = [inner] if is_list else inner
            here, path = inner, f"{path}.{name}.0" if is_list else f"{path}.{name}"
        here[key + key[-1]] = 0
        with pytest.raises(RecipeError) as error:
            Recipe.from_dict(table, where="mine.toml")
        assert str(error.value) == (
            f"mine.toml [{path[1:]}]: unknown key '{key + key[-1]}'. Did you mean '{key}'?"
        )


@pytest.mark.parametrize("name", [spec.name for spec in fields(Recipe)])
def test_every_section_is_meant_by_its_misspelling(name: str) -> None:
    table = tomllib.loads(TEXT) | {name[:-1]: {}}
    with pytest.raises(RecipeError, match=f"unknown section '{name[:-1]}'. Did you mean '{name}'"):
        Recipe.from_dict(table)
