"""Samples in `.npz` files.

Source of the array format: NumPy's `numpy.lib.format`; nothing is unpickled.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.files import replacing

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
