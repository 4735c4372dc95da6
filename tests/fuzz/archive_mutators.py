"""Mutations of `.npy`, `.npz` and safetensors files: headers, members and declared sizes."""

from __future__ import annotations

import io
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from random import Random

import numpy as np
from byte_mutators import BYTES, often
from text_mutators import JSON_TOKENS, STRINGS, mutate_json

_SIZES = (
    0,
    1,
    2,
    3,
    7,
    100,
    1 << 16,
    1 << 31,
    (1 << 31) - 1,
    1 << 40,
    1 << 62,
    1 << 63,
    -1,
    -(1 << 31),
)
_TYPES = (
    *(
        "|b1",
        "|u1",
        "|i1",
        "<i2",
        ">i4",
        "<i8",
        "<u8",
        "<f2",
        "<f4",
        "<f8",
        "<c16",
        "|O",
        "|V0",
        "|V8",
    ),
    *("<U0", "<U4", "|S0", "|S3", "<M8[us]", "<m8[ns]", "<f16", "i4,i4", "x", "(2,3)i4", "=i4"),
)


def _pickled() -> bytes:
    """Return a `.npy` file of objects that opens a file when it is unpickled."""
    return _npy("|O", "(1,)", b"cbuiltins\nopen\n(Vsecret.bin\ntR.")


def _npy(descr: str, shape: str, data: bytes, order: str = "False") -> bytes:
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def edit_npy_header(rng: Random, data: bytes) -> bytes:
    """Change the type, the order, the shape or the length that a `.npy` file declares."""
    match = re.match(rb"\x93NUMPY(..)(..)(\{.*?\}\s*)", data, re.DOTALL)
    if match is None:
        return rng.choice(BYTES)(rng, data)
    header, rest = match[3].decode("latin-1"), data[match.end() :]
    version, length = match[1], None
    shape = rf"\({', '.join(str(rng.choice(_SIZES)) for _ in range(rng.randrange(5)))},?\)"
    match rng.randrange(8):
        case 0:
            header = re.sub(r"\([^)]*\)", shape.replace("\\", ""), header)
        case 1:
            header = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(_TYPES)!r}", header)
        case 2:
            header = re.sub("False|True", rng.choice(("True", "False", "1", "None")), header)
        case 3:
            header = re.sub(r"\d+", str(rng.choice(_SIZES)), header, count=1)
        case 4:
            length = rng.choice((0, 1, 65535, 118))
        case 5:
            version = rng.choice((b"\2\0", b"\3\0", b"\4\0", b"\0\0", b"\xff\xff"))
        case 6:
            header = rng.choice(
                (
                    "[" * 300 + "]" * 300,
                    "-" * 5000 + "1",
                    "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,)}",
                    header.replace("'shape'", "'shap'"),
                    header + "\0",
                    header.replace("{", "{'x': 1, "),
                    header.replace("(", "(" + "9" * 5000 + ", "),
                    header.replace("(", "(True, "),
                    header.replace("(", "(2.0, "),
                )
            )
        case _:
            return _pickled()
    stored = header.encode("latin-1", errors="replace")
    declared = struct.pack("<H", min(65535, len(stored) if length is None else length))
    return b"\x93NUMPY" + version + declared + stored + rest


def rewrite_array(rng: Random, data: bytes) -> bytes:
    """Put an array of another type, shape or content in the place of a `.npy` file's."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    buffer = io.BytesIO()
    np.save(buffer, _changed(rng, array), allow_pickle=False)
    return buffer.getvalue()


def _changed(rng: Random, array: np.ndarray) -> np.ndarray:
    flat = array.reshape(-1).copy()
    match rng.randrange(9):
        case 0 if flat.size and flat.dtype.kind in "iu":
            limits = np.iinfo(flat.dtype)
            flat[rng.randrange(flat.size)] = rng.choice((limits.min, limits.max, 0, 1))
            return flat.reshape(array.shape)
        case 1:
            hostile = (np.nan, np.inf, -np.inf, 1e300)
            return np.full(array.shape, rng.choice(hostile), np.float64)
        case 2:
            return array[: rng.randrange(len(array) + 1)] if array.ndim else array[None]
        case 3:
            return np.asarray(array[..., None] if array.ndim < 30 else flat)
        case 4 if array.ndim:
            return np.asfortranarray(array.T if rng.random() < 0.5 else array)
        case 5 if flat.dtype.kind in "biuf":
            return array.astype(rng.choice("bBhHiIlLqQefdFD"))
        case 6:
            return np.array(rng.choice(STRINGS))
        case 7 if flat.size > 1 and flat.dtype.kind in "biuf":
            order = list(range(flat.size))
            rng.shuffle(order)
            return flat[order].reshape(array.shape)
        case _:
            return np.zeros(
                rng.choice(((), (0,), (0, 3), (1 << 20,), (3, 0, 4), (1,) * 32)), np.uint8
            )


NPY = (edit_npy_header, edit_npy_header, rewrite_array)


# --- archives -------------------------------------------------------------------------------------

_DEFLATED, _STORED = zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(one.filename, archive.read(one)) for one in archive.infolist()]


def _zipped(members: list[tuple[str, bytes]], method: int = _DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # double names are made on purpose
        for name, content in members:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            archive.writestr(entry, content)
    return buffer.getvalue()


def edit_member(rng: Random, data: bytes) -> bytes:
    """Change one array of an archive; the archive's checksums fit what is in it."""
    members = _members(data)
    place = rng.randrange(len(members))
    name, content = members[place]
    change = rng.choice((*NPY, *NPY, *(BYTES if content else ())))
    members[place] = name, change(rng, content)
    return _zipped(members, rng.choice((_STORED, _DEFLATED)))


