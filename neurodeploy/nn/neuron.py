"""Spiking neurons as torch modules: SLAYER's CUBA-LIF and the paper's LIF.

They take weighted sums (T, N, C, ...), time first, and give spikes of the same shape. The
arithmetic is in `neurodeploy.nn.functional.dynamics`; these modules hold parameters and state, and
answer for their kind whatever differs between kinds when a network is built, traced or fine-tuned.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurodeploy.errors import GraphError, TraceError
from neurodeploy.fixedpoint import DECAY_UNITY
from neurodeploy.ir.float_layers import Cuba, FiringNeuron
from neurodeploy.nn.functional.cuba_loops import CubaConstants
from neurodeploy.nn.functional.dynamics import cuba_spikes, leaky_integrate, lif_spikes
from neurodeploy.nn.functional.quantizer import EightBitQuantizer
from neurodeploy.nn.functional.recurrence import Cell, CubaCell, LifCell
from neurodeploy.nn.functional.rows import Rows, checked_input
from neurodeploy.nn.functional.surrogate import SURROGATES, Exponential, Surrogate
from neurodeploy.nn.slayer_parameters import CHANNEL_AXIS, Decay, DeviceParams
from neurodeploy.recipes.training_sections import (
    CubaNeuronSection,
    LifNeuronSection,
    NeuronSection,
)

STATE_UNITS = 64
"""State units in one weight unit: S = 64 · W."""


class SpikingNeuron(nn.Module, ABC):
    """A kind of neuron that networks of recipes are built of.

    Attributes:
        has_bias: Whether synapses without batch norm that lead to such neurons have a bias.
        surrogate: Stand-in for the derivative of the spike.
        shape: (C, ...) of the last forward pass, None before the first.
        weight_hook: Applied to weights that lead to such neurons: a quantiser, or None.
    """

    has_bias: ClassVar[bool]
    surrogate: Surrogate
    shape: torch.Size | None = None
    weight_hook: Callable[[Tensor], Tensor] | None = None

    def reset_state(self) -> None:
        """Forget what was kept between forward passes; a neuron that keeps nothing does nothing."""

    @abstractmethod
    def cell(self) -> Cell:
        """Return the neurons as a recurrent layer runs them, step by step.

        Raises:
            GraphError: If they do something that such a layer cannot.
        """

    @abstractmethod
    def to_graph(self, where: str, *, is_on_grid: bool) -> FiringNeuron:
        """Return the neuron as a layer of the float graph.

        Args:
            where: Name of the layer, for complaints.
            is_on_grid: Whether what arrives is made of weights as `weight_hook` leaves them.

        Raises:
            TraceError: If it does something that the graph cannot express.
        """


def neuron_of(section: NeuronSection) -> SpikingNeuron:
    """Return a neuron as a recipe's [neuron] describes it."""
    parameters = asdict(section)
    del parameters["model"]
    match section:
        case LifNeuronSection():
            surrogate = parameters.pop("surrogate")
            return LIF(**parameters, surrogate=SURROGATES[surrogate.pop("name")](**surrogate))
        case CubaNeuronSection():
            return CubaLIF(**parameters)


