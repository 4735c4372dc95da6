"""Networks written as NIR: read back they make the same spikes, and nir 1.0.8 agrees."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from golden_networks import EXACT, GOLDEN

import neurodeploy as nd
from neurodeploy.errors import GraphError, InterchangeError, OutputError
from neurodeploy.interchange.floating import run_graph
from neurodeploy.interchange.nir_reader import read_nir
from neurodeploy.interchange.nir_schema import PRIMITIVES
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    Layer,
    MaxPool,
)
from neurodeploy.ir.graphs import INPUT, FixedInput, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
)

DT = 1e-4
ROUNDING = 3e-7
"""Relative error of a quotient of two float32 numbers."""


def back(path: Path) -> nd.Imported:
    return nd.import_nir(path, convention="neurodeploy")


@pytest.mark.parametrize("case", EXACT)
def test_golden_networks_make_the_same_spikes_again(case: str, tmp_path: Path) -> None:
    path = tmp_path / "again.nir"
    imported = nd.import_nir(GOLDEN / f"{case}.nir", **EXACT[case])
    nd.export_nir(imported.graph, path)
    with np.load(GOLDEN / f"{case}.npz") as arrays:
        inputs = arrays["input"]
    again = back(path)
    assert again.convention.dt == DT
    assert set(again.notes.values()) == {"exact"}
    run = again.run(inputs)
    for name, values in imported.run(inputs).items():
        found = run[name.replace(".", "_")]
        if values.dtype == np.uint8:
            np.testing.assert_array_equal(found, values, err_msg=name)
        else:
            np.testing.assert_allclose(found, values, atol=1e-6, rtol=0, err_msg=name)


# ------------------------------------------------------------------ random float networks


class Random:
    """Appends random layers; all numbers fit float32."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: dict[str, Layer] = {"input": Input(shape=shape)}
        self.edges: list[tuple[str, str]] = []
        self.last, self.shape = "input", shape

    def add(self, name: str, layer: Layer, *sources: str) -> str:
        self.nodes[name] = layer
        self.edges += [(source, name) for source in sources or (self.last,)]
        self.last, self.shape = name, layer.output_shape(self.shape)
        return name

    def normal(self, *shape: int, factor: float = 1.0) -> np.ndarray:
        values = self.rng.normal(0, factor / np.sqrt(np.prod(shape[1:])), shape)
        return values.astype(np.float32).astype(np.float64)

    def weights(self, name: str) -> str:
        if len(self.shape) == 1:
            dense = Dense(weight=self.normal(7, *self.shape), bias=self.normal(7, factor=0.1))
            return self.add(name, dense)
        groups = int(self.rng.choice([1, self.shape[0]]))
        kernel = self.rng.choice([1, 3], 2)
        weight = self.normal(4, self.shape[0] // groups, *kernel)
        bias = self.normal(4, factor=0.1) if self.rng.random() < 0.5 else None
        padding = (int(kernel[0]) // 2, int(kernel[1]) // 2)
        return self.add(name, Conv(weight=weight, bias=bias, padding=padding, groups=groups))

    def neurons(self, name: str, *sources: str) -> str:
        rows = self.shape[:1] + (1,) * (len(self.shape) - 1)
        varies = self.rng.random() < 0.3

        def decay() -> float | np.ndarray:
            return self.rng.uniform(0.1, 1, rows) if varies else float(self.rng.uniform(0.1, 1))

        kind = self.rng.choice(["IF", "LIF", "CubaLIF"])
        drive = self.rng.normal(0, 0.05, rows).astype(np.float32).astype(np.float64)
        neuron = Cuba(
            current_decay=decay() if kind == "CubaLIF" else 1.0,
            voltage_decay=0.0 if kind == "IF" else decay(),
            bias=drive if self.rng.random() < 0.5 else None,
            threshold=float(self.rng.uniform(0.2, 0.6)),
        )
        return self.add(name, neuron, *sources)

    def graph(self) -> Graph:
        return Graph(nodes=self.nodes, edges=tuple(self.edges))


def random_graph(seed: int) -> Graph:
    """Convolutions or dense layers with norms, pools, skips and recurrence; ends in a read-out."""
    net = Random(seed, (2, 6, 6) if seed % 3 else (9,))
    rng = net.rng
    for index in range(int(rng.integers(1, 4))):
        net.weights(f"synapse{index}")
        if rng.random() < 0.4:
            rows = net.shape[0]
            norm = BatchNorm(scale=rng.uniform(0.5, 2, rows), shift=rng.normal(0, 0.1, rows))
            net.add(f"norm{index}", norm)
        first = net.neurons(f"neurons{index}")
        if len(net.shape) == 1 and rng.random() < 0.5:
            size = net.shape[0]
            recurrent = Dense(weight=net.normal(size, size), bias=net.normal(size, factor=0.1))
            net.add(f"back{index}", recurrent, first)
            net.edges.append((f"back{index}", first))
            net.last = first
        elif len(net.shape) == 3 and rng.random() < 0.5:
            shape = net.shape
            while net.shape != shape or net.last == first:
                net.last, net.shape = first, shape
                net.weights(f"inner{index}")
                net.shape = net.nodes[net.last].output_shape(shape)
            net.neurons(f"sum.{index}", net.last, first)
        if len(net.shape) == 3 and min(net.shape[1:]) > 2 and rng.random() < 0.5:
            kind = rng.choice([MaxPool, AveragePool])
            net.add(f"pool{index}", kind(kernel=(2, 2), stride=(2, 2)))
    if len(net.shape) == 3 and rng.random() < 0.5:
        net.add("mean", GlobalAveragePool())
    net.shape = (int(np.prod(net.shape)),)
    net.weights("scores")
    net.add("out", Integrator(bias=net.normal(7) if rng.random() < 0.5 else None))
    return net.graph()


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_make_the_same_spikes_again(seed: int, tmp_path: Path) -> None:
    graph, path = random_graph(seed), tmp_path / "random.nir"
    nd.export_nir(graph, path, dt=1e-3)
    inputs = np.random.default_rng(seed).integers(0, 2, (3, 25, *graph.input.shape))
    again = back(path)
    assert again.convention.dt == 1e-3
    run, recorded = again.run(inputs), run_graph(graph, inputs)
    assert any(values.any() for values in recorded.values.values())
    for name, values in recorded.values.items():
        found = run[name.replace(".", "_")]
        if values.dtype == np.uint8:
            np.testing.assert_array_equal(found, values, err_msg=name)
        else:
            np.testing.assert_allclose(found, values, atol=1e-4, rtol=1e-5, err_msg=name)
    nir.read(path)  # accepts every shape


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    net = Random(1, (2, 5, 5))
    conv = net.add("conv", Conv(weight=net.normal(3, 2, 3, 3), bias=net.normal(3), stride=(2, 2)))
    net.add("lif", Cuba(threshold=0.3, voltage_decay=0.2))
    net.add("flat", Flatten())
    dense = net.add("dense", Dense(weight=net.normal(4, 12)))
    decays = net.rng.uniform(0.1, 1, 4)
    net.add("cuba", Cuba(threshold=0.7, current_decay=decays, voltage_decay=0.6, bias=decays))
    second = net.add("second", Dense(weight=net.normal(4, 4)))
    net.add("if", Cuba(threshold=1.5))
    nd.export_nir(net.graph(), tmp_path / "net.nir", dt=3e-4)
    nodes = back(tmp_path / "net.nir").graph.nodes
    for name in (conv, dense, second):
        np.testing.assert_array_equal(nodes[name].weight, net.nodes[name].weight)
    np.testing.assert_array_equal(nodes["conv"].bias, net.nodes["conv"].bias)
    assert (nodes["conv"].stride, nodes["conv"].padding) == ((2, 2), (0, 0))
    for name in ("lif", "cuba", "if"):
        for key in ("current_decay", "voltage_decay", "threshold"):
            ours, found = getattr(net.nodes[name], key), getattr(nodes[name], key)
            np.testing.assert_allclose(found, ours, rtol=ROUNDING, atol=0)
    np.testing.assert_allclose(nodes["cuba"].bias, net.nodes["cuba"].bias, rtol=ROUNDING)


def test_the_forms_of_neurons_are_those_that_peers_read_alike(tmp_path: Path) -> None:
    net = Random(2, (3,))
    net.add("a", Dense(weight=net.normal(3, 3), bias=np.ones(3)))
    net.add("lif", Cuba(threshold=0.5, voltage_decay=0.25, bias=np.full(3, 0.5)))
    net.add("b", Dense(weight=net.normal(3, 3)))
    net.add("if", Cuba(threshold=0.5))
    net.add("c", Dense(weight=net.normal(3, 3)))
    net.add("cuba", Cuba(threshold=0.5, current_decay=0.5, voltage_decay=0.25))
    net.add("d", Dense(weight=net.normal(2, 3)))
    net.add("scores", Integrator())
    nd.export_nir(net.graph(), tmp_path / "net.nir")
    nodes = nir.read(tmp_path / "net.nir").nodes
    expected = {
        "lif": {"tau": 4e-4, "r": 1, "v_leak": 0, "v_threshold": 0.125, "v_reset": 0},
        "if": {"r": 1e4, "v_threshold": 0.5, "v_reset": 0},
        "cuba": {
            "tau_syn": 2e-4, "tau_mem": 4e-4, "r": 4, "w_in": 2, "v_leak": 0, "v_threshold": 0.5,
        },
        "a": {"bias": 1.5},
    }  # fmt: skip
    for name, fields in expected.items():
        for field, value in fields.items():
            array = getattr(nodes[name], field)
            assert (array.shape, array.dtype) == ((3,), np.float32)
            np.testing.assert_allclose(array, value, rtol=ROUNDING)
    assert type(nodes["scores"]).__name__ == "Output"
    metadata = nir.read(tmp_path / "net.nir").metadata
    assert metadata["readout"] == "sum over steps"
    assert (metadata["producer"], metadata["scheme"], metadata["dt"]) == (
        "neurodeploy", "euler", DT,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("readout", "kind"),
    [
        (Integrator(voltage_decay=0.2, bias=np.full(7, 0.3)), "LI"),
        (Integrator(voltage_decay=0.2, current_decay=0.5, bias=np.full(7, 0.3)), "CubaLI"),
        (Integrator(), "I"),
    ],
)
def test_other_read_outs_are_nodes_of_their_own(
    readout: Integrator, kind: str, tmp_path: Path
) -> None:
    net = Random(3, (9,))
    net.weights("a")
    net.add("lif", Cuba(threshold=0.2, voltage_decay=0.25))
    net.add("b", Dense(weight=net.normal(7, 7)))
    net.add("out", readout, "b", "lif")  # the plain one too: the sum of two is no weights' alone
    nd.export_nir(net.graph(), tmp_path / "net.nir")
    assert read_nir(tmp_path / "net.nir").nodes["out"].kind == kind
    inputs = net.rng.integers(0, 2, (2, 20, 9))
    found = back(tmp_path / "net.nir").run(inputs)["out"]
    expected = run_graph(net.graph(), inputs).values["out"]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_names_stay_apart_and_inputs_keep_their_units(tmp_path: Path) -> None:
    nodes: dict[str, Layer] = {
        "output": Input(shape=(3,), scale=0.5, mean=(1.0, 2.0, 3.0), deviation=(1.0, 2.0, 4.0)),
        "a.b": Dense(weight=np.eye(3)),
        "a_b": Cuba(threshold=0.5),
        "a/b": Dense(weight=np.eye(3)),
        "last": Cuba(threshold=0.5),
    }
    names = list(nodes)
    graph = Graph(nodes=nodes, edges=tuple(pairwise(names)))
    nd.export_nir(graph, tmp_path / "net.nir")
    read = nir.read(tmp_path / "net.nir")
    assert set(read.nodes) == {"output", "a_b", "a_b_", "a_b__", "last", "output_"}
    assert read.metadata["input_scale"] == 0.5
    assert tuple(read.metadata["input_deviation"]) == (1.0, 2.0, 4.0)
    inputs = np.array([[[1, 0, 1]]])
    assert back(tmp_path / "net.nir").run(inputs)["last"].tolist() == inputs.tolist()


def test_a_step_width_that_no_exporter_would_choose_is_believed(tmp_path: Path) -> None:
    net = Random(4, (9,))
    net.weights("a")
    net.add("cuba", Cuba(threshold=0.2, current_decay=0.5, voltage_decay=0.25))
    nd.export_nir(net.graph(), tmp_path / "net.nir", dt=1.0005e-3)
    again = back(tmp_path / "net.nir")
    assert again.convention.dt == 1.0005e-3
    np.testing.assert_allclose(again.graph.nodes["cuba"].voltage_decay, 0.25, rtol=ROUNDING)


# ------------------------------------------------------------------ the file


@pytest.mark.parametrize("seed", range(8))
def test_the_file_is_the_one_that_nir_writes(seed: int, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.nir", tmp_path / "theirs.nir"
    nd.export_nir(random_graph(seed), ours)
    nir.write(theirs, nir.read(ours))
    with h5py.File(ours) as a, h5py.File(theirs) as b:
        expected, found = (stored(file) for file in (b, a))
    assert found == expected


def stored(file: h5py.File) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}

    def add(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset):
            value = np.asarray(node[()])
            found[name] = (node.dtype, node.shape, node.compression, value.tolist())

    file.visititems(add)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_our_reader_and_nir_read_find_the_same_arrays(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    nd.export_nir(random_graph(seed), path)
    ours, theirs = read_nir(path), nir.read(path)
    assert set(ours.edges) == set(theirs.edges)
    assert ours.nodes.keys() == theirs.nodes.keys()
    for name, node in ours.nodes.items():
        written = theirs.nodes[name].to_dict()
        assert node.kind == written["type"]
        for field in PRIMITIVES[node.kind]:
            np.testing.assert_array_equal(node.values[field.name], written[field.name])


def test_kernels_of_an_even_and_an_odd_side_are_written_as_they_are(tmp_path: Path) -> None:
    net = Random(5, (1, 5, 5))
    net.add("conv", Conv(weight=net.normal(2, 1, 2, 3)))
    net.add("lif", Cuba(threshold=0.2, voltage_decay=0.5))
    nd.export_nir(net.graph(), tmp_path / "net.nir")
    found = back(tmp_path / "net.nir").graph.nodes["conv"].weight
    np.testing.assert_array_equal(found, net.nodes["conv"].weight)
    with pytest.raises(ValueError, match="type mismatch"):
        nir.read(tmp_path / "net.nir")
    assert nir.read(tmp_path / "net.nir", type_check=False).nodes["conv"].weight.shape[2:] == (2, 3)


# ------------------------------------------------------------------ integers


def integers(seed: int, decays: tuple[list[int], list[int]]) -> FixedPointGraph:
    """A convolution, a recurrent population, and a read-out or spikes."""
    rng = np.random.default_rng(seed)

    def draw(low: int, high: int, *shape: int) -> np.ndarray:
        return (2 * rng.integers(low, high, shape)).astype(np.int32)

    def neuron(rows: tuple[int, ...], *, fires: bool = True) -> CubaNeuron:
        current, voltage = (int(rng.choice(choices)) for choices in decays)
        return CubaNeuron(
            current_decay=np.array(current, np.int32),
            voltage_decay=np.array(voltage, np.int32),
            threshold=rng.integers(40, 90, rows, np.int32) if fires else np.array(131072, np.int32),
        )

    conv = FixedConv(weight=draw(-40, 45, 3, 2, 3, 3), stride=(2, 2), padding=(1, 1))
    forward, recurrent = draw(-40, 45, 6, 27), draw(-40, 45, 6, 6)
    layers = (
        FixedLayer(
            name="conv",
            shape=(3, 3, 3),
            connections=(Connection(source=INPUT, synapse=conv),),
            neuron=neuron((3, 1, 1)),
            bias=rng.integers(-9, 9, (3, 1, 1), np.int32),
        ),
        FixedLayer(
            name="back",
            shape=(6,),
            connections=(
                Connection(source="conv", synapse=FixedDense(weight=forward, partner=recurrent)),
                Connection(source="back", synapse=FixedDense(weight=recurrent, partner=forward)),
            ),
            neuron=neuron((6,)),
            bias=rng.integers(-9, 9, (6,), np.int32),
        ),
        FixedLayer(
            name="out",
            shape=(4,),
            connections=(
                Connection(source="back", synapse=FixedDense(weight=draw(-40, 45, 4, 6))),
            ),
            neuron=neuron((4,), fires=bool(seed % 2)),
            bias=rng.integers(-9, 9, (4,), np.int32),
        ),
    )
    return FixedPointGraph(input=FixedInput(shape=(2, 5, 5)), layers=layers)


def compare_integers(
    fixed: FixedPointGraph, seed: int, path: Path, *, is_exact: bool
) -> dict[str, float]:
    """Share of spikes of our file that are the integer simulator's, by layer."""
    nd.export_nir(fixed, path)
    inputs = (np.random.default_rng(seed).random((4, 30, 2, 5, 5)) < 0.3).astype(np.int32)
    run, recording = back(path).run(inputs), nd.EventSimulator(fixed).run(inputs)
    shares = {}
    for name in fixed.names:
        if run[name].dtype == np.uint8:
            spikes = recording.spikes_of(name) != 0
            assert 0.01 < spikes.mean() < 0.99
            shares[name] = float((run[name].reshape(spikes.shape) == spikes).mean())
        elif is_exact:
            np.testing.assert_array_equal(run[name][:, -1] * 64, recording.voltage[:, -1])
    return shares


@pytest.mark.parametrize("seed", range(20))
def test_integers_without_fractions_make_the_chips_spikes(seed: int, tmp_path: Path) -> None:
    """Where decays keep all or nothing and no state is clipped, nothing is ever rounded."""
    fixed = integers(seed, ([4096], [0, 4096]))
    shares = compare_integers(fixed, seed, tmp_path / "net.nir", is_exact=True)
    assert set(shares.values()) == {1.0}


@pytest.mark.parametrize("seed", range(10))
def test_integers_that_decay_make_nearly_all_of_the_chips_spikes(seed: int, tmp_path: Path) -> None:
    """The chip rounds each decayed state towards zero, by up to 1/64 of a weight's unit."""
    fixed = integers(seed, ([4096, 2048, 1000], [512, 1000, 3000]))
    shares = compare_integers(fixed, seed, tmp_path / "net.nir", is_exact=False)
    assert min(shares.values()) > 0.97


def test_integer_arrays_are_those_stored(tmp_path: Path) -> None:
    fixed = integers(1, ([4096], [1024]))
    nd.export_nir(fixed, tmp_path / "net.nir")
    read = nir.read(tmp_path / "net.nir")
    conv, first = read.nodes["conv_synapse"], fixed.layers[0]
    assert isinstance(first.neuron, CubaNeuron)
    np.testing.assert_array_equal(conv.weight, first.connections[0].synapse.weight)
    np.testing.assert_array_equal(conv.bias, first.bias.ravel())
    threshold = np.broadcast_to(first.neuron.threshold + 1 / 128, (3, 3, 3))
    np.testing.assert_allclose(read.nodes["conv"].v_threshold, threshold / 4, rtol=ROUNDING)
    assert type(read.nodes["back_synapse_"]).__name__ == "Linear"
    assert (read.metadata["state_exponent"], read.metadata["input_bits"]) == (6, 0)


# ------------------------------------------------------------------ refusals


def test_every_refusal_of_a_network_is_in_one_error(tmp_path: Path) -> None:
    net = Random(6, (4,))
    net.add("a", Dense(weight=np.eye(4)))
    net.add("held", Cuba(threshold=1.0, current_decay=0.5))
    net.add("b", Dense(weight=np.eye(4)))
    net.add("mixed", Cuba(threshold=1.0, voltage_decay=np.array([0.0, 0.5, 0.5, 0.5])))
    net.add("c", Dense(weight=np.eye(4)))
    net.add("low", Cuba(threshold=-1.0))
    net.add("skip", Cuba(threshold=1.0, bias=np.ones(4)))
    net.add("endless", Cuba(threshold=1.0, current_decay=0.0, voltage_decay=0.5))
    net.add("norm", BatchNorm(scale=np.ones(4), shift=np.ones(4)))
    net.add("last", Cuba(threshold=1.0))
    path = tmp_path / "net.nir"
    path.write_bytes(b"as it was")
    with pytest.raises(InterchangeError) as refused:
        nd.export_nir(net.graph(), path)
    message = str(refused.value)
    for line in (
        "held: a voltage without leak behind a current that lasts",
        "mixed: neurons with and without leak",
        "low: a threshold of -1",
        "skip: a bias that no weights before it can hold",
        "endless: decays of 0 to 0 (current)",
        "norm: batch norm after endless",
    ):
        assert f"\n  {line}" in message
    assert path.read_bytes() == b"as it was"


def test_integer_layers_without_a_form_are_refused_by_name(tmp_path: Path) -> None:
    weight = np.eye(4, dtype=np.int32) * 2 - 4
    zero = np.zeros((), np.int32)
    lif = CubaNeuron(current_decay=zero + 4096, voltage_decay=zero, threshold=zero + 9)
    delayed = FixedDense(weight=weight, delay=np.ones((4, 4), np.int32))
    plain = FixedDense(weight=weight)
    turning = ResonateFireNeuron(sine_decay=9, cosine_decay=9, threshold=9, is_phase=True)
    chain = [
        ("block", FixedInjection(), DeltaNeuron(threshold=0, spike_exponent=0)),
        ("sigma", plain, SigmaDeltaNeuron(threshold=0, spike_exponent=0)),
        ("late", delayed, lif),
        ("turn", FixedComplexDense(real=plain, imaginary=plain), turning),
    ]
    layers, source = [], INPUT
    for name, synapse, neuron in chain:
        connection = Connection(source=source, synapse=synapse)
        layers.append(
            FixedLayer(name=name, shape=(4,), connections=(connection,), neuron=neuron, bias=zero)
        )
        source = name
    fixed = FixedPointGraph(input=FixedInput(shape=(4,)), layers=tuple(layers))
    with pytest.raises(InterchangeError) as refused:
        nd.export_nir(fixed, tmp_path / "net.nir")
    for line in (
        "block: an input block",
        "block: delta neurons",
        "sigma: sigma-delta neurons",
        "late: delays",
        "turn: resonate-and-fire neurons",
    ):
        assert f"\n  {line}" in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_is_no_network_or_no_place_is_refused(tmp_path: Path) -> None:
    net = Random(7, (4,))
    net.add("a", Dense(weight=np.eye(4)))
    net.add("lif", Cuba(threshold=1.0, voltage_decay=0.5))
    with pytest.raises(InterchangeError, match="dt: 0, seconds above 0"):
        nd.export_nir(net.graph(), tmp_path / "net.nir", dt=0.0)
    with pytest.raises(OutputError, match="cannot be written"):
        nd.export_nir(net.graph(), tmp_path)
    broken = Graph(nodes=net.nodes, edges=(("input", "lif"), ("lif", "b")))
    with pytest.raises(GraphError, match="no node 'b'"):
        nd.export_nir(broken, tmp_path / "net.nir")
    net.add("other", Cuba(threshold=1.0), "a")
    with pytest.raises(InterchangeError, match="lif, other: nothing reads them"):
        nd.export_nir(net.graph(), tmp_path / "net.nir")
