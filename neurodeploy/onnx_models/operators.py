"""MACs of single ONNX operators, from shapes and attributes alone.

Each function gives (textbook MACs, MACs without the taps on padding). A dimension that is not
known is an error, never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING

from neurodeploy.counting.kernel_taps import count_taps
from neurodeploy.errors import OnnxError
from neurodeploy.ir.float_layers import Shape
from neurodeploy.onnx_models.shapes import Scope

if TYPE_CHECKING:
    import onnx

Macs = tuple[int, int]

_RUNTIME = "com.microsoft:"
_BLOCKED = "com.microsoft.nchwc:"
"""Domains of onnxruntime's own operators, in models that it wrote."""

OPERANDS: Mapping[str, tuple[int, int]] = {
    "Conv": (0, 1),
    "ConvInteger": (0, 1),
    "QLinearConv": (0, 3),
    "ConvTranspose": (0, 1),
    "DeformConv": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "Einsum": (0, 1),
    "LSTM": (0, 1),
    "GRU": (0, 1),
    "RNN": (0, 1),
    "DFT": (0, 0),
    "STFT": (0, 0),
    f"{_RUNTIME}FusedConv": (0, 1),
    f"{_RUNTIME}QLinearConv": (0, 3),
    f"{_RUNTIME}FusedGemm": (0, 1),
    f"{_RUNTIME}FusedMatMul": (0, 1),
    f"{_RUNTIME}QGemm": (0, 3),
    f"{_RUNTIME}MatMulIntegerToFloat": (0, 1),
    f"{_RUNTIME}DynamicQuantizeMatMul": (0, 1),
    f"{_RUNTIME}MatMulNBits": (0, 1),
    f"{_BLOCKED}Conv": (0, 1),
}
"""Positions of the two inputs that are multiplied, by operator."""

