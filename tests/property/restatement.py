"""Lava's rules once more, in Python's unbounded integers, one value and one step at a time.

Written from the description of the format, not from the package's code: no arrays, no batches,
no layer-at-a-time order. It is far too slow for anything but tests: `test_simulation.py` holds the
simulator, and so the definition of each neuron in `simulation.neurons`, equal to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from math import atan2, pi

import numpy as np
import numpy.typing as npt

from neurodeploy.ir import (
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    FixedPointGraph,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import FixedInjection, Synapse

Matrix = list[list[int]]
CLIP = 2**23 - 1


def wrap(value: int, bits: int) -> int:
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


def towards_zero(value: int, bits: int) -> int:
    return value // 2**bits if value >= 0 else -(-value // 2**bits)


def clip(value: int) -> int:
    return max(-CLIP, min(CLIP, value))


def floor_log2(value: Fraction) -> int:
    exponent = 0
    while value >= 2:
        value, exponent = value / 2, exponent + 1
    while value < 1:
        value, exponent = value * 2, exponent - 1
    return exponent


def effective_weights(*stored: Matrix) -> list[tuple[Matrix, int]]:
    """The six steps by which Lava turns stored into acting weights: (mantissa, shift) each."""
    matrices = [[list(row) for row in matrix] for matrix in stored]

    def largest() -> int:
        return max(max(row) for matrix in matrices for row in matrix)

    def smallest() -> int:
        return min(min(row) for matrix in matrices for row in matrix)

    def clip_all() -> None:
        for matrix in matrices:
            for row in matrix:
                row[:] = [max(-256, min(254, weight)) for weight in row]

    if largest() > 254 and smallest() < 0:
        clip_all()
    if smallest() < -256 and largest() > 0:
        clip_all()
    high, low = largest(), smallest()
    signed = 0 if high < 0 or low >= 0 else 1
    if signed:
        scales = [Fraction(127, high)] if high else []
        scale = min([*scales, Fraction(-128, low)])
    elif high < 0:
        scale = Fraction(-256, low)
    else:
        scale = Fraction(255, high)
    shift = floor_log2(scale) + signed
    common = 8
    while common > 0 and any(w % 2**common for matrix in matrices for row in matrix for w in row):
        common -= 1
    bits = 8 - shift - (common - signed)
    return [(acting_mantissa(matrix, shift, bits), max(shift, 0)) for matrix in matrices]


def acting_mantissa(matrix: Matrix, shift: int, bits: int) -> Matrix:
    scaled = [[weight * 2**shift if shift >= 0 else 0 for weight in row] for row in matrix]
    high, low = max(map(max, scaled)), min(map(min, scaled))
    mode = "E" if low >= 0 else "I" if high <= 0 else "M"
    sign = -1 if mode == "I" else 1
    cut = 8 - bits + (1 if mode == "M" else 0)
    floor, ceiling = (-256, 255) if mode == "M" else (0, 255)
    result = []
    for row in scaled:
        clipped = [max(floor, min(ceiling, sign * weight)) for weight in row]
        result.append([sign * (w // 2**cut * 2**cut) if cut >= 0 else 0 for w in clipped])
    return result


@dataclass
class Neuron:
    """State of one neuron; what the letters mean is in the neuron's class."""

    first: int = 0
    second: int = 0
    third: int = 0

    def step_lif(self, arriving: int, du: int, dv: int, threshold: int, bias: int) -> int:
        p = wrap(towards_zero(self.first * (4096 - du), 12) + arriving * 64, 32)
        if p > 2**23:
            p -= 2**24
        elif p <= -(2**23):
            p += 2**24
        v = wrap(towards_zero(self.second * (4096 - dv), 12) + p + wrap(bias, 16) * 64, 32)
        self.first, self.second = p, clip(v)
        if self.second > threshold * 64:
            self.second = 0
            return 1
        return 0

    def send_change(self, activation: int, threshold: int, exponent: int) -> int:
        change = wrap(activation - self.second + self.third, 32)
        size = wrap(abs(change), 32)
        sent = change if size >= threshold * 2 ** (exponent + 6) else 0
        self.second, self.third = activation, change - sent
        return sent // 64

    def step_delta(self, arriving: int, threshold: int, exponent: int) -> int:
        return self.send_change(wrap(arriving * 2 ** (exponent + 6), 32), threshold, exponent)

    def step_sigma_delta(self, arriving: int, threshold: int, exponent: int, bias: int) -> int:
        self.first = wrap(self.first + arriving, 32)
        beta = wrap(bias * 2 ** (exponent + 6), 32)
        return self.send_change(max(wrap(self.first + beta, 32), 0), threshold, exponent)

    def step_sigma(self, arriving: int) -> int:
        self.first = wrap(self.first + arriving, 32)
        return self.first

    def step_resonator(self, real: int, imaginary: int, neuron: ResonateFireNeuron) -> int:
        s, c = rotation(neuron)
        re = clip(
            towards_zero(c * self.first, 12)
            - towards_zero(s * self.second, 12)
            + wrap(real * 64, 32)
        )
        im = clip(
            towards_zero(s * self.first, 12)
            + towards_zero(c * self.second, 12)
            + wrap(imaginary * 64, 32)
        )
        threshold = neuron.threshold * 64
        if neuron.is_phase:
            spike = re >= threshold and im >= 0 and self.second < 0
        else:
            spike = im >= threshold
            if spike:
                re, im = 0, threshold - 1
        self.first, self.second = re, im
        return int(spike)


