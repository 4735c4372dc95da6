"""Files that other processes open by themselves, and those that they must leave."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurodeploy.samples.located_files import SampleFile, locate, read_located
from neurodeploy.samples.sources import open_samples

VALUES = (np.random.default_rng(0).random((9, 4, 2, 5, 5)) < 0.3).astype(np.uint8)


def save_npy(folder: Path) -> Path:
    np.save(folder / "in.npy", VALUES)
    return folder / "in.npy"


def save_hdf5(folder: Path) -> Path:
    with h5py.File(folder / "in.h5", "w") as file:
        file["input"] = VALUES
    return folder / "in.h5"


def save_table(folder: Path) -> Path:
    sample, step, *place = np.nonzero(VALUES)
    with h5py.File(folder / "in.h5", "w") as file:
        file["shape"], file["sample"], file["step"] = VALUES.shape, sample, step
        file["address"] = np.ravel_multi_index(place, VALUES.shape[2:])
    return folder / "in.h5"


def save_recordings(folder: Path) -> Path:
    for number in range(3):
        events = np.array([[number, 0, 0, 0, 0], [1, 2, 128, 0, 9]], np.uint8)
        (folder / f"{number}.bin").write_bytes(events.tobytes())
    return folder


@pytest.mark.parametrize("save", [save_npy, save_hdf5, save_table, save_recordings])
def test_another_process_reads_the_same_samples(
    tmp_path, monkeypatch, save: Callable[[Path], Path]
) -> None:
    path = save(tmp_path)
    monkeypatch.chdir(tmp_path)
    samples = open_samples(path.relative_to(tmp_path), steps=4, port=(2, 5, 5))
    file = locate(samples)
    assert file is not None
    ranges = ((1, 3), (0, 2))
    expected = [samples.read(*one) for one in ranges]
    monkeypatch.chdir("/")
    for one, values in zip(ranges, expected, strict=True):
        assert np.array_equal(read_located(file, *one), values)


def test_what_is_not_the_same_file_is_left(tmp_path) -> None:
    path = save_npy(tmp_path)
    file = locate(open_samples(path))
    assert isinstance(file, SampleFile)
    before, content = path.stat(), path.read_bytes()

    def reads() -> bool:
        assert locate(open_samples(path)) is not None
        return read_located(file, 0, 1) is not None

    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not reads()  # though size and time are the same
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert not reads()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert reads()
    path.unlink()
    other = tmp_path / "other.npy"
    np.save(other, VALUES)
    other_file = locate(open_samples(other))
    assert other_file is not None
    assert read_located(other_file, 0, 1) is not None
    assert read_located(file, 0, 1) is None


def test_an_error_is_left_to_whoever_located_the_file(tmp_path) -> None:
    samples = open_samples(save_recordings(tmp_path), steps=4, port=(2, 5, 5))
    file = locate(samples)
    assert file is not None
    assert read_located(file, 1, 2) is not None
    (tmp_path / "2.bin").unlink()
    assert read_located(file, 2, 3) is None


def test_files_that_are_read_forwards_or_end_early_are_not_located(tmp_path) -> None:
    np.savez_compressed(tmp_path / "in.npz", input=VALUES)
    np.save(tmp_path / "columns.npy", np.asfortranarray(VALUES))
    cut = save_npy(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-1])
    for name in ("in.npz", "columns.npy", "in.npy"):
        assert locate(open_samples(tmp_path / name)) is None
