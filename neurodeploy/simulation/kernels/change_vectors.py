"""One step of sigma-delta neurons, many side by side in registers.

The definition is `neurodeploy.simulation.neurons.SigmaDeltaDynamics`, followed line by line;
tests/unit/simulation/kernels/test_sigma_delta.py holds both equal.
"""

from __future__ import annotations

from typing import Final

from neurodeploy.fixedpoint import STATE_MAX
from neurodeploy.llvm_vectors import WORD, Memory, Vector, branch, vector_function, where
from neurodeploy.simulation.kernels.neuron_vectors import LANES_LEAST, raise_peaks, sum_rows

STATES: Final = 3
"""Planes of `states`: sigma, activation, residue."""
PEAKS: Final = 6
"""Planes of `peaks`: largest and smallest sigma, the same of activations, largest sum, message."""


@vector_function("uint64")
def step_sums(
    rows: Memory, store: Memory, ranges: Memory, count: Vector, biases: Memory, at: Vector,
    states: Memory, peaks: Memory, beyond: Memory, messages: Memory, notes: Memory, place: Vector,
    width: Vector, scale: Vector, threshold: Vector, lanes: Vector, wraps_24: Vector,
    is_output: Vector,
) -> Vector:  # fmt: skip
    """Gather what reaches some sigma-delta or output neurons, and advance them by one step.

    Added up are rows of weights as in `neuron_vectors.step_lif`, in 32 bits; the sums times
    2**scale, which must fit 32 bits, reach the neurons, cut to 24 bits if `wraps_24`. Biases are
    those from biases[at :], at the scale of the activation.

    Updated are `states` and `peaks`, whose planes are `width` numbers apart, from `place` on; and
    `notes` (`structures.CHANGE_NOTES`). Where a state does not fit 32 bits, beyond[place :] for
    sigmas and beyond[width + place :] for activations, int64, get the largest size of it.
    messages[place :] gets what the neurons send: output neurons their sum.

    There may be 16, 32 or 64 lanes.

    Returns:
        The mask of those that send something other than zero, lowest lane first.
    """

    def step(lanes: int) -> Vector:
        arriving = sum_rows(lanes, rows.at(place), store, ranges, count, width)
        arriving = arriving << scale.resized(32)
        _note_sums(arriving, peaks.at(place).at(width * 4), notes.field("sum_overflows"))
        arriving = branch(wraps_24, lambda: (arriving << 8) >> 8, lambda: arriving)
        state, peak, far = states.at(place), peaks.at(place), beyond.at(place)
        sigma = _add(state.load(lanes), arriving, peak, width, notes.field("sigma_wraps"), far)
        state.store(sigma)

        def send_sum() -> Vector:
            notes.field("standing").store(sigma.differs(0).bitmask())
            messages.at(place).store(sigma)
            return sigma.differs(0).bitmask()

        def send_change() -> Vector:
            bias = biases.at(at).load(lanes)
            wraps = notes.field("activation_wraps")
            total = _add(sigma, bias, peak.at(width * 2), width, wraps, far.at(width))
            activation = where(total < 0, 0, total)
            message, residue = _send(activation, state.at(width), width, threshold)
            standing = sigma | activation | residue | bias
            notes.field("standing").store(standing.differs(0).bitmask())
            messages.at(place).store(message)
            size, before = abs(message), peak.at(width * 5).load(lanes)
            peak.at(width * 5).store(where(size > before, size, before))
            return message.differs(0).bitmask()

        return branch(is_output, send_sum, send_change)

    return branch(
        lanes.equals(64),
        lambda: step(64),
        lambda: branch(lanes.equals(32), lambda: step(32), lambda: step(16)),
    )


@vector_function("uint64")
def step_values(
    values: Memory, at: Vector, states: Memory, messages: Memory, place: Vector, peaks: Memory,
    scale: Vector, threshold: Vector,
) -> Vector:  # fmt: skip
    """Advance 64 delta neurons by one step: values[at :] times 2**scale are their activations.

    These must fit 32 bits. Updated are the activations states[:64], then the residues, and in
    `peaks` the largest sizes of activations, then of messages, by lane modulo `LANES_LEAST`;
    messages[place : place + 64] get what is sent.

    Returns:
        The mask of those that have a state now.
    """
    activation = values.at(at).load(WORD) << scale.resized(32)
    message, residue = _send(activation, states, WORD, threshold)
    messages.at(place).store(message)
    raise_peaks(peaks, activation)
    raise_peaks(peaks.at(LANES_LEAST), message)
    return (activation | residue).differs(0).bitmask()


def _send(
    activation: Vector, states: Memory, width: Vector | int, threshold: Vector
) -> tuple[Vector, Vector]:
    """Store activations and, a plane further on, residues; return the messages and the residues."""
    lanes = activation.lanes
    before, residue = states.load(lanes), states.at(width).load(lanes)
    change = activation - before + residue
    # |-2**31| is -2**31 in int32, hence below every threshold.
    leaves = where(abs(change) < threshold.resized(32), 0, change)
    residue = change - leaves
    states.store(activation)
    states.at(width).store(residue)
    return leaves >> 6, residue


def _note_sums(arriving: Vector, peak: Memory, overflows: Memory) -> None:
    """Note the largest sizes of sums, and how many are larger than `STATE_MAX`."""
    size, before = abs(arriving), peak.load(arriving.lanes)
    peak.store(where(size > before, size, before))
    mask = (size > STATE_MAX).bitmask()

    def count() -> Vector:
        overflows.store(overflows.load() + mask.count_set())
        return mask

    branch(mask.differs(0), count, lambda: mask, is_likely=False)


def _add(
    state: Vector, added: Vector, peak: Memory, width: Vector, wraps: Memory, beyond: Memory
) -> Vector:
    """Add in 32 bits, wrapping; note the extremes, and apart from them what did not fit."""
    total = state + added
    most, least = peak.load(total.lanes), peak.at(width).load(total.lanes)
    peak.store(where(total > most, total, most))
    peak.at(width).store(where(total < least, total, least))
    has_wrapped = ((state ^ total) & (added ^ total)) < 0
    mask = has_wrapped.bitmask()

    def note() -> Vector:
        wraps.store(wraps.load() + mask.count_set())
        size, before = abs(state.resized(64) + added.resized(64)), beyond.load(total.lanes)
        beyond.store(where(has_wrapped & (size > before), size, before))
        return total

    return branch(mask.differs(0), note, lambda: total, is_likely=False)
