"""Published data sets: bytes that become numbers batch by batch, and the packages to read them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurodeploy.data.dataset import IntArray, LabelArray, require_steps
from neurodeploy.errors import DataError
from neurodeploy.recipes.data_sections import EventSection, ImageSection, Normalization

_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")
_WINDOW_BATCH = 256


class Source(Protocol):
    """Where samples are: in memory, in image files, in a file of frames."""

    @property
    def is_random(self) -> bool:
        """True if a generator changes the samples."""

    def read(self, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Return samples as bytes, (batch, ...) uint8; augmented only if there is a generator."""

    def digest(self) -> str:
        """Return a short name that changes with samples and augmentation."""


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
    """Some of a source's samples, a `Dataset`.

    Attributes:
        source: All samples.
        indices: (samples,) int64, those of this data set, in its order.
        encoding: From bytes to the network's input.
    """

    source: Source
    indices: LabelArray
    labels: LabelArray
    shape: tuple[int, ...]
    classes: int
    encoding: PixelEncoding | CountEncoding
    workers: int = 0

    @classmethod
    def of(
        cls, section: ImageSection | EventSection, source: Source, labels: LabelArray
    ) -> StoredDataset:
        """Return all samples of a source, encoded as a recipe says."""
        encoding = (
            CountEncoding(input_bits=section.input_bits)
            if isinstance(section, EventSection)
            else PixelEncoding(
                input_bits=section.input_bits,
                normalization=section.normalization,
                mean=section.mean,
            )
        )
        return cls(
            source=source,
            indices=np.arange(len(labels)),
            labels=labels,
            shape=section.shape,
            classes=section.classes,
            encoding=encoding,
            workers=section.workers,
        )

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
        """True for images, false for frames of events."""
        return isinstance(self.encoding, PixelEncoding)

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
        """Return what a simulator reads, (samples, T, *shape) int32."""
        found = np.empty((len(self), steps, *self.shape), dtype=np.int32)
        for start in range(0, len(self), _WINDOW_BATCH):
            places = torch.arange(start, min(start + _WINDOW_BATCH, len(self)))
            values = self.batch(places).numpy()
            if not self.is_static:
                require_steps(values.shape[1], steps)
            found[start : start + len(values)] = values[:, np.newaxis] if self.is_static else values
        return found

    def digest(self) -> str:
        """Return a short name that changes with samples, augmentation and encoding."""
        digest = hashlib.sha256(repr((self.source.digest(), self.encoding)).encode())
        digest.update(np.ascontiguousarray(self.indices).tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()[:16]


def import_package(name: str) -> ModuleType:
    """Return a module of torchvision or tonic, imported where it is needed.

    Raises:
        DataError: If the package is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise DataError(
            f"data: {package} is needed for this source and cannot be imported ({error}). "
            "Install it: pip install 'neurodeploy[data]'."
        ) from error


def is_hidden(path: Path) -> bool:
    """Return whether a file is hidden, as `._x` that archives of macOS hold beside each `x`."""
    return path.name.startswith(".")


def layout_hint(root: Path, first: str) -> str:
    """Return the advice for a set that is packed, or lies above or below; empty for any other.

    `first` is a folder or file that `root`, which was named, should hold.
    """
    packed = sorted(path.name for path in root.glob("*") if path.name.endswith(_PACKED))
    if packed:
        return f" {root} holds {', '.join(packed)}: unpack it there."
    if root.name == first:
        return f" {root} is one level too deep: set data.root to {root.parent}."
    below = sorted(root.glob(f"*/{first}"))
    return f" It lies in {below[0].parent}: set data.root to that." if below else ""
