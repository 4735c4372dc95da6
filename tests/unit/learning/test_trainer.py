from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurodeploy.data import ArrayDataset, load_data
from neurodeploy.errors import (
    CheckpointError,
    DataError,
    OutputError,
    TrainingError,
)
from neurodeploy.learning.checkpoints import (
    EpochRecord,
    History,
    IterationRecord,
    read_checkpoint,
    write_checkpoint,
)
from neurodeploy.learning.engine import Hardware, TrainingEngine
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.learning.trainer import (
    BEST,
    CHECKPOINT,
    LAST,
    METRICS,
    Trainer,
    make_optimizer,
)
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.recipes.recipe import Architecture, Recipe
from neurodeploy.recipes.training_sections import ShortcutSection, TrainingSection

EVOLUTIONARY = ShortcutSection(method="evolutionary", after=("conv1",))
VANILLA = ShortcutSection()


def network(*, branches: bool = True, convolutions: int = 1) -> SpikingNetwork:
    layers: list[dict[str, object]] = [{"type": "conv", "channels": 3}] * convolutions
    return SpikingNetwork(
        Architecture.from_dict(
            {
                "shape": [1, 4, 4],
                "classes": 2,
                "input_bits": 2,
                "network": {
                    "steps": 2,
                    "layers": [*layers, {"type": "dense", "neurons": 5}],
                },
                "neuron": {},
                "branches": ["conv1"] if branches else [],
            },
            where="test",
        ),
        seed=1,
    )


def dataset(samples: int, seed: int = 0) -> ArrayDataset:
    """Bright left half or bright right half, with noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(samples, dtype=np.int64) % 2
    inputs = random.integers(0, 3, (samples, 1, 4, 4), dtype=np.int32)
    inputs[labels == 0, :, :, :2] += 2
    inputs[labels == 1, :, :, 2:] += 2
    return ArrayDataset(inputs=inputs, labels=labels, shape=(1, 4, 4), classes=2, scale=0.25)


def section(**changes: object) -> TrainingSection:
    base = TrainingSection(epochs=4, batch_size=8, learning_rate=0.05, threads=1, keep="last")
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]  # checked by the tests


def fit(
    module: nn.Module,
    training: TrainingSection | None = None,
    *,
    directory: Path | None = None,
    resume: bool = False,
    shortcut: ShortcutSection = EVOLUTIONARY,
    seed: int = 3,
    stop_after: int | None = None,
    iterations: list[IterationRecord] | None = None,
) -> History:
    def on_iteration(record: IterationRecord) -> None:
        if iterations is not None:
            iterations.append(record)
        if record.iteration == stop_after:
            raise KeyboardInterrupt

    trainer = Trainer(
        training or section(),
        seed=seed,
        shortcut=shortcut,
        shift=1,
        directory=directory,
        on_iteration=on_iteration,
    )
    return trainer.fit(module, dataset(30), dataset(10, seed=1), resume=resume)


def same(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()
    )


class WithDropout(nn.Module):
    """Not a `SpikingNetwork`: all that the trainer needs is the call."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.linear = nn.Linear(16, 2)
        with torch.no_grad():
            self.linear.weight.normal_(generator=generator)
            self.linear.bias.zero_()
        self.dropout = nn.Dropout(0.3)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.dropout(inputs.flatten(1).float()))
        return scores.unsqueeze(1).expand(-1, 2, -1)


def test_training_learns_and_reports() -> None:
    module = network()
    history = fit(module, section(epochs=8))
    assert [record.epoch for record in history.epochs] == list(range(1, 9))
    assert history.epochs[-1].iterations == 32
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert evaluate(module, dataset(40, seed=2)).accuracy > 0.9
    assert history.epochs[-1].spike_rates.keys() == {"conv1", "dense2"}
    assert history.kept_epoch == 8
    assert not module.training


