"""Blocks: synapse, neuron and axon together, with SLAYER's names and meaning.

    x -> mask -> synapse (q8 weight) -> batch norm, if any -> neuron
      -> shift by one step, if `delay_shift` -> learned delay, if `delay`

Beside them stand layers without neurons: pools of spikes, and a read-out of currents.

All tensors are time first: (T, N, C, H, W), or (T, N, C) for dense blocks; SLAYER's own layout
is a matter for the ends of a network (`neurodeploy.nn.slayer`).

The first argument of a block says which family it belongs to. A dictionary of SLAYER's
`neuron_params` makes a `CubaLIF` with SLAYER's defaults: weights quantised to 8 bits, spikes
shifted by one step. A ready neuron module, `LIF` for instance, gives a block for training in
floats: no quantisation and no shift, unless asked for.

What differs from lava-dl 0.6.0, on purpose:

- `count_log=True` returns the mean of (x > 0); the reference raises on most blocks.
- `Input()` without a neuron and `persistent_state` with `delay_shift` work; the reference raises.
- `Pool` computes the cases in which SLAYER is right and refuses the others (see `PoolSynapse`).
- The dictionary of `neuron_params` is never changed; `Pool` ignores its `norm`, as SLAYER does.
- Decays that differ between channels follow the channel; the reference spreads them along the
  last spatial axis, so that they only work on (N, C, T).
- `bias`, `batch_norm` and `generator` are additions.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/block/base.py`, `block/cuba.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurodeploy.errors import GraphError
from neurodeploy.nn.functional.recurrence import recurrent_spikes
from neurodeploy.nn.fused import normalized_sums
from neurodeploy.nn.neuron import CubaLIF, SpikingNeuron
from neurodeploy.nn.slayer_parameters import NeuronParams
from neurodeploy.nn.spiking_block import (
    ABSENT,
    OptionalPreHook,
    Output,
    SpikingBlock,
    WeightedBlock,
)
from neurodeploy.nn.synapse import ConvSynapse, DenseSynapse, Pair, PoolSynapse


class Input(SpikingBlock):
    """Where a network begins: passes on, or encodes z = q8(x) · q8(weight) + q8(bias) in spikes.

    With a neuron from `neuron_params`, x is clamped to [-256 / W, 254 / W] by the quantiser.

    Args:
        neuron_params: SLAYER's dictionary, a ready neuron, or None to pass the input on.
        weight: Initial value of a learned factor, a parameter (1,); None for none.
        bias: Initial value of a learned offset, a parameter (1,); None for none.
        delay_shift: Shift by one step; None means True, but False for a ready neuron.
        count_log: Return the mean count as well.
        generator: Draws decays that differ between channels.
    """

    def __init__(
        self,
        neuron_params: NeuronParams | nn.Module | None = None,
        weight: float | None = None,
        bias: float | None = None,
        *,
        delay_shift: bool | None = None,
        count_log: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            neuron_params, delay_shift=delay_shift, count_log=count_log, generator=generator
        )
        self.weight = None if weight is None else nn.Parameter(torch.tensor([float(weight)]))
        self.bias = None if bias is None else nn.Parameter(torch.tensor([float(bias)]))
        self.pre_hook_fx = self.resolve_hook(ABSENT)
        self._input_shape: torch.Size | None = None

    @property
    def shape(self) -> torch.Size | None:
        """Shape of the output without steps and batch; None before the first forward pass."""
        return self._input_shape

    def forward(self, x: Tensor) -> Output:
        """Return (T, N, ...) spikes, or the input itself without a neuron."""
        if self.neuron is not None:
            z = self._hooked(x)
            if self.weight is not None:
                z = z * self._hooked(self.weight)
            if self.bias is not None:
                z = z + self._hooked(self.bias)
            x = self.neuron(z)
        self._input_shape = x.shape[2:]
        return self._leave(x)

    def _hooked(self, value: Tensor) -> Tensor:
        return value if self.pre_hook_fx is None else self.pre_hook_fx(value)


class _MaskedBlock(WeightedBlock):
    """All-to-all connections, some of which may be masked out."""

    synapse: DenseSynapse
    mask: Tensor | None

    def _keep_mask(self, mask: Tensor | None) -> None:
        shape = self.synapse.shape
        if mask is not None:
            if mask.shape[:2] != shape[:2] or mask.numel() != shape.numel():
                raise GraphError(
                    f"mask of shape {tuple(mask.shape)}, {tuple(shape)} as the weight's is "
                    "required."
                )
            mask = mask.reshape(shape)
        self.register_buffer("mask", mask)

    def weighted_sum(self, x: Tensor) -> Tensor:
        """Return what the synapse makes of an input, after the mask has been applied to it."""
        if self.mask is not None:
            self.synapse.apply_mask(self.mask)
        return super().weighted_sum(x)


class Dense(_MaskedBlock):
    """All-to-all connections and a neuron: (T, N, I) to (T, N, O).

    Args:
        neuron_params: SLAYER's dictionary, or a ready neuron.
        in_neurons: Inputs; (W, H) or (W, H, C) to read (T, N, C, H, W).
        out_neurons: Outputs.
        weight_scale: Factor on the initial weights.
        weight_norm: Learn direction and length of the weights apart.
        pre_hook_fx: Applied to the weight; absent: 8 bits, None: nothing.
        delay: Learn a delay for each channel.
        delay_shift: Shift by one step; None means True, but False for a ready neuron.
        mask: (O, I), zeros where there is no connection; written into the weight at each
            forward pass.
        count_log: Return the mean count as well.
        bias: Add a learned bias to the weighted sum.
        batch_norm: Normalise the weighted sum over steps and batch.
        generator: Draws initial values; None for torch's default one.

    Attributes:
        batch_norm: `BatchNorm1d` (`BatchNorm2d` for images), or None.
        mask: Buffer of the weight's shape, or None.
    """

    def __init__(
        self,
        neuron_params: NeuronParams | nn.Module,
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        *,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: OptionalPreHook = ABSENT,
        delay: bool = False,
        delay_shift: bool | None = None,
        mask: Tensor | None = None,
        count_log: bool = False,
        bias: bool = False,
        batch_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(neuron_params, delay, delay_shift, count_log, generator)
        self.synapse = DenseSynapse(
            in_neurons,
            out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
            pre_hook_fx=self.resolve_hook(pre_hook_fx),
            bias=bias,
            generator=generator,
        )
        self._keep_mask(mask)
        if batch_norm:
            is_flat = isinstance(in_neurons, int)
            self.batch_norm = (nn.BatchNorm1d if is_flat else nn.BatchNorm2d)(out_neurons)


class RecurrentDense(Dense):
    """A dense block whose spikes return to it in the next step, through a dense synapse.

        s[t] = neurons(norm(W · x[t]) + R · s[t-1])

    Each forward pass starts without spikes. What the neurons keep or send otherwise, such as
    graded spikes, is refused. `lava-dl` calls the synapses `input_synapse` and `recurrent_synapse`.

    Args:
        neuron_params: See `Dense`, as for all that is not named here.
        in_neurons: Inputs.
        out_neurons: Outputs.

    Attributes:
        recurrent_synapse: `DenseSynapse` without bias, (O, O); its weights are quantised as those
            of `synapse`.
    """

    def __init__(
        self,
        neuron_params: NeuronParams | SpikingNeuron,
        in_neurons: int,
        out_neurons: int,
        *,
        weight_scale: float = 1,
        pre_hook_fx: OptionalPreHook = ABSENT,
        delay_shift: bool | None = None,
        bias: bool = False,
        batch_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            neuron_params,
            in_neurons,
            out_neurons,
            weight_scale=weight_scale,
            pre_hook_fx=pre_hook_fx,
            delay_shift=delay_shift,
            bias=bias,
            batch_norm=batch_norm,
            generator=generator,
        )
        self.recurrent_synapse = DenseSynapse(
            out_neurons,
            out_neurons,
            weight_scale=weight_scale,
            pre_hook_fx=self.resolve_hook(pre_hook_fx),
            generator=generator,
        )

    def fire(self, z: Tensor, *, steps: int | None = None) -> Tensor:
        """Return spikes (T, N, O) for weighted sums of the input; see `WeightedBlock.fire`."""
        if not isinstance(self.neuron, SpikingNeuron):
            raise GraphError(
                f"RecurrentDense: a neuron {type(self.neuron).__name__}, LIF or CubaLIF is "
                "required."
            )
        z = normalized_sums(z, self.batch_norm, steps=steps)
        self.neuron.shape = z.shape[2:]
        return recurrent_spikes(z, self.recurrent_synapse.effective_weight, self.neuron.cell())


class Affine(_MaskedBlock):
    """All-to-all connections and integrators that never spike: a read-out by voltage.

    Args:
        neuron_params: SLAYER's dictionary; the threshold has no effect.
        in_neurons: See `Dense`, as for all that is not named here.
        out_neurons: Outputs.
        dynamics: Return the voltage; False returns the weighted sum.
        count_log: Return None beside the output, as SLAYER does.
    """

    def __init__(
        self,
        neuron_params: NeuronParams,
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        *,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: OptionalPreHook = ABSENT,
        dynamics: bool = True,
        mask: Tensor | None = None,
        count_log: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(neuron_params, delay_shift=False, count_log=count_log, generator=generator)
        self.dynamics = dynamics
        self.synapse = DenseSynapse(
            in_neurons,
            out_neurons,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
            pre_hook_fx=self.resolve_hook(pre_hook_fx),
            generator=generator,
        )
        self._keep_mask(mask)

    def forward(self, x: Tensor) -> Output:
        """Return voltages, or weighted sums without `dynamics`: (T, N, O)."""
        z = self.weighted_sum(x)
        if self.dynamics:
            if not isinstance(self.neuron, CubaLIF):
                raise GraphError(
                    f"Affine: a neuron {type(self.neuron).__name__}, a CubaLIF is required to "
                    "integrate. Give neuron_params, or dynamics=False."
                )
            _, z = self.neuron.dynamics(z, has_threshold=False)
        return (z, None) if self.count_log else z


class Conv(WeightedBlock):
    """Convolution and a neuron: (T, N, I, H, W) to (T, N, O, H', W').

    Args:
        neuron_params: SLAYER's dictionary, or a ready neuron.
        in_features: See `ConvSynapse`, as for all up to `groups`.
        weight_scale: See `Dense`, as for all that follow.
        batch_norm: Normalise the weighted sum over steps, batch and space.

    Attributes:
        synapse: `ConvSynapse`, with kernel_size, stride, padding, dilation (pairs) and groups.
        batch_norm: `BatchNorm2d`, or None.
    """

    synapse: ConvSynapse

    def __init__(
        self,
        neuron_params: NeuronParams | nn.Module,
        in_features: int,
        out_features: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        *,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: OptionalPreHook = ABSENT,
        delay: bool = False,
        delay_shift: bool | None = None,
        count_log: bool = False,
        bias: bool = False,
        batch_norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(neuron_params, delay, delay_shift, count_log, generator)
        self.synapse = ConvSynapse(
            in_features,
            out_features,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
            pre_hook_fx=self.resolve_hook(pre_hook_fx),
            bias=bias,
            generator=generator,
        )
        if batch_norm:
            self.batch_norm = nn.BatchNorm2d(out_features)


class Pool(WeightedBlock):
    """Sum over windows of each channel, and a neuron; the weight is not learned.

    Args:
        neuron_params: SLAYER's dictionary (its `norm` is ignored), or a ready neuron.
        kernel_size: See `PoolSynapse`, as for all up to `weight_norm`.
        pre_hook_fx: See `Dense`, as for all that follow.

    Attributes:
        synapse: `PoolSynapse`, with kernel_size, stride, padding, dilation (pairs).
    """

    synapse: PoolSynapse

    def __init__(
        self,
        neuron_params: NeuronParams | nn.Module,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        *,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: OptionalPreHook = ABSENT,
        delay: bool = False,
        delay_shift: bool | None = None,
        count_log: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if isinstance(neuron_params, Mapping):
            neuron_params = {**neuron_params, "norm": None}
        super().__init__(neuron_params, delay, delay_shift, count_log, generator)
        self.synapse = PoolSynapse(
            kernel_size,
            stride,
            padding,
            dilation,
            weight_scale=weight_scale,
            weight_norm=weight_norm,
            pre_hook_fx=self.resolve_hook(pre_hook_fx),
        )


class Flatten(nn.Module):
    """(T, N, C, H, W) to (T, N, C · H · W), channels slowest; (T, N, C) passes through.

    With `count_log`, None is returned beside it, as SLAYER does.
    """

    def __init__(self, count_log: bool = False) -> None:
        super().__init__()
        self.count_log = count_log
        self.shape: torch.Size | None = None

    def forward(self, x: Tensor) -> Output:
        """Flatten everything behind steps and batch."""
        flat = x.flatten(2)
        self.shape = torch.Size((flat.shape[2], 1, 1))
        return (flat, None) if self.count_log else flat


class Average(nn.Module):
    """Mean over groups of consecutive neurons: (T, N, ...) to (T, N, num_outputs).

    With `count_log`, None is returned beside it, as SLAYER does.
    """

    def __init__(self, num_outputs: int, count_log: bool = False) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.count_log = count_log

    @property
    def shape(self) -> torch.Size:
        """(num_outputs, 1, 1)."""
        return torch.Size((self.num_outputs, 1, 1))

    def forward(self, x: Tensor) -> Output:
        """Average groups; GraphError if the neurons cannot be split evenly."""
        flat = x.flatten(2)
        if flat.shape[2] % self.num_outputs:
            raise GraphError(
                f"Average: {flat.shape[2]} neurons cannot be split into {self.num_outputs} groups."
            )
        mean = flat.reshape(*flat.shape[:2], self.num_outputs, -1).mean(-1)
        return (mean, None) if self.count_log else mean


class WindowPool(nn.Module, ABC):
    """A pool without neurons, over square windows."""

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, N, C, H', W') for (T, N, C, H, W)."""
        pooled = self._pool(x.flatten(0, 1))
        return pooled.view(*x.shape[:2], *pooled.shape[1:])

    @abstractmethod
    def _pool(self, images: Tensor) -> Tensor: ...


class MaxPool(WindowPool):
    """Largest value of each window, never the padding; of binary spikes, whether there is one."""

    def _pool(self, images: Tensor) -> Tensor:
        return functional.max_pool2d(images, self.kernel, self.stride, self.padding)


class AveragePool(WindowPool):
    """Mean of each window, zeros of the padding included."""

    def _pool(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(images, self.kernel, self.stride, self.padding)


class GlobalAveragePool(nn.Module):
    """Mean over space."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, N, C) for (T, N, C, H, W)."""
        return x.mean(dim=(3, 4))


class GlobalAverageReadout(nn.Module):
    """Global average pool over space, then a linear map: currents of the classes.

    y = weight · mean over (H, W) of x + bias, for each step; the output is not integrated.

    Source: branches of Guo et al., "Take A Shortcut Back", arXiv 2401.04486.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.synapse = DenseSynapse(in_features, out_features, bias=bias, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return (T, N, classes) for (T, N, C, H, W), or for (T, N, C)."""
        pooled = x.mean(dim=(3, 4)) if x.dim() == 5 else x
        currents: Tensor = self.synapse(pooled)
        return currents
