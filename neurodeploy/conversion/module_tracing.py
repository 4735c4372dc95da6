"""Follow an ordinary torch module with torch.fx: its layers as a `Graph` of floats."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from neurodeploy.errors import TraceError
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
)
from neurodeploy.ir.graphs import Graph

_PASSED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_OF_HOST = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)
_RELU = (torch.relu, functional.relu, "relu", "relu_")
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_FLATTEN = (torch.flatten, "flatten", "view", "reshape", "squeeze", torch.squeeze)
_MEAN = (torch.mean, "mean")


def trace_rectified(module: nn.Module, shape: Shape) -> Graph:
    """Return the layers of a module in eval mode.

    Args:
        module: Convolutions, linear layers, batch norms, pools, ReLU, ReLU6, LeakyReLU, PReLU,
            additions, flattening; a Softmax or Sigmoid at the end is left to the host.
        shape: Of a frame, (C, H, W) or (N,).

    Raises:
        TraceError: If torch.fx cannot follow its forward method, or layers have no place in a
            network of rectified layers; all of them are named.
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
    return _Tracing(traced, found.shapes, shape).graph()


class _Shapes(fx.Interpreter):
    """Runs a traced module and keeps the shape of every result."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, Shape] = {}

    def run_node(self, node: fx.Node) -> object:
        """Run one node."""
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            self.shapes[node.name] = tuple(result.shape)
        return result


class _UnfitError(Exception):
    """A node without a place in the network, with the reason."""


class _Tracing:
    """Turns the nodes of a traced module into layers."""

    def __init__(self, module: fx.GraphModule, shapes: dict[str, Shape], frame: Shape) -> None:
        self.module, self.shapes, self.frame = module, shapes, frame
        self.modules = dict(module.named_modules())
        self.nodes: dict[str, Layer] = {}
        self.edges: list[tuple[str, str]] = []
        self.held: dict[str, str | None] = {}
        self.refusals: list[str] = []

    def graph(self) -> Graph:
        """Return the graph; all refusals are in one error."""
        for node in self.module.graph.nodes:
            self._take(node)
        if self.refusals:
            lines = "\n".join(f"- {line}" for line in self.refusals)
            raise TraceError(f"cannot be converted.\n{lines}")
        return Graph(nodes=self.nodes, edges=tuple(self.edges))

    def _take(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if any(isinstance(layer, Input) for layer in self.nodes.values()):
                self.refusals.append(f"{node.name}: a second input; one is required.")
                return
            self.nodes[node.name] = Input(shape=self.frame)
            self.held[node.name] = node.name
            return
        if node.op == "output":
            return
        sources = [one for one in node.all_input_nodes if one.name in self.held]
        if not sources:
            return
        if any(self.held[source.name] is None for source in sources):
            self.held[node.name] = None
            return
        label = str(node.target) if node.op == "call_module" else node.name
        while label in self.nodes:  # one module that is called several times
            label += "_"
        try:
            layer = self._layer(node, sources)
        except _UnfitError as error:
            what = node.target
            if node.op == "call_module":
                what = type(self.modules[str(node.target)]).__name__
            self.refusals.append(f"{label} ({getattr(what, '__name__', what)}): {error}")
            self.held[node.name] = None
            return
        if layer is None:
            self.held[node.name] = self.held[sources[0].name]
            return
        self.nodes[label] = layer
        self.edges += [(str(self.held[source.name]), label) for source in sources]
        self.held[node.name] = label

    def _layer(self, node: fx.Node, sources: Sequence[fx.Node]) -> Layer | None:
        source = self.shapes[sources[0].name]
        if node.op == "call_module":
            return self._of_module(self.modules[str(node.target)], node, source)
        target = node.target
        if target in _RELU:
            return Rectifier()
        if target is functional.relu6:
            return Rectifier(ceiling=6.0)
        if target in _ADD and len(sources) == len(node.args) == 2:
            if self.shapes[sources[1].name] != source:
                raise _UnfitError("adds values of different shapes; equal ones are required.")
            return Addition()
        if target in _FLATTEN:
            return self._reshaped(source, self.shapes[node.name])
        if target in _MEAN and prod(self.shapes[node.name][1:]) == source[1] and len(source) == 4:
            return AveragePool(kernel=(source[2], source[3]), stride=(1, 1))
        if target is functional.adaptive_avg_pool2d:
            return _adaptive(source, self.shapes[node.name])
        if target in (functional.dropout, "contiguous", "float"):
            return None
        raise _UnfitError("has no place in a network of rectified layers.")

    def _of_module(self, module: nn.Module, node: fx.Node, source: Shape) -> Layer | None:
        result = self.shapes[node.name]
        match module:
            case _ if isinstance(module, _PASSED):
                return None
            case _ if isinstance(module, _OF_HOST) and _is_end(node):
                return None
            case nn.Conv1d() | nn.Conv2d():
                return _conv(module)
            case nn.Linear():
                if len(source) != 2:
                    raise _UnfitError(f"reads {source}; vectors are possible. Flatten before it.")
                return Dense(weight=_array(module.weight), bias=_optional(module.bias))
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                return _batch_norm(module)
            case nn.ReLU():
                return Rectifier()
            case nn.ReLU6():
                return Rectifier(ceiling=6.0)
            case nn.Hardtanh() if module.min_val == 0 and module.max_val > 0:
                return Rectifier(ceiling=float(module.max_val))
            case nn.LeakyReLU():
                return Rectifier(slope=float(module.negative_slope))
            case nn.PReLU():
                return Rectifier(slope=_array(module.weight))
            case nn.MaxPool2d() | nn.AvgPool2d():
                return _pool(module, source, result)
            case nn.AdaptiveAvgPool2d():
                return _adaptive(source, result)
            case nn.Flatten():
                return self._reshaped(source, result)
        raise _UnfitError(
            "has no place in a network of rectified layers. Retrain with ReLU, batch norm, pools "
            "and additions."
        )

    def _reshaped(self, source: Shape, result: Shape) -> Layer | None:
        if source == result:
            return None
        if len(result) != 2 or result[0] != 1 or prod(result) != prod(source):
            raise _UnfitError(f"makes {result} of {source}; only vectors can be made of maps.")
        return Flatten()


def _is_end(node: fx.Node) -> bool:
    return all(user.op == "output" for user in node.users)


def _array(tensor: torch.Tensor) -> FloatArray:
    return tensor.detach().cpu().double().numpy()


def _optional(tensor: torch.Tensor | None) -> FloatArray | None:
    return None if tensor is None else _array(tensor)


def _conv(module: nn.Conv1d | nn.Conv2d) -> Layer:
    if module.padding_mode != "zeros" or (
        module.padding == "same" and any(size % 2 == 0 for size in module.kernel_size)
    ):
        raise _UnfitError(
            f"pads with mode '{module.padding_mode}' or unequal sides; zeros are possible."
        )
    padding: Sequence[int]
    if module.padding == "same":
        pairs = zip(module.kernel_size, module.dilation, strict=True)
        padding = [(size - 1) * step // 2 for size, step in pairs]
    else:
        padding = (
            [0] * len(module.kernel_size) if isinstance(module.padding, str) else module.padding
        )
    weight = _array(module.weight)
    return Conv(
        weight=weight if weight.ndim == 4 else weight[:, :, None],
        bias=_optional(module.bias),
        stride=_pair(module.stride, 1),
        padding=_pair(padding, 0),
        dilation=_pair(module.dilation, 1),
        groups=module.groups,
    )


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d) -> Layer:
    if module.running_mean is None or module.running_var is None:
        raise _UnfitError("has no running statistics; train it with them.")
    scale: FloatArray = 1 / np.sqrt(_array(module.running_var) + module.eps)
    shift = -_array(module.running_mean) * scale
    if module.weight is not None:
        gamma, beta = _array(module.weight), _array(module.bias)
        scale, shift = scale * gamma, shift * gamma + beta
    return BatchNorm(scale=scale, shift=shift)


def _pool(module: nn.MaxPool2d | nn.AvgPool2d, source: Shape, result: Shape) -> Layer:
    kernel = _both(module.kernel_size)
    stride = _both(module.stride if module.stride is not None else kernel)
    padding = _both(module.padding)
    make: Callable[..., Layer] = MaxPool if isinstance(module, nn.MaxPool2d) else AveragePool
    if isinstance(module, nn.AvgPool2d) and any(padding) and not module.count_include_pad:
        raise _UnfitError("leaves padding out of its means; use count_include_pad=True.")
    if isinstance(module, nn.MaxPool2d) and _both(module.dilation) != (1, 1):
        raise _UnfitError("has gaps in its windows.")
    layer = make(kernel=kernel, stride=stride, padding=padding)
    if layer.output_shape(source[1:]) != result[1:]:
        raise _UnfitError("windows reach over the border (ceil_mode); use windows that fit.")
    return layer


def _adaptive(source: Shape, result: Shape) -> Layer:
    kernel = []
    for size, wanted in zip(source[2:], result[2:], strict=True):
        if size % wanted:
            raise _UnfitError(f"windows of {source[2:]} for {result[2:]} differ in size.")
        kernel.append(size // wanted)
    return AveragePool(kernel=(kernel[0], kernel[1]), stride=(kernel[0], kernel[1]))


def _both(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _pair(values: Sequence[int], missing: int) -> tuple[int, int]:
    return (values[0], values[1]) if len(values) == 2 else (missing, values[0])
