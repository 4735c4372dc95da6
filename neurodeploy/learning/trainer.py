"""Train a network: seeded, interruptible, resumable to the bit.

The trainer needs little of a network: `network(inputs)` gives (N, T, classes). A network that
also has shortcut branches, a file form or spikes to be counted offers the methods of `Branched`,
`Savable` and `neurodeploy.learning.evaluation.RecordsSpikes`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from neurodeploy import data
from neurodeploy.data import Dataset, Part
from neurodeploy.errors import CheckpointError, TrainingError
from neurodeploy.files import write_text
from neurodeploy.learning import checkpoints
from neurodeploy.learning.checkpoints import EpochRecord, History, IterationRecord
from neurodeploy.learning.engine import TrainingEngine
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.learning.losses import shortcut_loss
from neurodeploy.learning.schedules import (
    Pruner,
    branch_schedule,
    branch_weight_at,
    learning_rate_at,
)
from neurodeploy.nn.network import CAN_COMPILE_BLOCKS, SpikingNetwork
from neurodeploy.recipes.layouts import check_batch_norms
from neurodeploy.recipes.training_sections import PruningSection, ShortcutSection, TrainingSection
from neurodeploy.untrusted.boundary import FileKind, guarded

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
BEST = "best.safetensors"
LAST = "last.safetensors"
_CHECKPOINT = FileKind(
    "checkpoint", ".safetensors", CheckpointError, "Start afresh in another directory."
)


@runtime_checkable
class Branched(Protocol):
    """A network with shortcut branches."""

    def forward_with_branches(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the main output and that of each branch, all (N, T, classes)."""


@runtime_checkable
class Savable(Protocol):
    """A network that can be written to a file."""

    def save(self, path: Path | str) -> None:
        """Write it, whole or not at all."""


