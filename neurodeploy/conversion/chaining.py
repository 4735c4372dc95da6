"""Lower a ReLU network to a chain: pairs, pools, maxima by differences, relays for skips.

A sigma-delta neuron sends the rectified sum of what it reads, and a netx file is a chain of such
layers. So every tensor of the network is held as a sum of *blocks*: channels that are never
negative, each with a coefficient.

    relu(z)             block relu(z)
    clip(z, 0, c)       relu(z) - relu(z - c)
    leaky(z)            relu(z) - slope · relu(-z)
    z, kept signed      relu(z) - relu(-z)
    max(a, b)           relu(a - b) + b

What is read by a later layer than the next is carried on by relays of weight 1, and an addition
reads both branches side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from neurodeploy.conversion.chain import NONE, Chain, ChainLayer
from neurodeploy.errors import ConversionError
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    Addition,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Layer,
    MaxPool,
    Rectifier,
    Shape,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.netx.schema import GEOMETRY_MAX
from neurodeploy.passes.folding import fold_batchnorm, join_groups

_INPUT = -1
"""Stage that holds the frame itself."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Channels of one stage: `first` to `first + count` of its own."""

    stage: int
    first: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class _BlockSum:
    """A tensor as a sum of blocks, each with one coefficient a channel.

    `is_signed` says whether the sum may be negative.
    """

    parts: tuple[tuple[_Part, FloatArray], ...]
    shape: Shape
    is_signed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Term:
    """A linear map of a value; None for the value itself."""

    synapse: Conv | Dense | None
    value: _BlockSum


