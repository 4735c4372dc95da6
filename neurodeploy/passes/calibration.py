"""Choose scales from data: as large as the weights allow, as small as the data require.

The judge is the integer network itself: it is run on the calibration samples, and wherever a
current or a voltage comes closer to the end of its 24 bits than the margin allows, that layer's
scale shrinks and the run is repeated.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from math import log2

import numpy as np
import numpy.typing as npt

from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.fixedpoint import CURRENT_LIMIT, VOLTAGE_LIMIT
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.passes.current_bias import always_on
from neurodeploy.passes.quantization import (
    Clipping,
    choose_scales,
    clip_weights,
    find_populations,
    keep_grids,
    quantize,
)
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Health, Recording

MARGIN = 1.5
"""Default distance that states keep from the end of their range, as a factor."""
_ROUNDS = 12
_PATIENT_ROUNDS = 4
"""Rounds in which a scale shrinks just as far as its states exceed their range. Rounding moves
states by more than a small excess, so after these each round shrinks it further."""
_NUDGE = 1.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Scales and the integer network they give.

    Attributes:
        graph: The quantized network.
        float_graph: The float graph that was quantized, its weights clipped to the scales' room.
        scales: Integer weight units per float unit, by layer.
        skip_bits: Bits of weight precision that skip connections cost, by layer: how much larger
            the scale could be if nothing had to be relayed and no identity had the weight 1.
        health: Per layer, how far the states went on the calibration samples.
        spike_rates: Per layer, mean spikes per neuron and step on the calibration samples, without
            channels that always fire.
    """

    graph: FixedPointGraph
    float_graph: Graph
    scales: dict[str, float]
    skip_bits: dict[str, float]
    health: tuple[Health, ...]
    spike_rates: tuple[float, ...]


def calibrate(
    graph: Graph,
    target: Target,
    inputs: npt.NDArray[np.integer],
    *,
    margin: float = MARGIN,
    clipping: Clipping = "max",
    percentile: float = 99.9,
) -> Calibration:
    """Choose each layer's scale from data and quantize.

    Args:
        graph: A float graph with batch norm and pooling folded, and no synapse's bias on a current
            that decays (`lower_current_biases`).
        target: The chip.
        inputs: (samples, T, ...) integers, typical of the data to come. If any is negative, the
            deployed input carries numbers; else, for a `largest` of 1, spikes.
        margin: No state exceeds its range divided by this on these samples. At least 1.
        clipping: Which weights may be clipped; see `choose_scales`.
        percentile: The share of |weights| that "percentile" keeps, in percent.

    Raises:
        QuantizationError: If the network cannot be represented, a value of the input cannot be
            reproduced, or a spiking layer is silent on all samples.

    Example:
        >>> small = {**plain, "network.layers": '[{type = "conv", channels = 8}]'}
        >>> network = nd.SpikingNetwork.from_recipe(nd.Recipe.load("digits", overrides=small))
        >>> folded = nd.fold_batchnorm(nd.trace(network))
        >>> calibration = nd.calibrate(folded, loihi2, nd.load_example().inputs)
        >>> calibration.graph.names, list(calibration.scales)
        (('conv1', 'readout'), ['conv1', 'readout'])
    """
    if margin < 1:
        raise QuantizationError(f"calibration: margin {margin}, at least 1 is required.")
    graph = fit_input(graph, int(inputs.min()), int(inputs.max()))
    steps = int(inputs.shape[1])
    choose = partial(
        choose_scales, graph, target, steps=steps, clipping=clipping, percentile=percentile
    )
    with_skips = choose(guard_overflow=False)
    without_skips = choose(guard_overflow=False, has_skips=False)
    scales = dict(with_skips)
    for attempt in range(_ROUNDS):
        scales = keep_grids(graph, scales)
        clipped = clip_weights(graph, target, scales)
        fixed = quantize(clipped, target, steps=steps, scales=scales)
        recording = EventSimulator(fixed).run(inputs)
        excess = _find_excess(graph, recording, margin)
        if not excess:
            break
        nudge = _NUDGE ** max(0, attempt + 1 - _PATIENT_ROUNDS)
        scales.update({name: scales[name] / (factor * nudge) for name, factor in excess.items()})
    else:
        raise QuantizationError(
            f"calibration: the states of {', '.join(sorted(excess))} still leave their range "
            f"after {_ROUNDS} attempts. Train with smaller weights, or allow a smaller margin "
            "(quantization.margin)."
        )
    check_activity(fixed, recording)
    assert recording.health is not None
    skip_bits = {
        # A scale that the data made smaller still would be no larger without skips.
        name: log2(without_skips[name] / scale) if scale == with_skips[name] else 0.0
        for name, scale in scales.items()
    }
    return Calibration(
        graph=fixed,
        float_graph=clipped,
        scales=scales,
        skip_bits=skip_bits,
        health=recording.health,
        spike_rates=_spike_rates(fixed, recording),
    )


