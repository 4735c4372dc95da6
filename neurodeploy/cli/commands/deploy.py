"""The command that deploys: deploy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from neurodeploy.chips.target import Target
from neurodeploy.cli import console
from neurodeploy.cli.commands.train import print_accuracy
from neurodeploy.cli.foreign_networks import FOREIGN_SETTINGS, ForeignOptions, deploy_nir
from neurodeploy.cli.options import GENERAL, AsJson, Settings, parse_settings
from neurodeploy.files import locked
from neurodeploy.fixedpoint import CURRENT_LIMIT, VOLTAGE_LIMIT
from neurodeploy.ir.integer_layers import FixedConv, FixedDense, FixedLayer
from neurodeploy.recipes.recipe import read_quantization

if TYPE_CHECKING:
    from neurodeploy import pipeline


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """A trained network, keys of the recipe that deployments often differ in, and checks."""

    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Directory of a training run, a model file, or a `.nir` file of another "
            "framework.",
        ),
    ]
    target: str | None = GENERAL.option(
        None,
        "Target chip: a name, or the path of a TOML file. Default: the recipe's target.",
        metavar="NAME",
    )
    prune: float | None = GENERAL.option(
        None,
        "Prune this share of the weights, smallest first, before the fine-tuning. `pruning.scope` "
        "in the recipe sets whether all layers are ranked together.",
        metavar="SHARE",
    )
    prune_pattern: str | None = GENERAL.option(
        None, "Keep the N largest weights of every M inputs instead.", metavar="N:M"
    )
    prune_channels: float | None = GENERAL.option(
        None,
        "Remove this share of each layer's channels, weakest first. The layers shrink.",
        metavar="SHARE",
    )
    weight_bits: int | None = GENERAL.option(None, "Bits of each weight, 2 to 8.", metavar="BITS")
    fine_tune: int | None = GENERAL.option(
        None,
        "Train the quantized network further in the chip's integers. Weights that are no better on "
        "samples put aside are not taken. Default: the recipe's epochs; none for a `.nir` file.",
        metavar="EPOCHS",
        min=0,
    )
    accuracy_budget: float | None = GENERAL.option(
        None,
        "Use the fewest bits that cost at most this much validation accuracy; 0.01 is one "
        "percentage point.",
        metavar="SHARE",
    )
    lava: int = GENERAL.option(
        0,
        "Also run this many calibration samples on real Lava, and compare every spike.",
        min=0,
        metavar="SAMPLES",
    )
    test: bool = GENERAL.option(
        True,
        "Measure accuracy, counts and energy on the test part, and write `report.html` and "
        "`deployment.json`.",
        name="--test/--no-test",
    )
    set: Settings = None
    out: Path | None = GENERAL.option(
        None,
        "Directory for the `.net` file. Default: beside the model.",
        metavar="DIR",
        name="--out -o",
    )

    def settings(self) -> dict[str, str]:
        """Return the keys of the recipe that the options stand for, with values in TOML."""
        values: dict[str, object] = {
            "quantization.target": self.target,
            "pruning.sparsity": self.prune,
            "pruning.pattern": self.prune_pattern,
            "pruning.channels": self.prune_channels,
            "quantization.weight_bits": self.weight_bits,
            "quantization.fine_tune_epochs": self.fine_tune,
            "quantization.accuracy_budget": self.accuracy_budget,
        }
        if self.prune is not None or self.prune_pattern is not None:
            values["pruning.schedule"] = "one_shot"
        given = {
            key: json.dumps(value) if isinstance(value, str) else str(value)
            for key, value in values.items()
            if value is not None
        }
        return given | parse_settings(self.set)


def deploy(options: DeployOptions, foreign: ForeignOptions, as_json: AsJson = False) -> None:
    """Turn a trained network into a `.net` file that stock lava-dl loads.

    Prints the result of each step, verifies the file on the calibration samples before it puts it
    in place, and records settings, checks and versions in `network.json`. Also writes
    `samples.npz`, test samples to try the file on. Then runs the file on the whole test part.
    Replaces the files of an earlier deployment.

    Example: `neurodeploy deploy runs/digits-1 --target loihi2 --lava 8`

    Pruned, with the fewest bits that cost at most one point: `neurodeploy deploy runs/digits-1
    --prune 0.7 --accuracy-budget 0.01 --fine-tune 6`

    A network of another framework: `neurodeploy deploy model.nir --samples samples.npz
    --convention snntorch --out deployed`

    The same with 4-bit weights, trained further on the samples and their labels: `neurodeploy
    deploy model.nir --samples samples.npz --weight-bits 4 --fine-tune 10`
    """
    settings = options.settings()
    if options.model.suffix == ".nir":
        unused = sorted(settings.keys() - FOREIGN_SETTINGS)
        if unused:
            raise typer.BadParameter(
                f"{', '.join(unused)}: not for a network of another framework. Leave the option "
                f"out; {', '.join(sorted(FOREIGN_SETTINGS))} are allowed."
            )
        quantization = read_quantization(settings)
        deploy_nir(options.model, foreign, quantization, options.lava, options.out, as_json=as_json)
        return
    if foreign != ForeignOptions():
        raise typer.BadParameter(
            f"{options.model}: options for a NIR file, but this is none. Give a `.nir` file or "
            "leave out --samples, --convention, --dt, --reset and --approximate."
        )
    if options.target is not None:
        Target.load(options.target)
    _deploy_run(options, settings, as_json=as_json)


def _deploy_run(options: DeployOptions, settings: dict[str, str], *, as_json: bool) -> None:
    """Deploy a network that neurodeploy trained."""
    from neurodeploy import pipeline

    network, recipe = pipeline.load_model(options.model, overrides=settings)
    directory = options.out or pipeline.find_run(options.model)
    with locked(directory), console.draw_stages(quiet=as_json) as observer:
        result = pipeline.deploy(
            network, recipe, directory, lava_samples=options.lava, observer=observer
        )
        tested = None
        if options.test:
            command = console.command_line()
            tested = pipeline.assess_deployment(
                network, recipe, result, directory, observer=observer, command=command
            )
    if as_json:
        console.print_json(
            {
                "record": str(directory / pipeline.NET_RECORD),
                "report": None if tested is None else str(directory / pipeline.REPORT),
                "test_accuracy": None if tested is None else tested.summary["accuracy"],
                "target": recipe.quantization.target,
                "net": str(result.path),
                "samples": str(result.samples),
                "scales": result.calibration.scales,
                "skip_bits": result.calibration.skip_bits,
                "steps": [dataclasses.asdict(step) for step in result.steps],
                **result.to_dict(),
            }
        )
        return
    _print_deployment(result)
    net, samples = console.relative(result.path), console.relative(result.samples)
    if tested is not None:
        print_accuracy(tested.accuracy)
        console.out.print(f"report: {console.relative(directory / pipeline.REPORT)}")
    console.out.print(f"network: {net}, for {recipe.quantization.target}")
    console.out.print(f"next: neurodeploy verify {net} --input {samples}")


def _print_deployment(result: pipeline.Deployment) -> None:
    from neurodeploy import pipeline

    steps = console.make_table("step", "result", title="Deployment")
    for step in result.steps:
        steps.add_row(step.name, step.result)
    console.out.print(steps)
    if result.bits_tried:
        columns = ("weight bits", ">validation accuracy", "")
        tried = console.make_table(*columns, title="Accuracy budget")
        for bits, accuracy in result.bits_tried:
            tried.add_row(
                str(bits), f"{accuracy:.2%}", "chosen" if bits == result.weight_bits else ""
            )
        console.out.print(tried)
    _print_layers(result)
    parting = pipeline.first_difference(result.agreement)
    if parting is not None:
        console.out.print(f"floats and integers part first in {parting}")
    if result.relay_costs:
        relays = _layer_table(
            result,
            (">relays", ">neurons", ">weights", ">threshold", ">weight", ">bias"),
            title="Relay channels",
            caption="Weights: stored more than without relays. Weight, bias: of each relay.",
        )
        for cost in result.relay_costs:
            sizes = (f"{n:,}" for n in (cost.channels, cost.neurons, cost.weights))
            values = map(str, (cost.threshold, cost.relay_weight, cost.relay_bias))
            relays.add_row(cost.layer, *sizes, *values)
        console.out.print(relays)
    console.out.print(f"deployed: {result.choice}")


def _print_layers(result: pipeline.Deployment) -> None:
    calibration = result.calibration
    layers = _layer_table(
        result,
        (">scale", ">bits lost", ">weights", ">u peak", ">v peak", ">out of range"),
        title="Integers",
        caption="Peaks of currents u and voltages v on the calibration samples, of what 24 bits "
        "hold. Bits lost: weight precision that skip connections cost.",
    )
    layers.columns[3].no_wrap = True
    has_lava = result.agreement[0].lava_differing is not None
    agreement = _layer_table(
        result,
        (">spike rate", ">quantized", ">deployed", ">file differs", *(">Lava differs",) * has_lava),
        title="Agreement on the calibration samples",
        caption="Share of neurons and steps in which the integers spike as the floats do; the file "
        "differs from the integers nowhere.",
    )
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
        shares = ("-" if x is None else f"{x:.3%}" for x in (entry.quantized, entry.deployed))
        differing = [entry.file_differing, *[entry.lava_differing] * has_lava]
        agreement.add_row(entry.name, f"{entry.rate:.1%}", *shares, *map(str, differing))
    console.out.print(layers)
    console.out.print(agreement)


def _layer_table(
    result: pipeline.Deployment, columns: Sequence[str], *, title: str, caption: str
) -> Table:
    """Return a table whose first column shows the names of the layers in full."""
    table = console.make_table("layer", *columns, title=title, caption=caption)
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max(map(len, result.graph.names))
    return table


def _weight_range(layer: FixedLayer) -> str:
    synapses = (connection.synapse for connection in layer.connections)
    weights = [s.weight for s in synapses if isinstance(s, FixedConv | FixedDense)]
    return f"{min(w.min() for w in weights)} to {max(w.max() for w in weights)}"
