"""`EventSimulator` equals recorded Lava runs: every spike of every layer, every recorded state."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import NeurodeployWarning
from neurodeploy.ir import FixedPointGraph
from neurodeploy.netx import read
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Record,
    Stream,
)

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.net"))
FEEDS = {"inp": Feed.PORT, "neuron_a_in": Feed.NEURON, "bias_mant": Feed.BIAS}
STATES = {
    "u": "current",
    "v": "voltage",
    "sigma": "sigma",
    "act": "activation",
    "residue": "residue",
    "real": "real",
    "imag": "imag",
}
WARNED = {
    "04_dense_weight_range": "do not fit Lava's 8 bits",
    "06_dense_delay_long": "Lava clamps it to 62",
    "15_overflow_lif": "wrap, since the chip holds 16 bits",
    "21_input_block_lif": "Lava leaves this to whoever feeds the network",
}


def from_lava(array: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """(W, H, C, T) to (T, C, H, W), (N, T) to (T, N)."""
    return array.transpose()


def load(name: str) -> tuple[FixedPointGraph, dict[str, npt.NDArray[np.integer]], dict]:
    with np.load(GOLDEN / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    config = json.loads(str(arrays.pop("config")))
    options = config["kwargs"]
    shape = options.get("input_shape")
    graph = read(
        GOLDEN / f"{name}.net",
        input_shape=shape[::-1] if shape else None,
        input_bits=options.get("input_message_bits", 0),
        spike_exponent=options.get("spike_exp", 6),
    )
    return graph, arrays, config


def test_no_case_is_missing() -> None:
    assert [case[:2] for case in CASES] == [f"{number:02}" for number in range(1, 26)]


@pytest.mark.parametrize("name", CASES)
def test_golden_case(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        graph, arrays, config = load(name)
    messages = {str(warning.message).split(": ", 1)[1] for warning in caught}
    assert all(issubclass(warning.category, NeurodeployWarning) for warning in caught)
    assert all(WARNED[name] in message for message in messages)
    assert bool(messages) == (name in WARNED)

    options = config["kwargs"]
    recording = EventSimulator(graph).run(
        from_lava(arrays["x"])[None],
        timing=Stream(
            steps=config["T"],
            reset_interval=options.get("reset_interval"),
            reset_offset=options.get("reset_offset", 0),
        ),
        feed=FEEDS[config["feed"]],
        record=Record(final_states=True),
    )
    assert recording.final_states is not None
    compared = 0
    for layer, spikes in enumerate(recording.spikes):
        np.testing.assert_array_equal(spikes[0], from_lava(arrays[f"s{layer}"]))
        for key, state in STATES.items():
            if f"{key}{layer}_final" in arrays:
                expected = from_lava(arrays[f"{key}{layer}_final"])
                np.testing.assert_array_equal(recording.final_states[layer][state][0], expected)
                compared += 1
    last = len(recording.spikes) - 1
    for key, state in STATES.items():
        if f"{key}{last}_trace" in arrays:
            expected = from_lava(arrays[f"{key}{last}_trace"])
            np.testing.assert_array_equal(recording.traces[state][0], expected)
            compared += 1
    assert compared >= 2


def test_the_states_of_an_inner_resonator_layer() -> None:
    """Case 25 has traces of both layers; the first is the last of a shorter network."""
    graph, arrays, config = load("25_complex_rf")
    shorter = FixedPointGraph(input=graph.input, layers=graph.layers[:1])
    recording = EventSimulator(shorter).run(
        from_lava(arrays["x"])[None], timing=Stream(steps=config["T"])
    )
    np.testing.assert_array_equal(recording.traces["real"][0], from_lava(arrays["real0_trace"]))
    np.testing.assert_array_equal(recording.traces["imag"][0], from_lava(arrays["imag0_trace"]))


def test_max_pooling_by_convolution_equals_the_or_of_its_windows() -> None:
    graph, arrays, config = load("17_maxpool_or")
    recording = EventSimulator(graph).run(
        from_lava(arrays["x"])[None], timing=Stream(steps=config["T"])
    )
    np.testing.assert_array_equal(recording.spikes[0][0], from_lava(arrays["expected_or"]))


@pytest.mark.parametrize(
    "name", ["18_residual_identity", "19_residual_projection", "20_residual_per_channel"]
)
def test_relay_channels_equal_a_true_skip_path_in_lava(name: str) -> None:
    graph, arrays, config = load(name)
    recording = EventSimulator(graph).run(
        from_lava(arrays["x"])[None],
        timing=Stream(
            steps=config["T"],
            reset_interval=config["kwargs"].get("reset_interval"),
            reset_offset=config["kwargs"].get("reset_offset", 0),
        ),
    )
    main, out = from_lava(arrays["direct_main"]), from_lava(arrays["direct_out"])
    np.testing.assert_array_equal(recording.spikes[0][0][:, : main.shape[1]], main)
    np.testing.assert_array_equal(recording.spikes[1][0], out)
