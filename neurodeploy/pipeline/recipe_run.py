"""Run a whole recipe: train, deploy, simulate every test sample, verify on Lava, report."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.data import Dataset, load_data, range_of
from neurodeploy.errors import LavaRuntimeError, OnnxError, VerificationError
from neurodeploy.files import locked, write_text
from neurodeploy.lava_bridge.runtime import find_runtime, self_test
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.onnx_models.measured_zeros import OnnxBaseline
from neurodeploy.pipeline.deployment.preflight import check_deployable
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.deployment.steps import deploy
from neurodeploy.pipeline.directory import check_directory
from neurodeploy.pipeline.observation import Observer, Silence, Stopwatch
from neurodeploy.pipeline.prediction import accuracy_of, predict
from neurodeploy.pipeline.stages import TrainingResult, run_twin, train, verify
from neurodeploy.pipeline.summary import RunResult, accuracy_points, page_of, summary_of
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.activity import layer_activity_of, observe
from neurodeploy.reports.pages.outline import write_page
from neurodeploy.reports.report_builder import report
from neurodeploy.run_files import REPORT, SUMMARY
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Record, Recording


def run(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    command: str | None = None,
) -> RunResult:
    """Run the whole pipeline.

    Args:
        recipe: The recipe.
        directory: Gets every file of the run.
        resume: Go on with an interrupted training in the directory.
        observer: Told of stages and progress.
        command: Command to name on the page as its maker.

    Returns:
        The results, as in `summary.json` and `report.html`.

    Raises:
        NeurodeployError: If any stage fails.
        OutputError: If another process works in the directory.
        VerificationError: If a spike differs from Lava's; the report is written all the same.
    """
    with locked(directory):
        return _run(recipe, directory, resume, observer or Silence(), command)


def _run(
    recipe: Recipe, directory: Path, resume: bool, observer: Observer, command: str | None
) -> RunResult:
    """Run the pipeline in a directory that is locked."""
    watch = Stopwatch()
    with watch.time("check"):
        observer.stage("check")
        test = _check_early(recipe, directory, resume=resume)
    with watch.time("train"):
        trained = train(recipe, directory, resume=resume, observer=observer)
    with watch.time("deploy"):
        deployment = deploy(trained.network, recipe, directory, observer=observer)
    observer.stage("simulate", f"{len(test)} test samples")
    with watch.time("simulate"):
        inputs, record = test.windows(recipe.network.steps), Record(counts=True)
        simulator = EventSimulator(deployment.graph)
        recording = simulator.run(inputs, record=record, progress=observer.advance)
        accuracy = _accuracy(recipe, test, trained, deployment, recording)
    verification = None
    if recipe.verification.backend == "lava":
        with watch.time("verify"):
            verification = verify(deployment, recipe, test, observer=observer)
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
    write_text(directory / SUMMARY, json.dumps(summary, indent=2) + "\n")
    if verification is not None and not verification.comparison.is_equal:
        raise VerificationError(
            f"{deployment.path}: real Lava differs from our simulator. "
            f"{verification.comparison.describe()} The report in {directory} says where."
        )
    return dataclasses.replace(result, summary=summary)


def _try_twin(
    deployment: Deployment,
    test: Dataset,
    inputs: npt.NDArray[np.int32],
    directory: Path,
    observer: Observer,
) -> tuple[OnnxBaseline | None, tuple[str, ...]]:
    """Run the ReLU twin, or return the reason for the report why it could not run."""
    try:
        return run_twin(deployment, test, inputs, directory, observer=observer), ()
    except OnnxError as error:  # an optional package is missing, or the network has no twin
        return None, (f"The ReLU twin was not run, so not every rule can hold. {error}",)


def _check_early(recipe: Recipe, directory: Path, *, resume: bool) -> Dataset:
    """Return the test part, after checking all that could fail later."""
    check_directory(recipe, directory, resume=resume)
    parts = load_data(recipe)
    parts[2].subset(np.arange(1)).windows(recipe.network.steps)  # a chip must be able to read it
    check_deployable(recipe, range_of(parts))
    _check_lava(recipe)
    return parts[2]


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


def _check_lava(recipe: Recipe) -> None:
    """Run a known network on Lava, if the recipe asks for Lava.

    Raises:
        LavaRuntimeError: If Lava is missing or broken.
    """
    if recipe.verification.backend == "none":
        return
    named = recipe.verification.lava_python
    if named is None:
        self_test(find_runtime())
        return
    python = shutil.which(named)
    if python is None:
        raise LavaRuntimeError(
            f"verification.lava_python = {named}: not an executable. Name the Python interpreter "
            "of an environment that has Lava, or leave the key out to use the runtime of "
            "`neurodeploy lava install`."
        )
    self_test(Path(python), is_isolated=False)
