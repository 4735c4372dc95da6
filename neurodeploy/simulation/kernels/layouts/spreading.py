"""Tables by which events of a source spread over a layer's sums in memory.

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
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import Int64Array
from neurodeploy.simulation.kernels.layouts.weight_layout import Geometry, Term, zeros_on_line
from neurodeploy.simulation.kernels.layouts.windows import (
    WINDOW_SUMS,
    Axis,
    axis_of,
    lay_out_windows,
)
from neurodeploy.simulation.kernels.structures import FRAME, LINE, SPREAD, RowArray, StructuredArray

FRAME_BYTES_MAX: Final = 4 << 20
"""Largest frames of one sample's steps; larger ones leave the cache, and cost memory."""
PHASE_BYTES_MAX: Final = 1 << 20
"""Largest block of weights that is laid out by phases."""
_INVERSE_BITS: Final = 40


class Spreading(NamedTuple):
    """The tables of one layer by which events spread over frames.

    Attributes:
        spreads: (terms,) SPREAD.
        places: (pixels of all sources, 2) int64: where an event of the pixel begins in the frame,
            and its phase's first row of weights; both counted in numbers.
        rows: (rows · padded,) int16, or int32 if sums need 32 bits.
        lines: (lines of all sources that are read in windows,) LINE.
        window_rows: int16; weights of windows.
        frame: (1,) FRAME.
    """

    spreads: StructuredArray
    places: Int64Array
    rows: RowArray
    lines: StructuredArray
    window_rows: npt.NDArray[np.int16]
    frame: StructuredArray

    @property
    def has_windows(self) -> list[bool]:
        """Which terms are read in windows."""
        return [bool(windows) for windows in self.spreads["windows"]]

    def frame_bytes(self, steps: int) -> int:
        """Return what the frames of one sample take."""
        return steps * int(self.frame["size"][0]) * self.rows.itemsize


def lay_out(
    terms: Sequence[Term],
    weights: RowArray,
    *,
    frame: tuple[int, int, int],
    is_wide: bool,
    reads_bits: Sequence[bool],
) -> Spreading | None:
    """Make the tables of a layer, or None where they would be larger than what they save.

    Args:
        terms: The synapses that lead into it.
        weights: (rows, padded channels), in the order of the terms.
        frame: (channels, height, width) of the layer.
        is_wide: Whether sums need 32 bits.
        reads_bits: Whether spikes of each term's source are there as bits, so that windows can
            read them.
    """
    padded = weights.shape[1]
    _, height, width = frame
    kind = np.dtype(np.int32 if is_wide else np.int16)
    if not all(_has_small_numbers(term.geometry) for term in terms):
        return None
    axes = [(axis_of(term.geometry, 0), axis_of(term.geometry, 1)) for term in terms]
    found = [
        lay_out_windows(term, weights, *pair) if has_bits else None
        for term, pair, has_bits in zip(terms, axes, reads_bits, strict=True)
    ]
    size = sum(
        prod(len(axis.taps) * len(axis.taps[0]) for axis in pair) * term.geometry.frame[2]
        for term, pair, windows in zip(terms, axes, found, strict=True)
        if windows is None
    )
    if size * padded * kind.itemsize > PHASE_BYTES_MAX:
        return None
    margins = [(*y.margins(height), *x.margins(width)) for y, x in axes]
    margins += [(0, 0, *windows.margins(width)) for windows in found if windows]
    top, bottom, left, right = map(int, np.array(margins).max(axis=0))
    if any(found):  # windows begin at lines of the cache, as far as all can
        first = next(windows.first for windows in found if windows)
        left += (left + first) * padded % WINDOW_SUMS // padded
        right += (left + width + right) * padded % WINDOW_SUMS // padded
    pitch = (left + width + right) * padded
    spreads = np.zeros(len(terms), SPREAD)
    places, rows, lines, window_rows = (_Pieces() for _ in range(4))
    for spread, term, (y, x), windows in zip(spreads, terms, axes, found, strict=True):
        spread["step_y"] = y.step * pitch
        if windows is not None:
            windows.describe(spread)
            spread["first_line"] = lines.size
            described = np.zeros(len(y.phase), LINE)
            described["target"] = (y.first + top) * pitch + (windows.first + left) * padded
            described["start"] = window_rows.size + windows.starts[y.phase]
            described["lines"] = y.reached
            lines.append(described)
            window_rows.append(windows.rows)
            continue
        channels = term.geometry.frame[2]
        taps_y, taps_x = len(y.taps[0]), len(x.taps[0])
        spread["taps_y"], spread["taps_x"] = taps_y, taps_x
        spread["step_x"] = x.step * padded
        spread["first_place"] = places.size
        spread["inverse"] = (1 << _INVERSE_BITS) // channels + 1
        phases = y.phase[:, None] * len(x.taps) + x.phase
        place = (y.first[:, None] + top) * pitch + (x.first + left) * padded
        start = rows.size + phases * (taps_y * taps_x * channels * padded)
        places.append(np.stack([place, start], axis=-1).reshape(-1, 2))
        rows.append(_rows_by_phase(term, weights, y, x).astype(kind))
    return Spreading(
        spreads=spreads,
        places=places.join(np.zeros((0, 2), np.int64)),
        rows=rows.join(np.zeros(0, kind)),
        lines=lines.join(np.zeros(0, LINE)),
        window_rows=window_rows.join(np.zeros(0, np.int16)),
        frame=np.array(
            [((top + height + bottom) * pitch, pitch, top * pitch + left * padded)], FRAME
        ),
    )


class _Pieces:
    """Arrays that will be one, which begins a cache line."""

    def __init__(self) -> None:
        self._arrays: list[npt.NDArray[Any]] = []
        self.size = 0

    def append(self, array: npt.NDArray[Any]) -> None:
        """Add an array; `size` is how many items there are."""
        self._arrays.append(array)
        self.size += len(array)

    def join(self, empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return all as one array of the type of `empty`."""
        shape = (self.size, *empty.shape[1:])
        whole = zeros_on_line(prod(shape) * empty.itemsize).view(empty.dtype).reshape(shape)
        if self._arrays:
            np.concatenate(self._arrays, out=whole)
        return whole


def _has_small_numbers(geometry: Geometry) -> bool:
    """Return whether numbers of neurons may be divided by a multiplication and a shift."""
    neurons = prod(geometry.frame)
    is_divisible = neurons * geometry.frame[2] < 1 << _INVERSE_BITS and neurons < 1 << 23
    return is_divisible and max(geometry.kernel) <= 64


def _rows_by_phase(term: Term, weights: RowArray, y: Axis, x: Axis) -> RowArray:
    """Lay out a term's rows for each phase, filled up with zeros; flat, as the weights."""
    channels, padded = term.geometry.frame[2], weights.shape[1]
    kernel = weights[term.first_row :][: prod(term.geometry.kernel) * channels]
    kernel = kernel.reshape(*term.geometry.kernel, channels, padded)
    shape = (len(y.taps), len(x.taps), channels, len(y.taps[0]), len(x.taps[0]), padded)
    rows = np.zeros(shape, weights.dtype)
    for phase_y, i in np.ndindex(shape[0], shape[3]):
        for phase_x, j in np.ndindex(shape[1], shape[4]):
            tap_y, tap_x = y.taps[phase_y][i], x.taps[phase_x][j]
            if tap_y >= 0 and tap_x >= 0:
                rows[phase_y, phase_x, :, i, j] = kernel[tap_y, tap_x]
    return rows.reshape(-1)