class LIF(SpikingNeuron):
    """The paper's leaky integrate-and-fire neuron, in floats, with hard reset.

        u_pre[t] = tau · u[t-1] + x[t],  o[t] = [u_pre[t] > V_th],  u[t] = u_pre[t] · (1 - o[t])

    Every forward pass starts at u = 0. This is CUBA-LIF with full current decay and voltage
    decay 1 - tau; `cx_current_decay` and `cx_voltage_decay` are those decays in the chip's
    integers, for deployment. Training itself rounds nothing.

    Args:
        threshold: V_th, above 0.
        tau: Share of the membrane kept from step to step, in [0, 1].
        surrogate: See `SpikingNeuron`.
        reset_gradient: Differentiate through the reset as well; False treats o as a constant
            there.

    Source: Guo et al., "Take A Shortcut Back", arXiv 2401.04486, eqs. 1-2.
    """

    has_bias = True

    def __init__(
        self, threshold: float, tau: float, surrogate: Surrogate, *, reset_gradient: bool = True
    ) -> None:
        super().__init__()
        if not (math.isfinite(threshold) and threshold > 0):
            raise GraphError(f"LIF: threshold = {threshold}, a number above 0 is required.")
        if not 0 <= tau <= 1:
            raise GraphError(f"LIF: tau = {tau}, a number in [0, 1] is required.")
        self.threshold = float(threshold)
        self.tau = float(tau)
        self.surrogate = surrogate
        self.reset_gradient = reset_gradient

    @property
    def cx_current_decay(self) -> int:
        """Current decay in 1/4096: all of it."""
        return DECAY_UNITY

    @property
    def cx_voltage_decay(self) -> int:
        """Voltage decay in 1/4096, rounded."""
        return round((1 - self.tau) * DECAY_UNITY)

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes, 0 or 1, for weighted sums (T, N, C, ...), of their shape and dtype.

        Raises:
            GraphError: If x is not a float tensor of at least three axes.
        """
        x = checked_input(x, "LIF")
        self.shape = x.shape[2:]
        rows = Rows.of(x)
        spikes = lif_spikes(
            rows.flatten(x),
            tau=self.tau,
            threshold=self.threshold,
            surrogate=self.surrogate,
            reset_gradient=self.reset_gradient,
        )
        return rows.restore(spikes)

    def cell(self) -> LifCell:
        """Return the neurons as a recurrent layer runs them."""
        return LifCell(
            tau=self.tau,
            threshold=self.threshold,
            surrogate=self.surrogate,
            reset_gradient=self.reset_gradient,
        )

    def to_graph(self, where: str, *, is_on_grid: bool) -> Cuba:
        """Return CUBA neurons with full current decay."""
        return Cuba(threshold=self.threshold, current_decay=1.0, voltage_decay=1.0 - self.tau)

    def extra_repr(self) -> str:
        """Show the parameters in the module's printed form."""
        return (
            f"threshold={self.threshold}, tau={self.tau}, surrogate={self.surrogate}, "
            f"reset_gradient={self.reset_gradient}"
        )