INTEGER_OPERATORS = frozenset(
    {
        "ConvInteger",
        "QLinearConv",
        "MatMulInteger",
        "QLinearMatMul",
        *(
            _RUNTIME + name
            for name in ("QLinearConv", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
        ),
    }
)

_GATES: Mapping[str, int] = {"LSTM": 4, "GRU": 3, "RNN": 1}

_COMPUTING = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Ceil Clip Col2Im Cos Cosh CumProd CumSum Div Equal Erf Exp Floor Greater
    GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal
    Round Sign Sin Sinh Sqrt Sub Sum Tan Where Xor

    Celu Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax Mish PRelu Relu Selu Shrink
    Sigmoid Softmax Softplus Softsign SwiGLU Swish Tanh ThresholdedRelu

    BlackmanWindow HammingWindow HannWindow NegativeLogLikelihoodLoss RotaryEmbedding
    SoftmaxCrossEntropyLoss

    BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization
    LpNormalization MeanVarianceNormalization RMSNormalization

    AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool MaxRoiPool MaxUnpool

    ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare TopK

    GridSample Resize RoiAlign Upsample

    com.microsoft:BiasGelu com.microsoft:FastGelu com.microsoft:Gelu com.microsoft:QLinearAdd
    com.microsoft:QLinearAveragePool com.microsoft:QLinearGlobalAveragePool
    com.microsoft:QLinearLeakyRelu com.microsoft:QLinearMul com.microsoft:QLinearReduceMean
    com.microsoft:QLinearSigmoid com.microsoft:QLinearSoftmax com.microsoft:QuickGelu
    com.microsoft:SkipLayerNormalization com.microsoft:SkipSimplifiedLayerNormalization

    com.microsoft.nchwc:AveragePool com.microsoft.nchwc:GlobalAveragePool
    com.microsoft.nchwc:GlobalMaxPool com.microsoft.nchwc:MaxPool com.microsoft.nchwc:Upsample
"""
"""Arithmetic, activations, normalisations, losses, pools, reductions, interpolation."""

_MOVING = """
    Bernoulli BitCast Cast CastLike CenterCropPad Compress Concat ConcatFromSequence Constant
    ConstantOfShape DepthToSpace DequantizeLinear Dropout DynamicQuantizeLinear Expand EyeLike
    Flatten Gather GatherElements GatherND Identity MelWeightMatrix Multinomial NonMaxSuppression
    NonZero OneHot Optional OptionalGetElement OptionalHasElement Pad QuantizeLinear RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range RegexFullMatch Reshape ReverseSequence
    Scatter ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase
    SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence Squeeze
    StringConcat StringNormalizer StringSplit TensorScatter TfIdfVectorizer Tile Transpose Trilu
    Unique Unsqueeze

    com.microsoft:DequantizeLinear com.microsoft:QLinearConcat com.microsoft:QuantizeLinear
    com.microsoft.nchwc:ReorderInput com.microsoft.nchwc:ReorderOutput
"""

ELEMENTWISE = frozenset(_COMPUTING.split())
"""Operators without MACs whose sizes are listed."""

LAYOUT = frozenset(_MOVING.split())
"""Operators that move, convert or make values: no operations."""


def count_operator(node: onnx.NodeProto, scope: Scope, *, name: str) -> Macs:
    """Count the MACs of one operator of `OPERANDS`.

    Args:
        node: The operator.
        scope: Shapes and small constants around it.
        name: How to call it in errors.

    Raises:
        OnnxError: If a dimension is not known, or shapes contradict each other.
    """
    operator: dict[str, Callable[[_Node], Macs]] = {
        "Conv": _conv,
        "ConvInteger": _conv,
        "QLinearConv": _conv,
        "FusedConv": _conv,
        "ConvTranspose": _transposed_conv,
        "DeformConv": _deformed_conv,
        "Gemm": _gemm,
        "FusedGemm": _gemm,
        "QGemm": _gemm,
        "FusedMatMul": _fused_matmul,
        "MatMulNBits": _packed_matmul,
        "Einsum": _einsum,
        "LSTM": _recurrent,
        "GRU": _recurrent,
        "RNN": _recurrent,
        "DFT": _dft,
        "STFT": _stft,
    }
    reader = _Node(node, scope, name)
    try:
        return operator.get(node.op_type, _matmul)(reader)
    except (IndexError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, OnnxError):
            raise
        raise OnnxError(
            f"{name}: the shapes of this {node.op_type} contradict each other. Check the model."
        ) from error


def operator_key(node: onnx.NodeProto) -> str:
    """Return the name of an operator in the tables above: with its domain, if it has one."""
    prefix = "" if node.domain in ("", "ai.onnx") else f"{node.domain}:"
    return f"{prefix}{node.op_type}"


class _Node:
    """An operator with its shapes and attributes at hand."""

    def __init__(self, node: onnx.NodeProto, scope: Scope, name: str) -> None:
        self.node, self.scope, self.name = node, scope, name

    def shape(self, tensor: str) -> Shape:
        dims = self.scope.shape(tensor)
        if dims is None or None in dims:
            shown = (
                "no shape" if dims is None else str(tuple("?" if d is None else d for d in dims))
            )
            raise OnnxError(
                f"{self.name}: tensor '{tensor}' of this {self.node.op_type} has {shown.strip()}, "
                "every size is required. It depends on the values that the model is given, or on "
                "an operator that is not known. Export the model with fixed shapes."
            )
        return tuple(dim for dim in dims if dim is not None)

    def operand(self, number: int) -> Shape:
        return self.shape(self.node.input[OPERANDS[operator_key(self.node)][number]])

    @property
    def result(self) -> Shape:
        return self.shape(next(filter(None, self.node.output)))

    def values(self, position: int) -> Shape | None:
        """Return the values of a small integer input; None if it is missing or not known."""
        names = self.node.input
        is_there = len(names) > position and names[position]
        return self.scope.integers(names[position]) if is_there else None

    def stored(self, position: int, default: int) -> int:
        """Return the value of an input of one integer, or the default if it is missing."""
        values = self.values(position)
        if values is not None:
            return values[0]
        if len(self.node.input) > position and self.node.input[position]:
            raise OnnxError(
                f"{self.name}: '{self.node.input[position]}' decides what this "
                f"{self.node.op_type} multiplies, and is not stored. Export it as a constant."
            )
        return default

    def ints(self, name: str, default: list[int]) -> list[int]:
        for attribute in self.node.attribute:
            if attribute.name == name:
                return list(attribute.ints)
        return default

    def integer(self, name: str, default: int) -> int:
        for attribute in self.node.attribute:
            if attribute.name == name:
                return int(attribute.i)
        return default

    def text(self, name: str, default: str) -> str:
        for attribute in self.node.attribute:
            if attribute.name == name:
                return bytes(attribute.s).decode()
        return default


def _conv(node: _Node) -> Macs:
    source, weight, result = node.operand(0), node.operand(1), node.result
    axes = len(weight) - 2
    strides, dilations = node.ints("strides", [1] * axes), node.ints("dilations", [1] * axes)
    pads, auto = node.ints("pads", [0] * 2 * axes), node.text("auto_pad", "NOTSET")
    before = pads[:axes]
    if auto != "NOTSET":
        for axis in range(axes):
            extent = (weight[axis + 2] - 1) * dilations[axis] + 1
            total = max((result[axis + 2] - 1) * strides[axis] + extent - source[axis + 2], 0)
            halves = {"SAME_UPPER": total // 2, "SAME_LOWER": total - total // 2}
            before[axis] = halves.get(auto, 0)
    shared = result[0] * result[1] * weight[1]
    pairs = _tap_pairs(result, weight, source, strides, dilations, before)
    return shared * prod(result[2:]) * prod(weight[2:]), shared * pairs


def _transposed_conv(node: _Node) -> Macs:
    source, weight, result = node.operand(0), node.operand(1), node.result
    axes = len(weight) - 2
    strides, dilations = node.ints("strides", [1] * axes), node.ints("dilations", [1] * axes)
    extra, pads = node.ints("output_padding", [0] * axes), node.ints("pads", [0] * 2 * axes)
    auto = node.text("auto_pad", "NOTSET")
    before = [0] * axes if auto == "VALID" else pads[:axes]
    if node.ints("output_shape", []) or auto.startswith("SAME"):  # then pads follow from sizes
        for axis in range(axes):
            extent = (weight[axis + 2] - 1) * dilations[axis] + 1
            full = strides[axis] * (source[axis + 2] - 1) + extent
            total = max(full + extra[axis] - result[axis + 2], 0)
            before[axis] = total // 2 if auto == "SAME_UPPER" else total - total // 2
    shared = source[0] * source[1] * weight[1]
    # Seen from its output, it is the convolution of which it is the transpose.
    pairs = _tap_pairs(source, weight, result, strides, dilations, before)
    return shared * prod(source[2:]) * prod(weight[2:]), shared * pairs


def _deformed_conv(node: _Node) -> Macs:
    """Count every tap: where one lies, on padding or not, depends on the values of an input."""
    weight, result = node.operand(1), node.result
    return (prod(result) * prod(weight[1:]),) * 2


def _tap_pairs(
    positions: Shape,
    weight: Shape,
    padded: Shape,
    strides: list[int],
    dilations: list[int],
    before: list[int],
) -> int:
    """Count the pairs of position and tap that meet a value of `padded`, not its padding."""
    return prod(
        count_taps(
            positions=positions[axis + 2],
            taps=weight[axis + 2],
            stride=strides[axis],
            dilation=dilations[axis],
            padding=before[axis],
            size=padded[axis + 2],
        )
        for axis in range(len(weight) - 2)
    )


def _gemm(node: _Node) -> Macs:
    left, right = node.operand(0), node.operand(1)
    rows, inner = reversed(left) if node.integer("transA", 0) else left
    columns = right[0] if node.integer("transB", 0) else right[1]
    return (rows * inner * columns,) * 2


def _matmul(node: _Node) -> Macs:
    left, right = node.operand(0), node.operand(1)
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    batch = _broadcast(left[:-2], right[:-2])
    return (prod(batch) * left[-2] * left[-1] * right[-1],) * 2


def _fused_matmul(node: _Node) -> Macs:
    left, right = node.operand(0), node.operand(1)
    inner = left[-2] if node.integer("transA", 0) and len(left) > 1 else left[-1]
    if node.integer("transBatchA", 0):
        inner = left[0] if node.integer("transA", 0) else left[-1]
    if inner not in right:
        raise ValueError(right)
    return (prod(node.result) * inner,) * 2


def _packed_matmul(node: _Node) -> Macs:
    """Count a product with a weight of a few bits, packed: its sizes are attributes."""
    inner, columns = node.integer("K", 0), node.integer("N", 0)
    left = node.operand(0)
    if left[-1] != inner:
        raise ValueError(left)
    return (prod(left) * columns,) * 2


def _broadcast(left: Shape, right: Shape) -> Shape:
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True)
    return tuple(b if a == 1 else a for a, b in pairs)


def _einsum(node: _Node) -> Macs:
    """Count the product of all index sizes if some index is summed over, else nothing."""
    left, arrow, right = node.text("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, node.node.input, strict=True):
        shape = node.shape(tensor)
        head, dots, tail = term.partition("...")
        hidden = len(shape) - len(head) - len(tail)
        if hidden < 0 or (hidden and not dots):
            raise ValueError(term)
        # axes of an ellipsis are numbered from behind: they broadcast
        names = [*head, *(f"...{number}" for number in range(hidden, 0, -1)), *tail]
        for index, size in zip(names, shape, strict=True):
            sizes[index] = size if sizes.get(index, 1) == 1 else sizes[index]
    kept = set(right)
    if not arrow:
        kept = {index for index in sizes if left.count(index) == 1} | {"."}
    summed = [
        index
        for index in sizes
        if (index.startswith("...") and "." not in kept)
        or (not index.startswith("...") and index not in kept)
    ]
    return (prod(sizes.values()) if summed else 0,) * 2


def _recurrent(node: _Node) -> Macs:
    """Count the steps that are run: those of `sequence_lens`, where the model stores them."""
    source, weight = node.operand(0), node.operand(1)
    gates = _GATES[node.node.op_type]
    if weight[1] % gates:
        raise ValueError(weight)
    hidden = weight[1] // gates
    lengths = node.values(4)
    steps = source[0] * source[1]
    if lengths is not None:
        steps = sum(min(max(length, 0), source[node.integer("layout", 0)]) for length in lengths)
    return (weight[0] * steps * gates * hidden * (source[2] + hidden),) * 2


def _dft(node: _Node) -> Macs:
    """Count a transform by its definition, the product with a matrix; fast ones need fewer.

    A product of two real numbers is one MAC, one of two complex numbers four.
    """
    source, result = node.operand(0), node.result
    axis = node.integer("axis", 1) if node.scope.opset < 20 else node.stored(2, -2)
    outputs, present = result[axis], source[axis]
    terms = node.stored(1, present)
    if node.integer("inverse", 0) and node.integer("onesided", 0):
        terms = outputs // 2 + 1
    shared = prod(result) * source[-1]
    return shared * terms, shared * min(terms, present)


def _stft(node: _Node) -> Macs:
    """Count the transform of each frame by its definition."""
    source, result = node.shape(node.node.input[0]), node.result
    window = node.node.input[2] if len(node.node.input) > 2 else ""
    length = node.shape(window)[0] if window else node.stored(3, source[1])
    return (prod(result) * prod(source[2:]) * length,) * 2
