"""Inner loops of the simulator: integer arrays in, integer arrays out.

Matrix products run in floating point where a bound computed from the weights and the input
proves every partial sum exact: below 2**24 in float32, below 2**53 in float64. Otherwise int64
is used. The result is the same integer in each case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import (
    CURRENT_LIMIT,
    VOLTAGE_LIMIT,
    Int64Array,
    clip_voltage,
    decay,
    scale_up,
    wrap,
    wrap_current,
)
from neurodeploy.ir.fixed_layers import FixedConv, FixedDense, FixedLayer, IntArray, Synapse
from neurodeploy.simulation.base import Health

_EXACT_FLOAT32 = 1 << 24
_EXACT_FLOAT64 = 1 << 53


def apply_synapse(synapse: Synapse, events: IntArray, *, is_graded: bool) -> Int64Array:
    """Give what a synapse sends for every step of every sample.

    Args:
        synapse: The weights.
        events: (samples, T, *source) int32.
        is_graded: Whether the values come from a graded source; decides where Lava wraps.

    Returns:
        (samples, T, ...) int64, before the step of delay that Lava adds.
    """
    if isinstance(synapse, FixedConv):
        return wrap(_convolve(synapse, events), 24)
    if isinstance(synapse, FixedDense):
        return _multiply_dense(synapse, events, is_graded=is_graded)
    return events.astype(np.int64)


def multiply_exactly(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> Int64Array:
    """Matrix product of integers without rounding or overflow.

    Args:
        left: (M, K) integers.
        right: (K, N) integers.

    Returns:
        (M, N) int64.
    """
    largest = int(np.abs(left.astype(np.int64)).max(initial=0))
    bound = largest * int(np.abs(right.astype(np.int64)).sum(axis=0).max(initial=0))
    if bound < _EXACT_FLOAT32:
        return np.matmul(left.astype(np.float32), right.astype(np.float32)).astype(np.int64)
    if bound < _EXACT_FLOAT64:
        return np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)
    return np.matmul(left.astype(np.int64), right.astype(np.int64))


def _convolve(synapse: FixedConv, events: IntArray) -> Int64Array:
    samples, steps, _, height, width = events.shape
    _, out_height, out_width = synapse.output_shape(events.shape[2:])
    outputs = synapse.weight.shape[0]
    per_group_in, kernel_height, kernel_width = synapse.weight.shape[1:]
    per_group_out = outputs // synapse.groups
    (pad_y, pad_x), (step_y, step_x) = synapse.padding, synapse.stride
    padded = np.zeros(
        (samples * steps, events.shape[2], height + 2 * pad_y, width + 2 * pad_x), np.int32
    )
    padded[:, :, pad_y : pad_y + height, pad_x : pad_x + width] = events.reshape(
        samples * steps, *events.shape[2:]
    )
    span_y = synapse.dilation[0] * (kernel_height - 1) + 1
    span_x = synapse.dilation[1] * (kernel_width - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (span_y, span_x), axis=(2, 3))
    windows = windows[:, :, ::step_y, ::step_x, :: synapse.dilation[0], :: synapse.dilation[1]]
    result = np.empty((samples * steps, outputs, out_height, out_width), np.int64)
    for group in range(synapse.groups):
        ins = slice(group * per_group_in, (group + 1) * per_group_in)
        outs = slice(group * per_group_out, (group + 1) * per_group_out)
        columns = windows[:, ins].transpose(0, 2, 3, 1, 4, 5)
        rows = columns.reshape(samples * steps * out_height * out_width, -1)
        weight = synapse.weight[outs].reshape(per_group_out, -1)
        product = multiply_exactly(rows, weight.T)
        result[:, outs] = product.reshape(
            samples * steps, out_height, out_width, per_group_out
        ).transpose(0, 3, 1, 2)
    return result.reshape(samples, steps, outputs, out_height, out_width)


def _multiply_dense(synapse: FixedDense, events: IntArray, *, is_graded: bool) -> Int64Array:
    samples, steps = events.shape[:2]
    rows = events.reshape(samples * steps, prod(events.shape[2:]))
    effective = synapse.effective

    def product(mantissa: IntArray) -> Int64Array:
        sums = multiply_exactly(rows, mantissa.T)
        if is_graded:
            sums = wrap(sums, 32)
        return (sums >> np.int64(effective.shift)).reshape(samples, steps, -1)

    if synapse.delay is None:
        return product(effective.mantissa)
    result = np.zeros((samples, steps, effective.mantissa.shape[0]), np.int64)
    for delay in np.unique(synapse.delay):
        if delay >= steps:
            continue
        part = product(np.where(synapse.delay == delay, effective.mantissa, 0))
        result[:, delay:] += part[:, : steps - delay]
    return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lif:
    """A layer's neuron parameters at the scale of the state.

    Attributes:
        current_decay: int64, broadcasts over (samples, ...).
        voltage_decay: The same.
        bias: The same, times 2**6.
        threshold: The same, times 2**6.
    """

    current_decay: Int64Array
    voltage_decay: Int64Array
    bias: Int64Array
    threshold: Int64Array

    @staticmethod
    def from_layer(layer: FixedLayer, bias_image: IntArray | None = None) -> Lif:
        """Take the parameters of `layer`; `bias_image` (samples, ...) replaces its bias."""
        bias = layer.bias if bias_image is None else wrap(bias_image, 16)
        return Lif(
            current_decay=layer.neuron.current_decay.astype(np.int64),
            voltage_decay=layer.neuron.voltage_decay.astype(np.int64),
            bias=scale_up(bias),
            threshold=scale_up(layer.neuron.threshold),
        )

    def initial_state(self, shape: tuple[int, ...]) -> LifState:
        """Give zero state for (samples, ...) neurons."""
        return LifState(current=np.zeros(shape, np.int64), voltage=np.zeros(shape, np.int64))


@dataclass(slots=True, eq=False)
class LifState:
    """Current and voltage of a batch of neurons, int64, and how far they went."""

    current: Int64Array
    voltage: Int64Array
    current_peak: int = field(default=0)
    voltage_peak: int = field(default=0)
    current_wraps: int = field(default=0)
    voltage_clips: int = field(default=0)

    def clear(self) -> None:
        """Set the states to zero, as a reset does; peaks and counts stay."""
        self.current = np.zeros_like(self.current)
        self.voltage = np.zeros_like(self.voltage)

    def health(self) -> Health:
        """Give peaks and overflow counts so far."""
        return Health(
            current_peak=self.current_peak,
            voltage_peak=self.voltage_peak,
            current_wraps=self.current_wraps,
            voltage_clips=self.voltage_clips,
        )


def step_lif(neuron: Lif, state: LifState, arriving: Int64Array) -> IntArray:
    """Advance leaky integrate-and-fire neurons by one step; updates `state` in place.

        p = decay(u, iDecay) + wrap32(a << 6);     u = wrap24(p)
        v = clip(decay(v, vDecay) + u + (bias << 6))
        s = v > (vThMant << 6);                    v = 0 where s

    Args:
        neuron: Parameters.
        state: Current and voltage; replaced by the new ones.
        arriving: (samples, ...) int64, a: the sum of what the synapses sent.

    Returns:
        (samples, ...) int32, s: 1 where a neuron spikes.

    Source: lava-nc 0.10.0 `lava/proc/lif/models.py:PyLifModelBitAcc`.
    """
    current = decay(state.current, neuron.current_decay) + wrap(scale_up(arriving), 32)
    low, high = int(current.min()), int(current.max())
    state.current_peak = max(state.current_peak, high, -low)
    if high > CURRENT_LIMIT or low <= -CURRENT_LIMIT:
        outside = (current > CURRENT_LIMIT) | (current <= -CURRENT_LIMIT)
        state.current_wraps += int(outside.sum())
        current = wrap_current(current)
    voltage = decay(state.voltage, neuron.voltage_decay) + current + neuron.bias
    low, high = int(voltage.min()), int(voltage.max())
    state.voltage_peak = max(state.voltage_peak, high, -low)
    if high > VOLTAGE_LIMIT or low < -VOLTAGE_LIMIT:
        state.voltage_clips += int((np.abs(voltage) > VOLTAGE_LIMIT).sum())
        voltage = clip_voltage(voltage)
    spikes = voltage > neuron.threshold
    voltage[spikes] = 0
    state.current, state.voltage = current, voltage
    return spikes.astype(np.int32)
