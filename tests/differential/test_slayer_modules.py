"""Networks of lava-dl's blocks, taken in as modules: lava-dl's own spikes, all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import neurodeploy as nd
from neurodeploy.errors import NeurodeployError

pytestmark = pytest.mark.filterwarnings("ignore")  # of lava-dl
slayer = pytest.importorskip("lava.lib.dl.slayer", reason="the package lava-dl is not installed")
block = slayer.block.cuba


class Blocks(nn.Module):
    """Blocks in a row, as lava-dl's users write them."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.blocks:
            x = part(x)
        return x


class Residual(Blocks):
    """The third block reads the first one as well as the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.blocks[0](x)
        return self.blocks[2](first + self.blocks[1](first))


def neuron(rng: np.random.Generator, **more: object) -> dict[str, object]:
    return {
        "threshold": float(rng.uniform(0.3, 1.2)),
        "current_decay": float(rng.choice([1.0, rng.uniform(0.1, 0.9)])),
        "voltage_decay": float(rng.choice([0.0, rng.uniform(0.02, 0.5)])),
        **more,
    }


def dense(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    norm = bool(rng.integers(2))
    return Blocks(
        block.Dense(neuron(rng), 12, 16, weight_norm=norm, weight_scale=3),
        block.Dense(neuron(rng), 16, 8, weight_scale=3, delay_shift=bool(rng.integers(2))),
        block.Dense(neuron(rng), 8, 5, weight_norm=not norm, weight_scale=3),
    ), (12,)


def conv(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    return Blocks(
        block.Input(delay_shift=False),  # lava-dl fails to delay an input without neurons
        block.Conv(neuron(rng), 2, 6, 3, padding=1, weight_scale=3, weight_norm=True),
        block.Pool(neuron(rng), 2, weight_scale=0.6),
        block.Conv(neuron(rng), 6, 4, 3, padding=1, groups=2, stride=2, weight_scale=3),
        block.Flatten(),
        block.Dense(neuron(rng), 16, 5, weight_scale=3),
    ), (2, 8, 8)


def recurrent(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    return Blocks(
        block.Recurrent(neuron(rng), 12, 10, weight_scale=2),
        block.Dense(neuron(rng), 10, 5, weight_scale=3),
    ), (12,)


def normed(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """Means of the current taken off, masks, and decays by channel."""
    norm = slayer.neuron.norm.MeanOnlyBatchNorm
    network = Blocks(
        block.Dense(
            {**neuron(rng, norm=norm, shared_param=False), "current_decay": (0.2, 0.9)}, 12, 16,
            weight_scale=3,
            delay_shift=False,
            mask=torch.from_numpy(rng.integers(0, 2, (16, 12)).astype(np.float32)),
        ),
        block.Dense(neuron(rng, norm=norm), 16, 5, weight_scale=3),
    )  # fmt: skip
    network.train()
    network(torch.from_numpy(rng.integers(0, 2, (4, 12, 20)).astype(np.float32)))
    return network, (12,)


def ending(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """A read-out of voltages that leak, or of what the last synapses give."""
    last = block.Affine(neuron(rng), 16, 4, weight_scale=3, dynamics=bool(rng.integers(2)))
    return Blocks(block.Dense(neuron(rng), 12, 16, weight_scale=3), last), (12,)


def residual(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    return Residual(
        block.Dense(neuron(rng), 12, 16, weight_scale=3),
        block.Dense(neuron(rng), 16, 16, weight_scale=3, delay_shift=False),
        block.Dense(neuron(rng), 16, 5, weight_scale=3),
    ), (12,)


NETWORKS = {
    make.__name__: make for make in (dense, conv, recurrent, normed, ending, residual)
}  # fmt: skip


def as_lava_dl(network: nn.Module, samples: np.ndarray, late: int) -> dict[str, np.ndarray]:
    """Run the module as it is, a little longer, and return each block's output when it is due."""
    sent: dict[str, torch.Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda *call, path=path: sent.update({path: call[2]}))
        for path, part in network.named_modules()
        if type(part).__module__.startswith("lava.lib.dl.slayer.block")
    ]
    steps = samples.shape[1]
    longer = np.concatenate([samples, np.zeros_like(samples[:, :late])], axis=1)
    with torch.no_grad():
        network(torch.from_numpy(longer.astype(np.float32)).movedim(1, -1).contiguous())
    for hook in hooks:
        hook.remove()
    delays, total = {}, 0
    for path, part in network.named_modules():
        if path in sent:
            total += bool(getattr(part, "delay_shift", False))
            delays[path] = total
    return {
        path: value.movedim(-1, 1)[:, delays[path] : delays[path] + steps].numpy()
        for path, value in sent.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_random_networks(name: str, request: pytest.FixtureRequest) -> None:
    """All spikes of all layers, as the module itself sends them; a difference is an error."""
    spikes = compared = 0
    for seed in range(request.config.getoption("--module-examples")):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        network, shape = NETWORKS[name](rng)
        network.eval()
        samples = (rng.random((4, 40, *shape)) < 0.3).astype(np.uint8)
        imported = nd.import_torch(network, samples)
        assert all(note.startswith("exact") for note in imported.notes.values())
        assert imported.agreement is not None
        assert imported.agreement.is_equal
        theirs = as_lava_dl(network, samples, len(network.blocks))
        for path, values in imported.run(samples).items():
            if values.dtype == np.uint8:
                assert np.array_equal(values.ravel(), theirs[path].ravel()), (seed, path)
                compared += values.size
                spikes += int(values.sum())
            elif path in theirs:  # a voltage at each step, of a read-out
                assert np.array_equal(values, theirs[path])
    assert 0.005 * compared < spikes < 0.9 * compared


@pytest.mark.parametrize("name", NETWORKS)
def test_integers_are_those_of_lava_dl(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    network, shape = NETWORKS[name](rng)
    samples = (rng.random((4, 40, *shape)) < 0.3).astype(np.uint8)
    target = "lava-cpu" if name == "normed" else "loihi2"  # decays by channel
    result = nd.deploy(network.eval(), samples, out=tmp_path, target=target)
    assert [layer.file_differing for layer in result.agreement] == [0] * len(result.agreement)
    assert all(layer.deployed == 1 for layer in result.agreement if layer.deployed is not None)


def wide_decays() -> nn.Module:
    network = block.Dense(PLAIN, 12, 4)
    network.neuron.current_decay.data.fill_(1.25 * 4096)
    return network


def test_the_scores_of_a_leaky_read_out_are_those_of_lava_dl(tmp_path: Path) -> None:
    """To the last bit: the chip counts in parts of 1 / (64 · 64)."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    network = Blocks(
        block.Dense(neuron(rng), 12, 16, weight_scale=3), block.Affine(PLAIN, 16, 4, weight_scale=3)
    ).eval()  # fmt: skip
    samples = (rng.random((4, 40, 12)) < 0.3).astype(np.uint8)
    result = nd.deploy(network, samples, out=tmp_path)
    scores = nd.EventSimulator(nd.netx.read(result.path)).run(samples.astype(np.int32)).voltage
    theirs = as_lava_dl(network, samples, 1)["blocks.1"]
    assert np.array_equal(scores[:, -1], theirs[:, -1] * 64 * 64)
    assert len(np.unique(scores)) > 8


@pytest.mark.lava
def test_real_lava_makes_the_spikes_of_lava_dl(tmp_path: Path) -> None:
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    network, shape = conv(rng)
    samples = (rng.random((2, 30, *shape)) < 0.3).astype(np.uint8)
    result = nd.deploy(network.eval(), samples, out=tmp_path, lava_samples=1)
    assert all(layer.deployed == 1 for layer in result.agreement)
    assert all(layer.lava_differing == 0 for layer in result.agreement)


PLAIN = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.1}
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "delays": (lambda: block.Dense(PLAIN, 12, 4, delay=True), "Dense has learned delays"),
    "input": (lambda: block.Input(PLAIN, weight=1, bias=0), "Input has neurons at the input"),
    "one winner": (
        lambda: block.KWTA(PLAIN, 12, 4, 1), r"KWTA \(block.cuba.KWTA\) has no counterpart"
    ),
    "sigma-delta": (
        lambda: slayer.block.sigma_delta.Dense({"threshold": 0.1, "activation": torch.relu}, 12, 4),
        r"Dense \(block.sigma_delta.Dense\) has no counterpart",
    ),
    "graded": (
        lambda: block.Dense({**PLAIN, "graded_spike": True}, 12, 4), "Dense sends graded spikes"
    ),
    "decays to be drawn": (
        lambda: block.Dense({**PLAIN, "shared_param": False}, 12, 4), "draws its decays"
    ),
    "decays above 1": (
        wide_decays, r"has a current_decay from \S+ to 1.25, from 0 to 1 is required"
    ),
    "weights off the grid": (
        lambda: block.Dense(PLAIN, 12, 4, pre_hook_fx=lambda weight: weight),
        "has weights between the steps of 1 / 64",
    ),
    "another norm": (
        lambda: block.Dense({**PLAIN, "norm": slayer.neuron.norm.WgtScaleBatchNorm}, 12, 4),
        "with norm=WgtScaleBatchNorm scales currents",
    ),
    "dropped spikes": (
        lambda: block.Dense({**PLAIN, "dropout": slayer.neuron.Dropout(0.1)}, 12, 4).train(),
        "drops spikes in training mode",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_refusals_name_the_block_and_the_cause(fault: str) -> None:
    make, message = REFUSED[fault]
    samples = np.ones((2, 5, 12), np.uint8)
    with pytest.raises(NeurodeployError, match=f"blocks.0: .*{message}"):
        nd.import_torch(Blocks(make()), samples, layout="last")


def test_a_pool_that_reaches_over_channels_is_refused() -> None:
    network = Blocks(block.Pool(PLAIN, 2))
    with pytest.raises(NeurodeployError, match=r"pools a map of \(5, 6\) by windows of \(2, 2\)"):
        nd.import_torch(network, np.ones((1, 4, 2, 5, 6), np.uint8))


def test_a_bias_that_acts_before_the_first_input_is_no_exact_import() -> None:
    norm = slayer.neuron.norm.MeanOnlyBatchNorm
    network = Blocks(
        block.Dense(PLAIN, 12, 4), block.Dense({**PLAIN, "norm": norm}, 4, 3)
    ).eval()  # fmt: skip
    network.blocks[1].neuron.norm.running_mean = torch.tensor([0.1, -0.1, 0.2])
    samples = np.ones((1, 4, 12), np.uint8)
    message = r"blocks.1: its bias acts from 1 steps before its first input on.*'initial-state'"
    with pytest.raises(NeurodeployError, match=message):
        nd.import_torch(network, samples)
    imported = nd.import_torch(network, samples, approximate={"initial-state"})
    assert imported.notes["blocks.1"].startswith("initial-state")


def test_paths_of_different_lengths_are_refused() -> None:
    network = Residual(*(block.Dense(PLAIN, 12, 12) for _ in range(3)))
    with pytest.raises(NeurodeployError, match=r"blocks.2: its sources come 1 and 2 steps late"):
        nd.import_torch(network, np.ones((1, 4, 12), np.uint8))


def test_the_module_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    network, _ = recurrent(np.random.default_rng(0))
    samples = np.random.default_rng(0).integers(0, 2, (2, 9, 12)).astype(np.uint8)
    network(torch.from_numpy(samples.astype(np.float32)).movedim(1, -1))
    states = network.blocks[0].neuron.voltage_state.clone()
    nd.import_torch(network.eval(), samples)
    assert network.blocks[0].delay_shift
    assert torch.equal(network.blocks[0].neuron.voltage_state, states)
