"""Compiled loops of convolutions that skip inputs that are zero.

An *event* is an input that is not zero; each image has a list of them. A pixel of the result is
the sum of one row of weights for each event within its window, the gradient of one tap of the
weights of an input channel the sum of one row of upstream gradients for each of the channel's
events. With output channels last these rows are contiguous. A loop that adds many rows to one
writes the sum to memory after every row; `add_rows` keeps up to 64 columns of it in vector
registers until the last row has been added, which LLVM does not make of a loop by itself.

Images are (N, H, W, C) float32, C-contiguous; a *place* in one is (y · W + x) · C + channel. Each
function works on some images and lets go of the interpreter lock. Sums are made in an order that
depends on neither threads nor load.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from neurodeploy import llvm_vectors
from neurodeploy.compiled_code import compiled, intrinsic, source_key
from neurodeploy.llvm_vectors import WORD, Memory, Vector, fold, vector_function
from neurodeploy.nn.functional.parallel import Span
from neurodeploy.nn.functional.surrogate import Float32Array, Int32Array

Int64Array = npt.NDArray[np.int64]
Pair = tuple[int, int]
Shape = tuple[int, int, int]

FLUSH: Final = 8
"""Images whose share of a weight's gradient is summed in float32 before it joins the total."""

_kernel = compiled(source_key(Path(file) for file in (__file__, llvm_vectors.__file__)))

count_set = intrinsic(llvm_vectors.count_set)
first_set = intrinsic(llvm_vectors.first_set)
nonzero_bits = intrinsic(llvm_vectors.nonzero_bits)

_FIELDS: Final = ("first", "stop", "offset")
RANGE: Final = np.dtype([(name, np.int64) for name in _FIELDS])
"""Rows to add up: the numbers of the first and of that after the last, and what to add to where
each starts."""
WIDE: Final = 64
NARROW: Final = 16
"""Columns at once: four registers of AVX-512, and one."""


def _make_column_adder(columns: int) -> Callable[..., Any]:
    @intrinsic
    @vector_function()
    def add_columns(
        values: Memory, starts: Memory, factors: Memory, ranges: Memory, count: Vector,
        column: Vector, result: Memory, place: Vector,
    ) -> None:  # fmt: skip
        """Add to result[place + column + i] the sum of `add_rows`, for i below `columns`."""
        target = result.at(place + column)

        def add_range(number: Vector, total: Vector) -> Vector:
            first, stop, offset = (ranges.at(number).field(name).load() for name in _FIELDS)
            source = values.at(offset + column)

            def add_row(index: Vector, total: Vector) -> Vector:
                row = source.at(starts.at(index).load()).load(columns)
                return row.times_plus(factors.at(index).load(), total)

            return fold(first, stop, total, add_row)

        total = fold(count.full(0), count, values.zeros(columns), add_range)
        target.store(target.load(columns) + total)

    return add_columns


_add_wide = _make_column_adder(WIDE)
_add_narrow = _make_column_adder(NARROW)


@njit(inline="always")
def add_rows(
    values: Float32Array,
    starts: Int64Array,
    factors: Float32Array,
    ranges: npt.NDArray[np.void],
    count: int,
    result: Float32Array,
    place: int,
    width: int,
) -> None:
    """Add rows of `values` times factors to result[place : place + width].

    Added is the sum of factors[k] · values[starts[k] + offset :][:width] over first <= k < stop of
    each of the first `count` ranges, none empty. Each row must lie within `values`, which is not
    checked.
    """
    wide = width // WIDE * WIDE
    narrow = width // NARROW * NARROW
    for column in range(0, wide, WIDE):
        _add_wide(values, starts, factors, ranges, count, column, result, place)
    for column in range(wide, narrow, NARROW):
        _add_narrow(values, starts, factors, ranges, count, column, result, place)
    for column in range(narrow, width):
        total = np.float32(0)
        for number in range(count):
            rows = ranges[number]
            for row in range(rows.first, rows.stop):
                total += factors[row] * values[starts[row] + rows.offset + column]
        result[place + column] += total


class Events(NamedTuple):
    """The values of images that are not zero.

    Attributes:
        values: (N * H * W * C,) float32, the images.
        shape: (H, W, C).
        offsets: (N + 1,) int64, where each image's list starts.
        places: (m,) int32, rising within each image.
    """

    values: Float32Array
    shape: Shape
    offsets: Int64Array
    places: Int32Array


