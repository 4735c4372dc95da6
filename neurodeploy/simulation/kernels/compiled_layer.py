"""Bring layers into the form that the compiled kernels run, or find that they cannot be.

Compiled are LIF neurons behind conv and dense synapses of any geometry, delay and number,
recurrent ones included, and sigma-delta neurons behind them, not recurrent, while bounds computed
from the weights prove that no sum overflows; resonators behind complex dense synapses; and input
blocks of LIF and delta neurons. Where events of a layer carry values, how large they are is known
only once they were sent: `CompiledLayer.fits` tells whether the bounds hold for them. Everything
else is run by `simulation.layer_by_layer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Literal

import numpy as np

from neurodeploy.fixedpoint import (
    BIAS_BITS,
    DECAY_UNITY,
    STATE_EXPONENT,
    Int32Array,
    Int64Array,
    scale_up,
)
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedInjection,
    FixedLayer,
    ResonateFireNeuron,
    Shape,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.simulation.kernels.layouts import weight_layout
from neurodeploy.simulation.kernels.layouts.spreading import FRAME_BYTES_MAX, Spreading, lay_out
from neurodeploy.simulation.kernels.layouts.weight_layout import (
    CHANNEL_TILE,
    SUM_BOUND,
    Block,
    Term,
)
from neurodeploy.simulation.kernels.structures import LAYER, RowArray, StructuredArray, Weights

NARROW_SHIFT_MAX = 8
"""Below 2**15, sums times at most 2**8 are no current that wraps."""
SPREAD_CHANNELS_MAX = 32
"""Most padded channels of layers whose events are added to sums in memory one by one, by
measurement."""
ROTATION_MAX = 1 << 18
"""Largest size of a sine or cosine, times 2**12, by which states turn within 32 bits."""
LANES_MOST = 64
"""Neurons of an input block that step side by side."""
_BIAS_BOUND = 1 << (BIAS_BITS - 1)
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledLayer:
    """One layer as the kernels take it.

    Attributes:
        name: Of the layer.
        shape: (C, H, W) or (N,).
        terms: The synapses that lead into it.
        weights: Their rows, channels last, in units of 2**(shift - 6); and the parameters of all
            pixels, or of as many as repeat after 64 lanes. An input block has no rows, and
            parameters of each neuron with channels first; resonators share theirs.
        description: (1,) LAYER; its lists and what to keep are left to fill in.
        spreading: How events are added to sums in memory, where that may be quicker.
        kernel: What its neurons need: that of "lif", "sigma-delta" or "resonator".
        is_block: Whether it is an input block, fed the values of frames themselves.
        sizes: Where events of layers carry values, by source: the sum of the sizes of all weights
            from it into one neuron, at most; else empty, as all is proven.
        limit: Bound of the sizes times those of the values.
    """

    name: str
    shape: Shape
    terms: tuple[Term, ...]
    weights: Weights
    description: StructuredArray
    spreading: Spreading | None
    kernel: Literal["lif", "sigma-delta", "resonator"]
    is_block: bool
    sizes: Mapping[str, int]
    limit: int

    @property
    def writes_bits(self) -> bool:
        """True if its kernel writes spikes as bits."""
        return self.kernel == "lif" and not self.is_block

    def fits(self, largest: Mapping[str, int]) -> bool:
        """Return whether no sum overflows with values of these sizes by source."""
        reached = sum(size * largest.get(source, 1) for source, size in self.sizes.items())
        return reached < self.limit

    def sources(self, steps: int) -> list[tuple[str, bool]]:
        """Return the source of each term, and whether it is read in windows."""
        spreading = self.spreading_for(steps)
        in_windows = [False] * len(self.terms) if spreading is None else spreading.has_windows
        return [(term.source, found) for term, found in zip(self.terms, in_windows, strict=True)]

    def spreading_for(self, steps: int) -> Spreading | None:
        """Return how events are added to sums in memory, if samples of T steps are run so."""
        spreading = self.spreading
        if spreading is None or spreading.frame_bytes(steps) > FRAME_BYTES_MAX:
            return None
        return spreading


def packed_names(layers: Iterable[CompiledLayer | None]) -> frozenset[str]:
    """Return the names of the layers whose kernels write spikes as bits."""
    return frozenset(layer.name for layer in layers if layer is not None and layer.writes_bits)


def listed_names(
    graph: FixedPointGraph, layers: Iterable[CompiledLayer | None], steps: int
) -> frozenset[str]:
    """Return the names of the input and the layers whose events are listed, for T steps.

    Of the others, which kernels write as bits, all that read them do so in windows.
    """
    compiled = [layer for layer in layers if layer is not None]
    read = {name for layer in compiled for name, windows in layer.sources(steps) if not windows}
    return frozenset({INPUT, *graph.names} - packed_names(compiled)) | read


def compile_layer(
    graph: FixedPointGraph, layer: FixedLayer, *, largest_input: int, spreads: bool | None = None
) -> CompiledLayer | None:
    """Bring a layer into the form that the kernels run.

    Args:
        graph: The network.
        layer: One of its layers.
        largest_input: Size of the largest value that a graded input holds, or that is fed to an
            input block; 1 for a binary one.
        spreads: Whether events are added to sums in memory, if they can be; None: where quicker.

    Returns:
        None if the layer is not of a kind that is compiled, or might overflow.
    """
    if any(isinstance(one.synapse, FixedInjection) for one in layer.connections):
        return _compile_block(layer, largest_input)
    parts = _parts(graph, layer) if _has_kernel(layer) else []
    if not parts:
        return None
    terms = tuple(term for term, _ in parts)
    kernel: Literal["lif", "sigma-delta", "resonator"] = "sigma-delta"
    if isinstance(layer.neuron, CubaNeuron):
        kernel = "lif"
    elif isinstance(layer.neuron, ResonateFireNeuron):
        kernel = "resonator"
    packed = weight_layout.pack_rows(
        [block for _, block in parts],
        [largest_input if term.has_values and term.source == INPUT else 1 for term in terms],
        is_wide=kernel == "sigma-delta" or any(term.has_values for term in terms),
    )
    if packed is None:
        return None
    rows, common, total = packed
    parameters, is_uniform = _parameters(layer, rows.shape[1])
    description = _describe(layer, rows, STATE_EXPONENT + common)
    description["plane"] = parameters[0].size
    description["parameters_by_pixel"] = 0 if is_uniform else rows.shape[1]
    frame, spreading = weight_layout.frame_of(layer.shape), None
    if spreads is None and frame[1] * frame[2] == 1:
        spreads = False
    if kernel == "lif" and spreads is not False and not layer.is_recurrent:
        is_wide = rows.dtype == np.int32 or total >= weight_layout.NARROW_BOUND
        is_wide = is_wide or common > NARROW_SHIFT_MAX - STATE_EXPONENT
        reads_bits = [one.source != INPUT and not is_graded(graph, one.source) for one in terms]
        spreading = lay_out(terms, rows, frame=frame, is_wide=is_wide, reads_bits=reads_bits)
        if spreading is not None and not spreads and rows.shape[1] > SPREAD_CHANNELS_MAX:
            spreading = spreading if all(spreading.has_windows) else None
    return CompiledLayer(
        name=layer.name,
        shape=layer.shape,
        terms=terms,
        weights=Weights(rows.reshape(-1), weight_layout.pack_reach(rows), parameters.reshape(-1)),
        description=description,
        spreading=spreading,
        kernel=kernel,
        is_block=False,
        sizes=_sizes(parts),
        limit=_sum_limit(layer),
    )


def _compile_block(layer: FixedLayer, largest_input: int) -> CompiledLayer | None:
    """Bring an input block into the form that the kernels run, or return None."""
    neuron = layer.neuron
    if len(layer.connections) > 1:
        return None
    if isinstance(neuron, DeltaNeuron):
        bound = 1 << (31 - _scale_of(neuron))
        kinds = [(layer.bias != 0).astype(np.int64)]
    elif isinstance(neuron, CubaNeuron) and _has_kernel(layer):
        bound, kinds = SUM_BOUND, _lif_parameters(layer, neuron)
    else:
        return None
    if largest_input >= bound:
        return None
    plane = -(-layer.neurons // LANES_MOST) * LANES_MOST
    parameters = np.zeros((len(kinds), plane), np.int32)
    parameters[1:2] = _NEVER  # neurons that do not exist never spike
    for values, target in zip(kinds, parameters, strict=True):
        target[: layer.neurons] = np.broadcast_to(values, layer.shape).reshape(-1)
    rows = np.zeros((0, CHANNEL_TILE), np.int32)
    shift = STATE_EXPONENT
    if isinstance(neuron, DeltaNeuron):
        shift += _scale_of(neuron)
    description = _describe(layer, rows, shift)
    description["plane"] = plane
    return CompiledLayer(
        name=layer.name,
        shape=layer.shape,
        terms=(),
        weights=Weights(rows.reshape(-1), weight_layout.pack_reach(rows), parameters.reshape(-1)),
        description=description,
        spreading=None,
        kernel="sigma-delta" if isinstance(neuron, DeltaNeuron) else "lif",
        is_block=True,
        sizes={},
        limit=1,
    )


def _has_kernel(layer: FixedLayer) -> bool:
    """Return whether there is a kernel that is exact for a layer's neurons."""
    neuron = layer.neuron
    if isinstance(neuron, ResonateFireNeuron):
        is_complex = all(isinstance(one.synapse, FixedComplexDense) for one in layer.connections)
        fits = max(map(abs, neuron.rotation)) <= ROTATION_MAX
        return is_complex and fits and not layer.is_recurrent and not layer.bias.any()
    if not isinstance(neuron, CubaNeuron):
        if isinstance(neuron, SigmaDeltaNeuron):
            largest = scale_up(np.abs(layer.bias.astype(np.int64)), _scale_of(neuron)).max()
            return not layer.is_recurrent and int(largest) < 1 << 31
        return isinstance(neuron, SigmaNeuron) and not layer.is_recurrent
    decays, bias = (neuron.current_decay, neuron.voltage_decay), layer.bias
    in_range = all(int(d.min()) >= 0 and int(d.max()) <= DECAY_UNITY for d in decays)
    return in_range and int(bias.min()) >= -_BIAS_BOUND and int(bias.max()) < _BIAS_BOUND


