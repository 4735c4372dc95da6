"""Run a float `Graph` step by step in float64: the reference of every import.

Neurons that were trained on the chip's grid drop the fractions of their decays, as they do there.

Layer l at step t reads layer l - 1 at step t; a recurrent synapse reads the step before. Every
sample starts from rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from neurodeploy.errors import GraphError
from neurodeploy.fixedpoint import (
    DECAY_UNITY,
    STATE_EXPONENT,
    FloatArray,
    decay,
    round_half_even,
    truncate,
)
from neurodeploy.ir.float_layers import (
    Addition,
    AveragePool,
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    Flatten,
    GlobalAveragePool,
    Input,
    Integrator,
    Layer,
    MaxPool,
    Rectifier,
    SpikeDelay,
    is_neuron,
)
from neurodeploy.ir.graphs import Graph

VALUES_MAX = 1 << 22
"""Values of the largest layer that are held at a time; more samples go in several parts."""


@dataclass(frozen=True, slots=True, eq=False)
class FloatRun:
    """The outputs of every population.

    Attributes:
        values: By name: spikes (samples, T, ...) uint8, or voltages of a read-out, float64.
        margins: By name of a spiking population: |v - threshold| (samples, T), the smallest of
            its neurons.
    """

    values: dict[str, np.ndarray]
    margins: dict[str, FloatArray]


def run_graph(graph: Graph, inputs: FloatArray) -> FloatRun:
    """Run a graph.

    Args:
        graph: The graph.
        inputs: (samples, T, ...) of the input's shape, or of as many values.

    Returns:
        What every population sent.

    Raises:
        GraphError: If the inputs do not fit, or a layer is of an unknown kind.
    """
    shape = graph.input.shape
    if inputs.ndim < 3 or prod(inputs.shape[2:]) != prod(shape) or not inputs.shape[1]:
        raise GraphError(
            f"inputs of shape {inputs.shape}, (samples, T, {', '.join(map(str, shape))}) with T of "
            "at least 1 is required."
        )
    samples, steps = inputs.shape[:2]
    inputs = inputs.reshape(samples, steps, *shape) if samples else np.zeros((1, steps, *shape))
    largest = max(prod(layer) for layer in graph.shapes().values())
    part = max(1, VALUES_MAX // max(1, largest * steps))
    runs = [_run_part(graph, inputs[first : first + part]) for first in range(0, len(inputs), part)]
    return FloatRun(
        values=_join([run.values for run in runs], samples),
        margins=_join([run.margins for run in runs], samples),
    )


def _join(parts: list[dict[str, np.ndarray]], samples: int) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts])[:samples] for name in parts[0]}


def _run_part(graph: Graph, inputs: FloatArray) -> FloatRun:
    sent: dict[str, FloatArray] = {}
    run = FloatRun({}, {})
    readers = {name: len(graph.destinations(name)) for name in graph.nodes}
    recurrent = {
        synapse: name
        for name in graph.nodes
        if (synapse := graph.recurrent_synapse(name)) is not None
    }
    for name, layer in graph.nodes.items():
        if name in recurrent:
            continue
        if isinstance(layer, Input):
            sent[name] = inputs.astype(np.float64)
            continue
        sources = [source for source in graph.sources(name) if source not in recurrent]
        value = sent[sources[0]]
        for source in sources[1:]:
            value = value + sent[source]
        if isinstance(layer, Cuba):
            synapse = graph.recurrent_synapse(name)
            back = None if synapse is None else graph.nodes[synapse]
            assert back is None or isinstance(back, Dense)
            sent[name], run.margins[name] = _spikes(layer, value, back)
        elif isinstance(layer, Integrator):
            sent[name] = _voltages(layer, value)
        else:
            sent[name] = apply(layer, value)
        if is_neuron(layer):
            is_spiking = isinstance(layer, Cuba)
            run.values[name] = sent[name].astype(np.uint8) if is_spiking else sent[name]
        for source in sources:
            readers[source] -= 1
            if not readers[source]:
                del sent[source]
    return run


def _spikes(neuron: Cuba, value: FloatArray, back: Dense | None) -> tuple[FloatArray, FloatArray]:
    """Return spikes (samples, T, ...) and the smallest distance to the threshold (samples, T)."""
    if neuron.scale is not None:
        return _spikes_on_grid(neuron, value, back, neuron.scale)
    samples, steps = value.shape[:2]
    spikes = np.zeros_like(value)
    margins = np.empty((samples, steps))
    current = np.zeros((samples, *value.shape[2:]))
    voltage = np.zeros_like(current)
    keep_current, keep_voltage = 1 - neuron.current_decay, 1 - neuron.voltage_decay
    bias = 0.0 if neuron.bias is None else neuron.bias
    last = np.zeros_like(current)
    for step in range(steps):
        received = value[:, step]
        if back is not None:
            received = received + apply(back, last[:, None])[:, 0]
        current = keep_current * current + received
        voltage = keep_voltage * voltage + current + bias
        fires = voltage >= neuron.threshold if neuron.fires_at_threshold else (
            voltage > neuron.threshold
        )  # fmt: skip
        distance = np.abs(voltage - neuron.threshold)
        margins[:, step] = distance.reshape(samples, -1).min(axis=1)
        voltage = np.where(fires, 0.0, voltage)
        last = spikes[:, step] = fires
    return spikes, margins


class _OnGrid:
    """States of neurons that count in whole parts of a weight's step, as on the chip.

    Attributes:
        unit: How many of them make one float unit.
        voltage: (samples, ...) int64.
    """

    def __init__(self, neuron: Cuba | Integrator, shape: tuple[int, ...], scale: int) -> None:
        self.unit = scale << STATE_EXPONENT
        self.leaks = [
            round_half_even(np.asarray(leak) * DECAY_UNITY)
            for leak in (neuron.current_decay, neuron.voltage_decay)
        ]
        self.bias = truncate(np.zeros(()) if neuron.bias is None else neuron.bias * self.unit)
        self.current = np.zeros(shape, np.int64)
        self.voltage = np.zeros(shape, np.int64)

    def step(self, received: FloatArray) -> None:
        """Advance by a step; decays drop fractions."""
        self.current = decay(self.current, self.leaks[0]) + truncate(received * self.unit)
        self.voltage = decay(self.voltage, self.leaks[1]) + self.current + self.bias


def _spikes_on_grid(
    neuron: Cuba, value: FloatArray, back: Dense | None, scale: int
) -> tuple[FloatArray, FloatArray]:
    """Return what `_spikes` does."""
    samples, steps = value.shape[:2]
    spikes = np.zeros_like(value)
    margins = np.empty((samples, steps))
    state = _OnGrid(neuron, (samples, *value.shape[2:]), scale)
    threshold = truncate(np.asarray(neuron.threshold * state.unit))
    for step in range(steps):
        received = value[:, step]
        if back is not None:
            last = spikes[:, step - 1 : step] if step else np.zeros_like(value[:, :1])
            received = received + apply(back, last)[:, 0]
        state.step(received)
        fires = state.voltage > threshold
        distance = np.abs(state.voltage - threshold) / state.unit
        margins[:, step] = distance.reshape(samples, -1).min(axis=1)
        state.voltage = np.where(fires, 0, state.voltage)
        spikes[:, step] = fires
    return spikes, margins


def _voltages(neuron: Integrator, value: FloatArray) -> FloatArray:
    voltages = np.empty_like(value)
    if neuron.scale is not None:
        state = _OnGrid(neuron, value[:, 0].shape, neuron.scale)
        for step in range(value.shape[1]):
            state.step(value[:, step])
            voltages[:, step] = state.voltage / state.unit
        return voltages
    current = np.zeros_like(value[:, 0])
    voltage = np.zeros_like(current)
    keep_current, keep_voltage = 1 - neuron.current_decay, 1 - neuron.voltage_decay
    bias = 0.0 if neuron.bias is None else neuron.bias
    for step in range(value.shape[1]):
        current = keep_current * current + value[:, step]
        voltage = keep_voltage * voltage + current + bias
        voltages[:, step] = voltage
    return voltages


def apply(layer: Layer, value: FloatArray) -> FloatArray:
    """Apply a layer without memory to values (samples, T, ...).

    Raises:
        GraphError: If the layer is of a kind that is not known here.
    """
    samples, steps = value.shape[:2]
    match layer:
        case Dense():
            result = value.reshape(samples, steps, -1) @ layer.weight.T
            return result if layer.bias is None else result + layer.bias
        case Conv():
            return _convolve(layer, value)
        case BatchNorm():
            column = (-1, *(1,) * (value.ndim - 3))
            return value * layer.scale.reshape(column) + layer.shift.reshape(column)
        case Addition():
            return value
        case SpikeDelay():
            return layer.apply(value)
        case Rectifier():
            return layer.apply(value, channel_axis=2)
        case Flatten():
            return value.reshape(samples, steps, -1)
        case MaxPool() | AveragePool():
            windows = windows_of(value, layer.kernel, layer.stride, layer.padding)
            pooled = windows.max(axis=(-2, -1)) if isinstance(layer, MaxPool) else (
                windows.mean(axis=(-2, -1))
            )  # fmt: skip
            return np.asarray(pooled)
        case GlobalAveragePool():
            return np.asarray(value.mean(axis=(-2, -1)))
    raise GraphError(f"a layer of type {type(layer).__name__} cannot be run. Name it in `apply`.")


class Passed(NamedTuple):
    """Values that a layer got and gave for frames, each (1, n, ...)."""

    name: str
    layer: Layer
    arriving: FloatArray
    sent: FloatArray


def pass_frames(graph: Graph, frames: FloatArray) -> Iterator[Passed]:
    """Yield what every layer behind the input does, of a graph without neurons.

    Args:
        graph: The graph; the last layer comes last.
        frames: (n, *shape) frames, each by itself.
    """
    sent: dict[str, FloatArray] = {}
    for name, layer in graph.nodes.items():
        if isinstance(layer, Input):
            sent[name] = frames[None]
            continue
        arriving = sum((sent[source] for source in graph.sources(name)), np.zeros(()))
        sent[name] = apply(layer, arriving)
        yield Passed(name, layer, arriving, sent[name])


def windows_of(
    value: FloatArray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> FloatArray:
    """Return the windows (samples, T, C, H, W, KH, KW) that slide over an image, a view."""
    around = [(0, 0)] * 3 + [(pad, pad) for pad in padding]
    padded = np.pad(value, around) if any(padding) else value
    extent = tuple(dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1))
    windows = sliding_window_view(padded, extent, axis=(-2, -1))
    return windows[
        :, :, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]
    ]  # fmt: skip


def _convolve(layer: Conv, value: FloatArray) -> FloatArray:
    out, inside, height, width = layer.weight.shape
    windows = windows_of(value, (height, width), layer.stride, layer.padding, layer.dilation)
    if layer.groups == 1:
        product = np.tensordot(windows, layer.weight, axes=([2, 5, 6], [1, 2, 3]))
        result = np.moveaxis(product, -1, 2)  # the channels come last of tensordot
    else:
        grouped = windows.reshape(*windows.shape[:2], layer.groups, inside, *windows.shape[3:])
        weight = layer.weight.reshape(layer.groups, -1, inside, height, width)
        product = np.einsum("stgihwkl,goikl->stgohw", grouped, weight, optimize=True)
        result = product.reshape(*product.shape[:2], out, *product.shape[4:])
    if layer.bias is None:
        return result
    return result + layer.bias.reshape(out, *layer.bias.shape[1:], *(1,) * (3 - layer.bias.ndim))
