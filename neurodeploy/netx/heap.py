"""Read a variable-length string of an HDF5 file without the HDF5 library.

Such strings are kept in a *global heap*. HDF5 2.0 searches a damaged heap for ever: an object of
size zero is a loop that nothing can interrupt. Netx files need this for one short word, the
neuron's type, so it is read here, with bounds.

Source: HDF5 File Format Specification version 3.0, section III.E "Disk Format: Level 1E - Global
Heap", section IV.B "Variable-length types".
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from neurodeploy.errors import NetxError

REFERENCE_BYTES = 16
"""Length (4 bytes), address of the heap collection (8), index of the object (4)."""

_SIGNATURE = b"GCOL"
_HEADER = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")
_HEAP_BYTES_MAX = 1 << 24
"""A heap is 4096 bytes, or the size of the longest string in it."""


def read_string(path: Path, offset: int, *, base: int, longest: int) -> bytes:
    """Read the string to which the reference at `offset` points.

    Args:
        path: The file; its addresses have 8 bytes, as all but very old or special ones.
        offset: Where in the file the 16 bytes of the reference are.
        base: What addresses in the file count from: the size of its user block.
        longest: Most bytes that are read.

    Returns:
        The string, without a terminator.

    Raises:
        NetxError: If it is longer, or what is found is not a heap.
        OSError: If the file cannot be opened.
    """
    with path.open("rb") as file:
        length, address, wanted = struct.unpack("<IQI", _read(file, offset, REFERENCE_BYTES))
        if not 0 < length <= longest:
            raise NetxError(f"a string of {length} bytes, 1 to {longest} are allowed")
        header = _read(file, base + address, _HEADER.size)
        signature, version, size = _HEADER.unpack(header)
        if (signature, version) != (_SIGNATURE, 1):
            raise NetxError("the string's place is not a heap")
        heap = file.read(min(size, _HEAP_BYTES_MAX) - _HEADER.size)
    position = 0
    while position + _OBJECT.size <= len(heap):
        index, _, stored = _OBJECT.unpack_from(heap, position)
        position += _OBJECT.size
        if index == 0:  # the free space at the end
            break
        if index == wanted:
            if length > min(stored, len(heap) - position):
                raise NetxError(f"a string of {length} bytes in a place of {stored}")
            return heap[position : position + length]
        position += -(-stored // 8) * 8
    raise NetxError("the string is not in its heap")


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    try:
        file.seek(position)
        found = file.read(size)
    except (OSError, ValueError, OverflowError) as error:
        raise NetxError("the string's place is beyond the end of the file") from error
    if len(found) < size:
        raise NetxError("the string's place is beyond the end of the file")
    return found
