"""Mutations of TOML and JSON: values swapped for hostile ones, keys renamed, doubled, nested."""

from __future__ import annotations

import json
import re
from random import Random

from byte_mutators import often

STRINGS = (
    *("", " ", "\0", "a\0b", "[/b]", "[bold red]x", "[link=file:///etc/hostname]x"),
    *("/etc/hostname", "../../outside", "..", ".", "a/b", "~", "$HOME", "secret.bin", "nul\n"),
    *(
        "\N{SNOWMAN}",
        "\u202e",
        "\x1b[2J",
        "-1",
        "nan",
        "<script>",
        "{{7*7}}",
        "%s%n",
        "a#b",
        "é" * 300,
    ),
)
_NUMBERS = (
    *(
        "0",
        "-0",
        "1",
        "-1",
        "-0.0",
        "0.5",
        "127",
        "128",
        "255",
        "256",
        "32767",
        "65536",
        "2147483647",
    ),
    *("2147483648", "4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775809", "18446744073709551616", "1e10", "1e-10", "1e300", "1e308", "1.8e308"),
    *("5e-324", "-1e300", "1e400", "9" * 400, "9" * 5000, "-" + "9" * 5000, "1" + "0" * 308),
)
JSON_TOKENS = (
    *("NaN", "Infinity", "-Infinity", "null", "true", "false", "[]", "{}", '""', "[[]]", '{"":0}'),
    *("[null]", '{"a":{"a":{"a":1}}}', "1E400", "-1e999", '"\\ud800"', '"\\u0000"', "[1,[2,[3]]]"),
    *_NUMBERS,
)
_TOML_TOKENS = (
    *(
        "nan",
        "inf",
        "-inf",
        "+nan",
        "true",
        "false",
        "[]",
        "{}",
        '""',
        "[[]]",
        "{a = 1}",
        "[1, 'a']",
    ),
    *("0x7fffffffffffffff", "0xffffffffffffffffff", "0o7", "0b1", "1979-05-27", "07:32:00"),
    *("1979-05-27T07:32:00Z", "[true]", "['conv2', 'conv2']", "'''x'''", "1_000_000", "1_0e1_0"),
    *_NUMBERS,
)
_ASSIGNMENT = re.compile(r"^(\s*[\w.\"-]+\s*=\s*)(.*)$", re.MULTILINE)
_HOLE = "\ufdd0hole"


def a_string(rng: Random) -> str:
    """Return a string that is hostile as a name, a path, or in a terminal."""
    return rng.choice(STRINGS) if rng.random() < 0.98 else "x" * 100_000


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")


def _nested(rng: Random, opening: str, inner: str, closing: str) -> str:
    depth = often(rng, (3, 10, 40), (300, 1000, 10_000, 50_000))
    return opening * depth + inner + closing * depth


# --- TOML -----------------------------------------------------------------------------------------


def set_toml_value(rng: Random, data: bytes) -> bytes:
    found = list(_ASSIGNMENT.finditer(text := _text(data)))
    if not found:
        return data + b"\na = " + rng.choice(_TOML_TOKENS).encode()
    place = rng.choice(found)
    token = rng.choice(
        (
            rng.choice(_TOML_TOKENS),
            rng.choice(_TOML_TOKENS),
            str(rng.choice((-1, 1)) * rng.randrange(1 << rng.randrange(1, 70))),
            repr(rng.uniform(-2, 2)),
            json.dumps(a_string(rng)),
            rng.choice(found)[2],
            f"[{', '.join([place[2]] * often(rng, (2, 3), (2000,)))}]",
        )
    )
    return _bytes(text[: place.start(2)] + token + text[place.end(2) :])


