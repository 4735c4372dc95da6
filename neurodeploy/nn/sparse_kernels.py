"""Compiled inner loops of convolutions that skip zero inputs.

An *event* is an input that is not zero; each image has a list of them. A pixel of the result is
the sum of one row of weights for each event within its window, the gradient of one tap of the
weights of an input channel the sum of one row of upstream gradients for each of the channel's
events. With output channels last these rows are contiguous, and `neurodeploy.nn.row_sums` adds
them up.

Images are (N, H, W, C) float32, C-contiguous; a *place* in one is (y · W + x) · C + channel.
Results depend on neither threads nor load.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from neurodeploy.nn.row_products import (
    BITS,
    bit_count,
    lowest_bit,
    multiply_rows,
    nonzero_bits,
)
from neurodeploy.nn.row_sums import Float32Array, Int64Array, add_rows

Int32Array = npt.NDArray[np.int32]

FLUSH = 8
"""Images whose share of a weight's gradient is summed in float32 before it joins the total."""


@njit(cache=True, nogil=True)
def count_images_span(
    values: np.ndarray[Any, Any], size: int, start: int, stop: int, counts: Int64Array
) -> None:
    """Count the values of some images that are not zero.

    Args:
        values: (N * size,) float32 or uint8, the images.
        size: H · W · C.
        start: First image.
        stop: Image after the last.
        counts: (N,) int64, the result.
    """
    whole = size // BITS * BITS
    for image in range(start, stop):
        total = 0
        for place in range(image * size, image * size + whole, BITS):
            total += bit_count(nonzero_bits(values, place))
        for place in range(image * size + whole, (image + 1) * size):
            total += values[place] != 0
        counts[image] = total


@njit(inline="always")
def list_nonzero(
    values: np.ndarray[Any, Any], begin: int, size: int, found: Int32Array, at: int
) -> int:
    """List which of values[begin : begin + size] are not zero, rising, in found[at:].

    Returns:
        How many there are.
    """
    count = at
    whole = size // BITS * BITS
    for place in range(0, whole, BITS):
        bits = nonzero_bits(values, begin + place)
        while bits:
            found[count] = place + lowest_bit(bits)
            count += 1
            bits &= bits - np.uint64(1)
    for place in range(whole, size):
        if values[begin + place] != 0:
            found[count] = place
            count += 1
    return count - at


@njit(cache=True, nogil=True)
def list_events_span(
    values: Float32Array,
    size: int,
    start: int,
    stop: int,
    offsets: Int64Array,
    events: Int32Array,
) -> None:
    """List the events of some images, places rising.

    Args:
        values: (N * size,) float32, the images.
        size: H · W · C.
        start: First image.
        stop: Image after the last.
        offsets: (N + 1,) int64, where each image's list starts.
        events: (m,) int32, the result: places.
    """
    for image in range(start, stop):
        list_nonzero(values, image * size, size, events, offsets[image])


