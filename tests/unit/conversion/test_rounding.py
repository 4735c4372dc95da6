"""Calibrated rounding against its textbook form, which goes through an inverse."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from neurodeploy.conversion.rounding import _round_columns, round_to_grid


def test_columns_are_rounded_as_with_the_inverse() -> None:
    """More columns than are done at a time; some are given."""
    rng = np.random.default_rng(0)
    layer = SimpleNamespace(is_pool=False)
    width, rows = 300, 9
    patches = rng.integers(0, 16000, (900, width)) * (rng.random((900, width)) < 0.4)
    energy = (patches.T @ patches).astype(np.float64)
    energy[np.diag_indices(width)] += 0.01 * np.diag(energy).mean()
    targets = 20 * rng.normal(size=(rows, width))
    fixed = np.full(targets.shape, np.nan)
    fixed[0, 5] = 64

    factor = np.linalg.cholesky(np.linalg.inv(energy)).T
    work, expected = targets.copy(), np.zeros(targets.shape, np.int64)
    for column in range(width):
        value = round_to_grid(layer, work[:, column])
        value = np.where(np.isnan(fixed[:, column]), value, np.nan_to_num(fixed[:, column]))
        error = (work[:, column] - value) / factor[column, column]
        work[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
        expected[:, column] = value

    backwards = np.linalg.cholesky(energy[::-1, ::-1])[::-1, ::-1]
    np.testing.assert_array_equal(_round_columns(layer, targets, backwards, fixed), expected)
    free = slice(1, None)  # the given weight is no rounding
    spread, nearest = (
        np.square((whole - targets)[free] @ patches.T).sum()
        for whole in (expected, round_to_grid(layer, targets))
    )
    assert spread < 0.8 * nearest
