"""Pruning while training: the curve, the masks, and that a resumed training prunes alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neurodeploy.data import ArrayDataset
from neurodeploy.errors import TrainingError
from neurodeploy.learning.schedules import Pruner
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn import LIF, Dense, Triangular
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.recipes.recipe import Architecture
from neurodeploy.recipes.training_sections import PruningSection, TrainingSection


def network() -> SpikingNetwork:
    table = {
        "shape": [1, 4, 4],
        "classes": 2,
        "input_bits": 6,
        "network": {
            "steps": 2,
            "layers": [{"type": "conv", "channels": 8}, {"type": "dense", "neurons": 8}],
        },
        "neuron": {},
        "branches": [],
    }
    return SpikingNetwork(Architecture.from_dict(table, where="test"), seed=1)


def data(samples: int) -> ArrayDataset:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 60, (samples, 1, 4, 4)).astype(np.int32)
    return ArrayDataset(
        inputs=inputs,
        labels=(inputs.sum((1, 2, 3)) > 480).astype(np.int64),
        shape=(1, 4, 4),
        classes=2,
        scale=1 / 16,
    )


def zeros(module: torch.nn.Module) -> float:
    weights = [p for name, p in module.named_parameters() if p.dim() > 1]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def test_the_curve_is_cubic_and_ends_where_it_should() -> None:
    settings = PruningSection(sparsity=0.8, begin=0.2, end=0.7, interval=1)
    pruner = Pruner(network(), settings, iterations=100)
    assert pruner.sparsity_at(0) == pruner.sparsity_at(19) == 0
    assert pruner.sparsity_at(44) == pytest.approx(0.8 * (1 - 0.5**3))
    assert pruner.sparsity_at(69) == pruner.sparsity_at(99) == 0.8
    assert [pruner.is_done(i) for i in (68, 69)] == [False, True]


@pytest.mark.parametrize("settings", [{"sparsity": 0.75}, {"pattern": "1:4"}])
def test_training_reaches_the_share_and_holds_it(settings: dict[str, object]) -> None:
    module = network()
    training = TrainingSection(epochs=4, batch_size=8, threads=1, keep="best")
    pruning = PruningSection(interval=2, **settings)  # type: ignore[arg-type]  # known fields
    before = zeros(module)
    Trainer(training, pruning=pruning).fit(module, data(64), data(16))
    assert before == 0
    # A first layer of one input keeps one of one; of the rest three in four are gone.
    weights = dict(module.named_parameters())
    share = float((weights["blocks.dense2.synapse.weight"] == 0).float().mean())
    assert share == pytest.approx(0.75, abs=0.08)


def test_a_resumed_training_prunes_as_one_that_was_not_interrupted(tmp_path: Path) -> None:
    pruning = PruningSection(sparsity=0.6, begin=0.1, end=0.9, interval=1)
    whole = network()
    training = TrainingSection(epochs=3, batch_size=8, threads=1, keep="last")
    Trainer(training, pruning=pruning).fit(whole, data(40), data(16))
    stopped = network()

    def stop(record: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(training, pruning=pruning, directory=tmp_path, on_epoch=stop).fit(
            stopped, data(40), data(16)
        )
    resumed = network()
    Trainer(training, pruning=pruning, directory=tmp_path).fit(
        resumed, data(40), data(16), resume=True
    )
    for name, values in whole.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name
    assert zeros(whole) == pytest.approx(0.6, abs=0.01)


def test_zeros_of_a_pruned_network_stay() -> None:
    module = network()
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight[0] = 0
    held = {name: weight == 0 for name, weight in module.named_parameters() if weight.dim() > 1}
    training = TrainingSection(epochs=1, batch_size=8, threads=1, keep="last")
    Trainer(training, keeps_zeros=True).fit(module, data(24), data(8))
    for name, weight in module.named_parameters():
        if name in held:
            assert torch.equal(weight == 0, held[name]), name


def test_masks_stay_once_the_share_is_reached() -> None:
    """An optimizer moves weights that are masked too, by its momentum: they must not come back."""
    module = network()
    pruner = Pruner(
        module, PruningSection(sparsity=0.5, begin=0, end=0.5, interval=1), iterations=4
    )
    pruner.start()
    for iteration in range(2):
        pruner.after_step(iteration)
    weight = module.get_parameter("blocks.dense2.synapse.weight")
    pruned = weight == 0
    with torch.no_grad():
        weight.copy_(torch.where(pruned, 9.0, weight))
    pruner.after_step(2)
    assert 0.3 < pruned.float().mean() < 0.7
    assert torch.equal(weight == 0, pruned)


def test_masks_grow_at_every_interval_and_not_between() -> None:
    module = network()
    weight = module.get_parameter("blocks.dense2.synapse.weight")
    with torch.no_grad():
        weight[0] = 0
    share = float((weight == 0).float().mean())
    pruner = Pruner(
        module, PruningSection(sparsity=0.9, begin=0.25, end=1, interval=3), iterations=20
    )
    pruner.start()
    shares = []
    for iteration in range(20):
        pruner.after_step(iteration)
        shares.append(float((weight == 0).float().mean()))
    grown = [i for i in range(1, 20) if shares[i] > shares[i - 1]]
    assert shares[:5] == [share] * 5  # before it begins, the zeros that were there stay
    assert grown == [6, 9, 12, 15, 18]


def test_weight_normalisation_cannot_be_pruned() -> None:
    """Its weights are made anew from v and g at every step; a mask on them would be lost."""
    neuron = LIF(0.5, 0.25, Triangular())
    block = Dense(neuron, 3, 2, weight_norm=True, generator=torch.Generator().manual_seed(0))
    with pytest.raises(TrainingError, match="synapse: pruning with weight normalisation is not"):
        Pruner(torch.nn.ModuleDict({"dense": block}), None, iterations=1)