@njit(cache=True, nogil=True)
def convolve_span(
    values: Float32Array,
    sizes: tuple[int, int, int],
    offsets: Int64Array,
    events: Int32Array,
    weight: Float32Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    start: int,
    stop: int,
    result: Float32Array,
) -> None:
    """Convolve some images of a batch.

    Args:
        values: (N * H * W * C,) float32, the images.
        sizes: (H, W, C).
        offsets: As in `list_events_span`.
        events: As in `list_events_span`.
        weight: (C * kH * kW * O,) float32, from (C, kH, kW, O).
        kernel: (kH, kW).
        stride: (height, width).
        padding: (height, width).
        start: First image.
        stop: Image after the last.
        result: (N, H', W', O) float32, zeros on entry.
    """
    height, width, channels = sizes
    outputs = result.shape[3]
    share = kernel[0] * kernel[1] * outputs
    ends = np.zeros(height * width + 1, np.int64)  # of each pixel's events; the first is 0
    most = 1
    for image in range(start, stop):
        most = max(most, offsets[image + 1] - offsets[image])
    rows, factors = np.empty(most, np.int64), np.empty(most, np.float32)
    window, weights = np.empty(most, np.int64), np.empty(most, np.float32)
    for image in range(start, stop):
        own = events[offsets[image] : offsets[image + 1]]
        pixels = values[image * height * width * channels :]
        pixel = 0
        for index in range(own.size):
            place = own[index]
            while place >= (pixel + 1) * channels:
                pixel += 1
                ends[pixel] = index
            # Of the weights for kernel column x; a window's left edge is subtracted later.
            rows[index] = (place - pixel * channels) * share + pixel % width * outputs
            factors[index] = pixels[place]
        ends[pixel + 1 :] = own.size
        for y in range(result.shape[1]):
            for x in range(result.shape[2]):
                left = x * stride[1] - padding[1]
                low, high = max(left, 0), min(left + kernel[1], width)
                count = 0
                for ky in range(kernel[0]):
                    line = y * stride[0] + ky - padding[0]
                    if line < 0 or line >= height or low >= high:
                        continue
                    tap = (ky * kernel[1] - left) * outputs
                    first, last = ends[line * width + low], ends[line * width + high]
                    for index in range(last - first):
                        window[count + index] = rows[first + index] + tap
                        weights[count + index] = factors[first + index]
                    count += last - first
                if count:
                    add_rows(weight, window, weights, count, result[image, y, x])


@njit(cache=True, nogil=True)
def sort_events_span(
    values: Float32Array,
    sizes: tuple[int, int, int],
    offsets: Int64Array,
    events: Int32Array,
    start: int,
    stop: int,
    ends: Int64Array,
    pixels: Int32Array,
    factors: Float32Array,
) -> None:
    """Bring the events of some images in the order of their channels.

    Args:
        values: (N * H * W * C,) float32, the images.
        sizes: (H, W, C).
        offsets: As in `list_events_span`.
        events: As in `list_events_span`.
        start: First image.
        stop: Image after the last.
        ends: (N, C + 1) int64, the result: where in the sorted list each channel's events end,
            behind a first entry where those of the image start.
        pixels: (m,) int32, the result: y · W + x, rising within a channel.
        factors: (m,) float32, the result: the values.
    """
    height, width, channels = sizes
    for image in range(start, stop):
        own = events[offsets[image] : offsets[image + 1]]
        image_values = values[image * height * width * channels :]
        following = ends[image]
        following[:] = 0
        for place in own:
            following[place % channels + 1] += 1
        following[0] = offsets[image]
        for channel in range(channels):
            following[channel + 1] += following[channel]
        # Now each entry is where its channel starts; filling moves it to where that one ends.
        for place in own:
            pixel = place // channels
            channel = place - pixel * channels
            at = following[channel]
            pixels[at] = pixel
            factors[at] = image_values[place]
            following[channel] = at + 1
        for channel in range(channels, 0, -1):
            following[channel] = following[channel - 1]
        following[0] = offsets[image]


