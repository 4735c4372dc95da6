"""How each event of a layer's sources spreads over the layer's sums: tables for `spread_kernels`.

Sums of one step are a *frame*: (rows, pixels, padded channels), the layer's pixels and a margin
around them, which catches what kernels add beyond the layer's borders and is never read. With it
every event of a source adds the same number of rows of weights at the same distances, so no bound
is checked: (taps y, taps x) rows, from the frame's pixel that its own pixel's table names.

With a stride, the taps that reach an output differ between the pixels of a source, by
(position + padding) mod stride: its *phase*. Weights are laid out once for each phase, filled up
with zeros to the same number of taps, and in the order in which the frame is passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import Int64Array

if TYPE_CHECKING:
    from neurodeploy.simulation.kernels.weight_blocks import RowArray, Term

FRAME_BYTES_MAX: Final = 4 << 20
"""Largest frames of one sample's steps; larger ones leave the cache, and cost memory."""
ROW_BYTES_MAX: Final = 1 << 20
"""Largest block of weights that is laid out by phases."""
_INVERSE_BITS: Final = 40

# Columns of a table of spreads, one row for each term.
TAPS_Y: Final = 0
RUN: Final = 1
"""Rows of weights in one line of taps, side by side."""
STEP_Y: Final = 2
"""Distance in the frame from one line of taps to the next; then from one tap to the next."""
STEP_X: Final = 3
FIRST_PLACE: Final = 4
"""Where its pixels begin in the table of places."""
INVERSE: Final = 5
"""neuron · INVERSE >> 40 is the neuron's pixel."""
SPREAD_FIELDS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spreading:
    """The tables of one layer.

    Attributes:
        terms: (terms, SPREAD_FIELDS) int64.
        places: (pixels of all sources, 2) int64: where an event of the pixel begins in the frame,
            and its phase's first row of weights; both counted in numbers.
        rows: (rows · padded,) int16, or int32 if sums need 32 bits.
        lanes: (width · padded, 2) int32: numbers of one row's neurons with channels last, as in
            lists, and with channels first.
        frame: Numbers in one frame.
        pitch: Numbers from one row of the frame to the next.
        origin: Where the layer's first pixel is.
        is_wide: Whether sums need 32 bits.
    """

    terms: Int64Array
    places: Int64Array
    rows: npt.NDArray[np.int16] | npt.NDArray[np.int32]
    lanes: npt.NDArray[np.int32]
    frame: int
    pitch: int
    origin: int
    is_wide: bool

    def frame_bytes(self, steps: int) -> int:
        """Return what the frames of one sample take."""
        return steps * self.frame * (4 if self.is_wide else 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """One axis of a term.

    Attributes:
        taps: Of each phase, in the order in which the frame is passed; -1 for none.
        step: Pixels of the frame from one tap to the next.
        first: Of each position of the source, the output pixel of the first tap.
        phase: Of each position of the source.
    """

    taps: list[list[int]]
    step: int
    first: Int64Array
    phase: Int64Array

    def margins(self, outputs: int) -> tuple[int, int]:
        """Return how far the frame must reach beyond `outputs` pixels, before and after."""
        last = int(self.first.max()) + (len(self.taps[0]) - 1) * self.step
        return max(0, -int(self.first.min())), max(0, last - outputs + 1)


def _axis(size: int, kernel: int, stride: int, padding: int, dilation: int) -> _Axis:
    """Find the taps along one axis: output · stride + tap · dilation = position + padding."""
    step = dilation // gcd(stride, dilation)
    found = [
        [tap for tap in range(kernel) if (phase - tap * dilation) % stride == 0]
        for phase in range(stride)
    ]
    most = max(map(len, found))
    position = np.arange(size) + padding
    phase = position % stride
    first = np.zeros(size, np.int64)
    for number, taps in enumerate(found):
        if taps:
            here = phase == number
            first[here] = (position[here] - taps[-1] * dilation) // stride
    return _Axis(
        taps=[taps[::-1] + [-1] * (most - len(taps)) for taps in found],
        step=step,
        first=first,
        phase=phase,
    )


def lay_out(
    terms: Sequence[Term],
    weights: RowArray,
    *,
    frame: tuple[int, int, int],
    is_wide: bool,
) -> Spreading | None:
    """Make the tables of a layer.

    Args:
        terms: What leads into it.
        weights: (rows, padded channels), in the order of the terms.
        frame: (channels, height, width) of the layer.
        is_wide: Whether sums need 32 bits.

    Returns:
        The tables, or None where they would be larger than what they save.
    """
    padded = weights.shape[1]
    outputs, height, width = frame
    kind = np.dtype(np.int32 if is_wide else np.int16)
    axes: list[tuple[_Axis, _Axis]] = []
    size = 0
    for term in terms:
        if prod(term.frame) * term.frame[2] >= 1 << _INVERSE_BITS or prod(term.frame) >= 1 << 23:
            return None
        if max(term.kernel) > 64:
            return None
        pair = [
            _axis(term.frame[k], term.kernel[k], term.stride[k], term.padding[k], term.dilation[k])
            for k in (0, 1)
        ]
        axes.append((pair[0], pair[1]))
        size += prod(len(axis.taps) * len(axis.taps[0]) for axis in pair) * term.frame[2]
    if size * padded * kind.itemsize > ROW_BYTES_MAX:
        return None
    margins = np.array([(*y.margins(height), *x.margins(width)) for y, x in axes]).max(axis=0)
    top, bottom, left, right = map(int, margins)
    pitch = (left + width + right) * padded
    table = np.zeros((len(terms), SPREAD_FIELDS), np.int64)
    places: list[Int64Array] = []
    blocks: list[npt.NDArray[np.integer]] = []
    first_row = first_place = 0
    for row, term, (y, x) in zip(table, terms, axes, strict=True):
        channels = term.frame[2]
        taps_y, taps_x = len(y.taps[0]), len(x.taps[0])
        row[TAPS_Y], row[RUN] = taps_y, taps_x
        row[STEP_Y], row[STEP_X] = y.step * pitch, x.step * padded
        row[FIRST_PLACE] = first_place
        row[INVERSE] = (1 << _INVERSE_BITS) // channels + 1
        phases = y.phase[:, None] * len(x.taps) + x.phase
        block = taps_y * taps_x * channels
        place = (y.first[:, None] + top) * pitch + (x.first + left) * padded
        start = (first_row + phases * block) * padded
        places.append(np.stack([place, start], axis=-1).reshape(-1, 2))
        first_place += place.size
        kernel = weights[term.first_row :][: prod(term.kernel) * channels]
        kernel = kernel.reshape(*term.kernel, channels, padded)
        for of_y in y.taps:
            for of_x in x.taps:
                laid = np.zeros((channels, taps_y, taps_x, padded), kind)
                for i, tap_y in enumerate(of_y):
                    for j, tap_x in enumerate(of_x):
                        if tap_y >= 0 and tap_x >= 0:
                            laid[:, i, j] = kernel[tap_y, tap_x]
                blocks.append(laid.reshape(-1))
                first_row += block
    column, channel = np.arange(width)[:, None], np.arange(padded)
    lists, arrays = column * outputs + channel, channel * width + column
    return Spreading(
        terms=table,
        places=np.concatenate(places),
        rows=np.concatenate(blocks),
        lanes=np.stack([lists, arrays], axis=-1).reshape(-1, 2).astype(np.int32),
        frame=(top + height + bottom) * pitch,
        pitch=pitch,
        origin=top * pitch + left * padded,
        is_wide=is_wide,
    )
