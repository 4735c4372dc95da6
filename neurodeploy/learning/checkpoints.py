"""The progress of a training: records of iterations and epochs, and checkpoints.

A checkpoint is all that training needs to go on as if it had never stopped. It is a single
safetensors file, written whole or not at all: the tensors (weights, the best weights, optimizer,
random states) and, in its header, JSON with everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from neurodeploy.errors import CheckpointError
from neurodeploy.nn.tensor_files import JsonTable, read_tensors, write_tensors
from neurodeploy.strict_tables import read_table

FORMAT = "neurodeploy-checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One line of the metrics file.

    Attributes:
        epoch: From 1; `iterations` counts those done so far in the whole run.
        loss: Mean training loss of the epoch, branches and smoothing included.
        train_accuracy: Of the trained output, while training.
        validation_accuracy: Of the main output, as is `validation_loss`.
        branch_weight: λ at the epoch's last iteration, as is the learning rate.
        spike_rates: On the validation part, by layer.
        seconds: Wall-clock time of the epoch.
    """

    epoch: int
    iterations: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    validation_loss: float
    branch_weight: float
    learning_rate: float
    spike_rates: Mapping[str, float]
    seconds: float

    @classmethod
    def from_json(cls, entry: object, *, where: str) -> EpochRecord:
        """Take up what `dataclasses.asdict` and JSON made of a record.

        Raises:
            CheckpointError: If it is something else.
        """
        record = read_table(cls, entry, where=where, error=CheckpointError)
        return replace(record, spike_rates=dict(record.spike_rates))


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationRecord:
    """The argument of the callback of each iteration, its loss, λ and learning rate included.

    Attributes:
        iteration: From 0, over the whole run, which has `iterations`.
        epoch: From 1, of `epochs`.
    """

    iteration: int
    iterations: int
    epoch: int
    epochs: int
    loss: float
    branch_weight: float
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """The epochs of a training, and the one whose weights were kept.

    The best epoch is the one of highest validation accuracy, of lowest loss among those; 0 if no
    epoch was trained.
    """

    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    kept_epoch: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """The content of a checkpoint; a resumed run must have the same settings."""

    tensors: Mapping[str, Tensor]
    settings: JsonTable
    progress: JsonTable

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors under `prefix.`, without it."""
        names = [name for name in self.tensors if name.startswith(f"{prefix}.")]
        return {name.removeprefix(f"{prefix}."): self.tensors[name] for name in names}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OutputError: If it cannot be written; an older one stays as it was.
    """
    metadata: JsonTable = {"settings": checkpoint.settings, "progress": checkpoint.progress}
    write_tensors(path, checkpoint.tensors, kind=FORMAT, metadata=metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: If it is missing, damaged or something else.
    """
    tensors, metadata = read_tensors(path, kind=FORMAT)
    settings, progress = metadata.get("settings"), metadata.get("progress")
    if not isinstance(settings, dict) or not isinstance(progress, dict):
        raise CheckpointError(f"{path}: settings or progress are missing. Start training afresh.")
    return Checkpoint(tensors=tensors, settings=settings, progress=progress)


def require_same_settings(found: JsonTable, wanted: JsonTable, *, path: Path) -> None:
    """Check that a checkpoint comes from the run that is to go on.

    A `training.compile` that is unset on one side agrees with how the other one was, or is to be,
    run; "compiled" is what became of it, which older checkpoints do not hold.

    Raises:
        CheckpointError: Naming the first setting that differs.
    """
    key = "training.compile"
    found, wanted = dict(found), dict(wanted)
    was_compiled = found.pop("compiled", None)
    wanted.pop("compiled", None)
    if wanted.get(key) is None:
        wanted[key] = found.get(key)
    elif found.get(key) is None:
        found[key] = wanted[key] if was_compiled is None else was_compiled
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            raise CheckpointError(
                f"{path}: made with {key} = {found.get(key)!r}, this run has "
                f"{wanted.get(key)!r}. Resume with the recipe it was made with, or start afresh "
                "in another directory."
            )