def rotation(neuron: ResonateFireNeuron) -> tuple[int, int]:
    """In NumPy's floats, as Lava does, but for the arctangent: NumPy's depends on the processor."""
    q, c = neuron.sine_decay / 4096, neuron.cosine_decay / 4096
    r = 1 - (1 - np.sqrt(np.float64(q**2 + c**2)))
    turn = np.float64(atan2(q, c)) / 2 / pi
    angle = pi * 2 * 1 / (1 / turn) if turn else 0.0
    return int(r * np.sin(angle) * 4096), int(r * np.cos(angle) * 4096)


STATE_NAMES = {
    CubaNeuron: ("current", "voltage"),
    DeltaNeuron: ("sigma", "activation", "residue"),
    SigmaDeltaNeuron: ("sigma", "activation", "residue"),
    SigmaNeuron: ("sigma",),
    ResonateFireNeuron: ("real", "imag"),
}


@dataclass
class Layer:
    """One layer and what is on its way through its synapses."""

    layer: FixedLayer
    neurons: dict[tuple[int, ...], Neuron]
    in_flight: list[dict[int, dict[tuple[int, ...], list[int]]]] = field(default_factory=list)

    def add(
        self, step: int, connection: int, where: tuple[int, ...], port: int, value: int
    ) -> None:
        waiting = self.in_flight[connection].setdefault(step, {})
        waiting.setdefault(where, [0, 0])[port] += value


def spread(
    synapse: Synapse, layer: FixedLayer, events: dict[tuple[int, ...], int]
) -> list[tuple[int, tuple[int, ...], int, int]]:
    """What a synapse sends for the events of one step: (delay, neuron, port, value)."""
    match synapse:
        case FixedInjection():
            return [(0, where, 0, value) for where, value in events.items()]
        case FixedConv():
            return [(0, where, 0, wrap(v, 24)) for where, v in correlate(synapse, layer, events)]
        case FixedComplexDense():
            return [
                (delay, where, port, value)
                for port, part in enumerate((synapse.real, synapse.imaginary))
                for delay, where, _, value in spread(part, layer, events)
            ]
        case FixedDense():
            return multiply(synapse, layer, list(events.values()))


def correlate(
    synapse: FixedConv, layer: FixedLayer, events: dict[tuple[int, ...], int]
) -> list[tuple[tuple[int, ...], int]]:
    outputs, per_group, height, width = synapse.weight.shape
    result = []
    for o, y, x in product(*map(range, layer.shape)):
        first = o // (outputs // synapse.groups) * per_group
        total = 0
        for i, ky, kx in product(range(per_group), range(height), range(width)):
            source = (
                first + i,
                y * synapse.stride[0] + ky * synapse.dilation[0] - synapse.padding[0],
                x * synapse.stride[1] + kx * synapse.dilation[1] - synapse.padding[1],
            )
            total += int(synapse.weight[o, i, ky, kx]) * events.get(source, 0)
        result.append(((o, y, x), total))
    return result


