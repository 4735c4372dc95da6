"""Tables of dataclasses, words and lists; recipes, targets and presets test the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import pytest

from neurodeploy.errors import DataError
from neurodeploy.strict_tables import Lengths, PositiveInt, Range, plain_table, read_table


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True)
class Entry:
    value: PositiveInt
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Whole:
    entries: Mapping[str, Entry]
    shape: Annotated[tuple[PositiveInt, ...], Lengths((1, 3))] = (1,)
    share: Annotated[float, Range(above=0, maximum=0.5)] | None = None
    free: object = None


def read(**table: object) -> Whole:
    return read_table(Whole, {"entries": {}, **table}, where="file", error=DataError)


def test_reads_tables_under_names_of_their_own():
    whole = read(entries={"a": {"value": 2, "colour": "green"}}, shape=[1, 2, 3], free=[[1]])
    assert whole.entries["a"] == Entry(2, Colour.GREEN)
    assert (whole.shape, whole.share, whole.free) == ((1, 2, 3), None, [[1]])


def test_integers_become_floats_and_none_is_left_out():
    entry = Entry(2)
    assert plain_table(entry) == {"value": 2, "colour": "red"}
    assert "share" not in plain_table(read())
    with pytest.raises(DataError, match=r"share = 1\.0, it must be above 0 and at most 0\.5"):
        read(share=1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"entries": 1}, r"file \[entries\]: 1, a table is required"),
        ({"entries": {"a": 1}}, r"file \[entries.a\]: 1, a table is required"),
        ({"entries": {"a": {}}}, r"file \[entries.a\]: key 'value' is missing"),
        ({"entries": {"a": {"value": 0}}}, r"\[entries.a\]: value = 0, it must be at least 1"),
        (
            {"entries": {"a": {"value": 1, "colour": "gren"}}},
            "colour = \"gren\", allowed: 'red', 'green'. Did you mean 'green'",
        ),
        ({"shape": [1, 2]}, r"file: shape = \[1, 2\], 1 or 3 entries are required"),
        ({"shape": [True]}, r"file \[shape\]: 0 = true, an integer is required"),
        ({"sharp": 1}, "file: unknown key 'sharp'. Did you mean 'share'"),
    ],
)
def test_names_place_value_and_what_is_allowed(table, message):
    with pytest.raises(DataError, match=message):
        read(**table)
