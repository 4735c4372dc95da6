"""Train a network: seeded, interruptible, resumable to the bit.

The trainer needs little of a network: `network(inputs)` gives (N, T, classes). A network that
also has shortcut branches, a file form or spikes to be counted offers the methods of `Branched`,
`Savable` and `neurodeploy.learning.evaluation.RecordsSpikes`.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from neurodeploy.data import (
    Dataset,
    Part,
    count_batches,
    draw_moves,
    move_images,
    training_batches,
)
from neurodeploy.errors import CheckpointError, TrainingError
from neurodeploy.files import write_text
from neurodeploy.learning.checkpoints import (
    Checkpoint,
    EpochRecord,
    History,
    IterationRecord,
    read_checkpoint,
    require_same_settings,
    write_checkpoint,
)
from neurodeploy.learning.engine import TrainingEngine
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.learning.gradual_pruning import Pruner
from neurodeploy.learning.losses import shortcut_loss
from neurodeploy.learning.schedules import (
    branch_schedule,
    branch_weight_at,
    learning_rate_at,
)
from neurodeploy.nn.network import CAN_COMPILE_BLOCKS
from neurodeploy.recipes.training_sections import PruningSection, ShortcutSection, TrainingSection

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
BEST = "best.safetensors"
LAST = "last.safetensors"


@runtime_checkable
class Branched(Protocol):
    """A network with shortcut branches."""

    def forward_with_branches(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the main output and that of each branch, all (N, T, classes)."""
        ...


@runtime_checkable
class Savable(Protocol):
    """A network that can be written to a file."""

    def save(self, path: Path | str) -> None:
        """Write it, whole or not at all."""
        ...


@runtime_checkable
class Compilable(Protocol):
    """A network whose blocks can run through torch.compile."""

    def compile_blocks(self) -> None:
        """Let torch.compile translate each block at its next call, in place."""
        ...

    def uncompile_blocks(self) -> None:
        """Undo `compile_blocks`."""
        ...


