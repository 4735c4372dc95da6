"""NIR files of other frameworks in `deploy` and `inspect`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import typer

from neurodeploy.cli import console
from neurodeploy.cli.option_groups import Panel
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.interchange.convention import infer_dt
from neurodeploy.interchange.importing import import_nir
from neurodeploy.interchange.nir_reader import NIR, read_nir
from neurodeploy.recipes.training_sections import QuantizationSection
from neurodeploy.reports.certified_facts import TRAINED_FURTHER
from neurodeploy.samples.array_files import load_inputs
from neurodeploy.samples.sources import read_labels
from neurodeploy.untrusted.hdf5 import tried_apart

_FOREIGN = Panel("Networks of other frameworks (MODEL.nir)")
FOREIGN_SETTINGS = frozenset(
    f"quantization.{key}"
    for key in ("target", "weight_bits", "margin", "fine_tune_epochs", "fine_tune_learning_rate")
)
"""Keys of a recipe that say something of these networks too."""


@dataclass(frozen=True, kw_only=True)
class ForeignOptions:
    """How to take in a NIR file."""

    samples: Path | None = _FOREIGN.option(
        None,
        "Samples to choose the integers with: an `.npz` file with integers `input` (samples, T, "
        "...), and classes `label` if the accuracy is to be measured or the network fine-tuned.",
        metavar="FILE",
    )
    convention: str | None = _FOREIGN.option(
        None,
        "How the exporter turned time into steps: snntorch, spikingjelly, norse, sinabs, "
        "sinabs-plain-input, rockpool, neurodeploy, euler or exponential. Default: euler.",
        metavar="NAME",
    )
    dt: float | None = _FOREIGN.option(
        None,
        "Width of a time step in seconds. Default: that of the convention, or the one that the "
        "file gives away.",
        metavar="SECONDS",
    )
    reset: str | None = _FOREIGN.option(
        None,
        "`subtract` if the neurons subtract their threshold after a spike, which the file cannot "
        "say. Default: zero.",
        metavar="KIND",
    )
    approximate: list[str] | None = _FOREIGN.option(
        None,
        "Allow a departure by its name, such as soft-reset; errors name them. May be repeated.",
        metavar="NAME",
    )


def deploy_nir(
    model: Path,
    foreign: ForeignOptions,
    quantization: QuantizationSection,
    lava: int,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Deploy a NIR file."""
    if foreign.samples is None:
        raise typer.BadParameter(
            f"{model}: give --samples, a file with integers `input` of shape (samples, T, ...): "
            "scales are chosen on them, and every spike is compared."
        )
    if foreign.reset not in (None, "zero", "subtract"):
        raise typer.BadParameter(f"--reset {foreign.reset}: zero or subtract is allowed.")
    with tried_apart(model, NIR):
        from neurodeploy.pipeline import imported
        from neurodeploy.pipeline.deployment.fine_tuning import FineTuning
        from neurodeploy.pipeline.directory import require_apart

    directory = out or Path("deployed")
    require_apart(foreign.samples, directory, role="samples of the network")
    inputs = load_inputs(foreign.samples)
    network = import_nir(
        model,
        convention=foreign.convention,
        dt=foreign.dt,
        reset="subtract" if foreign.reset == "subtract" else None,
        approximate=foreign.approximate or (),
    )
    last = list(network.shapes.values())[-1]
    fine_tune = None
    if quantization.fine_tune_epochs:
        fine_tune = FineTuning(
            epochs=quantization.fine_tune_epochs,
            learning_rate=quantization.fine_tune_learning_rate,
        )
    with console.draw_stages(quiet=as_json) as observer:
        result = imported.deploy(
            network,
            inputs,
            read_labels(foreign.samples, samples=len(inputs), classes=math.prod(last)),
            target=quantization.target,
            out=directory,
            approximate=foreign.approximate or (),
            margin=quantization.margin,
            weight_bits=quantization.weight_bits,
            fine_tune=fine_tune,
            lava_samples=lava,
            observer=observer,
        )
    if as_json:
        console.print_json(
            {
                "net": str(result.path),
                "samples": str(result.samples),
                "target": quantization.target,
                "dt": network.convention.dt,
                "populations": dict(network.notes),
                "accuracy": result.accuracy,
                "choice": None if result.fine_tuning is None else result.fine_tuning.describe(),
                "agreement": [dataclasses.asdict(entry) for entry in result.agreement],
                "fit": None if result.fit is None else result.fit.to_dict(),
            }
        )
        return
    console.out.print(
        f"{console.relative(model)}: convention {network.convention.name}, steps of "
        f"{network.convention.dt:g} s"
    )
    columns = ["population", "taken over", ">spike rate", ">as in floats", ">file differs"]
    columns += [">Lava differs"] * bool(lava)
    caption = None
    if result.is_trained_further:
        caption = f"Agreement with the floats {TRAINED_FURTHER}."
    table = console.make_table(*columns, title="Agreement", caption=caption)
    for entry in result.agreement:
        table.add_row(
            entry.name,
            network.notes.get(entry.name, "added: carries biases or maxima"),
            f"{entry.rate:.1%}",
            "-" if entry.deployed is None else f"{entry.deployed:.2%}",
            str(entry.file_differing),
            *([str(entry.lava_differing)] if lava else []),
        )
    console.out.print(table)
    for stage, value in result.accuracy.items():
        shown = result.certificate.recording.samples
        held_out = " held out" * (result.fine_tuning is not None)
        console.out.print(f"accuracy, {stage}: {value:.2%} of {shown} samples{held_out}")
    if result.fine_tuning is not None:
        console.out.print(f"deployed: {result.fine_tuning.describe()}")
    net, samples = console.relative(result.path), console.relative(result.samples)
    console.out.print(f"network: {net}, for {quantization.target}")
    console.out.print(f"next: neurodeploy report {net} --input {samples}")


def inspect_nir(path: Path, *, as_json: bool) -> None:
    """Show the nodes of a NIR file, and the step width that it gives away."""
    graph = read_nir(path)
    width = infer_dt(graph) or graph.dt
    sources = graph.sources()
    if as_json:
        nodes = [
            {
                "name": name,
                "type": node.kind,
                "parameters": {
                    field: value if isinstance(value, str) else _extent(value)
                    for field, value in node.values.items()
                },
                "sources": sources[name],
            }
            for name, node in graph.nodes.items()
        ]
        console.print_json({"dt": width, "nodes": nodes})
        return
    step = "not told; give --convention or --dt" if width is None else f"{width:g} s"
    console.out.print(f"{console.relative(path)}: NIR, step width {step}")
    table = console.make_table("node", "type", "reads", "parameters", title="Nodes")
    for name, node in graph.nodes.items():
        parameters = (
            f"{field} {value if isinstance(value, str) else _text_of(value)}"
            for field, value in node.values.items()
        )
        table.add_row(name, node.kind, ", ".join(sources[name]), ", ".join(parameters))
    console.out.print(table)


def _extent(values: FloatArray) -> dict[str, object]:
    return {"shape": list(values.shape), "range": [float(values.min()), float(values.max())]}


def _text_of(values: FloatArray) -> str:
    low, high = float(values.min()), float(values.max())
    numbers = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return f"{numbers} ({console.shape_text(values.shape)})" if values.ndim else numbers
