"""Check a deployed network against a chip: every limit that is exceeded, in one error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neurodeploy.chips.cores import estimate_cores
from neurodeploy.chips.layer_sizes import sizes_of
from neurodeploy.chips.target import Target
from neurodeploy.errors import TargetLimitError
from neurodeploy.fixedpoint import scale_down
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedLayer,
    IntArray,
    Synapse,
)


def find_violations(graph: FixedPointGraph, target: Target) -> tuple[str, ...]:
    """Name every limit of a chip that a network exceeds: place, value, values allowed, and advice.

    Looks at weights as they act, delays, thresholds, biases, decays, parameters that differ within
    a layer, and, for a chip with cores, at the needs of one core. Skip connections of the network
    must be lowered already.

    Example:
        >>> nd.find_violations(nd.load_example().graph, loihi2)
        ()
    """
    found: list[str] = []
    for layer in graph:
        checks: list[_Check] = []
        for connection in layer.connections:
            where = f"{connection.source} -> {layer.name}"
            checks += _synapse_checks(connection.synapse, target, where)
        for check in (*checks, *_neuron_checks(layer, target)):
            found += check.violations(target)
        found += _parameter_violations(layer, target)
    if target.core_model is not None:
        fit = estimate_cores(sizes_of(graph), target)
        found += [entry.problem for entry in fit.layers if entry.problem]
    return tuple(found)


def check_limits(graph: FixedPointGraph, target: Target) -> None:
    """Refuse a network that exceeds a chip.

    Raises:
        TargetLimitError: With every violation, one a line.

    Example:
        >>> nd.check_limits(nd.load_example().graph, loihi2)  # an error if it does not fit
    """
    found = find_violations(graph, target)
    if found:
        count = "1 limit is" if len(found) == 1 else f"{len(found)} limits are"
        lines = "".join(f"\n  {violation}" for violation in found)
        raise TargetLimitError(f"target '{target.name}': {count} exceeded.{lines}")


_SCALE = "Quantize with a smaller scale."
_ADVICE = {"threshold_max": _SCALE, "decay_max": "A decay is a share of 4096."}


class _Check(NamedTuple):
    """Values of a network, and the range of them that a target allows."""

    name: str
    values: IntArray
    low: int
    high: int
    advice: str = _SCALE

    def violations(self, target: Target) -> list[str]:
        if not self.values.size:
            return []
        lowest, highest = int(self.values.min()), int(self.values.max())
        if self.low <= lowest and highest <= self.high:
            return []
        return [
            f"{self.name} from {lowest} to {highest}, target '{target.name}' allows {self.low} to "
            f"{self.high}. {self.advice}"
        ]


def _synapse_checks(synapse: Synapse, target: Target, where: str) -> Iterator[_Check]:
    low, high = target.weight_min, target.weight_max
    if isinstance(synapse, FixedComplexDense):
        yield from _synapse_checks(synapse.real, target, where)
        yield from _synapse_checks(synapse.imaginary, target, where)
    elif isinstance(synapse, FixedConv):
        yield _Check(f"{where}: weights", synapse.weight, low, high)
    elif isinstance(synapse, FixedDense):
        # Weights of one sign have one more, odd bit.
        effective = synapse.effective
        acting = scale_down(effective.mantissa, effective.shift).astype(np.int32)
        yield _Check(f"{where}: weights as they act", acting, low, high + 1)
        if synapse.delay is not None:
            advice = "Train with shorter delays; Lava clamps longer ones."
            longest = target.limit("delay_max")
            yield _Check(f"{where}: delays", synapse.delay, 0, longest, advice)


def _neuron_checks(layer: FixedLayer, target: Target) -> Iterator[_Check]:
    advice = "Quantize with a smaller scale, or train with smaller biases."
    largest = target.bias_max
    yield _Check(f"{layer.name}: biases", layer.bias, -largest - 1, largest, advice)
    for name, values, limit in layer.neuron.limited():
        where, largest = f"{layer.name}: {name.replace('_', ' ')}s", target.limit(limit)
        yield _Check(where, values, 0, largest, _ADVICE[limit])


def _parameter_violations(layer: FixedLayer, target: Target) -> list[str]:
    if "neuron_parameter_sets" in target.limits:
        return []
    if all(np.unique(parameter.values).size <= 1 for parameter in layer.neuron.limited()):
        return []
    return [
        f"{layer.name}: decays or thresholds differ within the layer, target '{target.name}' "
        "is known to take one set a layer. Use one set, or the target 'lava-cpu'."
    ]
