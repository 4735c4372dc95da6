"""Turn a float graph into the integers of a target.

Each population of neurons gets one scale s, the number of integer weight units per float unit:
weights, bias and threshold are multiplied by s and rounded, so s cancels in the comparison of
voltage and threshold. s is limited by the weight range, by the bits of threshold and bias, and by
the 24 bits of current and voltage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neurodeploy.chips.target import Target
from neurodeploy.errors import QuantizationError
from neurodeploy.fixedpoint import (
    CURRENT_LIMIT,
    DECAY_UNITY,
    STATE_EXPONENT,
    Int32Array,
    Int64Array,
    round_half_even,
    round_to_even_integer,
)
from neurodeploy.ir.float_layers import (
    BatchNorm,
    Conv,
    Cuba,
    Dense,
    FiringNeuron,
    Flatten,
    FloatArray,
    FloatNeuron,
    Input,
    Integrator,
    Layer,
    Pool,
    Shape,
    SpikeDelay,
    is_neuron,
)
from neurodeploy.ir.graphs import INPUT, FixedInput, FixedPointGraph, Graph
from neurodeploy.ir.integer_layers import (
    INTEGER_FORMS,
    Connection,
    FixedConv,
    FixedDense,
    FixedLayer,
    Neuron,
)
from neurodeploy.passes.relays import find_carried, relay_threshold_max

Scales = Mapping[str, float]
"""Integer weight units per float unit, by the name of the population."""

_GRID_EXPONENT_MAX = 8
Clipping = Literal["max", "percentile", "mse"]
_MSE_CANDIDATES = np.linspace(0.2, 1.0, 33)
"""Shares of the largest weight that are tried as the place to clip at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One synapse that leads into a population.

    Attributes:
        node: Name of `layer` in the float graph.
        source: Name of the population (or `INPUT`) whose events it reads.
        unit: Float value of one integer unit of the source.
        delay: (in,) steps after which each event arrives, or None for none.
        is_identity: Whether this is an identity skip, which has no node of its own and whose
            weights are ones that no training may change.
    """

    node: str
    layer: Conv | Dense
    source: str
    unit: float
    delay: Int64Array | None = None
    is_identity: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """A neuron node with the synapses that lead into it."""

    name: str
    neuron: FloatNeuron
    branches: tuple[Branch, ...]

    @property
    def has_current_bias(self) -> bool:
        """True if a synapse's bias passes through a current that lives longer than a step."""
        decay = getattr(self.neuron, "current_decay", 1.0)
        biases = [branch.layer.bias for branch in self.branches]
        builds_up = any(bias is not None and np.any(bias) for bias in biases)
        return builds_up and bool(np.any(np.asarray(decay) < 1))

    @property
    def bias(self) -> FloatArray:
        """Sum of all biases, the neuron's too: (channels,) float64, or (channels, H, W).

        It drives the voltage, which is the same only without `has_current_bias`.
        """
        biases = [branch.layer.bias for branch in self.branches if branch.layer.bias is not None]
        if self.neuron.bias is not None:
            biases.append(self.neuron.bias)
        total: FloatArray = np.zeros(self.branches[0].layer.weight.shape[0])
        for bias in sorted(biases, key=np.ndim):
            total = total.reshape(-1, *(1,) * (bias.ndim - total.ndim)) + bias
        return total


def find_populations(graph: Graph) -> tuple[Population, ...]:
    """Group a graph, batch norm and pooling folded, into populations in graph order.

    Raises:
        QuantizationError: If a neuron, or something between two, has no integer counterpart.
        GraphError: If a layer is of an unknown kind.
    """
    populations = []
    shapes = graph.shapes()
    for name, neuron in graph.nodes.items():
        if not is_neuron(neuron):
            continue
        if not isinstance(neuron, FloatNeuron) or type(neuron) not in INTEGER_FORMS:
            allowed = " and ".join(kind.__name__ for kind in INTEGER_FORMS)
            raise QuantizationError(
                f"{name}: holds neurons of type {type(neuron).__name__}, which have no "
                f"integer counterpart; {allowed} are allowed."
            )
        branches = tuple(
            _branch(graph, name, source, shapes[source]) for source in graph.sources(name)
        )
        populations.append(Population(name=name, neuron=neuron, branches=branches))
    if not populations:
        raise QuantizationError("graph: no spiking layer. There is nothing to deploy.")
    return tuple(populations)


