"""Channels that always fire, added to populations of a float graph to carry biases."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    Conv,
    Cuba,
    Dense,
    Flatten,
    Input,
    Layer,
    Shape,
    SpikeDelay,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.linear_chains import spread_groups

DRIVE = 1.25
"""Bias of a neuron that always fires, in thresholds: above 1 after any rounding, and no larger
than need be, because it bounds the scale of its population."""


def identity_synapse(shape: Shape, outputs: int, inputs: int) -> Conv | Dense:
    """Return an identity from `inputs` channels, of which those beyond `outputs` are not read."""
    weight = np.eye(outputs, inputs)
    return Conv(weight=weight[:, :, None, None]) if len(shape) == 3 else Dense(weight=weight)


@dataclass(slots=True)
class Widening:
    """A graph some of whose populations get more channels.

    Attributes:
        graph: The network as it is.
        carriers: Populations that get channels, and how many.
        columns: By synapse: the weights with which it reads the first new channels of its source,
            (new, outputs).
        cleared: Synapses that lose their bias.
    """

    graph: Graph
    carriers: dict[str, int] = field(default_factory=dict)
    columns: dict[str, FloatArray] = field(default_factory=dict)
    cleared: set[str] = field(default_factory=set)

    def widen(self) -> Graph:
        """Return the graph with the channels, the synapses that feed and read them widened."""
        shapes = self.graph.shapes()
        nodes: dict[str, Layer] = {}
        edges: list[tuple[str, str]] = []
        for name, layer in self.graph.nodes.items():
            sources = self.graph.sources(name)
            if isinstance(layer, Cuba):
                sources = tuple(
                    self._explicit(source, name, shapes, nodes, edges) for source in sources
                )
            if isinstance(layer, Conv | Dense):
                layer = self._synapse(name, layer, shapes)
            elif isinstance(layer, SpikeDelay):
                layer = self._delay(name, layer, shapes)
            elif isinstance(layer, Cuba) and name in self.carriers:
                layer = _always_on(layer, shapes[name], self.carriers[name])
            nodes[name] = layer
            edges += [(source, name) for source in sources]
        return Graph(nodes=nodes, edges=tuple(edges))

    def trainable(self, original: Graph) -> dict[str, npt.NDArray[np.bool_]]:
        """Return which weights of each rewritten synapse training may change.

        What becomes of ones shows which weights are the network's own.
        """
        ones: dict[str, Layer] = {
            name: dataclasses.replace(layer, weight=np.ones_like(layer.weight))
            for name, layer in self.graph.nodes.items()
            if isinstance(layer, Conv | Dense)
        }
        columns = {name: np.ones_like(bias) for name, bias in self.columns.items()}
        own = dataclasses.replace(
            self, graph=self.graph.replace_nodes(changed=ones), columns=columns
        ).widen()
        masks: dict[str, npt.NDArray[np.bool_]] = {}
        for name, layer in own.nodes.items():
            if not isinstance(layer, Conv | Dense):
                continue
            before = original.nodes.get(name)
            if not isinstance(before, Conv | Dense):  # relays, and identities written out
                masks[name] = np.zeros(layer.weight.shape, bool)
            elif before.weight.shape != layer.weight.shape:
                masks[name] = layer.weight != 0
        return masks

    def _explicit(
        self,
        source: str,
        name: str,
        shapes: Mapping[str, Shape],
        nodes: dict[str, Layer],
        edges: list[tuple[str, str]],
    ) -> str:
        """Write an identity skip out as a synapse where one of its ends gets a channel."""
        is_skip = isinstance(self.graph.nodes[source], Cuba | Input)
        if not is_skip or not {source, name} & self.carriers.keys():
            return source
        size = shapes[name][0]
        synapse = f"{source}@{name}"
        rows, columns = (size + self.carriers.get(end, 0) for end in (name, source))
        wide = identity_synapse(shapes[name], rows, columns)
        nodes[synapse] = dataclasses.replace(wide, weight=_without_corner(wide.weight, size))
        edges.append((source, synapse))
        return synapse

    def _synapse(self, name: str, layer: Conv | Dense, shapes: Mapping[str, Shape]) -> Layer:
        """Add columns for the channels that are read, and rows for those that are fed."""
        readers = self.graph.destinations(name)
        if len(readers) != 1:
            raise GraphError(
                f"{name}: read by {', '.join(readers)}; one synapse for each is required."
            )
        bias = None if name in self.cleared else layer.bias
        origin = self._origin(name)
        if origin in self.carriers:
            layer = self._with_columns(
                layer, self.columns.get(name, ()), shapes[origin], self.carriers[origin]
            )
        more = self.carriers.get(readers[0], 0)
        if more:
            weight = spread_groups(layer) if isinstance(layer, Conv) else layer.weight
            layer = dataclasses.replace(
                layer, weight=np.concatenate([weight, np.zeros((more, *weight.shape[1:]))])
            )
            if isinstance(layer, Conv):
                layer = dataclasses.replace(layer, groups=1)
            if bias is not None:
                bias = np.concatenate([bias, np.zeros((more, *bias.shape[1:]))])
        return dataclasses.replace(layer, bias=bias)

    def _delay(self, name: str, layer: SpikeDelay, shapes: Mapping[str, Shape]) -> SpikeDelay:
        """Add channels without delay for those that the population before it gets."""
        origin = self._origin(name)
        more, pixels = self.carriers.get(origin, 0), shapes[origin][1:]
        added = (
            (more, *pixels) if layer.steps.ndim == len(shapes[origin]) else (more * prod(pixels),)
        )
        return SpikeDelay(steps=np.concatenate([layer.steps, np.zeros(added, np.int64)]))

    def _origin(self, name: str) -> str:
        (source,) = self.graph.sources(name)
        while isinstance(self.graph.nodes[source], Flatten | SpikeDelay):
            (source,) = self.graph.sources(source)
        return source

    @staticmethod
    def _with_columns(
        layer: Conv | Dense, columns: Iterable[FloatArray], shape: Shape, more: int
    ) -> Conv | Dense:
        if isinstance(layer, Dense):
            pixels = shape[1] * shape[2] if len(shape) == 3 else 1
            added = np.zeros((len(layer.weight), more * pixels))
            for index, column in enumerate(columns):
                added[:, index * pixels] = column
            return dataclasses.replace(layer, weight=np.concatenate([layer.weight, added], axis=1))
        weight = spread_groups(layer)
        added = np.zeros((len(weight), more, *weight.shape[2:]))
        for index, column in enumerate(columns):
            # This tap reads position i · stride for output i, which lies on the map.
            row, tap = (tap_on_map(layer, shape, axis) for axis in (0, 1))
            added[:, index, row, tap] = column
        return dataclasses.replace(layer, weight=np.concatenate([weight, added], axis=1), groups=1)


def tap_on_map(layer: Conv, shape: Shape, axis: int) -> int | None:
    """Return the kernel's tap that lies on a map at every position, or None without one."""
    tap, rest = divmod(layer.padding[axis], layer.dilation[axis])
    last = (layer.output_shape(shape)[axis + 1] - 1) * layer.stride[axis]
    is_off = rest or tap >= layer.weight.shape[axis + 2] or last >= shape[axis + 1]
    return None if is_off else tap


