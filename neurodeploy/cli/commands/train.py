"""Commands that train: train, run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from neurodeploy.cli import console
from neurodeploy.cli.commands.recipes import load_recipe
from neurodeploy.cli.option_groups import Panel
from neurodeploy.cli.options import GENERAL, AsJson, Settings
from neurodeploy.files import NET, RECIPE, REPORT, SUMMARY

if TYPE_CHECKING:
    from neurodeploy import pipeline
    from neurodeploy.learning.engine import TrainingEngine
    from neurodeploy.recipes.recipe import Recipe
    from neurodeploy.recipes.training_sections import PaperSection
    from neurodeploy.reports.report import AccuracyPoint


PANEL = Panel("Devices")
RECIPE_HELP = (
    "A recipe in TOML (`FILE.toml`, or `FILE.toml#VARIANT` for one of several in the file), or the "
    "name of a recipe listed by `neurodeploy recipes`."
)


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """The directory of the results, and changes to the recipe."""

    out: Path | None = GENERAL.option(
        None,
        "Directory for the results. Default: `runs/<recipe name>-<n>`.",
        metavar="DIR",
        name="--out -o",
    )
    set: Settings = None
    resume: bool = GENERAL.option(False, "Continue the interrupted run in --out.")

    def load_named(self, recipe: str, *settings: str) -> Recipe:
        """Load a recipe with further `key=value` pairs."""
        if self.resume and self.out is None:
            raise typer.BadParameter("--resume: which run? Name its directory with --out.")
        return load_recipe(recipe, [*(self.set or []), *settings])


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ResultOptions):
    """A recipe, and the directory of its results."""

    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)]


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(ResultOptions):
    """A recipe or the training of another run, and the directory of the results."""

    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)] = None
    source: Path | None = GENERAL.option(
        None,
        "Take the network that was trained in this run, and its recipe. With it, --set overrides "
        "keys that act after training, such as `quantization.weight_bits`.",
        name="--from",
        metavar="RUN",
    )

    def load(self) -> Recipe:
        """Load the recipe, or that of the run whose network is taken; just one must be named."""
        if (self.recipe is None) == (self.source is None):
            raise typer.BadParameter("Name either a RECIPE or a run (--from RUN).")
        if self.source is not None and self.resume:
            raise typer.BadParameter("--from trains nothing that --resume could continue.")
        if self.source is None:
            assert self.recipe is not None
            return self.load_named(self.recipe)
        from neurodeploy import pipeline

        return self.load_named(str(pipeline.find_run(self.source) / RECIPE))


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """The processors that train, and how they share the work."""

    accelerator: Literal["auto", "cpu", "gpu"] = PANEL.option(
        "auto", "`auto` uses GPUs if there are any."
    )
    devices: int | None = PANEL.option(
        None,
        "Processes on each node, one GPU each; neurodeploy starts them unless torchrun or SLURM "
        "does. Default: as many as the launcher started, else 1.",
        metavar="N",
    )
    nodes: int | None = PANEL.option(
        None,
        "Number of machines; start the command on each with torchrun or SLURM. Default: as many as "
        "the launcher uses, else 1.",
        metavar="N",
    )
    strategy: Literal["auto", "ddp"] = PANEL.option(
        "auto", "`ddp`: each process holds the whole network. `auto`: `ddp` for several processes."
    )
    precision: Literal["32", "bf16-mixed", "16-mixed"] = PANEL.option(
        "32", "Precision of convolutions. Neurons and batch norm always compute in float32."
    )
    accumulate: int | None = PANEL.option(
        None, "Compute each batch in N parts to save memory: `training.accumulate`.", metavar="N"
    )
    compile: bool | None = PANEL.option(
        None,
        "Compile blocks with torch.compile (`training.compile`). By default on CUDA only.",
        name="--compile/--no-compile",
    )

    def settings(self) -> list[str]:
        """Return the keys of the recipe that the options stand for, as `key=value`."""
        pairs = []
        if self.accumulate is not None:
            pairs.append(f"training.accumulate={self.accumulate}")
        if self.compile is not None:
            pairs.append(f"training.compile={str(self.compile).lower()}")
        return pairs

    def start_engine(self) -> TrainingEngine:
        """Start or join the processes that the options ask for."""
        from neurodeploy.learning.engine import Hardware, TrainingEngine

        # Set by torchrun. Processes that Fabric starts know WORLD_SIZE only, and the same options.
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        whole = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
        hardware = Hardware(
            accelerator=self.accelerator,
            devices=local if self.devices is None else self.devices,
            nodes=max(1, whole // local) if self.nodes is None else self.nodes,
            strategy=self.strategy,
            precision=self.precision,
        )
        return TrainingEngine(hardware)


def train(
    run: TrainOptions,
    devices: DeviceOptions,
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="Measure the accuracy on the test set once, at the end, and print the paper's "
            "figures with it if the recipe has any.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a spiking network with shortcut back-propagation.

    Example: `neurodeploy train digits --set training.epochs=5 --out runs/short`

    On eight GPUs of this machine: `neurodeploy train RECIPE --devices 8 --precision bf16-mixed`.
    Start it on several machines with torchrun or SLURM.
    """
    loaded = run.load_named(run.recipe, *devices.settings())
    from neurodeploy import pipeline

    engine = devices.start_engine()
    directory = engine.share(run.out or pipeline.next_run_directory(loaded.recipe.name))
    quiet = as_json or not engine.is_first
    with _resumable(directory), console.draw_stages(quiet=quiet) as observer:
        result = pipeline.train(
            loaded, directory, resume=run.resume, is_tested=test, observer=observer, engine=engine
        )
    if not engine.is_first:
        return
    epochs, kept = result.history.epochs, result.history.kept_epoch
    accuracy = epochs[kept - 1].validation_accuracy if epochs else None
    if as_json:
        console.print_json(
            {
                "directory": str(directory),
                "model": str(directory / pipeline.MODEL),
                "epoch": kept,
                "validation_accuracy": accuracy,
                "test_accuracy": None if result.test is None else result.test.accuracy,
            }
        )
        return
    if accuracy is not None:
        console.out.print(f"validation accuracy {accuracy:.2%} (epoch {kept})")
    if result.test is not None:
        console.out.print(f"test accuracy {result.test.accuracy:.2%}")
        if loaded.paper is not None:
            _print_targets(loaded.paper, accuracy=result.test.accuracy)
    console.out.print(f"trained network: {console.relative(directory / pipeline.MODEL)}")
    console.out.print(f"next: neurodeploy deploy {console.relative(directory)}")


