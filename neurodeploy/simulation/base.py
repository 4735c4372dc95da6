"""What every simulator takes and gives: timing, feed, recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import SimulationError

IntArray = npt.NDArray[np.int32]
Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Windows of T steps: what training means by time.

    Every sample starts from zero state, and output step t answers input step t: the steps that
    events need to travel from layer to layer are taken out.

    Attributes:
        steps: T, or None to take it from the input.
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
        reset_interval: `reset_interval` of Lava's `netx.hdf5.Network`: period of state resets,
            or None for none.
        reset_offset: `reset_offset` of the same; 1 aligns the resets of a file without an input
            neuron block with windows that begin at step 1.
    """

    steps: int | None = None
    reset_interval: int | None = None
    reset_offset: int = 0


Timing = Window | Stream


class Feed(StrEnum):
    """How the input enters the network."""

    PORT = "port"
    """A source on the network's input port (`net.inp`); for files without an input neuron."""
    NEURON = "neuron"
    """A source into the input block's neuron (`net.in_layer.neuron.a_in`), without delay."""
    BIAS = "bias"
    """A constant image as the input block's bias; the input then has no time axis."""


class Record(StrEnum):
    """Which neuron states a simulator keeps beside the spikes."""

    LAST = "last"
    """States of the last layer only."""
    ALL = "all"
    """Also the states of every layer after its last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How close one layer came to the limits of its integers, over a whole run.

    For other neurons than LIF: the current stands for sigma or the real part, the voltage for
    the activation or the imaginary part.

    Attributes:
        current_peak: Largest |u| before the 24-bit wrap, in units of the state (weight · 2**6).
        voltage_peak: Largest |v| before clipping, same unit.
        current_wraps: How often u left its range and was wrapped (the real part: clipped).
        voltage_clips: How often v was clipped (an activation: wrapped).
    """

    current_peak: int
    voltage_peak: int
    current_wraps: int
    voltage_clips: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpdateCounts:
    """Neuron updates of one layer; see `neurodeploy.simulation.updates` for the rules.

    Attributes:
        active: (samples,) int64, pairs of neuron and step in which it was active.
        membrane: (samples,) int64, NeuroBench's membrane updates: every neuron at the first step,
            then those whose voltage after a step is not that of the step before. None for neurons
            without a voltage.
    """

    active: npt.NDArray[np.int64]
    membrane: npt.NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """What a simulator saw. Both simulators return this type.

    Attributes:
        layers: Name of every layer, in order; index k below.
        spikes: Per layer k: (samples, T, C, H, W) or (samples, T, N) int32; 0 or 1 for LIF and
            resonate-and-fire neurons, the payload for sigma-delta ones.
        traces: States of the last layer after every step, by name, each with the axes of its
            spikes, int32. LIF: "current", "voltage" (the one after the spike reset);
            sigma-delta: "sigma", "activation", "residue" (a sigma output: "sigma");
            resonate-and-fire: "real", "imag".
        final_states: Per layer the same states after its last step, (samples, C, H, W) or
            (samples, N) int32; None unless `Record.ALL` was asked for.
        health: Per layer, where the simulator can see it (ours does, Lava does not); else None.
        updates: Per layer, active and membrane updates; None unless they were asked for.
        seconds: Wall time of stepping, without start-up.
        startup_seconds: Wall time before the first step.
    """

    layers: tuple[str, ...]
    spikes: tuple[IntArray, ...]
    traces: Mapping[str, IntArray]
    final_states: tuple[Mapping[str, IntArray], ...] | None = None
    health: tuple[Health, ...] | None = None
    updates: tuple[UpdateCounts, ...] | None = None
    seconds: float = 0.0
    startup_seconds: float = 0.0

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

    @property
    def samples(self) -> int:
        """Number of samples in the recording."""
        return int(self.spikes[0].shape[0])

    @property
    def steps(self) -> int:
        """Number of steps per sample."""
        return int(self.spikes[0].shape[1])


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
        """Run all samples and return what was recorded.

        Args:
            inputs: (samples, T, C, H, W) or (samples, T, N) integers; without the T axis for
                `Feed.BIAS`.
            timing: `Window` or `Stream`.
            feed: Where the input enters.
            record: Which states to keep.
            progress: Called after each batch of samples.

        Raises:
            DataError: If the input has the wrong shape, kind or range.
            SimulationError: If the network cannot be run as asked.
        """
        ...


def plan_steps(timing: Timing, input_steps: int | None) -> int:
    """Give the number of steps of one sample.

    Args:
        timing: The timing asked for.
        input_steps: Steps that the input has; None for `Feed.BIAS`, which has no time axis.

    Raises:
        SimulationError: If the number is not determined, not positive, or contradicts the input.
    """
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
    return steps
