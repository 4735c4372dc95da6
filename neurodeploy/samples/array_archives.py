"""Arrays in `.npy` and `.npz` files, read piece by piece, whatever their size.

An archive that `numpy.savez` wrote holds the bytes of its arrays as they are and is read in place;
one of `numpy.savez_compressed` is inflated from its beginning, forwards. A file that ends early, or
is damaged on the way, gives the samples before that place.

Source of the formats: NumPy's `numpy.lib.format`; PKWARE's APPNOTE.TXT, sections 4.3.7 (local file
header) and 4.5.3 (Zip64 extra field). Nothing is unpickled.
"""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.files import replacing

# Samples in `.npz` files.
#
# Source of the array format: NumPy's `numpy.lib.format`; nothing is unpickled.

INPUT_BYTES_MAX = 16 * 2**30
"""Largest array that is read: a small compressed file can hold a huge one."""
DAMAGE = (
    OSError,
    ValueError,  # also UnicodeDecodeError
    RuntimeError,  # encrypted; also NotImplementedError: unknown compression
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
"""What zipfile and NumPy raise on damaged files, by trial."""


def load_inputs(path: str | Path, *, key: str = "input") -> npt.NDArray[np.integer]:
    """Read integers from an `.npz` file.

    Args:
        path: The archive.
        key: Name of the array: `input` for samples, `label` for class numbers.

    Returns:
        The array as stored, booleans as uint8; usually (samples, T, C, H, W) or (samples, T, N).

    Raises:
        DataError: If the file is missing or damaged, the array is not there, or it does not hold
            integers.
    """
    return cast("npt.NDArray[np.integer]", load_numbers(path, key=key, allows_floats=False))


def load_numbers(
    path: str | Path, *, key: str = "input", allows_floats: bool = True
) -> npt.NDArray[np.integer] | npt.NDArray[np.floating]:
    """Read numbers from an `.npz` file.

    Type and size are checked before anything is loaded.

    Args:
        path: The archive.
        key: Name of the array.
        allows_floats: Whether they may be others than integers.

    Returns:
        The array as stored, booleans as uint8.

    Raises:
        DataError: If the file is missing or damaged, the array is not there, or it does not hold
            such numbers.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in names:
                raise DataError(
                    f"{path}: no array '{key}'; it holds {listed(names)}. "
                    f"Write it with numpy.savez(path, {key}=array)."
                )
            entry = archive.getinfo(f"{key}.npy")
            with archive.open(entry) as member:
                where = f"{path}: '{key}'"
                _check_header(member, entry.file_size, where=where, allows_floats=allows_floats)
            with archive.open(entry) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):  # reading to the end also checks the sum over all bytes
                    raise DataError(f"{path}: '{key}' is damaged (data beyond its end).")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except DataError:
        raise
    except DAMAGE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{path}: not a readable .npz archive ({reason or type(error).__name__}). Write it "
            f"with numpy.savez(path, {key}=array)."
        ) from error
    return array.astype(np.uint8) if array.dtype.kind == "b" else np.asarray(array)


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read an array's header: shape, whether columns come first, dtype.

    Raises:
        ValueError: If it is none; also what NumPy raises besides.
    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def require_integer_dtype(dtype: np.dtype[np.generic], *, where: str) -> None:
    """Refuse anything but integers and booleans.

    Raises:
        DataError: If it is something else.
    """
    if dtype.kind not in "biu":
        raise DataError(
            f"{where} holds {_dtype_text(dtype)}, integers are required. Quantize the samples "
            "first."
        )


def _dtype_text(dtype: np.dtype[np.generic]) -> str:
    return "Python objects" if dtype.hasobject else str(dtype)


def _check_header(member: IO[bytes], stored: int, *, where: str, allows_floats: bool) -> None:
    """Refuse an array by its header.

    Args:
        member: At the array's first byte.
        stored: How many bytes the archive says there are.
        where: Start of errors.
        allows_floats: Whether it may hold others than integers.

    Raises:
        DataError: If it does not hold such numbers, or is too large.
    """
    shape, _, dtype = read_header(member)
    if not allows_floats:
        require_integer_dtype(dtype, where=where)
    elif dtype.kind not in "biuf":
        raise DataError(f"{where} holds {_dtype_text(dtype)}, numbers are required.")
    size = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size > stored:
        raise DataError(
            f"{where} says it has shape {shape}, the file holds {stored} bytes of it. Is it "
            "damaged?"
        )
    if size > INPUT_BYTES_MAX:
        raise DataError(
            f"{where} of shape {shape} takes {size / 2**30:.0f} GiB, at most "
            f"{INPUT_BYTES_MAX // 2**30} are read. Split the samples over several files."
        )


def listed(names: list[str]) -> str:
    """Name a few of them, for an error."""
    return ", ".join(f"'{name}'" for name in names[:8]) or "nothing"


def save_samples(
    path: str | Path, inputs: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]
) -> None:
    """Write samples and their classes as `input` and `label`, whole or not at all.

    Raises:
        OutputError: If the file cannot be written.
    """
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, input=inputs, label=labels)


BLOCK = 1 << 20
"""Bytes of a compressed file that are read at a time."""
_HEADER_MAX = 1 << 16
"""Bytes of an array's header that are looked at; NumPy's own limit is 10,000."""
_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_ZIP64 = 1
_UNKNOWN_SIZE = 0xFFFFFFFF
_FIRST_BYTES_FOLLOW = 8  # bit 3 of the flags: sizes stand behind the data


class CutShortError(DataError):
    """Samples end before the file says they do.

    Attributes:
        complete: How many samples are whole, from the first one of the file.
    """

    def __init__(self, message: str, *, complete: int) -> None:
        super().__init__(message)
        self.complete = complete


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an array's bytes are in a file.

    Attributes:
        offset: Of the first byte.
        is_deflated: Whether they are compressed.
        stored: Bytes there, before inflating; None if the file does not say.
        size: Bytes after inflating, by the archive's directory; None if there is none.
        checksum: CRC-32 of all bytes; None if the file does not say.
    """

    offset: int
    is_deflated: bool = False
    stored: int | None = None
    size: int | None = None
    checksum: int | None = None


class _Bytes:
    """The bytes of one array, at any place; cheap where each read goes on after the last one.

    No file stays open between reads.
    """

    def __init__(self, path: Path, place: _Place) -> None:
        self._path = path
        self._place = place
        self._sum: int | None = 0
        self.problem = ""
        self._restart()

    def go_to(self, offset: int) -> None:
        """Read from the beginning to `offset`, so that the sum of what follows is known."""
        self._restart()
        self.read(0, offset)

    def _restart(self) -> None:
        self._position = 0
        self._taken = 0
        self._sum = 0
        self._waiting = b""
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes, or fewer where they end; `problem` then says why, if it is known."""
        with self._path.open("rb", buffering=0) as file:
            if not self._place.is_deflated:
                if offset == 0:
                    self._restart()
                elif offset != self._position:
                    self._sum = None
                    self._position = offset
                file.seek(self._place.offset + offset)
                return self._counted(_read_all(file, size))
            if offset < self._position:
                self._restart()
            file.seek(self._place.offset + self._taken)
            while self._position < offset:
                if not self._counted(self._inflated(file, min(BLOCK, offset - self._position))):
                    return b""
            parts = []
            while size:
                part = self._counted(self._inflated(file, size))
                if not part:
                    break
                parts.append(part)
                size -= len(part)
            return b"".join(parts)

    def _counted(self, data: bytes) -> bytes:
        self._position += len(data)
        if self._sum is not None:
            self._sum = zlib.crc32(data, self._sum)
        return data

    def _inflated(self, file: IO[bytes], size: int) -> bytes:
        """Return up to `size` further bytes, at least one unless they end."""
        while not self._inflate.eof:
            if not self._waiting:
                limit = BLOCK if self._place.stored is None else self._place.stored - self._taken
                self._waiting = file.read(min(BLOCK, limit))
                self._taken += len(self._waiting)
                if not self._waiting:
                    return b""
            try:
                data = self._inflate.decompress(self._waiting, size)
            except zlib.error as error:
                self.problem = f"damaged ({error})"
                return b""
            self._waiting = self._inflate.unconsumed_tail
            if data:
                return data
        return b""

    def is_intact(self) -> bool:
        """Whether the bytes read so far have the sum that the archive states.

        Asked once all were read; True where they were not read in order, or no sum is known.
        """
        return self._place.checksum in (None, self._sum) or self._sum is None


class ArrayFile:
    """Samples in an `.npy` file, or in one array of an `.npz` archive.

    Attributes:
        name: Which file and array, for errors.
        count: Number of samples that the header states.
        shape: Of one sample.
        dtype: As stored; booleans as uint8.
        is_columnwise: Whether it is stored in Fortran's order, so that its samples are not one
            after the other; `read` then gives nothing of use.
    """

    def __init__(self, path: Path | str, *, key: str = "input") -> None:
        """Open the file and read the array's header.

        Args:
            path: The file; `.npz` archives are known by their content.
            key: The array's name in an archive.

        Raises:
            DataError: If the file is missing or damaged before the first sample, or the array is
                not there or does not hold integers.
        """
        path = Path(path)
        self.name = str(path)
        is_archive = path.suffix.lower() == ".npz"
        try:
            with path.open("rb") as file:
                is_archive |= file.read(2) == b"PK"
            if is_archive:
                self.name = f"{path}: '{key}'"
            place = _find(path, f"{key}.npy") if is_archive else _Place(offset=0)
            self._bytes = _Bytes(path, place)
            head = self._bytes.read(0, _HEADER_MAX)
            stream = io.BytesIO(head)
            shape, is_fortran, dtype = read_header(stream)
        except DataError:
            raise
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file.") from error
        except DAMAGE as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            kind, write = ".npy file", "numpy.save(path, array)"
            if is_archive:
                kind, write = ".npz archive", f"numpy.savez(path, {key}=array)"
            raise DataError(
                f"{path}: not a readable {kind} ({reason or type(error).__name__}). Write it with "
                f"{write}."
            ) from error
        self._start = stream.tell()
        self._bytes.go_to(self._start)
        require_integer_dtype(dtype, where=self.name)
        if not shape:
            raise DataError(f"{self.name} has shape {shape}; samples must be its first axis.")
        size = prod(shape) * dtype.itemsize
        if min(shape) < 0:
            raise DataError(f"{self.name} says it has shape {shape}. Is it damaged?")
        if place.size is not None and size > place.size:
            raise DataError(
                f"{self.name} says it has shape {shape}, the file holds {place.size} bytes of it. "
                "Is it damaged?"
            )
        self.is_columnwise = is_fortran and sum(extent > 1 for extent in shape) > 1
        self.count: int = shape[0]
        self.shape: tuple[int, ...] = shape[1:]
        self._stored = dtype
        self.dtype = integer_dtype(dtype)

    def read(self, first: int, last: int) -> npt.NDArray[np.integer]:
        """Read samples `first` to `last` - 1: (last - first, *shape), of `dtype`.

        Raises:
            CutShortError: If not all of them are there.
            DataError: If the file cannot be read, or all of it was and its checksum is wrong.
        """
        size = prod(self.shape) * self._stored.itemsize
        try:
            data = self._bytes.read(self._start + first * size, (last - first) * size)
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror or error}).") from error
        if len(data) < (last - first) * size:
            complete = first + len(data) // size
            raise CutShortError(
                f"{self.name} is {self._bytes.problem or 'cut short'}: {complete} of {self.count} "
                "samples are complete.",
                complete=complete,
            )
        if last == self.count and not self._bytes.is_intact():
            raise DataError(
                f"{self.name} is damaged: its checksum is not that of its bytes. Get the file "
                "again."
            )
        values = np.frombuffer(data, self._stored).reshape(last - first, *self.shape)
        return values.view(self.dtype) if self._stored.kind == "b" else values


def _read_all(file: IO[bytes], size: int) -> bytes:
    """Read `size` bytes, or up to the end: the system may give fewer at a time."""
    parts = []
    while size:
        part = file.read(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def integer_dtype(stored: np.dtype[np.generic]) -> np.dtype[np.integer]:
    """Return the dtype in which integers or booleans are read: booleans as uint8."""
    return np.dtype(np.uint8) if stored.kind == "b" else cast("np.dtype[np.integer]", stored)


def member_names(path: Path) -> list[str]:
    """Return the names of an archive's arrays, of a cut one as far as it goes; [] if it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except FileNotFoundError:
        return []
    except DAMAGE:
        names = [name for name, _ in _walk(path)]
    return [name.removesuffix(".npy") for name in names]


def _find(path: Path, name: str) -> _Place:
    """Find an array in an archive; without its directory, which is its end, from its beginning."""
    try:
        with zipfile.ZipFile(path) as archive:
            if name in archive.namelist():
                entry = archive.getinfo(name)
                return _place_of(path, entry)
            names = archive.namelist()
    except zipfile.BadZipFile:
        found = _walk(path)
        for other, place in found:
            if other == name:
                return place
        names = [other for other, _ in found]
        if not names:
            raise
    key = name.removesuffix(".npy")
    raise DataError(
        f"{path}: no array '{key}'; it holds "
        f"{listed([other.removesuffix('.npy') for other in names])}. "
        f"Write it with numpy.savez(path, {key}=array)."
    )


def _place_of(path: Path, entry: zipfile.ZipInfo) -> _Place:
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{path}: '{entry.filename.removesuffix('.npy')}' is encrypted or compressed in a way "
            "that NumPy does not write. Write it with numpy.savez(path, input=array)."
        )
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        fields = _LOCAL.unpack(file.read(_LOCAL.size))
    if fields[0] != _LOCAL_SIGNATURE:
        raise zipfile.BadZipFile("no array where the directory says")
    return _Place(
        offset=entry.header_offset + _LOCAL.size + fields[-2] + fields[-1],
        is_deflated=entry.compress_type == zipfile.ZIP_DEFLATED,
        stored=entry.compress_size,
        size=entry.file_size,
        checksum=entry.CRC,
    )


