"""Limits of a sigma-delta network's integers: measured on frames, and proved for every input.

The proof is interval arithmetic over the integer weights. A receiver holds R, the sum of all
messages that a neuron sent it; of the neuron itself

    64 · R = activation - residue - dropped

always holds, where |residue| is less than the threshold and each message drops 0 to 63 (nothing
where all sums are multiples of 64). So activations bound R, R bounds the sums of the next layer,
and these its activations. A message is what changes in a step, and so is the sum of a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from neurodeploy.conversion.assembly import INPUT_MAX, StreamRun
from neurodeploy.conversion.rounding import Rounded
from neurodeploy.errors import ConversionError
from neurodeploy.fixedpoint import MESSAGE_MAX, STATE_EXPONENT, STATE_MAX, FloatArray, Int64Array
from neurodeploy.interchange.floating import apply
from neurodeploy.ir.float_layers import Conv, Dense
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    DeltaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
    IntArray,
    SigmaDeltaNeuron,
)

Quantity = Literal["sum of a step", "state", "message"]
Scope = Literal["every input", "inputs in range", "frames"]
_DROPPED_MAX = (1 << STATE_EXPONENT) - 1
"""Most that a message drops, in units of the state."""
_EXACT_MAX = float(1 << 50)
"""Bounds beyond are given up: sums of such numbers are not exact in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMargin:
    """One layer's distance to the limits of its integers, on the frames it was measured on.

    Attributes:
        name: Of the layer.
        threshold: Its threshold in units of 2**spike_exponent message units; None of the read-out.
        weight_error: Rms of the rounding of its weights, in weight units.
        sum: Largest sum of a step; below 2**23.
        state: Largest sigma or activation; below 2**23.
        message: Largest message; below 2**15.
    """

    name: str
    threshold: int | None
    weight_error: float
    sum: int
    state: int
    message: int

    @property
    def margin(self) -> float:
        """How many times the largest values would have to grow to reach a limit."""
        used = [self.sum / STATE_MAX, self.state / STATE_MAX]
        if self.threshold is not None:
            used.append(self.message / MESSAGE_MAX)
        return 1 / max(*used, 1e-12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """One limit of one layer, and for which inputs it is sure to hold.

    Attributes:
        layer: Name of the layer.
        quantity: What is limited.
        limit: Largest size allowed.
        peak: Largest size on the frames, pipeline fill included.
        bound: Largest size that any input in the range of the frames can give, if no limit is
            passed before this layer; None if it is beyond all reckoning.
        widest_bound: The same for every input that can be encoded.
        scope: The inputs for which the limit is proved: every one that can be encoded, those in the
            range of the frames, or none but the frames themselves, on which it was measured.
    """

    layer: str
    quantity: Quantity
    limit: int
    peak: int
    bound: int | None
    widest_bound: int | None
    scope: Scope

    @property
    def margin(self) -> float:
        """How many times the largest size on the frames would have to grow to reach the limit."""
        return self.limit / max(self.peak, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """All limits of a network.

    Attributes:
        low: Smallest integer in the frames; they range from it to `high`.
        widest: Largest size of an integer that can be encoded.
        frames: Number of frames that were measured.
        steps: Steps since the start or the last refresh for which the proofs hold: later, more
            bits may have been dropped.
        obligations: In the order of the layers.
    """

    low: int
    high: int
    widest: int
    frames: int
    steps: int
    obligations: tuple[Obligation, ...]

    @property
    def tightest(self) -> tuple[Obligation, ...]:
        """The obligations by their margins, those proved for fewer inputs first."""
        order: dict[Scope, int] = {"frames": 0, "inputs in range": 1, "every input": 2}
        return tuple(sorted(self.obligations, key=lambda one: (order[one.scope], one.margin)))


def measure_margins(
    graph: FixedPointGraph, rounded: Sequence[Rounded], thresholds: Sequence[int], run: StreamRun
) -> tuple[LayerMargin, ...]:
    """Return the margins of all layers, the input block first."""
    errors = [0.0, *(one.error for one in rounded)]
    rows = []
    for index, layer in enumerate(graph):
        sums = run.sums.get(layer.name)
        rows.append(
            LayerMargin(
                name=layer.name,
                threshold=thresholds[index] if index < len(thresholds) else None,
                weight_error=errors[index],
                sum=0 if sums is None else int(sums.max()),
                state=run.states[layer.name],
                message=int(run.messages[layer.name].max()),
            )
        )
    return tuple(rows)


def check_limits_of(graph: FixedPointGraph, run: StreamRun) -> None:
    """Raise ConversionError if a sum, state or message of a run exceeds its limit."""
    for name, quantity, value in _peaks(graph, run):
        limit = _limit(quantity)
        if value > limit:
            place = ""
            if quantity != "state":
                found = run.messages if quantity == "message" else run.sums
                place = f" in channel {int(found[name].argmax())}"
            raise ConversionError(
                f"{name}: {value:,} as the {quantity}{place}, {limit:,} are allowed "
                f"({value / limit:.2f} times too large), pipeline fill included. Give "
                "calibration frames that show the largest values, or scale the network down."
            )


def prove_on(graph: FixedPointGraph, run: StreamRun, integers: IntArray) -> Proofs:
    """Return how sure each limit is; `run` was on integers (sequences, T, ...) of frames."""
    sequences, steps = integers.shape[:2]
    return prove(
        graph,
        run,
        low=int(integers.min()),
        high=int(integers.max()),
        frames=sequences * steps,
        steps=graph.refresh_interval or steps + len(graph.layers) - 1,
    )


def prove(
    graph: FixedPointGraph, run: StreamRun, *, low: int, high: int, frames: int, steps: int
) -> Proofs:
    """Return how sure each limit of a network is.

    Args:
        graph: A network of sigma-delta neurons with an input block, each layer reading the last.
        run: Its largest values on frames.
        low: Smallest integer in the frames.
        high: Largest integer in the frames.
        frames: Number of frames.
        steps: Steps since the start or the last refresh that the proofs are to hold for.
    """
    widest = (INPUT_MAX << STATE_EXPONENT) >> graph.spike_exponent
    near = _bounds(graph, low, high, steps)
    far = _bounds(graph, -widest, widest, steps)
    is_near = is_far = True
    obligations = []
    for name, quantity, peak in _peaks(graph, run):
        limit = _limit(quantity)
        bound, widest_bound = near.get((name, quantity)), far.get((name, quantity))
        # Where one limit may be passed, the integers that come after may be any.
        is_near = is_near and bound is not None and bound <= limit
        is_far = is_far and widest_bound is not None and widest_bound <= limit
        scope: Scope = "every input" if is_far else "inputs in range" if is_near else "frames"
        obligations.append(
            Obligation(
                layer=name,
                quantity=quantity,
                limit=limit,
                peak=peak,
                bound=bound,
                widest_bound=widest_bound,
                scope=scope,
            )
        )
    return Proofs(
        low=low,
        high=high,
        widest=widest,
        frames=frames,
        steps=steps,
        obligations=tuple(obligations),
    )


def _limit(quantity: Quantity) -> int:
    return MESSAGE_MAX if quantity == "message" else STATE_MAX


def _peaks(graph: FixedPointGraph, run: StreamRun) -> Iterator[tuple[str, Quantity, int]]:
    """Yield what is limited, layer by layer, in the order in which it comes about in a step."""
    for layer in graph:
        if layer.name in run.sums:
            yield layer.name, "sum of a step", int(run.sums[layer.name].max())
        yield layer.name, "state", run.states[layer.name]
        if layer is not graph.layers[-1]:
            yield layer.name, "message", int(run.messages[layer.name].max())


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """Bounds of what the receivers of a layer hold and get.

    Attributes:
        low: Smallest R of each neuron, at most 0, in float64 that are integers.
        high: Largest R, at least 0.
        step: Largest size of a message.
        grain: (C,) number of which all messages of a channel are multiples; 0 if it sends none.
    """

    low: FloatArray
    high: FloatArray
    step: FloatArray
    grain: Int64Array


def _bounds(
    graph: FixedPointGraph, low: int, high: int, steps: int
) -> dict[tuple[str, Quantity], int]:
    """Return the bounds of all that is limited, as far as they can be reckoned."""
    found: dict[tuple[str, Quantity], int] = {}
    block, *layers = graph
    sent = _send_frames(block, low, high)
    found[block.name, "state"] = _whole(max(abs(low), abs(high)) << _shift(block))
    found[block.name, "message"] = _whole(sent.step.max())
    for layer in layers:
        if max(sent.high.max(), -sent.low.min()) > _EXACT_MAX:
            break
        least, most, change = _sums(layer, sent)
        found[layer.name, "sum of a step"] = _whole(change.max())
        bias: FloatArray = np.zeros(())
        if isinstance(layer.neuron, SigmaDeltaNeuron):
            bias = layer.bias.astype(np.float64) * float(1 << _shift(layer))
        extremes = (most, -least, most + bias, -(least + bias))
        found[layer.name, "state"] = _whole(max(float(one.max()) for one in extremes))
        if layer is layers[-1]:
            break
        sent = _send_activations(layer, np.maximum(most + bias, 0), sent, steps)
        found[layer.name, "message"] = _whole(sent.step.max())
    return found


def _whole(bound: float) -> int:
    return int(np.ceil(bound))


def _shift(layer: FixedLayer) -> int:
    """Return the exponent of thresholds and biases in units of the state."""
    neuron = layer.neuron
    assert isinstance(neuron, DeltaNeuron | SigmaDeltaNeuron)
    return neuron.spike_exponent + STATE_EXPONENT


def _held_back(layer: FixedLayer, grain: Int64Array) -> Int64Array:
    """Return the largest residue, (C,), of neurons whose changes are multiples of `grain`."""
    neuron = layer.neuron
    assert isinstance(neuron, DeltaNeuron | SigmaDeltaNeuron)
    threshold = neuron.threshold << _shift(layer)
    step = np.maximum(grain, 1)
    return np.asarray(np.maximum((threshold - 1) // step * step, 0))


def _send_frames(block: FixedLayer, low: int, high: int) -> _Sent:
    """Return what an input block sends for integers from low to high; it drops nothing."""
    unit = 1 << _shift(block)
    grain = np.full(block.shape[0], unit, np.int64)
    residue = int(_held_back(block, grain).max())
    least, most = min(low, 0) * unit, max(high, 0) * unit
    ones = np.ones(block.shape)
    return _Sent(
        low=ones * ((least - residue) >> STATE_EXPONENT),
        high=ones * -((-most - residue) >> STATE_EXPONENT),
        step=ones * -((least - most - residue) >> STATE_EXPONENT),
        grain=grain >> STATE_EXPONENT,
    )


def _send_activations(layer: FixedLayer, most: FloatArray, read: _Sent, steps: int) -> _Sent:
    """Return what a hidden layer sends whose activations are from 0 to `most`."""
    grain = _grain_of_changes(layer, read.grain)
    drops = grain % (1 << STATE_EXPONENT) != 0
    column = (-1, *(1,) * (len(layer.shape) - 1))
    residue = _held_back(layer, np.where(drops, 1, grain)).reshape(column)
    dropped = np.where(drops, _DROPPED_MAX * steps, 0).reshape(column)
    unit = float(1 << STATE_EXPONENT)
    most = np.broadcast_to(most, layer.shape)
    ones = np.ones(layer.shape)
    return _Sent(
        low=ones * -np.floor((residue + dropped) / unit),
        high=np.floor((most + residue) / unit),
        step=np.ceil((most + residue) / unit),
        grain=np.where(drops, 1, grain >> STATE_EXPONENT),
    )


def _grain_of_changes(layer: FixedLayer, grain: Int64Array) -> Int64Array:
    """Return the number of which all activations of a channel are multiples; 0 if all are zero."""
    synapse = layer.connections[0].synapse
    assert isinstance(synapse, FixedConv | FixedDense)
    weight = np.abs(synapse.weight.astype(np.int64))
    if isinstance(synapse, FixedDense):
        terms = weight * np.repeat(grain, weight.shape[1] // len(grain))
    else:
        outputs, inputs = weight.shape[:2]
        group = np.arange(outputs) // (outputs // synapse.groups)
        channels = group[:, None] * inputs + np.arange(inputs)
        terms = weight * grain[channels][:, :, None, None]
    biases = np.abs(layer.bias.astype(np.int64)) << _shift(layer)
    biases = np.broadcast_to(biases, layer.shape).reshape(layer.shape[0], -1)
    of_terms = np.gcd.reduce(terms.reshape(len(terms), -1), axis=1)
    return np.asarray(np.gcd(of_terms, np.gcd.reduce(biases, axis=1)))


def _sums(layer: FixedLayer, sent: _Sent) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the smallest and the largest sigma, and the largest size of the sum of a step."""
    synapse = layer.connections[0].synapse
    assert isinstance(synapse, FixedConv | FixedDense)
    weight = synapse.weight.astype(np.float64)
    linear: Conv | Dense
    if isinstance(synapse, FixedDense):
        linear = Dense(weight=weight)
    else:
        linear = Conv(
            weight=weight,
            stride=synapse.stride,
            padding=synapse.padding,
            dilation=synapse.dilation,
            groups=synapse.groups,
        )
    positive = replace(linear, weight=np.maximum(weight, 0))
    negative = replace(linear, weight=np.minimum(weight, 0))
    values = np.stack([sent.low, sent.high, sent.step])[None]
    if isinstance(synapse, FixedDense):
        values = values.reshape(1, 3, -1)
    up, down = apply(positive, values)[0], apply(negative, values)[0]
    least, most = up[0] + down[1], up[1] + down[0]
    change = np.minimum(most - least, up[2] - down[2])
    shaped = (part.reshape(layer.shape) for part in (least, most, change))
    first, second, third = shaped
    return first, second, third
