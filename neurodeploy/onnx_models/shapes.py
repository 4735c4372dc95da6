"""The shape of every tensor of a model whose inputs have fixed shapes.

Shapes can pass through values: the size of a tensor is read, divided, joined, and given to Reshape.
So the small values of a model are computed along with its shapes, node by node: the nodes that
follow from sizes and stored numbers alone are run, and no others.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurodeploy.ir.float_layers import Shape
from neurodeploy.onnx_models.sessions import open_session

if TYPE_CHECKING:
    import onnx

SMALL = 1024
"""Elements of a value that may decide shapes and is therefore kept."""

_UNBOUNDED = ("Compress", "NonZero", "Unique")
"""Operators whose result has a size of its own, at most that of their small inputs times a rank."""

_RANDOM = ("Random", "Bernoulli", "Multinomial")
"""Beginnings of the names of operators that give another value at every run."""

Dims = tuple[int | None, ...]
Value = npt.NDArray[np.generic]


@dataclass(slots=True, eq=False)
class Scope:
    """The known shapes and values of a graph; a subgraph sees those around it as well.

    Attributes:
        resolver: That of the model.
        types: Types by name, with their shapes as far as they are known.
        constants: Names of stored tensors.
        values: Small values that follow from sizes and stored numbers.
        inner: The scope of each graph inside a node, by the node's first output and the name of
            the attribute that holds the graph.
        runs: How often a node runs its graph, by its first output; None if that is not known.
    """

    resolver: ShapeResolver
    types: ChainMap[str, onnx.TypeProto] = field(default_factory=ChainMap)
    constants: set[str] = field(default_factory=set)
    values: ChainMap[str, Value] = field(default_factory=ChainMap)
    inner: dict[tuple[str, str], Scope] = field(default_factory=dict)
    runs: dict[str, int | None] = field(default_factory=dict)

    def shape(self, name: str) -> Dims | None:
        """Return a tensor's dimensions, None if not even their number is known."""
        kind = self.types.get(name)
        return None if kind is None else dims_of(kind)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return the elements of a small value of integers or booleans; None if it is none."""
        value = self.values.get(name)
        if value is None or value.dtype.kind not in "iub":
            return None
        return tuple(int(element) for element in value.reshape(-1))

    def sizes(self, name: str) -> Shape | None:
        """Return a tensor's dimensions if all of them are known."""
        dims = self.shape(name)
        if dims is None:
            return None
        known = tuple(dim for dim in dims if dim is not None)
        return known if len(known) == len(dims) else None


