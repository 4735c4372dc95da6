"""Counts of one synapse for recorded input: weights, geometry and a declared kind are enough.

`count_layer` needs neither a network nor a simulation. SOPs on binary and ternary input are
accumulates (ACs), those on graded input are MACs; analog input causes no SOPs, its MACs are counted
apart. A weight of zero is no instance in `sops` and is one in `sops_stored`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Unpack

import numpy as np

from neurodeploy.counting.fan_out import (
    ConvGeometry,
    FanOut,
    NumberArray,
    check_keywords,
    conv_fan_out,
    dense_fan_out,
)
from neurodeploy.errors import DataError
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.simulation.counters import count_senders
from neurodeploy.simulation.recording import CountArray, EventCounts

_CHUNK = 1 << 21
"""Input values counted at once, which bounds the memory of counting."""


class InputKind(StrEnum):
    """Values that a type of neuron can send, which decide the kind of operation."""

    BINARY = "binary"
    """0 or 1: every operation is an accumulate."""
    TERNARY = "ternary"
    """-1, 0 or 1: accumulates, with a sign."""
    GRADED = "graded"
    """Any integer payload: one event, and weight times payload is a MAC."""
    ANALOG = "analog"
    """Real values that are no events: MACs of an encoder, no SOPs."""
    BIAS = "bias"
    """Set as the neurons' bias: neither events nor operations."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SynapseCounts:
    """Counts of one synapse for recorded input; each array is (samples,) int64.

    Attributes:
        kind: Declared kind of the input.
        events: Values other than zero; 0 for analog input and biases.
        messages: Events of senders that reach anything, zero weights included.
        sops: Synaptic operations through weights other than zero.
        sops_stored: The same with zero weights included.
        encoder_macs: Analog input only: nonzero values times fan-out, every step computed anew.
        encoder_macs_cached: Analog or graded input that is the same at every step: operations
            when only the first step is computed and the current kept. None where the input
            changes, or has no operations.
        neurobench_macs: Operations (SOPs or encoder MACs) of the steps in which some value is
            none of -1, 0 and 1: MACs by NeuroBench's rule at batch 1, which looks at values.
    """

    kind: InputKind
    fan_out: FanOut
    events: Int64Array
    messages: Int64Array
    sops: Int64Array
    sops_stored: Int64Array
    encoder_macs: Int64Array
    encoder_macs_cached: Int64Array | None
    neurobench_macs: Int64Array


def count_events(fan_out: FanOut, inputs: NumberArray, *, kind: InputKind) -> SynapseCounts:
    """Count the operations of recorded input in one synapse.

    Args:
        fan_out: Of the synapse.
        inputs: (samples, T, *source), as sent; a dense synapse reads it flattened in C order.
        kind: Declared kind of the sender; values that it cannot send are refused.

    Raises:
        DataError: If the input has another size, or holds values that its kind excludes.
    """
    if inputs.ndim < 3 or prod(inputs.shape[2:]) != fan_out.stored.size:
        raise DataError(
            f"input: shape {inputs.shape}, (samples, T, ...) with {fan_out.stored.size} values a "
            f"step is required (source {fan_out.stored.shape})."
        )
    flat = inputs.reshape(inputs.shape[0], inputs.shape[1], -1)
    check_kind(flat, kind)
    return count_totals(fan_out, count_senders(flat), kind=kind, steps=flat.shape[1])


