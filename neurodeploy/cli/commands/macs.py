"""The command that counts ONNX models: macs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson, Bindings, Strict, parse_bindings
from neurodeploy.reports.numbers import format_count


def macs(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An ONNX model.")],
    bind: Bindings = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Count the multiply-accumulates of an ONNX model, by the textbook and without padding.

    Example: `neurodeploy macs model.onnx --bind batch=1 --json`
    """
    from neurodeploy.onnx_models.macs import count_onnx_macs

    found = count_onnx_macs(model, bindings=parse_bindings(bind))
    if as_json:
        console.print_json(found.to_json())
    else:
        table = Table("node", "operator", title="MACs of one pass", title_justify="left")
        for name in ("standard", "without padding"):
            table.add_column(name, justify="right")
        table.add_column("numbers")
        for node in found.nodes:
            table.add_row(
                Text(node.name),
                node.op,
                format_count(node.macs_standard),
                format_count(node.macs_border_exact),
                node.precision,
            )
        table.add_row(
            "total",
            "",
            format_count(found.macs_standard),
            format_count(found.macs_border_exact),
            style="bold",
        )
        console.out.print(table)
        values = sum(one.size or 0 for one in found.elementwise_ops)
        console.out.print(
            f"{len(found.elementwise_ops)} operators without MACs give {format_count(values)} "
            "values; --json lists them."
        )
        for one in found.uncounted_nodes:
            console.out.print(f"! not counted: {one.name} ({one.op})", markup=False)
        if found.uncounted_ops:
            console.out.print("The count is incomplete.")
    if strict and found.uncounted_ops:
        raise typer.Exit(1)
