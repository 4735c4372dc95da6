"""Check a deployed network against a chip: every limit that is exceeded, in one error."""

from __future__ import annotations

import numpy as np

from neurodeploy.chips.cores import estimate_cores
from neurodeploy.chips.layer_sizes import sizes_of
from neurodeploy.chips.target import Target
from neurodeploy.errors import TargetLimitError
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    IntArray,
    Synapse,
)


def find_violations(graph: FixedPointGraph, target: Target) -> tuple[str, ...]:
    """Name every limit of a chip that a network exceeds.

    Looks at weights as they act, delays, thresholds, biases, decays, parameters that differ within
    a layer, and, for a chip with cores, at what one core must hold.

    Args:
        graph: The network as deployed: skip connections already lowered.
        target: The chip.

    Returns:
        One sentence each: where, what was found, what is allowed, what to do.
    """
    found: list[str] = []
    for layer in graph:
        for connection in layer.connections:
            where = f"{connection.source} -> {layer.name}"
            found += _synapse_violations(connection.synapse, target, where)
        found += _neuron_violations(layer, target)
    if target.core_model is not None:
        fit = estimate_cores(sizes_of(graph), target)
        found += [entry.problem for entry in fit.layers if entry.problem]
    return tuple(found)


def check_limits(graph: FixedPointGraph, target: Target) -> None:
    """Refuse a network that exceeds a chip.

    Args:
        graph: The network as deployed.
        target: The chip.

    Raises:
        TargetLimitError: With every violation, one a line.
    """
    found = find_violations(graph, target)
    if found:
        count = "1 limit is" if len(found) == 1 else f"{len(found)} limits are"
        lines = "".join(f"\n  {violation}" for violation in found)
        raise TargetLimitError(f"target '{target.name}': {count} exceeded.{lines}")


def _synapse_violations(synapse: Synapse, target: Target, where: str) -> list[str]:
    if isinstance(synapse, FixedComplexDense):
        return [
            violation
            for part in (synapse.real, synapse.imaginary)
            for violation in _synapse_violations(part, target, where)
        ]
    found: list[str] = []
    if isinstance(synapse, FixedConv):
        found += _range_violation(
            synapse.weight,
            target.weight_min,
            target.weight_max,
            f"{where}: weights",
            target,
            "Quantize with a smaller scale.",
        )
    elif isinstance(synapse, FixedDense):
        found += _range_violation(
            synapse.effective.mantissa,
            target.weight_min,
            target.weight_max + 1,  # weights of one sign have an odd bit more
            f"{where}: weights as they act",
            target,
            "Quantize with a smaller scale.",
        )
        if synapse.delay is not None:
            found += _range_violation(
                synapse.delay,
                0,
                target.limit("delay_max"),
                f"{where}: delays",
                target,
                "Train with shorter delays; Lava clamps longer ones.",
            )
    return found


def _neuron_violations(layer: FixedLayer, target: Target) -> list[str]:
    found = _range_violation(
        layer.bias,
        -target.bias_max - 1,
        target.bias_max,
        f"{layer.name}: biases",
        target,
        "Quantize with a smaller scale, or train with smaller biases.",
    )
    neuron = layer.neuron
    if not isinstance(neuron, CubaNeuron):
        return found
    found += _range_violation(
        neuron.threshold,
        0,
        target.threshold_max,
        f"{layer.name}: thresholds",
        target,
        "Quantize with a smaller scale.",
    )
    for name, decays in (("current", neuron.current_decay), ("voltage", neuron.voltage_decay)):
        found += _range_violation(
            decays,
            0,
            target.limit("decay_max"),
            f"{layer.name}: {name} decays",
            target,
            "A decay is a share of 4096.",
        )
    sets = target.limits.get("neuron_parameter_sets")
    parameters = (neuron.current_decay, neuron.voltage_decay, neuron.threshold)
    if sets is None and any(np.unique(values).size > 1 for values in parameters):
        found.append(
            f"{layer.name}: decays or thresholds differ within the layer, target '{target.name}' "
            "is known to take one set a layer. Use one set, or the target 'lava-cpu'."
        )
    return found


def _range_violation(
    values: IntArray, low: int, high: int, what: str, target: Target, advice: str
) -> list[str]:
    if not values.size or (int(values.min()) >= low and int(values.max()) <= high):
        return []
    return [
        f"{what} from {values.min()} to {values.max()}, target '{target.name}' allows {low} to "
        f"{high}. {advice}"
    ]
