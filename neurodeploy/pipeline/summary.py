"""What a run found, put together: for `summary.json` and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from neurodeploy.data import Dataset
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.directory import versions
from neurodeploy.pipeline.observation import Stopwatch
from neurodeploy.pipeline.stages import TrainingResult, Verification
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.activity import Activity
from neurodeploy.reports.report import Report
from neurodeploy.reports.run_summary import (
    AccuracyPoint,
    Agreement,
    RunSummary,
)


def summary_of(
    recipe: Recipe,
    accuracy: Mapping[str, float],
    costs: Report,
    deployment: Deployment,
    verification: Verification | None,
    watch: Stopwatch,
    test: Dataset,
) -> dict[str, object]:
    """Return the content of `summary.json`; `lava` is null where nothing was verified."""
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
        "energy": costs.to_json()["tiers"],
        "seconds": dict(watch.seconds),
        "versions": versions(),
        "recipe": recipe.to_dict(),
    }


def accuracy_points(
    accuracy: Mapping[str, float],
    deployment: Deployment,
    verification: Verification | None,
    samples: int,
) -> tuple[AccuracyPoint, ...]:
    """Return accuracy stage by stage, each with what was measured.

    Args:
        accuracy: On the test part: "float", "quantized", "integer".
        deployment: Says whether the fine-tuned network was deployed.
        verification: Adds Lava's, if there was one.
        samples: Of the test part.
    """
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
        points.append(
            AccuracyPoint(
                stage="Lava",
                value=verification.accuracy,
                samples=verification.samples,
                note="the same file on real Lava, first test samples",
            )
        )
    return tuple(points)


def page_of(
    recipe: Recipe,
    points: tuple[AccuracyPoint, ...],
    costs: Report,
    activity: Activity,
    trained: TrainingResult,
    deployment: Deployment,
    verification: Verification | None,
    watch: Stopwatch,
    command: str | None,
) -> RunSummary:
    """Return what the page shows."""
    tuning = deployment.fine_tuning
    return RunSummary(
        title=recipe.recipe.name,
        description=recipe.recipe.description,
        accuracy=points,
        agreement=None
        if verification is None
        else Agreement(
            samples=verification.samples,
            comparison=verification.comparison,
            seconds=verification.seconds,
        ),
        report=costs,
        raster=activity.raster,
        activity=activity,
        history=tuple(trained.history.epochs),
        fine_tuning=() if tuning is None else tuple(tuning.epochs),
        seconds=watch.seconds,
        versions=versions(),
        recipe=recipe.to_toml(),
        command=command,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
