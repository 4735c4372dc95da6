"""Whatever is raised while a file is read is one error of its kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neurodeploy.errors import DataError, FractionWarning, NetxError
from neurodeploy.untrusted.boundary import (
    FileKind,
    check_file,
    guarded,
    read_bytes,
    read_text,
    reading,
)

KIND = FileKind("word", ".txt", DataError, "A word is required. Write one.")


class Panic(BaseException):
    """As those of Rust."""


def deepen(number: int) -> int:
    return deepen(number + 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("no"), "no"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (MemoryError(), "it needs more memory than there is"),
        (RecursionError("maximum"), "it is nested too deeply"),
        (Panic("called unwrap\n  on a None value"), "called unwrap on a None value"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("a\x1b[31mred" + "x" * 1000), r"a\\x1b\[31mredx{291}"),
    ],
)
def test_every_error_becomes_one_that_says_where_and_what_is_allowed(
    error: BaseException, reason: str
) -> None:
    expected = rf"^a\.txt: line 3: cannot be read \({reason}\)\. A word is required\. Write one\.$"
    with pytest.raises(DataError, match=expected) as caught, guarded("a.txt: line 3", KIND):
        raise error
    assert caught.value.__cause__ is error


def test_real_recursion_is_caught() -> None:
    with pytest.raises(DataError, match="nested too deeply"), guarded("a", KIND):
        deepen(0)


@pytest.mark.parametrize("error", [NetxError("ours"), FractionWarning(), KeyboardInterrupt()])
def test_our_own_and_ends_of_the_program_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, guarded("a", KIND):
        raise error
    assert caught.value is error


def test_only_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {
        "pipe": "not a file",
        "": "not a file",
        "none": "no such file",
        "loop": "[Ss]ymbolic links",
        "a\0b": "null",
    }.items():
        expected = pytest.raises(DataError, match=rf"{reason}.*\. Give the path of a \.txt file")
        with expected:
            check_file(tmp_path / name, KIND)
        with expected, reading(tmp_path / name, KIND):
            raise AssertionError


def test_sizes_are_checked_before_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"word\xff")
    assert read_bytes(tmp_path / "a.txt", KIND, most=5) == b"word\xff"
    with pytest.raises(DataError, match=r"over 4 bytes, which is more than is read\. A word"):
        read_bytes(tmp_path / "a.txt", KIND, most=4)
    with pytest.raises(DataError, match=r"cannot be read \('utf-8' codec"):
        read_text(tmp_path / "a.txt", KIND, most=5)
    (tmp_path / "a.txt").write_text("wörd", encoding="utf-8")
    assert read_text(tmp_path / "a.txt", KIND, most=5) == "wörd"