class Windows(NamedTuple):
    """How a kernel moves over images; `outputs` is (H', W', O), the shape of a result's image."""

    kernel: Pair
    stride: Pair
    padding: Pair
    outputs: Shape


class Frame(NamedTuple):
    """A frame of zeros around an image of upstream gradients, which spares events the border.

    Events whose coordinates leave the same *residues* when divided by the stride reach outputs
    through the same taps, each at its own distance.

    Attributes:
        outputs: (H', W', O), shape of an image of gradients.
        size: (height, width) of the frame.
        corner: Where in the frame an image begins, in pixels.
        pixels: (H * W, 2) int64: residues of a pixel, as a number, and where in the frame the
            output is that it reaches through the first tap with these residues.
        taps: (kH * kW, 3) int64: residues of a tap, rising; by how many pixels the output that it
            leads to lies before that of the first; the tap.
    """

    outputs: Shape
    size: Pair
    corner: int
    pixels: Int64Array
    taps: Int64Array


@_kernel
def count_span(values: Float32Array, size: int, images: Span, counts: Int64Array) -> None:
    """Count the events of some images of `size` = H · W · C values into (N,) counts."""
    whole = size // WORD * WORD
    for image in range(images[0], images[1]):
        total, begin = 0, image * size
        for place in range(begin, begin + whole, WORD):
            total += count_set(nonzero_bits(values, place))
        for place in range(begin + whole, begin + size):
            total += values[place] != 0
        counts[image] = total


@_kernel
def list_span(events: Events, images: Span) -> None:
    """List the events of some images, whose offsets are known."""
    values, shape, offsets, places = events
    size = shape[0] * shape[1] * shape[2]
    whole = size // WORD * WORD
    for image in range(images[0], images[1]):
        begin, at = image * size, offsets[image]
        for place in range(0, whole, WORD):
            bits = nonzero_bits(values, begin + place)
            while bits:
                places[at] = place + first_set(bits)
                at += 1
                bits &= bits - np.uint64(1)
        for place in range(whole, size):
            if values[begin + place] != 0:
                places[at] = place
                at += 1


@_kernel
def _most_events(events: Events, images: Span) -> int:
    most = 1
    for image in range(images[0], images[1]):
        most = max(most, events.offsets[image + 1] - events.offsets[image])
    return most


@_kernel
def convolve_span(
    events: Events, weight: Float32Array, windows: Windows, images: Span, result: Float32Array
) -> None:
    """Convolve some images.

    Args:
        events: Of all images.
        weight: (C * kH * kW * O,) float32, from (C, kH, kW, O).
        windows: How the kernel moves.
        images: Their span.
        result: (N * H' * W' * O,) float32.
    """
    kernel, stride, padding, (out_height, out_width, outputs) = windows
    height, width, _ = events.shape
    most = _most_events(events, images)
    rows, factors = np.empty(most, np.int64), np.empty(most, np.float32)
    bounds = np.zeros(height * width + 1, np.int64)
    ranges = np.empty(kernel[0], RANGE)
    size = out_height * out_width * outputs
    for image in range(images[0], images[1]):
        _find_rows(events, image, windows, rows, factors, bounds)
        target = image * size
        result[target : target + size] = 0
        for y in range(out_height):
            for x in range(out_width):
                left = x * stride[1] - padding[1]
                low, high = max(left, 0), min(left + kernel[1], width)
                count = 0
                for ky in range(kernel[0]):
                    line = y * stride[0] + ky - padding[0]
                    if line < 0 or line >= height or low >= high:
                        continue
                    # Neighbouring pixels' events stand side by side: one range for a kernel's row.
                    found = ranges[count]
                    found.first, found.stop = (
                        bounds[line * width + low],
                        bounds[line * width + high],
                    )
                    found.offset = (ky * kernel[1] - left) * outputs
                    count += found.first < found.stop
                if count:
                    add_rows(weight, rows, factors, ranges, count, result, target, outputs)
                target += outputs


@_kernel
def _find_rows(
    events: Events,
    image: int,
    windows: Windows,
    rows: Int64Array,
    factors: Float32Array,
    bounds: Int64Array,
) -> None:
    """Find the row of weights of each event of an image, and its value.

    Rows start where they do for a window whose left edge is at 0; `bounds`, (H * W + 1,), counts
    the events that come from pixels before each.
    """
    values, (height, width, channels), offsets, places = events
    outputs = windows.outputs[2]
    share = windows.kernel[0] * windows.kernel[1] * outputs
    first, origin = offsets[image], image * height * width * channels
    count = offsets[image + 1] - first
    pixel = begin = column = 0
    for index in range(count):
        place = places[first + index]
        while place >= begin + channels:
            begin += channels
            pixel += 1
            bounds[pixel] = index
            column = column + 1 if column < width - 1 else 0
        rows[index] = (place - begin) * share + column * outputs
        factors[index] = values[origin + place]
    bounds[pixel + 1 :] = count


