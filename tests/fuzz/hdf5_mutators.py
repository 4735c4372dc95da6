"""Mutations of HDF5 files by their structure: links, types, shapes, filters, values elsewhere."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import h5py
import numpy as np
from byte_mutators import often
from text_mutators import STRINGS

SECRETS = ("secret.h5", "secret.bin")
"""Files beside every input; nothing may open them."""
_ERRORS = (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, OverflowError)
_HUGE = (1 << 31, 1 << 40, (1 << 62) - 1)


def mutate_hdf5(rng: Random, data: bytes) -> bytes:
    """Change one to three places of a file that HDF5 can read."""
    with h5py.File.in_memory(data) as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            with suppress(*_ERRORS):
                _change(rng, file)
        file.flush()
        return bytes(file.id.get_file_image())


def _change(rng: Random, file: h5py.File) -> None:
    paths: list[str] = []
    file.visit(paths.append)
    path = rng.choice(paths)
    for _ in range(2):  # a dataset more often than a group
        if not isinstance(file[path], h5py.Dataset):
            path = rng.choice(paths)
    group, name = file[path].parent, path.rsplit("/", 1)[-1]
    rng.choice(rng.choice((_CHANGES, _CHANGES, _LINKS)))(rng, file, group, name)


# --- links ----------------------------------------------------------------------------------------


def _link_softly(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    target = rng.choice((f"{group.name}/{name}", "/", "/nowhere", f"{group.name}/other", "."))
    if rng.random() < 0.5:
        with suppress(KeyError):
            group.move(name, "other")
    else:
        del group[name]
    group[name] = h5py.SoftLink(target)


def _link_outside(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    del group[name]
    path = rng.choice(("/input", f"{group.name}/{name}", "/", "/step"))
    group[name] = h5py.ExternalLink(rng.choice((*SECRETS, "/etc/hostname", "input.h5", ".")), path)


def _link_in_a_circle(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    if rng.random() < 0.5 and name in group:
        del group[name]
        group[name] = rng.choice((file["/"], group))
    else:
        group["again"] = rng.choice((file["/"], group))


def _store_outside(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    old = group[name]
    shape, kind = old.shape or (1,), old.dtype if old.dtype.kind in "iuf" else np.dtype("i4")
    del group[name]
    size = rng.choice((old.size or 1, 4)) * kind.itemsize
    place = rng.choice((*SECRETS, "/etc/hostname", "nowhere.bin", "input.h5"))
    group.create_dataset(name, shape, kind, external=[(place, 0, size)])


def _map_virtually(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    old = group[name]
    shape, kind = old.shape or (1,), old.dtype if old.dtype.kind in "iuf" else np.dtype("i4")
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(
        rng.choice((*SECRETS, ".", "nowhere.h5")), rng.choice(("input", name)), shape
    )
    del group[name]
    group.create_virtual_dataset(name, layout, fillvalue=rng.choice((None, 1)))


_LINKS = (_link_softly, _link_outside, _link_in_a_circle, _store_outside, _map_virtually)


def _values_of(node: h5py.Dataset) -> np.ndarray:
    """Return plain numbers of a file's own: HDF5 itself crashes on others that are made here."""
    if node.external or node.is_virtual or node.dtype.kind not in "biuf" or node.size > 1 << 20:
        raise TypeError
    return np.asarray(node[()])


# --- types, shapes, values, names -----------------------------------------------------------------


