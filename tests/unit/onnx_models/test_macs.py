"""MACs of ONNX models: the worked examples, enumeration of taps, and what is refused."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from neurodeploy.cli.app import make_app
from neurodeploy.errors import OnnxError
from neurodeploy.onnx_models.macs import OnnxMacs, count_onnx_macs

Dims = list[int | str | None]


def saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Dims],
    outputs: dict[str, Dims | None],
    weights: dict[str, tuple[int, ...]] | None = None,
    *,
    values: dict[str, Dims] | None = None,
    constants: dict[str, np.ndarray] | None = None,
    domains: tuple[str, ...] = (),
    opset: int = 18,
) -> Path:
    def info(name: str, dims: Dims | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

    held = [
        numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in (weights or {}).items()
    ]
    held += [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "test",
        [info(*entry) for entry in inputs.items()],
        [info(*entry) for entry in outputs.items()],
        initializer=held,
        value_info=[info(*entry) for entry in (values or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)  # exporters write output shapes
    return path


def one(path: Path, **bindings: int) -> tuple[int, int]:
    (node,) = count_onnx_macs(path, bindings=bindings).nodes
    return node.macs_standard, node.macs_border_exact


def conv_model(
    path: Path, source: list[int], weight: tuple[int, ...], op: str = "Conv", **options: object
) -> Path:
    node = helper.make_node(op, ["x", "w"], ["y"], name="it", **options)
    return saved(path, [node], {"x": source}, {"y": None}, {"w": weight})


@pytest.mark.parametrize(
    ("op", "source", "weight", "options", "expected"),
    [
        (
            "Conv",
            [1, 3, 12, 10],
            (5, 3, 5, 5),
            {"strides": [2, 2], "pads": [2, 2, 2, 2]},
            (11_250, 8910),
        ),
        ("Conv", [1, 6, 7, 7], (12, 1, 3, 3), {"group": 6, "pads": [1] * 4}, (5292, 4332)),
        (
            "ConvTranspose",
            [1, 6, 3, 5],
            (6, 1, 4, 4),
            {"group": 2, "strides": [2, 2], "pads": [1] * 4},
            (1440, 1080),
        ),
    ],
)
def test_worked_examples(
    tmp_path: Path,
    op: str,
    source: list[int],
    weight: tuple[int, ...],
    options: dict[str, object],
    expected: tuple[int, int],
) -> None:
    assert one(conv_model(tmp_path / "m.onnx", source, weight, op, **options)) == expected


def test_matrix_products(tmp_path: Path) -> None:
    for left, right, expected in (
        ([2, 3, 5, 7], [2, 3, 7, 4], 840),
        ([5, 7], [7, 4], 140),
        ([7], [7, 4], 28),
        ([2, 5, 7], [7], 70),
        ([6, 1, 5, 7], [3, 7, 4], 6 * 3 * 140),
    ):
        node = helper.make_node("MatMul", ["a", "b"], ["y"])
        path = saved(tmp_path / "m.onnx", [node], {"a": left, "b": right}, {"y": None})
        assert one(path) == (expected, expected)
        assert [n.name for n in count_onnx_macs(path).nodes] == ["MatMul_0"]


@pytest.mark.parametrize("seed", range(24))
def test_convolutions_are_counted_tap_by_tap(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    groups = int(rng.integers(1, 3))
    kernel = rng.integers(1, 4, axes)
    stride, dilation = rng.integers(1, 4, axes), rng.integers(1, 3, axes)
    size = rng.integers(5, 9, axes) + 2 * (kernel - 1)
    is_transposed = bool(rng.integers(2))
    auto = str(rng.choice(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    inputs, outputs, batch = 2 * groups, 3 * groups, int(rng.integers(1, 3))
    if is_transposed and auto.startswith("SAME"):  # else its padding would be negative
        stride = np.minimum(stride, dilation * (kernel - 1) + 1)
    options: dict[str, object] = {
        "strides": stride.tolist(),
        "dilations": dilation.tolist(),
        "group": groups,
        "auto_pad": auto,
    }
    extent = dilation * (kernel - 1) + 1
    pads = np.stack([rng.integers(0, e, axes) for e in (extent, extent)]).min(0)
    before, behind = pads, rng.integers(0, 2, axes) * (extent > 1)
    if auto == "NOTSET":
        options["pads"] = [*before.tolist(), *behind.tolist()]
    if is_transposed:
        out = (size - 1) * stride + extent
        if auto.startswith("SAME"):
            total = out - size * stride
            out = size * stride
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
        elif auto == "NOTSET":
            out = out - before - behind
        else:
            before = np.zeros(axes, int)
    else:
        if auto.startswith("SAME"):
            out = -(-size // stride)
            total = np.maximum((out - 1) * stride + extent - size, 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            behind = total - before
        elif auto == "VALID":
            before = behind = np.zeros(axes, int)
        out = (size + before + behind - extent) // stride + 1
    exact = 0
    places = size if is_transposed else out
    for place in product(*map(range, places)):
        for tap in product(*map(range, kernel)):
            at = np.array(place) * stride - before + np.array(tap) * dilation
            exact += bool(((at >= 0) & (at < (out if is_transposed else size))).all())
    weight = (inputs, 3, *kernel) if is_transposed else (outputs, 2, *kernel)
    path = conv_model(
        tmp_path / "m.onnx",
        [batch, inputs, *size.tolist()],
        tuple(map(int, weight)),
        "ConvTranspose" if is_transposed else "Conv",
        **options,
    )
    each = batch * inputs * 3 if is_transposed else batch * outputs * 2
    standard = each * int(np.prod(places)) * int(np.prod(kernel))
    assert one(path) == (standard, each * exact)


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [[2, 3], [3, 4]], 24),
        ("ij,jk", [[2, 3], [3, 4]], 24),
        ("ij->ji", [[2, 3]], 0),
        ("ij,ij->ij", [[2, 3], [2, 3]], 0),
        ("bhqd,bhkd->bhqk", [[1, 2, 5, 4], [1, 2, 6, 4]], 240),
        ("...ij,...jk->...ik", [[7, 2, 3], [1, 3, 4]], 168),
        ("ii->", [[3, 3]], 3),
    ],
)
def test_einsum(tmp_path: Path, equation: str, shapes: list[Dims], expected: int) -> None:
    names = [f"x{i}" for i in range(len(shapes))]
    node = helper.make_node("Einsum", names, ["y"], equation=equation)
    path = saved(tmp_path / "m.onnx", [node], dict(zip(names, shapes, strict=True)), {"y": None})
    assert one(path) == (expected, expected)


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_layers(tmp_path: Path, op: str, gates: int, direction: str) -> None:
    dirs = 2 if direction == "bidirectional" else 1
    node = helper.make_node(
        op, ["x", "w", "r"], ["y"], hidden_size=5, direction=direction, name="rec"
    )
    path = saved(
        tmp_path / "m.onnx",
        [node],
        {"x": [7, 2, 3]},
        {"y": None},
        {"w": (dirs, gates * 5, 3), "r": (dirs, gates * 5, 5)},
    )
    assert one(path) == (dirs * 7 * 2 * gates * 5 * 8,) * 2
    assert count_onnx_macs(path).nodes[0].weights == dirs * gates * 5 * 8


def small_cnn(path: Path, batch: int | str = 1) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, name="conv"),
        helper.make_node("BatchNormalization", ["c", "s", "s", "s", "s"], ["n"], name="bn"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "b"], ["y"], transB=1, name="fc"),
    ]
    weights = {"w": (4, 3, 3, 3), "s": (4,), "g": (10, 256), "b": (10,)}
    return saved(path, nodes, {"x": [batch, 3, 8, 8]}, {"y": [batch, 10]}, weights)


def test_a_whole_network(tmp_path: Path) -> None:
    found = count_onnx_macs(small_cnn(tmp_path / "m.onnx"))
    conv, fc = found.nodes
    assert (conv.macs_standard, conv.macs_border_exact) == (4 * 3 * 9 * 64, 4 * 3 * 22 * 22)
    assert (fc.macs_standard, fc.weights, fc.inputs, fc.outputs) == (2560, 2560, 256, 10)
    assert [(o.name, o.size) for o in found.elementwise_ops] == [
        ("relu", 256)
    ]  # the batch norm folds
    assert found.macs_standard == conv.macs_standard + 2560
    assert (found.uncounted_ops, found.is_integer) == ((), False)
    assert found.to_ann().macs_border_exact == found.macs_border_exact


def test_a_batch_norm_that_cannot_fold_counts(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "s", "s", "s", "s"], ["y"], name="bn"),
    ]
    path = saved(tmp_path / "m.onnx", nodes, {"x": [1, 4, 3, 3]}, {"y": None}, {"s": (4,)})
    (norm,) = [o for o in count_onnx_macs(path).elementwise_ops if o.name == "bn"]
    assert norm.size == 36


def test_a_batch_norm_whose_source_is_read_twice_cannot_fold(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "s", "s", "s", "s"], ["n"], name="bn"),
        helper.make_node("Add", ["c", "n"], ["y"], name="sum"),
    ]
    weights = {"w": (4, 2, 1, 1), "s": (4,)}
    path = saved(tmp_path / "m.onnx", nodes, {"x": [1, 2, 3, 3]}, {"y": None}, weights)
    sizes = {o.name: o.size for o in count_onnx_macs(path).elementwise_ops}
    assert sizes == {"bn": 36, "sum": 36}


def test_a_fixed_batch_is_counted_whole_and_per_sample(tmp_path: Path) -> None:
    single = count_onnx_macs(small_cnn(tmp_path / "one.onnx"))
    path = small_cnn(tmp_path / "m.onnx", 4)
    found = count_onnx_macs(path)
    assert (single.samples, found.samples) == (1, 4)
    assert found.macs_standard == 4 * single.macs_standard
    assert found.per_sample().nodes == single.nodes
    assert found.per_sample().elementwise_ops == single.elementwise_ops
    told = json.loads(CliRunner().invoke(make_app(), ["macs", str(path), "--json"]).stdout)
    assert told["samples"] == 4
    assert told["totals"] == {"macs_standard": 4 * 9472, "macs_border_exact": 4 * 8368}
    assert told["per_sample"] == {"macs_standard": 9472, "macs_border_exact": 8368}
    text = CliRunner().invoke(make_app(), ["macs", str(path)]).stdout
    assert "total of a pass" in text
    assert "per sample" in text
    assert "A pass takes 4 samples" in text


def test_a_count_that_the_batch_does_not_divide_is_of_every_pass(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["k", "w"], ["p"], name="once"),
        helper.make_node("MatMul", ["x", "p"], ["y"], name="each"),
    ]
    path = saved(tmp_path / "m.onnx", nodes, {"x": [4, 3]}, {"y": None}, {"k": (3, 3), "w": (3, 5)})
    each = {node.name: node.macs_standard for node in count_onnx_macs(path).per_sample().nodes}
    assert each == {"once": 45, "each": 15}


def test_the_first_dimension_of_a_sequence_is_no_batch(tmp_path: Path) -> None:
    node = helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=5, name="rec")
    weights = {"w": (1, 5, 3), "r": (1, 5, 5)}
    path = saved(tmp_path / "m.onnx", [node], {"x": [7, 2, 3]}, {"y": None}, weights)
    assert count_onnx_macs(path).samples == 1


def test_a_binding_of_a_fixed_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match=r"no symbolic dimension 'batch' .*every size is fixed"):
        count_onnx_macs(small_cnn(tmp_path / "m.onnx", 4), bindings={"batch": 1})
    with pytest.raises(OnnxError, match=r"no symbolic dimension 'batch' .*'n'"):
        count_onnx_macs(small_cnn(tmp_path / "m.onnx", "n"), bindings={"batch": 1})


def test_symbolic_dimensions_are_bound_by_name(tmp_path: Path) -> None:
    path = small_cnn(tmp_path / "m.onnx", "batch")
    with pytest.raises(OnnxError, match=r"sizes not known: 'batch' .*--bind batch=1"):
        count_onnx_macs(path)
    one_pass = count_onnx_macs(path, bindings={"batch": 1})
    three = count_onnx_macs(path, bindings={"batch": 3})
    assert three.macs_standard == 3 * one_pass.macs_standard
    with pytest.raises(OnnxError, match=r"no symbolic dimension 'n' .*'batch'"):
        count_onnx_macs(path, bindings={"n": 1, "batch": 1})
    with pytest.raises(OnnxError, match="at least 1"):
        count_onnx_macs(path, bindings={"batch": 0})


def quantized(path: Path) -> OnnxMacs:
    constants = {
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.uint8),
        "wq": np.ones((4, 3, 3, 3), np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["d", "w"], ["y"], name="conv"),
    ]
    saved(path, nodes, {"x": [1, 3, 5, 5]}, {"y": None}, constants=constants)
    return count_onnx_macs(path)


def test_operators_between_dequantizers_are_integer(tmp_path: Path) -> None:
    found = quantized(tmp_path / "m.onnx")
    assert found.is_integer
    assert found.nodes[0].weights == 108
    assert found.macs_standard == 4 * 3 * 9 * 9


def test_custom_operators_are_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Fancy", ["x"], ["z"], domain="my.ops", name="odd"),
        helper.make_node("MatMul", ["z", "w"], ["y"], name="mm"),
    ]
    weights = {"w": (4, 2)}
    path = tmp_path / "m.onnx"
    saved(path, nodes, {"x": [1, 4]}, {"y": ["a", "b"]}, weights, domains=("my.ops",))
    with pytest.raises(OnnxError, match=r"mm: tensor 'z' of this MatMul has no shape"):
        count_onnx_macs(path)
    saved(
        path,
        nodes,
        {"x": [1, 4]},
        {"y": ["a", "b"]},
        weights,
        values={"z": [1, 4]},
        domains=("my.ops",),
    )
    found = count_onnx_macs(path)
    assert (found.uncounted_ops, found.uncounted_nodes[0].name) == (("Fancy",), "odd")
    assert found.macs_standard == 8
    runner = CliRunner()
    assert runner.invoke(make_app(), ["macs", str(path)]).exit_code == 3
    assert runner.invoke(make_app(), ["macs", str(path), "--allow-incomplete"]).exit_code == 0


def loop_model(path: Path, *, rounds: int | None) -> Path:
    def info(name: str, kind: int, dims: list[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, dims)

    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["v", "w"], ["v_out"], name="mm"),
            helper.make_node("Identity", ["go"], ["go_out"]),
        ],
        "body",
        [
            info("i", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("v", TensorProto.FLOAT, [2, 3]),
        ],
        [info("go_out", TensorProto.BOOL, []), info("v_out", TensorProto.FLOAT, [2, 3])],
    )
    node = helper.make_node("Loop", ["m", "", "x"], ["y"], body=body, name="loop")
    constants = {} if rounds is None else {"m": np.array(rounds, np.int64)}
    inputs = [info("x", TensorProto.FLOAT, [2, 3])]
    if rounds is None:
        inputs.append(info("m", TensorProto.INT64, []))
    graph = helper.make_graph(
        [node],
        "test",
        inputs,
        [info("y", TensorProto.FLOAT, [2, 3])],
        initializer=[
            numpy_helper.from_array(np.ones((3, 3), np.float32), "w"),
            *(numpy_helper.from_array(a, n) for n, a in constants.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def test_loops_count_their_rounds(tmp_path: Path) -> None:
    found = count_onnx_macs(loop_model(tmp_path / "m.onnx", rounds=5))
    assert {node.name: node.macs_standard for node in found.nodes} == {"loop/mm": 90}
    with pytest.raises(OnnxError, match=r"fixed number of iterations"):
        count_onnx_macs(loop_model(tmp_path / "n.onnx", rounds=None))


def test_files_that_are_no_models(tmp_path: Path) -> None:
    whole = small_cnn(tmp_path / "m.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(bytes(range(1, 200)))
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    for path in (cut, noise, empty, tmp_path / "missing.onnx"):
        result = CliRunner().invoke(make_app(), ["macs", str(path)])
        assert isinstance(result.exception, OnnxError), path
        assert result.exit_code != 0


def test_huge_tensors_in_a_tiny_file_take_no_memory(tmp_path: Path) -> None:
    """10**9 values declared: counted if they are an input, refused if their data are missing."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")
    path = tmp_path / "m.onnx"
    saved(path, [node], {"x": [1, 10**9], "w": [10**9, 4]}, {"y": None})
    assert one(path) == (4 * 10**9,) * 2
    saved(path, [node], {"x": [1, 4]}, {"y": None}, {"w": (4, 4)})
    model = onnx.load(path)
    model.graph.initializer[0].dims[0] = 10**9
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxError):
        count_onnx_macs(path)


def test_the_json_has_the_fields_of_its_contract(tmp_path: Path) -> None:
    path = small_cnn(tmp_path / "m.onnx", "n")
    result = CliRunner().invoke(make_app(), ["macs", str(path), "--bind", "n=1", "--json"])
    found = json.loads(result.stdout)
    conv = found["nodes"]["conv"]
    assert (conv["op"], conv["macs_standard"], conv["macs_border_exact"]) == ("Conv", 6912, 5808)
    assert found["totals"]["macs_standard"] == 6912 + 2560
    assert found["totals"]["macs_border_exact"] == 5808 + 2560
    assert found["elementwise_ops"] == {"relu": {"op": "Relu", "size": 256}}
    assert found["uncounted_ops"] == []
    text = CliRunner().invoke(make_app(), ["macs", str(path), "--bind", "n=1"]).stdout
    assert "9,472" in text
