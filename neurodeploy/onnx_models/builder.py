"""An ONNX graph that grows node by node, and how it becomes a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import OnnxError
from neurodeploy.files import replacing
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import Convolution, Shape

if TYPE_CHECKING:
    import onnx

Attribute = int | float | list[int]

BATCH = "batch"
"""Name of the first dimension of every input and output, left open."""
OPSET = 17
IR_VERSION = 8
"""Old enough for every onnxruntime that is allowed, new enough for all operators used."""


class GraphBuilder:
    """Nodes, stored tensors, inputs and outputs.

    Raises:
        OnnxError: If the package `onnx` is not installed.
    """

    def __init__(self, name: str) -> None:
        """Begin an empty graph called `name`."""
        try:
            import onnx
        except ImportError as error:
            raise OnnxError(
                "export: needs onnx, which neurodeploy does not install by itself. Run: pip "
                "install 'neurodeploy[onnx]'"
            ) from error
        self._onnx = onnx
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Shape, dtype: npt.DTypeLike) -> str:
        """Declare an input of shape (batch, *shape)."""
        self._inputs.append(self._declared(name, shape, dtype))
        return name

    def output(self, name: str, shape: Shape, dtype: npt.DTypeLike) -> None:
        """Declare a tensor to be an output of shape (batch, *shape)."""
        self._outputs.append(self._declared(name, shape, dtype))

    def store(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """Store a tensor."""
        self._stored[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def store_floats(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """Store numbers as 32-bit floats.

        Raises:
            OnnxError: If they exceed their range.
        """
        with np.errstate(over="ignore"):  # the error below says more than NumPy's warning
            narrow = values.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise OnnxError(
                f"export: '{name}' holds values from {values.min():g} to {values.max():g}, 32-bit "
                "floats end at 3.4e+38. Check the weights of the network."
            )
        return self.store(name, narrow)

    def integer(self, value: int) -> str:
        """Store one int64, each value once."""
        return self.store(f"int:{value}", np.array(value, dtype=np.int64))

    def add(self, operator: str, *inputs: str, out: str, **attributes: Attribute) -> str:
        """Append a node, called after its output."""
        helper = self._onnx.helper
        node = helper.make_node(operator, inputs, [out], name=out)
        node.attribute.extend(helper.make_attribute(*entry) for entry in attributes.items())
        self._nodes.append(node)
        return out

    def conv(
        self,
        value: str,
        layer: Convolution,
        bias: FloatArray | None = None,
        *,
        name: str,
        out: str,
    ) -> str:
        """Append a convolution in floats, whose stored tensors are called after a name.

        A bias that differs between positions is added behind it: ONNX has one a channel.
        """
        is_map = bias is not None and bias.ndim > 1
        weight = self.store_floats(f"{name}.weight", layer.weight)
        added = [] if bias is None else [self.store_floats(f"{name}.bias", bias)]
        product = self.add(
            "Conv",
            value,
            weight,
            *([] if is_map else added),
            out=f"{out}.unbiased" if is_map else out,
            kernel_shape=list(layer.weight.shape[2:]),
            strides=list(layer.stride),
            pads=[*layer.padding, *layer.padding],
            dilations=list(layer.dilation),
            group=layer.groups,
        )
        return self.add("Add", product, *added, out=out) if is_map else product

    def save(self, path: str | Path) -> None:
        """Check the model and write it, whole or not at all.

        Raises:
            OnnxError: If it is larger than an ONNX file can be.
        """
        helper, stored = self._onnx.helper, list(self._stored.values())
        model = helper.make_model(
            helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, stored),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="neurodeploy",
        )
        try:
            self._onnx.checker.check_model(model, full_check=True)
            content = model.SerializeToString()
        except ValueError as error:  # beyond two gigabytes
            raise OnnxError(f"{path}: the model is too large for one ONNX file.") from error
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content)

    def _declared(self, name: str, shape: Shape, dtype: npt.DTypeLike) -> onnx.ValueInfoProto:
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, [BATCH, *shape])
