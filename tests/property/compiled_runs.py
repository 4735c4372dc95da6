"""Comparisons of compiled runs with those of NumPy."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from neurodeploy.ir import FixedPointGraph
from neurodeploy.simulation import EventSimulator, Feed, Record


def assert_equal_to_numpy(
    graph: FixedPointGraph, inputs: np.ndarray, timing: object, *, feed: Feed = Feed.PORT
) -> None:
    """Record everything of both, in two threads where it is compiled."""
    record = Record(states=graph.names, final_states=True, counts=True)
    ours, numpy = (
        EventSimulator(graph, threads=2, is_compiled=is_compiled).run(
            inputs, timing=timing, feed=feed, record=record
        )
        for is_compiled in (True, False)
    )
    assert ours.health == numpy.health
    for index, name in enumerate(graph.names):
        np.testing.assert_array_equal(ours.spikes[index], numpy.spikes[index])
        assert ours.spikes[index].dtype == numpy.spikes[index].dtype
        np.testing.assert_equal(dict(ours.states[name]), dict(numpy.states[name]))
        np.testing.assert_equal(ours.final_states[index], numpy.final_states[index])
        np.testing.assert_equal(asdict(ours.events[index]), asdict(numpy.events[index]))
        np.testing.assert_equal(asdict(ours.updates[index]), asdict(numpy.updates[index]))
