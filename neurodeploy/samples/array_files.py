"""Files of results, written array by array and piece by piece: equal bytes for equal arrays.

How arrays were cut into pieces, and when they were written, leaves no trace in an `.npz` archive.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from neurodeploy.files import replacing, require_output

HDF5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (".npz", *HDF5_SUFFIXES)
_BLOCK = 1 << 20
_LEVEL = 1
"""Of deflate: events are sparse, and higher levels take several times as long for little."""
_CHUNK_BYTES = 1 << 20
Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayStream:
    """An array that need not be in memory as a whole.

    Attributes:
        shape: Of all of it.
        dtype: Of its values.
        pieces: Parts of it along the first axis, in order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    pieces: Iterable[Array]

    @classmethod
    def of(cls, array: Array) -> ArrayStream:
        """Make one of an array that is in memory."""
        return cls(shape=array.shape, dtype=array.dtype, pieces=(array,))


def write_arrays(path: Path, streams: Mapping[str, ArrayStream]) -> None:
    """Write arrays to an `.npz` archive or an HDF5 file, whole or not at all.

    Args:
        path: The file to create or replace.
        streams: By name, in order.

    Raises:
        OutputError: If it cannot be written.
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
        for first in range(0, len(data), _BLOCK):
            waiting += data[first : first + _BLOCK].tobytes()
            if len(waiting) >= _BLOCK:
                yield bytes(waiting[:_BLOCK])
                del waiting[:_BLOCK]
    yield bytes(waiting)


def _write_hdf5(path: Path, streams: Mapping[str, ArrayStream]) -> None:
    with h5py.File(path, "w") as file:
        for name, stream in streams.items():
            if stream.dtype.kind == "U":
                texts = np.concatenate([np.ravel(piece) for piece in stream.pieces])
                file.create_dataset(name, data=[str(one) for one in texts])
                continue
            rows = max(1, _CHUNK_BYTES // max(1, _row_bytes(stream)))
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


def _row_bytes(stream: ArrayStream) -> int:
    return int(np.prod(stream.shape[1:], dtype=np.int64)) * stream.dtype.itemsize
