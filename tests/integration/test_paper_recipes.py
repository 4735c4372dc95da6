"""Every row of the paper builds at full size and trains one step; data sets are asked for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

from neurodeploy.data import load_data
from neurodeploy.errors import DataError, RecipeError
from neurodeploy.learning.losses import combine_outputs, training_loss
from neurodeploy.learning.trainer import make_optimizer
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.synapse import ConvSynapse
from neurodeploy.recipes.data_sections import EventSection
from neurodeploy.recipes.recipe import Recipe, load_named, recipe_sources

ROWS = {name: recipe for name in recipe_sources() if (recipe := load_named(name)).paper is not None}
DISTINCT: dict[tuple[object, ...], str] = {}
"""One row for each network: methods differ in branches only, which the last of them has."""
for _name, _recipe in ROWS.items():
    _key = (_recipe.data.source, _recipe.network.architecture, _recipe.network.steps)
    DISTINCT[_key] = _name

TRAINING_SAMPLES = {"cifar10": 50000, "cifar100": 50000, "imagenet": 1281167, "cifar10dvs": 9000}
FLOPS = 1e13
"""What training/README.md assumes that a GPU does in a second, sustained."""


TABLES = """
1 cifar100   resnet18  2 vanilla      71.42
1 cifar100   resnet18  2 shortcut     73.68
1 cifar100   resnet18  2 evolutionary 74.02
1 cifar100   resnet18  4 vanilla      72.22
1 cifar100   resnet18  4 shortcut     74.78
1 cifar100   resnet18  4 evolutionary 74.83
1 cifar100   resnet34  2 vanilla      69.82
1 cifar100   resnet34  2 shortcut     74.06
1 cifar100   resnet34  2 evolutionary 74.17
1 cifar100   resnet34  4 vanilla      69.98
1 cifar100   resnet34  4 shortcut     75.67
1 cifar100   resnet34  4 evolutionary 75.81
2 cifar10    resnet18  1 shortcut     93.89 0.11
2 cifar10    resnet18  2 shortcut     93.92 0.08
2 cifar10    resnet18  2 evolutionary 94.30 0.09
2 cifar10    resnet18  4 evolutionary 94.46 0.11
2 cifar100   resnet18  2 shortcut     73.68 0.10
2 cifar100   resnet18  4 shortcut     74.02 0.08
2 cifar100   resnet18  2 evolutionary 74.78 0.09
2 cifar100   resnet18  4 evolutionary 74.83 0.11
3 imagenet   resnet18  4 shortcut     64.47 0.21
3 imagenet   resnet34  4 shortcut     67.90 0.17
3 imagenet   resnet18  4 evolutionary 65.12 0.18
3 imagenet   resnet34  4 evolutionary 68.14 0.15
4 cifar10dvs resnet18 10 shortcut     82.00 0.10
4 cifar10dvs resnet18 10 evolutionary 83.30 0.10
"""
"""The paper's own rows in all four tables of arXiv 2401.04486v1 (9 January 2024), copied by hand:
table, data set, network, T, method, accuracy and standard deviation in percent as printed."""

V1 = {name: recipe for name, recipe in ROWS.items() if recipe.paper and recipe.paper.text == "v1"}


def test_the_figures_are_those_of_the_tables() -> None:
    """A row in two tables has one figure where they agree, two where they contradict each other."""
    printed: dict[str, dict[float, tuple[list[str], float | None]]] = {}
    for line in TABLES.strip().splitlines():
        table, data, network, steps, method, accuracy, *spread = line.split()
        figures = printed.setdefault(f"{data}_{network}_t{steps}_{method}", {})
        before = figures.get(float(accuracy), ([], None))[0]
        figures[float(accuracy)] = [*before, table], float(spread[0]) if spread else None
    assert len(printed) == 22
    assert set(V1) == set(printed)
    for name, recipe in V1.items():
        assert recipe.paper is not None
        found = [(each.accuracy, each.spread, each.place) for each in recipe.paper.targets]
        assert found == [
            (accuracy, spread, f"Table{'s' * (len(tables) > 1)} {' and '.join(tables)}")
            for accuracy, (tables, spread) in printed[name].items()
        ], name


def test_rows_of_the_later_text_stand_apart() -> None:
    """Version 1 reports the method with ResNet-18 and -34 only; other networks come later."""
    later = {name: recipe for name, recipe in ROWS.items() if name not in V1}
    assert len(later) == 16
    targets = {}
    for name, recipe in later.items():
        assert recipe.paper is not None
        assert recipe.paper.text == "NeurIPS"
        assert recipe.network.architecture in ("resnet19", "resnet20m")
        assert recipe.paper.targets or "established" in recipe.paper.note
        for target in recipe.paper.targets:
            targets[name] = target.accuracy, target.spread, target.place
    assert targets == {
        "cifar10_resnet19_t2_evolutionary": (95.36, None, "Section 5.2"),
        "cifar100_resnet19_t2_evolutionary": (77.79, None, "Section 5.2"),
    }
    files = {name: Path(source.partition("#")[0]).stem for name, source in recipe_sources().items()}
    for name, recipe in ROWS.items():
        kind = "paper" if name in V1 else "neurips"
        assert files[name] == f"{recipe.data.source}_{kind}"


def test_names_say_which_row_it_is() -> None:
    for name, recipe in ROWS.items():
        key = f"{recipe.network.architecture}_t{recipe.network.steps}_{recipe.shortcut.method}"
        assert name == f"{recipe.data.source}_{key}"
        assert recipe.paper is not None
        assert recipe.paper.trials == 3
        assert Recipe.parse(recipe.to_toml()) == recipe


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar100_resnet18_t2_evolutionary", "exchange the figures of this row and of shortcut"),
        ("cifar100_resnet18_t4_shortcut", "exchange the figures of this row and of evolutionary"),
        ("cifar100_resnet18_t2_shortcut", "2.26 points"),
        ("cifar100_resnet34_t4_shortcut", "5.69"),
        ("cifar100_resnet18_t4_evolutionary", "0.36 points"),
        ("cifar10_resnet18_t1_shortcut", "T = 1 as printed"),
        ("cifar10_resnet18_t2_shortcut", "Section 5.2"),
        ("cifar10_resnet18_t4_evolutionary", "RecDis-SNN 95.53"),
        ("cifar10dvs_resnet18_t10_shortcut", "static"),
    ],
)
def test_contradictions_of_the_text_are_noted(name: str, words: str) -> None:
    paper = ROWS[name].paper
    assert paper is not None
    assert words in paper.note


@pytest.mark.parametrize(
    "path",
    sorted({Path(recipe_sources()[name].partition("#")[0]) for name in ROWS}),
    ids=lambda path: path.stem,
)
def test_every_setting_names_its_text(path: Path) -> None:
    """Each key that bears on the result stands once among the four sources."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = [table, *table["variant"]]
    keys = {
        f"{section}.{key}"
        for part in parts
        for section in ("data", "network", "neuron", "shortcut", "training")
        for key in part.get(section, {})
    }
    named = [key for keys in table["paper"]["settings"].values() for key in keys]
    assert sorted(named) == sorted(keys - {"data.root", "data.workers"})
    later = {"network.architecture", "network.steps"} if "neurips" in path.stem else set()
    assert set(table["paper"]["settings"]["neurips"]) - later == {
        *("neuron.tau", "neuron.threshold", "training.optimizer", "training.learning_rate"),
        *("training.weight_decay", "training.schedule", "training.epochs", "training.batch_size"),
    }


