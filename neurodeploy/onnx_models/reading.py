"""Reading of ONNX models for counting: shapes only, in bounded memory.

Large weights are replaced by their shapes before anything looks at the model, and external data
are never opened, so a tiny file that declares huge tensors costs nothing. The functions here run
in the process of `neurodeploy.untrusted.isolation`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from neurodeploy.errors import OnnxError
from neurodeploy.ir.float_layers import Shape
from neurodeploy.onnx_models.shapes import SMALL, Scope, ShapeResolver, dims_of, subgraphs
from neurodeploy.untrusted.boundary import FileKind

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message

LARGEST_FILE = (1 << 31) - 1
"""Bytes; a serialised protobuf message cannot be larger."""
ONNX = FileKind(
    "ONNX",
    ".onnx",
    OnnxError,
    "Check the model with onnx.checker; if it is valid, neurodeploy has a fault: report it.",
)
_SECONDS = 0.8
"""Processor time, beside that for any file, that a model may take."""
_SECONDS_PER_BYTE = 2e-5
_EQUATION = re.compile(r"[A-Za-z, ]*(->[A-Za-z ]*)?")
_BYTES_COUNTED = 5_000_000
"""Bytes beyond which a longer file takes no more time: they are weights, which nobody looks at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxGraph:
    """A model with every dimension bound, without its large weights.

    Attributes:
        sha256: Of the file.
        model: Functions inlined, large constants turned into inputs.
        inputs: Shapes of what the user feeds.
        constants: Shapes of everything stored.
        scope: The shapes of the outermost graph, and of those inside it.
        bindings: Sizes of symbolic dimensions as used.
    """

    sha256: str
    model: onnx.ModelProto
    inputs: Mapping[str, Shape]
    constants: Mapping[str, Shape]
    scope: Scope
    bindings: Mapping[str, int]


def require_onnx(what: str, *modules: str) -> None:
    """Raise an OnnxError that says what to install if onnx or a further package is missing."""
    missing = [name for name in ("onnx", *modules) if find_spec(name) is None]
    if missing:
        raise OnnxError(
            f"{what}: needs {' and '.join(missing)}, which neurodeploy does not install by "
            "itself. Run: pip install 'neurodeploy[onnx]'"
        )


def reading_seconds(path: Path) -> float:
    """Return the processor time that reading a model may take, beside that for any file."""
    size = path.stat().st_size if path.is_file() else 0
    return _SECONDS + _SECONDS_PER_BYTE * min(size, _BYTES_COUNTED)


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model file without its external data; return it and the SHA-256 of the file.

    Raises:
        OnnxError: If it is missing, too large, or no whole ONNX model.
    """
    require_onnx(str(path))
    import onnx
    from google.protobuf.message import DecodeError

    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise OnnxError(
                f"{path}: {size} bytes, at most {LARGEST_FILE} are allowed. Save the weights as "
                "external data."
            )
        content = path.read_bytes()
    except OSError as error:
        raise OnnxError(
            f"{path}: cannot be read ({error.strerror or error}). Give an ONNX file."
        ) from error
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError) as error:
        raise _damaged(path) from error
    if not model.ir_version or not model.graph.node:
        raise _damaged(path)
    return model, hashlib.sha256(content).hexdigest()


def inline_functions(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Make all names readable, and put the model's own functions where they are called.

    Raises:
        OnnxError: If a function cannot be inlined.
    """
    import onnx
    from onnx.inliner import inline_local_functions

    _decode_names(model)
    if not model.functions:
        return model
    try:
        return inline_local_functions(model)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise OnnxError(
            f"{path}: functions cannot be inlined ({_first_line(error)}). Check the model."
        ) from error


def _decode_names(message: Message) -> None:
    """Replace strings that are not UTF-8: protobuf hands them out as bytes and takes none back."""
    from google.protobuf.message import Message

    if message.DESCRIPTOR.name == "TensorProto":  # all but its name is data
        if isinstance(message.name, bytes):
            message.name = _text(message.name)
        return
    for entry, value in message.ListFields():
        if entry.type == entry.TYPE_MESSAGE:
            for inner in (value,) if isinstance(value, Message) else value:
                _decode_names(inner)
        elif entry.type == entry.TYPE_STRING and isinstance(value, bytes):
            setattr(message, entry.name, _text(value))
        elif entry.type == entry.TYPE_STRING and any(isinstance(text, bytes) for text in value):
            texts = [_text(text) for text in value]
            del value[:]
            value.extend(texts)