def _print_targets(paper: PaperSection, *, accuracy: float) -> None:
    """Print the published accuracies beside a measured one, a share of 1."""
    for target in paper.targets:
        difference = 100 * accuracy - target.accuracy
        console.out.print(
            f"paper, {paper.text}, {target.place}: {target} % over {paper.trials} trials; "
            f"this run {difference:+.2f} points"
        )
    if paper.note:
        console.out.print(f"note: {paper.note}")


def run(recipe: PipelineOptions, as_json: AsJson = False) -> None:
    """Run the whole pipeline: train, deploy, simulate, verify on real Lava, report.

    Writes `network.net`, `report.html` and `summary.json` to the output directory.

    Example: `neurodeploy run digits`

    The same training with 4-bit weights: `neurodeploy run --from runs/digits-1 --set
    quantization.weight_bits=4`
    """
    loaded = recipe.load()
    from neurodeploy import pipeline

    directory = recipe.out or pipeline.next_run_directory(loaded.recipe.name)
    with _resumable(directory), console.draw_stages(quiet=as_json) as observer:
        result = pipeline.run(
            loaded,
            directory,
            resume=recipe.resume,
            source=recipe.source,
            observer=observer,
            command=console.command_line(),
        )
    if as_json:
        console.print_json(result.summary)
        return
    _print_summary(result, directory)


def _print_summary(result: pipeline.RunResult, directory: Path) -> None:
    from neurodeploy.reports.pages.tables import terminal

    console.out.print(f"deployed: {result.deployment.choice}")
    print_accuracy(result.accuracy)
    console.out.print(terminal(result.report))
    if result.verification is not None:
        console.out.print(
            f"real Lava on {result.verification.samples} samples: "
            f"{result.verification.comparison.describe()}, {result.verification.seconds:.0f} s"
        )
    for name in (NET, REPORT, SUMMARY):
        console.out.print(f"wrote {console.relative(directory / name)}")


def print_accuracy(points: Iterable[AccuracyPoint]) -> None:
    """Print the accuracy of each stage on the test part."""
    table = console.make_table("stage", "test accuracy", "note", title="Accuracy")
    for point in points:
        table.add_row(point.stage, f"{point.value:.2%}", f"{point.note} ({point.samples} samples)")
    console.out.print(table)


def _resumable(directory: Path) -> AbstractContextManager[None]:
    return console.resumable(
        directory / RECIPE,
        "Finished epochs are kept: to go on, repeat the command with --out "
        f"{console.relative(directory)} --resume.",
    )
