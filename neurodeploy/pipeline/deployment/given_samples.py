"""The caller's samples and labels: as integers and classes, and divided for a fine-tune."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurodeploy.data.dataset import split_places
from neurodeploy.errors import DataError, InterchangeError
from neurodeploy.interchange.canonical_neuron import APPROXIMATIONS
from neurodeploy.ir.float_layers import Input

Inputs = npt.NDArray[np.int32]
_REAL_LEVELS = 127


def to_integers(
    samples: npt.NDArray[np.generic], entry: Input, allowed: set[str]
) -> tuple[Input, Inputs]:
    """Return the input's declaration for these samples, and the samples as integers.

    Raises:
        DataError: If they are no finite numbers of shape (samples, T, ...) that the input takes.
        InterchangeError: If they are no integers, and rounding them is not allowed.
    """
    if samples.dtype.kind not in "biuf" or samples.ndim < 3 or not samples.size:
        raise DataError(
            f"samples: {samples.dtype} of shape {samples.shape}; numbers (samples, T, "
            f"{', '.join(map(str, entry.shape))}) are required, at least one."
        )
    if samples[0, 0].size != np.prod(entry.shape):
        raise DataError(
            f"samples: shape {samples.shape}; the network reads (samples, T, "
            f"{', '.join(map(str, entry.shape))})."
        )
    values = samples.astype(np.float64).reshape(*samples.shape[:2], *entry.shape)
    if not np.isfinite(values).all():
        raise DataError("samples: NaN or infinity; finite numbers are required.")
    scale = 1.0
    if np.any(values != np.rint(values)):
        if "input-rounding" not in allowed:
            raise InterchangeError(
                "samples: real numbers, and a chip reads integers. Give spikes or integers, or "
                f"allow approximate={{'input-rounding'}}: {APPROXIMATIONS['input-rounding']}."
            )
        scale = float(np.abs(values).max()) / _REAL_LEVELS
    integers = np.rint(values / scale)
    if np.abs(integers).max() >= 1 << 31:
        raise DataError(f"samples: values up to {np.abs(values).max():g}, below 2**31 required.")
    largest = int(max(integers.max(), -integers.min(), 1))
    declared = Input(
        shape=entry.shape, scale=scale, largest=largest, smallest=int(min(integers.min(), 0))
    )
    return declared, integers.astype(np.int32)


def to_classes(
    labels: npt.ArrayLike | None, *, samples: int, classes: int
) -> npt.NDArray[np.int64] | None:
    """Return labels as (samples,) int64, 0 to classes - 1; None without any.

    Raises:
        DataError: If they are anything else.
    """
    if labels is None:
        return None
    found = np.asarray(labels)
    if found.shape != (samples,) or found.dtype.kind not in "iu":
        raise DataError(
            f"labels: {found.dtype} of shape {found.shape}; {samples} integers are required."
        )
    if found.min() < 0 or found.max() >= classes:
        raise DataError(
            f"labels: {found.min()} to {found.max()}, the network has classes 0 to {classes - 1}. "
            "Number the classes from 0."
        )
    return found.astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleParts:
    """Places of the samples for each purpose.

    Attributes:
        training: (samples,) int64, to choose scales on and to train on.
        choice: (samples,) int64, to choose between networks by.
        shown: (samples,) int64, to measure accuracies and compare spikes on.
    """

    training: npt.NDArray[np.int64]
    choice: npt.NDArray[np.int64]
    shown: npt.NDArray[np.int64]

    @classmethod
    def whole(cls, samples: int) -> SampleParts:
        """Return all samples for every purpose."""
        everything = np.arange(samples)
        return cls(training=everything, choice=everything, shown=everything)

    @classmethod
    def split(
        cls, labels: npt.NDArray[np.int64] | None, held_out: float, *, seed: int
    ) -> SampleParts:
        """Divide samples by chance, every class in proportion.

        Args:
            labels: (samples,) their classes.
            held_out: Share that is not trained on: one half to choose by, the other to show.
            seed: Of the draw.

        Raises:
            DataError: If there are no labels, or too few samples of a class.
        """
        if labels is None:
            raise DataError("labels: none, and a fine-tune learns them. Give the class of each.")
        training, aside = split_places(labels, held_out, seed=seed)
        first, second = split_places(labels[aside], 0.5, seed=seed)
        return cls(training=training, choice=aside[first], shown=aside[second])
