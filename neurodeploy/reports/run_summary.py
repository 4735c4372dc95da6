"""Summary of a run: the pipeline fills it, the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from neurodeploy.reports.activity import Activity, Raster
from neurodeploy.reports.report import Report
from neurodeploy.testing import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPoint:
    """Accuracy after one stage.

    Attributes:
        stage: Label: "float", "quantized", "integer", "Lava".
        value: Fraction.
        samples: Number of test samples; 0 if not known.
        note: The network and the simulator, in a few words.
    """

    stage: str
    value: float
    samples: int = 0
    note: str = ""


class Epoch(Protocol):
    """One epoch of training, as the training side records it."""

    @property
    def epoch(self) -> int:
        """Number, from 1."""

    @property
    def iterations(self) -> int:
        """Iterations so far."""

    @property
    def loss(self) -> float:
        """Training loss."""

    @property
    def train_accuracy(self) -> float:
        """Fraction."""

    @property
    def validation_accuracy(self) -> float:
        """Fraction."""

    @property
    def branch_weight(self) -> float | None:
        """λ, the branches' share of the loss; None where there are none."""

    @property
    def learning_rate(self) -> float | None:
        """Rate at the end of the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The simulator against Lava.

    Attributes:
        samples: Samples compared.
        comparison: Spikes of every layer; the simulator's come first.
        seconds: Duration of Lava's run; None if not known.
    """

    samples: int
    comparison: Comparison
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that the result depends on.

    Attributes:
        role: "input", "ANN".
        path: As the user named it.
        sha256: Hash of the content.
    """

    role: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSummary:
    """Content of a page. Whatever is None or empty is left out.

    Attributes:
        title: Of the page: the recipe's name, or the network's file.
        description: One sentence.
        accuracy: Stage after stage.
        agreement: With Lava.
        report: Counts and energy.
        raster: Spikes of one sample.
        activity: Rates and overflow of all samples, maps and membranes of one.
        history: Training, epoch after epoch.
        fine_tuning: The same of the fine-tune in integers.
        seconds: Wall time by stage.
        versions: Of everything the result depends on.
        files: Further inputs, beside the network's file.
        recipe: The effective recipe, TOML.
        command: The command line.
        created: Date and time, as text.
    """

    title: str
    description: str = ""
    accuracy: tuple[AccuracyPoint, ...] = ()
    agreement: Agreement | None = None
    report: Report | None = None
    raster: Raster | None = None
    activity: Activity | None = None
    history: tuple[Epoch, ...] = ()
    fine_tuning: tuple[Epoch, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: tuple[SourceFile, ...] = ()
    recipe: str | None = None
    command: str | None = None
    created: str | None = None
