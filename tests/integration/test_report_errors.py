"""Nonsense given to `report`, `fit` and `macs`: one clear error, exit code 1, little memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy.errors import DataError
from neurodeploy.ir import Graph
from neurodeploy.ir.float_layers import (
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Input,
    Integrator,
)

DENSE = "01_dense_basic.net"
HUGE = 10**9


@pytest.fixture
def refused(neurodeploy):
    def run(*arguments: object) -> str:
        outcome = neurodeploy(*arguments)
        assert outcome.code == 1
        assert outcome.out == ""
        assert len(outcome.errors) == 1, outcome.err
        return outcome.errors[0]

    return run


def changed(source: Path, target: Path, key: str, **dataset: object) -> Path:
    """Copy a network and put another dataset in the place of one of it."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        del file[key]
        file.create_dataset(key, **dataset)
    return target


def test_weights_that_are_floats_are_not_deployed(refused, golden, samples, tmp_path) -> None:
    shape = (20, 24)
    weight = np.random.default_rng(0).normal(size=shape)
    net = changed(golden / DENSE, tmp_path / "float.net", "layer/0/weight", data=weight)
    source = samples(np.ones((1, 4, 24), int))
    said = refused("report", net, "-i", source, "--json")
    assert "layer/0/weight: fractions are dropped" in said
    assert "deploy it first" in said


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a torch file", b"\x89HDF\r\n\x1a\n cut"])
def test_files_that_are_no_networks(content, refused, samples, tmp_path) -> None:
    net = tmp_path / "model.pt"
    net.write_bytes(content)
    assert "model.pt" in refused("report", net, "-i", samples(np.ones((1, 4, 24), int)), "--json")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_networks(share, refused, golden, samples, tmp_path) -> None:
    whole = (golden / DENSE).read_bytes()
    net = tmp_path / "cut.net"
    net.write_bytes(whole[: int(share * len(whole))])
    assert "cut.net" in refused("report", net, "-i", samples(np.ones((1, 4, 24), int)), "--json")


def test_without_samples_there_is_no_report(refused, golden, tmp_path) -> None:
    missing = tmp_path / "missing.npz"
    assert "missing.npz" in refused("report", golden / DENSE, "-i", missing, "--json")


def test_a_recording_without_counts_says_what_to_record(golden) -> None:
    graph = nd.netx.read(golden / DENSE)
    inputs = np.ones((1, 4, 24), np.int32)
    recording = nd.EventSimulator(graph).run(inputs, record=nd.Record(spikes=()))
    with pytest.raises(DataError, match=r"Record\(counts=True\)"):
        nd.report(graph, inputs, recording)


def float_network(*, has_norm: bool) -> Graph:
    nodes = {
        "input": Input(shape=(1, 4, 4)),
        "conv": Conv(weight=np.ones((2, 1, 3, 3))),
        "norm": BatchNorm(scale=np.ones(2), shift=np.zeros(2)),
        "neuron": Cuba(threshold=1.0),
        "flat": Flatten(),
        "dense": Dense(weight=np.ones((3, 8))),
        "out": Integrator(),
    }
    if not has_norm:
        del nodes["norm"]
    return Graph(nodes=nodes, edges=tuple(pairwise(nodes)))


@pytest.mark.parametrize(
    ("has_norm", "words"), [(True, "batch norm 'norm' is not folded"), (False, "holds floats")]
)
def test_float_networks_are_refused(golden, has_norm, words) -> None:
    graph = nd.netx.read(golden / DENSE)
    inputs = np.ones((1, 4, 24), np.int32)
    recording = nd.EventSimulator(graph).run(inputs, record=nd.Record(counts=True))
    with pytest.raises(DataError, match=words):
        nd.report(float_network(has_norm=has_norm), inputs, recording)


# --- a small file that declares a large tensor -----------------------------------------------


