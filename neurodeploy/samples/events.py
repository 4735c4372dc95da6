"""Sparse spikes: which neuron sent what, in which step of which sample."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError

IntArray = npt.NDArray[np.int32]
_COLUMNS = ("sample", "step", "address", "payload")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Integer events of samples that last the same number of steps.

    Events are sorted by sample, step and address; each place occurs once at most.

    Attributes:
        samples: Number of samples.
        steps: T.
        shape: (C, H, W) or (N,) of one step.
        sample: (events,) int32, 0 to samples - 1.
        step: (events,) int32, 0 to steps - 1.
        address: (events,) int32, position in `shape` in C order.
        payload: (events,) int32, never 0; 1 for a binary spike.
    """

    samples: int
    steps: int
    shape: tuple[int, ...]
    sample: IntArray
    step: IntArray
    address: IntArray
    payload: IntArray

    def __post_init__(self) -> None:
        if self.samples < 0 or self.steps < 1 or not self.shape or min(self.shape) < 1:
            raise DataError(
                f"events: {self.samples} samples of {self.steps} steps of shape {self.shape}; "
                "at least one step and a shape without zeros are required."
            )
        columns = {name: getattr(self, name) for name in _COLUMNS}
        for name, column in columns.items():
            if column.dtype != np.int32 or column.shape != self.payload.shape or column.ndim != 1:
                raise DataError(
                    f"events: {name} is {column.dtype} of shape {column.shape}; int32 columns of "
                    f"one length are required."
                )
        limits = {"sample": self.samples, "step": self.steps, "address": prod(self.shape)}
        for name, limit in limits.items():
            column = columns[name]
            if column.size and not (column.min() >= 0 and column.max() < limit):
                raise DataError(
                    f"events: {name} from {column.min()} to {column.max()}, "
                    f"0 to {limit - 1} is allowed."
                )
        if self.payload.size and not self.payload.all():
            raise DataError("events: a payload is 0. Leave such events out.")
        if np.any(np.diff(self._places()) <= 0):
            raise DataError(
                "events: not sorted by sample, step and address, or a place occurs twice. "
                "Sort them, and add up what falls on one place."
            )

    def __len__(self) -> int:
        return int(self.payload.size)

    def _places(self) -> npt.NDArray[np.int64]:
        rows = self.sample.astype(np.int64) * self.steps + self.step
        return rows * prod(self.shape) + self.address

    @classmethod
    def from_dense(cls, values: npt.NDArray[np.integer]) -> Events:
        """Take the values that are not 0.

        Args:
            values: (samples, T, C, H, W) or (samples, T, N), integers in the range of int32.

        Raises:
            DataError: If there are fewer than three axes, or values that are no int32 integers.
        """
        if values.ndim < 3 or not np.issubdtype(values.dtype, np.integer):
            raise DataError(
                f"events: {values.dtype} of shape {values.shape}; integers of shape "
                "(samples, steps, ...) are required."
            )
        flat = values.reshape(values.shape[0], values.shape[1], -1)
        sample, step, address = np.nonzero(flat)
        payload = flat[sample, step, address]
        limit = np.iinfo(np.int32)
        if payload.size and (payload.min() < limit.min or payload.max() > limit.max):
            raise DataError("events: values beyond 32 bits. Use smaller integers.")
        return cls(
            samples=values.shape[0],
            steps=values.shape[1],
            shape=values.shape[2:],
            sample=sample.astype(np.int32),
            step=step.astype(np.int32),
            address=address.astype(np.int32),
            payload=payload.astype(np.int32),
        )

    def to_dense(self) -> IntArray:
        """Return (samples, T, *shape) int32, 0 where nothing happened."""
        dense = np.zeros((self.samples, self.steps, prod(self.shape)), dtype=np.int32)
        dense[self.sample, self.step, self.address] = self.payload
        return dense.reshape(self.samples, self.steps, *self.shape)

    def arrays(self) -> dict[str, IntArray]:
        """Return the arrays that `from_arrays` reads, ready for `numpy.savez`."""
        return {
            "shape": np.asarray((self.samples, self.steps, *self.shape), dtype=np.int32),
            "sample": self.sample,
            "step": self.step,
            "address": self.address,
            "payload": self.payload,
        }

    @classmethod
    def load(cls, path: Path | str) -> Events:
        """Read a NumPy archive that holds what `arrays` gives.

        Raises:
            DataError: If it is missing, damaged or not made of events.
        """
        path = Path(path)
        try:
            with (
                path.open("rb") as file,
                zipfile.ZipFile(file),
                np.load(path, allow_pickle=False) as archive,
            ):
                found = {name: archive[name] for name in ("shape", *_COLUMNS)}
        except KeyError as error:
            raise DataError(
                f"{path}: {error.args[0]}. Required: shape, {', '.join(_COLUMNS)}."
            ) from error
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: cannot be read as a NumPy archive ({error}).") from error
        shape = found["shape"]
        integers = all(np.issubdtype(array.dtype, np.integer) for array in found.values())
        if not integers or shape.ndim != 1 or shape.size < 3:
            raise DataError(
                f"{path}: shape must be (samples, steps, ...) and every array hold integers."
            )
        samples, steps, *rest = (int(extent) for extent in shape)
        try:
            columns = {name: found[name].astype(np.int32, casting="same_kind") for name in _COLUMNS}
            return cls(
                samples=samples,
                steps=steps,
                shape=tuple(rest),
                sample=columns["sample"],
                step=columns["step"],
                address=columns["address"],
                payload=columns["payload"],
            )
        except (DataError, TypeError) as error:
            raise DataError(f"{path}: {error}") from error
