"""Let a command take dataclasses, whose fields become its options."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, TypeVar, get_args, get_type_hints

import typer
from typer.models import ParameterInfo

from neurodeploy.cli import console
from neurodeploy.files import files_of, require_output

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Writes:
    """Mark an option as a file that the command writes, with one of these suffixes."""

    suffixes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Panel:
    """A heading of --help, and the options below it; without a title, that of all options."""

    title: str | None = None

    def option(
        self,
        default: Value,
        help: str,
        *,
        name: str | None = None,
        metavar: str | None = None,
        min: float | None = None,
        max: float | None = None,
        writes: Sequence[str] = (),
    ) -> Value:
        """Return a field of a dataclass that is an option of a command.

        `name` is the option with its dashes, by default that of the field, and others that mean the
        same, with spaces between them; `writes` holds the
        suffixes of a file that the command writes. The others are Typer's.
        """
        details = {"help": help, "metavar": metavar, "min": min, "max": max}
        details["rich_help_panel"] = self.title
        return field(default=default, metadata={"name": name, "details": details, "writes": writes})


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with the fields of its dataclasses in place of them.

    Typer reads arguments and options from a signature, so the result has a parameter for each.
    Before the command runs, every file that it is to write (`Writes`) is checked: the right suffix,
    a place that can be written, and none of the files that the command reads. After it, standard
    error names the files written.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _parameters_of(groups[name])
        else:
            kind = Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(kind=kind, annotation=hints[name]))
    suffixes = {}
    for parameter in parameters:
        for mark in get_args(parameter.annotation)[1:]:
            if isinstance(mark, Writes):
                suffixes[parameter.name] = mark.suffixes
            elif isinstance(mark, ParameterInfo):
                mark.readable = False  # Click would refuse what cannot be read as wrong usage

    @wraps(command)
    def run(**values: object) -> None:
        gc.enable()
        written = _require_outputs(values, suffixes)
        built = {
            name: group(**{name: values.pop(name) for name in inspect.signature(group).parameters})
            for name, group in groups.items()
        }
        try:
            command(**built, **values)
        except typer.Exit:  # its work is done, only its finding is bad
            console.print_written(written)
            raise
        console.print_written(written)

    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _require_outputs(
    values: Mapping[str, object], suffixes: Mapping[str, Sequence[str]]
) -> list[Path]:
    """Return the files to write, once all have been checked."""
    files = [*_files([value for name, value in values.items() if name not in suffixes])]
    written: list[Path] = []
    for name, allowed in suffixes.items():
        path = values[name]
        if isinstance(path, Path):
            require_output(path, allowed, inputs=[*files, *written])
            written.append(path)
    return written


def _files(value: object) -> Iterator[Path]:
    """Yield the files that a command reads for an option: paths, and names that are paths."""
    if isinstance(value, Path):
        yield from files_of(value)
    elif isinstance(value, str) and Path(value).is_file():
        yield Path(value)
    elif isinstance(value, list):
        for entry in value:
            yield from _files(entry)


def _parameters_of(group: type) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for entry in fields(group):
        hint = hints[entry.name]
        if entry.metadata:
            name = entry.metadata["name"] or "--" + entry.name.replace("_", "-")
            hint = Annotated[hint, typer.Option(*name.split(), **entry.metadata["details"])]
            if entry.metadata["writes"]:
                hint = Annotated[hint, Writes(entry.metadata["writes"])]
        default = Parameter.empty if entry.default is MISSING else entry.default
        yield Parameter(entry.name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
