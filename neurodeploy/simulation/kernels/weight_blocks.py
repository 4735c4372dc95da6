"""Blocks of weights as the kernels read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RowArray = npt.NDArray[np.int8] | npt.NDArray[np.int16] | npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Synapses with the same source and delay.

    Attributes:
        source: Name of the sender.
        lag: Steps of delay, without the step of each layer in Lava's time.
        has_values: Whether the value of an event counts.
        frame: (height, width, channels) that the source is read as.
        kernel: (height, width).
        stride: (height, width), and so on below.
        padding: Zeros around.
        dilation: Distance between taps.
        first_row: Number of its first row of weights.
    """

    source: str
    lag: int
    has_values: bool
    frame: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    first_row: int
