"""Compare what two simulators saw, and name the first thing that differs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import SimulationError
from neurodeploy.simulation.base import Recording

SPIKES = "spikes"
"""`Difference.quantity` of a difference in the events of a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first value that differs in one layer: lowest step, then sample, then neuron.

    Attributes:
        layer: Name of the layer.
        quantity: "spikes", or the name of a state ("voltage").
        step: Step within the recording, from 0.
        sample: Index of the sample.
        neuron: Index within the layer, (c, h, w) or (n,).
        expected: Value in the first recording.
        actual: Value in the second recording.
    """

    layer: str
    quantity: str
    step: int
    sample: int
    neuron: tuple[int, ...]
    expected: int
    actual: int

    def __str__(self) -> str:
        neuron = ", ".join(map(str, self.neuron))
        return (
            f"{self.layer}: {self.quantity} differ first at step {self.step}, sample "
            f"{self.sample}, neuron ({neuron}): {self.expected} against {self.actual}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerComparison:
    """What a comparison found in one quantity of one layer.

    Attributes:
        layer: Name of the layer.
        quantity: "spikes", or the name of a state.
        compared: Number of values compared.
        differing: Number of values that differ.
        first: The first difference, or None.
    """

    layer: str
    quantity: str
    compared: int
    differing: int
    first: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison of two recordings found.

    Attributes:
        layers: Spikes, one entry for each layer, in order.
        states: State traces of the last layer, one entry for each.
    """

    layers: tuple[LayerComparison, ...]
    states: tuple[LayerComparison, ...]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return self.first is None

    @property
    def differing_spikes(self) -> int:
        """Number of events that differ, over all layers."""
        return sum(layer.differing for layer in self.layers)

    @property
    def first(self) -> Difference | None:
        """First difference of the first layer that differs; spikes come before states."""
        found = (entry.first for entry in (*self.layers, *self.states))
        return next((difference for difference in found if difference is not None), None)

    def __str__(self) -> str:
        if self.first is None:
            values = sum(entry.compared for entry in (*self.layers, *self.states))
            return f"equal in all of {len(self.layers)} layers ({values} values)"
        lines = [str(self.first)]
        lines += [
            f"  {entry.layer}: {entry.differing} of {entry.compared} {entry.quantity} differ"
            for entry in (*self.layers, *self.states)
            if entry.differing
        ]
        return "\n".join(lines)


def compare(expected: Recording, actual: Recording) -> Comparison:
    """Compare the spikes of all layers and the state traces of the last one.

    Args:
        expected: A recording.
        actual: Another one of the same network and input.

    Raises:
        SimulationError: If the recordings are not of the same network, input or length, so that
            comparing them would say nothing.
    """
    if expected.layers != actual.layers:
        raise SimulationError(
            f"comparison: layers {', '.join(expected.layers)} against {', '.join(actual.layers)}. "
            "Compare recordings of the same network."
        )
    if set(expected.traces) != set(actual.traces):
        raise SimulationError(
            f"comparison: states {', '.join(expected.traces) or 'none'} against "
            f"{', '.join(actual.traces) or 'none'}. Record the same states in both."
        )
    last = expected.layers[-1]
    return Comparison(
        layers=tuple(
            _compare_arrays(name, SPIKES, *pair)
            for name, pair in zip(
                expected.layers, zip(expected.spikes, actual.spikes, strict=True), strict=True
            )
        ),
        states=tuple(
            _compare_arrays(last, name, trace, actual.traces[name])
            for name, trace in expected.traces.items()
        ),
    )


def assert_bit_exact(expected: Recording, actual: Recording) -> None:
    """Assert that two recordings are equal in every spike and every recorded state.

    Args:
        expected: A recording.
        actual: Another one of the same network and input.

    Raises:
        AssertionError: If anything differs; the message names the first differing layer, step,
            sample and neuron, and how much differs in each layer.
        SimulationError: If the recordings are not of the same network, input or length.
    """
    comparison = compare(expected, actual)
    if not comparison.is_equal:
        raise AssertionError(str(comparison))


def _compare_arrays(
    layer: str,
    quantity: str,
    expected: npt.NDArray[np.integer],
    actual: npt.NDArray[np.integer],
) -> LayerComparison:
    """Compare (samples, T, ...) arrays; the first difference is searched step by step."""
    if expected.shape != actual.shape:
        raise SimulationError(
            f"comparison: {layer}: {quantity} of shape {expected.shape} against {actual.shape}. "
            "Compare recordings of the same input and number of steps."
        )
    differs = expected != actual
    count = int(np.count_nonzero(differs))
    first: Difference | None = None
    if count:
        by_step = np.moveaxis(differs, 1, 0)
        step, sample, *neuron = (
            int(axis) for axis in np.unravel_index(int(by_step.argmax()), by_step.shape)
        )
        index = (sample, step, *neuron)
        first = Difference(
            layer=layer,
            quantity=quantity,
            step=step,
            sample=sample,
            neuron=tuple(neuron),
            expected=int(expected[index]),
            actual=int(actual[index]),
        )
    return LayerComparison(
        layer=layer, quantity=quantity, compared=expected.size, differing=count, first=first
    )
