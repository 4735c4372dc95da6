"""MACs of single ONNX operators, from shapes and attributes alone.

Each function gives (textbook MACs, MACs without the taps on padding). A dimension that is not
known is an error, never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

from neurodeploy.errors import OnnxError
from neurodeploy.ir.float_layers import Shape
from neurodeploy.onnx_models.shapes import Scope, first_output

if TYPE_CHECKING:
    import onnx

Macs = tuple[int, int]

AttributeT = TypeVar("AttributeT", int, float, str, list[int])

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

_OF_INTEGERS = """
    ConvInteger QLinearConv MatMulInteger QLinearMatMul com.microsoft:QLinearConv
    com.microsoft:QGemm com.microsoft:MatMulIntegerToFloat com.microsoft:DynamicQuantizeMatMul
"""

INTEGER_OPERATORS = frozenset(_OF_INTEGERS.split())
"""Operators of `OPERANDS` that multiply integers."""

ELEMENTWISE = frozenset(_COMPUTING.split())
"""Operators without MACs whose sizes are listed."""

LAYOUT = frozenset(_MOVING.split())
"""Operators that move, convert or make values: no operations."""


def count_operator(node: onnx.NodeProto, scope: Scope, *, name: str) -> Macs:
    """Count the MACs of one operator of `OPERANDS`, which errors call by its name.

    Raises:
        OnnxError: If a dimension is not known, or shapes contradict each other.
    """
    count, *_ = _RULES[operator_key(node)]
    try:
        return count(_Node(node, scope, name))
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


def attribute_of(node: onnx.NodeProto, name: str, default: AttributeT) -> AttributeT:
    """Return an attribute of a node; its type is that of the default."""
    field = {int: "i", float: "f", list: "ints", str: "s"}[type(default)]
    for entry in node.attribute:
        if entry.name == name:
            value: Any = getattr(entry, field)
            if isinstance(default, str):
                value = value.decode()
            found: AttributeT = list(value) if isinstance(default, list) else value
            return found
    return default


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
        return self.shape(first_output(self.node))

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

    def attribute(self, name: str, default: AttributeT) -> AttributeT:
        """Return an attribute; its type is that of the default."""
        return attribute_of(self.node, name, default)


def _conv(node: _Node, *, is_transposed: bool = False) -> Macs:
    """Count the taps at every position, and those of them that meet no padding.

    Seen from its output, a transposed convolution is the one of which it is the transpose.
    """
    source, weight, result = node.operand(0), node.operand(1), node.result
    positions, padded = (source, result) if is_transposed else (result, source)
    axes = len(weight) - 2
    strides = node.attribute("strides", [1] * axes)
    dilations = node.attribute("dilations", [1] * axes)
    extra = node.attribute("output_padding", [0] * axes)
    auto = node.attribute("auto_pad", "NOTSET")
    before = list(node.attribute("pads", [0] * axes))[:axes] if auto == "NOTSET" else [0] * axes
    if auto.startswith("SAME") or node.attribute("output_shape", []):  # pads follow from sizes
        for axis in range(axes):
            extent = (weight[axis + 2] - 1) * dilations[axis] + 1
            full = (positions[axis + 2] - 1) * strides[axis] + extent
            total = max(full + extra[axis] - padded[axis + 2], 0)
            before[axis] = total // 2 if auto == "SAME_UPPER" else total - total // 2
    shared = positions[0] * positions[1] * weight[1]
    numbers = zip(positions[2:], weight[2:], strides, dilations, before, padded[2:], strict=True)
    pairs = prod(_count_taps(*axis) for axis in numbers)
    return shared * prod(positions[2:]) * prod(weight[2:]), shared * pairs


def _deformed_conv(node: _Node) -> Macs:
    """Count every tap: where one lies, on padding or not, depends on the values of an input."""
    weight, result = node.operand(1), node.result
    return (prod(result) * prod(weight[1:]),) * 2


def _count_taps(
    positions: int, taps: int, stride: int, dilation: int, padding: int, size: int
) -> int:
    """Count pairs of position o and tap t with 0 <= o · stride + t · dilation - padding < size.

    It is a number of lattice points below a line, which the steps of Euclid's algorithm count
    without an array: a declared extent of 10^9 costs as little as one of 10. Padding before the
    frame is negative where the frame is cropped.
    """
    if positions < 1 or taps < 1 or size < 1:
        return 0

    def below(limit: int) -> int:
        """Count the pairs with o · stride + t · dilation < limit."""
        if limit <= 0:
            return 0
        some = min(taps, _divide_up(limit, dilation))  # taps that fit at position 0
        every = _divide_up(limit - (positions - 1) * stride, dilation)
        every = min(max(every, 0), some)  # taps that fit at every position
        last = limit - (some - 1) * dilation  # what the last of them leaves for o · stride
        return every * positions + _sum_of_floors(some - every, stride, dilation, last + stride - 1)

    return below(size + padding) - below(padding)


def _divide_up(value: int, divisor: int) -> int:
    return -(-value // divisor)


def _sum_of_floors(count: int, divisor: int, factor: int, offset: int) -> int:
    """Return the sum of (factor · i + offset) // divisor over i = 0 ... count - 1.

    Whole multiples of the divisor are summed at once; what is left counts points under a line
    of slope below one, whose axes are then exchanged, as in Euclid's algorithm.
    """
    total = 0
    while count > 0:
        total += (factor // divisor) * (count * (count - 1) // 2) + (offset // divisor) * count
        factor, offset = factor % divisor, offset % divisor
        height = factor * count + offset
        if height < divisor:
            break
        count, offset = height // divisor, height % divisor
        factor, divisor = divisor, factor
    return total


def _gemm(node: _Node) -> Macs:
    left, right = node.operand(0), node.operand(1)
    rows, inner = reversed(left) if node.attribute("transA", 0) else left
    columns = right[0] if node.attribute("transB", 0) else right[1]
    return (rows * inner * columns,) * 2


def _matmul(node: _Node) -> Macs:
    left, right = node.operand(0), node.operand(1)
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    batch = _broadcast(left[:-2], right[:-2])
    return (prod(batch) * left[-2] * left[-1] * right[-1],) * 2


def _fused_matmul(node: _Node) -> Macs:
    left, right = node.operand(0), node.operand(1)
    inner = left[-2] if node.attribute("transA", 0) and len(left) > 1 else left[-1]
    if node.attribute("transBatchA", 0):
        inner = left[0] if node.attribute("transA", 0) else left[-1]
    if inner not in right:
        raise ValueError(right)
    return (prod(node.result) * inner,) * 2


def _packed_matmul(node: _Node) -> Macs:
    """Count a product with a weight of a few bits, packed: its sizes are attributes."""
    inner, columns = node.attribute("K", 0), node.attribute("N", 0)
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
    left, arrow, right = node.attribute("equation", "").replace(" ", "").partition("->")
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
        steps = sum(min(max(length, 0), source[node.attribute("layout", 0)]) for length in lengths)
    return (weight[0] * steps * gates * hidden * (source[2] + hidden),) * 2


def _dft(node: _Node) -> Macs:
    """Count a transform by its definition, the product with a matrix; fast ones need fewer.

    A product of two real numbers is one MAC, one of two complex numbers four.
    """
    source, result = node.operand(0), node.result
    is_old = node.scope.resolver.opsets.get("", 0) < 20
    axis = node.attribute("axis", 1) if is_old else node.stored(2, -2)
    outputs, present = result[axis], source[axis]
    terms = node.stored(1, present)
    if node.attribute("inverse", 0) and node.attribute("onesided", 0):
        terms = outputs // 2 + 1
    shared = prod(result) * source[-1]
    return shared * terms, shared * min(terms, present)


def _stft(node: _Node) -> Macs:
    """Count the transform of each frame by its definition."""
    source, result = node.shape(node.node.input[0]), node.result
    window = node.node.input[2] if len(node.node.input) > 2 else ""
    length = node.shape(window)[0] if window else node.stored(3, source[1])
    return (prod(result) * prod(source[2:]) * length,) * 2


_RULES: Mapping[str, tuple[Callable[[_Node], Macs], int, int]] = {
    "Conv": (_conv, 0, 1),
    "ConvInteger": (_conv, 0, 1),
    "QLinearConv": (_conv, 0, 3),
    "ConvTranspose": (partial(_conv, is_transposed=True), 0, 1),
    "DeformConv": (_deformed_conv, 0, 1),
    "Gemm": (_gemm, 0, 1),
    "MatMul": (_matmul, 0, 1),
    "MatMulInteger": (_matmul, 0, 1),
    "QLinearMatMul": (_matmul, 0, 3),
    "Einsum": (_einsum, 0, 1),
    "LSTM": (_recurrent, 0, 1),
    "GRU": (_recurrent, 0, 1),
    "RNN": (_recurrent, 0, 1),
    "DFT": (_dft, 0, 0),
    "STFT": (_stft, 0, 0),
    "com.microsoft:FusedConv": (_conv, 0, 1),
    "com.microsoft:QLinearConv": (_conv, 0, 3),
    "com.microsoft:FusedGemm": (_gemm, 0, 1),
    "com.microsoft:FusedMatMul": (_fused_matmul, 0, 1),
    "com.microsoft:QGemm": (_gemm, 0, 3),
    "com.microsoft:MatMulIntegerToFloat": (_matmul, 0, 1),
    "com.microsoft:DynamicQuantizeMatMul": (_matmul, 0, 1),
    "com.microsoft:MatMulNBits": (_packed_matmul, 0, 1),
    "com.microsoft.nchwc:Conv": (_conv, 0, 1),
}
"""By operator: the rule that counts it, and the positions of the two inputs that are multiplied.
Those of Microsoft's domains are onnxruntime's own, in models that it wrote."""

OPERANDS = {name: positions for name, (_, *positions) in _RULES.items()}
"""Positions of the two inputs that are multiplied, by operator."""
