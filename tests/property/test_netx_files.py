"""Reading after writing is the identity, and a damaged file is never more than an error."""

from __future__ import annotations

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
    NeurodeployError,
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
from neurodeploy.netx import (
    read,
    reader,
    write,
)
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


@pytest.fixture
def no_trial() -> Iterator[None]:
    """Files just written need no trial in a forked copy, which takes most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "find_trouble", lambda action, seconds: None)
        yield


@pytest.fixture
def short_trial() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "TRIAL_SECONDS", 2.0)
        yield


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


@pytest.mark.usefixtures("no_trial")
@settings(max_examples=150, deadline=None, suppress_health_check=HEALTH)
@given(chains)
def test_reading_after_writing_is_the_identity(graph: FixedPointGraph) -> None:
    assert_same(graph, there_and_back(graph))


@pytest.mark.usefixtures("no_trial")
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


@pytest.mark.usefixtures("no_trial")
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


def read_damaged(content: bytes) -> None:
    """Anything but success or one of our errors is a failure."""
    with tempfile.NamedTemporaryFile(suffix=".net") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.write(content)
        file.flush()
        try:
            graph = read(file.name, input_shape=(3, 5, 6))
            write(graph, Path(file.name).with_suffix(".copy"))
        except NeurodeployError:
            pass
        finally:
            Path(file.name).with_suffix(".copy").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.usefixtures("short_trial")
@settings(max_examples=150, deadline=None, suppress_health_check=HEALTH)
@given(
    st.sampled_from(ORIGINALS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1,
             max_size=12),
)  # fmt: skip
def test_changed_bytes(original: bytes, changes: list[tuple[float, int]]) -> None:
    content = bytearray(original)
    for position, value in changes:
        content[int(position * len(content))] = value
    read_damaged(bytes(content))


@pytest.mark.usefixtures("short_trial")
@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(st.sampled_from(ORIGINALS), st.floats(0, 1), st.binary(max_size=64))
def test_cut_files(original: bytes, share: float, tail: bytes) -> None:
    read_damaged(original[: int(share * len(original))] + tail)


@pytest.mark.usefixtures("short_trial")
@settings(max_examples=60, deadline=None, suppress_health_check=HEALTH)
@given(st.sampled_from(ORIGINALS), st.floats(0, 1), st.floats(0, 1), st.integers(1, 200))
def test_moved_blocks(original: bytes, source: float, target: float, size: int) -> None:
    """Structures of HDF5 in the wrong place: pointers that lead elsewhere."""
    content = bytearray(original)
    first, second = int(source * len(content)), int(target * len(content))
    content[second : second + size] = content[first : first + size]
    read_damaged(bytes(content))
