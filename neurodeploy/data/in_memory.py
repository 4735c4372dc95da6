"""Data sets that fit into memory: the digits, and NumPy archives of one's own.

Values stay integers: a pixel can enter the chip as the payload of a spike.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.data.augmentation import Warp, warp_images
from neurodeploy.data.dataset import IntArray, LabelArray
from neurodeploy.errors import DataError
from neurodeploy.recipes.data_sections import DigitsData, NpzData

DIGITS_MEAN = 5
"""Of all pixels of the digits, 4.88, rounded."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayDataset:
    """Samples and labels in memory; the trainer may shift them.

    Attributes:
        inputs: (samples, *shape) int32 for images that stay the same in every step, or
            (samples, T, *shape) int32, with shape (C, H, W) or (N,).
        labels: (samples,) int64.
        shape: Of one step of one sample.
        classes: Number of classes.
        scale: The network sees scale · integer.
        warp: How much a seeded batch of images is turned and resized; None for not at all.
    """

    inputs: IntArray
    labels: LabelArray
    shape: tuple[int, ...]
    classes: int
    scale: float
    warp: Warp | None = None

    def __post_init__(self) -> None:
        """Check the arrays.

        Raises:
            DataError: If dtypes, shapes or classes do not fit each other.
        """
        for name, array in (("inputs", self.inputs), ("labels", self.labels)):
            if not isinstance(array, np.ndarray):
                raise DataError(
                    f"ArrayDataset: {name} are a {type(array).__name__}, a NumPy array is "
                    "required: numpy.asarray(values)."
                )
            _require_integers(array, where=f"ArrayDataset: {name}")
        before = self.inputs.ndim - len(self.shape)
        if before not in (1, 2) or self.inputs.shape[before:] != self.shape:
            axes = ", ".join(map(str, self.shape))
            raise DataError(
                f"ArrayDataset: inputs of shape {self.inputs.shape}, (samples, {axes}) for still "
                f"images or (samples, T, {axes}) is required by shape = {self.shape}."
            )
        if self.labels.shape != self.inputs.shape[:1]:
            raise DataError(
                f"ArrayDataset: labels of shape {self.labels.shape}, {self.inputs.shape[:1]} is "
                "required: a class for each sample."
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.classes:
            raise DataError(
                f"ArrayDataset: labels from {self.labels.min()} to {self.labels.max()}, 0 to "
                f"{self.classes - 1} is allowed by classes = {self.classes}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_static(self) -> bool:
        """True if a sample is one image, shown in every step."""
        return self.inputs.ndim == 1 + len(self.shape)

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that a sample holds."""
        return int(self.inputs.min()), int(self.inputs.max())

    @property
    def workers(self) -> int:
        """None: the samples are at hand."""
        return 0

    @property
    def is_random(self) -> bool:
        """True if a seed changes the samples."""
        return self.warp is not None

    def batch(self, indices: Tensor, *, seed: int | None = None) -> Tensor:
        """Return the samples with these indices, (batch, ...) int32, warped if there is a seed."""
        found = torch.from_numpy(self.inputs)[indices]
        if self.warp is None or seed is None:
            return found
        return warp_images(found, self.warp, generator=torch.Generator().manual_seed(seed))

    def subset(self, indices: npt.NDArray[np.integer]) -> ArrayDataset:
        """Return the samples with these indices, in this order."""
        return ArrayDataset(
            inputs=self.inputs[indices],
            labels=self.labels[indices],
            shape=self.shape,
            classes=self.classes,
            scale=self.scale,
            warp=self.warp,
        )

    def windows(self, steps: int) -> IntArray:
        """Return what a simulator reads.

        Args:
            steps: T.

        Returns:
            (samples, T, *shape) int32; a static image is repeated.

        Raises:
            DataError: If the samples last another number of steps.
        """
        if self.is_static:
            repeated = np.repeat(self.inputs[:, np.newaxis], steps, axis=1)
            return np.ascontiguousarray(repeated)
        if self.inputs.shape[1] != steps:
            raise DataError(
                f"data: samples of {self.inputs.shape[1]} steps, the network takes {steps}."
            )
        return self.inputs

    def digest(self) -> str:
        """Return a short name that changes with any input, label or augmentation."""
        digest = hashlib.sha256()
        digest.update(repr((self.inputs.shape, self.scale, self.warp)).encode())
        digest.update(np.ascontiguousarray(self.inputs).tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()[:16]


def read_digits(section: DigitsData) -> ArrayDataset:
    """Return the digits that scikit-learn brings along."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    mean = DIGITS_MEAN if section.normalization == "center" else 0
    pixels = bunch.images.astype(np.int32).repeat(section.enlarge, 1).repeat(section.enlarge, 2)
    return ArrayDataset(
        inputs=pixels[:, np.newaxis] - mean,
        labels=bunch.target.astype(np.int64),
        shape=section.shape,
        classes=section.classes,
        scale=2.0**-section.input_bits,
        warp=(
            Warp(degrees=section.rotate, zoom=section.zoom)
            if section.rotate or section.zoom
            else None
        ),
    )


def read_archive(section: NpzData, *, steps: int) -> ArrayDataset:
    """Read a NumPy archive.

    Args:
        section: Names the file and says what is in it.
        steps: T of the network.

    Raises:
        DataError: If the file is missing or malformed, or does not fit the recipe.
    """
    path = Path(section.path).expanduser()
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as members:
            names = sorted(name.removesuffix(".npy") for name in members.namelist())
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ("input", "label") if name in names}
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file in {Path.cwd()}, where relative paths start. Set data.path."
        ) from error
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: cannot be read as a NumPy archive of plain arrays ({error}). "
            "Write it with numpy.savez(path, input=..., label=...)."
        ) from error
    if len(arrays) < 2:
        raise DataError(
            f"{path}: holds {', '.join(names) or 'nothing'}; the arrays 'input' and 'label' are "
            "required."
        )
    inputs, labels = arrays["input"], arrays["label"]
    return check_arrays(inputs, labels, section=section, steps=steps, where=str(path))


