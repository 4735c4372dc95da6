"""Between TOML and dataclasses: strict reading, overrides, variants, writing.

What a section may hold can depend on its first field, the tag (`data.source`, a layer's `type`).
Limits are in each field's metadata; see `neurodeploy.recipes.strict_toml`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from neurodeploy.errors import RecipeError

Table = dict[str, object]
"""A TOML table as `tomllib` gives it."""
Section = TypeVar("Section")


# --- from tables to dataclasses -------------------------------------------------------------


def read_section(kind: type[Section], table: object, *, where: str, path: str = "") -> Section:
    """Build one dataclass from a table, strictly.

    Args:
        kind: A dataclass, or one made of dataclasses.
        table: Keys and values.
        where: Start of errors.
        path: Dotted name of the section; empty for the whole.

    Raises:
        RecipeError: On an unknown or missing key, a wrong type or a value out of range.
    """
    place = f"{where} [{path}]" if path else where
    if not isinstance(table, Mapping):
        raise RecipeError(f"{place}: {_shown(table)}, a table is required.")
    known = _fields(kind)
    for key in table:
        if key not in known:
            what = "key" if path else "section"
            raise RecipeError(f"{place}: unknown {what} '{key}'." + suggestion(str(key), known))
    types = get_type_hints(kind)
    values: Table = {}
    for name, spec in known.items():
        if name in table:
            values[name] = _read(types[name], table[name], spec, name, where=where, path=path)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            what = "key" if path else "section"
            raise RecipeError(f"{place}: {what} '{name}' is missing.")
    return kind(**values)


def _fields(kind: type) -> dict[str, Field[object]]:
    return {spec.name: spec for spec in fields(kind)}


def _read(
    kind: object, value: object, spec: Field[object], name: str, *, where: str, path: str
) -> object:
    """Check one value against its annotation and the limits beside it."""
    dotted = f"{path}.{name}" if path else name
    place = f"{where} [{path}]: {name}"
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    sections = [member for member in members if hasattr(member, "__dataclass_fields__")]
    if sections:
        chosen = sections[0] if len(sections) == 1 else _variant(sections, value, where, dotted)
        return read_section(chosen, value, where=where, path=dotted)
    plains = [member for member in members if member is not NoneType]
    literals = [member for member in plains if get_origin(member) is Literal]
    plain = plains[0]
    if len(plains) > 1:  # a choice of words, or something else
        others = (member for member in plains if member not in literals)
        plain = literals[0] if isinstance(value, str) else next(others)
    if get_origin(plain) is Literal:
        choices = get_args(plain)
        if value not in choices:
            allowed = ", ".join(f"'{choice}'" for choice in choices)
            if len(plains) > 1:
                allowed += ", or a list"
            raise RecipeError(
                f"{place} = {_shown(value)}, allowed: {allowed}."
                + suggestion(str(value), map(str, choices))
            )
        return value
    if get_origin(plain) is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{place} = {_shown(value)}, a list is required.")
        if spec.metadata.get("not_empty") and not value:
            raise RecipeError(f"{place} is empty, at least one entry is required.")
        lengths = spec.metadata.get("lengths")
        if lengths and len(value) not in lengths:
            allowed = " or ".join(map(str, lengths))
            raise RecipeError(f"{place} = {_shown(value)}, {allowed} entries are required.")
        inner = get_args(plain)[0]
        return tuple(
            _read(inner, entry, spec, str(index), where=where, path=dotted)
            for index, entry in enumerate(value)
        )
    return _read_scalar(cast("type", plain), value, spec, place=place)


def _read_scalar(kind: type, value: object, spec: Field[object], *, place: str) -> object:
    words = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise RecipeError(f"{place} = {_shown(value)}, {words[kind]} is required.")
    limits = spec.metadata.get("range")
    if isinstance(value, int | float) and limits and not limits.allows(value):
        raise RecipeError(f"{place} = {_shown(value)}, it must be {limits}.")
    if isinstance(value, float) and value - value != 0.0:
        raise RecipeError(f"{place} = {_shown(value)}, a finite number is required.")
    if spec.metadata.get("not_empty") and value == "":
        raise RecipeError(f"{place} is empty, text is required.")
    return value


def _variant(sections: list[type], value: object, where: str, path: str) -> type:
    """Choose the dataclass whose tag (its first field) has the table's value."""
    tag = fields(sections[0])[0].name
    kinds: dict[str, type] = {}
    default: str | None = None
    for section in sections:
        spec = fields(section)[0]
        for choice in get_args(get_type_hints(section)[spec.name]):
            kinds[choice] = section
        default = str(spec.default) if spec.default is not MISSING else default
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where} [{path}]: {_shown(value)}, a table is required.")
    found = value.get(tag, default)
    if isinstance(found, str) and found in kinds:
        return kinds[found]
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    if found is None:
        raise RecipeError(f"{where} [{path}]: key '{tag}' is missing, allowed: {allowed}.")
    raise RecipeError(
        f"{where} [{path}]: {tag} = {_shown(found)}, allowed: {allowed}."
        + suggestion(str(found), kinds)
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of an error: the known word that was probably meant, or all of them."""
    known = list(known)
    close = get_close_matches(word, known, n=1)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(known)}." if known else ""


def _shown(value: object) -> str:
    return _toml_text(value) if isinstance(value, str | bool | int | float) else repr(value)


# --- overrides ------------------------------------------------------------------------------


def toml_value(text: str) -> object:
    """Return the value that a text is in TOML; what is not TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def override(table: Table, key: str, value: object, *, where: str) -> None:
    """Set one dotted key in place; tables on the way are made, list entries must exist."""
    parts = key.split(".")
    if len(parts) < 2 or not all(parts):
        raise RecipeError(
            f"{where}: override '{key}': section.key is required, such as training.epochs."
        )
    here: object = table
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if isinstance(here, dict):
            if is_last:
                here[part] = value
            here = here.setdefault(part, {})
        elif isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            if is_last:
                here[int(part)] = value
            here = here[int(part)]
        else:
            found = ".".join(parts[:index])
            what = f"has {len(here)} entries" if isinstance(here, list) else "is not a table"
            raise RecipeError(f"{where}: override '{key}': '{found}' {what}.")


# --- variants -------------------------------------------------------------------------------

VARIANTS = "variant"


def variant_names(table: Mapping[str, object], *, where: str) -> tuple[str, ...]:
    """Return the names of a file's variants, in order; none for a file that is one recipe.

    Raises:
        RecipeError: If its [[variant]] entries are not tables with a name of their own.
    """
    return tuple(_variants(table, where=where))


def apply_variant(table: Table, variant: str | None, *, where: str) -> Table:
    """Return the recipe that one variant of a file stands for.

    A file may hold what several recipes have in common, and [[variant]] entries: each a `name`,
    and sections whose keys are added to the common ones or replace them. The name of the recipe
    is that of the variant.

    Args:
        table: The file's.
        variant: Which; None for a file that has none.
        where: Start of errors.

    Raises:
        RecipeError: If there is no such variant, or there are some and none is named.
    """
    variants = _variants(table, where=where)
    if variant is None:
        if variants:
            names = ", ".join(variants)
            raise RecipeError(
                f"{where}: holds {len(variants)} variants: {names}. Name one, as in "
                f"{where}#{next(iter(variants))}."
            )
        return table
    if variant not in variants:
        raise RecipeError(f"{where}: no variant '{variant}'." + suggestion(variant, variants))
    common = {key: value for key, value in table.items() if key != VARIANTS}
    own = {key: value for key, value in variants[variant].items() if key != "name"}
    named = _merged({"recipe": {"name": variant}}, own)
    return _merged(common, named)


def _variants(table: Mapping[str, object], *, where: str) -> dict[str, Mapping[str, object]]:
    entries = table.get(VARIANTS, [])
    if not isinstance(entries, list):
        raise RecipeError(f"{where} [{VARIANTS}]: a list is required: write [[{VARIANTS}]].")
    found: dict[str, Mapping[str, object]] = {}
    for number, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or "#" in name:
            raise RecipeError(
                f"{where} [[{VARIANTS}]] {number}: a name without '#' is required, as in "
                'name = "resnet18_t2".'
            )
        if name in found:
            raise RecipeError(f"{where}: a second variant '{name}'. Names must differ.")
        found[name] = entry
    return found


def _merged(common: Mapping[str, object], own: Mapping[str, object]) -> Table:
    """Return `common` with the keys of `own` added or in place; tables are merged key by key."""
    merged = dict(common)
    for key, value in own.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(before, value)
        else:
            merged[key] = value
    return merged


# --- from dataclasses to TOML ---------------------------------------------------------------


def section_table(section: object) -> Table:
    """Return a dataclass as plain tables; keys that are None are left out."""
    table: Table = {}
    for spec in fields(section):  # type: ignore[arg-type]  # every caller passes a dataclass
        value = _plain(getattr(section, spec.name))
        if value is not None:
            table[spec.name] = value
    return table


def _plain(value: object) -> object:
    if hasattr(value, "__dataclass_fields__"):
        return section_table(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


def _toml_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that TOML also forbids a bare DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(_toml_text(entry) for entry in value) + "]"
    return repr(value)


def toml_lines(table: Table, path: str = "") -> Iterable[str]:
    """Yield the plain keys of a table, then its tables, then its lists of tables."""
    nested = [(key, value) for key, value in table.items() if isinstance(value, dict)]
    lists = [
        (key, value)
        for key, value in table.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    later = {key for key, _ in nested} | {key for key, _ in lists}
    for key, value in table.items():
        if key not in later:
            yield f"{key} = {_toml_text(value)}"
    for key, value in nested:
        name = f"{path}.{key}" if path else key
        yield ""
        yield f"[{name}]"
        yield from toml_lines(value, name)
    for key, value in lists:
        name = f"{path}.{key}" if path else key
        for entry in value:
            yield ""
            yield f"[[{name}]]"
            yield from toml_lines(entry, name)


# What a number in a recipe may be: limits that stand beside a dataclass field.


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be; `None` means no limit on that side."""

    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    below: float | None = None

    def allows(self, value: float) -> bool:
        """Return whether `value` lies inside."""
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (self.maximum is None or value <= self.maximum)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        words = (
            ("at least", self.minimum),
            ("above", self.above),
            ("at most", self.maximum),
            ("below", self.below),
        )
        return " and ".join(f"{word} {limit:g}" for word, limit in words if limit is not None)


Metadata = Mapping[str, object]
"""What `dataclasses.field(metadata=...)` takes."""
POSITIVE: Metadata = {"range": Range(minimum=1)}
NOT_NEGATIVE: Metadata = {"range": Range(minimum=0)}
ABOVE_ZERO: Metadata = {"range": Range(above=0)}
FRACTION: Metadata = {"range": Range(above=0, below=1)}
UNIT: Metadata = {"range": Range(minimum=0, maximum=1)}
NOT_EMPTY: Metadata = {"not_empty": True}
