from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurodeploy.nn.network import ShortcutBranches, SpikingNetwork, remove_branches
from neurodeploy.recipes.recipe import Architecture


def network(*, branches: tuple[str, ...] = ("conv1", "dense2"), seed: int = 0) -> SpikingNetwork:
    return SpikingNetwork(
        Architecture.from_dict(
            {
                "shape": [2, 5, 5],
                "classes": 4,
                "input_bits": 2,
                "network": {
                    "steps": 2,
                    "layers": [
                        {"type": "conv", "channels": 3},
                        {"type": "dense", "neurons": 6},
                    ],
                },
                "neuron": {"threshold": 0.3},
                "branches": list(branches),
            },
            where="test",
        ),
        seed=seed,
    )


def inputs(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, (7, 2, 2, 5, 5), generator=generator)


def test_a_branch_is_a_pool_and_a_linear_map() -> None:
    branches = ShortcutBranches({"a": 3, "b": 2}, 4)
    spikes = {"a": torch.rand(2, 5, 3, 4, 4).round(), "b": torch.rand(2, 5, 2).round()}
    first, second = branches(spikes)
    for output, pooled, head in (
        (first, spikes["a"].mean(dim=(3, 4)), branches.heads["a"].synapse),
        (second, spikes["b"], branches.heads["b"].synapse),
    ):
        torch.testing.assert_close(output, pooled @ head.weight.T + head.bias)


@pytest.mark.parametrize("seed", range(5))
def test_removing_branches_keeps_the_main_output_to_the_bit(seed: int) -> None:
    trained = network(seed=seed)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for step in range(3):
        main, branches = trained.forward_with_branches(inputs(step))
        (main.square().mean() + sum(branch.square().mean() for branch in branches)).backward()
        optimizer.step()
    trained.eval()
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    bare = remove_branches(trained)
    for x in (inputs(seed), inputs(seed + 10)):
        assert torch.equal(bare(x), trained(x))
        assert torch.equal(bare(x), trained.forward_with_branches(x)[0])
    assert bare.branches is None
    assert bare.architecture.branches == ()
    assert not bare.training
    assert trained.branches is not None
    assert all(torch.equal(before[name], t) for name, t in trained.state_dict().items())
    assert before.keys() - bare.state_dict().keys() == {
        name for name in before if name.startswith("branches.")
    }


def test_removing_branches_does_not_share_weights() -> None:
    trained = network()
    bare = remove_branches(trained)
    with torch.no_grad():
        bare.blocks["conv1"].synapse.weight.zero_()
    assert trained.blocks["conv1"].synapse.weight.any()


def test_the_main_path_starts_the_same_with_and_without_branches() -> None:
    with_branches, without = network(seed=5), network(seed=5, branches=())
    for name, tensor in without.state_dict().items():
        assert torch.equal(with_branches.state_dict()[name], tensor)


def test_branches_carry_gradient_to_their_block() -> None:
    trained = network(branches=("conv1",))
    _, (branch,) = trained.forward_with_branches(inputs(0))
    branch.square().mean().backward()
    assert trained.blocks["conv1"].synapse.weight.grad.any()
    assert trained.blocks["dense2"].synapse.weight.grad is None
