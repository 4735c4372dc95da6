"""Event tables: the samples that their columns describe, and how damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import DataError
from neurodeploy.samples.array_files import CutShortError
from neurodeploy.samples.sources import open_samples

SHAPE = (40, 3, 2, 9, 8)


def event_columns(values: npt.NDArray[np.integer]) -> dict[str, npt.NDArray[np.integer]]:
    """Make the columns of an event table from dense samples, (samples, T, ...)."""
    flat = values.reshape(*values.shape[:2], -1)
    sample, step, address = np.nonzero(flat)
    numbers = np.bincount(sample, minlength=len(values))
    return {
        "shape": np.array(values.shape),
        "offset": np.concatenate([[0], np.cumsum(numbers)]),
        "step": step.astype(np.int32),
        "address": address.astype(np.int32),
        "payload": flat[sample, step, address].astype(np.int32),
    }


def save_columns(path: Path, columns: dict[str, npt.NDArray[np.integer]]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **columns)
        return
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file[name] = column


@pytest.fixture
def sparse() -> npt.NDArray[np.int32]:
    random = np.random.default_rng(1)
    values = random.integers(-9, 9, SHAPE) * (random.random(SHAPE) < 0.1)
    values[5] = 0  # a sample without events
    return values.astype(np.int32)


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "plain.npz"])
def test_an_event_table_holds_the_samples(tmp_path, sparse, name) -> None:
    columns = event_columns(sparse)
    if name == "plain.npz":  # a column of sample numbers in place of offsets
        columns["sample"] = np.repeat(np.arange(len(sparse)), np.diff(columns.pop("offset")))
    save_columns(tmp_path / name, columns)
    samples = open_samples(tmp_path / name)
    assert (samples.count, samples.shape) == (len(sparse), SHAPE[1:])
    for first, last in ((0, 6), (6, 40), (5, 6), (0, 40)):
        assert np.array_equal(samples.read(first, last), sparse[first:last])


def test_without_payloads_every_event_is_one(tmp_path, sparse) -> None:
    columns = event_columns(sparse)
    del columns["payload"]
    save_columns(tmp_path / "a.h5", columns)
    found = open_samples(tmp_path / "a.h5").read(0, 40)
    assert found.dtype == np.uint8
    assert np.array_equal(found, sparse != 0)


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        ("step", lambda column: column + 3, "step from 3 to"),
        ("address", lambda column: column - 1, "address from -1 to"),
        ("address", lambda column: column // 2, "two events in one place"),
        ("payload", lambda column: column * 0, "payload of 0"),
        ("offset", lambda column: column[::-1].copy(), "'offset' must rise"),
        ("offset", lambda column: column[:-1], "41 entries"),
        ("step", lambda column: column[:-1], "'offset' ends at"),
        ("shape", lambda column: column[:2], "shape must be"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, sparse, column, change, words) -> None:
    path = tmp_path / "a.h5"
    columns = event_columns(sparse)
    columns[column] = change(columns[column])
    save_columns(path, columns)
    with pytest.raises(DataError, match=words):
        open_samples(path).read(0, 40)


def test_of_a_damaged_column_the_whole_samples_can_be_read(tmp_path, sparse) -> None:
    path = tmp_path / "a.h5"
    columns = event_columns(sparse)
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            if name != "payload":
                file.create_dataset(
                    name, data=column, chunks=(min(100, len(column)),), compression=1
                )
        rows = len(columns["address"])
        chunk = file["address"].id.get_chunk_info(rows // 200)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)
    samples = open_samples(path)
    with pytest.raises(CutShortError, match="of 40 samples") as error:
        samples.read(0, 40)
    complete = error.value.complete
    assert 10 < complete < 30
    assert np.array_equal(samples.read(0, complete), sparse[:complete] != 0)
