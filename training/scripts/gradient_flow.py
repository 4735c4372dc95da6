"""Measure the first layer's gradient over depth and over training, with and without branches.

    python training/scripts/gradient_flow.py           everything: minutes on one core
    python training/scripts/gradient_flow.py --start   at initialisation only: seconds

The paper's gradient figure on the digits: |dL/dw| of every weight of the first convolution, for
residual networks of 20 and 34 layers (r20, r34) and a plain one of 20 (p20, initialisation only),
without branches, and with a branch per stage or per block. Protocol and settings:
training/recipes/digits_depth.toml; branches are those of eq. 10, λ = 0.25 falling to zero.

Initialisation: one batch of 128 training samples, several seeds. Training: one run each with seed
0; after every epoch the same batch is shown to a copy of the network in training mode, with the
weight λ that the branches have by then. |g| < 1e-4 counts as near zero.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

import neurodeploy as nd
from neurodeploy.files import replacing, write_text
from neurodeploy.learning.checkpoints import EpochRecord
from neurodeploy.learning.losses import combine_outputs, training_loss
from neurodeploy.learning.schedules import branch_weight_at
from neurodeploy.provenance import provenance

TRAINING = Path(__file__).parents[1]
RECIPE = TRAINING / "recipes" / "digits_depth.toml"
PACKAGES = ("torch", "numpy")
BATCH = 128
NEAR_ZERO = 1e-4
SMALLEST = 1e-9
"""Where an exact zero is drawn."""

NETWORKS = {
    "p20": {"architecture": "plain", "blocks": "[3, 3, 3]"},
    "r20": {"architecture": "residual", "blocks": "[3, 3, 3]", "alpha": "1.0"},
    "r34": {"architecture": "residual", "blocks": "[5, 5, 6]", "alpha": "1.0"},
}
TRAINED = ("r20", "r34")
BRANCHES = {
    "no branches": {"method": "vanilla"},
    "per stage": {"method": "evolutionary", "weight": "0.25", "after": "stage"},
    "per block": {"method": "evolutionary", "weight": "0.25", "after": "block"},
}
COLORS = {"no branches": "#7f7f7f", "per stage": "#d98c2b", "per block": "#2f6db5"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The first layer's gradient at one moment of one network.

    Attributes:
        network: Key of `NETWORKS`.
        branches: Key of `BRANCHES`.
        epoch: 0 before training.
        seeds: How many networks were measured.
        branch_weight: λ.
        mean: Of |g| over all weights and seeds.
        median: Of the same.
        near_zero: Share of |g| < 1e-4.
        magnitudes: All |g|.
        validation: Accuracy of the main output, in percent; None before training.
    """

    network: str
    branches: str
    epoch: int
    seeds: int
    branch_weight: float
    mean: float
    median: float
    near_zero: float
    magnitudes: tuple[float, ...]
    validation: float | None = None


def recipe(network: str, branches: str, *, seed: int, epochs: int | None = None) -> nd.Recipe:
    """Return the protocol with one network and placement of branches."""
    overrides = {
        "recipe.seed": str(seed),
        **{f"network.{key}": value for key, value in NETWORKS[network].items()},
        **{f"shortcut.{key}": value for key, value in BRANCHES[branches].items()},
    }
    if epochs is not None:
        overrides["training.epochs"] = str(epochs)
    return nd.Recipe.load(RECIPE, overrides=overrides)


