"""Commands that train: train, run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from neurodeploy.cli import console
from neurodeploy.cli.commands.recipes import load_recipe
from neurodeploy.cli.options import AsJson
from neurodeploy.errors import TrainingError

if TYPE_CHECKING:
    from neurodeploy import pipeline
    from neurodeploy.learning.engine import Engine


# Options of training on several devices, and the engine they ask for.

PANEL = "Devices"

AcceleratorOption = Annotated[
    Literal["auto", "cpu", "gpu"],
    typer.Option(
        "--accelerator", help="`auto` takes GPUs where there are any.", rich_help_panel=PANEL
    ),
]
DevicesOption = Annotated[
    int | None,
    typer.Option(
        "--devices",
        metavar="N",
        help="Processes on each node, one GPU each; started here unless torchrun or SLURM does "
        "it. By default what the launcher started, else 1.",
        rich_help_panel=PANEL,
    ),
]
NodesOption = Annotated[
    int | None,
    typer.Option(
        "--nodes",
        metavar="N",
        help="Machines; start the command on each with torchrun or SLURM. By default what the "
        "launcher started, else 1.",
        rich_help_panel=PANEL,
    ),
]
StrategyOption = Annotated[
    Literal["auto", "ddp", "fsdp"],
    typer.Option(
        "--strategy",
        help="`ddp`: each process holds the whole network. `fsdp`: it is spread over the GPUs.",
        rich_help_panel=PANEL,
    ),
]
PrecisionOption = Annotated[
    Literal["32", "bf16-mixed", "16-mixed"],
    typer.Option(
        "--precision",
        help="Of convolutions; neurons and batch norm always compute in float32.",
        rich_help_panel=PANEL,
    ),
]
AccumulateOption = Annotated[
    int | None,
    typer.Option(
        "--accumulate",
        metavar="N",
        help="Compute each batch in N parts, to save memory: `training.accumulate`.",
        rich_help_panel=PANEL,
    ),
]

CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Run blocks through torch.compile, for GPUs: `training.compile`.",
        rich_help_panel=PANEL,
    ),
]


def start_engine(
    *,
    accelerator: Literal["auto", "cpu", "gpu"],
    devices: int | None,
    nodes: int | None,
    strategy: Literal["auto", "ddp", "fsdp"],
    precision: Literal["32", "bf16-mixed", "16-mixed"],
) -> Engine:
    """Start or join the processes that the options ask for.

    Raises:
        TrainingError: If they cannot be had.
    """
    from neurodeploy.learning.engine import Engine, Hardware

    # Set by torchrun. Processes that Fabric starts know WORLD_SIZE only, and the same options.
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    whole = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
    return Engine(
        Hardware(
            accelerator=accelerator,
            devices=local if devices is None else devices,
            nodes=max(1, whole // local) if nodes is None else nodes,
            strategy=strategy,
            precision=precision,
        )
    )


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


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(run)
    app.command()(train)


def train(
    recipe: RecipeArgument,
    out: Out = None,
    set: Settings = None,
    resume: Resume = False,
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="Measure the test part once, at the end; beside the paper's figure, if the recipe "
            "has one.",
        ),
    ] = False,
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
    require_training_part()
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
    with _resumable(directory), draw_stages(quiet=quiet) as observer:
        result = pipeline.train(
            loaded, directory, resume=resume, is_tested=test, observer=observer, engine=engine
        )
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
                "test_accuracy": None if result.test is None else result.test.accuracy,
            }
        )
        return
    if accuracy is not None:
        console.out.print(f"validation accuracy {accuracy:.2%} (epoch {result.history.kept_epoch})")
    if result.test is not None:
        targets = () if loaded.paper is None else loaded.paper.target
        paper = f"; the paper has {' or '.join(f'{value:.2f}' for value in targets)} %"
        console.out.print(f"test accuracy {result.test.accuracy:.2%}{paper if targets else ''}")
    console.out.print(f"trained network: {console.relative(directory / pipeline.MODEL)}")
    console.out.print(f"next: neurodeploy deploy {console.relative(directory)}")


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
    require_training_part()
    from neurodeploy import pipeline

    directory = out or pipeline.next_run_directory(loaded.recipe.name)
    with _resumable(directory), draw_stages(quiet=as_json) as observer:
        result = pipeline.run(
            loaded, directory, resume=resume, observer=observer, command=console.command_line()
        )
    if as_json:
        console.print_json(result.summary)
        return
    _print_summary(result, directory)


def _print_summary(result: pipeline.RunResult, directory: Path) -> None:
    from neurodeploy import pipeline
    from neurodeploy.reports.pages.tables import terminal

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


def require_training_part() -> None:
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
def draw_stages(*, quiet: bool) -> Iterator[pipeline.Observer]:
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
