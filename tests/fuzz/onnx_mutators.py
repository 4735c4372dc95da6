"""Mutations of ONNX models: fields of the message, dimensions, functions, files of weights."""

from __future__ import annotations

from random import Random

import onnx
from google.protobuf.message import Message
from onnx import helper
from text_mutators import STRINGS

_INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    64,
    127,
    1 << 16,
    (1 << 31) - 1,
    -(1 << 31),
    (1 << 63) - 1,
    -(1 << 63),
)
_OPERATORS = (
    *(
        "Conv",
        "Gemm",
        "MatMul",
        "ConvTranspose",
        "LSTM",
        "GRU",
        "RNN",
        "Einsum",
        "Attention",
        "Loop",
    ),
    *(
        "If",
        "Scan",
        "Reshape",
        "Concat",
        "Split",
        "Resize",
        "Tile",
        "Expand",
        "Range",
        "Pad",
        "Gather",
    ),
    *("ConstantOfShape", "Slice", "Constant", "OneHot", "NonZero", "QLinearConv", "MatMulInteger"),
    *(
        "AveragePool",
        "MaxPool",
        "Flatten",
        "Transpose",
        "Unsqueeze",
        "Shape",
        "Size",
        "EyeLike",
        "Nope",
    ),
)
_DEPTH = 8


def mutate_onnx(rng: Random, data: bytes) -> bytes:
    model = onnx.load_model_from_string(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        try:
            rng.choice(_CHANGES)(rng, model)
        except (ValueError, TypeError, IndexError, AttributeError):
            continue  # does not apply to this model
    return model.SerializeToString()


def _messages(message: Message, depth: int = _DEPTH) -> list[Message]:
    found = [message]
    for field, value in message.ListFields() if depth else ():
        if field.type == field.TYPE_MESSAGE:
            inner = [value] if isinstance(value, Message) else list(value)
            for one in inner[:200]:
                found += _messages(one, depth - 1)
    return found


def _set_field(rng: Random, model: onnx.ModelProto) -> None:
    message = rng.choice(_messages(model))
    field = rng.choice(message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    if isinstance(value, Message):
        if rng.random() < 0.5:
            message.ClearField(field.name)
        else:
            value.SetInParent()
        return
    is_list = not isinstance(value, int | float | str | bytes)
    if is_list and (field.type == field.TYPE_MESSAGE or (len(value) and rng.random() < 0.4)):
        _edit_list(rng, value)
        return
    new = _scalar(rng, model, field)
    if not is_list:
        setattr(message, field.name, new)
    elif len(value) and rng.random() < 0.7:
        value[rng.randrange(len(value))] = new
    else:
        value.extend([new] * rng.choice((1, 2, 40)))


def _scalar(rng: Random, model: onnx.ModelProto, field: object) -> object:
    kind = field.type  # type: ignore[attr-defined]
    if kind == field.TYPE_STRING:  # type: ignore[attr-defined]
        names = [name for node in model.graph.node for name in (*node.input, *node.output)]
        return rng.choice((rng.choice(STRINGS), rng.choice(names or ["x"]), rng.choice(_OPERATORS)))
    if kind == field.TYPE_BYTES:  # type: ignore[attr-defined]
        return rng.choice((b"", rng.randbytes(8), b"\xff" * 64))
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):  # type: ignore[attr-defined]
        return rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
    if kind == field.TYPE_ENUM:  # type: ignore[attr-defined]
        return rng.choice((0, 1, 2, 3, 5, 7, 9, 10, 16, 21))
    if kind == field.TYPE_INT32:  # type: ignore[attr-defined]
        return rng.choice((0, 1, -1, 2, 6, 7, 11, 99, (1 << 31) - 1))
    return rng.choice(_INTEGERS)


def _edit_list(rng: Random, values: object) -> None:
    place = rng.randrange(len(values))  # type: ignore[arg-type]
    if rng.random() < 0.5:
        del values[place]  # type: ignore[attr-defined]
    else:
        values.extend([values[place]] * rng.choice((1, 1, 3, 50)))  # type: ignore[attr-defined,index]


def _set_dimension(rng: Random, model: onnx.ModelProto) -> None:
    dims = [one for one in _messages(model) if isinstance(one, onnx.TensorShapeProto.Dimension)]
    tensors = [one for one in _messages(model) if isinstance(one, onnx.TensorProto) and one.dims]
    if tensors and (not dims or rng.random() < 0.5):
        tensor = rng.choice(tensors)
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_INTEGERS)
    elif rng.random() < 0.8:
        rng.choice(dims).dim_value = rng.choice(_INTEGERS)
    else:
        rng.choice(dims).dim_param = rng.choice(("N", "M", "", *STRINGS))


