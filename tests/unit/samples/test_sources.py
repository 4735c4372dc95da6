"""Samples read piece by piece: every format gives the same, and a cut file what is whole in it."""

from __future__ import annotations

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
from neurodeploy.samples.array_archives import CutShortError
from neurodeploy.samples.camera_recordings import read_recording
from neurodeploy.samples.event_tables import save_events
from neurodeploy.samples.events import Events
from neurodeploy.samples.sources import (
    ArraySamples,
    ObjectSamples,
    Samples,
    open_samples,
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
CUT_FORMATS = {name: FORMATS[name] for name in ("stored npz", "compressed npz", "npy")}


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


@pytest.mark.parametrize(("name", "save"), CUT_FORMATS.values(), ids=CUT_FORMATS)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_of_a_cut_file_the_whole_samples_can_be_read(tmp_path, values, name, save, kept) -> None:
    path = tmp_path / name
    save(path, values)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    samples = open_samples(path)
    assert samples.count == len(values)
    with pytest.raises(CutShortError, match=r"cut short: \d+ of 40 samples are complete") as error:
        samples.read(0, 40)
    complete = error.value.complete
    assert abs(complete / 40 - kept) < 0.15  # headers and other arrays take some bytes
    assert np.array_equal(samples.read(0, complete), values[:complete])
    with pytest.raises(CutShortError) as error:
        samples.read(complete - 1, complete + 2)
    assert error.value.complete == complete


def test_an_archive_whose_writer_was_stopped_gives_what_it_has(tmp_path, values) -> None:
    """It states no sizes: they are written at the end."""
    path = tmp_path / "a.npz"
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        member = archive.open("input.npy", "w", force_zip64=True)
        np.lib.format.write_array(member, values)
        member.close()
    data = bytearray(path.read_bytes())
    data[14:26] = b"\0" * 4 + b"\xff" * 8  # CRC and sizes of the local header
    extra = data.index(b"\x01\x00\x10\x00", 30)
    data[extra + 4 : extra + 20] = bytes(16)
    path.write_bytes(data[: len(data) // 2])
    samples = open_samples(path)
    with pytest.raises(CutShortError) as error:
        samples.read(0, 40)
    assert error.value.complete > 10
    assert np.array_equal(samples.read(0, 10), values[:10])


def test_damage_inside_of_a_compressed_array_is_where_it_ends(tmp_path, values) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, input=values)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    samples = open_samples(path)
    with pytest.raises(DataError, match="damaged") as error:
        samples.read(0, 40)
    if isinstance(error.value, CutShortError):  # else the checksum alone can tell
        complete = error.value.complete
        assert np.array_equal(samples.read(0, complete // 2), values[: complete // 2])


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


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", {"input": np.zeros((2, 3))}, "holds float64, integers are required"),
        ("a.npz", {"images": np.zeros((2, 3), int)}, "no array 'input'; it holds 'images'"),
        ("a.npz", b"PK and nothing else", "not a readable .npz"),
        ("a.npy", b"nothing", "not a readable .npy"),
        ("a.npy", None, "no such file"),
        ("a.h5", None, "no such file"),
        ("a.h5", b"nothing", "not a readable HDF5 file"),
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


# --- event tables -------------------------------------------------------------------------------


@pytest.fixture
def sparse() -> npt.NDArray[np.int32]:
    random = np.random.default_rng(1)
    values = random.integers(-9, 9, SHAPE) * (random.random(SHAPE) < 0.1)
    values[5] = 0  # a sample without events
    return values.astype(np.int32)


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "plain.npz"])
def test_an_event_table_holds_the_samples(tmp_path, sparse, name) -> None:
    events = Events.from_dense(sparse)
    if name == "plain.npz":
        np.savez(tmp_path / name, **events.arrays())
    else:
        save_events(tmp_path / name, events)
    samples = open_samples(tmp_path / name)
    assert (samples.count, samples.shape) == (len(sparse), SHAPE[1:])
    for first, last in ((0, 6), (6, 40), (5, 6), (0, 40)):
        assert np.array_equal(samples.read(first, last), sparse[first:last])


def test_without_payloads_every_event_is_one(tmp_path, sparse) -> None:
    events = Events.from_dense((sparse != 0).astype(np.int32))
    save_events(tmp_path / "a.h5", events)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["payload"]
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
    save_events(path, Events.from_dense(sparse))
    with h5py.File(path, "a") as file:
        changed = change(file[column][:])
        del file[column]
        file[column] = changed
    with pytest.raises(DataError, match=words):
        open_samples(path).read(0, 40)


def test_of_a_cut_table_the_whole_samples_can_be_read(tmp_path, sparse) -> None:
    path = tmp_path / "a.npz"
    events = Events.from_dense(sparse)
    offset = np.searchsorted(events.sample, np.arange(41))
    shape = np.array(SHAPE)
    np.savez(path, shape=shape, offset=offset, step=events.step, address=events.address)
    path.write_bytes(path.read_bytes()[: -events.address.nbytes // 2])
    samples = open_samples(path)
    with pytest.raises(CutShortError, match="of 40 samples") as error:
        samples.read(0, 40)
    complete = error.value.complete
    assert 10 < complete < 30
    assert np.array_equal(samples.read(0, complete), sparse[:complete] != 0)


# --- recordings of cameras ----------------------------------------------------------------------


def write_dat(path: Path, events: list[tuple[int, int, int, int]], *, kind: int = 12) -> None:
    """Two words of 32 bits an event: time; polarity from bit 28, row from 14, column from 0."""
    words = b"".join(struct.pack("<II", t, p << 28 | y << 14 | x) for t, x, y, p in events)
    path.write_bytes(b"% Data file containing CD events.\n% Version 2\n" + bytes([kind, 8]) + words)


def test_a_dat_file_becomes_frames(tmp_path) -> None:
    write_dat(tmp_path / "b.dat", [(0, 3, 1, 0), (1, 3, 1, 0), (10, 0, 2, 1), (21, 2, 2, 1)])
    samples = open_samples(tmp_path, steps=2, port=(2, 3, 4))
    expected = np.zeros((1, 2, 2, 3, 4), np.uint8)
    expected[0, 0, 0, 1, 3] = 2
    expected[0, 1, 1, 2, 0] = 1  # the event at 21 lies behind two bins of 10 microseconds
    assert np.array_equal(samples.read(0, 1), expected)
    joined = open_samples(tmp_path / "b.dat", steps=2, port=(1, 3, 4)).read(0, 1)
    assert np.array_equal(joined, expected.sum(2, keepdims=True))


def test_a_folder_of_recordings_is_read_in_order_of_paths(tmp_path) -> None:
    for name, x in (("b", 1), ("a", 0), ("c", 2)):
        (tmp_path / name).mkdir()
        write_dat(tmp_path / name / "1.dat", [(0, x, 0, 0), (9, 0, 0, 0)])
    found = open_samples(tmp_path, steps=1, port=(1, 1, 3)).read(0, 3)
    assert found[:, 0, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_recording_that_ends_within_an_event_ends_the_samples(tmp_path) -> None:
    for index in range(3):
        write_dat(tmp_path / f"{index}.dat", [(0, 0, 0, 0), (9, 0, 0, 0)])
    last = tmp_path / "2.dat"
    last.write_bytes(last.read_bytes()[:-3])
    samples = open_samples(tmp_path, steps=1, port=(1, 1, 1))
    with pytest.raises(CutShortError, match=r"2\.dat is cut short.*recording 3 of 3") as error:
        samples.read(1, 3)
    assert error.value.complete == 2


@pytest.mark.parametrize(
    ("events", "kind", "words"),
    [
        ([(0, 5, 0, 0)], 12, "column 5"),
        ([(5, 0, 0, 0), (0, 0, 0, 0)], 12, "go backwards"),
        ([(0, 0, 0, 0)], 14, "not a DAT file of CD events"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(tmp_path, events, kind, words) -> None:
    write_dat(tmp_path / "a.dat", events, kind=kind)
    with pytest.raises(DataError, match=words):
        open_samples(tmp_path, steps=1, port=(1, 2, 2)).read(0, 1)


def test_an_overflow_of_time_is_no_event(tmp_path) -> None:
    """N-MNIST: row 240 means that 2**13 microseconds went by."""
    events = ((5, 6, 100), (0, 240, 0), (7, 8, 50))
    data = b"".join(bytes((x, y)) + (1 << 23 | t).to_bytes(3, "big") for x, y, t in events)
    (tmp_path / "a.bin").write_bytes(data)
    found = read_recording(tmp_path / "a.bin")
    assert found.time.tolist() == [100, 50 + 2**13]
    assert found.x.tolist() == [5, 7]


@pytest.mark.parametrize("port", [None, (10,), (3, 4, 4)])
def test_recordings_need_a_spatial_port(tmp_path, port) -> None:
    write_dat(tmp_path / "a.dat", [(0, 0, 0, 0)])
    with pytest.raises(DataError, match="input of shape"):
        open_samples(tmp_path, steps=1, port=port)


def test_a_folder_without_recordings_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no event recordings"):
        open_samples(tmp_path, steps=1, port=(1, 1, 1))


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