def count_totals(
    fan_out: FanOut, sent: EventCounts, *, kind: InputKind, steps: int
) -> SynapseCounts:
    """Count the operations in one synapse of events that are known by number at each sender.

    Raises:
        DataError: If the number of senders is another.
    """
    samples = sent.total.shape[0]
    if prod(sent.total.shape[1:]) != fan_out.stored.size:
        raise DataError(
            f"events: shape {sent.total.shape}, (samples, ...) with {fan_out.stored.size} senders "
            f"is required (source {fan_out.stored.shape})."
        )
    has_values = kind in (InputKind.ANALOG, InputKind.GRADED)
    events, messages, sops, stored, by_value = (np.zeros(samples, dtype=np.int64) for _ in range(5))
    if kind is not InputKind.BIAS:
        to_nonzero, to_stored = fan_out.nonzero.reshape(-1), fan_out.stored.reshape(-1)
        # counts are stored in few bits; only a part is widened to 64 at a time
        chunk = max(1, _CHUNK // to_stored.size)
        for start in range(0, samples, chunk):
            part = slice(start, start + chunk)
            per_source = _rows(sent.total[part])
            events[part] = per_source.sum(axis=1)
            messages[part] = per_source @ (to_stored > 0)
            sops[part] = per_source @ to_nonzero
            stored[part] = per_source @ to_stored
            if has_values:
                by_value[part] = _rows(sent.valued[part]) @ to_nonzero
    none = np.zeros(samples, dtype=np.int64)
    cached = sops // steps if has_values and sent.is_static else None
    is_analog = kind is InputKind.ANALOG
    return SynapseCounts(
        kind=kind,
        fan_out=fan_out,
        events=none if is_analog else events,
        messages=none if is_analog else messages,
        sops=none if is_analog else sops,
        sops_stored=none if is_analog else stored,
        encoder_macs=sops if is_analog else none,
        encoder_macs_cached=cached,
        neurobench_macs=by_value,
    )


def count_layer(
    weight: NumberArray,
    inputs: NumberArray,
    *,
    kind: InputKind | str,
    is_recurrent: bool = False,
    **geometry: Unpack[ConvGeometry],
) -> SynapseCounts:
    """Count any layer for its recorded input, without network or simulation.

    Args:
        weight: (out, in): a dense layer. (out, in / groups, *kernel): a convolution.
        inputs: (samples, T, ...) as sent, for a convolution (samples, T, C, *space). Of a
            recurrent synapse the layer's own output: at each step it reads the events of the
            step before.
        kind: Kind of the sender: "binary", "ternary", "graded", "analog" or "bias".
        is_recurrent: Count a synapse from the layer to itself; dense ones only.
        **geometry: Stride, padding and so on of a convolution: see `ConvGeometry`.

    Returns:
        Counts of every sample as int64, and the fan-out maps.

    Raises:
        DataError: If the kind is unknown, shapes do not fit, or values are not of the kind.

    Example:
        >>> weight, spikes = np.ones((8, 2, 3, 3)), np.ones((1, 4, 2, 6, 6), np.int64)
        >>> counted = nd.count_layer(weight, spikes, kind="binary", stride=2, padding=1)
        >>> counted.sops, counted.fan_out.nonzero[0, 0]
        (array([4096]), array([ 8, 16,  8, 16,  8,  8]))
    """
    if kind not in list(InputKind):
        raise DataError(f"input: kind '{kind}', one of {', '.join(InputKind)} is allowed.")
    check_keywords(geometry)
    if weight.ndim == 2:
        if is_recurrent:
            inputs = np.concatenate([np.zeros_like(inputs[:, :1]), inputs[:, :-1]], axis=1)
        return count_events(dense_fan_out(weight), inputs, kind=InputKind(kind))
    if is_recurrent:
        raise DataError("conv: only dense synapses can be recurrent. Leave is_recurrent out.")
    fan_out = conv_fan_out(weight, tuple(inputs.shape[2:]), **geometry)
    return count_events(fan_out, inputs, kind=InputKind(kind))


def check_kind(values: NumberArray, kind: InputKind) -> None:
    """Refuse values that a sender of this kind cannot send."""
    is_float = values.dtype.kind == "f"
    if kind in (InputKind.ANALOG, InputKind.BIAS):
        if is_float and not bool(np.isfinite(values).all()):
            raise DataError("input: values that are not finite. Check where they come from.")
        return
    if is_float:
        raise DataError(
            f"input: dtype {values.dtype}, integers are required for {kind.value} input. "
            "Declare it analog if it is."
        )
    if values.size == 0 or kind is InputKind.GRADED or values.dtype.kind == "b":
        return
    lowest = 0 if kind is InputKind.BINARY else -1
    smallest, largest = int(values.min()), int(values.max())
    if smallest < lowest or largest > 1:
        raise DataError(
            f"input: values from {smallest} to {largest}, {lowest} to 1 are allowed for "
            f"{kind.value} input. Declare it graded if its payload counts."
        )


def _rows(counted: CountArray) -> Int64Array:
    return counted.reshape(len(counted), -1).astype(np.int64)