def test_branch_weight_and_learning_rate_change_every_iteration() -> None:
    records: list[IterationRecord] = []
    fit(network(), iterations=records)
    assert [record.iteration for record in records] == list(range(16))
    assert [record.branch_weight for record in records] == [
        0.25 * (1 - i / 16) for i in range(1, 17)
    ]
    assert [record.learning_rate for record in records] == [
        0.05 * 0.5 * (1 + np.cos(np.pi * i / 16)) for i in range(16)
    ]
    assert [record.epoch for record in records] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_branches_of_weight_zero_train_as_vanilla() -> None:
    branched, vanilla, evolutionary = network(), network(branches=False), network()
    fit(branched, shortcut=dataclasses.replace(EVOLUTIONARY, weight=0.0))
    fit(vanilla, shortcut=ShortcutSection())
    fit(evolutionary)
    assert same(branched.without_branches(), vanilla)
    assert not same(evolutionary.without_branches(), vanilla)


def test_training_depends_on_the_seed_alone() -> None:
    first, again, other = network(), network(), network()
    fit(first)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    fit(again)
    fit(other, seed=4)
    assert same(first, again)
    assert not same(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop_after", [4, 6, 11])
@pytest.mark.parametrize("make", [network, WithDropout])
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(
    tmp_path: Path, optimizer: str, stop_after: int, make: type[nn.Module]
) -> None:
    training = section(optimizer=optimizer, keep="last", learning_rate=0.01)
    whole, stopped, resumed = make(), make(), make()
    expected = fit(whole, training)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, training, directory=tmp_path, stop_after=stop_after)
    assert not same(stopped, whole)
    with torch.no_grad():
        for parameter in resumed.parameters():
            parameter.add_(1.0)
    found = fit(resumed, training, directory=tmp_path, resume=True)
    assert same(resumed, whole)
    assert [dataclasses.replace(record, seconds=0.0) for record in found.epochs] == [
        dataclasses.replace(record, seconds=0.0) for record in expected.epochs
    ]
    assert (found.best_epoch, found.kept_epoch) == (expected.best_epoch, expected.kept_epoch)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first, again = network(), network()
    history = fit(first, section(keep="best"), directory=tmp_path)
    records: list[IterationRecord] = []
    found = fit(again, section(keep="best"), directory=tmp_path, resume=True, iterations=records)
    assert records == []
    assert same(first, again)
    assert found.epochs == history.epochs


def test_resume_without_a_checkpoint_starts_at_the_beginning(tmp_path: Path) -> None:
    first, second = network(), network()
    fit(first)
    fit(second, directory=tmp_path, resume=True)
    assert same(first, second)
    with pytest.raises(TrainingError, match="resume without a directory"):
        fit(network(), resume=True)


def test_best_and_last_network_are_written(tmp_path: Path) -> None:
    module = network()
    history = fit(module, section(epochs=6, learning_rate=0.5), directory=tmp_path)
    best, last = (SpikingNetwork.load(tmp_path / name) for name in (BEST, LAST))
    assert same(last, module)
    record = history.epochs[history.best_epoch - 1]
    result = evaluate(best, dataset(10, seed=1))
    assert (result.accuracy, result.loss) == (record.validation_accuracy, record.validation_loss)
    ranked = max(history.epochs, key=lambda r: (r.validation_accuracy, -r.validation_loss))
    assert record == ranked


def test_keep_best_leaves_the_best_weights_in_the_network(tmp_path: Path) -> None:
    module = network()
    history = fit(module, section(epochs=6, learning_rate=0.5, keep="best"), directory=tmp_path)
    assert history.kept_epoch == history.best_epoch
    assert same(module, SpikingNetwork.load(tmp_path / BEST))


def test_metrics_are_one_line_of_json_an_epoch(tmp_path: Path) -> None:
    history = fit(network(), directory=tmp_path)
    lines = (tmp_path / METRICS).read_text().splitlines()
    assert [EpochRecord.from_json(json.loads(line), where="metrics") for line in lines] == list(
        history.epochs
    )


def test_epochs_callback_comes_after_the_checkpoint(tmp_path: Path) -> None:
    seen: list[int] = []

    def on_epoch(record: EpochRecord) -> None:
        progress = read_checkpoint(tmp_path / CHECKPOINT).progress["epochs"]
        assert isinstance(progress, list)
        seen.append(len(progress))
        assert len(progress) == record.epoch

    Trainer(section(), directory=tmp_path, on_epoch=on_epoch).fit(
        network(), dataset(10), dataset(6)
    )
    assert seen == [1, 2, 3, 4]


def test_no_epochs_leave_the_network_as_it_was() -> None:
    module = network()
    history = fit(module, section(epochs=0))
    assert (history.epochs, history.best_epoch, history.kept_epoch) == ((), 0, 0)
    assert same(module, network())


