"""Number of kernel taps that read data and not padding, in closed form.

On one axis it is a number of lattice points below a line, which the steps of Euclid's algorithm
count without an array: a declared extent of 10^9 costs as little as one of 10.
"""

from __future__ import annotations


def count_taps(
    *, positions: int, taps: int, stride: int, dilation: int, padding: int, size: int
) -> int:
    """Count pairs of position o and tap t with 0 <= o · stride + t · dilation - padding < size.

    For a convolution o runs over outputs and `size` is the input's extent; for a transposed one
    o runs over inputs and `size` is the output's extent.

    Args:
        positions: Number of positions, o = 0, 1, ...
        taps: Kernel size, t = 0, 1, ...
        stride: At least 1.
        dilation: At least 1.
        padding: Before the frame; negative where the frame is cropped.
        size: Extent of the frame.
    """
    if positions < 1 or taps < 1 or size < 1:
        return 0

    def below(limit: int) -> int:
        """Count the pairs with o · stride + t · dilation < limit."""
        if limit <= 0:
            return 0
        some = min(taps, _divide_up(limit, dilation))  # taps that fit at position 0
        every = _divide_up(limit - (positions - 1) * stride, dilation)
        every = min(max(every, 0), some)  # taps that fit at every position
        last = limit - (some - 1) * dilation  # what the last of them leaves for o · stride
        return every * positions + _sum_of_floors(some - every, stride, dilation, last + stride - 1)

    return below(size + padding) - below(padding)


def _divide_up(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _sum_of_floors(count: int, divisor: int, factor: int, offset: int) -> int:
    """Return the sum of (factor · i + offset) // divisor over i = 0 ... count - 1.

    Whole multiples of the divisor are summed at once; what is left counts points under a line
    of slope below one, whose axes are then exchanged, as in Euclid's algorithm.
    """
    total = 0
    while count > 0:
        total += (factor // divisor) * (count * (count - 1) // 2) + (offset // divisor) * count
        factor, offset = factor % divisor, offset % divisor
        height = factor * count + offset
        if height < divisor:
            break
        count, offset = height // divisor, height % divisor
        factor, divisor = divisor, factor
    return total
