"""The command that counts ONNX models: macs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurodeploy.cli import console
from neurodeploy.cli.options import INCOMPLETE, AllowIncomplete, AsJson, Bindings, parse_bindings
from neurodeploy.reports.numbers import format_count


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
