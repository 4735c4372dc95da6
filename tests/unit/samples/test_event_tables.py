from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurodeploy.errors import DataError
from neurodeploy.samples.events import Events


def dense() -> np.ndarray:
    values = np.zeros((2, 3, 1, 2, 2), dtype=np.int32)
    values[1, 0, 0, 1, 0] = -3
    values[0, 2, 0, 0, 1] = 1
    values[0, 2, 0, 1, 1] = 2
    return values


def test_events_are_sorted_and_dense_again() -> None:
    events = Events.from_dense(dense())
    assert len(events) == 3
    assert events.sample.tolist() == [0, 0, 1]
    assert events.step.tolist() == [2, 2, 0]
    assert events.address.tolist() == [1, 3, 2]
    assert events.payload.tolist() == [1, 2, -3]
    assert np.array_equal(events.to_dense(), dense())


def test_no_events() -> None:
    events = Events.from_dense(np.zeros((2, 3, 4), dtype=np.uint8))
    assert len(events) == 0
    assert events.to_dense().shape == (2, 3, 4)


def test_load_reads_what_arrays_gives(tmp_path: Path) -> None:
    path = tmp_path / "events.npz"
    np.savez(path, **Events.from_dense(dense()).arrays())
    assert np.array_equal(Events.load(path).to_dense(), dense())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("step", [2, 2, 3], "0 to 2 is allowed"),
        ("address", [1, -1, 2], "0 to 3 is allowed"),
        ("payload", [1, 0, 1], "a payload is 0"),
        ("sample", [1, 0, 1], "not sorted"),
        ("address", [3, 3, 2], "a place occurs twice"),
        ("sample", [0, 0], "one length"),
        ("payload", [1.0, 2.0, 3.0], "integers"),
        ("shape", [2, 3], "shape must be"),
    ],
)
def test_malformed_events_are_named(
    tmp_path: Path, name: str, change: list[int], message: str
) -> None:
    arrays: dict[str, np.ndarray] = dict(Events.from_dense(dense()).arrays())
    arrays[name] = np.array(change)
    if arrays[name].dtype == np.int64:
        arrays[name] = arrays[name].astype(np.int32)
    path = tmp_path / "events.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message):
        Events.load(path)


def test_floats_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="integers of shape"):
        Events.from_dense(np.zeros((1, 1, 1), dtype=np.float32))
    with pytest.raises(DataError, match="cannot be read"):
        Events.load(tmp_path / "absent.npz")
    other = tmp_path / "other.npz"
    np.savez(other, step=np.zeros(1))
    with pytest.raises(DataError, match="Required: shape, sample"):
        Events.load(other)
