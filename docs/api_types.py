"""Classes that public names take, hold or return, and that have no public name of their own."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator

LEFT_OUT = "neurodeploy.recipes."
"""Sections of a recipe have a page of their own."""


def find_types(objects: Iterable[object]) -> list[type]:
    """Return the classes behind the annotations of objects, and behind those of these classes.

    Args:
        objects: Public functions and classes, which are not among what is returned.
    """
    public = list(objects)
    found: list[type] = []
    waiting = list(public)
    while waiting:
        for one in _annotated(waiting.pop()):
            if one not in public and one not in found:
                found.append(one)
                waiting.append(one)
    return sorted(found, key=lambda one: (one.__module__, one.__qualname__))


def _annotated(value: object) -> Iterator[type]:
    """Yield the package's classes in the annotations of a function, or a class and its methods."""
    parts = [value]
    if inspect.isclass(value):
        for name, one in vars(value).items():
            if not name.startswith("_"):
                one = one.fget if isinstance(one, property) else getattr(one, "__func__", one)
                parts += [one] if inspect.isfunction(one) else []
    for part in parts:
        try:
            hints = typing.get_type_hints(part)
        except (NameError, TypeError):  # imported for type checkers alone, or no annotations
            continue
        for hint in hints.values():
            yield from _classes_in(hint)


def _classes_in(hint: object) -> Iterator[type]:
    if inspect.isclass(hint) and not typing.get_args(hint):
        module = str(hint.__module__)
        is_ours = module.startswith("neurodeploy.") and not module.startswith(LEFT_OUT)
        if is_ours and not hint.__name__.startswith("_"):
            yield hint
    for inner in typing.get_args(hint):
        yield from _classes_in(inner)
