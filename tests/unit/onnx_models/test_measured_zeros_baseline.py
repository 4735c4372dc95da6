"""An ONNX model in place of the ReLU twin: `report --ann`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from typer.testing import CliRunner

from neurodeploy.cli.app import make_app
from neurodeploy.energy.estimates import ann_energy
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.errors import DataError, OnnxError
from neurodeploy.onnx_models.measured_zeros import load_samples, read_baseline, units_note

GOLDEN = Path(__file__).parents[2] / "golden"
NET = GOLDEN / "10_conv_flatten_dense.net"


def model(path: Path, *, domain: str = "", batch: int | str = "batch") -> Path:
    """Write conv, ReLU, dense for the golden network's input, with half of the weights zero."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)) * (rng.random((4, 3, 3, 3)) < 0.5),
        "g": rng.normal(size=(10, 256)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, name="conv"),
        helper.make_node("Relu", ["c"], ["r"], domain=domain),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1, name="fc"),
    ]
    known = helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 4, 8, 8])
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])],
        initializer=[numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
        value_info=[known] if domain else [],
    )
    imports = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path / "in.npz"
    np.savez(path, input=(rng.random((2, 6, 3, 8, 8)) < 0.1).astype(np.uint8))
    return path


def report(samples: Path, *options: object) -> dict[str, object]:
    command = ["report", str(NET), "-i", str(samples), "--json", *map(str, options)]
    result = CliRunner().invoke(make_app(), command)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_the_model_takes_the_twins_place(tmp_path: Path, samples: Path) -> None:
    path = model(tmp_path / "m.onnx")
    found = report(samples, "--ann", path)
    ann = found["ann"]
    assert isinstance(ann, dict)
    assert ann["source"] == str(path)
    assert ann["macs_standard"] == 4 * 27 * 64 + 2560
    assert ann["macs_border_exact"] == 4 * 3 * 22 * 22 + 2560
    assert 0 < ann["macs_effective"] < ann["macs_border_exact"]
    assert ann["precision"] == "float"
    assert found["relu_twin"] != {k: ann[k] for k in ("macs_standard", "macs_border_exact")}
    assert found["uncounted_ops"] == []
    tiers = {one["preset"]: one["ann"] for one in found["tiers"]}  # type: ignore[attr-defined]
    for preset in ("cmos45_int8", "cmos45_fp32"):
        mac = EnergyPreset.load(preset).value("mac")
        assert tiers[preset]["nominal"] == ann["macs_border_exact"] * mac
        assert tiers[preset]["low"] == pytest.approx(ann["macs_effective"] * mac, rel=1e-12)


