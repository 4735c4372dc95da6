"""Activity of a network in a run: rates, overflow, maps, membranes, spikes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError
from neurodeploy.fixedpoint import STATE_EXPONENT, THRESHOLD_MAX
from neurodeploy.ir.graphs import INPUT, FixedPointGraph
from neurodeploy.ir.integer_layers import CubaNeuron
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.long_runs.parts import Facts
from neurodeploy.simulation.recording import Feed, Health, Record, Recording, Timing, Window

TRACED_NEURONS = 4
"""Neurons of a layer whose membranes are drawn unless they are named."""
MAPS_MAX = 12
"""Maps that are drawn at most."""
STATE_UNIT = 1 << STATE_EXPONENT
"""Potentials are kept times 2**6; the threshold is compared at that scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerActivity:
    """One layer over all samples.

    Attributes:
        spikes: Events over all samples; None if they were not recorded.
        rate: Events per neuron and step; None likewise.
        health: How often its 24 bits were not enough; None if the simulator cannot see it.
    """

    name: str
    shape: tuple[int, ...]
    spikes: int | None
    rate: float | None
    health: Health | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Membrane:
    """One neuron's potential over the steps of a sample.

    Attributes:
        neuron: Its place in the layer, in C order.
        values: (T,) after each step, in units of the weights (2**6 of the chip's state).
        fired: (T,) bool.
        threshold: In the same unit; None for other neurons than LIF, and for those that never
            spike.
    """

    layer: str
    neuron: int
    values: npt.NDArray[np.float64]
    fired: npt.NDArray[np.bool_]
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readout:
    """The potentials of a read-out layer over the steps of a sample: one a class.

    Attributes:
        values: (T, classes) after each step, in units of the weights (2**6 of the chip's state).
        winner: The class with the largest potential after the last step, the first of equal ones.
    """

    layer: str
    values: npt.NDArray[np.float64]
    winner: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActivityMap:
    """(H, W) events of a layer or the input in one sample, channels and steps added up."""

    layer: str
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RasterLayer:
    """Spikes of one layer for one sample: (T, N) bool; the unit of an input is "values"."""

    name: str
    fired: npt.NDArray[np.bool_]
    unit: str = "neurons"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raster:
    """Spikes of one sample, from the input on."""

    title: str
    layers: tuple[RasterLayer, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activity:
    """Activity in a simulation: all samples in numbers, one sample in detail.

    Attributes:
        layers: Over all samples.
        raster: Spikes of one sample; None if no spikes were recorded, as all below.
        membranes: Of that sample.
        readout: All classes of the read-out for that sample; None if the last layer is none.
        maps: Of that sample, in order of the layers.
        spatial_layers: Number of layers with maps, of which `maps` may hold a part.
    """

    samples: int
    steps: int
    layers: tuple[LayerActivity, ...]
    raster: Raster | None = None
    membranes: tuple[Membrane, ...] = ()
    readout: Readout | None = None
    maps: tuple[ActivityMap, ...] = ()
    spatial_layers: int = 0

    @property
    def title(self) -> str:
        """Name of the sample in sentences."""
        return "one sample" if self.raster is None else self.raster.title

    @property
    def overflows(self) -> int | None:
        """Number of values that 24 bits could not hold; None if the simulator cannot see it."""
        known = [layer.health for layer in self.layers if layer.health is not None]
        return sum(one.overflows for one in known) if known else None


def layer_activity(facts: Facts) -> tuple[LayerActivity, ...]:
    """Return the activity of each layer from its totals over all samples."""
    values = facts.samples * facts.steps
    return tuple(
        LayerActivity(
            name=name,
            shape=shape,
            spikes=count,
            rate=None if count is None else count / (values * prod(shape)),
            health=None if facts.health is None else facts.health[k],
        )
        for k, (name, shape, count) in enumerate(
            zip(facts.layers, facts.shapes, facts.spikes, strict=True)
        )
    )


def layer_activity_of(recording: Recording) -> tuple[LayerActivity, ...]:
    """Return the activity of each layer in a recording.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> [(one.name, round(one.rate, 3)) for one in nd.layer_activity_of(recording)]
        [('conv1', 0.322), ('conv2', 0.322), ('readout', 0.0)]
    """
    return layer_activity(Facts.of(recording))


def observe(
    graph: FixedPointGraph,
    layers: tuple[LayerActivity, ...],
    values: npt.NDArray[np.integer],
    *,
    samples: int,
    traced: Sequence[str] = (),
    neurons: Sequence[int] | None = None,
    title: str = "sample 0",
    timing: Timing = Window(),  # noqa: B008 - a frozen value, not shared state
    feed: Feed = Feed.PORT,
) -> Activity:
    """Run one sample again and record everything that is drawn of it.

    Args:
        graph: That was run.
        layers: Over all samples, from `layer_activity_of`.
        values: (1, T, ...) integers, or (1, ...) for a bias.
        samples: Number of samples behind `layers`.
        traced: Layers whose membranes are drawn; by default all classes of the read-out, or where
            the last layer is none, that layer's membranes.
        neurons: Of these layers, by place in C order; by default those that fire in about half of
            the steps.
        title: Name of the sample.
        timing: That of the run.
        feed: Likewise.

    Raises:
        DataError: If there is no such neuron.
        SimulationError: If there is no such layer.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> layers = nd.layer_activity_of(recording)
        >>> activity = nd.observe(example.graph, layers, example.inputs[:1], samples=32)
        >>> [one.layer for one in activity.maps], activity.overflows
        (['input', 'conv1', 'conv2'], 0)
    """
    record = Record(states=tuple(traced) or None)
    recording = EventSimulator(graph).run(values, timing=timing, feed=feed, record=record)
    is_chosen = bool(traced) or neurons is not None
    readout = None if is_chosen else _readout(graph, recording)
    maps = _maps(values, recording)
    chosen = np.unique(np.linspace(0, len(maps) - 1, MAPS_MAX).astype(int)) if maps else ()
    return Activity(
        samples=samples,
        steps=recording.steps,
        layers=layers,
        raster=raster_of(recording, inputs=values, title=title),
        membranes=() if readout is not None else tuple(_membranes(graph, recording, neurons)),
        readout=readout,
        maps=tuple(maps[index] for index in chosen),
        spatial_layers=len(maps),
    )


def _maps(inputs: npt.NDArray[np.integer], recording: Recording) -> list[ActivityMap]:
    events = {INPUT: inputs[0]} if inputs.ndim == 5 else {}
    for name, shape in zip(recording.layers, recording.shapes, strict=True):
        if len(shape) == 3 and prod(shape[1:]) > 1:
            events[name] = recording.spikes_of(name)[0]
    return [
        ActivityMap(layer=name, counts=np.count_nonzero(one, axis=(0, 1)).astype(np.int64))
        for name, one in events.items()
    ]


def _readout(graph: FixedPointGraph, recording: Recording) -> Readout | None:
    """Return the potentials of the last layer if its neurons never fire: the largest decides."""
    last = graph.layers[-1]
    if not last.neuron.is_readout or len(last.shape) != 1:
        return None
    values = recording.states[last.name]["voltage"][0] / STATE_UNIT
    return Readout(layer=last.name, values=values, winner=int(values[-1].argmax()))


def _membranes(
    graph: FixedPointGraph, recording: Recording, neurons: Sequence[int] | None
) -> list[Membrane]:
    membranes = []
    for layer in graph:
        states = recording.states.get(layer.name)
        if not states:
            continue
        state = "voltage" if "voltage" in states else next(iter(states))
        values = states[state][0].reshape(recording.steps, -1)
        fired = recording.spikes_of(layer.name)[0].reshape(recording.steps, -1) != 0
        chosen = list(neurons) if neurons is not None else _most_telling(fired, values)
        wrong = [neuron for neuron in chosen if not 0 <= neuron < layer.neurons]
        if wrong:
            raise DataError(
                f"{layer.name}: no neuron {wrong[0]}; 0 to {layer.neurons - 1} are there. Name "
                "others."
            )
        membranes += [
            Membrane(
                layer=layer.name,
                neuron=neuron,
                values=values[:, neuron] / STATE_UNIT,
                fired=fired[:, neuron],
                threshold=_threshold(layer.neuron, layer.shape, neuron),
            )
            for neuron in chosen
        ]
    return membranes


def _most_telling(fired: npt.NDArray[np.bool_], values: npt.NDArray[np.int32]) -> list[int]:
    """Return neurons that fire in some steps and not in others; else those of largest state."""
    spikes = fired.sum(0)
    changes = np.minimum(spikes, len(fired) - spikes)
    order = np.lexsort((-np.abs(values.astype(np.int64)).max(0), -changes))
    return sorted(int(one) for one in order[:TRACED_NEURONS])


def _threshold(neuron: object, shape: tuple[int, ...], index: int) -> float | None:
    if not isinstance(neuron, CubaNeuron):
        return None
    value = int(np.broadcast_to(neuron.threshold, shape).reshape(-1)[index])
    # from there on it is no threshold, but a read-out: see `CubaNeuron`
    return float(value) if value < THRESHOLD_MAX else None


def raster_of(
    recording: Recording,
    *,
    inputs: npt.NDArray[np.integer] | None = None,
    title: str = "sample 0",
) -> Raster:
    """Return the spikes of a recording's first sample, below its input: (samples, T, ...)."""
    layers = []
    if inputs is not None and inputs.ndim >= 3:
        fired = np.asarray(inputs[0] != 0).reshape(inputs.shape[1], -1)
        layers.append(RasterLayer(name="input", fired=fired, unit="values"))
    for name in recording.layers:
        fired = np.asarray(recording.spikes_of(name)[0] != 0).reshape(recording.steps, -1)
        if fired.any() or name != recording.layers[-1]:
            layers.append(RasterLayer(name=name, fired=fired))
    return Raster(title=title, layers=tuple(layers))
