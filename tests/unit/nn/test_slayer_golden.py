"""A network recorded from lava-dl 0.6.0, reproduced where lava-dl is not installed.

`tests/golden/slayer/README.md` says what the file holds and how it was made.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neurodeploy.nn import (
    Conv,
    Dense,
    Flatten,
    NeuronParams,
    Pool,
    export_state_dict,
    from_time_first,
    import_state_dict,
    to_time_first,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "slayer" / "blocks.npz"
NEURON: NeuronParams = {
    "threshold": 1.25,
    "current_decay": 0.25,
    "voltage_decay": 0.03,
    "tau_grad": 0.1,
    "scale_grad": 3,
}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture
def network(golden) -> nn.Sequential:
    network = nn.Sequential(
        Conv(NEURON, 2, 4, 3, padding=1, weight_norm=True),
        Pool(NEURON, 2),
        Conv(NEURON, 4, 6, (3, 2), stride=(1, 2), delay_shift=False),
        Flatten(),
        Dense({**NEURON, "shared_param": False}, 24, 5, delay=True),
    )
    import_state_dict(network, part(golden, "state/"))
    return network


def part(golden: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): v for key, v in golden.items() if key.startswith(prefix)}


def test_every_block_spikes_as_recorded(golden, network) -> None:
    x = to_time_first(golden["spikes/0"])
    for place, block in enumerate(network, start=1):
        x = block(x)
        expected = golden[f"spikes/{place}"]
        assert torch.equal(from_time_first(x), expected), f"block {place - 1}"
        assert 0.01 < expected.mean() < 0.9


def test_gradients_are_the_recorded_ones(golden, network) -> None:
    """To 1e-5 of the largest: float32 sums in another order."""
    x = to_time_first(golden["spikes/0"]).requires_grad_()
    network(x).backward(to_time_first(golden["upstream"]))
    found = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
    found["input"] = from_time_first(x.grad)
    expected = part(golden, "gradient/")
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        difference = (found[key].reshape(gradient.shape) - gradient).abs().max()
        assert difference <= 1e-5 * gradient.abs().max(), key


def test_the_state_comes_back_as_recorded(golden, network) -> None:
    state, exported = part(golden, "state/"), export_state_dict(network)
    assert exported.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(exported[key], value), key
