"""Compare recordings of two simulators and name the first difference."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from neurodeploy.errors import SimulationError
from neurodeploy.simulation.recording import IntArray, Recording, SpikeArray

SPIKES = "spikes"
"""`Difference.quantity` of a difference in the events of a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first value that differs in one array: lowest step, then sample, then neuron.

    Attributes:
        layer: Name of the layer.
        quantity: "spikes", or the name of a state ("voltage").
        step: From 0.
        sample: From 0.
        neuron: Index within the layer, (c, h, w) or (n,).
        first: Value in the first recording.
        second: Value in the second recording.

    Example:
        >>> example = nd.load_example()
        >>> simulator = nd.EventSimulator(example.graph)
        >>> one, other = (simulator.run(example.inputs[n : n + 1]) for n in (0, 1))
        >>> print(nd.testing.compare(one, other).difference)
        conv1: spikes differ first at step 0, sample 0, neuron (0, 0, 3): 1 against 0
    """

    layer: str
    quantity: str
    step: int
    sample: int
    neuron: tuple[int, ...]
    first: int
    second: int

    def __str__(self) -> str:
        neuron = ", ".join(map(str, self.neuron))
        return (
            f"{self.layer}: {self.quantity} differ first at step {self.step}, sample "
            f"{self.sample}, neuron ({neuron}): {self.first} against {self.second}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerComparison:
    """The spikes of one layer, compared.

    Attributes:
        name: Name of the layer.
        compared: Number of values compared: samples · steps · neurons.
        spikes_first: Events (values other than 0) in the first recording.
        spikes_second: Events in the second recording.
        differing: Number of values that differ.
        difference: The first difference, or None.

    Example:
        >>> example = nd.load_example()
        >>> simulator = nd.EventSimulator(example.graph)
        >>> one, other = (simulator.run(example.inputs[n : n + 1]) for n in (0, 1))
        >>> layer = nd.testing.compare(one, other).layers[0]
        >>> layer.name, layer.compared, layer.differing
        ('conv1', 512, 180)
    """

    name: str
    compared: int
    spikes_first: int
    spikes_second: int
    differing: int
    difference: Difference | None

    @property
    def is_equal(self) -> bool:
        """True if nothing differs."""
        return self.differing == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StateComparison:
    """The trace of one state of one layer, compared; fields as in `LayerComparison`.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> states = nd.testing.compare(recording, recording).states
        >>> [(one.layer, one.name, one.is_equal) for one in states]
        [('readout', 'current', True), ('readout', 'voltage', True)]
    """

    layer: str
    name: str
    compared: int
    differing: int
    difference: Difference | None

    @property
    def is_equal(self) -> bool:
        """True if nothing differs."""
        return self.differing == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of two recordings.

    Attributes:
        layers: Spikes, one entry for each recorded layer, in order.
        states: Recorded state traces, one entry for each.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> comparison = nd.testing.compare(recording, recording)
        >>> comparison.describe()
        'equal in all of 3 layers (28416 values)'
        >>> comparison.to_dict()["is_equal"]
        True
    """

    layers: tuple[LayerComparison, ...]
    states: tuple[StateComparison, ...]

    @property
    def is_equal(self) -> bool:
        """True if nothing differs."""
        return self.difference is None

    @property
    def differing(self) -> int:
        """Number of spikes that differ, over all layers."""
        return sum(layer.differing for layer in self.layers)

    @property
    def difference(self) -> Difference | None:
        """First difference of the first layer that differs; spikes come before states."""
        return next((e.difference for e in self._entries() if e.difference is not None), None)

    def _entries(self) -> list[LayerComparison | StateComparison]:
        return [*self.layers, *self.states]

    def describe(self) -> str:
        """Return a line that says "equal", or where and how much the recordings differ."""
        entries = self._entries()
        if self.difference is None:
            values = sum(entry.compared for entry in entries)
            return f"equal in all of {len(self.layers)} layers ({values} values)"
        counts = [
            f"{entry.name}: {entry.differing} of {entry.compared} differ"
            for entry in entries
            if not entry.is_equal
        ]
        return f"{self.difference}. {'; '.join(counts)}."

    def to_dict(self) -> dict[str, object]:
        """Return the comparison as plain values for JSON."""
        return {
            "is_equal": self.is_equal,
            "differing": self.differing,
            "layers": [asdict(layer) for layer in self.layers],
            "states": [asdict(state) for state in self.states],
        }


