"""Turn a NIR graph into a float `Graph` of ours, exactly, or say why not.

Convolutions over one axis become two-dimensional, sum pools averages whose factor moves into the
next weights, scales move into the weights beside them, and every neuron takes its canonical form
(see `canonical_neuron`): rows of the weights before it are scaled where gains or thresholds differ
between its neurons.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from neurodeploy.errors import GraphError, InterchangeError
from neurodeploy.fixedpoint import DELAY_MAX, FloatArray
from neurodeploy.interchange.canonical_neuron import (
    APPROXIMATIONS,
    INITIAL_STATE,
    SOFT_RESET,
    CanonicalNeuron,
    canonical,
)
from neurodeploy.interchange.convention import Convention, Scheme
from neurodeploy.interchange.nir_layers import (
    by_channel,
    compact_parameter,
    conv_of,
    dense_of,
    fit_parameter,
    identity_synapse,
    one_threshold,
    pool_geometry,
    scale_columns,
    scale_rows,
)
from neurodeploy.interchange.nir_schema import (
    BATCH_NORM,
    INPUT_NODE,
    MAX_POOL,
    OUTPUT_NODE,
    PASS_ON,
    READ_OUTS,
    SPIKING,
    NirGraph,
    NirNode,
    reachable,
)
from neurodeploy.ir.float_layers import (
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Input,
    Integrator,
    Layer,
    MaxPool,
    Shape,
    SpikeDelay,
)
from neurodeploy.ir.graphs import Graph

_KERNELS = ("Conv1d", "Conv2d")
_MATRICES = ("Affine", "Linear")
_POOLS = ("SumPool2d", "AvgPool2d")
_WHOLE = 1e-3
"""Part of a step by which a delay, stored as float32, may differ from whole steps."""
_VALUES_MAX = 1 << 26
"""Values of a layer, so that a few bytes of a file cannot ask for all memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drafted:
    """A NIR graph as a graph of ours.

    Attributes:
        graph: The float network.
        notes: How exactly each neuron is computed, by name.
        shapes: Shape of each neuron's output in the other framework.
        rests: Voltage of a read-out there where ours is 0, by name, if that is not 0.
    """

    graph: Graph
    notes: dict[str, str]
    shapes: dict[str, Shape]
    rests: dict[str, float]


def draft_graph(
    source: NirGraph,
    convention: Convention,
    *,
    subtracts_threshold: bool,
    approximate: Collection[str],
) -> Drafted:
    """Build the float graph.

    Args:
        source: The NIR graph.
        convention: How to read it, with a step width.
        subtracts_threshold: Whether its neurons subtract the threshold after a spike.
        approximate: Approximations that are allowed.

    Raises:
        InterchangeError: If something has no exact counterpart; every refusal is in one error.
    """
    builder = _Drafting(source, convention, subtracts_threshold, frozenset(approximate))
    builder.build()
    if builder.refusals:
        raise InterchangeError(
            "this network cannot be taken as it is.\n"
            + "\n".join(f"  {refusal}" for refusal in builder.refusals)
        )
    graph = Graph(nodes=builder.nodes, edges=tuple(builder.edges))
    try:
        graph.check()
        graph = _drop_unread(graph)
    except GraphError as error:
        raise InterchangeError(str(error)) from error
    rests = {name: neuron.rest for name, neuron in builder.canonical.items() if neuron.rest}
    return Drafted(graph=graph, notes=builder.notes, shapes=builder.foreign, rests=rests)


def _drop_unread(graph: Graph) -> Graph:
    """Return a graph without flattens that nothing reads: neurons read the maps before them."""
    while unread := {
        name
        for name, layer in graph.nodes.items()
        if isinstance(layer, Flatten) and not graph.destinations(name)
    }:
        graph = Graph(
            nodes={name: layer for name, layer in graph.nodes.items() if name not in unread},
            edges=tuple(edge for edge in graph.edges if edge[1] not in unread),
        )
    return graph


