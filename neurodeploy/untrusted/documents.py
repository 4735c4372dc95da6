"""TOML and JSON of strangers, read with bounds.

Size, nesting and the length of numbers are bounded before anything is parsed; what is parsed holds
integers of at most 64 bits, finite JSON numbers, keys that occur once, and text without NUL.
"""

from __future__ import annotations

import json
import re
import tomllib
from math import isfinite
from pathlib import Path

from neurodeploy.untrusted.boundary import FileKind, read_text, reason_of

Table = dict[str, object]
"""A table as `tomllib` and `json` return it."""

TOML_BYTES = 1 << 18
JSON_BYTES = 1 << 21
"""Bytes of the largest documents."""
DEEPEST = 32
"""Tables and lists inside each other."""
LONGEST_NUMBER = 100
"""Characters; 17 digits make a float, and 19 an integer of 64 bits."""


def read_toml(path: Path, kind: FileKind) -> Table:
    """Read a TOML file within the bounds.

    Raises:
        Error of the kind of file: If it is missing, no TOML, or exceeds a bound.
    """
    return parse_toml(read_text(path, kind, most=TOML_BYTES), where=str(path), kind=kind)


def parse_toml(text: str, *, where: str, kind: FileKind) -> Table:
    """Parse TOML within the bounds.

    Raises:
        Error of the kind of file: If it is no TOML, or exceeds a bound.
    """
    if len(text) > TOML_BYTES:
        raise kind.error(f"{where}: over {TOML_BYTES} characters. {kind.rule}")
    if problem := _scan_toml(text):
        raise kind.error(f"{where}: {problem}")
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as reason:  # ValueError: no TOML, or a date that is none
        raise kind.error(f"{where}: not valid TOML: {reason_of(reason)}.") from reason
    _check(table, where, kind)
    return table


def read_json(path: Path, kind: FileKind) -> object:
    """Read a JSON file within the bounds.

    Raises:
        Error of the kind of file: If it is missing, no JSON, or exceeds a bound.
    """
    return parse_json(read_text(path, kind, most=JSON_BYTES), where=str(path), kind=kind)


def parse_json(text: str, *, where: str, kind: FileKind, most: int = JSON_BYTES) -> object:
    """Parse JSON of at most `most` characters within the other bounds.

    Raises:
        Error of the kind of file: If it is no JSON, or exceeds a bound.
    """

    def unique(pairs: list[tuple[str, object]]) -> Table:
        table: Table = {}
        for key, value in pairs:
            if key in table:
                raise ValueError(f"key {key[:100]!r} occurs twice in one table")
            table[key] = value
        return table

    def whole(digits: str) -> int:
        if len(digits) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(digits)} digits, {digits[:8]}...")
        return int(digits)

    def finite(digits: str) -> float:
        number = float(digits)
        if not isfinite(number):
            raise ValueError(f"{digits[:40]} is not a finite number")
        return number

    try:
        if len(text) > most:
            raise ValueError(f"over {most} characters")
        value = json.loads(
            text,
            object_pairs_hook=unique,
            parse_int=whole,
            parse_float=finite,
            parse_constant=finite,
        )
    except (ValueError, RecursionError) as reason:
        raise kind.error(f"{where}: not JSON ({reason_of(reason)}). {kind.rule}") from reason
    _check(value, where, kind)
    return value


# A token that opens or closes something, or a run of characters that begins as a number does.
_TOKEN = re.compile(r'"""|\'\'\'|["\'#\[\]{}\n=]|(?<![\w.+-])[+-]?[0-9][\w.+-]*|\.')
_ENDS = {
    '"""': re.compile(r'(?:[^"\\]++|\\.|"(?!""))*+"""', re.DOTALL),
    "'''": re.compile(r"(?:[^']++|'(?!''))*+'''"),
    '"': re.compile(r'(?:[^"\\\n]++|\\.)*+"'),
    "'": re.compile(r"[^'\n]*+'"),
    "#": re.compile(r"[^\n]*+"),
}


def _scan_toml(text: str) -> str:
    """Return the bound that TOML text exceeds, and the line; empty if there is none."""
    position, line, depth, dots = 0, 1, 0, 0
    while found := _TOKEN.search(text, position):
        token, position = found.group(), found.end()
        if token in _ENDS:
            end = _ENDS[token].match(text, position)
            if end is None:
                return ""  # a string without an end, which the parser reports
            line += text.count("\n", position, end.end())
            position = end.end()
        elif token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
            dots = 0
        elif token in "=\n":
            dots = 0
            line += token == "\n"
        elif token == ".":
            dots += 1
        elif len(token) > LONGEST_NUMBER:
            return (
                f"line {line}: a number of {len(token)} characters, {token[:8]}..., at most "
                f"{LONGEST_NUMBER} are allowed."
            )
        if max(depth, dots) > DEEPEST:
            return (
                f"line {line}: nested deeper than {DEEPEST} tables and lists, which no key of "
                "such a file needs."
            )
    return ""


def _check(value: object, where: str, kind: FileKind) -> None:
    """Refuse what a document cannot mean: huge integers, NUL in text, text that is no Unicode."""
    waiting: list[tuple[object, str, int]] = [(value, "", 0)]
    while waiting:
        value, name, depth = waiting.pop()
        if depth > DEEPEST:
            raise kind.error(
                f"{where}: {name[:60] or 'a list'}... is nested deeper than {DEEPEST} tables and "
                "lists."
            )
        if isinstance(value, dict):
            for key, one in value.items():
                waiting.append((key, f"key {key[:60]!r}", depth))
                waiting.append((one, f"{name}.{key[:60]}" if name else key[:60], depth + 1))
        elif isinstance(value, list):
            waiting += [(one, name, depth + 1) for one in value]
        elif isinstance(value, str):
            if problem := text_problem(value):
                raise kind.error(f"{where}: {name or 'a list'} {problem}, which is no text.")
        elif isinstance(value, int) and value.bit_length() > 63:
            raise kind.error(
                f"{where}: {name or 'a list'} has {str(value)[:20]}..., at most 64 bits of an "
                "integer are allowed."
            )


def text_problem(value: str) -> str:
    """Return why a string is no text that can be written to a file; empty if it is."""
    if "\0" in value:
        return "holds NUL"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half a character"
    return ""
