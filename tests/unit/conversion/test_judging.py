"""Errors over time, and the refresh interval that holds a budget."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.conversion.judging import measure_drift


def growing(frames: int) -> np.ndarray:
    """An error of 1 % a frame since the start, as mean squares."""
    return (0.01 * np.arange(1, frames + 1)) ** 2


def refreshed(interval: int, latency: int, frames: int) -> np.ndarray:
    each = interval - latency
    return growing(each)[np.arange(frames) % each]


def test_errors_are_those_of_the_last_eight_frames() -> None:
    drift = measure_drift(growing(200), 9.0, 3, lambda interval: growing(1))
    assert drift.frames == (1, 32, 128, 200)
    expected = [np.sqrt(np.mean((0.01 * np.arange(n - 7, n + 1)) ** 2)) for n in (32, 128, 200)]
    assert drift.errors == pytest.approx([0.01, *expected])
    assert not drift.needs_refresh
    assert (drift.frames_within, drift.interval) == (200, 203)


def test_the_longest_interval_within_the_budget_is_run() -> None:
    tried: list[int] = []

    def run(interval: int) -> np.ndarray:
        tried.append(interval)
        return refreshed(interval, 3, 200)

    drift = measure_drift(growing(200), 0.1, 3, run)
    # The rms of 1, 2 ... n hundredths is within a tenth up to n = 16.
    assert drift.frames_within == 16
    assert tried == [19] == [drift.interval]
    assert drift.needs_refresh


def test_an_interval_that_looked_well_is_shortened_where_it_is_not() -> None:
    squares = np.concatenate([np.full(8, 1e-4), np.full(24, 1.0)])
    drift = measure_drift(squares, 0.1, 2, lambda n: np.array([1.0 if n > 4 else 1e-4]))
    assert drift.frames_within == 2
    assert drift.interval == 4


def test_no_refresh_helps_against_errors_from_the_first_frame_on() -> None:
    drift = measure_drift(np.ones(40), 0.1, 2, lambda interval: np.ones(40))
    assert drift.frames_within == 0
    assert drift.interval is None
    assert not drift.needs_refresh
