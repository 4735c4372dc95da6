"""Every operation on files and memory may fail: what is left is the old state or the new one.

A few points of each command; `tests/fuzz/faults.py` tries all of them.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from fault_scenarios import SCENARIOS, Sweep

POINTS = {"simulate": 12, "simulate h5": 6, "report": 2, "export": 3, "train": 2, "deploy again": 3}
"""How many operations of each command fail here, spread over all of them."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("simulate", "simulate h5") else pytest.mark.slow)
        for name in POINTS
    ],
)
def test_a_fault_leaves_the_old_state_or_the_new_one(name: str, tmp_path: Path) -> None:
    sweep = Sweep(SCENARIOS[name], tmp_path)
    count = len(sweep.operations)
    found = []
    for turn, number in enumerate(range(0, count, -(-count // POINTS[name]))):
        number += turn % 7  # else loops would be hit at one place of theirs
        outcome = sweep.run(min(number, count - 1), lasting=turn % 3 == 2)
        assert outcome.operation is not None, number
        found += [f"{outcome.operation}: {problem}" for problem in outcome.problems]
    assert found == []


def test_a_fault_that_is_not_handled_is_seen(tmp_path: Path, monkeypatch) -> None:
    """The harness finds a writer that leaves half a file behind."""
    monkeypatch.setattr("neurodeploy.samples.array_files.replacing", nullcontext)
    sweep = Sweep(SCENARIOS["simulate"], tmp_path)
    number = [k for k, one in enumerate(sweep.operations) if one == "write out.npz"][3]
    outcome = sweep.run(number)
    assert outcome.operation == "write out.npz"
    assert "out.npz is neither old nor new" in outcome.problems