def _lowered_populations(graph: Graph) -> tuple[Population, ...]:
    """Return the populations of a graph whose biases all mean a drive of the voltage."""
    populations = find_populations(graph)
    for population in populations:
        if population.has_current_bias:
            raise QuantizationError(
                f"{population.name}: the bias of its synapse passes through a current that decays "
                f"(current_decay {np.min(population.neuron.current_decay):g}); the chip's bias "  # type: ignore[attr-defined]
                "drives the voltage. Run lower_current_biases first."
            )
    return populations


def _branch(graph: Graph, name: str, node: str, shape: Shape) -> Branch:
    layer = graph.nodes[node]
    if isinstance(layer, FiringNeuron):
        # An identity skip as a synapse: weight 1 from each neuron to the one at its place.
        weight = np.eye(shape[0])
        synapse = Conv(weight=weight[:, :, None, None]) if len(shape) == 3 else Dense(weight=weight)
        return Branch(
            node=f"{node} -> {name}", layer=synapse, source=node, unit=1.0, is_identity=True
        )
    if isinstance(layer, BatchNorm):
        raise QuantizationError(f"{node}: batch norm is not folded. Run fold_batchnorm first.")
    if not isinstance(layer, Conv | Dense):
        raise QuantizationError(
            f"{name}: reads {type(layer).__name__} '{node}'; a neuron must be fed by a conv or "
            "dense layer."
        )
    (source,) = graph.sources(node)
    if source == name:
        return Branch(node=node, layer=layer, source=name, unit=1.0)
    delay: Int64Array | None = None
    while isinstance(between := graph.nodes[source], Flatten | SpikeDelay):
        if isinstance(between, SpikeDelay):
            if delay is not None or not isinstance(layer, Dense):
                raise QuantizationError(
                    f"{source}: one delay before a dense layer is possible, none before others."
                )
            delay = between.steps.reshape(-1)
        (source,) = graph.sources(source)
    origin = graph.nodes[source]
    if isinstance(origin, Input):
        if origin.mean:
            raise QuantizationError(
                f"{source}: mean and deviation are not folded. Run fold_normalization first."
            )
        return Branch(node=node, layer=layer, source=INPUT, unit=origin.scale, delay=delay)
    if isinstance(origin, Pool):
        raise QuantizationError(
            f"{source}: pooling is not lowered. Run lower_max_pool, fold_average_pool and "
            "fold_global_average_pool first."
        )
    if not isinstance(origin, FiringNeuron):
        raise QuantizationError(
            f"{node}: reads {type(origin).__name__} '{source}'; only the input and spiking layers "
            "send events."
        )
    return Branch(node=node, layer=layer, source=source, unit=1.0, delay=delay)


