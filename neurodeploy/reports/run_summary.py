"""What can be told about a run: the pipeline fills it, the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neurodeploy.reports.activity import Raster
from neurodeploy.reports.report import Report

if TYPE_CHECKING:
    from neurodeploy.reports.activity import Activity


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPoint:
    """Accuracy after one stage.

    Attributes:
        stage: Label: "float", "quantized", "integer", "Lava".
        value: Fraction.
        samples: On how many; 0 if not known.
        note: What was measured, in a few words.
    """

    stage: str
    value: float
    samples: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPoint:
    """One epoch of training.

    Attributes:
        epoch: From 1.
        iterations: Done so far.
        loss: Training loss.
        train_accuracy: Fraction.
        validation_accuracy: Fraction.
        branch_weight: λ, the branches' share of the loss; None where there are none.
        learning_rate: At the end of the epoch.
    """

    epoch: int
    iterations: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    branch_weight: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAgreement:
    """One layer, our simulator against Lava.

    Attributes:
        name: The layer.
        compared: Values compared: samples · steps · neurons.
        spikes: How many of ours were spikes.
        differing: How many values differ.
    """

    name: str
    compared: int
    spikes: int
    differing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Our simulator against Lava.

    Attributes:
        samples: Samples compared.
        differing_spikes: Over all layers.
        layers: One row a layer; may be empty.
        accuracy: Of Lava's output; None if not known.
        seconds: Of Lava; None if not known.
    """

    samples: int
    differing_spikes: int
    layers: tuple[LayerAgreement, ...] = ()
    accuracy: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that the result depends on.

    Attributes:
        role: What it is: "input", "ANN".
        path: As it was given.
        sha256: Of its content.
    """

    role: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSummary:
    """What a page can show. Whatever is None or empty is left out.

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
        files: What else went in, beside the network's file.
        recipe: The effective recipe, TOML.
        command: What made it.
        created: When, as text.
    """

    title: str
    description: str = ""
    accuracy: tuple[AccuracyPoint, ...] = ()
    agreement: Agreement | None = None
    report: Report | None = None
    raster: Raster | None = None
    activity: Activity | None = None
    history: tuple[EpochPoint, ...] = ()
    fine_tuning: tuple[EpochPoint, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: tuple[SourceFile, ...] = ()
    recipe: str | None = None
    command: str | None = None
    created: str | None = None