@njit(cache=True, nogil=True)
def weight_gradient_span(
    sizes: tuple[int, int, int],
    ends: Int64Array,
    pixels: Int32Array,
    factors: Float32Array,
    gradients: Float32Array,
    lines: Int64Array,
    columns: Int64Array,
    start: int,
    stop: int,
    result: npt.NDArray[np.float64],
) -> None:
    """Give the gradient of the weights of some input channels.

    Args:
        sizes: (H, W, C).
        ends: As in `sort_events_span`.
        pixels: As in `sort_events_span`.
        factors: As in `sort_events_span`.
        gradients: (N, H' * W' * O) float32, of the convolution's result.
        lines: (H, kH) int64: where in an image of `gradients` the line starts that a line of the
            input reaches through a line of the kernel; -1 for none.
        columns: (W, kW) int64: the same of columns.
        start: First input channel.
        stop: Channel after the last.
        result: (C, kH, kW, O) float64, zeros on entry; channels `start` to `stop` are written.
    """
    height, width, _ = sizes
    _, taps_high, taps_wide, outputs = result.shape
    partial = np.zeros((stop - start, taps_high, taps_wide, outputs), np.float32)
    flat, total = partial.reshape(-1), result[start:stop].reshape(-1)
    ys, xs = np.empty(height * width, np.int64), np.empty(height * width, np.int64)
    within, places = np.empty(height * width, np.int64), np.empty(height * width, np.int64)
    rows, weights = np.empty(height * width, np.int64), np.empty(height * width, np.float32)
    values = np.empty(height * width, np.float32)
    for image in range(ends.shape[0]):
        source = gradients[image]
        for channel in range(start, stop):
            first, last = ends[image, channel], ends[image, channel + 1]
            if first == last:
                continue
            for event in range(first, last):
                ys[event - first] = pixels[event] // width
                xs[event - first] = pixels[event] % width
            for ky in range(taps_high):
                known = 0
                for event in range(last - first):
                    within[known], places[known] = lines[ys[event], ky], xs[event]
                    values[known] = factors[first + event]
                    known += within[known] >= 0
                for kx in range(taps_wide):
                    count = 0
                    for event in range(known):
                        column = columns[places[event], kx]
                        rows[count] = within[event] + column
                        weights[count] = values[event]
                        count += column >= 0
                    add_rows(source, rows, weights, count, partial[channel - start, ky, kx])
        if image % FLUSH == FLUSH - 1 or image == ends.shape[0] - 1:
            for i in range(flat.size):
                total[i] += flat[i]
                flat[i] = 0


@njit(cache=True, nogil=True)
def input_gradient_span(
    needs: npt.NDArray[np.uint8],
    sizes: tuple[int, int, int],
    gradients: Float32Array,
    size: int,
    lines: Int64Array,
    columns: Int64Array,
    weight: Float32Array,
    outputs: int,
    start: int,
    stop: int,
    result: Float32Array,
) -> None:
    """Give the gradient of some images where it is needed.

    Args:
        needs: (N * H * W * C,) uint8, not zero where it is needed.
        sizes: (H, W, C).
        gradients: (N * size,) float32, of the convolution's result.
        size: H' · W' · O.
        lines: As in `weight_gradient_span`.
        columns: As in `weight_gradient_span`.
        weight: As in `convolve_span`.
        outputs: O.
        start: First image.
        stop: Image after the last.
        result: (N * H * W * C,) float32, the gradient, zero where it is not needed.
    """
    height, width, channels = sizes
    taps_high, taps_wide = lines.shape[1], columns.shape[1]
    share = taps_high * taps_wide * outputs
    places = np.empty(height * width * channels, np.int32)
    bases = np.empty(channels, np.int64)
    rows, taps = (
        np.empty(taps_high * taps_wide, np.int64),
        np.empty(taps_high * taps_wide, np.int64),
    )
    for image in range(start, stop):
        origin = image * places.size
        for place in range(origin, origin + places.size):
            result[place] = 0
        count = list_nonzero(needs, origin, places.size, places, 0)
        event = 0
        while event < count:
            pixel = places[event] // channels
            begin = pixel * channels
            first = event
            while event < count and places[event] < begin + channels:
                bases[event - first] = (places[event] - begin) * share
                event += 1
            y = pixel // width
            x = pixel - y * width
            window = 0
            for ky in range(taps_high):
                line = image * size + lines[y, ky]
                if lines[y, ky] < 0:
                    continue
                for kx in range(taps_wide):
                    if columns[x, kx] >= 0:
                        rows[window] = line + columns[x, kx]
                        taps[window] = (ky * taps_wide + kx) * outputs
                        window += 1
            multiply_rows(
                gradients,
                rows,
                weight,
                taps,
                window,
                outputs,
                bases,
                places,
                first,
                event - first,
                origin,
                result,
            )