@dataclass(eq=False)
class Trainer:
    """Train networks as a recipe says.

    Attributes:
        training: Optimisation.
        seed: Start of all randomness: order of the samples, augmentation, dropout.
        shortcut: How branches count; matters only for a network that has some.
        shift: Training images move by up to this many pixels.
        pruning: Weights to take out while training.
        keeps_zeros: Let weights that are zero at the start stay zero.
        directory: Where checkpoint, metrics, best and last network go; None writes nothing.
        engine: The processes that train together; by default this one alone, on a GPU if torch
            sees one. Only the first writes files and calls back.
        on_iteration: Called after every iteration.
        on_epoch: Called after every epoch, once its checkpoint is written.

    Example:
        >>> recipe = nd.Recipe.load("digits", overrides={"training.epochs": "1"})
        >>> train, validation, _ = nd.load_data(recipe)
        >>> network = nd.SpikingNetwork.from_recipe(recipe)
        >>> few = train.subset(np.arange(64))
        >>> trainer = nd.Trainer(recipe.training, shortcut=recipe.shortcut)
        >>> history = trainer.fit(network, few, validation)
        >>> len(history.epochs), history.kept_epoch
        (1, 1)
    """

    training: TrainingSection
    _: KW_ONLY
    seed: int = 0
    shortcut: ShortcutSection = field(default_factory=ShortcutSection)
    shift: int = 0
    pruning: PruningSection = field(default_factory=PruningSection)
    keeps_zeros: bool = False
    directory: Path | str | None = None
    engine: TrainingEngine | None = None
    on_iteration: Callable[[IterationRecord], None] | None = None
    on_epoch: Callable[[EpochRecord], None] | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown schedule before training."""
        if self.shortcut.schedule is not None:
            branch_schedule(self.shortcut.schedule)

    def fit(
        self, network: nn.Module, train: Dataset, validation: Dataset, *, resume: bool = False
    ) -> History:
        """Train `network` in place.

        After the last epoch the network has the weights that `training.keep` names. Stopping in
        the middle, by Ctrl-C or a crash, leaves the checkpoint of the last whole epoch.

        Args:
            network: Gives (N, T, classes) for a batch of integer inputs.
            train: The samples that it learns from.
            validation: The samples that the best epoch is chosen on.
            resume: Go on from the directory's checkpoint, if there is one. On a CPU, with the
                same number of threads, the result is that of an uninterrupted run, to the bit.

        Raises:
            DataError: If a part has no samples.
            TrainingError: If the loss is no longer finite, there is nothing to learn or to
                resume from, or another process ended.
            CheckpointError: If the checkpoint is damaged or belongs to another run.
            OutputError: If the directory cannot be written; the last checkpoint stays whole.
        """
        data.require_samples(train, "training part")
        data.require_samples(validation, "validation part")
        engine = self.engine or TrainingEngine()
        with _threads(self.training.threads), torch.random.fork_rng(devices=[]):
            engine.seed(self.seed)
            run = _Run(self, engine, network, train, validation)
            if resume:
                run.restore()
            elif run.directory is not None and (run.directory / CHECKPOINT).exists():
                logger.info("%s: starting afresh", run.directory)
            with engine.together():
                run.go()
                return run.finish()


class _Run:
    """One call of `Trainer.fit`: the state that a checkpoint holds."""

    def __init__(
        self,
        trainer: Trainer,
        engine: TrainingEngine,
        network: nn.Module,
        train: Dataset,
        validation: Dataset,
    ) -> None:
        self.trainer = trainer
        self.training = trainer.training
        self.directory = None if trainer.directory is None else Path(trainer.directory)
        self.engine = engine
        self.network = network
        self.train = train
        self.validation = validation
        self.generator = torch.Generator().manual_seed(trainer.seed)
        self.records: list[EpochRecord] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        self.per_epoch = data.count_batches(len(train), self.training.batch_size)
        self.iterations = self.per_epoch * self.training.epochs
        if isinstance(network, SpikingNetwork) and self.iterations:
            smallest = data.smallest_part(
                len(train),
                self.training.batch_size,
                accumulate=self.training.accumulate,
                processes=engine.count,
            )
            check_batch_norms(
                network.architecture.network,
                network.architecture.shape,
                samples=smallest,
                is_static=train.is_static,
            )
        self.pruner: Pruner | None = None
        if trainer.pruning.is_gradual or trainer.keeps_zeros:
            growing = trainer.pruning if trainer.pruning.is_gradual else None
            self.pruner = Pruner(network, growing, iterations=self.iterations)
        self.is_compiled = False
        self._compile(_is_compiled(self.training, engine.device))
        self.prepared = engine.prepare(
            network,
            lambda module: make_optimizer(module, self.training),
            # Branches may have no weight in some iteration before the last.
            has_idle_parameters=isinstance(network, Branched)
            and any(self._rates(iteration)[1] == 0 for iteration in range(self.iterations - 1)),
        )

    # --- training -------------------------------------------------------------------------

    def go(self) -> None:
        """Train the epochs that are missing."""
        for epoch in range(len(self.records) + 1, self.training.epochs + 1):
            record = self._epoch(epoch)
            self.records.append(record)
            best = self.records[self.best_epoch - 1]
            if epoch == 1 or self._is_pruning(epoch) or _quality(record) > _quality(best):
                self.best_epoch = epoch
                self.best_state = {
                    name: tensor.clone() for name, tensor in self.network.state_dict().items()
                }
                self._save_network(BEST)
            self._save_network(LAST)
            self._write_progress()
            logger.info("epoch %s: %s", epoch, record)
            if self.trainer.on_epoch is not None and self.engine.is_first:
                self.trainer.on_epoch(record)

    def finish(self) -> History:
        """Leave the network with the weights to keep."""
        kept = len(self.records)
        if self.training.keep == "best" and self.best_epoch:
            kept = self.best_epoch
            self.network.load_state_dict(self.best_state)
        self._compile(False)  # on the CPU, where the network goes now, our own kernels are faster
        self.network.cpu()
        self.network.eval()
        return History(epochs=tuple(self.records), best_epoch=self.best_epoch, kept_epoch=kept)

    def _epoch(self, epoch: int) -> EpochRecord:
        start = time.perf_counter()
        self.prepared.module.train()
        if self.pruner is not None:
            self.pruner.start()
        losses, correct = 0.0, 0
        first = (epoch - 1) * self.per_epoch
        rate = weight = 0.0
        batches = data.training_batches(
            self.train,
            self.training.batch_size,
            generator=self.generator,
            accumulate=self.training.accumulate,
            rank=self.engine.rank,
            processes=self.engine.count,
        )
        for iteration, parts in enumerate(batches, first):
            rate, weight = self._rates(iteration)
            loss, right = self._step(parts, rate=rate, weight=weight)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, iteration {iteration}: the loss is {loss} at learning rate "
                    f"{rate:g}. Use a smaller training.learning_rate; the checkpoint of the last "
                    "whole epoch is kept."
                )
            if self.pruner is not None:
                self.pruner.after_step(iteration)
            losses += loss * parts[0].size
            correct += right
            if self.trainer.on_iteration is not None and self.engine.is_first:
                self.trainer.on_iteration(
                    IterationRecord(
                        iteration=iteration,
                        iterations=self.iterations,
                        epoch=epoch,
                        epochs=self.training.epochs,
                        loss=loss,
                        branch_weight=weight,
                        learning_rate=rate,
                    )
                )
        result = evaluate(self.network, self.validation, engine=self.engine)
        if not math.isfinite(result.loss):
            raise TrainingError(
                f"epoch {epoch}: the loss on the validation part is {result.loss}. Use a smaller "
                "training.learning_rate; the checkpoint of the last whole epoch is kept."
            )
        return EpochRecord(
            epoch=epoch,
            iterations=first + self.per_epoch,
            loss=losses / len(self.train),
            train_accuracy=correct / len(self.train),
            validation_accuracy=result.accuracy,
            validation_loss=result.loss,
            branch_weight=weight,
            learning_rate=rate,
            spike_rates=result.spike_rates,
            seconds=round(time.perf_counter() - start, 3),
        )

    def _rates(self, iteration: int) -> tuple[float, float]:
        training, shortcut = self.training, self.trainer.shortcut
        rate = learning_rate_at(
            iteration, self.iterations, start=training.learning_rate, schedule=training.schedule
        )
        weight = branch_weight_at(
            iteration,
            self.iterations,
            method=shortcut.method,
            weight=shortcut.weight,
            schedule=shortcut.schedule,
        )
        return rate, weight

    def _step(self, parts: list[Part], *, rate: float, weight: float) -> tuple[float, int]:
        """Do one iteration; a loss that is not finite leaves the weights as they are.

        Returns:
            Mean loss and number of right answers, over the whole batch and all processes.
        """
        for group in self.prepared.optimizer.param_groups:
            group["lr"] = rate
        moves = data.draw_moves(parts[0].size, self.trainer.shift, generator=self.generator)
        self.prepared.optimizer.zero_grad()
        totals = torch.zeros(2, dtype=torch.float64)
        for number, part in enumerate(parts):
            with self.prepared.collecting(is_last=number == len(parts) - 1):
                inputs = data.move_images(part.inputs, moves[part.places])
                loss, right = self._loss(inputs, part.labels, weight=weight)
                share = len(part.labels) / part.size
                totals += torch.tensor([float(loss.detach()) * share, right])
                # The processes' gradients are averaged: what is averaged must be n times too large.
                scale = share * self.engine.count
                self.prepared.fabric.backward(loss if scale == 1 else loss * scale)
        value, right_sum = self.engine.sum(totals).tolist()
        if math.isfinite(value):
            self.prepared.optimizer.step()
        return value, int(right_sum)

    def _loss(self, inputs: Tensor, labels: Tensor, *, weight: float) -> tuple[Tensor, int]:
        """Return the loss of a part and its number of right answers."""
        inputs, labels = self.engine.to_device(inputs), self.engine.to_device(labels)
        module = self.prepared.module
        # Fabric gives `forward` its precision by itself, other methods in several processes only.
        with self.prepared.fabric.autocast():
            main, branches = (
                cast("Branched", module).forward_with_branches(inputs)
                if isinstance(self.network, Branched)
                else (module(inputs), ())
            )
            output, loss = shortcut_loss(
                main,
                branches,
                labels,
                weight=weight,
                kind=self.trainer.shortcut.loss,
                loss=self.training.loss,
                label_smoothing=self.training.label_smoothing,
            )
            if weight == 0 and self.engine.count > 1:
                # Schedules end at zero. Processes that join gradients wait for those of branches.
                loss = loss + 0.0 * sum(branch.sum() for branch in branches)
        return loss, int((output.detach().mean(dim=1).argmax(dim=1) == labels).sum())

    def _is_pruning(self, epoch: int) -> bool:
        """Return whether an epoch ends with too few zeros, so that the next one replaces it."""
        if self.pruner is None:
            return False
        # The first epoch that has all zeros replaces what came before, however good that was.
        return not self.pruner.is_done((epoch - 1) * self.per_epoch - 1)

    def _compile(self, is_wanted: bool) -> None:
        network = self.network
        if isinstance(network, SpikingNetwork) and is_wanted != self.is_compiled:
            (network.compile_blocks if is_wanted else network.uncompile_blocks)()
            self.is_compiled = is_wanted

    # --- files ----------------------------------------------------------------------------

    def _settings(self) -> dict[str, object]:
        """Return the settings that identify a run, in JSON's types."""
        pruning = self.trainer.pruning
        sections: dict[str, TrainingSection | ShortcutSection | PruningSection] = {
            "training": self.training,
            "shortcut": self.trainer.shortcut,
            "pruning": pruning if pruning.is_gradual else PruningSection(),
        }
        settings: dict[str, object] = {
            **{
                f"{name}.{key}": value
                for name, section in sections.items()
                for key, value in asdict(section).items()
            },
            "compiled": self.is_compiled,
            "keeps_zeros": self.trainer.keeps_zeros,
            "seed": self.trainer.seed,
            "processes": self.engine.count,
            "precision": self.engine.hardware.precision,
            "data.shift": self.trainer.shift,
            "training data": self.train.digest(),
            "validation data": self.validation.digest(),
            "weights": {
                name: [str(tensor.dtype), list(tensor.shape)]
                for name, tensor in self.network.state_dict().items()
            },
        }
        del settings["training.threads"]
        return cast("dict[str, object]", json.loads(json.dumps(settings)))

    def _save_network(self, name: str) -> None:
        if (
            self.engine.is_first
            and self.directory is not None
            and isinstance(self.network, Savable)
        ):
            self.network.save(self.directory / name)

    def _write_progress(self) -> None:
        if self.directory is None:
            return
        # What every process must take part in comes before the others leave.
        optimizer = self.prepared.optimizer_state()
        random = self.engine.gather(torch.get_rng_state())
        if not self.engine.is_first:
            return
        tensors = {
            **{f"network.{name}": tensor for name, tensor in self.network.state_dict().items()},
            **{f"best.{name}": tensor for name, tensor in self.best_state.items()},
            **{f"optimizer.{name}": tensor for name, tensor in optimizer.items()},
            "random.data": self.generator.get_state(),
            "random.torch": random,
        }
        records = [asdict(record) for record in self.records]
        write_text(
            self.directory / METRICS, "".join(json.dumps(record) + "\n" for record in records)
        )
        progress: dict[str, object] = {
            "best_epoch": self.best_epoch,
            "epochs": records,
            "scaler": self.prepared.scaler_state(),
        }
        checkpoints.write_checkpoint(
            self.directory / CHECKPOINT,
            checkpoints.Checkpoint(tensors=tensors, settings=self._settings(), progress=progress),
        )

    def restore(self) -> None:
        """Take up the directory's checkpoint; without one, start at the beginning."""
        if self.directory is None:
            raise TrainingError("trainer: resume without a directory. Give the run's directory.")
        path = self.directory / CHECKPOINT
        if not path.exists():
            return
        checkpoint = checkpoints.read_checkpoint(path)
        checkpoints.require_same_settings(checkpoint.settings, self._settings(), path=path)
        chosen = checkpoint.settings.get("training.compile")
        if self.training.compile is None and isinstance(chosen, bool):
            self._compile(chosen)
        with guarded(path, _CHECKPOINT):
            entries, scaler = checkpoint.progress["epochs"], checkpoint.progress["scaler"]
            if not isinstance(entries, list) or not isinstance(scaler, dict):
                raise TypeError("epochs or scaler have the wrong type")
            records = [
                EpochRecord.from_json(entry, where=f"{path}: epochs.{number}")
                for number, entry in enumerate(entries)
            ]
            best_epoch = checkpoint.progress["best_epoch"]
            if not isinstance(best_epoch, int) or not 0 < best_epoch <= len(records):
                raise ValueError(f"best epoch {best_epoch} of {len(records)}")
            best_state = checkpoint.group("best")
            self.network.load_state_dict(best_state)  # to see that it fits
            self.network.load_state_dict(checkpoint.group("network"))
            self.prepared.restore_optimizer(checkpoint.group("optimizer"))
            self.prepared.restore_scaler(scaler)
            self.generator.set_state(checkpoint.tensors["random.data"])
            torch.set_rng_state(checkpoint.tensors["random.torch"][self.engine.rank].clone())
        self.records, self.best_epoch, self.best_state = records, best_epoch, best_state


def _is_compiled(training: TrainingSection, device: torch.device) -> bool:
    """Return whether blocks run through torch.compile: as the recipe says, else by the device."""
    if training.compile is not None:
        return training.compile
    # On GPUs torch.compile writes Triton, which torch does not bring along on every platform.
    has_triton = find_spec("triton") is not None
    return device.type == "cuda" and has_triton and CAN_COMPILE_BLOCKS


def make_optimizer(network: nn.Module, training: TrainingSection) -> torch.optim.Optimizer:
    """Make the optimizer; only weights (two axes or more) decay, not biases or batch norm."""
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in learned if parameter.ndim > 1]
    others = [parameter for parameter in learned if parameter.ndim <= 1]
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((weights, training.weight_decay), (others, 0.0))
        if parameters
    ]
    if not groups:
        raise TrainingError("network: nothing to learn. Every parameter is fixed.")
    if training.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, lr=training.learning_rate, betas=(training.momentum, 0.999)
        )
    return torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum)


def _quality(record: EpochRecord) -> tuple[float, float]:
    """Return what the best epoch has most of."""
    return record.validation_accuracy, -record.validation_loss


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block; 0 leaves its choice."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
