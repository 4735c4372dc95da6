"""The command that deploys: deploy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from neurodeploy.chips.target import Target
from neurodeploy.cli import console
from neurodeploy.cli.commands.train import (
    Settings,
    draw_stages,
    require_training_part,
)
from neurodeploy.cli.options import AsJson, parse_settings
from neurodeploy.errors import OutputError
from neurodeploy.fixedpoint import CURRENT_LIMIT, VOLTAGE_LIMIT
from neurodeploy.ir.integer_layers import (
    FixedConv,
    FixedDense,
    FixedLayer,
)

if TYPE_CHECKING:
    from neurodeploy import pipeline

TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="The chip: a target's name, or the path of its TOML; by default the recipe's.",
    ),
]
PruneOption = Annotated[
    float | None,
    typer.Option(
        "--prune",
        metavar="SHARE",
        help="Take out this share of the weights, smallest first, before the fine-tune; "
        "`pruning.scope` says whether of all layers together.",
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        "--prune-pattern", metavar="N:M", help="Keep the N largest of every M inputs instead."
    ),
]
ChannelsOption = Annotated[
    float | None,
    typer.Option(
        "--prune-channels",
        metavar="SHARE",
        help="Take out this share of each layer's channels, weakest first; the layers shrink.",
    ),
]
BitsOption = Annotated[
    int | None,
    typer.Option("--weight-bits", metavar="BITS", help="Of the weights, 2 to 8."),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--accuracy-budget",
        metavar="SHARE",
        help="Take the fewest bits that cost at most this much validation accuracy; 0.01 is one "
        "point.",
    ),
]
LavaOption = Annotated[
    int,
    typer.Option(
        "--lava",
        min=0,
        metavar="SAMPLES",
        help="Compare so many of the calibration samples with real Lava as well.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(deploy)


def deploy(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Directory of a training run, or its model file."),
    ],
    target: TargetOption = None,
    prune: PruneOption = None,
    prune_pattern: PatternOption = None,
    prune_channels: ChannelsOption = None,
    weight_bits: BitsOption = None,
    accuracy_budget: BudgetOption = None,
    lava: LavaOption = 0,
    set: Settings = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the `.net` goes; by default beside the model."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a trained network into a `.net` file that stock lava-dl loads.

    Prints what each step did, writes the file and `network.json` with all that went into it, and
    verifies it on the calibration samples before it puts it in its place. Also leaves
    `samples.npz`, test samples to try it on. What an earlier deployment left is replaced.

    Example: `neurodeploy deploy runs/digits-1 --target loihi2 --lava 8`

    Pruned, and as few bits as cost at most one point: `neurodeploy deploy runs/digits-1 --prune 0.7
    --accuracy-budget 0.01 --set quantization.fine_tune_epochs=6`
    """
    settings = _settings(
        target=target,
        prune=prune,
        prune_pattern=prune_pattern,
        prune_channels=prune_channels,
        weight_bits=weight_bits,
        accuracy_budget=accuracy_budget,
    ) | parse_settings(set)
    if target is not None:
        Target.load(target)
    require_training_part()
    from neurodeploy import pipeline

    network, recipe = pipeline.load_model(model, overrides=settings)
    directory = out or pipeline.find_run(model)
    if (directory / pipeline.SUMMARY).exists():
        raise OutputError(
            f"{directory}: holds a whole run, whose report would no longer be about its network. "
            "Name another directory (--out)."
        )
    with draw_stages(quiet=as_json) as observer:
        result = pipeline.deploy(network, recipe, directory, lava_samples=lava, observer=observer)
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
                "skip_bits": result.calibration.skip_bits,
                "relaying": (
                    None if result.relaying is None else dataclasses.asdict(result.relaying)
                ),
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