def test_a_fixed_batch_is_measured_in_whole_passes(tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(size=(4, 3, 8, 8)) * (np.arange(4) % 2).reshape(4, 1, 1, 1)
    labels = np.arange(4)
    single = read_baseline(model(tmp_path / "one.onnx"), samples=x, labels=labels)
    pair = read_baseline(model(tmp_path / "m.onnx", batch=2), samples=x, labels=labels)
    assert pair.macs.nodes == single.macs.nodes
    assert pair.macs_effective == single.macs_effective
    assert pair.accuracy == single.accuracy
    assert pair.activity is not None
    assert single.activity is not None
    assert pair.activity.samples == 4
    assert pair.activity.classes.tolist() == single.activity.classes.tolist()
    with pytest.raises(OnnxError, match="multiple of 2"):
        read_baseline(tmp_path / "m.onnx", samples=x[:3])
    steps = np.repeat(x[:, None], 5, axis=1)
    first = read_baseline(tmp_path / "m.onnx", network_inputs=steps[:3])
    assert first.activity is not None
    assert first.activity.samples == 2
    assert "first 2 samples" in " ".join(first.notes)
    none = read_baseline(tmp_path / "m.onnx", network_inputs=steps[:1])
    assert none.activity is None
    assert "a pass takes 2 samples, and there are 1" in " ".join(none.notes)


def test_the_mean_over_the_steps_is_what_it_sees(tmp_path: Path, samples: Path) -> None:
    path = model(tmp_path / "m.onnx")
    values = np.load(samples)["input"]
    own = tmp_path / "own.npz"
    np.savez(own, input=values.mean(axis=1), label=np.array([0, 0]))
    by_default, by_hand = (
        report(samples, "--ann", path),
        report(samples, "--ann", path, "--ann-input", own),
    )
    first, second = by_default["ann"], by_hand["ann"]
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["macs_effective"] == second["macs_effective"]
    assert first["accuracy"] is None
    assert second["accuracy"] in (0.0, 0.5, 1.0)


def test_a_model_that_reads_the_networks_integers_is_told_of(tmp_path: Path) -> None:
    pixels = np.arange(4 * 192).reshape(4, 1, 3, 8, 8) % 256
    (note,) = units_note(np.repeat(pixels, 2, axis=1))
    assert "from 0 to 191 in the first sample" in note
    assert units_note(pixels % 2) == []
    path, samples, own = model(tmp_path / "m.onnx"), tmp_path / "in.npz", tmp_path / "own.npz"
    np.savez(samples, input=np.repeat(pixels, 6, axis=1)[:2] % 3)
    np.savez(own, input=np.zeros((2, 3, 8, 8)))
    for options, is_told in (((), True), (("--ann-input", own), False)):
        notes = report(samples, "--input-bits", 8, "--ann", path, *options)["warnings"]
        assert ("the network's own integers" in " ".join(notes)) is is_told  # type: ignore[arg-type]


def test_accuracies_of_different_samples_are_not_compared(tmp_path: Path, samples: Path) -> None:
    path, own = model(tmp_path / "m.onnx"), tmp_path / "own.npz"
    values = np.load(samples)["input"]
    labelled = tmp_path / "labelled.npz"
    np.savez(labelled, input=values, label=np.array([0, 1]))
    for label, is_compared in ((np.array([0, 1]), True), (np.array([1, 1]), False)):
        np.savez(own, input=values.mean(axis=1), label=label)
        found = report(labelled, "--ann", path, "--ann-input", own)
        assert isinstance(found["ann"], dict)
        assert (found["ann"]["accuracy"] is not None) is is_compared
        assert ("labels of the 2 samples in" in " ".join(found["warnings"])) is not is_compared  # type: ignore[arg-type]


def test_accuracy_is_the_share_of_largest_outputs(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    x = np.random.default_rng(2).normal(size=(4, 3, 8, 8))
    scores = read_baseline(path, samples=x).activity
    assert scores is not None
    labels = scores.classes.copy()
    labels[0] = (labels[0] + 1) % 10
    assert read_baseline(path, samples=x, labels=labels).accuracy == 0.75
    with pytest.raises(DataError, match="one a sample"):
        read_baseline(path, samples=x, labels=labels[:2])


def test_unknown_operators_flag_the_report(tmp_path: Path, samples: Path) -> None:
    path = model(tmp_path / "m.onnx", domain="my.ops", batch=1)
    found = report(samples, "--ann", path, "--allow-incomplete")
    assert found["uncounted_ops"] == ["Relu"]
    warnings = " ".join(found["warnings"])  # type: ignore[arg-type]
    assert "not counted: Relu" in warnings
    assert "were not measured" in warnings
    (rule,) = (one for one in found["fairness"]["rules"] if "as trained" in one["name"])  # type: ignore[call-overload,index]
    assert (rule["holds"], rule["found"]) == (False, "operators are left out of its count: Relu")


def test_an_incomplete_count_exits_with_3_unless_allowed(tmp_path: Path, samples: Path) -> None:
    """As in `macs`: the report is printed all the same."""
    path = model(tmp_path / "m.onnx", domain="my.ops", batch=1)
    command = ["report", str(NET), "-i", str(samples), "--ann", str(path)]
    refused = CliRunner().invoke(make_app(), command)
    assert refused.exit_code == 3
    assert "not counted" in refused.output
    assert CliRunner().invoke(make_app(), [*command, "--allow-incomplete"]).exit_code == 0
    whole = ["report", str(NET), "-i", str(samples), "--ann", str(model(tmp_path / "whole.onnx"))]
    assert CliRunner().invoke(make_app(), whole).exit_code == 0


def test_nonsense_is_refused_before_the_simulation(tmp_path: Path, samples: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model(tmp_path / "m.onnx").read_bytes()[:200])
    command = ["report", str(NET), "-i", str(samples), "--ann", str(broken)]
    assert isinstance(CliRunner().invoke(make_app(), command).exception, OnnxError)
    np.savez(tmp_path / "x.npz", other=np.ones(3))
    with pytest.raises(DataError, match=r"no array 'input'"):
        load_samples(tmp_path / "x.npz")
    with pytest.raises(DataError, match="cannot be read"):
        load_samples(broken)


def test_damaged_samples_of_the_ann_are_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.npz", tmp_path / "damaged.npz"
    values = np.random.default_rng(0).random((4, 500))
    np.savez_compressed(whole, input=values)
    assert np.array_equal(load_samples(whole)[0], values)
    content = whole.read_bytes()
    refused = 0
    for place in range(0, len(content), 61):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            found, _ = load_samples(path)
        except DataError:
            refused += 1
        else:  # a byte that says nothing of the array, such as its date
            assert np.array_equal(found, values)
    assert refused > len(content) // 61 * 0.9


def test_labels_of_the_ann_are_class_numbers(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, input=np.zeros((2, 3)), label=np.array(["a", "b"]))
    with pytest.raises(DataError, match=r"'label' holds <U1, integers are required"):
        load_samples(path)


def test_energies_without_a_measurement_have_no_range(tmp_path: Path) -> None:
    counted = read_baseline(model(tmp_path / "m.onnx")).to_ann()
    energy = ann_energy(counted, EnergyPreset.load("cmos45_int8"))
    assert energy is not None
    assert energy.low == energy.nominal == energy.high


def stored_beside(path: Path, place: str) -> Path:
    """Write the model again with its convolution's weights in another file."""
    whole = onnx.load(model(path))
    (weight,) = (one for one in whole.graph.initializer if one.name == "w")
    data = path.parent / "weights.bin"
    data.write_bytes(weight.raw_data)
    set_external_data(weight, place, offset=0, length=len(weight.raw_data))
    weight.ClearField("raw_data")
    path.write_bytes(whole.SerializeToString())
    return path


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    inputs = np.ones((1, 6, 3, 8, 8), np.uint8)
    whole = read_baseline(model(tmp_path / "m.onnx"), network_inputs=inputs)
    apart = read_baseline(stored_beside(tmp_path / "n.onnx", "weights.bin"), network_inputs=inputs)
    assert apart.macs_effective == whole.macs_effective


@pytest.mark.parametrize("place", ["../weights.bin", "/etc/passwd", "link", "a/../../weights.bin"])
def test_weights_outside_the_models_folder_are_not_read(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = stored_beside(folder / "m.onnx", place)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "link").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(OnnxError, match=r"m\.onnx: 'w' is stored in .*outside the model's folder"):
        read_baseline(path, network_inputs=np.ones((1, 6, 3, 8, 8), np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = model(tmp_path / "m.onnx")
    whole = onnx.load(path)
    weight = np.full((4, 3, 3, 3), 1.0, np.float32)
    weight[0, 0, 0, 0] = value
    whole.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(whole, path)
    with pytest.raises(OnnxError, match="'w' of node 'conv' holds numbers that are not finite"):
        read_baseline(path, network_inputs=np.ones((1, 6, 3, 8, 8), np.uint8))


@pytest.mark.parametrize("equation", ["i.j", "ij,jk->ik->i", "i..j,jk->ik", "ij,jk-ik", "é,j"])
def test_an_equation_that_is_none_is_refused_at_once(tmp_path: Path, equation: str) -> None:
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation=equation)
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(np.ones((24, 5), np.float32), "w")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    with pytest.raises(OnnxError, match="Einsum has the equation"):
        read_baseline(path)