@dataclass(frozen=True, slots=True, eq=False)
class _Sum:
    """A tensor that is not computed yet: linear maps of values, and a bias a channel."""

    terms: tuple[_Term, ...]
    bias: FloatArray
    shape: Shape


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Output channels of a stage: sign · (sum + offset), rectified."""

    sum: _Sum
    sign: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """One layer of the chain without its relays."""

    name: str
    rows: tuple[_Rows, ...]
    keeps_scale: bool = False
    is_pool: bool = False
    is_pair: bool = False

    @property
    def shape(self) -> Shape:
        """Shape of its own channels."""
        first = self.rows[0].sum.shape
        return (sum(rows.sum.shape[0] for rows in self.rows), *first[1:])


def lower_rectified(
    graph: Graph, *, is_signed: bool = False, peaks: Mapping[str, float] | None = None
) -> Chain:
    """Return the chain that computes what a graph of convolutions, pools and rectifiers does.

    Args:
        graph: Ends in one linear layer, rectifier or pool.
        is_signed: Whether the frames have negative values.
        peaks: Largest value that reaches each rectifier; one whose ceiling is never reached
            becomes a plain ReLU.

    Raises:
        ConversionError: Names every node that cannot be lowered, and the reason.
        GraphError: If the shapes of the graph do not fit.
    """
    graph.check()
    if not any(isinstance(layer, Rectifier) for layer in graph.nodes.values()):
        raise ConversionError(
            "no layer of the network is rectified: a sigma-delta network needs a hidden layer with "
            "ReLU. Retrain with one."
        )
    graph = fold_batchnorm(graph)
    lowering = _Lowering(graph, is_signed=is_signed, peaks=peaks or {})
    lowering.walk()
    return lowering.chain()


class _Lowering:
    """Walks through a graph and collects stages."""

    def __init__(self, graph: Graph, *, is_signed: bool, peaks: Mapping[str, float]) -> None:
        self.graph = graph
        self.shapes = graph.shapes()
        self.is_signed = is_signed
        self.peaks = peaks
        self.stages: list[_Stage] = []
        self.notes: list[str] = []
        self.held: dict[str, _BlockSum | _Sum] = {}

    def walk(self) -> None:
        """Turn every node into stages; the last one is the read-out."""
        ends = [name for name in self.graph.nodes if not self.graph.destinations(name)]
        if len(ends) != 1:
            raise ConversionError(
                f"the network has {len(ends)} ends ({', '.join(ends)}); one is required. Export "
                "it with a single output."
            )
        refusals = []
        for name, layer in self.graph.nodes.items():
            try:
                held = self._take(name, layer)
                if isinstance(held, _Sum) and len(self.graph.destinations(name)) > 1:
                    held = self._signed(name, held)
                self.held[name] = held
            except ConversionError as error:
                refusals.append(str(error))
                self.held[name] = self._stand_in(name)
        if refusals:
            raise ConversionError(
                "cannot be converted.\n" + "\n".join(f"- {text}" for text in refusals)
            )
        end = self._to_sum(self.held[ends[0]])
        if len(end.shape) > 1 and prod(end.shape[1:]) != 1:
            raise ConversionError(
                f"{ends[0]}: the network ends with maps of {end.shape}; sigma neurons are read as "
                "a vector. End it with a pool or a linear layer."
            )
        self.stages.append(_Stage(_free_name("output", self.graph), (_Rows(end),)))

    def _stand_in(self, name: str) -> _BlockSum:
        """Return a value for a refused node, so that others are examined as well."""
        shape = self.shapes[name]
        block = _Part(_INPUT, 0, shape[0])
        return _BlockSum(((block, np.ones(shape[0])),), shape, self.is_signed)

    def _take(self, name: str, layer: Layer) -> _BlockSum | _Sum:
        if isinstance(layer, Input):
            value = self._stand_in(name)
            if self.is_signed and len(self.graph.destinations(name)) > 1:
                return self._signed(name, self._to_sum(value))
            return value
        sources = [self.held[source] for source in self.graph.sources(name)]
        match layer:
            case Conv() | Dense():
                value = self._as_value(self._add(sources), self.graph.sources(name)[0])
                bias = layer.bias if layer.bias is not None else np.zeros(len(layer.weight))
                if bias.ndim > 1:
                    raise ConversionError(f"{name}: its bias differs between positions.")
                return _Sum((_Term(layer, value),), bias, self.shapes[name])
            case Addition():
                return self._add(sources)
            case Rectifier():
                return self._rectify(name, layer, self._to_sum(self._add(sources)))
            case AveragePool() | GlobalAveragePool():
                value = self._as_value(self._add(sources), self.graph.sources(name)[0])
                return self._average(name, layer, value)
            case MaxPool():
                return self._maximum(name, layer, self._add(sources))
            case Flatten():
                held = self._add(sources)
                held = held if isinstance(held, _BlockSum) else self._signed(name, held)
                return replace(held, shape=self.shapes[name])
        raise ConversionError(f"{name}: a {type(layer).__name__} has no place in a ReLU network.")

    def _add(self, held: Sequence[_BlockSum | _Sum]) -> _BlockSum | _Sum:
        if len(held) == 1:
            return held[0]
        if all(isinstance(one, _BlockSum) for one in held):
            values = [one for one in held if isinstance(one, _BlockSum)]
            parts = tuple(part for one in values for part in one.parts)
            is_signed = any(one.is_signed for one in values)
            return _BlockSum(parts, values[0].shape, is_signed)
        sums = [self._to_sum(one) for one in held]
        bias: FloatArray = np.sum([one.bias for one in sums], axis=0)
        return _Sum(tuple(term for one in sums for term in one.terms), bias, sums[0].shape)

    def _to_sum(self, held: _BlockSum | _Sum) -> _Sum:
        if isinstance(held, _Sum):
            return held
        return _Sum((_Term(None, held),), np.zeros(held.shape[0]), held.shape)

    def _as_value(self, held: _BlockSum | _Sum, name: str) -> _BlockSum:
        return held if isinstance(held, _BlockSum) else self._signed(name, held)

    def _emit(self, stage: _Stage) -> list[_Part]:
        index, first, blocks = len(self.stages), 0, []
        for rows in stage.rows:
            blocks.append(_Part(index, first, rows.sum.shape[0]))
            first += rows.sum.shape[0]
        self.stages.append(stage)
        return blocks

    def _value(self, blocks: Sequence[_Part], factors: Sequence[object], shape: Shape) -> _BlockSum:
        parts = tuple(
            (block, np.broadcast_to(np.asarray(factor, np.float64), (block.count,)))
            for block, factor in zip(blocks, factors, strict=True)
        )
        return _BlockSum(parts, shape)

    def _signed(self, name: str, total: _Sum) -> _BlockSum:
        """Keep a value of either sign: both of its halves."""
        rows = (_Rows(total), _Rows(total, sign=-1.0))
        blocks = self._emit(_Stage(name, rows, is_pair=True))
        self.notes.append(f"{name}: both signs are kept, as a pair of channels each")
        return replace(self._value(blocks, (1.0, -1.0), total.shape), is_signed=True)

    def _rectify(self, name: str, layer: Rectifier, total: _Sum) -> _BlockSum:
        ceiling = layer.ceiling
        if ceiling is not None and self.peaks.get(name, np.inf) <= ceiling:
            self.notes.append(f"{name}: no calibration frame reaches its ceiling {ceiling:g}")
            ceiling = None
        rows, factors = [_Rows(total)], [np.asarray(1.0)]
        if ceiling is not None:
            rows.append(_Rows(total, offset=-ceiling))
            factors.append(np.asarray(-1.0))
            self.notes.append(f"{name}: its ceiling {ceiling:g} is a second channel each")
        if np.any(layer.slope):
            rows.append(_Rows(total, sign=-1.0))
            factors.append(-np.asarray(layer.slope, np.float64))
            self.notes.append(f"{name}: its negative slope is a second channel each")
        blocks = self._emit(_Stage(name, tuple(rows), is_pair=ceiling is not None))
        value = self._value(blocks, factors, total.shape)
        return replace(value, is_signed=bool(np.any(layer.slope)))

    def _average(
        self, name: str, layer: AveragePool | GlobalAveragePool, value: _BlockSum
    ) -> _BlockSum:
        _, height, width = value.shape
        kernel, stride, padding = (height, width), (1, 1), (0, 0)
        if isinstance(layer, AveragePool):
            kernel, stride, padding = layer.kernel, layer.stride, layer.padding
        weight = np.full((value.shape[0], 1, *kernel), 1 / prod(kernel))
        synapse = Conv(weight=weight, stride=stride, padding=padding, groups=value.shape[0])
        shape = synapse.output_shape(value.shape)
        rows, factors = [], []
        for block, factor in value.parts:  # each half on its own: means of what is not negative
            term = _Term(synapse, self._value([block], [1.0], value.shape))
            rows.append(_Rows(_Sum((term,), np.zeros(shape[0]), shape)))
            factors.append(factor)
        blocks = self._emit(_Stage(name, tuple(rows), is_pool=True, is_pair=len(rows) > 1))
        pooled = self._value(blocks, factors, shape)
        return replace(pooled, shape=self.shapes[name], is_signed=value.is_signed)

    def _maximum(self, name: str, layer: MaxPool, held: _BlockSum | _Sum) -> _BlockSum:
        """Take maxima one tap after the other: max(a, b) = relu(a - b) + b."""
        if not isinstance(held, _BlockSum) or held.is_signed:
            raise ConversionError(
                f"{name}: MaxPool of values that may be negative; only maxima of rectified values "
                "can be computed. Put the ReLU before the pool: the result is the same."
            )
        value = held
        for axis, word in ((1, "columns"), (0, "rows")):
            value = self._maximum_along(f"{name}.{word}", layer, value, axis)
        if len(value.parts) > 1:
            total = self._to_sum(value)
            blocks = self._emit(_Stage(f"{name}.sum", (_Rows(total),), keeps_scale=True))
            value = self._value(blocks, [1.0], value.shape)
        self.notes.append(f"{name}: maxima by differences, in exact layers")
        return value

    def _maximum_along(self, name: str, layer: MaxPool, value: _BlockSum, axis: int) -> _BlockSum:
        taps = layer.kernel[axis]
        # Every tap of the window is a value of its own: the picture, moved and thinned out.
        picked = [self._picked(layer, value, axis, tap) for tap in range(taps)]
        shape = picked[0].shape
        if taps == 1 and (layer.stride[axis], layer.padding[axis]) == (1, 0):
            return value
        if taps == 1:
            blocks = self._emit(_Stage(name, (_Rows(picked[0]),), keeps_scale=True))
            return self._value(blocks, [1.0], shape)
        largest, others = picked[0], picked[1:]
        for index in range(len(others)):
            second = others[index]
            difference = _Sum(
                (*largest.terms, *(_negated(term) for term in second.terms)),
                np.zeros(shape[0]),
                shape,
            )
            rows = [_Rows(difference), _Rows(second)]
            rows += [_Rows(one) for one in others[index + 1 :]]
            label = name if taps == 2 else f"{name}{index + 1}"
            blocks = self._emit(_Stage(label, tuple(rows), keeps_scale=True))
            largest = self._to_sum(self._value(blocks[:2], [1.0, 1.0], shape))
            others[index + 1 :] = [
                self._to_sum(self._value([block], [1.0], shape)) for block in blocks[2:]
            ]
        (term,) = largest.terms
        return term.value

    def _picked(self, layer: MaxPool, value: _BlockSum, axis: int, tap: int) -> _Sum:
        kernel, stride, padding = [1, 1], [1, 1], [0, 0]
        kernel[axis], stride[axis] = layer.kernel[axis], layer.stride[axis]
        padding[axis] = layer.padding[axis]
        channels = value.shape[0]
        weight = np.zeros((channels, channels, *kernel))
        place = [0, 0]
        place[axis] = tap
        weight[np.arange(channels), np.arange(channels), place[0], place[1]] = 1.0
        conv = Conv(weight=weight, stride=(stride[0], stride[1]), padding=(padding[0], padding[1]))
        shape = conv.output_shape(value.shape)
        return _Sum((_Term(conv, value),), np.zeros(channels), shape)

    def chain(self) -> Chain:
        """Join the stages, with relays for what is read later."""
        last_reader: dict[_Part, int] = {}
        for index, stage in enumerate(self.stages):
            for block in _blocks_read(stage):
                last_reader[block] = index
        layout = _Layout.of_input(self.graph.input.shape)
        layers: list[ChainLayer] = []
        refusals: list[str] = []
        for index, stage in enumerate(self.stages):
            carried = [block for block in layout.blocks if last_reader.get(block, index) > index]
            try:
                layer, layout = _join(stage, index, layout, carried)
            except ConversionError as error:
                refusals.append(str(error))
                break
            layers.append(replace(layer, is_readout=stage is self.stages[-1]))
        if refusals:
            raise ConversionError(
                "cannot be converted.\n" + "\n".join(f"- {text}" for text in refusals)
            )
        return Chain(shape=self.graph.input.shape, layers=tuple(layers), notes=tuple(self.notes))


def _negated(term: _Term) -> _Term:
    parts = tuple((block, -factor) for block, factor in term.value.parts)
    return _Term(term.synapse, replace(term.value, parts=parts))


def _free_name(name: str, graph: Graph) -> str:
    return name if name not in graph.nodes else f"{name}.sigma"


def _blocks_read(stage: _Stage) -> set[_Part]:
    return {
        block for rows in stage.rows for term in rows.sum.terms for block, _ in term.value.parts
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The channels that a layer sends: where each block begins, and how it was thinned out."""

    shape: Shape
    offsets: Mapping[_Part, int]
    strides: Mapping[_Part, tuple[int, int]]

    @classmethod
    def of_input(cls, shape: Shape) -> _Layout:
        block = _Part(_INPUT, 0, shape[0])
        return cls(shape, {block: 0}, {block: (1, 1)})

    @property
    def blocks(self) -> tuple[_Part, ...]:
        return tuple(self.offsets)


