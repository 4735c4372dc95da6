"""Follow an ordinary torch module with torch.fx: its layers as a `Graph` of floats."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from neurodeploy.conversion.module_layers import (
    ARGUMENTS,
    UnfitError,
    advice_on,
    layer_of_function,
    layer_of_module,
)
from neurodeploy.errors import Obstacle, TraceError, list_obstacles
from neurodeploy.ir.float_layers import Addition, Input, Layer, Rectifier, Shape
from neurodeploy.ir.graphs import Graph

_OF_HOST = ("softmax", "log_softmax", "sigmoid", "Softmax", "LogSoftmax", "Sigmoid")
"""Functions and modules that the host computes of the results."""
_ADD = ("add", "add_", "iadd")


@dataclass(frozen=True, slots=True, eq=False)
class ExaminedModule:
    """A module and all that stands in its way.

    Attributes:
        graph: Its layers; with obstacles, those that are left if rectifiers take their places, or
            None where that makes no network.
        after: Operators that the host applies to the results.
        obstacles: Layers without a place in a network of rectified layers.
    """

    graph: Graph | None
    after: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]


def trace_rectified(module: nn.Module, shape: Shape) -> Graph:
    """Return the graph of `examine_module`.

    Raises:
        TraceError: As there; and if layers have no place in a network of rectified layers, all of
            them are named.
    """
    examined = examine_module(module, shape)
    if examined.obstacles:
        raise list_obstacles(TraceError, f"{type(module).__name__}: ", examined.obstacles)
    assert examined.graph is not None
    return examined.graph


def examine_module(module: nn.Module, shape: Shape) -> ExaminedModule:
    """Follow a module in eval mode, whatever its layers are.

    Args:
        module: Convolutions, linear layers, batch norms, pools, ReLU, ReLU6, LeakyReLU, PReLU,
            additions, flattening, as modules or functions; a Softmax or Sigmoid at the end is left
            to the host.
        shape: Of a frame, (C, H, W) or (N,).

    Raises:
        TraceError: If torch.fx cannot follow its forward method.
    """
    module = module.eval()
    parameter = next(module.parameters(), torch.zeros(1))
    try:
        traced = fx.symbolic_trace(module)
        found = _Shapes(traced)
        with torch.no_grad():
            found.run(torch.zeros(1, *shape, dtype=parameter.dtype, device=parameter.device))
    except Exception as error:
        raise TraceError(
            f"{type(module).__name__}: cannot be followed ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''}). Its forward method must not "
            f"depend on values and must take frames of {shape}; export it to ONNX otherwise."
        ) from error
    return _Tracing(traced, found, shape).examine()


class _Shapes(fx.Interpreter):
    """Runs a traced module and keeps the shape of every result.

    Attributes:
        shapes: Of tensors, by node.
        sizes: Nodes that are no tensors.
        constants: Results that hang on parameters alone, by node.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, Shape] = {}
        self.sizes: set[str] = set()
        self.constants: dict[str, object] = {}

    def run_node(self, node: fx.Node) -> object:
        """Run one node."""
        result = super().run_node(node)
        if node.op != "placeholder" and all(n.name in self.constants for n in node.all_input_nodes):
            self.constants[node.name] = result
        if isinstance(result, torch.Tensor):
            self.shapes[node.name] = tuple(result.shape)
        elif isinstance(result, int | float | torch.Size | torch.dtype | torch.device):
            self.sizes.add(node.name)
        return result


