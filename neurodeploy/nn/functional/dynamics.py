"""Neuron dynamics over time: pure step functions, fast loops with hand-written gradients.

Everything here is time first. A *row* layout (T, M) has one row per step and one column per
neuron of the batch; `neurodeploy.nn.neuron` brings tensors into it without copying.

CUBA-LIF, in integers (S state units are one SLAYER unit, keep = 4096 - decay):

    X[t] = trunc(S · x[t])
    U[t] = Z(keep_u · U[t-1]) + X[t]         Z(n) = n / 4096, rounded towards zero
    V[t] = Z(keep_v · Vr[t-1]) + U[t]
    s[t] = [V[t] > level]                    level = threshold · S
    Vr[t] = 0 where s[t], else V[t]

This is the definition of the training form, gradients included: compiled loops are held equal to
it by `tests/unit/nn/test_fused.py`, plain autograd by `tests/unit/nn/test_neuron.py`. Its steps
are those of the chip's neuron, `simulation.neurons.LifDynamics`, while no state wraps or clips:
`tests/property/test_neuron_properties.py`.

Gradients treat truncation as the identity and pass nothing through the reset, which leaves two
linear filters running backwards in time; h is the surrogate, a = keep / 4096:

    gv[t] = g[t] · h(V[t]/S) + a_v · gv[t+1],    gx[t] = gu[t] = gv[t] + a_u · gu[t+1]

Contract: |U|, |V| < 2**24, the width of the chip's state. int32 products never overflow there.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/neuron/cuba.py`,
`lava/lib/dl/slayer/neuron/dynamics/leaky_integrator.py` (its CPU path) and `spike/spike.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from neurodeploy.fixedpoint import DECAY_BITS, DECAY_UNITY
from neurodeploy.nn.functional.cuba_loops import CubaConstants, run_cuba, run_cuba_back
from neurodeploy.nn.functional.lif_loops import Lif, LifRows
from neurodeploy.nn.functional.parallel import is_compilable
from neurodeploy.nn.functional.surrogate import Slope, Surrogate

TILE = 1 << 16
"""Neurons worked on together: int32 states of one tile stay in the second-level cache."""


# Step functions ------------------------------------------------------------------------------


def decay_towards_zero(state: Tensor, keep: int | Tensor) -> Tensor:
    """Return `fixedpoint.decay` of (M,) int32 states, Z(keep · state), in int32 throughout.

    With |n| = 4096 · high + low, Z(keep · n) = sign(n) · (high · keep + (low · keep >> 12)): every
    term stays below 2**31 for |n| < 2**31. `keep` is 4096 - decay, an int or (M,) int32.
    """
    if isinstance(keep, int) and keep in (0, DECAY_UNITY):
        return state.clone() if keep else torch.zeros_like(state)
    high = state.abs()
    low = (high & (DECAY_UNITY - 1)).mul_(keep).bitwise_right_shift_(DECAY_BITS)
    return high.bitwise_right_shift_(DECAY_BITS).mul_(keep).add_(low).mul_(state.sign())


def cuba_step(
    current: Tensor,
    voltage: Tensor,
    inputs: Tensor,
    *,
    current_keep: int | Tensor,
    voltage_keep: int | Tensor,
    level: int,
    scale: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Advance CUBA neurons by one step.

    Args:
        current: (M,) int32, U[t-1].
        voltage: (M,) int32, Vr[t-1], after the reset.
        inputs: (M,) int32, X[t].
        current_keep: 4096 - current decay.
        voltage_keep: 4096 - voltage decay.
        level: A neuron spikes when V > level.
        scale: S.

    Returns:
        U[t] and V[t] before the reset, int32, and s[t], bool; `reset` gives Vr[t].
    """
    current = decay_towards_zero(current, current_keep).add_(inputs)
    voltage = decay_towards_zero(voltage, voltage_keep).add_(_hand_over(current, scale))
    return current, voltage, voltage > level


