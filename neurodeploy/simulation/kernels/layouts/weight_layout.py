"""Weights as the kernels read them: rows of outputs, a block for each source and delay.

`pack_rows` lays them out for `lif` and `sigma_delta`, which add rows up for each output pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import cast

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import STATE_EXPONENT, Int64Array, scale_down
from neurodeploy.ir.integer_layers import FixedComplexDense, FixedConv, FixedDense, Shape
from neurodeploy.simulation.kernels.structures import RowArray, WordArray

CHANNEL_TILE = 16
"""Channels are padded to a multiple of this: the narrowest vector of the kernels."""
ROW_BYTES_MAX = 1 << 30
"""Largest block of weights; groups are stored with the zeros between them."""
SUM_BOUND = 1 << 23
"""Sums must stay below this, in units of the weights."""
NARROW_BOUND = 1 << 15
"""Sums of 16 bits must stay below this."""
_AT_ONCE_LEAST = 32
"""Rows that must at least fit into a sum of 16 bits for it to be worth its widening."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a source is read: (height, width, channels) of it, and (height, width) of all else.

    A dense synapse is a kernel as large as its source.
    """

    frame: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Synapses with the same source and delay.

    Attributes:
        source: Name of the sender.
        lag: Steps of delay, without the step of each layer in Lava's time.
        has_values: Whether the value of an event counts.
        first_row: Number of its first row of weights.
        geometry: How the source is read.
    """

    source: str
    lag: int
    has_values: bool
    first_row: int
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Weights of one term.

    Attributes:
        geometry: How the source is read.
        weights: (kernel y · kernel x · channels, outputs) int64, of all delays.
        delays: Of each of them; None if all have the same.
        delay: Of this term.
        shift: How far Lava's sums are shifted down; the weights are already.
    """

    geometry: Geometry
    weights: Int64Array
    delays: Int64Array | None = None
    delay: int = 0
    shift: int = 0

    def select(self) -> Int64Array:
        """Return the weights, those of other delays as zeros; made anew to keep memory low."""
        if self.delays is None:
            return self.weights
        return np.where(self.delays == self.delay, self.weights, 0)


def frame_of(shape: Shape) -> tuple[int, int, int]:
    """Return (channels, height, width) of a layer; a flat one is a single pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (prod(shape), 1, 1)


def blocks_of(synapse: object, source: Shape, target: Shape) -> list[Block]:
    """Return the weights of a synapse, a block for each delay; none if it cannot be compiled.

    Of a complex one, the outputs are all real parts, filled up with zeros to a multiple of
    `CHANNEL_TILE`, then all imaginary ones.
    """
    channels, height, width = frame_of(source)
    if isinstance(synapse, FixedComplexDense):
        parts = [blocks_of(part, source, target) for part in (synapse.real, synapse.imaginary)]
        if not all(parts):
            return []
        (real,), (imaginary,) = parts
        filled = np.pad(real.weights, ((0, 0), (0, -real.weights.shape[1] % CHANNEL_TILE)))
        both = np.concatenate([filled, imaginary.weights], axis=1)
        return [replace(real, weights=both, shift=max(real.shift, imaginary.shift))]
    if isinstance(synapse, FixedConv):
        weight = _ungrouped(synapse)
        if weight is None:
            return []
        geometry = Geometry(
            frame=(height, width, channels),
            kernel=(weight.shape[2], weight.shape[3]),
            stride=synapse.stride,
            padding=synapse.padding,
            dilation=synapse.dilation,
        )
        rows = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
        return [Block(geometry=geometry, weights=rows)]
    if not isinstance(synapse, FixedDense) or len(target) != 1:
        return []
    mantissa, shift = synapse.effective.mantissa.astype(np.int64), synapse.effective.shift
    if (mantissa & ((1 << shift) - 1)).any():
        return []  # the shift drops bits of each sum, which cannot be done row by row
    outputs, pixels = len(mantissa), height * width

    def by_pixel(matrix: npt.NDArray[np.integer]) -> Int64Array:
        """Order a source that dense synapses read channel by channel as the kernels read it."""
        matrix = matrix.astype(np.int64).reshape(outputs, channels, pixels)
        return matrix.transpose(2, 1, 0).reshape(-1, outputs)

    geometry = Geometry(frame=(1, pixels, channels), kernel=(1, pixels))
    whole = Block(geometry=geometry, weights=by_pixel(scale_down(mantissa, shift)), shift=shift)
    if synapse.delay is None:
        return [whole]
    delays = by_pixel(synapse.delay)
    return [replace(whole, delays=delays, delay=int(delay)) for delay in np.unique(delays)]


