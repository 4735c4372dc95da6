"""Residual blocks, and how the layers of a recipe become blocks.

A residual block is two 3x3 convolutions f and a skip connection around them.

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

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from neurodeploy.nn.batch_norm import affine_norm, batch_normalized, make_batch_norm
from neurodeploy.nn.blocks import (
    AveragePool,
    Conv,
    Dense,
    GlobalAveragePool,
    MaxPool,
    RecurrentDense,
)
from neurodeploy.nn.fused import normalized_spikes
from neurodeploy.nn.neuron import neuron_of
from neurodeploy.nn.spiking_block import Delay, SpikingBlock
from neurodeploy.nn.synapse import ConvSynapse
from neurodeploy.recipes.layouts import Shape
from neurodeploy.recipes.network_sections import (
    AveragePoolLayer,
    ConvLayer,
    DelayLayer,
    DenseLayer,
    GlobalAveragePoolLayer,
    LayerSection,
    MaxPoolLayer,
    NeuronLayer,
    NormKind,
    ResidualLayer,
)
from neurodeploy.recipes.training_sections import NeuronSection


class Neurons(SpikingBlock):
    """Neurons without a synapse: currents in, spikes out."""

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes of the shape of the currents."""
        assert self.neuron is not None
        spikes: Tensor = self.neuron(x)
        return spikes


class NormalizedConv(nn.Module):
    """A convolution and a batch norm, without neurons: (T, N, I, H, W) to currents."""

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
        neuron: A recipe's [neuron].
        norm: Kind of batch norm.
        steps: T.
        generator: Draws initial weights.
    """

    neuron: NeuronSection
    norm: NormKind
    steps: int
    generator: torch.Generator

    def make_block(self, layer: LayerSection, shape: Shape) -> nn.Module:
        """Return the block of a layer that reads a source of a shape."""
        match layer:
            case ConvLayer():
                return self.make_conv(
                    shape[0],
                    layer.channels,
                    layer.kernel,
                    stride=layer.stride,
                    padding=layer.padding,
                    groups=layer.groups,
                    has_norm=layer.batch_norm,
                )
            case DenseLayer():
                return self._make_dense(layer, prod(shape))
            case DelayLayer():
                delay = Delay(layer.longest, generator=self.generator)
                delay.draw(shape[0], longest=layer.longest)
                return delay
            case ResidualLayer():
                return RESIDUAL_BLOCKS[layer.residual](
                    shape[0],
                    layer.channels,
                    layer.stride,
                    parts=self,
                    alpha=layer.alpha,
                    zero_init=layer.zero_init,
                )
            case NeuronLayer():
                return self.make_neurons()
            case MaxPoolLayer():
                return MaxPool(layer.kernel, layer.stride, layer.padding)
            case AveragePoolLayer():
                return AveragePool(layer.kernel, layer.stride, layer.padding)
            case GlobalAveragePoolLayer():
                return GlobalAveragePool()

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
        self,
        in_channels: int,
        channels: int,
        kernel: int,
        *,
        stride: int,
        padding: int | None = None,
        groups: int = 1,
        has_norm: bool = True,
    ) -> Conv:
        """Return a convolution with neurons; a padding of None keeps the size at stride 1."""
        neuron = neuron_of(self.neuron)
        block = Conv(
            neuron,
            in_channels,
            channels,
            kernel,
            stride,
            kernel // 2 if padding is None else padding,
            groups=groups,
            pre_hook_fx=neuron.weight_hook,
            bias=neuron.has_bias and not has_norm,
            generator=self.generator,
        )
        if has_norm:
            block.batch_norm = self.make_norm(channels)
        return block

    def make_normalized(
        self, in_channels: int, channels: int, kernel: int, *, stride: int, alpha: float
    ) -> NormalizedConv:
        """Return a convolution with batch norm, without neurons; the padding keeps the size."""
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

    def _make_dense(self, layer: DenseLayer, inputs: int) -> Dense:
        neuron = neuron_of(self.neuron)
        block = (RecurrentDense if layer.recurrent else Dense)(
            neuron,
            inputs,
            layer.neurons,
            pre_hook_fx=neuron.weight_hook,
            bias=neuron.has_bias and not layer.batch_norm,
            generator=self.generator,
        )
        if layer.batch_norm:
            block.batch_norm = self.make_norm(layer.neurons, is_spatial=False)
        return block


class ResidualBlock(nn.Module, ABC):
    """Two convolutions and a skip: (T, N, I, H, W) to (T, N, O, H', W').

    Args:
        in_channels: I.
        channels: O.
        stride: Of the first convolution and of the projection.
        parts: Makes neurons, norms and weights.
        alpha: Share of the threshold for each of two currents that add up.
        zero_init: Start with a second convolution that gives nothing.

    Attributes:
        conv1: First convolution, with neurons.
        conv2: Second convolution.
        projection: 1x1 convolution of the skip; None for the identity.
    """

    fires_before_sum: ClassVar[bool] = False
    """True if second convolution and projection have neurons of their own."""
    conv2: Conv | NormalizedConv
    projection: Conv | NormalizedConv | None

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        parts: Parts,
        alpha: float = 1.0,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self._add_entry(parts)
        self.conv1 = parts.make_conv(in_channels, channels, 3, stride=stride)

        def make(inputs: int, kernel: int, stride: int) -> Conv | NormalizedConv:
            if self.fires_before_sum:
                return parts.make_conv(inputs, channels, kernel, stride=stride)
            return parts.make_normalized(inputs, channels, kernel, stride=stride, alpha=alpha)

        self.conv2 = make(channels, 3, 1)
        needs_projection = in_channels != channels or stride != 1
        self.projection = make(in_channels, 1, stride) if needs_projection else None
        if zero_init:
            assert self.conv2.batch_norm is not None  # every residual block has batch norm
            norm = affine_norm(self.conv2.batch_norm)
            assert norm is not None
            nn.init.zeros_(norm.weight)
        self._add_exit(parts)

    def _add_entry(self, parts: Parts) -> None:
        """Add what comes before the convolutions."""

    def _add_exit(self, parts: Parts) -> None:
        """Add what comes behind the sum."""

    @abstractmethod
    def forward_with_spikes(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the output, and the spikes of each layer of neurons; "" names the block itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the output."""
        return self.forward_with_spikes(x)[0]


