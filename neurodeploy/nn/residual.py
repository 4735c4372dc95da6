"""Residual blocks: two 3x3 convolutions f and a skip connection around them.

    standard   o = g(f(x) + x): one layer of neurons g reads both; spikes in, spikes out
    ms         o = f(g(x)) + x: pre-activation; currents in, currents out
    sew        o = g(f(x)) + x: spikes add up to integers, which no binary axon can send

f is convolution, norm, neurons, convolution, norm. Where channels or size change, the skip is a
1x1 convolution with norm: of x in "standard" and "sew" (there with neurons), of g(x) in "ms", as
in He et al.'s pre-activation networks, so that every convolution reads spikes.

All tensors are time first: (T, N, C, H, W).

Source: standard: Guo et al., "Take A Shortcut Back", arXiv 2401.04486, and Zheng et al., AAAI
2021. ms: Hu et al., "Advancing Spiking Neural Networks Toward Deep Residual Learning", 2021; He
et al., "Identity Mappings in Deep Residual Networks", 2016. sew: Fang et al., "Deep Residual
Learning in Spiking Neural Networks", NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neurodeploy.nn.batch_norm import affine_norm, batch_normalized, make_batch_norm
from neurodeploy.nn.blocks import Conv
from neurodeploy.nn.fused import normalized_spikes
from neurodeploy.nn.neuron import neuron_of
from neurodeploy.nn.spiking_block import SpikingBlock
from neurodeploy.nn.synapse import ConvSynapse
from neurodeploy.recipes.network_sections import NormKind
from neurodeploy.recipes.training_sections import NeuronSection


class Neurons(SpikingBlock):
    """Neurons without a synapse: currents in, spikes out."""

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes of the shape of the currents."""
        assert self.neuron is not None
        spikes: Tensor = self.neuron(x)
        return spikes