class CubaLIF(SpikingNeuron):
    """SLAYER's current-based LIF neuron: integer state, bit for bit; see `functional.dynamics`.

    W = `scale` weight units make one SLAYER unit, S = 64 · W state units do. The threshold is
    truncated to θ = trunc(threshold · W) / W, and a neuron spikes when V > θ · S.

    Args:
        threshold: SLAYER units.
        current_decay: Share of the current lost in a step, in [0, 1]. With `shared_param=False`
            a pair (min, max), or a number for ±1 % around it.
        voltage_decay: The same for the voltage.
        tau_grad: Width of SLAYER's surrogate.
        scale_grad: Height of SLAYER's surrogate.
        scale: W.
        norm: Makes the module that normalises the current, time first; its `pre_hook_fx` is set
            to the 8-bit quantiser.
        dropout: Module applied to the spikes, time first.
        shared_param: One decay for all; False draws one a channel at the first forward pass.
        persistent_state: Start each forward pass where the last one ended, unless the batch
            size changes. Kept is the current before the norm, unlike in lava-dl, so that running
            in pieces equals running as a whole.
        requires_grad: Learn the decays.
        graded_spike: Emit the voltage instead of 1.
        surrogate: Use this instead of SLAYER's exponential.
        compat_decay_grad: Give the decays the gradient lava-dl gives them: of wrong sign, with
            the voltage before the reset. By default they receive the derivative with respect to
            the decay as a fraction, on the scale lava-dl uses, so that learning rates carry over.
        compat_threshold: lava-dl compares in float32, where from θ · S = 2**18 on V = θ · S
            spikes as well; True reproduces that. The chip, and the default, never spikes there.
        generator: Draws the decays of `shared_param=False`; None for torch's default one.

    Attributes:
        current_decay: Parameter, float32, decay · 4096, unrounded: (1,), or (C,).
        voltage_decay: The same.
        scale, w_scale, s_scale, p_scale, weight_exponent, ref_delay: Of lava-dl: W, W, S, 4096, 0
            for S = 64 · W, and 1 for no refractory delay.

    Raises:
        GraphError: For a threshold below one weight unit, or decays of the wrong form.

    Source: lava-dl 0.6.0, `lava/lib/dl/slayer/neuron/cuba.py`, `neuron/base.py`.
    """

    has_bias = False  # as SLAYER's blocks
    current_state: Tensor | None
    voltage_state: Tensor | None

    def __init__(
        self,
        threshold: float,
        current_decay: Decay,
        voltage_decay: Decay,
        tau_grad: float = 1,
        scale_grad: float = 1,
        scale: int = 64,
        norm: Callable[[], nn.Module] | None = None,
        dropout: nn.Module | None = None,
        shared_param: bool = True,
        persistent_state: bool = False,
        requires_grad: bool = False,
        graded_spike: bool = False,
        *,
        surrogate: Surrogate | None = None,
        compat_decay_grad: bool = False,
        compat_threshold: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.scale = self.w_scale = int(scale)
        self.s_scale, self.p_scale = self.w_scale * STATE_UNITS, DECAY_UNITY
        self.weight_exponent, self.ref_delay = 0, 1
        self.weight_hook = self.quantize_8bit = EightBitQuantizer(self.w_scale)
        self.threshold = int(threshold * self.w_scale) / self.w_scale
        if self.threshold <= 0:
            raise GraphError(
                f"CubaLIF: threshold = {threshold} at scale {self.w_scale}, "
                f"at least {1 / self.w_scale} is required."
            )
        self.threshold_eps = 0.01 / self.s_scale
        self.surrogate = surrogate or Exponential(float(tau_grad), float(scale_grad))
        if graded_spike and not isinstance(self.surrogate, Exponential):
            raise GraphError(
                f"CubaLIF: graded_spike with surrogate '{self.surrogate.name}', "
                "'exponential' is required."
            )
        self.shared_param = shared_param
        self.persistent_state = persistent_state
        self.requires_grad = requires_grad
        self.graded_spike = graded_spike
        self.compat_decay_grad = compat_decay_grad
        self.compat_threshold = compat_threshold
        self.drop = dropout
        self.norm = None if norm is None else norm()
        if hasattr(self.norm, "pre_hook_fx"):
            object.__setattr__(self.norm, "pre_hook_fx", self.quantize_8bit)

        self._ranges = [
            _decay_range(value, name, shared_param)
            for value, name in ((current_decay, "current_decay"), (voltage_decay, "voltage_decay"))
        ]
        stored = [torch.tensor([low * DECAY_UNITY]) for low, _ in self._ranges]
        self.current_decay = nn.Parameter(stored[0], requires_grad=requires_grad)
        self.voltage_decay = nn.Parameter(stored[1], requires_grad=requires_grad)
        self._is_drawn = shared_param
        self._is_loaded = False
        # A seed and not the generator: modules are copied, generators cannot be.
        self._seed = (
            0 if shared_param else int(torch.randint(2**62, (), generator=generator).item())
        )
        self.register_buffer("current_state", None, persistent=False)
        self.register_buffer("voltage_state", None, persistent=False)
        self.clamp()

    @property
    def v_th_mant(self) -> int:
        """Threshold in weight units."""
        return int(self.threshold * self.w_scale)

    @property
    def cx_current_decay(self) -> int | npt.NDArray[np.int64]:
        """Current decay in 1/4096, rounded half to even: an int, or (C,) int64."""
        return _integer_decay(self.current_decay)

    @property
    def cx_voltage_decay(self) -> int | npt.NDArray[np.int64]:
        """Voltage decay in 1/4096, rounded half to even: an int, or (C,) int64."""
        return _integer_decay(self.voltage_decay)

    @property
    def device_params(self) -> DeviceParams:
        """The group as the chip sees it."""
        return {
            "type": "CUBA",
            "iDecay": self.cx_current_decay,
            "vDecay": self.cx_voltage_decay,
            "vThMant": self.v_th_mant,
            "refDelay": self.ref_delay,
            "gradedSpike": self.graded_spike,
        }

    @property
    def constants(self) -> CubaConstants:
        """The parameters as the loops of `nn.functional.dynamics` take them."""
        level = self.v_th_mant * STATE_UNITS
        if self.compat_threshold and float(np.float32(level + 0.01)) <= level:
            level -= 1
        return CubaConstants(
            state_scale=self.s_scale,
            level=level,
            threshold=self.threshold,
            margin=self.threshold_eps,
            surrogate=self.surrogate,
            is_graded=self.graded_spike,
            compat_decay_grad=self.compat_decay_grad,
        )

    def forward(self, x: Tensor, *, is_late: bool = False) -> Tensor:
        """Return spikes, 0 or 1, or 0 or the voltage with `graded_spike`.

        Args:
            x: (T, N, C, ...) float32, weighted sums in SLAYER units.
            is_late: Return them a step later: zeros first, and not the last.

        Raises:
            GraphError: If the shape differs from that of the first forward pass.
        """
        x = checked_input(x, "CubaLIF")
        rows = self._prepare(x)
        decay = rows.spread(self.current_decay)
        if self.norm is not None:
            x, current = self._current(x, rows, decay)
            rows = Rows.of(x)
            decay = torch.full((1,), float(DECAY_UNITY), device=x.device)
        spikes, final_current, final_voltage = cuba_spikes(
            rows.flatten(x),
            decay,
            rows.spread(self.voltage_decay),
            self.constants,
            current=None if self.norm is not None else rows.flatten_state(self.current_state),
            voltage=rows.flatten_state(self.voltage_state),
            is_late=is_late,
        )
        if self.norm is None:
            current = rows.restore_state(final_current)
        self._keep(current, rows.restore_state(final_voltage))
        output = rows.restore(spikes)
        return output if self.drop is None else self.drop(output)

    def dynamics(self, x: Tensor, *, has_threshold: bool = True) -> tuple[Tensor, Tensor]:
        """Return current (after the norm) and voltage, both before any reset and differentiable.

        Args:
            x: As for `forward`, and so are the results.
            has_threshold: False never resets: the affine read-out.
        """
        x = checked_input(x, "CubaLIF")
        rows = self._prepare(x)
        current, final_current = self._current(x, rows, rows.spread(self.current_decay))
        rows = Rows.of(current)
        voltage, final_voltage = leaky_integrate(
            rows.flatten(current),
            rows.spread(self.voltage_decay),
            self.constants,
            has_reset=has_threshold,
            initial=rows.flatten_state(self.voltage_state),
        )
        self._keep(final_current, rows.restore_state(final_voltage))
        return current, rows.restore(voltage)

    def clamp(self) -> None:
        """Limit the stored decays to [0, 4096], in place."""
        with torch.no_grad():
            self.current_decay.clamp_(0, DECAY_UNITY)
            self.voltage_decay.clamp_(0, DECAY_UNITY)

    def reset_state(self) -> None:
        """Forget what `persistent_state` kept: the next forward pass starts at zero."""
        self.current_state = self.voltage_state = None

    def cell(self) -> CubaCell:
        """Return the neurons as a recurrent layer runs them."""
        refused = {
            "dropout": self.drop is not None,
            "norm": self.norm is not None,
            "graded_spike": self.graded_spike,
            "persistent_state": self.persistent_state,
            "requires_grad": self.requires_grad,
            "shared_param=False": not self.shared_param,
        }
        if found := [name for name, is_found in refused.items() if is_found]:
            raise GraphError(
                f"CubaLIF: {', '.join(found)} in a recurrent layer, which has plain neurons of one "
                "kind only. Leave it out."
            )
        return CubaCell(
            current_decay=self.current_decay,
            voltage_decay=self.voltage_decay,
            constants=self.constants,
        )

    def to_graph(self, where: str, *, is_on_grid: bool) -> Cuba:
        """Return CUBA neurons with the decays as the chip has them."""
        refusals = {
            "dropout": (self.drop is not None, "Train without, or set it to None afterwards"),
            "norm": (self.norm is not None, "Use batch_norm of the block"),
            "graded_spike": (self.graded_spike, "The deployed neuron sends spikes of 1"),
            "persistent_state": (self.persistent_state, "Every sample starts from rest"),
            "shared_param=False": (not self.shared_param, "Use one decay for the whole layer"),
        }
        for found, (is_found, advice) in refusals.items():
            if is_found:
                raise TraceError(f"{where}: {found} has no counterpart in the graph. {advice}.")
        return Cuba(
            threshold=self.threshold,
            current_decay=int(self.cx_current_decay) / DECAY_UNITY,
            voltage_decay=int(self.cx_voltage_decay) / DECAY_UNITY,
            scale=self.w_scale if is_on_grid else None,
        )

    def extra_repr(self) -> str:
        """Show the parameters in the module's printed form."""
        return (
            f"threshold={self.threshold}, current_decay={self.cx_current_decay}, "
            f"voltage_decay={self.cx_voltage_decay}, scale={self.w_scale}, "
            f"surrogate={self.surrogate}"
        )

    def _current(self, x: Tensor, rows: Rows, decay: Tensor) -> tuple[Tensor, Tensor]:
        states, final = leaky_integrate(
            rows.flatten(x),
            decay,
            self.constants,
            initial=rows.flatten_state(self.current_state),
        )
        current = rows.restore(states)
        if self.norm is not None:
            current = self.norm(current)
        return current, rows.restore_state(final)

    def _prepare(self, x: Tensor) -> Rows:
        if self.shape is None:
            self.shape = x.shape[2:]
        elif x.shape[2:] != self.shape:
            raise GraphError(
                f"CubaLIF: input of shape (T, N, {', '.join(map(str, x.shape[2:]))}), the first "
                f"one had (T, N, {', '.join(map(str, self.shape))}). Use one shape a neuron group."
            )
        channels = x.shape[CHANNEL_AXIS]
        if not self._is_drawn:
            self._is_drawn = True
            self._draw(channels)
        if self.current_decay.numel() not in (1, channels):
            raise GraphError(
                f"CubaLIF: input has {channels} channels, "
                f"the decays have {self.current_decay.numel()}."
            )
        if self.requires_grad:
            self.clamp()
        state = self.current_state
        if not self.persistent_state or (state is not None and state.shape != x.shape[1:]):
            self.reset_state()
        return Rows.of(x)

    def _draw(self, channels: int) -> None:
        if self._is_loaded and channels == 1:
            return
        generator = torch.Generator().manual_seed(self._seed)
        for parameter, (low, high) in zip(
            (self.current_decay, self.voltage_decay), self._ranges, strict=True
        ):
            drawn = low + (high - low) * torch.rand(channels, generator=generator)
            parameter.data = (DECAY_UNITY * drawn).to(parameter.device)
        self.clamp()

    def _keep(self, current: Tensor, voltage: Tensor) -> None:
        if self.persistent_state:
            self.current_state, self.voltage_state = current, voltage

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take the stored shape: a decay has one value until drawn, then one a channel."""
        if not self.shared_param:
            for name in ("current_decay", "voltage_decay"):
                found = state_dict.get(f"{prefix}{name}")
                if not isinstance(found, Tensor) or found.dim() != 1:
                    continue
                if self.shape is None or found.numel() == self.shape[0]:
                    parameter = getattr(self, name)
                    parameter.data = parameter.new_zeros(found.shape)
                    self._is_drawn = found.numel() > 1
                    self._is_loaded = True
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _decay_range(decay: Decay, name: str, shared_param: bool) -> tuple[float, float]:
    if isinstance(decay, int | float):
        value = float(decay)
        low, high = (value, value) if shared_param else (value * 0.99, value * 1.01)
    elif shared_param or len(decay) != 2:
        allowed = "a number" if shared_param else "a number or a pair (min, max)"
        raise GraphError(
            f"CubaLIF: {name} = {decay} with shared_param={shared_param}, {allowed} is required."
        )
    else:
        low, high = float(decay[0]), float(decay[1])
    if not (math.isfinite(low) and math.isfinite(high)):
        raise GraphError(f"CubaLIF: {name} = {decay}, finite numbers are required.")
    return low, high


def _integer_decay(stored: Tensor) -> int | npt.NDArray[np.int64]:
    rounded = stored.detach().clamp(0, DECAY_UNITY).round().to(torch.int64).cpu().numpy()
    return int(rounded[0]) if rounded.size == 1 else rounded
