"""Commands that train and deploy: train, deploy, run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from neurodeploy.cli import console
from neurodeploy.cli.hardware import (
    AcceleratorOption,
    AccumulateOption,
    CompileOption,
    DevicesOption,
    NodesOption,
    PrecisionOption,
    StrategyOption,
    start_engine,
)
from neurodeploy.cli.options import AsJson, parse_settings
from neurodeploy.cli.recipes import load_recipe
from neurodeploy.errors import OutputError, TrainingError
from neurodeploy.fixedpoint import CURRENT_LIMIT, VOLTAGE_LIMIT
from neurodeploy.ir.fixed_layers import FixedConv, FixedDense, FixedLayer
from neurodeploy.target import Target

if TYPE_CHECKING:
    from neurodeploy import pipeline

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe in TOML (`FILE.toml`, or `FILE.toml#VARIANT` for one of several in a file), "
        "or the name of one from `neurodeploy recipes`.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where results go; by default `runs/<recipe name>-<n>`."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the recipe, as in `training.epochs=2`; may be repeated.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted run in --out stopped.")
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="The chip: a target's name, or the path of its TOML; by default the recipe's.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(run)
    app.command()(train)
    app.command()(deploy)


def train(
    recipe: RecipeArgument,
    out: Out = None,
    set: Settings = None,
    resume: Resume = False,
    as_json: AsJson = False,
    accelerator: AcceleratorOption = "auto",
    devices: DevicesOption = None,
    nodes: NodesOption = None,
    strategy: StrategyOption = "auto",
    precision: PrecisionOption = "32",
    accumulate: AccumulateOption = None,
    compile: CompileOption = False,
) -> None:
    """Train a spiking network with shortcut back-propagation.

    Example: `neurodeploy train digits --set training.epochs=5 --out runs/short`

    On eight GPUs of this machine: `neurodeploy train RECIPE --devices 8 --precision bf16-mixed`.
    Several machines are started with torchrun or SLURM.
    """
    _require_named(out, resume=resume)
    if accumulate is not None:
        set = [*(set or []), f"training.accumulate={accumulate}"]
    if compile:
        set = [*(set or []), "training.compile=true"]
    loaded = load_recipe(recipe, set)
    _require_training_part()
    from neurodeploy import pipeline

    engine = start_engine(
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        precision=precision,
    )
    directory = engine.share(out or pipeline.next_run_directory(loaded.recipe.name))
    quiet = as_json or not engine.is_first
    with _resumable(directory), _observer(quiet=quiet) as observer:
        result = pipeline.train(loaded, directory, resume=resume, observer=observer, engine=engine)
    if not engine.is_first:
        return
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
    target: TargetOption = None,
    set: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the `.net` goes; by default beside the model."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a trained network into a `.net` file that stock lava-dl loads.

    Also leaves `samples.npz`, test samples to try it on. What an earlier deployment left is
    replaced.

    Example: `neurodeploy deploy runs/digits-1 --target loihi2`
    """
    settings = parse_settings(set)
    if target is not None:
        Target.load(target)
        settings["quantization.target"] = json.dumps(target)
    _require_training_part()
    from neurodeploy import pipeline

    network, recipe = pipeline.load_model(model, overrides=settings)
    directory = out or pipeline.find_run(model)
    if (directory / pipeline.SUMMARY).exists():
        raise OutputError(
            f"{directory}: holds a whole run, whose report would no longer be about its network. "
            "Name another directory (--out)."
        )
    with _observer(quiet=as_json) as observer:
        result = pipeline.deploy(network, recipe, directory, observer=observer)
    if as_json:
        console.print_json(
            {
                "net": str(result.path),
                "record": str(directory / pipeline.NET_RECORD),
                "samples": str(result.samples),
                "target": recipe.quantization.target,
                "deployed": result.choice,
                "validation_accuracy": result.validation_accuracy,
                "weight_bits": result.weight_bits,
                "scales": result.calibration.scales,
                "steps": [dataclasses.asdict(step) for step in result.steps],
                "agreement": [dataclasses.asdict(entry) for entry in result.agreement],
                "relays": [dataclasses.asdict(cost) for cost in result.relay_costs],
                "pruning": None if result.pruning is None else dataclasses.asdict(result.pruning),
                "fit": None if result.fit is None else result.fit.to_dict(),
            }
        )
        return
    _print_deployment(result)
    console.out.print(f"deployed: {result.choice}")
    net, samples = console.relative(result.path), console.relative(result.samples)
    console.out.print(f"network: {net}, for {recipe.quantization.target}")
    console.out.print(f"next: neurodeploy verify {net} --input {samples}")


