"""Commands that train and deploy: recipes, train, deploy, run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson
from neurodeploy.errors import RecipeError
from neurodeploy.fixedpoint import CURRENT_LIMIT, VOLTAGE_LIMIT
from neurodeploy.ir.fixed_layers import FixedConv, FixedDense, FixedLayer
from neurodeploy.recipe import Recipe
from neurodeploy.resources import recipes_path
from neurodeploy.target import Target

if TYPE_CHECKING:
    from neurodeploy import pipeline

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A recipe in TOML, or the name of one from `neurodeploy recipes`."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where results go; by default runs/<recipe name>-<n>."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the recipe: training.epochs=2."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted run in --out stopped.")
]
TargetOption = Annotated[
    str, typer.Option("--target", metavar="NAME", help="A target's name, or the path of its TOML.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(run)
    app.command()(train)
    app.command()(deploy)
    app.command()(recipes)


def recipes(as_json: AsJson = False) -> None:
    """List the recipes that come with neurodeploy.

    Example: `neurodeploy recipes`
    """
    found = [(path, Recipe.load(path)) for path in sorted(recipes_path().glob("*.toml"))]
    if as_json:
        console.print_json(
            [
                {"name": path.stem, "description": r.recipe.description, "path": str(path)}
                for path, r in found
            ]
        )
        return
    table = Table("name", "what it does", "file")
    for path, recipe in found:
        table.add_row(path.stem, recipe.recipe.description, console.relative(path))
    console.out.print(table)


def train(
    recipe: RecipeArgument,
    out: Out = None,
    set: Settings = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train a spiking network with shortcut back-propagation.

    Example: `neurodeploy train digits --set training.epochs=5 --out runs/short`
    """
    loaded = load_recipe(recipe, set)
    from neurodeploy import pipeline

    directory = _directory(loaded, out, resume=resume)
    with _observer(quiet=as_json) as observer:
        result = pipeline.train(loaded, directory, resume=resume, observer=observer)
    last = result.history.epochs[result.history.kept_epoch - 1] if result.history.epochs else None
    accuracy = last.validation_accuracy if last else None
    if as_json:
        console.print_json(
            {
                "directory": str(directory),
                "model": str(directory / pipeline.MODEL),
                "epoch": result.history.kept_epoch,
                "validation_accuracy": accuracy,
            }
        )
        return
    if accuracy is not None:
        console.out.print(f"validation accuracy {accuracy:.2%} (epoch {result.history.kept_epoch})")
    console.out.print(f"trained network: {console.relative(directory / pipeline.MODEL)}")
    console.out.print(f"next: neurodeploy deploy {console.relative(directory)}")


def deploy(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Directory of a training run, or its model file."),
    ],
    target: TargetOption = "loihi2",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the `.net` goes; by default beside the model."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a trained network into a `.net` file that stock lava-dl loads.

    Example: `neurodeploy deploy runs/digits-1 --target loihi2`
    """
    chip = Target.load(target)
    from neurodeploy import pipeline

    network, recipe = pipeline.load_model(model)
    directory = out or (model.parent if model.is_file() else model)
    with _observer(quiet=as_json) as observer:
        result = pipeline.deploy(network, recipe, directory, target=chip, observer=observer)
    if as_json:
        console.print_json(
            {
                "net": str(result.path),
                "record": str(directory / pipeline.NET_RECORD),
                "validation_accuracy": result.validation_accuracy,
                "scales": result.calibration.scales,
            }
        )
        return
    table = Table("layer", "scale", "weights", "current peak", "voltage peak", "spike rate")
    calibration = result.calibration
    for name, health, rate, layer in zip(
        calibration.graph.names,
        calibration.health,
        calibration.spike_rates,
        result.graph,
        strict=True,
    ):
        table.add_row(
            name,
            f"{calibration.scales[name]:.4g}",
            _weight_range(layer),
            f"{health.current_peak / CURRENT_LIMIT:.1%} of 24 bits",
            f"{health.voltage_peak / VOLTAGE_LIMIT:.1%} of 24 bits",
            f"{rate:.1%}",
        )
    console.out.print(table)
    for stage, accuracy in result.validation_accuracy.items():
        console.out.print(f"validation accuracy, {stage}: {accuracy:.2%}")
    console.out.print(f"network: {console.relative(result.path)}")


def _weight_range(layer: FixedLayer) -> str:
    weights = np.concatenate(
        [
            connection.synapse.weight.ravel()
            for connection in layer.connections
            if isinstance(connection.synapse, FixedConv | FixedDense)
        ]
    )
    return f"{weights.min()} to {weights.max()}"


def run(
    recipe: RecipeArgument,
    out: Out = None,
    set: Settings = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Do all of it: train, deploy, simulate, verify on real Lava, report.

    Leaves `network.net`, `report.html` and `summary.json` in the output directory.

    Example: `neurodeploy run digits`
    """
    loaded = load_recipe(recipe, set)
    from neurodeploy import pipeline

    directory = _directory(loaded, out, resume=resume)
    with _observer(quiet=as_json) as observer:
        result = pipeline.run(loaded, directory, resume=resume, observer=observer)
    if as_json:
        console.print_json(result.summary)
        return
    _print_summary(result, directory)


def _print_summary(result: pipeline.RunResult, directory: Path) -> None:
    from neurodeploy import pipeline
    from neurodeploy.cost.tables import terminal

    table = Table("stage", "test accuracy", "what it is", title="Accuracy", title_justify="left")
    for point in result.accuracy:
        table.add_row(point.stage, f"{point.value:.2%}", f"{point.note} ({point.samples} samples)")
    console.out.print(table)
    console.out.print(terminal(result.report))
    if result.verification is not None:
        console.out.print(
            f"real Lava: {result.verification.comparison.describe()} on "
            f"{result.verification.samples} samples, {result.verification.seconds:.0f} s"
        )
    for name in (pipeline.NET, pipeline.REPORT, pipeline.SUMMARY):
        console.out.print(f"wrote {console.relative(directory / name)}")


def load_recipe(name_or_path: str, settings: list[str] | None) -> Recipe:
    """Load a recipe by its path, or by the name of one that comes with neurodeploy.

    Raises:
        RecipeError: If there is none, or anything in it is not allowed.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.exists():
        path = recipes_path() / f"{name_or_path}.toml"
        if not path.exists():
            known = ", ".join(sorted(each.stem for each in recipes_path().glob("*.toml")))
            raise RecipeError(
                f"{name_or_path}: no such recipe. There are {known}; the path of a TOML file is "
                "allowed too."
            )
    return Recipe.load(path, overrides=console.parse_settings(settings or []))


def _directory(recipe: Recipe, out: Path | None, *, resume: bool) -> Path:
    from neurodeploy import pipeline

    if out is not None:
        return out
    if resume:
        raise RecipeError("--resume: which run? Name its directory with --out.")
    return pipeline.next_run_directory(recipe.recipe.name)


@contextmanager
def _observer(*, quiet: bool) -> Iterator[pipeline.Observer]:
    """Draw stages and their progress on standard error; plain lines where it is no terminal."""
    with console.progress_bar(quiet=quiet) as bar:
        yield _Drawing(bar, quiet=quiet)


class _Drawing:
    """One bar per stage."""

    def __init__(self, bar: Progress, *, quiet: bool) -> None:
        self._bar, self._quiet = bar, quiet
        self._task: TaskID | None = None

    def stage(self, name: str, note: str = "") -> None:
        """Begin a stage."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=None, note=note)
        if not self._quiet:
            console.err.print(f"[bold]{name}[/] {note}")

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Move the stage's bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
