"""Compare methods, depths, optimizers and branch placements on the digits; table and plot.

    python training/scripts/ablation.py --core       the claim itself, in minutes
    python training/scripts/ablation.py --additions  schedules and losses of ours on deep nets
    python training/scripts/ablation.py              everything, additions included
    python training/scripts/ablation.py --list       what would run, and how long it takes

Interrupt it whenever you like: every finished run is kept as one file, and the same command goes
on where it stopped. `--tables` writes table and plot from finished runs and runs nothing.

Protocol: training/recipes/digits_depth.toml. Networks of 8, 16, 32 channels: p14 and p20 are
plain, [2, 2, 2] and [3, 3, 3] blocks of two convolutions; r20 and r34 are residual, [3, 3, 3] and
[5, 5, 6]. Methods:

    vanilla       no branches
    shortcut      eq. 6 of the paper: o = sum of all b_l, that is λ = 1, constant
    constant      o = b_n + 0.25 · (sum of the other b_l), constant
    evolutionary  eq. 10 of the paper: the same with λ = 0.25 falling linearly to zero

Accuracies are of the main output alone, after the last epoch. 15 % of the training part are held
out, and whatever is chosen is chosen there; the test part is reported beside it.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import shlex
import signal
import statistics
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

import neurodeploy as nd
from neurodeploy.files import replacing, write_text
from neurodeploy.provenance import provenance
from neurodeploy.simulation.long_runs.engines import Crew, open_pool

RECIPE = Path(__file__).parents[1] / "recipes" / "digits_depth.toml"
RESULTS = Path(__file__).parents[1] / "results"
CODE = ("neurodeploy", "training/recipes", "training/scripts")
"""What a result depends on."""
COMMAND = shlex.join(["python", "training/scripts/ablation.py", *sys.argv[1:]])
PACKAGES = ("torch", "numpy")
Result = dict[str, object]

NETWORKS = {
    "p14": {"architecture": "plain", "blocks": "[2, 2, 2]"},
    "p20": {"architecture": "plain", "blocks": "[3, 3, 3]"},
    "r20": {"architecture": "residual", "blocks": "[3, 3, 3]", "alpha": "1.0"},
    "r34": {"architecture": "residual", "blocks": "[5, 5, 6]", "alpha": "1.0"},
}
OPTIMIZERS = {
    "sgd": {"optimizer": "sgd", "learning_rate": "0.1"},
    "adamw": {"optimizer": "adamw", "learning_rate": "2e-3"},
}
SECONDS = {"p14": 30.0, "p20": 45.0, "r20": 40.0, "r34": 75.0}
"""Seconds of a run on one core, for estimates until one has been measured."""

METHODS = {
    "vanilla": {"method": "vanilla"},
    "shortcut, stage": {"method": "shortcut", "weight": "1.0", "after": "stage"},
    "shortcut, block": {"method": "shortcut", "weight": "1.0", "after": "block"},
    "constant 0.25, stage": {"method": "shortcut", "weight": "0.25", "after": "stage"},
    "constant 0.25, block": {"method": "shortcut", "weight": "0.25", "after": "block"},
    "evolutionary, stage": {"method": "evolutionary", "weight": "0.25", "after": "stage"},
    "evolutionary, block": {"method": "evolutionary", "weight": "0.25", "after": "block"},
}
ADDITIONS = {
    "evolutionary from 1, stage": {"method": "evolutionary", "weight": "1.0", "after": "stage"},
    "evolutionary from 1, block": {"method": "evolutionary", "weight": "1.0", "after": "block"},
    "separate losses, stage": {
        "method": "evolutionary",
        "weight": "1.0",
        "after": "stage",
        "loss": "separate",
    },
    "separate losses, block": {
        "method": "evolutionary",
        "weight": "1.0",
        "after": "block",
        "loss": "separate",
    },
    "separate losses cosine, block": {
        "method": "evolutionary",
        "weight": "1.0",
        "schedule": "cosine",
        "after": "block",
        "loss": "separate",
    },
}
"""Ours, not the paper's: a larger first λ, and L(b_n) + λ Σ L(b_l) in place of one loss of the sum.
λ falls to zero in all, linearly or along half a cosine."""

CORE_METHODS = ("vanilla", "evolutionary, block")
ADDITION_NETWORKS = ("p20", "r20", "r34")


# --- what to run ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        network: Key of `NETWORKS`.
        optimizer: Key of `OPTIMIZERS`.
        method: Key of `METHODS` or `ADDITIONS`.
        seed: Of weights, order and validation split.
        epochs: None for the protocol's.
    """

    network: str
    optimizer: str
    method: str
    seed: int
    epochs: int | None = None

    @property
    def name(self) -> str:
        """Name of its file."""
        method = self.method.replace(", ", "_").replace(" ", "_")
        return f"{self.network}-{self.optimizer}-{method}-seed{self.seed}"

    def overrides(self) -> dict[str, str]:
        """Return the keys of the protocol's recipe that this run changes."""
        method = (METHODS | ADDITIONS)[self.method]
        overrides = {
            "recipe.name": f'"{self.name}"',
            "recipe.seed": str(self.seed),
            **{f"network.{key}": value for key, value in NETWORKS[self.network].items()},
            **{f"training.{key}": value for key, value in OPTIMIZERS[self.optimizer].items()},
            **{f"shortcut.{key}": value for key, value in method.items()},
        }
        if self.epochs is not None:
            overrides["training.epochs"] = str(self.epochs)
        return overrides

    def digest(self) -> str:
        """Return a short name of all that the run depends on, but the code."""
        protocol = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
        content = json.dumps([protocol, self.overrides()], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def plan(options: argparse.Namespace) -> list[Run]:
    """Return the runs that the options ask for, whole comparisons early."""
    new = functools.partial(Run, epochs=options.epochs)
    optimizers = ("sgd",) if options.core else tuple(OPTIMIZERS)
    methods = CORE_METHODS if options.core else tuple(METHODS)
    ours = (*CORE_METHODS, *ADDITIONS) if options.additions else tuple(ADDITIONS)
    runs: list[Run] = []
    for seed in range(options.seeds):
        if not options.additions:
            runs += [
                new(network=network, optimizer=optimizer, method=method, seed=seed)
                for optimizer in optimizers
                for network in NETWORKS
                for method in methods
            ]
        if not options.core:
            runs += [
                new(network=network, optimizer="sgd", method=method, seed=seed)
                for network in ADDITION_NETWORKS
                for method in ours
            ]
    return runs


# --- running --------------------------------------------------------------------------------


def train_alone(_: Path, run: Run) -> tuple[Run, Result]:
    """Train one network on one thread, whichever process computes it."""
    torch.set_num_threads(1)
    return run, train(run)


def train(run: Run) -> Result:
    """Train one network in this process; accuracies in percent."""
    recipe = nd.Recipe.load(RECIPE, overrides=run.overrides())
    started, cpu_started = time.perf_counter(), time.process_time()
    training, validation, test = nd.load_data(recipe)
    network = nd.SpikingNetwork.from_recipe(recipe)
    history = nd.Trainer(recipe.training, seed=recipe.recipe.seed, shortcut=recipe.shortcut).fit(
        network, training, validation
    )
    return {
        "run": run.name,
        "network": run.network,
        "optimizer": run.optimizer,
        "method": run.method,
        "seed": run.seed,
        "epochs": recipe.training.epochs,
        "recipe": run.digest(),
        "validation": 100 * nd.evaluate(network, validation).accuracy,
        "test": 100 * nd.evaluate(network, test).accuracy,
        "validation_by_epoch": [100 * epoch.validation_accuracy for epoch in history.epochs],
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
    }


def finished(run: Run, folder: Path) -> Result | None:
    """Return the result of an earlier run, if its settings are those of today."""
    path = folder / f"{run.name}.json"
    if not path.is_file():
        return None
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    return result if result["recipe"] == run.digest() else None


def run_all(runs: Sequence[Run], folder: Path, *, workers: int) -> None:
    """Train what is missing, in processes of one thread each; keep every result as a file."""
    missing = [run for run in runs if finished(run, folder) is None]
    console = Console(stderr=True)
    console.print(f"{len(runs) - len(missing)} of {len(runs)} runs are finished already")
    stamp = provenance(Path(__file__).parent, code=CODE, packages=PACKAGES)
    seconds = estimates(runs, folder)
    total = sum(seconds[run.network] for run in missing)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=console, speed_estimate_period=3600) as bar,
        open_pool(Crew(workers=workers), folder) as pool,
    ):
        task = bar.add_task(f"0 of {len(missing)} runs", total=total)
        for number, (run, result) in enumerate(pool.run(train_alone, missing), 1):
            text = json.dumps(result | stamp, indent=1) + "\n"
            write_text(folder / f"{run.name}.json", text)
            bar.advance(task, seconds[run.network])
            bar.update(task, description=f"{number} of {len(missing)} runs")
            bar.console.print(
                f"{run.network} {run.optimizer} {run.method} seed {run.seed}: validation "
                f"{result['validation']:.1f} %, test {result['test']:.1f} %, "
                f"{result['seconds']} s"
            )