def _print_deployment(result: pipeline.Deployment) -> None:
    from neurodeploy import pipeline

    steps = Table("step", "what it did", title="Deployment", title_justify="left")
    for step in result.steps:
        steps.add_row(step.name, step.result)
    console.out.print(steps)
    calibration = result.calibration
    layers = Table(
        "layer",
        title="Integers",
        title_justify="left",
        caption="Peaks of the calibration samples, of what 24 bits hold.",
        caption_justify="left",
    )
    for name in ("scale", "weights", "current peak", "voltage peak", "wraps", "clips"):
        layers.add_column(name, justify="right")
    agreement = Table(
        "layer",
        title="Agreement on the calibration samples",
        title_justify="left",
        caption="Share of neurons and steps in which the integers spike as the floats do; the file "
        "differs from the integers nowhere.",
        caption_justify="left",
    )
    for name in ("spike rate", "quantized", "deployed", "file differs"):
        agreement.add_column(name, justify="right")
    for health, entry, layer in zip(
        calibration.health, result.agreement, result.graph, strict=True
    ):
        layers.add_row(
            entry.name,
            f"{calibration.scales[entry.name]:.4g}",
            _weight_range(layer),
            f"{health.current_peak / CURRENT_LIMIT:.1%}",
            f"{health.voltage_peak / VOLTAGE_LIMIT:.1%}",
            str(entry.current_wraps),
            str(entry.voltage_clips),
        )
        agreement.add_row(
            entry.name,
            f"{entry.rate:.1%}",
            "-" if entry.quantized is None else f"{entry.quantized:.3%}",
            "-" if entry.deployed is None else f"{entry.deployed:.3%}",
            str(entry.file_differing),
        )
    console.out.print(layers)
    console.out.print(agreement)
    parting = pipeline.first_difference(result.agreement)
    if parting is not None:
        console.out.print(f"floats and integers part first in {parting}")
    if result.relay_costs:
        relays = Table("layer", title="Relay channels", title_justify="left")
        for name in ("channels", "neurons", "weights added", "relay weight", "threshold"):
            relays.add_column(name, justify="right")
        for cost in result.relay_costs:
            relays.add_row(
                cost.layer,
                *(f"{n:,}" for n in (cost.channels, cost.neurons, cost.weights)),
                str(cost.relay_weight),
                str(cost.threshold),
            )
        console.out.print(relays)


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
    _require_named(out, resume=resume)
    loaded = load_recipe(recipe, set)
    _require_training_part()
    from neurodeploy import pipeline

    directory = out or pipeline.next_run_directory(loaded.recipe.name)
    with _resumable(directory), _observer(quiet=as_json) as observer:
        result = pipeline.run(
            loaded, directory, resume=resume, observer=observer, command=console.command_line()
        )
    if as_json:
        console.print_json(result.summary)
        return
    _print_summary(result, directory)


def _print_summary(result: pipeline.RunResult, directory: Path) -> None:
    from neurodeploy import pipeline
    from neurodeploy.cost.tables import terminal

    console.out.print(f"deployed: {result.deployment.choice}")
    table = Table("stage", "test accuracy", "what it is", title="Accuracy", title_justify="left")
    for point in result.accuracy:
        table.add_row(point.stage, f"{point.value:.2%}", f"{point.note} ({point.samples} samples)")
    console.out.print(table)
    console.out.print(terminal(result.report))
    if result.verification is not None:
        console.out.print(
            f"real Lava on {result.verification.samples} samples: "
            f"{result.verification.comparison.describe()}, {result.verification.seconds:.0f} s"
        )
    for name in (pipeline.NET, pipeline.REPORT, pipeline.SUMMARY):
        console.out.print(f"wrote {console.relative(directory / name)}")


def _require_training_part() -> None:
    """Import what needs torch, and say so if that is not installed.

    Raises:
        TrainingError: If the packages that training needs are not installed.
    """
    try:
        import_module("neurodeploy.pipeline")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("neurodeploy"):
            raise
        raise TrainingError(
            f"training needs the package '{error.name}', which is not installed. Install "
            "neurodeploy with its training part: pip install 'neurodeploy[train]'."
        ) from error


def _require_named(out: Path | None, *, resume: bool) -> None:
    """Check that a run to be resumed is named.

    Raises:
        typer.BadParameter: If it is not.
    """
    if resume and out is None:
        raise typer.BadParameter("--resume: which run? Name its directory with --out.")


@contextmanager
def _resumable(directory: Path) -> Iterator[None]:
    """Say how to go on after an interruption.

    Raises:
        console.RunInterruptedError: In place of `KeyboardInterrupt`, once there is something to
            go on with.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not (directory / "recipe.toml").exists():
            raise
        raise console.RunInterruptedError(
            "interrupted. Every finished epoch is kept; to go on, give the same command with "
            f"--out {console.relative(directory)} --resume."
        ) from None


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