def fit_input(graph: Graph, smallest: int, largest: int) -> Graph:
    """Make sure that the deployed input reproduces all values of a range exactly.

    Negative values need a port that carries numbers: on a binary one, each would count as a spike
    of 1.

    Returns:
        The graph, whose input knows of negative values if there are any.

    Raises:
        QuantizationError: If values are larger than the graph's input declares.
    """
    entry = graph.input
    if max(largest, -smallest) > entry.largest:
        raise QuantizationError(
            f"input: values from {smallest} to {largest}, the network is made for "
            f"{-entry.largest} to {entry.largest}. Train with a data.input_bits that holds them."
        )
    if smallest >= entry.smallest:
        return graph
    fitted = dataclasses.replace(entry, smallest=smallest)
    return graph.replace_nodes(changed={graph.input_name: fitted})


def check_activity(graph: FixedPointGraph, recording: Recording) -> None:
    """Refuse a network in which a layer is silent, or leaves the range of its integers.

    The last layer, a read-out, need not spike.

    Raises:
        QuantizationError: If a layer never spikes but for channels that carry biases, every neuron
            of it spikes in every step, a current wrapped or a voltage was clipped.
    """
    assert recording.health is not None
    for layer, health in zip(graph.layers, recording.health, strict=True):
        if health.current_wraps or health.voltage_clips:
            raise QuantizationError(
                f"{layer.name}: on {recording.samples} calibration samples a current left its 24 "
                f"bits {health.current_wraps} times and a voltage was clipped "
                f"{health.voltage_clips} times; none may. Quantize with a larger margin, or "
                "fine-tune with a smaller learning rate."
            )
    for layer, rate in zip(graph.layers[:-1], _spike_rates(graph, recording)[:-1], strict=True):
        if rate == 0:
            found = f"no neuron spikes on any of the {recording.samples} calibration samples"
            effect = "nothing would reach the layers behind it"
        elif rate == 1:
            found = (
                f"every neuron spikes in every step of all {recording.samples} calibration samples"
            )
            effect = "the layers behind it would see a constant"
        else:
            continue
        raise QuantizationError(
            f"{layer.name}: {found}; {effect}. Train on, or check the input scale."
        )


def _spike_rates(graph: FixedPointGraph, recording: Recording) -> tuple[float, ...]:
    """Return each layer's rate, that of all its channels only if all of them always fire."""
    rates: list[float] = []
    for layer in graph:
        spikes, reading = recording.spikes_of(layer.name), ~always_on(layer)
        if reading.any() and not reading.all():
            spikes = spikes.reshape(*spikes.shape[:2], *layer.shape)[:, :, reading]
        rates.append(float(np.mean(spikes != 0)))
    return tuple(rates)


def _find_excess(graph: Graph, recording: Recording, margin: float) -> dict[str, float]:
    """Return the factors, over 1, by which states exceed what the margin allows, by layer.

    Raises:
        QuantizationError: If training fixed the scale of such a layer, so that it cannot shrink.
    """
    assert recording.health is not None
    excess: dict[str, float] = {}
    for name, health in zip(recording.layers, recording.health, strict=True):
        share = max(health.current_peak / CURRENT_LIMIT, health.voltage_peak / VOLTAGE_LIMIT)
        if margin * share > 1:
            excess[name] = margin * share
    neurons = {population.name: population.neuron for population in find_populations(graph)}
    fixed = {name for name in excess if getattr(neurons[name], "scale", None) is not None}
    stuck = min(fixed, default=None)
    if stuck is not None:
        raise QuantizationError(
            f"{stuck}: its states reach {excess[stuck]:.2f} times what the margin of {margin:g} "
            "allows, and its scale is fixed by training on SLAYER's grid. Allow a smaller margin "
            "or train with smaller weights."
        )
    return excess