def _parts(graph: FixedPointGraph, layer: FixedLayer) -> list[tuple[Term, Block]]:
    """Return all synapses with their weights, by delay; none if one cannot be compiled."""
    parts: list[tuple[Term, Block]] = []
    first_row = 0
    for connection in layer.connections:
        source = connection.source
        is_own = source == layer.name
        has_values = graph.reads_values(layer) and not is_own and is_graded(graph, source)
        shape = layer.shape if is_own else graph.shape_of(source)
        blocks = weight_layout.blocks_of(connection.synapse, shape, layer.shape)
        if not blocks:
            return []
        for block in blocks:
            term = Term(
                source=source,
                lag=block.delay + is_own,
                has_values=has_values,
                first_row=first_row,
                geometry=block.geometry,
            )
            parts.append((term, block))
            first_row += len(block.weights)
    return parts


def is_graded(graph: FixedPointGraph, name: str) -> bool:
    """Return whether events of the input or a layer carry values."""
    if name == INPUT:
        return graph.input.is_graded
    return graph.layers[graph.names.index(name)].neuron.is_graded


def _describe(layer: FixedLayer, rows: RowArray, shift: int) -> StructuredArray:
    """Return `CompiledLayer.description`, without its parameters' places."""
    neuron = layer.neuron
    description = np.zeros(1, LAYER)
    whole = description[0]
    whole["channels"], whole["height"], whole["width"] = weight_layout.frame_of(layer.shape)
    whole["padded"], whole["shift"] = rows.shape[1], shift
    largest = max(1, int(rows.max(initial=0)), -int(rows.min(initial=0)))
    whole["rows_at_once"] = (
        SUM_BOUND if rows.dtype == np.int32 else (weight_layout.NARROW_BOUND - 1) // largest
    )
    if isinstance(neuron, CubaNeuron):
        whole["holds_current"] = (neuron.current_decay != DECAY_UNITY).any()
    elif isinstance(neuron, DeltaNeuron | SigmaDeltaNeuron):
        whole["threshold"] = neuron.threshold << _scale_of(neuron)
    elif isinstance(neuron, ResonateFireNeuron):
        whole["threshold"] = neuron.threshold << STATE_EXPONENT
    whole["is_output"] = isinstance(neuron, SigmaNeuron)
    whole["wraps_24"] = _has_conv(layer)
    return description


