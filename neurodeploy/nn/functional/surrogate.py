"""Surrogate gradients: what backward uses in place of the derivative of the spike function.

A spike is o = [u > V_th]; its derivative is zero almost everywhere. Each class here is a smooth
stand-in h(u) for do/du, a small frozen value that can be compared, printed and written to a
recipe (`name` plus the dataclass fields).

Source: `Triangular`, `Rectangular`, `Tanh`: Guo et al., "Take A Shortcut Back", NeurIPS 2024,
arXiv 2401.04486, eq. 4. `Exponential`: lava-dl 0.6.0, `lava/lib/dl/slayer/spike/spike.py` and
the constants of `lava/lib/dl/slayer/neuron/cuba.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from neurodeploy.errors import GraphError


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


def _require_positive(surrogate: object, **values: float) -> None:
    for parameter, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise GraphError(
                f"{type(surrogate).__name__}: {parameter} = {value}, "
                "a finite number above 0 is required."
            )


@dataclass(frozen=True, slots=True)
class Triangular:
    """h(u) = height · max(0, 1 - |u / V_th - 1|): non-zero for 0 < u < 2 V_th.

    Attributes:
        height: The paper's gamma, the value at threshold.
    """

    name: ClassVar[str] = "triangular"
    height: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, height=self.height)

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        distance = (voltage / threshold).sub_(1.0).abs_()
        return distance.neg_().add_(1.0).clamp_(min=0.0).mul_(self.height)


@dataclass(frozen=True, slots=True)
class Rectangular:
    """h(u) = 1 / width where |u - V_th| < width / 2, else 0: area 1.

    Attributes:
        width: The paper's a.
    """

    name: ClassVar[str] = "rectangular"
    width: float = 1.0

    def __post_init__(self) -> None:
        _require_positive(self, width=self.width)

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        is_near = (voltage - threshold).abs_() < self.width / 2
        return is_near.to(voltage.dtype).mul_(1.0 / self.width)


@dataclass(frozen=True, slots=True)
class Tanh:
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

    def __post_init__(self) -> None:
        _require_positive(self, height=self.height, slope=self.slope)

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        squared = (voltage - threshold).mul_(self.slope).tanh_().square_()
        return squared.neg_().add_(1.0).mul_(self.height)


@dataclass(frozen=True, slots=True)
class TanhPrinted:
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

    def __post_init__(self) -> None:
        _require_positive(self, height=self.height)

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        return (voltage - threshold).tanh_().neg_().add_(1.0).square_().mul_(self.height)


@dataclass(frozen=True, slots=True)
class Exponential:
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

    def __post_init__(self) -> None:
        _require_positive(self, tau_grad=self.tau_grad, scale_grad=self.scale_grad)

    def derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return h(u) as a new tensor."""
        tau = 100 * self.tau_grad * threshold
        peak = 0.1 * self.scale_grad / 2 / tau
        return (voltage - threshold).abs_().mul_(-1.0 / tau).exp_().mul_(peak)

    def graded_derivative(self, voltage: Tensor, threshold: float) -> Tensor:
        """Return k · exp(min(u - V_th, 0) / τρ), for an output that is the voltage.

        Args:
            voltage: Float tensor of any shape.
            threshold: V_th, in the unit of `voltage`.

        Returns:
            A new tensor of the same shape and dtype.
        """
        tau = 100 * self.tau_grad * threshold
        below = (voltage - threshold).clamp_(max=0.0)
        return below.div_(tau).exp_().mul_(0.1 * self.scale_grad)


_Kind = type[Triangular | Rectangular | Tanh | TanhPrinted | Exponential]
_KINDS: tuple[_Kind, ...] = (Triangular, Rectangular, Tanh, TanhPrinted, Exponential)
SURROGATES: Mapping[str, _Kind] = {kind.name: kind for kind in _KINDS}
"""Every surrogate by its name in a recipe."""