def multiply(
    synapse: FixedDense, layer: FixedLayer, events: list[int]
) -> list[tuple[int, tuple[int, ...], int, int]]:
    stored = [synapse.weight.tolist()]
    if synapse.partner is not None:
        stored.append(synapse.partner.tolist())
    mantissa, shift = effective_weights(*stored)[0]
    delays = synapse.delay.tolist() if synapse.delay is not None else None
    result = []
    for index, where in enumerate(product(*map(range, layer.shape))):
        by_delay: dict[int, int] = {}
        for source, value in enumerate(events):
            delay = delays[index][source] if delays is not None else 0
            by_delay[delay] = by_delay.get(delay, 0) + mantissa[index][source] * value
        for delay, total in by_delay.items():
            result.append((delay, where, 0, wrap(total, 32) // 2**shift))
    return result


@dataclass
class Run:
    """Spikes of every layer and states of every layer, by step; arrays (T, *layer)."""

    spikes: list[npt.NDArray[np.int64]]
    states: list[dict[str, npt.NDArray[np.int64]]]


def simulate(
    graph: FixedPointGraph,
    inputs: npt.NDArray[np.int32],
    *,
    steps: int,
    is_stream: bool,
    reset_interval: int | None = None,
    reset_offset: int = 0,
    is_bias_image: bool = False,
) -> Run:
    """Run one sample, (T, *port), or (*port) for a bias image, step by step."""
    layers = [
        Layer(
            layer=layer,
            neurons={where: Neuron() for where in product(*map(range, layer.shape))},
            in_flight=[{} for _ in layer.connections],
        )
        for layer in graph
    ]
    spikes: list[list[dict[tuple[int, ...], int]]] = [[] for _ in layers]
    states: list[list[dict[tuple[int, ...], Sequence[int]]]] = [[] for _ in layers]
    for step in range(steps):
        sent: dict[str, dict[tuple[int, ...], int]] = {}
        if not is_bias_image:
            image = inputs[step % len(inputs)]
            sent[INPUT] = {where: int(image[where]) for where in np.ndindex(image.shape)}
        for index, run in enumerate(layers):
            layer, offset = run.layer, 1 if is_stream else 0
            graded = reads_values(graph, layer)
            for number, connection in enumerate(layer.connections):
                is_injection = isinstance(connection.synapse, FixedInjection)
                if is_bias_image and is_injection:
                    continue
                if connection.source == layer.name:
                    continue  # sent below, once this step's events are known
                if is_stream and not is_injection:
                    continue  # sent below too: it arrives a step later
                events = sent[connection.source]
                if connection.source == INPUT and not graph.input.is_graded and not is_injection:
                    events = {where: int(value != 0) for where, value in events.items()}
                for delay, where, port, value in spread(connection.synapse, layer, events):
                    run.add(step + delay, number, where, port, value)
            if is_stream and reset_interval and isinstance(layer.neuron, CubaNeuron):
                now = (step + 1) % reset_interval
                if now == (reset_offset + 1 + index) % reset_interval:
                    run.neurons = {where: Neuron() for where in run.neurons}
            events = {}
            for where, neuron in run.neurons.items():
                arriving = [0, 0]
                for waiting in run.in_flight:
                    for port, value in enumerate(waiting.get(step, {}).get(where, [0, 0])):
                        arriving[port] += value
                bias = int(np.broadcast_to(layer.bias, layer.shape)[where])
                if is_bias_image and index == 0:
                    bias = int(inputs[where])
                events[where] = fire(layer, neuron, where, arriving, bias)
            sent[layer.name] = events
            spikes[index].append(events)
            states[index].append({w: (n.first, n.second, n.third) for w, n in run.neurons.items()})
            for number, connection in enumerate(layer.connections):
                if connection.source == layer.name:
                    own = events if graded else {w: int(v != 0) for w, v in events.items()}
                    for delay, where, port, value in spread(connection.synapse, layer, own):
                        run.add(step + 1 + delay, number, where, port, value)
        if is_stream:
            for run in layers:
                for number, connection in enumerate(run.layer.connections):
                    synapse, source = connection.synapse, connection.source
                    if source == run.layer.name or isinstance(synapse, FixedInjection):
                        continue
                    events = sent[source]
                    if source == INPUT and not graph.input.is_graded:
                        events = {where: int(value != 0) for where, value in events.items()}
                    for delay, where, port, value in spread(synapse, run.layer, events):
                        run.add(step + offset + delay, number, where, port, value)
    return Run(
        spikes=[
            stack(layer.layer, per_step) for layer, per_step in zip(layers, spikes, strict=True)
        ],
        states=[
            {
                name: stack(
                    layer.layer,
                    [{where: values[k] for where, values in now.items()} for now in per_step],
                )
                for k, name in enumerate(STATE_NAMES[type(layer.layer.neuron)])
            }
            for layer, per_step in zip(layers, states, strict=True)
        ],
    )


def reads_values(graph: FixedPointGraph, layer: FixedLayer) -> bool:
    """Whether the layer's forward synapses see values; its recurrent one then does as well."""
    kinds = {other.name: other.neuron for other in graph}
    return any(
        graph.input.is_graded
        if connection.source == INPUT
        else isinstance(kinds[connection.source], DeltaNeuron | SigmaDeltaNeuron | SigmaNeuron)
        for connection in layer.connections
        if connection.source != layer.name
    )


def fire(
    layer: FixedLayer, neuron: Neuron, where: tuple[int, ...], arriving: list[int], bias: int
) -> int:
    def value(array: npt.NDArray[np.int32]) -> int:
        return int(np.broadcast_to(array, layer.shape)[where])

    match layer.neuron:
        case CubaNeuron() as kind:
            return neuron.step_lif(
                arriving[0],
                value(kind.current_decay),
                value(kind.voltage_decay),
                value(kind.threshold),
                bias,
            )
        case DeltaNeuron() as kind:
            return neuron.step_delta(arriving[0], kind.threshold, kind.spike_exponent)
        case SigmaDeltaNeuron() as kind:
            return neuron.step_sigma_delta(arriving[0], kind.threshold, kind.spike_exponent, bias)
        case SigmaNeuron():
            return neuron.step_sigma(arriving[0])
        case ResonateFireNeuron() as kind:
            return neuron.step_resonator(arriving[0], arriving[1], kind)


def stack(layer: FixedLayer, per_step: list[dict[tuple[int, ...], int]]) -> npt.NDArray[np.int64]:
    result = np.zeros((len(per_step), *layer.shape), np.int64)
    for step, values in enumerate(per_step):
        for where, value in values.items():
            result[(step, *where)] = value
    return result
