"""Strings of variable length in HDF5 files, read without the library.

They are kept in a *global heap*. HDF5 2.0 searches a damaged heap for ever: an object of size zero
is a loop that nothing can interrupt. Netx files need the heap for one short word, the neuron's
type, NIR files for names and edges; `read_strings` reads them with bounds. Source: HDF5 File Format
Specification version 3.0, sections III.E (global heap) and IV.B (variable-length types).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

REFERENCE_BYTES = 16
"""Length (4 bytes), address of the heap collection (8), index of the object (4)."""

_REFERENCE = struct.Struct("<IQI")
_SIGNATURE = b"GCOL"
_HEADER = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")
_HEAP_BYTES_MAX = 1 << 24
"""A heap is 4096 bytes, or the size of the longest string in it."""


class HeapError(ValueError):
    """A string of variable length is not where its reference points."""


def read_strings(path: Path, offset: int, count: int, *, base: int, longest: int) -> list[bytes]:
    """Read the strings to which `count` references at `offset`, of 16 bytes each, point.

    Addresses in the file have 8 bytes, as in all but very old or special ones, and count from
    `base`, the size of the file's user block. Strings have no terminators.

    Raises:
        HeapError: If one has over `longest` bytes, or its place is not a heap.
        OSError: If the file cannot be opened.
    """
    strings = []
    heaps: dict[int, _Heap] = {}
    with path.open("rb") as file:
        references = _read_at(file, offset, count * REFERENCE_BYTES)
        for length, address, sought in _REFERENCE.iter_unpack(references):
            if not 0 < length <= longest:
                raise HeapError(f"a string of {length} bytes, 1 to {longest} are allowed")
            if address not in heaps:
                if sum(len(heap.content) for heap in heaps.values()) > _HEAP_BYTES_MAX:
                    raise HeapError(f"heaps of over {_HEAP_BYTES_MAX} bytes")
                heaps[address] = _read_heap(file, base + address)
            strings.append(heaps[address].string(sought, length))
    return strings


@dataclass(frozen=True, slots=True)
class _Heap:
    """One heap collection: its bytes, and (position, size) of its objects by index."""

    content: bytes
    objects: dict[int, tuple[int, int]]

    def string(self, index: int, length: int) -> bytes:
        if index not in self.objects:
            raise HeapError("the string is not in its heap")
        position, size = self.objects[index]
        if length > min(size, len(self.content) - position):
            raise HeapError(f"a string of {length} bytes in a place of {size}")
        return self.content[position : position + length]


def _read_heap(file: BinaryIO, position: int) -> _Heap:
    signature, version, size = _HEADER.unpack(_read_at(file, position, _HEADER.size))
    if (signature, version) != (_SIGNATURE, 1):
        raise HeapError("the string's place is not a heap")
    content = file.read(max(min(size, _HEAP_BYTES_MAX) - _HEADER.size, 0))
    objects: dict[int, tuple[int, int]] = {}
    position = 0
    while position + _OBJECT.size <= len(content):
        index, _, stored = _OBJECT.unpack_from(content, position)
        position += _OBJECT.size
        if index == 0:  # the free space at the end
            break
        objects.setdefault(index, (position, stored))
        position += -(-stored // 8) * 8
    return _Heap(content, objects)


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    try:
        file.seek(position)
        content = file.read(size)
    except (OSError, ValueError, OverflowError) as error:
        raise HeapError("the string's place is beyond the end of the file") from error
    if len(content) < size:
        raise HeapError("the string's place is beyond the end of the file")
    return content