class ShapeResolver:
    """Shapes and small values of the graphs of one model, and versions of its operator sets."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take the operator sets of a model."""
        self._imports = list(model.opset_import)
        self._ir_version = model.ir_version
        self.opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}

    def resolve(
        self,
        graph: onnx.GraphProto,
        *,
        outer: Scope | None = None,
        stored: Mapping[str, Shape] | None = None,
        types: Mapping[str, onnx.TypeProto] | None = None,
        values: Mapping[str, Value] | None = None,
    ) -> Scope:
        """Find the shapes of a graph, whose nodes are in the order in which they run.

        Args:
            graph: The graph.
            outer: The scope around it.
            stored: Shapes of constants that were taken out of it.
            types: Types that are known better than the graph declares them.
            values: Values of its inputs.
        """
        import onnx

        scope = Scope(self)
        if outer is not None:
            scope.types, scope.values = outer.types.new_child(), outer.values.new_child()
            scope.constants |= outer.constants
        scope.values |= values or {}
        for info in (*graph.input, *graph.value_info, *graph.output):
            if info.HasField("type"):
                scope.types[info.name] = info.type
        scope.types |= types or {}
        for name, shape in (stored or {}).items():
            scope.constants.add(name)
            if (kind := scope.types.get(name)) is not None:
                scope.types[name] = _tensor_type(kind, shape)
        for tensor in graph.initializer:
            scope.constants.add(tensor.name)
            self._store(scope, tensor.name, onnx.numpy_helper.to_array(tensor))
        for node in graph.node:
            if any(True for _ in subgraphs(node)):
                self._enter(node, scope)
            else:
                self._infer(node, scope)
                self._compute(node, scope)
            if node.op_type == "Constant" and not _domain(node.domain):
                scope.constants.add(node.output[0])
        return scope

    def expand(self, node: onnx.NodeProto, scope: Scope) -> tuple[onnx.GraphProto, Scope] | None:
        """Return the graph of simpler operators that defines a standard operator, and its scope."""
        import onnx
        from onnx.inliner import inline_local_functions

        schema, body = self._schema(node), self._definition(node, scope)
        names = [name for name in node.input if name]
        if schema is None or body is None or not all(name in scope.types for name in names):
            return None
        call = onnx.NodeProto.FromString(node.SerializeToString())
        body.domain = call.domain = "definitions"
        given = {entry.name for entry in call.attribute}
        call.attribute.extend(
            entry.default_value
            for name, entry in schema.attributes.items()
            if name not in given and entry.default_value.name
        )
        # A definition may leave out the operator sets that it shares with the model.
        versions = self.opsets | {entry.domain: entry.version for entry in body.opset_import}
        imports = [onnx.helper.make_opsetid(*entry) for entry in versions.items()]
        del body.opset_import[:]
        body.opset_import.extend(imports)
        imports.append(onnx.helper.make_opsetid("definitions", 1))
        model = self._model_of(call, scope)
        del model.opset_import[:]
        model.opset_import.extend(imports)
        model.functions.append(body)
        model.ir_version = max(self._ir_version, 10)
        model = inline_local_functions(model)
        resolved = ShapeResolver(model).resolve(
            model.graph,
            types={name: scope.types[name] for name in node.output if name in scope.types},
            values=_known(scope, names),
        )
        resolved.constants |= scope.constants.intersection(names)
        return model.graph, resolved

    def _definition(self, node: onnx.NodeProto, scope: Scope) -> onnx.FunctionProto | None:
        import onnx

        schema: Any = self._schema(node)  # the stubs of onnx leave the definitions out
        if schema is None or not (schema.has_function or schema.has_context_dependent_function):
            return None
        versions = schema.context_dependent_function_opset_versions
        if schema.has_function:
            versions = schema.function_opset_versions
        opset = self.opsets[_domain(node.domain)]
        version = max((v for v in versions if v <= opset), default=min(versions))
        if schema.has_function:
            content: bytes = schema.get_function_with_opset_version(version)
        else:
            kinds = [scope.types.get(name) for name in node.input]
            content = schema.get_context_dependent_function_with_opset_version(
                version,
                node.SerializeToString(),
                [b"" if kind is None else kind.SerializeToString() for kind in kinds],
            )
        return onnx.FunctionProto.FromString(content) if content else None

    def _schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema | None:
        import onnx

        domain = _domain(node.domain)
        try:
            return onnx.defs.get_schema(node.op_type, self.opsets.get(domain, 0), domain)
        except onnx.defs.SchemaError:
            return None

    def _infer(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Find the shapes of a node's outputs, unless they are known."""
        from onnx.shape_inference import InferenceError, infer_node_outputs

        if all(scope.sizes(name) is not None for name in node.output if name):
            return
        names = [name for name in node.input if name]
        if not all(name in scope.types for name in names):
            return
        schema = self._schema(node)
        if schema is None:
            outputs = self._ask_runtime(node, scope)
        else:
            try:
                outputs = infer_node_outputs(
                    schema,
                    node,
                    {name: scope.types[name] for name in names},
                    {name: to_tensor(name, value) for name, value in _known(scope, names).items()},
                    opset_imports=self._imports,
                    ir_version=self._ir_version,
                )
            except (InferenceError, RuntimeError):
                outputs = {}
            if any(dims_of(kind) is None for kind in outputs.values()) or not outputs:
                definition = self.expand(node, scope)
                inner = {} if definition is None else definition[1].types
                outputs |= {name: inner[name] for name in node.output if name in inner}
        for name, kind in outputs.items():
            if name and scope.sizes(name) is None:
                scope.types[name] = kind

    def _ask_runtime(self, node: onnx.NodeProto, scope: Scope) -> dict[str, onnx.TypeProto]:
        """Return the types that onnxruntime finds for an operator of its own."""
        if find_spec("onnxruntime") is None or not _domain(node.domain).startswith("com.microsoft"):
            return {}
        import onnx
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        model = self._model_of(node, scope, _known(scope, node.input))
        try:
            session = open_session(model, is_optimized=False)
        except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented):
            return {}
        found = {}
        for output in session.get_outputs():
            name = output.type.removeprefix("tensor(").removesuffix(")").upper()
            if (element := getattr(onnx.TensorProto, name, None)) is not None:
                dims = [dim if isinstance(dim, int) else None for dim in output.shape]
                found[output.name] = onnx.helper.make_tensor_type_proto(element, dims)
        return found

    def _model_of(
        self, node: onnx.NodeProto, scope: Scope, stored: Mapping[str, Value] | None = None
    ) -> onnx.ModelProto:
        """Return a model of one node, some of whose inputs are stored."""
        import onnx

        stored = stored or {}
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.ValueInfoProto(name=name, type=scope.types.get(name))
                for name in dict.fromkeys(node.input)
                if name and name not in stored
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
            [to_tensor(name, value) for name, value in stored.items()],
        )
        return onnx.helper.make_model(
            graph, opset_imports=self._imports, ir_version=self._ir_version
        )

    def _compute(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Run a node if its inputs are known values and its outputs are small."""
        if _domain(node.domain) or not node.output:
            return
        if node.op_type in ("Shape", "Size"):
            dims = scope.sizes(node.input[0])
            if dims is not None:
                options = {entry.name: entry.i for entry in node.attribute}
                part = dims[slice(options.get("start"), options.get("end"))]
                count = part if node.op_type == "Shape" else prod(dims)
                self._store(scope, node.output[0], np.array(count, dtype=np.int64))
            return
        feed = _known(scope, node.input)
        if node.op_type.startswith(_RANDOM) or any(x and x not in feed for x in node.input):
            return
        sizes = [scope.sizes(name) for name in node.output if name]
        is_small = all(size is not None and prod(size) <= SMALL for size in sizes)
        if is_small or node.op_type in _UNBOUNDED:
            for name, value in self._run(node, scope, feed).items():
                self._store(scope, name, value)

    def _run(
        self, node: onnx.NodeProto, scope: Scope, feed: Mapping[str, Value]
    ) -> dict[str, Value]:
        """Run one node; an empty answer if it cannot be run."""
        from onnx.reference import ReferenceEvaluator

        try:
            results = ReferenceEvaluator(self._model_of(node, scope)).run(None, dict(feed))
        except Exception:  # a value that Python cannot compute is a value that is not known
            return {}
        return {
            name: np.asarray(result)
            for name, result in zip(filter(None, node.output), results, strict=True)
            if isinstance(result, np.ndarray | np.generic)
        }

    @staticmethod
    def _store(scope: Scope, name: str, value: Value) -> None:
        import onnx

        if value.size <= SMALL:
            scope.values[name] = value
        scope.types[name] = onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )

    # -------------------------------------------------------------- graphs inside nodes

    def _enter(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Resolve the graphs inside a node, and the node's outputs with them."""
        key, bodies = first_output(node), dict(subgraphs(node))
        operator = "" if _domain(node.domain) else node.op_type
        if operator == "Loop":
            self._loop(node, bodies["body"], scope, key)
        elif operator == "Scan":
            self._scan(node, bodies["body"], scope, key)
        else:
            for name, body in bodies.items():
                scope.inner[key, name] = self.resolve(body, outer=scope)
            scope.runs[key] = None
            if operator == "If":
                self._branch(node, bodies, scope, key)

    def _branch(
        self, node: onnx.NodeProto, bodies: Mapping[str, onnx.GraphProto], scope: Scope, key: str
    ) -> None:
        taken = scope.integers(node.input[0])
        if not taken:
            return
        scope.runs[key] = 1
        branch = ("else_branch", "then_branch")[taken[0]]
        inner = scope.inner[key, branch]
        for name, info in zip(node.output, bodies[branch].output, strict=False):
            if name and info.name in inner.types:
                scope.types[name] = inner.types[info.name]
            if name and info.name in inner.values:
                scope.values[name] = inner.values[info.name]

    def _loop(self, node: onnx.NodeProto, body: onnx.GraphProto, scope: Scope, key: str) -> None:
        """Resolve a loop; its state is taken to keep its shape if one round keeps it."""
        start = list(node.input[2:])
        states = [info.name for info in body.input[2:]]
        types = _types_of(states, [scope.types.get(name) for name in start])
        inner = self.resolve(body, outer=scope, types=types)
        after = [info.name for info in body.output[1 : 1 + len(states)]]
        if any(inner.shape(a) != inner.shape(b) for a, b in zip(states, after, strict=False)):
            # Shapes differ from round to round: only those that the body itself declares hold.
            inner = self.resolve(body, outer=scope)
        scope.inner[key, "body"] = inner
        runs = scope.runs[key] = _rounds(node, body, scope, inner)
        final = [inner.types.get(name) for name in after]
        scanned = body.output[1 + len(states) :]
        final += [_stacked(inner.types.get(info.name), runs, axis=0) for info in scanned]
        scope.types |= _types_of(node.output, final, unless=scope)

    def _scan(self, node: onnx.NodeProto, body: onnx.GraphProto, scope: Scope, key: str) -> None:
        """Resolve a scan, which runs once for each slice of its inputs."""
        import onnx

        options = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        scanned = int(options["num_scan_inputs"])
        states = len(node.input) - scanned
        axes = list(options.get("scan_input_axes", [])) or [0] * scanned
        is_old = self.opsets.get("", 0) < 9  # then with a batch, and lengths of its own
        kinds = [scope.types.get(name) for name in node.input]
        dims = scope.shape(node.input[states])
        kinds[states:] = [
            _sliced(kind, axis) for kind, axis in zip(kinds[states:], axes, strict=True)
        ]
        names = [info.name for info in body.input]
        types = {} if is_old else _types_of(names, kinds)
        inner = scope.inner[key, "body"] = self.resolve(body, outer=scope, types=types)
        runs = scope.runs[key] = None if is_old or not dims else dims[axes[0]]
        out_axes = list(options.get("scan_output_axes", [])) or [0] * (len(body.output) - states)
        final = [inner.types.get(info.name) for info in body.output]
        final[states:] = [
            _stacked(kind, runs, axis) for kind, axis in zip(final[states:], out_axes, strict=True)
        ]
        if not is_old:
            scope.types |= _types_of(node.output, final, unless=scope)


def _rounds(node: onnx.NodeProto, body: onnx.GraphProto, scope: Scope, inner: Scope) -> int | None:
    """Return a loop's rounds if its limit is known and its condition stays true."""
    limit = scope.integers(node.input[0]) if node.input[0] else None
    has_start = len(node.input) > 1 and node.input[1]
    start = scope.integers(node.input[1]) if has_start else (1,)
    if start is not None and not start[0]:
        return 0
    if limit is None or start is None:
        return None
    producers = {name: entry for entry in body.node for name in entry.output}
    condition, entering = body.output[0].name, body.input[1].name
    while condition in producers and producers[condition].op_type == "Identity":
        condition = producers[condition].input[0]
    goes_on = condition == entering or inner.integers(condition) == (1,)
    return max(limit[0], 0) if goes_on else None


def first_output(node: onnx.NodeProto) -> str:
    """Return the name of a node's first output that has one; "" if none has."""
    return next(filter(None, node.output), "")


def subgraphs(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """Yield the graphs inside a node by the name of their attribute."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}{number}", graph


def dims_of(kind: onnx.TypeProto) -> Dims | None:
    """Return the dimensions of a tensor type; None for a dimension, or all, that it leaves open."""
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
        for dim in kind.tensor_type.shape.dim
    )


def to_tensor(name: str, value: Value) -> onnx.TensorProto:
    """Return a value as a tensor of an ONNX model."""
    import onnx

    return onnx.numpy_helper.from_array(value, name)


def _known(scope: Scope, names: Iterable[str]) -> dict[str, Value]:
    """Return the values that are known, by name."""
    return {name: scope.values[name] for name in names if name in scope.values}


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _types_of(
    names: Iterable[str], kinds: Sequence[onnx.TypeProto | None], unless: Scope | None = None
) -> dict[str, onnx.TypeProto]:
    """Return the known types by name; those that `unless` knows in full are left out."""
    return {
        name: kind
        for name, kind in zip(names, kinds, strict=False)
        if name and kind is not None and (unless is None or unless.sizes(name) is None)
    }


def _stacked(kind: onnx.TypeProto | None, runs: int | None, axis: int) -> onnx.TypeProto | None:
    """Return the type of the results of all rounds, joined along a new axis."""
    if kind is None or (dims := dims_of(kind)) is None:
        return None
    position = axis if axis >= 0 else len(dims) + 1 + axis
    return _tensor_type(kind, (*dims[:position], runs, *dims[position:]))


def _sliced(kind: onnx.TypeProto | None, axis: int) -> onnx.TypeProto | None:
    """Return the type of one slice along an axis."""
    if kind is None or not (dims := dims_of(kind)):
        return None
    position = axis % len(dims)
    return _tensor_type(kind, dims[:position] + dims[position + 1 :])


def _tensor_type(kind: onnx.TypeProto, dims: Dims) -> onnx.TypeProto:
    import onnx

    return onnx.helper.make_tensor_type_proto(kind.tensor_type.elem_type, dims)
