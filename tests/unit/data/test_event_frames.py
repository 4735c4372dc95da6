"""Published event sets, read from tiny files in their real formats."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from fault_injection import Faults
from small_recipes import small_recipe

from neurodeploy.data import (
    Dataset,
    batches,
    event_frames,
    load_data,
)
from neurodeploy.data.augmentation import roll_images
from neurodeploy.data.event_frames import _without_download
from neurodeploy.data.stored import import_package
from neurodeploy.errors import DataError, OutputError
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.samples.sources import ObjectSamples, open_samples

Event = tuple[int, int, int, int]
"""t in microseconds, x, y, polarity."""


def recipe(
    source: str,
    root: Path,
    *keys: str,
    held_out: float = 0.5,
    steps: int = 2,
    seed: int = 0,
) -> Recipe:
    lines = "\n".join(
        (
            f'source = "{source}"',
            f'root = "{root.as_posix()}"',
            f"validation_fraction = {held_out}",
            *keys,
        )
    )
    return small_recipe(lines, seed=seed, steps=steps)


def all_of(dataset: Dataset) -> torch.Tensor:
    return dataset.batch(torch.arange(len(dataset)))


def recording(number: int) -> list[Event]:
    """Two events in the first half, at one place; then another, and the one that ends it."""
    x, y = number % 16, number // 16
    return [(0, x, y, 0), (100, x, y, 0), (6000, x, y + 1, 1), (10001, 0, 0, 1)]


def frames(number: int, size: tuple[int, int], *, limit: int) -> npt.NDArray[np.uint8]:
    """What `recording` is in two frames; tonic's last span ends before the last event."""
    counts = np.zeros((2, 2, *size), dtype=np.uint8)
    x, y = number % 16, number // 16
    counts[0, 0, y, x] = min(2, limit)
    counts[1, 1, y + 1, x] = 1
    return counts


# --- the formats --------------------------------------------------------------------------------