class NormalizedConv(nn.Module):
    """A convolution and a batch norm, without neurons: (T, N, I, H, W) to currents.

    Args:
        synapse: The convolution.
        batch_norm: The batch norm.

    Attributes:
        synapse: As given.
        batch_norm: As given.
    """

    def __init__(self, synapse: ConvSynapse, batch_norm: nn.Module) -> None:
        super().__init__()
        self.synapse = synapse
        self.batch_norm = batch_norm

    def forward(self, x: Tensor) -> Tensor:
        """Return currents (T, N, O, H', W')."""
        z: Tensor = self.synapse(x)
        return batch_normalized(z.flatten(0, 1), self.batch_norm).view(z.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How a network's neurons, norms and weights are made.

    Attributes:
        neuron: What a recipe says about neurons.
        norm: Kind of batch norm.
        steps: T.
        generator: Draws initial weights.
    """

    neuron: NeuronSection
    norm: NormKind
    steps: int
    generator: torch.Generator

    def make_norm(self, channels: int, *, is_spatial: bool = True, alpha: float = 1.0) -> nn.Module:
        """Return a batch norm; see `make_batch_norm`."""
        return make_batch_norm(
            self.norm,
            channels,
            is_spatial=is_spatial,
            threshold=self.neuron.threshold,
            steps=self.steps,
            alpha=alpha,
        )

    def make_neurons(self) -> Neurons:
        """Return neurons without a synapse."""
        return Neurons(neuron_of(self.neuron))

    def make_conv(
        self, in_channels: int, channels: int, kernel: int, *, stride: int, alpha: float = 1.0
    ) -> Conv:
        """Return a convolution with batch norm and neurons; the padding keeps the size."""
        neuron = neuron_of(self.neuron)
        block = Conv(
            neuron,
            in_channels,
            channels,
            kernel,
            stride,
            kernel // 2,
            pre_hook_fx=neuron.weight_hook,
            generator=self.generator,
        )
        block.batch_norm = self.make_norm(channels, alpha=alpha)
        return block

    def make_normalized(
        self, in_channels: int, channels: int, kernel: int, *, stride: int, alpha: float
    ) -> NormalizedConv:
        """Return a convolution with batch norm, without neurons."""
        synapse = ConvSynapse(
            in_channels,
            channels,
            kernel,
            stride,
            kernel // 2,
            pre_hook_fx=neuron_of(self.neuron).weight_hook,
            generator=self.generator,
        )
        return NormalizedConv(synapse, self.make_norm(channels, alpha=alpha))


def _needs_projection(in_channels: int, channels: int, stride: int) -> bool:
    return in_channels != channels or stride != 1


def _silence(batch_norm: nn.Module | None) -> None:
    """Start with a current of zero."""
    norm = None if batch_norm is None else affine_norm(batch_norm)
    assert norm is not None  # every residual block has batch norm
    nn.init.zeros_(norm.weight)


class StandardBlock(nn.Module):
    """o = g(f(x) + x): (T, N, I, H, W) spikes to (T, N, O, H', W') spikes.

    Args:
        in_channels: I.
        channels: O.
        stride: Of the first convolution and of the projection.
        parts: Makes neurons, norms and weights.
        alpha: Share of the threshold for each of the two currents.
        zero_init: Start with f = 0.

    Attributes:
        conv1: First convolution of f, with neurons.
        conv2: Second convolution of f, a current.
        projection: 1x1 convolution of the skip, a current; None for the identity.
        neurons: g.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        parts: Parts,
        alpha: float,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = parts.make_conv(in_channels, channels, 3, stride=stride)
        self.conv2 = parts.make_normalized(channels, channels, 3, stride=1, alpha=alpha)
        self.projection = (
            parts.make_normalized(in_channels, channels, 1, stride=stride, alpha=alpha)
            if _needs_projection(in_channels, channels, stride)
            else None
        )
        self.neurons = parts.make_neurons()
        if zero_init:
            _silence(self.conv2.batch_norm)

    def forward_with_spikes(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output, and the spikes of each layer of neurons; "" names the block itself."""
        inner = self.conv1(x)
        assert self.neurons.neuron is not None
        output = normalized_spikes(
            self.conv2.synapse(inner),
            self.conv2.batch_norm,
            self.neurons.neuron,
            skip=x if self.projection is None else self.projection(x),
        )
        return output, {"conv1": inner, "": output}

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes."""
        return self.forward_with_spikes(x)[0]


class PreActivationBlock(nn.Module):
    """o = f(g(x)) + x, or + projection(g(x)): currents to currents.

    Args:
        in_channels: I; see `StandardBlock`.
        channels: O.
        stride: Of the first convolution and of the projection.
        parts: Makes neurons, norms and weights.
        alpha: Share of the threshold for each of the two currents.
        zero_init: Start with f = 0.

    Attributes:
        entry: g.
        conv1: First convolution of f, with neurons.
        conv2: Second convolution of f, a current.
        projection: 1x1 convolution of g(x), a current; None for the identity, of x.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        parts: Parts,
        alpha: float,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.entry = parts.make_neurons()
        self.conv1 = parts.make_conv(in_channels, channels, 3, stride=stride)
        self.conv2 = parts.make_normalized(channels, channels, 3, stride=1, alpha=alpha)
        self.projection = (
            parts.make_normalized(in_channels, channels, 1, stride=stride, alpha=alpha)
            if _needs_projection(in_channels, channels, stride)
            else None
        )
        if zero_init:
            _silence(self.conv2.batch_norm)

    def forward_with_spikes(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output, and the spikes of each layer of neurons."""
        entry = self.entry(x)
        inner = self.conv1(entry)
        output = self.conv2(inner) + (x if self.projection is None else self.projection(entry))
        return output, {"entry": entry, "conv1": inner}

    def forward(self, x: Tensor) -> Tensor:
        """Return currents."""
        return self.forward_with_spikes(x)[0]


class SpikeElementWiseBlock(nn.Module):
    """o = g(f(x)) + x: integer spikes, which grow from block to block.

    Args:
        in_channels: I.
        channels: O.
        stride: Of the first convolution and of the projection.
        parts: Makes neurons, norms and weights.
        zero_init: Start with g(f(x)) = 0, the identity.

    Attributes:
        conv1: First convolution, with neurons.
        conv2: Second convolution, with neurons.
        projection: 1x1 convolution of the skip, with neurons; None for the identity.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        parts: Parts,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = parts.make_conv(in_channels, channels, 3, stride=stride)
        self.conv2 = parts.make_conv(channels, channels, 3, stride=1)
        self.projection = (
            parts.make_conv(in_channels, channels, 1, stride=stride)
            if _needs_projection(in_channels, channels, stride)
            else None
        )
        if zero_init:
            _silence(self.conv2.batch_norm)

    def forward_with_spikes(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output, and the spikes of each layer of neurons."""
        inner = self.conv1(x)
        outer = self.conv2(inner)
        spikes = {"conv1": inner, "conv2": outer}
        if self.projection is None:
            return outer + x, spikes
        spikes["projection"] = skip = self.projection(x)
        return outer + skip, spikes

    def forward(self, x: Tensor) -> Tensor:
        """Return integer spikes."""
        return self.forward_with_spikes(x)[0]


ResidualBlock = StandardBlock | PreActivationBlock | SpikeElementWiseBlock
