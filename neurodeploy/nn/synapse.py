"""Synapses: a weight, its normalisation and quantisation, and the linear map it stands for.

Weights are kept without SLAYER's trailing time axis: 2-D for dense, 4-D for convolution and
pooling. Every map folds the steps into the batch, so that torch sees one big 2-D problem;
images are kept channels-last, which made training a 3x3 convolution 1.3 to 2.2 times faster
than the default order from 16 channels on and cost nothing below.

Source: lava-dl 0.6.0, `lava/lib/dl/slayer/synapse/layer.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurodeploy.errors import GraphError
from neurodeploy.nn.functional.sparse.spike_products import convolve, linear

Pair = tuple[int, int]
PreHook = Callable[[Tensor], Tensor]


def as_pair(value: int | Pair, name: str, *, at_least: int = 1) -> Pair:
    """Return (height, width) for one number or two.

    Raises:
        GraphError: If it is neither, or a number is too small.
    """
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(size, int) and size >= at_least for size in pair):
        raise GraphError(
            f"{name} = {value}, an integer of at least {at_least} or a pair (height, width) "
            "of such is required."
        )
    return pair[0], pair[1]


def _drawn(
    shape: tuple[int, ...], fan_in: int, scale: float, generator: torch.Generator | None
) -> Tensor:
    if min(shape) < 1:
        raise GraphError(f"synapse: weight of shape {shape}, sizes of at least 1 are required.")
    limit = 1 / math.sqrt(fan_in)
    return torch.empty(shape).uniform_(-limit, limit, generator=generator) * scale


class Synapse(nn.Module):
    """A weight and what happens to it before it is used: normalisation, then a hook.

    Args:
        weight: Initial weight, output channels first.
        weight_norm: Learn direction and length apart: w = g · v / |v|, one length an output.
        pre_hook_fx: Applied to the (normalised) weight, a quantiser as a rule; None for nothing.
        bias: Initial bias (O,), or None; SLAYER's synapses have none.
        is_learned: False for a constant weight.

    Attributes:
        weight: Parameter, float32; without weight normalisation only.
        weight_g: Parameter (O, 1, ...), lengths; with weight normalisation only.
        weight_v: Parameter, directions; with weight normalisation only.
    """

    def __init__(
        self,
        weight: Tensor,
        *,
        weight_norm: bool = False,
        pre_hook_fx: PreHook | None = None,
        bias: Tensor | None = None,
        is_learned: bool = True,
    ) -> None:
        super().__init__()
        self.weight_norm_enabled = weight_norm
        self.pre_hook_fx = pre_hook_fx
        if weight_norm:
            lengths = torch.norm_except_dim(weight, 2, 0)
            self.weight_g = nn.Parameter(lengths, requires_grad=is_learned)
            self.weight_v = nn.Parameter(weight, requires_grad=is_learned)
        else:
            self.weight = nn.Parameter(weight, requires_grad=is_learned)
        self.bias = None if bias is None else nn.Parameter(bias)

    @property
    def float_weight(self) -> Tensor:
        """The weight before the hook, differentiable."""
        if not self.weight_norm_enabled:
            return self.weight
        # The kernel behind torch's own weight normalisation: another order of the sum could put
        # a weight on the other side of a rounding boundary than the reference has it.
        return torch._weight_norm(self.weight_v, self.weight_g, 0)

    @property
    def effective_weight(self) -> Tensor:
        """The weight that the map uses: normalised and quantised, differentiable."""
        weight = self.float_weight
        return weight if self.pre_hook_fx is None else self.pre_hook_fx(weight)

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight."""
        return (self.weight_v if self.weight_norm_enabled else self.weight).shape

    def apply_mask(self, mask: Tensor) -> None:
        """Write zeros into the stored weight where a mask of its shape, boolean or 0 / 1, has them.

        With weight normalisation the directions are masked, before the length is taken; the
        reference then ignores its mask.
        """
        with torch.no_grad():
            (self.weight_v if self.weight_norm_enabled else self.weight).mul_(mask)


