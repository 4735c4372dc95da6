"""Arrays in files: `.npy` and `.npz` read a few samples at a time, results written piece by piece.

A `.npy` file that ends early gives the samples before its end. An archive lists its arrays at its
end, so one that was cut short cannot be opened; damage inside of it is found by its checksum.
Nothing is unpickled, and declared sizes are compared with the file before anything is allocated.

Equal arrays make equal bytes in an `.npz` archive, however they were cut into pieces and whenever
they were written.
"""

from __future__ import annotations

import io
import sys
import warnings
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import h5py
import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.files import SteadyFile, replacing, require_output
from neurodeploy.untrusted.boundary import FileKind, check_file, guarded

HDF5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (".npz", *HDF5_SUFFIXES)
Array = npt.NDArray[np.generic]
INPUT_BYTES_MAX = 16 * 2**30
"""Largest array that is read as a whole: a small compressed file can hold a huge one."""
SAMPLE_BYTES_MAX = 2**31
"""Largest sample that is made of events."""
_HEADER_BYTES_MAX = 4096
"""No array of numbers needs a longer header; its length is declared in the file, up to 4 GiB."""
_INTEGERS = "biu"
_EXTENT_MAX = 1 << 62
_NAME_SHOWN = 60
_SKIPPED_AT_ONCE = 1 << 20
_LOCAL_HEADER = b"PK\x03\x04"
_COMPRESSIONS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
"""Those that NumPy writes, and how far they pack; zipfile inflates others without bounds."""
_WRITTEN_AT_ONCE = 1 << 20
_LEVEL = 1
"""Of deflate: events are sparse, and higher levels take several times as long for little."""


_STRANGE = FileKind(
    "samples",
    ".npz",
    DataError,
    "Samples are read from .npy and .npz files, from HDF5 (.h5, .hdf5) and from event recordings "
    "(.bin, .dat, .aedat4). Write them with numpy.savez(path, input=array).",
)


class CutShortError(DataError):
    """Samples end before the file says they do; the first `complete` ones are whole."""

    def __init__(self, message: str, *, complete: int = 0) -> None:  # 0 where it is unpickled
        super().__init__(message)
        self.complete = complete


def load_inputs(path: str | Path, *, key: str = "input") -> npt.NDArray[np.integer]:
    """Read integers from an `.npz` file.

    Args:
        path: The archive.
        key: Name of the array: `input` for samples, `label` for class numbers.

    Returns:
        The array as stored, booleans as uint8.

    Raises:
        DataError: If the file is missing or damaged, the array is not there, or it does not hold
            integers.
    """
    return cast("npt.NDArray[np.integer]", load_numbers(path, key=key, allows_floats=False))


def load_numbers(
    path: str | Path, *, key: str = "input", allows_floats: bool = True
) -> npt.NDArray[np.integer] | npt.NDArray[np.floating]:
    """Read numbers from an `.npz` file; see `load_inputs`, which allows integers only."""
    array = load_array(path, key=key, kinds="biuf" if allows_floats else _INTEGERS)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array


def load_array(path: str | Path, *, key: str, kinds: str = "biufUS") -> npt.NDArray[Any]:
    """Read an array as it is stored from an `.npz` file; see `load_inputs`.

    Args:
        path: The archive.
        key: Name of the array.
        kinds: NumPy's letters for what it may hold; of any kinds but objects.
    """
    path = Path(path)
    with _explained(path, key), _opened(path, key, kinds) as stored:
        size = prod(stored.shape) * stored.dtype.itemsize
        if size > INPUT_BYTES_MAX:
            raise DataError(
                f"{stored.name} of shape {stored.shape} takes {size / 2**30:.0f} GiB, at most "
                f"{INPUT_BYTES_MAX // 2**30} are read. Split the samples over several files."
            )
        stored.file.seek(0)
        array = np.asarray(np.lib.format.read_array(stored.file, allow_pickle=False))
        require_characters(array)
    return array


def require_characters(array: Array) -> None:
    """Raise `ValueError` for text with numbers that are no characters: Python fails on it later."""
    if array.dtype.kind == "U":
        kind = np.dtype(np.uint32).newbyteorder(array.dtype.byteorder)
        if (np.frombuffer(array.tobytes(), kind) > sys.maxunicode).any():
            raise ValueError("text of numbers that are no characters")


