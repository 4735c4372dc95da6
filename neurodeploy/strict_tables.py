"""Strict reading of TOML and JSON tables into dataclasses, and writing them as TOML.

A dataclass declares the keys of a table; the type of a field declares its values:

    epochs: NotNegativeInt                  an integer of at least 0
    hidden: tuple[PositiveInt, ...] = ()    a list of integers of at least 1
    loss: CrossEntropyLoss | TetLoss        a table; its tag, the first field, chooses the class
    limits: Mapping[str, Limit]             tables under names of their own

Errors name the place, the value and what is allowed, and suggest the right key for a misspelt one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from enum import EnumType
from functools import cache
from math import isfinite
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from neurodeploy.errors import NeurodeployError, RecipeError
from neurodeploy.untrusted.documents import Table

Section = TypeVar("Section")


# --- limits of a value, beside the type of its field -----------------------------------------


@dataclass(frozen=True, slots=True)
class Range:
    """Limits of a number; `None` is no limit on that side."""

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None

    def problem(self, value: object) -> str:
        """Return the error about a number outside; empty for one inside."""
        assert isinstance(value, int | float)
        is_inside = (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )
        if is_inside:
            return ""
        is_share = 1 in (self.maximum, self.below) and 0 in (self.minimum, self.above)
        percent = (
            f". For {value:g} % write {value / 100:g}" if is_share and 1 < value <= 100 else ""
        )
        return f" = {_shown(value)}, it must be {self}{percent}"

    def __str__(self) -> str:
        limits = (self.minimum, self.above, self.maximum, self.below)
        words = zip(("at least", "above", "at most", "below"), limits, strict=True)
        shown = ((word, limit) for word, limit in words if limit is not None)
        return " and ".join(
            f"{word} {limit}" if isinstance(limit, int) else f"{word} {limit:g}"
            for word, limit in shown
        )


@dataclass(frozen=True, slots=True)
class NotEmpty:
    """At least one character or entry, for a reason that the error gives."""

    reason: str = ""

    def problem(self, value: object) -> str:
        """Return the error about an empty text or list; empty for others."""
        needed = "text" if isinstance(value, str) else "at least one entry"
        why = f": {self.reason}" if self.reason else ""
        return "" if value else f" is empty, {needed} is required{why}"

    def __str__(self) -> str:
        return "not empty"


@dataclass(frozen=True, slots=True)
class FileName:
    """A name that becomes that of a file or folder, and never a path to another place."""

    def problem(self, value: object) -> str:
        """Return the error about a name that would lead elsewhere; empty for others."""
        assert isinstance(value, str)
        if not value:
            return " is empty, text is required"
        if value != value.strip():
            return f" = {_shown(value)}, text without spaces around it is required"
        if "/" in value or "\\" in value or value in (".", "..") or not value.isprintable():
            return (
                f" = {_shown(value)}, a plain name is required, without '/', '\\' or control "
                "characters: it names a folder"
            )
        size = len(value.encode())
        return f" is {size} bytes long, at most 200 are allowed" if size > 200 else ""

    def __str__(self) -> str:
        return "a plain name, not a path"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Allowed numbers of entries of a list: a few, or a range of them."""

    allowed: tuple[int, ...] | range

    def problem(self, value: object) -> str:
        """Return the error about a list of another length; empty for the allowed ones."""
        assert isinstance(value, list | tuple)
        is_allowed = len(value) in self.allowed
        return "" if is_allowed else f" = {_shown(value)}, {self} are required"

    def __str__(self) -> str:
        is_range = isinstance(self.allowed, range)
        named = (self.allowed[0], self.allowed[-1]) if is_range else self.allowed
        return f"{(' to ' if is_range else ' or ').join(map(str, named))} entries"