def test_settings_are_those_of_the_later_text() -> None:
    for name, recipe in ROWS.items():
        training = recipe.training
        rate = 0.004 if recipe.data.source == "imagenet" else 0.01
        assert (training.optimizer, training.learning_rate) == ("adamw", rate), name
        assert (training.weight_decay, training.schedule) == (0.02, "cosine"), name
        assert (training.batch_size, training.epochs) == (128, 300), name
        assert (recipe.neuron.tau, recipe.neuron.threshold) == (0.5, 1.0), name


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTINCT.values())
def test_a_full_size_network_trains_one_step(name: str) -> None:
    recipe = ROWS[name]
    assert recipe.paper is not None
    network = SpikingNetwork.from_recipe(recipe)
    macs = 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(module, ConvSynapse)
        macs += output.numel() * module.weight[0].numel()

    for module in network.blocks.modules():
        if isinstance(module, ConvSynapse):
            module.register_forward_hook(count)
    shape = recipe.data.shape
    is_static = not isinstance(recipe.data, EventSection)
    size = (1, *shape) if is_static else (1, recipe.network.steps, *shape)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 2**recipe.data.input_bits, size, generator=generator)
    before = network.blocks[next(iter(network.blocks))].synapse.weight.detach().clone()

    optimizer = make_optimizer(network, recipe.training)
    main, branches = network.forward_with_branches(inputs)
    output = combine_outputs(main, branches, weight=recipe.shortcut.weight or 0.25)
    loss = training_loss(output, torch.zeros(1, dtype=torch.int64), loss=recipe.training.loss)
    loss.backward()
    optimizer.step()

    assert main.shape == (1, recipe.network.steps, recipe.data.classes)
    assert len(branches) == (2 if recipe.network.architecture == "resnet19" else 3)
    assert bool(loss.isfinite())
    after = network.blocks[next(iter(network.blocks))].synapse.weight
    assert not torch.equal(before, after)

    # Two operations a MAC; backward takes twice as many as forward.
    samples = TRAINING_SAMPLES[recipe.data.source] * recipe.training.epochs
    hours = 6 * macs * samples * recipe.paper.trials / FLOPS / 3600
    assert recipe.paper.gpu_hours == pytest.approx(hours, rel=0.1)


