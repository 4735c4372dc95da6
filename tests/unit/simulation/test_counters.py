"""Counts of events and updates, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.simulation.counters import count_senders


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1)])
def test_all_events_of_a_step_carry_values_if_one_does(shape: tuple[int, ...]) -> None:
    """A step that holds nothing but -1, 0 and 1 needs no multiplication, any other does."""
    steps = [[1, -1, 0], [1, 2, 0], [0, 0, -3], [1, 1, 1]]
    sent = np.array([steps, [[1, 1, 0]] * 4]).reshape(2, 4, *shape)
    found = count_senders(sent)
    assert found.total.reshape(2, 3).tolist() == [[3, 3, 2], [4, 4, 0]]
    assert found.valued.reshape(2, 3).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert not found.is_static
    assert count_senders(sent[1:]).is_static
    assert not count_senders(sent[1:, :1]).is_static  # one step says nothing
