"""Spikes as bits and sums of chosen rows against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.nn.functional.sparse.bit_loops import (
    MOST_ROWS,
    WIDE,
    Windows,
    add_rows_span,
    gather_span,
    pack_span,
    turn_span,
)


def as_bits(words: np.ndarray) -> np.ndarray:
    """Return a matrix of bits, stored by words, as zeros and ones."""
    bits = words.T[:, :, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
    return bits.reshape(words.shape[1], -1)


def as_words(values: np.ndarray) -> np.ndarray:
    """Return zeros and ones as a matrix of bits, both sizes rounded up to a multiple of 64."""
    rows, columns = (-(-size // 64) for size in values.shape)
    padded = np.zeros((rows * 64, columns, 64), np.uint64)
    padded.reshape(rows * 64, -1)[: values.shape[0], : values.shape[1]] = values
    return (padded << np.arange(64, dtype=np.uint64)).sum(2).T.copy()


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (130, 200)])
def test_bits_are_transposed(rows: int, columns: int) -> None:
    values = np.random.default_rng(0).random((rows, columns)) < 0.3
    words = as_words(values)
    turned = np.full((words.shape[1] // 64, len(words) * 64), 9, np.uint64)
    turn_span(words, (0, len(turned)), turned)
    assert (as_bits(turned) == as_bits(words).T).all()


@pytest.mark.parametrize("channels", [1, 3, 40, 64, 70])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((1, 1), (1, 1), (0, 0)), ((3, 3), (1, 1), (1, 1)), ((3, 2), (2, 3), (2, 1))],
)
def test_windows_of_images(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    """Whole words and what is left over, windows that begin within a word, zeros at the border."""
    count, height, width = 2, 4, 7
    images = np.random.default_rng(0).random((count, height, width, channels)) < 0.3
    images = images.astype(np.float32)
    around = ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0))
    padded = np.pad(images, around)
    seen = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))
    seen = seen[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)
    windows = Windows(channels, kernel, stride, padding, (seen.shape[1], seen.shape[2]))

    size, margin = width * channels, padding[1] * channels
    lines = np.full((count, height, -(-(size + 2 * margin) // 64) + 1), 9, np.uint64)
    counts = np.zeros(count, np.int64)
    pack_span(images.reshape(-1), (0, count), size, margin, lines, counts)
    assert counts.tolist() == images.sum((1, 2, 3)).tolist()

    expected = seen.reshape(-1, channels * kernel[0] * kernel[1])
    words = np.full((-(-expected.shape[1] // 64), len(expected)), 9, np.uint64)
    gather_span(lines, (0, 1), windows, words)
    gather_span(lines, (1, 2), windows, words)
    assert (as_bits(words)[:, : expected.shape[1]] == expected).all()
    assert not as_bits(words)[:, expected.shape[1] :].any()


def test_some_pieces_alone_are_written() -> None:
    """Rows and columns that are left over, pieces of 64 columns and of less."""
    rng = np.random.default_rng(0)
    chosen = (rng.random((203, 70)) < 0.3).astype(np.float32)
    values, bias = (rng.integers(-9, 9, shape).astype(np.float32) for shape in ((70, 90), 90))
    result = np.full((203, 90), -1, np.float32)
    scratch = np.full((64 + MOST_ROWS) * WIDE, np.nan, np.float32)
    add_rows_span(as_words(chosen), values, bias, 200, (1, 3), scratch, result)
    expected = np.full_like(result, -1)
    wanted = chosen @ values + bias
    expected[:200, WIDE:] = wanted[:200, WIDE:]
    expected[200:, :WIDE] = wanted[200:, :WIDE]
    assert (result == expected).all()
