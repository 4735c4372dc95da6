"""What training reports: after every iteration, after every epoch, at the end."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One line of the metrics file.

    Attributes:
        epoch: From 1.
        iterations: Done so far in the whole run.
        loss: Mean training loss of the epoch, branches and smoothing included.
        train_accuracy: Of the trained output, while training.
        validation_accuracy: Of the main output.
        validation_loss: Of the main output.
        branch_weight: λ at the epoch's last iteration.
        learning_rate: At the epoch's last iteration.
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
    spike_rates: dict[str, float]
    seconds: float

    @classmethod
    def from_json(cls, entry: object) -> EpochRecord:
        """Take up what `dataclasses.asdict` and JSON made of a record.

        Raises:
            ValueError: If it is something else.
        """
        if not isinstance(entry, dict) or entry.keys() != {field.name for field in fields(cls)}:
            raise ValueError("an epoch's record has the wrong keys")
        record: EpochRecord = cls(**entry)
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationRecord:
    """What the callback of each iteration gets.

    Attributes:
        iteration: From 0, over the whole run.
        iterations: Of the whole run.
        epoch: From 1.
        epochs: Of the whole run.
        loss: Of this batch.
        branch_weight: λ.
        learning_rate: Used in this iteration.
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
    """What training did.

    Attributes:
        epochs: One record each.
        best_epoch: The one of highest validation accuracy, of lowest loss among those; 0 if no
            epoch was trained.
        kept_epoch: The one whose weights the network now has.
    """

    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    kept_epoch: int
