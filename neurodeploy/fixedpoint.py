"""The integer arithmetic of Loihi as Lava computes it: the only home of rounding and shifting.

`>>` rounds towards minus infinity, the chip's decay towards zero, Lava's current wraps once
while its synapses wrap modulo: each rule is one named function here. Compiled kernels and ONNX
graphs restate some of them; each restatement names the function and the test of their equality.

Unless they say otherwise, functions take integers of any shape and return int64 of that shape.

Source of all rules: lava-nc 0.10.0 (`lava/proc/lif/models.py:PyLifModelBitAcc`,
`lava/proc/conv/utils.py`, `lava/utils/weightutils.py`) and lava-dl 0.6.0
(`lava/lib/dl/netx/utils.py:optimize_weight_bits`), confirmed by running them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STATE_EXPONENT = 6
"""Currents, voltages, thresholds and biases are held times 2**6."""
DECAY_BITS = 12
DECAY_UNITY = 1 << DECAY_BITS
"""A decay of 4096 empties the state in one step; 0 never changes it."""
STATE_BITS = 32
"""Lava's integers: a state that leaves them wraps, before its own 24 bits are enforced."""
CONV_BITS = 24
"""Sums of conv synapses wrap to these, modulo."""
CURRENT_LIMIT = 1 << 23
"""A current is held in signed 24 bits: (-2**23, 2**23]."""
VOLTAGE_LIMIT = (1 << 23) - 1
"""A voltage is clipped to [-(2**23 - 1), 2**23 - 1]."""
STATE_MAX = (1 << 23) - 1
"""Largest size of a sum of a step, a sigma and an activation of sigma-delta neurons: Lava declares
24 bits, of which its CPU models enforce those of sums of conv synapses alone."""
MESSAGE_MAX = (1 << 15) - 1
"""Largest size of a sigma-delta message, 16 bits; the CPU models hold larger ones."""
THRESHOLD_MAX = (1 << 17) - 1
"""Largest vThMant (17 bits); a voltage reaches it only by clipping."""
BIAS_BITS = 16
WEIGHT_MIN, WEIGHT_MAX = -256, 254
"""Range of a mixed-sign weight, which is always even."""
DELAY_MAX = 62
GEOMETRY_MAX = 127
"""Stride, padding, dilation, kernel extents and groups of a convolution are int8 inside Lava."""

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
IntegerArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.float64]


def wrap(values: npt.ArrayLike, bits: int) -> Int64Array:
    """Keep the low `bits` bits, 1 to 63, as a two's complement number."""
    half = np.int64(1) << np.int64(bits - 1)
    mask = (half << np.int64(1)) - np.int64(1)
    return ((np.asarray(values, dtype=np.int64) + half) & mask) - half


def wrap_current(values: npt.ArrayLike) -> Int64Array:
    """Bring a current back into 24 bits the way Lava's LIF does: by one turn, not modulo.

    p - 2**24 where p > 2**23, p + 2**24 where p <= -2**23, else p.

    Source: `PyLifModelBitAcc.subthr_dynamics`: "wrap around" of `u`.
    """
    p = np.asarray(values, dtype=np.int64)
    turn = np.int64(1 << 24)
    return np.where(p > CURRENT_LIMIT, p - turn, np.where(p <= -CURRENT_LIMIT, p + turn, p))


def clip_voltage(values: npt.ArrayLike) -> Int64Array:
    """Clip to the range of a voltage, [-(2**23 - 1), 2**23 - 1]."""
    return np.clip(np.asarray(values, dtype=np.int64), -VOLTAGE_LIMIT, VOLTAGE_LIMIT)


def shift_towards_zero(values: npt.ArrayLike, bits: int) -> Int64Array:
    """Divide by 2**bits and drop the fraction: sign(p) · (|p| >> bits), unlike `>>`."""
    p: Int64Array = np.asarray(values, dtype=np.int64)
    magnitude: Int64Array = np.abs(p) >> np.int64(bits)
    return np.where(p < 0, -magnitude, magnitude)


