"""The commands that take ONNX models: macs, advise and convert."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from neurodeploy.cli import console
from neurodeploy.cli.conversions import (
    ConvertOptions,
    print_conversion,
    write_conversion_certificate,
    write_conversion_pages,
)
from neurodeploy.cli.options import (
    INCOMPLETE,
    AllowIncomplete,
    AsJson,
    Bindings,
    PageOptions,
    parse_bindings,
)
from neurodeploy.reports.numbers import format_count
from neurodeploy.samples.array_files import load_inputs, load_numbers, member_names, save_samples

if TYPE_CHECKING:
    from neurodeploy.conversion.converting import Thresholds


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
        save_samples(options.integers, conversion.stream_of(frames), labels)
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
    write_conversion_certificate(conversion, checked, options, has_labels=labels is not None)
    if as_json or any(page.files):
        report, counted = report_conversion(
            conversion, options.out, np.asarray(frames, np.float64), has_labels=labels is not None
        )
        found["report"] = report.to_json()
        if any(page.files):
            write_conversion_pages(conversion, report, counted, checked, options, page)
    if as_json:
        wrote = [options.out, options.integers, options.write_certificate, *page.files]
        console.print_json(found, wrote=wrote)
    else:
        print_conversion(conversion, options, found)
    if checked is not None and not checked.comparison.is_equal:
        raise typer.Exit(1)


def _parse_thresholds(text: str) -> Thresholds:
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    if not text.isdecimal():
        raise typer.BadParameter(f"--thresholds {text}: auto, none or a number is allowed.")
    return int(text)
