"""TOML and JSON of strangers: bounds before parsing, and what no document means."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neurodeploy.errors import DataError
from neurodeploy.files import recipes_path
from neurodeploy.untrusted.boundary import FileKind
from neurodeploy.untrusted.documents import parse_json, parse_toml, read_json, read_toml

KIND = FileKind("list", ".list", DataError, "Give a list.")


def toml(text: str) -> dict[str, object]:
    return parse_toml(text, where="here", kind=KIND)


def json(text: str) -> object:
    return parse_json(text, where="here", kind=KIND)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (toml, "a = 1\nb = " + "[" * 40, "line 2: nested deeper than 32 tables"),
        (toml, "a = " + "{a=" * 40, "line 1: nested deeper than 32 tables"),
        (toml, "\n\n" + ".".join("a" * 100_000) + " = 1", "line 3: nested deeper than 32"),
        (toml, 'a = """\n"""\nb = ' + "1" * 5000, "line 3: a number of 5000 characters"),
        (toml, "a = 0x" + "f" * 5000, "a number of 5002 characters"),
        (toml, "a = 9223372036854775808", "a has 9223372036854775808..., at most 64 bits"),
        (toml, 'a = {b = "x\\u0000"}', "a.b holds NUL"),
        (toml, '"a\\u0000" = 1', "holds NUL"),
        (toml, "a = 1979-99-99", "not valid TOML"),
        (toml, "a = 1\na = 2", "not valid TOML"),
        (toml, "a" * 300_000, "over 262144 characters"),
        (json, "[" * 100_000, r"nested too deeply\). Give a list"),
        (json, "[" * 40 + "]" * 40, "nested deeper than 32 tables"),
        (json, "1" * 5000, "a number of 5000 digits, 11111111"),
        (json, '{"a": [18446744073709551616]}', "a has 18446744073709551616"),
        (json, '{"a": NaN}', "NaN is not a finite number"),
        (json, "-Infinity", "-Infinity is not a finite number"),
        (json, "1e999", "1e999 is not a finite number"),
        (json, '{"a": "\\u0000"}', "a holds NUL"),
        (json, '["\\ud800"]', "holds half a character"),
        (json, '{"a": 1, "a": 2}', "key 'a' occurs twice"),
        (json, "[1,", "not JSON"),
        (json, " " * 3_000_000, "over 2097152 characters"),
    ],
)
def test_what_exceeds_a_bound_is_one_error(
    parse: Callable[[str], object], text: str, message: str
) -> None:
    with pytest.raises(DataError, match=f"here: .*{message}"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "a=[" + "[]," * 80_000 + "]",
        'a="""' + '\\"""' * 60_000,
        '"""\n' * 60_000,
        "\n".join(f"a.b{number}.c=1" for number in range(15_000)),
        "[[a.b]]\n" * 30_000,
    ],
    ids=["lists", "escapes", "quotes", "keys", "tables"],
)
def test_no_text_within_the_bounds_takes_long(text: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(DataError):
        toml(text)
    assert time.process_time() - begin < 2


def test_strings_and_comments_are_not_counted() -> None:
    text = f"a = '{'[' * 99}' # {'{' * 99}\nb = \"{'1' * 999}\\\"[[\"\nc = '''\n{'[' * 99}'''\n"
    assert list(toml(text)) == ["a", "b", "c"]
    assert toml("a = 1.5\nb = [1e3, -2, 0xff]\nc.d.e = 1979-05-27T07:32:00Z")["b"] == [1e3, -2, 255]


def test_documents_of_our_own_are_read(tmp_path: Path) -> None:
    for path in recipes_path().glob("*.toml"):
        assert read_toml(path, KIND)
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2.5, -0.0, null, true, "\\u00e9 \\n"]}')
    assert read_json(path, KIND) == {"a": [1, 2.5, -0.0, None, True, "é \n"]}
