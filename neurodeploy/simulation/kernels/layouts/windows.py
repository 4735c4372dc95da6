"""Weights of windows, in which sums stay in registers while spikes add to them.

Spikes of a block of neighbouring pixels of a line are one word. A window, of some lines, is as wide
as all columns that they reach. It passes over a line of the source, block by block, and what leaves
it is added to the sums in memory.

With a stride, the taps that reach an output differ between the pixels of a source, by
(position + padding) mod stride: its *phase*.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from math import gcd, prod
from typing import Final

import numpy as np
import numpy.typing as npt
from llvmlite import binding

from neurodeploy.fixedpoint import Int64Array
from neurodeploy.simulation.kernels.layouts.weight_layout import (
    CHANNEL_TILE,
    NARROW_BOUND,
    Geometry,
    Term,
)
from neurodeploy.simulation.kernels.structures import RowArray

WINDOW_SUMS: Final = 32
"""Sums in a vector of a window."""
WINDOW_SHAPES: Final = {
    (1, 1, 1), (1, 2, 1), (2, 2, 1), (3, 2, 1), (3, 3, 1), (1, 2, 2), (1, 4, 2), (2, 4, 2),
    (3, 6, 2),
}  # fmt: skip
"""Lines of windows that the kernel knows, vectors of each, and by how many they advance: those of
3x3 and 1x1 kernels with stride 1 and 2, for 16 to 64 channels."""
_BLOCK_BITS_LEAST: Final = 32
"""Bits of a block, in which there should be several spikes: each has one wrong guess at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a term.

    Attributes:
        taps: Of each phase, in the order in which the frame is passed; -1 for none.
        step: Pixels of the frame from one tap to the next.
        first: The output pixel of the first tap, for each position of the source.
        phase: Likewise.
    """

    taps: list[list[int]]
    step: int
    first: Int64Array
    phase: Int64Array

    @property
    def reached(self) -> Int64Array:
        """The number of output pixels that each position of the source reaches."""
        return np.array([sum(tap >= 0 for tap in taps) for taps in self.taps])[self.phase]

    def margins(self, outputs: int) -> tuple[int, int]:
        """Return how far the frame must reach beyond `outputs` pixels, before and after."""
        last = int(self.first.max()) + (len(self.taps[0]) - 1) * self.step
        return max(0, -int(self.first.min())), max(0, last - outputs + 1)


def axis_of(geometry: Geometry, axis: int) -> Axis:
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
    return Axis(
        taps=[taps[::-1] + [-1] * (most - len(taps)) for taps in found],
        step=step,
        first=first,
        phase=phase,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowLayout:
    """How a term is read in windows.

    Spikes of a block of neighbouring pixels of a line are one word. What they add to stays in
    registers: a window, as wide as all columns that they reach, which from block to block advances.

    Attributes:
        block_tiles: Times 16 bits of a block.
        last_bits: Bits of the last block of a line.
        first: Column of the frame at which the first window begins, from the layer's first.
        blocks: Of a line.
        columns: Of a window.
        advance: Columns from one window to the next.
        vectors: Of a line of a window.
        rows: int16; for each phase of a line (bits of a block, lines, columns, padded channels).
        starts: (phases,) int64, where in `rows` each begins.
    """

    block_tiles: int
    last_bits: int
    first: int
    blocks: int
    columns: int
    advance: int
    vectors: tuple[int, int]
    rows: npt.NDArray[np.int16]
    starts: Int64Array

    def margins(self, outputs: int) -> tuple[int, int]:
        """Return how far windows reach beyond `outputs` pixels, before and after."""
        last = self.first + (self.blocks - 1) * self.advance + self.columns
        return max(0, -self.first), max(0, last - outputs)

    def describe(self, spread: np.void) -> None:
        """Fill in a term's SPREAD, as far as it is known."""
        spread["windows"] = 1
        spread["blocks"], spread["block_tiles"] = self.blocks, self.block_tiles
        spread["last_bits"] = self.last_bits
        spread["vectors"], spread["advance"] = self.vectors


def lay_out_windows(term: Term, weights: RowArray, y: Axis, x: Axis) -> WindowLayout | None:
    """Lay out a term for windows; None if none are made for it, or their sums may pass 16 bits."""
    _, width, channels = term.geometry.frame
    stride, lanes = term.geometry.stride[1], -(-channels // CHANNEL_TILE) * CHANNEL_TILE
    padded, pixels = weights.shape[1], stride
    while pixels // stride * padded % WINDOW_SUMS or pixels * lanes < _BLOCK_BITS_LEAST:
        pixels += stride
    here = np.flatnonzero(x.reached[:pixels])
    if term.geometry.dilation != (1, 1) or width == 1 or pixels * lanes > 64 or not here.size:
        return None
    first = int(x.first[here].min())
    columns = int((x.first + x.reached)[here].max()) - first
    while columns * padded % WINDOW_SUMS:
        columns += 1
    advance = pixels // stride
    vectors = columns * padded // WINDOW_SUMS, advance * padded // WINDOW_SUMS
    shapes = {(int(lines), *vectors) for lines in y.reached if lines}
    if (
        not shapes
        or not shapes <= WINDOW_SHAPES
        or max(shapes)[0] * vectors[0] > window_vectors_most()
    ):
        return None
    kernel = weights[term.first_row :][: prod(term.geometry.kernel) * channels]
    kernel = kernel.reshape(*term.geometry.kernel, channels, padded)
    if np.abs(kernel.astype(np.int64)).sum(axis=(1, 2)).max() >= NARROW_BOUND:
        return None
    pieces: list[npt.NDArray[np.int16]] = []
    starts: list[int] = []
    for taps in y.taps:
        lines = [tap for tap in taps if tap >= 0]
        rows = np.zeros((pixels, lanes, len(lines), columns, padded), np.int16)
        for pixel in here:
            for number, tap in enumerate(x.taps[x.phase[pixel]][: x.reached[pixel]]):
                column = int(x.first[pixel]) - first + number
                rows[pixel, :channels, :, column] = kernel[lines, tap].transpose(1, 0, 2)
        starts.append(sum(piece.size for piece in pieces))
        pieces.append(rows.reshape(-1))
    blocks = -(-width // pixels)
    return WindowLayout(
        block_tiles=pixels * lanes // CHANNEL_TILE,
        last_bits=(width - (blocks - 1) * pixels) * lanes,
        first=first,
        blocks=blocks,
        columns=columns,
        advance=advance,
        vectors=vectors,
        rows=np.concatenate(pieces),
        starts=np.array(starts),
    )


@cache
def window_vectors_most() -> int:
    """Return how many vectors of a window the registers hold, others beside.

    They are those of the processor that code is made for, as in `loops.linking`.
    """
    features = os.environ.get("NUMBA_CPU_FEATURES", binding.get_host_cpu_features().flatten())
    return 18 if "+avx512f" in features.split(",") else 6