def decay(state: npt.ArrayLike, decay_mantissa: npt.ArrayLike) -> Int64Array:
    """Let a state decay for one step: sign(p) · (|p| >> 12) with p = state · (4096 - decay).

    Rounds towards zero, unlike `>>`.

    Args:
        state: Integers, |state| < 2**32.
        decay_mantissa: Broadcasts over state, |decay| < 2**30; 0 keeps the state, 4096 empties
            it. Values outside [0, 4096] are computed as written.
    """
    held = np.asarray(state, dtype=np.int64)
    mantissa = np.asarray(decay_mantissa, dtype=np.int64)
    if mantissa.size == 1:
        # The two values that most networks use; the result is that of the formula.
        if mantissa == 0:
            return held
        if mantissa == DECAY_UNITY:
            return np.zeros_like(held)
    return shift_towards_zero(held * (np.int64(DECAY_UNITY) - mantissa), DECAY_BITS)


def resonator_decay(sine: int, cosine: int) -> tuple[int, int]:
    """Return sine and cosine, times 2**12, that Lava's resonate-and-fire neuron uses.

    netx turns sinDecay and cosDecay into a period and a decay rate in float64, and Lava turns
    these back, dropping fractions: each value may come out one nearer to zero.

        r = sqrt(q² + c²),  period = 1 / (atan2(q, c) / 2 / pi),  q = sine / 4096, c = cosine / 4096
        sine' = int(r · sin(2 pi / period) · 4096),  cosine' likewise with cos

    Source: lava-dl 0.6.0 `slayer/neuron/rf.py:neuron_params`, lava-nc 0.10.0
        `lava/proc/rf/process.py:RF`. The order of the operations matters, and so does whose
        arctangent it is: NumPy's has another last bit on processors with AVX-512, so this takes
        the C library's, as NumPy does elsewhere (and Lava as `lava_bridge.worker` starts it).
    """
    q, c = np.float64(sine) / DECAY_UNITY, np.float64(cosine) / DECAY_UNITY
    decay_rate = 1 - np.sqrt(q**2 + c**2)
    frequency = np.float64(math.atan2(q, c)) / 2 / np.pi
    period = 1 / frequency if frequency else np.inf
    angle = np.pi * 2 * 1 / period
    return (
        int((1 - decay_rate) * np.sin(angle) * DECAY_UNITY),
        int((1 - decay_rate) * np.cos(angle) * DECAY_UNITY),
    )


def scale_up(values: npt.ArrayLike, exponent: int = STATE_EXPONENT) -> Int64Array:
    """Bring a weight sum, bias or threshold to the scale of the state: times 2**exponent."""
    return np.asarray(values, dtype=np.int64) << np.int64(exponent)


def scale_down(values: npt.ArrayLike, exponent: int = STATE_EXPONENT) -> Int64Array:
    """Drop the low bits of a state, towards minus infinity: a plain `>>`."""
    return np.asarray(values, dtype=np.int64) >> np.int64(exponent)


def round_half_even(values: npt.ArrayLike) -> Int64Array:
    """Round to the nearest integer, halves to the even one."""
    return np.rint(np.asarray(values, dtype=np.float64)).astype(np.int64)


def round_to_even_integer(values: npt.ArrayLike) -> Int64Array:
    """Round to the nearest even integer: 2 · round(x / 2). Mixed-sign weights are even."""
    return 2 * round_half_even(np.asarray(values, dtype=np.float64) / 2.0)


