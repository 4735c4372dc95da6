"""Samples read piece by piece: every format gives the same, and a cut file what is whole in it."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import DataError
from neurodeploy.samples.array_files import CutShortError
from neurodeploy.samples.sources import (
    ArraySamples,
    ObjectSamples,
    Samples,
    open_samples,
    read_labels,
)

Array = npt.NDArray[np.generic]
SHAPE = (40, 3, 2, 9, 8)


@pytest.fixture
def values() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8)


def save_npz(path: Path, values: Array) -> None:
    np.savez(path, before=np.arange(7), input=values, label=np.arange(len(values)))


def save_compressed(path: Path, values: Array) -> None:
    np.savez_compressed(path, before=np.arange(7), input=values, label=np.arange(len(values)))


def save_hdf5(path: Path, values: Array) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("input", data=values, chunks=(1, *values.shape[1:]), compression=1)


FORMATS: dict[str, tuple[str, Callable[[Path, Array], None]]] = {
    "stored npz": ("a.npz", save_npz),
    "compressed npz": ("a.npz", save_compressed),
    "npy": ("a.npy", np.save),
    "hdf5": ("a.h5", save_hdf5),
}


@pytest.mark.parametrize(("name", "save"), FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("dtype", ["u1", "<i4", ">i2", "?"])
def test_pieces_of_a_file_are_pieces_of_the_array(tmp_path, values, name, save, dtype) -> None:
    stored = values.astype(dtype)
    save(tmp_path / name, stored)
    samples = open_samples(tmp_path / name)
    assert (samples.count, samples.shape) == (len(values), SHAPE[1:])
    for first, last in ((0, 7), (7, 8), (8, 40), (3, 20), (0, 40)):  # in order, and going back
        found = samples.read(first, last)
        assert found.dtype == samples.dtype
        assert found.dtype.kind in "iu"
        assert np.array_equal(found, stored[first:last])


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_of_a_cut_npy_file_the_whole_samples_can_be_read(tmp_path, values, kept) -> None:
    path = tmp_path / "a.npy"
    np.save(path, values)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    samples = open_samples(path)
    assert samples.count == len(values)
    with pytest.raises(CutShortError, match=r"cut short: \d+ of 40 samples are complete") as error:
        samples.read(0, 40)
    complete = error.value.complete
    assert abs(complete / 40 - kept) < 0.15  # the header takes some bytes
    assert np.array_equal(samples.read(0, complete), values[:complete])
    with pytest.raises(CutShortError) as error:
        samples.read(complete - 1, complete + 2)
    assert error.value.complete == complete


@pytest.mark.parametrize("save", [save_npz, save_compressed])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_cut_archive_cannot_be_opened_and_says_so(tmp_path, values, save, kept) -> None:
    """Its list of arrays is at its end."""
    path = tmp_path / "a.npz"
    save(path, values)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=r"a\.npz: cut short or damaged.*Get the whole file again"):
        open_samples(path)


def test_damage_inside_of_a_compressed_array_is_named(tmp_path, values) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, input=values)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    samples = open_samples(path)
    with pytest.raises(DataError, match="damaged"):
        samples.read(0, 40)


@pytest.mark.parametrize("save", [save_npz, save_compressed])
def test_a_wrong_checksum_is_found_at_the_end(tmp_path, values, save) -> None:
    path = tmp_path / "a.npz"
    save(path, values)
    with zipfile.ZipFile(path) as archive:
        sum_in_file = struct.pack("<I", archive.getinfo("input.npy").CRC)
    path.write_bytes(path.read_bytes().replace(sum_in_file, b"abcd"))
    samples = open_samples(path)
    samples.read(0, 39)
    with pytest.raises(DataError, match="checksum"):
        samples.read(39, 40)


@pytest.mark.parametrize(("name", "save"), FORMATS.values(), ids=FORMATS)
def test_a_piece_takes_the_memory_of_a_piece(tmp_path, name, save) -> None:
    save(tmp_path / name, np.zeros((4000, 10_000), np.uint8))
    tracemalloc.start()
    samples = open_samples(tmp_path / name)
    for first in range(0, 4000, 100):
        assert samples.read(first, first + 100).shape == (100, 10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6  # the file holds 40e6, a piece 1e6


def test_columns_first_are_read_as_well(tmp_path, values) -> None:
    columns = np.asfortranarray(values)
    np.save(tmp_path / "a.npy", columns)
    np.savez(tmp_path / "a.npz", input=columns)
    for name in ("a.npy", "a.npz"):
        assert np.array_equal(open_samples(tmp_path / name).read(3, 9), values[3:9])


def test_a_file_may_be_cut_short_while_it_is_read(tmp_path, values) -> None:
    for order in "CF":
        path = tmp_path / f"{order}.npy"
        np.save(path, np.asarray(np.tile(values, (20, 1, 1, 1, 1)), order=order))
        samples = open_samples(path)
        samples.read(0, 2)
        os.truncate(path, 10_000)  # a mapped file would end this process
        with pytest.raises(DataError, match="cut short"):
            samples.read(samples.count - 3, samples.count)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", {"input": np.zeros((2, 3))}, "holds float64, integers are required"),
        ("a.npz", {"images": np.zeros((2, 3), int)}, "no array 'input'; it holds 'images'"),
        ("a.npz", b"PK and nothing else", "An .npz archive is required"),
        ("a.npy", b"nothing", "A .npy file is required"),
        ("a.npy", None, "no such file"),
        ("a.h5", None, "no such file"),
        ("a.h5", b"nothing", "read from whole HDF5 files"),
        ("a.bin", None, "do not say how many steps"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, words) -> None:
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_samples(path)


def test_hdf5_names_its_data_sets(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/frames"] = np.arange(6).reshape(2, 3)
    with pytest.raises(DataError, match="holds 'group/frames'"):
        open_samples(tmp_path / "a.h5")
    assert open_samples(tmp_path / "a.h5", key="group/frames").read(1, 2).tolist() == [[3, 4, 5]]


def test_a_cut_hdf5_file_cannot_be_opened_and_says_so(tmp_path, values) -> None:
    save_hdf5(tmp_path / "a.h5", values)
    data = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cut short can be read in this format"):
        open_samples(tmp_path / "a.h5")


# --- Python objects -----------------------------------------------------------------------------


def test_arrays_lists_and_iterators_give_the_same(values) -> None:
    class Pairs:
        def __len__(self) -> int:
            return len(values)

        def __getitem__(self, index: int) -> tuple[Array, int]:
            return values[index], 3

    for samples in (ArraySamples(values), ObjectSamples(list(values)), ObjectSamples(Pairs())):
        assert samples.count == 40
        assert np.array_equal(samples.read(4, 9), values[4:9])
    once: Samples = ObjectSamples(iter(values))
    assert once.count is None
    assert once.shape == SHAPE[1:]
    assert np.array_equal(once.read(0, 3), values[:3])
    assert np.array_equal(once.read(5, 9), values[5:9])
    assert np.array_equal(once.read(9, 99), values[9:])
    assert len(once.read(40, 50)) == 0
    with pytest.raises(DataError, match="only once"):
        once.read(2, 3)


def test_torch_data_sets_are_read(values) -> None:
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(values), torch.zeros(40))
    assert np.array_equal(ObjectSamples(dataset).read(2, 8), values[2:8])


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "no samples"),
        (iter(()), "no samples"),
        ([np.zeros(3)], "sample 0 holds float64"),
        ([np.zeros(3, int), np.zeros(2, int)], r"sample 1 is int64 of shape \(2,\)"),
        ([np.zeros(3, int), np.zeros(3, np.int16)], "sample 1 is int16"),
    ],
)
def test_items_that_are_no_samples_are_refused(items, words) -> None:
    with pytest.raises(DataError, match=words):
        ObjectSamples(items).read(0, 2)


def test_an_array_of_numbers_alone_has_no_samples() -> None:
    with pytest.raises(DataError, match="samples must be its first axis"):
        ArraySamples(np.arange(3))


def test_recordings_have_the_classes_of_their_folders(tmp_path: Path) -> None:
    for place in ("b/1.bin", "a/x/2.bin", "b/3.bin"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    labels = read_labels(tmp_path, samples=3, classes=2)
    assert labels is not None
    assert labels.tolist() == [0, 1, 1]
    assert read_labels(tmp_path, samples=3, classes=3) is None
    (tmp_path / "4.bin").write_bytes(b"")
    assert read_labels(tmp_path, samples=4, classes=3) is None
