"""Every operation on files and memory may fail: what is left is the old state or the new one.

A few points of each command; `tests/fuzz/faults.py` tries all of them.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from fault_injection import Faults
from fault_scenarios import SCENARIOS, Sweep

from neurodeploy import netx
from neurodeploy.errors import OutputError
from neurodeploy.simulation import EventSimulator
from neurodeploy.simulation.long_runs import long_run
from neurodeploy.simulation.long_runs.long_run import parts_folder, run_samples
from neurodeploy.simulation.long_runs.memory import Portion
from neurodeploy.simulation.recording_files import save_recording

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


def test_a_day_of_faults_costs_no_finished_sample(tmp_path: Path, monkeypatch) -> None:
    """A run of twelve pieces, stopped again and again at any operation, and resumed each time."""
    graph = netx.read(Path(__file__).parents[1] / "golden" / "10_conv_flatten_dense.net")
    rng = np.random.default_rng(0)
    inputs = (rng.random((12, 4, 3, 8, 8)) < 0.3).astype(np.uint8)
    save_recording(tmp_path / "whole.npz", EventSimulator(graph).run(inputs))
    portion = Portion(samples=1, working_bytes=2**24, peak_bytes=0)
    monkeypatch.setattr(long_run, "divide_memory", lambda *_, **__: portion)
    output, finished, stops, ends = tmp_path / "out.npz", 0, 0, 0
    while stops < 12 or not ends:
        number = int(rng.integers(0, 140)) if stops < 12 else None
        faults = Faults(tmp_path, number=number, lasting=bool(stops % 2))
        try:
            with faults.injected():
                run_samples(graph, inputs, output, resume=True)
        except (OutputError, OSError, MemoryError):
            stops += 1
            if output.exists():  # only the parts could not be removed
                continue
            kept = len(list(parts_folder(output).glob("part-*")))
            assert kept >= finished
            finished = kept
        else:
            assert output.read_bytes() == (tmp_path / "whole.npz").read_bytes()
            assert {path.name for path in tmp_path.iterdir()} == {"out.npz", "whole.npz"}
            output.unlink()
            finished, ends = 0, ends + 1