def estimates(runs: Sequence[Run], folder: Path) -> dict[str, float]:
    """Return seconds of a run on one core, by network; measured ones where there are some."""
    seconds = dict(SECONDS)
    for network in NETWORKS:
        results = [finished(run, folder) for run in runs if run.network == network]
        measured = [float(str(result["seconds"])) for result in results if result]
        if measured:
            seconds[network] = statistics.mean(measured)
    return seconds


# --- table and plot -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What the seeds of one network, optimizer and method give, in percent.

    Attributes:
        test: By seed.
        validation: By seed.
        cpu_seconds: Mean CPU time of a run.
    """

    test: tuple[float, ...]
    validation: tuple[float, ...]
    cpu_seconds: float

    def text(self, values: tuple[float, ...]) -> str:
        """Return mean ± standard deviation over seeds."""
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"


Key = tuple[str, str, str]
"""Optimizer, method, network."""


def cells(results: Sequence[Result]) -> dict[Key, Cell]:
    """Bring the seeds together."""
    groups: dict[Key, list[Result]] = {}
    for result in results:
        key = (str(result["optimizer"]), str(result["method"]), str(result["network"]))
        groups.setdefault(key, []).append(result)
    return {
        key: Cell(
            test=tuple(float(str(result["test"])) for result in group),
            validation=tuple(float(str(result["validation"])) for result in group),
            cpu_seconds=statistics.mean(float(str(result["cpu_seconds"])) for result in group),
        )
        for key, group in groups.items()
    }


def markdown(found: dict[Key, Cell], results: Sequence[Result]) -> str:
    """Return the tables as Markdown."""
    lines = ["# Ablation of shortcut back-propagation on the digits", ""]
    lines += [*_origin(results), ""]
    for optimizer in OPTIMIZERS:
        for title, methods in (("", METHODS), (", additions of ours", ADDITIONS)):
            rows = [name for name in methods if (optimizer, name) in {key[:2] for key in found}]
            if not rows:
                continue
            for part in ("test", "validation"):
                lines += [f"## {optimizer}{title}: {part} accuracy, %", ""]
                lines += [f"| method | {' | '.join(NETWORKS)} |", "|---" * 5 + "|"]
                lines += [
                    f"| {method} | "
                    + " | ".join(
                        _entry(found, (optimizer, method, name), part) for name in NETWORKS
                    )
                    + " |"
                    for method in rows
                ]
                lines.append("")
    return "\n".join(lines)


def _entry(found: dict[Key, Cell], key: Key, part: str) -> str:
    cell = found.get(key)
    if cell is None:
        return "not run"
    values = cell.test if part == "test" else cell.validation
    return f"{cell.text(values)} (n = {len(values)})"


def _origin(results: Sequence[Result]) -> list[str]:
    def all_of(key: str) -> str:
        return ", ".join(sorted({str(result[key]) for result in results}))

    wall, cpu = (
        sum(float(str(result[key])) for result in results) / 60
        for key in ("seconds", "cpu_seconds")
    )
    return [
        f"Command: `{COMMAND}`. Commit {all_of('commit')}. {all_of('device')}, one thread a run; "
        f"torch {all_of('torch')}, Python {all_of('python')}.",
        f"{len(results)} runs of {all_of('epochs')} epochs, {cpu:.1f} minutes of CPU time in all "
        f"({wall:.1f} minutes of wall time, added up). Accuracy of the main output after the last "
        "epoch, mean ± standard deviation over seeds. shortcut: eq. 6, all outputs added up; "
        "constant 0.25: branches count 0.25 throughout; evolutionary: eq. 10, from 0.25 to zero; a "
        "branch per stage or per block.",
    ]


def plot(found: dict[Key, Cell], path: Path) -> None:
    """Draw test accuracy by network; a bar for the mean, a dot for each seed."""
    optimizers = [name for name in OPTIMIZERS if any(key[0] == name for key in found)]
    figure = Figure(figsize=(11, 0.8 + 3.2 * len(optimizers)), layout="constrained")
    panels = figure.subplots(len(optimizers), 1, squeeze=False)[:, 0]
    names = [*METHODS, *ADDITIONS]
    styles = _styles()
    for optimizer, axes in zip(optimizers, panels, strict=True):
        methods = [name for name in names if (optimizer, name) in {key[:2] for key in found}]
        width = 0.84 / len(methods)
        for place, method in enumerate(methods):
            first, title = True, f"{method}{' (ours)' if method in ADDITIONS else ''}"
            for column, network in enumerate(NETWORKS):
                cell = found.get((optimizer, method, network))
                if cell is None:
                    continue
                x = column + (place - (len(methods) - 1) / 2) * width
                color, hatch = styles[method]
                axes.bar(
                    x,
                    statistics.mean(cell.test),
                    0.9 * width,
                    color=color,
                    hatch=hatch,
                    edgecolor="white",
                    label=title if first else None,
                )
                axes.plot([x] * len(cell.test), cell.test, ".", color="black", markersize=4)
                first = False
        axes.set_xticks(range(len(NETWORKS)), list(NETWORKS))
        axes.set_ylim(0, 105)
        axes.set_ylabel("test accuracy, %")
        axes.set_title(
            f"{optimizer}: mean (bar) and every seed (dots); dotted: chance",
            loc="left",
            fontsize=10,
        )
        axes.axhline(10, color="gray", linewidth=0.8, linestyle=":")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _styles() -> dict[str, tuple[str, str]]:
    """Return colour and hatching of each method; branches per block are hatched."""
    colors = {
        "vanilla": "#7f7f7f",
        "shortcut": "#d98c2b",
        "constant 0.25": "#5aa469",
        "evolutionary": "#2f6db5",
        "evolutionary from 1": "#8a5fb0",
        "separate losses": "#3fb0ac",
        "separate losses cosine": "#c0504d",
    }
    styles = {}
    for method in (*METHODS, *ADDITIONS):
        base, _, after = method.rpartition(", ")
        styles[method] = (colors[base or after], "///" if after == "block" else "")
    return styles


def _deviation(values: Sequence[float]) -> float | None:
    return round(statistics.stdev(values), 2) if len(values) > 1 else None


def write_results(results: Sequence[Result], folder: Path, *, name: str) -> None:
    """Write JSON, Markdown and plot."""
    found = cells(results)
    table = [
        {
            "optimizer": optimizer,
            "method": method,
            "network": network,
            "is_addition": method in ADDITIONS,
            "n": len(cell.test),
            "test_mean": round(statistics.mean(cell.test), 2),
            "test_std": _deviation(cell.test),
            "validation_mean": round(statistics.mean(cell.validation), 2),
            "validation_std": _deviation(cell.validation),
            "cpu_seconds_mean": round(cell.cpu_seconds, 1),
        }
        for (optimizer, method, network), cell in found.items()
    ]
    content = {"command": COMMAND, "table": table, "runs": list(results)}
    text = markdown(found, results)
    write_text(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
    write_text(folder / f"{name}.md", text)
    plot(found, folder / f"{name}.png")
    print(text)
    print(f"written: {', '.join(str(folder / f'{name}.{end}') for end in ('md', 'json', 'png'))}")


# --- command line ---------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--core",
        action="store_true",
        help="SGD; vanilla and evolutionary with a branch per block; all four networks",
    )
    which.add_argument(
        "--additions",
        action="store_true",
        help="only our own methods, and what they are compared with, on p20, r20 and r34",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N-1; 3")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes; 2")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the protocol's 25")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/ablation"), help="finished runs; %(default)s"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="tables; training/results")
    parser.add_argument("--list", action="store_true", help="show the runs, run nothing")
    parser.add_argument("--tables", action="store_true", help="tables of finished runs only")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, then write table and plot."""
    options = parse()
    runs = plan(options)
    if options.list:
        seconds = estimates(runs, options.runs)
        for run in runs:
            done = "finished" if finished(run, options.runs) else f"{seconds[run.network]:.0f} s"
            print(f"{run.name}: {done}")
        missing = [run for run in runs if not finished(run, options.runs)]
        left = sum(seconds[run.network] for run in missing) / options.workers
        print(f"{len(missing)} of {len(runs)} runs to do, about {left / 60:.0f} minutes")
        return
    if not options.tables:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            run_all(runs, options.runs, workers=options.workers)
        except KeyboardInterrupt:
            sys.exit("interrupted. Finished runs are kept; the same command goes on.")
    results = [result for run in runs if (result := finished(run, options.runs))]
    if not results:
        sys.exit(f"{options.runs}: no finished run of these settings. Leave out --tables.")
    name = "ablation_core" if options.core else "ablation"
    write_results(results, options.out, name="ablation_additions" if options.additions else name)


if __name__ == "__main__":
    main()
