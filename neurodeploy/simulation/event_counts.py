"""How many events every neuron sent: what counting operations needs in place of spikes."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.simulation.recording import (
    CountArray,
    EventCounts,
    SpikeArray,
    count_type,
)

_AT_ONCE = 1 << 22
"""Values that are looked at together, which bounds the memory of counting."""


def count_spikes(spikes: SpikeArray, *, is_graded: bool, is_recurrent: bool) -> EventCounts:
    """Count the events of one layer.

    Args:
        spikes: (samples, T, *layer), what it sent.
        is_graded: Whether its events carry a value.
        is_recurrent: Whether it reads its own events.
    """
    counted = count_senders(spikes, has_values=is_graded)
    if not is_recurrent:
        return counted
    earlier = count_senders(spikes[:, :-1], has_values=is_graded)
    return EventCounts(
        total=counted.total,
        valued=counted.valued,
        is_static=counted.is_static,
        earlier=EventCounts(
            total=earlier.total,
            valued=earlier.valued,
            is_static=spikes.shape[1] > 1 and not earlier.total.any(),
        ),
    )


def count_senders(
    values: npt.NDArray[np.integer] | npt.NDArray[np.floating] | npt.NDArray[np.bool_],
    *,
    has_values: bool = True,
) -> EventCounts:
    """Count the values other than zero of every sender.

    Args:
        values: (samples, T, ...), as sent.
        has_values: Whether they may be other than -1, 0 and 1.
    """
    samples, steps = values.shape[:2]
    total: CountArray = np.zeros((samples, *values.shape[2:]), count_type(steps))
    valued = np.zeros_like(total)
    senders = tuple(range(2, values.ndim))
    is_static = steps > 1
    block = max(1, _AT_ONCE // max(1, prod(values.shape[1:])))
    for first in range(0, samples, block):
        span = slice(first, first + block)
        part = values[span]
        fired = part != 0
        np.sum(fired, axis=1, dtype=total.dtype, out=total[span])
        is_static = is_static and bool((part[:, 1:] == part[:, :1]).all())
        if has_values:
            fired &= np.any(np.abs(part) != 1, axis=senders, keepdims=True, where=fired)
            np.sum(fired, axis=1, dtype=total.dtype, out=valued[span])
    return EventCounts(total=total, valued=valued, is_static=is_static)
