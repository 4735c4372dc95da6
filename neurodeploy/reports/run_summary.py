"""What can be told about a run: the pipeline fills it, the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.reports.network_report import Report
from neurodeploy.simulation.recording import Recording

if TYPE_CHECKING:
    from neurodeploy.reports.activity import Activity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RasterLayer:
    """Spikes of one layer for one sample.

    Attributes:
        name: The layer.
        fired: (T, N) bool.
        unit: What the N are.
    """

    name: str
    fired: npt.NDArray[np.bool_]
    unit: str = "neurons"


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raster:
    """Spikes of one sample.

    Attributes:
        title: Which sample.
        layers: From the input on.
    """

    title: str
    layers: tuple[RasterLayer, ...]


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


def raster_of(
    recording: Recording,
    *,
    sample: int = 0,
    inputs: npt.NDArray[np.integer] | None = None,
    title: str | None = None,
) -> Raster:
    """Take the spikes of one sample out of a recording.

    Args:
        recording: From a simulator.
        sample: Which one.
        inputs: (samples, T, ...) integers, to be drawn above the layers.
        title: Which sample this is, for people.
    """
    layers = []
    if inputs is not None and inputs.ndim >= 3:
        frame = np.asarray(inputs[sample] != 0)
        layers.append(
            RasterLayer(name="input", fired=frame.reshape(frame.shape[0], -1), unit="values")
        )
    for name in recording.layers:
        fired = np.asarray(recording.spikes_of(name)[sample] != 0)
        if fired.any() or name != recording.layers[-1]:
            layers.append(RasterLayer(name=name, fired=fired.reshape(fired.shape[0], -1)))
    return Raster(title=title or f"sample {sample}", layers=tuple(layers))
