"""Bring layers into the form that the compiled kernels run, or say that they cannot be.

Compiled are LIF neurons behind conv and dense synapses of any geometry, delay and number,
recurrent ones included, and sigma-delta neurons behind them, not recurrent, while bounds computed
from the weights prove that no sum overflows. Where events of a layer carry values, how large they
are is known only once they were sent: `CompiledLayer.fits` tells whether the bounds hold for them.
Everything else is run by `simulation.layer_by_layer`: input blocks, resonators, and what
does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import lcm, prod

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import (
    BIAS_BITS,
    DECAY_UNITY,
    STATE_EXPONENT,
    Int64Array,
    scale_down,
    scale_up,
    wrap,
)
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
    IntArray,
    Shape,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.simulation.kernels.frame_layout import (
    FRAME_BYTES_MAX,
    Spreading,
    lay_out,
)
from neurodeploy.simulation.kernels.weight_blocks import RowArray, Term

CHANNEL_TILE = 16
"""Channels are padded to a multiple of this: the narrowest vector of the kernels."""
NARROW_SHIFT_MAX = 8
"""Below 2**15, sums times at most 2**8 are no current that wraps."""
SPREAD_CHANNELS_MAX = 32
"""Most padded channels of layers whose events are added to sums in memory, by measurement."""
ROW_BYTES_MAX = 1 << 30
"""Largest block of weights; groups are stored with the zeros between them."""
_SUM_BOUND = 1 << 23
"""What sums must stay below, in units of the weights."""
_NARROW_BOUND = 1 << 15
"""What sums of 16 bits must stay below."""
_AT_ONCE_LEAST = 32
"""Rows that must at least fit into a sum of 16 bits for it to be worth its widening."""
_BIAS_BOUND = 1 << (BIAS_BITS - 1)
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SigmaNumbers:
    """What sigma-delta neurons need beside sums.

    Attributes:
        biases: (padded,) or (pixels · padded,) int32, at the scale of the activation.
        threshold: Likewise.
        is_output: Whether neurons send their sums.
        wraps_24: Whether sums are wrapped at 24 bits: Lava's convolutions do that.
    """

    biases: IntArray
    threshold: int
    is_output: bool
    wraps_24: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledLayer:
    """One layer as the kernels take it.

    Attributes:
        name: Of the layer.
        shape: (C, H, W) or (N,).
        terms: What leads into it.
        rows: (rows · padded,) int8, int16 or int32, channels last, in units of 2**(shift - 6).
        reach: (rows · words,) uint64: which of them are not zero.
        padded: Channels of a row.
        shift: Sums times 2**shift are at the scale of the state.
        events_at_once: How many rows add up to what 16 bits hold, for rows of 8 or 16.
        parameters: (4 · plane,) int32: bias and threshold times 2**6, 4096 minus the decays; of
            all pixels, or of as many as repeat after 64 lanes.
        is_uniform: Whether all pixels have the same parameters.
        holds_current: Whether a current may outlive its step.
        is_recurrent: Whether it reads its own events.
        spreading: How its events are added to sums in memory, where that may be quicker.
        sigma: Of sigma-delta neurons; their `parameters` are empty.
        sizes: Where events of layers carry values, by source: what all weights from it into one
            neuron come to in size, at most; else empty, as all is proven.
        limit: What the sizes times those of the values must stay below.
    """

    name: str
    shape: Shape
    terms: tuple[Term, ...]
    rows: RowArray
    reach: npt.NDArray[np.uint64]
    padded: int
    shift: int
    events_at_once: int
    parameters: IntArray
    is_uniform: bool
    holds_current: bool
    is_recurrent: bool
    spreading: Spreading | None
    sigma: SigmaNumbers | None
    sizes: Mapping[str, int]
    limit: int

    def fits(self, largest: Mapping[str, int]) -> bool:
        """Return whether no sum overflows with values of these sizes by source."""
        reached = sum(size * largest.get(source, 1) for source, size in self.sizes.items())
        return reached < self.limit

    def spreading_for(self, steps: int) -> Spreading | None:
        """Return how events are added to sums in memory, if samples of T steps are run so."""
        spreading = self.spreading
        if spreading is None or spreading.frame_bytes(steps) > FRAME_BYTES_MAX:
            return None
        return spreading


def frame_of(shape: Shape) -> tuple[int, int, int]:
    """Return (channels, height, width) of a layer; a flat one is a single pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (prod(shape), 1, 1)