def _as_images(x: Tensor) -> Tensor:
    """Fold (T, N, C, H, W) into (T · N, C, H, W), channels last."""
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    if tuple(weight.shape[2:]) == (1, 1) and padding == (0, 0) and stride != (1, 1):
        # The same map, and necessary: for a 1x1 kernel with a stride, torch's CPU gradient of the
        # weight reads beyond its buffer for channels-last images (seen in torch 2.14, 2 threads:
        # gradients that differ from call to call, then a corrupted heap).
        x, stride = x[..., :: stride[0], :: stride[1]], (1, 1)
    output = convolve(_as_images(x), weight, bias, stride, padding, dilation, groups)
    return output.view(x.shape[0], x.shape[1], *output.shape[1:])


class DenseSynapse(Synapse):
    """All-to-all connections; the weight is (O, I), or (O, C, H, W) to read images.

    Args:
        in_neurons: Inputs; or (W, H) or (W, H, C) to read whole images.
        out_neurons: Outputs.
        weight_scale: Factor on the initial weights, uniform in ±1 / sqrt(fan_in) before.
        weight_norm: See `Synapse`, as for `pre_hook_fx`.
        bias: Add a learned bias.
        generator: Draws the initial values; None for torch's default one.
    """

    def __init__(
        self,
        in_neurons: int | tuple[int, ...],
        out_neurons: int,
        *,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: PreHook | None = None,
        bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if isinstance(in_neurons, int):
            inputs: tuple[int, ...] = (in_neurons,)
        elif len(in_neurons) in (2, 3):
            width, height, channels = (*in_neurons, 1)[:3]
            inputs = (channels, height, width)
        else:
            raise GraphError(
                f"Dense: in_neurons = {in_neurons}, an integer, (W, H) or (W, H, C) is required."
            )
        fan_in = math.prod(inputs)
        super().__init__(
            _drawn((out_neurons, *inputs), fan_in, weight_scale, generator),
            weight_norm=weight_norm,
            pre_hook_fx=pre_hook_fx,
            bias=_drawn((out_neurons,), fan_in, 1, generator) if bias else None,
        )
        self.in_neurons = in_neurons
        self.out_neurons = out_neurons

    def forward(self, x: Tensor) -> Tensor:
        """Return weighted sums, (T, N, O) or (T, N, O, H', W').

        Args:
            x: (T, N, I); or (T, N, C, H, W), where a 2-D weight acts on every pixel and a 4-D
                one on every window of its size.

        Raises:
            GraphError: If the input does not fit the weight.
        """
        shape = self.shape
        fits = x.dim() == 5 or (x.dim() == 3 and len(shape) == 2)
        if (
            not fits
            or x.shape[2] != shape[1]
            or any(size < needed for size, needed in zip(x.shape[3:], shape[2:], strict=False))
        ):
            raise GraphError(
                f"Dense: input of shape {tuple(x.shape)} does not fit a weight of shape "
                f"{tuple(shape)}; (T, N, {shape[1]}{', H, W' if len(shape) == 4 else ''}) is "
                "required. Put a Flatten before a Dense that follows a Conv."
            )
        weight = self.effective_weight
        if x.dim() == 3:
            return linear(x, weight, self.bias)
        if weight.dim() == 2:
            weight = weight[:, :, None, None]
        return _convolve(x, weight, self.bias, (1, 1), (0, 0), (1, 1), 1)


class ConvSynapse(Synapse):
    """Convolution; the weight is (O, I / groups, kH, kW).

    Args:
        in_features: Input channels.
        out_features: Output channels.
        kernel_size: Number or (height, width); so are stride, padding and dilation.
        stride: Step between windows.
        padding: Zeros around the image.
        dilation: Step within a window.
        groups: Channel groups.
        weight_scale: See `DenseSynapse`, as for all that follow.
    """

    def __init__(
        self,
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
        pre_hook_fx: PreHook | None = None,
        bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        if groups < 1 or in_features % groups or out_features % groups:
            raise GraphError(
                f"Conv: groups = {groups} must divide in_features = {in_features} and "
                f"out_features = {out_features}."
            )
        kernel = as_pair(kernel_size, "Conv: kernel_size")
        shape = (out_features, in_features // groups, *kernel)
        fan_in = math.prod(shape[1:])
        super().__init__(
            _drawn(shape, fan_in, weight_scale, generator),
            weight_norm=weight_norm,
            pre_hook_fx=pre_hook_fx,
            bias=_drawn((out_features,), fan_in, 1, generator) if bias else None,
        )
        self.in_channels, self.out_channels, self.groups = in_features, out_features, groups
        self.kernel_size = kernel
        self.stride = as_pair(stride, "Conv: stride")
        self.padding = as_pair(padding, "Conv: padding", at_least=0)
        self.dilation = as_pair(dilation, "Conv: dilation")

    def forward(self, x: Tensor) -> Tensor:
        """Return weighted sums (T, N, O, H', W') for (T, N, I, H, W).

        Raises:
            GraphError: If the input is no stack of images, or its channels or size do not fit.
        """
        if x.dim() != 5 or x.shape[2] != self.in_channels:
            raise GraphError(
                f"Conv: input of shape {tuple(x.shape)}, (T, N, {self.in_channels}, H, W) "
                "is required."
            )
        for size, kernel, padding, dilation in zip(
            x.shape[3:], self.kernel_size, self.padding, self.dilation, strict=True
        ):
            if size + 2 * padding < dilation * (kernel - 1) + 1:
                raise GraphError(
                    f"Conv: input of {size} pixels with padding {padding} is smaller than a "
                    f"kernel of {kernel} with dilation {dilation}."
                )
        return _convolve(
            x,
            self.effective_weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


class PoolSynapse(Synapse):
    """Weighted sum over windows of each channel; the weight (1, 1, kH, kW) is not learned.

    The reference pads an odd size at the end with (size mod kernel) zeros and then merges the
    channels into one tall image, so that its windows stay inside a channel only if stride and
    kernel have the same height, there is no vertical padding or dilation, and the padded height
    is a multiple of the kernel's. Exactly those cases are computed here, as the reference does;
    the others, in which it mixes channels or fails, are refused.

    Args:
        kernel_size: Number or (height, width); so are stride, padding and dilation.
        stride: None for the kernel size.
        padding: Zeros around the image.
        dilation: Step within a window.
        weight_scale: Value of the weight.
        weight_norm: See `Synapse`, as for `pre_hook_fx`.
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        *,
        weight_scale: float = 1,
        weight_norm: bool = False,
        pre_hook_fx: PreHook | None = None,
    ) -> None:
        kernel = as_pair(kernel_size, "Pool: kernel_size")
        super().__init__(
            torch.full((1, 1, *kernel), float(weight_scale)),
            weight_norm=weight_norm,
            pre_hook_fx=pre_hook_fx,
            is_learned=False,
        )
        self.kernel_size = kernel
        self.stride = kernel if stride is None else as_pair(stride, "Pool: stride")
        self.padding = as_pair(padding, "Pool: padding", at_least=0)
        self.dilation = as_pair(dilation, "Pool: dilation")
        if self.stride[0] != kernel[0] or self.padding[0] or (kernel[0] > 1 < self.dilation[0]):
            raise GraphError(
                f"Pool: height of kernel {kernel[0]}, stride {self.stride[0]}, padding "
                f"{self.padding[0]}, dilation {self.dilation[0]} would mix channels in SLAYER. "
                "Use a stride equal to the kernel, padding 0 and dilation 1."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return weighted sums (T, N, C, H', W') for (T, N, C, H, W).

        Raises:
            GraphError: If the input is no stack of images or its height does not fit.
        """
        if x.dim() != 5:
            raise GraphError(f"Pool: input of shape {tuple(x.shape)}, (T, N, C, H, W) is required.")
        steps, batch, channels, height, width = x.shape
        extra = (height % self.kernel_size[0], width % self.kernel_size[1])
        if (height + extra[0]) % self.kernel_size[0]:
            raise GraphError(
                f"Pool: input height {height} with kernel height {self.kernel_size[0]}: SLAYER "
                f"pads it to {height + extra[0]}, which is no multiple, and mixes channels. "
                "Use a kernel that divides the height."
            )
        images = functional.pad(x, (0, extra[1], 0, extra[0])) if any(extra) else x
        output = functional.conv2d(
            images.reshape(steps * batch * channels, 1, *images.shape[3:]),
            self.effective_weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
        )
        return output.view(steps, batch, channels, *output.shape[2:])
