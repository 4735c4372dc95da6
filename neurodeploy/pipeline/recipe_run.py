"""All of it: train, deploy, simulate every test sample, verify on Lava, report."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurodeploy.chips.target import Target
from neurodeploy.data import load_data
from neurodeploy.errors import LavaRuntimeError, VerificationError
from neurodeploy.files import write_text
from neurodeploy.lava_bridge.runtime import find_runtime, self_test
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.nn.tracing import trace
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.deployment.steps import deploy
from neurodeploy.pipeline.directory import REPORT, SUMMARY, check_directory
from neurodeploy.pipeline.observation import Observer, Silence, Stopwatch
from neurodeploy.pipeline.prediction import accuracy_of, predict
from neurodeploy.pipeline.stages import TrainingResult, Verification, train, verify
from neurodeploy.pipeline.summary import accuracy_points, page_of, summary_of
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.activity import layer_activity_of, observe
from neurodeploy.reports.pages.outline import write_page
from neurodeploy.reports.report import Report
from neurodeploy.reports.report_builder import report
from neurodeploy.reports.run_summary import AccuracyPoint
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Record


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunResult:
    """A whole run.

    Attributes:
        summary: What `summary.json` holds.
        accuracy: On the test part, stage by stage.
        report: Counts and energy.
        training: The trained network and its history.
        deployment: The integers and their file.
        verification: Against Lava; None if the recipe asked for none.
    """

    summary: dict[str, object]
    accuracy: tuple[AccuracyPoint, ...]
    report: Report
    training: TrainingResult
    deployment: Deployment
    verification: Verification | None


def run(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    command: str | None = None,
) -> RunResult:
    """Do all of it.

    What can be known to fail is found first: a target that does not exist, data that do not fit,
    a directory in use, a Lava runtime that is missing or broken.

    Args:
        recipe: What to do.
        directory: Where everything goes.
        resume: Go on with an interrupted training in the directory.
        observer: Told of stages and progress.
        command: What to name on the page as the command that made it.

    Returns:
        What was found; `summary.json` and `report.html` say the same.

    Raises:
        NeurodeployError: With what went wrong.
        VerificationError: If a spike differs from Lava's; the report is written all the same.
    """
    observer = observer or Silence()
    watch = Stopwatch()
    with watch.time("check"):
        observer.stage("check")
        Target.load(recipe.quantization.target)
        test = load_data(recipe)[2]
        test.subset(np.arange(1)).windows(recipe.network.steps)  # a chip must be able to read it
        check_directory(recipe, directory, resume=resume)
        _check_lava(recipe)
    with watch.time("train"):
        trained = train(recipe, directory, resume=resume, observer=observer)
    with watch.time("deploy"):
        deployment = deploy(trained.network, recipe, directory, observer=observer)
    observer.stage("simulate", f"{len(test)} test samples")
    with watch.time("simulate"):
        steps = recipe.network.steps
        inputs = test.windows(steps)
        recording = EventSimulator(deployment.graph).run(
            inputs, record=Record(counts=True), progress=observer.advance
        )
        accuracy = {
            "float": evaluate(trained.network, test).accuracy,
            "quantized": accuracy_of(deployment.calibration.graph, test, steps),
            "integer": float(np.mean(predict(recording) == test.labels)),
        }
    verification = None
    if recipe.verification.backend == "lava":
        with watch.time("verify"):
            verification = verify(deployment, recipe, test, observer=observer)
    observer.stage("report")
    with watch.time("report"):
        costs = report(
            deployment.graph,
            inputs,
            recording,
            network_file=deployment.path,
            baseline=trace(trained.network),
            accuracy=accuracy,
        )
        points = accuracy_points(accuracy, deployment, verification, len(test))
        activity = observe(
            deployment.graph,
            layer_activity_of(recording),
            inputs[:1],
            samples=recording.samples,
            title=f"first test sample, class {test.labels[0]}",
        )
        page = page_of(
            recipe, points, costs, activity, trained, deployment, verification, watch, command
        )
        write_page(page, directory / REPORT)
    summary = summary_of(recipe, accuracy, costs, deployment, verification, watch, test)
    write_text(directory / SUMMARY, json.dumps(summary, indent=2) + "\n")
    if verification is not None and not verification.comparison.is_equal:
        raise VerificationError(
            f"{deployment.path}: real Lava differs from our simulator. "
            f"{verification.comparison.describe()} The report in {directory} says where."
        )
    return RunResult(
        summary=summary,
        accuracy=points,
        report=costs,
        training=trained,
        deployment=deployment,
        verification=verification,
    )


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
    found = shutil.which(named)
    if found is None:
        raise LavaRuntimeError(
            f"verification.lava_python = {named}: not an executable. Name the Python interpreter "
            "of an environment that has Lava, or leave the key out to use the runtime of "
            "`neurodeploy lava install`."
        )
    self_test(Path(found), is_isolated=False)
