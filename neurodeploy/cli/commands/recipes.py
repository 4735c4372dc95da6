"""The commands about recipes, `recipes` and `init`, and the search for one by name or path."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson, parse_settings
from neurodeploy.errors import OutputError, RecipeError
from neurodeploy.files import RECIPE, recipes_path, replacing, require_output

if TYPE_CHECKING:
    from neurodeploy.recipes.recipe import Recipe
    from neurodeploy.recipes.training_sections import PaperSection


def recipes(
    section: Annotated[
        str,
        typer.Argument(
            metavar="SECTION",
            help="With --keys: a section, such as training or network.layers, or one kind of it, "
            "such as data.npz or neuron.lif.",
            show_default=False,
        ),
    ] = "",
    shows_keys: Annotated[
        bool,
        typer.Option(
            "--keys", help="List every key of a recipe: type, default, limits and meaning."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the recipes that come with neurodeploy, or every key that a recipe can have.

    The digits recipes run as they are. The others reproduce the rows of the paper "Take A Shortcut
    Back", each with the paper's accuracy where it is known; they need a GPU, and their data set in
    the folder that `data.root` names.

    Example: `neurodeploy recipes --keys training`
    """
    if shows_keys:
        _show_keys(section, as_json=as_json)
        return
    if section:
        raise typer.BadParameter(
            f"SECTION '{section}' names keys. Write `neurodeploy recipes --keys {section}`."
        )
    from neurodeploy.recipes.recipe import load_named, recipe_sources

    sources = recipe_sources()
    loaded = {name: load_named(name) for name in sources}
    if as_json:
        console.print_json(
            [_describe(name, sources[name], recipe) for name, recipe in loaded.items()]
        )
        return
    ready = console.make_table("name", "description")
    for name, recipe in loaded.items():
        if recipe.paper is None:
            ready.add_row(name, recipe.recipe.description)
    console.out.print(ready)
    console.out.print(
        "\nRows of the paper. %: its accuracy, mean ± standard deviation over three trials where "
        "stated, - where not established. v1: arXiv 2401.04486v1; NeurIPS: the later text. GPU h: "
        "rough hours of one GPU for all trials, see training/README.md."
    )
    rows: dict[str, dict[str, PaperSection]] = {}
    for name, recipe in loaded.items():
        if recipe.paper is not None:
            title = f"{recipe.data.source}, {recipe.paper.text}"
            rows.setdefault(title, {})[name] = recipe.paper
    for title, papers in rows.items():
        _print_rows(title, papers)
    console.out.print(f"files: {console.relative(recipes_path())}")
    console.out.print("next: neurodeploy run NAME; copy a file to change more than --set can")


class Encoding(StrEnum):
    """The meaning of the second axis of samples."""

    DIRECT = "direct"
    EVENTS = "events"


def init(
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE.npz",
            help="Your samples: an archive with the integer arrays `input` and `label`.",
        ),
    ],
    recipe: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECIPE.toml",
            help="File to write, one that does not exist. Default: named as the data, here.",
        ),
    ] = None,
    encoding: Annotated[
        Encoding,
        typer.Option(
            help="direct: still images or vectors. events: the second axis of input is time, which "
            "five axes show by themselves."
        ),
    ] = Encoding.DIRECT,
) -> None:
    """Write a first recipe for your own samples, with comments and settings that fit them.

    Examines the file: shapes, classes, values. Suggests input bits, steps, a network and epochs,
    and checks that the samples can be trained on with them. Images are (samples, C, H, W), vectors
    (samples, N), spikes over time (samples, T, C, H, W) or (samples, T, N); write them with
    `numpy.savez("mine.npz", input=images, label=classes)`.

    Example: `neurodeploy init mine.toml --data mine.npz`
    """
    path = Path(data.with_suffix(".toml").name) if recipe is None else recipe
    if os.path.lexists(path):
        raise OutputError(f"{path}: exists, and is not written over. Name another file.")
    require_output(path, [".toml"], inputs=[data])
    from neurodeploy.data.recipe_draft import draft_recipe

    with console.err.status(f"examining {data}"):
        draft = draft_recipe(data, name=path.stem, is_event=encoding is Encoding.EVENTS)
    with replacing(path) as temporary:
        temporary.write_text(draft.text, encoding="utf-8")
    console.out.print(f"found: {draft.found}\nnetwork: {draft.chosen}", soft_wrap=True)
    console.print_written([path])
    words = shlex.join(["neurodeploy", "run", console.relative(path)])
    console.out.print(f"next: {words}", soft_wrap=True)


def _show_keys(section: str, *, as_json: bool) -> None:
    from neurodeploy.recipes.recipe_keys import list_recipe_keys

    found = list_recipe_keys(section)
    if as_json:
        console.print_json([asdict(one) for one in found])
        return
    for one in found:
        table = console.make_table("key", "values", "default", "meaning", title=one.title)
        for key in one.keys:
            values = f"{key.type}: {key.allowed}" if key.allowed else key.type
            table.add_row(key.name, values, key.default, key.meaning)
        console.out.print(table)
        console.out.print(f"{one.meaning}\n")


def _print_rows(title: str, rows: Mapping[str, PaperSection]) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(title, no_wrap=True)
    table.add_column("%", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("GPU h", justify="right", no_wrap=True)
    for name, paper in rows.items():
        table.add_row(
            name,
            "\n".join(map(str, paper.targets)) or "-",
            "\n".join(f"{paper.text}, {target.place}" for target in paper.targets),
            f"{paper.gpu_hours:.0f}",
        )
    console.out.print()
    console.out.print(table)


def _describe(name: str, source: str, recipe: Recipe) -> dict[str, object]:
    return {
        "name": name,
        "description": recipe.recipe.description,
        "path": source,
        "data": recipe.data.source,
        "network": recipe.network.architecture,
        "steps": recipe.network.steps,
        "method": recipe.shortcut.method,
        "paper": None if recipe.paper is None else asdict(recipe.paper),
    }


def load_recipe(name_or_path: str, settings: list[str] | None) -> Recipe:
    """Load a recipe by its path, or by the name of one that comes with neurodeploy."""
    from neurodeploy.recipes.recipe import Recipe

    path = Path(name_or_path)
    if (path / RECIPE).is_file():
        raise RecipeError(
            f"{path}: is a run, a recipe is required. Deploy its network once more with "
            f"`neurodeploy run --from {path}`, or train another by its recipe, {path / RECIPE}."
        )
    return Recipe.load(name_or_path, overrides=parse_settings(settings))
