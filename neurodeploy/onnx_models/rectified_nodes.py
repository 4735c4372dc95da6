"""Nodes of an ONNX model as layers of a `Graph`, or the reasons why they are none."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.errors import Obstacle, OnnxError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    Addition,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    Input,
    Layer,
    MaxPool,
    Rectifier,
    Shape,
    on_two_axes,
)
from neurodeploy.onnx_models.macs import node_names
from neurodeploy.onnx_models.operators import attribute_of
from neurodeploy.onnx_models.shapes import Scope

if TYPE_CHECKING:
    import onnx

_PASSED = ("Identity", "Dropout", "Cast")
_RESHAPED = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
_OF_HOST = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax")
"""Operators that the host computes of the results."""
_AFFINE = ("Add", "Sub", "Mul", "Div")
_LAYERS = (
    *("Conv", "Gemm", "MatMul", "BatchNormalization", "Relu", "Clip", "LeakyRelu", "PRelu"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Sum"),
)
_CONSTANT = ("Constant", "Shape", "Gather", "Concat", "Unsqueeze", "Slice", "ConstantOfShape")
"""Operators that often compute sizes alone."""
KNOWN = frozenset((*_PASSED, *_RESHAPED, *_OF_HOST, *_AFFINE, *_LAYERS, *_CONSTANT))
"""Operators that have a place in a network of rectified layers."""
NO_PLACE = "has no place in a network of rectified layers."
ADVICE = {
    **dict.fromkeys(
        ("Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Swish", "Gelu", "Elu", "Selu", "Mish"),
        "Sigma-delta neurons rectify: retrain with ReLU.",
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax"), "It is possible at the very output only."),
    "Mul": "Two activations cannot be multiplied: leave out gates and squeeze-and-excitation.",
    "Concat": "Add branches in place of joining them.",
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization"),
        "It depends on the frame: retrain with BatchNormalization, which becomes weights.",
    ),
    **dict.fromkeys(
        ("GRU", "LSTM", "RNN"), "The network has no memory but its neurons': use convolutions."
    ),
    **dict.fromkeys(
        ("ConvTranspose", "Resize", "Upsample"), "Only convolutions and pools change sizes."
    ),
}
"""By operator, the way out."""


def find_hopeless(graph: onnx.GraphProto) -> list[Obstacle]:
    """Return the nodes that have no place in such a network whatever the sizes of tensors are."""
    return [
        Obstacle(label, node.op_type, ADVICE.get(node.op_type, NO_PLACE))
        for label, node in zip(node_names(graph), graph.node, strict=True)
        if node.op_type not in KNOWN or (node.op_type in _OF_HOST and not _is_end(graph, node))
    ]


class _RefusedError(Exception):
    """A node that has no place in the network, with the reason."""


class _UnknownSizeError(_RefusedError):
    """A node that reads or makes a tensor of unknown size."""


class NodeReading:
    """Layers and edges of a model, node by node."""

    def __init__(
        self, graph: onnx.GraphProto, scope: Scope, weights: Mapping[str, FloatArray]
    ) -> None:
        self.graph, self.scope, self.weights = graph, scope, weights
        self.nodes: dict[str, Layer] = {}
        self.edges: list[tuple[str, str]] = []
        self.obstacles: list[Obstacle] = []
        self.before: list[tuple[str, FloatArray]] = []
        self.after: list[str] = []
        self.held: dict[str, str | None] = {}
        self.frame = ""

    def begin(self, name: str, shape: Shape, path: Path) -> None:
        """Take the input."""
        if not 2 <= len(shape) <= 4 or shape[0] != 1:
            raise OnnxError(
                f"{path}: input '{name}' of shape {shape}; (1, N), (1, C, L) or (1, C, H, W) is "
                "required."
            )
        self.frame = name
        self.nodes[name] = Input(shape=_own_shape(shape))
        self.held[name] = name

    def constant(self, name: str) -> FloatArray | None:
        """Return a stored tensor, or a small value that follows from sizes; else None."""
        if name in self.weights:
            return self.weights[name]
        value = self.scope.values.get(name)
        return None if value is None or value.dtype.kind not in "biuf" else value.astype(np.float64)

    def take(self, label: str, node: onnx.NodeProto) -> None:
        """Take one node; one without a place is noted, and a rectifier stands in if it can."""
        flowing = [name for name in node.input if name in self.held]
        if all(self.constant(name) is not None for name in node.output):
            return  # sizes alone
        if not flowing:
            if node.op_type != "Constant":
                self.held[node.output[0]] = None
            return
        is_cut = any(self.held[name] is None for name in flowing)
        try:
            layer = self._layer(node, flowing)
        except _UnknownSizeError as error:
            if not is_cut:  # else what is refused before it is the reason
                self._note(label, node, error)
            self._hold(node, None)
            return
        except _RefusedError as error:
            self._note(label, node, error)
            shape = self.scope.sizes(node.output[0])
            if is_cut or shape is None or shape != self.scope.sizes(flowing[0]):
                self._hold(node, None)
                return
            flowing, layer = flowing[:1], Rectifier()
        if is_cut:
            self._hold(node, None)
        elif layer is None:
            self._hold(node, self.held[flowing[0]])
        else:
            self.nodes[label] = layer
            self.edges += [(str(self.held[name]), label) for name in flowing]
            self._hold(node, label)

    def _note(self, label: str, node: onnx.NodeProto, error: Exception) -> None:
        self.obstacles.append(Obstacle(label, node.op_type, str(error)))

    def _hold(self, node: onnx.NodeProto, source: str | None) -> None:
        for name in node.output:
            self.held[name] = source

    def _layer(self, node: onnx.NodeProto, flowing: list[str]) -> Layer | None:
        """Return the layer of a node; None where it changes nothing."""
        kind, source = node.op_type, flowing[0]
        shape, result = self._shape(source), self._shape(node.output[0])
        if kind in _PASSED:
            return None
        if kind in _RESHAPED:
            if prod(result[1:]) != prod(shape) // shape[0] or result[0] != 1:
                raise _RefusedError(f"moves values between axes, {shape} to {result}.")
            if len(shape) == len(result) or len(shape) == 2 == len(_flat(result)):
                return None
            if len(_flat(result)) == 2:
                return Flatten()
            raise _RefusedError(f"makes {result} of {shape}; only vectors can be made of maps.")
        if kind in _OF_HOST and _is_end(self.graph, node):
            self.after.append(kind)
            return None
        if kind in ("Add", "Sum") and len(flowing) == len(node.input):
            if any(self._shape(name) != result for name in flowing):
                raise _RefusedError("adds values of different shapes; equal ones are required.")
            return Addition()
        if kind in _AFFINE:
            return self._affine(node, source)
        makers = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "BatchNormalization": self._batch_norm,
            "Relu": lambda node, shape: Rectifier(),
            "Clip": self._clip,
            "LeakyRelu": lambda node, shape: Rectifier(
                slope=float(attribute_of(node, "alpha", 0.01))
            ),
            "PRelu": self._prelu,
            "MaxPool": self._pool,
            "AveragePool": self._pool,
            "GlobalAveragePool": lambda node, shape: _mean_of_all(shape),
            "ReduceMean": self._reduce_mean,
        }
        if node.domain not in ("", "ai.onnx") or kind not in makers:
            raise _RefusedError(ADVICE.get(kind, NO_PLACE))
        return makers[kind](node, shape)

    def _shape(self, name: str) -> Shape:
        sizes = self.scope.sizes(name)
        if sizes is None:
            raise _UnknownSizeError(f"the size of '{name}' is not known.")
        return sizes

    def _stored(self, node: onnx.NodeProto, place: int, what: str) -> FloatArray:
        value = self.constant(node.input[place]) if len(node.input) > place else None
        if value is None:
            raise _RefusedError(
                f"its {what} is not stored in the model; only constants can be weights."
            )
        return value

    def _affine(self, node: onnx.NodeProto, source: str) -> Layer | None:
        place = 1 if node.input[0] == source else 0
        constant = self.constant(node.input[place]) if len(node.input) == 2 else None
        if constant is None or len(node.input) != 2:
            raise _RefusedError(ADVICE.get(node.op_type, "combines two activations."))
        if place == 0 and node.op_type in ("Sub", "Div"):
            raise _RefusedError("divides or subtracts the activation itself.")
        if self.held[source] == self.frame:
            if any(end == self.frame for end, _ in self.edges):
                raise _RefusedError("changes the input after another layer has read it.")
            self.before.append((node.op_type, _without_batch(constant)))
            return None
        shape = self._shape(source)
        column = np.broadcast_to(_without_batch(constant), shape[1:]).reshape(shape[1], -1)
        if (column != column[:, :1]).any():
            raise _RefusedError("adds or multiplies by other constants at other pixels.")
        values, ones = column[:, 0].astype(np.float64), np.ones(shape[1])
        match node.op_type:
            case "Add":
                return BatchNorm(scale=ones, shift=values)
            case "Sub":
                return BatchNorm(scale=ones, shift=-values)
            case "Mul":
                return BatchNorm(scale=values, shift=0 * ones)
        return BatchNorm(scale=1 / values, shift=0 * ones)

    def _conv(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        weight = self._stored(node, 1, "weight")
        bias = self._stored(node, 2, "bias") if len(node.input) > 2 and node.input[2] else None
        axes = weight.ndim - 2
        if axes not in (1, 2):
            raise _RefusedError(f"is a convolution over {axes} axes; one or two are possible.")
        stride = on_two_axes(attribute_of(node, "strides", [1] * axes), 1)
        dilation = on_two_axes(attribute_of(node, "dilations", [1] * axes), 1)
        if axes == 1:
            weight = weight[:, :, None]
        padding, weight = self._padding(node, shape, weight, stride, dilation)
        return Conv(
            weight=weight,
            bias=bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=int(attribute_of(node, "group", 1)),
        )

    def _padding(
        self,
        node: onnx.NodeProto,
        shape: Shape,
        weight: FloatArray,
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> tuple[tuple[int, int], FloatArray]:
        """Return equal padding, and a kernel with taps of zero where padding was unequal."""
        before, after = self._pads(node, shape, weight.shape[2:], stride, dilation)
        padding = []
        for axis in (0, 1):
            short = after[axis] - before[axis]
            taps, rest = divmod(abs(short), dilation[axis])
            if rest:
                raise _RefusedError(
                    f"pads {before} before and {after} after, at dilation {dilation}."
                )
            if short:
                around = [(0, 0)] * 4
                around[axis + 2] = (taps, 0) if short > 0 else (0, taps)
                weight = np.pad(weight, around)
            padding.append(max(before[axis], after[axis]))
        return (padding[0], padding[1]), weight

    def _pads(
        self,
        node: onnx.NodeProto,
        shape: Shape,
        kernel: tuple[int, ...],
        stride: tuple[int, int],
        dilation: tuple[int, int],
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        auto = attribute_of(node, "auto_pad", "NOTSET")
        size = _own_shape(shape)[1:]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            before, after = [], []
            for axis in (0, 1):
                outputs = -(-size[axis] // stride[axis])
                extent = dilation[axis] * (kernel[axis] - 1) + 1
                total = max(0, (outputs - 1) * stride[axis] + extent - size[axis])
                small, large = total // 2, total - total // 2
                before.append(small if auto == "SAME_UPPER" else large)
                after.append(large if auto == "SAME_UPPER" else small)
            return (before[0], before[1]), (after[0], after[1])
        axes = len(shape) - 2
        pads = attribute_of(node, "pads", [0] * (2 * axes))
        return on_two_axes(pads[:axes], 0), on_two_axes(pads[axes:], 0)

    def _gemm(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        if attribute_of(node, "transA", 0):
            raise _RefusedError("transposes the activation.")
        weight = self._stored(node, 1, "weight") * float(attribute_of(node, "alpha", 1.0))
        weight = weight if attribute_of(node, "transB", 0) else weight.T
        bias = None
        if len(node.input) > 2 and node.input[2]:
            given = self._stored(node, 2, "bias") * float(attribute_of(node, "beta", 1.0))
            bias = np.broadcast_to(given.reshape(-1), (len(weight),)).astype(np.float64)
        return Dense(weight=weight, bias=bias)

    def _matmul(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        if len(shape) != 2 or self.constant(node.input[0]) is not None:
            raise _RefusedError(f"multiplies {shape}; vectors times a stored matrix are possible.")
        return Dense(weight=self._stored(node, 1, "matrix").T)

    def _batch_norm(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        names = ("scale", "shift", "mean", "variance")
        gamma, beta, mean, variance = (
            self._stored(node, place + 1, name) for place, name in enumerate(names)
        )
        scale = gamma / np.sqrt(variance + float(attribute_of(node, "epsilon", 1e-5)))
        return BatchNorm(scale=scale, shift=beta - mean * scale)

    def _clip(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        low, high = (
            self.constant(node.input[place])
            if len(node.input) > place and node.input[place]
            else attribute_of(node, name, open_end)
            for place, name, open_end in ((1, "min", -np.inf), (2, "max", np.inf))
        )
        least = -np.inf if low is None else float(np.asarray(low).reshape(-1)[0])
        most = np.inf if high is None else float(np.asarray(high).reshape(-1)[0])
        if least != 0 or most <= 0:
            raise _RefusedError(
                f"clips to {least:g} to {most:g}; 0 to a positive value is possible."
            )
        return Rectifier(ceiling=most if np.isfinite(most) else None)

    def _prelu(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        slope = self._stored(node, 1, "slope")
        if slope.size not in (1, shape[1]):
            raise _RefusedError(f"{slope.size} slopes; one, or one a channel, is possible.")
        return Rectifier(slope=slope.reshape(-1))

    def _pool(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        kernel = attribute_of(node, "kernel_shape", [1])
        axes = len(kernel)
        if axes not in (1, 2):
            raise _RefusedError(f"pools over {axes} axes; one or two are possible.")
        stride = on_two_axes(attribute_of(node, "strides", [1] * axes), 1)
        before, after = self._pads(node, shape, on_two_axes(kernel, 1), stride, (1, 1))
        is_mean = node.op_type == "AveragePool"
        if set(attribute_of(node, "dilations", [1])) != {1}:
            raise _RefusedError("has gaps in its windows.")
        if is_mean and any(before) and not attribute_of(node, "count_include_pad", 0):
            raise _RefusedError(
                "leaves padding out of its means; use count_include_pad=1 or no padding."
            )
        if before != after and not is_mean:
            pads = max(before[0], after[0]), max(before[1], after[1])
        elif before != after:
            raise _RefusedError(
                f"pads {before} before and {after} after; equal sides are possible."
            )
        else:
            pads = before
        layer: Layer = (AveragePool if is_mean else MaxPool)(
            kernel=on_two_axes(kernel, 1), stride=stride, padding=pads
        )
        wanted = _own_shape(self._shape(node.output[0]))
        if layer.output_shape(_own_shape(shape)) != wanted or before != after:
            raise _RefusedError(
                f"windows reach over the border (ceil_mode or unequal padding); the result is "
                f"{wanted}. Use windows that fit."
            )
        return layer

    def _reduce_mean(self, node: onnx.NodeProto, shape: Shape) -> Layer:
        axes = attribute_of(node, "axes", [])
        if not axes and len(node.input) > 1 and node.input[1]:
            axes = self._stored(node, 1, "list of axes").astype(int).tolist()
        found = sorted(int(axis) % len(shape) for axis in axes or range(len(shape)))
        if len(shape) < 3 or found != list(range(2, len(shape))):
            raise _RefusedError(
                f"takes the mean over axes {found}; those of the image are possible."
            )
        return _mean_of_all(shape)


def _is_end(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Return whether the host alone goes on with the result of a node."""
    ends = {output.name for output in graph.output}
    name = node.output[0]
    while name not in ends:
        readers = [other for other in graph.node if name in other.input]
        if len(readers) != 1 or readers[0].op_type not in (*_OF_HOST, *_PASSED):
            return False
        name = readers[0].output[0]
    return True


def _mean_of_all(shape: Shape) -> Layer:
    size = _own_shape(shape)
    return AveragePool(kernel=(size[1], size[2]), stride=(1, 1))


def _own_shape(shape: Shape) -> Shape:
    """Return the shape of one frame, (N,) or (C, H, W), for one of a batch."""
    return (shape[1], 1, shape[2]) if len(shape) == 3 else shape[1:]


def _flat(shape: Shape) -> Shape:
    """Return a shape without its axes of size 1 behind the second."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _without_batch(constant: FloatArray) -> FloatArray:
    return (
        constant[0] if constant.ndim and constant.shape[0] == 1 and constant.ndim > 1 else constant
    )
