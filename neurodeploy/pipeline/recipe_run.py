"""Run a whole recipe: train, deploy, simulate every test sample, verify on Lava, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from neurodeploy.data import Dataset, load_data, range_of
from neurodeploy.errors import LavaRuntimeError, VerificationError
from neurodeploy.files import CERTIFICATE, SUMMARY, locked, write_text
from neurodeploy.lava_bridge.runtime import find_runtime, self_test
from neurodeploy.pipeline.assessment import RunResult, assess
from neurodeploy.pipeline.deployment.lowering import check_deployable
from neurodeploy.pipeline.deployment.steps import deploy
from neurodeploy.pipeline.directory import check_directory
from neurodeploy.pipeline.observation import Observer, Silence, Stopwatch
from neurodeploy.pipeline.stages import take_over, train, verify
from neurodeploy.recipes.recipe import Recipe


def run(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool = False,
    source: Path | None = None,
    observer: Observer | None = None,
    command: str | None = None,
) -> RunResult:
    """Run the whole pipeline, or all that follows the training of another run.

    Args:
        recipe: The recipe.
        directory: Gets every file of the run.
        resume: Go on with an interrupted training in the directory.
        source: Directory of a training or a run whose network is deployed once more, in place of
            training one; `recipe` may differ from its recipe only after training.
        observer: Told of stages and progress.
        command: Command to name on the page as its maker.

    Returns:
        The results, as in `summary.json` and `report.html`.

    Raises:
        NeurodeployError: If any stage fails.
        OutputError: If another process works in the directory.
        VerificationError: If a spike differs from Lava's; the report is written all the same.

    Example:
        >>> alone = nd.Recipe.load("digits", overrides={**quick, "verification.backend": "none"})
        >>> again = nd.pipeline.run(alone, Path("again"), source=Path("runs/digits-1"))
        >>> again.accuracy == run.accuracy[:3]  # deployed once more, not trained
        True
    """
    observer, watch, verification = observer or Silence(), Stopwatch(), None
    with locked(directory):
        with watch.time("check"):
            observer.stage("check")
            test = _check_early(recipe, directory, resume=resume)
        with watch.time("train"):
            if source is None:
                trained = train(recipe, directory, resume=resume, observer=observer)
            else:
                trained = take_over(source, recipe, directory)
        with watch.time("deploy"):
            deployment = deploy(trained.network, recipe, directory, observer=observer)
        if recipe.verification.backend == "lava":
            with watch.time("verify"):
                verification = verify(deployment, recipe, test, observer=observer)
                verification.certificate.save(directory / CERTIFICATE)
        result = assess(
            trained,
            recipe,
            deployment,
            test,
            directory,
            observer=observer,
            watch=watch,
            verification=verification,
            command=command,
        )
        write_text(directory / SUMMARY, json.dumps(result.summary, indent=2) + "\n")
    if verification is not None and not verification.comparison.is_equal:
        raise VerificationError(
            f"{deployment.path}: real Lava differs from our simulator. "
            f"{verification.comparison.describe()} The report in {directory} says where."
        )
    return result


def _check_early(recipe: Recipe, directory: Path, *, resume: bool) -> Dataset:
    """Return the test part, after checking all that could fail later."""
    check_directory(recipe, directory, resume=resume)
    parts = load_data(recipe)
    parts[2].subset(np.arange(1)).windows(recipe.network.steps)  # a chip must be able to read it
    check_deployable(recipe, range_of(parts))
    _check_lava(recipe)
    return parts[2]


def _check_lava(recipe: Recipe) -> None:
    """Run a known network on Lava, if the recipe asks for Lava."""
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
