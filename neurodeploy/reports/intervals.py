"""How well a share is known that was measured on a limited number of samples."""

from __future__ import annotations

from math import sqrt

NORMAL_95 = 1.959963984540054
"""The standard normal distribution's quantile at 97.5 %."""


def wilson_interval(share: float, samples: int) -> tuple[float, float]:
    """Give the 95 % interval of a share, such as accuracy on test samples.

    Source: Wilson, Journal of the American Statistical Association 22(158):209-212, 1927. Unlike
    the usual ± it stays within 0 and 1, and is no point where every sample was right.

    Args:
        share: Measured, 0 to 1.
        samples: On how many; at least 1.
    """
    assert samples >= 1
    z2 = NORMAL_95 * NORMAL_95 / samples
    middle = (share + z2 / 2) / (1 + z2)
    half = NORMAL_95 * sqrt(share * (1 - share) / samples + z2 / (4 * samples)) / (1 + z2)
    return max(middle - half, 0.0), min(middle + half, 1.0)
