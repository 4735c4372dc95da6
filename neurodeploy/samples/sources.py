"""Samples that need not fit into memory: files, Python sequences, and what reads them in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.ir.float_layers import Shape
from neurodeploy.samples.array_files import (
    HDF5_SUFFIXES,
    ArrayFile,
    load_inputs,
    member_names,
    require_integer_dtype,
)
from neurodeploy.samples.camera_recordings import (
    SUFFIXES as RECORDING_SUFFIXES,
    EventRecordings,
    find_recordings,
)
from neurodeploy.samples.event_tables import EventTable, find_hdf5, is_event_archive, open_hdf5

IntegerArray = npt.NDArray[np.integer]


@runtime_checkable
class Samples(Protocol):
    """Integer samples of one shape, read a few at a time, best in order.

    Attributes:
        name: What they are called in errors.
        count: How many there are, or are said to be; None if only their end will tell.
        shape: Of one sample: (T, C, H, W), (T, N), or without T.
        dtype: Of what `read` gives.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - above
    @property
    def count(self) -> int | None: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[np.integer]: ...  # noqa: D102

    def read(self, first: int, last: int) -> IntegerArray:
        """Return samples `first` to `last` - 1: (last - first, *shape).

        Where `count` is None, fewer if they end.

        Raises:
            CutShortError: If not all of them can be had; it says how many can.
            DataError: If they cannot be read at all.
        """
        ...


class ArraySamples:
    """Samples that are in memory: (samples, T, ...) integers."""

    def __init__(self, values: IntegerArray, *, name: str = "input") -> None:
        """Take the array as it is.

        Raises:
            DataError: If it does not hold integers or has no samples axis.
        """
        require_integer_dtype(values.dtype, where=name)
        if values.ndim < 2:
            raise DataError(f"{name} has shape {values.shape}; samples must be its first axis.")
        self._values = values.view(np.uint8) if values.dtype.kind == "b" else values
        self.name = name
        self.count = len(values)
        self.shape: tuple[int, ...] = values.shape[1:]
        self.dtype: np.dtype[np.integer] = self._values.dtype

    def read(self, first: int, last: int) -> IntegerArray:
        """Return samples `first` to `last` - 1."""
        return np.asarray(self._values[first:last])


class ObjectSamples:
    """Samples of a torch or tonic data set, a list, a generator: anything that gives arrays.

    An item is an array of integers or something that NumPy makes one of (a torch tensor on the
    CPU); or a tuple or list whose first entry is that, such as (sample, label). All have one shape
    and dtype.
    """

    def __init__(self, items: Iterable[object], *, name: str = "data set") -> None:
        """Look at the first item.

        Args:
            items: With `len` and an index, read at any place, as often as wanted; else read once,
                forwards.
            name: For errors.

        Raises:
            DataError: If there is no item, or it is no array of integers.
        """
        self.name = name
        self.count: int | None = None
        self._items: Sequence[object] | None = None
        self._rest: Iterator[object] = iter(())
        self._next = 0
        if hasattr(items, "__len__") and hasattr(items, "__getitem__"):
            self._items = cast("Sequence[object]", items)
            self.count = len(self._items)
            heads = [self._items[0]] if self.count else []
        else:
            self._rest = iter(items)
            heads = list(islice(self._rest, 1))
            self._rest = chain(heads, self._rest)
        if not heads:
            raise DataError(f"{name}: no samples.")
        first = self._array(heads[0], 0)
        self.shape: tuple[int, ...] = first.shape
        self.dtype: np.dtype[np.integer] = first.dtype

    def _array(self, item: object, index: int) -> IntegerArray:
        value = item[0] if isinstance(item, tuple | list) and len(item) else item
        array = np.asarray(value)
        require_integer_dtype(array.dtype, where=f"{self.name}: sample {index}")
        return array.view(np.uint8) if array.dtype.kind == "b" else array

    def read(self, first: int, last: int) -> IntegerArray:
        """Return samples `first` to `last` - 1, fewer where an iterator ends.

        Raises:
            DataError: If a sample is unlike the first one, or lies behind an iterator.
        """
        if self._items is not None:
            items: Iterable[object] = (self._items[index] for index in range(first, last))
        else:
            items = self._forwards(first, last)
        found = np.empty((last - first, *self.shape), self.dtype)
        number = 0
        for number, item in enumerate(items, 1):
            index = first + number - 1
            array = self._array(item, index)
            if array.shape != self.shape or array.dtype != self.dtype:
                raise DataError(
                    f"{self.name}: sample {index} is {array.dtype} of shape {array.shape}, the "
                    f"first one {self.dtype} of shape {self.shape}. Give all of them one shape."
                )
            found[number - 1] = array
        return found[:number]

    def _forwards(self, first: int, last: int) -> Iterator[object]:
        if first < self._next:
            raise DataError(
                f"{self.name}: sample {first} was passed already, and it can be read only once. "
                "Give something with a length and an index."
            )
        for item in islice(self._rest, last - self._next):
            self._next += 1
            if self._next > first:
                yield item