def compile_layer(
    graph: FixedPointGraph,
    layer: FixedLayer,
    *,
    largest_input: int,
    spreads: bool | None = None,
) -> CompiledLayer | None:
    """Bring a layer into the form that the kernels run.

    Args:
        graph: The network.
        layer: One of its layers.
        largest_input: Size of the largest value that a graded input holds; 1 for a binary one.
        spreads: Whether its events are added to sums in memory, if they can be; None: where it is
            quicker.

    Returns:
        The layer, or None if it is not of a kind that is compiled, or might overflow.
    """
    neuron = layer.neuron
    is_lif = isinstance(neuron, CubaNeuron)
    if isinstance(neuron, CubaNeuron):
        if not _fits(neuron, layer.bias):
            return None
    elif not isinstance(neuron, SigmaDeltaNeuron | SigmaNeuron) or layer.is_recurrent:
        return None
    reads_values = graph.reads_values(layer)
    parts: list[tuple[Term, _Block, int]] = []
    rows = 0
    for connection in layer.connections:
        source = connection.source
        is_layer = source not in (INPUT, layer.name)
        is_graded = (
            graph.input.is_graded if source == INPUT else _layer(graph, source).neuron.is_graded
        )
        has_values = reads_values and is_graded and source != layer.name
        shape = layer.shape if source == layer.name else graph.shape_of(source)
        found = _synapse_rows(connection.synapse, shape, layer.shape)
        if found is None:
            return None
        for geometry, block in found:
            term = Term(
                source=source,
                lag=block.delay + (source == layer.name),
                has_values=has_values,
                first_row=rows,
                frame=geometry.frame,
                kernel=geometry.kernel,
                stride=geometry.stride,
                padding=geometry.padding,
                dilation=geometry.dilation,
            )
            parts.append((term, block, largest_input if has_values and not is_layer else 1))
            rows += len(block.weights)
    packed = _pack(
        [block for _, block, _ in parts],
        [scale for _, _, scale in parts],
        is_wide=not is_lif or any(term.has_values for term, _, _ in parts),
    )
    if packed is None:
        return None
    weights, common, total = packed
    padded = weights.shape[1]
    is_narrow = weights.dtype != np.int32
    largest = max(1, int(weights.max()), -int(weights.min()))
    if isinstance(neuron, CubaNeuron):
        parameters, is_uniform = _parameters(layer, neuron, padded)
        sigma = None
    else:
        parameters = np.zeros(0, np.int32)
        sigma, is_uniform = _sigma_numbers(layer, neuron, padded)
    terms = tuple(term for term, _, _ in parts)
    frame = frame_of(layer.shape)
    spreading = None
    if not is_lif:
        spreads = False
    if spreads is None:
        spreads = padded <= SPREAD_CHANNELS_MAX and frame[1] * frame[2] > 1
    if spreads and not layer.is_recurrent:
        is_wide = (
            not is_narrow or total >= _NARROW_BOUND or common > NARROW_SHIFT_MAX - STATE_EXPONENT
        )
        spreading = lay_out(terms, weights, frame=frame, is_wide=is_wide)
    return CompiledLayer(
        name=layer.name,
        shape=layer.shape,
        terms=terms,
        rows=weights.reshape(-1),
        reach=_reach(weights),
        padded=padded,
        shift=STATE_EXPONENT + common,
        events_at_once=(_NARROW_BOUND - 1) // largest if is_narrow else _SUM_BOUND,
        parameters=parameters.reshape(-1),
        is_uniform=is_uniform,
        holds_current=isinstance(neuron, CubaNeuron)
        and bool((neuron.current_decay != DECAY_UNITY).any()),
        is_recurrent=layer.is_recurrent,
        spreading=spreading,
        sigma=sigma,
        sizes=_sizes(parts),
        limit=_sum_limit(layer),
    )


def _sizes(parts: Sequence[tuple[Term, _Block, int]]) -> dict[str, int]:
    """Return `CompiledLayer.sizes`."""
    sizes: dict[str, int] = {}
    if any(term.has_values and term.source != INPUT for term, _, _ in parts):
        for term, block, _ in parts:
            size = int(np.abs(block.select()).sum(axis=0).max()) << block.shift
            sizes[term.source] = sizes.get(term.source, 0) + size
    return sizes


