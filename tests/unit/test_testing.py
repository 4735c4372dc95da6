"""`compare` and `assert_bit_exact` must notice every single difference, and name it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import SimulationError
from neurodeploy.simulation.base import Recording
from neurodeploy.testing import assert_bit_exact, compare


def recording() -> Recording:
    rng = np.random.default_rng(3)
    return Recording(
        layers=("conv", "out"),
        spikes=(
            rng.integers(0, 2, (2, 4, 3, 2, 2), dtype=np.int32),
            rng.integers(0, 2, (2, 4, 5), dtype=np.int32),
        ),
        traces={"voltage": rng.integers(-9, 9, (2, 4, 5), dtype=np.int32)},
    )


def changed(array: npt.NDArray[np.int32], *index: tuple[int, ...]) -> npt.NDArray[np.int32]:
    result = array.copy()
    for where in index:
        result[where] += 7
    return result


def test_equal_recordings_compare_equal() -> None:
    comparison = compare(recording(), recording())
    assert comparison.is_equal
    assert comparison.differing_spikes == 0
    assert str(comparison) == "equal in all of 2 layers (176 values)"
    assert_bit_exact(recording(), recording())


def test_every_single_changed_spike_is_found() -> None:
    expected = recording()
    for layer, spikes in enumerate(expected.spikes):
        for index in np.ndindex(spikes.shape):
            altered = list(expected.spikes)
            altered[layer] = changed(spikes, index)
            first = compare(expected, replace(expected, spikes=tuple(altered))).first
            assert first is not None
            assert first.layer == expected.layers[layer]
            assert (first.sample, first.step, *first.neuron) == index
            assert (first.expected, first.actual) == (spikes[index], spikes[index] + 7)


def test_every_single_changed_state_is_found() -> None:
    expected = recording()
    trace = expected.traces["voltage"]
    for index in np.ndindex(trace.shape):
        first = compare(
            expected, replace(expected, traces={"voltage": changed(trace, index)})
        ).first
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
    assert comparison.first is not None
    assert (comparison.first.layer, comparison.first.step) == ("conv", 1)
    assert (comparison.first.sample, comparison.first.neuron) == (1, (2, 1, 0))
    assert [layer.differing for layer in comparison.layers] == [3, 1]
    assert comparison.differing_spikes == 4


def test_the_message_names_place_values_and_counts() -> None:
    expected = recording()
    spikes = (expected.spikes[0], changed(expected.spikes[1], (1, 2, 4)))
    value = int(expected.spikes[1][1, 2, 4])
    with pytest.raises(AssertionError) as caught:
        assert_bit_exact(expected, replace(expected, spikes=spikes))
    assert str(caught.value) == (
        f"out: spikes differ first at step 2, sample 1, neuron (4): {value} against {value + 7}\n"
        "  out: 1 of 40 spikes differ"
    )


def test_dtype_does_not_matter_value_does() -> None:
    expected = recording()
    wide = tuple(spikes.astype(np.int32) for spikes in expected.spikes)
    assert compare(expected, replace(expected, spikes=wide)).is_equal


@pytest.mark.parametrize(
    "other",
    [
        replace(recording(), layers=("conv", "other")),
        replace(recording(), traces={}),
        replace(recording(), spikes=(recording().spikes[0], recording().spikes[1][:, :3])),
    ],
    ids=["layers", "states", "steps"],
)
def test_recordings_that_cannot_be_compared_are_refused(other: Recording) -> None:
    """A comparison of nothing must never look like success."""
    with pytest.raises(SimulationError, match="comparison"):
        compare(recording(), other)