def nest_toml(rng: Random, data: bytes) -> bytes:
    text = _text(data)
    extra = rng.choice(
        (
            lambda: "deep = " + _nested(rng, "[", "", "]"),
            lambda: "deep = " + _nested(rng, "{a = ", "1", "}"),
            lambda: ".".join("a" * often(rng, (3, 10, 40), (1000, 20_000))) + " = 1",
            lambda: "[" + ".".join("a" * often(rng, (3, 10, 40), (1000, 20_000))) + "]\nb = 1",
            lambda: "deep = [" + "1, " * often(rng, (1, 9), (1000, 100_000)) + "]",
            lambda: "".join(
                f"[[variant]]\nname = 'v{number}'\n" for number in range(often(rng, (1, 3), (500,)))
            ),
            lambda: "[[network.layers]]\ntype = 'conv'\n" * often(rng, (1, 3), (50, 1000)),
        )
    )()
    found = list(_ASSIGNMENT.finditer(text))
    if found and "=" in extra and rng.random() < 0.5:
        place = rng.choice(found)
        return _bytes(text[: place.start(2)] + extra.split("=", 1)[1] + text[place.end(2) :])
    return _bytes(rng.choice((extra + "\n" + text, text + "\n" + extra + "\n")))


def edit_toml_lines(rng: Random, data: bytes) -> bytes:
    lines = _text(data).split("\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            lines.insert(other, lines[place])
        case 1:
            del lines[place]
        case 2:
            lines[place], lines[other] = lines[other], lines[place]
        case 3:
            lines[place] = re.sub(
                r"\w", rng.choice(("x", "", "é", '"[/b]"')), lines[place], count=1
            )
        case 4:
            lines[place] = f"[{rng.choice(('a', 'data', 'network', 'limits.x', '[variant]', ''))}]"
        case 5:
            lines[place] = f"{rng.choice(('name', 'value', 'steps', 'x'))} = 1"
        case _:
            lines[place] += rng.choice(("\r", "\0", "\ufeff", " # \x7f", "\udcff", "'", '"""', "]"))
    return _bytes("\n".join(lines))


TOML = (set_toml_value, set_toml_value, set_toml_value, edit_toml_lines, edit_toml_lines, nest_toml)


# --- JSON -----------------------------------------------------------------------------------------


def mutate_json(rng: Random, data: bytes) -> bytes:
    """Change one place of a document: its value, its key, its nesting, how often it is there."""
    document = json.loads(data)
    places: list[tuple[object, object]] = []

    def collect(node: object) -> None:
        entries = node.items() if isinstance(node, dict) else enumerate(node)  # type: ignore[call-overload]
        for key, value in entries:
            places.append((node, key))
            if isinstance(value, dict | list):
                collect(value)

    if not isinstance(document, dict | list) or not document:
        return rng.choice(JSON_TOKENS).encode()
    collect(document)
    node, key = rng.choice(places)
    old = json.dumps(node[key])  # type: ignore[index]
    token = _json_token(rng, old, places)
    match rng.randrange(8):
        case 0 if isinstance(node, dict):
            node[rng.choice((a_string(rng), f"{key}x"))] = node.pop(key)
        case 1:
            del node[key]  # type: ignore[attr-defined]
        case 2 if isinstance(node, list):
            node.extend([node[key]] * often(rng, (1, 2), (5000,)))  # type: ignore[index]
        case 3 if isinstance(node, dict):
            node[_HOLE] = 0
            name = json.dumps(rng.choice((str(key), a_string(rng))))
            return (
                _dumped(document)
                .replace(f'"{_HOLE}": 0', f"{name}: {token}")
                .encode(errors="surrogatepass")
            )
        case 4:
            return (token + _dumped(document)[: rng.choice((0, 1, 9))]).encode()
        case _:
            node[key] = _HOLE  # type: ignore[index]
            return _dumped(document).replace(f'"{_HOLE}"', token).encode(errors="surrogatepass")
    return _dumped(document).encode(errors="surrogatepass")


def _dumped(document: object) -> str:
    return json.dumps(document, ensure_ascii=False)


def _json_token(rng: Random, old: str, places: list[tuple[object, object]]) -> str:
    match rng.randrange(9):
        case 0 | 1 | 2:
            return rng.choice(JSON_TOKENS)
        case 3:
            return json.dumps(a_string(rng))
        case 4:
            return _nested(rng, "[", old, "]")
        case 5:
            return _nested(rng, '{"a":', old, "}")
        case 6:
            node, key = rng.choice(places)
            return json.dumps(node[key])  # type: ignore[index]
        case 7:
            return str(rng.choice((-1, 1)) * rng.randrange(1 << rng.randrange(1, 70)))
        case _:
            return rng.choice(
                (f"[{old}]", json.dumps(old), repr(rng.uniform(-2, 2)), f"[{old},{old}]")
            )


JSON = (mutate_json,)
