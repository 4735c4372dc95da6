"""Samples in, recordings out: the `.npz` files of the command line.

Source of the array format: NumPy's `numpy.lib.format`; nothing is unpickled.
"""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.files import replacing
from neurodeploy.simulation.base import Recording

INPUT_BYTES_MAX = 16 * 2**30
"""Largest array that is read: a small compressed file can declare a huge one."""


def load_inputs(path: str | Path, *, key: str = "input") -> npt.NDArray[np.integer]:
    """Read samples from an `.npz` file.

    Args:
        path: The archive.
        key: Name of the array: `input` for samples, `label` for class numbers.

    Returns:
        The array as stored: integers, usually (samples, T, C, H, W) or (samples, T, N).

    Raises:
        DataError: If the file is missing or damaged, the array is not there, or it does not hold
            integers.
    """
    path = Path(path)
    try:
        _check_size(path, key)
        with np.load(path, allow_pickle=False) as archive:
            array = np.asarray(archive[key])
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as e:
        raise DataError(
            f"{path}: not a readable .npz archive ({e}). Write it with numpy.savez(path, "
            f"{key}=array)."
        ) from e
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        detail = ""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            detail = " (with NaN or infinity among them)"
        raise DataError(
            f"{path}: '{key}' holds {array.dtype}{detail}, integers are required. "
            "Quantize the samples first."
        )
    return array


def has_array(path: str | Path, key: str) -> bool:
    """Tell whether an `.npz` archive holds an array of that name.

    Raises:
        DataError: If the archive cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{key}.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable .npz archive ({error}).") from error


def _check_size(path: Path, key: str) -> None:
    """Refuse an array by its header, before any of it is loaded."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if key not in names:
            raise DataError(
                f"{path}: no array '{key}'; it holds {', '.join(names) or 'nothing'}. "
                f"Write it with numpy.savez(path, {key}=array)."
            )
        with archive.open(f"{key}.npy") as member:
            version = np.lib.format.read_magic(member)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(member)
    size = prod(shape) * dtype.itemsize
    if size > INPUT_BYTES_MAX:
        raise DataError(
            f"{path}: '{key}' of shape {shape} takes {size / 2**30:.0f} GiB, at most "
            f"{INPUT_BYTES_MAX // 2**30} are read. Split the samples over several files."
        )


def save_samples(
    path: str | Path, inputs: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]
) -> None:
    """Write samples and their classes as `input` and `label`, whole or not at all.

    Raises:
        OutputError: If the file cannot be written.
    """
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, input=inputs, label=labels)


def save_recording(path: str | Path, recording: Recording) -> None:
    """Write a recording: `spikes_<k>` for every layer k, `voltage` of the last, `layers`.

    Args:
        path: The `.npz` file to create or replace, whole or not at all.
        recording: (samples, T, ...) arrays.

    Raises:
        OutputError: If the file cannot be written.
    """
    arrays = {f"spikes_{k}": spikes for k, spikes in enumerate(recording.spikes)}
    arrays |= dict(recording.traces)
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, layers=np.array(recording.layers))
