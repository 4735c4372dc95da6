"""Pages of the reference that are made from the code: names, commands, keys, files, schemas."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import api_types
import capabilities
import error_catalogue
import typer
from page_texts import replace_page, table

import neurodeploy as nd
from neurodeploy import errors
from neurodeploy.cli.app import COMMANDS, make_app
from neurodeploy.netx import schema
from neurodeploy.recipes.recipe_keys import list_recipe_keys
from neurodeploy.reports import json_form


class ApiPage(NamedTuple):
    """A page of the API: title, what to know first, public names, and what examples begin with."""

    title: str
    about: str
    names: str
    setup: str = ""


_BEGINNING = """\
from pathlib import Path

import numpy as np

import neurodeploy as nd
"""
_SMALL_RUN = """
quick = {
    "network.layers": '[{type = "conv", channels = 8, stride = 2}]',
    "shortcut.method": "vanilla",
    "shortcut.after": "[]",
    "training.epochs": "1",
    "quantization.fine_tune_epochs": "0",
    "verification.lava_samples": "2",
}
recipe = nd.Recipe.load("digits", overrides=quick)
run = nd.pipeline.run(recipe, Path("runs/digits-1"))
"""
_UNTRAINED = """
plain = {"shortcut.method": "vanilla", "shortcut.after": "[]"}
network = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits", overrides=plain))
graph = nd.fold_batchnorm(nd.trace(network))
loihi2 = nd.Target.load("loihi2")
"""
_FOREIGN = """
torch.manual_seed(0)
neuron = {"beta": 0.9, "reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
network = nn.Sequential(
    nn.Linear(16, 32), snntorch.Leaky(**neuron), nn.Linear(32, 3), snntorch.Leaky(**neuron)
).eval()
spikes = np.random.default_rng(0).integers(0, 2, (40, 10, 16))  # (samples, T, inputs)
labels = np.arange(40) % 3
nd.export_nir(nd.import_torch(network, spikes).graph, "model.nir")

relu = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
frames = np.random.default_rng(0).random((8, 20, 1, 8, 8))  # (sequences, T, C, H, W)
"""

API = {
    "run_files": ApiPage(
        "Run and compare files",
        "Everything here works without torch.",
        "load_example Example list_examples ExampleCard netx EventSimulator LavaSimulator "
        "Recording Record Feed Window Stream testing open_samples run_samples Crew "
        "Certificate",
        _BEGINNING,
    ),
    "count": ApiPage(
        "Count and report",
        "Operations are counted exactly; energies are ranges with their sources.",
        "report report_counts Report RunSummary count count_samples count_layer Operations "
        "LayerAccesses estimate_energy Energy EnergyPreset System Measured count_onnx_macs "
        "compare_networks read_candidate observe layer_activity_of save_plot write_page "
        "write_markdown write_comparison write_comparison_markdown",
        f"import json\n{_BEGINNING}",
    ),
    "train": ApiPage(
        "Train",
        "Needs the extra `train`.",
        "Recipe list_recipe_keys draft_recipe RecipeDraft load_data Dataset ArrayDataset "
        "SpikingNetwork Trainer evaluate remove_branches",
        _BEGINNING.replace("np\n", "np\nimport torch\n", 1),
    ),
    "whole_runs": ApiPage(
        "Whole runs",
        "`nd.pipeline`: the commands `train`, `deploy` and `run` call it. Needs the extra `train`.",
        "pipeline",
        _BEGINNING + _SMALL_RUN,
    ),
    "deploy": ApiPage(
        "Deploy",
        "From a trained network to the integers of a chip.",
        "trace run_passes fold_batchnorm fold_average_pool fold_global_average_pool "
        "fold_normalization lower_current_biases lower_max_pool lower_residuals merge_groups "
        "prune_channels prune_weights choose_scales calibrate quantize Graph FixedPointGraph "
        "Target check_limits find_violations estimate_cores sizes_of export_step export_twin",
        f"from dataclasses import replace\n\n{_BEGINNING}{_UNTRAINED}",
    ),
    "other_frameworks": ApiPage(
        "Networks of other frameworks",
        "Trained elsewhere, deployed here.",
        "deploy ImportedDeployment FineTuning import_torch import_nir Imported export_nir "
        "convert Conversion advise Advice advice_text write_advice write_advice_markdown "
        "add_shortcut_branches BranchedModule branch_weight_at combine_outputs",
        _BEGINNING.replace("np\n", "np\nimport snntorch\nimport torch\nfrom torch import nn\n", 1)
        + _FOREIGN,
    ),
    "errors": ApiPage(
        "Errors",
        "All derive from `NeurodeployError`.",
        "NeurodeployError NeurodeployWarning",
        _BEGINNING,
    ),
}
"""Pages of the API by file."""
_ABOUT_COMMANDS = """\
Made from `neurodeploy --help`. Each command also prints its own with `--help`. `simulate`,
`verify`, `report` and `inspect` need no torch.

[Exit codes and errors](errors.md) are a page of their own.

**Kills and faults.** A killed command leaves no process, and no half-written file under its name;
the next command removes its temporary files. A full disk, a closed output or too little memory is
one line and exit code 1. Files of strangers are read within limits and without running code or
opening other files: [security](../project/security.md).
"""
_ABOUT_KEYS = """\
Made from the classes that read a recipe; `neurodeploy recipes --keys [SECTION]` prints the same.
Every section is checked before anything runs. A misspelt key is refused with the right one, or
with a list of those there are.
"""
_ABOUT_TYPES = """\
Classes that public names take, hold or return. They have no public name: import one from its module
to annotate with it."""
_ABOUT_NET_FILES = """\
A `.net` file is HDF5, laid out as lava-dl's `netx` reads it. Group `layer` holds a group for each
layer, `0`, `1` and so on in order, whose dataset `type` names its kind; a layer of neurons has a
group `neuron`. These are the tables that neurodeploy reads and writes by.
"""


def write(folder: Path) -> None:
    """Write all of these pages below `folder`."""
    reference = folder / "reference"
    replace_page(reference / "commands.md", _commands())
    replace_page(reference / "recipe_keys.md", _recipe_keys())
    replace_page(reference / "net_files.md", _net_files())
    replace_page(reference / "capabilities.md", capabilities.write())
    replace_page(reference / "errors.md", error_catalogue.write())
    replace_page(
        reference / "report_schema.md", _schema("The JSON of a report", json_form.schema())
    )
    replace_page(
        reference / "certificate_schema.md",
        _schema("The JSON of a certificate", json_form.certificate_schema()),
    )
    for name, page in API.items():
        replace_page(reference / "api" / f"{name}.md", _api(page))
    replace_page(reference / "api" / "types.md", _types())


def documented_names() -> list[str]:
    """Return the public names that the pages of the API hold."""
    return [name for page in API.values() for name in page.names.split()]


def documented_objects(page: ApiPage) -> Iterator[tuple[str, object]]:
    """Yield the names after `nd.` of a page, those of modules inside them, and their objects."""
    for name in page.names.split():
        value = getattr(nd, name)
        if inspect.ismodule(value):
            yield from ((f"{name}.{inner}", one) for inner, one in _public(value))
        else:
            yield name, value


# --- commands --------------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    yield from ("# Commands", "")
    yield _ABOUT_COMMANDS
    app = typer.main.get_group(make_app())
    for name in COMMANDS:
        command = app.commands[name]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield from _command(f"neurodeploy {name}", command)
        else:
            for second, one in inner.items():
                yield from _command(f"neurodeploy {name} {second}", one)


def _command(name: str, command: typing.Any) -> Iterator[str]:
    yield from (f"## {name}", "", inspect.cleandoc(command.help or ""), "")
    rows = []
    for parameter in command.params:
        is_option = parameter.param_type_name == "option"
        if "--help" in parameter.opts:
            continue
        names = ", ".join((*parameter.opts, *parameter.secondary_opts))
        word = names if is_option else parameter.metavar or parameter.name.upper()
        metavar = parameter.metavar if is_option and parameter.metavar else ""
        default = parameter.default
        shown = ""
        if parameter.required:
            shown = "required"
        elif default not in (None, False, ()) and default != "" and not callable(default):
            shown = f"`{getattr(default, 'value', default)}`"
        rows.append((f"`{word} {metavar}`".replace(" `", "`"), shown, _flat(parameter.help or "")))
    yield from table(("option", "default", "meaning"), rows)


def _flat(text: str) -> str:
    return " ".join(text.split())


# --- keys of recipes -------------------------------------------------------------------------


def _recipe_keys() -> Iterator[str]:
    yield from ("# Keys of a recipe", "")
    yield _ABOUT_KEYS
    section = ""
    for one in list_recipe_keys():
        if one.section != section:
            section = one.section
            yield from ("", f"## [{'[' * one.is_list}{section}]{']' * one.is_list}", "")
        if one.choices:
            yield from (f"### {one.keys[0].name} = {' or '.join(map(json.dumps, one.choices))}", "")
        yield from (f"{one.meaning}", "")
        rows = (
            (
                f"`{key.name}`",
                f"{key.type}{': ' if key.allowed else ''}{key.allowed}",
                f"`{key.default}`" if key.default not in ("required", "unset") else key.default,
                _plain(key.meaning),
            )
            for key in one.keys
        )
        yield from table(("key", "values", "default", "meaning"), rows)


def _plain(text: str) -> str:
    """Return text of a docstring for a page: no emphasis by chance."""
    return text.replace("*", "\\*").replace("[[", "\\[\\[").replace("<", "&lt;")


# --- files -----------------------------------------------------------------------------------


def _net_files() -> Iterator[str]:
    yield from ("# Files with the ending .net", "")
    yield _ABOUT_NET_FILES
    for name, layer in schema.LAYERS.items():
        yield from (f"## Layer {name}", "")
        yield from _fields(layer)
    for kind, form in schema.NEURONS.items():
        yield from (
            f"## Neuron {kind.__name__}",
            "",
            f"`neuron/type` is written as `{form.type}`.",
            "",
        )
        yield from _fields(form.parameters)


def _fields(fields: Mapping[str, typing.Any]) -> Iterator[str]:
    if not fields:
        yield from ("It has no datasets of its own.", "")
        return
    rows = (
        (
            f"`{one.name}`",
            _plain(one.shapes),
            "required" if one.is_required else "optional",
            _plain(one.meaning),
        )
        for one in fields.values()
    )
    yield from table(("dataset", "shape", "", "meaning"), rows)


def _schema(title: str, table: Mapping[str, typing.Any]) -> Iterator[str]:
    yield from (f"# {title}", "", str(table.get("description", "")), "")
    yield from ("```json", json.dumps(table, indent=2, ensure_ascii=False), "```")


# --- names of Python -------------------------------------------------------------------------


def _api(page: ApiPage) -> Iterator[str]:
    yield from (f"# {page.title}", "", page.about, "")
    yield from ("The examples begin with", "", "```python", page.setup.rstrip(), "```", "")
    if page.title == "Errors":
        for name, one in vars(errors).items():
            if inspect.isclass(one) and issubclass(one, (errors.NeurodeployError, Warning)):
                yield from _directive("exception", f"neurodeploy.errors.{name}", members=False)
        return
    for name, value in documented_objects(page):
        yield from _entry(f"neurodeploy.{name}", value)


def _types() -> Iterator[str]:
    yield from ("# Types", "", _ABOUT_TYPES, "")
    public = [value for page in API.values() for _, value in documented_objects(page)]
    module = ""
    for one in api_types.find_types(public):
        if one.__module__ != module:
            module = one.__module__
            yield from (f"## {module}", "")
        yield from _directive("class", f"{module}.{one.__qualname__}", members=True)


def _public(module: typing.Any) -> Iterator[tuple[str, object]]:
    """Yield the functions and classes that a public module offers."""
    for name in getattr(module, "__all__", list(vars(module))):  # some are loaded when used
        value = getattr(module, name)
        is_offered = inspect.isfunction(value) or inspect.isclass(value)
        if is_offered and not name.startswith("_") and _is_of(module, value):
            yield name, value


def _is_of(module: typing.Any, value: typing.Any) -> bool:
    return str(value.__module__).startswith(module.__name__) and bool(value.__doc__)


def _entry(name: str, value: object) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _directive("class", name, members=True)
    elif callable(value):
        yield from _directive("function", name, members=False)
    else:
        yield from _directive("data", name, members=False)


def _directive(kind: str, name: str, *, members: bool) -> Iterator[str]:
    yield from ("```{eval-rst}", f".. auto{kind}:: {name}")
    if members:
        yield "   :members:"
    if kind == "exception":
        yield "   :show-inheritance:"
    yield from ("```", "")