def test_a_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    class Exploding(WithDropout):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) * (torch.nan if self.bad else 1.0)

        bad = False

    module = Exploding()

    def on_epoch(record: EpochRecord) -> None:
        module.bad = record.epoch == 2

    trainer = Trainer(section(), directory=tmp_path, on_epoch=on_epoch)
    with pytest.raises(TrainingError, match=r"epoch 3, iteration 4: the loss is nan"):
        trainer.fit(module, dataset(10), dataset(6))
    progress = read_checkpoint(tmp_path / CHECKPOINT).progress["epochs"]
    assert isinstance(progress, list)
    assert len(progress) == 2
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_a_validation_loss_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    class OnlyTrains(WithDropout):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) * (1.0 if self.training else torch.inf)

    with pytest.raises(TrainingError, match="epoch 1: the loss on the validation part is"):
        fit(OnlyTrains(), directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_batch_norm_over_one_value_is_refused_before_training(tmp_path: Path) -> None:
    """`dense2` sees as many values as samples and steps, `conv1` 16 places of one static step."""

    def narrow(steps: int, *, layers: Sequence[dict[str, object]]) -> SpikingNetwork:
        table = {
            "shape": [1, 4, 4],
            "classes": 2,
            "input_bits": 2,
            "network": {"steps": steps, "layers": [*layers]},
            "neuron": {},
        }
        return SpikingNetwork(Architecture.from_dict(table, where="test"))

    conv = {"type": "conv", "channels": 3}
    dense: dict[str, object] = {"type": "dense", "neurons": 5}
    point = {"type": "conv", "channels": 3, "kernel": 4, "padding": 0}  # a map of 1x1
    plain = dense | {"batch_norm": False}
    cases = [
        (narrow(1, layers=[conv, dense]), section(batch_size=1), "dense2"),
        (narrow(1, layers=[conv, dense]), section(batch_size=8, accumulate=4), "dense2"),
        (narrow(1, layers=[conv, dense]), section(batch_size=29, accumulate=8), "dense2"),
        (narrow(4, layers=[point]), section(batch_size=1), "conv1"),  # the same in every step
        (narrow(1, layers=[conv, point]), section(batch_size=1), "conv2"),
    ]
    for module, training, name in cases:
        iterations: list[IterationRecord] = []
        with pytest.raises(TrainingError, match=f"'{name}'.*single value.*training.batch_size"):
            fit(module, training, directory=tmp_path, shortcut=VANILLA, iterations=iterations)
        assert not iterations
        assert not list(tmp_path.iterdir())
    for module, training in [
        (narrow(2, layers=[conv, dense]), section(batch_size=1, epochs=1)),
        (narrow(1, layers=[conv, dense]), section(batch_size=8, accumulate=3, epochs=1)),
        (narrow(1, layers=[conv, plain]), section(batch_size=1, epochs=1)),
    ]:
        assert len(fit(module, training, shortcut=VANILLA).epochs) == 1


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(TrainingError, match="nothing to learn"):
        fit(nn.Identity())


def test_parts_without_samples_are_refused() -> None:
    recipe = Recipe.load("digits")
    train, *_ = load_data(recipe)
    nothing, few = train.subset(np.arange(0)), train.subset(np.arange(8))
    network, trainer = SpikingNetwork.from_recipe(recipe), Trainer(recipe.training)
    with pytest.raises(DataError, match="training part: no samples, at least one is required"):
        trainer.fit(network, nothing, few)
    with pytest.raises(DataError, match="validation part: no samples"):
        trainer.fit(network, few, nothing)
    with pytest.raises(DataError, match="data: no samples"):
        evaluate(network, nothing)


def test_only_weights_decay() -> None:
    module = network()
    optimizer = make_optimizer(module, section(weight_decay=0.1))
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in module.named_parameters():
        is_weight = name.endswith("synapse.weight") or name == "readout.weight"
        assert decay[id(parameter)] == (0.1 if is_weight else 0.0), name


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "incomplete"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage: str) -> None:
    fit(network(), directory=tmp_path)
    path = tmp_path / CHECKPOINT
    if damage == "incomplete":
        checkpoint = read_checkpoint(path)
        tensors = dict(checkpoint.tensors)
        del tensors["random.data"]
        write_checkpoint(path, dataclasses.replace(checkpoint, tensors=tensors))
    elif damage == "foreign":
        path.write_bytes((tmp_path / LAST).read_bytes())
    else:
        path.write_bytes(path.read_bytes()[: -20 if damage == "truncated" else 0])
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors"):
        fit(network(), directory=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(best_epoch=5), "best epoch 5 of 4"),
        (lambda t: t.update(epochs={}), "epochs or scaler have the wrong type"),
        (lambda t: t["epochs"][0].update(loss="1"), r'epochs\.0: loss = "1", a number is required'),
        (lambda t: t["epochs"][0].pop("loss"), "'loss' is missing"),
        (lambda t: t.pop("scaler"), "scaler"),
    ],
)
def test_a_record_of_other_form_is_refused(
    tmp_path: Path, change: Callable[[dict], object], message: str
) -> None:
    fit(network(), directory=tmp_path)
    checkpoint = read_checkpoint(tmp_path / CHECKPOINT)
    change(checkpoint.progress)
    write_checkpoint(tmp_path / CHECKPOINT, checkpoint)
    with pytest.raises(CheckpointError, match=message):
        fit(network(), directory=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("name", "is_reshaped"),
    [
        ("best.readout.weight", True),
        ("best.readout.weight", False),
        ("network.readout.weight", False),
        ("optimizer.0.momentum_buffer", True),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, name: str, is_reshaped: bool) -> None:
    fit(network(), directory=tmp_path)
    checkpoint = read_checkpoint(tmp_path / CHECKPOINT)
    tensors = dict(checkpoint.tensors)
    del tensors[name]
    tensors[name if is_reshaped else f"{name}x"] = torch.zeros(2)
    write_checkpoint(tmp_path / CHECKPOINT, dataclasses.replace(checkpoint, tensors=tensors))
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors: cannot be read"):
        fit(network(), directory=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": section(epochs=9)}, "training.epochs = 4, this run has 9"),
        ({"seed": 4}, "seed = 3, this run has 4"),
        ({"shortcut": ShortcutSection()}, "shortcut"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    fit(network(), directory=tmp_path)
    with pytest.raises(CheckpointError, match=message):
        fit(network(), directory=tmp_path, resume=True, **change)  # type: ignore[arg-type]  # above


def test_a_checkpoint_of_another_network_or_other_data_is_refused(tmp_path: Path) -> None:
    fit(network(), directory=tmp_path)
    with pytest.raises(CheckpointError, match="weights"):
        fit(network(branches=False), directory=tmp_path, resume=True)
    trainer = Trainer(section(), seed=3, shortcut=EVOLUTIONARY, shift=1, directory=tmp_path)
    with pytest.raises(CheckpointError, match="training data"):
        trainer.fit(network(), dataset(30, seed=5), dataset(10, seed=1), resume=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = network(), network()
    fit(whole)
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        # Best, last, the checkpoint of epoch 1, and now that of epoch 2 under a temporary name.
        if len(list(tmp_path.glob("*.safetensors"))) == 4 and b"neurodeploy-checkpoint" in data:
            write(self, data[:100])
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        fit(network(), directory=tmp_path)
    monkeypatch.undo()
    progress = read_checkpoint(tmp_path / CHECKPOINT).progress["epochs"]
    assert isinstance(progress, list)
    assert len(progress) == 1
    fit(resumed, directory=tmp_path, resume=True)
    assert same(resumed, whole)


def test_evaluation_counts_samples_and_spikes() -> None:
    module = network().train()
    result = evaluate(module, dataset(300))
    assert module.training
    with torch.no_grad():
        output, spikes = module.eval().forward_with_spikes(torch.from_numpy(dataset(300).inputs))
    right = output.mean(dim=1).argmax(dim=1).numpy() == dataset(300).labels
    assert result.accuracy == right.mean()
    assert result.spike_rates == {
        name: pytest.approx(values.mean().item()) for name, values in spikes.items()
    }
    assert evaluate(WithDropout(), dataset(30)).spike_rates == {}


class FakeGpu(TrainingEngine):
    """A process that takes itself for one on a GPU, and computes on the CPU."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("engine", "has_triton", "setting", "expected"),
    [
        (FakeGpu, True, None, True),
        (FakeGpu, False, None, False),
        (FakeGpu, True, False, False),
        (FakeGpu, False, True, True),
        (TrainingEngine, True, None, False),
        (TrainingEngine, True, True, True),
        (TrainingEngine, True, False, False),
    ],
)
def test_blocks_are_compiled_where_training_runs_on_cuda(
    engine: type[TrainingEngine],
    has_triton: bool,
    setting: bool | None,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless the recipe decides; afterwards, on the CPU, the network runs as it was written."""
    calls: list[str] = []
    monkeypatch.setattr(
        "neurodeploy.learning.trainer.find_spec", lambda name: name if has_triton else None
    )
    monkeypatch.setattr(SpikingNetwork, "compile_blocks", lambda self: calls.append("compiled"))
    monkeypatch.setattr(SpikingNetwork, "uncompile_blocks", lambda self: calls.append("undone"))
    training = TrainingSection(epochs=1, compile=setting)
    Trainer(training, engine=engine(Hardware(accelerator="cpu"))).fit(
        network(), dataset(8), dataset(4)
    )
    assert calls == (["compiled", "undone"] if expected else [])


@pytest.mark.parametrize(
    ("made_with", "resumed_with", "is_compiled"),
    [
        (False, None, False),
        (True, None, True),
        (None, None, False),
        (None, False, False),
    ],
)
def test_an_unset_compile_resumes_as_the_checkpoint_was_trained(
    made_with: bool | None,
    resumed_with: bool | None,
    is_compiled: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(SpikingNetwork, "compile_blocks", lambda self: calls.append("compiled"))
    monkeypatch.setattr(SpikingNetwork, "uncompile_blocks", lambda self: calls.append("undone"))
    whole, stopped, resumed = network(), network(), network()
    fit(whole, section(compile=made_with))
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, section(compile=made_with), directory=tmp_path, stop_after=6)
    calls.clear()

    fit(resumed, section(compile=resumed_with), directory=tmp_path, resume=True)

    assert calls == (["compiled", "undone"] if is_compiled else [])
    assert same(resumed, whole)


@pytest.mark.parametrize(("made_with", "resumed_with"), [(None, True), (False, True)])
def test_a_checkpoint_that_was_not_compiled_refuses_to_be(
    made_with: bool | None,
    resumed_with: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SpikingNetwork, "compile_blocks", lambda self: None)
    fit(network(), section(compile=made_with), directory=tmp_path)
    with pytest.raises(CheckpointError, match="compile = False, this run has True"):
        fit(network(), section(compile=resumed_with), directory=tmp_path, resume=True)


def test_auto_is_a_gpu_where_torch_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the default of `training.compile` follows the device that trains."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for is_available, kind in ((True, "gpu"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=is_available: found)
        assert Hardware().kind == kind


@pytest.mark.slow
# torch's tracer looks at .grad of what is no leaf and hides the warning only if it is not raised.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_compiled_training_agrees_to_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inductor's code on the CPU, through batches, optimizer steps and validation."""
    monkeypatch.setattr("neurodeploy.learning.trainer.find_spec", lambda name: name)
    results: list[tuple[SpikingNetwork, History]] = []
    for engine in (TrainingEngine, FakeGpu):
        torch.compiler.reset()
        trained = network(convolutions=2)
        trainer = Trainer(
            TrainingSection(epochs=2, batch_size=8),
            shortcut=EVOLUTIONARY,
            engine=engine(Hardware(accelerator="cpu")),
        )
        results.append((trained, trainer.fit(trained, dataset(16), dataset(8))))
    (plain, expected), (compiled, actual) = results
    for before, after in zip(expected.epochs, actual.epochs, strict=True):
        # Float32 sums round in another order; no spike is decided by that here.
        assert after.loss == pytest.approx(before.loss, rel=1e-5)
        assert after.validation_loss == pytest.approx(before.validation_loss, rel=1e-5)
        assert after.spike_rates == before.spike_rates
    for name, values in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], values, rtol=1e-4, atol=1e-5)
    inputs = torch.from_numpy(dataset(8).inputs)
    torch.testing.assert_close(compiled(inputs), plain(inputs), rtol=1e-4, atol=1e-5)
