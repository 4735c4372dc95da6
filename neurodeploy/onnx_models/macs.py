"""MACs of an ONNX model, node by node.

    macs = count_onnx_macs("model.onnx", bindings={"batch": 1})
    print(macs.macs_standard, macs.macs_border_exact)

Shapes decide everything, so weights are not looked at and no layer is run. A node that multiplies
and whose sizes are not known is an error; a node of a kind that is not known is listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from neurodeploy.errors import OnnxError
from neurodeploy.ir.float_layers import Shape
from neurodeploy.ir.graphs import AnnLayerMacs, AnnMacs
from neurodeploy.onnx_models.operators import (
    ELEMENTWISE,
    INTEGER_OPERATORS,
    LAYOUT,
    OPERANDS,
    count_operator,
    operator_key,
)
from neurodeploy.onnx_models.reading import (
    ONNX,
    OnnxGraph,
    load_onnx,
    reading_seconds,
    require_onnx,
)
from neurodeploy.onnx_models.shapes import Scope, first_output, subgraphs
from neurodeploy.untrusted.isolation import run_apart

if TYPE_CHECKING:
    import onnx

_FOLDABLE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators into which a batch normalisation after them can be folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxNodeMacs(AnnLayerMacs):
    """MACs of one node in one pass.

    A node without a name is called "<operator>_<position>"; one inside a loop, a branch or a
    definition "<outer>/<inner>". Operands that are not stored are its inputs.

    Attributes:
        precision: "int8" for integer operators and between Dequantize- and QuantizeLinear, else
            "float".
    """

    precision: str

    @property
    def op(self) -> str:
        """Its operator."""
        return self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOperator:
    """A node without counted MACs.

    Attributes:
        domain: The operator's; "" for ONNX's own.
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
        name: Of the model's graph.
        bindings: Sizes of symbolic dimensions.
        stored: Number of stored values.
        samples: The first dimension that every input and output shares; 1 if there is none.
        nodes: Every node that multiplies and accumulates.
        elementwise_ops: Nodes that compute without MACs.
        uncounted_nodes: Nodes of unknown kinds: the totals leave them out.
    """

    path: str
    sha256: str
    name: str
    bindings: Mapping[str, int]
    inputs: Mapping[str, Shape]
    stored: int
    samples: int
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

    def share(self, count: int) -> int:
        """Return the share of one sample in a count of a pass.

        A count that the number of samples does not divide belongs to a node that every pass runs
        once, with one sample as with many: it is kept.
        """
        return count if count % self.samples else count // self.samples

    def per_sample(self) -> OnnxMacs:
        """Return the counts of one sample of a pass."""
        nodes = [
            replace(
                node,
                macs_standard=self.share(node.macs_standard),
                macs_border_exact=self.share(node.macs_border_exact),
                inputs=self.share(node.inputs),
                outputs=self.share(node.outputs),
            )
            for node in self.nodes
        ]
        elementwise = [
            replace(entry, size=None if entry.size is None else self.share(entry.size))
            for entry in self.elementwise_ops
        ]
        return replace(self, samples=1, nodes=tuple(nodes), elementwise_ops=tuple(elementwise))

    def to_ann(self) -> AnnMacs:
        """Return the same counts as a baseline for energies."""
        names = [entry.name for entry in fields(AnnLayerMacs)]
        rows = ({name: getattr(node, name) for name in names} for node in self.nodes)
        return AnnMacs(layers=tuple(AnnLayerMacs(**row) for row in rows))

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
            "samples": self.samples,
            "per_sample": {
                "macs_standard": self.per_sample().macs_standard,
                "macs_border_exact": self.per_sample().macs_border_exact,
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
    """Count the MACs of an ONNX model, in a process with limits on time and memory.

    Args:
        path: The model. Weights stored beside it are not read.
        bindings: Size by name of a symbolic dimension of an input; "<input>:<axis>" for one
            without a name.
        bind_batch: Bind the first dimension of every input to 1 where nothing else is said.

    Raises:
        OnnxError: If the file is no whole ONNX model, a dimension is not known, reading exceeds
            the limits, or the package `onnx` is not installed.

    Example:
        >>> nd.export_twin(nd.load_example().graph, "twin.onnx")
        >>> macs = nd.count_onnx_macs("twin.onnx", bind_batch=True)
        >>> macs.macs_standard, [node.op for node in macs.nodes]
        (6400, ['Conv', 'Conv', 'Gemm'])
    """
    require_onnx(str(path))
    return run_apart(
        _count,
        path := Path(path),
        dict(bindings or {}),
        bind_batch,
        kind=ONNX,
        more_seconds=reading_seconds(path),
    )


def _count(path: Path, bindings: Mapping[str, int], bind_batch: bool) -> OnnxMacs:
    graph = load_onnx(path, bindings=bindings, bind_batch=bind_batch)
    tally = _Tally(str(path))
    tally.walk(graph.model.graph, graph.scope)
    return OnnxMacs(
        path=str(path),
        sha256=graph.sha256,
        name=graph.model.graph.name,
        bindings=dict(graph.bindings),
        inputs=dict(graph.inputs),
        stored=sum(prod(shape) for shape in graph.constants.values()),
        samples=_samples(graph),
        nodes=tuple(tally.nodes),
        elementwise_ops=tuple(tally.elementwise),
        uncounted_nodes=tuple(tally.uncounted),
    )


def _samples(graph: OnnxGraph) -> int:
    """Return the first dimension that all inputs and outputs share, if it can be the batch."""
    shapes = [*graph.inputs.values()]
    shapes += [graph.scope.sizes(info.name) or () for info in graph.model.graph.output]
    first = {shape[:1] for shape in shapes}
    for node in graph.model.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN") and node.input[0] in graph.inputs:
            layout = next((entry.i for entry in node.attribute if entry.name == "layout"), 0)
            if not layout:  # then the first dimension is time
                return 1
    return max(1, *first.pop()) if len(first) == 1 and () not in first else 1


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

    def walk(
        self, graph: onnx.GraphProto, scope: Scope, *, prefix: str = "", times: int = 1
    ) -> None:
        """Count a graph that is run `times` times."""
        producers = {name: node for node in graph.node for name in node.output if name}
        reads = Counter(name for node in graph.node for name in node.input)
        reads.update(info.name for info in graph.output)
        for node, own in zip(graph.node, node_names(graph), strict=True):
            name, operator = prefix + own, operator_key(node)
            if operator in OPERANDS:
                self.nodes.append(self._macs_of(node, scope, name, times, producers))
            elif any(True for _ in subgraphs(node)):
                self._enter(node, scope, name, times)
            elif operator in ELEMENTWISE:
                if not _is_folded(node, producers, reads):
                    size = _elements(node, scope)
                    size = None if size is None else size * times
                    self.elementwise.append(OnnxOperator(name=name, op=node.op_type, size=size))
            elif operator not in LAYOUT:
                definition = scope.resolver.expand(node, scope)
                if definition is None:
                    missed = OnnxOperator(name=name, op=node.op_type, domain=node.domain)
                    self.uncounted.append(missed)
                else:
                    self.walk(*definition, prefix=f"{name}/", times=times)

    def _macs_of(
        self,
        node: onnx.NodeProto,
        scope: Scope,
        name: str,
        times: int,
        producers: Mapping[str, onnx.NodeProto],
    ) -> OnnxNodeMacs:
        standard, exact = count_operator(node, scope, name=f"{self.path}: {name}")
        positions = OPERANDS[operator_key(node)]
        operands = list(node.input) if node.op_type == "Einsum" else []
        operands = operands or [node.input[position] for position in dict.fromkeys(positions)]
        if node.op_type in ("LSTM", "GRU", "RNN"):
            operands.append(node.input[2])
        stored = [name for name in operands if _is_stored(name, scope, producers)]
        is_integer = operator_key(node) in INTEGER_OPERATORS or all(
            one in producers and producers[one].op_type == "DequantizeLinear" for one in operands
        )
        return OnnxNodeMacs(
            name=name,
            type=node.op_type,
            macs_standard=standard * times,
            macs_border_exact=exact * times,
            precision="int8" if is_integer else "float",
            weights=sum(_size(one, scope) or 0 for one in stored),
            inputs=times * sum(_size(one, scope) or 0 for one in operands if one not in stored),
            outputs=times * (_size(first_output(node), scope) or 0),
        )

    def _enter(self, node: onnx.NodeProto, scope: Scope, name: str, times: int) -> None:
        """Count the graphs inside a node as often as they are known to run."""
        inner = dict(subgraphs(node))
        output = first_output(node)
        runs = scope.runs[output]
        if node.op_type == "If" and runs is not None:
            taken = (scope.integers(node.input[0]) or (0,))[0]
            branch = ("else_branch", "then_branch")[taken]
            inner = {branch: inner[branch]}
        for key, graph in inner.items():
            if runs is None and (found := _first_mac(graph)):
                raise OnnxError(
                    f"{self.path}: {name}: how often this {node.op_type} runs its {found} is not "
                    "known from the model, so its MACs are not. Export with a fixed "
                    f"{'branch' if node.op_type == 'If' else 'number of iterations'}, or unrolled."
                )
            step = f"{name}/{key}/" if len(inner) > 1 else f"{name}/"
            rounds = times * (1 if runs is None else runs)
            self.walk(graph, scope.inner[output, key], prefix=step, times=rounds)


def _is_folded(
    node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto], reads: Mapping[str, int]
) -> bool:
    """Return whether a batch normalisation can be folded into the operator before it."""
    if node.op_type != "BatchNormalization" or node.input[0] not in producers:
        return False
    return operator_key(producers[node.input[0]]) in _FOLDABLE and reads[node.input[0]] == 1


def _elements(node: onnx.NodeProto, scope: Scope) -> int | None:
    """Return how many values an operator writes, or reads if it reduces them."""
    reduces = node.op_type.startswith(("Reduce", "Arg")) or node.op_type == "TopK"
    return _size(node.input[0] if reduces else first_output(node), scope)


def _is_stored(name: str, scope: Scope, producers: Mapping[str, onnx.NodeProto]) -> bool:
    """Return whether a tensor is stored, or made of stored ones by moving and scaling alone."""
    while name in producers and name not in scope.constants:
        before = producers[name]
        if before.op_type not in LAYOUT or not before.input:
            return False
        name = before.input[0]
    return name in scope.constants


def _size(name: str, scope: Scope) -> int | None:
    sizes = scope.sizes(name)
    return None if sizes is None else prod(sizes)


def _first_mac(graph: onnx.GraphProto) -> str | None:
    for node in graph.node:
        if operator_key(node) in OPERANDS:
            return str(node.op_type)
        for _, inner in subgraphs(node):
            if found := _first_mac(inner):
                return found
    return None
