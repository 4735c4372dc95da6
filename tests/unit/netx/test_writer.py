"""What the writer puts into a file, and what it refuses to write."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from neurodeploy.errors import NetxError, OutputError
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT, AnnLayerMacs, AnnMacs
from neurodeploy.ir.integer_layers import (
    FixedInjection,
    Neuron,
    Shape,
    Synapse,
)
from neurodeploy.netx import read, write
from neurodeploy.netx.writer import find_faults


def integers(*values: object) -> npt.NDArray[np.int32]:
    return np.array(*values, dtype=np.int32)


def cuba(threshold: object = 10) -> CubaNeuron:
    return CubaNeuron(
        current_decay=integers(4096), voltage_decay=integers(100), threshold=integers(threshold)
    )


MIXED = integers([[2, -4], [6, 8]])


def layer(
    name: str,
    *connections: tuple[str, Synapse],
    neuron: Neuron | None = None,
    shape: Shape = (2,),
    bias: object = 0,
) -> FixedLayer:
    return FixedLayer(
        name=name,
        shape=shape,
        connections=tuple(Connection(source=s, synapse=synapse) for s, synapse in connections),
        neuron=neuron or cuba(),
        bias=integers(bias),
    )


def network(*layers: FixedLayer, shape: Shape = (2,), bits: int = 0) -> FixedPointGraph:
    return FixedPointGraph(input=FixedInput(shape=shape, message_bits=bits), layers=layers)


def small(weight: npt.NDArray[np.int32] = MIXED) -> FixedPointGraph:
    return network(layer("a", (INPUT, FixedDense(weight=weight))))


def spatial() -> FixedPointGraph:
    conv = FixedConv(
        weight=integers(np.arange(24).reshape(4, 1, 3, 2)),
        stride=(1, 2),
        padding=(2, 1),
        dilation=(1, 3),
        groups=2,
    )
    rng = np.random.default_rng(0)
    dense = FixedDense(weight=rng.integers(-9, 9, (3, 4 * 6 * 3), dtype=np.int32))
    return network(
        layer(
            "stem",
            (INPUT, conv),
            shape=(4, 6, 3),
            bias=np.arange(4).reshape(4, 1, 1),
            neuron=cuba(np.arange(72).reshape(4, 6, 3)),
        ),
        layer("read-out", ("stem", dense), shape=(3,), bias=[1, 2, 3]),
        shape=(2, 4, 6),
        bits=8,
    )


def test_conv_layers_are_stored_in_lavas_order(tmp_path: Path) -> None:
    graph = spatial()
    write(graph, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert file.attrs["message_bits"] == 8
        assert sorted(file["layer"]) == ["0", "1", "2", "3"]
        kinds = [file[f"layer/{k}/type"][0] for k in range(4)]
        assert kinds == [b"input", b"conv", b"flatten", b"dense"]
        assert file["layer/0/shape"][()].tolist() == [2, 4, 6]
        conv = file["layer/1"]
        assert conv.attrs["name"] == b"stem"
        assert conv["shape"][()].tolist() == [4, 6, 3]
        assert conv["weight"].shape == (4, 1, 3, 2)
        assert conv["stride"][()].tolist() == [1, 2]
        assert conv["padding"][()].tolist() == [2, 1]
        assert conv["dilation"][()].tolist() == [1, 3]
        assert conv["groups"].shape == ()
        assert conv["bias"][()].tolist() == [0, 1, 2, 3]
        assert conv["neuron/vThMant"].shape == (3, 6, 4)
        assert conv["neuron/vThMant"][2, 1, 3] == (3 * 6 + 1) * 3 + 2
        assert conv["neuron/iDecay"][()] == 4096
        assert file["layer/3/bias"][()].tolist() == [1, 2, 3]


def test_neuron_parameters_are_wide_integers(tmp_path: Path) -> None:
    """Lava hangs on floats and overflows on narrow arrays."""
    write(spatial(), tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        for index in (1, 3):
            neuron = file[f"layer/{index}/neuron"]
            assert sorted(neuron) == ["iDecay", "type", "vDecay", "vThMant"]
            assert neuron["type"][()] == b"CUBA"
            assert {neuron[key].dtype for key in ("iDecay", "vDecay", "vThMant")} == {
                np.dtype(np.int64)
            }


def test_recurrent_and_delayed_layers(tmp_path: Path) -> None:
    back = integers([[0, 2], [-2, 0]])
    graph = network(
        layer(
            "rec",
            (INPUT, FixedDense(weight=MIXED, partner=back)),
            ("rec", FixedDense(weight=back, partner=MIXED)),
        ),
        layer("late", ("rec", FixedDense(weight=MIXED, delay=integers([[0, 1], [62, 3]])))),
    )
    write(graph, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert file["layer/1/type"][0] == b"dense_rec"
        assert file["layer/1/weight_rec"][()].tolist() == back.tolist()
        assert file["layer/2/delay"][()].tolist() == [[0, 1], [62, 3]]


def test_every_other_kind_of_neuron(tmp_path: Path) -> None:
    pair = FixedComplexDense(real=FixedDense(weight=MIXED), imaginary=FixedDense(weight=-MIXED))
    graph = network(
        layer("in", (INPUT, FixedInjection()), neuron=DeltaNeuron(threshold=3, spike_exponent=5)),
        layer(
            "hidden",
            ("in", FixedDense(weight=MIXED)),
            neuron=SigmaDeltaNeuron(threshold=4, spike_exponent=5),
            bias=[70000, 0],
        ),
        layer("sum", ("hidden", FixedDense(weight=MIXED)), neuron=SigmaNeuron()),
        layer(
            "turn",
            ("sum", pair),
            neuron=ResonateFireNeuron(sine_decay=5, cosine_decay=6, threshold=7, is_phase=True),
        ),
        layer(
            "level",
            ("turn", pair),
            neuron=ResonateFireNeuron(sine_decay=5, cosine_decay=6, threshold=7, is_phase=False),
        ),
    )
    write(graph, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        neurons = [file[f"layer/{k}/neuron"] for k in range(5)]
        assert [neuron["type"][()] for neuron in neurons] == [
            b"SDNN", b"SDNN", b"SDNN", b"RF_PHASE", b"RF",
        ]  # fmt: skip
        assert ["sigma_output" in neuron for neuron in neurons] == [False, False, True] + [
            False
        ] * 2
        assert [neurons[k]["vThMant"][()] for k in (0, 1, 3)] == [3, 4, 7]
        assert file["layer/1/bias"][()].tolist() == [70000, 0]
        assert sorted(file["layer/3/weight"]) == ["imag", "real"]


def refused(graph: FixedPointGraph, *messages: str) -> None:
    faults = find_faults(graph)
    assert len(faults) == len(messages), faults
    for fault, message in zip(faults, messages, strict=True):
        assert message in fault


def test_only_chains_can_be_written() -> None:
    dense = FixedDense(weight=MIXED)
    refused(
        network(
            layer("a", (INPUT, dense)),
            layer("b", ("a", dense), (INPUT, dense)),
            layer("c", ("a", dense)),
        ),
        "b: reads a, input; a netx file holds a chain",
        "c: reads a; a netx file holds a chain",
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 0], [0, 0]], "all weights are zero"),
        ([[256, 1], [2, 3]], "from 1 to 256 would act with other values"),
        ([[-8, -8], [-8, -8]], "from -8 to -8 would act"),
        ([[255, -1], [0, 0]], "from -1 to 255 would act"),
        ([[-257, 1], [0, 0]], "from -257 to 1 would act"),
    ],
)
def test_weights_that_lava_would_change(rows: list[list[int]], message: str) -> None:
    refused(small(integers(rows)), message)


def test_a_conv_layer_of_zeros_is_legal() -> None:
    """Only dense layers go through the search for bits that fails on zeros."""
    conv = FixedConv(weight=integers(np.zeros((1, 1, 1, 1))))
    refused(network(layer("a", (INPUT, conv), shape=(1, 1, 1)), shape=(1, 1, 1)))


def test_geometry_is_held_in_8_bits() -> None:
    conv = FixedConv(weight=integers(np.ones((128, 1, 1, 1))), groups=128)
    refused(network(layer("a", (INPUT, conv), shape=(128, 1, 1)), shape=(128, 1, 1)), "of 128")
    conv = FixedConv(weight=integers(np.ones((1, 1, 1, 1))), padding=(0, 128))
    refused(network(layer("a", (INPUT, conv), shape=(1, 1, 257)), shape=(1, 1, 1)), "of 128")


def test_biases_are_held_in_16_bits() -> None:
    refused(
        network(layer("a", (INPUT, FixedDense(weight=MIXED)), bias=[32768, 0])),
        "a: bias from 0 to 32768, 16 bits",
    )


def test_recurrent_layers_must_name_their_partner_and_have_no_delay() -> None:
    plain = FixedDense(weight=MIXED)
    refused(network(layer("a", (INPUT, plain), ("a", plain))), "do not name each other as partner")
    pair = FixedDense(weight=MIXED, partner=MIXED)
    late = FixedDense(weight=MIXED, partner=MIXED, delay=integers([[1, 0], [0, 0]]))
    refused(network(layer("a", (INPUT, pair), ("a", pair))))
    refused(network(layer("a", (INPUT, late), ("a", pair))), "recurrent and delayed")


def test_faults_of_input_blocks() -> None:
    injection = FixedInjection()
    delta = DeltaNeuron(threshold=1, spike_exponent=6)
    refused(network(layer("a", (INPUT, injection), bias=[1, 1])), "a bias in an input block")
    refused(
        network(layer("a", (INPUT, FixedDense(weight=MIXED))), layer("b", ("a", injection))),
        "only the first layer",
    )
    refused(network(layer("a", (INPUT, injection), neuron=SigmaNeuron())), "SigmaNeuron")
    refused(network(layer("a", (INPUT, FixedDense(weight=MIXED)), neuron=delta)), "DeltaNeuron")


def test_neurons_of_an_unknown_kind_are_refused() -> None:
    class Unknown(CubaNeuron):
        pass

    known = small()
    values = cuba()
    unknown = Unknown(
        current_decay=values.current_decay,
        voltage_decay=values.voltage_decay,
        threshold=values.threshold,
    )
    strange = replace(known, layers=(replace(known.layers[0], neuron=unknown),))
    refused(strange, "neurons of kind Unknown; netx has no group for them")


def test_a_dense_layer_is_flat() -> None:
    dense = FixedDense(weight=MIXED)
    refused(network(layer("a", (INPUT, dense), shape=(2, 1, 1))), "(N,) is required")


def test_one_spike_exponent_for_all_layers() -> None:
    layers = (
        layer(
            name,
            (source, FixedDense(weight=MIXED)),
            neuron=SigmaDeltaNeuron(threshold=1, spike_exponent=exponent),
        )
        for name, source, exponent in (("a", INPUT, 5), ("b", "a", 6))
    )
    refused(network(*layers), "spike exponents [5, 6]")


def test_all_faults_are_reported_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    graph = network(
        layer("a", (INPUT, FixedDense(weight=integers([[300, 1], [2, 3]])))),
        layer("b", ("a", FixedDense(weight=integers([[0, 0], [0, 0]])))),
    )
    with pytest.raises(NetxError) as caught:
        write(graph, tmp_path / "a.net")
    assert [line[:4] for line in str(caught.value).splitlines()[1:]] == ["- a:", "- b:"]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.net"
    write(small(), path)
    old = path.read_bytes()

    def full(self: Path, data: memoryview) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(small(), path)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.net"]


def test_a_limit_on_file_size_keeps_the_old_file(tmp_path: Path) -> None:
    """The same with the system itself refusing to write, in a process of its own."""
    path = tmp_path / "a.net"
    write(small(), path)
    old = path.read_bytes()
    code = (
        "import sys, numpy as np\n"
        "from neurodeploy.errors import OutputError\n"
        "from neurodeploy.netx import read, write\n"
        "graph = read(sys.argv[1])\n"
        "try:\n"
        "    write(graph, sys.argv[1])\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(path)],
        capture_output=True, text=True, check=True, preexec_fn=limit, timeout=60,
    )  # fmt: skip
    assert "cannot be written (File too large)" in done.stdout
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.net"]


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError):
        write(small(), tmp_path / "a" / "b.net")


def test_the_counts_of_the_relu_twin_travel_beside_the_layers(tmp_path: Path) -> None:
    """In a dataset that is no layer, so that Lava, which opens `layer` alone, does not see it."""
    counted = AnnMacs(
        layers=(
            AnnLayerMacs(
                name="größe", type="conv", macs_standard=1 << 40, macs_border_exact=7,
                macs_nonzero=5, weights=9, zero_weights=2, inputs=3, outputs=4,
            ),
        )
    )  # fmt: skip
    path = tmp_path / "a.net"
    write(replace(spatial(), relu_twin=counted), path)
    assert read(path).relu_twin == counted
    with h5py.File(path) as file:
        assert set(file) == {"layer", "relu_twin"}
        assert sorted(file["layer"]) == ["0", "1", "2", "3"]
    write(spatial(), path)
    assert read(path).relu_twin is None