class _Tracing:
    """Turns the nodes of a traced module into layers."""

    def __init__(self, module: fx.GraphModule, found: _Shapes, frame: Shape) -> None:
        self.module, self.found, self.frame = module, found, frame
        self.shapes = found.shapes
        self.modules = dict(module.named_modules())
        self.nodes: dict[str, Layer] = {}
        self.edges: list[tuple[str, str]] = []
        self.held: dict[str, str | None] = {}
        self.obstacles: list[Obstacle] = []
        self.after: list[str] = []
        self.end: str | None = None

    def examine(self) -> ExaminedModule:
        """Return the graph and the obstacles."""
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self._begin(node)
            elif node.op == "output":
                self._finish(node.args[0])
            else:
                self._take(node)
        obstacles, after = tuple(self.obstacles), tuple(self.after)
        if self.end is None:
            return ExaminedModule(None, after, obstacles)
        graph = Graph(nodes=self.nodes, edges=tuple(self.edges))
        # a gate that is left out leaves a branch that leads nowhere
        return ExaminedModule(graph.up_to(self.end) if obstacles else graph, after, obstacles)

    def _begin(self, node: fx.Node) -> None:
        self.held[node.name] = None
        if any(isinstance(layer, Input) for layer in self.nodes.values()):
            self._note(node.name, "input", "is a second one; one is required.")
            return
        self.nodes[node.name] = Input(shape=self.frame)
        self.held[node.name] = node.name

    def _finish(self, result: object) -> None:
        if isinstance(result, fx.Node):
            self.end = self.held.get(result.name)
        else:
            self._note("output", "return", "gives several results; one is required.")

    def _take(self, node: fx.Node) -> None:
        """Take one node; one without a place is noted, and a rectifier stands in if it can."""
        sources = _read_by(node, self.held)
        if not sources or node.name in self.found.sizes:
            return
        self.held[node.name] = None
        is_cut = any(self.held[source.name] is None for source in sources)
        label = str(node.target) if node.op == "call_module" else node.name
        while label in self.nodes:  # one module that is called several times
            label += "_"
        try:
            layer = self._layer(node, sources)
        except UnfitError as error:
            if not is_cut or self._kind_of(node) != "getitem":  # a part of what is refused
                self._note(label, self._kind_of(node), str(error))
            source = self.shapes.get(sources[0].name)
            if source is None or self.shapes.get(node.name) != source:
                return
            sources, layer = sources[:1], Rectifier()
        if is_cut:
            return
        if layer is None:
            self.held[node.name] = self.held[sources[0].name]
            return
        self.nodes[label] = layer
        self.edges += [(str(self.held[source.name]), label) for source in sources]
        self.held[node.name] = label

    def _note(self, label: str, kind: str, reason: str) -> None:
        self.obstacles.append(Obstacle(label, kind, reason))

    def _kind_of(self, node: fx.Node) -> str:
        """Return the name of a module's class, a function or a method."""
        if node.op == "call_module":
            return type(self.modules[str(node.target)]).__name__
        return node.target if isinstance(node.target, str) else node.target.__name__

    def _layer(self, node: fx.Node, sources: Sequence[fx.Node]) -> Layer | None:
        """Return the layer of a node; None where it changes nothing."""
        kind = self._kind_of(node)
        source, result = self.shapes.get(sources[0].name), self.shapes.get(node.name)
        if source is None or result is None:  # several tensors
            raise UnfitError(advice_on(kind))
        if kind in _OF_HOST and all(user.op == "output" for user in node.users):
            self.after.append(kind)
            return None
        if node.op == "call_module":
            return layer_of_module(self.modules[str(node.target)], source, result)
        if kind in _ADD and _is_of_torch(node):
            return self._addition(node, sources)
        if kind in ARGUMENTS and _is_of_torch(node):
            return layer_of_function(kind, self._arguments(kind, node), source, result)
        raise UnfitError(advice_on(kind))

    def _addition(self, node: fx.Node, sources: Sequence[fx.Node]) -> Layer:
        if len(sources) != 2:
            raise UnfitError("adds a constant; a bias of the layer before it does the same.")
        if node.kwargs.get("alpha", 1) != 1:
            raise UnfitError("scales a term (alpha); put the factor into the weights before it.")
        if self.shapes[sources[0].name] != self.shapes[sources[1].name]:
            raise UnfitError("adds values of different shapes; equal ones are required.")
        return Addition()

    def _arguments(self, kind: str, node: fx.Node) -> dict[str, Any]:
        """Return the arguments of a function by name, parameters as tensors."""
        given: dict[str, Any] = dict(zip(ARGUMENTS[kind], node.args[1:], strict=False))
        given |= {key: value for key, value in node.kwargs.items() if key != "input"}
        for key, value in given.items():
            if isinstance(value, fx.Node) and value.name not in self.found.constants:
                raise UnfitError(f"its {key} hangs on the frame; only parameters can be weights.")
            if isinstance(value, fx.Node):
                given[key] = self.found.constants[value.name]
        return given


def _read_by(node: fx.Node, held: Collection[str]) -> list[fx.Node]:
    """Return the tensors of the network that a node reads, one that it reads twice as two."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return [one for one in found if one.name in held]


def _is_of_torch(node: fx.Node) -> bool:
    """Return whether a function is torch's, not a user's own of the same name."""
    place = getattr(node.target, "__module__", None) or "torch"
    return isinstance(node.target, str) or place.split(".")[0] in ("torch", "_operator")