def _scale_of(neuron: DeltaNeuron | SigmaDeltaNeuron) -> int:
    """Return by how many bits inputs, biases and thresholds are scaled up."""
    return neuron.spike_exponent + STATE_EXPONENT


def _has_conv(layer: FixedLayer) -> bool:
    return any(isinstance(one.synapse, FixedConv) for one in layer.connections)


def _sizes(parts: Sequence[tuple[Term, Block]]) -> dict[str, int]:
    """Return `CompiledLayer.sizes`."""
    sizes: dict[str, int] = {}
    if any(term.has_values and term.source != INPUT for term, _ in parts):
        for term, block in parts:
            size = int(np.abs(block.select()).sum(axis=0).max()) << block.shift
            sizes[term.source] = sizes.get(term.source, 0) + size
    return sizes


def _sum_limit(layer: FixedLayer) -> int:
    """Return a bound of the sums of values for which the kernels compute what Lava does."""
    # Several convolutions wrap at 24 bits each by itself, which the kernels do with their sum.
    if isinstance(layer.neuron, CubaNeuron | ResonateFireNeuron) or (
        _has_conv(layer) and len(layer.connections) > 1
    ):
        return SUM_BOUND
    return 1 << 31


def _lif_parameters(layer: FixedLayer, neuron: CubaNeuron) -> list[Int64Array]:
    """Return the planes that `neuron_vectors.step_lif` reads."""
    return [
        scale_up(layer.bias),
        scale_up(neuron.threshold),
        DECAY_UNITY - neuron.current_decay.astype(np.int64),
        DECAY_UNITY - neuron.voltage_decay.astype(np.int64),
    ]