def _ungrouped(synapse: FixedConv) -> Int64Array | None:
    """Return (outputs, channels, kernel y, kernel x), zeros between groups; None if too large."""
    weight, groups = synapse.weight.astype(np.int64), synapse.groups
    if groups == 1:
        return weight
    if weight.size * groups > ROW_BYTES_MAX // 4:
        return None
    outputs, inputs, *kernel = weight.shape
    blocks, each = weight.reshape(groups, -1, inputs, *kernel), np.arange(groups)
    whole = np.zeros((groups, outputs // groups, groups, inputs, *kernel), np.int64)
    whole[each, :, each] = blocks
    return whole.reshape(outputs, groups * inputs, *kernel)


def zeros_on_line(size: int) -> npt.NDArray[np.uint8]:
    """Return (size,) zeros that begin a cache line, as NumPy's own memory need not.

    Else most vectors would lie across two lines: layers of few channels take a quarter longer.
    """
    line = 64
    room = np.zeros(size + line, np.uint8)
    first = -room.ctypes.data % line
    return room[first : first + size]


def pack_rows(
    blocks: Sequence[Block], largest_values: Sequence[int], *, is_wide: bool
) -> tuple[RowArray, int, int] | None:
    """Choose the narrowest type that holds the weights, and many of them in a sum of 16 bits.

    `largest_values` are the largest sizes of an event's value, for each block. Rows of events with
    values, and of sigma-delta neurons, must be `is_wide`, of 32 bits.

    Returns:
        (rows, padded outputs), how many common low zero bits were taken out, and a bound of their
        sums; None if no type is wide enough.
    """
    outputs, count = blocks[0].weights.shape[1], sum(len(block.weights) for block in blocks)
    bound, largest, bits = np.zeros(outputs, np.int64), 0, 0
    for block, largest_value in zip(blocks, largest_values, strict=True):
        sizes = np.abs(block.select())
        bound += sizes.sum(axis=0) * largest_value
        largest = max(largest, int(sizes.max()))
        bits |= int(np.bitwise_or.reduce(sizes, axis=None))
    if int(bound.max()) >= SUM_BOUND:
        return None
    common = 0
    while common < STATE_EXPONENT and bits and not bits & (1 << common):
        common += 1
    total, size = int(bound.max()) >> common, largest >> common
    is_narrow = total < NARROW_BOUND or size * _AT_ONCE_LEAST < NARROW_BOUND
    kind: type[np.int8] | type[np.int16] | type[np.int32] = np.int32
    if is_narrow and not is_wide and size <= np.iinfo(np.int16).max:
        kind = np.int8 if size <= np.iinfo(np.int8).max else np.int16
    padded = -(-outputs // CHANNEL_TILE) * CHANNEL_TILE
    bytes_needed = count * padded * np.dtype(kind).itemsize
    if bytes_needed > ROW_BYTES_MAX:
        return None
    rows: RowArray = cast("RowArray", zeros_on_line(bytes_needed).view(kind))
    rows, first = rows.reshape(count, padded), 0
    for block in blocks:
        stop = first + len(block.weights)
        rows[first:stop, :outputs] = scale_down(block.select(), common)
        first = stop
    return rows, common, total


def pack_reach(rows: RowArray) -> WordArray:
    """Return which weights are not zero, (rows · words,) uint64, 64 outputs a word."""
    words = -(-rows.shape[1] // 64)
    flags = np.zeros((len(rows), words * 64), bool)
    flags[:, : rows.shape[1]] = rows != 0
    packed = np.packbits(flags, axis=1, bitorder="little")
    return packed.view(np.dtype("<u8")).astype(np.uint64).reshape(-1)
