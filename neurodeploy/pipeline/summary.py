"""Summarise a run: for the caller, for `summary.json` and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from neurodeploy.data import Dataset
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.directory import versions
from neurodeploy.pipeline.stages import TrainingResult, Verification
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.activity import Activity
from neurodeploy.reports.report import AccuracyPoint, Agreement, Report, Rounding, RunSummary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunResult:
    """A whole run.

    Attributes:
        accuracy: On the test part, stage by stage.
        report: Counts and energy.
        training: The trained network and its history.
        deployment: The integers and their file.
        verification: Against Lava; None if the recipe asked for none.
        summary: The content of `summary.json`; filled last.
    """

    accuracy: tuple[AccuracyPoint, ...]
    report: Report
    training: TrainingResult
    deployment: Deployment
    verification: Verification | None
    summary: dict[str, object] = field(default_factory=dict)


def accuracy_points(
    accuracy: Mapping[str, float],
    deployment: Deployment,
    verification: Verification | None,
    samples: int,
) -> tuple[AccuracyPoint, ...]:
    """Return the accuracy of each stage, with a note on its measurement."""
    which = "quantized" if deployment.fine_tuning is None else "fine-tuned"
    notes = {
        "float": "trained network, branches removed",
        "quantized": "integers right after quantization",
        "integer": f"deployed file ({which}) on our simulator",
    }
    points = [
        AccuracyPoint(stage=stage, value=value, samples=samples, note=notes[stage])
        for stage, value in accuracy.items()
    ]
    if verification is not None:
        which = "all" if verification.samples == samples else "the first"
        if verification.samples != samples:  # else the point before is of the same samples
            points.append(
                AccuracyPoint(
                    stage="integer",
                    value=verification.integer_accuracy,
                    samples=verification.samples,
                    note="the same on the samples that ran on Lava",
                )
            )
        points.append(
            AccuracyPoint(
                stage="Lava",
                value=verification.accuracy,
                samples=verification.samples,
                note=f"the same file on real Lava, {which} test samples",
            )
        )
    return tuple(points)


def summary_of(
    recipe: Recipe,
    result: RunResult,
    accuracy: Mapping[str, float],
    test: Dataset,
    seconds: Mapping[str, float],
) -> dict[str, object]:
    """Return the content of `summary.json`; `lava` is null where nothing was verified."""
    deployment, verification, costs = result.deployment, result.verification, result.report
    lava: dict[str, object] | None = None
    if verification is not None:
        lava = {
            "samples": verification.samples,
            "differing_spikes": verification.comparison.differing,
            "accuracy": verification.accuracy,
            "seconds": round(verification.seconds, 3),
        }
    return {
        "accuracy": dict(accuracy),
        "test": {"samples": len(test), "digest": test.digest()},
        "validation_accuracy": dict(deployment.validation_accuracy),
        "deployed": deployment.choice,
        "lava": lava,
        "sops_per_sample": costs.sops_per_sample,
        "ann_macs": costs.ann.macs_border_exact,
        "ann_accuracy": costs.ann_accuracy,
        "rules": [asdict(rule) for rule in costs.rules],
        "energy": costs.to_json()["tiers"],
        "seconds": dict(seconds),
        "versions": versions(),
        "recipe": recipe.to_dict(),
    }


def page_of(
    recipe: Recipe,
    result: RunResult,
    activity: Activity,
    seconds: Mapping[str, float],
    command: str | None,
) -> RunSummary:
    """Return the content of the page."""
    tuning = result.deployment.fine_tuning
    verification = result.verification
    return RunSummary(
        title=recipe.recipe.name,
        description=recipe.recipe.description,
        accuracy=result.accuracy,
        rounding=Rounding(
            samples=result.deployment.calibration_samples,
            layers=tuple(
                (layer.name, layer.quantized, layer.deployed)
                for layer in result.deployment.agreement
                if layer.quantized is not None and layer.deployed is not None
            ),
        ),
        agreement=None
        if verification is None
        else Agreement(
            samples=verification.samples,
            comparison=verification.comparison,
            seconds=verification.seconds,
        ),
        report=result.report,
        raster=activity.raster,
        activity=activity,
        history=tuple(result.training.history.epochs),
        fine_tuning=() if tuning is None else tuple(tuning.epochs),
        seconds=seconds,
        versions=versions(),
        recipe=recipe.to_toml(),
        command=command,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
