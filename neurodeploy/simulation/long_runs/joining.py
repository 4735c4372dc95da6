"""Put recordings of parts of the samples together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import SimulationError
from neurodeploy.simulation.recording import (
    CountArray,
    EventCounts,
    Health,
    IntArray,
    Recording,
    States,
    UpdateCounts,
)

_Scalar = TypeVar("_Scalar", bound=np.generic)


def join_recordings(parts: Sequence[Recording]) -> Recording:
    """Put recordings of the same network and number of steps together, sample after sample.

    Args:
        parts: In order of their samples; each made with the same `Record`. Times add up.

    Raises:
        SimulationError: If there are none, or they do not belong together.
    """
    if not parts:
        raise SimulationError("recording: nothing to join. Give at least one recording.")
    first = parts[0]
    for part in parts[1:]:
        if _held(part) != _held(first):
            raise SimulationError(
                "recording: parts of different networks, lengths or contents cannot be joined. "
                "Record each part of the samples in the same way."
            )
    if len(parts) == 1:
        return first
    indices = range(len(first.layers))

    finals = [part.final_states for part in parts if part.final_states is not None]
    events = [part.events for part in parts if part.events is not None]
    updates = [part.updates for part in parts if part.updates is not None]
    health = [part.health for part in parts if part.health is not None]
    return Recording(
        layers=first.layers,
        shapes=first.shapes,
        samples=sum(part.samples for part in parts),
        steps=first.steps,
        spikes=tuple(
            None if first.spikes[k] is None else _joined(part.spikes_of(k) for part in parts)
            for k in indices
        ),
        states={
            name: _joined_states([part.states[name] for part in parts]) for name in first.states
        },
        final_states=tuple(_joined_states([one[k] for one in finals]) for k in indices)
        if finals
        else None,
        events=tuple(_joined_events([one[k] for one in events]) for k in indices)
        if events
        else None,
        updates=tuple(_joined_updates([one[k] for one in updates]) for k in indices)
        if updates
        else None,
        health=tuple(join_health([one[k] for one in health]) for k in indices) if health else None,
        seconds=sum(part.seconds for part in parts),
        startup_seconds=sum(part.startup_seconds for part in parts),
    )


def _held(recording: Recording) -> tuple[object, ...]:
    """Describe the layout of a recording: equal for parts that can be joined."""
    return (
        recording.layers,
        recording.shapes,
        recording.steps,
        [spikes is None for spikes in recording.spikes],
        {name: set(states) for name, states in recording.states.items()},
        recording.final_states is None,
        recording.events is None,
        recording.updates is None,
        recording.health is None,
    )


def _joined(arrays: Iterable[npt.NDArray[_Scalar]]) -> npt.NDArray[_Scalar]:
    return np.concatenate(list(arrays))


def _joined_states(states: Sequence[States]) -> dict[str, IntArray]:
    return {name: _joined(one[name] for one in states) for name in states[0]}


def _joined_events(parts: Sequence[EventCounts]) -> EventCounts:
    earlier = [part.earlier for part in parts if part.earlier is not None]
    return EventCounts(
        total=_joined_counts([part.total for part in parts]),
        valued=_joined_counts([part.valued for part in parts]),
        is_static=all(part.is_static for part in parts),
        earlier=_joined_events(earlier) if earlier else None,
    )


def _joined_counts(parts: Sequence[CountArray]) -> CountArray:
    return cast("CountArray", np.concatenate(parts))


def _joined_updates(parts: Sequence[UpdateCounts]) -> UpdateCounts:
    membrane = [part.membrane for part in parts if part.membrane is not None]
    return UpdateCounts(
        active=np.concatenate([part.active for part in parts]),
        membrane=np.concatenate(membrane) if membrane else None,
    )


def join_health(parts: Sequence[Health]) -> Health:
    """Give the health of one layer over all parts of a run."""
    return Health(
        current_peak=max(part.current_peak for part in parts),
        voltage_peak=max(part.voltage_peak for part in parts),
        current_wraps=sum(part.current_wraps for part in parts),
        voltage_clips=sum(part.voltage_clips for part in parts),
    )
