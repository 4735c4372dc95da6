"""MACs of operators that are defined by others, transform, or belong to onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neurodeploy.errors import OnnxError
from neurodeploy.onnx_models.macs import OnnxMacs, count_onnx_macs

MODELS = Path(__file__).parent / "models"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("attention", 2304),
        ("deform_conv", 2592),
        ("sdpa_opset17", 14_592),  # the same module, written out and as one operator
        ("sdpa_opset23", 14_592),
        ("lstm_sequence_lens", 1260),
    ],
)
def test_standard_operators_that_multiply(name: str, expected: int) -> None:
    macs = count_onnx_macs(MODELS / f"{name}.onnx")
    assert macs.macs_standard == macs.macs_border_exact == expected
    assert not macs.uncounted_ops


def counted(
    path: Path,
    node: onnx.NodeProto,
    shapes: dict[str, list[int]],
    constants: dict[str, np.ndarray] | None = None,
    *,
    declared: list[int | str] | None = None,
    opset: int = 20,
) -> OnnxMacs:
    graph = helper.make_graph(
        [node],
        "test",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, declared) for name in node.output],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    if node.domain:
        imports.append(helper.make_opsetid(node.domain, 1))
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    if declared is None:
        model = onnx.shape_inference.infer_shapes(model)  # as exporters do
    onnx.save(model, path)
    return count_onnx_macs(path)


@pytest.mark.parametrize(
    ("rule", "products", "extra"),
    [
        ("linear", 2, []),
        ("gated", 2, ["decay"]),
        ("delta", 3, ["", "beta"]),
        ("gated_delta", 3, ["decay", "beta"]),
    ],
)
def test_linear_attention(tmp_path: Path, rule: str, products: int, extra: list[str]) -> None:
    """Per token and head, each of the outer product, the read-out and the correction is d by d."""
    if onnx.defs.onnx_opset_version() < 27:
        pytest.skip("this onnx has no LinearAttention")
    inputs = ["q", "k", "v", "", *extra] if extra else ["q", "k", "v"]
    node = helper.make_node(
        "LinearAttention", inputs, ["y", "s"], q_num_heads=4, kv_num_heads=4, update_rule=rule
    )
    shapes = {name: [2, 5, 32] for name in "qkv"}
    shapes |= {name: [2, 5, 32 if name == "decay" else 4] for name in extra if name}
    macs = counted(tmp_path / "m.onnx", node, shapes, opset=27)
    assert macs.macs_standard == products * 2 * 5 * 4 * 8 * 8
    assert not macs.uncounted_ops


def test_attention_with_shared_heads_and_a_past(tmp_path: Path) -> None:
    """6 query heads on 3 others: 4 queries, 2 past and 5 new keys of 8 values, 10 results each."""
    if onnx.defs.onnx_opset_version() < 23:
        pytest.skip("this onnx has no Attention")
    node = helper.make_node("Attention", ["q", "k", "v", "", "pk", "pv"], ["y", "nk", "nv"])
    shapes = {"q": [2, 6, 4, 8], "k": [2, 3, 5, 8], "v": [2, 3, 5, 10]}
    shapes |= {"pk": [2, 3, 2, 8], "pv": [2, 3, 2, 10]}
    macs = counted(tmp_path / "m.onnx", node, shapes, opset=23)
    assert macs.macs_standard == 2 * 6 * 4 * 7 * (8 + 10)


@pytest.mark.parametrize(
    ("shape", "length", "options", "standard", "exact"),
    [
        ([3, 8, 1], None, {}, 3 * 8 * 8 * 2, 3 * 8 * 8 * 2),
        ([3, 8, 2], None, {}, 3 * 8 * 8 * 4, 3 * 8 * 8 * 4),
        ([3, 8, 1], None, {"onesided": 1}, 3 * 8 * 5 * 2, 3 * 8 * 5 * 2),
        ([3, 8, 1], 12, {}, 3 * 12 * 12 * 2, 3 * 8 * 12 * 2),
        ([3, 8, 2], 6, {"inverse": 1}, 3 * 6 * 6 * 4, 3 * 6 * 6 * 4),
    ],
)
def test_a_fourier_transform_counts_by_its_definition(
    tmp_path: Path,
    shape: list[int],
    length: int | None,
    options: dict[str, int],
    standard: int,
    exact: int,
) -> None:
    constants = {} if length is None else {"n": np.array(length)}
    node = helper.make_node("DFT", ["x", *constants], ["y"], **options)
    macs = counted(tmp_path / "m.onnx", node, {"x": shape}, constants)
    assert (macs.macs_standard, macs.macs_border_exact) == (standard, exact)


def test_a_fourier_transform_along_another_axis(tmp_path: Path) -> None:
    node = helper.make_node("DFT", ["x", "", "axis"], ["y"])
    macs = counted(tmp_path / "m.onnx", node, {"x": [2, 4, 6, 1]}, {"axis": np.array(1)})
    assert macs.macs_standard == 2 * 6 * 4 * 4 * 2
    old = helper.make_node("DFT", ["x"], ["y"], axis=2)
    macs = counted(tmp_path / "m.onnx", old, {"x": [2, 4, 6, 1]}, opset=17)
    assert macs.macs_standard == 2 * 4 * 6 * 6 * 2


def test_a_short_time_transform(tmp_path: Path) -> None:
    """Frames of 16 values every 8 of 128: 15 frames of 9 bins."""
    node = helper.make_node("STFT", ["x", "step", "", "length"], ["y"])
    constants = {"step": np.array(8), "length": np.array(16)}
    path, shapes = tmp_path / "m.onnx", {"x": [2, 128, 1]}
    macs = counted(path, node, shapes, constants, declared=[2, 15, 9, 2])
    assert macs.macs_standard == 2 * 15 * 9 * 16 * 2
    node.attribute.append(helper.make_attribute("onesided", 0))
    macs = counted(path, node, shapes, constants, declared=[2, 15, 16, 2])
    assert macs.macs_standard == 2 * 15 * 16 * 16 * 2


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_steps_end_with_their_sequence(
    tmp_path: Path, op: str, gates: int, layout: int
) -> None:
    """Of 7 steps the three sequences have 7, 2 and none; a longer one than that has 7."""
    node = helper.make_node(op, ["x", "w", "r", "", "lens"], ["y"], hidden_size=5, layout=layout)
    rows = 5 * gates
    weights = {"w": np.ones((1, rows, 3), np.float32), "r": np.ones((1, rows, 5), np.float32)}
    shapes = {"x": [7, 3, 3] if layout == 0 else [3, 7, 3]}
    for lens, steps in (([7, 2, 0], 9), ([9, 1, 1], 9)):
        stored = {"lens": np.array(lens, np.int32)}
        macs = counted(tmp_path / "m.onnx", node, shapes, weights | stored)
        assert macs.macs_standard == steps * rows * 8
    macs = counted(tmp_path / "m.onnx", node, shapes | {"lens": [3]}, weights)
    assert macs.macs_standard == 3 * 7 * rows * 8  # lengths are an input: every step may run


@pytest.mark.parametrize(
    ("op", "inputs", "options", "expected", "is_integer"),
    [
        ("QGemm", ["a", "s", "z", "b", "s", "z"], {"transB": 1}, 6 * 32 * 5, True),
        ("MatMulNBits", ["f", "packed", "scales"], {"K": 32, "N": 5, "bits": 4}, 6 * 32 * 5, False),
        ("FusedMatMul", ["f", "g"], {"transB": 1}, 6 * 32 * 5, False),
        ("FusedMatMul", ["t", "g"], {"transA": 1, "transB": 1}, 6 * 32 * 5, False),
    ],
)
def test_operators_of_onnxruntime(
    tmp_path: Path,
    op: str,
    inputs: list[str],
    options: dict[str, int],
    expected: int,
    is_integer: bool,
) -> None:
    pytest.importorskip("onnxruntime")
    if op == "MatMulNBits":
        options = options | {"block_size": 32}
    kept = {
        "a": np.ones((6, 32), np.uint8),
        "b": np.ones((5, 32), np.uint8),
        "s": np.array(0.5, np.float32),
        "z": np.array(0, np.uint8),
        "packed": np.ones((5, 1, 16), np.uint8),
        "scales": np.ones(5, np.float32),
        "g": np.ones((5, 32), np.float32),
    }
    fed = {"f": [6, 32], "t": [32, 6]}
    node = helper.make_node(op, inputs, ["y"], domain="com.microsoft", **options)
    macs = counted(
        tmp_path / "m.onnx",
        node,
        {name: fed[name] for name in inputs if name in fed},
        {name: kept[name] for name in inputs if name in kept},
        declared=["rows", "columns"],
    )
    assert (macs.macs_standard, macs.is_integer) == (expected, is_integer)
    assert macs.nodes[0].outputs == 6 * 5


def test_a_model_that_onnxruntime_laid_out_anew(tmp_path: Path) -> None:
    """Its channels are padded to whole blocks: those are multiplied, and are counted."""
    runtime = pytest.importorskip("onnxruntime")
    weight = numpy_helper.from_array(np.ones((32, 16, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 8, 8])],
        [weight],
    )
    imports = [helper.make_opsetid("", 18)]
    written = tmp_path / "written.onnx"
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(written)
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = {(node.domain, node.op_type) for node in onnx.load(written).graph.node}
    if ("com.microsoft.nchwc", "Conv") not in operators:
        pytest.skip("this processor has no such layout")
    macs = count_onnx_macs(written)
    assert (macs.macs_standard, macs.macs_border_exact) == (32 * 16 * 9 * 64, 32 * 16 * 22 * 22)
    assert not macs.uncounted_ops


def test_an_axis_that_the_model_does_not_store_is_an_error(tmp_path: Path) -> None:
    node = helper.make_node("DFT", ["x", "", "axis"], ["y"])
    graph = helper.make_graph(
        [node],
        "test",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4, 6, 1]),
            helper.make_tensor_value_info("axis", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4, 6, 2])],
    )
    imports = [helper.make_opsetid("", 20)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    with pytest.raises(OnnxError, match=r"'axis' decides .* DFT multiplies"):
        count_onnx_macs(path)
