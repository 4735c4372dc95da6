"""Recurrent layers of neurons: what fired in a step arrives in the next, through a dense synapse.

    x[t] = z[t] + R · s[t-1],    s[t] = [what the neuron makes of x[t] fires]

Gradients are those of `dynamics`, run backwards step by step, since the spikes of t reach x[t+1].
With upstream g, surrogate h, and k the share of the voltage's gradient that a step passes on:

    gs[t] = g[t] + Rᵀ · gx[t+1]
    gv[t] = gs[t] · h[t] + k[t] · gv[t+1]
    gx[t] = gv[t] + a_u · gx[t+1]

`Cell` gives the steps of a kind of neuron, h, k and a_u.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurodeploy.nn.functional.cuba_loops import CubaConstants
from neurodeploy.nn.functional.dynamics import (
    cuba_step,
    keep_fraction,
    keep_integer,
    lif_step,
    reset,
    to_integers,
)
from neurodeploy.nn.functional.surrogate import Surrogate


class Cell(ABC):
    """Neurons (N, M) of one kind, from rest, step by step.

    Attributes:
        current_keep: a_u, share of the current that a step keeps.
    """

    current_keep: float | Tensor

    @abstractmethod
    def start(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return the states at rest, of the shape of `like`."""

    @abstractmethod
    def advance(
        self, states: tuple[Tensor, ...], arriving: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Return the states after a step, the voltage before any reset (float), and the spikes."""

    @abstractmethod
    def slopes(self, voltages: Tensor) -> tuple[Tensor, float | Tensor]:
        """Return h and k for the voltages (T, N, M) of all steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifCell(Cell):
    """The paper's LIF; attributes as the arguments of `dynamics.lif_spikes`."""

    tau: float
    threshold: float
    surrogate: Surrogate
    reset_gradient: bool
    current_keep: float = 0.0

    def start(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return the membrane."""
        return (torch.zeros_like(like),)

    def advance(
        self, states: tuple[Tensor, ...], arriving: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Return the membrane after the step, before the reset, and the spikes."""
        before, fires = lif_step(states[0], arriving, tau=self.tau, threshold=self.threshold)
        return (reset(before, fires),), before, fires

    def slopes(self, voltages: Tensor) -> tuple[Tensor, Tensor]:
        """Return h and tau · (1 - o), less u · h with a gradient through the reset."""
        slope = self.surrogate.derivative(voltages, self.threshold)
        through = (voltages <= self.threshold).to(voltages.dtype)
        if self.reset_gradient:
            through.addcmul_(voltages, slope, value=-1.0)
        return slope, through.mul_(self.tau)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CubaCell(Cell):
    """SLAYER's CUBA neurons.

    Attributes:
        current_decay: (1,) or (M,) float32, stored times 4096.
        voltage_decay: The same.
        constants: As for `dynamics.cuba_spikes`.
    """

    current_decay: Tensor
    voltage_decay: Tensor
    constants: CubaConstants

    @property
    def current_keep(self) -> float | Tensor:  # type: ignore[override]
        """1 - decay / 4096."""
        return keep_fraction(self.current_decay)

    def start(self, like: Tensor) -> tuple[Tensor, ...]:
        """Return current and voltage."""
        rest = torch.zeros(like.shape, dtype=torch.int32, device=like.device)
        return rest, rest.clone()

    def advance(
        self, states: tuple[Tensor, ...], arriving: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Return current and voltage after the step, the voltage in SLAYER units, the spikes."""
        scale = self.constants.state_scale
        current, voltage = states
        current, voltage, fires = cuba_step(
            current,
            voltage,
            to_integers(arriving, scale),
            current_keep=keep_integer(self.current_decay),
            voltage_keep=keep_integer(self.voltage_decay),
            level=self.constants.level,
            scale=scale,
        )
        return (current, reset(voltage, fires)), voltage / scale, fires

    def slopes(self, voltages: Tensor) -> tuple[Tensor, float | Tensor]:
        """Return h and 1 - decay / 4096; nothing passes through the reset."""
        return self.constants.slope(voltages), keep_fraction(self.voltage_decay)


def recurrent_spikes(arriving: Tensor, weight: Tensor, cell: Cell) -> Tensor:
    """Return the spikes of a recurrent layer.

    Args:
        arriving: z, (T, N, M) float32.
        weight: R, (M, M).
        cell: The neurons.

    Returns:
        (T, N, M) float32, differentiable in `arriving` and `weight`.
    """
    spikes: Tensor = _RecurrentSpikes.apply(arriving, weight, cell)
    return spikes


class _RecurrentSpikes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, arriving: Tensor, weight: Tensor, cell: Cell) -> Tensor:
        spikes, voltages = torch.zeros_like(arriving), torch.empty_like(arriving)
        states = cell.start(arriving[0])
        for step, total in enumerate(arriving):
            if step:
                total = torch.addmm(total, spikes[step - 1], weight.T)
            states, voltages[step], spikes[step] = cell.advance(states, total)
        ctx.cell = cell
        ctx.save_for_backward(spikes, voltages, weight)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        spikes, voltages, weight = ctx.saved_tensors
        slope, through = ctx.cell.slopes(voltages)
        keep = ctx.cell.current_keep
        of_input = torch.empty_like(voltages)
        later_voltage = later_input = torch.zeros_like(voltages[0])
        for step in reversed(range(len(voltages))):
            of_spikes = torch.addmm(grad[step], later_input, weight)
            kept = through[step] if isinstance(through, Tensor) and through.dim() == 3 else through
            later_voltage = of_spikes * slope[step] + later_voltage * kept
            later_input = later_voltage + later_input * keep
            of_input[step] = later_input
        of_weight = of_input[1:].flatten(0, 1).T @ spikes[:-1].flatten(0, 1)
        return of_input, of_weight, None