@_kernel
def weight_gradient_span(
    events: Events,
    gradients: Float32Array,
    frame: Frame,
    images: Span,
    channels: Span,
    result: npt.NDArray[np.float64],
) -> None:
    """Compute the gradient of the weights of some input channels, from some images.

    `gradients` are (N * H' * W' * O,) float32, of the convolution's result; the result is
    (channels * kH * kW * O,) float64, zeros on entry.
    """
    taps, outputs = frame.taps, frame.outputs[2]
    residues = max(taps[-1, 0], frame.pixels[:, 0].max()) + 1
    first_taps = np.searchsorted(taps[:, 0], np.arange(residues + 1))
    padded = np.zeros(frame.size[0] * frame.size[1] * outputs, np.float32)
    most = _most_events(events, images)
    rows, factors = np.empty(most, np.int64), np.empty(most, np.float32)
    unsorted = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.float32)
    ends = np.empty((channels[1] - channels[0]) * residues + 1, np.int64)
    ranges = np.empty(1, RANGE)
    share = taps.shape[0] * outputs
    partial = np.zeros(result.size, np.float32)
    for start in range(images[0], images[1], FLUSH):
        for image in range(start, min(start + FLUSH, images[1])):
            _frame_image(gradients, image, frame, padded)
            _sort_events(events, image, frame, channels, unsorted, rows, factors, ends)
            first = key = 0
            for base in range(0, partial.size, share):
                for kind in range(residues):
                    ranges[0].first, ranges[0].stop = first, ends[key]
                    if first < ends[key]:
                        for tap in range(first_taps[kind], first_taps[kind + 1]):
                            ranges[0].offset = -taps[tap, 1] * outputs
                            place = base + taps[tap, 2] * outputs
                            add_rows(padded, rows, factors, ranges, 1, partial, place, outputs)
                    first = ends[key]
                    key += 1
        for i in range(partial.size):
            result[i] += partial[i]
            partial[i] = 0


@_kernel
def _frame_image(gradients: Float32Array, image: int, frame: Frame, padded: Float32Array) -> None:
    """Copy an image of gradients into its frame."""
    height, width, outputs = frame.outputs
    line, step = width * outputs, frame.size[1] * outputs
    source, target = image * height * line, frame.corner * outputs
    for _ in range(height):
        padded[target : target + line] = gradients[source : source + line]
        source += line
        target += step


@_kernel
def _sort_events(
    events: Events,
    image: int,
    frame: Frame,
    channels: Span,
    unsorted: tuple[Int64Array, Int64Array, Float32Array],
    rows: Int64Array,
    factors: Float32Array,
    ends: Int64Array,
) -> None:
    """Sort an image's events of some channels by channel and, within one, by residues.

    Found are the start of each event's row of gradients of the first tap, its value, and in `ends`,
    (channels * residues + 1,), where the events of each key end.
    """
    values, (height, width, pitch), offsets, places = events
    pixels, (keys, starts, unsorted_factors) = frame.pixels, unsorted
    residues = (ends.size - 1) // (channels[1] - channels[0])
    outputs, origin = frame.outputs[2], image * height * width * pitch
    ends[:] = 0
    pixel = begin = count = 0
    for index in range(offsets[image], offsets[image + 1]):
        place = places[index]
        while place >= begin + pitch:
            begin += pitch
            pixel += 1
        channel = place - begin
        if channels[0] <= channel < channels[1]:
            key = (channel - channels[0]) * residues + pixels[pixel, 0]
            ends[key + 1] += 1
            keys[count], starts[count] = key, pixels[pixel, 1] * outputs
            unsorted_factors[count] = values[origin + place]
            count += 1
    for key in range(ends.size - 1):
        ends[key + 1] += ends[key]
    # Now each entry is where its key starts; filling moves it to where that one ends.
    for index in range(count):
        at = ends[keys[index]]
        rows[at], factors[at] = starts[index], unsorted_factors[index]
        ends[keys[index]] = at + 1
