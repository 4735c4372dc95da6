"""The command that puts networks side by side: compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson
from neurodeploy.cost.units import format_count, format_energy
from neurodeploy.files import require_writable


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(compare)


def compare(
    networks: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|REPORT.json...",
            help="Directories of whole runs, or files written from `neurodeploy report --json`.",
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whose energies to compare; by default those with memory."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained HTML page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put networks side by side: accuracy against energy, and which of them nobody beats.

    Example: `neurodeploy compare runs/digits-1 runs/digits_pruned-1 --html compare.html`
    """
    from neurodeploy.cost.comparison import compare_networks, read_candidate

    if html is not None:
        require_writable(html)
    found = compare_networks([read_candidate(path) for path in networks], preset=preset)
    if html is not None:
        from neurodeploy.cost.comparison_page import write_comparison

        write_comparison(found, html)
    if as_json:
        console.print_json(found.to_dict())
        return
    table = Table(title=f"One inference, {found.preset}", title_justify="left")
    table.add_column("network", overflow="fold")
    for name in ("accuracy", "T", "SOPs", "energy", "at most"):
        table.add_column(name, justify="right")
    table.add_column("best")
    for entry in found.entries:
        table.add_row(
            entry.name,
            "-" if entry.accuracy is None else f"{entry.accuracy:.2%}",
            "-" if entry.steps is None else str(entry.steps),
            format_count(round(entry.sops)),
            format_energy(entry.nominal),
            format_energy(entry.high),
            "yes" if entry.is_best else "",
        )
    console.out.print(table)
    console.out.print(
        "best: no other is at least as accurate for less energy. Accuracies must be of the same "
        "test set; energies are estimates."
    )
