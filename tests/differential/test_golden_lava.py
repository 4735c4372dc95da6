"""Every golden case on real Lava, under every Python found: every recorded number is equal."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.lava_bridge.worker import Job, run_jobs
from neurodeploy.simulation.recording import (
    Feed,
    Record,
    Recording,
    Stream,
)

pytestmark = pytest.mark.lava

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.net"))
FEEDS = {"inp": Feed.PORT, "neuron_a_in": Feed.NEURON, "bias_mant": Feed.BIAS}
NAMES = {"u": "current", "v": "voltage", "act": "activation"}


def simulation(net: Path, golden: dict[str, np.ndarray], python: Path) -> Job:
    config = json.loads(str(golden["config"]))
    options = config["kwargs"]
    shape = options.get("input_shape")
    simulator = LavaSimulator(
        net,
        python=python,
        input_bits=options.get("input_message_bits"),
        input_shape=shape and shape[::-1],
        spike_exponent=options.get("spike_exp", 6),
        sparse_fc_layer=options.get("sparse_fc_layer", False),
    )
    return simulator.job(
        golden["x"].T[np.newaxis],
        timing=Stream(
            steps=config["T"],
            reset_interval=options.get("reset_interval"),
            reset_offset=options.get("reset_offset", 0),
        ),
        feed=FEEDS[config["feed"]],
        record=Record(final_states=True),
    )


@pytest.fixture(scope="session")
def golden() -> dict[str, dict[str, np.ndarray]]:
    cases = {}
    for name in CASES:
        with np.load(GOLDEN / f"{name}.npz") as file:
            cases[name] = dict(file)
    return cases


@pytest.fixture(scope="session")
def recordings(
    any_lava: Path,
    golden: dict[str, dict[str, np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Recording]:
    """All cases, run one after the other in one worker."""
    jobs = {name: simulation(GOLDEN / f"{name}.net", golden[name], any_lava) for name in CASES}
    # Case 25 has traces of both layers; those of the first are its last layer's when cut short.
    short = tmp_path_factory.mktemp("golden") / "25_first_layer.net"
    with h5py.File(GOLDEN / "25_complex_rf.net") as whole, h5py.File(short, "w") as cut:
        whole.copy("layer/0", cut.create_group("layer"))
    jobs["25_first_layer"] = simulation(short, golden["25_complex_rf"], any_lava)
    return dict(zip(jobs, run_jobs(any_lava, list(jobs.values())), strict=True))


def test_all_cases_are_here() -> None:
    assert len(CASES) == 25


@pytest.mark.parametrize("name", CASES)
def test_recorded_numbers_are_equal(
    name: str,
    recordings: dict[str, Recording],
    golden: dict[str, dict[str, np.ndarray]],
) -> None:
    recording, expected = recordings[name], golden[name]
    compared = 0
    for key, value in expected.items():
        if key[0] == "s" and key[1:].isdigit():
            found = recording.spikes[int(key[1:])]
        elif key.endswith("_final"):
            state, layer = key[: -len("_final") - 1], int(key[-len("_final") - 1])
            assert recording.final_states is not None
            found = recording.final_states[layer][NAMES.get(state, state)]
        elif key.endswith("_trace"):
            state, layer = key[: -len("_trace") - 1], int(key[-len("_trace") - 1])
            is_last = layer == len(recording.layers) - 1
            traces = recording.traces if is_last else recordings["25_first_layer"].traces
            found = traces[NAMES.get(state, state)]
        else:
            assert not key.startswith(("s", "u", "v"))
            continue
        np.testing.assert_array_equal(found[0], value.T, err_msg=key)  # Lava: (W, H, C, T)
        compared += 1
    assert compared >= 3
