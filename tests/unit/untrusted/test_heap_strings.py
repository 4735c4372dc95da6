"""Strings of variable length, read with bounds from sound and from damaged heaps."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from neurodeploy.untrusted.heap_strings import HeapError, read_strings


def heap_file(
    path: Path,
    *,
    reference: tuple[int, int, int] = (4, 100, 2),
    signature: bytes = b"GCOL",
    version: int = 1,
    size: int = 96,
    objects: tuple[tuple[int, bytes], ...] = ((1, b"first one"), (2, b"CUBA")),
) -> Path:
    """A reference at byte 8, a heap at byte 100."""
    heap = struct.pack("<4sB3xQ", signature, version, size)
    heap += b"".join(
        struct.pack("<HH4xQ", index, 0, len(content)) + content + bytes(-len(content) % 8)
        for index, content in objects
    )
    start = struct.pack("<IQI", *reference)
    path.write_bytes(bytes(8) + start + bytes(100 - 8 - len(start)) + heap + bytes(64))
    return path


def test_a_string_is_found_by_its_index(tmp_path: Path) -> None:
    path = heap_file(tmp_path / "a")
    assert read_strings(path, 8, 1, base=0, longest=256) == [b"CUBA"]
    path = heap_file(tmp_path / "b", reference=(5, 100, 1))
    assert read_strings(path, 8, 1, base=0, longest=256) == [b"first"]


def test_addresses_count_from_the_user_block(tmp_path: Path) -> None:
    path = heap_file(tmp_path / "a", reference=(4, 60, 2))
    assert read_strings(path, 8, 1, base=40, longest=256) == [b"CUBA"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": (0, 100, 2)}, "0 bytes, 1 to 256"),
        ({"reference": (257, 100, 2)}, "257 bytes, 1 to 256"),
        ({"reference": (5, 100, 2)}, "5 bytes in a place of 4"),
        ({"reference": (4, 100, 3)}, "not in its heap"),
        ({"reference": (4, 100, 0)}, "not in its heap"),
        ({"reference": (4, 104, 2)}, "not a heap"),
        ({"reference": (4, 2**63, 2)}, "beyond the end"),
        ({"signature": b"COLG"}, "not a heap"),
        ({"version": 2}, "not a heap"),
        ({"size": 20}, "not in its heap"),
        ({"size": 40}, "not in its heap"),
        ({"size": 64}, "4 bytes in a place of 4"),
        ({"objects": ((0, b""), (2, b"CUBA"))}, "not in its heap"),
        ({"objects": ((1, b""),) * 3}, "not in its heap"),
    ],
)
def test_damaged_heaps(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(HeapError, match=message):
        read_strings(heap_file(tmp_path / "a", **options), 8, 1, base=0, longest=256)


def test_a_heap_without_an_end(tmp_path: Path) -> None:
    """A size beyond the file, and nothing but objects of size zero: the search still ends."""
    path = heap_file(tmp_path / "a", size=2**62, objects=((1, b""),) * 100_000)
    with pytest.raises(HeapError, match="not in its heap"):
        read_strings(path, 8, 1, base=0, longest=256)


def test_reading_at_the_very_end(tmp_path: Path) -> None:
    path = heap_file(tmp_path / "a")
    with pytest.raises(HeapError, match="beyond the end"):
        read_strings(path, path.stat().st_size - 3, 1, base=0, longest=256)
