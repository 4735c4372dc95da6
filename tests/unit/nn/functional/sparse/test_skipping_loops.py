"""Sums of rows against NumPy's, with numbers whose sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from neurodeploy.nn.functional.sparse.skipping_loops import RANGE, add_rows


@njit
def add(values, starts, factors, ranges, result, width):  # type: ignore[no-untyped-def]
    add_rows(values, starts, factors, ranges, 2, result, 1, width)


@pytest.mark.parametrize("width", [1, 15, 16, 64, 64 + 2 * 16 + 5, 2 * 64 + 16])
def test_weighted_rows_of_all_ranges_are_added(width: int) -> None:
    """Wide and narrow vectors and single columns, each added to what is there."""
    rng = np.random.default_rng(width)
    values = rng.integers(-9, 9, 40 * width).astype(np.float32)
    factors = rng.integers(-9, 9, 12).astype(np.float32)
    starts = rng.integers(0, 36, 12) * width
    ranges = np.array([(0, 3, width), (7, 12, 3 * width), (5, 6, 0)], RANGE)
    result = np.arange(width + 2, dtype=np.float32)
    expected = result.copy()
    for first, stop, offset in ranges[:2]:
        for row in range(first, stop):
            begin = starts[row] + offset
            expected[1 : 1 + width] += factors[row] * values[begin : begin + width]

    add(values, starts, factors, ranges, result, width)

    assert result.tolist() == expected.tolist()