PositiveInt = Annotated[int, Range(minimum=1)]
NotNegativeInt = Annotated[int, Range(minimum=0)]
PositiveFloat = Annotated[float, Range(above=0)]
Factor = Annotated[float, Range(above=0, maximum=1e6)]
"""A number whose product with another one, and with a weight, stays within 32-bit floats."""
NotNegativeFloat = Annotated[float, Range(minimum=0)]
Share = Annotated[float, Range(minimum=0, maximum=1)]
ShareBelowOne = Annotated[float, Range(minimum=0, below=1)]
ProperFraction = Annotated[float, Range(above=0, below=1)]
Text = Annotated[str, NotEmpty()]
Name = Annotated[str, FileName()]


# --- from tables to dataclasses --------------------------------------------------------------


def read_table(
    kind: type[Section],
    table: object,
    *,
    where: str,
    error: type[NeurodeployError] = RecipeError,
    noun: str = "key",
) -> Section:
    """Build a dataclass, which may be made of dataclasses, from a table, strictly.

    Args:
        kind: The dataclass.
        table: Keys and values.
        where: Start of errors, such as the path of the file.
        error: What an unknown or missing key, a wrong type and a value out of range raise.
        noun: Word for a key of the outermost table in errors.
    """
    return _Reader(where, error, noun).section(kind, table, "")


@dataclass(frozen=True, slots=True)
class _Reader:
    """The reader of one document.

    A path is the dotted name of a table in the document; the outermost one has an empty path.
    """

    where: str
    error: type[NeurodeployError]
    noun: str

    def section(self, kind: type[Section], value: object, path: str) -> Section:
        table = self.table(value, path)
        noun = "key" if path else self.noun
        known = {spec.name: spec for spec in fields(kind)}  # type: ignore[arg-type]  # a dataclass
        for key in table:
            if key not in known:
                advice = suggestion(str(key), known)
                name = _short(str(key))
                raise self.error(f"{self.place(path)}: unknown {noun} '{name}'.{advice}")
        missing = (MISSING, MISSING)
        required = [k for k, one in known.items() if (one.default, one.default_factory) == missing]
        types = _types(kind)  # type: ignore[arg-type]  # classes are hashable
        values: Table = {}
        for name in known:
            if name in table:
                values[name] = self.value(types[name], table[name], path, name)
            elif name in required:
                is_whole = len(required) == len(known)
                advice = f" It has exactly the keys {', '.join(known)}." if is_whole else ""
                raise self.error(f"{self.place(path)}: {noun} '{name}' is missing.{advice}")
        return kind(**values)

    def value(self, kind: object, value: object, path: str, name: str) -> object:
        if get_origin(kind) is Annotated and isinstance(get_args(kind)[1], str):
            kind = get_args(kind)[0]  # without its description
        if value is None and NoneType in get_args(kind):
            return None  # JSON's null; TOML has none
        dotted = f"{path}.{name}" if path else name
        place = f"{self.place(path)}: {name}"
        is_union = get_origin(kind) in (Union, UnionType)
        members = [one for one in (get_args(kind) if is_union else (kind,)) if one is not NoneType]
        sections = [one for one in members if isinstance(one, type) and is_dataclass(one)]
        if sections:
            chosen = sections[0] if len(sections) == 1 else self.variant(sections, value, dotted)
            return self.section(chosen, value, dotted)
        plain = members[0]
        if len(members) > 1:  # a choice of words, or a list
            is_word = isinstance(value, str)
            plain = next(one for one in members if (get_origin(one) is Literal) == is_word)
        limits: list[Range | NotEmpty | FileName | Lengths] = []
        if get_origin(plain) is Annotated:
            plain, *notes = get_args(plain)
            limits = [note for note in notes if not isinstance(note, str)]  # a text describes
        if plain is object:
            return value
        if get_origin(plain) is Literal or isinstance(plain, EnumType):
            return self.word(plain, value, place, is_list_allowed=len(members) > 1)
        if get_origin(plain) is Mapping:
            table = self.table(value, dotted)
            inner = get_args(plain)[1]
            return MappingProxyType({k: self.value(inner, v, dotted, k) for k, v in table.items()})
        is_list = get_origin(plain) is tuple
        if is_list and not isinstance(value, list | tuple):
            raise self.error(f"{place} = {_shown(value)}, a list is required.")
        if not is_list:
            value = self.scalar(cast("type", plain), value, place)
        for limit in limits:
            if problem := limit.problem(value):
                raise self.error(f"{place}{problem}.")
        if isinstance(value, list | tuple):
            inner = get_args(plain)[0]
            return tuple(self.value(inner, v, dotted, str(k)) for k, v in enumerate(value))
        if isinstance(value, float) and not isfinite(value):
            raise self.error(f"{place} = {_shown(value)}, a finite number is required.")
        return value

    def table(self, value: object, path: str) -> Mapping[str, object]:
        if not isinstance(value, Mapping):
            raise self.error(f"{self.place(path)}: {_shown(value)}, a table is required.")
        return value

    def word(self, kind: object, value: object, place: str, *, is_list_allowed: bool) -> object:
        choices = list(kind) if isinstance(kind, EnumType) else list(get_args(kind))
        if value in choices:
            return choices[choices.index(value)]
        allowed = ", ".join(f"'{choice}'" for choice in choices)
        allowed += ", or a list" if is_list_allowed else ""
        advice = suggestion(str(value), map(str, choices))
        raise self.error(f"{place} = {_shown(value)}, allowed: {allowed}.{advice}")

    def scalar(self, kind: type, value: object, place: str) -> object:
        if isinstance(value, int) and value.bit_length() > 63:
            raise self.error(f"{place} = {_shown(value)}, at most 64 bits are allowed.")
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.error(f"{place} = {_shown(value)}, {_SCALARS[kind]} is required.")
        return value

    def variant(self, sections: list[type], value: object, path: str) -> type:
        """Choose the dataclass whose tag (its first field) has the table's value."""
        tag = fields(sections[0])[0].name
        kinds = {
            choice: section for section in sections for choice in get_args(_types(section)[tag])
        }
        defaults = [fields(section)[0].default for section in sections]
        default = next((one for one in defaults if one is not MISSING), None)
        given = self.table(value, path).get(tag, default)
        if isinstance(given, str) and given in kinds:
            return kinds[given]
        allowed = ", ".join(f"'{kind}'" for kind in kinds)
        place = self.place(path)
        if given is None:
            raise self.error(f"{place}: key '{tag}' is missing, allowed: {allowed}.")
        advice = suggestion(str(given), kinds)
        raise self.error(f"{place}: {tag} = {_shown(given)}, allowed: {allowed}.{advice}")

    def place(self, path: str) -> str:
        return f"{self.where} [{path}]" if path else self.where