def _set_value(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    node = group[name]
    values = _values_of(node)
    if values.dtype.kind not in "iuf" or not values.size:
        raise TypeError
    hostile = [0, 1, -1, 2, 127, 128, 255, 1 << 15, (1 << 31) - 1, -(1 << 31), 1 << 62]
    if values.dtype.kind == "f":
        hostile += [np.nan, np.inf, -np.inf, 1e300, 5e-324, 0.5]
    flat = values.reshape(-1)
    with np.errstate(all="ignore"):
        flat[rng.randrange(flat.size)] = np.asarray(rng.choice(hostile)).astype(values.dtype)
    node[()] = flat.reshape(values.shape)


def _rename(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    new = rng.choice((*STRINGS[1:], name[:-1] or "y", name.upper(), "0", "type", "shape", "weight"))
    group.move(name, new.replace("\0", "") or "z")


def _delete(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    del group[name]


def _exchange(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    other = rng.choice(list(group))
    group.move(name, "between")
    if other != name:
        group.move(other, name)
    group.move("between", other)


def _copy(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    group.copy(name, rng.choice((f"{name}x", "input", "step", "label", "payload", "7")))


def _retype(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    old = group[name]
    shape = old.shape if isinstance(old, h5py.Dataset) else (2,)
    kind = rng.choice(
        (
            *(
                "i1",
                "u1",
                ">i4",
                "i8",
                "u8",
                "f2",
                "f4",
                "f8",
                "c8",
                "?",
                "S5",
                "S300",
                "V4",
                ">f8",
            ),
            h5py.string_dtype(),
            h5py.string_dtype(length=3),
            h5py.vlen_dtype(np.dtype("i4")),
            h5py.enum_dtype({"A": 0, "B": 1}),
            h5py.ref_dtype,
            h5py.regionref_dtype,
            np.dtype([("a", "i4"), ("b", "f8")]),
            np.dtype([("a", "i4", (1000,))]),
            np.dtype(("i4", (2, 2))),
            h5py.opaque_dtype(np.dtype("M8[us]")),
        )
    )
    values = None
    if isinstance(old, h5py.Dataset) and rng.random() < 0.5:
        with np.errstate(all="ignore"):
            values = _values_of(old).astype(kind)
    elif rng.random() < 0.5 and isinstance(kind, str) and kind[-2] == "f":
        values = np.full(shape, rng.choice((np.nan, np.inf, -1.0, 0.5)), kind)
    del group[name]
    group.create_dataset(name, None if values is not None else shape, kind, values)


def _reshape(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    old = group[name]
    kind = old.dtype if isinstance(old, h5py.Dataset) else np.dtype("i4")
    extents = (0, 1, 2, 3, 5, 34, *_HUGE)
    shape = tuple(rng.choice(extents) for _ in range(rng.randrange(6)))
    del group[name]
    match rng.randrange(5):
        case 0:
            group[name] = h5py.Empty(kind)
        case 1 if shape:
            chunk = tuple(min(one or 1, rng.choice((1, 4, 1 << 20))) for one in shape)
            group.create_dataset(
                name, shape, kind, chunks=chunk, maxshape=(None,) * len(shape), fillvalue=1
            )
        case 2:
            group.create_dataset(name, rng.choice(((), (1,) * 32, (1, 1, 1), (0, 0))), kind)
        case 3:
            group.create_dataset(
                name, data=np.zeros(often(rng, (1 << 12,), (1 << 24,)), "u1"), compression="gzip"
            )
        case _:
            small = tuple(min(one, 64) for one in shape)
            group.create_dataset(name, small, kind)


def _store_otherwise(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    """Store the same values in pieces, compressed or with checksums."""
    values = _values_of(group[name])
    options = rng.choice(
        (
            {"compression": "gzip"},
            {"compression": "lzf"},
            {"fletcher32": True},
            {"shuffle": True},
            {"scaleoffset": 3},
            {"chunks": True},
            {"maxshape": (None,) * values.ndim},
        )
    )
    del group[name]
    group.create_dataset(name, data=values, **options)


def _replace(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    """Put a string, a group, a named type or a number in the place of an entry."""
    if name in group:
        del group[name]
    match rng.randrange(6):
        case 0:
            group[name] = rng.choice(STRINGS).replace("\0", "?")
        case 1:
            group.create_group(name)
        case 2:
            group[name] = np.dtype("i4")
        case 3:
            group[name] = rng.choice((0, -1, 1 << 40, np.nan, True, np.uint8(255)))
        case 4:
            group[name] = np.bytes_(rng.choice((b"\xff\xfe", b"\0", b"CUBA", b"x" * 60_000)))
        case _:
            group.create_dataset(name, data=["a", "[/b]", "é"], dtype=h5py.string_dtype())


def _nest(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    for _ in range(often(rng, (3, 6, 12), (300,))):
        group = group.create_group(rng.choice("ab"))


def _crowd(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    group = rng.choice((group, file))
    for number in range(often(rng, (2, 20), (5000,))):
        group[f"n{number}"] = h5py.SoftLink("/x")


def _add_attribute(rng: Random, file: h5py.File, group: h5py.Group, name: str) -> None:
    node = rng.choice((file, group, group[name]))
    key = rng.choice((*node.attrs, "message_bits", "x", "version", "[/b]"))
    node.attrs[key] = rng.choice(
        (
            *(0, -1, 33, 1 << 40, np.nan, np.inf, "text", "[/b]", np.bytes_(b"\xff"), np.zeros(5)),
            *(np.zeros((2, 2, 2)), ["a", "b"], h5py.Empty("i4"), True, np.uint64((1 << 64) - 1)),
        )
    )


_CHANGES = (
    *(_set_value, _set_value, _rename, _delete, _exchange, _copy, _retype, _retype, _reshape),
    *(_reshape, _store_otherwise, _replace, _replace, _nest, _crowd, _add_attribute),
)
HDF5 = (mutate_hdf5,)
