"""ResNets of SpikingJelly's zoo, a sixteenth as wide: module, floats, integers, file and real Lava.

`tests/benchmarks/zoo.py` does the same at full width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn
from zoo_networks import draw_network

import neurodeploy as nd
from neurodeploy import netx

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the framework
pytest.importorskip(
    "spikingjelly.activation_based", reason="the package spikingjelly is not installed"
)
from spikingjelly.activation_based import layer  # noqa: E402

NARROWER = 16


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


@pytest.fixture(scope="module", params=["spiking_resnet18", "sew_resnet18"])
def deployed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nd.ImportedDeployment, np.ndarray]:
    module, samples = draw_network(request.param, samples=4, change=narrow)
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
