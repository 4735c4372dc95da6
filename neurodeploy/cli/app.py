"""The command line's entry point; the commands are in the modules beside this one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import neurodeploy
from neurodeploy.cli import console, lava, learning, reporting, running
from neurodeploy.errors import NeurodeployError

app = typer.Typer(
    name="neurodeploy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Train spiking networks, deploy them to Loihi-style integers, and prove spike for spike "
        "that what was trained is what runs.\n\n"
        "Start with `neurodeploy run digits`: it trains on real images, writes a netx file, runs "
        "it on our simulator and on real Lava, and makes a report."
    ),
)
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it (128 + SIGINT)."""

learning.register(app)
running.register(app)
reporting.register(app)
lava.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"neurodeploy {neurodeploy.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Run the command line; exit 1 for errors, 2 for wrong usage, 130 when interrupted."""
    console.show_warnings_as_lines()
    try:
        app()
    except NeurodeployError as error:
        console.print_error(error)
        sys.exit(1)
    except MemoryError:
        console.print_error("not enough memory. Use fewer samples at a time.")
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            console.print_error(
                "interrupted. Files that were being written are as they were before."
            )
        raise