def write_nmnist(path: Path, events: Sequence[Event]) -> None:
    """Five bytes an event: x, y, then polarity in one bit and 23 bits of time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join(bytes((x, y)) + (p << 23 | t).to_bytes(3, "big") for t, x, y, p in events)
    )


def write_gesture(path: Path, events: Sequence[Event]) -> None:
    """A plain array (events, 4): x, y, polarity, milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array([(x, y, p, t // 100) for t, x, y, p in events]))


def write_aedat4(path: Path, events: Sequence[Event]) -> None:
    """An uncompressed AEDAT 4 file: a header with XML, then one packet; both are flatbuffers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    description = (
        b'<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        b'<node name="0" path="/mainloop/Recorder/outInfo/0/">'
        b'<attr key="typeIdentifier" type="string">EVTS</attr><node name="info">'
        b'<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">128</attr>'
        b"</node></node></node></dv>"
    )
    header = (
        struct.pack("<I4s5H2x", 20, b"IOHE", 10, 8, 0, 0, 4)
        + struct.pack("<iII", 12, 4, len(description))
        + description
        + b"\0"
    )
    elements = b"".join(struct.pack("<qhh?3x", t, x, y, bool(p)) for t, x, y, p in events)
    packet = (
        struct.pack("<I4s3H2x", 16, b"EVTS", 6, 8, 4)
        + struct.pack("<iII", 8, 4, len(events))
        + elements
    )
    packet = struct.pack("<I", len(packet)) + packet
    path.write_bytes(
        b"#!AER-DAT4.0\r\n"
        + struct.pack("<I", len(header))
        + header
        + struct.pack("<II", 0, len(packet))
        + packet
    )


def write_shd(path: Path, samples: int) -> None:
    """HDF5 with times in seconds, channels, labels, and names of classes and speakers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", samples, h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", samples, h5py.vlen_dtype(np.uint16))
        for number in range(samples):
            times[number] = np.array([0.0, 0.25, 0.75, 1.0], dtype=np.float16)
            units[number] = np.array([number, number, 699, 0], dtype=np.uint16)
        file["labels"] = np.arange(samples, dtype=np.uint16) % 20
        file["extra/keys"] = np.array([b"zero"] * 20)
        file["extra/speaker"] = np.zeros(samples, dtype=np.uint16)


@pytest.mark.parametrize(
    ("write", "file", "size"),
    [(write_nmnist, "NMNIST/Test/0/1.bin", (34, 34)), (write_aedat4, "a/1.aedat4", (128, 128))],
)
def test_a_simulation_reads_the_frames_that_training_sees(
    tmp_path: Path, write: Callable[[Path, Sequence[Event]], None], file: str, size: tuple[int, int]
) -> None:
    random = np.random.default_rng(0)
    times = np.sort(random.integers(0, 40_000, 300))
    events = [
        (int(t), *(int(each) for each in random.integers(0, 20, 2)), int(random.integers(2)))
        for t in times
    ]
    write(tmp_path / file, events)
    dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    table = np.array([(x, y, t, p) for t, x, y, p in events], dtype)
    frames = import_package("tonic").transforms.ToFrame(sensor_size=(*size, 2), n_time_bins=7)(
        table
    )
    found = open_samples(tmp_path / file, steps=7, port=(2, *size)).read(0, 1)
    assert np.array_equal(found[0], frames)


def test_a_simulation_reads_tonic_data_sets(tmp_path: Path) -> None:
    """A set whose transform makes frames, as (frames, label)."""
    for number in range(3):
        write_nmnist(tmp_path / f"NMNIST/Test/{number}/{number}.bin", recording(number))
    kind = _without_download(import_package("tonic").datasets.NMNIST)
    to_frames = import_package("tonic").transforms.ToFrame(sensor_size=(34, 34, 2), n_time_bins=2)
    samples = ObjectSamples(kind(str(tmp_path), train=False, transform=to_frames))
    assert (samples.count, samples.shape) == (3, (2, 2, 34, 34))
    by_label = sorted(samples.read(0, 3).tolist(), key=lambda one: np.nonzero(one)[-1][0])
    expected = np.stack([frames(number, (34, 34), limit=255) for number in range(3)])
    assert np.array_equal(by_label, expected)


CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_cifar10dvs(root: Path, each: int = 10) -> None:
    for label, name in enumerate(CLASSES):
        for index in range(each):
            file = root / "CIFAR10DVS" / name / f"cifar10_{name}_{index}.aedat4"
            write_aedat4(file, recording(each * label + index))


def write_nmnist_set(root: Path) -> None:
    for part, each in (("Train", 4), ("Test", 2)):
        for digit in range(10):
            for index in range(each):
                number = digit * each + index
                file = root / "NMNIST" / part / str(digit) / f"{number + 1:05}.bin"
                write_nmnist(file, recording(number))


def write_gesture_set(root: Path) -> None:
    for part, users in (("ibmGestureTrain", 4), ("ibmGestureTest", 2)):
        for user in range(users):
            for label in range(11):
                folder = root / "DVSGesture" / part / f"user{user + 1:02}_lab"
                write_gesture(folder / f"{label}.npy", recording(11 * user + label))


def write_shd_set(root: Path) -> None:
    write_shd(root / "SHD" / "shd_train.h5", 60)
    write_shd(root / "SHD" / "shd_test.h5", 20)


WRITERS = {
    "cifar10dvs": write_cifar10dvs,
    "nmnist": write_nmnist_set,
    "dvs_gesture": write_gesture_set,
    "shd": write_shd_set,
}


# --- what is read -------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a set, give the path of its first file of that pattern."""

    def write(source: str, pattern: str) -> Path:
        WRITERS[source](tmp_path)
        return min(tmp_path.rglob(pattern))

    return write


def test_nmnist_counts_events_in_two_frames(tmp_path: Path) -> None:
    write_nmnist_set(tmp_path)
    data = recipe("nmnist", tmp_path, "input_bits = 1", held_out=0.25)
    train, validation, test = load_data(data)
    assert (len(train), len(validation), len(test)) == (30, 10, 20)
    assert (test.shape, test.classes, test.scale, test.is_static) == ((2, 34, 34), 10, 0.5, False)
    assert test.labels.tolist() == [digit for digit in range(10) for _ in range(2)]
    expected = np.stack([frames(number, (34, 34), limit=2) for number in range(20)])
    assert np.array_equal(all_of(test).numpy(), expected)
    windows = test.windows(2)
    assert windows.dtype == np.int32
    assert np.array_equal(windows, expected)
    with pytest.raises(DataError, match="samples of 2 steps, the network takes 3"):
        test.windows(3)
    binary = load_data(recipe("nmnist", tmp_path))[2]
    assert np.array_equal(all_of(binary).numpy(), np.minimum(expected, 1))


def test_gestures_keep_their_published_parts(tmp_path: Path) -> None:
    write_gesture_set(tmp_path)
    data = recipe("dvs_gesture", tmp_path, "input_bits = 1", held_out=0.25)
    train, validation, test = load_data(data)
    assert (len(train), len(validation), len(test)) == (33, 11, 22)
    assert test.shape == (2, 128, 128)
    labels = [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]  # in the order of the files' names
    assert test.labels.tolist() == labels + labels
    numbers = labels + [11 + label for label in labels]
    expected = np.stack([frames(number, (128, 128), limit=2) for number in numbers])
    assert np.array_equal(all_of(test).numpy(), expected)
    small = load_data(recipe("dvs_gesture", tmp_path, "size = 64"))[2]
    summed = expected.reshape(22, 2, 2, 64, 2, 64, 2).sum(axis=(4, 6))
    assert np.array_equal(all_of(small).numpy(), np.minimum(summed, 1))


def test_cifar10dvs_is_split_nine_to_one_in_every_class(tmp_path: Path) -> None:
    write_cifar10dvs(tmp_path)
    first = load_data(recipe("cifar10dvs", tmp_path, held_out=0.2))
    other = load_data(recipe("cifar10dvs", tmp_path, held_out=0.2, seed=1))
    assert [len(part) for part in first] == [72, 18, 10]
    assert first[0].shape == (2, 48, 48)
    assert np.bincount(first[2].labels).tolist() == [1] * 10
    assert torch.equal(all_of(first[2]), all_of(other[2]))
    assert not torch.equal(all_of(first[1]), all_of(other[1]))
    expected = set()
    for number in range(100):
        counts = np.zeros((2, 2, 48, 48), dtype=np.uint8)
        x, y = number % 16, number // 16
        counts[0, 0, y * 3 // 8, x * 3 // 8] = 1
        counts[1, 1, (y + 1) * 3 // 8, x * 3 // 8] = 1
        expected.add(counts.tobytes())
    found = {sample.tobytes() for part in first for sample in all_of(part).numpy()}
    assert found == expected


def test_shd_channels_become_neurons(tmp_path: Path) -> None:
    write_shd_set(tmp_path)
    data = recipe("shd", tmp_path, "input_bits = 1", held_out=0.34)
    train, validation, test = load_data(data)
    assert (len(train), len(validation), len(test)) == (39, 21, 20)
    assert (test.shape, test.classes) == ((700,), 20)
    assert test.labels.tolist() == list(range(20))
    expected = np.zeros((20, 2, 700), dtype=np.uint8)
    expected[np.arange(20), 0, np.arange(20)] = 2
    expected[:, 1, 699] = 1
    assert np.array_equal(all_of(test).numpy(), expected)


def test_a_recording_without_events_is_all_zeros(tmp_path: Path) -> None:
    write_nmnist_set(tmp_path)
    (tmp_path / "NMNIST" / "Test" / "0" / "00001.bin").write_bytes(b"")
    assert not all_of(load_data(recipe("nmnist", tmp_path))[2])[0].any()


# --- frames on disk -----------------------------------------------------------------------------


def test_frames_are_made_once_and_again_when_recordings_change(tmp_path: Path) -> None:
    write_nmnist_set(tmp_path)
    data = recipe("nmnist", tmp_path)
    digest = load_data(data)[2].digest()
    made = sorted((tmp_path / "frames").iterdir())
    assert [path.name.rpartition("-")[0] for path in made] == [
        "nmnist-test-2x2x34x34",
        "nmnist-train-2x2x34x34",
    ]
    times = [path.stat().st_mtime_ns for path in made]
    assert load_data(data)[2].digest() == digest
    assert [path.stat().st_mtime_ns for path in made] == times
    load_data(recipe("nmnist", tmp_path, steps=3))
    assert len(list((tmp_path / "frames").iterdir())) == 4
    write_nmnist(tmp_path / "NMNIST" / "Test" / "0" / "00001.bin", recording(3))
    changed = load_data(data)[2]
    assert changed.digest() != digest
    assert np.array_equal(all_of(changed)[0].numpy(), frames(3, (34, 34), limit=1))


def test_frames_go_where_the_recipe_says(tmp_path: Path) -> None:
    write_nmnist_set(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    load_data(recipe("nmnist", tmp_path, f'cache = "{elsewhere.as_posix()}"'))
    assert len(list(elsewhere.iterdir())) == 2
    assert not (tmp_path / "frames").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"name another folder with data\.cache"):
        load_data(recipe("nmnist", tmp_path, f'cache = "{(tmp_path / "file").as_posix()}"'))


def test_damaged_frames_are_named(tmp_path: Path) -> None:
    write_nmnist_set(tmp_path)
    data = recipe("nmnist", tmp_path)
    train = load_data(data)[0]
    path = min((tmp_path / "frames").glob("nmnist-train*"))
    content = path.read_bytes()
    os.truncate(path, 1000)  # a mapped file would end this process
    with pytest.raises(DataError, match=r"it was cut short.*Delete it; it is made again"):
        all_of(train)
    path.write_bytes(content)
    path = min((tmp_path / "frames").glob("nmnist-test*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="Delete it; it is made again"):
        load_data(data)
    np.save(path, np.zeros(20))
    with pytest.raises(DataError, match="something else than frames"):
        load_data(data)


# --- missing and damaged files ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("cifar10dvs", r"CIFAR10DVS/CLASS/\*\.aedat4 is required.*figshare"),
        ("nmnist", r"NMNIST/Train/DIGIT/\*\.bin is required.*garrickorchard"),
        ("dvs_gesture", r"DVSGesture/ibmGestureTrain/.*is required.*figshare"),
        ("shd", r"SHD/shd_train\.h5 is required.*zenkelab"),
    ],
)
def test_missing_sets_say_what_belongs_where(tmp_path: Path, source: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        load_data(recipe(source, tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "pattern", "kept"),
    [
        ("cifar10dvs", "*.aedat4", 14),
        ("cifar10dvs", "*.aedat4", 5),
        ("cifar10dvs", "*.aedat4", -1),
        ("nmnist", "*.bin", -1),
        ("dvs_gesture", "*.npy", -1),
        ("shd", "*.h5", 100),
    ],
)
def test_truncated_files_are_named(
    tmp_path: Path, damaged: Callable[[str, str], Path], source: str, pattern: str, kept: int
) -> None:
    path = damaged(source, pattern)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=path.name):
        load_data(recipe(source, tmp_path))
    assert all("train" in made.name for made in tmp_path.glob("frames/*"))


@pytest.mark.parametrize("number", ["70", "72"])
def test_recordings_on_which_a_compiled_parser_panics_or_crashes_are_named(
    tmp_path: Path, damaged: Callable[[str, str], Path], number: str
) -> None:
    path = damaged("cifar10dvs", "*.aedat4")
    (hostile,) = (Path(__file__).parents[2] / "golden" / "hostile").glob(f"{number}_*")
    path.write_bytes(hostile.read_bytes())
    with pytest.raises(DataError, match=rf"{path.name}: (cannot be read|reading it crashed)"):
        load_data(recipe("cifar10dvs", tmp_path))


@pytest.mark.parametrize("name", ["spikes/times", "labels"])
def test_hdf5_sets_are_read_from_their_file_alone(tmp_path: Path, name: str) -> None:
    WRITERS["shd"](tmp_path)
    path = min(tmp_path.rglob("*train.h5"))
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink("shd_test.h5", f"/{name}")
    with pytest.raises(DataError, match=f"{name}: a link to somewhere else"):
        load_data(recipe("shd", tmp_path))


def test_events_outside_the_sensor_are_refused(
    tmp_path: Path, damaged: Callable[[str, str], Path]
) -> None:
    path = damaged("nmnist", "*.bin")
    write_nmnist(path, [(0, 40, 0, 0), (5000, 0, 0, 0), (10000, 0, 0, 0)])
    with pytest.raises(DataError, match=rf"{path.name}: an event at column 40"):
        load_data(recipe("nmnist", tmp_path))


@pytest.mark.parametrize("order", ["mixed", "reversed"])
def test_times_out_of_order_are_refused_by_training_as_by_a_simulation(
    tmp_path: Path, damaged: Callable[[str, str], Path], order: str
) -> None:
    """Cut into spans by time, such a recording would keep few of its events, or none."""
    path = damaged("nmnist", "*.bin")
    events = recording(0)
    write_nmnist(path, events[::-1] if order == "reversed" else [*events[2:], *events[:2]])
    with pytest.raises(DataError, match="its times go backwards"):
        open_samples(path, steps=2, port=(2, 34, 34)).read(0, 1)
    with pytest.raises(DataError, match=rf"{path.name}: its times go backwards"):
        load_data(recipe("nmnist", tmp_path))
    assert all("train" in made.name for made in tmp_path.glob("frames/*"))


@pytest.mark.parametrize(("source", "pattern"), [("cifar10dvs", "*.aedat4"), ("nmnist", "*.bin")])
def test_hidden_files_of_macos_archives_are_no_recordings(
    tmp_path: Path, source: str, pattern: str
) -> None:
    WRITERS[source](tmp_path)
    sizes = [len(part) for part in load_data(recipe(source, tmp_path))]
    for path in list(tmp_path.rglob(pattern)):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 Mac OS X")
    assert [len(part) for part in load_data(recipe(source, tmp_path))] == sizes


def test_hidden_files_that_tonic_takes_for_gestures_are_named(tmp_path: Path) -> None:
    write_gesture_set(tmp_path)
    path = min(tmp_path.rglob("*.npy"))
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 Mac OS X")
    with pytest.raises(DataError, match=rf"\._{path.name} is a hidden file of macOS; delete"):
        load_data(recipe("dvs_gesture", tmp_path))


def test_frames_made_another_way_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of an older version may lack events of recordings that are refused by now."""
    write_nmnist_set(tmp_path)
    monkeypatch.setattr(event_frames, "_MADE_AS", "counted by tonic")
    load_data(recipe("nmnist", tmp_path))
    monkeypatch.undo()
    load_data(recipe("nmnist", tmp_path))
    assert len(list((tmp_path / "frames").iterdir())) == 4


def test_frames_on_a_full_disk_are_an_error(tmp_path: Path) -> None:
    """Not the end of the process, as where they are written through a mapped file."""
    write_nmnist_set(tmp_path)
    counted = Faults(tmp_path / "frames")
    with counted.injected(arrays=False):
        load_data(recipe("nmnist", tmp_path))
    shutil.rmtree(tmp_path / "frames")
    number = counted.operations.index(next(x for x in counted.operations if x[:6] == "write "))
    full = Faults(tmp_path / "frames", number=number, lasting=True)
    with full.injected(arrays=False), pytest.raises(OutputError, match=r"No space.*data\.cache"):
        load_data(recipe("nmnist", tmp_path))
    assert not (tmp_path / "frames").exists()


def test_a_class_without_recordings_is_named(tmp_path: Path) -> None:
    write_nmnist_set(tmp_path)
    for path in (tmp_path / "NMNIST" / "Train" / "3").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no recordings of classes \[3\]"):
        load_data(recipe("nmnist", tmp_path))


# --- augmentation -------------------------------------------------------------------------------


def test_roll_and_flip_keep_every_event(tmp_path: Path) -> None:
    write_cifar10dvs(tmp_path)
    plain = load_data(recipe("cifar10dvs", tmp_path))[0]
    moved = load_data(recipe("cifar10dvs", tmp_path, "flip = true", "roll = 5"))[0]
    (images, _), *_ = batches(plain, len(plain))
    generator = torch.Generator().manual_seed(0)
    (found, _), *_ = batches(moved, len(moved), generator=generator)
    assert torch.equal(
        found.sum(dim=(1, 2, 3, 4)).sort()[0], images.sum(dim=(1, 2, 3, 4)).sort()[0]
    )
    again = torch.Generator().manual_seed(0)
    assert torch.equal(next(iter(batches(moved, len(moved), generator=again)))[0], found)


def test_roll_moves_all_steps_together_and_around_the_edge() -> None:
    picture = torch.arange(12, dtype=torch.uint8).reshape(3, 4)
    samples = picture.expand(200, 2, 1, 3, 4).contiguous()
    moved = roll_images(samples, 1, generator=torch.Generator().manual_seed(0))
    allowed = {
        tuple(torch.roll(picture, (dy, dx), (0, 1)).flatten().tolist())
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert {tuple(frame.flatten().tolist()) for frame in moved[:, 0]} == allowed
    assert torch.equal(moved[:, 0], moved[:, 1])
