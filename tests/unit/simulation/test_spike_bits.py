"""Spikes kept as bits: to users they are the arrays that they always were."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy.simulation.recording import Recording
from neurodeploy.simulation.spike_bits import (
    MadeWhenRead,
    SpikeBits,
    count_events,
    pack_bits,
    tiles_of,
)

SHAPES = [(1,), (16,), (70,), (1, 3, 5), (16, 8, 8), (20, 9, 15), (64, 1, 2), (3, 1, 1)]


def random_spikes(shape: tuple[int, ...]) -> np.ndarray:
    return (np.random.default_rng(0).random((2, 3, *shape)) < 0.3).astype(np.uint8)


def example_run() -> Recording:
    example = nd.load_example()
    return nd.EventSimulator(example.graph).run(example.inputs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits_are_one_for_each_channel_of_each_pixel(shape: tuple[int, ...]) -> None:
    spikes = random_spikes(shape)
    bits = SpikeBits(bits=pack_bits(spikes), shape=shape)
    assert bits.bits.shape == (2, 3, tiles_of(shape))
    assert bits.bits.dtype == np.uint16
    for place in np.ndindex(2, 3, *shape):
        sample, step, channel, *pixel = place
        number = int(np.ravel_multi_index(pixel, shape[1:])) if pixel else 0
        word = bits.bits[sample, step, number * -(-shape[0] // 16) + channel // 16]
        assert (int(word) >> channel % 16) & 1 == spikes[place]
    found = bits.make()
    assert (found.dtype, found.shape) == (spikes.dtype, spikes.shape)
    np.testing.assert_array_equal(found, spikes)
    assert bits.count() == spikes.sum()


def test_an_array_is_made_once_and_may_be_changed() -> None:
    recording = example_run()
    totals = recording.spike_totals()
    for spikes in recording.spikes:
        assert spikes.dtype == np.uint8
        assert spikes.flags.c_contiguous
        assert spikes.flags.writeable
    assert recording.spike_totals() == totals == tuple(int(one.sum()) for one in recording.spikes)
    recording.spikes[0][:] = 0
    assert recording.spike_totals()[0] == 0
    assert recording.spikes_of("conv1") is recording.spikes[0] is recording.spikes[-3]
    assert recording.spikes[1:][0] is recording.spikes[1]
    with pytest.raises(IndexError):
        recording.spikes[3]


def test_threads_that_read_first_get_the_same_array() -> None:
    spikes = example_run().spikes
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: spikes[0], range(16))
    assert all(other is first for other in others)


def test_a_copy_is_as_the_original_and_apart_from_it() -> None:
    recording = example_run()
    copied = copy.deepcopy(recording)  # which takes it apart as pickle does
    recording.spikes[0][:] = 1
    expected = example_run().spikes
    for one, other in zip(copied.spikes, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_that_are_not_kept_are_none_and_arrays_stay_themselves() -> None:
    array = random_spikes((3,))
    spikes = MadeWhenRead([None, array, SpikeBits(bits=pack_bits(array), shape=(3,))])
    assert (len(spikes), spikes[0], spikes[1]) == (3, None, array)
    assert count_events(spikes, lambda one: None if one is None else one.sum()) == (
        None,
        array.sum(),
        array.sum(),
    )
    changed = replace(example_run(), spikes=(None, None, array))
    assert changed.spike_totals() == (None, None, array.sum())
