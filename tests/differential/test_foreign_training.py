"""Modules of other frameworks, trained with shortcut branches, and further in integers.

Each is skipped by name where its framework is not installed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import neurodeploy as nd
from neurodeploy.reports.certified_facts import TRAINED_FURTHER

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the frameworks

STEPS, ITERATIONS = 4, 12
Run = Callable[[nn.Module, Tensor], tuple[Tensor, tuple[Tensor, ...]]]


def snntorch_network() -> tuple[nn.Module, list[str], Run]:
    """Layers that see one step; the loop over the steps is outside, and keeps their states."""
    snn = pytest.importorskip("snntorch")
    from snntorch import utils

    def leaky() -> nn.Module:
        return snn.Leaky(0.8, reset_mechanism="zero", init_hidden=True)

    module = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), leaky(), nn.Conv2d(6, 8, 3, stride=2), leaky(),
        nn.Flatten(), nn.Linear(72, 10), leaky(),
    )  # fmt: skip

    def run(network: nn.Module, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        # It looks no deeper than the children of a module.
        utils.reset(network.module if isinstance(network, nd.BranchedModule) else network)
        return stack([network(step) for step in inputs.unbind(1)])

    return module, ["1", "3"], run


def norse_network() -> tuple[nn.Module, list[str], Run]:
    """Layers that see one step; the loop hands their states over."""
    norse = pytest.importorskip("norse.torch")
    neuron = norse.LIFBoxParameters(
        tau_mem_inv=torch.tensor(400.0), v_th=torch.tensor(0.4), alpha=torch.tensor(10.0)
    )
    module = norse.SequentialState(
        nn.Conv2d(1, 6, 3, padding=1), norse.LIFBoxCell(neuron),
        nn.Conv2d(6, 8, 3, stride=2), norse.LIFBoxCell(neuron),
        nn.Flatten(), nn.Linear(72, 10), norse.LIFBoxCell(neuron),
    )  # fmt: skip

    def run(network: nn.Module, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        results, state = [], None
        for step in inputs.unbind(1):
            result = network(step, state)
            if isinstance(network, nd.BranchedModule):
                (main, state), branches = result
                results.append((main, branches))
            else:
                main, state = result
                results.append(main)
        return stack(results)

    return module, ["1", "3"], run


def stack(results: list) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Join what each step gave: outputs, or outputs and those of branches."""
    if isinstance(results[0], Tensor):
        return torch.stack(results), ()
    branches = zip(*(of_step for _, of_step in results), strict=True)
    return (
        torch.stack([main for main, _ in results]),
        tuple(torch.stack(steps) for steps in branches),
    )


def spikingjelly_network() -> tuple[nn.Module, list[str], Run]:
    """Layers that see all steps at once."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    def lif() -> nn.Module:
        return neuron.LIFNode(tau=2.0, decay_input=False, detach_reset=True)

    module = nn.Sequential(
        layer.Conv2d(1, 6, 3, padding=1), lif(), layer.Conv2d(6, 8, 3, stride=2), lif(),
        layer.Flatten(), layer.Linear(72, 10), lif(),
    )  # fmt: skip
    functional.set_step_mode(module, "m")

    def run(network: nn.Module, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        functional.reset_net(network)
        result = network(inputs.movedim(1, 0).contiguous())
        return result if isinstance(network, nd.BranchedModule) else (result, ())

    return module, ["1", "3"], run


NETWORKS = {
    "snntorch": snntorch_network,
    "norse": norse_network,
    "spikingjelly": spikingjelly_network,
}


def make(framework: str, seed: int) -> tuple[nn.Module, list[str], Run]:
    """Return a network whose weights are large enough for its last layer to spike."""
    torch.manual_seed(seed)
    module, starts, run = NETWORKS[framework]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    return module, starts, run


def spikes_and_labels() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.from_numpy(digits.images / 16).float()[:, None, None]
    drawn = torch.rand(len(pixels), STEPS, 1, 8, 8, generator=generator) < pixels
    return drawn.float(), torch.from_numpy(digits.target)


@pytest.mark.parametrize("framework", NETWORKS)
def test_a_module_trains_with_branches_and_deploys_exactly_without(
    framework: str, tmp_path: Path
) -> None:
    module, starts, run = make(framework, seed=0)
    inputs, labels = spikes_and_labels()
    sample = inputs[:5].movedim(1, 0) if framework == "spikingjelly" else inputs[:5, 0]
    names = list(module.state_dict())
    branched = nd.add_shortcut_branches(module, sample, starts=starts)

    # The branches alone lead gradients to the first layer.
    output, branches = run(branched, inputs[:64])
    assert [branch.shape for branch in branches] == [output.shape] * 2
    sum(branch.mean(0) for branch in branches).logsumexp(1).sum().backward()
    first = module.get_submodule("0").weight.grad
    assert first is not None
    assert float(first.abs().max()) > 1e-3
    assert module.get_submodule("5").weight.grad is None

    optimizer = torch.optim.Adam(branched.parameters(), lr=0.02)
    losses = []
    for iteration in range(ITERATIONS):
        batch = slice(100 * iteration, 100 * iteration + 100)
        output, branches = run(branched, inputs[batch])
        weight = nd.branch_weight_at(iteration, ITERATIONS, method="evolutionary")
        output = nd.combine_outputs(output, branches, weight=weight)
        loss = nn.functional.cross_entropy(output.sum(0), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert weight == 0  # in the last iteration, the module was trained without branches
    assert losses[-1] < 0.8 * losses[0]

    bare = nd.remove_branches(branched).eval()
    assert bare is module
    assert list(bare.state_dict()) == names
    shown, classes = inputs[1200:1240], labels[1200:1240].numpy()
    with torch.no_grad():
        beside, _ = run(branched.eval(), shown)
        alone, _ = run(bare, shown)
    assert torch.equal(beside, alone)
    result = nd.deploy(bare, shown.to(torch.uint8), classes, out=tmp_path)
    agreement = result.imported.agreement
    assert agreement is not None
    assert agreement.is_equal
    assert [layer.file_differing for layer in result.agreement] == [0, 0, 0]
    assert result.accuracy["float"] == np.mean(alone.sum(0).argmax(1).numpy() == classes) > 0.3


@pytest.mark.parametrize(
    ("framework", "lava_samples"),
    [pytest.param("snntorch", 2, marks=pytest.mark.lava), ("spikingjelly", 0)],
)
def test_a_module_is_trained_further_in_integers(
    framework: str, lava_samples: int, tmp_path: Path
) -> None:
    module, _, run = make(framework, seed=1)
    inputs, labels = spikes_and_labels()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for iteration in range(ITERATIONS):
        batch = slice(100 * iteration, 100 * iteration + 100)
        loss = nn.functional.cross_entropy(run(module, inputs[batch])[0].sum(0), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    before = copy.deepcopy(module.state_dict())
    result = nd.deploy(
        module.eval(),
        inputs[:900].to(torch.uint8),
        labels[:900],
        out=tmp_path,
        weight_bits=3,
        fine_tune=nd.FineTuning(epochs=2, learning_rate=5e-3),
        lava_samples=lava_samples,
    )
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert result.is_trained_further
    on_lava = 0 if lava_samples else None
    assert [layer.lava_differing for layer in result.agreement] == [on_lava] * 3
    assert result.accuracy["deployed"] > result.accuracy["quantized"]
    assert result.certificate.deployment is not None
    assert result.certificate.deployment.comparison == TRAINED_FURTHER
    assert result.certificate.check(tmp_path, tmp_path).holds
