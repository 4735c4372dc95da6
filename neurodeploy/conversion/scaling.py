"""Choose how many message units stand for one float unit, for every channel of a chain.

A layer's gain is fixed: 64 weight units are a factor of 1 from message to message. So a channel's
scale m is the largest for which its weights fit eight bits, its values sixteen, and its sums the
range in which Lava adds exactly; a factor of two is left for frames that were not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.conversion.chain import NONE, Chain, ChainLayer
from neurodeploy.errors import ConversionError
from neurodeploy.fixedpoint import FloatArray, Int64Array
from neurodeploy.ir.float_layers import Dense

GAIN = 64
"""Weight units that are a factor of 1 from message to message."""
WEIGHT_MAX = 254
POOL_WEIGHT_MAX = 255
"""Weights of one sign may be odd."""
VALUE_MAX = 16383
"""Most message units of an activation: half of sixteen bits."""
FILL_MAX = 28000
"""Most message units while the pipeline fills, which is known exactly."""
TOTAL_MAX = 8_000_000
"""Largest sum with its bias: both signs of 24 bits, less what rounding adds."""
SUM_MAX = 1 << 22
"""Largest sum: one step may swing from one end to the other, and 24 bits must hold that."""
QUIET_SHARE = 0.25
"""A channel that calibration hardly woke is given room for this share of the layer's largest."""


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """The largest values of a layer on frames and while the pipeline fills, (C,) each.

    Attributes:
        values: Activations on the frames.
        fill: Activations while the pipeline fills.
        sums: |W x|, without the bias, on both.
        totals: |W x + b| before it is rectified, on both.
        means: W x, without the bias, in the mean over frames and positions; not its size.
    """

    values: FloatArray
    fill: FloatArray
    sums: FloatArray
    totals: FloatArray
    means: FloatArray


def find_peaks(chain: Chain, frames: FloatArray) -> list[Peaks]:
    """Return the largest values of every layer, the read-out's as well."""
    values, fill, sums, totals, means = (
        [np.zeros(layer.shape[0]) for layer in chain.layers] for _ in range(5)
    )
    for part in chain.split(frames):
        current = part
        for index, layer in enumerate(chain.layers):
            current, mean = _pass(layer, current, values[index], sums[index], totals[index])
            means[index] += mean * (len(part) / len(frames))
    # All layers start at once: each sees zeros first, and only biases come from those before it.
    for first in range(len(chain.layers)):
        current = np.zeros((1, *chain.layers[first].source))
        for index in range(first, len(chain.layers)):
            layer = chain.layers[index]
            current, _ = _pass(layer, current, fill[index], sums[index], totals[index])
    return [Peaks(*found) for found in zip(values, fill, sums, totals, means, strict=True)]


