"""Compiled inner loops of convolutions that skip zero inputs.

A value that is not zero adds, for each row of the kernel, one run of products to one run of the
output: along a row of pixels the outputs that it reaches are neighbours, and with their channels
last they are contiguous. Weights are kept so that those products are contiguous too: input
channel, kernel row, kernel column, output channel, where the columns are sorted by remainder
modulo the stride, and fall within one remainder (`neurodeploy.nn.sparse` sorts them).

Images are (N, H, W, C) float32, C-contiguous. Results depend on neither threads nor load.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from neurodeploy.nn.kernels import Float32Array

Int64Array = npt.NDArray[np.int64]

FLUSH = 8
"""Images whose share of a weight's gradient is summed in float32 before it joins the total."""


@njit(cache=True, nogil=True)
def count_span(values: Float32Array, start: int, stop: int) -> int:
    """Count the values that are not zero in a stretch of a vector.

    Args:
        values: (m,) float32.
        start: First of the stretch.
        stop: After its last.
    """
    total = 0
    for begin in range(start, stop, 4096):
        count = np.int32(0)  # narrow, so that a vector holds many
        for i in range(begin, min(begin + 4096, stop)):
            count = np.int32(count + np.int32(values[i] != 0))
        total += int(count)
    return total


@njit(cache=True, nogil=True)
def gather_nonzero(pixel: Float32Array, channels: Int64Array, first: int) -> int:
    """Write down which channels of a pixel are not zero; give how many.

    Args:
        pixel: (C,) float32, a stretch of channels.
        channels: (C,) int64, the result; only as many as are given back are meant.
        first: Number of the first channel.
    """
    count = 0
    for channel in range(pixel.size):
        channels[count] = first + channel
        count += pixel[channel] != 0
    return count


@njit(cache=True, nogil=True)
def convolve_span(
    images: Float32Array,
    weight: Float32Array,
    starts: Int64Array,
    start: int,
    stop: int,
    stride: tuple[int, int],
    padding: tuple[int, int],
    kernel: tuple[int, int],
    result: Float32Array,
) -> None:
    """Convolve some images of a batch.

    Args:
        images: (N, H, W, C) float32.
        weight: (C * kH * kW * O,) float32, sorted.
        starts: (stride + 1,) int64, where the columns of each remainder start.
        start: First image.
        stop: Image after the last.
        stride: (height, width).
        padding: (height, width).
        kernel: (height, width).
        result: (N, H', W' * O) float32, zeros on entry.
    """
    _, height, width, channels = images.shape
    outputs = weight.size // (channels * kernel[0] * kernel[1])
    columns = result.shape[2] // outputs
    firing = np.empty(channels, np.int64)
    for image in range(start, stop):
        for y in range(height):
            top = y + padding[0]
            for x in range(width):
                pixel = images[image, y, x]
                count = gather_nonzero(pixel, firing, 0)
                if count == 0:
                    continue
                remainder = (x + padding[1]) % stride[1]
                taps = starts[remainder + 1] - starts[remainder]
                leftmost = (x + padding[1]) // stride[1] - taps + 1
                low, high = max(leftmost, 0), min(leftmost + taps, columns)
                size = (high - low) * outputs
                if size <= 0:
                    continue
                column = starts[remainder] + low - leftmost
                for ky in range(top % stride[0], kernel[0], stride[0]):
                    row = (top - ky) // stride[0]
                    if row < 0 or row >= result.shape[1]:
                        continue
                    target = result[image, row, low * outputs : low * outputs + size]
                    for index in range(count):
                        channel = firing[index]
                        value = pixel[channel]
                        at = ((channel * kernel[0] + ky) * kernel[1] + column) * outputs
                        source = weight[at : at + size]
                        for i in range(size):
                            target[i] += value * source[i]


@njit(cache=True, nogil=True)
def weight_gradient_span(
    images: Float32Array,
    gradients: Float32Array,
    starts: Int64Array,
    start: int,
    stop: int,
    stride: tuple[int, int],
    padding: tuple[int, int],
    kernel: tuple[int, int],
    outputs: int,
    result: npt.NDArray[np.float64],
) -> None:
    """Give the gradient of the weights of some input channels.

    Args:
        images: (N, H, W, C) float32.
        gradients: (N, H', W' * O) float32, of the convolution's result.
        starts: As in `convolve_span`.
        start: First input channel.
        stop: Channel after the last.
        stride: (height, width).
        padding: (height, width).
        kernel: (height, width).
        outputs: O.
        result: (C * kH * kW * O,) float64, zeros on entry; the weights of channels `start` to
            `stop` are written.
    """
    height, width = images.shape[1], images.shape[2]
    columns = gradients.shape[2] // outputs
    share = kernel[0] * kernel[1] * outputs
    partial = np.zeros((stop - start) * share, np.float32)
    firing = np.empty(stop - start, np.int64)
    total = result[start * share : stop * share]
    for image in range(images.shape[0]):
        for y in range(height):
            top = y + padding[0]
            for x in range(width):
                pixel = images[image, y, x, start:stop]
                count = gather_nonzero(pixel, firing, 0)
                if count == 0:
                    continue
                remainder = (x + padding[1]) % stride[1]
                taps = starts[remainder + 1] - starts[remainder]
                leftmost = (x + padding[1]) // stride[1] - taps + 1
                low, high = max(leftmost, 0), min(leftmost + taps, columns)
                size = (high - low) * outputs
                if size <= 0:
                    continue
                column = starts[remainder] + low - leftmost
                for ky in range(top % stride[0], kernel[0], stride[0]):
                    row = (top - ky) // stride[0]
                    if row < 0 or row >= gradients.shape[1]:
                        continue
                    source = gradients[image, row, low * outputs : low * outputs + size]
                    for index in range(count):
                        channel = firing[index]
                        value = pixel[channel]
                        at = ((channel * kernel[0] + ky) * kernel[1] + column) * outputs
                        target = partial[at : at + size]
                        for i in range(size):
                            target[i] += value * source[i]
        if image % FLUSH == FLUSH - 1 or image == images.shape[0] - 1:
            for i in range(partial.size):
                total[i] += partial[i]
                partial[i] = 0