def choose_scales(
    graph: Graph,
    target: Target,
    *,
    steps: int,
    guard_overflow: bool = True,
    clipping: Clipping = "max",
    percentile: float = 99.9,
    has_skips: bool = True,
) -> dict[str, float]:
    """Choose the largest scale that each population allows.

    A population on the path of a skip connection will carry relay channels, which bound its
    threshold; see `neurodeploy.passes.relays`.

    Args:
        graph: A float graph with batch norm and pooling folded.
        target: The chip.
        steps: T, steps of one sample: bounds how far a voltage without leak can go.
        guard_overflow: Also keep currents and voltages within their 24 bits for *every* input.
            That worst case costs precision in wide layers; `calibrate` measures on data instead.
        clipping: Which weights the scale leaves no room for: "max" none; "percentile" the largest
            100 - `percentile` percent of each synapse; "mse" those whose loss makes the squared
            error of all rounded weights smallest. `clip_weights` then clips them.
        percentile: The share of |weights| that "percentile" keeps, in percent.
        has_skips: Let skip connections bound the scales: by relays to come, and by the weight 1
            of an identity. Scales chosen without them measure the price of the skips; nothing can
            be quantized with those.

    Returns:
        Scale by population.

    Raises:
        QuantizationError: If a population cannot be represented.

    Example:
        >>> scales = nd.choose_scales(graph, loihi2, steps=4)
        >>> list(scales), scales["conv1"] > 1000
        (['conv1', 'conv2', 'conv3', 'conv4', 'readout'], True)
    """
    scales: dict[str, float] = {}
    populations = _lowered_populations(graph)
    carried = find_carried([(p.name, [b.source for b in p.branches]) for p in populations])
    for population in populations:
        name, neuron = population.name, population.neuron
        if isinstance(neuron, FiringNeuron | Integrator) and neuron.scale is not None:
            # Weights that read a graded input are divided by its unit, or the grid would not hold
            # them: their population counts in finer units.
            scales[name] = neuron.scale / min(branch.unit for branch in population.branches)
            continue
        limits = []
        binds_identities = has_skips or all(b.is_identity for b in population.branches)
        channels = len(population.bias)
        reach = np.zeros(channels)
        for branch in population.branches:
            weight = branch.layer.weight * branch.unit
            low, high = float(weight.min()), float(weight.max())
            if low == 0 and high == 0:
                raise QuantizationError(
                    f"{branch.node}: all weights are zero; nothing would reach '{name}'. Remove "
                    "the layer or retrain."
                )
            allowed: Clipping = "max" if branch.is_identity else clipping
            if binds_identities or not branch.is_identity:
                limits.append(_weight_scale(weight, target, allowed, percentile))
            flat = np.abs(weight).reshape(channels, -1).sum(axis=1)
            reach += flat * (graph.input.largest if branch.source == INPUT else 1)
        bias = float(np.abs(population.bias).max(initial=0.0))
        if bias > 0:
            limits.append(target.bias_max / bias)
        if isinstance(neuron, FiringNeuron):
            largest = target.threshold_max - 1
            if has_skips and carried[name] and isinstance(neuron, Cuba):  # others cannot relay
                leak = int(round_half_even(np.min(neuron.voltage_decay) * DECAY_UNITY))
                largest = min(largest, relay_threshold_max(target, leak))
            limits.append(largest / neuron.threshold)
        if guard_overflow:
            largest_bias = np.abs(population.bias).reshape(channels, -1).max(axis=1)
            worst = float((reach + largest_bias).max()) * neuron.held_steps(steps)
            limits.append((CURRENT_LIMIT >> STATE_EXPONENT) / worst * 0.999)
        scales[name] = min(limits)
    return scales