def memory_of(*arguments: object) -> tuple[int, str, float]:
    """Run a command in a process of its own: exit code, errors, peak memory in MiB."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from neurodeploy.cli import main\n"
        f"sys.argv = ['neurodeploy', *{[str(one) for one in arguments]!r}]\n"
        "code = 0\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    code = end.code\n"
        # getrusage would also count what this process held when it started the other one
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "peak = next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1024\n"
        "sys.stdout.write(f'\\n[{int(code or 0)}, {peak}]')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    code, peak = json.loads(done.stdout.splitlines()[-1])
    return code, done.stderr, peak


@pytest.mark.parametrize(
    ("key", "dataset"),
    [
        ("layer/0/weight", {"shape": (HUGE // 24, 24), "dtype": "i4", "chunks": (1024, 24)}),
        ("layer/0/bias", {"shape": (HUGE,), "dtype": "i4", "chunks": (1024,)}),
        ("layer/0/shape", {"data": np.array([HUGE], np.int64)}),
    ],
)
@pytest.mark.parametrize("command", ["report", "fit"])
def test_networks_that_declare_a_billion_values(
    command, key, dataset, golden, samples, tmp_path
) -> None:
    net = changed(golden / DENSE, tmp_path / "huge.net", key, **dataset)
    assert net.stat().st_size < 1 << 20
    options = ["-i", samples(np.ones((1, 4, 24), int))] if command == "report" else []
    code, said, peak = memory_of(command, net, *options, "--json")
    assert code == 1
    assert "huge.net" in said
    assert "Traceback" not in said
    assert peak < 600


def test_samples_that_declare_a_billion_values(golden, tmp_path) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.int64)) | {
        "shape": (HUGE // 96, 4, 24)
    }
    member = tmp_path / "input.npy"
    with member.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    archive = tmp_path / "huge.npz"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(member, "input.npy")
    code, said, peak = memory_of("report", golden / DENSE, "-i", archive, "--json")
    assert code == 1
    assert "huge.npz" in said
    assert peak < 600


# --- the ANN beside it -----------------------------------------------------------------------


def matmul(path: Path, inputs: list[int | str], weight: tuple[int, int]) -> Path:
    """Write a model of one product whose weight is declared but need not be stored."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    stored = helper.make_tensor("w", kind, (2, 2), [1.0] * 4)
    del stored.dims[:]
    stored.dims.extend(weight)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "g",
        [helper.make_tensor_value_info("x", kind, inputs)],
        [helper.make_tensor_value_info("y", kind, None)],
        [stored],
    )
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("inputs", "weight", "words"),
    [
        (["batch", "n", 2], (2, 2), "--bind n=1"),
        ([1, 2], (HUGE, HUGE), "does not store it"),
        ([1, 3], (2, 2), "model.onnx"),
    ],
)
def test_models_that_cannot_be_counted(inputs, weight, words, golden, samples, tmp_path) -> None:
    model = matmul(tmp_path / "model.onnx", inputs, weight)
    source = samples(np.ones((1, 4, 24), int))
    code, said, peak = memory_of("report", golden / DENSE, "-i", source, "--ann", model, "--json")
    assert code == 1
    assert words in " ".join(said.split())
    assert "Traceback" not in said
    assert peak < 800


# --- nothing, and next to nothing ---------------------------------------------------------------


@pytest.mark.parametrize("command", [("report", "--json"), ("simulate", "--json", "-o", "out.npz")])
@pytest.mark.parametrize("shape", [(0, 4, 24), (2, 0, 24)])
def test_no_samples_and_no_steps_are_refused(
    command, shape, refused, golden, samples, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(command[0], golden / DENSE, "-i", samples(np.zeros(shape, int)), *command[1:])
    assert "at least one" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz"]


@pytest.mark.parametrize("command", [("report", "--json"), ("simulate", "--json", "-o", "out.npz")])
@pytest.mark.parametrize("array", [np.zeros((3, 4, 24), int), np.ones((1, 1, 24), int)])
def test_shares_of_nothing_are_numbers(
    command, array, neurodeploy, golden, samples, tmp_path, monkeypatch
) -> None:
    """No event at all, and one step of one sample."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    monkeypatch.chdir(tmp_path)
    outcome = neurodeploy(command[0], golden / DENSE, "-i", samples(array), *command[1:])
    assert outcome.code == 0
    found = json.loads(outcome.out, parse_constant=refuse)  # NaN, Infinity
    assert (found["workload"] if command[0] == "report" else found)["samples"] == len(array)
