"""ResNets of SpikingJelly's zoo, a sixteenth as wide: module, floats, integers, file and real Lava.

`tests/benchmarks/zoo.py` does the same at full width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import neurodeploy as nd
from neurodeploy import netx

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the framework
activation_based = pytest.importorskip(
    "spikingjelly.activation_based", reason="the package spikingjelly is not installed"
)
from spikingjelly.activation_based import functional, layer, neuron  # noqa: E402
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet  # noqa: E402

NARROWER, STEPS = 16, 4
ZOO = {
    "spiking_resnet18": lambda: spiking_resnet.spiking_resnet18(
        spiking_neuron=neuron.IFNode, num_classes=10
    ),
    "sew_resnet18": lambda: sew_resnet.sew_resnet18(
        spiking_neuron=neuron.IFNode, cnf="ADD", num_classes=10
    ),
}


def narrow(module: nn.Module) -> None:
    """Leave every layer a sixteenth of its channels; the way through them stays the zoo's."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            inputs = child.in_channels if child.in_channels == 3 else child.in_channels // NARROWER
            geometry = child.kernel_size, child.stride, child.padding
            kept = layer.Conv2d(inputs, child.out_channels // NARROWER, *geometry, bias=False)
            setattr(module, name, kept)
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, layer.BatchNorm2d(child.num_features // NARROWER))
        elif isinstance(child, nn.Linear):
            setattr(module, name, layer.Linear(child.in_features // NARROWER, child.out_features))
        else:
            narrow(child)


def network_and_samples(name: str) -> tuple[nn.Module, np.ndarray]:
    """Random weights; batch norm that knows the samples, so that every layer spikes."""
    torch.manual_seed(0)
    module = ZOO[name]()
    narrow(module)
    functional.set_step_mode(module, "m")
    samples = np.random.default_rng(0).integers(0, 2, (4, STEPS, 3, 32, 32)).astype(np.uint8)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 1, 2)
            nn.init.normal_(norm.bias, 0.2, 0.2)
            norm.momentum = 1.0  # statistics of this one pass
    with torch.no_grad():
        module(torch.from_numpy(samples).float().transpose(0, 1))
    functional.reset_net(module)
    return module.eval(), samples


@pytest.fixture(scope="module", params=ZOO)
def deployed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nd.ImportedDeployment, np.ndarray]:
    module, samples = network_and_samples(request.param)
    return nd.deploy(module, samples, out=tmp_path_factory.mktemp("zoo")), samples


def test_every_spike_is_equal_from_the_module_to_the_file(
    deployed: tuple[nd.ImportedDeployment, np.ndarray],
) -> None:
    result, samples = deployed
    assert result.imported.agreement.unexplained is None
    assert len(result.imported.agreement.layers) in (18, 21)
    direct = nd.EventSimulator(result.calibration.graph).run(samples)
    from_file = nd.EventSimulator(netx.read(result.path)).run(samples)
    for name, ours, read in zip(direct.layers, direct.spikes, from_file.spikes, strict=True):
        assert np.array_equal(ours, read[:, :, : result.lowered.channels[name]]), name
        assert ours.mean() > 0.01 or name == direct.layers[-1]
    assert np.array_equal(direct.voltage, from_file.voltage)


def test_the_twin_adds_up_before_it_multiplies(
    deployed: tuple[nd.ImportedDeployment, np.ndarray],
) -> None:
    """Both networks have the same convolutions: sums of spikes must not count them again."""
    macs = {row.name: row.macs_standard for row in deployed[0].graph.relu_twin.layers}
    assert len(macs) == 1 + 16 + 3 + 1
    assert macs["layer4.1.conv2"] == 32 * 32 * 9
    assert sum(macs.values()) == 286_016


@pytest.mark.lava
def test_real_lava_makes_every_spike_of_the_file(
    deployed: tuple[nd.ImportedDeployment, np.ndarray], lava: Path
) -> None:
    result, samples = deployed
    bits, names = result.graph.input.message_bits, result.graph.names
    theirs = nd.LavaSimulator(
        result.path, python=lava, input_bits=bits, layer_names=names, input_shape=(3, 32, 32)
    ).run(samples[:1])
    nd.testing.assert_bit_exact(nd.EventSimulator(result.graph).run(samples[:1]), theirs)
