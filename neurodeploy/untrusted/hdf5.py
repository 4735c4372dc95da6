"""Read from an HDF5 file that a stranger may have made.

Another process reads the file first, so that a crash or an endless loop of the HDF5 library happens
there. Nothing is loaded before its type and size are checked; links that could leave the file are
refused; every failure of the library becomes one error of the file's kind that says where.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from neurodeploy.errors import FractionWarning, NetxError, NeurodeployError
from neurodeploy.fixedpoint import Int32Array, truncate
from neurodeploy.untrusted.boundary import FileKind, check_file, guarded
from neurodeploy.untrusted.heap_strings import REFERENCE_BYTES, HeapError, read_strings
from neurodeploy.untrusted.isolation import run_apart, running_apart

ELEMENTS_MAX = 1 << 27
"""Largest dataset that is read: a bound on memory for files from strangers."""
FILE_ELEMENTS_MAX = 1 << 28
"""Most elements that are read from one file, each dataset counted as often as it is used."""
ENTRIES_MAX = 4096
"""Most entries of a group that are looked at."""
_DEPTH_MAX = 4
"""Most groups that lie in each other."""
_INT32 = np.iinfo(np.int32)
_TEXT_MAX = 256
_EXPANSION_MAX = 2048
"""More than any filter of HDF5 can compress (deflate: 1032 to 1)."""
_UNSTORED_BYTES_MAX = 1 << 20
"""Size up to which a dataset may declare more than the file holds."""


@dataclass(frozen=True, slots=True)
class Field:
    """One dataset of numbers.

    Attributes:
        name: Path below its group.
        shapes: Allowed shapes, in words.
        meaning: What Lava does with it.
        is_required: Whether Lava fails without it.
        allows_floats: Whether it may hold finite floats, whose fraction Lava drops. On other
            floats Lava hangs for ever.
    """

    name: str
    shapes: str
    meaning: str
    is_required: bool = True
    allows_floats: bool = False


NETX = FileKind(
    "netx",
    ".net",
    NetxError,
    "A netx file is HDF5; this one is damaged, cut short or something else. Write or copy it "
    "again.",
)


@dataclass(frozen=True, slots=True)
class ArrayOutline:
    """The shape and dtype of an array of numbers in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


class UntrustedFile:
    """One open file, and how many elements may still be read from it."""

    def __init__(self, file: h5py.File, path: Path, kind: FileKind) -> None:
        self.path = path
        self.kind = kind
        self.base = int(file.userblock_size)
        self.has_wide_addresses = file.id.get_create_plist().get_sizes() == (8, 8)
        self._visited: dict[int, int] = {}
        self._left = 0
        self.renew()

    def renew(self) -> None:
        """Begin to count anew."""
        self._left = FILE_ELEMENTS_MAX

    def is_new(self, address: int, depth: int) -> bool:
        """Return whether the group at an address was never visited so deeply, and note it."""
        before = self._visited.get(address, -1)
        self._visited[address] = max(before, depth)
        return before < depth

    def spend(self, elements: int, where: str) -> None:
        """Take `elements` off those that may still be read, if there are as many."""
        self._left -= elements
        if self._left < 0:
            raise self.kind.error(
                f"{where}: the file's datasets have over {FILE_ELEMENTS_MAX} elements together, "
                "more than is read. Is the file damaged?"
            )


