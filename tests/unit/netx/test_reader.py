"""What a netx file means, and every way in which one is refused, built with plain h5py."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurodeploy.errors import NetxError, NeurodeployWarning
from neurodeploy.ir import (
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedPointGraph,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.integer_layers import FixedInjection
from neurodeploy.netx import read
from neurodeploy.simulation import EventSimulator, Record, Stream

Edit = Callable[[h5py.File], object]
REPORTED = Path(__file__).parent / "reported"


def put(group: h5py.Group, **entries: object) -> None:
    """Set datasets, whether they exist or not; `__` in a name stands for `/`."""
    for name, value in entries.items():
        key = name.replace("__", "/")
        if key in group:
            del group[key]
        if value is not None:
            group[key] = value


def add_neuron(group: h5py.Group, **entries: object) -> None:
    put(
        group.require_group("neuron"),
        **{"type": "CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80} | entries,
    )


def build(path: Path, *edits: Edit) -> Path:
    """(2, 4, 6) input, conv to (4, 4, 3), flatten, dense to 3; then `edits`."""
    with h5py.File(path, "w") as file:
        root = file.create_group("layer")
        put(root.create_group("0"), type=np.array(["input"], "S10"), shape=np.array([2, 4, 6]))
        conv = root.create_group("1")
        put(
            conv,
            type=np.array(["conv"], "S10"),
            shape=np.array([4, 4, 3]),
            weight=np.arange(4 * 2 * 3 * 3, dtype=np.float32).reshape(4, 2, 3, 3),
            stride=np.array([1, 2]),
            padding=np.array([1, 1]),
            dilation=np.array([1, 1]),
            groups=1,
        )
        add_neuron(conv)
        put(root.create_group("2"), type=np.array(["flatten"], "S10"))
        dense = root.create_group("3")
        put(
            dense,
            type=np.array(["dense"], "S10"),
            shape=np.array([3]),
            weight=np.arange(-70, 74, dtype=np.float32).reshape(3, 48),
        )
        add_neuron(dense)
        for edit in edits:
            edit(file)
    return path


def build_dense(path: Path, *edits: Edit) -> Path:
    """One dense layer of 2 neurons and 3 inputs, no input layer; then `edits`."""
    with h5py.File(path, "w") as file:
        dense = file.create_group("layer/0")
        put(dense, type="dense", shape=2, weight=np.array([[2, -4, 6], [8, 10, -12]]))
        add_neuron(dense)
        for edit in edits:
            edit(file)
    return path


def edit(layer: int, **entries: object) -> Edit:
    return lambda file: put(file[f"layer/{layer}"], **entries)


def edit_neuron(layer: int, **entries: object) -> Edit:
    return lambda file: put(file[f"layer/{layer}/neuron"], **entries)


def remove(key: str) -> Edit:
    return lambda file: file.__delitem__(key)


def synapse(graph: FixedPointGraph, layer: int) -> object:
    return graph.layers[layer].connections[0].synapse


# What is read --------------------------------------------------------------------------------


def test_a_network(tmp_path: Path) -> None:
    graph = read(build(tmp_path / "a.net"))
    assert graph.input.shape == (2, 4, 6)
    assert not graph.input.is_graded
    assert graph.names == ("conv_1", "dense_3")
    assert [layer.shape for layer in graph] == [(4, 4, 3), (3,)]
    conv = synapse(graph, 0)
    assert isinstance(conv, FixedConv)
    assert conv.weight.dtype == np.int32
    assert conv.weight[3, 1, 2, 1] == ((3 * 2 + 1) * 3 + 2) * 3 + 1
    assert (conv.stride, conv.padding, conv.dilation, conv.groups) == ((1, 2), (1, 1), (1, 1), 1)
    dense = synapse(graph, 1)
    assert isinstance(dense, FixedDense)
    assert dense.weight[2, 47] == 73
    neuron = graph.layers[1].neuron
    assert isinstance(neuron, CubaNeuron)
    assert (neuron.current_decay, neuron.voltage_decay, neuron.threshold) == (1024, 128, 80)


@pytest.mark.parametrize("kind", ["dense", b"dense", np.array(["dense"], "S10"),
                                  np.array(["dense"], object)])  # fmt: skip
def test_types_may_be_stored_in_many_ways(tmp_path: Path, kind: object) -> None:
    assert len(read(build_dense(tmp_path / "a.net", edit(0, type=kind))).layers) == 1


def test_layers_are_read_in_numeric_order(tmp_path: Path) -> None:
    def lengthen(file: h5py.File) -> None:
        for index in range(1, 12):
            file.copy("layer/0", f"layer/{index}")
            put(file[f"layer/{index}"], weight=np.array([[index, -1], [-1, index]]))

    graph = read(build_dense(tmp_path / "a.net", lengthen))
    weights = [layer.connections[0].synapse.weight for layer in graph]  # type: ignore[union-attr] # dense
    assert [int(weight[0, 0]) for weight in weights] == [2, *range(1, 12)]


def test_a_trailing_axis_of_a_kernel_is_dropped(tmp_path: Path) -> None:
    weight = np.arange(72).reshape(4, 2, 3, 3, 1)
    conv = synapse(read(build(tmp_path / "a.net", edit(1, weight=weight))), 0)
    assert isinstance(conv, FixedConv)
    assert conv.weight.tolist() == weight[..., 0].tolist()


def test_geometry_may_be_scalar(tmp_path: Path) -> None:
    edits = edit(1, padding=1, dilation=1, stride=1, shape=np.array([4, 4, 6]))
    grow = edit(3, weight=np.arange(-144, 144).reshape(3, 96))
    conv = synapse(read(build(tmp_path / "a.net", edits, grow)), 0)
    assert isinstance(conv, FixedConv)
    assert (conv.stride, conv.padding, conv.dilation) == ((1, 1),) * 3


def test_a_bias_a_channel_or_a_neuron(tmp_path: Path) -> None:
    """Lava's order is (W, H, C)."""
    channel = read(build(tmp_path / "a.net", edit(1, bias=np.arange(4)))).layers[0].bias
    assert channel.shape == (4, 1, 1)
    assert channel.ravel().tolist() == [0, 1, 2, 3]
    full = np.arange(3 * 4 * 4).reshape(3, 4, 4)
    bias = read(build(tmp_path / "b.net", edit(1, bias=full))).layers[0].bias
    assert bias.shape == (4, 4, 3)
    assert bias[3, 1, 2] == full[2, 1, 3]


