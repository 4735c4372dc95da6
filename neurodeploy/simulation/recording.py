"""Arguments and results of every simulator: timing, feed, recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import SimulationError
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import IntArray as IntArray, SigmaNeuron
from neurodeploy.simulation.spike_bits import (
    CountArray as CountArray,
    SpikeArray as SpikeArray,
    count_events,
    count_type as count_type,
)

Member = TypeVar("Member", bound=StrEnum)
States = Mapping[str, IntArray]
"""States of one layer by name."""
Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Windows of T steps: what training means by time.

    Every sample starts from zero state, and output step t answers input step t: the steps that
    events need to travel from layer to layer are taken out.

    Attributes:
        steps: T, or None to take it from the input.

    Example:
        >>> example = nd.load_example()
        >>> simulator = nd.EventSimulator(example.graph)
        >>> recording = simulator.run(example.inputs, timing=nd.Window(steps=4))
        >>> recording.steps, recording.timing
        (4, Window(steps=4))
    """

    steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Lava's own time: each layer one step behind the one before, biases integrating meanwhile.

    Each sample is a run of its own from step 1. Column c of a recording is what a Lava sink
    connected to that layer holds in column c, pipeline fill included.

    Attributes:
        steps: Steps to run, or None for as many as the input has. Beyond its end the input
            repeats, as Lava's source does.
        reset_interval: That of Lava's `netx.hdf5.Network`: period of state resets, or None.
        reset_offset: Likewise; 1 aligns the resets of a file without an input neuron block with
            windows that begin at step 1.
        refresh_interval: Period of refreshes of sigma-delta networks, or None: after every so many
            steps all states and all that synapses hold are set to zero, as at step 1, while the
            input goes on. Lava has no option for it; it is done between two calls of `run`.

    Example:
        >>> example = nd.load_example()
        >>> timing = nd.Stream(steps=12, reset_interval=4)
        >>> nd.EventSimulator(example.graph).run(example.inputs[:2], timing=timing).steps
        12
    """

    steps: int | None = None
    reset_interval: int | None = None
    reset_offset: int = 0
    refresh_interval: int | None = None


Timing = Window | Stream


def member_of(kind: type[Member], value: Member | str, *, name: str) -> Member:
    """Return a member for its text as well, which comparisons by `is` would pass over.

    Raises:
        SimulationError: If there is none; `name` is that of the argument.
    """
    try:
        return kind(value)
    except ValueError as error:
        members = ", ".join(f"{kind.__name__}.{one.name}" for one in kind)
        raise SimulationError(
            f"simulation: {name} is {value!r}, one of {members} is required."
        ) from error


def unknown_kind(value: object, place: str) -> SimulationError:
    """Return the error for a neuron or synapse for which a function of `simulation` has no rule."""
    return SimulationError(
        f"simulation: {type(value).__name__} is of a kind for which simulation.{place} has no "
        "rule. Add one there."
    )


class Feed(StrEnum):
    """How the input enters the network.

    Example:
        >>> nd.Feed("neuron") is nd.Feed.NEURON  # either is taken
        True
        >>> example = nd.load_example()  # which has no neurons at its input
        >>> nd.EventSimulator(example.graph).run(example.inputs[:2], feed="port").steps
        4
    """

    PORT = "port"
    """A source on the network's input port (`net.inp`); for files without an input neuron."""
    NEURON = "neuron"
    """A source into the input block's neuron (`net.in_layer.neuron.a_in`), without delay."""
    BIAS = "bias"
    """A constant image as the input block's bias; the input then has no time axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Contents of a recording; nothing else takes memory.

    Attributes:
        spikes: Names of the layers whose spikes are kept; None: all.
        states: Names of the layers whose states are kept after every step; None: the last one.
        final_states: Also keep the states of every layer after its last step.
        counts: Also count the events of every neuron, for `counting.network_counts`.
        updates: With `counts`, also count the updates of every layer, which costs more than the
            events do. Without them, all neurons count as updated at every step.

    Example:
        >>> example = nd.load_example()
        >>> record = nd.Record(spikes=("conv1",), states=("conv1",))
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs[:2], record=record)
        >>> sorted(recording.states["conv1"]), recording.states["conv1"]["voltage"].shape
        (['current', 'voltage'], (2, 4, 8, 4, 4))
    """

    spikes: tuple[str, ...] | None = None
    states: tuple[str, ...] | None = None
    final_states: bool = False
    counts: bool = False
    updates: bool = True

    def __post_init__(self) -> None:
        for name in ("spikes", "states"):
            if isinstance(given := getattr(self, name), str):
                raise SimulationError(
                    f"record: {name} is '{given}', a tuple of names of layers or None is required. "
                    f"Write {name}=('{given}',)."
                )

    @property
    def has_updates(self) -> bool:
        """True if updates are counted."""
        return self.counts and self.updates

    def resolve(self, layers: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
        """Return the layers whose spikes, and those whose states are kept, of all by name.

        Raises:
            SimulationError: If a layer that was asked for does not exist.

        Example:
            >>> spikes, states = nd.Record(spikes=("conv1",)).resolve(("conv1", "readout"))
            >>> sorted(spikes), sorted(states)
            (['conv1'], ['readout'])
        """
        spikes = layers if self.spikes is None else self.spikes
        states = layers[-1:] if self.states is None else self.states
        for name in (*spikes, *states):
            if name not in layers:
                raise SimulationError(
                    f"record: no layer '{name}'. Layers of this network: {', '.join(layers)}."
                )
        return frozenset(spikes), frozenset(states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How close one layer came to the limits of its integers, over a whole run.

    The current stands for sigma or the real part of other neurons than LIF, the voltage for their
    activation or imaginary part.

    Attributes:
        current_peak: Largest |u| before the 24-bit wrap, in units of the state (weight · 2**6).
            Where Lava's 32 bits wrap as well, compiled kernels know only that it is at least 2**30.
        voltage_peak: Largest |v| before clipping, same unit.
        current_wraps: How often u was wrapped (the real part: clipped).
        voltage_clips: How often v was clipped (an activation: wrapped).
        sum_peak: Of sigma-delta neurons, the largest size of what all synapses send a neuron in a
            step, before anything is cut off; 0 of others, and where there are no weights.
        message_peak: Of sigma-delta neurons that send changes, the largest size of a message; 0 of
            others.
        sum_overflows: How often such a sum was larger than `STATE_MAX`. Lava cuts those of conv
            synapses to 24 bits, and those of dense ones may not be right; sigma never recovers.
        message_overflows: How often such a message was larger than `MESSAGE_MAX`; Lava's CPU
            models keep it, the chip has no room for it.
    """

    current_peak: int
    voltage_peak: int
    current_wraps: int
    voltage_clips: int
    sum_peak: int = 0
    message_peak: int = 0
    sum_overflows: int = 0
    message_overflows: int = 0

    @property
    def overflows(self) -> int:
        """Number of values that did not fit."""
        changes = self.sum_overflows + self.message_overflows
        return self.current_wraps + self.voltage_clips + changes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpdateCounts:
    """Neuron updates of one layer; see `neurodeploy.simulation.counters` for the rules.

    Attributes:
        active: (samples,) int64, pairs of neuron and step in which it was active.
        membrane: (samples,) int64, NeuroBench's membrane updates: every neuron at the first step,
            then those whose voltage after a step is not that of the step before. None for neurons
            without a voltage.
    """

    active: npt.NDArray[np.int64]
    membrane: npt.NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventCounts:
    """How many events each neuron of one layer sent: enough to count operations by.

    Attributes:
        total: (samples, *layer), events over all steps, in `count_type(T)`: widen it before you
            calculate with it (NumPy's sums do so themselves).
        valued: The same of the steps in which some neuron of the layer sent a value that is none
            of -1, 0 and 1; all zero for neurons whose events carry none.
        is_static: Whether every sample sent the same values at each of its (two or more) steps;
            with refreshes, whether it sent nothing.
        earlier: For recurrent layers, what their own synapse sees: nothing in the first step,
            then everything but the last step; else None.
    """

    total: CountArray
    valued: CountArray
    is_static: bool
    earlier: EventCounts | None = None


class Decision(StrEnum):
    """The neuron of the last layer that wins, one neuron a class; of equal ones the first."""

    VOLTAGE = "the highest voltage of the last layer after the last step"
    """For a read-out: neurons whose threshold is so high that they never spike."""
    SPIKES = "the most spikes of the last layer over all steps"
    """For neurons that spike."""
    SUMS = "the largest sum of the last layer when a frame is answered"
    """For the output neurons of sigma-delta networks, which have an answer at every step."""

    @classmethod
    def of(cls, graph: FixedPointGraph) -> Decision | None:
        """Return the rule of a network; None where the last layer has no neuron for each class."""
        last = graph.layers[-1]
        if last.shape[0] < 2 or prod(last.shape[1:]) != 1:
            return None
        if last.neuron.is_graded:
            return cls.SUMS if isinstance(last.neuron, SigmaNeuron) else None
        return cls.VOLTAGE if last.neuron.is_readout else cls.SPIKES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """Results of a run, of either simulator.

    Attributes:
        layers: Names, in order.
        shapes: Of each layer, (C, H, W) or (N,).
        samples: Number of samples.
        steps: Number of steps of a sample, T.
        spikes: Of each layer, (samples, T, *layer); uint8, 0 or 1, for LIF and resonate-and-fire
            neurons; int32, the payload, for sigma-delta ones. None where not asked for. Ours are
            kept as bits until an array is first read, which takes as long as to copy it.
        states: By name of the layer, for those asked for: states after every step, by name, each
            with the axes of its spikes, int32. LIF: "current", "voltage" (the one after the
            spike reset); sigma-delta: "sigma", "activation", "residue" (a sigma output:
            "sigma"); resonate-and-fire: "real", "imag".
        final_states: Of each layer, the same states after its last step, (samples, *layer) int32;
            None unless asked for.
        events: Of each layer; None unless counts were asked for.
        updates: Of each layer, if asked for and where the simulator can see them (ours does, Lava
            does not).
        health: Of each layer, where the simulator can see it; else None.
        seconds: Wall time of stepping, without start-up.
        startup_seconds: Wall time before the first step.
        timing: How time passed; None where it is not known.
        decision: How the last layer chooses a class, where it does and the simulator knows it.
        versions: Of the simulator's own environment, by package; empty for ours.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs[:2])
        >>> recording.layers, recording.spikes_of("conv1").dtype, recording.spike_totals()
        (('conv1', 'conv2', 'readout'), dtype('uint8'), (324, 163, 0))
        >>> recording.voltage[:, -1].argmax(axis=1), recording.prediction
        (array([7, 6]), array([7, 6]))
    """

    layers: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    samples: int
    steps: int
    spikes: Sequence[SpikeArray | None]
    states: Mapping[str, States]
    final_states: tuple[States, ...] | None = None
    events: Sequence[EventCounts] | None = None
    updates: tuple[UpdateCounts, ...] | None = None
    health: tuple[Health, ...] | None = None
    seconds: float = 0.0
    startup_seconds: float = 0.0
    timing: Timing | None = None
    decision: Decision | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_spikes(
        cls,
        layers: Sequence[str],
        spikes: Sequence[SpikeArray],
        *,
        states: Mapping[str, States] | None = None,
    ) -> Recording:
        """Make a recording of spikes (samples, T, *layer) of each layer that came from elsewhere.

        `states` are those after every step, by name of the layer and of the state.

        Example:
            >>> spikes = np.zeros((1, 4, 3), np.uint8)  # from hardware, say
            >>> nd.Recording.from_spikes(["readout"], [spikes]).spike_totals()
            (0,)
        """
        return cls(
            layers=tuple(layers),
            shapes=tuple(one.shape[2:] for one in spikes),
            samples=int(spikes[0].shape[0]),
            steps=int(spikes[0].shape[1]),
            spikes=tuple(spikes),
            states=states or {},
        )

    @property
    def traces(self) -> States:
        """States of the last layer after every step, by name; empty if they were not kept."""
        return self.states.get(self.layers[-1], {})

    @property
    def prediction(self) -> npt.NDArray[np.int64] | None:
        """The class chosen for each sample, (samples,), by `decision`.

        Of the sums of a sigma-delta network, the class after each step, (samples, T). None without
        a decision, or where neither the states nor the spikes it needs were kept.
        """
        scores: npt.NDArray[np.integer]
        if self.decision is Decision.SUMS and self.spikes[-1] is not None:
            sums = self.spikes_of(-1).reshape(self.samples, self.steps, -1)
            return np.asarray(sums.argmax(axis=2))
        if self.decision is Decision.VOLTAGE and "voltage" in self.traces:
            scores = self.voltage[:, -1]
        elif self.decision is Decision.SPIKES and self.events is not None:
            scores = self.events[-1].total
        elif self.decision is Decision.SPIKES and self.spikes[-1] is not None:
            scores = self.spikes_of(-1).sum(axis=1, dtype=np.int64)
        else:
            return None
        return np.asarray(scores.reshape(self.samples, -1).argmax(axis=1))

    @property
    def voltage(self) -> IntArray:
        """Voltage of the last layer after every step: (samples, T, ...) int32.

        Raises:
            SimulationError: If the last layer's neurons have no voltage.
        """
        if "voltage" not in self.traces:
            raise SimulationError(
                f"{self.layers[-1]}: the last layer has no voltage; it has "
                f"{', '.join(self.traces) or 'no recorded states'}."
            )
        return self.traces["voltage"]

    def spikes_of(self, layer: int | str) -> SpikeArray:
        """Return the spikes of one layer, by its index or its name.

        Raises:
            SimulationError: If there is no such layer, or its spikes were not kept.
        """
        index = self.layers.index(layer) if layer in self.layers else layer
        if not isinstance(index, int) or not -len(self.layers) <= index < len(self.layers):
            raise SimulationError(
                f"recording: no layer '{layer}'. Layers: {', '.join(self.layers)}."
            )
        spikes = self.spikes[index]
        if spikes is None:
            raise SimulationError(
                f"{self.layers[index]}: its spikes were not recorded. Ask for them: "
                "Record(spikes=...), --record all or --spikes."
            )
        return spikes

    def spike_totals(self) -> tuple[int | None, ...]:
        """Return the number of events of each layer; None where neither spikes nor counts tell."""
        if self.events is not None:
            return count_events(self.events, lambda one: int(one.total.sum(dtype=np.int64)))
        return count_events(
            self.spikes, lambda one: None if one is None else int(np.count_nonzero(one))
        )


class Simulator(Protocol):
    """Runs a network on integer input."""

    def run(
        self,
        inputs: npt.NDArray[np.integer],
        *,
        timing: Timing = ...,
        feed: Feed = ...,
        record: Record = ...,
        progress: Progress | None = ...,
    ) -> Recording:
        """Run all samples and return what was recorded; see `EventSimulator.run`."""
        ...


def plan_steps(timing: Timing, input_steps: int | None) -> int:
    """Return the number of steps of one sample.

    `input_steps` are those of the input; None for `Feed.BIAS`, which has no time axis.

    Raises:
        SimulationError: If the number is not determined, not positive, or contradicts the input.
    """
    if not isinstance(timing, Window | Stream):
        raise SimulationError(
            f"simulation: timing is {timing!r}, a Window or a Stream is required."
        )
    steps = timing.steps if timing.steps is not None else input_steps
    if steps is None:
        raise SimulationError(
            "simulation: an input without a time axis does not say how many steps to run. "
            "Give the number of steps (--window T or --steps N)."
        )
    if steps < 1:
        raise SimulationError(f"simulation: {steps} steps asked for, at least 1 is needed.")
    if isinstance(timing, Window) and input_steps is not None and input_steps != steps:
        raise SimulationError(
            f"simulation: the input has {input_steps} steps a sample, the window {steps}. "
            "Give the window the input's length, or cut the input into samples of that length."
        )
    if isinstance(timing, Stream):
        if timing.reset_interval is not None and timing.reset_interval < 1:
            raise SimulationError(
                f"simulation: reset interval {timing.reset_interval}, at least 1 is needed. "
                "Leave it out for no resets."
            )
        if timing.reset_offset < 0:
            raise SimulationError(
                f"simulation: reset offset {timing.reset_offset}, must not be negative."
            )
        if timing.refresh_interval is not None and timing.refresh_interval < 1:
            raise SimulationError(
                f"simulation: refresh interval {timing.refresh_interval}, at least 1 is needed. "
                "Leave it out for no refreshes."
            )
    return steps
