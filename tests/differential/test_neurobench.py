"""Our counts against the real NeuroBench, on the same torch networks and samples.

Each network runs once under hooks of ours, whose recordings are counted by `counting`, and
once in NeuroBench's own benchmark.
"""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import nn

from neurodeploy.counting.neurobench import VERSION, metrics_of_layers
from neurodeploy.counting.synapse_counts import (
    InputKind,
    count_layer,
)

neurobench = pytest.importorskip("neurobench", reason="the package neurobench is not installed")
snntorch = pytest.importorskip("snntorch", reason="the package snntorch is not installed")

STEPS, SAMPLES = 4, 5


def leaky(beta=0.8):
    return snntorch.Leaky(beta=beta, threshold=0.6, init_hidden=True)


class Network(nn.Module):
    """A network that forgets; snnTorch's own reset does not look into containers."""

    def reset(self):
        for module in self.modules():
            if isinstance(module, snntorch.SpikingNeuron):
                module.reset_mem()


class Chain(Network):
    """Modules one after the other; gives (spikes, potential) as snnTorch networks do."""

    def __init__(self, *modules):
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x, self.parts[-1].mem


class Residual(Network):
    """A block that adds spikes before the next convolution, which then sees 0, 1 and 2."""

    def __init__(self):
        super().__init__()
        self.conv1, self.neuron1 = nn.Conv2d(2, 4, 3, padding=1), leaky()
        self.conv2, self.neuron2 = nn.Conv2d(4, 4, 3, padding=1), leaky()
        self.conv3, self.neuron3 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), leaky()
        self.flatten, self.dense, self.neuron4 = nn.Flatten(), nn.Linear(54, 5), leaky()

    def forward(self, x):
        first = self.neuron1(self.conv1(x))
        second = self.neuron2(self.conv2(first)) + first
        third = self.neuron3(self.conv3(second))
        return self.neuron4(self.dense(self.flatten(third))), self.neuron4.mem


def binary(*shape):
    return (torch.rand(SAMPLES, STEPS, *shape) < 0.3).float()


def image(*shape):
    """Analog values, the same at every step, some of them zero."""
    return (torch.randn(SAMPLES, 1, *shape).relu()).repeat(1, STEPS, *(1 for _ in shape))


NETWORKS = {
    "mlp": lambda: (
        Chain(nn.Linear(12, 20), leaky(), nn.Linear(20, 7, bias=False), leaky(0.5)),
        binary(12),
    ),
    "strided and padded": lambda: (
        Chain(
            nn.Conv2d(2, 6, 3, stride=2, padding=1), leaky(),
            nn.Conv2d(6, 4, (3, 2), stride=(1, 2), padding=(2, 1)), leaky(),
            nn.Flatten(), nn.Linear(4 * 7 * 3, 5), leaky(),
        ),
        binary(2, 9, 7),
    ),
    "grouped": lambda: (
        Chain(
            nn.Conv2d(4, 8, 3, padding=1, groups=2), leaky(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), leaky(),
            nn.Flatten(), nn.Linear(8 * 36, 4), leaky(),
        ),
        binary(4, 6, 6),
    ),
    "dilated": lambda: (
        Chain(
            nn.Conv2d(3, 5, 3, padding=(1, 2), dilation=(1, 2)), leaky(),
            nn.Conv2d(5, 4, 2, dilation=3), leaky(), nn.Flatten(), nn.Linear(4 * 2 * 4, 3), leaky(),
        ),
        binary(3, 5, 7),
    ),
    "residual": lambda: (Residual(), binary(2, 6, 6)),
    "direct-coded": lambda: (
        Chain(
            nn.Conv2d(1, 4, 3, padding=1), leaky(), nn.AvgPool2d(2),
            nn.Conv2d(4, 4, 3, padding=1), leaky(), nn.Flatten(), nn.Linear(64, 5), leaky(),
        ),
        image(1, 8, 8),
    ),
    "one dimension": lambda: (
        Chain(
            nn.Conv1d(2, 6, 5, stride=2, padding=2), leaky(), nn.MaxPool1d(2),
            nn.Conv1d(6, 3, 3), leaky(), nn.Flatten(), nn.Linear(9, 4), leaky(),
        ),
        binary(2, 20),
    ),
    "three dimensions": lambda: (
        Chain(
            nn.Conv3d(1, 3, (2, 3, 3), padding=(0, 1, 1), stride=(1, 2, 1)), leaky(),
            nn.Flatten(), nn.Linear(3 * 3 * 3 * 5, 4), leaky(),
        ),
        binary(1, 4, 6, 5),
    ),
    "a rectifier": lambda: (
        Chain(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 6), leaky()),
        binary(10),
    ),
}  # fmt: skip