def compare(first: Recording, second: Recording) -> Comparison:
    """Compare all recorded spikes and state traces.

    Raises:
        SimulationError: If the recordings are not of the same network, input or length.

    Example:
        >>> example = nd.load_example()
        >>> compiled = nd.EventSimulator(example.graph).run(example.inputs)
        >>> definition = nd.EventSimulator(example.graph, is_compiled=False).run(example.inputs)
        >>> nd.testing.compare(compiled, definition).differing
        0
    """
    if first.layers != second.layers:
        raise SimulationError(
            f"comparison: layers {', '.join(first.layers)} against {', '.join(second.layers)}. "
            "Compare recordings of the same network."
        )
    ours, theirs = _recorded(first), _recorded(second)
    if ours != theirs:
        raise SimulationError(
            f"comparison: {', '.join(sorted(ours - theirs)) or 'nothing'} recorded only in the "
            f"first, {', '.join(sorted(theirs - ours)) or 'nothing'} only in the second. "
            "Record the same in both."
        )
    if not ours:
        raise SimulationError(
            "comparison: neither spikes nor states were recorded; there is nothing to compare."
        )
    return Comparison(
        layers=tuple(
            _compare_spikes(name, ours, theirs)
            for name, ours, theirs in zip(first.layers, first.spikes, second.spikes, strict=True)
            if ours is not None and theirs is not None
        ),
        states=tuple(
            _compare_states(layer, name, trace, second.states[layer][name])
            for layer, traces in first.states.items()
            for name, trace in traces.items()
        ),
    )


def _recorded(recording: Recording) -> set[str]:
    """Return the names of all arrays that a comparison looks at."""
    spikes = {
        f"{SPIKES} of {name}"
        for name, array in zip(recording.layers, recording.spikes, strict=True)
        if array is not None
    }
    return spikes | {
        f"{name} of {layer}" for layer, traces in recording.states.items() for name in traces
    }


def assert_bit_exact(first: Recording, second: Recording) -> None:
    """Assert that two recordings are equal in every spike and every recorded state.

    Raises:
        AssertionError: If anything differs; the message names the first differing layer, step,
            sample and neuron, and how much differs in each layer.
        SimulationError: If the recordings are not of the same network, input or length.

    Example:
        >>> example = nd.load_example()
        >>> compiled = nd.EventSimulator(example.graph).run(example.inputs)
        >>> definition = nd.EventSimulator(example.graph, is_compiled=False).run(example.inputs)
        >>> nd.testing.assert_bit_exact(compiled, definition)
    """
    comparison = compare(first, second)
    if not comparison.is_equal:
        raise AssertionError(comparison.describe())


def _compare_spikes(layer: str, first: SpikeArray, second: SpikeArray) -> LayerComparison:
    differing, difference = _find_difference(layer, SPIKES, first, second)
    return LayerComparison(
        name=layer,
        compared=first.size,
        spikes_first=int(np.count_nonzero(first)),
        spikes_second=int(np.count_nonzero(second)),
        differing=differing,
        difference=difference,
    )


def _compare_states(layer: str, name: str, first: IntArray, second: IntArray) -> StateComparison:
    differing, difference = _find_difference(layer, name, first, second)
    return StateComparison(
        layer=layer, name=name, compared=first.size, differing=differing, difference=difference
    )


def _find_difference(
    layer: str, quantity: str, first: SpikeArray, second: SpikeArray
) -> tuple[int, Difference | None]:
    """Count differences in (samples, T, ...) arrays and find the earliest one."""
    if first.shape != second.shape:
        raise SimulationError(
            f"comparison: {layer}: {quantity} of shape {first.shape} against {second.shape}. "
            "Compare recordings of the same input and number of steps."
        )
    differs = first != second
    count = int(np.count_nonzero(differs))
    if not count:
        return 0, None
    by_step = np.moveaxis(differs, 1, 0)
    step, sample, *neuron = (
        int(axis) for axis in np.unravel_index(int(by_step.argmax()), by_step.shape)
    )
    index = (sample, step, *neuron)
    return count, Difference(
        layer=layer,
        quantity=quantity,
        step=step,
        sample=sample,
        neuron=tuple(neuron),
        first=int(first[index]),
        second=int(second[index]),
    )