def _text(value: str | bytes) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def load_onnx(path: Path, *, bindings: Mapping[str, int], bind_batch: bool) -> OnnxGraph:
    """Read a model, bind its symbolic dimensions as `count_onnx_macs` does, infer every shape.

    Raises:
        OnnxError: If the file is damaged, the model invalid, or a dimension of an input open.
    """
    model, sha256 = read_model(path)
    model = inline_functions(model, path)
    constants = _take_out_constants(model, path)
    bound = _bind(model, path, dict(bindings), constants, bind_batch=bind_batch)
    inputs = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in model.graph.input
        if info.name not in constants and info.type.HasField("tensor_type")
    }
    _forget_open_shapes(model.graph)
    model, scope = _infer(model, path, constants)
    return OnnxGraph(
        sha256=sha256, model=model, inputs=inputs, constants=constants, scope=scope, bindings=bound
    )


# ------------------------------------------------------------------ before inference


def _take_out_constants(model: onnx.ModelProto, path: Path) -> dict[str, Shape]:
    """Turn large and external initializers into inputs of their shape; check the others."""
    import onnx

    external = onnx.TensorProto.EXTERNAL
    shapes: dict[str, Shape] = {}
    taken: list[onnx.ValueInfoProto] = []
    declared = {info.name for info in model.graph.input}
    for graph in _graphs(model.graph):
        kept = []
        for tensor in graph.initializer:
            shape = tuple(tensor.dims)
            is_external = tensor.data_location == external
            if min(shape, default=0) < 0:
                raise OnnxError(f"{path}: '{tensor.name}' has shape {shape}. Check the model.")
            if not is_external:
                _check_tensor(tensor, path)
            shapes[tensor.name] = shape
            if is_external or prod(shape) > SMALL:
                if graph is not model.graph or tensor.name not in declared:
                    taken.append(
                        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape)
                    )
            else:
                kept.append(onnx.TensorProto.FromString(tensor.SerializeToString()))
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for node in graph.node:
            if node.op_type == "STFT" and all(entry.name != "onesided" for entry in node.attribute):
                # onnx infers the shape of a two-sided transform here, against its own standard
                node.attribute.append(onnx.helper.make_attribute("onesided", 1))
            for attribute in node.attribute:
                if node.op_type == "Einsum" and attribute.name == "equation":
                    _check_equation(attribute.s.decode(errors="replace"), path)
                held = [attribute.t] if attribute.HasField("t") else []
                for tensor in (*held, *attribute.tensors):
                    if tensor.data_location == external:  # onnx would look in the current folder
                        raise OnnxError(
                            f"{path}: attribute '{attribute.name}' of '{node.name}' lies in another"
                            " file, which is read for weights only. Save the model with "
                            "convert_attribute=False."
                        )
                    _check_tensor(tensor, path)
        for sparse in graph.sparse_initializer:
            name, shape = sparse.values.name, tuple(sparse.dims)
            shapes[name] = shape
            taken.append(onnx.helper.make_tensor_value_info(name, sparse.values.data_type, shape))
        del graph.sparse_initializer[:]
    model.graph.input.extend(taken)
    return shapes


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuse a tensor that does not store what it declares."""
    import onnx

    try:
        onnx.checker.check_tensor(tensor)
        onnx.numpy_helper.to_array(tensor)
    except (onnx.checker.ValidationError, ValueError, TypeError, KeyError) as error:
        raise OnnxError(
            f"{path}: '{tensor.name}' declares shape {tuple(tensor.dims)} but does not store it "
            f"({_first_line(error)}). The file is damaged; export the model again."
        ) from error


def _check_equation(equation: str, path: Path) -> None:
    """Refuse what is no equation of Einsum: onnx reads some of them for ever."""
    if not _EQUATION.fullmatch(equation.replace("...", "")):
        raise OnnxError(
            f"{path}: Einsum has the equation {equation[:100]!r}; letters, commas, '...' and one "
            "'->' are allowed, as in 'ij,jk->ik'. Export the model again."
        )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for _, inner in subgraphs(node):
            yield from _graphs(inner)


def stored_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that a graph stores, in graphs inside of it and in attributes as well."""
    for inner in _graphs(graph):
        yield from inner.initializer
        for sparse in inner.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in inner.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)


