"""Assess a deployed network on the test part: accuracy, counts, energy, and their page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.data import Dataset, load_data
from neurodeploy.errors import OnnxError
from neurodeploy.files import DEPLOYMENT, REPORT, locked, write_text
from neurodeploy.learning.checkpoints import History
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.onnx_models.measured_zeros import OnnxBaseline
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.observation import Observer, Silence, Stopwatch
from neurodeploy.pipeline.prediction import accuracy_of, predict
from neurodeploy.pipeline.stages import TrainingResult, Verification, run_twin
from neurodeploy.pipeline.summary import RunResult, accuracy_points, page_of, summary_of
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.activity import layer_activity_of, observe
from neurodeploy.reports.pages.outline import write_page
from neurodeploy.reports.report_builder import report
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Record, Recording


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
    """
    with locked(directory):
        result = assess(
            TrainingResult(network=network, history=History(epochs=(), best_epoch=0, kept_epoch=0)),
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

    Args:
        trained: The network before deployment, and its history.
        recipe: Its recipe.
        deployment: Its integers.
        test: The test part.
        directory: Gets `report.html`.
        observer: Told of each step.
        watch: Times of the earlier stages, for the page.
        verification: Against Lava, if there was any.
        command: Command to name on the page as its maker.
    """
    observer.stage("simulate", f"{len(test)} test samples")
    with watch.time("simulate"):
        inputs = test.windows(recipe.network.steps)
        recording = EventSimulator(deployment.graph).run(
            inputs, record=Record(counts=True), progress=observer.advance
        )
        accuracy = _accuracy(recipe, test, trained, deployment, recording)
    with watch.time("ReLU twin"):
        twin, notes = _try_twin(deployment, test, inputs, directory, observer)
    observer.stage("report")
    with watch.time("report"):
        costs = report(
            deployment.graph,
            inputs,
            recording,
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
        layers, title = layer_activity_of(recording), f"first test sample, class {test.labels[0]}"
        activity = observe(
            deployment.graph, layers, inputs[:1], samples=recording.samples, title=title
        )
        write_page(page_of(recipe, result, activity, watch.seconds, command), directory / REPORT)
    summary = summary_of(recipe, result, accuracy, test, watch.seconds)
    return dataclasses.replace(result, summary=summary)


def _accuracy(
    recipe: Recipe,
    test: Dataset,
    trained: TrainingResult,
    deployment: Deployment,
    recording: Recording,
) -> dict[str, float]:
    """Return the accuracy on the test part by stage; `recording` is the deployed file's."""
    quantized = deployment.calibration.graph
    return {
        "float": evaluate(trained.network, test).accuracy,
        "quantized": accuracy_of(quantized, test, recipe.network.steps),
        "integer": float(np.mean(predict(recording) == test.labels)),
    }


def _try_twin(
    deployment: Deployment,
    test: Dataset,
    inputs: npt.NDArray[np.int32],
    directory: Path,
    observer: Observer,
) -> tuple[OnnxBaseline | None, tuple[str, ...]]:
    """Return the run of the ReLU twin; without one, None and a note that says why."""
    try:
        return run_twin(deployment, test, inputs, directory, observer=observer), ()
    except OnnxError as error:  # an optional package is missing, or there is no such twin
        return None, (f"The ReLU twin was not run, so not every rule can hold. {error}",)
