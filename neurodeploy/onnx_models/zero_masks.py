"""Count the products of two nonzero values, by operators on masks in the model itself.

Beside every node that multiplies, the same operator is run on masks: 1 where an operand is not
zero, 0 where it is. The sum of its outputs is the number of products of two nonzero values. That
holds for any geometry, and for weights and activations alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neurodeploy.onnx_models.macs import OnnxMacs, node_names
from neurodeploy.onnx_models.operators import OPERANDS, operator_key

if TYPE_CHECKING:
    import onnx

_EXACT_IN_FLOAT32 = 1 << 24
"""Products added up in one output beyond which float32 masks would round."""

_FLOAT, _INT64, _BOOL, _DOUBLE = 1, 7, 9, 11
"""ONNX's numbers of these types (`TensorProto.DataType`)."""

_ZERO_POINTS: Mapping[str, tuple[int, int]] = {
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "QLinearConv": (2, 5),
    "QLinearMatMul": (2, 5),
}
"""Positions of the zero points of the two operands."""

_RUN_AS: Mapping[str, str] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), "Conv"),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"), "MatMul"),
    "ConvTranspose": "ConvTranspose",
    "Einsum": "Einsum",
}
"""Operators that have a counterpart on masks, and which."""


def add_masks(model: onnx.ModelProto, macs: OnnxMacs) -> dict[str, str]:
    """Add, for every node that can be measured, an output with its effective MACs.

    A second output, called the same with "_weights", takes activations as other than zero. The
    first one's name is returned, by name of the node.
    """
    from onnx import helper

    counted = {node.name: node for node in macs.nodes}
    constant = {entry.name for entry in model.graph.initializer} | {""}
    masks = _Masks()
    measured: dict[str, str] = {}
    for number, (node, name) in enumerate(
        zip(model.graph.node, node_names(model.graph), strict=True)
    ):
        if constant.issuperset(node.input):
            constant.update(node.output)
        found = counted.get(name)
        if found is None or operator_key(node) not in _RUN_AS or not found.macs_standard:
            continue
        if found.macs_standard // max(found.outputs, 1) >= _EXACT_IN_FLOAT32:
            continue
        measured[name] = f"neurodeploy_{number}_effective"
        for suffix, ones in (("", frozenset()), ("_weights", frozenset(node.input) - constant)):
            result = masks.multiply(node, f"neurodeploy_{number}{suffix}", ones=ones)
            double = masks.cast(result, _DOUBLE, out=f"{result}_double")
            total = masks.add("ReduceSum", double, out=f"{measured[name]}{suffix}", keepdims=0)
            model.graph.output.append(helper.make_tensor_value_info(total, _DOUBLE, []))
    model.graph.node.extend(masks.nodes)
    return measured


class _Masks:
    """Nodes that run operators on masks."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def add(self, operator: str, *inputs: str, out: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [out], **attributes))
        return out

    def cast(self, value: str, kind: int, *, out: str) -> str:
        return self.add("Cast", value, out=out, to=kind)

    def multiply(self, node: onnx.NodeProto, prefix: str, *, ones: frozenset[str]) -> str:
        """Run an operator on masks of its operands: 1 everywhere for one in `ones`."""
        positions = range(len(node.input)) if node.op_type == "Einsum" else OPERANDS[node.op_type]
        points = _ZERO_POINTS.get(node.op_type, ())
        is_turned = {entry.name for entry in node.attribute if entry.i}
        masks = []
        for side, position in enumerate(positions):
            value, mask = node.input[position], f"{prefix}_mask{side}"
            point = node.input[points[side]] if points and len(node.input) > points[side] else ""
            if value in ones:
                mask = self._ones(value, mask)
            else:
                if point:
                    value = self._center(value, point, mask, node.op_type, side)
                mask = self.cast(self.cast(value, _BOOL, out=f"{mask}_bool"), _FLOAT, out=mask)
            if node.op_type == "Gemm" and ("transA", "transB")[side] in is_turned:
                mask = self.add("Transpose", mask, out=f"{mask}_t", perm=[1, 0])
            masks.append(mask)
        operator, result = _RUN_AS[node.op_type], f"{prefix}_products"
        self.add(operator, *masks, out=result)
        if operator != "MatMul":
            self.nodes[-1].attribute.extend(node.attribute)
        return result

    def _ones(self, value: str, mask: str) -> str:
        from onnx import helper

        one = helper.make_tensor("", _FLOAT, [1], [1.0])
        size = self.add("Shape", value, out=f"{mask}_size")
        return self.add("ConstantOfShape", size, out=mask, value=one)

    def _center(self, value: str, point: str, mask: str, operator: str, side: int) -> str:
        """Take the zero point off an integer operand.

        One of several values belongs to an output channel of a convolution's weight, a row of a
        product's left side or a column of its right side.
        """
        from onnx import helper

        value = self.cast(value, _FLOAT, out=f"{mask}_value")
        point = self.cast(point, _FLOAT, out=f"{mask}_point")
        is_weight = "Conv" in operator and side == 1
        if is_weight or ("Conv" not in operator and side == 0):
            shape = [-1] if is_weight else [-1, 1]
            stored = helper.make_tensor("", _INT64, [len(shape)], shape)
            wanted = self.add("Constant", out=f"{mask}_shape", value=stored)
            point = self.add("Reshape", point, wanted, out=f"{mask}_aligned")
        if not is_weight:
            return self.add("Sub", value, point, out=f"{mask}_centered")
        last = self.add("Transpose", value, out=f"{mask}_last")
        moved = self.add("Sub", last, point, out=f"{mask}_moved")
        return self.add("Transpose", moved, out=f"{mask}_centered")
