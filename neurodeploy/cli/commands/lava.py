"""Commands around the Lava runtime: install, doctor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from neurodeploy.cli import console
from neurodeploy.cli.options import AsJson, LavaPython
from neurodeploy.lava_bridge.runtime import diagnose, install_runtime

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Install and examine the Lava runtime, the reference that results are compared with.",
)
RuntimePath = Annotated[
    Path | None,
    typer.Option(
        "--path",
        metavar="DIR",
        readable=False,
        help="Folder of the runtime. Default: inside this Python environment.",
    ),
]


@app.command()
def install(
    path: RuntimePath = None,
    python: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON",
            readable=False,
            help="Interpreter to build it from, Python 3.10 to 3.13. Default: this one.",
        ),
    ] = None,
) -> None:
    """Install stock Lava (lava-nc 0.10.0, lava-dl 0.6.0, no torch) into a folder of its own.

    Takes about half a minute and 250 MB. Does nothing if it is already installed.

    Example: `neurodeploy lava install`
    """
    with console.err.status("installing the Lava runtime") as status:

        def tell(words: str) -> None:
            line = f"installing the Lava runtime: {words}"
            status.update(line)
            if not console.err.is_terminal:
                console.err.print(line, soft_wrap=True)

        interpreter = install_runtime(path, python=python, progress=tell)
    console.out.print(f"Lava runtime ready: {interpreter}")


@app.command()
def doctor(
    path: RuntimePath = None, lava_python: LavaPython = None, as_json: AsJson = False
) -> None:
    """Examine the Lava runtime, and run a small network with a known result on it.

    Example: `neurodeploy lava doctor`
    """
    with console.err.status("running a known network on Lava"):
        report = diagnose(path, python=lava_python)
    if as_json:
        values = dataclasses.asdict(report)
        values |= {"path": str(report.path), "versions": dict(report.versions)}
        console.print_json(values)
    else:
        table = Table(show_header=False)
        table.add_row("folder" if lava_python is None else "interpreter", str(report.path))
        table.add_row("present", _yes(report.is_present))
        for name, version in report.versions.items():
            table.add_row(name, version)
        if lava_python is None:
            table.add_row("size", f"{report.size_mb:.0f} MB")
            table.add_row("as this version installs it", _yes(report.is_current))
        table.add_row("free of torch", _yes(report.is_torch_absent))
        table.add_row("self-test", "passed" if report.is_working else "failed")
        table.add_row("time to start and run", f"{report.seconds:.1f} s")
        console.out.print(table)
    if report.problem:
        console.print_error(report.problem)
        raise typer.Exit(1)


def _yes(answer: bool | None) -> str:
    return "unknown" if answer is None else "yes" if answer else "no"
