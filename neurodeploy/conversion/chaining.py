"""Lower a ReLU network to a chain: pairs, pools, maxima by differences, relays for skips.

A sigma-delta neuron sends the rectified sum of what it reads, and a netx file is a chain of such
layers. So every tensor of the network is held as a sum of *blocks*: channels that are never
negative, each with a coefficient.

    relu(z)             block relu(z)
    clip(z, 0, c)       relu(z) - relu(z - c)
    leaky(z)            relu(z) - slope · relu(-z)
    z, kept signed      relu(z) - relu(-z)
    max(a, b)           relu(a - b) + b
    means               layers of one weight, large ones in steps

What is read by a later layer than the next is carried on by relays of weight 1, and an addition
reads both branches side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import gcd, prod

import numpy as np

from neurodeploy.conversion.chain import Chain, ChainLayer
from neurodeploy.conversion.scaling import GAIN
from neurodeploy.conversion.stage_joining import (
    INPUT_STAGE,
    BlockSum,
    ChainStage,
    ChannelBlock,
    ChannelLayout,
    LinearSum,
    LinearTerm,
    StageRows,
    blocks_read,
    join_stage,
)
from neurodeploy.errors import ConversionError, NeurodeployError, Obstacle, list_obstacles
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import (
    Addition,
    AveragePool,
    BatchNorm,
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
from neurodeploy.passes.folding import fold_batchnorm, follows_synapse


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
    graph = fold_batchnorm(_with_plain_norms(graph))
    lowering = _Lowering(graph, is_signed=is_signed, peaks=peaks or {})
    lowering.walk()
    return lowering.chain()


def _with_plain_norms(graph: Graph) -> Graph:
    """Return a graph whose batch norms that cannot be folded are layers of one weight a channel."""
    changed: dict[str, Layer] = {}
    for name, shape in graph.shapes().items():
        norm = graph.nodes[name]
        if not isinstance(norm, BatchNorm) or follows_synapse(graph, name):
            continue
        if len(shape) == 1:
            changed[name] = Dense(weight=np.diag(norm.scale), bias=norm.shift)
        else:
            weight = norm.scale.reshape(-1, 1, 1, 1)
            changed[name] = Conv(weight=weight, bias=norm.shift, groups=len(weight))
    return graph.replace_nodes(changed=changed)


class _Lowering:
    """Walks through a graph and collects stages."""

    def __init__(self, graph: Graph, *, is_signed: bool, peaks: Mapping[str, float]) -> None:
        self.graph = graph
        self.shapes = graph.shapes()
        self.is_signed = is_signed
        self.peaks = peaks
        self.stages: list[ChainStage] = []
        self.notes: list[str] = []
        self.held: dict[str, BlockSum | LinearSum] = {}

    def walk(self) -> None:
        """Turn every node into stages; the last one is the read-out."""
        ends = [name for name in self.graph.nodes if not self.graph.destinations(name)]
        if len(ends) != 1:
            raise ConversionError(
                f"the network has {len(ends)} ends ({', '.join(ends)}); one is required. Export "
                "it with a single output."
            )
        obstacles = []
        for name, layer in self.graph.nodes.items():
            try:
                held = self._take(name, layer)
                if isinstance(held, LinearSum) and len(self.graph.destinations(name)) > 1:
                    held = self._signed(name, held)
                self.held[name] = held
            except ConversionError as error:
                obstacles.append(_obstacle(name, layer, error))
                self.held[name] = self._stand_in(name)
        if obstacles:
            raise list_obstacles(ConversionError, "the network ", obstacles)
        end = self._to_sum(self.held[ends[0]])
        if len(end.shape) > 1 and prod(end.shape[1:]) != 1:
            raise ConversionError(
                f"{ends[0]}: the network ends with maps of {end.shape}; sigma neurons are read as "
                "a vector. End it with a pool or a linear layer."
            )
        self.stages.append(ChainStage(_free_name("output", self.graph), (StageRows(end),)))

    def _stand_in(self, name: str) -> BlockSum:
        """Return a value for a refused node, so that others are examined as well."""
        shape = self.shapes[name]
        block = ChannelBlock(INPUT_STAGE, 0, shape[0])
        return BlockSum(((block, np.ones(shape[0])),), shape, self.is_signed)

    def _take(self, name: str, layer: Layer) -> BlockSum | LinearSum:
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
                    raise ConversionError(
                        f"{name}: its bias differs between positions; one a channel is possible."
                    )
                return LinearSum((LinearTerm(layer, value),), bias, self.shapes[name])
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
                held = held if isinstance(held, BlockSum) else self._signed(name, held)
                return replace(held, shape=self.shapes[name])
        raise ConversionError(f"{name}: a {type(layer).__name__} has no place in a ReLU network.")

    def _add(self, held: Sequence[BlockSum | LinearSum]) -> BlockSum | LinearSum:
        if len(held) == 1:
            return held[0]
        if all(isinstance(one, BlockSum) for one in held):
            values = [one for one in held if isinstance(one, BlockSum)]
            parts = tuple(part for one in values for part in one.parts)
            is_signed = any(one.is_signed for one in values)
            return BlockSum(parts, values[0].shape, is_signed)
        sums = [self._to_sum(one) for one in held]
        bias: FloatArray = np.sum([one.bias for one in sums], axis=0)
        return LinearSum(tuple(term for one in sums for term in one.terms), bias, sums[0].shape)

    def _to_sum(self, held: BlockSum | LinearSum) -> LinearSum:
        if isinstance(held, LinearSum):
            return held
        return LinearSum((LinearTerm(None, held),), np.zeros(held.shape[0]), held.shape)

    def _as_value(self, held: BlockSum | LinearSum, name: str) -> BlockSum:
        return held if isinstance(held, BlockSum) else self._signed(name, held)

    def _emit(self, stage: ChainStage) -> list[ChannelBlock]:
        index, first, blocks = len(self.stages), 0, []
        for rows in stage.rows:
            blocks.append(ChannelBlock(index, first, rows.sum.shape[0]))
            first += rows.sum.shape[0]
        self.stages.append(stage)
        return blocks

    def _value(
        self, blocks: Sequence[ChannelBlock], factors: Sequence[object], shape: Shape
    ) -> BlockSum:
        parts = tuple(
            (block, np.broadcast_to(np.asarray(factor, np.float64), (block.count,)))
            for block, factor in zip(blocks, factors, strict=True)
        )
        return BlockSum(parts, shape)

    def _signed(self, name: str, total: LinearSum) -> BlockSum:
        """Keep a value of either sign: both of its halves."""
        rows = (StageRows(total), StageRows(total, sign=-1.0))
        blocks = self._emit(ChainStage(name, rows, is_pair=True))
        self.notes.append(f"{name}: both signs are kept, as a pair of channels each")
        return replace(self._value(blocks, (1.0, -1.0), total.shape), is_signed=True)

    def _rectify(self, name: str, layer: Rectifier, total: LinearSum) -> BlockSum:
        ceiling = layer.ceiling
        if ceiling is not None and self.peaks.get(name, np.inf) <= ceiling:
            self.notes.append(f"{name}: no calibration frame reaches its ceiling {ceiling:g}")
            ceiling = None
        rows, factors = [StageRows(total)], [np.asarray(1.0)]
        if ceiling is not None:
            rows.append(StageRows(total, offset=-ceiling))
            factors.append(np.asarray(-1.0))
            self.notes.append(f"{name}: its ceiling {ceiling:g} is a second channel each")
        if np.any(layer.slope):
            rows.append(StageRows(total, sign=-1.0))
            factors.append(-np.asarray(layer.slope, np.float64))
            self.notes.append(f"{name}: its negative slope is a second channel each")
        blocks = self._emit(ChainStage(name, tuple(rows), is_pair=ceiling is not None))
        value = self._value(blocks, factors, total.shape)
        return replace(value, is_signed=bool(np.any(layer.slope)))

    def _average(
        self, name: str, layer: AveragePool | GlobalAveragePool, value: BlockSum
    ) -> BlockSum:
        _, height, width = value.shape
        kernel, stride, padding = (height, width), (1, 1), (0, 0)
        if isinstance(layer, AveragePool):
            kernel, stride, padding = layer.kernel, layer.stride, layer.padding
        whole = Conv(weight=np.ones((1, 1, *kernel)), stride=stride, padding=padding)
        outputs = whole.output_shape((1, height, width))[1:]
        moved = [taps if n == 1 else s for taps, n, s in zip(kernel, outputs, stride, strict=True)]
        pools = _split_pool(replace(whole, stride=(moved[0], moved[1])))
        pooled = value
        for number, pool in enumerate(pools, 1):
            label = name if len(pools) == 1 else f"{name}.mean{number}"
            pooled = self._pooled(label, pool, pooled)
        if len(pools) > 1:
            steps = " of ".join(f"{prod(pool.weight.shape)}" for pool in reversed(pools))
            self.notes.append(
                f"{name}: the mean of {prod(kernel)} values is taken in steps, {steps}"
            )
        return replace(pooled, shape=self.shapes[name], is_signed=value.is_signed)

    def _pooled(self, name: str, pool: Conv, value: BlockSum) -> BlockSum:
        """Take means over the kernel of a convolution of one channel, channel by channel."""
        kernel = pool.weight.shape[2:]
        weight = np.full((value.shape[0], 1, *kernel), 1 / prod(kernel))
        synapse = replace(pool, weight=weight, groups=value.shape[0])
        shape = synapse.output_shape(value.shape)
        rows, factors = [], []
        for block, factor in value.parts:  # each half on its own: means of what is not negative
            term = LinearTerm(synapse, self._value([block], [1.0], value.shape))
            rows.append(StageRows(LinearSum((term,), np.zeros(shape[0]), shape)))
            factors.append(factor)
        blocks = self._emit(ChainStage(name, tuple(rows), is_pool=True, is_pair=len(rows) > 1))
        return self._value(blocks, factors, shape)

    def _maximum(self, name: str, layer: MaxPool, held: BlockSum | LinearSum) -> BlockSum:
        """Take maxima one tap after the other: max(a, b) = relu(a - b) + b."""
        if not isinstance(held, BlockSum) or held.is_signed:
            raise ConversionError(
                f"{name}: MaxPool of values that may be negative; only maxima of rectified values "
                "can be computed. Put the ReLU before the pool: the result is the same."
            )
        value = held
        for axis, word in ((1, "columns"), (0, "rows")):
            value = self._maximum_along(f"{name}.{word}", layer, value, axis)
        if len(value.parts) > 1:
            total = self._to_sum(value)
            blocks = self._emit(ChainStage(f"{name}.sum", (StageRows(total),), keeps_scale=True))
            value = self._value(blocks, [1.0], value.shape)
        self.notes.append(f"{name}: maxima by differences, in exact layers")
        return value

    def _maximum_along(self, name: str, layer: MaxPool, value: BlockSum, axis: int) -> BlockSum:
        taps = layer.kernel[axis]
        # Every tap of the window is a value of its own: the picture, moved and thinned out.
        picked = [self._picked(layer, value, axis, tap) for tap in range(taps)]
        shape = picked[0].shape
        if taps == 1 and (layer.stride[axis], layer.padding[axis]) == (1, 0):
            return value
        if taps == 1:
            blocks = self._emit(ChainStage(name, (StageRows(picked[0]),), keeps_scale=True))
            return self._value(blocks, [1.0], shape)
        largest, others = picked[0], picked[1:]
        for index in range(len(others)):
            second = others[index]
            difference = LinearSum(
                (*largest.terms, *(_negated(term) for term in second.terms)),
                np.zeros(shape[0]),
                shape,
            )
            rows = [StageRows(difference), StageRows(second)]
            rows += [StageRows(one) for one in others[index + 1 :]]
            label = name if taps == 2 else f"{name}{index + 1}"
            blocks = self._emit(ChainStage(label, tuple(rows), keeps_scale=True))
            largest = self._to_sum(self._value(blocks[:2], [1.0, 1.0], shape))
            others[index + 1 :] = [
                self._to_sum(self._value([block], [1.0], shape)) for block in blocks[2:]
            ]
        (term,) = largest.terms
        return term.value

    def _picked(self, layer: MaxPool, value: BlockSum, axis: int, tap: int) -> LinearSum:
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
        return LinearSum((LinearTerm(conv, value),), np.zeros(channels), shape)

    def chain(self) -> Chain:
        """Join the stages, with relays for what is read later."""
        last_reader: dict[ChannelBlock, int] = {}
        for index, stage in enumerate(self.stages):
            for block in blocks_read(stage):
                last_reader[block] = index
        layout = ChannelLayout.of_input(self.graph.input.shape)
        layers: list[ChainLayer] = []
        for index, stage in enumerate(self.stages):
            carried = [block for block in layout.blocks if last_reader.get(block, index) > index]
            try:
                layer, layout = join_stage(stage, index, layout, carried)
            except ConversionError as error:  # all layers behind it hang on its channels
                obstacle = _obstacle(stage.name, self.graph.nodes.get(stage.name), error)
                raise list_obstacles(ConversionError, "the network ", [obstacle]) from error
            layers.append(replace(layer, is_readout=stage is self.stages[-1]))
        return Chain(shape=self.graph.input.shape, layers=tuple(layers), notes=tuple(self.notes))


def find_obstacles(graph: Graph) -> tuple[Obstacle, ...]:
    """Return what a chain of rectified layers cannot hold of a graph."""
    try:
        lower_rectified(graph)
    except NeurodeployError as error:
        return error.obstacles or (Obstacle("", "", str(error)),)
    return ()


def _obstacle(name: str, layer: Layer | None, error: Exception) -> Obstacle:
    kind = "layer" if layer is None else type(layer).__name__
    return Obstacle(name, kind, str(error).removeprefix(f"{name}: "))


def _split_pool(pool: Conv) -> list[Conv]:
    """Return pools, one after the other, that take the same means, of fewer values each.

    A mean of n values needs weights of GAIN / n, and at least 1. So where n exceeds GAIN, rows and
    columns are averaged by themselves, and long ones in two steps: the mean of n = a · c values is
    the mean over c, each a values from the next, of means over a neighbours.
    """
    if prod(pool.weight.shape) <= GAIN:
        return [pool]
    pools = []
    for axis in (0, 1):
        taps, stride = pool.weight.shape[2 + axis], pool.stride[axis]
        near = taps
        if taps > GAIN:
            divisors = [n for n in range(1, taps + 1) if taps % n == 0]
            near = min(divisors, key=lambda n: abs(n * n - taps))
            if max(near, taps // near) > GAIN:
                near = taps  # no two factors are small enough: left to be refused
        step = stride if near == taps else gcd(near, stride)
        first = (near, step, pool.padding[axis], 1)
        parts = [first, (taps // near, stride // step, 0, near // step)]
        for count, moved, padding, apart in parts:
            if (count, moved, padding) == (1, 1, 0):
                continue
            pools.append(
                Conv(
                    weight=np.ones((1, 1, *_along(axis, count, 1))),
                    stride=_along(axis, moved, 1),
                    padding=_along(axis, padding, 0),
                    dilation=_along(axis, apart, 1),
                )
            )
    return pools


def _along(axis: int, value: int, other: int) -> tuple[int, int]:
    """Return a value along one axis, and another along the other."""
    return (value, other) if axis == 0 else (other, value)


def _negated(term: LinearTerm) -> LinearTerm:
    parts = tuple((block, -factor) for block, factor in term.value.parts)
    return LinearTerm(term.synapse, replace(term.value, parts=parts))


def _free_name(name: str, graph: Graph) -> str:
    return name if name not in graph.nodes else f"{name}.sigma"