_SCALARS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


@cache
def _types(kind: type) -> dict[str, object]:
    return get_type_hints(kind, include_extras=True)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of an error: the known word that was probably meant, or all of them."""
    known = list(known)
    close = get_close_matches(word, known, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(known)}." if known else ""


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    is_plain = isinstance(value, str | bool | int | float)
    return _short(toml_text(value) if is_plain else repr(value))


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."


# --- from dataclasses to TOML ----------------------------------------------------------------


def plain_table(section: object) -> Table:
    """Return a dataclass as plain tables and lists; keys that are None are left out."""
    values = {spec.name: getattr(section, spec.name) for spec in fields(section)}  # type: ignore[arg-type]  # every caller passes a dataclass
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _plain(value: object) -> object:
    if is_dataclass(value):
        return plain_table(value)
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def toml_text(value: object) -> str:
    """Return a text, number, truth value or list of them as in a TOML file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that TOML also forbids a bare DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(toml_text(entry) for entry in value) + "]"
    return repr(value)


def toml_lines(table: Table, path: str = "") -> Iterator[str]:
    """Yield the plain keys of a table, then its tables, then its lists of tables."""
    nested = {key: value for key, value in table.items() if isinstance(value, dict)}
    lists = {
        key: value
        for key, value in table.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    }
    for key, value in table.items():
        if key not in nested and key not in lists:
            yield f"{key} = {toml_text(value)}"
    start = f"{path}." if path else ""
    for key, value in nested.items():
        yield from ("", f"[{start}{key}]", *toml_lines(value, start + key))
    for key, entries in lists.items():
        for entry in entries:
            yield from ("", f"[[{start}{key}]]", *toml_lines(entry, start + key))