def first_layer_gradient(
    network: nd.SpikingNetwork, settings: nd.Recipe, samples: nd.Dataset, *, branch_weight: float
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return |dL/dw| of the first layer's weights on one batch.

    Args:
        network: Left as it is.
        settings: Its recipe, for the loss.
        samples: The first 128 are used.
        branch_weight: λ.
    """
    measured = copy.deepcopy(network).train()
    indices = torch.arange(BATCH)
    labels = torch.from_numpy(samples.labels)[indices]
    main, branches = measured.forward_with_branches(samples.batch(indices))
    output = combine_outputs(main, branches, weight=branch_weight)
    loss = training_loss(output, labels, loss=settings.training.loss)
    weight = next(measured.blocks[next(iter(measured.blocks))].parameters())
    (gradient,) = torch.autograd.grad(loss, weight)
    return gradient.abs().flatten().numpy()


def summarize(
    values: list[np.ndarray[tuple[int], np.dtype[np.float32]]],
    *,
    network: str,
    branches: str,
    epoch: int,
    branch_weight: float,
    validation: float | None = None,
) -> Moment:
    """Bring the weights of all seeds together."""
    magnitudes = np.concatenate(values)
    return Moment(
        network=network,
        branches=branches,
        epoch=epoch,
        seeds=len(values),
        branch_weight=branch_weight,
        mean=float(magnitudes.mean()),
        median=float(np.median(magnitudes)),
        near_zero=float((magnitudes < NEAR_ZERO).mean()),
        magnitudes=tuple(float(f"{value:.4g}") for value in magnitudes),
        validation=validation,
    )


def at_start(network: str, branches: str, *, seeds: int) -> Moment:
    """Measure networks that have not been trained."""
    values = []
    weight = 0.0
    for seed in range(seeds):
        settings = recipe(network, branches, seed=seed)
        training, _, _ = nd.load_data(settings)
        shortcut = settings.shortcut
        # i = 0: λ has not fallen yet.
        weight = branch_weight_at(-1, 1, method=shortcut.method, weight=shortcut.weight)
        fresh = nd.SpikingNetwork.from_recipe(settings)
        values.append(first_layer_gradient(fresh, settings, training, branch_weight=weight))
    return summarize(values, network=network, branches=branches, epoch=0, branch_weight=weight)


def while_training(network: str, branches: str, *, epochs: int | None) -> Iterator[Moment]:
    """Train one network and measure it after every epoch."""
    settings = recipe(network, branches, seed=0, epochs=epochs)
    training, validation, _ = nd.load_data(settings)
    model = nd.SpikingNetwork.from_recipe(settings)
    moments: list[Moment] = []

    def measure(record: EpochRecord) -> None:
        weight = record.branch_weight
        values = first_layer_gradient(model, settings, training, branch_weight=weight)
        moments.append(
            summarize(
                [values],
                network=network,
                branches=branches,
                epoch=record.epoch,
                branch_weight=weight,
                validation=100 * record.validation_accuracy,
            )
        )

    trainer = nd.Trainer(settings.training, seed=0, shortcut=settings.shortcut, on_epoch=measure)
    trainer.fit(model, training, validation)
    yield from moments


# --- table and plot -------------------------------------------------------------------------


def markdown(moments: list[Moment], origin: str) -> str:
    """Return the tables as Markdown."""
    lines = ["# The first layer's gradient", "", origin, ""]
    lines += ["Ratio: mean |g| over that of the same network without branches, same epoch.", ""]
    last = max(moment.epoch for moment in moments)
    for epoch in sorted({0, 1, (last + 1) // 2, last}):
        chosen = [moment for moment in moments if moment.epoch == epoch]
        if not chosen:
            continue
        seeds = chosen[0].seeds
        title = f"At initialisation, {seeds} seeds" if epoch == 0 else f"After epoch {epoch}"
        lines += [f"## {title}", ""]
        lines.append(
            "| network | branches | λ | mean abs g | ratio | median | near zero | valid. % |"
        )
        lines.append("|---" * 8 + "|")
        lines += [_row(moment, moments) for moment in chosen]
        lines.append("")
    return "\n".join(lines)


def _row(moment: Moment, moments: list[Moment]) -> str:
    reference = next(
        other
        for other in moments
        if (other.network, other.epoch) == (moment.network, moment.epoch)
        and other.branches == "no branches"
    )
    ratio = f"{moment.mean / reference.mean:.2g}" if reference.mean else "none"
    accuracy = "" if moment.validation is None else f"{moment.validation:.1f}"
    return (
        f"| {moment.network} | {moment.branches} | {moment.branch_weight:.3g} "
        f"| {moment.mean:.2e} | {ratio} | {moment.median:.2e} | {moment.near_zero:.2f} "
        f"| {accuracy} |"
    )


def plot(moments: list[Moment], path: Path) -> None:
    """Draw distributions at initialisation, and median and near-zero share over training."""
    has_training = any(moment.epoch for moment in moments)
    networks = list(NETWORKS)
    figure = Figure(figsize=(11, 9 if has_training else 3.4), layout="constrained")
    panels = figure.subplots(3 if has_training else 1, len(networks), squeeze=False)
    for column, network in enumerate(networks):
        chosen = [moment for moment in moments if moment.network == network]
        _draw_start(panels[0, column], [each for each in chosen if each.epoch == 0], network)
        if not has_training:
            continue
        if network not in TRAINED:
            panels[1, column].set_axis_off()
            panels[2, column].set_axis_off()
            continue
        _draw_training(panels[1, column], panels[2, column], chosen, network)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw_start(axes: Axes, moments: list[Moment], network: str) -> None:
    edges = np.linspace(np.log10(SMALLEST), -1, 41)
    for moment in moments:
        logs = np.log10(np.maximum(moment.magnitudes, SMALLEST))
        counts, _ = np.histogram(logs, edges)
        axes.stairs(
            counts / counts.sum(),
            edges,
            color=COLORS[moment.branches],
            fill=True,
            alpha=0.35,
        )
        axes.stairs(
            counts / counts.sum(), edges, color=COLORS[moment.branches], label=moment.branches
        )
    axes.axvline(np.log10(NEAR_ZERO), color="black", linewidth=0.8, linestyle=":")
    axes.set_title(f"{network} at initialisation", loc="left", fontsize=10)
    axes.set_xlabel("log10 |g|, first layer (dotted: near zero)")
    axes.set_ylabel("share of weights")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_training(above: Axes, below: Axes, moments: list[Moment], network: str) -> None:
    for name, color in COLORS.items():
        rows = sorted(
            (each for each in moments if each.branches == name), key=lambda each: each.epoch
        )
        epochs = [row.epoch for row in rows]
        medians = [max(row.median, SMALLEST) for row in rows]
        above.semilogy(epochs, medians, color=color, label=name)
        below.plot(epochs, [row.near_zero for row in rows], color=color, label=name)
    above.set_title(f"{network}: median |g|, one run", loc="left", fontsize=10)
    below.set_title(f"{network}: share of |g| < 1e-4", loc="left", fontsize=10)
    below.set_ylim(-0.02, 1.02)
    for axes in (above, below):
        axes.set_xlabel("epoch")
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)


# --- command line ---------------------------------------------------------------------------


def main() -> None:
    """Measure, then write table and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--start", action="store_true", help="only at initialisation")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="at initialisation; 5")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the protocol's 25")
    parser.add_argument("--out", type=Path, default=TRAINING / "results", help="%(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    stamp = provenance(
        TRAINING, code=("neurodeploy", "training/recipes", "training/scripts"), packages=PACKAGES
    )
    moments: list[Moment] = []
    with Progress(console=Console(stderr=True)) as bar:
        runs = 0 if options.start else len(TRAINED) * len(BRANCHES)
        task = bar.add_task("at initialisation", total=1 + 10 * runs)
        for network in NETWORKS:
            for branches in BRANCHES:
                moments.append(at_start(network, branches, seeds=options.seeds))
        bar.advance(task)
        for network in TRAINED if runs else ():
            for branches in BRANCHES:
                bar.update(task, description=f"training {network}, {branches}")
                moments += while_training(network, branches, epochs=options.epochs)
                bar.advance(task, 10)
    seconds = time.perf_counter() - started
    command = shlex.join(["python", "training/scripts/gradient_flow.py", *sys.argv[1:]])
    versions = ", ".join(f"{name} {stamp[name]}" for name in ("python", *PACKAGES))
    origin = (
        f"Command: `{command}`. Commit {stamp['commit']}. {stamp['device']}, one thread; "
        f"{versions}. {seconds:.0f} s."
    )
    text = markdown(moments, origin)
    content = {
        "command": command,
        **stamp,
        "seconds": round(seconds, 1),
        "moments": [asdict(moment) for moment in moments],
    }
    name = "gradient_flow_start" if options.start else "gradient_flow"
    write_text(options.out / f"{name}.md", text)
    write_text(options.out / f"{name}.json", json.dumps(content) + "\n")
    plot(moments, options.out / f"{name}.png")
    print(text)
    print(
        f"written: {', '.join(str(options.out / f'{name}.{end}') for end in ('md', 'json', 'png'))}"
    )


if __name__ == "__main__":
    main()
