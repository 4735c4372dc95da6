"""Overrides of single keys, and variants: several recipes that share one file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

from neurodeploy.errors import RecipeError
from neurodeploy.strict_tables import Table, suggestion


def toml_value(text: str) -> object:
    """Return the value of a text in TOML; any other text is a string."""
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


VARIANTS = "variant"


def variant_names(table: Mapping[str, object], *, where: str) -> tuple[str, ...]:
    """Return the names of a file's variants, in order; none for a file that is one recipe.

    Raises:
        RecipeError: If its [[variant]] entries are not tables with a name of their own.
    """
    return tuple(_variants(table, where=where))


def apply_variant(table: Table, variant: str | None, *, where: str) -> Table:
    """Return the recipe of one variant of a file.

    A file may hold keys that several recipes share, and [[variant]] entries: each a `name`, and
    sections whose keys are added to the common ones or replace them. The name of the recipe is
    that of the variant.

    Args:
        table: The whole file.
        variant: Name of the variant; None for a file without variants.
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
    variants: dict[str, Mapping[str, object]] = {}
    for number, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or "#" in name:
            raise RecipeError(
                f"{where} [[{VARIANTS}]] {number}: a name without '#' is required, as in "
                'name = "resnet18_t2".'
            )
        if name in variants:
            raise RecipeError(f"{where}: a second variant '{name}'. Names must differ.")
        variants[name] = entry
    return variants


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
