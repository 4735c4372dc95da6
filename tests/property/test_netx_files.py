"""Reading after writing is the identity, and a damaged file is never more than an error."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from strategies import Options, generators, graphs, random_input

from neurodeploy.errors import (
    NetxError,
    SimulationError,
)
from neurodeploy.ir import (
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    FixedPointGraph,
    SigmaDeltaNeuron,
)
from neurodeploy.ir.integer_layers import Synapse
from neurodeploy.netx import read, write
from neurodeploy.netx.writer import find_faults
from neurodeploy.simulation import (
    EventSimulator,
    Feed,
    Stream,
)
from neurodeploy.testing import assert_bit_exact

GOLDEN = Path(__file__).parents[1] / "golden"
# The fixtures change nothing from one example to the next.
HEALTH = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
chains = graphs(Options(is_chain=True, kinds=("lif", "lif", "lif", "sigma-delta", "resonator")))
any_graph = graphs(Options(is_chain=False, kinds=("lif", "sigma-delta")))


READ_AND_WRITE = """
import sys, warnings
from pathlib import Path
from neurodeploy.errors import NeurodeployError
from neurodeploy.netx import read, write
warnings.simplefilter("ignore")
for line in sys.stdin:
    copy = Path(line.strip()).with_suffix(".copy")
    try:
        write(read(line.strip(), input_shape=(3, 5, 6)), copy)
    except NeurodeployError:
        pass
    copy.unlink(missing_ok=True)
    print("done", flush=True)
