"""Count neuron updates while a simulation runs: which neurons had anything to do in a step.

A neuron is *active* in a step if its state before the step is not zero, or an event reaches it
through a weight that is not zero (whatever the sum of all), or it has a bias. A current that is
left over counts once it has decayed: what a full decay wipes out is no input.

Source: the rule is SANA-FE's, 2.2.9 `src/models.cpp`; membrane updates are NeuroBench's, 2.3.0
`metrics/workload/membrane_updates.py`.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt

from neurodeploy.fixedpoint import MESSAGE_MAX, STATE_MAX, Int64Array, decay
from neurodeploy.ir.integer_layers import (
    CubaNeuron,
    DeltaNeuron,
    FixedLayer,
    IntArray,
    ResonateFireNeuron,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.simulation.neurons import Dynamics
from neurodeploy.simulation.recording import (
    CountArray,
    EventCounts,
    Health,
    SpikeArray,
    count_type,
    unknown_kind,
)
from neurodeploy.simulation.synapses import BoolArray

_AT_ONCE = 1 << 22
"""Values that are looked at together, which bounds the memory of counting."""


class UpdateCounter:
    """Watches one layer over one batch; see `start_dynamics` for the arguments.

    Attributes:
        updates: (samples, 2) int64, active and membrane updates so far.
    """

    def __init__(self, layer: FixedLayer, samples: int, bias_image: IntArray | None) -> None:
        self._layer = layer
        self.updates = np.zeros((samples, 2), np.int64)
        self._before: Int64Array | None = None
        bias = layer.bias if bias_image is None else bias_image
        self._has_bias = np.broadcast_to(bias != 0, (samples, *layer.shape))

    def count_active(self, neurons: Dynamics, arrives: BoolArray) -> None:
        """Count the active neurons; `arrives` is (samples, *layer), where an event arrives."""
        is_active = arrives | self._has_bias
        states = neurons.states()
        match self._layer.neuron:
            case CubaNeuron() as neuron:
                left = decay(states["current"], neuron.current_decay)
                is_active |= (states["voltage"] != 0) | (left != 0)
            case DeltaNeuron() | SigmaDeltaNeuron() | SigmaNeuron() | ResonateFireNeuron():
                for state in states.values():
                    is_active |= state != 0
            case unknown:
                raise unknown_kind(unknown, "counters.UpdateCounter")
        self.updates[:, 0] += is_active.reshape(len(is_active), -1).sum(1)

    def count_changed(self, neurons: Dynamics) -> None:
        """Count the neurons whose voltage changed."""
        voltage = neurons.states().get("voltage")
        if voltage is None:
            return
        if self._before is None:
            self.updates[:, 1] += self._layer.neurons
        else:
            changed = voltage != self._before
            self.updates[:, 1] += changed.reshape(len(changed), -1).sum(1)
        self._before = voltage.copy()


class LimitWatch:
    """Watches the sums and the messages of a layer of sigma-delta neurons; see `Health`."""

    def __init__(self, layer: FixedLayer) -> None:
        self._has_weights = not isinstance(layer.neuron, DeltaNeuron)
        self._has_messages = not isinstance(layer.neuron, SigmaNeuron)
        self._sum_peak = self._message_peak = 0
        self._sum_overflows = self._message_overflows = 0

    def note(self, arriving: Int64Array, sent: IntArray) -> None:
        """Note the sums of a step and what was sent in it, (samples, *layer)."""
        if self._has_weights:
            size = np.abs(arriving)
            self._sum_peak = max(self._sum_peak, int(size.max()))
            self._sum_overflows += int(np.count_nonzero(size > STATE_MAX))
        if self._has_messages:
            size = np.abs(sent.astype(np.int64))
            self._message_peak = max(self._message_peak, int(size.max()))
            self._message_overflows += int(np.count_nonzero(size > MESSAGE_MAX))

    def add_to(self, health: Health) -> Health:
        """Return a layer's health with what was seen."""
        return replace(
            health,
            sum_peak=self._sum_peak,
            message_peak=self._message_peak,
            sum_overflows=self._sum_overflows,
            message_overflows=self._message_overflows,
        )


def count_spikes(spikes: SpikeArray, *, is_graded: bool, is_recurrent: bool) -> EventCounts:
    """Count the events (samples, T, *layer) of a layer, which may read its own."""
    counted = count_senders(spikes, has_values=is_graded)
    if not is_recurrent:
        return counted
    earlier = count_senders(spikes[:, :-1], has_values=is_graded)
    is_silent = spikes.shape[1] > 1 and not earlier.total.any()
    return replace(counted, earlier=replace(earlier, is_static=is_silent))


def count_senders(
    values: npt.NDArray[np.integer] | npt.NDArray[np.floating] | npt.NDArray[np.bool_],
    *,
    has_values: bool = True,
) -> EventCounts:
    """Count the values other than zero of every sender, (samples, T, ...) as sent.

    `has_values` says whether they may be other than -1, 0 and 1.
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