def _bind(
    model: onnx.ModelProto,
    path: Path,
    bindings: dict[str, int],
    constants: Mapping[str, Shape],
    *,
    bind_batch: bool,
) -> dict[str, int]:
    """Write sizes into the inputs' open dimensions; return those that were used."""
    for name, size in bindings.items():
        if size < 1:
            raise OnnxError(f"{path}: {name} bound to {size}, at least 1 is required.")
    known: dict[str, int] = {}
    symbols: dict[str, str] = {}
    for info in model.graph.input:
        kind = info.type.tensor_type
        if info.name in constants or not info.type.HasField("tensor_type"):
            continue
        if not kind.HasField("shape"):
            raise OnnxError(f"{path}: input '{info.name}' has no shape. Export the model with one.")
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0:
                continue
            name = dim.dim_param or f"{info.name}:{axis}"
            symbols.setdefault(name, f"axis {axis} of input '{info.name}'")
            if bind_batch and axis == 0:
                bindings.setdefault(name, 1)
            if name in bindings:
                known[name] = dim.dim_value = bindings[name]
    unknown = [name for name in bindings if name not in symbols]
    if unknown:
        names = ", ".join(f"'{name}'" for name in symbols) or "none, every size is fixed"
        raise OnnxError(
            f"{path}: no symbolic dimension '{unknown[0]}' among the inputs. Those that it has: "
            f"{names}. Bind only these."
        )
    open_names = {name: place for name, place in symbols.items() if name not in known}
    if open_names:
        where = ", ".join(f"'{name}' ({place})" for name, place in open_names.items())
        options = " ".join(f"--bind {name}=1" for name in open_names)
        raise OnnxError(
            f"{path}: sizes not known: {where}. Every size must be; bind each, for instance "
            f"{options}"
        )
    return known


def _forget_open_shapes(graph: onnx.GraphProto) -> None:
    """Drop declared shapes with open sizes, which would hide those that inference finds.

    An input that is declared again, as an output or on the way, keeps the type of the input.
    """
    for inner in _graphs(graph):
        fed = {info.name: info.type for info in inner.input}
        closed = [
            info
            for info in inner.value_info
            if (dims := dims_of(info.type)) is not None
            and None not in dims
            and info.name not in fed
        ]
        for info in inner.output:
            if info.name in fed:
                info.type.CopyFrom(fed[info.name])
        kept = [type(info).FromString(info.SerializeToString()) for info in closed]
        del inner.value_info[:]
        inner.value_info.extend(kept)
        for info in (*inner.input, *inner.output):
            if info.type.HasField("tensor_type"):
                for dim in info.type.tensor_type.shape.dim:
                    if not dim.HasField("dim_value") or dim.dim_value < 0:
                        dim.Clear()


# ------------------------------------------------------------------------- inference


def _infer(
    model: onnx.ModelProto, path: Path, constants: Mapping[str, Shape]
) -> tuple[onnx.ModelProto, Scope]:
    """Check a model and infer its shapes."""
    import onnx

    invalid, failed = onnx.checker.ValidationError, onnx.shape_inference.InferenceError
    fault: Exception | None = None
    inferred: onnx.ModelProto | None
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (invalid, failed, RuntimeError, ValueError, TypeError) as error:
        fault = error
        inferred = _infer_loosely(model)
    if inferred is not None:
        scope = ShapeResolver(model).resolve(inferred.graph, stored=constants)
        names = [name for node in inferred.graph.node for name in node.output if name]
        if fault is None or all(scope.sizes(name) is not None for name in names):
            return inferred, scope
    raise OnnxError(f"{path}: not a valid model ({_first_line(fault)}).") from fault


def _infer_loosely(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Infer shapes where onnx fails on an operator, not on the model; None if the model is wrong.

    Strict inference fails inside the definitions of some valid operators. A model that is sound
    without its declared shapes contradicts them.
    """
    import onnx

    bare = onnx.ModelProto.FromString(model.SerializeToString())
    for graph in _graphs(bare.graph):
        del graph.value_info[:]
        for info in graph.output:
            if info.type.HasField("tensor_type"):
                info.type.tensor_type.ClearField("shape")
    try:
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(bare, strict_mode=True)
    except onnx.checker.ValidationError:
        return None
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
        return onnx.shape_inference.infer_shapes(bare)
    return None


def _first_line(error: object) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else words[:300] + " ..."


def _damaged(path: Path) -> OnnxError:
    return OnnxError(
        f"{path}: not a whole ONNX model: truncated, damaged, or of another format. Export it "
        "again."
    )