def lif_step(
    membrane: Tensor, inputs: Tensor, *, tau: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """Advance the paper's LIF by one step: u_pre = tau · u + x, o = [u_pre > V_th].

    Args:
        membrane: u[t-1], after the reset; any shape, float.
        inputs: x[t].
        tau: Share of the membrane that is kept.
        threshold: V_th.

    Returns:
        u_pre[t], float, and o[t], bool; `reset` gives u[t] = u_pre[t] · (1 - o[t]).

    Source: Guo et al., arXiv 2401.04486, eqs. 1-2.
    """
    membrane = (membrane * tau).add_(inputs)
    return membrane, membrane > threshold


def reset(state: Tensor, spikes: Tensor) -> Tensor:
    """Return the state after a hard reset: zero where the neuron spiked."""
    return state.masked_fill(spikes, 0)


# Fast loops ----------------------------------------------------------------------------------


def cuba_spikes(
    inputs: Tensor,
    current_decay: Tensor,
    voltage_decay: Tensor,
    constants: CubaConstants,
    *,
    current: Tensor | None = None,
    voltage: Tensor | None = None,
    is_late: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run CUBA neurons over all steps; one autograd node that saves the voltage only.

    Args:
        inputs: (T, M) float32, weighted sums in SLAYER units.
        current_decay: (1,) or (M,) float32, stored times 4096; rounded here.
        voltage_decay: The same.
        constants: See `CubaConstants`.
        current: (M,) int32 U[-1], or None for zero.
        voltage: (M,) int32 Vr[-1], or None for zero.
        is_late: Send spikes a step later: zeros first, and not the last.

    Returns:
        Spikes (T, M) float32, differentiable in inputs and decays, and U, Vr after the last
        step, (M,) int32.
    """
    spikes, current, voltage = _CubaSpikes.apply(
        inputs, current_decay, voltage_decay, current, voltage, constants, is_late
    )
    return spikes, current, voltage


def leaky_integrate(
    inputs: Tensor,
    decay: Tensor,
    constants: CubaConstants,
    *,
    has_reset: bool = False,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one integrator: the current, or the voltage with or without reset.

    Args:
        inputs: (T, M) float32, SLAYER units.
        decay: (1,) or (M,) float32, stored times 4096.
        constants: See `CubaConstants`; only scale, level and compatibility matter here.
        has_reset: Set the state to zero where it exceeds the level.
        initial: (M,) int32 state before the first step, or None for zero.

    Returns:
        State before any reset in SLAYER units, (T, M) float32, differentiable, and the state
        after the last step and its reset, (M,) int32.
    """
    states, final = _LeakyIntegrator.apply(inputs, decay, initial, constants, has_reset)
    return states, final


def lif_spikes(
    inputs: Tensor, *, tau: float, threshold: float, surrogate: Surrogate, reset_gradient: bool
) -> Tensor:
    """Run the paper's LIF over all steps from u = 0; one autograd node that saves u_pre only.

    The gradient d[t] = dL/du_pre[t] = dL/dx[t] is, with upstream g and h = h(u_pre[t]),

        d[t] = g[t] · h + tau · d[t+1] · (1 - o[t] - u_pre[t] · h)

    where the last term, the gradient through the reset, is left out without `reset_gradient`.

    Args:
        inputs: (T, M) float.
        tau: Share of the membrane that is kept.
        threshold: V_th.
        surrogate: Gives h.
        reset_gradient: Differentiate the reset u = u_pre · (1 - o) through o as well.

    Returns:
        Spikes (T, M), dtype of the inputs.
    """
    numbers = Slope.of(surrogate, threshold)
    if numbers is not None and is_compilable(inputs):
        neurons = Lif.of(tau, threshold, numbers, has_reset_gradient=reset_gradient)
        compiled: Tensor = LifRows.apply(inputs, neurons)
        return compiled
    spikes: Tensor = _LifSpikes.apply(inputs, tau, threshold, surrogate, reset_gradient)
    return spikes


def _is_stepwise(values: Tensor) -> bool:
    """Return whether torch runs operation by operation on a CPU.

    Elsewhere all columns are taken at once, which a compiler fuses with all steps into one kernel,
    and no number is read back, which would cut the graph and let a GPU run empty.
    """
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def _tiles(rows: Tensor) -> Iterator[slice]:
    width = rows.shape[1]
    size = TILE if _is_stepwise(rows) else width
    return (slice(start, min(start + size, width)) for start in range(0, width, max(1, size)))


def keep_integer(decay: Tensor) -> int | Tensor:
    """Return 4096 - decay, rounded: an int for one decay, else int32 of its shape."""
    keep = DECAY_UNITY - decay.detach().round().to(torch.int32)
    return int(keep.item()) if keep.numel() == 1 and _is_stepwise(keep) else keep


def _keep_share(decay: Tensor) -> Tensor:
    return 1 - decay.detach().to(torch.float64).round() / DECAY_UNITY


def keep_fraction(decay: Tensor) -> float | Tensor:
    """Return 1 - decay / 4096 of the rounded decay: a float for one decay, else float32."""
    keep = 1 - decay.detach().round() / DECAY_UNITY
    return float(keep.item()) if keep.numel() == 1 and _is_stepwise(keep) else keep


def _at(keep: int | Tensor, tile: slice) -> int | Tensor:
    return keep if isinstance(keep, int) else keep[tile]


def _start(state: Tensor | None, tile: slice, like: Tensor) -> Tensor:
    if state is not None:
        return state[tile]
    return torch.zeros(tile.stop - tile.start, dtype=torch.int32, device=like.device)


def to_integers(inputs: Tensor, scale: int) -> Tensor:
    """Return int32 state units of sums in SLAYER units, rounded towards zero."""
    return (inputs * scale).to(torch.int32)


def _hand_over(state: Tensor, scale: int) -> Tensor:
    """Pass integers on as the reference does: float32 in SLAYER units, then truncated again.

    Exact for a scale that is a power of two; others can lose a unit, and must do so here too.
    """
    if scale & (scale - 1) == 0:
        return state
    return ((state.to(torch.float32) / scale) * scale).to(torch.int32)


def _filter_backwards_(signal: Tensor, keep: float | Tensor, tile: slice) -> Tensor:
    """Run signal[t] += keep · signal[t+1] from the last step to the first, in place."""
    for step in range(signal.shape[0] - 2, -1, -1):
        if isinstance(keep, float):
            signal[step].add_(signal[step + 1], alpha=keep)
        else:
            signal[step].addcmul_(signal[step + 1], keep[tile])
    return signal


def _decay_gradient(
    filtered: Tensor, states: Tensor, initial: Tensor, has_reset: bool, constants: CubaConstants
) -> Tensor:
    """Return the gradient of a stored decay, one value a column.

    The true one with respect to the decay as a fraction is -sum over t of g[t+1] · y[t] with y
    after the reset; the reference has y before the reset and no minus sign. `filtered` (T, m) is
    the gradient of the input, `states` (T, m) the integrator before any reset in SLAYER
    units, `initial` (m,) its integers before the first step.
    """
    if constants.compat_decay_grad:
        return (filtered[1:] * states[:-1]).sum(0)
    before = states[:-1]
    if has_reset:
        before = before.masked_fill(before * constants.state_scale > constants.level, 0)
    from_start = filtered[0] * initial / constants.state_scale
    return -(filtered[1:] * before).sum(0).add_(from_start)


def _gather(per_tile: list[Tensor], like: Tensor) -> Tensor:
    """Join gradients of one value a column; shared decays get their sum."""
    joined = torch.cat(per_tile)
    return joined.sum(0, keepdim=True) if like.numel() == 1 else joined


class _CubaSpikes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        current_decay: Tensor,
        voltage_decay: Tensor,
        current: Tensor | None,
        voltage: Tensor | None,
        constants: CubaConstants,
        is_late: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        scale = constants.state_scale
        learns_decay = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        ctx.constants, ctx.is_late = constants, is_late
        if is_compilable(inputs):
            spikes, voltages, kept, last_current, last_voltage = run_cuba(
                inputs,
                (_keep_share(current_decay), _keep_share(voltage_decay)),
                (current, voltage),
                constants,
                has_currents=learns_decay,
                is_late=is_late,
            )
            ctx.save_for_backward(voltages, kept, current_decay, voltage_decay, current, voltage)
            ctx.mark_non_differentiable(last_current, last_voltage)
            return spikes, last_current, last_voltage
        current_keep, voltage_keep = keep_integer(current_decay), keep_integer(voltage_decay)
        spikes, voltages = torch.empty_like(inputs), torch.empty_like(inputs)
        currents = torch.empty_like(inputs) if learns_decay else None
        last_current = torch.empty(inputs.shape[1], dtype=torch.int32, device=inputs.device)
        last_voltage = torch.empty_like(last_current)
        for tile in _tiles(inputs):
            weighted = to_integers(inputs[:, tile], scale)
            u, v = _start(current, tile, inputs), _start(voltage, tile, inputs)
            for step, arriving in enumerate(weighted):
                u, v, is_firing = cuba_step(
                    u,
                    v,
                    arriving,
                    current_keep=_at(current_keep, tile),
                    voltage_keep=_at(voltage_keep, tile),
                    level=constants.level,
                    scale=scale,
                )
                voltages[step, tile] = v
                spikes[step, tile] = is_firing
                if currents is not None:
                    currents[step, tile] = u
                v.masked_fill_(is_firing, 0)
            last_current[tile], last_voltage[tile] = u, v
        voltages.div_(scale)
        if constants.is_graded:
            spikes.mul_(voltages)
        if is_late:
            spikes = torch.cat((torch.zeros_like(spikes[:1]), spikes[:-1]))
        if currents is not None:
            currents.div_(scale)
        ctx.save_for_backward(voltages, currents, current_decay, voltage_decay, current, voltage)
        ctx.mark_non_differentiable(last_current, last_voltage)
        return spikes, last_current, last_voltage

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        voltages, currents, current_decay, voltage_decay, current, voltage = ctx.saved_tensors
        constants: CubaConstants = ctx.constants
        numbers = constants.compiled_slope
        if not any(ctx.needs_input_grad[1:3]) and numbers is not None and is_compilable(voltages):
            grad_inputs = run_cuba_back(
                voltages,
                grad,
                (_keep_share(current_decay), _keep_share(voltage_decay)),
                constants,
                numbers,
                is_late=ctx.is_late,
            )
            return grad_inputs, None, None, None, None, None, None
        if ctx.is_late:
            grad = torch.cat((grad[1:], torch.zeros_like(grad[:1])))
        current_keep, voltage_keep = keep_fraction(current_decay), keep_fraction(voltage_decay)
        grad_inputs = torch.empty_like(voltages)
        of_current, of_voltage = [], []
        for tile in _tiles(voltages):
            signal = constants.slope(voltages[:, tile]).mul_(grad[:, tile])
            _filter_backwards_(signal, voltage_keep, tile)
            if ctx.needs_input_grad[2]:
                start = _start(voltage, tile, voltages)
                of_voltage.append(
                    _decay_gradient(signal, voltages[:, tile], start, True, constants)
                )
            _filter_backwards_(signal, current_keep, tile)
            if ctx.needs_input_grad[1]:
                start = _start(current, tile, voltages)
                of_current.append(
                    _decay_gradient(signal, currents[:, tile], start, False, constants)
                )
            grad_inputs[:, tile] = signal
        return (
            grad_inputs,
            _gather(of_current, current_decay) if of_current else None,
            _gather(of_voltage, voltage_decay) if of_voltage else None,
            None,
            None,
            None,
            None,
        )


class _LeakyIntegrator(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        decay: Tensor,
        initial: Tensor | None,
        constants: CubaConstants,
        has_reset: bool,
    ) -> tuple[Tensor, Tensor]:
        keep = keep_integer(decay)
        states = torch.empty_like(inputs)
        final = torch.empty(inputs.shape[1], dtype=torch.int32, device=inputs.device)
        for tile in _tiles(inputs):
            state = _start(initial, tile, inputs)
            for step, arriving in enumerate(to_integers(inputs[:, tile], constants.state_scale)):
                state = decay_towards_zero(state, _at(keep, tile)).add_(arriving)
                states[step, tile] = state
                if has_reset:
                    state.masked_fill_(state > constants.level, 0)
            final[tile] = state
        states.div_(constants.state_scale)
        ctx.constants, ctx.has_reset = constants, has_reset
        ctx.save_for_backward(states if ctx.needs_input_grad[1] else None, decay, initial)
        ctx.mark_non_differentiable(final)
        return states, final

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        states, decay, initial = ctx.saved_tensors
        keep = keep_fraction(decay)
        grad_inputs = grad.clone(memory_format=torch.contiguous_format)
        of_decay = []
        for tile in _tiles(grad):
            signal = _filter_backwards_(grad_inputs[:, tile], keep, tile)
            if ctx.needs_input_grad[1]:
                start = _start(initial, tile, grad)
                of_decay.append(
                    _decay_gradient(signal, states[:, tile], start, ctx.has_reset, ctx.constants)
                )
        grad_decay = _gather(of_decay, decay) if of_decay else None
        return grad_inputs, grad_decay, None, None, None


class _LifSpikes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        tau: float,
        threshold: float,
        surrogate: Surrogate,
        reset_gradient: bool,
    ) -> Tensor:
        spikes, membranes = torch.empty_like(inputs), torch.empty_like(inputs)
        for tile in _tiles(inputs):
            u = torch.zeros_like(inputs[0, tile])
            for step in range(inputs.shape[0]):
                u, is_firing = lif_step(u, inputs[step, tile], tau=tau, threshold=threshold)
                membranes[step, tile] = u
                spikes[step, tile] = is_firing
                u.masked_fill_(is_firing, 0)
        ctx.tau, ctx.threshold = tau, threshold
        ctx.surrogate, ctx.reset_gradient = surrogate, reset_gradient
        ctx.save_for_backward(membranes)
        return spikes

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (membranes,) = ctx.saved_tensors
        grad_inputs = torch.empty_like(membranes)
        for tile in _tiles(membranes):
            u = membranes[:, tile]
            slope = ctx.surrogate.derivative(u, ctx.threshold)
            through = (u <= ctx.threshold).to(u.dtype)
            if ctx.reset_gradient:
                through.addcmul_(u, slope, value=-1.0)
            through.mul_(ctx.tau)
            signal = slope.mul_(grad[:, tile])
            for step in range(signal.shape[0] - 2, -1, -1):
                signal[step].addcmul_(through[step], signal[step + 1])
            grad_inputs[:, tile] = signal
        return grad_inputs, None, None, None, None
