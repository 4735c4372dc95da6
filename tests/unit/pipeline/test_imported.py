"""Networks of other frameworks, all the way to a file."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

import neurodeploy as nd
from neurodeploy.errors import (
    DataError,
    InterchangeError,
    NeurodeployError,
    OutputError,
    VerificationError,
)
from neurodeploy.files import hash_file
from neurodeploy.ir.float_layers import Dense
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.current_bias import Carried, carry_current_biases
from neurodeploy.pipeline import imported as imported_pipeline

GOLDEN = Path(__file__).parents[2] / "golden" / "interchange"

# Shares of spikes that 8 bits keep, as a prototype of others measured them; ours may not be worse.
CASES = {
    "01_snntorch_leaky_dense": ({}, {"1": 0.997, "3": 0.983}),
    "02_snntorch_synaptic_dense": ({}, {"1": 0.991, "3": 0.987}),
    "04_snntorch_conv_avgpool": ({}, {"1": 0.998, "4": 0.995, "7": 0.972}),
    "05_snntorch_rleaky": ({}, {"1.lif": 0.963, "3": 0.983}),
    "06_spikingjelly_ties": ({"convention": "spikingjelly"}, {"_1": 1.0, "_3": 1.0}),
    "07_spikingjelly_conv": ({"convention": "spikingjelly"}, {"lif1": 0.998, "cuba": 0.983}),
    "08_spikingjelly_residual": (
        {"convention": "spikingjelly"},
        {"n0": 0.996, "n1": 0.989, "n2": 0.964, "n3": 0.954},
    ),
    "09_norse_lifbox": ({"convention": "norse"}, {"1": 0.998, "3": 0.989}),
    "12_sinabs_iaf_sumpool": ({"convention": "sinabs"}, {"1": 0.994, "4": 0.988, "8": 0.987}),
    "16_nir_nested": ({}, {"thr": 0.995, "block.lif": 0.977}),
    "19_nir_conv_shapes": ({}, {"n1": 0.99, "n2": 0.99}),
}


def inputs_of(case: str) -> np.ndarray:
    with np.load(GOLDEN / f"{case}.npz") as arrays:
        return arrays["input"]


def deploy(case: str, out: Path, **options: object) -> nd.ImportedDeployment:
    return nd.deploy(
        GOLDEN / f"{case}.nir", inputs_of(case), out=out, **{**CASES[case][0], **options}
    )


@pytest.mark.parametrize("case", CASES)
def test_integers_keep_the_spikes_and_the_file_has_them_all(case: str, tmp_path: Path) -> None:
    result = deploy(case, tmp_path)
    shares = {entry.name: entry.deployed for entry in result.agreement}
    for name, least in CASES[case][1].items():
        assert shares[name] >= least, name
    assert all(entry.file_differing == 0 for entry in result.agreement)
    record = json.loads((tmp_path / "network.json").read_text())
    assert record["sha256"] == hash_file(tmp_path / "network.net")
    certificate = nd.Certificate.load(tmp_path / "certificate.json")
    assert certificate == result.certificate
    assert certificate.check(tmp_path, tmp_path).holds
    assert {one.name: one.equal_share for one in certificate.deployment.layers} == shares
    with np.load(tmp_path / "samples.npz") as samples:
        assert samples.files == ["input"]
        np.testing.assert_array_equal(samples["input"], inputs_of(case))


def test_a_deployment_that_fails_at_its_end_changes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    case = "01_snntorch_leaky_dense"
    deploy(case, tmp_path, weight_bits=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(nd.Certificate, "save", fail)
    with pytest.raises(OutputError, match="the files in it were not changed"):
        deploy(case, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.lava
@pytest.mark.parametrize("case", [case for case in CASES if case[:2] in ("02", "05", "08", "16")])
def test_real_lava_makes_the_same_spikes(case: str, tmp_path: Path) -> None:
    result = deploy(case, tmp_path, lava_samples=2)
    assert [entry.lava_differing for entry in result.agreement] == [0] * len(result.agreement)


def test_a_bias_through_the_current_is_exact_or_asked_for(tmp_path: Path) -> None:
    case = "02_snntorch_synaptic_dense"
    exact = deploy(case, tmp_path / "exact")
    assert exact.calibration.graph.names[0] == "input.relay"
    rough = deploy(case, tmp_path / "rough", approximate={"current-bias"})
    assert rough.calibration.graph.names == ("1", "3")
    by_name = {entry.name: entry.deployed for entry in rough.agreement}
    for entry in exact.agreement[1:]:
        assert entry.deployed > by_name[entry.name] - 0.002
    graded = 3 * inputs_of(case)
    with pytest.raises(InterchangeError, match="only binary input can be relayed"):
        nd.deploy(GOLDEN / f"{case}.nir", graded, out=tmp_path / "graded")


def test_inputs_that_are_not_integers(tmp_path: Path) -> None:
    case = "01_snntorch_leaky_dense"
    real = inputs_of(case) * 0.9 + 0.05
    with pytest.raises(InterchangeError, match="input-rounding"):
        nd.deploy(GOLDEN / f"{case}.nir", real, out=tmp_path)
    assert not (tmp_path / "network.net").exists()
    result = nd.deploy(GOLDEN / f"{case}.nir", real, out=tmp_path, approximate={"input-rounding"})
    assert result.input_scale == pytest.approx(0.95 / 127)
    assert result.graph.input.message_bits == 7


def test_accuracy_counts_the_spikes_of_the_last_layer(tmp_path: Path) -> None:
    case = "01_snntorch_leaky_dense"
    imported = nd.import_nir(GOLDEN / f"{case}.nir")
    labels = imported.run(inputs_of(case))["3"].sum(axis=1, dtype=int).argmax(axis=1)
    result = nd.deploy(imported, inputs_of(case), labels, out=tmp_path)
    assert result.accuracy["float"] == 1.0
    assert result.describe().splitlines()[0] == "accuracy, float: 100.00%"
    assert result.describe().endswith("values that differ: file 0, Lava not run")
    wrong = nd.deploy(imported, inputs_of(case), (labels + 1) % 6, out=tmp_path)
    assert wrong.accuracy["float"] == 0.0


@pytest.mark.parametrize(
    ("samples", "labels", "message"),
    [
        (np.zeros((4, 12)), None, r"\(samples, T, 12\)"),
        (np.zeros((4, 5, 13), int), None, r"the network reads \(samples, T, 12\)"),
        (np.full((4, 5, 12), "x"), None, "numbers"),
        (np.zeros((0, 5, 12), int), None, "at least one"),
        (np.full((4, 5, 12), np.nan), None, "NaN"),
        (np.ones((4, 5, 12), int), [1, 2], "4 integers are required"),
        (np.ones((4, 5, 12), int), [0.5] * 4, "4 integers are required"),
        (np.ones((4, 5, 12), int), [0, 6, 1, 2], "labels: 0 to 6, the network has classes 0 to 5"),
    ],
)
def test_wrong_samples(samples: np.ndarray, labels: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        nd.deploy(GOLDEN / "01_snntorch_leaky_dense.nir", samples, labels, out=tmp_path)


def test_a_silent_network_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    silent = np.zeros((4, 5, 12), int)
    with pytest.raises(NeurodeployError, match="no neuron spikes"):
        nd.deploy(GOLDEN / "06_spikingjelly_ties.nir", silent, out=tmp_path, dt=1e-4)
    assert not (tmp_path / "network.net").exists()


def conv_network(*, padding: int, dilation: int = 1, stride: int = 1) -> dict[str, object]:
    """Two convolutions into currents that decay, with biases."""
    rng = np.random.default_rng(11)

    def conv(outputs: int, inputs: int, pad: int, step: int, spread: int) -> dict[str, object]:
        return {
            "type": "Conv2d",
            "weight": rng.normal(size=(outputs, inputs, 3, 3)) * 0.5,
            "bias": rng.normal(size=outputs) * 0.1,
            "stride": step, "padding": pad, "dilation": spread, "groups": 1,
        }  # fmt: skip

    neuron = {
        "type": "CubaLIF", "tau_syn": 3e-4, "tau_mem": 5e-4, "r": 5.0, "w_in": 3.0,
        "v_leak": 0.0, "v_threshold": 0.5,
    }  # fmt: skip
    return {
        "type": "NIRGraph",
        "nodes": {
            "in": {"type": "Input", "shape": np.array([2, 8, 8])},
            "conv1": conv(3, 2, 1, 1, 1),
            "lif1": neuron,
            "conv2": conv(4, 3, padding, stride, dilation),
            "lif2": neuron,
            "out": {"type": "Output", "shape": np.array([4, 8, 8])},
        },
        "edges": [
            ("in", "conv1"), ("conv1", "lif1"), ("lif1", "conv2"), ("conv2", "lif2"),
            ("lif2", "out"),
        ],
    }  # fmt: skip


def images() -> np.ndarray:
    return (np.random.default_rng(12).random((3, 12, 2, 8, 8)) < 0.4).astype(np.int32)


@pytest.mark.parametrize(
    "geometry", [{"padding": 1}, {"padding": 0}, {"padding": 2, "dilation": 2, "stride": 2}]
)
def test_channels_that_always_fire_carry_the_biases_of_convolutions(
    geometry: dict[str, int], tmp_path: Path
) -> None:
    result = nd.deploy(conv_network(**geometry), images(), out=tmp_path)
    assert result.calibration.graph.names == ("in.relay", "lif1", "lif2")
    shares = {entry.name: entry.deployed for entry in result.agreement}
    assert shares["in.relay"] == 1.0
    assert min(shares["lif1"], shares["lif2"]) > 0.97
    assert [entry.file_differing for entry in result.agreement] == [0, 0, 0]


def test_no_channel_reaches_the_border_of_a_full_convolution(tmp_path: Path) -> None:
    with pytest.raises(InterchangeError, match=r"lif2: .* padding .* no tap lies on the map"):
        nd.deploy(conv_network(padding=2), images(), out=tmp_path)
    result = nd.deploy(
        conv_network(padding=2), images(), out=tmp_path, approximate={"current-bias"}
    )
    assert [entry.file_differing for entry in result.agreement] == [0, 0]


def test_unknown_approximations_are_refused_of_imported_networks_too(tmp_path: Path) -> None:
    case = "01_snntorch_leaky_dense"
    imported = nd.import_nir(GOLDEN / f"{case}.nir")
    with pytest.raises(InterchangeError, match="approximate: curent-bias; allowed are"):
        nd.deploy(imported, inputs_of(case), out=tmp_path, approximate={"curent-bias"})


def test_a_change_of_form_is_noticed_beside_ties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = "06_spikingjelly_ties"  # voltages equal to thresholds excuse no other change

    def spoilt(graph: Graph) -> Carried:
        name = next(name for name, layer in graph.nodes.items() if isinstance(layer, Dense))
        dense = graph.nodes[name]
        other = dataclasses.replace(dense, weight=np.roll(dense.weight, 1, axis=1))
        return carry_current_biases(graph.replace_nodes(changed={name: other}))

    monkeypatch.setattr(imported_pipeline, "carry_current_biases", spoilt)
    with pytest.raises(VerificationError, match="changed at step"):
        nd.deploy(GOLDEN / f"{case}.nir", inputs_of(case), out=tmp_path, convention="spikingjelly")
