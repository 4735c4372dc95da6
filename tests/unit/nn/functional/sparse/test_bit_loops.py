"""Spikes as bits and sums of chosen rows against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.nn.functional.sparse.bit_loops import (
    COLUMNS,
    ROWS,
    add_rows_span,
    pack_span,
)


def as_bits(words: np.ndarray) -> np.ndarray:
    """Return (w, m) words as (m, 64 · w) zeros and ones."""
    bits = words.T[:, :, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
    return bits.reshape(words.shape[1], -1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (64, 64), (65, 191), (130, 200)])
def test_bits_and_their_transpose(rows: int, columns: int) -> None:
    """Bits beyond the matrix are zero."""
    values = (np.random.default_rng(0).random((rows, columns)) < 0.3).astype(np.float32)
    bands, across = -(-rows // 64), -(-columns // 64)
    words = np.full((across, bands * 64), 9, np.uint64)
    turned = np.full((bands, across * 64), 9, np.uint64)
    counts = np.zeros(bands, np.int64)
    pack_span(values, (0, bands), words, turned, counts)
    padded = np.zeros((bands * 64, across * 64))
    padded[:rows, :columns] = values
    assert (as_bits(words) == padded).all()
    assert (as_bits(turned) == padded.T).all()
    assert counts.sum() == values.sum()


def test_some_pieces_alone_are_written() -> None:
    rng = np.random.default_rng(0)
    chosen = (rng.random((ROWS + 3, 70)) < 0.3).astype(np.float32)
    values, bias = (rng.integers(-9, 9, shape).astype(np.float32) for shape in ((70, 80), 80))
    words = np.zeros((2, 576), np.uint64)
    pack_span(chosen, (0, 9), words, np.zeros((0, 0), np.uint64), np.zeros(9, np.int64))
    result = np.full((ROWS + 3, 80), -1, np.float32)
    scratch = np.full((64 + ROWS) * COLUMNS, np.nan, np.float32)
    add_rows_span(words, values, bias, (1, 3), scratch, result)
    expected = np.full_like(result, -1)
    wanted = chosen @ values + bias
    expected[:ROWS, COLUMNS:] = wanted[:ROWS, COLUMNS:]
    expected[ROWS:, :COLUMNS] = wanted[ROWS:, :COLUMNS]
    assert (result == expected).all()