class Trainer:
    """Train networks as a recipe says.

    Args:
        training: Optimisation.
        seed: Start of all randomness: order of the samples, augmentation, dropout.
        shortcut: How branches count; matters only for a network that has some.
        shift: Training images move by up to this many pixels.
        pruning: Weights to take out while training; None for none.
        keeps_zeros: Let weights that are zero at the start stay zero.
        directory: Where checkpoint, metrics, best and last network go; None writes nothing.
        engine: The processes that train together; by default this one alone, on a GPU if torch
            sees one. Only the first writes files and calls back.
        on_iteration: Called after every iteration.
        on_epoch: Called after every epoch, once its checkpoint is written.
    """

    def __init__(
        self,
        training: TrainingSection,
        *,
        seed: int = 0,
        shortcut: ShortcutSection | None = None,
        shift: int = 0,
        pruning: PruningSection | None = None,
        keeps_zeros: bool = False,
        directory: Path | str | None = None,
        engine: TrainingEngine | None = None,
        on_iteration: Callable[[IterationRecord], None] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
    ) -> None:
        self.training = training
        self.seed = seed
        self.shortcut = shortcut or ShortcutSection()
        if self.shortcut.schedule is not None:
            branch_schedule(self.shortcut.schedule)  # refuse an unknown name before training
        self.shift = shift
        self.pruning = pruning if pruning is not None and pruning.is_gradual else None
        self.keeps_zeros = keeps_zeros
        self.directory = None if directory is None else Path(directory)
        self.engine = engine
        self.on_iteration = on_iteration
        self.on_epoch = on_epoch

    def fit(
        self, network: nn.Module, train: Dataset, validation: Dataset, *, resume: bool = False
    ) -> History:
        """Train `network` in place.

        After the last epoch the network has the weights that `training.keep` names. Stopping in
        the middle, by Ctrl-C or a crash, leaves the checkpoint of the last whole epoch.

        Args:
            network: Gives (N, T, classes) for a batch of integer inputs.
            train: What it learns from.
            validation: What the best epoch is chosen on.
            resume: Go on from the directory's checkpoint, if there is one. On a CPU, with the
                same number of threads, the result is that of an uninterrupted run, to the bit.

        Raises:
            TrainingError: If the loss is no longer finite, there is nothing to learn or to
                resume from, or another process ended.
            CheckpointError: If the checkpoint is damaged or belongs to another run.
            OutputError: If the directory cannot be written; the last checkpoint stays whole.
        """
        engine = self.engine or TrainingEngine()
        with _threads(self.training.threads), torch.random.fork_rng(devices=[]):
            engine.seed(self.seed)
            run = _Run(self, engine, network, train, validation)
            if resume:
                run.restore()
            elif self.directory is not None and (self.directory / CHECKPOINT).exists():
                logger.info("%s: starting afresh", self.directory)
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
        self.engine = engine
        self.network = network
        self.train = train
        self.validation = validation
        self.generator = torch.Generator().manual_seed(trainer.seed)
        self.records: list[EpochRecord] = []
        self.best_epoch = 0
        self.best_state: dict[str, Tensor] = {}
        self.per_epoch = count_batches(len(train), trainer.training.batch_size)
        self.iterations = self.per_epoch * trainer.training.epochs
        self.pruner: Pruner | None = None
        if trainer.pruning is not None or trainer.keeps_zeros:
            self.pruner = Pruner(network, trainer.pruning, iterations=self.iterations)
        self.compiled: Compilable | None = None
        if isinstance(network, Compilable) and _is_compiled(trainer.training, engine.device):
            network.compile_blocks()
            self.compiled = network
        self.prepared = engine.prepare(
            network,
            lambda module: make_optimizer(module, trainer.training),
            has_idle_parameters=self._has_idle_parameters(),
        )

    def _has_idle_parameters(self) -> bool:
        """Return whether branches have no weight in some iteration before the last."""
        return isinstance(self.network, Branched) and any(
            self._rates(iteration)[1] == 0 for iteration in range(self.iterations - 1)
        )

    # --- training -------------------------------------------------------------------------

    def go(self) -> None:
        """Train the epochs that are missing."""
        for epoch in range(len(self.records) + 1, self.trainer.training.epochs + 1):
            record = self._epoch(epoch)
            self.records.append(record)
            if (
                epoch == 1
                or self._is_pruning(epoch)
                or self._is_better(record, self.records[self.best_epoch - 1])
            ):
                self.best_epoch = epoch
                self.best_state = _state(self.network)
                self._save_network(BEST)
            self._save_network(LAST)
            self._write_progress()
            logger.info("epoch %s: %s", epoch, record)
            if self.trainer.on_epoch is not None and self.engine.is_first:
                self.trainer.on_epoch(record)

    def finish(self) -> History:
        """Return the network the weights to keep."""
        kept = len(self.records)
        if self.trainer.training.keep == "best" and self.best_epoch:
            kept = self.best_epoch
            self.network.load_state_dict(self.best_state)
        if self.compiled is not None:
            # On the CPU, where the network goes now, our own kernels are faster.
            self.compiled.uncompile_blocks()
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
        data = training_batches(
            self.train,
            self.trainer.training.batch_size,
            generator=self.generator,
            accumulate=self.trainer.training.accumulate,
            rank=self.engine.rank,
            processes=self.engine.count,
        )
        for iteration, parts in enumerate(data, first):
            rate, weight = self._rates(iteration)
            loss, right = self._step(parts, rate=rate, weight=weight)
            if self.pruner is not None and math.isfinite(loss):
                self.pruner.after_step(iteration)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, iteration {iteration}: the loss is {loss} at learning rate "
                    f"{rate:g}. Use a smaller training.learning_rate; the checkpoint of the last "
                    "whole epoch is kept."
                )
            losses += loss * parts[0].size
            correct += right
            if self.trainer.on_iteration is not None and self.engine.is_first:
                self.trainer.on_iteration(
                    IterationRecord(
                        iteration=iteration,
                        iterations=self.iterations,
                        epoch=epoch,
                        epochs=self.trainer.training.epochs,
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
        training, shortcut = self.trainer.training, self.trainer.shortcut
        return (
            learning_rate_at(
                iteration,
                self.iterations,
                start=training.learning_rate,
                schedule=training.schedule,
            ),
            branch_weight_at(
                iteration,
                self.iterations,
                method=shortcut.method,
                weight=shortcut.weight,
                schedule=shortcut.schedule,
            ),
        )

    def _step(self, parts: list[Part], *, rate: float, weight: float) -> tuple[float, int]:
        """Do one iteration; a loss that is not finite leaves the weights as they are.

        Returns:
            Mean loss and number of right answers, over the whole batch and all processes.
        """
        for group in self.prepared.optimizer.param_groups:
            group["lr"] = rate
        moves = draw_moves(parts[0].size, self.trainer.shift, generator=self.generator)
        self.prepared.optimizer.zero_grad()
        totals = torch.zeros(2, dtype=torch.float64)
        for number, part in enumerate(parts):
            with self.prepared.collecting(is_last=number == len(parts) - 1):
                inputs = move_images(part.inputs, moves[part.places])
                loss, right = self._loss(inputs, part.labels, weight=weight)
                share = len(part.labels) / part.size
                totals += torch.tensor([float(loss.detach()) * share, right])
                # The processes' gradients are averaged: what is averaged must be n times too large.
                scale = share * self.engine.count
                self.prepared.backward(loss if scale == 1 else loss * scale)
        value, right_sum = self.engine.sum(totals).tolist()
        if math.isfinite(value):
            self.prepared.optimizer.step()
        return value, int(right_sum)

    def _loss(self, inputs: Tensor, labels: Tensor, *, weight: float) -> tuple[Tensor, int]:
        """Return the loss of a part and its number of right answers."""
        inputs, labels = self.engine.to_device(inputs), self.engine.to_device(labels)
        module, training = self.prepared.module, self.trainer.training
        with self.prepared.computing():
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
                loss=training.loss,
                label_smoothing=training.label_smoothing,
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

    @staticmethod
    def _is_better(new: EpochRecord, old: EpochRecord) -> bool:
        return (new.validation_accuracy, -new.validation_loss) > (
            old.validation_accuracy,
            -old.validation_loss,
        )

    # --- files ----------------------------------------------------------------------------

    def _settings(self) -> dict[str, object]:
        """The settings that identify a run, in JSON's types."""
        settings: dict[str, object] = {
            **{f"training.{key}": value for key, value in asdict(self.trainer.training).items()},
            **{f"shortcut.{key}": value for key, value in asdict(self.trainer.shortcut).items()},
            "seed": self.trainer.seed,
            "processes": self.engine.count,
            "precision": self.engine.hardware.precision,
            "data.shift": self.trainer.shift,
            **_pruning_settings(self.trainer),
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
        if not self.engine.is_first or self.trainer.directory is None:
            return
        if isinstance(self.network, Savable):
            self.network.save(self.trainer.directory / name)

    def _write_progress(self) -> None:
        directory = self.trainer.directory
        if directory is None:
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
        write_text(directory / METRICS, "".join(json.dumps(record) + "\n" for record in records))
        write_checkpoint(
            directory / CHECKPOINT,
            Checkpoint(
                tensors=tensors,
                settings=self._settings(),
                progress={
                    "best_epoch": self.best_epoch,
                    "epochs": records,
                    "scaler": self.prepared.scaler_state(),
                },
            ),
        )

    def restore(self) -> None:
        """Take up the directory's checkpoint; without one, start at the beginning."""
        if self.trainer.directory is None:
            raise TrainingError("trainer: resume without a directory. Give the run's directory.")
        path = self.trainer.directory / CHECKPOINT
        if not path.exists():
            return
        checkpoint = read_checkpoint(path)
        require_same_settings(checkpoint.settings, self._settings(), path=path)
        try:
            records = [
                EpochRecord.from_json(entry) for entry in _list(checkpoint.progress["epochs"])
            ]
            best_epoch = checkpoint.progress["best_epoch"]
            if not isinstance(best_epoch, int) or not 0 < best_epoch <= len(records):
                raise ValueError(f"best epoch {best_epoch} of {len(records)}")
            self.network.load_state_dict(checkpoint.group("network"))
            self.prepared.restore_optimizer(checkpoint.group("optimizer"))
            self.prepared.restore_scaler(_numbers(checkpoint.progress["scaler"]))
            self.generator.set_state(checkpoint.tensors["random.data"])
            torch.set_rng_state(checkpoint.tensors["random.torch"][self.engine.rank].clone())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: incomplete ({error}). Start afresh in another directory."
            ) from error
        self.records, self.best_epoch = records, best_epoch
        self.best_state = checkpoint.group("best")


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
    groups = [
        {
            "params": [parameter for parameter in learned if parameter.ndim > 1],
            "weight_decay": training.weight_decay,
        },
        {
            "params": [parameter for parameter in learned if parameter.ndim <= 1],
            "weight_decay": 0.0,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise TrainingError("network: nothing to learn. Every parameter is fixed.")
    if training.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, lr=training.learning_rate, betas=(training.momentum, 0.999)
        )
    return torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum)


def _state(network: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: tensor.detach() for name, tensor in network.state_dict().items()})


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("epochs are no list")
    return value


def _pruning_settings(trainer: Trainer) -> dict[str, object]:
    chosen = trainer.pruning or PruningSection()
    entries: dict[str, object] = {f"pruning.{key}": v for key, v in asdict(chosen).items()}
    return entries | {"keeps_zeros": trainer.keeps_zeros}


def _numbers(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise TypeError("the scaler's state is no table")
    return {str(key): float(number) for key, number in value.items()}


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
