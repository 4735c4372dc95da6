"""The commands that take ONNX models: macs, advise and convert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.text import Text

from neurodeploy.cli import console
from neurodeploy.cli.options import (
    GENERAL,
    INCOMPLETE,
    LAVA,
    AllowIncomplete,
    AsJson,
    Bindings,
    LavaPython,
    PageOptions,
    parse_bindings,
)
from neurodeploy.files import hash_file
from neurodeploy.provenance import versions
from neurodeploy.reports.numbers import format_count
from neurodeploy.samples.array_files import load_inputs, load_numbers, member_names, save_samples

PROOFS_SHOWN = 5
"""Limits that `convert` prints; --json has all."""

if TYPE_CHECKING:
    from neurodeploy.conversion.converting import Conversion, Thresholds
    from neurodeploy.counting.counted_run import CountedRun
    from neurodeploy.pipeline.converted import CheckedConversion
    from neurodeploy.reports.report import Report


def macs(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An ONNX model.")],
    bind: Bindings = None,
    allow_incomplete: AllowIncomplete = False,
    as_json: AsJson = False,
) -> None:
    """Count the multiply-accumulates (MACs) of an ONNX model, with and without padding.

    If an operator cannot be counted, the count is incomplete and the command exits with 3.

    Example: `neurodeploy macs model.onnx --bind batch=1 --json`
    """
    from neurodeploy.onnx_models.macs import count_onnx_macs

    counts = count_onnx_macs(model, bindings=parse_bindings(bind))
    if as_json:
        console.print_json(counts.to_json())
    else:
        columns = ("node", "operator", ">standard", ">without padding", "numbers")
        table = console.make_table(*columns, title="MACs of one pass")
        for node in counts.nodes:
            table.add_row(
                node.name,
                node.op,
                format_count(node.macs_standard),
                format_count(node.macs_border_exact),
                node.precision,
            )
        table.add_row(
            "total of a pass" if counts.samples > 1 else "total",
            "",
            format_count(counts.macs_standard),
            format_count(counts.macs_border_exact),
            style="bold",
        )
        if counts.samples > 1:
            share = counts.per_sample()
            table.add_row(
                "per sample",
                "",
                format_count(share.macs_standard),
                format_count(share.macs_border_exact),
            )
        console.out.print(table)
        if counts.samples > 1:
            console.out.print(
                f"A pass takes {counts.samples} samples: the first dimension of every input and "
                "output."
            )
        values = sum(node.size or 0 for node in counts.elementwise_ops)
        console.out.print(
            f"{len(counts.elementwise_ops)} operators without MACs give {format_count(values)} "
            "values; --json lists them."
        )
        for missed in counts.uncounted_nodes:
            console.out.print(f"! not counted: {missed.name} ({missed.op})")
        if counts.uncounted_ops:
            console.out.print("The count is incomplete.")
    if counts.uncounted_ops and not allow_incomplete:
        raise typer.Exit(INCOMPLETE)


def advise(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A ReLU network.")],
    page: PageOptions,
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples",
            metavar="FRAMES.npz",
            help="Frames in the model's own units: array `input` of shape (sequences, T, C, H, W), "
            "in order of time, or (n, C, H, W). Without them, activity is assumed.",
        ),
    ] = None,
    bind: Bindings = None,
    as_json: AsJson = False,
) -> None:
    """Advise on an ordinary network before any work: can it be converted, and does that pay.

    One page: a verdict, every node that stands in the way with the way out, cores on Loihi 1 and
    Loihi 2, and the costs of still, moving and new frames against the network in int8. Figures are
    ranges. Exits with 0 whatever the verdict is.

    Example: `neurodeploy advise model.onnx --samples frames.npz`
    """
    from neurodeploy.pipeline.advising import advise as advise_on
    from neurodeploy.reports.pages.advice_page import (
        advice_text,
        write_advice,
        write_advice_markdown,
    )
    from neurodeploy.samples.array_files import load_numbers

    frames = None if samples is None else load_numbers(samples)
    advice = advise_on(model, frames, bindings=parse_bindings(bind))
    if page.html is not None:
        write_advice(advice, page.html)
    if page.markdown_file is not None:
        write_advice_markdown(advice, page.markdown_file)
    if as_json:
        console.print_json(advice.to_dict(), wrote=page.files)
    else:
        console.out.print(advice_text(advice), soft_wrap=True)


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
        Path("network.net"), "File to write.", metavar="FILE.net", writes=(".net",)
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


def convert(options: ConvertOptions, page: PageOptions, as_json: AsJson = False) -> None:
    """Convert a trained ReLU network to sigma-delta neurons, which work only where inputs change.

    The result answers every frame as the network does, up to 8-bit weights and thresholds, and
    loads in stock lava-dl. Prints errors against the network, how they grow with time, operations
    a frame, and how far the integers are from their limits, for which inputs that is proved; the
    error names every layer that cannot be converted.

    Example: `neurodeploy convert model.onnx --samples frames.npz --out model.net --verify 1`

    With a page that shows every frame beside the ordinary network: `neurodeploy convert model.onnx
    --samples frames.npz --html report.html`
    """
    from neurodeploy.chips.cores import estimate_cores
    from neurodeploy.chips.layer_sizes import sizes_of
    from neurodeploy.chips.target import Target
    from neurodeploy.pipeline.converted import (
        convert as convert_model,
        report_conversion,
        verify_conversion,
    )

    if options.write_certificate is not None and options.integers is None:
        raise typer.BadParameter(
            "--write-certificate is about the frames of a file. Add --integers FILE.npz."
        )
    frames = load_numbers(options.samples)
    labels = None
    if "label" in member_names(options.samples):
        labels = load_inputs(options.samples, key="label")
    conversion = convert_model(
        options.model,
        frames,
        labels=labels,
        target=options.target,
        thresholds=_parse_thresholds(options.thresholds),
        error_budget=options.error_budget,
        accuracy_budget=options.accuracy_budget,
        exponent=options.spike_exp,
        refresh=options.refresh,
        bindings=parse_bindings(options.bind),
        tell=None if as_json else lambda line: console.err.print(line, markup=False),
    )
    conversion.write(options.out)
    if options.integers is not None:
        save_samples(options.integers, conversion.stream_of(frames), None)
    found = conversion.to_dict(has_labels=labels is not None)
    if options.target is not None:
        fit = estimate_cores(sizes_of(conversion.graph), Target.load(options.target))
        found["cores"] = fit.cores_text
    checked = None
    if options.verify:
        sequences = conversion.sequences_of(frames)[: options.verify]
        checked = verify_conversion(conversion, options.out, sequences, python=options.lava_python)
        found["lava"] = {
            "sequences": len(sequences),
            "values": sum(layer.compared for layer in checked.comparison.layers),
            "is_equal": checked.comparison.is_equal,
        }
    _certify(conversion, checked, options, has_labels=labels is not None)
    if as_json or any(page.files):
        report, counted = report_conversion(
            conversion, options.out, np.asarray(frames, np.float64), has_labels=labels is not None
        )
        found["report"] = report.to_json()
        if any(page.files):
            _write_pages(conversion, report, counted, checked, options, page)
    if as_json:
        wrote = [options.out, options.integers, options.write_certificate, *page.files]
        console.print_json(found, wrote=wrote)
    else:
        _print(conversion, options, found)
    if checked is not None and not checked.comparison.is_equal:
        raise typer.Exit(1)


def _certify(
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


def _write_pages(
    conversion: Conversion,
    report: Report,
    counted: CountedRun,
    checked: CheckedConversion | None,
    options: ConvertOptions,
    page: PageOptions,
) -> None:
    """Write the conversion for people."""
    from neurodeploy.reports.activity import layer_activity, observe
    from neurodeploy.reports.certificate import Certificate
    from neurodeploy.reports.pages.outline import write_markdown, write_page
    from neurodeploy.reports.report import Agreement, RunSummary, SourceFile
    from neurodeploy.simulation import Feed, Stream

    samples = load_numbers(options.samples)
    activity = observe(
        conversion.graph,
        layer_activity(counted.facts),
        conversion.stream_of(samples)[:1],
        samples=counted.facts.samples,
        timing=Stream(),
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
        versions=versions("numpy", "h5py", "numba", "onnx", "onnxruntime"),
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


def _parse_thresholds(text: str) -> Thresholds:
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    if not text.isdecimal():
        raise typer.BadParameter(f"--thresholds {text}: auto, none or a number is allowed.")
    return int(text)


def _print(conversion: Conversion, options: ConvertOptions, found: Mapping[str, Any]) -> None:
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