def _sum_limit(layer: FixedLayer) -> int:
    """Return what sums of values stay below where the kernels compute what Lava does.

    Several convolutions wrap at 24 bits each by itself, which the kernels do with their sum.
    """
    is_conv = any(isinstance(one.synapse, FixedConv) for one in layer.connections)
    if isinstance(layer.neuron, CubaNeuron) or (is_conv and len(layer.connections) > 1):
        return _SUM_BOUND
    return 1 << 31


def _sigma_numbers(
    layer: FixedLayer, neuron: SigmaDeltaNeuron | SigmaNeuron, padded: int
) -> tuple[SigmaNumbers, bool]:
    """Return the numbers, and whether all pixels share the biases."""
    channels, height, width = frame_of(layer.shape)
    exponent = threshold = 0
    if isinstance(neuron, SigmaDeltaNeuron):
        exponent = neuron.spike_exponent + STATE_EXPONENT
        threshold = neuron.threshold << exponent
    scaled = wrap(scale_up(layer.bias, exponent), 32)
    whole = np.broadcast_to(scaled, layer.shape).reshape(channels, height * width)
    is_uniform = bool((whole == whole[:, :1]).all())
    given = whole[:, :1] if is_uniform else whole
    biases = np.zeros((given.shape[1], padded), np.int32)
    biases[:, :channels] = given.T
    numbers = SigmaNumbers(
        biases=biases.reshape(-1),
        threshold=threshold,
        is_output=isinstance(neuron, SigmaNeuron),
        wraps_24=any(isinstance(one.synapse, FixedConv) for one in layer.connections),
    )
    return numbers, is_uniform


def _layer(graph: FixedPointGraph, name: str) -> FixedLayer:
    return graph.layers[graph.names.index(name)]


def _fits(neuron: CubaNeuron, bias: IntArray) -> bool:
    """Whether parameters are in the range for which the kernels are exact."""
    decays = (neuron.current_decay, neuron.voltage_decay)
    in_range = all(int(one.min()) >= 0 and int(one.max()) <= DECAY_UNITY for one in decays)
    return in_range and int(bias.min()) >= -_BIAS_BOUND and int(bias.max()) < _BIAS_BOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class _Geometry:
    frame: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """Weights of one term.

    Attributes:
        weights: (kernel y · kernel x · channels, outputs) int64, those of all delays.
        delays: Of each of them; None if all have the same.
        delay: Of this term.
        shift: What Lava's sums are shifted down by; the weights are so already.
    """

    weights: Int64Array
    delays: Int64Array | None = None
    delay: int = 0
    shift: int = 0

    def select(self) -> Int64Array:
        """Return the weights, those of other delays as zeros; made anew to keep memory low."""
        if self.delays is None:
            return self.weights
        return np.where(self.delays == self.delay, self.weights, 0)


def _synapse_rows(
    synapse: object, source: Shape, target: Shape
) -> list[tuple[_Geometry, _Block]] | None:
    """Return geometry and weights of a synapse, one for each delay."""
    channels, height, width = frame_of(source)
    if isinstance(synapse, FixedConv):
        weight = _ungrouped(synapse)
        if weight is None:
            return None
        geometry = _Geometry(
            frame=(height, width, channels),
            kernel=(weight.shape[2], weight.shape[3]),
            stride=synapse.stride,
            padding=synapse.padding,
            dilation=synapse.dilation,
        )
        rows = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
        return [(geometry, _Block(weights=rows))]
    if not isinstance(synapse, FixedDense) or len(target) != 1:
        return None
    effective = synapse.effective
    mantissa = effective.mantissa.astype(np.int64)
    if (mantissa & ((1 << effective.shift) - 1)).any():
        return None  # the shift drops bits of each sum, which cannot be done row by row
    mantissa = scale_down(mantissa, effective.shift)
    # A dense synapse reads its source channel by channel, the kernels pixel by pixel.
    outputs = len(mantissa)

    def by_pixel(matrix: npt.NDArray[np.integer]) -> Int64Array:
        blocks = matrix.astype(np.int64).reshape(outputs, channels, -1).transpose(2, 1, 0)
        return blocks.reshape(-1, outputs)

    blocks = by_pixel(mantissa)
    pixels = height * width
    geometry = _Geometry(frame=(1, pixels, channels), kernel=(1, pixels))
    if synapse.delay is None:
        return [(geometry, _Block(weights=blocks, shift=effective.shift))]
    delays = by_pixel(synapse.delay)
    return [
        (
            geometry,
            _Block(weights=blocks, delays=delays, delay=int(delay), shift=effective.shift),
        )
        for delay in np.unique(delays)
    ]


