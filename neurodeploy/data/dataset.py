"""Data sets as training and evaluation see them, their split into parts, and their batches.

Inputs stay integers until they reach the network, which multiplies them by one power of two:
what the chip will see is what training sees.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset as TorchDataset

from neurodeploy.errors import DataError, TrainingError

IntArray = npt.NDArray[np.int32]
LabelArray = npt.NDArray[np.int64]

TEST_SPLIT_SEED = 0
"""The test part is the same in every run, whatever the recipe's seed."""


class Dataset(Protocol):
    """Labelled samples, in memory or read batch by batch."""

    @property
    def labels(self) -> LabelArray:
        """(samples,) int64."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) or (N,) of one step of one sample."""
        ...

    @property
    def classes(self) -> int:
        """Number of classes."""
        ...

    @property
    def scale(self) -> float:
        """The network sees scale · value."""
        ...

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that a sample may hold."""
        ...

    @property
    def workers(self) -> int:
        """Processes that read batches ahead; 0 reads in this one."""
        ...

    @property
    def is_random(self) -> bool:
        """True if the data set itself augments training batches."""
        ...

    def __len__(self) -> int: ...

    @property
    def is_static(self) -> bool:
        """True if a sample is one image, shown in every step."""
        ...

    def batch(self, indices: Tensor, *, seed: int | None = None) -> Tensor:
        """Return the samples with these indices, (batch, ...), integers of any dtype.

        Args:
            indices: (batch,) int64.
            seed: Chooses the augmentation; without one there is none.
        """
        ...

    def subset(self, indices: npt.NDArray[np.integer]) -> Dataset:
        """Return the samples with these indices, in this order."""
        ...

    def windows(self, steps: int) -> IntArray:
        """Return what a simulator reads: (samples, T, *shape) int32, all of it in memory."""
        ...

    def digest(self) -> str:
        """Return a short name that changes with any input or label."""
        ...


def range_of(parts: Sequence[Dataset]) -> tuple[int, int]:
    """Return the smallest and the largest value that a sample of any part may hold."""
    ranges = [part.value_range for part in parts]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def split(dataset: Dataset, fraction: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """Split off a stratified share; scikit-learn's split, so that others can repeat it.

    Args:
        dataset: All samples.
        fraction: Of them, the second part's share, above 0 and below 1.
        seed: Chooses which.

    Raises:
        DataError: If a class has too few samples to be in both parts.
    """
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
    reader = _BatchReader(dataset, parts, seeds)
    if dataset.workers:
        yield from _read_ahead(reader, dataset.workers)
    else:
        for number in range(len(parts)):
            yield reader[number]


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
        rank: Number of this process.
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
    places: list[list[Tensor]] = []
    chosen: list[Tensor] = []
    for batch in torch.tensor_split(order, count):
        mine = torch.tensor_split(torch.arange(len(batch)), processes)[rank]
        pieces = torch.tensor_split(mine, min(accumulate, len(mine)))
        places.append(list(pieces))
        chosen.extend(batch[piece] for piece in pieces)
    seeds: Sequence[int | None] = [None] * len(chosen)
    if dataset.is_random:
        drawn = torch.randint(2**62, (count, processes * accumulate), generator=generator)
        seeds = [
            int(drawn[number, rank * accumulate + index])
            for number, pieces in enumerate(places)
            for index in range(len(pieces))
        ]
    reader = _BatchReader(dataset, chosen, seeds)
    read = (
        _read_ahead(reader, dataset.workers)
        if dataset.workers
        else (reader[number] for number in range(len(chosen)))
    )
    sizes = [len(batch) for batch in torch.tensor_split(order, count)]
    for mine_of_batch, size in zip(places, sizes, strict=True):
        parts = []
        for piece in mine_of_batch:
            inputs, labels = next(read)
            parts.append(Part(inputs=inputs, labels=labels, places=piece, size=size))
        yield parts


def count_batches(samples: int, batch_size: int) -> int:
    """Return the number of batches in one pass over the samples."""
    return -(-samples // batch_size)


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


def _read_ahead(reader: _BatchReader, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Read in processes; forked, so that images in memory are shared and not copied."""
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        reader,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        generator=torch.Generator(),  # or the loader would draw from torch's global one
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork beside threads; the workers use no lock of ours.
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        iterator = iter(loader)
    yield from iterator
