"""Event tables and HDF5 data sets, read piece by piece.

An *event table* holds the events of all samples in columns, in an `.npz` archive or an HDF5 file:

=========  ============================  ====================================================
name       array                         meaning
=========  ============================  ====================================================
`shape`    (2 + axes,) integers          (samples, T, C, H, W) or (samples, T, N)
`offset`   (samples + 1,) integers       events of sample s: rows `offset[s]` to `offset[s+1]` - 1
`step`     (events,) integers            0 to T - 1
`address`  (events,) integers            place in (C, H, W) or (N,), in C order
`payload`  (events,) integers, optional  never 0; 1 everywhere if left out
=========  ============================  ====================================================

No place of a sample has two events. In place of `offset`, a column `sample` that rises from 0 to
samples - 1 is read as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.samples.array_files import (
    SAMPLE_BYTES_MAX,
    ArrayFile,
    CutShortError,
    integer_dtype,
    listed,
    require_integer_dtype,
)
from neurodeploy.untrusted.boundary import FileKind, check_file, reason_of
from neurodeploy.untrusted.hdf5 import ArrayOutline, UntrustedGroup, identity_of, open_here
from neurodeploy.untrusted.isolation import run_apart

HDF5 = FileKind(
    "HDF5",
    ".h5",
    DataError,
    "Samples are read from whole HDF5 files; nothing of a file that was cut short can be read in "
    "this format. Get it again.",
)
_COLUMNS = ("shape", "step", "address")
_OPTIONAL = ("offset", "sample", "payload")
_AXES_MAX = 32
_SAMPLES_MAX = 1 << 25
"""Samples of a table without `offset`, whose count no column confirms."""
_EVENTS_MAX = 1 << 26
"""Events of one sample, all of which are read at once."""
_BLOCK = 1 << 20
_SECONDS_PER_BYTE = 2e-8
"""Processor time to unpack a byte of values, at the least 50 MB/s."""


class Hdf5Array:
    """Samples in a data set of an HDF5 file, which another process reads.

    Attributes:
        name: File and data set, for errors.
        count: Number of samples.
        shape: Of one sample.
        dtype: As stored; booleans as uint8.
        path: Of the file.
        key: Of the data set.
    """

    def __init__(self, path: Path, key: str, outline: ArrayOutline) -> None:
        """Take the data set; nothing is read yet.

        Raises:
            DataError: If it does not hold integers or has no samples axis.
        """
        self.name = f"{path}: '{key}'"
        require_integer_dtype(outline.dtype, where=self.name)
        if not outline.shape:
            raise DataError(f"{self.name} has shape (); samples must be its first axis.")
        self.path, self.key = path, key
        self._identity = identity_of(path)
        self._stored = outline.dtype
        self.count: int = outline.shape[0]
        self.shape: tuple[int, ...] = outline.shape[1:]
        self.dtype = integer_dtype(outline.dtype.newbyteorder("="))  # as another process sends it

    def read(self, first: int, last: int) -> npt.NDArray[np.integer]:
        """Return samples `first` to `last` - 1.

        Raises:
            CutShortError: If some of them cannot be read; those before the first such one can.
            DataError: If the file has changed since it was opened.
        """
        check_file(self.path, HDF5)
        if identity_of(self.path) != self._identity:
            raise DataError(f"{self.path}: was changed while it was read. Start again.")
        size = (last - first) * prod(self.shape) * self._stored.itemsize
        values = run_apart(
            _read_rows,
            self.path,
            self.key,
            first,
            last,
            kind=HDF5,
            more_seconds=_SECONDS_PER_BYTE * size,
            more_memory=4 * size,
        )
        if isinstance(values, _Damage):
            raise CutShortError(
                f"{self.name} is damaged ({values.reason}): {values.complete} of {self.count} "
                "samples are complete.",
                complete=values.complete,
            )
        return values.view(np.uint8) if values.dtype.kind == "b" else values


@dataclass(frozen=True, slots=True)
class _Damage:
    """Rows that cannot be read: how many before them can, and why."""

    complete: int
    reason: str


def _read_rows(path: Path, key: str, first: int, last: int) -> npt.NDArray[np.integer] | _Damage:
    """Read rows in this process."""
    with open_here(path, HDF5) as root:
        group, name = _place(root, key)
        try:
            return cast("npt.NDArray[np.integer]", group.rows(name, first, last))
        except DataError as error:
            for complete in range(first, last):
                try:
                    group.rows(name, complete, complete + 1)
                except DataError:
                    return _Damage(complete, reason_of(error.__cause__ or error))
            raise


def _place(root: UntrustedGroup, key: str) -> tuple[UntrustedGroup, str]:
    """Return the group and the name for a path such as `group/frames`."""
    *groups, name = [part for part in key.split("/") if part not in ("", ".")] or [key]
    for part in groups:
        inner = root.subgroup(part)
        if inner is None:
            return root, key
        root = inner
    return root, name


_Column = ArrayFile | Hdf5Array


class EventTable:
    """Samples of an event table; dense arrays are made as they are read.

    Attributes:
        name: The file.
        count: Number of samples.
        shape: Of one sample, (T, C, H, W) or (T, N).
        dtype: uint8 without payloads, else theirs.
        path: The file.
        is_seekable: Whether any sample is as quickly read as the next one.
    """

    def __init__(self, path: Path, names: Sequence[str], column: Callable[[str], _Column]) -> None:
        """Open the columns, and check the table's outline.

        Args:
            path: The file.
            names: Of all its arrays.
            column: Opens one of them.

        Raises:
            DataError: If a column is missing, or shape, offsets and columns do not fit together.
        """
        self.name, self.path = str(path), path
        missing = [name for name in _COLUMNS if name not in names]
        if "offset" not in names and "sample" not in names:
            missing.append("offset")
        if missing:
            raise DataError(
                f"{path}: an event table without {listed(missing)}; it holds {listed(list(names))}."
            )
        outline = column("shape")
        shape = [0]
        if outline.count <= _AXES_MAX and not outline.shape:
            shape = [int(extent) for extent in outline.read(0, outline.count)] or shape
        samples, *rest = shape
        self._step, self._address = column("step"), column("address")
        self._payload = column("payload") if "payload" in names else None
        self._columns = [one for one in (self._step, self._address, self._payload) if one]
        if len(rest) < 2 or min(rest) < 1 or any(one.shape for one in self._columns):
            raise DataError(
                f"{path}: an event table's shape must be (samples, T, ...), and its columns have "
                f"one axis; shape is {tuple(shape)}."
            )
        if prod(rest) > SAMPLE_BYTES_MAX:
            raise DataError(
                f"{path}: samples of shape {tuple(rest)} have {prod(rest)} values, at most "
                f"{SAMPLE_BYTES_MAX} are read. Cut them into shorter ones."
            )
        offset = _read_offsets(path, names, column, samples)
        rows = {one.count for one in self._columns}
        if rows != {int(offset[-1])}:
            raise DataError(
                f"{path}: columns of {sorted(rows)} events, 'offset' ends at {offset[-1]}."
            )
        busiest = int(np.diff(offset).max(initial=0))
        if busiest > min(prod(rest), _EVENTS_MAX):
            raise DataError(
                f"{path}: a sample of {busiest} events; shape {tuple(rest)} has room for "
                f"{prod(rest)}, and at most {_EVENTS_MAX} are read."
            )
        self.is_seekable = all(isinstance(one, Hdf5Array) for one in self._columns)
        self.count = samples
        self.shape: tuple[int, ...] = tuple(rest)
        self.dtype: np.dtype[np.integer] = (
            self._payload.dtype if self._payload else np.dtype(np.uint8)
        )
        self._offset = offset

    def read(self, first: int, last: int) -> npt.NDArray[np.integer]:
        """Return samples `first` to `last` - 1, dense: (last - first, *shape).

        Raises:
            CutShortError: If the columns end early; it says how many samples are whole.
            DataError: If an event lies outside of its sample, has payload 0 or the place of
                another one.
        """
        begin, end = int(self._offset[first]), int(self._offset[last])
        columns: list[npt.NDArray[np.integer]] = []
        for column in self._columns:
            try:
                columns.append(column.read(begin, end))
            except CutShortError as error:
                complete = int(np.searchsorted(self._offset, error.complete, side="right")) - 1
                raise CutShortError(
                    f"{error} That is {complete} of {self.count} samples.", complete=complete
                ) from error
        place = prod(self.shape[1:])
        for what, found, limit in zip(
            ("step", "address"), columns, (self.shape[0], place), strict=False
        ):
            if found.size and (found.min() < 0 or found.max() >= limit):
                raise DataError(
                    f"{self.name}: samples {first} to {last - 1}: {what} from {found.min()} to "
                    f"{found.max()}, 0 to {limit - 1} is allowed."
                )
        step, address = (column.astype(np.int64) for column in columns[:2])
        sample = np.repeat(np.arange(last - first), np.diff(self._offset[first : last + 1]))
        dense = np.zeros((last - first) * self.shape[0] * place, self.dtype)
        dense[(sample * self.shape[0] + step) * place + address] = (
            columns[2] if self._payload else 1
        )
        if np.count_nonzero(dense) != len(step):
            raise DataError(
                f"{self.name}: samples {first} to {last - 1}: two events in one place, or a "
                "payload of 0. Add up what falls on one place, and leave out what is 0."
            )
        return dense.reshape(last - first, *self.shape)


def open_hdf5(path: Path, *, key: str) -> Hdf5Array | EventTable:
    """Open the data set `key` of an HDF5 file, or else the event table in it.

    Raises:
        DataError: If the file is missing, damaged or cut short, or holds neither.
    """
    check_file(path, HDF5)
    found = run_apart(_outline_arrays, path, key, kind=HDF5)
    if key in found:
        return Hdf5Array(path, key, found[key])
    return EventTable(path, list(found), lambda name: Hdf5Array(path, name, found[name]))


def find_hdf5(path: Path, *, key: str) -> Hdf5Array | None:
    """Open the data set `key` of an HDF5 file, or return None if it has none.

    Raises:
        DataError: If the file is missing or damaged.
    """
    check_file(path, HDF5)
    outline = run_apart(_outline_array, path, key, kind=HDF5)
    return None if outline is None else Hdf5Array(path, key, outline)


def _outline_array(path: Path, key: str) -> ArrayOutline | None:
    """Outline a data set in this process."""
    with open_here(path, HDF5) as root:
        group, name = _place(root, key)
        return group.outline(name)


def _outline_arrays(path: Path, key: str) -> dict[str, ArrayOutline]:
    """Outline the data set `key` alone, or else the columns of the event table, here."""
    with open_here(path, HDF5) as root:
        group, name = _place(root, key)
        if (outline := group.outline(name)) is not None:
            return {key: outline}
        names = [name for name in (*_COLUMNS, *_OPTIONAL) if name in root]
        if is_event_archive(names):
            outlines = {name: root.outline(name) for name in names}
            if None in outlines.values():
                groups = [name for name, one in outlines.items() if one is None]
                raise DataError(f"{path}: {listed(groups)}: a group, an array is required.")
            return {name: one for name, one in outlines.items() if one is not None}
        raise DataError(
            f"{path}: no data set '{key}'; it holds {listed(root.dataset_names())}. Name one with "
            "--key."
        )


def is_event_archive(names: Sequence[str]) -> bool:
    """Return whether arrays of these names may be an event table."""
    return "step" in names and "address" in names


def _read_offsets(
    path: Path, names: Sequence[str], column: Callable[[str], _Column], samples: int
) -> npt.NDArray[np.int64]:
    """Return where each sample begins, and where the last one ends."""
    if "offset" not in names:
        return _offsets_of(path, column("sample"), samples)
    stored = column("offset")
    if stored.count == samples + 1 and not stored.shape:
        found = stored.read(0, stored.count)
        if found[0] == 0 and not np.any(found[1:] < found[:-1]):
            return found.astype(np.int64)
    raise DataError(
        f"{path}: 'offset' must rise from 0 and have {samples + 1} entries, one more than there "
        "are samples."
    )


def _offsets_of(path: Path, sample: _Column, samples: int) -> npt.NDArray[np.int64]:
    """Return where each sample begins in a sorted column of sample numbers."""
    if sample.shape:
        raise DataError(f"{path}: 'sample' must have one axis, as the other columns.")
    if not 0 <= samples <= _SAMPLES_MAX:
        raise DataError(
            f"{path}: {samples} samples; 0 to {_SAMPLES_MAX} are allowed without a column 'offset'."
        )
    numbers = np.zeros(samples, np.int64)
    highest = 0
    for first in range(0, sample.count, _BLOCK):
        block = sample.read(first, min(first + _BLOCK, sample.count))
        if block[0] < highest or np.any(block[1:] < block[:-1]) or block[-1] >= samples:
            raise DataError(
                f"{path}: 'sample' must rise from 0 to {samples - 1}. Sort the events by sample."
            )
        highest = int(block[-1])
        numbers += np.bincount(block.astype(np.int64), minlength=samples)
    return np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)
