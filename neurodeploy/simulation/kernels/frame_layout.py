"""How each event of a layer's sources spreads over the layer's sums: tables for `lif_frames`.

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
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import Int32Array, Int64Array
from neurodeploy.simulation.kernels.structures import FRAME, SPREAD, RowArray, StructuredArray
from neurodeploy.simulation.kernels.weight_blocks import Geometry, Term, zeros_on_line

FRAME_BYTES_MAX: Final = 4 << 20
"""Largest frames of one sample's steps; larger ones leave the cache, and cost memory."""
ROW_BYTES_MAX: Final = 1 << 20
"""Largest block of weights that is laid out by phases."""
_INVERSE_BITS: Final = 40


class Spreading(NamedTuple):
    """The tables of one layer.

    Attributes:
        spreads: (terms,) SPREAD.
        places: (pixels of all sources, 2) int64: where an event of the pixel begins in the frame,
            and its phase's first row of weights; both counted in numbers.
        rows: (rows · padded,) int16, or int32 if sums need 32 bits.
        lanes: (width · padded, 2) int32: numbers of one row's neurons with channels last, as in
            lists, and with channels first.
        frame: (1,) FRAME.
    """

    spreads: StructuredArray
    places: Int64Array
    rows: RowArray
    lanes: Int32Array
    frame: StructuredArray

    def frame_bytes(self, steps: int) -> int:
        """Return what the frames of one sample take."""
        return steps * int(self.frame["size"][0]) * self.rows.itemsize


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


def _axis(geometry: Geometry, axis: int) -> _Axis:
    """Find the taps along one axis: output · stride + tap · dilation = position + padding."""
    size, kernel, stride, padding, dilation = (
        numbers[axis]
        for numbers in (
            geometry.frame, geometry.kernel, geometry.stride, geometry.padding, geometry.dilation
        )
    )  # fmt: skip
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
        terms: The synapses that lead into it.
        weights: (rows, padded channels), in the order of the terms.
        frame: (channels, height, width) of the layer.
        is_wide: Whether sums need 32 bits.

    Returns:
        The tables, or None where they would be larger than what they save.
    """
    padded = weights.shape[1]
    outputs, height, width = frame
    kind = np.dtype(np.int32 if is_wide else np.int16)
    geometries = [term.geometry for term in terms]
    if not all(map(_has_small_numbers, geometries)):
        return None
    axes = [(_axis(geometry, 0), _axis(geometry, 1)) for geometry in geometries]
    size = sum(
        prod(len(axis.taps) * len(axis.taps[0]) for axis in pair) * geometry.frame[2]
        for pair, geometry in zip(axes, geometries, strict=True)
    )
    if size * padded * kind.itemsize > ROW_BYTES_MAX:
        return None
    margins = np.array([(*y.margins(height), *x.margins(width)) for y, x in axes]).max(axis=0)
    top, bottom, left, right = map(int, margins)
    pitch = (left + width + right) * padded
    spreads = np.zeros(len(terms), SPREAD)
    places: list[Int64Array] = []
    blocks: list[npt.NDArray[np.integer]] = []
    first_row = first_place = 0
    for spread, term, (y, x) in zip(spreads, terms, axes, strict=True):
        channels = term.geometry.frame[2]
        taps_y, taps_x = len(y.taps[0]), len(x.taps[0])
        spread["taps_y"], spread["taps_x"] = taps_y, taps_x
        spread["step_y"], spread["step_x"] = y.step * pitch, x.step * padded
        spread["first_place"] = first_place
        spread["inverse"] = (1 << _INVERSE_BITS) // channels + 1
        phases = y.phase[:, None] * len(x.taps) + x.phase
        block = taps_y * taps_x * channels
        place = (y.first[:, None] + top) * pitch + (x.first + left) * padded
        start = (first_row + phases * block) * padded
        places.append(np.stack([place, start], axis=-1).reshape(-1, 2))
        first_place += place.size
        first_row += len(y.taps) * len(x.taps) * block
        blocks.append(_rows_by_phase(term, weights, y, x).astype(kind))
    rows = zeros_on_line(sum(block.nbytes for block in blocks)).view(kind)
    np.concatenate(blocks, out=rows)
    column, channel = np.arange(width)[:, None], np.arange(padded)
    lists, arrays = column * outputs + channel, channel * width + column
    return Spreading(
        spreads=spreads,
        places=np.concatenate(places),
        rows=rows,
        lanes=np.stack([lists, arrays], axis=-1).reshape(-1, 2).astype(np.int32),
        frame=np.array(
            [((top + height + bottom) * pitch, pitch, top * pitch + left * padded)], FRAME
        ),
    )


def _has_small_numbers(geometry: Geometry) -> bool:
    """Return whether numbers of neurons may be divided by a multiplication and a shift."""
    neurons = prod(geometry.frame)
    is_divisible = neurons * geometry.frame[2] < 1 << _INVERSE_BITS and neurons < 1 << 23
    return is_divisible and max(geometry.kernel) <= 64


def _rows_by_phase(term: Term, weights: RowArray, y: _Axis, x: _Axis) -> RowArray:
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
