"""Window timing on Lava: zero state, output step t answers input step t, whatever the network."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import (
    DataError,
    LavaRuntimeError,
    SimulationError,
)
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.lava_bridge.worker import run_jobs
from neurodeploy.simulation.recording import (
    Feed,
    Record,
    Stream,
    Window,
)

pytestmark = pytest.mark.lava

GOLDEN = Path(__file__).parents[1] / "golden"
Ints = npt.NDArray[np.int64]


def write_layer(path: Path, index: int, kind: str, neuron: dict[str, object], **data: Ints) -> None:
    with h5py.File(path, "a") as file:
        layer = file.create_group(f"layer/{index}")
        layer["type"] = np.bytes_(kind.encode())
        layer["shape"] = np.array([len(data["weight"])])
        for name, value in data.items():
            layer[name] = value
        group = layer.create_group("neuron")
        for name, value in neuron.items():
            group[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def truncated(value: Ints, decay: int) -> Ints:
    return np.sign(value) * (np.abs(value) * (4096 - decay) >> 12)


class DenseLayer:
    """One dense layer of LIF neurons in plain integers, from zero state; no wraps, no clips."""

    def __init__(self, rng: np.random.Generator, n_in: int, n: int, *, delay: int, rec: bool):
        self.weight = rng.integers(-60, 100, (n, n_in))
        self.weight[0, :2] = -60, 90  # both signs: the weights are then exact
        self.bias = rng.integers(-20, 40, n)
        self.delay = rng.integers(0, delay + 1, (n, n_in)) if delay else None
        self.weight_rec = rng.integers(-60, 61, (n, n)) if rec else None
        self.params = {"iDecay": 1500, "vDecay": 300, "vThMant": 60}

    def write(self, path: Path, index: int) -> None:
        data = {"weight": self.weight, "bias": self.bias}
        if self.delay is not None:
            data["delay"] = self.delay
        if self.weight_rec is not None:
            data["weight_rec"] = self.weight_rec
        kind = "dense" if self.weight_rec is None else "dense_rec"
        write_layer(path, index, kind, {"type": "CUBA", **self.params}, **data)

    def run(self, x: Ints) -> Ints:
        steps = len(x)
        u = v = np.zeros(len(self.weight), np.int64)
        drive = np.zeros((steps + 64, len(self.weight)), np.int64)
        delays = np.zeros_like(self.weight) if self.delay is None else self.delay
        for t in range(steps):
            for d in range(delays.max() + 1):
                drive[t + d] += (self.weight * (delays == d)) @ x[t]
        spikes = np.zeros((steps, len(self.weight)), np.int64)
        for t in range(steps):
            a = drive[t]
            if self.weight_rec is not None and t:
                a = a + self.weight_rec @ spikes[t - 1]
            u = truncated(u, self.params["iDecay"]) + (a << 6)
            v = truncated(v, self.params["vDecay"]) + u + (self.bias << 6)
            spikes[t] = v > self.params["vThMant"] << 6
            v = np.where(spikes[t], 0, v)
        return spikes


@pytest.mark.parametrize(
    ("delays", "recurrent", "steps"),
    [
        ((0, 0), (False, False), 12),
        ((0, 0), (False, False), 1),
        ((3, 7), (False, False), 12),
        ((0, 0), (True, True), 12),
    ],
    ids=["feed-forward", "one step", "delays", "recurrent"],
)
def test_windows_equal_separate_runs_from_zero_state(
    lava: Path, tmp_path: Path, delays: tuple[int, int], recurrent: tuple[bool, bool], steps: int
) -> None:
    rng = np.random.default_rng(5)
    layers = [
        DenseLayer(rng, 6, 9, delay=delays[0], rec=recurrent[0]),
        DenseLayer(rng, 9, 5, delay=delays[1], rec=recurrent[1]),
    ]
    path = tmp_path / "net.net"
    for index, layer in enumerate(layers):
        layer.write(path, index)
    inputs = (rng.random((3, steps, 6)) < 0.4).astype(np.int64)
    counts: list[tuple[int, int]] = []
    recording = LavaSimulator(path).run(
        inputs, timing=Window(steps=steps), progress=lambda *count: counts.append(count)
    )
    for sample in range(3):
        x = inputs[sample]
        for index, layer in enumerate(layers):
            x = layer.run(x)
            np.testing.assert_array_equal(recording.spikes[index][sample], x, err_msg=str(index))
    assert recording.spikes[0].any()
    assert counts[-1] == (3, 3)


def test_sigma_delta_windows_start_from_zero(lava: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.net"
    weights = np.array([[3, -2], [1, 4]])
    bias = np.array([5, -3])
    for index in range(2):
        write_layer(path, index, "dense", {"type": "SDNN", "vThMant": 4}, weight=weights, bias=bias)
    inputs = np.random.default_rng(0).integers(-9, 10, (2, 6, 2))
    recording = LavaSimulator(path, input_bits=16).run(
        inputs, timing=Window(), record=Record(final_states=True)
    )
    assert recording.final_states is not None
    for sample in range(2):
        x = inputs[sample]
        for index in range(2):
            sigma = act = residue = np.zeros(2, np.int64)
            out = np.zeros((6, 2), np.int64)
            for t in range(6):
                sigma = sigma + weights @ x[t]
                rectified = np.maximum(sigma + (bias << 12), 0)
                delta = rectified - act + residue
                sent = np.where(np.abs(delta) >= 4 << 12, delta, 0)
                residue, act = delta - sent, rectified
                out[t] = sent >> 6
            np.testing.assert_array_equal(recording.spikes[index][sample], out)
            final = recording.final_states[index]
            np.testing.assert_array_equal(final["sigma"][sample], sigma)
            np.testing.assert_array_equal(final["activation"][sample], act)
            np.testing.assert_array_equal(final["residue"][sample], residue)
            x = out


WINDOWED = {"02_dense_reset": 8, "10_conv_flatten_dense": 10, "24_mini_resnet": 16}


def test_windows_equal_golden_reset_windows(lava: Path) -> None:
    """Lava's own resets cut the recorded runs into windows; layer k's begin at column k + 1."""
    jobs, expected = [], []
    for name, steps in WINDOWED.items():
        golden = np.load(GOLDEN / f"{name}.npz")
        x = golden["x"].T
        windows = min(
            len(x) // steps, (len(x) - len(json.loads(str(golden["config"]))["shapes"])) // steps
        )
        inputs = x[: windows * steps].reshape(windows, steps, *x.shape[1:])
        simulator = LavaSimulator(GOLDEN / f"{name}.net")
        jobs.append(
            simulator.job(inputs, timing=Window(steps=steps), record=Record(final_states=True))
        )
        expected.append(golden)
    for job, golden, recording in zip(jobs, expected, run_jobs(lava, jobs), strict=True):
        for layer, spikes in enumerate(recording.spikes):
            columns = golden[f"s{layer}"].T[layer + 1 :][: len(job.inputs) * job.steps]
            np.testing.assert_array_equal(spikes.reshape(columns.shape), columns)
        last = len(recording.spikes) - 1
        trace = golden[f"v{last}_trace"].T[last + 1 :][: len(job.inputs) * job.steps]
        np.testing.assert_array_equal(recording.voltage.reshape(trace.shape), trace)
        assert recording.final_states is not None
        np.testing.assert_array_equal(
            recording.final_states[last]["voltage"], recording.voltage[:, -1]
        )


def test_bias_images_change_between_windows(lava: Path) -> None:
    golden = np.load(GOLDEN / "21_input_block_lif.npz")
    image = golden["x"].T
    images = np.stack([image, np.zeros_like(image), image[::-1] // 2, image])
    simulator = LavaSimulator(GOLDEN / "21_input_block_lif.net")
    windows = simulator.job(
        images, timing=Window(steps=12), feed=Feed.BIAS, record=Record(final_states=True)
    )
    alone = [
        simulator.job(
            images[i : i + 1],
            timing=Window(steps=12),
            feed=Feed.BIAS,
            record=Record(final_states=True),
        )
        for i in range(4)
    ]
    together, *separate = run_jobs(lava, [windows, *alone])
    for index, recording in enumerate(separate):
        for layer in range(3):
            np.testing.assert_array_equal(together.spikes[layer][index], recording.spikes[layer][0])
            assert together.final_states is not None
            assert recording.final_states is not None
            for name, state in together.final_states[layer].items():
                np.testing.assert_array_equal(state[index], recording.final_states[layer][name][0])
    for layer in range(3):
        columns = golden[f"s{layer}"].T[layer : layer + 12]
        np.testing.assert_array_equal(together.spikes[layer][3], columns)


def test_many_fresh_runs_in_one_process_stay_exact(lava: Path) -> None:
    golden = np.load(GOLDEN / "07_dense_rec.npz")
    inputs = np.repeat(golden["x"].T[np.newaxis], 6, axis=0)
    recording = LavaSimulator(GOLDEN / "07_dense_rec.net").run(inputs, timing=Stream(steps=40))
    for spikes, key in zip(recording.spikes, ("s0", "s1"), strict=True):
        for sample in range(6):
            np.testing.assert_array_equal(spikes[sample], golden[key].T)


def test_feed_that_the_file_does_not_have(lava: Path) -> None:
    with pytest.raises(SimulationError, match="input neuron block"):
        LavaSimulator(GOLDEN / "21_input_block_lif.net").run(np.zeros((1, 2, 3, 7, 9), np.int32))
    with pytest.raises(SimulationError, match="needs an input block"):
        LavaSimulator(GOLDEN / "01_dense_basic.net").run(
            np.zeros((1, 2, 24), np.int32), feed=Feed.NEURON
        )


def test_input_of_the_wrong_shape(lava: Path) -> None:
    with pytest.raises(DataError, match=r"\(samples, T, 3, 8, 8\) is required"):
        LavaSimulator(GOLDEN / "10_conv_flatten_dense.net").run(np.zeros((1, 2, 3, 8, 7), np.int32))


def test_number_of_layer_names(lava: Path) -> None:
    simulator = LavaSimulator(GOLDEN / "01_dense_basic.net", layer_names=["only one"])
    with pytest.raises(SimulationError, match="2 layers of this file, 1 names"):
        simulator.run(np.zeros((1, 2, 24), np.int32))


def lif(path: Path, **neuron: object) -> Path:
    values = {"type": "CUBA", "iDecay": 4096, "vDecay": 4096, "vThMant": 10, **neuron}
    write_layer(
        path, 0, "dense_rec", values, weight=np.array([[-1, 4]]), weight_rec=np.array([[1]])
    )
    return path


def test_file_that_makes_lava_hang(lava: Path, tmp_path: Path) -> None:
    """A float threshold raises in a process of Lava's, for which Lava waits for ever."""
    simulator = LavaSimulator(lif(tmp_path / "float.net", vThMant=10.5))
    with pytest.raises(LavaRuntimeError, match="a process of the network ended: TypeError"):
        simulator.run(np.ones((1, 3, 2), np.int32))


def test_file_that_lava_cannot_load(lava: Path, tmp_path: Path) -> None:
    path = tmp_path / "zero.net"
    write_layer(path, 0, "dense", {"type": "CUBA"}, weight=np.zeros((2, 3), np.int64))
    with pytest.raises(LavaRuntimeError, match="KeyError"):
        LavaSimulator(path).run(np.ones((1, 3, 3), np.int32))


def test_network_that_spikes_unasked(lava: Path, tmp_path: Path) -> None:
    simulator = LavaSimulator(lif(tmp_path / "eager.net", vThMant=-1))
    with pytest.raises(SimulationError, match="spikes before its first input"):
        simulator.run(np.ones((1, 3, 2), np.int32))