def _parameters(layer: FixedLayer, padded: int) -> tuple[Int32Array, bool]:
    """Return (kinds, pixels, padded), see `Weights`, and whether all pixels share them."""
    neuron, pixels = layer.neuron, 1
    if isinstance(neuron, ResonateFireNeuron):
        shared = [*neuron.rotation, neuron.is_phase]
        return np.array(shared, np.int32).reshape(1, 1, -1), True
    if isinstance(neuron, CubaNeuron):
        kinds = _lif_parameters(layer, neuron)
        pixels = lcm(padded, 64) // padded  # shared ones repeat after 64 lanes, the widest vector
    elif isinstance(neuron, SigmaDeltaNeuron):
        kinds = [scale_up(layer.bias, _scale_of(neuron))]
    else:  # no bias
        kinds = [np.zeros((), np.int64)]
    channels, height, width = weight_layout.frame_of(layer.shape)
    planes = np.stack([np.broadcast_to(values, layer.shape) for values in kinds])
    planes = planes.reshape(len(kinds), channels, height * width).transpose(0, 2, 1)
    is_uniform = bool((planes == planes[:, :1]).all())
    parameters = np.zeros((len(kinds), pixels if is_uniform else height * width, padded), np.int32)
    parameters[1:2] = _NEVER  # neurons that do not exist never spike
    parameters[:, :, :channels] = planes[:, :1] if is_uniform else planes
    return parameters, is_uniform