def save_samples(
    path: str | Path, inputs: npt.NDArray[np.integer], labels: npt.NDArray[np.integer] | None
) -> None:
    """Write samples, and their classes if known, as `input` and `label`, whole or not at all.

    Raises:
        OutputError: If the file cannot be written.
    """
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        if labels is None:
            np.savez_compressed(file, input=inputs)
        else:
            np.savez_compressed(file, input=inputs, label=labels)


class ArrayFile:
    """Samples in an `.npy` file, or in one array of an `.npz` archive.

    Attributes:
        name: Which file and array, for errors.
        count: Number of samples that the header states.
        shape: Of one sample.
        dtype: As stored; booleans as uint8.
        is_scattered: Whether it is stored in Fortran's order in an archive, which is read forwards:
            `read` then gives nothing of use.
        is_seekable: Whether it is whole, and any sample is as quickly read as the next one.
        path: Of the file.
        key: Of the array.
    """

    def __init__(self, path: Path | str, *, key: str = "input") -> None:
        """Open the file, an archive by its content, and read the header of the array `key` in it.

        Raises:
            DataError: If the file is missing or damaged, or the array is not there or does not
                hold integers.
        """
        self.path, self.key = Path(path), key
        with _explained(self.path, key), ExitStack() as stack:
            stored = stack.enter_context(_opened(self.path, key, _INTEGERS))
            weakref.finalize(self, stack.pop_all().close)
        if not stored.shape:
            raise DataError(f"{stored.name} has shape (); samples must be its first axis.")
        self.name = stored.name
        self.count: int = stored.shape[0]
        self.shape: tuple[int, ...] = stored.shape[1:]
        self.dtype = integer_dtype(stored.dtype)
        is_archived = _is_archive(self.path)
        self.is_scattered = stored.is_columnwise and is_archived
        needed = stored.start + prod(stored.shape) * stored.dtype.itemsize
        self.is_seekable = not (stored.is_columnwise or is_archived) and stored.size >= needed
        self._stored = stored

    def read(self, first: int, last: int) -> npt.NDArray[np.integer]:
        """Read samples `first` to `last` - 1: (last - first, *shape), of `dtype`.

        Cheap where each read goes on after the last one: a compressed array that is read again
        from an earlier place is inflated from its beginning.

        Raises:
            CutShortError: If not all of them are there.
            DataError: If the file is damaged; a wrong checksum shows with the last sample.
        """
        if self._stored.is_columnwise:
            return self._read_columns(first, last)
        size = prod(self.shape) * self._stored.dtype.itemsize
        with _explained(self.path, self.key):
            self._stored.file.seek(self._stored.start + first * size)
            left = self._stored.size - self._stored.start - first * size
            data = self._stored.file.read(max(0, min((last - first) * size, left)))
        if len(data) < (last - first) * size:
            complete = first + len(data) // size
            raise CutShortError(
                f"{self.name} is cut short: {complete} of {self.count} samples are complete.",
                complete=complete,
            )
        with _explained(self.path, self.key):
            values = np.frombuffer(data, self._stored.dtype).reshape(last - first, *self.shape)
        return cast("npt.NDArray[np.integer]", values.view(self.dtype))

    def _read_columns(self, first: int, last: int) -> npt.NDArray[np.integer]:
        """Read samples whose values lie apart: all samples' first values, then all second ones.

        The file is not mapped: a mapped one that another process cuts short ends this one.
        """
        stored, count = self._stored, last - first
        values = np.empty((prod(self.shape), count), stored.dtype)
        with _explained(self.path, self.key):
            for number, column in enumerate(values):
                place = number * self.count + first
                stored.file.seek(stored.start + place * stored.dtype.itemsize)
                data = stored.file.read(column.nbytes)
                if len(data) < column.nbytes:
                    raise CutShortError(f"{self.name} is cut short, which leaves no sample whole.")
                column[...] = np.frombuffer(data, stored.dtype)
        turned = values.reshape(*self.shape[::-1], count).transpose()
        return cast("npt.NDArray[np.integer]", turned.view(self.dtype))