def keep_grids(graph: Graph, scales: Scales) -> dict[str, float]:
    """Lower each scale to one at which weights on a coarse grid stay whole and even.

    Where all weights, biases and the threshold of a population are multiples of a power of two no
    smaller than 2**-8, nothing needs to be rounded, and a voltage can equal its threshold in
    integers just as in floats. Other populations keep their scale.
    """
    kept = dict(scales)
    for population in find_populations(graph):
        neuron = population.neuron
        if not isinstance(neuron, Cuba) or neuron.scale is not None:
            continue
        weights = [_grid(branch.layer.weight * branch.unit) for branch in population.branches]
        others = [_grid(population.bias), _grid(np.asarray(neuron.threshold))]
        if None in weights or None in others:
            continue
        step = max(*(2 * grid for grid in weights if grid), *(grid for grid in others if grid))
        if step <= kept[population.name]:
            kept[population.name] = float(kept[population.name] // step * step)
    return kept


def _grid(values: FloatArray) -> int | None:
    """Return the smallest power of two that makes all values whole, if it is at most 2**8."""
    for exponent in range(_GRID_EXPONENT_MAX + 1):
        if np.all(np.ldexp(values, exponent) % 1 == 0):
            return 1 << exponent
    return None


def clip_weights(graph: Graph, target: Target, scales: Scales) -> Graph:
    """Clip the weights that a choice of scales leaves no room for; the others stay as they are."""
    changed: dict[str, Layer] = {}
    for population in find_populations(graph):
        for branch in population.branches:
            if branch.is_identity:
                continue
            unit, weight = scales[population.name] * branch.unit, branch.layer.weight
            rounded = round_to_even_integer(weight * unit)
            # A weight that rounds to the end of the range stays as it is.
            outside = (rounded < target.weight_min) | (rounded > target.weight_max)
            if outside.any():
                clipped = np.clip(weight, target.weight_min / unit, target.weight_max / unit)
                kept = np.where(outside, clipped, weight)
                changed[branch.node] = dataclasses.replace(branch.layer, weight=kept)
    return graph.replace_nodes(changed=changed) if changed else graph


def _weight_scale(
    weight: FloatArray, target: Target, clipping: Clipping, percentile: float
) -> float:
    """Return the largest scale whose weights fit the chip, but for those that may be clipped."""

    def fitting(share: float) -> float:
        low, high = float(weight.min()) * share, float(weight.max()) * share
        limits = [target.weight_max / high] if high > 0 else []
        limits += [target.weight_min / low] if low < 0 else []
        return min(limits)

    if clipping == "max":
        return fitting(1.0)
    if clipping == "percentile":
        sizes = np.abs(weight[weight != 0])
        return fitting(float(np.percentile(sizes, percentile)) / float(sizes.max()))

    def error(scale: float) -> float:
        rounded = round_to_even_integer(weight * scale)
        clipped = np.clip(rounded, target.weight_min, target.weight_max)
        return float(np.square(clipped / scale - weight).sum())

    return min((fitting(float(share)) for share in _MSE_CANDIDATES[::-1]), key=error)


def quantize(
    graph: Graph, target: Target, *, steps: int, scales: Scales | None = None
) -> FixedPointGraph:
    """Turn a float graph into integers.

    Weights become even integers round(W · s / 2) · 2; bias and threshold round(b · s),
    round(V_th · s); a decay round(4096 · d). A graph trained on SLAYER's grid keeps its own
    integers exactly. The chip's bias drives the voltage: a synapse's bias is the same where the
    current lives one step, and refused where it lives longer; see `lower_current_biases`.

    Args:
        graph: A float graph with batch norm and pooling folded.
        target: The chip.
        steps: T, steps of one sample.
        scales: By population; None for `choose_scales` with its worst-case guard.

    Raises:
        QuantizationError: If a value leaves the target's range, a layer would go silent, or a
            synapse's bias passes through a current that decays.

    Example:
        >>> fixed = nd.quantize(graph, loihi2, steps=4)
        >>> fixed.layers[0].connections[0].synapse.weight.dtype, fixed.layers[0].bias.shape
        (dtype('int32'), (16, 1, 1))
    """
    if scales is None:
        scales = choose_scales(graph, target, steps=steps)
    shapes = graph.shapes()
    layers = []
    for population in _lowered_populations(graph):
        scale, shape = scales[population.name], shapes[population.name]
        connections = tuple(
            Connection(source=branch.source, synapse=_quantize_synapse(branch, scale, target))
            for branch in population.branches
        )
        connections = _as_partners(connections, population.name)
        for branch, connection in zip(population.branches, connections, strict=True):
            if isinstance(connection.synapse, FixedDense):
                _require_exact(connection.synapse, branch.node)
        layers.append(
            FixedLayer(
                name=population.name,
                shape=shape,
                connections=connections,
                neuron=_quantize_neuron(population, scale, target),
                bias=_quantize_bias(population, scale, shape, target),
            )
        )
    entry = graph.input
    is_binary = entry.largest == 1 and entry.smallest >= 0
    bits = 0 if is_binary else max(1, int(entry.largest).bit_length())
    return FixedPointGraph(
        input=FixedInput(shape=entry.shape, message_bits=bits), layers=tuple(layers)
    )


def _as_partners(connections: tuple[Connection, ...], name: str) -> tuple[Connection, ...]:
    """Let the two synapses of a recurrent population share one exponent, as Lava does."""
    if name not in [connection.source for connection in connections]:
        return connections
    weights = [connection.synapse for connection in connections]
    if len(weights) != 2 or not all(isinstance(synapse, FixedDense) for synapse in weights):
        raise QuantizationError(
            f"{name}: recurrent, and {len(weights) - 1} other synapses lead to it; exactly one, "
            "dense, is allowed beside a recurrent one."
        )
    first, second = (synapse for synapse in weights if isinstance(synapse, FixedDense))
    if first.delay is not None or second.delay is not None:
        raise QuantizationError(f"{name}: recurrent and delayed; Lava scales its weights wrongly.")
    partners = (
        FixedDense(weight=first.weight, partner=second.weight),
        FixedDense(weight=second.weight, partner=first.weight),
    )
    return tuple(
        Connection(source=connection.source, synapse=synapse)
        for connection, synapse in zip(connections, partners, strict=True)
    )


def _require_exact(synapse: FixedDense, where: str) -> None:
    """Refuse a dense synapse whose stored weights are not those that Lava acts with."""
    if not synapse.effective.is_exact:
        raise QuantizationError(
            f"{where}: weights from {synapse.weight.min()} to {synapse.weight.max()} are all of "
            "one sign and would act with other values in Lava. Train on, so that the layer has "
            "weights of both signs."
        )


def _quantize_synapse(branch: Branch, scale: float, target: Target) -> FixedConv | FixedDense:
    layer = branch.layer
    weight = round_to_even_integer(layer.weight * (scale * branch.unit)).astype(np.int32)
    low, high = int(weight.min()), int(weight.max())
    if not weight.any():
        raise QuantizationError(
            f"{branch.node}: all weights round to zero at scale {scale:g}; the layer would go "
            "silent. Another synapse, the bias or the threshold of the same neurons is far larger "
            "than these weights. Retrain with a penalty on them, or fine-tune."
        )
    if low < target.weight_min or high > target.weight_max:
        raise QuantizationError(
            f"{branch.node}: integer weights from {low} to {high}, target '{target.name}' allows "
            f"{target.weight_min} to {target.weight_max}. Use a smaller scale than {scale:g}."
        )
    if isinstance(layer, Conv):
        return FixedConv(
            weight=weight,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
        )
    if branch.delay is None:
        return FixedDense(weight=weight)
    delay = np.broadcast_to(branch.delay.astype(np.int32), weight.shape)
    return FixedDense(weight=weight, delay=delay)


def _quantize_bias(
    population: Population, scale: float, shape: Shape, target: Target
) -> Int32Array:
    bias = round_half_even(population.bias * scale)
    if np.abs(bias).max(initial=0) > target.bias_max:
        raise QuantizationError(
            f"{population.name}: integer bias up to {np.abs(bias).max()}, target '{target.name}' "
            f"allows {target.bias_max}. Use a smaller scale than {scale:g}."
        )
    if bias.ndim == 1:
        bias = bias.reshape(-1, *(1,) * (len(shape) - 1))
    is_by_channel = bias.shape == (shape[0], *(1,) * (len(shape) - 1))
    return bias.astype(np.int32) if is_by_channel else bias.astype(np.int32).reshape(shape)


def _quantize_neuron(population: Population, scale: float, target: Target) -> Neuron:
    neuron = population.neuron
    can_tie = isinstance(neuron, FiringNeuron) and neuron.fires_at_threshold
    numbers = neuron.integers(scale, is_whole=can_tie and _is_whole(population, scale))
    if isinstance(neuron, FiringNeuron) and not 0 <= numbers["threshold"] <= target.threshold_max:
        raise QuantizationError(
            f"{population.name}: integer threshold {numbers['threshold']}, target "
            f"'{target.name}' allows 0 to {target.threshold_max}. Use a smaller scale than "
            f"{scale:g}."
        )
    return INTEGER_FORMS[type(neuron)](
        **{name: values.astype(np.int32) for name, values in numbers.items()}
    )


def _is_whole(population: Population, scale: float) -> bool:
    """Return whether weights, biases and threshold are integers already: a voltage can tie."""
    neuron = population.neuron
    assert isinstance(neuron, FiringNeuron)
    values = [np.asarray(neuron.threshold), population.bias]
    values += [branch.layer.weight * branch.unit for branch in population.branches]
    return all(bool(np.all(value * scale == np.rint(value * scale))) for value in values)
