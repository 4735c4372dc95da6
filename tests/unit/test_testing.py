"""`compare` and `assert_bit_exact` must notice every single difference, and name it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import SimulationError
from neurodeploy.simulation.recording import Recording
from neurodeploy.testing import assert_bit_exact, compare


def recording() -> Recording:
    rng = np.random.default_rng(3)
    return Recording.from_spikes(
        ("conv", "out"),
        (
            rng.integers(0, 2, (2, 4, 3, 2, 2), dtype=np.int32),
            rng.integers(0, 2, (2, 4, 5), dtype=np.int32),
        ),
        states={"out": {"voltage": rng.integers(-9, 9, (2, 4, 5), dtype=np.int32)}},
    )


def changed(array: npt.NDArray[np.int32], *index: tuple[int, ...]) -> npt.NDArray[np.int32]:
    result = array.copy()
    for where in index:
        result[where] += 7
    return result


def test_equal_recordings_compare_equal() -> None:
    comparison = compare(recording(), recording())
    assert comparison.is_equal
    assert comparison.differing == 0
    assert comparison.describe() == "equal in all of 2 layers (176 values)"
    assert_bit_exact(recording(), recording())


def test_every_single_changed_spike_is_found() -> None:
    expected = recording()
    for layer, spikes in enumerate(expected.spikes):
        for index in np.ndindex(spikes.shape):
            altered = list(expected.spikes)
            altered[layer] = changed(spikes, index)
            first = compare(expected, replace(expected, spikes=tuple(altered))).difference
            assert first is not None
            assert first.layer == expected.layers[layer]
            assert (first.sample, first.step, *first.neuron) == index
            assert (first.first, first.second) == (spikes[index], spikes[index] + 7)


def test_every_single_changed_state_is_found() -> None:
    expected = recording()
    trace = expected.traces["voltage"]
    for index in np.ndindex(trace.shape):
        first = compare(
            expected, replace(expected, states={"out": {"voltage": changed(trace, index)}})
        ).difference
        assert first is not None
        assert (first.quantity, first.sample, first.step, *first.neuron) == ("voltage", *index)


def test_the_earliest_step_of_the_first_layer_is_named() -> None:
    """Order: layer, then step, then sample, then neuron; array order would give sample 0."""
    expected = recording()
    altered = replace(
        expected,
        spikes=(
            changed(expected.spikes[0], (0, 3, 0, 0, 0), (1, 1, 2, 1, 0), (1, 1, 2, 1, 1)),
            changed(expected.spikes[1], (0, 0, 0)),
        ),
    )
    comparison = compare(expected, altered)
    assert comparison.difference is not None
    assert (comparison.difference.layer, comparison.difference.step) == ("conv", 1)
    assert (comparison.difference.sample, comparison.difference.neuron) == (1, (2, 1, 0))
    assert [layer.differing for layer in comparison.layers] == [3, 1]
    assert comparison.differing == 4


def test_the_message_names_place_values_and_counts() -> None:
    expected = recording()
    spikes = (expected.spikes[0], changed(expected.spikes[1], (1, 2, 4)))
    value = int(expected.spikes[1][1, 2, 4])
    with pytest.raises(AssertionError) as caught:
        assert_bit_exact(expected, replace(expected, spikes=spikes))
    assert str(caught.value) == (
        f"out: spikes differ first at step 2, sample 1, neuron (4): {value} against {value + 7}. "
        "out: 1 of 40 differ."
    )


def test_a_comparison_can_be_written_as_json() -> None:
    expected = recording()
    spikes = (changed(expected.spikes[0], (1, 2, 0, 1, 1)), expected.spikes[1])
    found = json.loads(json.dumps(compare(expected, replace(expected, spikes=spikes)).to_dict()))
    assert (found["is_equal"], found["differing"]) == (False, 1)
    assert found["layers"][0]["difference"]["neuron"] == [0, 1, 1]
    assert found["layers"][1]["difference"] is None
    events = [int(np.count_nonzero(array)) for array in expected.spikes]
    assert [layer["spikes_first"] for layer in found["layers"]] == events


def test_dtype_does_not_matter_value_does() -> None:
    expected = recording()
    wide = tuple(spikes.astype(np.int32) for spikes in expected.spikes)
    assert compare(expected, replace(expected, spikes=wide)).is_equal


@pytest.mark.parametrize(
    "other",
    [
        replace(recording(), layers=("conv", "other")),
        replace(recording(), states={}),
        replace(recording(), spikes=(None, recording().spikes[1])),
        replace(recording(), spikes=(recording().spikes[0], recording().spikes[1][:, :3])),
    ],
    ids=["layers", "states", "spikes", "steps"],
)
def test_recordings_that_cannot_be_compared_are_refused(other: Recording) -> None:
    """A comparison of nothing must never look like success."""
    with pytest.raises(SimulationError, match="comparison"):
        compare(recording(), other)


def test_what_was_not_recorded_is_not_compared() -> None:
    """Two recordings of nothing say nothing; two of one layer compare that layer."""
    partial = replace(recording(), spikes=(None, recording().spikes[1]), states={})
    comparison = compare(partial, partial)
    assert [layer.name for layer in comparison.layers] == ["out"]
    assert comparison.states == ()
    nothing = replace(partial, spikes=(None, None))
    with pytest.raises(SimulationError, match="nothing to compare"):
        compare(nothing, nothing)


def test_states_of_inner_layers_are_compared_too() -> None:
    inner = {"conv": {"voltage": np.zeros((2, 4, 3, 2, 2), np.int32)}}
    first = replace(recording(), states=inner)
    other = {"conv": {"voltage": changed(inner["conv"]["voltage"], (1, 3, 0, 1, 1))}}
    difference = compare(first, replace(first, states=other)).difference
    assert difference is not None
    assert (difference.layer, difference.step, difference.neuron) == ("conv", 3, (0, 1, 1))
