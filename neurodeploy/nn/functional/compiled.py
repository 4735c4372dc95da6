"""Compiled neurons without batch norm, for tensors on the CPU.

`functional.dynamics` calls these where `is_compilable` says so and runs its torch loops
elsewhere; both give the same spikes and states to the bit, and the same gradients up to the
rounding of exp and tanh.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurodeploy.nn.functional.cuba_loops import CubaLoopNumbers, cuba_back_span, cuba_span
from neurodeploy.nn.functional.lif_loops import (
    NO_ROWS,
    Currents,
    Lif,
    differentiate_span,
    fire_span,
)
from neurodeploy.nn.functional.parallel import TILE, cut_spans, run_spans
from neurodeploy.nn.functional.slopes import Slope


def is_compilable(values: Tensor) -> bool:
    """Return whether compiled loops can read a tensor: float32, on the CPU, not being traced."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.compiler.is_compiling()
    )


class LifRows(torch.autograd.Function):
    """The paper's LIF on (T, M) rows; keeps its inputs and computes the membranes again."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        tau: float,
        threshold: float,
        surrogate: Slope,
        reset_gradient: bool,
    ) -> Tensor:
        """Return spikes (T, M)."""
        inputs = inputs.contiguous()
        spikes = torch.empty_like(inputs)
        currents, fired = Currents(inputs.detach().numpy()), spikes.numpy()
        neurons = Lif(np.float32(tau), np.float32(threshold), reset_gradient)
        run_spans(
            cut_spans(inputs.shape[0], inputs.shape[1], TILE),
            lambda _, span: fire_span(currents, span, neurons, fired),
        )
        ctx.neurons, ctx.surrogate = neurons, surrogate
        ctx.save_for_backward(inputs)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the inputs, (T, M)."""
        (inputs,) = ctx.saved_tensors
        neurons, surrogate = ctx.neurons, ctx.surrogate
        result, unused = torch.empty_like(inputs), np.empty((2, 0))
        currents = Currents(inputs.detach().numpy())
        upstream, into = grad.contiguous().numpy(), result.numpy()
        run_spans(
            cut_spans(inputs.shape[0], inputs.shape[1], TILE),
            lambda _, span: differentiate_span(
                currents, upstream, span, neurons, surrogate, into, unused
            ),
        )
        return result, None, None, None, None


def run_cuba(
    inputs: Tensor,
    keeps: tuple[Tensor, Tensor],
    states: tuple[Tensor | None, Tensor | None],
    *,
    scale: int,
    level: int,
    is_graded: bool,
    has_currents: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Run CUBA neurons over all steps.

    Args:
        inputs: (T, M) float32, SLAYER units.
        keeps: 1 - decay / 4096 of current and voltage, (1,) or (M,) float64.
        states: U and reset V before the first step, (M,) int32, None for zero.
        scale: S.
        level: A neuron spikes when V > level.
        is_graded: Emit the voltage instead of 1.
        has_currents: Give the currents as well.

    Returns:
        Spikes, V before the reset and, if wanted, U, all (T, M) float32; then U and V after the
        last step, (M,) int32.
    """
    inputs = inputs.detach().contiguous()
    x = inputs.numpy()
    u, v = (
        np.zeros(x.shape[1], np.int32) if state is None else state.numpy().copy()
        for state in states
    )
    spikes, voltages = torch.empty_like(inputs), torch.empty_like(inputs)
    currents = torch.empty_like(inputs) if has_currents else None
    kept = NO_ROWS if currents is None else currents.numpy()
    fired, before = spikes.numpy(), voltages.numpy()
    shares = (keeps[0].contiguous().numpy(), keeps[1].contiguous().numpy())
    neurons = CubaLoopNumbers(np.float32(scale), scale & (scale - 1) == 0, float(level), is_graded)
    run_spans(
        cut_spans(inputs.shape[0], inputs.shape[1], TILE),
        lambda _, span: cuba_span(x, span, shares, neurons, (u, v), fired, before, kept),
    )
    return spikes, voltages, currents, torch.from_numpy(u), torch.from_numpy(v)


def run_cuba_back(
    voltages: Tensor,
    grad: Tensor,
    keeps: tuple[Tensor, Tensor],
    *,
    threshold: float,
    margin: float,
    surrogate: Slope,
) -> Tensor:
    """Return the gradient of the inputs, (T, M), for decays that are not learned."""
    result = torch.empty_like(voltages)
    v, upstream, into = voltages.numpy(), grad.contiguous().numpy(), result.numpy()
    shares = (keeps[0].contiguous().numpy(), keeps[1].contiguous().numpy())
    centre = np.float32(threshold), np.float32(margin)
    run_spans(
        cut_spans(voltages.shape[0], voltages.shape[1], TILE),
        lambda _, span: cuba_back_span(v, upstream, span, shares, *centre, surrogate, into),
    )
    return result