class StandardBlock(ResidualBlock):
    """o = g(f(x) + x), or g(f(x) + projection(x)): spikes to spikes; g is `neurons`."""

    conv2: NormalizedConv
    projection: NormalizedConv | None

    def _add_exit(self, parts: Parts) -> None:
        self.neurons = parts.make_neurons()

    def forward_with_spikes(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return spikes; see `ResidualBlock`."""
        inner = self.conv1(x)
        assert self.neurons.neuron is not None
        output = normalized_spikes(
            self.conv2.synapse(inner),
            self.conv2.batch_norm,
            self.neurons.neuron,
            skip=x if self.projection is None else self.projection(x),
        )
        return output, {"conv1": inner, "": output}


class PreActivationBlock(ResidualBlock):
    """o = f(g(x)) + x, or f(g(x)) + projection(g(x)): currents to currents; g is `entry`."""

    conv2: NormalizedConv
    projection: NormalizedConv | None

    def _add_entry(self, parts: Parts) -> None:
        self.entry = parts.make_neurons()

    def forward_with_spikes(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return currents; see `ResidualBlock`."""
        entry = self.entry(x)
        inner = self.conv1(entry)
        output = self.conv2(inner) + (x if self.projection is None else self.projection(entry))
        return output, {"entry": entry, "conv1": inner}


class SpikeElementWiseBlock(ResidualBlock):
    """o = g(f(x)) + x, or g(f(x)) + g(projection(x)): integer spikes, which grow by the block."""

    fires_before_sum = True

    def forward_with_spikes(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return integer spikes; see `ResidualBlock`."""
        inner = self.conv1(x)
        outer = self.conv2(inner)
        spikes = {"conv1": inner, "conv2": outer}
        if self.projection is None:
            return outer + x, spikes
        spikes["projection"] = skip = self.projection(x)
        return outer + skip, spikes


RESIDUAL_BLOCKS: dict[str, type[ResidualBlock]] = {
    "standard": StandardBlock,
    "ms": PreActivationBlock,
    "sew": SpikeElementWiseBlock,
}
"""Every residual block by its name in a recipe."""