"""


class Reader:
    """A process that reads damaged files; where HDF5 hangs or crashes, another takes its place."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def read(self, path: str) -> None:
        """Read a file, and write it again; anything but success or one of our errors fails."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", READ_AND_WRITE],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(path + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], 5.0)
        if ready and self.process.stdout.readline() == "done\n":
            return
        complaint = self.close()
        assert "Traceback" not in complaint, complaint

    def close(self) -> str:
        """End the process, and return its errors."""
        if self.process is None:
            return ""
        process, self.process = self.process, None
        try:
            return process.communicate(timeout=0.2)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[1]


@pytest.fixture(scope="module")
def damaged() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


def spike_exponent(graph: FixedPointGraph) -> int:
    for layer in graph:
        if isinstance(layer.neuron, DeltaNeuron | SigmaDeltaNeuron):
            return layer.neuron.spike_exponent
    return 6


def there_and_back(graph: FixedPointGraph) -> FixedPointGraph:
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("error")
        write(graph, Path(directory) / "a.net")
        return read(Path(directory) / "a.net", spike_exponent=spike_exponent(graph))


def assert_same_array(first: np.ndarray, second: np.ndarray, layer: FixedLayer) -> None:
    assert first.dtype == second.dtype == np.int32
    np.testing.assert_array_equal(
        np.broadcast_to(first, layer.shape), np.broadcast_to(second, layer.shape)
    )


def assert_same_synapse(first: Synapse, second: Synapse) -> None:
    assert type(first) is type(second)
    if isinstance(first, FixedConv) and isinstance(second, FixedConv):
        np.testing.assert_array_equal(first.weight, second.weight)
        assert (first.stride, first.padding, first.dilation, first.groups) == (
            second.stride,
            second.padding,
            second.dilation,
            second.groups,
        )
    elif isinstance(first, FixedDense) and isinstance(second, FixedDense):
        np.testing.assert_array_equal(first.weight, second.weight)
        for ours, theirs in ((first.delay, second.delay), (first.partner, second.partner)):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                np.testing.assert_array_equal(ours, theirs)
    elif isinstance(first, FixedComplexDense) and isinstance(second, FixedComplexDense):
        assert_same_synapse(first.real, second.real)
        assert_same_synapse(first.imaginary, second.imaginary)


def assert_same(first: FixedPointGraph, second: FixedPointGraph) -> None:
    assert first.input == second.input
    assert first.names == second.names
    for ours, theirs in zip(first, second, strict=True):
        assert ours.shape == theirs.shape
        assert_same_array(ours.bias, theirs.bias, ours)
        if isinstance(ours.neuron, CubaNeuron) and isinstance(theirs.neuron, CubaNeuron):
            for name in ("current_decay", "voltage_decay", "threshold"):
                assert_same_array(getattr(ours.neuron, name), getattr(theirs.neuron, name), ours)
        else:
            assert ours.neuron == theirs.neuron
        for mine, yours in zip(ours.connections, theirs.connections, strict=True):
            assert mine.source == yours.source
            assert_same_synapse(mine.synapse, yours.synapse)


@settings(max_examples=150, deadline=None, suppress_health_check=HEALTH)
@given(chains)
def test_reading_after_writing_is_the_identity(graph: FixedPointGraph) -> None:
    assert_same(graph, there_and_back(graph))


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(chains, generators)
def test_a_file_behaves_as_the_graph(graph: FixedPointGraph, rng: np.random.Generator) -> None:
    """Outputs too: a fault in both reader and writer would hide in the arrays."""
    inputs = random_input(rng, graph, samples=2, steps=4)
    feed = Feed.NEURON if graph.has_input_neuron else Feed.PORT
    back = there_and_back(graph)
    try:
        first = EventSimulator(graph).run(inputs, timing=Stream(), feed=feed)
    except SimulationError as error:
        assume("exceeds 32 bits" not in str(error))
        raise
    assert_bit_exact(first, EventSimulator(back).run(inputs, timing=Stream(), feed=feed))


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(any_graph)
def test_what_has_no_faults_can_be_written_and_nothing_else(graph: FixedPointGraph) -> None:
    if find_faults(graph):
        with tempfile.TemporaryDirectory() as directory:
            with pytest.raises(NetxError, match="cannot be written"):
                write(graph, Path(directory) / "a.net")
            assert list(Path(directory).iterdir()) == []
    else:
        assert_same(graph, there_and_back(graph))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.net")), ids=lambda path: path.stem)
def test_files_of_lava_come_back_the_same(path: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = read(path, input_shape=(3, 5, 6) if path.stem.startswith("13") else None)
    if find_faults(graph):
        assert path.stem in ("04_dense_weight_range",)
        return
    write(graph, tmp_path / "a.net")
    assert_same(graph, read(tmp_path / "a.net"))


ORIGINALS = [
    (GOLDEN / f"{name}.net").read_bytes()
    for name in (
        "05_dense_delay",
        "07_dense_rec",
        "11_conv_rect_dilated",
        "22_sdnn",
        "25_complex_rf",
    )
]


def read_damaged(content: bytes, reader: Reader) -> None:
    with tempfile.NamedTemporaryFile(suffix=".net") as file:
        file.write(content)
        file.flush()
        reader.read(file.name)


@settings(max_examples=150, deadline=None, suppress_health_check=HEALTH)
@given(
    st.sampled_from(ORIGINALS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1,
             max_size=12),
)  # fmt: skip
def test_changed_bytes(damaged: Reader, original: bytes, changes: list[tuple[float, int]]) -> None:
    content = bytearray(original)
    for position, value in changes:
        content[int(position * len(content))] = value
    read_damaged(bytes(content), damaged)


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(st.sampled_from(ORIGINALS), st.floats(0, 1), st.binary(max_size=64))
def test_cut_files(damaged: Reader, original: bytes, share: float, tail: bytes) -> None:
    read_damaged(original[: int(share * len(original))] + tail, damaged)


@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(st.sampled_from(ORIGINALS), st.floats(0, 1), st.floats(0, 1), st.integers(1, 200))
def test_moved_blocks(
    damaged: Reader, original: bytes, source: float, target: float, size: int
) -> None:
    """Structures of HDF5 in the wrong place: pointers that lead elsewhere."""
    content = bytearray(original)
    first, second = int(source * len(content)), int(target * len(content))
    content[second : second + size] = content[first : first + size]
    read_damaged(bytes(content), damaged)
