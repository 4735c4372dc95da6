"""MACs of an ONNX model, node by node.

    macs = count_onnx_macs("model.onnx", bindings={"batch": 1})
    print(macs.macs_standard, macs.macs_border_exact)

Shapes decide everything, so weights are not looked at and nothing is run. A node that multiplies
and whose sizes are not known is an error; a node of a kind that is not known is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from neurodeploy.errors import OnnxError
from neurodeploy.ir.ann_layers import AnnLayerMacs, AnnMacs
from neurodeploy.onnx_models.operators import (
    ELEMENTWISE,
    INTEGER_OPERATORS,
    LAYOUT,
    OPERANDS,
    count_operator,
)
from neurodeploy.onnx_models.reading import (
    OnnxGraph,
    Scope,
    load_onnx,
    scope_of,
    subgraphs,
)

if TYPE_CHECKING:
    import onnx

_FOLDABLE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators into which a batch normalisation after them can be folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxNodeMacs:
    """MACs of one node in one pass.

    Attributes:
        name: The node's name; "<operator>_<position>" if it has none; "<outer>/<inner>" inside a
            loop or branch.
        op: Operator.
        macs_standard: By the textbook, taps on padding included.
        macs_border_exact: Without the taps on padding.
        precision: "int8" for integer operators and between Dequantize- and QuantizeLinear, else
            "float".
        weights: Stored values among its two operands.
        inputs: Values read that are not stored.
        outputs: Values written.
    """

    name: str
    op: str
    macs_standard: int
    macs_border_exact: int
    precision: str
    weights: int
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOperator:
    """A node without counted MACs.

    Attributes:
        name: As in `OnnxNodeMacs`.
        op: Operator.
        domain: Its domain; "" for ONNX's own.
        size: Values written (values read, for reductions); None if not known.
    """

    name: str
    op: str
    domain: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxMacs:
    """MACs of an ONNX model in one pass.

    Attributes:
        path: The file.
        sha256: Of the file.
        bindings: Sizes of symbolic dimensions.
        nodes: Every node that multiplies and accumulates.
        elementwise_ops: Nodes that compute without MACs.
        uncounted_nodes: Nodes of unknown kinds: the totals leave them out.
    """

    path: str
    sha256: str
    bindings: Mapping[str, int]
    nodes: tuple[OnnxNodeMacs, ...]
    elementwise_ops: tuple[OnnxOperator, ...]
    uncounted_nodes: tuple[OnnxOperator, ...]

    @property
    def macs_standard(self) -> int:
        """Textbook MACs of a pass."""
        return sum(node.macs_standard for node in self.nodes)

    @property
    def macs_border_exact(self) -> int:
        """MACs of a pass without the taps on padding."""
        return sum(node.macs_border_exact for node in self.nodes)

    @property
    def uncounted_ops(self) -> tuple[str, ...]:
        """Operators of unknown kinds, each once; empty if the count is complete."""
        return tuple(dict.fromkeys(node.op for node in self.uncounted_nodes))

    @property
    def is_integer(self) -> bool:
        """True if every MAC is of integers: the model is quantised."""
        return bool(self.nodes) and all(node.precision == "int8" for node in self.nodes)

    def to_ann(self) -> AnnMacs:
        """Return the same counts as a baseline for energies."""
        return AnnMacs(
            layers=tuple(
                AnnLayerMacs(
                    name=node.name,
                    type=node.op,
                    macs_standard=node.macs_standard,
                    macs_border_exact=node.macs_border_exact,
                    weights=node.weights,
                    inputs=node.inputs,
                    outputs=node.outputs,
                )
                for node in self.nodes
            )
        )

    def to_json(self) -> dict[str, object]:
        """Return the counts as JSON values."""
        return {
            "model": self.path,
            "sha256": self.sha256,
            "bindings": dict(self.bindings),
            "nodes": {
                node.name: {
                    "op": node.op,
                    "macs_standard": node.macs_standard,
                    "macs_border_exact": node.macs_border_exact,
                }
                for node in self.nodes
            },
            "totals": {
                "macs_standard": self.macs_standard,
                "macs_border_exact": self.macs_border_exact,
            },
            "int8_nodes": [node.name for node in self.nodes if node.precision == "int8"],
            "elementwise_ops": {
                one.name: {"op": one.op, "size": one.size} for one in self.elementwise_ops
            },
            "uncounted_ops": list(self.uncounted_ops),
            "uncounted_nodes": {
                one.name: {"op": one.op, "domain": one.domain} for one in self.uncounted_nodes
            },
        }


def count_onnx_macs(
    path: str | Path, *, bindings: Mapping[str, int] | None = None, bind_batch: bool = False
) -> OnnxMacs:
    """Count the MACs of an ONNX model.

    Args:
        path: The model. Weights stored beside it are not read.
        bindings: Size by name of a symbolic dimension of an input; "<input>:<axis>" for one
            without a name.
        bind_batch: Bind the first dimension of every input to 1 where nothing else is said.

    Raises:
        OnnxError: If the file is no whole ONNX model, a dimension is not known, or the package
            `onnx` is not installed.
    """
    return count_graph_macs(load_onnx(Path(path), bindings=bindings, bind_batch=bind_batch))


def count_graph_macs(graph: OnnxGraph) -> OnnxMacs:
    """Count the MACs of a model that has been read.

    Raises:
        OnnxError: If a dimension is not known.
    """
    tally = _Tally(str(graph.path))
    tally.walk(graph.model.graph, graph.scope(), prefix="", times=1)
    return OnnxMacs(
        path=str(graph.path),
        sha256=graph.sha256,
        bindings=dict(graph.bindings),
        nodes=tuple(tally.nodes),
        elementwise_ops=tuple(tally.elementwise),
        uncounted_nodes=tuple(tally.uncounted),
    )


def node_names(graph: onnx.GraphProto) -> list[str]:
    """Return every node a name of its own: its given one, else its operator and position."""
    used: dict[str, int] = {}
    names = []
    for position, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{position}"
        used[name] = used.get(name, 0) + 1
        while used[name] > 1 and f"{name}#{used[name]}" in used:
            used[name] += 1
        unique = name if used[name] == 1 else f"{name}#{used[name]}"
        used.setdefault(unique, 1)
        names.append(unique)
    return names


@dataclass(slots=True)
class _Tally:
    """The nodes counted so far."""

    path: str
    nodes: list[OnnxNodeMacs] = field(default_factory=list)
    elementwise: list[OnnxOperator] = field(default_factory=list)
    uncounted: list[OnnxOperator] = field(default_factory=list)

    def walk(self, graph: onnx.GraphProto, scope: Scope, *, prefix: str, times: int) -> None:
        """Count a graph that is run `times` times."""
        producers = {name: node for node in graph.node for name in node.output if name}
        readers: dict[str, int] = {}
        for name in (
            *(n for node in graph.node for n in node.input),
            *(info.name for info in graph.output),
        ):
            readers[name] = readers.get(name, 0) + 1
        for node, own in zip(graph.node, node_names(graph), strict=True):
            name = prefix + own
            if node.domain not in ("", "ai.onnx"):
                self.uncounted.append(OnnxOperator(name=name, op=node.op_type, domain=node.domain))
            elif node.op_type in OPERANDS:
                self._add_macs(node, scope, name, times, producers)
            elif node.op_type in ("If", "Loop", "Scan"):
                self._enter(node, scope, name, times)
            elif node.op_type in ELEMENTWISE:
                self._add_elementwise(node, scope, name, times, producers, readers)
            elif node.op_type not in LAYOUT:
                self.uncounted.append(OnnxOperator(name=name, op=node.op_type))

    def _add_macs(
        self,
        node: onnx.NodeProto,
        scope: Scope,
        name: str,
        times: int,
        producers: Mapping[str, onnx.NodeProto],
    ) -> None:
        standard, exact = count_operator(node, scope, name=f"{self.path}: {name}")
        positions = OPERANDS[node.op_type]
        operands = list(node.input) if node.op_type == "Einsum" else []
        operands = operands or [node.input[position] for position in positions]
        if node.op_type in ("LSTM", "GRU", "RNN"):
            operands.append(node.input[2])
        stored = [name for name in operands if _is_stored(name, scope, producers)]
        is_integer = node.op_type in INTEGER_OPERATORS or all(
            one in producers and producers[one].op_type == "DequantizeLinear" for one in operands
        )
        self.nodes.append(
            OnnxNodeMacs(
                name=name,
                op=node.op_type,
                macs_standard=standard * times,
                macs_border_exact=exact * times,
                precision="int8" if is_integer else "float",
                weights=sum(_size(one, scope) or 0 for one in stored),
                inputs=times * sum(_size(one, scope) or 0 for one in operands if one not in stored),
                outputs=times * (_size(next(filter(None, node.output), ""), scope) or 0),
            )
        )

    def _add_elementwise(
        self,
        node: onnx.NodeProto,
        scope: Scope,
        name: str,
        times: int,
        producers: Mapping[str, onnx.NodeProto],
        readers: Mapping[str, int],
    ) -> None:
        source = node.input[0] if node.input else ""
        if node.op_type == "BatchNormalization":
            before = producers.get(source)
            if before is not None and before.op_type in _FOLDABLE and readers[source] == 1:
                return
        reads = node.op_type.startswith(("Reduce", "Arg")) or node.op_type == "TopK"
        size = _size(source if reads else next(filter(None, node.output), ""), scope)
        self.elementwise.append(
            OnnxOperator(name=name, op=node.op_type, size=None if size is None else size * times)
        )

    def _enter(self, node: onnx.NodeProto, scope: Scope, name: str, times: int) -> None:
        """Count the graphs inside a node as often as they are known to run."""
        inner = dict(subgraphs(node))
        if node.op_type == "If":
            taken = scope.value(node.input[0])
            if taken is not None:
                inner = {key: inner[key] for key in (("else_branch", "then_branch")[taken[0]],)}
            runs: int | None = None if taken is None else 1
        elif node.op_type == "Loop":
            runs = _loop_count(node, inner["body"], scope)
        else:
            runs = _scan_count(node, scope)
        for key, graph in inner.items():
            if runs is None and (found := _first_mac(graph)):
                raise OnnxError(
                    f"{self.path}: {name}: how often this {node.op_type} runs its {found} is not "
                    "known from the model, so its MACs are not. Export with a fixed "
                    f"{'branch' if node.op_type == 'If' else 'number of iterations'}, or unrolled."
                )
            step = f"{name}/{key}/" if len(inner) > 1 else f"{name}/"
            self.walk(
                graph,
                scope_of(graph, scope),
                prefix=step,
                times=times * (1 if runs is None else runs),
            )


def _is_stored(name: str, scope: Scope, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Return whether a tensor is stored, or made of stored ones by moving and scaling alone."""
    while name in producers and not scope.is_constant(name):
        before = producers[name]
        if before.op_type not in LAYOUT or not before.input:
            return False
        name = before.input[0]
    return scope.is_constant(name)


