"""Published event sets, read by tonic from a folder of the user's, as frames kept on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.data.augmentation import flip_images, roll_images
from neurodeploy.data.dataset import TEST_SPLIT_SEED, Dataset, LabelArray, split
from neurodeploy.data.stored import (
    StoredDataset,
    import_package,
    is_hidden,
    layout_hint,
)
from neurodeploy.errors import DataError, OutputError
from neurodeploy.files import replacing
from neurodeploy.recipes.data_sections import Cifar10DvsData, DvsGestureData, EventSection, ShdData
from neurodeploy.samples.camera_recordings import (
    RECORDING,
    CameraEvents,
    read_recording,
    to_frames,
)
from neurodeploy.untrusted.boundary import FileKind, guarded, reading
from neurodeploy.untrusted.hdf5 import require_own_data

logger = logging.getLogger(__name__)

_LARGEST_SIZE = 128
"""Height and width of the cameras whose positions are scaled down."""
FRAMES = FileKind("frames", ".npy", DataError, "Delete it; it is made again.")
_SHD_ARRAYS = ("spikes/times", "spikes/units", "labels")
_MADE_AS = "counted by samples.camera_recordings"
"""The way frames are made: frames that were made another way are made again."""


class _Publication(NamedTuple):
    """tonic's class, where the set is offered, and patterns of its training and test files."""

    kind: str
    page: str
    files: tuple[str, str]


_PUBLICATIONS = {
    "cifar10dvs": _Publication(
        kind="CIFAR10DVS",
        page="https://figshare.com/ndownloader/files/38023437 (CIFAR10DVS.zip, .aedat4 files)",
        files=("CIFAR10DVS/CLASS/*.aedat4", "CIFAR10DVS/CLASS/*.aedat4"),
    ),
    "nmnist": _Publication(
        kind="NMNIST",
        page="https://www.garrickorchard.com/datasets/n-mnist (train.zip, test.zip)",
        files=("NMNIST/Train/DIGIT/*.bin", "NMNIST/Test/DIGIT/*.bin"),
    ),
    "dvs_gesture": _Publication(
        kind="DVSGesture",
        page="https://figshare.com/ndownloader/files/38022171 (ibmGestureTrain.tar.gz) and "
        "https://figshare.com/ndownloader/files/38020584 (ibmGestureTest.tar.gz), the set cut "
        "into gestures",
        files=(
            "DVSGesture/ibmGestureTrain/userNN_LIGHT/CLASS.npy",
            "DVSGesture/ibmGestureTest/userNN_LIGHT/CLASS.npy",
        ),
    ),
    "shd": _Publication(
        kind="SHD",
        page="https://zenkelab.org/datasets (shd_train.h5.zip, shd_test.h5.zip)",
        files=("SHD/shd_train.h5", "SHD/shd_test.h5"),
    ),
}
"""Source: the classes of these names in tonic/datasets."""


def read_frames(section: EventSection, *, steps: int) -> tuple[Dataset, Dataset]:
    """Read an event set from the recipe's folder; the first time, make its frames of T steps.

    Training and test part are those published, or for CIFAR10-DVS split by `test_fraction`.

    Raises:
        DataError: If files are missing or damaged; it says which, where they come from and how
            to lay them out.
        OutputError: If the frames cannot be written.
    """
    if isinstance(section, Cifar10DvsData):
        whole = _part(section, "all", steps=steps)
        return split(whole, section.test_fraction, seed=TEST_SPLIT_SEED)
    return _part(section, "train", steps=steps), _part(section, "test", steps=steps)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """Frames in a file, and what training does to them.

    The file is not mapped: a mapped one that another process cuts short ends this one.
    """

    path: Path  # its name holds a digest of the recordings
    start: int  # of its first record
    records: np.dtype[np.void]  # a sample's numbers of events, (T, *shape) uint8, and its class
    flip: bool
    roll: int

    @property
    def is_random(self) -> bool:
        """True if a generator changes the samples."""
        return bool(self.flip or self.roll)

    def read(self, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Return (batch, T, *shape) uint8, mirrored and rolled if there is a generator."""
        records = np.empty(len(indices), self.records)
        rows = records.view(np.uint8).reshape(len(indices), self.records.itemsize)
        with reading(self.path, FRAMES), self.path.open("rb", buffering=0) as file:
            for row, index in zip(rows, indices.tolist(), strict=True):
                file.seek(self.start + index * row.nbytes)
                if file.readinto(row.data) < row.nbytes:
                    raise ValueError("it was cut short")
        frames = torch.from_numpy(np.ascontiguousarray(records["frames"]))
        if generator is None:
            return frames
        if self.flip:
            frames = flip_images(frames, generator=generator)
        return roll_images(frames, self.roll, generator=generator)

    def digest(self) -> str:
        """Return a short name that changes with recordings, T, size and augmentation."""
        return repr((self.path.name, self.flip, self.roll))


class _Recordings(Protocol):
    """One of tonic's data sets; those of one file have empty lists."""

    data: list[str]
    targets: list[int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.void], int]: ...


def _part(section: EventSection, part: str, *, steps: int) -> StoredDataset:
    root = Path(section.root).expanduser()
    recordings, files = _recordings(section, part, root)
    folder = root / "frames" if section.cache is None else Path(section.cache).expanduser()
    extent = "x".join(map(str, (steps, *section.shape)))
    path = folder / f"{section.source}-{part}-{extent}-{_fingerprint(files, root)}.npy"
    records = np.dtype([("frames", "u1", (steps, *section.shape)), ("label", "<i8")])
    if not path.is_file():
        _write(path, recordings, files, section=section, steps=steps, records=records)
    start, labels = _open(path, records, len(recordings))
    frames = Frames(
        path=path,
        start=start,
        records=records,
        flip=isinstance(section, Cifar10DvsData) and section.flip,
        roll=0 if isinstance(section, ShdData) else section.roll,
    )
    return StoredDataset.of(section, frames, labels)


