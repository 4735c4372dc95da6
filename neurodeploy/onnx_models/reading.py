"""Reading of ONNX models for counting: shapes only, in bounded memory.

Large weights are replaced by their shapes before anything looks at the model, and external data
are never opened, so a tiny file that declares huge tensors costs nothing.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from neurodeploy.errors import OnnxError
from neurodeploy.ir.float_layers import Shape

if TYPE_CHECKING:
    import onnx

LARGEST_FILE = (1 << 31) - 1
"""Bytes; a serialised protobuf message cannot be larger."""

_SMALL = 1024
"""Elements of a constant that may decide shapes and is therefore kept."""

_INFERENCE_MEMORY = 2 << 30
_INFERENCE_SECONDS = 120
"""Bounds of the process in which values are followed through the graph."""

_INFERENCE = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
except ImportError:
    pass
from onnx import load_model_from_string, shape_inference
model = load_model_from_string(sys.stdin.buffer.read())
try:
    found = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
except Exception as error:
    sys.exit(" ".join(str(error).split()) or "out of memory")
sys.stdout.buffer.write(found.SerializeToString())
"""

Dims = tuple[int | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """The known shapes and constants of a graph; a subgraph sees those around it as well.

    Attributes:
        shapes: Dimensions by name; None for one that is not known. A tensor of unknown rank is
            missing.
        constants: Sizes of tensors that are stored in the model.
        values: Small constants, as flat integers, where they are integers or booleans.
        outer: The scope around.
    """

    shapes: Mapping[str, Dims]
    constants: frozenset[str]
    values: Mapping[str, tuple[int, ...]]
    outer: Scope | None = None

    def shape(self, name: str) -> Dims | None:
        """Return a tensor's dimensions, None if not even their number is known."""
        if name in self.shapes:
            return self.shapes[name]
        return None if self.outer is None else self.outer.shape(name)

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor is stored in the model."""
        return name in self.constants or (self.outer is not None and self.outer.is_constant(name))

    def value(self, name: str) -> tuple[int, ...] | None:
        """Return a small constant's elements; None if it is none."""
        if name in self.values:
            return self.values[name]
        return None if self.outer is None else self.outer.value(name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxGraph:
    """A model with every dimension bound, without its large weights.

    Attributes:
        path: Its file.
        sha256: Of the file.
        model: The model, functions inlined, large constants turned into inputs.
        inputs: Shapes of what the user feeds.
        constants: Shapes of everything stored, by name.
        bindings: Sizes of symbolic dimensions as used.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    inputs: Mapping[str, Shape]
    constants: Mapping[str, Shape]
    bindings: Mapping[str, int] = field(default_factory=dict)

    def scope(self) -> Scope:
        """Return what is known of the tensors of the outermost graph."""
        return scope_of(self.model.graph, None, also=self.constants)


def require_onnx(what: str, *modules: str) -> None:
    """Require optional packages; the error says what to install.

    Raises:
        OnnxError: If they are.
    """
    missing = [name for name in ("onnx", *modules) if find_spec(name) is None]
    if missing:
        raise OnnxError(
            f"{what}: needs {' and '.join(missing)}, which neurodeploy does not install by "
            "itself. Run: pip install 'neurodeploy[onnx]'"
        )


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model file without its external data.

    Returns:
        The model, and the SHA-256 of the file.

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


def load_onnx(
    path: Path, *, bindings: Mapping[str, int] | None = None, bind_batch: bool = False
) -> OnnxGraph:
    """Read a model, bind its symbolic dimensions and infer every shape.

    Args:
        path: The file.
        bindings: Size by name of a symbolic dimension; one without a name is called
            "<input>:<axis>".
        bind_batch: Bind the first dimension of every input to 1 if nothing else is said.

    Raises:
        OnnxError: If the file is damaged, the model invalid, or a dimension of an input open.
    """
    model, sha256 = read_model(path)
    if model.functions:
        from onnx.inliner import inline_local_functions

        try:
            model = inline_local_functions(model)
        except RuntimeError as error:
            raise OnnxError(
                f"{path}: functions cannot be inlined ({_first_line(error)}). Check the model."
            ) from error
    constants = _take_out_constants(model, path)
    bound = _bind(model, path, dict(bindings or {}), constants, bind_batch=bind_batch)
    inputs = {
        info.name: tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
        for info in model.graph.input
        if info.name not in constants and info.type.HasField("tensor_type")
    }
    _forget_open_shapes(model.graph)
    return OnnxGraph(
        path=path,
        sha256=sha256,
        model=_infer(model, path),
        inputs=inputs,
        constants=constants,
        bindings=bound,
    )


def scope_of(
    graph: onnx.GraphProto, outer: Scope | None, *, also: Mapping[str, Shape] | None = None
) -> Scope:
    """Collect what a graph says about its tensors.

    Args:
        graph: A graph after shape inference.
        outer: The scope around it.
        also: Shapes of constants that were taken out of it.
    """
    shapes: dict[str, Dims] = {}
    values: dict[str, tuple[int, ...]] = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        dims = _dims_of(info)
        if dims is not None:
            shapes[info.name] = dims
    stored = dict(also or {})
    for name, tensor in _constant_tensors(graph):
        stored[name] = tuple(tensor.dims)
        if prod(tensor.dims) <= _SMALL and (found := _integers(tensor)) is not None:
            values[name] = found
    shapes |= stored
    return Scope(shapes, frozenset(stored), values, outer)


def subgraphs(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Yield the graphs inside a node by the name of their attribute."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}{number}", graph


def _constant_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    import onnx

    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t
                elif attribute.name in ("value_int", "value_ints"):
                    given = attribute.ints if attribute.name == "value_ints" else [attribute.i]
                    dims = [len(given)] if attribute.name == "value_ints" else []
                    yield (
                        node.output[0],
                        onnx.helper.make_tensor("", onnx.TensorProto.INT64, dims, given),
                    )


def _integers(tensor: onnx.TensorProto) -> tuple[int, ...] | None:
    import onnx

    kinds = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    if tensor.data_type not in kinds or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    return tuple(int(one) for one in onnx.numpy_helper.to_array(tensor).reshape(-1))


def _dims_of(info: onnx.ValueInfoProto) -> Dims | None:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return tuple(one.dim_value if one.HasField("dim_value") else None for one in kind.shape.dim)


# ------------------------------------------------------------------ before inference


def _take_out_constants(model: onnx.ModelProto, path: Path) -> dict[str, Shape]:
    """Turn large and external initializers into inputs of their shape; check the others."""
    import onnx

    shapes: dict[str, Shape] = {}
    taken: list[onnx.ValueInfoProto] = []
    declared = {info.name for info in model.graph.input}
    for graph in _graphs(model.graph):
        kept = []
        for tensor in graph.initializer:
            shape = tuple(tensor.dims)
            is_external = tensor.data_location == onnx.TensorProto.EXTERNAL
            if min(shape, default=0) < 0:
                raise OnnxError(f"{path}: '{tensor.name}' has shape {shape}. Check the model.")
            if not is_external:
                _check_tensor(tensor, path)
            shapes[tensor.name] = shape
            if is_external or prod(shape) > _SMALL:
                if graph is not model.graph or tensor.name not in declared:
                    taken.append(
                        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape)
                    )
            else:
                kept.append(onnx.TensorProto.FromString(tensor.SerializeToString()))
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for sparse in graph.sparse_initializer:
            name, shape = sparse.values.name, tuple(sparse.dims)
            shapes[name] = shape
            taken.append(onnx.helper.make_tensor_value_info(name, sparse.values.data_type, shape))
        del graph.sparse_initializer[:]
    model.graph.input.extend(taken)
    return shapes


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuse a tensor that declares more than it stores."""
    import onnx

    try:
        onnx.checker.check_tensor(tensor)
    except onnx.checker.ValidationError as error:
        raise OnnxError(
            f"{path}: '{tensor.name}' declares shape {tuple(tensor.dims)} but does not store it "
            f"({_first_line(error)}). The file is damaged; export the model again."
        ) from error


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for _, inner in subgraphs(node):
            yield from _graphs(inner)


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
    open_names: dict[str, str] = {}
    inputs = [one for one in model.graph.input if one.name not in constants]
    for info in inputs:
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type"):
            continue
        if not kind.HasField("shape"):
            raise OnnxError(f"{path}: input '{info.name}' has no shape. Export the model with one.")
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value >= 0 and not dim.dim_param:
                continue
            name = dim.dim_param or f"{info.name}:{axis}"
            if bind_batch and axis == 0:
                bindings.setdefault(name, 1)
            if name in bindings:
                known[name] = dim.dim_value = bindings[name]
            else:
                open_names.setdefault(name, f"axis {axis} of input '{info.name}'")
    if open_names:
        where = ", ".join(f"'{name}' ({place})" for name, place in open_names.items())
        options = " ".join(f"--bind {name}=1" for name in open_names)
        raise OnnxError(
            f"{path}: sizes not known: {where}. Every size must be; bind each, for instance "
            f"{options}"
        )
    unknown = [name for name in bindings if name not in known]
    if unknown:
        names = ", ".join(known) or "it has none"
        raise OnnxError(
            f"{path}: no symbolic dimension '{unknown[0]}' among the inputs ({names}). Bind only "
            "names that the model uses."
        )
    return known


def _forget_open_shapes(graph: onnx.GraphProto) -> None:
    """Drop declared shapes with symbols, which would hide what inference finds."""
    for one in _graphs(graph):
        closed = [
            info
            for info in one.value_info
            if (dims := _dims_of(info)) is not None and None not in dims
        ]
        kept = [type(info).FromString(info.SerializeToString()) for info in closed]
        del one.value_info[:]
        one.value_info.extend(kept)
        for info in one.output:
            if info.type.HasField("tensor_type"):
                for dim in info.type.tensor_type.shape.dim:
                    if not dim.HasField("dim_value"):
                        dim.Clear()


# ------------------------------------------------------------------------- inference


def _infer(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Check a model and infer its shapes; follow values only where shapes depend on them."""
    import onnx

    try:
        onnx.checker.check_model(model)
        found = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,
        ValueError,
        TypeError,
    ) as error:
        raise OnnxError(f"{path}: not a valid model ({_first_line(error)}).") from error
    if _is_complete(found.graph, scope_of(found.graph, None)):
        return found
    return _infer_with_values(model, path) or found


def _is_complete(graph: onnx.GraphProto, scope: Scope) -> bool:
    """Return whether the shape of every output is known."""
    for node in graph.node:
        for name in filter(None, node.output):
            dims = scope.shape(name)
            if dims is None or None in dims:
                return False
    return True


def _infer_with_values(model: onnx.ModelProto, path: Path) -> onnx.ModelProto | None:
    """Infer in a process of bounded memory: followed values can be as large as a file says.

    Returns None if the bound does not suffice. A file of 300 bytes can make onnx fill 10 GB here.
    """
    import onnx

    program = _INFERENCE.format(memory=_INFERENCE_MEMORY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=model.SerializeToString(),
            capture_output=True,
            timeout=_INFERENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OnnxError(
            f"{path}: shapes could not be inferred within {_INFERENCE_SECONDS} s. Simplify it."
        ) from error
    said = done.stderr.decode(errors="replace")
    if "Inference" in said:
        lines = said.strip().splitlines()
        raise OnnxError(
            f"{path}: shapes cannot be inferred ({_first_line(lines[-1])}). Check the model."
        )
    if done.returncode or not done.stdout:
        return None
    return onnx.load_model_from_string(done.stdout)


def _first_line(error: object) -> str:
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else words[:300] + " ..."


def _damaged(path: Path) -> OnnxError:
    return OnnxError(
        f"{path}: not a whole ONNX model: truncated, damaged, or of another format. Export it "
        "again."
    )
