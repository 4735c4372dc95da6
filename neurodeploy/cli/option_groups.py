"""Let a command take dataclasses, whose fields become its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Annotated, TypeVar, get_type_hints

import typer

Value = TypeVar("Value")


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
    ) -> Value:
        """Return a field of a dataclass that is an option of a command.

        Args:
            default: The value where the option is not given.
            help: The text of --help.
            name: The option with its dashes; by default the field's name.
            metavar: The name of the value in --help.
            min: The least number allowed.
            max: The largest number allowed.
        """
        details = {"help": help, "metavar": metavar, "min": min, "max": max}
        details["rich_help_panel"] = self.title
        return field(default=default, metadata={"name": name, "details": details})


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with the fields of its dataclasses in place of them.

    Typer reads arguments and options from a signature, so the result has a parameter for each.
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

    @wraps(command)
    def run(**values: object) -> None:
        built = {
            name: group(**{name: values.pop(name) for name in inspect.signature(group).parameters})
            for name, group in groups.items()
        }
        command(**built, **values)

    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters_of(group: type) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for entry in fields(group):
        hint = hints[entry.name]
        if entry.metadata:
            name = entry.metadata["name"] or "--" + entry.name.replace("_", "-")
            hint = Annotated[hint, typer.Option(name, **entry.metadata["details"])]
        default = Parameter.empty if entry.default is MISSING else entry.default
        yield Parameter(entry.name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)