def _without_corner(weight: FloatArray, size: int) -> FloatArray:
    """Return an identity's weight without the one from an added channel to an added channel."""
    weight = weight.copy()
    weight[size:, size:] = 0
    return weight


def _always_on(neuron: Cuba, shape: Shape, more: int) -> Cuba:
    """Return a population with one more channel, which its bias lets fire at every step."""
    column = (-1, *(1,) * (len(shape) - 1))

    def extend(value: float | FloatArray, added: float) -> FloatArray:
        values = np.asarray(value)
        if values.ndim <= 1 or values.shape[1:] == (1, 1):
            values = np.broadcast_to(values.reshape(column) if values.ndim else values,
                                     (shape[0], *(1,) * (len(shape) - 1)))  # fmt: skip
        tail = np.full((more, *values.shape[1:]), added)
        return np.concatenate([values, tail])

    bias = extend(0.0 if neuron.bias is None else neuron.bias, DRIVE * neuron.threshold)
    decays = {
        name: value if np.ndim(value) == 0 else extend(value, 1.0)
        for name, value in (
            ("current_decay", neuron.current_decay),
            ("voltage_decay", neuron.voltage_decay),
        )
    }
    return dataclasses.replace(
        neuron,
        bias=bias,
        current_decay=decays["current_decay"],
        voltage_decay=decays["voltage_decay"],
    )
