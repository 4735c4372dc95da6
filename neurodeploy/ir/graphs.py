"""The two graphs: `Graph` holds floats, `FixedPointGraph` integers; neither can be the other.

Writing an unquantised graph to a file is thereby a type error before it is a bug.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import numpy as np

from neurodeploy.errors import GraphError
from neurodeploy.ir.float_layers import Dense, FiringNeuron, Input, Layer, Shape
from neurodeploy.ir.integer_layers import FixedInjection, FixedLayer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """A float network: named layers and edges between them.

    Attributes:
        nodes: Layers by name, each after its sources; a recurrent synapse comes after its neuron.
        edges: (source, destination) pairs. Edges into one node add up, in this order.

    Example:
        >>> graph.input_name, graph.sources("conv2"), graph.destinations("conv1.synapse")
        ('input', ('conv2.synapse',), ('conv1',))
        >>> graph.shapes()["conv4"]
        (48, 4, 4)
        >>> graph.check()  # raises GraphError if anything does not fit
        >>> list(graph.up_to("conv1").nodes)
        ['input', 'conv1.synapse', 'conv1']
    """

    nodes: Mapping[str, Layer]
    edges: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes that lead into `name`."""
        return tuple(source for source, destination in self.edges if destination == name)

    def destinations(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes that `name` leads into."""
        return tuple(destination for source, destination in self.edges if source == name)

    def recurrent_synapse(self, name: str) -> str | None:
        """Return the dense node that reads only the neuron `name` and leads only back to it."""
        for source in self.sources(name) if isinstance(self.nodes[name], FiringNeuron) else ():
            if isinstance(self.nodes[source], Dense) and self.sources(source) == (name,):
                return source if self.destinations(source) == (name,) else None
        return None

    @property
    def input_name(self) -> str:
        """Name of the input node; GraphError if there is not exactly one."""
        names = [name for name, layer in self.nodes.items() if isinstance(layer, Input)]
        if len(names) != 1:
            raise GraphError(f"graph: {len(names)} input nodes, exactly one is required.")
        return names[0]

    @property
    def input(self) -> Input:
        """The input node."""
        layer = self.nodes[self.input_name]
        assert isinstance(layer, Input)
        return layer

    def shapes(self) -> dict[str, Shape]:
        """Return every node's output shape; GraphError names both ends of an edge that misfits."""
        shapes: dict[str, Shape] = {}
        for name, layer in self.nodes.items():
            recurrent = self.recurrent_synapse(name)
            sources = tuple(source for source in self.sources(name) if source != recurrent)
            for source in sources:
                if source not in shapes:
                    raise GraphError(
                        f"graph: '{name}' reads '{source}', which is not a node before it."
                    )
            if len({shapes[source] for source in sources}) > 1:
                terms = ", ".join(f"'{source}' {shapes[source]}" for source in sources)
                raise GraphError(f"graph: '{name}' adds values of different shapes: {terms}.")
            try:
                shapes[name] = layer.output_shape(shapes[sources[0]] if sources else ())
            except GraphError as error:
                ends = f"'{sources[0]}' -> '{name}'" if sources else f"'{name}'"
                raise GraphError(f"graph: {ends}: {error}") from error
            if recurrent is not None:
                self._check_recurrence(name, recurrent, shapes[name])
        return shapes

    def _check_recurrence(self, name: str, synapse: str, shape: Shape) -> None:
        back = self.nodes[synapse].output_shape(shape)
        if back != shape:
            raise GraphError(
                f"graph: '{synapse}' leads back to '{name}' of shape {shape} with shape {back}; "
                "only a dense layer of as many outputs as neurons can be recurrent."
            )

    def check(self) -> None:
        """Check the edges, the shapes, and that every weight is finite.

        Raises:
            GraphError: If an edge's end is unknown, a node lacks a source, shapes clash, or a
                weight or bias is NaN or infinite.
        """
        for source, destination in self.edges:
            for end in (source, destination):
                if end not in self.nodes:
                    raise GraphError(f"graph: edge '{source}' -> '{destination}': no node '{end}'.")
        name = self.input_name
        for node in self.nodes:
            if (node == name) == bool(self.sources(node)):
                kind = "the input has a source" if node == name else f"'{node}' has no source"
                raise GraphError(f"graph: {kind}.")
        self.shapes()
        for node, layer in self.nodes.items():
            for key in ("weight", "bias"):
                values = getattr(layer, key, None)
                if values is not None and not np.isfinite(values).all():
                    raise GraphError(
                        f"graph: '{node}': {key} holds NaN or infinity, finite numbers are "
                        "required. Train again."
                    )

    def up_to(self, name: str) -> Graph:
        """Return the layers that lead to one, and the input."""
        kept = {name, self.input_name}
        for source, destination in reversed(self.edges):
            if destination in kept:
                kept.add(source)
        return Graph(
            nodes={key: layer for key, layer in self.nodes.items() if key in kept},
            edges=tuple(edge for edge in self.edges if edge[1] in kept),
        )

    def replace_nodes(self, *, changed: Mapping[str, Layer], removed: Sequence[str] = ()) -> Graph:
        """Return a new graph, nodes and edges in the same order.

        Args:
            changed: New layers by name.
            removed: Names of nodes with one source each; their readers then read that source.
        """
        bridge: dict[str, str] = {}
        for name in self.nodes:
            if name in removed:
                (source,) = self.sources(name)
                bridge[name] = bridge.get(source, source)
        return Graph(
            nodes={
                name: changed.get(name, layer)
                for name, layer in self.nodes.items()
                if name not in removed
            },
            edges=tuple(
                (bridge.get(source, source), destination)
                for source, destination in self.edges
                if destination not in removed
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnLayerMacs:
    """MACs of one layer of an ordinary network in one pass.

    Attributes:
        type: "conv" or "dense"; the operator in an ONNX model.
        macs_standard: By the textbook, taps on padding included.
        macs_border_exact: Without the taps on padding.
        macs_nonzero: Those of `macs_border_exact` through weights other than zero; None if not
            known.
        zero_weights: Those of the stored `weights` that are zero; 0 where that is not known.
        inputs: Values read; `outputs` are written.
    """

    name: str
    type: str
    macs_standard: int
    macs_border_exact: int
    macs_nonzero: int | None = None
    weights: int
    zero_weights: int = 0
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnMacs:
    """MACs of an ordinary network in one inference, batch 1: a ReLU twin, or an ONNX model.

    Attributes:
        layers: One row a layer.
        macs_effective: Mean of a pass without products with a zero weight or activation; None
            if not measured.
        passes: Of an inference: several where a sample is a sequence of frames, one for each.
    """

    layers: tuple[AnnLayerMacs, ...]
    macs_effective: float | None = None
    passes: int = 1

    @property
    def macs_standard(self) -> int:
        """Textbook MACs of an inference."""
        return self.passes * sum(layer.macs_standard for layer in self.layers)

    @property
    def macs_border_exact(self) -> int:
        """MACs of an inference without the taps on padding."""
        return self.passes * sum(layer.macs_border_exact for layer in self.layers)

    @property
    def macs_nonzero(self) -> int | None:
        """Those of `macs_border_exact` through weights other than zero; None if not known."""
        known = [layer.macs_nonzero for layer in self.layers if layer.macs_nonzero is not None]
        return self.passes * sum(known) if len(known) == len(self.layers) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedInput:
    """Where integer samples enter.

    Attributes:
        shape: (C, H, W) or (N,).
        message_bits: Bits of a graded input value (`input_message_bits` of Lava's `Network`),
            1 to 32; 0: binary, every value other than 0 counts as one spike.
    """

    shape: Shape
    message_bits: int = 0

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise GraphError(f"input: shape {self.shape}, every extent must be at least 1.")
        if not 0 <= self.message_bits <= 32:
            raise GraphError(f"input: {self.message_bits} message bits, 0 to 32 are allowed.")

    @property
    def is_graded(self) -> bool:
        """True if the values of inputs matter, besides their presence."""
        return self.message_bits > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScales:
    """How frames become the integers of a sigma-delta network, and its sums results again.

    Attributes:
        input: Integer units of a frame per float unit.
        output: Units of the read-out's sum per float unit of a result.
    """

    input: float
    output: float


SPIKE_EXPONENT = 6
"""Default of `spike_exp` in Lava's `Network`."""
INPUT = "input"
"""Name under which connections refer to a `FixedPointGraph`'s input."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedPointGraph:
    """An integer network: populations in an order in which each comes after its sources.

    Attributes:
        layers: Populations; their index is the k of a recording.
        relu_twin: MACs of the trained network's ReLU twin; None if not known. They travel with
            the network since its own layers cannot tell them: relay channels, merged groups and
            folded pools make it larger than its twin.
        frame_scales: Of a converted ReLU network; None of others.
        refresh_interval: Steps after which a sigma-delta network is to be set to zero, again and
            again, lest the bits that its neurons drop add up; None: never.

    Example:
        >>> fixed = nd.load_example().graph
        >>> fixed.names, fixed.shape_of("conv2"), fixed.sends_changes
        (('conv1', 'conv2', 'readout'), (16, 2, 2), False)
        >>> [fixed.reads_values(layer) for layer in fixed.layers]  # the first one reads pixels
        [True, False, False]
    """

    input: FixedInput
    layers: tuple[FixedLayer, ...]
    relu_twin: AnnMacs | None = None
    frame_scales: FrameScales | None = None
    refresh_interval: int | None = None

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise GraphError if there is no layer, or names, order or shapes do not fit."""
        if not self.layers:
            raise GraphError("graph: no layers. A network needs at least one.")
        if self.refresh_interval is not None and self.refresh_interval < 1:
            raise GraphError(
                f"graph: a refresh every {self.refresh_interval} steps, 1 or more are required."
            )
        known: dict[str, Shape] = {INPUT: self.input.shape}
        for layer in self.layers:
            if layer.name in known:
                raise GraphError(f"graph: two layers are called '{layer.name}'.")
            if not layer.connections:
                raise GraphError(f"graph: '{layer.name}' has no source.")
            for connection in layer.connections:
                source = connection.source
                if source != layer.name and source not in known:
                    raise GraphError(
                        f"graph: '{layer.name}' reads '{source}', which is not a layer before it."
                    )
                shape = layer.shape if source == layer.name else known[source]
                try:
                    given = connection.synapse.output_shape(shape)
                except GraphError as error:
                    raise GraphError(f"graph: '{source}' -> '{layer.name}': {error}") from error
                if prod(given) != layer.neurons or (len(given) == 3 and given != layer.shape):
                    raise GraphError(
                        f"graph: '{source}' -> '{layer.name}': the synapse gives {given}, "
                        f"the layer has {layer.shape}."
                    )
            known[layer.name] = layer.shape

    def __iter__(self) -> Iterator[FixedLayer]:
        return iter(self.layers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the layers in order."""
        return tuple(layer.name for layer in self.layers)

    @property
    def has_input_neuron(self) -> bool:
        """True if the first layer is an input block: neurons fed without a synapse."""
        return any(
            isinstance(connection.synapse, FixedInjection)
            for connection in self.layers[0].connections
        )

    @property
    def sends_changes(self) -> bool:
        """True with sigma-delta neurons, for which Lava must know the spike exponent."""
        return any(hasattr(layer.neuron, "spike_exponent") for layer in self.layers)

    @property
    def spike_exponent(self) -> int:
        """`spike_exp` of Lava's `Network`: that of sigma-delta neurons, else Lava's default."""
        exponents = (getattr(layer.neuron, "spike_exponent", None) for layer in self.layers)
        return next((found for found in exponents if found is not None), SPIKE_EXPONENT)

    def shape_of(self, name: str) -> Shape:
        """Return the shape of a layer or of the input; GraphError if there is none."""
        if name == INPUT:
            return self.input.shape
        for layer in self.layers:
            if layer.name == name:
                return layer.shape
        raise GraphError(f"graph: no layer '{name}'. Layers: {', '.join(self.names)}.")

    def reads_values(self, layer: FixedLayer) -> bool:
        """True if the synapses of `layer` use the values of events, not only their presence.

        Lava decides this for a layer as a whole: its recurrent synapse follows the forward one.
        """
        sources = {connection.source for connection in layer.connections} - {layer.name}
        if INPUT in sources and self.input.is_graded:
            return True
        return any(other.neuron.is_graded for other in self.layers if other.name in sources)
