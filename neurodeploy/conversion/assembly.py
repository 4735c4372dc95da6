"""Build the integer network of a rounded chain, and measure what its integers do.

The read-out of a netx file has no bias. Its bias comes from a *constant neuron*: one more channel
of the last hidden layer, with weights of zero and a bias, which the read-out reads at one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, prod

import numpy as np
import numpy.typing as npt

from neurodeploy.conversion.chain import Chain, ChainLayer
from neurodeploy.conversion.rounding import Rounded, round_to_grid
from neurodeploy.conversion.scaling import FILL_MAX, Scales
from neurodeploy.errors import ConversionError
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.float_layers import Dense, Shape
from neurodeploy.ir.graphs import INPUT, FixedInput, FixedPointGraph, FrameScales
from neurodeploy.ir.integer_layers import (
    Connection,
    DeltaNeuron,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
    IntArray,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.netx.schema import GEOMETRY_MAX
from neurodeploy.passes.folding import join_groups
from neurodeploy.simulation import EventSimulator, Feed, Record, Recording, Stream
from neurodeploy.simulation.recording import SpikeArray
from neurodeploy.simulation.synapses import apply_synapse

INPUT_LAYER = "frame"
"""Name of the input block."""
INPUT_MAX = 511
"""Largest size of an integer of a frame at spike exponent 6: its message must fit 16 bits."""
_CONSTANT_WEIGHT = 252
_ROWS = 4
"""Most sequences that frames without an order are run in."""


@dataclass(frozen=True, slots=True, eq=False)
class _Integers:
    """Integers of one layer on their way into the graph."""

    weight: Int64Array
    bias: Int64Array
    groups: int
    shape: Shape


def assemble(
    chain: Chain,
    scales: Scales,
    rounded: Sequence[Rounded],
    *,
    exponent: int,
    thresholds: Sequence[int],
    refresh: int | None = None,
) -> FixedPointGraph:
    """Return the network of sigma-delta neurons.

    Args:
        chain: The float network.
        scales: Its scales.
        rounded: Its integers.
        exponent: Lava's `spike_exp`.
        thresholds: Of the input block and of every hidden layer.
        refresh: Steps from refresh to refresh; None: there are none.

    Raises:
        ConversionError: If the bias of the read-out does not fit.
    """
    parts = [
        _Integers(one.weight, one.bias, getattr(layer.synapse, "groups", 1), layer.shape)
        for layer, one in zip(chain.layers, rounded, strict=True)
    ]
    if rounded[-1].bias.any():
        parts = _with_constant(chain, parts, exponent, thresholds[-1])
    layers = [
        FixedLayer(
            name=INPUT_LAYER,
            shape=chain.shape,
            connections=(Connection(source=INPUT, synapse=FixedInjection()),),
            neuron=DeltaNeuron(threshold=thresholds[0], spike_exponent=exponent),
            bias=np.zeros((), np.int32),
        )
    ]
    for index, (layer, part) in enumerate(zip(chain.layers, parts, strict=True)):
        is_last = layer.is_readout
        bias = np.zeros((), np.int32)
        if not is_last:
            bias = part.bias.astype(np.int32).reshape(-1, *(1,) * (len(part.shape) - 1))
        layers.append(
            FixedLayer(
                name=layer.name,
                shape=part.shape,
                connections=(Connection(source=layers[-1].name, synapse=_synapse(layer, part)),),
                neuron=SigmaNeuron()
                if is_last
                else SigmaDeltaNeuron(threshold=thresholds[index + 1], spike_exponent=exponent),
                bias=bias,
            )
        )
    port = FixedInput(shape=chain.shape)
    return FixedPointGraph(
        input=port,
        layers=tuple(layers),
        frame_scales=FrameScales(input=scales.input / (1 << exponent), output=scales.output),
        refresh_interval=refresh,
    )


def _synapse(layer: ChainLayer, part: _Integers) -> FixedConv | FixedDense:
    weight = part.weight.astype(np.int32)
    if isinstance(layer.synapse, Dense):
        return FixedDense(weight=weight)
    return FixedConv(
        weight=weight,
        stride=layer.synapse.stride,
        padding=layer.synapse.padding,
        dilation=layer.synapse.dilation,
        groups=part.groups,
    )


def _with_constant(
    chain: Chain, parts: Sequence[_Integers], exponent: int, threshold: int
) -> list[_Integers]:
    """Return the layers with a constant neuron before the read-out."""
    result = list(parts)
    *hidden, last = result
    bias = last.bias
    unit = 1 << exponent
    value = max(ceil(np.abs(bias).max() / (_CONSTANT_WEIGHT * unit)), threshold, 1)
    if value * unit > FILL_MAX:
        raise ConversionError(
            f"{chain.layers[-1].name}: its largest bias needs a constant of {value * unit} message "
            f"units, {FILL_MAX} are allowed. Smaller biases in the last layer, or a smaller "
            "threshold of the layer before it, help."
        )
    # A grouped layer gets a whole group more, silent but for the constant; the layers before it
    # get as many silent channels, up to one that is not grouped.
    added = 0
    first = len(hidden) - 1
    while first > 0 and hidden[first].groups > 1:
        first -= 1
    before = 0
    for index in range(first, len(hidden)):
        part, layer = hidden[index], chain.layers[index]
        if part.groups > 1:
            part, added = _with_group(part, before)
        else:
            added = _silent_channels(hidden, index)
            part = _with_rows(part, layer, before, added)
        if index == len(hidden) - 1:
            part.bias[-added] = value
        result[index] = part
        before = added
    positions = prod(result[-2].shape[1:])
    weight = last.weight.reshape(len(last.weight), -1, positions)
    extra = np.zeros((len(weight), added, positions), np.int64)
    extra[:, 0, 0] = round_to_grid(chain.layers[-1], bias / (value * unit))
    shape = (len(weight), -1, *last.weight.shape[2:])
    joined = np.concatenate([weight, extra], axis=1).reshape(shape)
    result[-1] = replace(last, weight=joined, bias=np.zeros_like(bias))
    return result


def _silent_channels(hidden: Sequence[_Integers], index: int) -> int:
    """Return how many channels the grouped layers after an ungrouped one need from it."""
    for part in hidden[index + 1 :]:
        if part.groups > 1:
            return int(part.weight.shape[1]) if part.groups < GEOMETRY_MAX else 1
    return 1


def _with_rows(part: _Integers, layer: ChainLayer, before: int, added: int) -> _Integers:
    """Return an ungrouped layer that reads `before` and has `added` silent channels more."""
    weight = part.weight
    if before:
        positions = prod(layer.source[1:]) if isinstance(layer.synapse, Dense) else 1
        shape = (len(weight), before * positions, *weight.shape[2:])
        weight = np.concatenate([weight, np.zeros(shape, np.int64)], axis=1)
    weight = np.concatenate([weight, np.zeros((added, *weight.shape[1:]), np.int64)])
    return replace(
        part,
        weight=weight,
        bias=np.concatenate([part.bias, np.zeros(added, np.int64)]),
        shape=(part.shape[0] + added, *part.shape[1:]),
    )


def _with_group(part: _Integers, before: int) -> tuple[_Integers, int]:
    """Return a grouped layer with silent channels more, and their number."""
    if part.groups >= GEOMETRY_MAX:  # no group is left: one group, with zeros
        weight = join_groups(part.weight, part.groups, part.groups)
        wide = np.zeros((len(weight), before, *weight.shape[2:]), np.int64)
        part = replace(part, weight=np.concatenate([weight, wide], axis=1), groups=1)
        added = 1
    else:
        added = len(part.weight) // part.groups
        part = replace(part, groups=part.groups + 1)
    silent = np.zeros((added, *part.weight.shape[1:]), np.int64)
    return replace(
        part,
        weight=np.concatenate([part.weight, silent]),
        bias=np.concatenate([part.bias, np.zeros(added, np.int64)]),
        shape=(part.shape[0] + added, *part.shape[1:]),
    ), added


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamRun:
    """A run of frames in a row.

    Attributes:
        sums: By layer, the largest sum of a step: (C,) of each channel where one of a run of some
            sequences does not fit, else (1,) of all.
        messages: By layer, (C,) largest message.
        states: By layer, largest sigma or activation.
    """

    sums: dict[str, Int64Array]
    messages: dict[str, Int64Array]
    states: dict[str, int]


def run_stream(graph: FixedPointGraph, frames: npt.NDArray[np.integer]) -> StreamRun:
    """Run sequences of frames in Lava's own time, one frame a step, and measure every layer.

    Args:
        graph: A network of sigma-delta neurons with an input block.
        frames: (sequences, T, *shape) integers; the last frame is repeated until it is answered.
    """
    values = with_latency(graph, frames)
    simulator = EventSimulator(graph)
    found: list[StreamRun] = []
    most = max(layer.neurons for layer in graph) * values.shape[1]
    size = max(1, (1 << 25) // most)
    for first in range(0, len(values), size):
        part = values[first : first + size]
        recording = simulator.run(part, timing=timing_of(graph), feed=Feed.NEURON)
        sums, messages = {}, {}
        sent: SpikeArray | None = None
        assert recording.health is not None
        for layer, spikes, health in zip(graph, recording.spikes, recording.health, strict=True):
            assert spikes is not None
            messages[layer.name] = _peak(spikes)
            if sent is not None:
                sums[layer.name] = np.array([health.sum_peak])
                if health.sum_overflows:  # dense sums take far longer than the run
                    arriving = apply_synapse(
                        layer.connections[0].synapse, sent.astype(np.int32), wraps=False
                    )
                    sums[layer.name] = _peak(arriving.reshape(spikes.shape))
            sent = spikes
        states = {
            name: max(one.current_peak, one.voltage_peak)
            for name, one in zip(graph.names, recording.health, strict=True)
        }
        found.append(StreamRun(sums=sums, messages=messages, states=states))
    return _joined(found)


def in_a_row(frames: IntArray) -> IntArray:
    """Return frames without an order, (n, 1, ...), as a few sequences in which one follows another.

    So the pipeline fills a few times instead of n times, which takes longer than a frame.
    """
    count = max(rows for rows in range(1, _ROWS + 1) if len(frames) % rows == 0)
    return frames.reshape(count, -1, *frames.shape[2:])


def with_latency(graph: FixedPointGraph, frames: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return sequences (n, T, ...) with their last frame repeated until it is answered.

    So is the last one before each refresh, which would go unanswered.
    """
    steps, latency = frames.shape[1], len(graph.layers) - 1
    each = steps if graph.refresh_interval is None else graph.refresh_interval - latency
    step = np.arange(steps + -(-steps // each) * latency)
    frame = step // (each + latency) * each + np.minimum(step % (each + latency), each - 1)
    return frames[:, np.minimum(frame, steps - 1)].astype(np.int32)


def timing_of(graph: FixedPointGraph) -> Stream:
    """Return Lava's own time with the refreshes of a network."""
    return Stream(refresh_interval=graph.refresh_interval)


def run_answers(
    graph: FixedPointGraph, values: npt.NDArray[np.int32], *, counts: bool = False
) -> tuple[Int64Array, Recording]:
    """Run sequences `with_latency` for their answers alone, and if asked for the counts of events.

    Returns:
        The sums of the read-out that answer each frame, (sequences, T, classes), and the run.
    """
    record = Record(spikes=graph.names[-1:], states=(), counts=counts, updates=False)
    simulator = EventSimulator(graph)
    recording = simulator.run(values, timing=timing_of(graph), feed=Feed.NEURON, record=record)
    latency, interval = len(graph.layers) - 1, graph.refresh_interval or values.shape[1]
    is_answer = np.arange(values.shape[1]) % interval >= latency
    sums = recording.spikes_of(graph.names[-1])[:, is_answer]
    return sums.reshape(*sums.shape[:2], -1).astype(np.int64), recording


def _peak(values: npt.NDArray[np.integer]) -> Int64Array:
    """Return the largest size of each channel, for (sequences, T, C, ...)."""
    axes = (0, 1, *range(3, values.ndim))
    largest: Int64Array = np.maximum(values.max(axis=axes), -values.min(axis=axes))
    return largest.astype(np.int64)


def _joined(runs: Sequence[StreamRun]) -> StreamRun:
    first = runs[0]

    def largest(name: str) -> dict[str, Int64Array]:
        kinds = [getattr(run, name) for run in runs]
        return {key: reduce(np.maximum, [kind[key] for kind in kinds]) for key in kinds[0]}

    return StreamRun(
        sums=largest("sums"),
        messages=largest("messages"),
        states={name: max(run.states[name] for run in runs) for name in first.states},
    )
