"""What Lava does not read, and what it wraps: each as the reader says it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurodeploy.errors import NeurodeployWarning
from neurodeploy.lava_bridge import LavaSimulator
from neurodeploy.netx import read
from neurodeploy.simulation import EventSimulator, Record, Stream
from neurodeploy.simulation.recording import Recording
from neurodeploy.testing import assert_bit_exact

pytestmark = pytest.mark.lava

LIF = {"type": "CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 900}
SIGMA_DELTA = {"type": "SDNN", "vThMant": 3}
REPORTED = Path(__file__).parents[1] / "unit" / "netx" / "reported"


def write(path: Path, neuron: Mapping[str, object], layer: Mapping[str, object]) -> Path:
    """One dense layer of 3 neurons and 4 inputs."""
    rng = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        group = file.create_group("layer/0")
        group["type"], group["shape"] = np.bytes_(b"dense"), np.array([3])
        group["weight"] = 2 * rng.integers(-60, 61, (3, 4))
        for name, value in layer.items():
            group[name] = value
        for name, value in neuron.items():
            group[f"neuron/{name}"] = np.bytes_(value.encode()) if isinstance(value, str) else value
    return path


def run_lava(lava: Path, net: Path, inputs: np.ndarray, names: tuple[str, ...]) -> Recording:
    simulator = LavaSimulator(net, python=lava, input_bits=8, layer_names=names)
    return simulator.run(inputs, timing=Stream(), record=Record(states=(names[-1],)))


def inputs(count: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 3, (1, 12, count)).astype(np.int32)


@pytest.mark.parametrize(
    ("neuron", "bias"),
    [(LIF, [40000, -32769, 32767]), (SIGMA_DELTA, [2**19 - 1, 2**19, -(2**19) - 7])],
    ids=["lif", "sigma-delta"],
)
def test_a_bias_out_of_range_wraps_in_lava_as_in_ours(
    lava: Path, tmp_path: Path, neuron: Mapping[str, object], bias: list[int]
) -> None:
    net = write(tmp_path / "a.net", neuron, {"bias": np.array(bias)})
    with pytest.warns(NeurodeployWarning, match="bias: values from .* wrap"):
        graph = read(net, input_bits=8)
    ours = EventSimulator(graph).run(
        inputs(4), timing=Stream(), record=Record(states=(graph.names[-1],))
    )
    assert_bit_exact(ours, run_lava(lava, net, inputs(4), graph.names))


@pytest.mark.parametrize(
    ("neuron", "layer"),
    [
        (LIF | {"refDelay": 5}, {}),
        (LIF | {"wgtExp": 3}, {}),
        (SIGMA_DELTA | {"activation": "tanh"}, {}),
        (LIF, {"delays": np.array([3, 4, 5]), "biass": np.array([7, 8, 9])}),
        (LIF, {"weight_rec": 2 * np.eye(3), "delay_rec": np.ones((3, 3))}),
    ],
    ids=["refDelay", "wgtExp", "activation", "misspelt", "recurrence"],
)
def test_lava_drops_what_is_refused_here(
    lava: Path, tmp_path: Path, neuron: dict[str, object], layer: dict[str, object]
) -> None:
    """If Lava read any of these, its numbers would differ from those of a file without them."""
    odd = write(tmp_path / "odd.net", neuron, layer)
    known = LIF if neuron["type"] == "CUBA" else SIGMA_DELTA
    plain = write(tmp_path / "plain.net", known, {})
    found, expected = (run_lava(lava, net, inputs(4), ("dense",)) for net in (odd, plain))
    assert_bit_exact(found, expected)
    with pytest.warns(NeurodeployWarning, match="Lava does not read it, nor do we"):
        read(odd, accept_silent_faults=True)


def test_a_null_graded_spike_runs_on_lava(lava: Path) -> None:
    net = REPORTED / "null_graded_spike.net"
    with np.load(REPORTED / "null_graded_spike.npz") as file:
        sample = file["input"][:1]
    simulator = LavaSimulator(net, python=lava)
    found = simulator.run(sample, timing=Stream(), record=Record(states=("layer1",)))
    voltage = found.states["layer1"]["voltage"]
    assert voltage[0, -1].tolist() == [-45432, -31286, -262173, 122519]
