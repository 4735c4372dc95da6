"""Compiled inner loops of convolutions that skip zero inputs.

An *event* is an input that is not zero; each image has a list of them. A pixel of the result is
the sum of one row of weights for each event within its window, the gradient of one tap of the
weights of an input channel the sum of one row of upstream gradients for each of the channel's
events. With output channels last these rows are contiguous, and `row_vectors` adds
them up.

Images are (N, H, W, C) float32, C-contiguous; a *place* in one is (y · W + x) · C + channel.
Results depend on neither threads nor load.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from neurodeploy.llvm_vectors import (
    WORD,
    count_set,
    first_set,
    nonzero_bits,
)
from neurodeploy.nn.functional.row_vectors import (
    Float32Array,
    Int64Array,
    add_rows,
)

Int32Array = npt.NDArray[np.int32]

FLUSH = 8
"""Images whose share of a weight's gradient is summed in float32 before it joins the total."""


@njit(cache=True, nogil=True)
def count_images_span(
    values: Float32Array, size: int, start: int, stop: int, counts: Int64Array
) -> None:
    """Count the values of some images that are not zero.

    Args:
        values: (N * size,) float32, the images.
        size: H · W · C.
        start: First image.
        stop: Image after the last.
        counts: (N,) int64, the result.
    """
    whole = size // WORD * WORD
    for image in range(start, stop):
        total = 0
        for place in range(image * size, image * size + whole, WORD):
            total += count_set(nonzero_bits(values, place))
        for place in range(image * size + whole, (image + 1) * size):
            total += values[place] != 0
        counts[image] = total


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
    whole = size // WORD * WORD
    for image in range(start, stop):
        begin, at = image * size, offsets[image]
        for place in range(0, whole, WORD):
            bits = nonzero_bits(values, begin + place)
            while bits:
                events[at] = place + first_set(bits)
                at += 1
                bits &= bits - np.uint64(1)
        for place in range(whole, size):
            if values[begin + place] != 0:
                events[at] = place
                at += 1


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
    shape: tuple[int, int, int],
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
        shape: (H', W', O).
        result: (N * H' * W' * O,) float32.
    """
    height, width, channels = sizes
    outputs = shape[2]
    share = kernel[0] * kernel[1] * outputs
    ends = np.zeros(height * width + 1, np.int64)  # of each pixel's events; the first is 0
    most = 1
    for image in range(start, stop):
        most = max(most, offsets[image + 1] - offsets[image])
    rows, factors = np.empty(most, np.int64), np.empty(most, np.float32)
    ranges = np.empty((kernel[0], 3), np.int64)
    size = shape[0] * shape[1] * outputs
    for image in range(start, stop):
        first, count = offsets[image], offsets[image + 1] - offsets[image]
        origin = image * height * width * channels
        pixel = begin = column = 0
        for index in range(count):
            place = events[first + index]
            while place >= begin + channels:
                begin += channels
                pixel += 1
                ends[pixel] = index
                column = column + 1 if column < width - 1 else 0
            # Of the weights for kernel column x; a window's left edge is subtracted later.
            rows[index] = (place - begin) * share + column * outputs
            factors[index] = values[origin + place]
        ends[pixel + 1 :] = count
        target = image * size
        result[target : target + size] = 0
        for y in range(shape[0]):
            for x in range(shape[1]):
                left = x * stride[1] - padding[1]
                low, high = max(left, 0), min(left + kernel[1], width)
                count = 0
                for ky in range(kernel[0]):
                    line = y * stride[0] + ky - padding[0]
                    if line < 0 or line >= height or low >= high:
                        continue
                    ranges[count, 0] = ends[line * width + low]
                    ranges[count, 1] = ends[line * width + high]
                    ranges[count, 2] = (ky * kernel[1] - left) * outputs
                    count += ranges[count, 0] < ranges[count, 1]
                if count:
                    add_rows(weight, rows, factors, ranges, count, result, target, outputs)
                target += outputs


@njit(cache=True, nogil=True)
def weight_gradient_span(
    values: Float32Array,
    sizes: tuple[int, int, int],
    offsets: Int64Array,
    events: Int32Array,
    gradients: Float32Array,
    shape: tuple[int, int, int],
    frame: tuple[int, int],
    corner: int,
    pixels: Int64Array,
    taps: Int64Array,
    images: tuple[int, int],
    channels: tuple[int, int],
    result: npt.NDArray[np.float64],
) -> None:
    """Return the gradient of the weights of some input channels, from some images.

    Images of `gradients` are copied into a frame of zeros, so that no event has a border to mind.
    Events are sorted by channel and, within one, by their residues modulo the stride: those with
    the same residues reach outputs through the same taps, each at its own distance.

    Args:
        values: (N * H * W * C,) float32, the images.
        sizes: (H, W, C).
        offsets: As in `list_events_span`.
        events: As in `list_events_span`.
        gradients: (N * H' * W' * O,) float32, of the convolution's result.
        shape: (H', W', O).
        frame: (height, width).
        corner: Where in the frame an image begins, in pixels.
        pixels: (H * W, 2) int64: residues of a pixel, as a number, and where in the frame the
            output is that it reaches through the first tap with these residues.
        taps: (kH * kW, 3) int64: residues of a tap, rising; by how many pixels the output that it
            leads to lies before that of the first; the tap.
        images: The first, and that after the last.
        channels: The first, and that after the last.
        result: (channels * kH * kW * O,) float64, zeros on entry.
    """
    pitch, outputs = sizes[2], shape[2]
    start, stop = channels
    residues = max(taps[-1, 0], pixels[:, 0].max()) + 1
    padded = np.zeros(frame[0] * frame[1] * outputs, np.float32)
    line, step = shape[1] * outputs, frame[1] * outputs
    most = 1
    for image in range(images[0], images[1]):
        most = max(most, offsets[image + 1] - offsets[image])
    keys, unsorted = np.empty(most, np.int64), np.empty(most, np.int64)
    rows, factors = np.empty(most, np.int64), np.empty(most, np.float32)
    weights = np.empty(most, np.float32)
    ends = np.empty((stop - start) * residues + 1, np.int64)
    ranges = np.empty((1, 3), np.int64)
    share = taps.shape[0] * outputs
    partial = np.zeros((stop - start) * share, np.float32)
    firsts = np.searchsorted(taps[:, 0], np.arange(residues + 1))
    for image in range(images[0], images[1]):
        source, target = image * shape[0] * line, corner * outputs
        for _ in range(shape[0]):
            padded[target : target + line] = gradients[source : source + line]
            source += line
            target += step
        ends[:] = 0
        origin = image * sizes[0] * sizes[1] * pitch
        pixel = begin = known = 0
        for index in range(offsets[image], offsets[image + 1]):
            place = events[index]
            while place >= begin + pitch:
                begin += pitch
                pixel += 1
            channel = place - begin
            if start <= channel < stop:
                key = (channel - start) * residues + pixels[pixel, 0]
                ends[key + 1] += 1
                keys[known], unsorted[known] = key, pixels[pixel, 1] * outputs
                factors[known] = values[origin + place]
                known += 1
        for key in range(ends.size - 1):
            ends[key + 1] += ends[key]
        # Now each entry is where its key starts; filling moves it to where that one ends.
        for index in range(known):
            at = ends[keys[index]]
            rows[at], weights[at] = unsorted[index], factors[index]
            ends[keys[index]] = at + 1
        first = key = 0
        for base in range(0, partial.size, share):
            for kind in range(residues):
                ranges[0, 0], ranges[0, 1] = first, ends[key]
                if first < ends[key]:
                    for tap in range(firsts[kind], firsts[kind + 1]):
                        ranges[0, 2] = -taps[tap, 1] * outputs
                        place = base + taps[tap, 2] * outputs
                        add_rows(padded, rows, weights, ranges, 1, partial, place, outputs)
                first = ends[key]
                key += 1
        if (image - images[0]) % FLUSH == FLUSH - 1 or image == images[1] - 1:
            for i in range(partial.size):
                result[i] += partial[i]
                partial[i] = 0