class UntrustedGroup:
    """One group of the file; every complaint starts with `where`.

    Each method raises the error of the file's kind for what is not as it should be.
    """

    def __init__(self, group: h5py.Group, where: str, source: UntrustedFile) -> None:
        self.where = where
        self._group = group
        self._source = source
        self._error = source.kind.error

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __len__(self) -> int:
        with guarded(self.where, self._source.kind):
            return len(self._group)

    def names(self, most: int) -> list[str]:
        """Return the names of all entries, if there are no more than `most`."""
        with guarded(self.where, self._source.kind):
            if len(self._group) > most:
                raise self._error(
                    f"{self.where}: {len(self._group)} entries, at most {most} are read."
                )
            found = list(self._group)
        for name in found:
            if isinstance(name, bytes):
                raise self._error(
                    f"{self.where}: entry {name[:60]!r} has a name that is not UTF-8. Rename it."
                )
        return found

    def subgroup(self, name: str) -> UntrustedGroup | None:
        """Return the group called `name`, or None if there is no such entry or it is no group."""
        node = self._find(name)
        if not isinstance(node, h5py.Group):
            return None
        return UntrustedGroup(node, f"{self.where}/{name}", self._source)

    def text(self, name: str) -> str:
        """Return a string; it is an error if it is missing, something else, or not ASCII."""
        strings = self._strings(name, "one string is", count=1)
        if strings is None:
            raise self._error(f"{self.where}: required dataset '{name}' is missing (a string).")
        if not strings.item().isascii():
            raise self._error(f"{self.where}/{name}: not a readable string. ASCII is required.")
        return str(strings.item())

    def texts(self, name: str) -> npt.NDArray[np.str_] | None:
        """Return strings of UTF-8 in the dataset's shape, or None if there is no such dataset."""
        return self._strings(name, "strings are")

    def _strings(
        self, name: str, required: str, count: int | None = None
    ) -> npt.NDArray[np.str_] | None:
        where = f"{self.where}/{name}"
        node = self._find(name)
        if not isinstance(node, h5py.Dataset):
            return None
        with guarded(where, self._source.kind):
            encoding = h5py.check_string_dtype(node.dtype)
            is_countable = node.size if count is None else node.size == count
            if not is_countable or encoding is None or node.dtype.itemsize > _TEXT_MAX:
                raise self._error(
                    f"{where}: {required} required, found {node.dtype} of shape {node.shape}."
                )
            self._require_own_data(node, where)
            if encoding.length is None:
                values = self._variable_texts(node, where)
            else:
                values = [bytes(value) for value in np.asarray(node[()]).ravel()]
            try:
                return np.array([value.decode() for value in values]).reshape(node.shape)
            except UnicodeDecodeError as error:
                raise self._error(f"{where}: not a readable string. UTF-8 is required.") from error

    def _variable_texts(self, node: h5py.Dataset, where: str) -> list[bytes]:
        """Read strings of variable length; see the module for why not by h5py."""
        offset, size = node.id.get_offset(), node.id.get_storage_size()
        is_plain = offset is not None and size == REFERENCE_BYTES * node.size
        if not is_plain or not self._source.has_wide_addresses:
            raise self._error(
                f"{where}: a string stored in a way that is not read. Write it plainly."
            )
        try:
            return read_strings(
                self._source.path, offset, node.size, base=self._source.base, longest=_TEXT_MAX
            )
        except HeapError as error:
            raise self._error(f"{where}: {error}. Is the file damaged?") from error

    def beside(self, name: str, neutral: Collection[int | str] = ()) -> str:
        """Return in words what an entry holds beside neutral values; empty if nothing."""
        node = self._find(name)
        if isinstance(node, h5py.Group):
            return "a group"
        if node is None or (values := self._values(node, name)) is None:
            return ""
        others = values[~np.isin(values, np.array(neutral))]
        return f"{others[0]!s:.40}" + ", ..." * (others.size > 1) if others.size else ""

    def _values(self, node: h5py.Dataset, name: str) -> npt.NDArray[np.generic] | None:
        """Return numbers or texts in a row, of others the type; None if there are none."""
        where = f"{self.where}/{name}"
        with guarded(where, self._source.kind):
            is_numeric = node.dtype.kind in "biuf"
            if not node.size:
                return None
            if is_numeric:
                self._require_own_data(node, where)
                return np.asarray(node[()]).ravel()
            if not h5py.check_string_dtype(node.dtype):
                return np.array([f"values of {node.dtype}"])
            texts = self._strings(name, "strings are")
            assert texts is not None
            return texts.ravel()

    def touch(self, depth: int = _DEPTH_MAX) -> None:
        """Read all that a reader of any kind of file may read, and drop it.

        Values that are refused are passed over, and the elements of each dataset are counted anew:
        a reader that passes over others must not meet one that was left out here. What has several
        names is read once.
        """
        with guarded(self.where, self._source.kind):
            if not self._source.is_new(h5py.h5o.get_info(self._group.id).addr, depth):
                return
            names, attributes = list(self._group), list(self._group.attrs)
        for name in attributes:
            with suppress(NeurodeployError):
                self._attribute(name, "Siu")
        for name in names:
            node = None
            with suppress(NeurodeployError):
                node = self._find(name)
                if isinstance(node, h5py.Dataset):
                    self._source.renew()
                    self._values(node, name)
            if isinstance(node, h5py.Group) and depth:
                group = UntrustedGroup(node, f"{self.where}/{name}", self._source)
                group.touch(depth - 1)

    def attribute_text(self, name: str) -> str | None:
        """Return a string attribute of fixed length, or None; odd ones are no fault."""
        value = self._attribute(name, "S")
        return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else None

    def attribute_integer(self, name: str) -> int | None:
        """Return an integer attribute, or None."""
        value = self._attribute(name, "iu")
        return int(value) if isinstance(value, np.integer) else None

    def attribute_float(self, name: str) -> float | None:
        """Return a floating point attribute, or None."""
        value = self._attribute(name, "f")
        return float(value) if isinstance(value, np.floating) else None

    def _attribute(self, name: str, kinds: str) -> object:
        """Read a single value if its type, checked before reading, is one of `kinds`."""
        with guarded(self.where, self._source.kind):
            if name not in self._group.attrs:
                return None
            described = self._group.attrs.get_id(name)
            is_sane = described.dtype.kind in kinds and described.shape == ()
            value: object = self._group.attrs[name] if is_sane else None
            return value

    def integers(self, field: Field) -> Int32Array | None:
        """Return a dataset as int32, fractions dropped with a warning, or None if it is missing.

        An empty one and one beyond 32 bits are errors too.
        """
        values = self.numbers(field)
        if values is None:
            return None
        where = f"{self.where}/{field.name}"
        if not values.size:
            raise self._error(f"{where}: shape {values.shape} holds nothing.")
        if values.dtype.kind == "f":  # narrow ones round or overflow where they are compared
            values = values.astype(np.float64)
        if values.min() < _INT32.min or values.max() > _INT32.max:
            raise self._error(
                f"{where}: values from {values.min()} to {values.max()} exceed 32 bits."
            )
        if values.dtype.kind == "f":
            whole = truncate(values)
            if np.any(whole != values):
                warnings.warn(
                    f"{where}: fractions are dropped, as Lava does. Round the values when you "
                    "write the file.",
                    FractionWarning,
                    stacklevel=2,
                )
            values = whole
        return values.astype(np.int32)

    def required_integers(self, field: Field) -> Int32Array:
        """As `integers`; a missing dataset is an error."""
        values = self.integers(field)
        if values is None:
            raise self._error(
                f"{self.where}: required dataset '{field.name}' is missing "
                f"({field.meaning}; {field.shapes})."
            )
        return values

    def kind_of(self, name: str) -> str | None:
        """Return NumPy's letter for the kind of values in a dataset, or None if there is none."""
        found = self.dtype(name)
        return found.kind if found is not None else None

    def dtype(self, name: str) -> np.dtype[np.generic] | None:
        """Return the type of a dataset, or None if there is none."""
        node = self._find(name)
        with guarded(f"{self.where}/{name}", self._source.kind):
            return node.dtype if isinstance(node, h5py.Dataset) else None

    def numbers(self, field: Field) -> npt.NDArray[np.integer | np.floating] | None:
        """Return a dataset of finite numbers as it is stored, or None if it is missing."""
        node = self._find(field.name)
        where = f"{self.where}/{field.name}"
        if node is None:
            return None
        if not isinstance(node, h5py.Dataset):
            raise self._error(f"{where}: a group, a dataset is required ({field.shapes}).")
        with guarded(where, self._source.kind):
            if node.dtype.kind not in ("iuf" if field.allows_floats else "iu"):
                allowed = "numbers are required."
                if not field.allows_floats:
                    allowed = "integers are required."
                    if self._source.kind is NETX:
                        allowed += " Lava hangs on others."
                raise self._error(f"{where}: dtype {node.dtype}, {allowed}")
            self._require_own_data(node, where)
            values = np.asarray(node[()])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise self._error(
                f"{where}: holds NaN or infinity; every value must be a finite number."
            )
        return values

    def outline(self, name: str) -> ArrayOutline | None:
        """Return the outline of an array of numbers of any size, or None if it is no dataset."""
        where = f"{self.where}/{name}"
        node = self._find(name)
        if not isinstance(node, h5py.Dataset):
            return None
        with guarded(where, self._source.kind):
            if node.dtype.kind not in "biuf" or node.shape is None:
                raise self._error(f"{where}: holds {node.dtype}, an array of numbers is required.")
            self._require_stored(node, where)
            return ArrayOutline(tuple(map(int, node.shape)), node.dtype)

    def require_own(self, name: str) -> None:
        """Check that a dataset, if it is there, has its values in the file."""
        node = self._find(name)
        if isinstance(node, h5py.Dataset):
            with guarded(f"{self.where}/{name}", self._source.kind):
                self._require_inside(node, f"{self.where}/{name}")

    def rows(self, name: str, first: int, last: int) -> npt.NDArray[np.generic]:
        """Return rows `first` to `last` - 1 of an array that has an outline."""
        node = self._find(name)
        assert isinstance(node, h5py.Dataset)
        with guarded(f"{self.where}/{name}", self._source.kind):
            return np.asarray(node[first:last])

    def dataset_names(self, depth: int = _DEPTH_MAX) -> list[str]:
        """Return the paths of the datasets below, as far as they can be reached."""
        found: list[str] = []
        for name in self.names(ENTRIES_MAX):
            with suppress(NeurodeployError):
                node = self._find(name)
                if isinstance(node, h5py.Dataset):
                    found.append(name)
                elif isinstance(node, h5py.Group) and depth:
                    inner = UntrustedGroup(node, f"{self.where}/{name}", self._source)
                    found += [f"{name}/{one}" for one in inner.dataset_names(depth - 1)]
        return found

    def _find(self, name: str) -> h5py.Group | h5py.Dataset | None:
        with guarded(f"{self.where}/{name}", self._source.kind):
            link = self._group.get(name, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise self._error(
                    f"{self.where}/{name}: a link to somewhere else. Only data inside the file are "
                    "read. Write the dataset itself."
                )
            return self._group[name]

    def _require_own_data(self, node: h5py.Dataset, where: str) -> None:
        """Check, before loading, where a dataset's values are and how many there are."""
        self._require_stored(node, where)
        if node.size > ELEMENTS_MAX:
            raise self._error(
                f"{where}: {node.size} elements, at most {ELEMENTS_MAX} are read. "
                "Is the file damaged?"
            )
        self._source.spend(node.size, where)

    def _require_inside(self, node: h5py.Dataset, where: str) -> None:
        if node.external or node.is_virtual:
            raise self._error(
                f"{where}: its values are in another file. Only data inside the file are read."
            )

    def _require_stored(self, node: h5py.Dataset, where: str) -> None:
        """Check that the values are in this file, and that there can be as many."""
        self._require_inside(node, where)
        if node.size is None or prod(node.chunks or ()) > ELEMENTS_MAX:
            raise self._error(
                f"{where}: {node.size} elements in chunks of {node.chunks}, chunks of at most "
                f"{ELEMENTS_MAX} are read. Is the file damaged?"
            )
        size = node.size * node.dtype.itemsize
        stored = node.id.get_storage_size()
        if size > max(_UNSTORED_BYTES_MAX, _EXPANSION_MAX * stored):
            raise self._error(
                f"{where}: {size} bytes are declared, the file holds {stored}. Is the file damaged?"
            )


@contextmanager
def open_root(path: Path, kind: FileKind = NETX) -> Iterator[UntrustedGroup]:
    """Open a file and yield its root, once another process has read it without harm.

    Raises:
        Error of the kind of file: If it is missing or not HDF5, or that process refused it, hung
            or crashed.
    """
    check_file(path, kind)
    identity = identity_of(path)
    if identity in _tried:
        _tried.discard(identity)
    else:
        run_apart(touch_file, path, kind, kind=kind)
    with open_here(path, kind) as root:
        yield root


@contextmanager
def tried_apart(path: Path, kind: FileKind = NETX) -> Iterator[None]:
    """Let another process read a file while the block runs; `open_root` then does not wait for it.

    Raises:
        Error of the kind of file: As `open_root` does, at the end of the block.
    """
    check_file(path, kind)
    identity = identity_of(path)
    with running_apart(touch_file, path, kind, kind=kind):
        yield
    _tried.add(identity)


def require_own_data(path: Path, kind: FileKind, names: Iterable[str]) -> None:
    """Check that datasets, at these paths, lie in the file itself, for a reader that is not ours.

    Raises:
        Error of the kind of file: As `open_root` does, and if one of them lies elsewhere.
    """
    with open_root(path, kind) as root:
        for name in names:
            *groups, last = name.split("/")
            place: UntrustedGroup | None = root
            for group in groups:
                place = place and place.subgroup(group)
            if place is not None:
                place.require_own(last)


def touch_file(path: Path, kind: FileKind) -> None:
    """Read all that a reader may read of a file, in this process, and drop it."""
    with open_here(path, kind) as root:
        root.touch()


_tried: set[tuple[int, ...]] = set()
"""Files that another process has read already, each of them for one reader here."""


def identity_of(path: Path) -> tuple[int, ...]:
    """Return what changes if a file is written or replaced."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def open_here(path: Path, kind: FileKind) -> Iterator[UntrustedGroup]:
    """Open a file that was tried, or in a process that may be lost, and yield its root."""
    with guarded(path, kind):
        file = h5py.File(path, "r")
    try:
        with guarded(path, kind):
            source = UntrustedFile(file, path, kind)
        yield UntrustedGroup(file, str(path), source)
    finally:
        with guarded(path, kind):
            file.close()
