"""Every command keeps its arguments and options: names, types, defaults, limits."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import get_args

import typer

from neurodeploy.cli.app import make_app

EXPECTED = Path(__file__).parent / "commands.txt"


def commands(group: typer.Typer, name: str = "neurodeploy") -> Iterator[str]:
    """Yield one line for each parameter of each command of a group."""
    built = typer.main.get_group(group)
    for info in group.registered_commands:
        assert info.callback is not None
        command = info.name or info.callback.__name__
        types = {
            parameter.name: get_args(parameter.annotation)[0]
            for parameter in inspect.signature(info.callback, eval_str=True).parameters.values()
        }
        for parameter in built.commands[command].params:
            default = parameter.default
            kind = types[parameter.name]
            facts = {
                "metavar": parameter.metavar,
                "type": kind.__name__
                if isinstance(kind, type)
                else re.sub(r"[a-z]+\.", "", str(kind)),
                "choices": [e.value for e in kind]
                if inspect.isclass(kind) and issubclass(kind, Enum)
                else None,
                "default": default.value if isinstance(default, Enum) else default,
                "required": parameter.required or None,
                "min": parameter.min,
                "max": parameter.max,
                "multiple": getattr(parameter, "multiple", None) or None,
                "nargs": parameter.nargs if parameter.nargs != 1 else None,
                "panel": parameter.rich_help_panel,
            }
            names = ", ".join((*parameter.opts, *parameter.secondary_opts))
            words = "; ".join(f"{key} {value}" for key, value in facts.items() if value is not None)
            yield f"{name} {command} {names}: {words}".replace("typing.", "").replace(
                "pathlib.", ""
            )
    for part in group.registered_groups:
        assert part.typer_instance is not None
        yield from commands(part.typer_instance, f"{name} {part.name}")


def test_no_option_has_changed() -> None:
    expected = EXPECTED.read_text(encoding="utf-8").splitlines()
    assert sorted(commands(make_app())) == expected
