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

from neurodeploy.nn.functional import loops
from neurodeploy.nn.functional.rows import (
    TILE,
    cut_spans,
    run_spans,
)
from neurodeploy.nn.functional.surrogate import (
    Exponential,
    Rectangular,
    Surrogate,
    Tanh,
    TanhPrinted,
    Triangular,
)

SurrogateNumbers = tuple[int, np.float32, np.float32]
"""Kind, height and width as `neurodeploy.nn.functional.loops.slopes` takes them."""

_NOTHING = np.zeros(0, np.float32)
NO_ROWS = np.zeros((0, 0), np.float32)


def is_compilable(values: Tensor) -> bool:
    """Return whether compiled loops can read a tensor: float32, on the CPU, not being traced."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.compiler.is_compiling()
    )


def surrogate_numbers(
    surrogate: Surrogate, threshold: float, *, is_graded: bool = False
) -> SurrogateNumbers | None:
    """Return what `kernels.slopes` needs; None for a surrogate of someone else's making."""
    match surrogate:
        case Triangular():
            numbers = loops.TRIANGULAR, surrogate.height, 1.0
        case Rectangular():
            numbers = loops.RECTANGULAR, 1 / surrogate.width, surrogate.width / 2
        case Tanh():
            numbers = loops.TANH, surrogate.height, surrogate.slope
        case TanhPrinted():
            numbers = loops.TANH_PRINTED, surrogate.height, 1.0
        case Exponential():
            tau = 100 * surrogate.tau_grad * threshold
            height = 0.1 * surrogate.scale_grad
            numbers = (
                (loops.GRADED, height, 1 / tau)
                if is_graded
                else (loops.EXPONENTIAL, height / 2 / tau, 1 / tau)
            )
        case _:
            return None
    return numbers[0], np.float32(numbers[1]), np.float32(numbers[2])


class LifRows(torch.autograd.Function):
    """The paper's LIF on (T, M) rows; keeps its inputs and computes the membranes again."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        tau: float,
        threshold: float,
        surrogate: SurrogateNumbers,
        reset_gradient: bool,
    ) -> Tensor:
        """Return spikes (T, M)."""
        inputs = inputs.contiguous()
        spikes = torch.empty_like(inputs)
        x, fired = inputs.detach().numpy(), spikes.numpy()
        numbers = (np.float32(tau), np.float32(threshold))
        run_spans(
            cut_spans(x.shape[0], x.shape[1], TILE),
            lambda _, start, stop: loops.fire_span(
                x,
                NO_ROWS,
                start,
                stop,
                _NOTHING,
                _NOTHING,
                numbers[0],
                numbers[1],
                fired,
            ),
        )
        ctx.numbers, ctx.surrogate, ctx.reset_gradient = numbers, surrogate, reset_gradient
        ctx.save_for_backward(inputs)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the inputs, (T, M)."""
        (inputs,) = ctx.saved_tensors
        result = torch.empty_like(inputs)
        x, upstream, into = inputs.detach().numpy(), grad.contiguous().numpy(), result.numpy()
        tau, threshold = ctx.numbers
        kind, height, width = ctx.surrogate
        unused = np.empty((2, 0))
        run_spans(
            cut_spans(x.shape[0], x.shape[1], TILE),
            lambda _, start, stop: loops.differentiate_span(
                x,
                NO_ROWS,
                upstream,
                start,
                stop,
                _NOTHING,
                _NOTHING,
                _NOTHING,
                _NOTHING,
                tau,
                threshold,
                ctx.reset_gradient,
                kind,
                height,
                width,
                into,
                unused,
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
    keep_u, keep_v = (keep.contiguous().numpy() for keep in keeps)
    run_spans(
        cut_spans(x.shape[0], x.shape[1], TILE),
        lambda _, start, stop: loops.cuba_span(
            x,
            start,
            stop,
            keep_u,
            keep_v,
            np.float32(scale),
            scale & (scale - 1) == 0,
            float(level),
            is_graded,
            u,
            v,
            fired,
            before,
            kept,
        ),
    )
    return spikes, voltages, currents, torch.from_numpy(u), torch.from_numpy(v)


def run_cuba_back(
    voltages: Tensor,
    grad: Tensor,
    keeps: tuple[Tensor, Tensor],
    *,
    threshold: float,
    margin: float,
    surrogate: SurrogateNumbers,
) -> Tensor:
    """Return the gradient of the inputs, (T, M), for decays that are not learned."""
    result = torch.empty_like(voltages)
    v, upstream, into = voltages.numpy(), grad.contiguous().numpy(), result.numpy()
    keep_u, keep_v = (keep.contiguous().numpy() for keep in keeps)
    run_spans(
        cut_spans(v.shape[0], v.shape[1], TILE),
        lambda _, start, stop: loops.cuba_back_span(
            v,
            upstream,
            start,
            stop,
            keep_u,
            keep_v,
            np.float32(threshold),
            np.float32(margin),
            *surrogate,
            into,
        ),
    )
    return result