def parameters(architecture: str, classes: int, *, stem: str = "cifar") -> int:
    size = 32 if stem == "cifar" else 224
    network = f'architecture = "{architecture}"\nstem = "{stem}"\nsteps = 1'
    recipe = Recipe.parse(
        f"""
        [recipe]
        name = "count"
        [data]
        source = "imagenet"
        root = "nowhere"
        size = {size}
        classes = {classes}
        [network]
        {network}
        [neuron]
        [training]
        epochs = 1
        """
    )
    return sum(each.numel() for each in SpikingNetwork.from_recipe(recipe).parameters())


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34"])
def test_parameters_are_as_many_as_torchvisions(architecture: str) -> None:
    models = pytest.importorskip("torchvision.models")

    def theirs(classes: int) -> int:
        network = getattr(models, architecture)(weights=None, num_classes=classes)
        return sum(each.numel() for each in network.parameters())

    # The stem for CIFAR has 3x3 weights in place of 7x7.
    smaller_stem = 3 * 64 * (7 * 7 - 3 * 3)
    assert parameters(architecture, 1000, stem="imagenet") == theirs(1000)
    assert parameters(architecture, 100) == theirs(100) - smaller_stem


@pytest.mark.parametrize(
    ("architecture", "classes", "expected"),
    [
        # As of github.com/kuangliu/pytorch-cifar.
        ("resnet18", 10, 11_173_962),
        ("resnet34", 10, 21_282_122),
        # He et al.'s ResNet-20, "0.27 M", with 1x1 convolutions where channels change.
        ("resnet20", 10, 272_474),
        # Counted by hand from the layers of Zheng et al. 2021, 256 dense neurons included.
        ("resnet19", 10, 12_697_994),
        # ResNet-18 and two more stem convolutions of 64 channels with their batch norms.
        ("resnet20m", 10, 11_173_962 + 2 * (64 * 64 * 9 + 2 * 64)),
    ],
)
def test_parameters_are_those_known(architecture: str, classes: int, expected: int) -> None:
    assert parameters(architecture, classes) == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10_resnet18_t2_shortcut", ["data/cifar10", "cs.toronto.edu"]),
        ("cifar100_resnet34_t4_vanilla", ["data/cifar100", "cs.toronto.edu"]),
        ("imagenet_resnet34_t4_evolutionary", ["data/imagenet", "image-net.org", "train"]),
    ],
)
def test_missing_data_are_asked_for(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        load_data(ROWS[name])
    for word in words:
        assert word in str(caught.value)


def test_missing_event_data_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tonic")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="data/cifar10dvs"):
        load_data(ROWS["cifar10dvs_resnet18_t10_shortcut"])


def test_an_unknown_name_is_answered_with_those_like_it() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'cifar100_resnet18_t2_vanilla'"):
        load_named("cifar100_resnet18_t2_vanila")
