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
from math import prod
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.samples.array_files import (
    ArrayFile,
    CutShortError,
    integer_dtype,
    listed,
    require_integer_dtype,
)

_COLUMNS = ("shape", "step", "address")
_BLOCK = 1 << 20


class Hdf5Array:
    """Samples in a data set of an HDF5 file.

    Attributes:
        name: File and data set, for errors.
        count: Number of samples.
        shape: Of one sample.
        dtype: As stored; booleans as uint8.
    """

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        """Take the data set; nothing is read yet.

        Raises:
            DataError: If it does not hold integers or has no samples axis.
        """
        self.name = f"{path}: '{dataset.name.lstrip('/')}'"
        self._dataset = dataset
        require_integer_dtype(dataset.dtype, where=self.name)
        if not dataset.shape:
            raise DataError(
                f"{self.name} has shape {dataset.shape}; samples must be its first axis."
            )
        self.count: int = dataset.shape[0]
        self.shape: tuple[int, ...] = tuple(dataset.shape[1:])
        self.dtype = integer_dtype(dataset.dtype)

    def read(self, first: int, last: int) -> npt.NDArray[np.integer]:
        """Return samples `first` to `last` - 1.

        Raises:
            CutShortError: If some of them cannot be read; those before the first such one can.
        """
        try:
            values: npt.NDArray[np.integer] = self._dataset[first:last]
        except OSError as error:
            complete = next((n for n in range(first, last) if not self._is_readable(n)), last)
            raise CutShortError(
                f"{self.name} is damaged ({_reason(error)}): {complete} of {self.count} samples "
                "are complete.",
                complete=complete,
            ) from error
        return values.view(np.uint8) if values.dtype.kind == "b" else values

    def _is_readable(self, index: int) -> bool:
        try:
            self._dataset[index : index + 1]
        except OSError:
            return False
        return True


_Column = ArrayFile | Hdf5Array


class EventTable:
    """Samples of an event table; dense arrays are made as they are read.

    Attributes:
        name: The file.
        count: Number of samples.
        shape: Of one sample, (T, C, H, W) or (T, N).
        dtype: uint8 without payloads, else theirs.
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
        self.name = str(path)
        missing = [name for name in _COLUMNS if name not in names]
        if "offset" not in names and "sample" not in names:
            missing.append("offset")
        if missing:
            raise DataError(
                f"{path}: an event table without {listed(missing)}; it holds {listed(list(names))}."
            )
        outline = column("shape")
        shape = [int(extent) for extent in np.ravel(outline.read(0, outline.count))] or [0]
        samples, *rest = shape
        if "offset" in names:
            offsets = column("offset")
            offset = np.asarray(offsets.read(0, offsets.count)).astype(np.int64)
        else:
            offset = _offsets_of(path, column("sample"), samples)
        self._step, self._address = column("step"), column("address")
        self._payload = column("payload") if "payload" in names else None
        self._columns = [one for one in (self._step, self._address, self._payload) if one]
        if len(rest) < 2 or min(rest) < 1 or any(one.shape for one in self._columns):
            raise DataError(
                f"{path}: an event table's shape must be (samples, T, ...), and its columns have "
                f"one axis; shape is {tuple(shape)}."
            )
        if len(offset) != samples + 1 or offset[0] != 0 or np.any(np.diff(offset) < 0):
            raise DataError(
                f"{path}: 'offset' must rise from 0 and have {samples + 1} entries, one more than "
                "there are samples."
            )
        rows = {one.count for one in self._columns}
        if rows != {int(offset[-1])}:
            raise DataError(
                f"{path}: columns of {sorted(rows)} events, 'offset' ends at {offset[-1]}."
            )
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
        step, address = (column.astype(np.int64) for column in columns[:2])
        place = prod(self.shape[1:])
        for what, found, limit in (("step", step, self.shape[0]), ("address", address, place)):
            if found.size and (found.min() < 0 or found.max() >= limit):
                raise DataError(
                    f"{self.name}: samples {first} to {last - 1}: {what} from {found.min()} to "
                    f"{found.max()}, 0 to {limit - 1} is allowed."
                )
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
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: not a readable HDF5 file ({_reason(error)}). Nothing of a file that was cut "
            "short can be read in this format. Get it again."
        ) from error
    if key in file and isinstance(file[key], h5py.Dataset):
        return Hdf5Array(path, file[key])
    if is_event_archive(list(file)):
        return EventTable(path, list(file), lambda name: _hdf5_array(path, file, name))
    names: list[str] = []
    file.visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
    raise DataError(f"{path}: no data set '{key}'; it holds {listed(names)}. Name one with --key.")


def is_event_archive(names: Sequence[str]) -> bool:
    """Return whether arrays of these names may be an event table."""
    return "step" in names and "address" in names


def _hdf5_array(path: Path, file: h5py.File, name: str) -> Hdf5Array:
    if not isinstance(file[name], h5py.Dataset):
        raise DataError(f"{path}: '{name}' is a group, an array is required.")
    return Hdf5Array(path, file[name])


def _offsets_of(path: Path, sample: _Column, samples: int) -> npt.NDArray[np.int64]:
    """Return where each sample begins in a sorted column of sample numbers."""
    numbers = np.zeros(samples, np.int64)
    highest = 0
    for first in range(0, sample.count, _BLOCK):
        block = sample.read(first, min(first + _BLOCK, sample.count)).astype(np.int64)
        if block[0] < highest or np.any(np.diff(block) < 0) or block[-1] >= samples:
            raise DataError(
                f"{path}: 'sample' must rise from 0 to {samples - 1}. Sort the events by sample."
            )
        highest = int(block[-1])
        numbers += np.bincount(block, minlength=samples)
    return np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)


def _reason(error: OSError) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
