"""Surrogate gradients: what backward uses in place of the derivative of the spike function.

A spike is o = [u > V_th]; its derivative is zero almost everywhere. Each class here is a smooth
stand-in h(u) for do/du, a small frozen value that can be compared, printed and written to a
recipe (`name` plus the dataclass fields). `slopes` is the same in compiled loops.

Source: `Triangular`, `Rectangular`, `Tanh`: Guo et al., "Take A Shortcut Back", NeurIPS 2024,
arXiv 2401.04486, eq. 4. `Exponential`: lava-dl 0.6.0, `lava/lib/dl/slayer/spike/spike.py` and
the constants of `lava/lib/dl/slayer/neuron/cuba.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from neurodeploy.compiled_code import kept
from neurodeploy.errors import GraphError

Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]


class Surrogate(Protocol):
    """A stand-in for the derivative of the spike function."""

    name: ClassVar[str]

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u).

        Args:
            voltage: Float tensor of any shape, u before the reset.
            threshold: V_th, in the unit of `voltage`.

        Returns:
            A new tensor of the same shape and dtype.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Positive:
    """A surrogate whose parameters are finite numbers above 0."""

    def __post_init__(self) -> None:
        for parameter, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise GraphError(
                    f"{type(self).__name__}: {parameter} = {value}, "
                    "a finite number above 0 is required."
                )


@dataclass(frozen=True, slots=True)
class Triangular(_Positive):
    """h(u) = height · max(0, 1 - |u / V_th - 1|): non-zero for 0 < u < 2 V_th.

    Attributes:
        height: The paper's gamma, the value at threshold.
    """

    name: ClassVar[str] = "triangular"
    height: float = 1.0

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        distance = (voltage / threshold).sub_(1.0).abs_()
        return distance.neg_().add_(1.0).clamp_(min=0.0).mul_(self.height)


@dataclass(frozen=True, slots=True)
class Rectangular(_Positive):
    """h(u) = 1 / width where |u - V_th| < width / 2, else 0: area 1.

    Attributes:
        width: The paper's a.
    """

    name: ClassVar[str] = "rectangular"
    width: float = 1.0

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        is_near = (voltage - threshold).abs_() < self.width / 2
        return is_near.to(voltage.dtype).mul_(1.0 / self.width)


@dataclass(frozen=True, slots=True)
class Tanh(_Positive):
    """h(u) = height · (1 - tanh²(slope · (u - V_th))): the derivative of a tanh step.

    With height = slope / 2 the area is 1, and h is the derivative of
    (1 + tanh(slope · (u - V_th))) / 2. The paper's form has slope 1 and height k.

    Attributes:
        height: The paper's k, the value at threshold.
        slope: Steepness; larger is narrower.
    """

    name: ClassVar[str] = "tanh"
    height: float = 1.0
    slope: float = 2.0

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        squared = (voltage - threshold).mul_(self.slope).tanh_().square_()
        return squared.neg_().add_(1.0).mul_(self.height)


@dataclass(frozen=True, slots=True)
class TanhPrinted(_Positive):
    """h(u) = height · (1 - tanh(u - V_th))²: the paper's third formula, exactly as printed.

    Almost surely a misprint of `Tanh`, with the square one bracket too far out: as printed, h
    grows to 4 · height for u far *below* threshold, so the most silent neurons would receive the
    largest gradient, and it is not even around V_th, as the derivative of a step must be. Kept
    so that the printed formula can be tried; use `Tanh`.

    Attributes:
        height: The paper's k, the value at threshold.
    """

    name: ClassVar[str] = "tanh_printed"
    height: float = 1.0

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        return (voltage - threshold).tanh_().neg_().add_(1.0).square_().mul_(self.height)


@dataclass(frozen=True, slots=True)
class Exponential(_Positive):
    """SLAYER's h(u) = k / (2 τρ) · exp(-|u - V_th| / τρ).

    τρ = 100 · tau_grad · V_th and k = 0.1 · scale_grad. For graded spikes, whose output is the
    voltage itself, `graded_derivative` is used instead.

    Attributes:
        tau_grad: Width, in hundreds of thresholds.
        scale_grad: Height.

    Source: lava-dl 0.6.0, `lava/lib/dl/slayer/spike/spike.py:_spike_backward`; factors 100 and
    0.1: `TAU_RHO_MULT`, `SCALE_RHO_MULT` in `lava/lib/dl/slayer/neuron/cuba.py`.
    """

    name: ClassVar[str] = "exponential"
    tau_grad: float = 1.0
    scale_grad: float = 1.0

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        tau = 100 * self.tau_grad * threshold
        peak = 0.1 * self.scale_grad / 2 / tau
        return (voltage - threshold).abs_().mul_(-1.0 / tau).exp_().mul_(peak)

    def graded_derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return k · exp(min(u - V_th, 0) / τρ), for an output that is the voltage."""
        tau = 100 * self.tau_grad * threshold
        below = (voltage - threshold).clamp_(max=0.0)
        return below.div_(tau).exp_().mul_(0.1 * self.scale_grad)


_Kind = type[Triangular | Rectangular | Tanh | TanhPrinted | Exponential]
_KINDS: tuple[_Kind, ...] = (Triangular, Rectangular, Tanh, TanhPrinted, Exponential)
SURROGATES: Mapping[str, _Kind] = {kind.name: kind for kind in _KINDS}
"""Every surrogate by its name in a recipe."""

# Compiled surrogates ---------------------------------------------------------------------------

TRIANGULAR, RECTANGULAR, TANH, TANH_PRINTED, EXPONENTIAL, GRADED = range(6)
"""Kinds of `Slope`; GRADED is `Exponential.graded_derivative`."""

_LOG2_E: Final = np.float32(math.log2(math.e))
_LN_2_HIGH: Final = np.float32(0.693359375)
_LN_2_LOW: Final = np.float32(math.log(2) - 0.693359375)
_ONE: Final = np.float32(1)
_ZERO: Final = np.float32(0)


class Slope(NamedTuple):
    """A surrogate as compiled loops read it.

    Attributes:
        kind: TRIANGULAR or another.
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


@kept
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


@kept
def slopes(
    membranes: Float32Array,
    threshold: np.float32,
    slope: Slope,
    result: Float32Array,
    bits: Int32Array,
) -> None:
    """Write h(u) of a row of membranes, in loops that become vector code.

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
