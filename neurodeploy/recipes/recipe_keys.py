"""Every key of a recipe with its type, default, limits and meaning, read from the sections.

The meaning of a key is its entry under `Attributes:` in the docstring of its section.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

from neurodeploy.errors import RecipeError
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.strict_tables import suggestion

_TYPES = {str: "text", int: "integer", float: "number", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeKey:
    """A key of a recipe.

    Attributes:
        name: As in the file.
        type: Of its values, in words.
        default: As it would stand in the file; "required" for none, "unset" for one that is left
            out.
        allowed: Limits of its values; empty if there are none beyond the type.
        meaning: From the docstring of its section, in one line.
    """

    name: str
    type: str
    default: str
    allowed: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionKeys:
    """The keys of one section of a recipe, or of one of the kinds that a section can have.

    Attributes:
        section: As in the file, without brackets: "training.loss".
        choices: Values of the first key that choose this kind; empty for a section of one kind.
        is_list: True for a list of tables, such as [[network.layers]].
        meaning: The kind in one line.
        keys: In the order of the class.
    """

    section: str
    choices: tuple[str, ...]
    is_list: bool
    meaning: str
    keys: tuple[RecipeKey, ...]

    @property
    def title(self) -> str:
        """Return the head of the section as in a file, and the key that chooses it."""
        head = f"[[{self.section}]]" if self.is_list else f"[{self.section}]"
        if not self.choices:
            return head
        return f"{head} {self.keys[0].name} = {' or '.join(map(json.dumps, self.choices))}"


def list_recipe_keys(section: str = "") -> tuple[SectionKeys, ...]:
    """Return every key of a recipe, section by section.

    Args:
        section: One of them with those inside it, such as `training`, or one kind of it, such as
            `data.npz` or `network.layers.conv`; by default all.

    Raises:
        RecipeError: If there is no such section.

    Example:
        >>> [key.name for key in nd.list_recipe_keys("neuron.lif")[0].keys]
        ['model', 'tau', 'threshold', 'surrogate']
    """
    tables = tuple(_tables(Recipe, ""))
    if not section:
        return tables
    wanted = section.strip("[] ")
    found = tuple(
        table
        for table in tables
        if f"{table.section}.".startswith(f"{wanted}.")
        or wanted in {f"{table.section}.{choice}" for choice in table.choices}
    )
    if not found:
        names = list(dict.fromkeys(table.section for table in tables))
        kinds = [f"{table.section}.{choice}" for table in tables for choice in table.choices]
        close = suggestion(wanted, [*names, *kinds])
        advice = close if close.startswith(" Did") else suggestion("", names)
        raise RecipeError(f"'{section}': a recipe has no such section.{advice}")
    return found


def _tables(kind: type, path: str) -> Iterator[SectionKeys]:
    """Yield the tables of the sections that the fields of a dataclass hold."""
    hints = get_type_hints(kind, include_extras=True)
    for spec in fields(kind):
        sections = _sections(hints[spec.name])
        name = f"{path}.{spec.name}" if path else spec.name
        has_kinds = len(sections) > 1
        for section in sections:
            keys = tuple(_keys(section))
            tag = get_type_hints(section)[keys[0].name] if has_kinds else None
            yield SectionKeys(
                section=name,
                choices=get_args(tag) if tag is not None else (),
                is_list=_is_list(hints[spec.name]),
                meaning=_summary(section),
                keys=keys,
            )
        for section in sections:
            yield from _tables(section, name)


def _sections(hint: object) -> list[type]:
    """Return the dataclasses that a value may be made of, or the entries of a list of them."""
    if isinstance(hint, type) and is_dataclass(hint):
        return [hint]
    if get_origin(hint) is Literal:
        return []
    return [section for part in get_args(hint) for section in _sections(part)]


def _is_list(hint: object) -> bool:
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(plain) is tuple


def _keys(section: type) -> Iterator[RecipeKey]:
    hints = get_type_hints(section, include_extras=True)
    meanings = _meanings(section)
    for spec in fields(section):
        kind, allowed = _type_of(hints[spec.name])
        yield RecipeKey(
            name=spec.name,
            type=kind,
            default=_default_of(spec),
            allowed=allowed,
            meaning=meanings.get(spec.name, ""),
        )


def _type_of(hint: object) -> tuple[str, str]:
    """Return the type and the limits of a value in words."""
    if _sections(hint):
        return ("list of tables" if _is_list(hint) else "table"), ""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind, inner = _type_of(parts[0])
        return kind, ", ".join(filter(None, [*map(str, parts[1:]), inner]))
    if origin is Literal:
        return "text", ", ".join(map(json.dumps, parts))
    if origin is tuple:
        kind, inner = _type_of(parts[0])
        return f"list of {kind}s" if kind != "text" else "list of texts", inner
    if isinstance(hint, type):
        return _TYPES[hint], ""
    described = [_type_of(part) for part in parts if part is not NoneType]  # a union
    kinds, limits = zip(*described, strict=True)
    return " or ".join(kinds), ", ".join(filter(None, limits))


def _default_of(spec: Field[object]) -> str:
    if spec.default_factory is not MISSING:
        first = fields(spec.default_factory())[0]  # type: ignore[arg-type]  # it is a section
        is_tag = isinstance(first.default, str)
        return f"{{ {first.name} = {json.dumps(first.default)} }}" if is_tag else "{}"
    if spec.default is MISSING:
        return "required"
    if spec.default is None:
        return "unset"
    value = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _summary(section: type) -> str:
    text = inspect.cleandoc(section.__doc__ or "").split("\n\n", 1)[0]
    return re.sub(r",? as \[data\]|: \[[\w.]+\](?=[.;])", "", _one_line(text), count=1)


def _meanings(section: type) -> dict[str, str]:
    """Return the entries under `Attributes:` of a dataclass and of those it derives from."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        _, _, entries = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
        block = re.split(r"\n(?=\S)", entries, maxsplit=1)[0]
        for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", block, re.MULTILINE):
            found[name] = _one_line(text)
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
