"""Recordings of event cameras: each file one sample, made into frames as it is read.

The time from a recording's first to its last event is cut into T bins of equal whole
microseconds, and the events of each pixel and polarity are counted, up to 255. What is left over
at the end, less than T microseconds, is dropped: as tonic's `ToFrame(n_time_bins=T)` does, with
which networks are trained here.

Formats, by suffix:

- `.bin`: N-MNIST and N-Caltech101, 5 bytes an event. Source: tonic 1.7.0, `io.py:read_mnist_file`,
  after G. Orchard's event-Python.
- `.dat`: Prophesee's DAT, events of type CD (0x0C) or 2D (0x00, as in N-CARS and GEN1), 8 bytes
  each; times of 32 bits, which begin again after 71 minutes, are continued. Source: the DAT page
  of Prophesee's file format documentation.
- `.aedat4`: iniVation's AEDAT 4, read by the package `aedat` (`pip install '.[data]'`).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.ir.float_layers import Shape
from neurodeploy.samples.array_files import CutShortError
from neurodeploy.untrusted.boundary import FileKind, check_file, guarded
from neurodeploy.untrusted.isolation import run_apart

SUFFIXES = (".bin", ".dat", ".aedat4")
RECORDING = FileKind(
    "recording",
    ".bin, .dat or .aedat4",
    DataError,
    "A whole recording of an event camera is required. Get it again.",
)
FILE_BYTES_MAX = 1 << 31
"""Largest recording that is read; its events take eight times as much memory."""
COUNT_MAX = 255
"""Events of one pixel and bin that are told apart; further ones are not counted."""
_NMNIST_OVERFLOW_ROW = 240
_NMNIST_OVERFLOW = 2**13
_DAT_KINDS = (0, 12)
"""Events 2D and CD, whose words are laid out alike."""
_DAT_HEADER_MAX = 1 << 16
_TURN = 2**32
_DURATION_MAX = 1 << 50
"""Microseconds; over thirty years."""
_Column = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CameraEvents:
    """Events of one recording in order of time: columns, rows, polarities 0 or 1, microseconds."""

    x: _Column
    y: _Column
    polarity: _Column
    time: _Column

    def __len__(self) -> int:
        return len(self.time)


class EventRecordings:
    """Recordings as samples of shape (T, C, H, W), uint8; C is 2, or 1 for both polarities."""

    def __init__(self, path: Path | str, *, steps: int | None, port: Shape | None) -> None:
        """Find the files, those below a folder in order of their paths; none is read yet.

        Raises:
            DataError: If there are none, or T or the shape is missing or of no use.
        """
        self.path = Path(path)
        self.name = str(path)
        self.files = find_recordings(self.path) if self.path.is_dir() else [self.path]
        if not self.files:
            raise DataError(
                f"{path}: no event recordings in this directory; {', '.join(SUFFIXES)} are read."
            )
        if steps is None:
            raise DataError(
                f"{path}: event recordings do not say how many steps they are to be cut into. "
                "Add --window T."
            )
        if port is None or len(port) != 3 or port[0] not in (1, 2):
            raise DataError(
                f"{path}: a camera's events go to an input of shape (1, H, W) or (2, H, W), this "
                f"network's is {port}. Make an event table or frames of them."
            )
        self.count = len(self.files)
        self.shape: tuple[int, ...] = (steps, *port)
        self.dtype: np.dtype[np.integer] = np.dtype(np.uint8)

    def read(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """Return recordings `first` to `last` - 1 as frames: (last - first, T, C, H, W).

        Raises:
            CutShortError: If one of them ends in the middle of an event.
            DataError: If one of them is damaged, or of a larger camera.
        """
        frames = np.zeros((last - first, *self.shape), np.uint8)
        for number, path in enumerate(self.files[first:last]):
            try:
                events = read_recording(path)
            except CutShortError as error:
                raise CutShortError(
                    f"{error} It is recording {first + number + 1} of {self.count}.",
                    complete=first + number,
                ) from error
            frames[number] = to_frames(events, self.shape, where=str(path))
        return frames


def find_recordings(folder: Path) -> list[Path]:
    """Return the recordings below a folder in order of their paths."""
    found = (one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES)
    # macOS leaves `._0.bin` beside a `0.bin` from an archive.
    return sorted(one for one in found if not one.name.startswith("."))


def read_recording(path: Path) -> CameraEvents:
    """Read the events of one file.

    Raises:
        CutShortError: If it ends in the middle of an event.
        DataError: If it is missing, damaged or of another kind.
    """
    check_file(path, RECORDING)
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise DataError(
            f"{path}: {size} bytes, at most {FILE_BYTES_MAX} are read as one sample. Cut it into "
            "shorter recordings."
        )
    with guarded(path, RECORDING):
        if path.suffix.lower() == ".aedat4":
            return run_apart(_read_aedat4, path, kind=RECORDING)
        return (_read_nmnist if path.suffix.lower() == ".bin" else _read_dat)(path)


def to_frames(events: CameraEvents, shape: tuple[int, ...], *, where: str) -> npt.NDArray[np.uint8]:
    """Count events by bin of time, polarity and pixel, together for both polarities if C is 1.

    Raises:
        DataError: If an event lies outside of (H, W) or before the one that it follows, or there
            is less than a microsecond a bin.
    """
    steps, channels, height, width = shape
    if not len(events):
        return np.zeros(shape, np.uint8)
    if np.any(events.time[1:] < events.time[:-1]):
        raise DataError(f"{where}: its times go backwards. Is it damaged?")
    places = ((events.x, width), (events.y, height))
    if any(found.min() < 0 or found.max() >= limit for found, limit in places):
        raise DataError(
            f"{where}: an event at column {events.x.max()}, row {events.y.max()} at most; the "
            f"network's input has {width} columns and {height} rows. Make frames of that size."
        )
    begin = int(events.time[0])
    duration = int(events.time[-1]) - begin
    if duration < steps:
        raise DataError(
            f"{where}: lasts {duration} microseconds, too short for {steps} steps of at least one "
            "each. Use fewer steps, or leave the recording out."
        )
    if duration > _DURATION_MAX:
        raise DataError(f"{where}: lasts {duration} microseconds. Is it damaged?")
    bins = (events.time - begin) // (duration // steps)
    kept = bins < steps
    polarity = events.polarity if channels == 2 else np.zeros_like(events.polarity)
    place = ((bins * channels + polarity) * height + events.y) * width + events.x
    counts = np.bincount(place[kept], minlength=prod(shape))
    return np.minimum(counts, COUNT_MAX).astype(np.uint8).reshape(shape)


def _read_nmnist(path: Path) -> CameraEvents:
    data = np.fromfile(path, np.uint8)
    if len(data) % 5:
        raise CutShortError(f"{path} is cut short: an event has 5 bytes.", complete=0)
    x, y, *rest = data.reshape(-1, 5).astype(np.int64).T
    time = (rest[0] & 127) << 16 | rest[1] << 8 | rest[2]
    is_overflow = y == _NMNIST_OVERFLOW_ROW
    time += _NMNIST_OVERFLOW * np.cumsum(is_overflow)
    kept = ~is_overflow
    return CameraEvents(x=x[kept], y=y[kept], polarity=rest[0][kept] >> 7, time=time[kept])


def _read_dat(path: Path) -> CameraEvents:
    with path.open("rb") as file:
        begin = 0
        while file.read(1) == b"%" and begin <= _DAT_HEADER_MAX:
            file.readline(_DAT_HEADER_MAX)
            begin = file.tell()
        file.seek(begin)
        kind = file.read(2)
        data = file.read()
    if len(kind) < 2 or kind[0] not in _DAT_KINDS or kind[1] != 8:
        raise DataError(
            f"{path}: not a DAT file of 2D or CD events (type 0 or 12, 8 bytes each). "
            "Convert it with Prophesee's tools, or make an event table."
        )
    if len(data) % 8:
        raise CutShortError(f"{path} is cut short: an event has 8 bytes.", complete=0)
    words = np.frombuffer(data, "<u4").reshape(-1, 2).astype(np.int64)
    time, where = words.T
    has_turned = np.diff(time, prepend=time[:1]) < -_TURN // 2
    return CameraEvents(
        x=where & 0x3FFF,
        y=where >> 14 & 0x3FFF,
        polarity=(where >> 28 & 0xF).astype(bool).astype(np.int64),
        time=time + _TURN * np.cumsum(has_turned),
    )


def _read_aedat4(path: Path) -> CameraEvents:
    """Read a recording by compiled code that panics on damaged ones; see `run_apart`."""
    try:
        aedat = import_module("aedat")
    except ImportError as error:
        raise DataError(
            f"{path}: the package 'aedat' is needed for this file and cannot be imported "
            f"({error}). Install it: pip install 'neurodeploy[data]'."
        ) from error
    decoder = aedat.Decoder(str(path))
    streams = decoder.id_to_stream().items()
    stream = min((number for number, one in streams if one["type"] == "events"), default=None)
    packets = [packet["events"] for packet in decoder if packet["stream_id"] == stream]
    if stream is None:
        raise DataError(f"{path}: holds no events, only {[one['type'] for _, one in streams]}.")
    found = {
        key: np.concatenate([packet[key].astype(np.int64) for packet in packets])
        if packets
        else np.zeros(0, np.int64)
        for key in ("x", "y", "on", "t")
    }
    return CameraEvents(x=found["x"], y=found["y"], polarity=found["on"], time=found["t"])