def member_names(path: Path) -> list[str]:
    """Return the names of an archive's arrays; none for a file that is no archive.

    Raises:
        DataError: If an archive is missing, damaged or cut short.
    """
    if not _is_archive(path):
        return []
    with _explained(path, "input"), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def integer_dtype(stored: np.dtype[np.generic]) -> np.dtype[np.integer]:
    """Return the dtype in which integers or booleans are read: booleans as uint8."""
    return np.dtype(np.uint8) if stored.kind == "b" else cast("np.dtype[np.integer]", stored)


def require_integer_dtype(dtype: np.dtype[np.generic], *, where: str) -> None:
    """Raise `DataError` for anything but integers and booleans."""
    if dtype.kind not in _INTEGERS:
        raise DataError(
            f"{where} holds {_dtype_text(dtype)}, integers are required. Quantize the samples "
            "first."
        )


def listed(names: list[str]) -> str:
    """Name the first few of some arrays, for an error."""
    return ", ".join(f"{name[:_NAME_SHOWN]!r}" for name in names[:8]) or "nothing"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _OpenArray:
    """An array in an open file of `size` bytes; `start` is the offset of its values."""

    name: str
    file: IO[bytes]
    start: int
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    is_columnwise: bool


@contextmanager
def _opened(path: Path, key: str, kinds: str) -> Iterator[_OpenArray]:
    """Open an array and check its header; damage is raised as it comes, see `_explained`."""
    name = f"{path}: '{key}'" if _is_archive(path) else str(path)
    with _open_bytes(path, key) as (file, _):
        head = io.BytesIO(file.read(_HEADER_BYTES_MAX))
    if np.lib.format.read_magic(head) == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(head)
    else:
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(head)
    if kinds == _INTEGERS:
        require_integer_dtype(dtype, where=name)
    elif dtype.kind not in kinds:
        raise DataError(f"{name} holds {_dtype_text(dtype)}, numbers are required.")
    with _open_bytes(path, key) as (file, stored):
        size = head.tell() + prod(shape) * dtype.itemsize
        is_archived = _is_archive(path)
        if not all(0 <= extent < _EXTENT_MAX for extent in shape) or (
            is_archived and stored != size
        ):
            held = f", the file holds {stored} bytes of it" if is_archived else ""
            raise DataError(f"{name} says it has shape {shape!s:.100}{held}. Is it damaged?")
        yield _OpenArray(
            name=name,
            file=file,
            start=head.tell(),
            size=stored,
            shape=shape,
            dtype=dtype,
            is_columnwise=is_fortran and sum(extent > 1 for extent in shape) > 1,
        )