def _ungrouped(synapse: FixedConv) -> Int64Array | None:
    """Return (outputs, channels, kernel y, kernel x), zeros between groups."""
    weight, groups = synapse.weight.astype(np.int64), synapse.groups
    if groups == 1:
        return weight
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    if weight.size * groups > ROW_BYTES_MAX // 4:
        return None
    whole = np.zeros((weight.shape[0], inputs * groups, *weight.shape[2:]), np.int64)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        whole[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return whole


def _pack(
    blocks: Sequence[_Block], scales: Sequence[int], *, is_wide: bool
) -> tuple[RowArray, int, int] | None:
    """Choose the narrowest type that holds the weights, and many of them in a sum of 16 bits.

    Args:
        blocks: Weights of all terms.
        scales: Largest size of an event's value, for each block.
        is_wide: Whether rows must have 32 bits: where events carry values, -1 and 1 included, and
            for sigma-delta neurons.

    Returns:
        (rows, padded outputs), how many common low zero bits were taken out, and what sums of them
        may reach; None if nothing is wide enough.
    """
    outputs, count = blocks[0].weights.shape[1], sum(len(block.weights) for block in blocks)
    bound, largest, bits = np.zeros(outputs, np.int64), 0, 0
    for block, scale in zip(blocks, scales, strict=True):
        sizes = np.abs(block.select())
        bound += sizes.sum(axis=0) * scale
        largest = max(largest, int(sizes.max()))
        bits |= int(np.bitwise_or.reduce(sizes, axis=None))
    if int(bound.max()) >= _SUM_BOUND:
        return None
    common = 0
    while common < STATE_EXPONENT and bits and not bits & (1 << common):
        common += 1
    total = int(bound.max()) >> common
    kinds = (np.int8, np.int16, np.int32)
    size = largest >> common
    for kind in kinds[2:] if is_wide else kinds:
        is_exact = (
            kind is np.int32 or total < _NARROW_BOUND or size * _AT_ONCE_LEAST < _NARROW_BOUND
        )
        if size <= np.iinfo(kind).max and is_exact:
            padded = -(-outputs // CHANNEL_TILE) * CHANNEL_TILE
            if count * padded * np.dtype(kind).itemsize > ROW_BYTES_MAX:
                return None
            rows, first = np.zeros((count, padded), kind), 0
            for block in blocks:
                stop = first + len(block.weights)
                rows[first:stop, :outputs] = scale_down(block.select(), common)
                first = stop
            return rows, common, total
    return None


def _reach(rows: RowArray) -> npt.NDArray[np.uint64]:
    """Pack which weights are not zero, 64 outputs a word."""
    words = -(-rows.shape[1] // 64)
    flags = np.zeros((len(rows), words * 64), bool)
    flags[:, : rows.shape[1]] = rows != 0
    packed = np.packbits(flags, axis=1, bitorder="little")
    return packed.view(np.dtype("<u8")).astype(np.uint64).reshape(-1)


def _parameters(layer: FixedLayer, neuron: CubaNeuron, padded: int) -> tuple[IntArray, bool]:
    """Return (4, pixels, padded) int32 parameters, and whether all pixels share them.

    If they do, as many pixels as repeat after 64 lanes, the widest vector.
    """
    channels, height, width = frame_of(layer.shape)
    planes = (
        scale_up(layer.bias),
        scale_up(neuron.threshold),
        DECAY_UNITY - neuron.current_decay.astype(np.int64),
        DECAY_UNITY - neuron.voltage_decay.astype(np.int64),
    )
    whole = np.stack(
        [np.broadcast_to(plane, layer.shape).reshape(channels, height * width) for plane in planes]
    )
    is_uniform = bool((whole == whole[:, :, :1]).all())
    pixels = lcm(padded, 64) // padded if is_uniform else height * width
    parameters = np.zeros((4, pixels, padded), np.int32)
    parameters[1] = _NEVER  # neurons that do not exist never spike
    given = whole[:, :, :1] if is_uniform else whole
    parameters[:, :, :channels] = given.transpose(0, 2, 1)
    return parameters, is_uniform