def _pass(
    layer: ChainLayer,
    current: FloatArray,
    values: FloatArray,
    sums: FloatArray,
    totals: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return what a layer sends, and W x in the mean; raise its largest values so far."""
    plain = layer.sums(current)
    np.maximum(sums, _largest(plain), out=sums)
    result = layer.add_bias(plain)
    np.maximum(totals, _largest(result), out=totals)
    np.maximum(values, _largest(result if layer.is_readout else np.maximum(result, 0)), out=values)
    mean: FloatArray = plain.mean(axis=(0, *range(2, plain.ndim)))
    return np.maximum(result, 0), mean


def _largest(values: FloatArray) -> FloatArray:
    """Return the largest size of each channel, for (n, C, ...)."""
    largest: FloatArray = np.abs(values).max(axis=(0, *range(2, values.ndim)))
    return largest


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """Message units per float unit.

    Attributes:
        input: Of the frame: input scale times message unit.
        layers: (C,) of every hidden layer.
        output: Units of the read-out's sum per float unit.
    """

    input: float
    layers: tuple[FloatArray, ...]
    output: float

    def of_source(self, chain: Chain, index: int) -> FloatArray:
        """Return the scale of every channel that layer `index` reads."""
        if index == 0:
            return np.full(chain.shape[0], self.input)
        return self.layers[index - 1]


def choose_scales(
    chain: Chain,
    peaks: Sequence[Peaks],
    input_scale: float,
    limits: Sequence[FloatArray] | None = None,
) -> Scales:
    """Return the scales of all layers.

    Args:
        chain: The network.
        peaks: Its largest values.
        input_scale: Message units per float unit of a frame.
        limits: (C,) bounds on each hidden layer's scales besides, of an earlier attempt.

    Raises:
        ConversionError: If a layer is dead, or a pool takes the mean of too many values.
    """
    source = np.full(chain.shape[0], input_scale)
    scales = []
    for index, (layer, peak) in enumerate(zip(chain.layers[:-1], peaks[:-1], strict=True)):
        bounds = _bounds(layer, peak, source)
        if limits is not None:
            bounds = np.minimum(bounds, limits[index])
        source = _settle(layer, bounds, source)
        scales.append(source)
    last, peak = chain.layers[-1], peaks[-1]
    bias = np.abs(last.bias).max(initial=0.0)
    logits = max(float(peak.values.max()), float(peak.sums.max()), float(peak.fill.max()), bias)
    weights = np.abs(relative(last, source)).max(initial=0.0)
    if not weights or not logits:
        raise ConversionError(
            f"{last.name}: every weight or every result is 0, so that no scale can be chosen. Are "
            "these the trained weights, and the frames in the units they were trained with?"
        )
    return Scales(input_scale, tuple(scales), min(WEIGHT_MAX / weights, SUM_MAX / logits))


def relative(layer: ChainLayer, source: FloatArray) -> FloatArray:
    """Return w / m of the input channel, in the shape of the weights."""
    synapse = layer.synapse
    if isinstance(synapse, Dense):
        columns = np.repeat(source, synapse.weight.shape[1] // len(source))
        return np.asarray(synapse.weight / columns)
    outputs, inputs = synapse.weight.shape[:2]
    groups = np.arange(outputs) // (outputs // synapse.groups)
    channels = groups[:, None] * inputs + np.arange(inputs)
    return np.asarray(synapse.weight / source[channels][:, :, None, None])


def _bounds(layer: ChainLayer, peak: Peaks, source: FloatArray) -> FloatArray:
    """Return the largest scale of each channel by itself."""
    free = layer.tied == NONE
    if free.any() and not peak.values[free].max():
        raise ConversionError(
            f"{layer.name}: no calibration frame activates it, so that the network always gives "
            "the same answer. Are the frames in the units that the network was trained with?"
        )
    room = np.maximum(peak.values, QUIET_SHARE * peak.values.max(initial=0.0, where=free))
    weights = np.abs(relative(layer, source)).reshape(len(free), -1).max(axis=1)
    most = POOL_WEIGHT_MAX if layer.is_pool else WEIGHT_MAX
    with np.errstate(divide="ignore"):
        return np.asarray(
            np.minimum.reduce(
                [
                    VALUE_MAX / room,
                    FILL_MAX / peak.fill,
                    most / (GAIN * weights),
                    SUM_MAX / (GAIN * peak.sums),
                    TOTAL_MAX / (GAIN * peak.totals),
                ]
            )
        )


def _settle(layer: ChainLayer, bounds: FloatArray, source: FloatArray) -> FloatArray:
    """Return scales within the bounds that keep exact what must be exact."""
    shared = _least_of_partners(layer.partner, bounds)
    scales = np.where(np.isfinite(shared), shared, 1.0)
    if layer.is_pool:
        weight = np.abs(layer.synapse.weight.reshape(len(scales), -1)).max(axis=1)
        read = GAIN * weight / weight_source(layer, source)
        steps = np.floor(scales * read + 1e-9)
        free = layer.tied == NONE
        if (steps[free] < 1).any():
            count = round(1 / float(weight[free].min()))
            raise ConversionError(
                f"{layer.name}: the mean of {count} values does not fit the integers; up to "
                f"{GAIN} do, or a number along each axis that is a product of two such. Pool over "
                "another number of values."
            )
        scales = np.where(free, steps / read, scales)
    added = layer.identity != NONE
    if added.any():
        ratio = GAIN / source[layer.identity[added]]
        steps = 2 * np.floor(scales[added] * ratio / 2 + 1e-9)
        scales[added] = np.where(steps >= 2, steps / ratio, scales[added])
        scales = _least_of_partners(layer.partner, scales)
    tied = layer.tied != NONE
    scales[tied] = source[layer.tied[tied]]
    return np.asarray(scales)


def weight_source(layer: ChainLayer, source: FloatArray) -> FloatArray:
    """Return, for each channel of a pool, the scale of the one that it reads."""
    weight = layer.synapse.weight
    places = np.abs(weight).reshape(len(weight), weight.shape[1], -1).max(axis=2).argmax(axis=1)
    groups = getattr(layer.synapse, "groups", 1)
    first = np.arange(len(weight)) // (len(weight) // groups) * weight.shape[1]
    return np.asarray(source[first + places])


def _least_of_partners(partner: Int64Array, bounds: FloatArray) -> FloatArray:
    least = np.full(partner.max(initial=0) + 1, np.inf)
    np.minimum.at(least, partner, bounds)
    return np.asarray(least[partner])