def _set_operator(rng: Random, model: onnx.ModelProto) -> None:
    node = rng.choice(model.graph.node)
    if rng.random() < 0.7:
        node.op_type = rng.choice(_OPERATORS)
    else:
        node.domain = rng.choice(("", "ai.onnx.ml", "com.microsoft", "own", "[/b]"))


def _set_attribute(rng: Random, model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    node = rng.choice(nodes)
    name = rng.choice(
        (
            *(one.name for one in node.attribute),
            *("kernel_shape", "strides", "pads", "dilations", "group", "auto_pad", "axis", "perm"),
            *("value", "to", "hidden_size", "equation", "transA", "output_padding", "q_num_heads"),
        )
    )
    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    value = rng.choice(
        (
            rng.choice(_INTEGERS),
            [rng.choice(_INTEGERS) for _ in range(rng.choice((1, 2, 4, 9)))],
            rng.choice(STRINGS),
            rng.choice(("SAME_UPPER", "ij,jk->ik", "...i,i...", "a" * 60, "VALID")),
            0.5,
            helper.make_tensor("t", 7, [rng.choice((1, 3))], [rng.choice(_INTEGERS)] * 3)
            if rng.random() < 0.2
            else 1,
        )
    )
    node.attribute.append(helper.make_attribute(name, value))


def _rewire(rng: Random, model: onnx.ModelProto) -> None:
    """Let a node read or write another value: also its own, or one that comes later."""
    node = rng.choice(model.graph.node)
    names = [name for one in model.graph.node for name in (*one.input, *one.output)] + ["", "none"]
    values = rng.choice([one for one in (node.input, node.output) if len(one)])
    values[rng.randrange(len(values))] = rng.choice(names)


def _move_nodes(rng: Random, model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    match rng.randrange(3):
        case 0:
            rng.shuffle(nodes)
        case 1:
            del nodes[rng.randrange(len(nodes))]
        case _:
            nodes += [nodes[rng.randrange(len(nodes))]] * rng.choice((1, 100))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _add_functions(rng: Random, model: onnx.ModelProto) -> None:
    """Add functions that call each other, in a circle or doubling at each step."""
    steps = rng.choice((1, 2, 3, 25))
    is_circle = rng.random() < 0.5
    for number in range(steps):
        following = (number + 1) % steps if is_circle else number + 1
        inner = f"f{following}" if is_circle or number < steps - 1 else "Relu"
        domain = "own" if inner != "Relu" else ""
        nodes = [
            helper.make_node(inner, ["x"], ["y0"], domain=domain),
            helper.make_node(inner, ["y0"], ["y"], domain=domain),
        ]
        model.functions.append(
            helper.make_function("own", f"f{number}", ["x"], ["y"], nodes, list(model.opset_import))
        )
    if not any(one.domain == "own" for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid("own", 1))
    node = model.graph.node[0]
    model.graph.node.append(helper.make_node("f0", [node.input[0]], ["called"], domain="own"))


def _nest_graphs(rng: Random, model: onnx.ModelProto) -> None:
    """Put the graph into branches of `If` or bodies of `Loop`, into each other."""
    for _ in range(rng.choice((1, 3, 30))):
        inner = onnx.GraphProto()
        inner.CopyFrom(model.graph)
        del inner.input[:]
        node = helper.make_node(
            "If", [rng.choice(("", "cond"))], ["out"], name=rng.choice(STRINGS[:6])
        )
        node.attribute.append(helper.make_attribute("then_branch", inner))
        if rng.random() < 0.5:
            node.attribute.append(helper.make_attribute("else_branch", inner))
        if model.ByteSize() > 100_000:
            return
        model.graph.node.append(node)


def _store_outside(rng: Random, model: onnx.ModelProto) -> None:
    tensors = [one for one in _messages(model) if isinstance(one, onnx.TensorProto)]
    tensor = rng.choice(tensors)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    places = (
        "secret.bin",
        "/etc/hostname",
        "../secret.bin",
        "",
        ".",
        "input.onnx",
        "a/../secret.bin",
    )
    for key, value in (
        ("location", rng.choice(places)),
        ("offset", rng.choice(("0", "-1", "9" * 30, "x"))),
        ("length", rng.choice(("4", "-4", str(1 << 40), "x"))),
    ):
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=value)


def _set_version(rng: Random, model: onnx.ModelProto) -> None:
    if rng.random() < 0.5:
        rng.choice(model.opset_import).version = rng.choice((*_INTEGERS, 8, 11, 13, 17, 21, 23))
    else:
        model.ir_version = rng.choice(_INTEGERS)


_CHANGES = (
    *(_set_field, _set_field, _set_field, _set_dimension, _set_dimension, _set_operator),
    *(_set_attribute, _set_attribute, _rewire, _move_nodes, _add_functions, _nest_graphs),
    *(_store_outside, _set_version),
)
ONNX = (mutate_onnx,)