def _settings(
    *,
    target: str | None,
    prune: float | None,
    prune_pattern: str | None,
    prune_channels: float | None,
    weight_bits: int | None,
    accuracy_budget: float | None,
) -> dict[str, str]:
    """Return the keys of the recipe that the options stand for."""
    settings: dict[str, str] = {}
    if target is not None:
        settings["quantization.target"] = json.dumps(target)
    if prune is not None:
        settings["pruning.sparsity"] = str(prune)
    if prune_pattern is not None:
        settings["pruning.pattern"] = json.dumps(prune_pattern)
    if prune is not None or prune_pattern is not None:
        settings["pruning.schedule"] = json.dumps("one_shot")
    if prune_channels is not None:
        settings["pruning.channels"] = str(prune_channels)
    if weight_bits is not None:
        settings["quantization.weight_bits"] = str(weight_bits)
    if accuracy_budget is not None:
        settings["quantization.accuracy_budget"] = str(accuracy_budget)
    return settings


def _print_deployment(result: pipeline.Deployment) -> None:
    from neurodeploy import pipeline

    steps = Table("step", "what it did", title="Deployment", title_justify="left")
    for step in result.steps:
        steps.add_row(step.name, step.result)
    console.out.print(steps)
    calibration = result.calibration
    layers = _layer_table(
        result,
        "Integers",
        "Peaks of currents u and voltages v on the calibration samples, of what 24 bits hold. Bits "
        "lost: weight precision that skip connections cost.",
    )
    for name in ("scale", "bits lost", "weights", "u peak", "v peak", "out of range"):
        layers.add_column(name, justify="right", no_wrap=name == "weights")
    agreement = _layer_table(
        result,
        "Agreement on the calibration samples",
        "Share of neurons and steps in which the integers spike as the floats do; the file "
        "differs from the integers nowhere.",
    )
    has_lava = result.agreement[0].lava_differing is not None
    columns = ["spike rate", "quantized", "deployed", "file differs"]
    for name in columns + ["Lava differs"] * has_lava:
        agreement.add_column(name, justify="right")
    for health, entry, layer in zip(
        calibration.health, result.agreement, result.graph, strict=True
    ):
        lost = calibration.skip_bits[entry.name]
        layers.add_row(
            entry.name,
            f"{calibration.scales[entry.name]:.4g}",
            f"{lost:.1f}" if lost else "-",
            _weight_range(layer),
            f"{health.current_peak / CURRENT_LIMIT:.1%}",
            f"{health.voltage_peak / VOLTAGE_LIMIT:.1%}",
            str(entry.current_wraps + entry.voltage_clips),
        )
        agreement.add_row(
            entry.name,
            f"{entry.rate:.1%}",
            "-" if entry.quantized is None else f"{entry.quantized:.3%}",
            "-" if entry.deployed is None else f"{entry.deployed:.3%}",
            str(entry.file_differing),
            *([str(entry.lava_differing)] if has_lava else []),
        )
    console.out.print(layers)
    console.out.print(agreement)
    parting = pipeline.first_difference(result.agreement)
    if parting is not None:
        console.out.print(f"floats and integers part first in {parting}")
    if result.relay_costs:
        relays = _layer_table(
            result,
            "Relay channels",
            "Weights: stored more than without relays. Weight, bias: of each relay.",
        )
        for name in ("relays", "neurons", "weights", "threshold", "weight", "bias"):
            relays.add_column(name, justify="right")
        for cost in result.relay_costs:
            relays.add_row(
                cost.layer,
                *(f"{n:,}" for n in (cost.channels, cost.neurons, cost.weights)),
                str(cost.threshold),
                str(cost.relay_weight),
                str(cost.relay_bias),
            )
        console.out.print(relays)


def _layer_table(result: pipeline.Deployment, title: str, caption: str) -> Table:
    """Return a table whose first column shows the names of the layers in full."""
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("layer", no_wrap=True, min_width=max(map(len, result.graph.names)))
    return table


def _weight_range(layer: FixedLayer) -> str:
    weights = np.concatenate(
        [
            connection.synapse.weight.ravel()
            for connection in layer.connections
            if isinstance(connection.synapse, FixedConv | FixedDense)
        ]
    )
    return f"{weights.min()} to {weights.max()}"
