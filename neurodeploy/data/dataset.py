"""Data sets as training and evaluation see them, their split into parts, and their batches.

Inputs stay integers until they reach the network, which multiplies them by one power of two:
what the chip will see, as the payload of a spike, is what training sees.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset as TorchDataset

from neurodeploy.data.augmentation import Warp, warp_images
from neurodeploy.errors import DataError, TrainingError

IntArray = npt.NDArray[np.int32]
LabelArray = npt.NDArray[np.int64]

TEST_SPLIT_SEED = 0
"""The test part is the same in every run, whatever the recipe's seed."""


class Dataset(Protocol):
    """Labelled samples, in memory or read batch by batch.

    Example:
        >>> train, _, test = nd.load_data(nd.Recipe.load("digits"))
        >>> test.subset(np.arange(2)).windows(4).shape, test.value_range
        ((2, 4, 1, 8, 8), (0, 16))
    """

    @property
    def labels(self) -> LabelArray:
        """(samples,) int64."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) or (N,) of one step of one sample."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def scale(self) -> float:
        """The network sees scale · value."""

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that a sample may hold."""

    @property
    def workers(self) -> int:
        """Processes that read batches ahead; 0 reads in this one."""

    @property
    def is_random(self) -> bool:
        """True if the data set itself augments training batches."""

    @property
    def is_static(self) -> bool:
        """True if a sample is one image, shown in every step."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, *, seed: int | None = None) -> Tensor:
        """Return the samples with these indices, (batch, ...), integers of any dtype.

        The seed chooses the augmentation; without one there is none.
        """

    def subset(self, indices: npt.NDArray[np.integer]) -> Dataset:
        """Return the samples with these indices, in this order."""

    def windows(self, steps: int) -> IntArray:
        """Return what a simulator reads, all of it in memory: take a subset of a large set first.

        Returns:
            (samples, T, *shape) int32; a static image is repeated.

        Raises:
            DataError: If the samples last another number of steps than T.
        """

    def digest(self) -> str:
        """Return a short name that changes with any input, label or augmentation."""


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

    Example:
        >>> images = np.random.default_rng(0).integers(0, 16, (60, 1, 12, 12), dtype=np.int32)
        >>> data = nd.ArrayDataset(
        ...     inputs=images, labels=np.arange(60) % 3, shape=(1, 12, 12), classes=3, scale=1 / 16
        ... )
        >>> data.is_static, data.windows(4).shape, data.value_range
        (True, (60, 4, 1, 12, 12), (0, 15))
    """

    inputs: IntArray
    labels: LabelArray
    shape: tuple[int, ...]
    classes: int
    scale: float
    warp: Warp | None = None

    def __post_init__(self) -> None:
        """Check that dtypes, shapes and classes fit each other, or raise a `DataError`."""
        for name, array in (("inputs", self.inputs), ("labels", self.labels)):
            if not isinstance(array, np.ndarray):
                raise DataError(
                    f"ArrayDataset: {name} are a {type(array).__name__}, a NumPy array is "
                    "required: numpy.asarray(values)."
                )
            require_integers(array, where=f"ArrayDataset: {name}")
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
        return replace(self, inputs=self.inputs[indices], labels=self.labels[indices])

    def windows(self, steps: int) -> IntArray:
        """Return what a simulator reads, (samples, T, *shape) int32."""
        if self.is_static:
            return np.repeat(self.inputs[:, np.newaxis], steps, axis=1)
        require_steps(self.inputs.shape[1], steps)
        return self.inputs

    def digest(self) -> str:
        """Return a short name that changes with any input, label or augmentation."""
        digest = hashlib.sha256(repr((self.inputs.shape, self.scale, self.warp)).encode())
        digest.update(np.ascontiguousarray(self.inputs).tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()[:16]


def require_integers(array: npt.NDArray[np.generic], *, where: str) -> None:
    """Refuse floats and names of classes with a `DataError` that says how to make integers."""
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


def require_steps(found: int, wanted: int) -> None:
    """Refuse samples that do not last T = `wanted` steps."""
    if found != wanted:
        raise DataError(f"data: samples of {found} steps, the network takes {wanted}.")


def require_samples(dataset: Dataset, name: str) -> None:
    """Refuse a data set without samples."""
    if not len(dataset):
        raise DataError(f"{name}: no samples, at least one is required.")


def range_of(parts: Sequence[Dataset]) -> tuple[int, int]:
    """Return the smallest and the largest value that a sample of any part may hold."""
    ranges = [part.value_range for part in parts]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def split(dataset: Dataset, fraction: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Split off a stratified share; scikit-learn's split, so that others can repeat it.

    Raises:
        DataError: If a class has too few samples to be in both parts.
    """
    first, second = split_places(dataset.labels, fraction, seed=seed)
    return dataset.subset(first), dataset.subset(second)


def split_places(
    labels: LabelArray, fraction: float, *, seed: int
) -> tuple[LabelArray, LabelArray]:
    """Return the places of the samples that `split` leaves, and of those that it splits off."""
    from sklearn.model_selection import train_test_split

    try:
        first, second = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise DataError(
            f"data: {len(labels)} samples cannot be split, {fraction:g} of them aside ({error}). "
            "Every class needs samples in each part: add data or change the fractions."
        ) from error
    return first, second


def batches(
    dataset: Dataset, batch_size: int, *, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through all samples once, in batches whose sizes differ by one at most.

    The number of worker processes changes nothing but the speed: order and seeds of all batches
    are drawn here, before the first is read.

    Args:
        dataset: Samples.
        batch_size: Largest size of a batch.
        generator: Chooses order and augmentation; without one the order is that of the data set
            and nothing is augmented.

    Yields:
        Inputs (batch, ...) and labels (batch,) int64.
    """
    order = (
        torch.arange(len(dataset))
        if generator is None
        else torch.randperm(len(dataset), generator=generator)
    )
    parts = torch.tensor_split(order, count_batches(len(dataset), batch_size))
    seeds: Sequence[int | None] = [None] * len(parts)
    if generator is not None and dataset.is_random:
        seeds = torch.randint(2**62, (len(parts),), generator=generator).tolist()
    yield from _read(dataset, parts, seeds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """The share of a training batch that one process computes at once.

    Attributes:
        inputs: (part, ...), integers of any dtype.
        labels: (part,) int64.
        places: (part,) int64, which samples of the batch these are.
        size: Samples of the whole batch.
    """

    inputs: Tensor
    labels: Tensor
    places: Tensor
    size: int


def training_batches(
    dataset: Dataset,
    batch_size: int,
    *,
    generator: torch.Generator,
    accumulate: int = 1,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[list[Part]]:
    """Go through all samples once in the batches of `batches`, cut for one process.

    Every process draws the same order from an equal generator and reads its own samples. A data
    set that augments its batches itself does so anew for each part: there, the same batches in
    other parts are augmented otherwise.

    Args:
        dataset: Samples.
        batch_size: Largest size of a batch, all processes together.
        generator: Chooses order and augmentation.
        accumulate: Parts that a process computes one after the other.
        rank: Number of this process among all `processes`.
        processes: How many share a batch.

    Yields:
        The parts of a batch that belong to this process, at least one, none empty.

    Raises:
        TrainingError: If a batch is too small to give every process a sample.
    """
    order = torch.randperm(len(dataset), generator=generator)
    count = count_batches(len(dataset), batch_size)
    if len(dataset) // count < processes:
        raise TrainingError(
            f"training data: batches of {len(dataset) // count} samples for {processes} "
            "processes. Use a larger training.batch_size or fewer devices."
        )
    batches_of_all = torch.tensor_split(order, count)
    places: list[tuple[Tensor, ...]] = []
    for batch in batches_of_all:
        mine = torch.tensor_split(torch.arange(len(batch)), processes)[rank]
        places.append(torch.tensor_split(mine, min(accumulate, len(mine))))
    shares = list(zip(batches_of_all, places, strict=True))
    chosen = [batch[piece] for batch, pieces in shares for piece in pieces]
    seeds: Sequence[int | None] = [None] * len(chosen)
    if dataset.is_random:
        drawn = torch.randint(2**62, (count, processes * accumulate), generator=generator)
        seeds = [
            int(drawn[number, rank * accumulate + index])
            for number, pieces in enumerate(places)
            for index in range(len(pieces))
        ]
    read = _read(dataset, chosen, seeds)
    for batch, pieces in shares:
        yield [
            Part(inputs=inputs, labels=labels, places=piece, size=len(batch))
            for piece, (inputs, labels) in zip(pieces, read, strict=False)
        ]


def count_batches(samples: int, batch_size: int) -> int:
    """Return the number of batches in one pass over the samples."""
    return -(-samples // batch_size)


def smallest_part(samples: int, batch_size: int, *, accumulate: int = 1, processes: int = 1) -> int:
    """Return the size of the smallest part that `training_batches` yields."""
    mine = samples // max(1, count_batches(samples, batch_size)) // processes
    return mine // min(accumulate, mine) if mine else 0


class _BatchReader(TorchDataset[tuple[Tensor, Tensor]]):
    """The batches of one pass, by number: what a worker process reads from."""

    def __init__(
        self, dataset: Dataset, parts: Sequence[Tensor], seeds: Sequence[int | None]
    ) -> None:
        self.dataset = dataset
        self.parts = parts
        self.seeds = seeds
        self.labels = torch.from_numpy(dataset.labels)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        indices = self.parts[number]
        return self.dataset.batch(indices, seed=self.seeds[number]), self.labels[indices]


def _read(
    dataset: Dataset, parts: Sequence[Tensor], seeds: Sequence[int | None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read batches, ahead in processes if the data set has workers.

    Processes are forked, so that images in memory are shared and not copied.
    """
    reader = _BatchReader(dataset, parts, seeds)
    if not dataset.workers:
        yield from (reader[number] for number in range(len(reader)))
        return
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        reader,
        batch_size=None,
        num_workers=dataset.workers,
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        generator=torch.Generator(),  # or the loader would draw from torch's global one
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork beside threads; the workers use no lock of ours.
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        iterator = iter(loader)
    yield from iterator
