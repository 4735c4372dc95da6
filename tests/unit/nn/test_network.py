from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from neurodeploy.errors import (
    CheckpointError,
    DataError,
    NeurodeployWarning,
    OutputError,
    RecipeError,
)
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import LIF, CubaLIF
from neurodeploy.nn.synapse import ConvSynapse
from neurodeploy.nn.tensor_files import read_tensors, write_tensors
from neurodeploy.recipes.recipe import Architecture, Recipe

LIF_NEURON: dict[str, object] = {"model": "lif", "tau": 0.5, "threshold": 0.5}
CUBA_NEURON: dict[str, object] = {
    "model": "cuba",
    "threshold": 0.25,
    "current_decay": 0.5,
    "voltage_decay": 0.1,
}
CONVS: list[dict[str, object]] = [
    {"type": "conv", "channels": 4},
    {"type": "conv", "name": "second", "channels": 6, "stride": 2},
]


def architecture(**changes: object) -> Architecture:
    table: dict[str, object] = {
        "shape": [1, 6, 6],
        "classes": 3,
        "input_bits": 4,
        "network": {"steps": 3, "layers": CONVS, "readout": "linear"},
        "neuron": LIF_NEURON,
        "branches": ["conv1", "second"],
    }
    return Architecture.from_dict(table | changes, where="test")


def images(samples: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 17, (samples, 1, 6, 6), generator=generator, dtype=torch.int32)


