"""The options of `convert`, and its results: what it prints, pages, the certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from neurodeploy.cli import console
from neurodeploy.cli.options import GENERAL, LAVA, Bindings, LavaPython, PageOptions
from neurodeploy.files import hash_file
from neurodeploy.provenance import versions
from neurodeploy.reports.numbers import format_count
from neurodeploy.samples.array_files import load_numbers

if TYPE_CHECKING:
    from neurodeploy.conversion.converting import Conversion
    from neurodeploy.counting.counted_run import CountedRun
    from neurodeploy.pipeline.converted import CheckedConversion
    from neurodeploy.reports.report import Report

PROOFS_SHOWN = 5
"""Limits that `convert` prints; --json has all."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """The network, the frames to choose its integers with, and what it may cost."""

    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A trained ReLU network.")]
    samples: Annotated[
        Path,
        typer.Option(
            "--samples",
            metavar="FRAMES.npz",
            help="Frames in the model's own units: array `input` of shape (sequences, T, C, H, W), "
            "in order of time, or (n, C, H, W); classes `label` if accuracy is to be measured.",
        ),
    ]
    out: Path = GENERAL.option(
        Path("network.net"),
        "File to write.",
        metavar="FILE.net",
        writes=(".net",),
        name="--out -o",
    )
    integers: Path | None = GENERAL.option(
        None,
        "Also write the frames as integers, the last one repeated until it is answered: what "
        "`simulate`, `verify` and `report` read.",
        metavar="FILE.npz",
        writes=(".npz",),
    )
    target: str | None = GENERAL.option(
        None,
        "Chip whose limits must hold: a name, or the path of a TOML file. Its cores are estimated.",
        metavar="NAME",
    )
    thresholds: str = GENERAL.option(
        "auto",
        "`auto` doubles thresholds where that saves most, within the budgets; `none` sends every "
        "change; a number is the threshold of every layer.",
        metavar="auto|none|N",
    )
    error_budget: float = GENERAL.option(
        0.05,
        "Largest rms error of a result, in deviations of the model's results.",
        min=0.0,
        metavar="SHARE",
    )
    accuracy_budget: float = GENERAL.option(
        0.01, "Share of right answers that thresholds may cost.", min=0.0, metavar="SHARE"
    )
    spike_exp: int = GENERAL.option(
        6,
        "`spike_exp` of Lava's Network. Files of another one than 6 must be loaded with it.",
        min=0,
        max=12,
        metavar="E",
    )
    refresh: int | None = GENERAL.option(
        None,
        "Set everything to zero after every N steps, lest the bits that neurons drop add up; the "
        "file keeps N. The last steps of each N, as many as a frame takes, answer its last frame.",
        min=1,
        metavar="N",
    )
    bind: Bindings = None
    verify: int = LAVA.option(
        0,
        "Also run this many sequences on real Lava, and compare every message.",
        min=0,
        metavar="SEQUENCES",
    )
    lava_python: LavaPython = None
    write_certificate: Path | None = LAVA.option(
        None,
        "Write a certificate: the network's hash, error, margins, what Lava said, and the hash of "
        "all that our simulator computed for the frames of --integers; `verify --certificate` "
        "checks it.",
        metavar="FILE.json",
        writes=(".json",),
    )


def print_conversion(
    conversion: Conversion, options: ConvertOptions, found: Mapping[str, Any]
) -> None:
    """Print tables and sentences for people."""
    columns = ("layer", "shape", ">threshold", ">weight error", ">sum", ">message", ">margin")
    table = console.make_table(
        *columns,
        title="Layers",
        caption="Margin: how many times the largest values seen would have to grow to reach a "
        "limit of the integers.",
    )
    shapes = {layer.name: console.shape_text(layer.shape) for layer in conversion.graph}
    for row in conversion.margins:
        table.add_row(
            Text(row.name),
            shapes[row.name],
            "" if row.threshold is None else str(row.threshold),
            f"{row.weight_error:.2f}",
            format_count(row.sum),
            format_count(row.message),
            f"{row.margin:.1f}",
        )
    console.out.print(table)
    twin = conversion.graph.relu_twin
    assert twin is not None
    kind = "accuracy" if found["has_labels"] else "same answers as the network"
    stages = console.make_table("stage", f">{kind}", ">rms error", ">operations a frame")
    stages.add_row(
        "network in floats", f"{conversion.baseline:.2%}", "0.0 %", format_count(twin.macs_standard)
    )
    for name, trial in (("rounded", conversion.rounded), ("with thresholds", conversion.final)):
        stages.add_row(
            name,
            f"{trial.accuracy:.2%}",
            f"{100 * trial.error:.1f} %",
            format_count(round(trial.operations)),
        )
    console.out.print(stages)
    console.out.print(
        "Operations: MACs of one pass, and synaptic operations of the sequences given, first "
        "frames and pipeline fill included. Errors are in deviations of the network's results."
    )
    console.out.print(_drift_text(conversion))
    _print_proofs(conversion)
    for remark in conversion.remarks:
        console.out.print(f"- {remark}", markup=False)
    if options.target is not None:
        console.out.print(f"{options.target}: {found['cores']} cores, an estimate from sizes.")
    if "lava" in found:
        lava = found["lava"]
        verdict = "equal" if lava["is_equal"] else "NOT equal"
        console.out.print(
            f"real Lava on {lava['sequences']} sequences: {verdict} in {lava['values']} values"
        )
    name = console.relative(options.out)
    exponent = "" if options.spike_exp == 6 else f", spike_exp={options.spike_exp}"
    console.out.print(
        f"Load it in lava-dl with netx.hdf5.Network(net_config='{name}'{exponent}), a source of "
        f"integers on in_layer.neuron.a_in: frames times {conversion.input_scale:g}, rounded. A "
        f"frame's answer comes {conversion.latency} steps later: the sums of the last layer over "
        f"{conversion.output_scale:g}.",
        markup=False,
    )
    interval = conversion.graph.refresh_interval
    if interval is not None:
        console.out.print(
            f"After every {interval} steps set sigma, act and residue of each neuron, a_buf or "
            "a_buff of each synapse to zero, between two calls of run, as `simulate` and `verify` "
            f"do: {interval - conversion.latency} frames, the last one held until it is answered.",
            markup=False,
        )


def _drift_text(conversion: Conversion) -> str:
    """Return how the error grows, and how often a refresh is needed."""
    drift = conversion.drift
    numbers = ", ".join(map(format_count, drift.frames))
    errors = ", ".join(f"{100 * error:.1f} %" for error in drift.errors)
    text = f"Error after {numbers} frames without a refresh: {errors}. "
    budget = f"the budget of {100 * drift.budget:.1f} %"
    if not drift.frames_within:
        return f"{text}No refresh holds {budget}: the first frames exceed it."
    if drift.needs_refresh:
        return (
            f"{text}A refresh after {drift.frames_within} frames holds {budget}: "
            f"--refresh {drift.interval}."
        )
    return (
        f"{text}Within {budget} on all {format_count(drift.frames_within)} frames of a sequence; "
        f"longer ones were not seen, --refresh {drift.interval} or less keeps to what was."
    )


def _print_proofs(conversion: Conversion) -> None:
    """Print the limits that are the nearest, and how many are proved."""
    proofs = conversion.proofs
    scopes = [one.scope for one in proofs.obligations]
    inputs = f"inputs from {proofs.low} to {proofs.high}"
    columns = (">limit", ">largest seen", ">margin", ">bound / limit", "holds for")
    table = console.make_table(
        "layer",
        "limit of",
        *columns,
        title=f"Limits: the {min(PROOFS_SHOWN, len(scopes))} nearest of {len(scopes)}",
        caption=f"{scopes.count('every input')} proved for every input up to {proofs.widest} in "
        f"size, {scopes.count('inputs in range')} for {inputs}, over {proofs.steps} steps; the "
        f"others held on {proofs.frames} frames. Bound: the largest that {inputs} can give.",
    )
    for one in proofs.tightest[:PROOFS_SHOWN]:
        names = {"every input": "every input", "inputs in range": inputs}
        table.add_row(
            Text(one.layer),
            one.quantity,
            format_count(one.limit),
            format_count(one.peak),
            f"{one.margin:.1f}",
            "-" if one.bound is None else f"{one.bound / one.limit:.1f}",
            names.get(one.scope, f"{proofs.frames} frames"),
        )
    console.out.print(table)


def write_conversion_certificate(
    conversion: Conversion,
    checked: CheckedConversion | None,
    options: ConvertOptions,
    *,
    has_labels: bool,
) -> None:
    """Write the certificate, if there is to be one."""
    from neurodeploy.pipeline.converted import certify_conversion

    if options.write_certificate is None or options.integers is None:
        return
    certificate = certify_conversion(
        conversion,
        options.out,
        options.integers,
        model=options.model.name,
        sha256=hash_file(options.model),
        has_labels=has_labels,
        checked=checked,
    )
    certificate.save(options.write_certificate)


def write_conversion_pages(
    conversion: Conversion,
    report: Report,
    counted: CountedRun,
    checked: CheckedConversion | None,
    options: ConvertOptions,
    page: PageOptions,
) -> None:
    """Write the conversion for people."""
    from neurodeploy.conversion.assembly import timing_of
    from neurodeploy.reports.activity import layer_activity, observe
    from neurodeploy.reports.certificate import Certificate
    from neurodeploy.reports.pages.outline import write_markdown, write_page
    from neurodeploy.reports.report import Agreement, RunSummary, SourceFile
    from neurodeploy.simulation import Feed

    samples = load_numbers(options.samples)
    activity = observe(
        conversion.graph,
        layer_activity(counted.facts),
        conversion.stream_of(samples)[:1],
        samples=counted.facts.samples,
        timing=timing_of(conversion.graph),
        feed=Feed.NEURON,
        title="first sequence",
    )
    certificate = options.write_certificate
    summary = RunSummary(
        title=console.relative(options.out),
        description=f"{options.model.name} as a sigma-delta network.",
        agreement=None
        if checked is None
        else Agreement(
            samples=len(checked.values),
            comparison=checked.comparison,
            seconds=checked.lava.seconds,
        ),
        report=report,
        raster=activity.raster,
        activity=activity,
        conversion=conversion,
        certificate=None if certificate is None else Certificate.load(certificate),
        versions=versions("numpy", "h5py", "llvmlite", "onnx", "onnxruntime"),
        files=tuple(
            SourceFile(role=role, path=console.relative(path), sha256=hash_file(path))
            for role, path in (("ANN", options.model), ("frames", options.samples))
        ),
        command=console.command_line(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    if page.markdown_file is not None:
        write_markdown(summary, page.markdown_file)
    if page.html is not None:
        write_page(summary, page.html)
