"""Data sets that stay where they are, as bytes, and become numbers batch by batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.data.dataset import IntArray, LabelArray
from neurodeploy.errors import DataError
from neurodeploy.recipes.data_sections import Normalization

_WINDOW_BATCH = 256


class Source(Protocol):
    """Where samples are: in memory, in image files, in a file of frames."""

    @property
    def is_static(self) -> bool:
        """True if a sample is one image, shown in every step."""
        ...

    @property
    def is_random(self) -> bool:
        """True if a generator changes the samples."""
        ...

    def read(self, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Return samples as bytes.

        Args:
            indices: (batch,) int64.
            generator: Chooses the augmentation; without one there is none.

        Returns:
            (batch, ...) uint8.
        """
        ...

    def digest(self) -> str:
        """Return a short name that changes with samples and augmentation."""
        ...


class Encoding(Protocol):
    """How bytes become what the network is given."""

    @property
    def scale(self) -> float:
        """The network sees scale · value."""
        ...

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that the result may hold."""
        ...

    def __call__(self, values: Tensor) -> Tensor:
        """Return the network's input for (batch, ...) uint8."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelEncoding:
    """Pixels as integers, which a chip can read.

    Attributes:
        input_bits: Of a pixel; its lowest bits are dropped.
        normalization: "scale" and "mean_std": the pixel, which the network scales or normalizes.
            "center": minus the rounded mean of its channel.
        mean: Of each channel, in parts of 255.
    """

    input_bits: int
    normalization: Normalization
    mean: tuple[float, ...]

    @property
    def scale(self) -> float:
        """The network sees scale · value, or the value normalized."""
        return 1.0 if self.normalization == "mean_std" else float(2.0**-self.input_bits)

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that the result may hold."""
        offsets = self._offsets.tolist()
        return -max(offsets), 2**self.input_bits - 1 - min(offsets)

    @property
    def _offsets(self) -> Tensor:
        if self.normalization != "center":
            return torch.zeros(1, dtype=torch.int16)
        unit = 255 / 2 ** (8 - self.input_bits)
        rounded: Tensor = (torch.tensor(self.mean) * unit).round().to(torch.int16)
        return rounded

    def __call__(self, values: Tensor) -> Tensor:
        """Return (batch, C, H, W): uint8, int16 for "center"."""
        pixels: Tensor = values >> (8 - self.input_bits)
        if self.normalization != "center":
            return pixels
        centered: Tensor = pixels.to(torch.int16) - self._offsets.view(-1, 1, 1)
        return centered


@dataclass(frozen=True, slots=True, kw_only=True)
class CountEncoding:
    """Numbers of events, cut off at 2**input_bits."""

    input_bits: int

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that the result may hold."""
        return 0, 2**self.input_bits

    @property
    def scale(self) -> float:
        """The network sees scale · value."""
        return float(2.0**-self.input_bits)

    def __call__(self, values: Tensor) -> Tensor:
        """Return (batch, T, ...) uint8."""
        return values.clamp(max=2**self.input_bits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredDataset:
    """Some of a source's samples.

    Attributes:
        source: All of them.
        indices: (samples,) int64, which of them and in which order.
        labels: (samples,) int64.
        shape: (C, H, W) or (N,) of one step of one sample.
        classes: Number of classes.
        encoding: From bytes to the network's input.
        workers: Processes that read batches ahead.
    """

    source: Source
    indices: LabelArray
    labels: LabelArray
    shape: tuple[int, ...]
    classes: int
    encoding: Encoding
    workers: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def scale(self) -> float:
        """The network sees scale · value."""
        return self.encoding.scale

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value that a sample may hold."""
        return self.encoding.value_range

    @property
    def is_static(self) -> bool:
        """True if a sample is one image, shown in every step."""
        return self.source.is_static

    @property
    def is_random(self) -> bool:
        """True if a seed changes a batch."""
        return self.source.is_random

    def batch(self, indices: Tensor, *, seed: int | None = None) -> Tensor:
        """Return the samples with these indices, (batch, ...); a seed augments them."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        chosen = torch.from_numpy(self.indices)[indices]
        return self.encoding(self.source.read(chosen, generator=generator))

    def subset(self, indices: npt.NDArray[np.integer]) -> StoredDataset:
        """Return the samples with these indices, in this order."""
        return replace(self, indices=self.indices[indices], labels=self.labels[indices])

    def windows(self, steps: int) -> IntArray:
        """Return what a simulator reads, all of it in memory: take a subset of a large set first.

        Args:
            steps: T.

        Returns:
            (samples, T, *shape) int32; a static image is repeated.

        Raises:
            DataError: If the samples last another number of steps.
        """
        found = np.empty((len(self), steps, *self.shape), dtype=np.int32)
        for start in range(0, len(self), _WINDOW_BATCH):
            places = torch.arange(start, min(start + _WINDOW_BATCH, len(self)))
            values = self.batch(places).numpy()
            if not self.is_static and values.shape[1] != steps:
                raise DataError(
                    f"data: samples of {values.shape[1]} steps, the network takes {steps}."
                )
            found[start : start + len(values)] = values[:, np.newaxis] if self.is_static else values
        return found

    def digest(self) -> str:
        """Return a short name that changes with samples, augmentation and encoding."""
        digest = hashlib.sha256()
        digest.update(repr((self.source.digest(), self.encoding)).encode())
        digest.update(np.ascontiguousarray(self.indices).tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()[:16]
