"""The `neurodeploy` command: parse, call, print. What it calls is importable from Python too."""

from neurodeploy.cli.app import main as main
