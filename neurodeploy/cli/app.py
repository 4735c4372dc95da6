"""The application; the commands are in the modules beside this one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from neurodeploy._version import __version__
from neurodeploy.cli import console
from neurodeploy.cli.option_groups import expand_groups
from neurodeploy.processes.leftovers import remove_leftovers

COMMANDS = {
    "recipes": "recipes",
    "init": "recipes",
    "run": "train",
    "train": "train",
    "deploy": "deploy",
    "advise": "models",
    "convert": "models",
    "simulate": "simulate",
    "verify": "simulate",
    "report": "report",
    "compare": "compare",
    "inspect": "inspect",
    "fit": "inspect",
    "export": "export",
    "macs": "models",
    "doctor": "doctor",
    "zoo": "zoo",
    "lava": "lava",
}
"""Commands in the order of the help text, and the modules of `cli.commands` that hold them."""

TERMINATED = 143


def _print_version(is_given: bool) -> None:
    if is_given:
        console.out.print(f"neurodeploy {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del version


def make_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the application with these commands; the modules of others are not loaded."""
    app = typer.Typer(
        name="neurodeploy",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
        help=(
            "Train spiking networks, deploy them in the integers of Loihi chips, and verify them "
            "spike for spike on real Lava.\n\n"
            "Start with `neurodeploy run digits`: it trains on real images, writes a netx file, "
            "runs it on our simulator and on real Lava, and writes a report. Install real Lava "
            "once, with `neurodeploy lava install`.\n\n"
            "Exit codes: 0 success, 1 an error or a difference, 2 wrong usage, 3 an incomplete "
            "count of MACs, 130 interrupted."
        ),
    )
    app.callback()(_options)
    for name in names:
        module = import_module(f"neurodeploy.cli.commands.{COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command()(expand_groups(getattr(module, name)))
    return app


def run_command() -> None:
    """Run the command that the words of the command line name."""
    console.show_warnings_as_lines()
    # torch's idle threads would spin on the cores that our own loops run on; read at its import.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with suppress(ValueError):  # not in the main thread: whoever called us handles signals
        signal.signal(signal.SIGTERM, _terminate)
    remove_leftovers()
    # Only the command that is called; all of them where none is, or an unknown one.
    called = [word for word in sys.argv[1:2] if word in COMMANDS]
    make_app(called or COMMANDS)()


def _terminate(number: int, frame: object) -> NoReturn:
    """End in good order, so that temporary files and Lava's processes go too."""
    del number, frame
    raise SystemExit(TERMINATED)