def _walk(path: Path) -> list[tuple[str, _Place]]:
    """List the arrays of an archive without its directory, from header to header."""
    found: list[tuple[str, _Place]] = []
    with path.open("rb") as file:
        while True:
            head = file.read(_LOCAL.size)
            if len(head) < _LOCAL.size or not head.startswith(_LOCAL_SIGNATURE):
                return found
            fields = _LOCAL.unpack(head)
            flags, method, checksum, stored = fields[2], fields[3], fields[6], fields[7]
            name = file.read(fields[9]).decode("utf-8", errors="replace")
            extra = file.read(fields[10])
            if len(extra) < fields[10] or method not in (0, zipfile.ZIP_DEFLATED):
                return found
            if stored == _UNKNOWN_SIZE:
                stored = _long_size(extra)
            # An archive whose writer was stopped states zeros: it would have come back to them.
            is_known = not flags & _FIRST_BYTES_FOLLOW and bool(stored)
            place = _Place(
                offset=file.tell(),
                is_deflated=method == zipfile.ZIP_DEFLATED,
                stored=stored if is_known else None,
                checksum=checksum if is_known else None,
            )
            found.append((name, place))
            if not is_known:
                return found
            file.seek(stored, 1)


def _long_size(extra: bytes) -> int:
    """Return the stored size from the Zip64 field, where the full size comes first; else 0."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _ZIP64 and length >= 16 and len(extra) >= 20:
            return int(struct.unpack_from("<Q", extra, 12)[0])
        extra = extra[4 + length :]
    return 0
