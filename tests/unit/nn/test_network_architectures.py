"""Deep networks: known sizes, one step of training of each, branches, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from neurodeploy.learning.losses import classification_loss, combine_outputs
from neurodeploy.nn.batch_norm import TemporalBatchNorm, make_batch_norm
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.nn.neuron import SpikingNeuron
from neurodeploy.nn.residual import StandardBlock
from neurodeploy.nn.synapse import ConvSynapse
from neurodeploy.recipes.recipe import Architecture

LIF_NEURON: dict[str, object] = {"tau": 0.25, "threshold": 0.5}
CUBA_NEURON: dict[str, object] = {
    "model": "cuba",
    "threshold": 0.25,
    "current_decay": 0.5,
    "voltage_decay": 0.1,
}
SMALL: dict[str, object] = {"architecture": "residual", "blocks": [1, 1], "channels": 4}


def network(
    *,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: int = 3,
    branches: tuple[str, ...] = (),
    neuron: dict[str, object] = LIF_NEURON,
    seed: int = 0,
    steps: int = 2,
    **section: object,
) -> SpikingNetwork:
    table: dict[str, object] = {
        "shape": list(shape),
        "classes": classes,
        "input_bits": 0,
        "network": {"steps": steps, **section},
        "neuron": neuron,
        "branches": list(branches),
    }
    return SpikingNetwork(Architecture.from_dict(table, where="test"), seed=seed)


def count(made: nn.Module) -> int:
    return sum(parameter.numel() for parameter in made.parameters())


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# --- sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "classes", "expected"),
    [
        # torchvision's resnet18 and resnet34 for 1000 classes, to the parameter.
        ({"architecture": "resnet18", "stem": "imagenet"}, 1000, 11_689_512),
        ({"architecture": "resnet34", "stem": "imagenet"}, 1000, 21_797_672),
        # The same with a 3x3 stem, as is usual for CIFAR: 11.17 and 21.28 million.
        ({"architecture": "resnet18"}, 10, 11_173_962),
        ({"architecture": "resnet34"}, 10, 21_282_122),
        # He et al.'s 269 722, and two 1x1 convolutions with batch norm where shapes change.
        ({"architecture": "resnet20"}, 10, 269_722 + (16 * 32 + 64) + (32 * 64 + 128)),
        # 12.63 million in the literature, which is half a percent less.
        ({"architecture": "resnet19"}, 10, 12_697_994),
        # VGG-16's convolutions with batch norm, less their biases, and a linear map of 512.
        ({"architecture": "vgg16"}, 10, 14_723_136 - 4_224 + 5_130),
    ],
)
def test_numbers_of_parameters_are_the_known_ones(
    section: dict[str, object], classes: int, expected: int
) -> None:
    shape = (3, 224, 224) if section.get("stem") == "imagenet" else (3, 32, 32)
    assert count(network(shape=shape, classes=classes, **section)) == expected


# --- training -------------------------------------------------------------------------------

EVERY: list[dict[str, object]] = [
    {"architecture": "resnet18", "width": 0.0625},
    {"architecture": "resnet18", "width": 0.0625, "stem": "imagenet"},
    {"architecture": "resnet19", "width": 0.0625},
    {"architecture": "resnet20", "width": 0.25},
    {"architecture": "resnet20m", "width": 0.0625},
    {"architecture": "resnet34", "width": 0.0625},
    {**SMALL, "residual": "ms"},
    {**SMALL, "residual": "sew"},
    {"architecture": "plain14", "width": 0.25},
    {"architecture": "plain20", "width": 0.25},
    {"architecture": "plain", "blocks": [1, 1], "channels": 4},
    {"architecture": "vgg11", "width": 0.0625, "pooling": "max"},
    {"architecture": "vgg16", "width": 0.0625, "hidden": [9]},
    {"architecture": "cifarnet", "width": 0.03},
    {"architecture": "mlp", "hidden": [9, 8]},
    {"architecture": "mlp", "hidden": [9], "batch_norm": False},
]


@pytest.mark.parametrize("section", EVERY)
def test_a_step_of_training_reaches_every_weight(section: dict[str, object]) -> None:
    made = network(shape=(3, 32, 32), **section)
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    output = made(images(4, 3, 32, 32))
    classification_loss(output, torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert output.shape == (4, 2, 3)
    for name, p in made.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
    changed = {name for name, p in made.named_parameters() if not torch.equal(p, before[name])}
    assert any(name.startswith("readout") for name in changed)


@pytest.mark.parametrize("norm", ["bn", "tdbn", "tebn"])
@pytest.mark.parametrize("neuron", [LIF_NEURON, CUBA_NEURON])
def test_norms_and_neurons_go_together(norm: str, neuron: dict[str, object]) -> None:
    made = network(**SMALL, norm=norm, neuron=neuron)
    assert made(images(2, 1, 8, 8)).shape == (2, 2, 3)


@pytest.mark.parametrize("residual", ["standard", "ms", "sew"])
def test_spikes_of_every_layer_of_neurons_are_shown(residual: str) -> None:
    made = network(shape=(1, 8, 8), **SMALL, residual=residual)
    _, spikes = made.forward_with_spikes(images(3, 1, 8, 8))
    block = {
        "standard": [".conv1", ""],
        "ms": [".entry", ".conv1"],
        "sew": [".conv1", ".conv2"],
    }[residual]
    last = {"standard": [], "ms": ["spikes"], "sew": ["stage2_block1.projection"]}[residual]
    names = ["stem", *(f"stage{stage}_block1{end}" for stage in (1, 2) for end in block), *last]
    assert list(spikes) == names
    assert spikes["stage2_block1.conv1"].shape == (3, 2, 8, 4, 4)
    for values in spikes.values():
        assert set(values.unique().tolist()) <= {0.0, 1.0}


def test_standard_blocks_add_the_skip_before_the_neurons() -> None:
    made = network(**SMALL)
    block = made.blocks["stage1_block1"]
    assert isinstance(block, StandardBlock)
    x = (images(2, 3, 4, 8, 8) > 0).float()
    expected = block.neurons(block.conv2(block.conv1(x)) + x)
    assert torch.equal(block.train()(x), expected)


def test_spike_element_wise_blocks_give_integers() -> None:
    made = network(architecture="residual", blocks=[3], channels=4, residual="sew").eval()
    with torch.no_grad():
        values = made.blocks["stem"](images(1, 2, 1, 8, 8))
        for name in ("stage1_block1", "stage1_block2", "stage1_block3"):
            values = made.blocks[name](values + 1)
    assert float(values.max()) > 1
    assert torch.equal(values, values.round())


def test_strided_one_by_one_convolutions_have_one_gradient() -> None:
    # Torch's own weight gradient of these differs from call to call on channels-last images.
    synapse = ConvSynapse(4, 8, 1, 2, generator=torch.Generator().manual_seed(0))
    x = images(2, 4, 4, 8, 8)
    gradients = []
    for _ in range(20):
        synapse.zero_grad()
        synapse(x).square().sum().backward()
        gradients.append(synapse.weight.grad)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
    y = nn.functional.conv2d(x.flatten(0, 1).double(), synapse.weight.double(), None, 2)
    torch.testing.assert_close(synapse(x).flatten(0, 1).double(), y, rtol=1e-5, atol=1e-6)


# --- batch norm -----------------------------------------------------------------------------


def test_gamma_starts_at_the_threshold_shared_between_summands() -> None:
    made = network(**SMALL)
    block = made.blocks["stage2_block1"]
    assert isinstance(block, StandardBlock)
    assert block.conv1.batch_norm.weight.tolist() == [0.5] * 8
    half = torch.full((8,), 0.5 * 0.5**0.5)
    assert torch.equal(block.conv2.batch_norm.weight, half)
    assert torch.equal(block.projection.batch_norm.weight, half)
    full = network(**SMALL, alpha=1.0).blocks["stage2_block1"]
    assert full.conv2.batch_norm.weight.tolist() == [0.5] * 8
    plain = network(**SMALL, norm="bn").blocks["stage2_block1"]
    assert plain.conv2.batch_norm.weight.tolist() == [1.0] * 8


def test_temporal_batch_norm_scales_each_step() -> None:
    norm = make_batch_norm("tebn", 2, is_spatial=False, threshold=0.5, steps=3)
    assert isinstance(norm, TemporalBatchNorm)
    x = images(12, 2)
    with torch.no_grad():
        plain = norm.norm(x).view(3, 4, 2)
        norm.factors.copy_(torch.tensor([1.0, 0.0, -2.0]))
        scaled = norm(x).view(3, 4, 2)
    assert torch.equal(scaled[0], plain[0])
    assert not scaled[1].any()
    assert torch.equal(scaled[2], -2 * plain[2])


# --- branches -------------------------------------------------------------------------------

BLOCKS = ("stage1_block1", "stage1_block2")
DEEP: dict[str, object] = {"architecture": "residual", "blocks": [2, 1], "channels": 4}


def trained(made: SpikingNetwork, *, weight: float) -> SpikingNetwork:
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    labels = torch.tensor([0, 1, 2, 0])
    for _ in range(3):
        main, branches = made.forward_with_branches(images(4, 1, 8, 8))
        optimizer.zero_grad()
        loss = classification_loss(combine_outputs(main, branches, weight=weight), labels)
        loss.backward()
        optimizer.step()
    return made


@pytest.mark.parametrize("residual", ["standard", "ms", "sew"])
def test_branches_of_weight_zero_train_as_vanilla_to_the_bit(residual: str) -> None:
    vanilla = trained(network(**DEEP, residual=residual), weight=0.0)
    zero = trained(network(**DEEP, residual=residual, branches=BLOCKS), weight=0.0)
    other = trained(network(**DEEP, residual=residual, branches=BLOCKS), weight=0.25)
    expected = vanilla.state_dict()
    found = remove_branches(zero).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    stem = "blocks.stem.synapse.weight"
    assert not torch.equal(other.state_dict()[stem], expected[stem])


@pytest.mark.parametrize("residual", ["standard", "ms", "sew"])
def test_removing_branches_keeps_the_main_output_to_the_bit(residual: str) -> None:
    made = trained(network(**DEEP, residual=residual, branches=BLOCKS), weight=0.25).eval()
    bare = remove_branches(made)
    assert bare.branches is None
    assert torch.equal(bare(images(5, 1, 8, 8)), made(images(5, 1, 8, 8)))
    assert torch.equal(bare(images(5, 1, 8, 8)), made.forward_with_branches(images(5, 1, 8, 8))[0])


def test_branches_carry_gradient_straight_to_the_stem() -> None:
    made = network(**DEEP, branches=("stem",))
    _, (branch,) = made.forward_with_branches(images(4, 1, 8, 8))
    branch.sum().backward()
    reached = {name.split(".")[1] for name, p in made.named_parameters() if p.grad is not None}
    assert reached == {"stem", "heads"}


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["bn", "tdbn", "tebn"])
@pytest.mark.parametrize("residual", ["standard", "ms", "sew"])
def test_saved_and_loaded_network_gives_the_same_output(
    residual: str, norm: str, tmp_path: Path
) -> None:
    made = trained(network(**DEEP, residual=residual, norm=norm), weight=0.0).eval()
    made.save(tmp_path / "network.safetensors")
    loaded = SpikingNetwork.load(tmp_path / "network.safetensors")
    assert loaded.architecture == made.architecture
    assert torch.equal(loaded(images(2, 1, 8, 8)), made(images(2, 1, 8, 8)))


def test_tables_from_before_architectures_had_names_are_read() -> None:
    table: dict[str, object] = {
        "shape": [1, 8, 8],
        "classes": 3,
        "input_bits": 4,
        "network": {"steps": 2, "layers": [{"type": "conv", "channels": 4}], "readout": "linear"},
        "neuron": {"model": "lif", "tau": 0.5, "threshold": 0.5},
        "branches": [],
    }
    architecture = Architecture.from_dict(table, where="old")
    assert architecture.network.architecture == "sequential"
    assert architecture.network.norm == "tdbn"
    assert SpikingNetwork(architecture).blocks["conv1"].batch_norm.weight.tolist() == [0.5] * 4


# --- lower precision ------------------------------------------------------------------------


def autocast_step(made: SpikingNetwork, dtype: torch.dtype) -> dict[str, Tensor]:
    """Train one step on a batch under autocast; return the spikes of all layers."""
    made.train()
    with torch.autocast("cpu", dtype=dtype):
        scores, spikes = made.forward_with_spikes(images(4, 2, 1, 8, 8))
    scores.float().square().mean().backward()
    return spikes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("neuron", [LIF_NEURON, CUBA_NEURON], ids=["lif", "cuba"])
@pytest.mark.parametrize("residual", ["standard", "ms", "sew"])
def test_norms_and_neurons_compute_in_float32_under_autocast(
    residual: str, neuron: dict[str, object], dtype: torch.dtype
) -> None:
    made = network(**SMALL, residual=residual, norm="tdbn", neuron=neuron)
    inputs: list[torch.dtype] = []
    for module in made.modules():
        if isinstance(module, SpikingNeuron):
            module.register_forward_hook(lambda _, __, output: inputs.append(output.dtype))

    spikes = autocast_step(made, dtype)

    assert {values.dtype for values in spikes.values()} | set(inputs) == {torch.float32}
    assert any(values.any() for values in spikes.values())
    learned = [parameter for parameter in made.parameters() if parameter.requires_grad]
    assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in learned)


def test_compiled_blocks_train_under_autocast() -> None:
    made = network(**SMALL, norm="tdbn")
    made.compile_blocks(backend="eager")
    spikes = autocast_step(made, torch.bfloat16)
    assert {values.dtype for values in spikes.values()} == {torch.float32}
