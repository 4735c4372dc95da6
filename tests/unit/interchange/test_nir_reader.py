"""NIR files of strangers: what nir.read reads is read alike, and every fault is one error."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy.errors import InterchangeError
from neurodeploy.interchange.nir_reader import DEPTH_MAX, read_nir, take_nir
from neurodeploy.interchange.nir_schema import PRIMITIVES

GOLDEN = Path(__file__).parents[2] / "golden" / "interchange"
FILES = sorted(GOLDEN.glob("*.nir"))
READ_BY_NIR = [path for path in FILES if not path.name.startswith("19")]


@pytest.mark.parametrize("path", READ_BY_NIR, ids=lambda path: path.stem)
def test_arrays_and_edges_are_those_of_nir_read(path: Path) -> None:
    theirs = nir.read(path, type_check=False)
    from_file, from_memory = read_nir(path), take_nir(theirs)
    assert set(from_file.edges) == set(from_memory.edges)
    assert from_file.nodes.keys() == from_memory.nodes.keys()
    for name, node in from_file.nodes.items():
        assert node.kind == from_memory.nodes[name].kind
        for field in PRIMITIVES[node.kind]:
            a, b = node.values[field.name], from_memory.nodes[name].values[field.name]
            np.testing.assert_array_equal(a, b, err_msg=f"{name}.{field.name}")
        inside = theirs.nodes.get(name)
        if inside is not None and hasattr(inside, "weight"):
            np.testing.assert_array_equal(node.values["weight"], inside.weight)


def test_a_graph_in_memory_runs_as_its_file() -> None:
    path = GOLDEN / "04_snntorch_conv_avgpool.nir"
    with np.load(path.with_suffix(".npz")) as arrays:
        inputs = arrays["input"]
    theirs, ours = nd.import_nir(nir.read(path)).run(inputs), nd.import_nir(path).run(inputs)
    for name, spikes in ours.items():
        np.testing.assert_array_equal(theirs[name], spikes)


@pytest.mark.parametrize("shape", [[13], [0], [], [1 << 40, 1 << 40], [20, 1, 12]])
def test_weights_are_believed_more_than_the_stated_shape(tmp_path: Path, shape: list[int]) -> None:
    path = write(tmp_path, put("node/nodes/input/shape", np.array(shape, np.int64)))
    assert nd.import_nir(path).graph.input.shape == (12,)
    assert nd.import_nir(write(tmp_path, lambda f: f["node/nodes/input"].pop("shape"))).run(
        np.ones((1, 2, 12))
    )["1"].shape == (1, 2, 24)


def test_missing_fields_have_the_defaults_of_old_files(tmp_path: Path) -> None:
    path = write(tmp_path, lambda file: file["node/nodes/1"].pop("v_reset"))
    assert read_nir(path).nodes["1"].array("v_reset") == 0


# ------------------------------------------------------------------ hostile files


def write(folder: Path, edit: Callable[[h5py.File], object]) -> Path:
    """A copy of the first case, edited."""
    path = folder / "edited.nir"
    path.write_bytes((GOLDEN / "01_snntorch_leaky_dense.nir").read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def put(name: str, value: object) -> Callable[[h5py.File], object]:
    def edit(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return edit


def link(name: str, target: object) -> Callable[[h5py.File], object]:
    return put(name, target)


def virtual(file: h5py.File) -> None:
    del file["node/nodes/1/tau"]
    layout = h5py.VirtualLayout(shape=(24,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(24,))
    file["node/nodes/1"].create_virtual_dataset("tau", layout)


def two_gigabytes(file: h5py.File) -> None:
    del file["node/nodes/1/tau"]
    file["node/nodes/1"].create_dataset("tau", shape=(1 << 28,), dtype="f8", chunks=(1 << 16,))


def nested(depth: int) -> Callable[[h5py.File], object]:
    def edit(file: h5py.File) -> None:
        group = file["node/nodes"]
        for _ in range(depth):
            inner = group.create_group("deep")
            inner["type"] = "NIRGraph"
            inner["edges"] = np.array([["in", "out"]], h5py.string_dtype())
            group = inner.create_group("nodes")
            for name, kind in (("in", "Input"), ("out", "Output")):
                group.create_group(name)["type"] = kind
                group[name]["shape"] = [1]

    return edit


def edges(*pairs: tuple[str, str]) -> Callable[[h5py.File], object]:
    return put("node/edges", np.array(pairs, h5py.string_dtype()))


CHAIN = (("input", "0"), ("0", "1"), ("1", "2"), ("2", "3"), ("3", "output"))

HOSTILE = {
    "external link": (link("node/nodes/1/tau", h5py.ExternalLink("/etc/x.h5", "/x")), "a link"),
    "soft link": (link("node/nodes/1/tau", h5py.SoftLink("/node/nodes/1/r")), "a link"),
    "virtual data": (virtual, "in another file"),
    "two gigabytes": (two_gigabytes, "bytes are declared, the file holds 0"),
    "too deep": (nested(DEPTH_MAX + 1), "graphs inside graphs"),
    "very deep": (nested(500), "graphs inside graphs"),
    "text for numbers": (put("node/nodes/1/tau", "long"), "tau"),
    "bools": (put("node/nodes/1/tau", np.ones(24, bool)), "tau"),
    "complex": (put("node/nodes/1/tau", np.ones(24, complex)), "tau"),
    "nothing": (put("node/nodes/1/tau", np.ones((0, 24))), "holds nothing"),
    "no tau": (lambda file: file["node/nodes/1"].pop("tau"), "LIF without 'tau'"),
    "NaN": (put("node/nodes/1/tau", np.full(24, np.nan)), "NaN"),
    "infinity": (put("node/nodes/0/weight", np.full((24, 12), np.inf)), "infinity"),
    "negative tau": (put("node/nodes/1/tau", np.full(24, -1.0)), "1: tau: -1 s"),
    "tiny tau": (put("node/nodes/1/tau", np.full(24, 1e-12)), "less than a step"),
    "negative gain": (
        put("node/nodes/1/r", np.full(24, -1.0)),
        "1: gain: its input is scaled by -",
    ),
    "no threshold": (put("node/nodes/1/v_threshold", np.zeros(24)), "1: v_threshold: 0"),
    "tau of 5": (put("node/nodes/1/tau", np.full(5, 1e-3)), "shape"),
    "0-d weight": (put("node/nodes/0/weight", 1.0), "weight of shape"),
    "weight of 3 axes": (put("node/nodes/0/weight", np.ones((2, 3, 4))), "weight of shape|reads"),
    "bias of 5": (put("node/nodes/0/bias", np.ones(5)), "bias of 5"),
    "unknown type": (put("node/nodes/1/type", "LIFE"), "type 'LIFE' is not known. Known: Input"),
    "type of numbers": (put("node/nodes/1/type", 3), "type"),
    "not a graph": (put("node/type", "LIF"), "'NIRGraph' required"),
    "no nodes": (lambda file: file["node"].pop("nodes"), "no group 'nodes'"),
    "no node": (lambda file: file.pop("node"), "no group 'node'"),
    "a number for a node": (put("node/nodes/1", 3), "not a group"),
    "edges of numbers": (put("node/edges", np.ones((4, 2))), "strings are required"),
    "edges of three": (edges(("0", "1", "2")), r"\(n, 2\)"),  # type: ignore[arg-type]
    "no edges": (lambda file: file["node"].pop("edges"), "nothing leads to it"),
    "edge to nowhere": (edges(*CHAIN, ("1", "nobody")), "no node 'nobody'"),
    "edge twice": (edges(*CHAIN, CHAIN[1]), "twice"),
    "circle": (edges(*CHAIN, ("2", "0")), "circle"),
    "two inputs": (put("node/nodes/4/type", "Input"), "without 'shape'|2 nodes of type Input"),
    "loose node": (edges(*CHAIN[:2], ("1", "output"), ("2", "3")), "nothing leads to it"),
    "dead end": (edges(*CHAIN[:2], ("1", "output"), ("1", "2"), ("2", "3")), "does not lead"),
    "dt of zero": (put("node/metadata/dt", 0.0), "above 0"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_files(tmp_path: Path, fault: str) -> None:
    edit, message = HOSTILE[fault]
    path = write(tmp_path, edit)
    start = time.perf_counter()
    with pytest.raises(InterchangeError, match=message) as error:
        nd.import_nir(path, dt=1e-4)
    assert str(error.value).startswith(str(path))
    assert time.perf_counter() - start < 10  # no hang


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "object of type int"),
        ({"type": "NIRGraph"}, "no 'nodes'"),
        ({"type": 3, "nodes": {}}, "must be a string"),
        ({"type": "NIRGraph", "nodes": {"a": 3}}, "not a node"),
        ({"type": "NIRGraph", "nodes": {"a/b": {"type": "Input"}}}, "without '/'"),
        ({"type": "NIRGraph", "nodes": {"a\n": {"type": "Input"}}}, "printable"),
        ({"type": "NIRGraph", "nodes": {"a": {"type": "Input", "shape": [[1], 2]}}}, "shape"),
        ({"type": "NIRGraph", "nodes": {"a": {"type": "Input", "shape": "x"}}}, "shape"),
        ({"type": "NIRGraph", "nodes": {"a": {"type": "Input", "shape": [1]}}}, "type Output"),
    ],
)
def test_hostile_objects(content: object, message: str) -> None:
    with pytest.raises(InterchangeError, match=message):
        nd.import_nir(content)


def test_no_file_and_no_hdf5(tmp_path: Path) -> None:
    with pytest.raises(InterchangeError, match="no such file"):
        nd.import_nir(tmp_path / "missing.nir")
    (tmp_path / "text.nir").write_text("hello")
    with pytest.raises(InterchangeError, match="A NIR file is HDF5"):
        nd.import_nir(tmp_path / "text.nir")


@pytest.mark.parametrize("path", FILES[:3], ids=lambda path: path.stem)
def test_damaged_bytes(path: Path, tmp_path: Path) -> None:
    """Damage in the first kilobytes, where the structure lies: an error, or the graph as it is."""
    content = path.read_bytes()
    generator = random.Random(3)
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(512, min(len(damaged), 8192))] = generator.randrange(256)
        (tmp_path / "damaged.nir").write_bytes(damaged)
        try:
            nd.import_nir(tmp_path / "damaged.nir")
        except InterchangeError:
            continue
