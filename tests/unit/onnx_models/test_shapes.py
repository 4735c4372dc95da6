"""Shapes that follow from values: exported models with their right counts."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neurodeploy.errors import OnnxError
from neurodeploy.onnx_models.macs import count_onnx_macs
from neurodeploy.onnx_models.shapes import ShapeResolver

MODELS = Path(__file__).parent / "models"


@pytest.mark.parametrize(
    ("name", "bindings", "standard", "without_padding"),
    [
        ("06_chunk_div", {}, 1944, 1944),
        ("07_prod_div", {}, 768, 768),
        ("08_expand_where", {}, 1280, 1280),
        ("12_loop_shape", {}, 2304, 2304),
        ("vit_dy", {"n": 2}, 186_592, 186_592),
        ("convnext_dn", {"n": 2}, 272_032, 235_936),
        ("lstm_dyn", {"batch": 3}, 161_640, 161_640),
        ("01_minus1_all", {"x:0": 1}, 6912, 5808),
        ("01_minus1_in", {"x:0": 1}, 6912, 5808),
        ("01_minus1_out", {}, 6912, 5808),
        ("01_minus1_vi", {"n": 1}, 6912, 5808),
        ("mvn_conv", {}, 486, 486),
    ],
)
def test_models_whose_shapes_pass_through_values(
    name: str, bindings: dict[str, int], standard: int, without_padding: int
) -> None:
    macs = count_onnx_macs(MODELS / f"{name}.onnx", bindings=bindings)
    assert (macs.macs_standard, macs.macs_border_exact) == (standard, without_padding)
    assert not macs.uncounted_ops


def test_a_large_export_with_computed_shapes(tmp_path: Path) -> None:
    path = tmp_path / "swin.onnx"
    path.write_bytes(gzip.decompress((MODELS / "swin_st.onnx.gz").read_bytes()))
    assert count_onnx_macs(path).macs_standard == 278_608


def model(
    nodes: list[onnx.NodeProto],
    shape: list[int],
    constants: dict[str, np.ndarray],
    *,
    rank: int = 2,
    result: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", result, [f"d{axis}" for axis in range(rank)])],
        initializer=[numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def test_a_declared_shape_that_contradicts_the_model_is_refused(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    found = model([product], [2, 3], {"w": np.ones((3, 4), np.float32)})
    found.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5]))
    onnx.save(found, tmp_path / "m.onnx")
    with pytest.raises(OnnxError, match="not a valid model"):
        count_onnx_macs(tmp_path / "m.onnx")
    product.input[1] = "x"
    onnx.save(model([product], [2, 3], {}), tmp_path / "m.onnx")
    with pytest.raises(OnnxError, match="not a valid model"):
        count_onnx_macs(tmp_path / "m.onnx")


def test_an_input_that_is_declared_again_as_an_output_keeps_its_shape(tmp_path: Path) -> None:
    """The shape of a name is that of the tensor fed or stored, whatever is declared beside it."""
    conv = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    weight = {"w": np.ones((64, 2, 3, 3), np.float32)}
    found = model([conv], [1, 2, 4, 3], weight, rank=4)
    again = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 1, 1])
    found.graph.output.extend([again])
    onnx.save(found, tmp_path / "m.onnx")
    macs = count_onnx_macs(tmp_path / "m.onnx")
    assert (macs.macs_standard, macs.macs_border_exact) == (64 * 2 * 9 * 4, 64 * 2 * 20)
    del found.graph.output[1:]
    again = helper.make_tensor_value_info("w", TensorProto.FLOAT, ["outputs", 2, 3, 3])
    found.graph.input.extend([again])
    onnx.save(found, tmp_path / "m.onnx")
    assert count_onnx_macs(tmp_path / "m.onnx").macs_standard == macs.macs_standard


def test_sizes_are_computed_as_the_model_computes_them() -> None:
    """Integer division cuts towards zero, as in -7 / 2 = -3, and Shape takes a part of the axes."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=-2, end=-1),
        helper.make_node("Sub", ["s", "k"], ["d"]),
        helper.make_node("Div", ["d", "two"], ["y"]),
    ]
    constants = {"k": np.array([14]), "two": np.array([2])}
    found = model(nodes, [5, 7, 3], constants, rank=1, result=TensorProto.INT64)
    scope = ShapeResolver(found).resolve(found.graph)
    assert (scope.integers("s"), scope.integers("d"), scope.integers("y")) == ((7,), (-7,), (-3,))


def looped(body_nodes: list[onnx.NodeProto], state: list[int], rounds: int) -> onnx.ModelProto:
    """Return a model that runs a body without declared shapes on its state x."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), *body_nodes],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["r", "c"]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w_out", TensorProto.FLOAT, ["r2", "c2"]),
        ],
    )
    loop = helper.make_node("Loop", ["m", "", "x"], ["y"], body=body, name="loop")
    square = np.ones((3, 3), np.float32)
    return model([loop], state, {"m": np.array(rounds), "square": square})


def test_a_state_that_a_round_keeps_in_shape_has_that_shape(tmp_path: Path) -> None:
    body = [helper.make_node("MatMul", ["v", "square"], ["w_out"])]
    onnx.save(looped(body, [2, 3], 4), tmp_path / "m.onnx")
    assert count_onnx_macs(tmp_path / "m.onnx").macs_standard == 4 * 2 * 3 * 3


def test_a_state_that_grows_is_refused(tmp_path: Path) -> None:
    body = [
        helper.make_node("MatMul", ["v", "square"], ["p"]),
        helper.make_node("Concat", ["v", "p"], ["w_out"], axis=0),
    ]
    onnx.save(looped(body, [2, 3], 4), tmp_path / "m.onnx")
    with pytest.raises(OnnxError, match=r"MatMul has .*every size is required"):
        count_onnx_macs(tmp_path / "m.onnx")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scan_runs_along_its_axis(tmp_path: Path, axis: int) -> None:
    """A scan over x of (5, 6, 6): 5 rounds of a (6, 6) slice, or 6 of a (5, 6) one."""
    rows = 6 if axis == 0 else 5
    body = helper.make_graph(
        [helper.make_node("MatMul", ["slice", "six"], ["out"], name="mm")],
        "body",
        [helper.make_tensor_value_info("slice", TensorProto.FLOAT, [rows, 6])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [rows, 2])],
    )
    node = helper.make_node(
        "Scan", ["x"], ["y"], body=body, num_scan_inputs=1, scan_input_axes=[axis], name="scan"
    )
    constants = {"six": np.ones((6, 2), np.float32)}
    onnx.save(model([node], [5, 6, 6], constants, rank=3), tmp_path / "m.onnx")
    (found,) = count_onnx_macs(tmp_path / "m.onnx").nodes
    rounds = 5 if axis == 0 else 6
    assert found.macs_standard == rounds * rows * 6 * 2
    assert (found.inputs, found.outputs, found.weights) == (
        rounds * rows * 6,
        rounds * rows * 2,
        12,
    )