def edit_members(rng: Random, data: bytes) -> bytes:
    """Rename, double, drop, exchange or add members of an archive, or compress them otherwise."""
    members = _members(data)
    place, other = rng.randrange(len(members)), rng.randrange(len(members))
    name, content = members[place]
    method = rng.choice((_STORED, _DEFLATED))
    match rng.randrange(9):
        case 0:
            names = (
                "/etc/hostname",
                "../x.npy",
                "a" * 60_000,
                "x.npy",
                name[:-4],
                "\u202e",
                "[/b].npy",
            )
            members[place] = rng.choice(names), content
        case 1:
            members.append((name, members[other][1]))
        case 2:
            del members[place]
        case 3:
            members[place], members[other] = (name, members[other][1]), (members[other][0], content)
        case 4:
            method = rng.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case 5:
            members.append(
                (rng.choice(("payload.npy", "offset.npy", "label.npy", "x.txt")), content)
            )
        case 6:
            size = often(rng, (1 << 12,), (1 << 24,))
            members[place] = name, _npy("|u1", f"({size},)", bytes(size))
            method = _DEFLATED
        case 7:
            members += [
                (f"{number}.npy", content[:64]) for number in range(often(rng, (10,), (3000,)))
            ]
        case _:
            members[place] = name, _pickled()
    return _zipped(members, method)


def edit_directory(rng: Random, data: bytes) -> bytes:
    """Change a field of an archive's directory: method, flags, checksum, declared sizes, place."""
    place = data.rfind(b"PK\x01\x02")
    if place < 0 or len(data) < place + 46:
        return rng.choice(BYTES)(rng, data)
    places = [found.start() for found in re.finditer(b"PK\x01\x02", data)]
    place = rng.choice(places)
    offset, width = rng.choice(
        ((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4))
    )
    number = rng.choice(
        (0, 1, 8, 12, 14, 93, 99, 0xFFFF, 0xFFFFFFFF, 1 << 31, rng.randrange(1 << 16))
    )
    start = place + offset
    return (
        data[:start] + (number % (1 << 8 * width)).to_bytes(width, "little") + data[start + width :]
    )


NPZ = (edit_member, edit_member, edit_members, edit_directory)


# --- safetensors ----------------------------------------------------------------------------------


def edit_tensors(rng: Random, data: bytes) -> bytes:
    """Change the header of a safetensors file, the JSON inside of it, or values of a tensor."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = rng.choice([name for name in header if name != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    body = bytearray(data[8 + length :])
    declared = None
    match rng.randrange(9):
        case 0 | 1 if header[name].get("dtype") == "F32" and end - begin >= 4:
            place = begin + 4 * rng.randrange((end - begin) // 4)
            value = rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e-45, 0.0, -1.0))
            body[place : place + 4] = struct.pack("<f", value)
        case 2:
            header[name]["dtype"] = rng.choice(
                ("F64", "F16", "BF16", "I64", "U8", "BOOL", "X", 1, None)
            )
        case 3:
            header[name]["shape"] = [rng.choice(_SIZES) for _ in range(rng.randrange(5))]
        case 4:
            header[name]["data_offsets"] = [
                rng.choice((begin, *_SIZES)),
                rng.choice((end, *_SIZES)),
            ]
        case 5:
            header[rng.choice((f"{name}x", *STRINGS[:9]))] = header.pop(name)
        case 6:
            declared = rng.choice((0, 1, 1 << 31, 1 << 63, (1 << 64) - 1, 100_000_001))
        case 7:
            return _sealed(mutate_json(rng, json.dumps(header).encode()), bytes(body), declared)
        case _:
            _edit_metadata(rng, header)
    return _sealed(json.dumps(header).encode(), bytes(body), declared)


def _edit_metadata(rng: Random, header: dict[str, object]) -> None:
    """Change the JSON document that is a string inside of the header."""
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not metadata:
        header["__metadata__"] = {"neurodeploy": rng.choice(JSON_TOKENS)}
        return
    key = rng.choice(list(metadata))
    try:
        inner = mutate_json(rng, str(metadata[key]).encode())
        metadata[key] = inner.decode(errors="replace")
    except ValueError:
        metadata[key] = rng.choice(STRINGS)


def _sealed(header: bytes, body: bytes, declared: int | None) -> bytes:
    length = len(header) if declared is None else declared
    return struct.pack("<Q", length) + header + body


TENSORS: tuple[Callable[[Random, bytes], bytes], ...] = (edit_tensors,)
