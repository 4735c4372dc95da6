"""The `neurodeploy` command: parse, call, print. What it calls is importable from Python too.

Modules, in reading order:
    standard_streams: Closed, full and broken streams, and letters that one lacks.
    endings: How a command ends: one line for a fault, and the exit code.
    app: The application.
    console: Tables, bars, JSON and errors.
    option_groups: Dataclasses whose fields are the options of commands.
    options: The groups that several commands share.
    certified_steps: Number of steps that the certificate beside a file was made with.
    scores: Accuracy of a run, by the labels of its samples.
    certificates: Certificates of verification in `verify` and `report`.
    conversions: Options and results of `convert`.
    foreign_networks: NIR files in `deploy` and `inspect`.
    commands: One file a command, named as the command.
"""

import gc
import sys

from neurodeploy.cli.endings import run_to_the_end
from neurodeploy.processes.parents import watch_starter
from neurodeploy.untrusted.isolation import start_early


def main() -> None:
    """Run the command line; exit 1 for errors, 2 for wrong usage, 130 when interrupted."""
    sys.exit(run_to_the_end(_run))


def _run() -> None:
    watch_starter()
    start_early(sys.argv)
    gc.disable()  # until a command starts: imports leave no garbage, to look for it takes a tenth
    try:
        # Here, so that the process that tries a file starts beside these imports.
        from neurodeploy.cli.app import run_command

        run_command()
    finally:
        gc.enable()
