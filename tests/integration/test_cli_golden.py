"""Every case recorded from Lava, through the command line, in the axes of its contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.npz"))
LAVA_CASES = ("02_dense_reset", "13_conv_graded_signed", "21_input_block_lif", "22_sdnn")
FEEDS = {"inp": "port", "neuron_a_in": "neuron", "bias_mant": "bias"}
TRACES = {
    "u": "current",
    "v": "voltage",
    "sigma": "sigma",
    "act": "activation",
    "residue": "residue",
    "real": "real",
    "imag": "imag",
}
Array = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One recorded case: what to give to the command, and what must come out.

    Attributes:
        options: Of `simulate`, beside files and backend.
        inputs: In the axes of the command.
        expected: Arrays of OUT.npz by name.
    """

    options: list[str]
    inputs: Array
    expected: dict[str, Array]


def from_lava(array: Array) -> Array:
    """Return (x, y, c, t) or (n, t) as (1, t, c, y, x) or (1, t, n); without t likewise."""
    return np.ascontiguousarray(array.T)[np.newaxis]


def load_case(name: str) -> Case:
    stored = np.load(GOLDEN / f"{name}.npz")
    config = json.loads(str(stored["config"]))
    arguments = config["kwargs"]
    options = ["--stream", "--steps", str(config["T"]), "--feed", FEEDS[config["feed"]]]
    for key, option in (
        ("reset_interval", "--reset-interval"),
        ("reset_offset", "--reset-offset"),
        ("input_message_bits", "--input-bits"),
        ("spike_exp", "--spike-exp"),
    ):
        if key in arguments:
            options += [option, str(arguments[key])]
    if "input_shape" in arguments:
        options += ["--input-shape", ",".join(map(str, reversed(arguments["input_shape"])))]
    layers = config["layers"]
    expected = {f"spikes_{k}": from_lava(stored[f"s{k}"]) for k in range(layers)}
    for short, long in TRACES.items():
        key = f"{short}{layers - 1}_trace"
        if key in stored:
            expected[long] = from_lava(stored[key])
    return Case(options=options, inputs=from_lava(stored["x"]), expected=expected)


@pytest.fixture
def check(tmp_path: Path, neurodeploy: Callable[..., object]) -> Callable[[str, str], None]:
    def run(name: str, backend: str) -> None:
        case = load_case(name)
        source, output = tmp_path / "in.npz", tmp_path / "out.npz"
        np.savez(source, input=case.inputs)
        outcome = neurodeploy(
            "simulate",
            GOLDEN / f"{name}.net",
            "--input",
            source,
            "--output",
            output,
            "--backend",
            backend,
            "--json",
            *case.options,
        )
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["samples"] == 1
        with np.load(output, allow_pickle=False) as found:
            assert set(found) >= set(case.expected)
            for key, expected in case.expected.items():
                assert found[key].shape == expected.shape, key
                np.testing.assert_array_equal(found[key], expected, err_msg=key)

    return run


@pytest.mark.parametrize("name", CASES)
def test_the_event_simulator_gives_what_lava_recorded(
    name: str, check: Callable[[str, str], None]
) -> None:
    check(name, "event")


@pytest.mark.lava
@pytest.mark.parametrize("name", LAVA_CASES)
def test_real_lava_gives_what_was_recorded(name: str, check: Callable[[str, str], None]) -> None:
    check(name, "lava")


def test_no_case_is_missing() -> None:
    assert len(CASES) == 25
