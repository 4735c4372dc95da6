"""The command that examines the installation: doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson

if TYPE_CHECKING:
    from neurodeploy.cli.commands.doctor import Diagnosis


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(
    measures_start: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Also measure the first start, which compiles, and a later one. They keep what "
            "they compile in a temporary folder.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Examine the installation: versions, processor, compiled kernels, Lava, optional packages.

    Exits with 1 if something that is installed does not work.

    Example: `neurodeploy doctor`
    """
    from neurodeploy.cli.commands.doctor import examine

    with console.err.status("examining the installation"):
        found = examine(measures_start=measures_start)
    if as_json:
        console.print_json(found.to_dict())
    else:
        _print(found)
    if found.problems:
        for problem in found.problems:
            console.print_error(problem)
        raise typer.Exit(1)


def _print(found: Diagnosis) -> None:
    table = Table("what", "found", show_header=False)
    for name, version in found.versions.items():
        table.add_row(name, version)
    table.add_section()
    memory = "" if found.memory_gb is None else f", {found.memory_gb:.1f} GB of memory"
    table.add_row("processor", found.processor)
    table.add_row("compiled for", found.architecture)
    table.add_row("cores", f"{found.cores}{memory}")
    table.add_row("threads of compiled loops", str(found.threads))
    table.add_section()
    for one in found.compiled:
        outdated = f", {one.outdated} outdated" if one.outdated else ""
        table.add_row(
            one.name.removeprefix("neurodeploy."),
            f"{one.functions} functions, {one.cached} specialisations kept{outdated}",
        )
    for directory, writable in {one.directory: one.is_writable for one in found.compiled}.items():
        table.add_row("kept in", directory + ("" if writable else " (not writable)"))
    if found.start is not None:
        table.add_row("first start, compiling", f"{found.start.first:.1f} s")
        table.add_row("later start", f"{found.start.later:.1f} s")
    table.add_section()
    lava = found.lava
    state = f"works, {lava.seconds:.1f} s to start and run" if lava.is_working else "does not work"
    table.add_row("Lava runtime", state if lava.is_present else "none: `neurodeploy lava install`")
    if lava.is_present:
        versions = ", ".join(f"{name} {version}" for name, version in lava.versions.items())
        table.add_row("", versions)
    table.add_section()
    for package in found.packages:
        missing = f"none: {package.install}" if package.version is None else package.version
        table.add_row(package.name, escape(f"{missing} ({package.purpose})"))
    console.out.print(table)