@dataclass(frozen=True, slots=True)
class _Geometry:
    """The kernel that all maps of a stage share; None for a dense layer."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def _join(
    stage: _Stage, index: int, layout: _Layout, carried: Sequence[_Part]
) -> tuple[ChainLayer, _Layout]:
    """Return the layer of a stage with its relays, and the layout of what it sends."""
    terms = [term for rows in stage.rows for term in rows.sum.terms]
    is_dense = any(isinstance(term.synapse, Dense) for term in terms) or (
        len(layout.shape) == 1 or len(stage.shape) == 1
    )
    own, inputs = stage.shape[0], layout.shape[0]
    outputs = own + sum(block.count for block in carried)
    tied = np.full(outputs, NONE)
    identity = np.full(outputs, NONE)
    partner = np.arange(outputs)
    bias = np.zeros(outputs)
    geometry = None if is_dense else _geometry_of(stage, layout)
    if geometry is None:
        if carried and len(layout.shape) > 1 and prod(layout.shape[1:]) > 1:
            raise ConversionError(
                f"{stage.name}: a skip connection passes over a linear layer that reads maps. Only "
                "skips over convolutions, or over linear layers of vectors, can be relayed."
            )
        weight = np.zeros((outputs, inputs, prod(layout.shape[1:])))
    else:
        weight = np.zeros((outputs, inputs, *geometry.kernel))
    row = 0
    for rows in stage.rows:
        count = rows.sum.shape[0]
        for term in rows.sum.terms:
            for block, factor in term.value.parts:
                columns = slice(layout.offsets[block], layout.offsets[block] + block.count)
                placed = _placed(stage.name, term, block, factor, layout, geometry)
                weight[row : row + count, columns] += rows.sign * placed
                if term.synapse is None and rows.sign > 0 and (factor > 0).all():
                    identity[row : row + count] = np.arange(columns.start, columns.stop)
        bias[row : row + count] = rows.sign * (rows.sum.bias + rows.offset)
        if stage.is_pair:
            partner[row : row + count] = np.arange(count)
        row += count
    if stage.keeps_scale:
        identity[:] = NONE
        reads = (weight.reshape(outputs, inputs, -1) != 0).any(axis=2)
        tied[:own] = np.argmax(reads[:own], axis=1)
    offsets: dict[_Part, int] = {}
    strides: dict[_Part, tuple[int, int]] = {}
    row = 0
    for rows in stage.rows:
        block = _Part(index, row, rows.sum.shape[0])
        offsets[block], strides[block] = row, (1, 1)
        row += block.count
    for block in carried:
        places = np.arange(block.count)
        tap = (0,) if geometry is None else _centre(geometry, stage.name)
        weight[(row + places, layout.offsets[block] + places, *tap)] = 1.0
        tied[row : row + block.count] = layout.offsets[block] + places
        offsets[block] = row
        before = layout.strides[block]
        step = (1, 1) if geometry is None else geometry.stride
        strides[block] = (before[0] * step[0], before[1] * step[1])
        row += block.count
    partner[own:] = own + np.arange(outputs - own)
    shape = (outputs, *stage.shape[1:]) if geometry is not None else (outputs,)
    layer = ChainLayer(
        name=stage.name,
        synapse=_synapse(weight, bias, geometry),
        source=layout.shape,
        shape=shape,
        tied=tied,
        identity=identity,
        partner=partner,
        is_pool=stage.is_pool,
    )
    found = layer.synapse.output_shape(layout.shape)
    if found != shape:
        raise ConversionError(
            f"{stage.name}: its branches do not lie on each other: {found} is computed, {shape} "
            "expected."
        )
    return layer, _Layout(shape, offsets, strides)


def _synapse(weight: FloatArray, bias: FloatArray, geometry: _Geometry | None) -> Conv | Dense:
    if geometry is None:
        return Dense(weight=weight.reshape(len(weight), -1), bias=bias)
    outputs, inputs = weight.shape[:2]
    groups = 1
    diagonal = np.eye(outputs, dtype=bool)
    if outputs == inputs and not weight[~diagonal[: len(weight)]].any() and outputs > 1:
        groups = outputs
        weight = weight[diagonal][:, None]
        if groups > GEOMETRY_MAX:
            fewer = max(n for n in range(1, GEOMETRY_MAX + 1) if groups % n == 0)
            weight, groups = join_groups(weight, groups, groups // fewer), fewer
    return Conv(
        weight=weight,
        bias=bias,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=groups,
    )


def _geometry_of(stage: _Stage, layout: _Layout) -> _Geometry:
    """Return a kernel on which the kernels of all terms lie."""
    found: list[_Geometry] = []
    for rows in stage.rows:
        for term in rows.sum.terms:
            for block, _ in term.value.parts:
                found.append(_own_geometry(stage.name, term, layout.strides[block]))
    main = max(found, key=lambda one: prod(one.kernel))
    padding = tuple(max(one.padding[axis] for one in found) for axis in (0, 1))
    kernel = [0, 0]
    for one in found:
        same = [
            one.stride[axis] == main.stride[axis]
            and (one.kernel[axis] == 1 or one.dilation[axis] == main.dilation[axis])
            and (padding[axis] - one.padding[axis]) % main.dilation[axis] == 0
            for axis in (0, 1)
        ]
        if not all(same):
            raise ConversionError(
                f"{stage.name}: adds branches of stride {main.stride} and {one.stride}, kernel "
                f"{main.kernel} and {one.kernel}; the kernels must lie on each other. A 1x1 "
                "convolution of the same stride does."
            )
        for axis in (0, 1):
            offset = (padding[axis] - one.padding[axis]) // main.dilation[axis]
            kernel[axis] = max(kernel[axis], offset + one.kernel[axis])
    # Taps beyond the kernels, so that every output lies where it should.
    for axis in (0, 1):
        size = layout.shape[axis + 1] + 2 * padding[axis]
        wanted = stage.shape[axis + 1]
        step, dilation = main.stride[axis], main.dilation[axis]
        while (size - dilation * (kernel[axis] - 1) - 1) // step + 1 > wanted:
            kernel[axis] += 1
    if max(kernel) > GEOMETRY_MAX:
        raise ConversionError(
            f"{stage.name}: a kernel of {tuple(kernel)}; Lava holds {GEOMETRY_MAX} at most along "
            "each axis."
        )
    return _Geometry((kernel[0], kernel[1]), main.stride, (padding[0], padding[1]), main.dilation)


def _own_geometry(name: str, term: _Term, thinned: tuple[int, int]) -> _Geometry:
    conv = term.synapse
    if conv is None:
        conv = Conv(weight=np.ones((1, 1, 1, 1)))
    assert isinstance(conv, Conv)
    kernel = (conv.weight.shape[2], conv.weight.shape[3])
    stride = []
    for axis in (0, 1):
        if thinned[axis] == 1:
            stride.append(conv.stride[axis])
            continue
        step, rest = divmod(conv.stride[axis], thinned[axis])
        if rest or kernel[axis] != 1 or conv.padding[axis]:
            raise ConversionError(
                f"{name}: reads a skip connection over stride {thinned[axis]} with kernel "
                f"{kernel} and stride {conv.stride}; the path that it skips leaves only every "
                f"{thinned[axis]}nd pixel. A 1x1 convolution of the same stride does."
            )
        stride.append(step)
    return _Geometry(kernel, (stride[0], stride[1]), conv.padding, conv.dilation)


def _centre(geometry: _Geometry, name: str) -> tuple[int, int]:
    taps = []
    for axis in (0, 1):
        tap, rest = divmod(geometry.padding[axis], geometry.dilation[axis])
        if rest or tap >= geometry.kernel[axis]:
            raise ConversionError(
                f"{name}: no tap of its kernel {geometry.kernel} with padding {geometry.padding} "
                "lies on the pixel itself, so that a skip connection cannot pass over it."
            )
        taps.append(tap)
    return taps[0], taps[1]


def _placed(
    name: str,
    term: _Term,
    block: _Part,
    factor: FloatArray,
    layout: _Layout,
    geometry: _Geometry | None,
) -> FloatArray:
    """Return a term's weights for one block, on the taps of the stage's kernel."""
    if geometry is None:
        positions = prod(layout.shape[1:])
        if term.synapse is None:
            weight = np.eye(block.count * positions).reshape(-1, block.count, positions)
        else:
            assert isinstance(term.synapse, Dense)
            weight = term.synapse.weight.reshape(-1, block.count, positions)
        return np.asarray(weight * factor[:, None])
    own = _own_geometry(name, term, layout.strides[block])
    if term.synapse is None:
        weight = np.eye(block.count)[:, :, None, None]
    else:
        assert isinstance(term.synapse, Conv)
        conv = term.synapse
        weight = conv.weight
        if conv.groups > 1:
            weight = join_groups(weight, conv.groups, conv.groups)
    taps = [
        slice(offset, offset + own.kernel[axis])
        for axis in (0, 1)
        for offset in [(geometry.padding[axis] - own.padding[axis]) // geometry.dilation[axis]]
    ]
    placed = np.zeros((*weight.shape[:2], *geometry.kernel))
    placed[:, :, taps[0], taps[1]] = weight * factor[:, None, None]
    return placed
