"""Neurons in plain torch, one step after the other, with autograd's own gradients.

`neurodeploy.nn.functional.dynamics`, which names the sources, is tested against these loops.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurodeploy.fixedpoint import DECAY_UNITY
from neurodeploy.nn.functional.cuba_loops import CubaConstants
from neurodeploy.nn.functional.dynamics import (
    reset,
)
from neurodeploy.nn.functional.surrogate import Surrogate


def fire(voltage: Tensor, threshold: float, surrogate: Surrogate) -> Tensor:
    """Return [voltage > threshold] as 0 and 1; the gradient is the surrogate's h(u).

    The value is the hard comparison, because the term that carries the gradient is exactly zero.
    """
    spikes = (voltage > threshold).to(voltage.dtype)
    with torch.no_grad():
        slope = surrogate.derivative(voltage, threshold)
    return spikes + (voltage - voltage.detach()) * slope


def cuba_loop(
    inputs: Tensor,
    current_decay: Tensor,
    voltage_decay: Tensor,
    constants: CubaConstants,
    *,
    recurrent: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run CUBA neurons as `cuba_spikes` does, in plain torch and int64, from zero state.

    Each float state is its exact integer value plus a term that is zero and carries the
    gradient, so that autograd itself derives what the fast loop writes out by hand.

    Args:
        inputs: (T, M) float32; (T, N, M) with `recurrent`.
        current_decay: (1,) or (M,) float32, stored times 4096.
        voltage_decay: The same.
        constants: See `CubaConstants`; `compat_decay_grad` is not honoured.
        recurrent: (M, M) weights by which spikes of a step arrive in the next.

    Returns:
        Spikes, current and voltage before the reset, each of the inputs' shape, SLAYER units.
    """
    scale = constants.state_scale
    u = v = torch.zeros_like(inputs[0])
    u_integer = v_integer = torch.zeros_like(inputs[0], dtype=torch.int64)
    spikes: list[Tensor] = []
    currents, voltages = [], []
    for x in inputs:
        x = _with_recurrence(x, spikes, recurrent)
        u, u_integer = _loop_step(u, u_integer, current_decay, x, scale)
        v_new, v_new_integer = _loop_step(v, v_integer, voltage_decay, u, scale)
        is_firing = v_new_integer > constants.level
        value = v_new.detach() * is_firing if constants.is_graded else is_firing.to(x.dtype)
        spikes.append(value + (v_new - v_new.detach()) * constants.slope(v_new.detach()))
        currents.append(u)
        voltages.append(v_new)
        v_integer = reset(v_new_integer, is_firing)
        v = v_new + (v_integer / scale - v_new).detach()  # the value resets, the gradient does not
    return torch.stack(spikes), torch.stack(currents), torch.stack(voltages)


def _loop_step(
    state: Tensor, integer: Tensor, decay: Tensor, inputs: Tensor, scale: int
) -> tuple[Tensor, Tensor]:
    rounded = decay.detach().round()
    product = integer * (DECAY_UNITY - rounded).to(torch.int64)
    new_integer = torch.div(product, DECAY_UNITY, rounding_mode="trunc")
    new_integer = new_integer + (scale * inputs).detach().to(torch.int64)
    flow = (1 - rounded / DECAY_UNITY) * state - decay * state.detach() + inputs
    return (new_integer / scale).to(inputs.dtype) + (flow - flow.detach()), new_integer


def _with_recurrence(x: Tensor, spikes: list[Tensor], recurrent: Tensor | None) -> Tensor:
    return x if recurrent is None or not spikes else x + spikes[-1] @ recurrent.T


def lif_loop(
    inputs: Tensor,
    *,
    tau: float,
    threshold: float,
    surrogate: Surrogate,
    reset_gradient: bool,
    recurrent: Tensor | None = None,
) -> Tensor:
    """Run the paper's LIF as `lif_spikes` does, in plain torch; arguments as there.

    `recurrent` is as in `cuba_loop`.
    """
    u = torch.zeros_like(inputs[0])
    spikes: list[Tensor] = []
    for x in inputs:
        x = _with_recurrence(x, spikes, recurrent)
        u_pre = tau * u + x
        o = fire(u_pre, threshold, surrogate)
        u = u_pre * (1 - (o if reset_gradient else o.detach()))
        spikes.append(o)
    return torch.stack(spikes)
