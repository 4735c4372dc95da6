"""Compiled surrogates: h(u) of a row of membranes, in loops that become vector code."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from neurodeploy.nn.functional.surrogate import (
    Exponential,
    Rectangular,
    Surrogate,
    Tanh,
    TanhPrinted,
    Triangular,
)

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]

TRIANGULAR: Final = 0
RECTANGULAR: Final = 1
TANH: Final = 2
TANH_PRINTED: Final = 3
EXPONENTIAL: Final = 4
GRADED: Final = 5
"""`Exponential.graded_derivative`."""

_LOG2_E: Final = np.float32(math.log2(math.e))
_LN_2_HIGH: Final = np.float32(0.693359375)
_LN_2_LOW: Final = np.float32(math.log(2) - 0.693359375)
_ONE: Final = np.float32(1)
_ZERO: Final = np.float32(0)


class Slope(NamedTuple):
    """A surrogate as compiled loops read it.

    Attributes:
        kind: One of the constants above.
        height: Value at threshold.
        width: RECTANGULAR: half its width; TANH: the slope; EXPONENTIAL, GRADED: 1 / τρ.
    """

    kind: int
    height: np.float32
    width: np.float32

    @classmethod
    def of(cls, surrogate: Surrogate, threshold: float, *, is_graded: bool = False) -> Slope | None:
        """Return a surrogate's numbers; None for a surrogate of someone else's making."""
        match surrogate:
            case Triangular():
                kind, height, width = TRIANGULAR, surrogate.height, 1.0
            case Rectangular():
                kind, height, width = RECTANGULAR, 1 / surrogate.width, surrogate.width / 2
            case Tanh():
                kind, height, width = TANH, surrogate.height, surrogate.slope
            case TanhPrinted():
                kind, height, width = TANH_PRINTED, surrogate.height, 1.0
            case Exponential():
                tau = 100 * surrogate.tau_grad * threshold
                height, width = 0.1 * surrogate.scale_grad, 1 / tau
                kind = GRADED
                if not is_graded:
                    kind, height = EXPONENTIAL, height / 2 / tau
            case _:
                return None
        return cls(kind, np.float32(height), np.float32(width))


@njit(cache=True, nogil=True)
def exponentials(values: Float32Array, bits: Int32Array) -> None:
    """Replace values by exp(value), in place; for values of at most 0, those below -87 give 0.

    exp(x) = 2**n · exp(r), |r| <= ln(2) / 2, by the power series to r**7: within 2 units in the
    last place of float32. Written out because only loops without calls become vector code.

    Args:
        values: (m,) float32.
        bits: (m,) int32, scratch.
    """
    for i in range(values.size):
        x = max(values[i], np.float32(-88))
        n = np.floor(x * _LOG2_E + np.float32(0.5))
        r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
        p = np.float32(1 / 5040)
        p = p * r + np.float32(1 / 720)
        p = p * r + np.float32(1 / 120)
        p = p * r + np.float32(1 / 24)
        p = p * r + np.float32(1 / 6)
        p = p * r + np.float32(0.5)
        p = p * r + _ONE
        values[i] = p * r + _ONE
        bits[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
    powers = bits.view(np.float32)
    for i in range(values.size):
        values[i] *= powers[i]


@njit(cache=True, nogil=True)
def slopes(
    membranes: Float32Array,
    threshold: np.float32,
    slope: Slope,
    result: Float32Array,
    bits: Int32Array,
) -> None:
    """Write the surrogate's h(u); `neurodeploy.nn.functional.surrogate` has the formulas.

    Args:
        membranes: (m,) float32, u.
        threshold: V_th.
        slope: The surrogate.
        result: (m,) float32, h(u).
        bits: (m,) int32, scratch.
    """
    kind, height, width = slope.kind, slope.height, slope.width
    if kind == TRIANGULAR:
        for i in range(membranes.size):
            distance = abs(membranes[i] / threshold - _ONE)
            result[i] = height * max(_ONE - distance, _ZERO)
    elif kind == RECTANGULAR:
        for i in range(membranes.size):
            result[i] = height if abs(membranes[i] - threshold) < width else _ZERO
    elif kind == TANH:
        for i in range(membranes.size):
            result[i] = np.float32(-2) * abs((membranes[i] - threshold) * width)
        exponentials(result, bits)
        for i in range(membranes.size):
            share = _ONE / (_ONE + result[i])
            result[i] = np.float32(4) * height * result[i] * share * share
    elif kind == TANH_PRINTED:
        for i in range(membranes.size):
            result[i] = np.float32(-2) * abs(membranes[i] - threshold)
        exponentials(result, bits)
        for i in range(membranes.size):
            # 1 - tanh(z) is 2e / (1 + e) above and 2 / (1 + e) below, e = exp(-2 |z|).
            top = result[i] if membranes[i] > threshold else _ONE
            once = np.float32(2) * top / (_ONE + result[i])
            result[i] = height * once * once
    else:
        for i in range(membranes.size):
            distance = membranes[i] - threshold
            if kind == GRADED:
                result[i] = min(distance, _ZERO) * width
            else:
                result[i] = -abs(distance) * width
        exponentials(result, bits)
        for i in range(membranes.size):
            result[i] *= height