def check_arrays(
    inputs: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    *,
    section: NpzData,
    steps: int,
    where: str,
) -> ArrayDataset:
    """Turn arrays of a user into an `ArrayDataset`.

    Args:
        inputs: (samples, *shape), or (samples, T, *shape) for events; integers.
        labels: (samples,) integers, 0 to classes - 1.
        section: What the recipe says about them.
        steps: T of the network.
        where: Start of errors.

    Raises:
        DataError: If dtypes, shapes or values do not fit the recipe.
    """
    is_static = section.encoding == "direct"
    expected = section.shape if is_static else (steps, *section.shape)
    if inputs.ndim == 0 or inputs.shape[1:] != expected:
        wanted = ", ".join(map(str, expected))
        raise DataError(
            f"{where}: input has shape {inputs.shape}, (samples, {wanted}) is required by "
            f"data.shape and encoding = '{section.encoding}'."
            f"{_encoding_hint(inputs.shape, section, steps)}"
        )
    if labels.shape != inputs.shape[:1]:
        raise DataError(
            f"{where}: label has shape {labels.shape}, {(len(inputs),)} is required by input."
        )
    if not len(inputs):
        raise DataError(f"{where}: no samples.")
    largest = 2**section.input_bits
    _require_integers(inputs, where=f"{where}: input")
    _require_integers(labels, where=f"{where}: label")
    for name, array, low, high, key in (
        ("input", inputs, -largest, largest, "data.input_bits"),
        ("label", labels, 0, section.classes - 1, "data.classes"),
    ):
        found = int(array.min()), int(array.max())
        if found[0] < low or found[1] > high:
            raise DataError(
                f"{where}: {name} from {found[0]} to {found[1]}, {low} to {high} is allowed by "
                f"{key}. Change the key or the data."
            )
    return ArrayDataset(
        inputs=np.ascontiguousarray(inputs.astype(np.int32)),
        labels=labels.astype(np.int64),
        shape=section.shape,
        classes=section.classes,
        scale=1.0 / largest,
    )


def _encoding_hint(found: tuple[int, ...], section: NpzData, steps: int) -> str:
    """Return the advice for arrays that another key would fit; empty where none would."""
    if found[1:] == section.shape:
        return " These are still images: set data.encoding = 'direct'."
    if found[2:] == section.shape and section.encoding == "direct":
        return f" These have {found[1]} steps each: set data.encoding = 'events'."
    if found[2:] == section.shape:
        return f" Set network.steps = {found[1]}, not {steps}."
    if (1, *found[1:]) == section.shape:
        return " Add the axis of the channels: input[:, None]."
    return ""


def _require_integers(array: npt.NDArray[np.generic], *, where: str) -> None:
    if np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_:
        return
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DataError(f"{where} holds NaN or infinity. Integers are required.")
    if array.dtype.kind in "USO":
        raise DataError(
            f"{where} is {array.dtype}, integers are required. Number the classes from 0: "
            "names, label = numpy.unique(label, return_inverse=True)."
        )
    raise DataError(
        f"{where} is {array.dtype}, integers are required. Round to integers, and say with "
        "data.input_bits how large they are."
    )
