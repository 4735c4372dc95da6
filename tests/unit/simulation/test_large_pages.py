"""Arrays of zeros that share one piece of memory."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from neurodeploy.simulation.large_pages import zeros_together

SMALL = [((3, 5), np.uint8), ((2,), np.int32), ((0, 4), np.uint8), ((7, 1, 2), np.int32)]
LARGE = [*SMALL, ((3, 1 << 20), np.uint8), ((1 << 16, 5), np.int32)]


@pytest.mark.parametrize("wanted", [[], SMALL, LARGE])
def test_arrays_are_zero_and_apart(wanted) -> None:
    arrays = zeros_together(wanted)
    assert [(one.shape, one.dtype) for one in arrays] == [(shape, dtype) for shape, dtype in wanted]
    for one in arrays:
        assert not one.any()
        assert one.flags.c_contiguous
        assert one.flags.writeable
        assert one.ctypes.data % one.itemsize == 0
    for number, one in enumerate(arrays):
        one[...] = number + 1
    for number, one in enumerate(arrays):
        assert (one == number + 1).all()


def test_new_ones_are_zero_after_others_were_used() -> None:
    for _ in range(3):
        arrays = zeros_together(LARGE)
        for one in arrays:
            assert not one.any()
            one[...] = 255 if one.dtype == np.uint8 else -1


def test_one_outlives_the_others() -> None:
    kept = zeros_together(LARGE)[-1]
    kept[:] = 3
    zeros_together(LARGE)
    assert (kept == 3).all()


@pytest.mark.parametrize("missing", ["flag", "call"])
def test_without_large_pages_they_are_the_same(missing, monkeypatch) -> None:
    if missing == "flag":
        monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    else:  # what a kernel without them answers
        monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 10_000, raising=False)
    for one in zeros_together(LARGE):
        assert not one.any()
        one[...] = 1
