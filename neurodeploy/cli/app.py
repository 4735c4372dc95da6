"""The command line's entry point; the commands are in the modules beside this one."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from neurodeploy._version import __version__
from neurodeploy.cli import console
from neurodeploy.cli.commands import lava
from neurodeploy.cli.commands.compare import compare
from neurodeploy.cli.commands.deploy import deploy
from neurodeploy.cli.commands.doctor import doctor
from neurodeploy.cli.commands.export import export
from neurodeploy.cli.commands.fit import fit
from neurodeploy.cli.commands.inspect import inspect
from neurodeploy.cli.commands.macs import macs
from neurodeploy.cli.commands.recipes import recipes
from neurodeploy.cli.commands.report import report
from neurodeploy.cli.commands.simulate import simulate, verify
from neurodeploy.cli.commands.train import run, train
from neurodeploy.cli.option_groups import expand_groups
from neurodeploy.errors import NeurodeployError

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
        "Start with `neurodeploy run digits`: it trains on real images, writes a netx file, runs "
        "it on our simulator and on real Lava, and writes a report. Install real Lava once, with "
        "`neurodeploy lava install`.\n\n"
        "Exit codes: 0 success, 1 an error or a difference, 2 wrong usage, 3 an incomplete count "
        "of MACs, 130 interrupted."
    ),
)
for command in (
    recipes,
    run,
    train,
    deploy,
    simulate,
    verify,
    report,
    compare,
    inspect,
    fit,
    export,
    macs,
    doctor,
):
    app.command()(expand_groups(command))
app.add_typer(lava.app, name="lava")

INTERRUPTED = 130
TERMINATED = 143


def _print_version(is_given: bool) -> None:
    if is_given:
        console.out.print(f"neurodeploy {__version__}")
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
    # torch's idle threads would spin on the cores that our own loops run on; read at its import.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with suppress(ValueError):  # not in the main thread: whoever called us handles signals
        signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run())


def _run() -> int:
    """Run a command and turn whatever ends it into an exit code."""
    try:
        try:
            app()
        except SystemExit as end:  # Typer's way to say that it has finished, or refused
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
    except NeurodeployError as error:
        console.print_error(error)
        return 1
    except console.RunInterruptedError as error:
        console.print_error(error)
        return INTERRUPTED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except MemoryError:
        console.print_error("not enough memory. Use fewer samples at a time, or fewer steps.")
        return 1
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _drop_output()
        return 1
    except OSError as error:
        place = error.filename or "standard output"
        _drop_output()
        console.print_error(f"{place}: {error.strerror or error}.")
        return 1
    if code == INTERRUPTED:
        console.print_error("interrupted. Files that were being written are as they were before.")
    return code


def _terminate(number: int, frame: object) -> NoReturn:
    """End in good order, so that temporary files and Lava's processes go too."""
    del number, frame
    raise SystemExit(TERMINATED)


def _drop_output() -> None:
    """Send what is still buffered nowhere, or Python would fail on it again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