def _open(path: Path, records: np.dtype[np.void], count: int) -> tuple[int, LabelArray]:
    """Check a file of frames; return where its records begin, and their classes."""
    with reading(path, FRAMES), path.open("rb", buffering=0) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        start, size = file.tell(), path.stat().st_size
        if (shape, dtype) != ((count,), records):
            raise DataError(
                f"{path}: holds something else than frames. Delete it; it is made again."
            )
        if size != start + count * records.itemsize:
            raise ValueError(f"{size} bytes of {start + count * records.itemsize}")
        labels = np.empty(count, np.int64)
        assert records.fields is not None
        offset = records.fields["label"][1]
        for index in range(count):
            file.seek(start + index * records.itemsize + offset)
            labels[index] = int.from_bytes(file.read(8), "little", signed=True)
    return start, labels


def _recordings(section: EventSection, part: str, root: Path) -> tuple[_Recordings, Sequence[Path]]:
    """Return tonic's data set, in an order that no file system changes, and its files."""
    publication = _PUBLICATIONS[section.source]
    pattern = publication.files[part == "test"]
    kind = _without_download(getattr(import_package("tonic").datasets, publication.kind))
    options = {} if part == "all" else {"train": part == "train"}
    expected = (
        f"{root / pattern} is required. Get the set from {publication.page}, unpack it there, "
        f"and set data.root.{layout_hint(root, Path(pattern).parts[0])}"
    )
    published = FileKind(section.source, pattern, DataError, expected)
    try:
        with guarded(root / pattern, published):
            if isinstance(section, ShdData) and (root / pattern).exists():
                require_own_data(root / pattern, published, _SHD_ARRAYS)
            found = kind(str(root), **options)
    except DataError as error:
        if hidden := next(root.glob("*/**/._*"), None):
            raise DataError(
                f"{error} {hidden} is a hidden file of macOS; delete such files."
            ) from error
        raise
    if isinstance(section, ShdData):
        return found, [root / pattern]
    pairs = sorted(
        (str(path), label)
        for path, label in zip(found.data, found.targets, strict=True)
        if not is_hidden(Path(path))
    )
    found.data = [path for path, _ in pairs]
    found.targets = [label for _, label in pairs]
    absent = sorted(set(range(section.classes)) - set(found.targets))
    if absent:
        what = "no recordings" if not pairs else f"no recordings of classes {absent}"
        raise DataError(f"data.root: {what} in {root / pattern}. {expected}")
    return found, [Path(path) for path in found.data]


def _without_download(kind: type) -> Callable[..., _Recordings]:
    """Return tonic's class under its own name, which names its folder, but never downloading.

    tonic also wants to see the archive that the files came from; only the files matter here.
    """
    return type(kind.__name__, (kind,), {"_check_exists": lambda self: True})


def _fingerprint(files: Sequence[Path], root: Path) -> str:
    digest = hashlib.sha256(f"{import_package('tonic').__version__}, {_MADE_AS}".encode())
    for file in files:
        state = file.stat()
        name = file.relative_to(root).as_posix()
        digest.update(repr((name, state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()[:12]


def _write(
    path: Path,
    recordings: _Recordings,
    files: Sequence[Path],
    *,
    section: EventSection,
    steps: int,
    records: np.dtype[np.void],
) -> None:
    """Make the frames of all recordings, whole or not at all."""
    logger.info("%s: making frames of %s recordings", path, len(recordings))
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            # Not mapped: where the disk is full, writing to a mapped file ends the process.
            header = np.lib.format.header_data_from_array_1_0(np.empty(0, records))
            header["shape"] = (len(recordings),)
            np.lib.format.write_array_header_1_0(file, header)
            record = np.empty((), records)
            for index in range(len(recordings)):
                is_alone = len(files) == len(recordings)
                where = str(files[index]) if is_alone else f"{files[0]}[{index}]"
                with guarded(where, RECORDING):
                    events, label = _events_of(recordings, index, files)
                    counts = _count_events(events, section, steps, where=where)
                if not 0 <= label < section.classes:
                    raise DataError(
                        f"{where}: label {label}, 0 to {section.classes - 1} is required."
                    )
                record["frames"], record["label"] = counts, label
                file.write(record.tobytes())
    except OutputError as error:
        raise OutputError(f"{error} Or name another folder with data.cache.") from error


def _events_of(
    recordings: _Recordings, index: int, files: Sequence[Path]
) -> tuple[CameraEvents, int]:
    """Read a recording and its class."""
    if files[0].suffix == ".aedat4":  # tonic would read it in this process, where it may crash
        return read_recording(files[index]), recordings.targets[index]
    events, label = recordings[index]
    columns = {name: events[name].astype(np.int64) for name in events.dtype.names or ()}
    x, y = columns["x"], columns.get("y", np.zeros_like(columns["x"]))
    return CameraEvents(x=x, y=y, polarity=columns["p"], time=columns["t"]), label


def _count_events(
    recording: CameraEvents, section: EventSection, steps: int, *, where: str
) -> npt.NDArray[np.uint8]:
    """Count a recording's events as a simulation of its file does: (T, *shape)."""
    if isinstance(section, Cifar10DvsData | DvsGestureData):
        x, y = (place * section.size // _LARGEST_SIZE for place in (recording.x, recording.y))
        recording = replace(recording, x=x, y=y)
    shape = section.shape if len(section.shape) == 3 else (1, 1, *section.shape)
    return to_frames(recording, (steps, *shape), where=where).reshape(steps, *section.shape)