@contextmanager
def _open_bytes(path: Path, key: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open an array at its first byte, with its size; of a `.npy` file what there is of it."""
    if not _is_archive(path):
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if f"{key}.npy" not in names:
            raise DataError(
                f"{path}: no array '{key}'; it holds "
                f"{listed([name.removesuffix('.npy') for name in names])}. "
                f"Write it with numpy.savez(path, {key}=array)."
            )
        entry = archive.getinfo(f"{key}.npy")
        if entry.flag_bits & 1 or entry.compress_type not in _COMPRESSIONS:
            raise DataError(
                f"{path}: '{key}' is encrypted or compressed in a way that NumPy does not write. "
                f"Write it with numpy.savez(path, {key}=array)."
            )
        if entry.file_size > _COMPRESSIONS[entry.compress_type] * min(
            entry.compress_size, path.stat().st_size
        ):
            raise DataError(
                f"{path}: '{key}' says it has {entry.file_size} bytes, more than the file can "
                "hold. Get it again."
            )
        with archive.open(entry) as member:
            assert isinstance(member, zipfile.ZipExtFile)
            # zipfile skips by reading 16 MiB at a time, which memory limits do not foresee.
            member.MAX_SEEK_READ = _SKIPPED_AT_ONCE
            yield member, entry.file_size


@contextmanager
def _explained(path: Path, key: str) -> Iterator[None]:
    """Turn every error that a missing or damaged file causes into a `DataError`."""
    if not path.exists() and not path.is_symlink():
        raise DataError(f"{path}: no such file. Check its name, and the current folder.")
    check_file(path, _STRANGE)
    with guarded(path, _kind_of(path, key)), warnings.catch_warnings():
        # No fault of the file, and nothing that its reader could do anything about.
        warnings.filterwarnings(
            "ignore", message=".*additional header parsing", category=UserWarning
        )
        try:
            yield
        except zipfile.BadZipFile as error:
            if "CRC" in str(error):
                raise DataError(
                    f"{path}: '{key}' is damaged: its checksum is not that of its bytes. Get the "
                    "file again."
                ) from error
            if _begins_with(path, _LOCAL_HEADER):
                raise DataError(
                    f"{path}: cut short or damaged: an .npz archive ends with the list of its "
                    "arrays, which is missing. Get the whole file again."
                ) from error
            raise


def _kind_of(path: Path, key: str) -> FileKind:
    if _is_archive(path):
        rule = f"An .npz archive is required. Write it with numpy.savez(path, {key}=array)."
        return FileKind(".npz", ".npz", DataError, rule)
    if path.suffix.lower() == ".npy":
        rule = "A .npy file is required. Write it with numpy.save(path, array)."
        return FileKind(".npy", ".npy", DataError, rule)
    return _STRANGE


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".npz" or _begins_with(path, b"PK")


def _begins_with(path: Path, mark: bytes) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(mark)) == mark
    return False


def _dtype_text(dtype: np.dtype[np.generic]) -> str:
    return "Python objects" if dtype.hasobject else str(dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayStream:
    """An array that need not be in memory as a whole: parts of it along the first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    pieces: Iterable[Array]

    @classmethod
    def of(cls, array: Array) -> ArrayStream:
        """Make one of an array that is in memory."""
        return cls(shape=array.shape, dtype=array.dtype, pieces=(array,))


def write_arrays(path: Path, streams: Mapping[str, ArrayStream]) -> None:
    """Write arrays to an `.npz` archive or an HDF5 file, whole or not at all.

    Raises:
        OutputError: If the file cannot be written.
    """
    require_output(path, SUFFIXES)
    write = _write_hdf5 if path.suffix.lower() in HDF5_SUFFIXES else _write_archive
    with replacing(path) as temporary:
        write(temporary, streams)


def _write_archive(path: Path, streams: Mapping[str, ArrayStream]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, stream in streams.items():
            # zipfile dates what is opened by name 1980, so that bytes depend on arrays alone
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {
                    "descr": np.lib.format.dtype_to_descr(stream.dtype),
                    "fortran_order": False,
                    "shape": stream.shape,
                }
                np.lib.format.write_array_header_1_0(member, header)
                for block in _blocks(stream.pieces):
                    member.write(block)


def _blocks(pieces: Iterable[Array]) -> Iterator[bytes]:
    """Yield the bytes of all pieces in blocks of one size, the last one shorter."""
    waiting = bytearray()
    for piece in pieces:
        data = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
        for first in range(0, len(data), _WRITTEN_AT_ONCE):
            waiting += data[first : first + _WRITTEN_AT_ONCE].tobytes()
            if len(waiting) >= _WRITTEN_AT_ONCE:
                yield bytes(waiting[:_WRITTEN_AT_ONCE])
                del waiting[:_WRITTEN_AT_ONCE]
    yield bytes(waiting)


def _write_hdf5(path: Path, streams: Mapping[str, ArrayStream]) -> None:
    with SteadyFile(path) as sink:
        with h5py.File(sink, "w") as file:
            _fill_hdf5(file, streams, sink)
        sink.check()


def _fill_hdf5(file: h5py.File, streams: Mapping[str, ArrayStream], sink: SteadyFile) -> None:
    """Write arrays into an open file, until one of its writes fails."""
    for name, stream in streams.items():
        if stream.dtype.kind == "U":
            texts = np.concatenate([np.ravel(piece) for piece in stream.pieces])
            file.create_dataset(name, data=[str(one) for one in texts])
            continue
        row_bytes = prod(stream.shape[1:]) * stream.dtype.itemsize
        rows = max(1, _WRITTEN_AT_ONCE // max(1, row_bytes))
        dataset = file.create_dataset(
            name,
            shape=stream.shape,
            dtype=stream.dtype,
            chunks=(min(rows, stream.shape[0]), *stream.shape[1:]),
            compression="lzf",
            shuffle=stream.dtype.itemsize > 1,
            track_times=False,
        )
        first = 0
        for piece in stream.pieces:
            dataset[first : first + len(piece)] = piece
            first += len(piece)
            sink.check()