def truncate(values: npt.ArrayLike) -> Int64Array:
    """Drop the fraction, towards zero, as Lava's reader does to a float in a file."""
    whole: FloatArray = np.trunc(np.asarray(values, dtype=np.float64))
    return whole.astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class DenseWeight:
    """A dense weight matrix as the chip's synapse holds it.

    The contribution of inputs x is `(mantissa @ x) >> shift`.

    Attributes:
        mantissa: (out, in) int32.
        shift: Right shift of each sum; negative shifts never occur.
        is_exact: Whether this acts as the stored weights for every input.
    """

    mantissa: Int32Array
    shift: int
    is_exact: bool


def effective_dense_weight(*stored: IntegerArray) -> tuple[DenseWeight, ...]:
    """Return the weights that Lava's dense synapse uses for the stored ones.

    netx looks for the number of weight bits and an exponent that represent the matrix, and loses
    some matrices in doing so: positive ones with a weight above 255 and all-negative ones below
    -256 become zero, a constant negative power of two does too. `is_exact` tells.

    Args:
        stored: One (out, in) matrix, or the feed-forward and the recurrent one of a recurrent
            layer, which share one exponent.

    Returns:
        One `DenseWeight` for each matrix.

    Raises:
        ZeroDivisionError: If all weights are zero; Lava fails with OverflowError there.

    Source: lava-dl 0.6.0 `netx/utils.py:optimize_weight_bits`, lava-nc 0.10.0
        `lava/utils/weightutils.py`.
    """
    matrices = [np.asarray(matrix, dtype=np.int64) for matrix in stored]
    largest = max(int(matrix.max()) for matrix in matrices)
    smallest = min(int(matrix.min()) for matrix in matrices)
    if (largest > WEIGHT_MAX and smallest < 0) or (smallest < WEIGHT_MIN and largest > 0):
        matrices = [np.clip(matrix, WEIGHT_MIN, WEIGHT_MAX) for matrix in matrices]
        largest, smallest = min(largest, WEIGHT_MAX), max(smallest, WEIGHT_MIN)
    if largest == 0 and smallest == 0:
        raise ZeroDivisionError("all weights are zero")
    is_signed = not (largest < 0 or smallest >= 0)
    if is_signed:
        scale = min(127 / largest if largest else np.inf, -128 / smallest if smallest else np.inf)
    elif largest < 0:
        scale = -256 / smallest
    else:
        scale = 255 / largest
    shift = int(np.floor(np.log2(scale))) + int(is_signed)
    zeros = 0
    while zeros < 8 and not any(np.any(matrix % (1 << (zeros + 1))) for matrix in matrices):
        zeros += 1
    bits = 8 - shift - (zeros - int(is_signed))
    effective = tuple(
        _truncate_weight(_shift_left(matrix, shift), bits=bits) for matrix in matrices
    )
    return tuple(
        DenseWeight(
            mantissa=mantissa.astype(np.int32),
            shift=max(shift, 0),
            is_exact=bool(
                shift >= 0
                and np.array_equal(mantissa, original << shift)
                and np.array_equal(original, np.asarray(given, dtype=np.int64))
            ),
        )
        for mantissa, original, given in zip(effective, matrices, stored, strict=True)
    )


def _shift_left(values: Int64Array, shift: int) -> Int64Array:
    """NumPy shifts by a negative count give zero; so does Lava's."""
    return values << np.int64(shift) if shift >= 0 else np.zeros_like(values)


def _truncate_weight(weight: Int64Array, *, bits: int) -> Int64Array:
    """Drop the bits that the chip does not store, by the sign mode of the matrix."""
    is_mixed = bool(weight.min() < 0 < weight.max())
    is_inhibitory = not is_mixed and bool(weight.max() <= 0) and bool(weight.min() < 0)
    magnitude = -weight if is_inhibitory else weight
    limits = (-256, 255) if is_mixed else (0, 255)
    magnitude = np.clip(magnitude, *limits)
    dropped = 8 - bits + int(is_mixed)
    if dropped < 0:
        return np.zeros_like(weight)
    magnitude = (magnitude >> np.int64(dropped)) << np.int64(dropped)
    return -magnitude if is_inhibitory else magnitude