def holds_recordings(path: Path) -> bool:
    """Return whether a path is a folder, or has the suffix, of recordings of event cameras."""
    return path.is_dir() or path.suffix.lower() in RECORDING_SUFFIXES


def open_samples(
    path: Path | str, *, key: str = "input", steps: int | None = None, port: Shape | None = None
) -> Samples:
    """Open a file, or a folder of event recordings, to be read piece by piece.

    - `.npz`, `.npy`: an array of integers; in an archive the one called `key`, or an event table
      (`neurodeploy.samples.event_tables`).
    - `.h5`, `.hdf5`: a data set called `key`, or an event table.
    - `.bin`, `.dat`, `.aedat4`, or a folder of them: recordings of event cameras, each
      one sample (`neurodeploy.samples.camera_recordings`).

    Event recordings need `steps`, T, and `port`, the (C, H, W) of the network's input.

    Nothing but the named file is read, and a damaged one is one error, not a crash: HDF5 files and
    `.aedat4` recordings, which compiled libraries parse, are read in another process with limits
    on time and memory; the rest in this one, its sizes checked before anything is allocated.

    Raises:
        DataError: If it cannot be opened, or holds nothing that is known.

    Example:
        >>> example = nd.load_example()
        >>> samples = nd.open_samples(example.samples, key="input", steps=4, port=(1, 8, 8))
        >>> samples.count, samples.read(0, 2).shape
        (32, (2, 4, 1, 8, 8))
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if holds_recordings(path):
        return EventRecordings(path, steps=steps, port=port)
    if suffix in HDF5_SUFFIXES:
        return open_hdf5(path, key=key)
    if key not in (names := member_names(path)) and is_event_archive(names):
        return EventTable(path, names, lambda name: ArrayFile(path, key=name))
    found = ArrayFile(path, key=key)
    if found.is_scattered:
        return ArraySamples(load_inputs(path, key=key), name=found.name)
    return found


def read_labels(
    path: Path | str, *, samples: int, classes: int, frames: int | None = None
) -> IntegerArray | None:
    """Return the class of each sample, `label` beside the samples; None where there is none.

    Where samples are sequences of `frames`, the result has the class of each frame, (samples,
    frames), which the file may hold as well.

    `.npz` and HDF5 files hold classes. Recordings below a folder have those of the folders that
    they lie in, numbered in the order of their names, if there is one for each class.

    Raises:
        DataError: If there are labels, but not one class of the network for each sample.
    """
    found = _read_labels(Path(path), samples, classes, frames)
    if found is None or frames is None or found.ndim == 2:
        return found
    return np.repeat(found[:, None], frames, axis=1)


def _read_labels(path: Path, samples: int, classes: int, frames: int | None) -> IntegerArray | None:
    if path.is_dir():
        folders = [one.parent for one in find_recordings(path)]
        names, numbers = np.unique([str(one) for one in folders], return_inverse=True)
        return None if path in folders or len(names) != classes else numbers
    found: Samples | None = None
    if path.suffix.lower() in HDF5_SUFFIXES:
        found = find_hdf5(path, key="label")
    elif "label" in member_names(path):
        found = ArrayFile(path, key="label")
    if found is None:
        return None
    where = f"{path}: 'label' of {found.dtype} and shape {(found.count, *found.shape)}"
    if (found.count, *found.shape) not in ((samples,), (samples, frames)):
        each = "" if frames is None else f", or for each of their {frames} answered frames,"
        raise DataError(
            f"{where}: one integer for each of {samples} samples{each} is required. Write class "
            "numbers, such as numpy.unique(names, return_inverse=True)[1]."
        )
    labels = found.read(0, samples)
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"{where}: holds {labels.min()} to {labels.max()}, the network has classes 0 to "
            f"{classes - 1}. Number the classes from 0."
        )
    return labels
