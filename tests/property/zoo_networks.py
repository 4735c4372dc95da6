"""ResNets of SpikingJelly's zoo with random weights, in which every layer spikes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

STEPS = 4


def make_resnet(name: str) -> nn.Module:
    """Return "spiking_resnet18", or "sew_resnet18", which adds spikes, of multi-step layers."""
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model import sew_resnet, spiking_resnet

    if name == "sew_resnet18":
        module = sew_resnet.sew_resnet18(spiking_neuron=neuron.IFNode, cnf="ADD", num_classes=10)
    else:
        module = spiking_resnet.spiking_resnet18(spiking_neuron=neuron.IFNode, num_classes=10)
    functional.set_step_mode(module, "m")
    return module


def draw_network(
    name: str, *, samples: int, change: Callable[[nn.Module], None] = lambda module: None
) -> tuple[nn.Module, np.ndarray]:
    """Return a network, changed before its numbers are drawn, and samples of 3x32x32 pixels.

    Batch norm gets random factors and the statistics of the samples, so that every layer spikes.
    """
    from spikingjelly.activation_based import functional

    torch.manual_seed(0)
    module = make_resnet(name)
    change(module)
    functional.set_step_mode(module, "m")
    images = np.random.default_rng(0).integers(0, 2, (samples, STEPS, 3, 32, 32)).astype(np.uint8)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 1, 2)
            nn.init.normal_(norm.bias, 0.2, 0.2)
            norm.momentum = 1.0  # statistics of this one pass
    with torch.no_grad():
        module(torch.from_numpy(images).float().transpose(0, 1))
    functional.reset_net(module)
    return module.eval(), images
