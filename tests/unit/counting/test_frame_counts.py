"""Counts of every frame of a network of sigma-delta neurons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_sigma_delta import FRAMES, small_network

from neurodeploy import netx
from neurodeploy.counting.counted_run import CountedRun, count_samples
from neurodeploy.counting.frame_counts import FrameCounts, count_frames
from neurodeploy.counting.network_counts import count
from neurodeploy.errors import SimulationError
from neurodeploy.simulation import EventSimulator, Feed, Record, Stream, Window

GOLDEN = Path(__file__).parents[2] / "golden" / "sigma_delta"


def counted(inputs: np.ndarray, timing: Stream | Window) -> FrameCounts | None:
    graph = small_network()
    recording = EventSimulator(graph).run(inputs, timing=timing, feed=Feed.NEURON)
    return count_frames(graph, inputs, recording, feed=Feed.NEURON)


def test_counts_by_hand() -> None:
    """Frame 1 reaches two synapses, then two; frame 2 changes nothing; 3 reaches three and two.

    Before the first frame, the hidden neuron with a bias sends it: one operation of the fill.
    """
    found = counted(FRAMES, Stream())
    assert found is not None
    assert (found.latency, found.frames, found.sequences) == (2, 3, 1)
    assert found.sops["hidden"].frames.tolist() == [[2, 0, 3]]
    assert found.sops["out"].frames.tolist() == [[2, 0, 2]]
    sops = found.all_sops
    assert (sops.frames.tolist(), sops.fill.tolist(), sops.rest.tolist()) == ([[4, 0, 5]], [1], [0])
    assert found.messages.frames.tolist() == [[3, 0, 4]]
    assert found.messages.fill.tolist() == [1]
    assert found.updates == 5
    assert found.changed.tolist() == [[1, 0, 2]]
    assert found.is_new.tolist() == [[True, False, True]]
    assert found.nonzero is not None
    assert found.nonzero.tolist() == [[4, 4, 1]]
    assert found.possible == 5


def test_another_value_is_a_change_though_neither_is_zero() -> None:
    """The port of a converted file has no message bits, but its input block sees whole numbers."""
    inputs = np.array([[[1, 0], [3, 0], [3, 0], [3, 0], [3, 0]]], np.int32)
    found = counted(inputs, Stream())
    assert found is not None
    assert found.changed.tolist() == [[1, 1, 0]]
    assert found.is_new.tolist() == [[True, True, False]]
    assert found.all_sops.frames[0, 1] > 0


def test_frames_that_are_not_answered_are_counted_apart() -> None:
    found = counted(FRAMES[:, :4], Stream())
    assert found is not None
    sops = found.all_sops
    assert (sops.frames.tolist(), sops.fill.tolist(), sops.rest.tolist()) == ([[4, 0]], [1], [5])
    assert counted(FRAMES[:, :2], Stream()) is None


def test_a_refresh_begins_anew() -> None:
    """Of each four steps two bring a frame that is answered; what repeats costs as a first one."""
    inputs = np.array([[[1, 0], *[[0, 2]] * 7]], np.int32)
    found = counted(inputs, Stream(refresh_interval=4))
    assert found is not None
    assert found.places.tolist() == [0, 1, 4, 5]
    sops = found.all_sops
    assert (sops.frames.tolist(), sops.fill.tolist(), sops.rest.tolist()) == (
        [[4, 5, 2, 0]],
        [2],
        [0],
    )
    assert found.is_new.tolist() == [[True, True, False, False]]
    assert found.nonzero is not None
    assert found.nonzero.tolist() == [[4, 1, 1, 1]]
    # An interval as short as the latency leaves no frame an answer.
    assert counted(inputs, Stream(refresh_interval=2)) is None


def test_windows_have_no_fill() -> None:
    """Each layer begins with its first frame, which then brings the bias as well."""
    found = counted(FRAMES, Window())
    assert found is not None
    assert (found.latency, found.frames) == (0, 5)
    sops = found.all_sops
    assert (sops.frames.tolist(), sops.fill.tolist()) == ([[4, 0, 5, 0, 0]], [0])


def test_a_first_frame_of_zeros_is_new() -> None:
    found = counted(np.zeros((1, 5, 2), np.int32), Stream())
    assert found is not None
    assert found.changed.tolist() == [[0, 0, 0]]
    assert found.is_new.tolist() == [[True, False, False]]


@pytest.mark.parametrize("case", ["02_mlp_signed", "11_digits_trained"])
def test_frames_add_up_to_the_recorded_totals(case: str) -> None:
    graph = netx.read(GOLDEN / f"{case}.net")
    with np.load(GOLDEN / f"{case}.npz") as found:
        frames, spec = found["x"].astype(np.int32), json.loads(str(found["spec"]))
    values = np.concatenate([frames, np.repeat(frames[-1:], spec["latency"], axis=0)])[None]
    run = count_samples(graph, values, timing=Stream(), feed=Feed.NEURON)
    counts = run.frames
    assert counts is not None
    assert counts.frames == len(frames)
    assert {name: costs.total for name, costs in counts.sops.items()} == {
        name: sops for name, sops in spec["sops"].items() if name != "in"
    }
    assert counts.messages.total == run.counts.totals.messages - run.counts.layers[0].messages
    assert not counts.all_sops.frames[~counts.is_new].any()  # a repeated frame costs nothing


def test_pieces_join_and_spikes_are_needed() -> None:
    graph = small_network()
    inputs = np.concatenate([FRAMES, FRAMES[:, ::-1]])
    both = EventSimulator(graph).run(inputs, timing=Stream(), feed=Feed.NEURON)
    whole = count_frames(graph, inputs, both, feed=Feed.NEURON)
    parts = [counted(inputs[index : index + 1], Stream()) for index in (0, 1)]
    assert whole is not None
    assert parts[0] is not None
    assert parts[1] is not None
    joined = parts[0].joined(parts[1])
    for name in ("changed", "nonzero"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist()
    for name, costs in whole.sops.items():
        assert joined.sops[name].frames.tolist() == costs.frames.tolist()
        assert joined.sops[name].fill.tolist() == costs.fill.tolist()
    assert joined.messages.rest.tolist() == whole.messages.rest.tolist()
    record = Record(spikes=(), counts=True)
    bare = EventSimulator(graph).run(inputs, timing=Stream(), feed=Feed.NEURON, record=record)
    with pytest.raises(SimulationError, match="not recorded"):
        CountedRun.of(
            graph, count(graph, inputs, bare, feed=Feed.NEURON), inputs, bare, feed=Feed.NEURON
        )