def build(name):
    """Build a network with some weights of zero and give it with its samples."""
    torch.manual_seed(7)
    network, data = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter[torch.rand_like(parameter) < 0.25] = 0.0
                parameter *= 2
    return network.eval(), data


def record(network, data):
    """Run under our hooks: inputs of layers, outputs and potentials of neurons, (S, T, ...)."""
    inputs: dict[nn.Module, list[torch.Tensor]] = {}
    outputs: dict[nn.Module, list[torch.Tensor]] = {}
    potentials: dict[nn.Module, list[torch.Tensor]] = {}

    def note(module, given, result):
        if hasattr(module, "weight"):
            inputs.setdefault(module, []).append(given[0])
        elif isinstance(module, snntorch.SpikingNeuron | nn.ReLU):
            outputs.setdefault(module, []).append(result)
            if isinstance(module, snntorch.SpikingNeuron):
                potentials.setdefault(module, []).append(module.mem)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    network.reset()
    with torch.no_grad():
        for step in range(STEPS):
            network(data[:, step])
    for hook in hooks:
        hook.remove()
    return tuple(
        {module: torch.stack(steps, 1).numpy() for module, steps in found.items()}
        for found in (inputs, outputs, potentials)
    )


def ours(name):
    network, data = build(name)
    inputs, outputs, potentials = record(network, data)
    counted = []
    for module, values in inputs.items():
        weight = module.weight.detach().numpy()
        is_event = bool(np.isin(values, (-1, 0, 1)).all())
        values = values.astype(np.int32) if is_event else values
        kind = InputKind.TERNARY if is_event else InputKind.ANALOG
        if isinstance(module, nn.Linear):
            counted.append(count_layer(weight, values, kind=kind))
        else:
            counted.append(
                count_layer(
                    weight,
                    values,
                    kind=kind,
                    stride=module.stride,
                    padding=module.padding,
                    dilation=module.dilation,
                    groups=module.groups,
                )
            )
    return metrics_of_layers(
        counted,
        steps=STEPS,
        outputs=list(outputs.values()),
        potentials=list(potentials.values()),
        parameters=sum(one.numel() for one in network.parameters()),
        footprint=0,
    ).to_dict()


def theirs(name, batch):
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ConnectionSparsity, ParameterCount
    from neurobench.metrics.workload import (
        ActivationSparsity,
        MembraneUpdates,
        SynapticOperations,
    )
    from neurobench.models import SNNTorchModel

    network, data = build(name)  # anew: its states still have the size of another batch
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(data, torch.zeros(len(data))), batch_size=batch
    )
    metrics = [
        [ConnectionSparsity, ParameterCount],
        [ActivationSparsity, MembraneUpdates, SynapticOperations],
    ]
    with torch.no_grad():
        found = Benchmark(SNNTorchModel(network), loader, [], [], metrics).run(quiet=True)
    return {**found, **found.pop("SynapticOperations")}


def test_the_versions_are_those_whose_definitions_we_follow():
    assert version("neurobench") == VERSION == "2.3.0"


@pytest.mark.parametrize("name", NETWORKS)
def test_totals_are_equal(name):
    mine, real = ours(name), theirs(name, batch=1)
    assert mine["Effective_ACs"] + mine["Effective_MACs"] > 0
    for key in ("Effective_ACs", "Effective_MACs", "Dense", "MembraneUpdates", "ParameterCount"):
        assert mine[key] == real[key], key
    # theirs is rounded from a float32 quotient
    assert mine["ConnectionSparsity"] == pytest.approx(real["ConnectionSparsity"], abs=1e-6)
    # a mean over batches of quotients there, one quotient here
    assert mine["ActivationSparsity"] == pytest.approx(real["ActivationSparsity"], abs=1e-12)


@pytest.mark.parametrize("name", ["residual", "direct-coded"])
def test_the_sum_does_not_depend_on_their_batch(name):
    mine, real = ours(name), theirs(name, batch=SAMPLES)
    both = ("Effective_ACs", "Effective_MACs")
    assert sum(mine[key] for key in both) == sum(real[key] for key in both)
    assert mine["Dense"] == real["Dense"]
