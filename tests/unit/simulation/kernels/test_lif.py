"""Compiled kernels: equal to Python's integers for every geometry and width, and not stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import restatement
from hypothesis import HealthCheck, given, settings, strategies as st
from strategies import generators

from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation import (
    EventSimulator,
    Record,
    Recording,
    Stream,
    Window,
)
from neurodeploy.simulation.kernels.compiled_layer import CompiledLayer, compile_layer
from neurodeploy.simulation.kernels.layouts.spreading import FRAME_BYTES_MAX

WIDTHS = {np.int8: (1, 127), np.int16: (200, 2000), np.int32: (20_000, 60_000)}
"""Sizes of weights that make sums of 8-bit, 16-bit and 32-bit rows."""


def int32(value: object) -> np.ndarray:
    return np.array(value, np.int32)


def neuron(rng: np.random.Generator, shape: tuple[int, ...], size: int) -> CubaNeuron:
    """Parameters of one value, one a channel, or one a neuron; decays of every kind."""
    forms = [(), (shape[0],) + (1,) * (len(shape) - 1), shape]
    form = forms[rng.integers(3)]
    decay = [int32(4096), rng.integers(0, 4097, form, dtype=np.int32)][rng.integers(2)]
    leak = [int32(0), int32(4096), rng.integers(0, 4097, form, dtype=np.int32)][rng.integers(3)]
    return CubaNeuron(
        current_decay=decay,
        voltage_decay=leak,
        threshold=rng.integers(0, 2 * size + 1, form, dtype=np.int32),
    )


def conv_layer(rng: np.random.Generator, low: int, high: int) -> tuple[FixedInput, FixedLayer]:
    """Kernels, strides, paddings, dilations and groups at random; channels across vector widths."""
    groups = int(rng.choice([1, 1, 2, 3]))
    inputs, outputs = (
        groups * int(rng.integers(1, 4)),
        groups * int(rng.choice([1, 1, 3, 3, 16, 32, 33, 64, 66])),
    )
    kernel = tuple(rng.integers(1, 4, 2))
    weight = rng.integers(low, high + 1, (outputs, inputs // groups, *kernel))
    weight *= rng.choice([-1, 0, 1], weight.shape, p=[0.4, 0.2, 0.4])
    weight *= 2 ** int(rng.integers(0, 5) if high < 10_000 else 0)
    synapse = FixedConv(
        weight=weight.astype(np.int32),
        stride=tuple(map(int, rng.integers(1, 4, 2))),
        padding=tuple(map(int, rng.integers(0, 3, 2))),
        dilation=tuple(map(int, rng.integers(1, 3, 2))),
        groups=groups,
    )
    source = (inputs, int(rng.integers(5, 7)), int(rng.integers(5, 8)))
    shape = synapse.output_shape(source)
    bias = int32(0) if rng.random() < 0.5 else rng.integers(-50, 50, shape, dtype=np.int32)
    bits = int(rng.choice([0, 0, 3])) if high >= 10_000 or rng.random() < 0.3 else 0
    layer = FixedLayer(
        name="a",
        shape=shape,
        connections=(Connection(source=INPUT, synapse=synapse),),
        neuron=neuron(rng, shape, high),
        bias=bias,
    )
    return FixedInput(shape=source, message_bits=bits), layer


def frames(rng: np.random.Generator, port: FixedInput, steps: int) -> np.ndarray:
    """Between silence and an event at every place."""
    largest = 1 << port.message_bits
    values = rng.integers(1, max(2, largest), (2, steps, *port.shape), dtype=np.int32)
    if port.is_graded:
        values *= rng.choice([-1, 1], values.shape).astype(np.int32)
    values[rng.random(values.shape) >= rng.choice([0, 0.01, 0.1, 0.5, 1])] = 0
    return values


def assert_equal_to_python(
    graph: FixedPointGraph, inputs: np.ndarray, timing: object, *, spreads: bool | None = None
) -> Recording:
    """Compare all that is recorded; `spreads` says how the compiled layers add up, if they can."""
    record = Record(states=graph.names, final_states=True, counts=True)
    simulator = EventSimulator(graph, threads=2)
    simulator._spreads = spreads
    ours = simulator.run(inputs, timing=timing, record=record)
    numpy = EventSimulator(graph, is_compiled=False).run(inputs, timing=timing, record=record)
    is_small = max(layer.neurons for layer in graph) < 400 and inputs[0].size < 600
    for sample in range(1 if is_small else 0):  # the rest: equal to NumPy's, which equal these
        expected = restatement.simulate(
            graph, inputs[sample], steps=ours.steps, is_stream=isinstance(timing, Stream),
            **({} if isinstance(timing, Window) else {
                "reset_interval": timing.reset_interval, "reset_offset": timing.reset_offset,
            }),
        )  # fmt: skip
        for index, layer in enumerate(graph):
            np.testing.assert_array_equal(ours.spikes[index][sample], expected.spikes[index])
            for name, trace in expected.states[index].items():
                np.testing.assert_array_equal(ours.states[layer.name][name][sample], trace)
                np.testing.assert_array_equal(ours.final_states[index][name][sample], trace[-1])
    assert ours.health == numpy.health
    for index, name in enumerate(graph.names):
        np.testing.assert_array_equal(ours.spikes[index], numpy.spikes[index])
        np.testing.assert_equal(dict(ours.states[name]), dict(numpy.states[name]))
        np.testing.assert_equal(ours.final_states[index], numpy.final_states[index])
    for index in range(len(graph.layers)):
        for kind in ("active", "membrane"):
            np.testing.assert_array_equal(
                getattr(ours.updates[index], kind), getattr(numpy.updates[index], kind)
            )
        np.testing.assert_array_equal(ours.events[index].total, numpy.events[index].total)
        assert ours.events[index].is_static == numpy.events[index].is_static
        ours_earlier, earlier = ours.events[index].earlier, numpy.events[index].earlier
        if earlier is not None:
            np.testing.assert_array_equal(ours_earlier.total, earlier.total)
    return ours


def timings(rng: np.random.Generator) -> Window | Stream:
    if rng.random() < 0.6:
        return Window()
    return Stream(reset_interval=int(rng.integers(1, 4)), reset_offset=int(rng.integers(0, 3)))


@pytest.mark.parametrize("spreads", [True, False], ids=["spread", "gathered"])
@pytest.mark.parametrize("kind", WIDTHS, ids=["int8", "int16", "int32"])
@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(generators, st.integers(1, 4))
def test_convolutions(kind: type, spreads: bool, rng: np.random.Generator, steps: int) -> None:
    port, layer = conv_layer(rng, *WIDTHS[kind])
    graph = FixedPointGraph(input=port, layers=(layer,))
    inputs = frames(rng, port, steps)
    layer_as_run = compile_layer(
        graph, layer, largest_input=1 << port.message_bits, spreads=spreads
    )
    assert layer_as_run is None or (layer_as_run.spreading is not None) == spreads
    assert_equal_to_python(graph, inputs, timings(rng), spreads=spreads)


@pytest.mark.parametrize("spreads", [True, False], ids=["spread", "gathered"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(generators, st.integers(1, 5))
def test_dense_layers_with_delays_recurrence_and_skips(
    spreads: bool, rng: np.random.Generator, steps: int
) -> None:
    """A conv layer, a dense one that reads it, and one that reads both that and the input."""
    port, first = conv_layer(rng, 1, 30)
    port = FixedInput(shape=port.shape)
    sizes = {INPUT: int(np.prod(port.shape)), "a": first.neurons}

    def dense(name: str, *sources: str) -> FixedLayer:
        outputs = sizes[name] = int(rng.choice([1, 5, 10, 17, 65]))
        connections = []
        for source in sources:
            weight = 2 * rng.integers(-127, 128, (outputs, sizes[source]), dtype=np.int32)
            weight[0, 0] = 2
            delay = None
            if source != name and rng.random() < 0.5:
                delay = rng.integers(0, 4, weight.shape, dtype=np.int32)
            connections.append(
                Connection(source=source, synapse=FixedDense(weight=weight, delay=delay))
            )
        return FixedLayer(
            name=name,
            shape=(outputs,),
            connections=tuple(connections),
            neuron=neuron(rng, (outputs,), 500),
            bias=int32(rng.integers(-20, 20)),
        )

    layers = (first, dense("b", "a", "b"), dense("c", "b", INPUT))
    graph = FixedPointGraph(input=port, layers=layers)
    assert_equal_to_python(graph, frames(rng, port, steps), timings(rng), spreads=spreads)


def compiled(graph: FixedPointGraph, largest: int = 1) -> CompiledLayer | None:
    return compile_layer(graph, graph.layers[-1], largest_input=largest)


def dense_graph(*rows: list[int], bits: int = 0, **parameters: int) -> FixedPointGraph:
    weight = int32(list(rows))
    values = {"current_decay": 4096, "voltage_decay": 0, "threshold": 9, **parameters}
    return FixedPointGraph(
        input=FixedInput(shape=(weight.shape[1], 1, 1), message_bits=bits),
        layers=(
            FixedLayer(
                name="a",
                shape=(len(weight), 1, 1),
                connections=(
                    Connection(source=INPUT, synapse=FixedConv(weight=weight[:, :, None, None])),
                ),
                neuron=CubaNeuron(**{name: int32(value) for name, value in values.items()}),
                bias=int32(0),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("row", "bits", "dtype"),
    [
        ([127, -127], 0, np.int8),
        ([254, 2], 0, np.int8),  # halves
        ([128, 1], 0, np.int16),
        ([127] * 258, 0, np.int8),  # 32766
        ([127] * 259, 0, np.int8),  # 32893 does not fit 16 bits: added up in two parts
        ([1023] * 33, 0, np.int16),  # 32 of them fit
        ([1024] * 32 + [1], 0, np.int32),
        ([-32767], 0, np.int16),
        ([32768, 1], 0, np.int32),
        ([1, 1], 3, np.int32),  # values are multiplied in 32 bits
        ([(1 << 23) - 1], 0, np.int32),
        ([1 << 23], 0, None),
    ],
)
def test_the_narrowest_exact_type_is_chosen(row: list[int], bits: int, dtype: type | None) -> None:
    layer = compiled(dense_graph(row, bits=bits), largest=1 << bits)
    assert (layer is None) == (dtype is None)
    assert layer is None or layer.weights.rows.dtype == dtype


@pytest.mark.parametrize(
    ("weight", "count"), [(127, 258), (127, 259), (-127, 516), (127, 517), (1023, 32), (-1023, 97)]
)
def test_sums_of_many_narrow_rows_are_exact(weight: int, count: int) -> None:
    """All inputs spike, so that parts of a sum reach what 16 bits hold, and the sum goes beyond."""
    graph = dense_graph([weight] * count)
    layer = compiled(graph)
    assert layer is not None
    assert layer.weights.rows.dtype != np.int32
    inputs = np.ones((1, 2, *graph.input.shape), np.int32)
    recording = assert_equal_to_python(graph, inputs, Window())
    assert recording.health[0].current_peak == abs(weight) * count << 6


@pytest.mark.parametrize(
    ("channels", "pixels", "is_spread"), [(32, 9, True), (33, 9, False), (32, 1, False)]
)
def test_few_channels_add_to_sums_in_memory(channels: int, pixels: int, is_spread: bool) -> None:
    """As long as those of all steps stay in a cache: else what each output pixel sees is found."""
    synapse = FixedConv(weight=np.full((channels, 1, 1, 1), 3, np.int32))
    shape = (channels, 1, pixels)
    layer = FixedLayer(
        name="a",
        shape=shape,
        connections=(Connection(source=INPUT, synapse=synapse),),
        neuron=neuron(np.random.default_rng(0), shape, 9),
        bias=int32(0),
    )
    graph = FixedPointGraph(input=FixedInput(shape=(1, 1, pixels)), layers=(layer,))
    found = compiled(graph)
    assert found is not None
    assert (found.spreading_for(4) is not None) == is_spread
    steps = FRAME_BYTES_MAX // (2 * pixels * int(found.description["padded"][0]))
    assert (found.spreading_for(steps) is not None) == is_spread
    assert found.spreading_for(steps + 1) is None


def test_the_largest_sums_are_exact() -> None:
    """All inputs at once, at the very bound of each type, for both signs."""
    for row in ([127] * 258, [-127] * 258, [-32767], [(1 << 23) - 1], [-(1 << 23) + 1]):
        graph = dense_graph(row, threshold=1 << 20)
        assert compiled(graph) is not None
        inputs = np.ones((1, 3, len(row), 1, 1), np.int32)
        assert_equal_to_python(graph, inputs, Window())


def test_currents_that_pile_up_wrap_in_32_bits() -> None:
    """One turn back by 2**24 is less than what arrives, so that currents grow step by step."""
    graph = dense_graph([1 << 22], [-(1 << 22)], current_decay=0, threshold=131_072)
    inputs = np.ones((1, 40, 1, 1, 1), np.int32)
    assert compiled(graph) is not None
    ours, numpy = (
        EventSimulator(graph, is_compiled=is_compiled).run(inputs) for is_compiled in (True, False)
    )
    for name, trace in numpy.states["a"].items():
        np.testing.assert_array_equal(ours.states["a"][name], trace)
    assert ours.health is not None
    assert numpy.health is not None
    found, expected = ours.health[0], numpy.health[0]
    assert expected.current_peak > 1 << 31
    assert found.current_peak >= 1 << 30
    assert (found.current_wraps, found.voltage_clips) == (80, expected.voltage_clips)
    assert expected.current_wraps == 80


def test_values_of_minus_one_keep_their_sign() -> None:
    """Nothing above 1 is in the input, so sums would fit rows that know no values."""
    graph = dense_graph([3, 4], bits=1, threshold=5)
    inputs = int32([[-1, 1], [1, -1], [0, -1], [1, 1]]).reshape(1, 4, 2, 1, 1)
    assert compiled(graph, largest=1) is not None
    assert_equal_to_python(graph, inputs, Window())


@pytest.mark.parametrize("parameters", [{"voltage_decay": -1}, {"current_decay": 4097}])
def test_decays_beyond_their_range_are_left_to_numpy(parameters: dict[str, int]) -> None:
    graph = dense_graph([3, 4], **parameters)
    assert compiled(graph) is None
    assert_equal_to_python(graph, np.ones((1, 4, 2, 1, 1), np.int32), Window())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
@pytest.mark.parametrize(
    "shape", [(1, 1), (64, 1), (70, 1), (130, 1), (1, 63), (3, 64), (2, 65), (5, 130)]
)
def test_events_are_listed_by_pixel_then_channel(dtype, shape) -> None:
    from neurodeploy.simulation.kernel_code import collect_events
    from neurodeploy.simulation.kernels.structures import LISTS

    channels, pixels = shape
    rng = np.random.default_rng(0)
    neurons = channels * pixels
    for share, has_values in ((0, False), (0.02, True), (0.3, False), (0.3, True), (1, True)):
        frames = rng.integers(1, 9, (2, 3, channels, pixels)).astype(dtype)
        frames[rng.random(frames.shape) >= share] = 0
        values = 3 * neurons if has_values else 0
        bounds = 3 * neurons + values
        size = bounds + 3 * (pixels + 1)
        store = np.full(2 * size, -1, np.int32)
        lists = np.array([(0, size, neurons, bounds, size, pixels + 1, values, 0, 0, 0)], LISTS)
        collect_events(frames.reshape(-1), frames.shape, lists, store)
        for sample, step in np.ndindex(2, 3):
            flat = frames[sample, step].T.ravel()
            expected = np.flatnonzero(flat)
            first = sample * size + step * neurons
            np.testing.assert_array_equal(store[first:][: expected.size], expected)
            if has_values:
                np.testing.assert_array_equal(
                    store[first + values :][: expected.size], flat[expected]
                )
            found = store[sample * size + bounds + step * (pixels + 1) :][: pixels + 1]
            each = (frames[sample, step] != 0).sum(0)
            np.testing.assert_array_equal(found, np.concatenate([[0], np.cumsum(each)]))


def test_compiled_code_is_no_older_than_its_sources(tmp_path: Path) -> None:
    """The key counts every file of ours that is loaded to compile all kernels but plain data."""
    from neurodeploy import fixedpoint, llvm_vectors, loops, machine_code
    from neurodeploy.simulation import kernel_code
    from neurodeploy.simulation.kernels import neuron_vectors

    folder = Path(neuron_vectors.__file__).parent
    files = [*folder.rglob("*.py"), *Path(loops.__file__).parent.glob("*.py")]
    files += [Path(str(one.__file__)) for one in (fixedpoint, llvm_vectors)]
    assert machine_code.source_key(files) == kernel_code.KERNEL_KEY
    for path in files:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
    key = machine_code.source_key(tmp_path.glob("*.py"))
    for path in tmp_path.glob("*.py"):
        before = path.read_bytes()
        path.write_bytes(before + b"# changed\n")
        assert machine_code.source_key(tmp_path.glob("*.py")) != key
        path.write_bytes(before)
    assert machine_code.source_key(tmp_path.glob("*.py")) == key


def test_compiled_code_is_kept_until_its_key_changes(tmp_path: Path) -> None:
    """The function's own file stays as it is: numba alone would look no further."""
    code = (
        "import sys, pathlib\n"
        "from neurodeploy.compiled_code import compiled\n"
        "def add(left, right):\n    return left + right\n"
        "kernel = compiled(sys.argv[1])(add)\n"
        "kernel(1, 2)\n"
        "print(sum(kernel.stats.cache_hits.values()))\n"
    )
    (tmp_path / "kernel_of_test.py").write_text(code)

    def hits(key: str) -> str:
        command = [sys.executable, str(tmp_path / "kernel_of_test.py"), key]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.run(
            command, check=True, env=environment, capture_output=True, text=True
        ).stdout.strip()

    assert [hits(key) for key in ("a", "a", "b", "b")] == ["0", "1", "0", "1"]


def test_additions_have_the_width_of_their_sums() -> None:
    """Sums of int8 rows are packed additions of 16 bits. Compiled anew: a file shows no text."""
    from neurodeploy.simulation import kernel_code
    from neurodeploy.simulation.kernels import lif

    EventSimulator(dense_graph([1, 2])).run(np.ones((1, 1, 2, 1, 1), np.int32))
    met = kernel_code.run_lif.met
    by_rows = {kinds[3][0][0].name: kinds for kinds in met}
    assert "add <64 x i16>" in lif.run_lif.llvm_text(by_rows["int8"], "anew")
    # One for each type of rows, and another where over 255 steps are counted.
    assert len(met) <= 2 * len(by_rows) <= 6


def test_without_a_compiler_numpy_does_all() -> None:
    """Kernels that run as plain Python fail at their first vector."""
    code = (
        "from neurodeploy.cli.commands.doctor import run_small_network as run; run(); "
        "import sys; sys.exit('neurodeploy.simulation.kernels.lif' in sys.modules)"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    process = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert process.returncode == 0
