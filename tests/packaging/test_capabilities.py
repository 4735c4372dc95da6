"""The page of capabilities: every kind has a row, cells stay, and the tests named exist."""

from __future__ import annotations

import ast
import re
import typing
from pathlib import Path

import capabilities

from neurodeploy.ir.integer_layers import Neuron, Synapse
from neurodeploy.recipes.network_sections import LayerSection
from neurodeploy.recipes.training_sections import NeuronSection

ROOT = Path(__file__).parents[2]
REFUSED = {
    ("dense, delays", "`export --step`"),
    ("dense, delays", "`export --nir`"),
    ("dense, recurrent", "`export`, ReLU twin"),
    ("no leak behind a current that lasts", "`export --nir`"),
    ("parameters by channel", "`export --nir`"),
    ("input block, LIF", "`export --nir`"),
    ("sigma-delta", "`export --step`"),
    ("sigma-delta", "`export`, ReLU twin"),
    ("sigma-delta", "`export --nir`"),
    ("resonate-and-fire, complex weights", "`export --step`"),
    ("resonate-and-fire, complex weights", "`export`, ReLU twin"),
    ("resonate-and-fire, complex weights", "`export --nir`"),
    ('residual = "standard" (cuba)', "deploy"),
    ('residual = "ms", neuron (cuba)', "deploy"),
    ('residual = "sew" (lif)', "deploy"),
    ('residual = "sew" (cuba)', "deploy"),
}


def kinds_of(union: object, key: str) -> set[str]:
    """Return the values of the key that chooses a section."""
    hints = (typing.get_type_hints(section)[key] for section in typing.get_args(union))
    return {typing.get_args(hint)[0] for hint in hints}


def test_every_kind_of_layer_and_neuron_has_a_row() -> None:
    layers = list(capabilities.layers_shown())
    synapses = {type(one.synapse) for layer in layers for one in layer.connections}
    assert synapses == set(typing.get_args(Synapse))
    assert {type(layer.neuron) for layer in layers} == set(typing.get_args(Neuron))
    entries = " ".join(entry for row in capabilities.RECIPE_LAYERS.values() for entry in row)
    assert set(re.findall(r'type = "(\w+)"', entries)) == kinds_of(LayerSection, "type")
    assert set(capabilities.NEURONS) == kinds_of(NeuronSection, "model")


def test_every_framework_has_a_row() -> None:
    folder = ROOT / "neurodeploy" / "interchange" / "modules"
    modules = {path.stem for path in folder.glob("*_neurons.py")} | {"slayer_blocks"}
    assert len(capabilities.FRAMEWORKS) == len(modules)
    others = {"euler", "exponential", "neurodeploy", "sinabs-plain-input"}
    assert capabilities.other_conventions() == others


def test_cells_refuse_where_they_did() -> None:
    tables = (capabilities.try_files(), capabilities.try_recipes())
    cells = {
        (row, name): cell
        for table in tables
        for row, found in table.items()
        for name, cell in found.items()
    }
    assert {place for place, cell in cells.items() if cell.reason} == REFUSED
    assert len(cells) == 13 * 5 + 22 * 2


def test_the_tests_that_are_named_exist() -> None:
    named = capabilities.tests_named()
    for test in named:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        name, _, case = name.partition("[")
        assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}, test
        assert case in ("", "CASE]")
    for case in capabilities.FILES.values():
        assert (capabilities.GOLDEN / f"{case}.net").is_file()
    assert len(named) >= 15
