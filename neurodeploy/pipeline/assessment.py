"""Assess a deployed network on the test part: accuracy, counts, energy; their page and summary."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from neurodeploy.counting.counted_run import count_samples
from neurodeploy.data import Dataset, load_data
from neurodeploy.errors import OnnxError
from neurodeploy.files import DEPLOYMENT, REPORT, TWIN, locked, write_text
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.onnx_models.measured_zeros import OnnxBaseline, read_baseline
from neurodeploy.onnx_models.reading import require_onnx
from neurodeploy.onnx_models.twin_export import export_twin
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.directory import versions
from neurodeploy.pipeline.observation import Observer, Silence, Stopwatch
from neurodeploy.pipeline.prediction import DatasetSamples, accuracy_of
from neurodeploy.pipeline.stages import TrainingResult, Verification
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.activity import Activity, layer_activity, observe
from neurodeploy.reports.pages.outline import write_page
from neurodeploy.reports.report import AccuracyPoint, Agreement, Report, Rounding, RunSummary
from neurodeploy.reports.report_builder import report_counts
from neurodeploy.samples.sources import Samples


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunResult:
    """A whole run: accuracy on the test part by stage, counts and energy, and their makers.

    `verification` is None if the recipe asked for none; `summary` is the content of `summary.json`.

    Example:
        >>> [point.stage for point in run.accuracy]
        ['float', 'quantized', 'integer', 'integer', 'Lava']
        >>> run.verification.comparison.differing, sorted(run.summary)[:2]
        (0, ['accuracy', 'ann_accuracy'])
    """

    accuracy: tuple[AccuracyPoint, ...]
    report: Report
    training: TrainingResult
    deployment: Deployment
    verification: Verification | None
    summary: dict[str, object] = field(default_factory=dict)


def assess_deployment(
    network: SpikingNetwork,
    recipe: Recipe,
    deployment: Deployment,
    directory: Path,
    *,
    observer: Observer | None = None,
    command: str | None = None,
) -> RunResult:
    """Measure a deployment on the recipe's test part, and keep the result beside its file.

    Args:
        network: The trained network that was deployed.
        recipe: Its recipe.
        deployment: Its integers.
        directory: Gets `report.html` and `deployment.json`, which `neurodeploy compare` reads.
        observer: Told of each step.
        command: Command to name on the page as its maker.

    Raises:
        DataError: If the test part cannot be read.
        OutputError: If the files cannot be written.

    Example:
        >>> model, _ = nd.pipeline.load_model("runs/digits-1")
        >>> result = nd.pipeline.assess_deployment(model, recipe, run.deployment, Path("assessed"))
        >>> result.report.sops_per_sample == run.report.sops_per_sample
        True
    """
    with locked(directory):
        result = assess(
            TrainingResult(network=network),
            recipe,
            deployment,
            load_data(recipe)[2],
            directory,
            observer=observer or Silence(),
            watch=Stopwatch(),
            command=command,
        )
        write_text(directory / DEPLOYMENT, json.dumps(result.summary, indent=2) + "\n")
    return result


def assess(
    trained: TrainingResult,
    recipe: Recipe,
    deployment: Deployment,
    test: Dataset,
    directory: Path,
    *,
    observer: Observer,
    watch: Stopwatch,
    verification: Verification | None = None,
    command: str | None = None,
) -> RunResult:
    """Run the deployed file on the whole test part, count and price it, and write the page.

    `watch` holds the times of the earlier stages, for the page; `verification` is the comparison
    with Lava, if there was any.
    """
    observer.stage("simulate", f"{len(test)} test samples")
    with watch.time("simulate"):
        inputs = DatasetSamples(test, recipe.network.steps)
        counted = count_samples(deployment.graph, inputs, progress=observer.advance)
        observer.stage("measure accuracy", f"of floats and integers, {len(test)} test samples")
        steps, quantized = recipe.network.steps, deployment.calibration.graph
        accuracy = {
            "float": evaluate(trained.network, test, progress=observer.advance).accuracy,
            "quantized": accuracy_of(quantized, test, steps, observer.advance),
            "integer": float(np.mean(counted.prediction == test.labels)),
        }
    with watch.time("ReLU twin"):
        twin, notes = _try_twin(deployment, test, inputs, directory, observer)
    observer.stage("report")
    with watch.time("report"):
        costs = report_counts(
            deployment.graph,
            counted,
            network_file=deployment.path,
            twin_run=twin,
            accuracy=accuracy,
        )
        costs = dataclasses.replace(costs, warnings=(*costs.warnings, *notes))
        result = RunResult(
            accuracy=accuracy_points(accuracy, deployment, verification, len(test)),
            report=costs,
            training=trained,
            deployment=deployment,
            verification=verification,
        )
        activity = observe(
            deployment.graph,
            layer_activity(counted.facts),
            inputs.read(0, 1),
            samples=counted.facts.samples,
            title=f"first test sample, class {test.labels[0]}",
        )
        write_page(_page_of(recipe, result, activity, watch.seconds, command), directory / REPORT)
    summary = _summary_of(recipe, result, accuracy, test, watch.seconds)
    return dataclasses.replace(result, summary=summary)


def _try_twin(
    deployment: Deployment,
    test: Dataset,
    inputs: Samples,
    directory: Path,
    observer: Observer,
) -> tuple[OnnxBaseline | None, tuple[str, ...]]:
    """Write the ReLU twin as ONNX and run it on the mean of the test samples over the steps.

    It has the trained weights, without those that are zero in the deployed file, and was not
    trained itself: its accuracy is that of a conversion without training. Where onnx or
    onnxruntime is missing, or the network has no twin that can run, the result is None and a note
    that says why.
    """
    try:
        require_onnx("the accuracy of the ReLU twin", "onnxruntime")
        observer.stage("ReLU twin", f"{len(test)} test samples")
        export_twin(deployment.twin, directory / TWIN)
        baseline = read_baseline(
            directory / TWIN,
            network_inputs=inputs,
            labels=np.asarray(test.labels),
            progress=observer.advance,
        )
        return baseline, ()
    except OnnxError as error:
        return None, (f"The ReLU twin was not run, so not every rule can hold. {error}",)


def accuracy_points(
    accuracy: Mapping[str, float],
    deployment: Deployment,
    verification: Verification | None,
    samples: int,
) -> tuple[AccuracyPoint, ...]:
    """Return the accuracy of each stage, with a note on its measurement."""
    which = "quantized" if deployment.fine_tuning is None else "fine-tuned"
    notes = {
        "float": "trained network",
        "quantized": "integers right after quantization",
        "integer": f"deployed file ({which}) on our simulator",
    }
    points = [
        AccuracyPoint(stage=stage, value=value, samples=samples, note=notes[stage])
        for stage, value in accuracy.items()
    ]
    if verification is not None:
        run, which = verification.samples, "all"
        if run != samples:  # else the point before is of the same samples
            which, note = "the first", "the same on the samples that ran on Lava"
            value = verification.integer_accuracy
            points.append(AccuracyPoint(stage="integer", value=value, samples=run, note=note))
        note = f"the same file on real Lava, {which} test samples"
        value = verification.accuracy
        points.append(AccuracyPoint(stage="Lava", value=value, samples=run, note=note))
    return tuple(points)


def _summary_of(
    recipe: Recipe,
    result: RunResult,
    accuracy: Mapping[str, float],
    test: Dataset,
    seconds: Mapping[str, float],
) -> dict[str, object]:
    """Return the content of `summary.json`; `lava` is null where Lava did not run."""
    deployment, costs = result.deployment, result.report
    lava: dict[str, object] | None = None
    agreement = _agreement(result)
    if agreement is not None:
        lava = {
            "part": agreement.part,
            "samples": agreement.samples,
            "differing_spikes": agreement.comparison.differing,
            "accuracy": None if result.verification is None else result.verification.accuracy,
            "seconds": round(agreement.seconds or 0.0, 3),
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


def _agreement(result: RunResult) -> Agreement | None:
    """Return the run on real Lava: of test samples, or else the one that the deployment made."""
    verification = result.verification
    if verification is None:
        return result.deployment.lava
    return Agreement(
        samples=verification.samples,
        comparison=verification.comparison,
        seconds=verification.seconds,
        part="test",
    )


def _page_of(
    recipe: Recipe,
    result: RunResult,
    activity: Activity,
    seconds: Mapping[str, float],
    command: str | None,
) -> RunSummary:
    """Return the content of the page."""
    tuning, verification = result.deployment.fine_tuning, result.verification
    return RunSummary(
        title=recipe.recipe.name,
        description=recipe.recipe.description,
        accuracy=result.accuracy,
        agreement=_agreement(result),
        rounding=Rounding(
            samples=result.deployment.calibration_samples,
            layers=tuple(
                (layer.name, layer.quantized, layer.deployed)
                for layer in result.deployment.agreement
                if layer.quantized is not None and layer.deployed is not None
            ),
        ),
        report=result.report,
        raster=activity.raster,
        activity=activity,
        history=tuple(result.training.history.epochs),
        fine_tuning=() if tuning is None else tuple(tuning.epochs),
        seconds=seconds,
        versions=versions(),
        recipe=recipe.to_toml(),
        certificate=(verification or result.deployment).certificate,
        command=command,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
