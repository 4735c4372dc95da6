"""Samples counted a few at a time: the numbers are those of all of them at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input

import neurodeploy as nd
from neurodeploy.counting.count_tables import Spread
from neurodeploy.counting.counted_run import CountedRun, count_samples
from neurodeploy.counting.network_counts import count
from neurodeploy.errors import DataError, SimulationError
from neurodeploy.ir import FixedPointGraph
from neurodeploy.reports.report_builder import report, report_counts
from neurodeploy.simulation import EventSimulator, Feed, Record
from neurodeploy.simulation.long_runs import long_run
from neurodeploy.simulation.long_runs.memory import Portion
from neurodeploy.simulation.long_runs.parts import Facts

pytestmark = pytest.mark.filterwarnings("ignore:input. values from")
any_graph = graphs(Options(is_chain=False, kinds=("lif", "lif", "sigma-delta", "resonator")))


def at_a_time(size: int) -> Callable[..., Portion]:
    return lambda *_, **__: Portion(samples=size, working_bytes=2**24, peak_bytes=0)


def in_pieces(
    graph: FixedPointGraph, inputs: np.ndarray, size: int, **options: object
) -> CountedRun:
    """Count so many samples at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_run, "divide_memory", at_a_time(size))
        return count_samples(graph, inputs, **options)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_graph, generators, st.integers(1, 4), st.integers(1, 5))
def test_pieces_give_the_counts_of_one_run(
    graph: FixedPointGraph, rng: np.random.Generator, size: int, steps: int
) -> None:
    """Inputs that change in some samples only are among them."""
    inputs = random_input(rng, graph, samples=5, steps=steps)
    still = int(rng.integers(0, 6))
    inputs[:still] = inputs[:still, :1]
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    try:
        recording = EventSimulator(graph).run(inputs, feed=feed, record=Record(counts=True))
        found = in_pieces(graph, inputs, size, feed=feed)
    except SimulationError as error:
        assume("exceeds 32 bits" not in str(error))
        raise
    expected = CountedRun.of(
        graph, count(graph, inputs, recording, feed=feed), inputs, recording, feed=feed
    )
    assert found.counts.layers == expected.counts.layers
    assert found.counts.spread == expected.counts.spread
    assert found.counts.totals == expected.counts.totals
    assert (found.frames is None) == (expected.frames is None)
    assert graph.sends_changes or found.frames is None
    if found.frames is not None and expected.frames is not None:
        assert found.frames.all_sops.total == found.counts.totals.sops
        assert found.frames.all_sops.frames.tolist() == expected.frames.all_sops.frames.tolist()
    assert found.counts.membrane_updates == expected.counts.membrane_updates
    assert (found.counts.samples, found.counts.steps) == (5, steps)
    assert found.changes_over_time == expected.changes_over_time
    assert replace(found.facts, seconds=0) == replace(Facts.of(recording), seconds=0)
    assert (found.prediction is None) == (recording.prediction is None)
    if found.prediction is not None and recording.prediction is not None:
        assert found.prediction.tolist() == recording.prediction.tolist()


def test_the_report_of_pieces_is_that_of_one_run(mlp) -> None:
    """All of it, to the last digit and word."""
    inputs = (np.random.default_rng(0).random((7, 3, 784)) < 0.2).astype(np.uint8)
    recording = EventSimulator(mlp).run(inputs, record=Record(spikes=(), counts=True))
    whole = report(mlp, inputs, recording).to_json()
    for size in (1, 3, 7):
        run = in_pieces(mlp, inputs, size)
        assert json.dumps(report_counts(mlp, run).to_json()) == json.dumps(whole)
    assert in_pieces(mlp, inputs, 7).counts.sops_by_sample.shape == (7,)
    with pytest.raises(DataError, match="counted in pieces"):
        _ = in_pieces(mlp, inputs, 3).counts.sops_by_sample


def test_progress_counts_samples_to_the_end(mlp) -> None:
    inputs = np.zeros((9, 2, 784), np.uint8)
    told: list[tuple[int, int]] = []
    in_pieces(mlp, inputs, 4, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert (told[-1], {total for _, total in told}) == ((9, 9), {9})


def test_a_generator_is_counted_to_its_end(mlp) -> None:
    inputs = (np.random.default_rng(1).random((5, 2, 784)) < 0.1).astype(np.uint8)
    found = in_pieces(mlp, iter(inputs), 2)
    assert found.counts.layers == in_pieces(mlp, inputs, 5).counts.layers
    for empty in (np.zeros((0, 2, 784), np.uint8), [], iter(())):
        with pytest.raises(DataError, match="no samples"):
            nd.count_samples(mlp, empty)


def test_one_sample_has_no_spread(mlp) -> None:
    found = in_pieces(mlp, np.ones((1, 2, 784), np.uint8), 1)
    assert {one.deviation for one in found.counts.spread.values()} == {0.0}
    assert found.counts.spread["events"].total == 2 * 784 + found.counts.layers[0].spikes


def test_spreads_are_exact_beyond_64_bits() -> None:
    """A run of days passes 2**63 in sums, and one sample of 2**32 does in squares."""
    large = np.array([2**62, 2**62 + 6, 2**62 + 3], np.int64)
    found = Spread.of(large) + Spread.of(large)
    assert found.total == 2 * sum(map(int, large)) > 2**63
    assert found.squares == 2 * sum(int(one) ** 2 for one in large)
    assert found.deviation == 6**0.5
    assert Spread.of(np.zeros(0, np.int64)).deviation == 0.0


def test_totals_are_exact_beyond_64_bits(count_alike) -> None:
    counts = count_alike(3)
    joined = counts
    for _ in range(62):
        joined = joined + joined
    assert joined.samples == 3 * 2**62 > 2**63
    assert joined.totals.sops == counts.totals.sops * 2**62
    assert joined.totals.spikes == counts.totals.spikes * 2**62
    assert joined.sigma == counts.sigma
    assert joined.spread["sops"].deviation == counts.spread["sops"].deviation == 0.0