def _size(name: str, scope: Scope) -> int | None:
    dims = scope.shape(name)
    if dims is None:
        return None
    known = [dim for dim in dims if dim is not None]
    return prod(known) if len(known) == len(dims) else None


def _first_mac(graph: onnx.GraphProto) -> str | None:
    for node in graph.node:
        if node.op_type in OPERANDS and node.domain in ("", "ai.onnx"):
            return str(node.op_type)
        for _, inner in subgraphs(node):
            if (found := _first_mac(inner)) is not None:
                return found
    return None


def _loop_count(node: onnx.NodeProto, body: onnx.GraphProto, scope: Scope) -> int | None:
    """Return a loop's iterations if its limit is stored and its condition stays true."""
    limit = scope.value(node.input[0]) if node.input[0] else None
    start = scope.value(node.input[1]) if len(node.input) > 1 and node.input[1] else (1,)
    if start is not None and not start[0]:
        return 0
    if limit is None or start is None:
        return None
    producers = {name: one for one in body.node for name in one.output}
    condition, entering = body.output[0].name, body.input[1].name
    while condition in producers and producers[condition].op_type == "Identity":
        condition = producers[condition].input[0]
    goes_on = condition == entering or scope_of(body, scope).value(condition) == (1,)
    return max(limit[0], 0) if goes_on else None


def _scan_count(node: onnx.NodeProto, scope: Scope) -> int | None:
    """Return a scan's iterations: the length of what it runs over."""
    numbers = {one.name: one.i for one in node.attribute if one.name == "num_scan_inputs"}
    scanned = numbers["num_scan_inputs"]
    axes = next((list(a.ints) for a in node.attribute if a.name == "scan_input_axes"), [0])
    dims = scope.shape(node.input[len(node.input) - scanned])
    return None if not dims else dims[axes[0]]
