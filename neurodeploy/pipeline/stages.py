"""Train before deployment; verify on real Lava after it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from neurodeploy.data import Dataset, load_data, range_of
from neurodeploy.errors import NeurodeployError, NeurodeployWarning
from neurodeploy.files import MODEL, TEST, locked, write_text
from neurodeploy.learning.checkpoints import History
from neurodeploy.learning.engine import TrainingEngine
from neurodeploy.learning.evaluation import Evaluation, evaluate
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.network import SpikingNetwork, remove_branches
from neurodeploy.pipeline.deployment.lowering import check_deployable
from neurodeploy.pipeline.deployment.result import Deployment
from neurodeploy.pipeline.directory import begin_run, load_model, require_source, versions
from neurodeploy.pipeline.observation import Observer, Silence, iteration_callback
from neurodeploy.pipeline.prediction import compare_with_lava, predict, shown_samples
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.certified_facts import CertifiedRun
from neurodeploy.testing import Comparison


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingResult:
    """A trained network, its branches removed, and how it got there.

    Attributes:
        network: In evaluation mode, on the CPU.
        history: Epoch by epoch; without any if the network was trained elsewhere.
        test: On the test part; None unless it was asked for.

    Example:
        >>> run.training.history.kept_epoch, run.training.network.branches
        (1, None)
    """

    network: SpikingNetwork
    history: History = field(default=History(epochs=(), best_epoch=0, kept_epoch=0))
    test: Evaluation | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verification:
    """Our simulator against real Lava on the same samples.

    `accuracy` and `seconds`, start-up included, are Lava's; `integer_accuracy` is our simulator's.

    Example:
        >>> run.verification.samples, run.verification.comparison.differing
        (2, 0)
        >>> 0 <= run.verification.accuracy <= 1
        True
    """

    samples: int
    comparison: Comparison
    accuracy: float
    integer_accuracy: float
    seconds: float
    certificate: Certificate


def train(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool = False,
    is_tested: bool = False,
    observer: Observer | None = None,
    engine: TrainingEngine | None = None,
) -> TrainingResult:
    """Train the recipe's network and save it without its branches.

    Args:
        recipe: Network, data and training.
        directory: Gets recipe, checkpoints and model.
        resume: Go on from the checkpoint in the directory.
        is_tested: Measure the test part at the end, and keep the result in the directory.
        observer: Told of each iteration.
        engine: The processes that train together, this one alone by default. Each of them calls
            this function; the first writes the files.

    Raises:
        NeurodeployError: With what went wrong; the last checkpoint stays usable.
        OutputError: If another process works in the directory.

    Example:
        >>> training = nd.pipeline.train(recipe, Path("trained"), is_tested=True)
        >>> 0.5 < training.test.accuracy <= 1, Path("trained/model.safetensors").exists()
        (True, True)
    """
    engine, observer = engine or TrainingEngine(), observer or Silence()
    with ExitStack() as lock:
        engine.first(lambda: lock.enter_context(locked(directory)))
        training, validation, test = parts = load_data(recipe)
        engine.first(lambda: begin_run(recipe, directory, resume=resume))
        engine.first(lambda: _warn_unless_deployable(recipe, parts))
        observer.stage("train", f"{recipe.training.epochs} epochs")
        network = SpikingNetwork.from_recipe(recipe)
        history = Trainer(
            recipe.training,
            seed=recipe.recipe.seed,
            shortcut=recipe.shortcut,
            shift=recipe.data.shift,
            pruning=recipe.pruning,
            directory=directory / "training",
            engine=engine,
            on_iteration=iteration_callback(observer),
        ).fit(network, training, validation, resume=resume)
        network = remove_branches(network)
        network.eval()
        engine.first(lambda: network.save(directory / MODEL))
        if not is_tested:
            return TrainingResult(network=network, history=history)
        observer.stage("test", f"{len(test)} samples")
        network.to(engine.device)
        result = evaluate(network, test, engine=engine, progress=observer.advance)
        network.cpu()
        engine.first(lambda: _write_test(result, recipe, directory, samples=len(test)))
        return TrainingResult(network=network, history=history, test=result)


def _warn_unless_deployable(recipe: Recipe, parts: Sequence[Dataset]) -> None:
    """Warn before training of a network that `deploy` will refuse."""
    try:
        check_deployable(recipe, range_of(parts))
    except NeurodeployError as error:
        warnings.warn(
            f"this network trains, but cannot be deployed: {error}",
            NeurodeployWarning,
            stacklevel=4,
        )


def take_over(source: Path, recipe: Recipe, directory: Path) -> TrainingResult:
    """Begin a run with the network of another one.

    `recipe` may differ from that of `source`, the run, only in keys that act after training.

    Raises:
        RecipeError: If the recipe trains another network, or a directory is not as it should be.
        CheckpointError: If the model is missing, damaged, or not of this recipe.
    """
    require_source(source, recipe)
    network = load_model(source)[0]
    begin_run(recipe, directory, resume=False)
    network.save(directory / MODEL)
    return TrainingResult(network=network)


def _write_test(result: Evaluation, recipe: Recipe, directory: Path, *, samples: int) -> None:
    content = {
        **asdict(result),
        "samples": samples,
        "seed": recipe.recipe.seed,
        "paper": None if recipe.paper is None else asdict(recipe.paper),
        **versions(),
    }
    write_text(directory / TEST, json.dumps(content, indent=1) + "\n")


def verify(
    deployment: Deployment, recipe: Recipe, test: Dataset, *, observer: Observer | None = None
) -> Verification:
    """Run the first test samples on our simulator and on real Lava and compare every layer.

    Raises:
        LavaRuntimeError: If Lava is missing or fails.

    Example:
        >>> verification = nd.pipeline.verify(run.deployment, recipe, nd.load_data(recipe)[2])
        >>> verification.samples, verification.comparison.differing  # real Lava agrees
        (2, 0)
    """
    observer = observer or Silence()
    shown = shown_samples(test, recipe)
    observer.stage("verify", f"{len(shown)} samples on real Lava")
    inputs = shown.windows(recipe.network.steps)
    comparison, ours, lava = compare_with_lava(
        deployment.path, deployment.graph, recipe, inputs, observer
    )
    return Verification(
        samples=len(shown),
        comparison=comparison,
        accuracy=float(np.mean(predict(lava) == shown.labels)),
        integer_accuracy=float(np.mean(predict(ours) == shown.labels)),
        seconds=lava.seconds + lava.startup_seconds,
        certificate=Certificate.of(
            deployment.path,
            deployment.samples,
            inputs,
            ours,
            CertifiedRun.of(deployment.graph, ours.steps),
            lava=lava,
            deployment=deployment.certificate.deployment,
        ),
    )