@pytest.mark.parametrize("bias", [5, [5], [5, 5]])
def test_a_dense_bias_may_be_one_value(tmp_path: Path, bias: object) -> None:
    stored = read(build_dense(tmp_path / "a.net", edit(0, bias=np.array(bias)))).layers[0].bias
    assert np.broadcast_to(stored, (2,)).tolist() == [5, 5]


def test_parameters_a_channel_or_a_neuron(tmp_path: Path) -> None:
    full = np.arange(3 * 4 * 4).reshape(3, 4, 4)
    neurons = edit_neuron(1, vThMant=np.arange(4), vDecay=full)
    neuron = read(build(tmp_path / "a.net", neurons)).layers[0].neuron
    assert isinstance(neuron, CubaNeuron)
    assert neuron.threshold.tolist() == [[[0]], [[1]], [[2]], [[3]]]
    assert neuron.voltage_decay.tolist() == full.transpose().tolist()


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (3, [[3, 3, 3], [3, 3, 3]]),
        ([1, 2], [[1, 1, 1], [2, 2, 2]]),
        ([1, 2, 3], [[1, 2, 3], [1, 2, 3]]),
        ([[0, 1, 2], [3, 4, 62]], [[0, 1, 2], [3, 4, 62]]),
        ([1.9, 2.0], [[1, 1, 1], [2, 2, 2]]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fractions are dropped")
def test_delays(tmp_path: Path, delay: object, expected: list[list[int]]) -> None:
    dense = synapse(read(build_dense(tmp_path / "a.net", edit(0, delay=np.array(delay)))), 0)
    assert isinstance(dense, FixedDense)
    assert dense.delay is not None
    assert dense.delay.tolist() == expected


def test_one_delay_of_as_many_inputs_as_outputs_belongs_to_the_outputs(tmp_path: Path) -> None:
    edits = edit(0, weight=np.array([[2, -4], [6, 8]]), delay=np.array([1, 2]))
    dense = synapse(read(build_dense(tmp_path / "a.net", edits)), 0)
    assert isinstance(dense, FixedDense)
    assert dense.delay is not None
    assert dense.delay.tolist() == [[1, 1], [2, 2]]


def test_a_flat_weight_is_folded(tmp_path: Path) -> None:
    dense = synapse(read(build_dense(tmp_path / "a.net", edit(0, weight=np.arange(-2, 4)))), 0)
    assert isinstance(dense, FixedDense)
    assert dense.weight.tolist() == [[-2, -1, 0], [1, 2, 3]]


def test_a_dense_layer_without_neuron_integrates(tmp_path: Path) -> None:
    """Lava's default; 1 << 18 - 1 there means 2**17."""
    neuron = read(build_dense(tmp_path / "a.net", remove("layer/0/neuron"))).layers[0].neuron
    assert isinstance(neuron, CubaNeuron)
    assert (neuron.current_decay, neuron.voltage_decay, neuron.threshold) == (0, 4096, 1 << 17)


def test_a_recurrent_layer(tmp_path: Path) -> None:
    back = np.array([[1, 0], [-1, 3]])
    graph = read(build_dense(tmp_path / "a.net", edit(0, type="dense_rec", weight_rec=back)))
    forward, backward = (connection.synapse for connection in graph.layers[0].connections)
    assert isinstance(forward, FixedDense)
    assert isinstance(backward, FixedDense)
    assert backward.weight.tolist() == back.tolist()
    assert forward.partner is backward.weight
    assert backward.partner is forward.weight
    assert graph.layers[0].is_recurrent


def test_an_input_block(tmp_path: Path) -> None:
    graph = read(build(tmp_path / "a.net", lambda file: add_neuron(file["layer/0"])))
    assert graph.has_input_neuron
    assert isinstance(synapse(graph, 0), FixedInjection)
    assert [layer.shape for layer in graph] == [(2, 4, 6), (4, 4, 3), (3,)]


def test_sigma_delta_networks(tmp_path: Path) -> None:
    def sigma_delta(file: h5py.File) -> None:
        for index in (0, 1, 3):
            if index:
                del file[f"layer/{index}/neuron"]
            add_neuron(file[f"layer/{index}"], type="SDNN", vThMant=index, iDecay=None, vDecay=None)
        put(file["layer/1"], bias=np.full(4, 70000))
        put(file["layer/3/neuron"], sigma_output=False, vThMant=None)

    graph = read(build(tmp_path / "a.net", sigma_delta), spike_exponent=4)
    assert [layer.neuron for layer in graph] == [
        DeltaNeuron(threshold=0, spike_exponent=4),
        SigmaDeltaNeuron(threshold=1, spike_exponent=4),
        SigmaNeuron(),
    ]
    assert graph.layers[1].bias.ravel().tolist() == [70000] * 4  # held in 32 bits, not 16


def resonate(file: h5py.File, kind: str = "RF_PHASE") -> None:
    group = file["layer/0"]
    put(group, weight=None)
    put(group, weight__real=np.array([[1, -2, 3]] * 2), weight__imag=np.array([[4, -5, 6]] * 2))
    del group["neuron"]
    put(group.create_group("neuron"), type=kind, sinDecay=100, cosDecay=[3000], vThMant=7)


@pytest.mark.parametrize(("kind", "is_phase"), [("RF_PHASE", True), ("RF", False), ("xRFy", False)])
def test_complex_layers(tmp_path: Path, kind: str, is_phase: bool) -> None:
    graph = read(build_dense(tmp_path / "a.net", lambda file: resonate(file, kind)))
    assert graph.layers[0].neuron == ResonateFireNeuron(
        sine_decay=100, cosine_decay=3000, threshold=7, is_phase=is_phase
    )
    pair = synapse(graph, 0)
    assert isinstance(pair, FixedComplexDense)
    assert pair.real.weight.tolist() == [[1, -2, 3]] * 2
    assert pair.imaginary.weight.tolist() == [[4, -5, 6]] * 2


def test_what_only_restates_is_not_read(tmp_path: Path) -> None:
    extra = {
        "inChannels": 99,
        "outChannels": h5py.Empty("i4"),
        "kernelSize": np.array([9, 9]),
        "neuron__refDelay": 1,
        "neuron__gradedSpike": h5py.Empty("b1"),
        "neuron__wgtExp": 0,
        "delays": np.zeros(4),
    }
    edits = (edit(1, **extra), lambda file: file.create_group("simulation/anything"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(build(tmp_path / "a.net", *edits))


def test_a_null_graded_spike_is_not_read() -> None:
    """As mlGeNN's exporter writes it; the voltages are those of stock Lava."""
    graph = read(REPORTED / "null_graded_spike.net")
    with np.load(REPORTED / "null_graded_spike.npz") as file:
        inputs = file["input"][:1]
    found = EventSimulator(graph).run(
        inputs, timing=Stream(steps=20), record=Record(states=(graph.names[-1],))
    )
    voltage = found.states[graph.names[-1]]["voltage"]
    assert voltage[0, -1].tolist() == [-45432, -31286, -262173, 122519]


def test_narrow_floats_neither_warn_nor_wrap(tmp_path: Path) -> None:
    """In float32, 2**31 - 1 is 2**31, which would pass for 32 bits and turn into -2**31."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weight = synapse(read(REPORTED / "float16_weights.net"), 0).weight
    assert weight.shape == (4, 6)
    path = build_dense(tmp_path / "a.net", edit(0, bias=np.array([2**31, 0], np.float32)))
    with pytest.raises(NetxError, match=r"bias: values from 0.0 to 2147483648.0 exceed 32 bits"):
        read(path)


def test_the_first_dense_layer_reads_flat_input(tmp_path: Path) -> None:
    """Lava does not transpose there; the port is the flattened vector."""

    def prepend(file: h5py.File) -> None:
        file.move("layer/0", "layer/2")
        put(file.create_group("layer/0"), type="input", shape=np.array([3, 1, 1]))
        put(file.create_group("layer/1"), type="flatten")

    assert read(build_dense(tmp_path / "a.net", prepend)).input.shape == (3,)


def test_the_shape_of_the_input_may_be_given(tmp_path: Path) -> None:
    def drop_input(file: h5py.File) -> None:
        del file["layer/0"]
        for index in range(3):
            file.move(f"layer/{index + 1}", f"layer/{index}")

    path = build(tmp_path / "a.net", drop_input)
    assert read(path, input_shape=(2, 4, 6)).input.shape == (2, 4, 6)
    with pytest.raises(NetxError, match=r"--input-shape C,H,W"):
        read(path)
    with pytest.raises(NetxError, match="source has 3 channels"):
        read(path, input_shape=(3, 4, 6))
    for shape in ((2, 4), (0, 4, 6), ()):
        with pytest.raises(NetxError, match="input shape"):
            read(path, input_shape=shape)


def test_input_bits(tmp_path: Path) -> None:
    path = build_dense(tmp_path / "a.net")
    assert [read(path, input_bits=bits).input.message_bits for bits in (None, 0, -3, 8)] == [
        0,
        0,
        0,
        8,
    ]
    with pytest.raises(NetxError, match="33 message bits"):
        read(path, input_bits=33)
    mark = build_dense(tmp_path / "b.net", lambda file: file.attrs.update(message_bits=5))
    assert read(mark).input.message_bits == 5
    assert read(mark, input_bits=0).input.message_bits == 0


@pytest.mark.parametrize("mark", [-1, 99, "eight", np.arange(5), 2.5])
def test_a_strange_attribute_is_ignored(tmp_path: Path, mark: object) -> None:
    """Lava never reads attributes, so they are no fault."""
    path = build_dense(tmp_path / "a.net", lambda file: file.attrs.update(message_bits=mark))
    assert read(path).input.message_bits == 0
    named = build_dense(tmp_path / "b.net", lambda file: file["layer/0"].attrs.update(name=mark))
    assert read(named).names == ("dense_0",)


# What is read with a warning -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (edit(0, weight=np.array([[1.5, -2, 3], [4, 5, -6.5]])), "weight: fractions are dropped"),
        (edit(0, bias=np.array([1.5, -2])), "bias: fractions are dropped"),
        (edit(0, bias=np.array([40000, 0])), "bias: values from 0 to 40000 wrap"),
        (edit(0, delay=70), "delay: largest value 70, Lava clamps it to 62"),
        (edit(0, weight=np.array([[255, -2, 3], [4, 5, -6]])), "some act with other values"),
        (edit_neuron(0, gradedSpike=True), "Lava's LIF neurons send plain spikes"),
        (edit_neuron(0, gradedSpike=np.array([1, 0])), "Lava's LIF neurons send plain spikes"),
        (edit(0, comment="mine", epoch=7), "Lava does not read 'comment', 'epoch'; nor do we"),
        (edit_neuron(0, theta="x"), "neuron: Lava does not read 'theta'"),
        (
            lambda file: (file["layer/0"].update(dict.fromkeys(map(str, range(20)), 0)),),
            r"Lava does not read '0', '1', '10', .* and 12 more; nor do we",
        ),
    ],
)
def test_surprises_are_announced(tmp_path: Path, edits: Edit, message: str) -> None:
    path = build_dense(tmp_path / "a.net", edits)
    with pytest.warns(NeurodeployWarning, match=message) as caught:
        read(path)
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"{path}/layer/0")


def test_dropped_fractions_are_truncated_towards_zero(tmp_path: Path) -> None:
    path = build_dense(tmp_path / "a.net", edit(0, bias=np.array([1.7, -1.7])))
    with pytest.warns(NeurodeployWarning):
        assert read(path).layers[0].bias.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("make", "edits", "message"),
    [
        (build, edit(1, delay=np.array([0, 3])), "Lava ignores delays of conv layers"),
        (build_dense, edit(0, weight=np.full((2, 3), 300)), "Lava turns this matrix into zeros"),
        (build_dense, edit(0, weight=np.full((2, 3), -8)), "Lava turns this matrix into zeros"),
        (
            build_dense,
            lambda file: (resonate(file), put(file["layer/0"], bias=[1, 2])),
            "Lava ignores the bias of complex layers",
        ),
        *(
            (lambda path, *edits, name=name: REPORTED / name, None, message)
            for name, message in (
                ("recurrent_delays.net", "1/delay_rec: .*Lava does not read it"),
                ("weight_exponent.net", "neuron/wgtExp: 3; Lava does not read it"),
                ("refractory_delay.net", "neuron/refDelay: 5; Lava does not read it"),
                ("misspelt.net", "biass: .*Lava does not read it"),
            )
        ),
        (build_dense, edit(0, weight_rec=np.eye(2)), "weight_rec: 1.0, ...; Lava does not read it"),
        (
            build_dense,
            lambda file: file.move("layer/0/neuron", "layer/0/neurons"),
            "neurons: a group; Lava does not read it",
        ),
        (build_dense, edit(0, **{"bias mantissa": np.array([3])}), "bias mantissa: 3; Lava does"),
        (build_dense, edit_neuron(0, vThMantissa=7), "vThMantissa: 7; Lava does not read it"),
        (
            build_dense,
            edit_neuron(0, type="SDNN", iDecay=None, vDecay=None, activation="tanh"),
            "neuron/activation: tanh; Lava does not read it",
        ),
        (
            build_dense,
            lambda file: (resonate(file, "ADRF_PHASE"), put(file["layer/0/neuron"], thDecay=9)),
            "neuron/thDecay: 9; Lava does not read it",
        ),
        (
            build_dense,
            lambda file: (resonate(file), put(file["layer/0/weight"], imagg=np.ones(2))),
            "weight/imagg: 1.0, ...; Lava does not read it",
        ),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:.*(fractions are dropped|do not fit Lava's 8 bits|misspelt.*delays)"
)
def test_silent_faults_must_be_accepted(
    tmp_path: Path, make: Callable[..., Path], edits: Edit, message: str
) -> None:
    path = make(tmp_path / "a.net", edits)
    with pytest.raises(NetxError, match=f"{message}.*--accept-silent-faults"):
        read(path)
    with pytest.warns(NeurodeployWarning, match=message):
        read(path, accept_silent_faults=True)


def test_a_misspelt_name_comes_with_the_right_one() -> None:
    with pytest.raises(NetxError, match=r"Did you mean 'bias'\? Rename or remove it, or pass"):
        read(REPORTED / "misspelt.net")


def test_an_activation_matters_where_neurons_rectify(tmp_path: Path) -> None:
    """Sigma neurons only add up, whatever activation SLAYER's output block names."""
    edits = edit_neuron(
        0, type="SDNN", iDecay=None, vDecay=None, activation="tanh", sigma_output=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(build_dense(tmp_path / "a.net", edits)).layers[0].neuron == SigmaNeuron()


def test_factors_of_an_input_block_are_named(tmp_path: Path) -> None:
    def scale(weight: float) -> Edit:
        return lambda file: (add_neuron(file["layer/0"]), put(file["layer/0"], weight=[weight]))

    with pytest.warns(NeurodeployWarning, match="weight: 36; Lava leaves this to whoever feeds"):
        read(build(tmp_path / "a.net", scale(36.0)))
    read(build(tmp_path / "b.net", scale(64.0)))  # Lava's own, when there is none
    with pytest.warns(NeurodeployWarning, match="layer/0: Lava does not read 'weight'; nor do we"):
        read(build(tmp_path / "c.net", edit(0, weight=[36.0])))  # without a neuron


def test_a_sigma_delta_bias_wraps_where_lava_shifts_it(tmp_path: Path) -> None:
    edits = (
        edit_neuron(0, type="SDNN", iDecay=None, vDecay=None),
        edit(0, bias=np.array([2**19 - 1, 2**19])),
    )
    path = build_dense(tmp_path / "a.net", *edits)
    with pytest.warns(NeurodeployWarning, match="wrap, since Lava, beside .* holds 20 bits"):
        bias = read(path, spike_exponent=6).layers[0].bias
    assert bias.tolist() == [2**19 - 1, -(2**19)]


# What is refused -----------------------------------------------------------------------------

BAD_NETWORKS: list[tuple[str, Edit]] = [
    ("no group '/layer'", remove("layer")),
    ("0 layers", lambda file: (file.__delitem__("layer"), file.create_group("layer"))),
    ("without a gap", lambda file: file.move("layer/2", "layer/7")),
    ("without a gap", lambda file: put(file, layer__2=3)),
    ("layer/2: required dataset 'type' is missing", remove("layer/2/type")),
    ("layer/2: required dataset 'type' is missing", lambda file: (
        put(file["layer/2"], type=None), file["layer/2"].attrs.update(type="flatten"))),
    ("required dataset 'type'", lambda file: (
        put(file["layer/2"], type=None), file["layer/2"].create_group("type"))),
    ("one string is required", edit(2, type=5)),
    ("one string is required", edit(2, type=np.array(["flatten", "flatten"], "S10"))),
    ("one string is required", edit(2, type=h5py.Empty("S10"))),
    ("one string is required", edit(2, type=np.array(["x" * 999], "S999"))),
    ("not a readable string", edit(2, type="größe")),
    ("unknown layer type 'Dense'", edit(3, type="Dense")),
    ("a string of 0 bytes, 1 to 256 are allowed", edit(3, type="")),
    ("layer type 'pool'", edit(3, type="pool")),
    ("layer type 'average'", edit(3, type="average")),
    ("layer type 'concat'", edit(3, type="concat")),
    ("layer type 'dense_comp'", edit(3, type="dense_comp")),
    ("an input layer must be the first", edit(2, type="input")),
    ("layer/1: required dataset 'shape' is missing", remove("layer/1/shape")),
    ("layer/1: required dataset 'weight' is missing", remove("layer/1/weight")),
    ("layer/1: required dataset 'stride' is missing", remove("layer/1/stride")),
    ("layer/1: required dataset 'groups' is missing", remove("layer/1/groups")),
    ("layer/1: no group 'neuron'", remove("layer/1/neuron")),
    ("layer/3: required dataset 'weight' is missing", remove("layer/3/weight")),
    ("neuron: required dataset 'iDecay' is missing", remove("layer/1/neuron/iDecay")),
    ("neuron: required dataset 'vThMant' is missing", remove("layer/3/neuron/vThMant")),
    ("neuron: required dataset 'type' is missing", remove("layer/3/neuron/type")),
    ("layer/3/neuron: a dataset, a group is required", edit(3, neuron=3)),
    ("layer/1/weight: a group", lambda file: (
        put(file["layer/1"], weight=None), file["layer/1"].create_group("weight"))),
    ("layer/1/stride: a group", lambda file: (
        put(file["layer/1"], stride=None), file["layer/1"].create_group("stride"))),
    ("dtype bool", edit(1, weight=np.ones((4, 2, 3, 3), bool))),
    ("dtype complex128", edit(3, weight=np.ones((3, 48), complex))),
    ("dtype object", edit(3, weight="text")),
    ("dtype .S3", edit(1, bias=np.array(["abc"] * 4, "S3"))),
    ("dtype float64, integers are required. Lava hangs", edit_neuron(1, iDecay=1024.0)),
    ("dtype float32, integers are required. Lava hangs",
     edit_neuron(3, vThMant=np.float32(1))),
    ("an array of uint8 overflows", edit_neuron(1, vThMant=np.full(4, 80, np.uint8))),
    ("an array of int16 overflows", edit_neuron(1, vThMant=np.full(1, 80, np.int16))),
    ("an array of uint64 overflows", edit_neuron(1, vThMant=np.uint64(80))),
    ("dtype float64, integers are required", edit(1, stride=np.array([1.0, 2.0]))),
    ("holds NaN", edit(3, weight=np.full((3, 48), np.nan))),
    ("holds NaN", edit(1, weight=np.full((4, 2, 3, 3), np.inf))),
    ("holds NaN", edit(3, bias=np.array([0, np.nan, 0]))),
    ("exceed 32 bits", edit(1, weight=np.full((4, 2, 3, 3), 2**31))),
    ("exceed 32 bits", edit(3, weight=np.full((3, 48), 1e300))),
    ("exceed 32 bits", edit(3, bias=np.array([0, 2**63, 1], np.uint64))),
    ("less than 33554432 in size", edit_neuron(3, vThMant=2**25)),
    ("less than 33554432 in size", edit_neuron(3, vDecay=-(2**25))),
    ("from 256 to 256: Lava turns", edit(3, weight=np.full((3, 48), 256))),
    ("all weights are zero", edit(3, weight=np.zeros((3, 48)))),
    ("every extent must be at least 1", edit(0, shape=np.array([2, 0, 6]))),
    ("every extent must be at least 1", edit(1, shape=np.array([4, -4, 3]))),
    ("holds nothing", edit(3, shape=np.array([], int))),
    ("holds nothing", edit(3, weight=np.zeros((3, 0)))),
    ("holds nothing", edit(1, weight=np.zeros((0, 2, 3, 3)))),
    ("holds nothing", edit(3, bias=np.zeros(0))),
    ("has over 134217728 neurons", edit(1, shape=np.array([2**20, 2**20, 2**20]))),
    (r"\(C, H, W\) or \(N,\) is required", edit(0, shape=np.array([4, 6]))),
    ("gives \\(4, 4, 3\\)", edit(1, shape=np.array([4, 4, 6]))),
    ("source has 2 channels, the weight reads 4", edit(1, weight=np.ones((4, 4, 3, 3)))),
    ("is required, a trailing 1 is allowed|trailing 1 is required",
     edit(1, weight=np.ones((4, 2, 3, 3, 2)))),
    ("shape \\(4, 18\\)", edit(1, weight=np.ones((4, 18)))),
    ("kernel \\(128, 3\\), Lava allows 127", edit(1, weight=np.ones((4, 2, 128, 3)))),
    ("larger than the source", edit(1, weight=np.ones((4, 2, 9, 3)))),
    ("stride: shape \\(1,\\)", edit(1, stride=np.array([1]))),
    ("stride: \\[0, 1\\]", edit(1, stride=np.array([0, 1]))),
    ("padding: \\[-1, 1\\]", edit(1, padding=np.array([-1, 1]))),
    ("padding: \\[128, 128\\]", edit(1, padding=128)),
    ("dilation: \\[1, 200\\]", edit(1, dilation=np.array([1, 200]))),
    ("groups: shape \\(1,\\)", edit(1, groups=np.array([1]))),
    ("groups: 0", edit(1, groups=0)),
    ("groups: 128, 1 to 127", edit(1, groups=128)),
    ("3 groups do not divide 4", edit(1, groups=3)),
    ("bias: shape \\(\\)", edit(1, bias=5)),
    ("bias: shape \\(1,\\)", edit(1, bias=np.array([5]))),
    ("bias: shape \\(4, 4, 3\\)", edit(1, bias=np.ones((4, 4, 3)))),
    ("vThMant: shape \\(3,\\) does not fit", edit_neuron(1, vThMant=np.ones(3, int))),
    ("shape \\(2, 48\\), \\(3, inputs\\)", edit(3, weight=np.ones((2, 48)))),
    ("shape \\(3, 4, 4, 3\\)", edit(3, weight=np.ones((3, 4, 4, 3)))),
    ("reads 47 values, the layer before it has 48", edit(3, weight=np.ones((3, 47)))),
    ("Put a flatten layer between", lambda file: (
        remove("layer/2")(file), file.move("layer/3", "layer/2"))),
    ("a flatten layer after a flat layer", lambda file: put(file.create_group("layer/4"),
                                                            type="flatten")),
    ("a conv layer after a flat layer", lambda file: file.copy("layer/1", "layer/4")),
    ("'ALIF'; Lava runs CUBA, LOIHI, SDNN", edit_neuron(3, type="ALIF")),
    ("'cuba'; Lava runs", edit_neuron(3, type="cuba")),
    ("Lava hangs on this dataset", edit_neuron(3, messageBits=8)),
    ("resonate-and-fire neurons need complex weights", lambda file: put(
        file["layer/3/neuron"], type="RF", sinDecay=1, cosDecay=2)),
]  # fmt: skip


@pytest.mark.parametrize(("message", "edits"), BAD_NETWORKS)
def test_bad_networks(tmp_path: Path, message: str, edits: Edit) -> None:
    path = build(tmp_path / "a.net", edits)
    with pytest.raises(NetxError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 400 + len(str(path))


BAD_DENSE: list[tuple[str, Edit]] = [
    ("smallest value -1", edit(0, delay=np.array([-1, 0]))),
    ("delay: shape \\(4,\\)", edit(0, delay=np.ones(4, int))),
    ("delay: shape \\(3, 2\\)", edit(0, delay=np.ones((3, 2), int))),
    ("required dataset 'weight_rec' is missing", edit(0, type="dense_rec")),
    ("weight_rec: shape \\(2, 3\\)", edit(0, type="dense_rec", weight_rec=np.ones((2, 3)))),
    ("weight_rec: shape \\(3, 3\\)", edit(0, type="dense_rec", weight_rec=np.ones((3, 3)))),
    ("delayed recurrent layer", edit(0, type="dense_rec", weight_rec=np.eye(2), delay=1)),
    ("weight_rec: weights from 1 to 1: Lava turns this", edit(
        0, type="dense_rec", weight=np.array([[201, -4, 1]] * 2), weight_rec=np.ones((2, 2)))),
    ("sigma_output. Remove either", lambda file: (
        put(file["layer/0/neuron"], type="SDNN", sigma_output=True),
        put(file["layer/0"], bias=[1, 2]))),
    ("threshold 524288 with spike exponent 6", edit_neuron(0, type="SDNN", vThMant=1 << 19)),
    ("vThMant: shape \\(2,\\), one value", edit_neuron(0, type="SDNN", vThMant=[1, 2])),
    ("complex weights need such neurons", lambda file: (
        resonate(file), add_neuron(file["layer/0"]))),
    ("Lava drops the recurrence", lambda file: (
        resonate(file), put(file["layer/0"], type="dense_rec", weight_rec=np.eye(2)))),
    ("both must have the same shape", lambda file: (
        resonate(file), put(file["layer/0"], weight__imag=np.ones((2, 2))))),
    ("'real' is missing", lambda file: (resonate(file), remove("layer/0/weight/real")(file))),
    ("'imag' is missing", lambda file: (resonate(file), remove("layer/0/weight/imag")(file))),
    ("ignores the delay of complex", lambda file: (
        resonate(file), put(file["layer/0"], delay=3))),
    ("'cosDecay' is missing", lambda file: (
        resonate(file), remove("layer/0/neuron/cosDecay")(file))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "edits"), BAD_DENSE)
def test_bad_dense_layers(tmp_path: Path, message: str, edits: Edit) -> None:
    path = build_dense(tmp_path / "a.net", edits)
    with pytest.raises(NetxError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


def test_an_input_block_needs_a_shape(tmp_path: Path) -> None:
    def block(file: h5py.File) -> None:
        add_neuron(file["layer/0"])
        put(file["layer/0"], shape=None)

    with pytest.raises(NetxError, match="an input block with neurons needs it"):
        read(build(tmp_path / "a.net", block))


def test_an_input_alone_is_nothing_to_run(tmp_path: Path) -> None:
    def only_input(file: h5py.File) -> None:
        for index in (1, 2, 3):
            del file[f"layer/{index}"]

    with pytest.raises(NetxError, match="nothing to run"):
        read(build(tmp_path / "a.net", only_input))


def test_names_must_differ(tmp_path: Path) -> None:
    def name(file: h5py.File) -> None:
        for index in (1, 3):
            file[f"layer/{index}"].attrs["name"] = np.bytes_("same")

    with pytest.raises(NetxError, match="two layers are called 'same'"):
        read(build(tmp_path / "a.net", name))


# Files that are not what they seem -----------------------------------------------------------


def test_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NetxError, match=r"none\.net: no such file"):
        read(tmp_path / "none.net")
    with pytest.raises(NetxError, match="not a file"):
        read(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.net")
    with pytest.raises(NetxError, match="not a file"):
        read(tmp_path / "pipe.net")


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n", bytes(5000)])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.net"
    path.write_bytes(content)
    with pytest.raises(NetxError, match="cannot be read"):
        read(path)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says to anyone but root, who may read everything."""

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = build(tmp_path / "a.net")
    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(NetxError, match="Permission denied"):
        read(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    path = build(tmp_path / "a.net")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(NetxError, match="cannot be read"):
        read(path)


def secret(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["weight"] = np.arange(-70, 74).reshape(3, 48)
        file.create_group("neuron")
    return path


@pytest.mark.parametrize("key", ["layer/3/weight", "layer/3/neuron", "layer/3/neuron/vThMant",
                                 "layer/3", "layer", "layer/3/type"])  # fmt: skip
@pytest.mark.parametrize("kind", ["external", "soft", "dangling", "loop"])
def test_links_are_not_followed(tmp_path: Path, key: str, kind: str) -> None:
    """An HDF5 link may name any file that the reader's user may read."""
    other = secret(tmp_path / "other.h5")

    def relink(file: h5py.File) -> None:
        del file[key]
        file[key] = {
            "external": h5py.ExternalLink(str(other), "/weight"),
            "soft": h5py.SoftLink("/layer/1"),
            "dangling": h5py.SoftLink("/nowhere"),
            "loop": h5py.SoftLink(f"/{key}"),
        }[kind]

    with pytest.raises(NetxError, match="a link to somewhere else"):
        read(build(tmp_path / "a.net", relink))


def test_values_in_another_file_are_not_read(tmp_path: Path) -> None:
    raw = tmp_path / "raw.bin"
    raw.write_bytes(np.arange(-70, 74).tobytes())

    def external(file: h5py.File) -> None:
        del file["layer/3/weight"]
        file["layer/3"].create_dataset(
            "weight", (3, 48), np.int64, external=[(str(raw), 0, h5py.h5f.UNLIMITED)]
        )

    with pytest.raises(NetxError, match="in another file"):
        read(build(tmp_path / "a.net", external))


def test_virtual_datasets_are_not_read(tmp_path: Path) -> None:
    other = secret(tmp_path / "other.h5")

    def virtual(file: h5py.File) -> None:
        del file["layer/3/weight"]
        layout = h5py.VirtualLayout((3, 48), np.int64)
        layout[...] = h5py.VirtualSource(other, "weight", (3, 48))
        file["layer/3"].create_virtual_dataset("weight", layout)

    with pytest.raises(NetxError, match="in another file"):
        read(build(tmp_path / "a.net", virtual))


def test_a_group_in_itself_ends(tmp_path: Path) -> None:
    def loop(file: h5py.File) -> None:
        del file["layer/3"]
        file["layer/3"] = file["layer"]

    with pytest.raises(NetxError, match="required dataset 'type' is missing"):
        read(build(tmp_path / "a.net", loop))


@pytest.mark.parametrize("options", [{}, {"chunks": (3, 64)}, {"chunks": True, "compression": 9}])
@pytest.mark.parametrize("shape", [(3, 2**17), (3, 48 * 2**15), (3, 2**40)])
def test_what_is_declared_but_not_stored_is_not_loaded(
    tmp_path: Path, options: dict[str, object], shape: tuple[int, int]
) -> None:
    """A file of some kilobytes may declare terabytes."""

    def declare(file: h5py.File) -> None:
        del file["layer/3/weight"]
        file["layer/3"].create_dataset("weight", shape, np.float32, **options)

    path = build(tmp_path / "a.net", declare)
    assert path.stat().st_size < 100_000
    with pytest.raises(NetxError, match=r"bytes are declared, the file holds 0|elements, at most"):
        read(path)


def test_well_compressed_weights_are_read(tmp_path: Path) -> None:
    """The bound must not refuse what gzip can do with a mostly empty matrix."""

    def grow(file: h5py.File) -> None:
        weight = np.zeros((3, 500_000), np.int64)
        weight[0, :2] = (2, -2)
        put(file["layer/0"], shape=3, weight=None)
        file["layer/0"].create_dataset("weight", data=weight, compression=9, shuffle=True)

    path = build_dense(tmp_path / "a.net", grow)
    assert path.stat().st_size < 100_000
    assert read(path).input.shape == (500_000,)


def test_many_layers_that_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard links let a small file hold any number of big layers."""
    monkeypatch.setattr("neurodeploy.untrusted.hdf5.FILE_ELEMENTS_MAX", 1000)

    def repeat(file: h5py.File) -> None:
        put(file["layer/0"], weight=np.array([[2, -4], [6, 8]]))
        for index in range(1, 400):
            file[f"layer/{index}"] = file["layer/0"]

    with pytest.raises(NetxError, match="over 1000 elements together"):
        read(build_dense(tmp_path / "a.net", repeat))


def test_too_many_layers(tmp_path: Path) -> None:
    def repeat(file: h5py.File) -> None:
        for index in range(1, 4097):
            file[f"layer/{index}"] = file["layer/0"]

    with pytest.raises(NetxError, match="4097 layers, 1 to 4096 are read"):
        read(build_dense(tmp_path / "a.net", repeat))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.frombuffer(b"[1, 2", np.uint8), "not JSON"),
        (np.frombuffer(b"\xff\xfe", np.uint8), "cannot be read"),
        (np.frombuffer(b"[" * 100_000, np.uint8), "nested too deeply"),
        (np.frombuffer(b"{}", np.uint8), "not a list of layers in JSON"),
        (np.frombuffer(b"[{}]", np.uint8), "layer 0: key 'name' is missing"),
        (np.frombuffer(b'[{"name": "a", "macs": 3}]', np.uint8), "unknown key 'macs'"),
        (np.zeros(3, np.float64), "integers are required"),
        (np.zeros(3, np.int64), "3 numbers of int64"),
        (np.zeros((1 << 22) + 1, np.uint8), "at most 4194304 bytes"),
    ],
)
def test_a_damaged_twin_is_refused_by_name(
    tmp_path: Path, stored: np.ndarray[tuple[int, ...], np.dtype[np.generic]], message: str
) -> None:
    path = build(tmp_path / "a.net", lambda file: put(file, relu_twin=stored))
    with pytest.raises(NetxError, match=rf"a.net/relu_twin.*{message}"):
        read(path)


@pytest.mark.parametrize(
    ("count", "message"), [(-1, "layer 0: counts .* at least 0"), (1 << 63, "at most 64 bits")]
)
def test_a_twin_of_impossible_counts_is_refused(tmp_path: Path, count: int, message: str) -> None:
    layer = {
        "name": "a", "type": "conv", "macs_standard": count, "macs_border_exact": 0,
        "macs_nonzero": 0, "weights": 0, "zero_weights": 0, "inputs": 0, "outputs": 0,
    }  # fmt: skip
    text = np.frombuffer(json.dumps([layer]).encode(), np.uint8)
    path = build(tmp_path / "a.net", lambda file: put(file, relu_twin=text))
    with pytest.raises(NetxError, match=f"relu_twin: .*{message}"):
        read(path)


def test_a_text_in_pieces_is_refused(tmp_path: Path) -> None:
    """Strings of variable length are read without h5py, from one place of the file."""

    def split(file: h5py.File) -> None:
        del file["layer/3/type"]
        text = h5py.string_dtype()
        file["layer/3"].create_dataset("type", data=["dense"], dtype=text, chunks=(1,))

    with pytest.raises(NetxError, match="type: a string stored in a way that is not read"):
        read(build(tmp_path / "a.net", split))