def test_outputs_have_a_row_for_each_step() -> None:
    network = SpikingNetwork(architecture())
    main, branches = network.forward_with_branches(images())
    assert main.shape == (5, 3, 3)
    assert [branch.shape for branch in branches] == [(5, 3, 3)] * 2
    _, spikes = network.forward_with_spikes(images())
    assert {name: tuple(values.shape) for name, values in spikes.items()} == {
        "conv1": (5, 3, 4, 6, 6),
        "second": (5, 3, 6, 3, 3),
    }
    assert all(set(values.unique().tolist()) == {0.0, 1.0} for values in spikes.values())


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("neuron", [LIF_NEURON, CUBA_NEURON])
@pytest.mark.parametrize(
    "layers", [CONVS, [{"type": "dense", "neurons": 9}, {"type": "dense", "neurons": 7}]]
)
def test_a_static_image_is_the_same_image_in_every_step(
    layers: list[dict[str, object]], neuron: dict[str, object], mode: bool
) -> None:
    network = SpikingNetwork(
        architecture(network={"steps": 3, "layers": layers}, neuron=neuron, branches=[])
    ).train(mode)
    other = SpikingNetwork(network.architecture).train(mode)
    repeated = images().unsqueeze(1).expand(-1, 3, -1, -1, -1)
    assert torch.equal(network(images()), other(repeated))
    for mine, theirs in zip(
        network.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_inputs_are_scaled_by_a_power_of_two() -> None:
    network = SpikingNetwork(architecture()).eval()
    assert network.input_scale == 1 / 16
    assert network.largest_input == 16
    doubled = SpikingNetwork(architecture(input_bits=5)).eval()
    assert torch.equal(network(images()), doubled(images() * 2))


def test_dense_blocks_and_pooled_readout() -> None:
    layers = [{"type": "conv", "channels": 2}, {"type": "dense", "neurons": 7}]
    network = SpikingNetwork(architecture(network={"steps": 2, "layers": layers}, branches=[]))
    assert network(images()).shape == (5, 2, 3)
    pooled = SpikingNetwork(
        architecture(
            network={"steps": 2, "layers": CONVS, "readout": "gap_linear"}, branches=["conv1"]
        )
    )
    assert pooled(images()).shape == (5, 2, 3)
    assert pooled.readout.synapse.shape == (3, 6)


def test_neurons_are_those_of_the_architecture() -> None:
    lif = SpikingNetwork(
        architecture(neuron=LIF_NEURON | {"surrogate": {"name": "triangular", "height": 2}})
    )
    neuron = lif.blocks["second"].neuron
    assert isinstance(neuron, LIF)
    assert (neuron.tau, neuron.threshold) == (0.5, 0.5)
    assert neuron.surrogate.name == "triangular"
    assert lif.blocks["second"].batch_norm.weight.tolist() == [0.5] * 6
    cuba = SpikingNetwork(architecture(neuron=CUBA_NEURON))
    neuron = cuba.blocks["second"].neuron
    assert isinstance(neuron, CubaLIF)
    assert (neuron.cx_current_decay, neuron.cx_voltage_decay) == (2048, 410)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (SpikingNetwork(architecture(), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [network.blocks["conv1"].synapse.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("shape", [(5, 1, 6, 5), (5, 2, 1, 6, 6), (5, 36), (5, 3, 36)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"\(samples, 1, 6, 6\) or \(samples, 3, 1, 6, 6\)"):
        SpikingNetwork(architecture())(torch.zeros(shape))


def test_saved_and_loaded_network_gives_the_same_output(tmp_path: Path) -> None:
    network = SpikingNetwork(architecture(), seed=3)
    network(images())  # moves the running statistics of batch norm
    path = tmp_path / "network.safetensors"
    network.save(path)
    loaded = SpikingNetwork.load(path)
    assert loaded.architecture == network.architecture
    assert not loaded.training
    assert torch.equal(loaded(images()), network.eval()(images()))


def test_equal_networks_make_equal_files(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(5)]
    for path in paths:
        SpikingNetwork(architecture(), seed=3).save(path)
    assert len({path.read_bytes() for path in paths}) == 1


def test_files_of_other_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="tensors of another program"):
        SpikingNetwork.load(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        SpikingNetwork.load(path)
    SpikingNetwork(architecture()).save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:40], b"", b"\x00" * 100, whole.replace(b"conv", b"cony")):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"network\.safetensors"):
            SpikingNetwork.load(path)


def test_every_change_of_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    SpikingNetwork(architecture()).save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(CheckpointError):
            SpikingNetwork.load(path)


def test_a_file_of_the_first_format_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    network = SpikingNetwork(architecture())
    network.save(path)
    with safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()["neurodeploy"])
    header["kind"] = "neurodeploy-network-1"
    save_file(network.state_dict(), path, metadata={"neurodeploy": json.dumps(header)})
    with pytest.raises(CheckpointError, match="wrong keys"):  # a hash that nobody would check
        SpikingNetwork.load(path)
    del header["sha256"]
    save_file(network.state_dict(), path, metadata={"neurodeploy": json.dumps(header)})
    with pytest.warns(NeurodeployWarning, match="without a hash of its content"):
        loaded = SpikingNetwork.load(path)
    assert torch.equal(loaded(images()), network.eval()(images()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "network.safetensors"
    network = SpikingNetwork(architecture())
    with torch.no_grad():
        network.blocks["conv1"].synapse.weight[0, 0, 0, 0] = value
    network.save(path)
    with pytest.raises(CheckpointError, match=r"'blocks\.conv1\.synapse\.weight' holds numbers"):
        SpikingNetwork.load(path)


def test_a_normalization_of_other_channels_is_refused() -> None:
    for changes in ({"input_mean": [0.5]}, {"input_mean": [0.5] * 3, "input_deviation": [1.0] * 3}):
        with pytest.raises(RecipeError, match="input_mean and input_deviation have"):
            architecture(**changes)


def test_an_architecture_beyond_its_file_is_refused_before_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    small = SpikingNetwork(architecture())
    huge = dataclasses.replace(architecture(), classes=1 << 18)
    metadata = {"architecture": huge.to_dict()}
    write_tensors(path, small.state_dict(), kind="neurodeploy-network", metadata=metadata)
    with pytest.raises(CheckpointError, match="weights, of which the file holds"):
        SpikingNetwork.load(path)


def test_a_network_of_another_recipe_is_refused(tmp_path: Path) -> None:
    text = """
    [recipe]
    name = "small"
    [data]
    [network]
    steps = 2
    layers = [{type = "conv", channels = 2}]
    [neuron]
    [shortcut]
    method = "evolutionary"
    after = ["conv1"]
    [training]
    epochs = 1
    """
    recipe = Recipe.parse(text)
    path = tmp_path / "network.safetensors"
    network = SpikingNetwork.from_recipe(recipe)
    network.save(path)
    assert SpikingNetwork.load(path, recipe=recipe).branches is not None
    network.without_branches().save(path)
    assert SpikingNetwork.load(path, recipe=recipe).branches is None
    other = Recipe.parse(text, overrides={"neuron.tau": "0.25"})
    with pytest.raises(CheckpointError, match=r"another recipe: neuron is .*tau=0\.5"):
        SpikingNetwork.load(path, recipe=other)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.safetensors"
    SpikingNetwork(architecture(), seed=1).save(path)
    old = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        SpikingNetwork(architecture(), seed=2).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_kaiming_weights_have_the_variance_of_their_fan_out() -> None:
    text = """
        [recipe]
        name = "wide"
        [data]
        [network]
        architecture = "residual"
        blocks = [1, 1]
        channels = 32
        steps = 1
        initial_weights = "kaiming"
        [neuron]
        [training]
        epochs = 1
        """
    network = SpikingNetwork.from_recipe(Recipe.parse(text))
    convolutions = [
        module for module in network.blocks.modules() if isinstance(module, ConvSynapse)
    ]
    assert len(convolutions) == 6
    for module in convolutions:
        channels, _, *kernel = module.weight.shape
        expected = (2 / (channels * kernel[0] * kernel[1])) ** 0.5
        # The deviation of n draws varies by 1 / sqrt(2 n) of itself.
        tolerance = 5 / (2 * module.weight.numel()) ** 0.5
        assert float(module.weight.detach().std()) == pytest.approx(expected, rel=tolerance)
    again = SpikingNetwork.from_recipe(Recipe.parse(text))
    assert torch.equal(network.blocks.stem.synapse.weight, again.blocks.stem.synapse.weight)


def test_a_name_that_is_no_utf8_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.safetensors")
    write_tensors(path, {"weight": torch.arange(3.0)}, kind="test", metadata={"epoch": 1})
    tensors, metadata = read_tensors(path, kind="test")
    assert tensors["weight"].tolist() == [0, 1, 2]
    assert metadata == {"epoch": 1}