@dataclass(frozen=True, slots=True)
class _Value:
    """The values that a node of NIR sends, in terms of ours.

    Attributes:
        node: Node of ours.
        factor: On its values; the weights that read them must take it.
        is_shared: Whether several nodes of NIR read it.
        maps: Of a flatten: the values that it flattens and adds up, as maps.
    """

    node: str
    factor: FloatArray
    is_shared: bool
    maps: tuple[_Value, ...] = ()


class _Drafting:
    """The graph so far; nodes are added each after its sources."""

    def __init__(
        self,
        source: NirGraph,
        convention: Convention,
        subtracts_threshold: bool,
        approximate: frozenset[str],
    ) -> None:
        self.source = source
        self.convention = convention
        self.subtracts_threshold = subtracts_threshold
        self.approximate = approximate
        self.before, self.after = source.sources(), source.readers()
        self.nodes: dict[str, Layer] = {}
        self.edges: list[tuple[str, str]] = []
        self.shapes: dict[str, Shape] = {}
        self.values: dict[str, _Value] = {}
        self.canonical: dict[str, CanonicalNeuron] = {}
        self.refusals: list[str] = []
        self.notes: dict[str, str] = {}
        self.foreign: dict[str, Shape] = {}

    def build(self) -> None:
        """Add every node that lies between input and output."""
        order = self._order()
        failed: set[str] = set()
        for name in order:
            try:
                self._check_neuron(name, self.source.nodes[name])
            except InterchangeError as error:
                self.refusals.append(f"{name}: {error}")
                failed.add(name)
        for name in order:
            if failed & {name, *self.before[name]}:
                failed.add(name)  # its sources' refusals stand for it
                continue
            try:
                self._add_node(name, self.source.nodes[name])
            except (GraphError, InterchangeError) as error:
                self.refusals.append(f"{name}: {error}")
                failed.add(name)

    # ------------------------------------------------------------------ order

    def _order(self) -> list[str]:
        """Return the nodes between input and output, each after its sources."""
        names = self.source.nodes
        (entry,) = (name for name, node in names.items() if node.kind == INPUT_NODE)
        (output,) = (name for name, node in names.items() if node.kind == OUTPUT_NODE)
        self.recurrent = {
            name: self.before[name][0]
            for name, node in names.items()
            if node.kind in _MATRICES
            and len(self.before[name]) == 1
            and self.before[name] == self.after[name]
            and names[self.before[name][0]].kind in SPIKING
        }
        reached = reachable(entry, self.after)
        used = reachable(output, self.before)
        for name in names:
            if name not in reached:
                self.refusals.append(f"{name}: nothing leads to it from the input. Remove it.")
            elif name not in used and name not in self.recurrent:
                self.refusals.append(f"{name}: it does not lead to the output. Remove it.")
        waiting = {
            name: sum(source not in self.recurrent for source in self.before[name])
            for name in names
        }
        ready = [name for name in names if not waiting[name]]
        order: list[str] = []
        while ready:
            name = ready.pop(0)
            order.append(name)
            for following in () if name in self.recurrent else self.after[name]:
                waiting[following] -= 1
                if not waiting[following]:
                    ready.append(following)
        circle = sorted(set(names) - set(order))
        if circle:
            self.refusals.append(
                f"{', '.join(circle[:8])}: they read each other in a circle. Only a population "
                "that reads itself through one Linear or Affine can be computed."
            )
        return [] if self.refusals else order

    # ------------------------------------------------------------------ shapes

    def _input_shape(self, name: str) -> Shape:
        """Return the stated shape without the axes that the first layers do not take.

        Weights are believed more than the stated shape.
        """
        stated = tuple(int(value) for value in np.ravel(self.source.nodes[name].array("shape")))
        reader = self._first_with_shape(name)
        node = None if reader is None else self.source.nodes[reader]
        if node is not None and node.kind in _MATRICES:
            wanted = dense_of(node).weight.shape[1]
            for axes in range(1, len(stated) + 1):
                if prod(stated[-axes:]) == wanted and min(stated[-axes:]) > 0:
                    return self._three_or_one(stated[-axes:])
            return (wanted,)
        if min(stated) < 1 or prod(stated) > 1 << 31:
            raise InterchangeError(f"shape {stated}: extents of at least 1 are required.")
        if node is None:
            return self._three_or_one(stated)
        if node.kind in (*_KERNELS, *_POOLS):
            axes = 2 if node.kind == "Conv1d" else 3
        else:  # a neuron or a scale, with a number for each value
            axes = max(np.ndim(value) for value in node.values.values())
        if len(stated) < axes:
            raise InterchangeError(f"shape {stated}: '{reader}' reads {axes} axes.")
        shape = stated[-axes:]
        return (shape[0], 1, shape[1]) if axes == 2 else shape

    def _first_with_shape(self, name: str) -> str | None:
        """Return the first node after the input whose fields tell a shape."""
        seen, waiting = set(), [name]
        while waiting:
            for following in self.after[waiting.pop(0)]:
                node = self.source.nodes[following]
                has_arrays = any(np.ndim(value) and np.size(value) > 1
                                 for value in node.values.values()
                                 if not isinstance(value, str))  # fmt: skip
                if node.kind in (*_KERNELS, *_MATRICES, *_POOLS) or (
                    has_arrays and node.kind != OUTPUT_NODE
                ):
                    return following
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        return None

    @staticmethod
    def _three_or_one(shape: Shape) -> Shape:
        if len(shape) == 2:
            return (shape[0], 1, shape[1])
        if len(shape) > 3:
            raise InterchangeError(f"shape {shape}: (N,), (C, L) or (C, H, W) is required.")
        return shape

    def _add(self, name: str, layer: Layer, values: Sequence[_Value]) -> None:
        """Add a node of ours that reads values as nodes of ours send them, factors left aside."""
        shapes = {self.shapes[value.node] for value in values}
        if len(shapes) > 1:
            raise InterchangeError(f"it adds values of different shapes: {sorted(shapes)}.")
        names = [value.node for value in values]
        if len(set(names)) < len(names):
            raise InterchangeError(f"it reads '{names[0]}' twice. Add up the weights instead.")
        source = next(iter(shapes), ())
        shape = layer.output_shape(source)
        if isinstance(layer, Conv | MaxPool | AveragePool):
            padded = (n + 2 * pad for n, pad in zip(source[1:], layer.padding, strict=True))
            largest = max(prod(shape), source[0] * prod(padded))
        else:
            largest = prod(shape)
        if largest > _VALUES_MAX:
            raise InterchangeError(
                f"{largest} values a step, padding included; at most {_VALUES_MAX} are allowed."
            )
        self.nodes[name] = layer
        self.edges += [(source, name) for source in names]
        self.shapes[name] = shape
        self.values[name] = _Value(name, np.array(1.0), len(self.after.get(name, ())) > 1)

    # ------------------------------------------------------------------ layers

    def _add_node(self, name: str, node: NirNode) -> None:
        if name in self.recurrent:
            return  # added with its neuron
        values = [self.values[each] for each in self.before[name] if each not in self.recurrent]
        if node.kind == INPUT_NODE:
            self._add(name, Input(shape=self._input_shape(name)), ())
        elif node.kind == OUTPUT_NODE:
            self._add_output(name, values)
        elif node.kind in SPIKING or node.kind in READ_OUTS:
            self._add_neuron(name, values)
        else:
            self._add_layer(name, node, self._evenly_scaled(name, values))

    def _add_layer(self, name: str, node: NirNode, values: list[_Value]) -> None:
        """Add a node that is neither an end of the network nor a population."""
        if node.kind in _MATRICES:
            self._add(name, self._absorb(values, dense_of(node)), values)
        elif node.kind in _KERNELS:
            self._add(name, self._absorb(values, conv_of(node)), values)
        elif node.kind in _POOLS:
            self._add_pool(name, node, values)
        elif node.kind == "Flatten":
            self._add_flatten(name, values)
        elif node.kind == "Scale":
            shape = self.shapes[values[0].node]
            self._pass_on(name, values, fit_parameter(node.array("scale"), shape, "scale"))
        elif node.kind == BATCH_NORM:
            self._add_batch_norm(name, node, values)
        elif node.kind == MAX_POOL:
            if np.any(values[0].factor != 1):
                raise InterchangeError("a maximum of scaled values. Scale after the pool.")
            self._add(name, MaxPool(**pool_geometry(node)), values)
        elif node.kind == PASS_ON:
            self._pass_on(name, values, np.array(1.0))
        elif node.kind == "Delay":
            self._add_delay(name, node, values)
        else:
            raise InterchangeError(f"{node.kind} has no counterpart. Name it in `_add_node`.")

    def _evenly_scaled(self, name: str, values: list[_Value]) -> list[_Value]:
        """Return values that a layer adds up, scaled before where their factors differ."""
        if all(np.array_equal(values[0].factor, value.factor) for value in values):
            return values
        one = np.array(1.0)
        return [self._scaled(v, name, one) if np.any(v.factor != 1) else v for v in values]

    def _add_flatten(self, name: str, values: list[_Value]) -> None:
        """Add a flatten; a neuron that reads it reads the maps before it instead."""
        factor = np.broadcast_to(values[0].factor, self.shapes[values[0].node])
        self._add(name, Flatten(), values)
        self._leave(name, factor.reshape(-1))
        is_shared = self.values[name].is_shared
        maps = [
            replace(value, is_shared=value.is_shared or is_shared)
            for flat in values
            for value in flat.maps or (flat,)
        ]
        self.values[name] = replace(self.values[name], maps=tuple(maps))

    def _add_batch_norm(self, name: str, node: NirNode, values: list[_Value]) -> None:
        shape = self.shapes[values[0].node]
        factor = by_channel(values[0].factor, shape, "batch norm")
        scale = np.broadcast_to(node.array("scale"), shape[:1]) * np.broadcast_to(
            np.ravel(factor) if factor.ndim else factor, shape[:1]
        )
        shift = np.broadcast_to(node.array("shift"), shape[:1])
        self._add(name, BatchNorm(scale=scale, shift=shift), values)

    def _pass_on(self, name: str, values: list[_Value], factor: FloatArray) -> None:
        """Let the readers of a node without a layer of ours read its source, times a factor."""
        if len(values) != 1:
            raise InterchangeError(f"{len(values)} sources, one is required.")
        (value,) = values
        is_shared = value.is_shared or len(self.after[name]) > 1
        self.values[name] = _Value(value.node, value.factor * factor, is_shared)

    def _add_delay(self, name: str, node: NirNode, values: list[_Value]) -> None:
        """Add a delay of spikes by whole steps, one for each neuron."""
        if not np.any(node.array("delay") != 0):
            self._pass_on(name, values, np.array(1.0))
            return
        assert self.convention.dt is not None
        shape = self.shapes[values[0].node]
        exact = fit_parameter(node.array("delay"), shape, "delay") / self.convention.dt
        steps = np.rint(np.broadcast_to(exact, shape))
        is_whole = np.abs(exact - steps).max() <= _WHOLE
        if not (is_whole and steps.min() >= 0 and steps.max() <= DELAY_MAX):
            raise InterchangeError(
                f"delay: {float(np.min(exact)):g} to {float(np.max(exact)):g} steps of "
                f"{self.convention.dt:g} s; whole ones from 0 to {DELAY_MAX} are possible."
            )
        readers = [self.source.nodes[reader].kind for reader in self.after[name]]
        if not isinstance(self.nodes[values[0].node], Cuba | Input) or not all(
            kind in (*_MATRICES, "Flatten") for kind in readers
        ):
            raise InterchangeError("only spikes on the way to an Affine or Linear can be delayed.")
        if len(values) > 1:
            raise InterchangeError("a sum is delayed. Delay its terms.")
        factor = values[0].factor
        self._add(name, SpikeDelay(steps=steps.astype(np.int64)), values)
        self._leave(name, factor)

    def _leave(self, name: str, factor: FloatArray) -> None:
        """Leave a factor on a node's values to the weights that read them."""
        if np.any(factor != 1):
            self.values[name] = replace(self.values[name], factor=factor)

    def _add_pool(self, name: str, node: NirNode, values: list[_Value]) -> None:
        pool = AveragePool(**pool_geometry(node))
        factor = by_channel(values[0].factor, self.shapes[values[0].node], "a pool")
        self._add(name, pool, values)
        self._leave(name, factor * (prod(pool.kernel) if node.kind == "SumPool2d" else 1.0))

    def _absorb(self, values: list[_Value], layer: Dense | Conv) -> Dense | Conv:
        """Multiply the columns of a layer by the factor that its sources left."""
        factor = values[0].factor
        if not np.any(factor != 1):
            return layer
        return scale_columns(layer, factor, self.shapes[values[0].node])

    # ------------------------------------------------------------------ neurons

    def _check_neuron(self, name: str, node: NirNode) -> None:
        """Refuse a neuron that has no canonical form, whatever lies around it."""
        if node.kind not in SPIKING and node.kind not in READ_OUTS:
            return
        if node.kind in READ_OUTS and any(
            self.source.nodes[reader].kind != OUTPUT_NODE for reader in self.after[name]
        ):
            raise InterchangeError(
                f"{node.kind} sends its voltage; only the last layer can, and nothing may read it. "
                "Put a spiking neuron in its place."
            )
        self.notes[name] = self._note(node)
        self.canonical[name] = canonical(node, self.convention)

    def _add_neuron(self, name: str, values: list[_Value]) -> None:
        neuron, flat = self.canonical[name], self.shapes[values[0].node]
        maps = [value for each in values for value in each.maps or (each,)]
        if name not in self.recurrent.values() and self._is_one_map(neuron, maps, flat):
            values = maps
        shape = self.shapes[values[0].node]
        if shape != flat:
            neuron = neuron.reshape(shape)
        threshold, rows = one_threshold(neuron, shape)
        scale = 1.0 if threshold is None else rows
        current_decay = compact_parameter(neuron.current_decay, shape, "tau_syn")
        voltage_decay = compact_parameter(neuron.voltage_decay, shape, "tau")
        gain = fit_parameter(neuron.gain, shape, "r")
        bias = fit_parameter(neuron.bias, shape, "v_leak")
        if threshold is None:
            rows, drive = gain, bias  # a read-out keeps its own unit: the weights take the gain
        else:
            drive = bias / gain * scale
        constant = np.broadcast_to(drive, shape) if np.any(drive) else None
        ready = [self._scaled(value, name, rows) for value in values]
        layer: Layer
        if threshold is None:
            layer = Integrator(
                current_decay=current_decay,
                voltage_decay=voltage_decay,
                bias=constant,
                scale=neuron.grid,
            )
        else:
            layer = Cuba(
                current_decay=current_decay,
                voltage_decay=voltage_decay,
                bias=constant,
                threshold=threshold,
                fires_at_threshold=neuron.fires_at_threshold,
                scale=neuron.grid,
            )
        self._add(name, layer, ready)
        self._note_shape(name, None if shape == flat else flat)
        if shape != flat:
            self._add_flat_form(name)
        for synapse, reader in self.recurrent.items():
            if reader == name:
                matrix = scale_rows(dense_of(self.source.nodes[synapse]), rows)
                self._add(synapse, matrix, [self.values[name]])
                self.edges.append((synapse, name))

    def _is_one_map(self, neuron: CanonicalNeuron, maps: list[_Value], flat: Shape) -> bool:
        """Return whether neurons that read flattened maps compute the same on the maps."""
        shapes = {self.shapes[value.node] for value in maps}
        (shape, *others) = shapes
        if others or shape == flat:
            return False
        if not neuron.sizes() <= {1, prod(flat)}:
            return False
        try:
            one_threshold(neuron.reshape(shape), shape)
        except InterchangeError:
            return False  # rows of a dense layer can be scaled one by one
        return True

    def _add_flat_form(self, name: str) -> None:
        """Let those that read neurons on a map read them as the flat values that they send."""
        self.values[name] = replace(self.values[name], maps=())
        maps, flattened = (self.values[name],), f"{name}.flat"
        while flattened in self.source.nodes or flattened in self.nodes:
            flattened += "_"
        self._add(flattened, Flatten(), maps)
        self.values[name] = replace(self.values[flattened], is_shared=maps[0].is_shared, maps=maps)

    def _note(self, node: NirNode) -> str:
        """Return how exactly a neuron is computed, or refuse it."""
        departures = list(node.departures)
        soft = self.subtracts_threshold or self.convention.always_subtracts
        if soft and node.kind in SPIKING and node.kind != "Threshold":
            departures.append(("soft-reset", f"{node.kind} {SOFT_RESET}"))
        elif self.convention.scheme is Scheme.NORSE and np.any(
            node.values.get("v_leak", 0) != node.values.get("v_reset", 0)
        ):
            departures.append(("initial-state", f"{node.kind} {INITIAL_STATE}"))
        missing = [(word, cause) for word, cause in departures if word not in self.approximate]
        if missing:
            words = ", ".join(f"'{word}'" for word, _ in missing)
            raise InterchangeError(
                f"{'; '.join(cause for _, cause in missing)}. Train with the other, or allow "
                f"approximate={{{words}}}: "
                f"{'; '.join(APPROXIMATIONS[word] for word, _ in missing)}."
            )
        return "; ".join(f"{word}: {APPROXIMATIONS[word]}" for word, _ in departures) or "exact"

    def _scaled(self, value: _Value, name: str, rows: FloatArray) -> _Value:
        """Return a node that gives a value, times `rows`, to the neuron `name`."""
        layer = self.nodes[value.node]
        shape = self.shapes[value.node]
        rows = rows * value.factor
        is_plain = not np.any(rows != 1)
        if is_plain and isinstance(layer, Dense | Conv | BatchNorm | MaxPool | Cuba):
            return value
        if isinstance(layer, Dense | Conv | BatchNorm) and not value.is_shared:
            self.nodes[value.node] = scale_rows(layer, rows)
            return value
        synapse = f"{value.node}@{name}"
        if isinstance(layer, Dense | Conv | BatchNorm):
            sources = [self.values[start] for start, end in self.edges if end == value.node]
            self._add(synapse, scale_rows(layer, rows), sources)
        else:
            self._add(synapse, identity_synapse(shape, rows), [value])
        return self.values[synapse]

    def _add_output(self, name: str, values: list[_Value]) -> None:
        flat = self.shapes[values[0].node]
        maps = [value for each in values for value in each.maps or (each,)]
        if len({self.shapes[value.node] for value in maps}) == 1:
            values = maps
        layer = self.nodes[values[0].node]
        is_changed = len(values) > 1 or np.any(values[0].factor != 1)
        if isinstance(layer, Cuba | Integrator) and not is_changed:
            return
        if any(isinstance(self.nodes[value.node], Input | Integrator) for value in values):
            raise InterchangeError(
                "no neurons lead to the output, or their voltage is scaled or added to others."
            )
        self._add(name, Integrator(), [self._scaled(v, name, np.array(1.0)) for v in values])
        self.notes[name] = "exact: the sum over steps of the last layer"
        self._note_shape(name, None if self.shapes[name] == flat else flat)

    def _note_shape(self, name: str, flat: Shape | None = None) -> None:
        """Remember the shape that the other framework gives a neuron's output."""
        shape = flat or self.shapes[name]
        is_one_dimensional = len(shape) == 3 and any(
            node.kind == "Conv1d" for node in self.source.nodes.values()
        )
        self.foreign[name] = (shape[0], shape[2]) if is_one_dimensional else shape
