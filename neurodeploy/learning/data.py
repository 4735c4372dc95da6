"""Data sets as integers: what the chip will see is what training sees.

Inputs stay integers until they reach the network, which multiplies them by one power of two.
No mean is subtracted: a pixel can then enter the chip as the payload of a spike.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.errors import DataError
from neurodeploy.recipe import DigitsData, NpzData, Recipe

IntArray = npt.NDArray[np.int32]
LabelArray = npt.NDArray[np.int64]
_TEST_SPLIT_SEED = 0
"""The test part is the same in every run, whatever the recipe's seed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Samples and labels.

    Attributes:
        inputs: (samples, *shape) int32 for images that stay the same in every step, or
            (samples, T, *shape) int32, with shape (C, H, W) or (N,).
        labels: (samples,) int64.
        shape: Of one step of one sample.
        classes: Number of classes.
        scale: The network sees scale · integer.
    """

    inputs: IntArray
    labels: LabelArray
    shape: tuple[int, ...]
    classes: int
    scale: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_static(self) -> bool:
        """Whether a sample is one image, shown in every step."""
        return self.inputs.ndim == 1 + len(self.shape)

    def subset(self, indices: npt.NDArray[np.integer]) -> Dataset:
        """Give the samples with these indices, in this order."""
        return Dataset(
            inputs=self.inputs[indices],
            labels=self.labels[indices],
            shape=self.shape,
            classes=self.classes,
            scale=self.scale,
        )

    def windows(self, steps: int) -> IntArray:
        """Give what a simulator reads.

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
        """Give a short name that changes with any input or label."""
        digest = hashlib.sha256()
        digest.update(repr((self.inputs.shape, self.scale)).encode())
        digest.update(np.ascontiguousarray(self.inputs).tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()[:16]


def load_data(recipe: Recipe) -> tuple[Dataset, Dataset, Dataset]:
    """Load the recipe's data in three parts.

    The test part is stratified and the same for every seed; the validation part is taken from
    the rest, stratified, by the recipe's seed.

    Args:
        recipe: Its [data], [recipe] seed and [network] steps are read.

    Returns:
        Training, validation and test part.

    Raises:
        DataError: If a file is missing or malformed, values do not fit, or a class has too few
            samples to be in every part.
    """
    section = recipe.data
    whole = (
        _digits(section)
        if isinstance(section, DigitsData)
        else _archive(section, steps=recipe.network.steps)
    )
    rest, test = _split(whole, section.test_fraction, seed=_TEST_SPLIT_SEED)
    train, validation = _split(rest, section.validation_fraction, seed=recipe.recipe.seed)
    return train, validation, test


def _digits(section: DigitsData) -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Dataset(
        inputs=bunch.images.astype(np.int32)[:, np.newaxis],
        labels=bunch.target.astype(np.int64),
        shape=section.shape,
        classes=section.classes,
        scale=2.0**-section.input_bits,
    )


def _archive(section: NpzData, *, steps: int) -> Dataset:
    path = Path(section.path)
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as members:
            names = sorted(name.removesuffix(".npy") for name in members.namelist())
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ("input", "label") if name in names}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Set data.path.") from error
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
) -> Dataset:
    """Turn arrays of a user into a `Dataset`.

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
    return Dataset(
        inputs=np.ascontiguousarray(inputs.astype(np.int32)),
        labels=labels.astype(np.int64),
        shape=section.shape,
        classes=section.classes,
        scale=1.0 / largest,
    )


def _require_integers(array: npt.NDArray[np.generic], *, where: str) -> None:
    if np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_:
        return
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DataError(f"{where} holds NaN or infinity. Integers are required.")
    raise DataError(
        f"{where} is {array.dtype}, integers are required. Round to integers, and say with "
        "data.input_bits how large they are."
    )


def _split(dataset: Dataset, fraction: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Split off a stratified share; scikit-learn's split, so that others can repeat it."""
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(
            np.arange(len(dataset)),
            test_size=fraction,
            stratify=dataset.labels,
            random_state=seed,
        )
    except ValueError as error:
        raise DataError(
            f"data: {len(dataset)} samples cannot be split, {fraction:g} of them aside ({error}). "
            "Every class needs samples in each part: add data or change the fractions."
        ) from error
    return dataset.subset(first), dataset.subset(second)


def batches(
    dataset: Dataset, batch_size: int, *, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through all samples once, in batches whose sizes differ by one at most.

    Args:
        dataset: Samples.
        batch_size: Largest size of a batch.
        generator: Chooses the order; without one it is that of the data set.

    Yields:
        Inputs (batch, ...) int32 and labels (batch,) int64.
    """
    inputs, labels = torch.from_numpy(dataset.inputs), torch.from_numpy(dataset.labels)
    order = (
        torch.arange(len(dataset))
        if generator is None
        else torch.randperm(len(dataset), generator=generator)
    )
    for indices in torch.tensor_split(order, count_batches(len(dataset), batch_size)):
        yield inputs[indices], labels[indices]


def count_batches(samples: int, batch_size: int) -> int:
    """Give the number of batches in one pass over the samples."""
    return -(-samples // batch_size)


def shift_images(images: Tensor, pixels: int, *, generator: torch.Generator) -> Tensor:
    """Move every sample by a random number of pixels in each direction; zeros move in.

    Args:
        images: (batch, ..., H, W), any dtype; all steps of a sample move together.
        pixels: Largest move, either way.
        generator: Chooses it.

    Returns:
        A new tensor like `images`.
    """
    if pixels == 0:
        return images
    batch, (height, width) = len(images), images.shape[-2:]
    moves = torch.randint(-pixels, pixels + 1, (2, batch, 1), generator=generator)
    rows = torch.arange(height) + moves[0]
    columns = torch.arange(width) + moves[1]
    is_inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    flat = images.reshape(batch, -1, height, width)
    gathered = flat[
        torch.arange(batch)[:, None, None, None],
        torch.arange(flat.shape[1])[None, :, None, None],
        rows.clamp(0, height - 1)[:, None, :, None],
        columns.clamp(0, width - 1)[:, None, None, :],
    ]
    return (gathered * is_inside[:, None]).reshape(images.shape)
