"""A whole recipe, step after step: train, deploy, simulate, verify, report.

What `neurodeploy train`, `deploy` and `run` call. A run lives in one directory:

    recipe.toml        the effective recipe
    training/          checkpoint, metrics.jsonl, best and last network
    fine_tuning/       the same of the quantization-aware fine-tune
    model.safetensors  the trained network, branches removed
    network.net        what Lava loads; network.json says how it was made
    samples.npz        the test samples that Lava was asked about, with labels
    report.html        for people
    summary.json       for machines; written last, so its presence means that the run is whole
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

import neurodeploy
from neurodeploy import netx, testing
from neurodeploy.calibration import Calibration, calibrate
from neurodeploy.cost.page import write_page
from neurodeploy.cost.run_summary import (
    AccuracyPoint,
    Agreement,
    EpochPoint,
    LayerAgreement,
    RunSummary,
    raster_of,
)
from neurodeploy.cost.summary import Report, report
from neurodeploy.errors import RecipeError, TraceError, VerificationError
from neurodeploy.files import write_text
from neurodeploy.ir.graph import FixedPointGraph, Graph
from neurodeploy.learning.data import Dataset, load_data
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.learning.records import EpochRecord, History, IterationRecord
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.fake_quantization import IntegerNetwork
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import LIF, CubaLIF
from neurodeploy.nn.shortcut import remove_branches
from neurodeploy.nn.surrogate import Surrogate
from neurodeploy.passes import fold_batchnorm, fold_global_average_pool, run_passes
from neurodeploy.recipe import Recipe, ShortcutSection
from neurodeploy.simulation.base import Recording
from neurodeploy.simulation.event import EventSimulator
from neurodeploy.simulation.lava import LavaSimulator
from neurodeploy.simulation.lava_runtime import find_runtime
from neurodeploy.simulation.storage import save_samples
from neurodeploy.target import Target
from neurodeploy.tracing import trace

IntArray = npt.NDArray[np.int32]

RECIPE = "recipe.toml"
MODEL = "model.safetensors"
NET = "network.net"
NET_RECORD = "network.json"
SAMPLES = "samples.npz"
REPORT = "report.html"
SUMMARY = "summary.json"


class Observer(Protocol):
    """Is told what a pipeline does; the command line draws it."""

    def stage(self, name: str, note: str = "") -> None:
        """A stage begins."""
        ...

    def advance(self, done: int, total: int, note: str = "") -> None:
        """The stage has got this far."""
        ...


class Silence:
    """An observer that draws nothing."""

    def stage(self, name: str, note: str = "") -> None:
        """Ignore it."""

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Ignore it."""


@dataclass(slots=True)
class Stopwatch:
    """Wall time of each stage, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + spent, 3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingResult:
    """A trained network, its branches removed, and how it got there."""

    network: SpikingNetwork
    history: History


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deployment:
    """A network in integers.

    Attributes:
        path: The netx file.
        graph: What the file holds, read back from it.
        calibration: Scales and peaks before fine-tuning.
        fine_tuning: History of the fine-tune; None if there was none, or if it did not help.
        validation_accuracy: Of the integers right after quantization and of those deployed.
    """

    path: Path
    graph: FixedPointGraph
    calibration: Calibration
    fine_tuning: History | None
    validation_accuracy: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verification:
    """Our simulator against real Lava on the same samples.

    Attributes:
        samples: How many.
        comparison: Layer by layer.
        accuracy: Of what Lava computed.
        seconds: Of Lava, start-up included.
    """

    samples: int
    comparison: testing.Comparison
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunResult:
    """A whole run.

    Attributes:
        summary: What `summary.json` holds.
        accuracy: On the test part, stage by stage.
        report: Counts and energy.
        verification: Against Lava; None if the recipe asked for none.
    """

    summary: dict[str, object]
    accuracy: tuple[AccuracyPoint, ...]
    report: Report
    verification: Verification | None


def next_run_directory(name: str, parent: Path = Path("runs")) -> Path:
    """Give `parent/name-<n>` with the first free n."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def train(
    recipe: Recipe, directory: Path, *, resume: bool = False, observer: Observer | None = None
) -> TrainingResult:
    """Train the recipe's network and save it without its branches.

    Args:
        recipe: What to do.
        directory: Of the run; gets recipe, checkpoints and model.
        resume: Go on from the checkpoint in the directory.
        observer: Told of each iteration.

    Raises:
        NeurodeployError: With what went wrong; the last checkpoint stays usable.
    """
    observer = observer or Silence()
    parts = load_data(recipe)
    _write_recipe(recipe, directory, resume=resume)
    observer.stage("train", f"{recipe.training.epochs} epochs")
    network = SpikingNetwork.from_recipe(recipe)
    history = Trainer(
        recipe.training,
        seed=recipe.recipe.seed,
        shortcut=recipe.shortcut,
        shift=recipe.data.shift,
        directory=directory / "training",
        on_iteration=_iteration_callback(observer),
    ).fit(network, parts[0], parts[1], resume=resume)
    network = remove_branches(network)
    network.eval()
    network.save(directory / MODEL)
    return TrainingResult(network=network, history=history)


def lower(network: SpikingNetwork) -> Graph:
    """Trace a network without branches and fold what the chip does not have.

    Raises:
        TraceError: If the network holds something that has no counterpart.
        GraphError: If something cannot be folded.
    """
    return run_passes(trace(network), fold_batchnorm, fold_global_average_pool)


def deploy(
    network: SpikingNetwork,
    recipe: Recipe,
    directory: Path,
    *,
    target: Target,
    observer: Observer | None = None,
) -> Deployment:
    """Quantize, fine-tune in integers, and write the netx file.

    The fine-tuned weights are taken only if they are at least as good on the validation part.

    Args:
        network: Trained, without branches.
        recipe: Says on which data to calibrate and how to fine-tune.
        directory: Of the run.
        target: The chip.
        observer: Told of each step.

    Raises:
        NeurodeployError: With what went wrong; no file is left half-written.
    """
    observer = observer or Silence()
    training, validation, _ = load_data(recipe)
    steps = recipe.network.steps
    observer.stage("quantize", f"for {target.name}")
    graph = lower(network)
    samples = training.windows(steps)[: recipe.quantization.calibration_samples]
    calibration = calibrate(graph, target, samples, margin=recipe.quantization.margin)
    before = accuracy_of(calibration.graph, validation, steps)
    fixed, history, after = calibration.graph, None, before
    if recipe.quantization.fine_tune_epochs:
        tuned, tuning = _fine_tune(
            network, graph, calibration, recipe, directory, target, training, validation, observer
        )
        tuned_accuracy = accuracy_of(tuned, validation, steps)
        if tuned_accuracy >= before:
            fixed, history, after = tuned, tuning, tuned_accuracy
    path = directory / NET
    netx.write(fixed, path)
    written = netx.read(path)
    accuracy = {"quantized": before, "deployed": after}
    _write_net_record(directory / NET_RECORD, recipe, target, calibration, path, accuracy)
    return Deployment(
        path=path,
        graph=written,
        calibration=calibration,
        fine_tuning=history,
        validation_accuracy=accuracy,
    )


def _fine_tune(
    network: SpikingNetwork,
    graph: Graph,
    calibration: Calibration,
    recipe: Recipe,
    directory: Path,
    target: Target,
    training: Dataset,
    validation: Dataset,
    observer: Observer,
) -> tuple[FixedPointGraph, History]:
    settings = recipe.quantization
    observer.stage("fine-tune", f"{settings.fine_tune_epochs} epochs in integers")
    integer = IntegerNetwork(
        graph,
        target,
        calibration.scales,
        steps=recipe.network.steps,
        surrogate=_surrogate(network),
    )
    section = dataclasses.replace(
        recipe.training,
        epochs=settings.fine_tune_epochs,
        learning_rate=settings.fine_tune_learning_rate,
        weight_decay=0.0,
        keep="best",
    )
    history = Trainer(
        section,
        seed=recipe.recipe.seed,
        shortcut=ShortcutSection(),
        shift=recipe.data.shift,
        directory=directory / "fine_tuning",
        on_iteration=_iteration_callback(observer),
    ).fit(integer, training, validation)
    return integer.to_fixed_point(), history


def run(
    recipe: Recipe, directory: Path, *, resume: bool = False, observer: Observer | None = None
) -> RunResult:
    """Do all of it: train, deploy, simulate all test samples, verify on Lava, report.

    Args:
        recipe: What to do.
        directory: Where everything goes.
        resume: Go on with an interrupted training in the directory.
        observer: Told of stages and progress.

    Returns:
        What was found; `summary.json` and `report.html` say the same.

    Raises:
        NeurodeployError: With what went wrong. A missing Lava runtime is found before training.
        VerificationError: If a spike differs from Lava's; the report is written all the same.
    """
    observer = observer or Silence()
    watch = Stopwatch()
    target = Target.load(recipe.quantization.target)
    python = _lava_interpreter(recipe)
    test = load_data(recipe)[2]
    steps = recipe.network.steps
    with watch.time("train"):
        trained = train(recipe, directory, resume=resume, observer=observer)
    with watch.time("deploy"):
        deployment = deploy(trained.network, recipe, directory, target=target, observer=observer)
    observer.stage("simulate", f"{len(test)} test samples")
    with watch.time("simulate"):
        inputs = test.windows(steps)
        recording = EventSimulator(deployment.graph).run(inputs, progress=observer.advance)
        accuracy = {
            "float": evaluate(trained.network, test).accuracy,
            "quantized": accuracy_of(deployment.calibration.graph, test, steps),
            "integer": float(np.mean(predict(recording) == test.labels)),
        }
    shown = test.subset(np.arange(min(recipe.verification.lava_samples, len(test))))
    save_samples(directory / SAMPLES, shown.windows(steps), shown.labels)
    verification = None
    if python is not None:
        with watch.time("verify"):
            verification = verify(
                deployment.path,
                deployment.graph,
                shown,
                steps=steps,
                python=python,
                observer=observer,
            )
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
        points = _accuracy_points(accuracy, verification, len(test))
        page = RunSummary(
            title=recipe.recipe.name,
            description=recipe.recipe.description,
            accuracy=points,
            agreement=None if verification is None else _agreement(verification),
            report=costs,
            raster=raster_of(
                recording, inputs=inputs, title=f"first test sample, class {test.labels[0]}"
            ),
            history=tuple(_epoch_point(record) for record in trained.history.epochs),
            fine_tuning=tuple(
                _epoch_point(record)
                for record in (deployment.fine_tuning.epochs if deployment.fine_tuning else ())
            ),
            seconds=watch.seconds,
            versions=versions(),
            recipe=recipe.to_toml(),
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        write_page(page, directory / REPORT)
    summary = _summarize(recipe, costs, accuracy, verification, watch)
    write_text(directory / SUMMARY, json.dumps(summary, indent=2) + "\n")
    if verification is not None and not verification.comparison.is_equal:
        raise VerificationError(
            f"{deployment.path}: real Lava differs from our simulator. "
            f"{verification.comparison.describe()} The report in {directory} says where."
        )
    return RunResult(summary=summary, accuracy=points, report=costs, verification=verification)


def _lava_interpreter(recipe: Recipe) -> Path | None:
    """Find Lava before the long work begins; None where the recipe asks for none.

    Raises:
        LavaRuntimeError: If it is asked for and missing.
    """
    if recipe.verification.backend == "none":
        return None
    named = recipe.verification.lava_python
    return Path(named) if named else find_runtime()


def _accuracy_points(
    accuracy: Mapping[str, float], verification: Verification | None, samples: int
) -> tuple[AccuracyPoint, ...]:
    notes = {
        "float": "trained network, branches removed",
        "quantized": "integers right after quantization",
        "integer": "deployed file on our simulator",
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


def _agreement(verification: Verification) -> Agreement:
    return Agreement(
        samples=verification.samples,
        differing_spikes=verification.comparison.differing,
        layers=tuple(
            LayerAgreement(
                name=layer.name,
                compared=layer.compared,
                spikes=layer.spikes_first,
                differing=layer.differing,
            )
            for layer in verification.comparison.layers
        ),
        accuracy=verification.accuracy,
        seconds=verification.seconds,
    )


def _epoch_point(record: EpochRecord) -> EpochPoint:
    return EpochPoint(
        epoch=record.epoch,
        iterations=record.iterations,
        loss=record.loss,
        train_accuracy=record.train_accuracy,
        validation_accuracy=record.validation_accuracy,
        branch_weight=record.branch_weight,
        learning_rate=record.learning_rate,
    )


def _summarize(
    recipe: Recipe,
    costs: Report,
    accuracy: Mapping[str, float],
    verification: Verification | None,
    watch: Stopwatch,
) -> dict[str, object]:
    lava: dict[str, object] | None = None
    if verification is not None:
        lava = {
            "samples": verification.samples,
            "differing_spikes": verification.comparison.differing,
            "accuracy": verification.accuracy,
            "seconds": round(verification.seconds, 3),
        }
    document = costs.to_json()
    return {
        "accuracy": dict(accuracy),
        "lava": lava,
        "sops_per_sample": costs.sops_per_sample,
        "ann_macs": costs.ann.macs_border_exact,
        "energy": document["tiers"],
        "seconds": watch.seconds,
        "versions": versions(),
        "recipe": recipe.to_dict(),
    }


def _surrogate(network: SpikingNetwork) -> Surrogate:
    """Give the surrogate that the network was trained with."""
    for module in network.modules():
        if isinstance(module, LIF | CubaLIF):
            return module.surrogate
    raise TraceError("network: no spiking layer. There is nothing to fine-tune.")


def predict(recording: Recording) -> npt.NDArray[np.int64]:
    """Give the class of every sample: the largest membrane voltage after the last step.

    Args:
        recording: Of a network whose last layer integrates.

    Returns:
        (samples,) int64.
    """
    return np.asarray(recording.voltage[:, -1].reshape(recording.samples, -1).argmax(axis=1))


def accuracy_of(graph: FixedPointGraph, dataset: Dataset, steps: int) -> float:
    """Give the share of samples that the integer network classifies correctly."""
    recording = EventSimulator(graph).run(dataset.windows(steps))
    return float(np.mean(predict(recording) == dataset.labels))


def verify(
    deployment: Path,
    graph: FixedPointGraph,
    dataset: Dataset,
    *,
    steps: int,
    python: Path | None = None,
    observer: Observer | None = None,
) -> Verification:
    """Run the samples on our simulator and on real Lava and compare every layer.

    Args:
        deployment: The netx file.
        graph: The same, read.
        dataset: The samples.
        steps: T.
        python: Interpreter that has Lava; None for the installed runtime.
        observer: Told of progress.

    Raises:
        LavaRuntimeError: If Lava is missing or fails.
    """
    observer = observer or Silence()
    observer.stage("verify", f"{len(dataset)} samples on real Lava")
    inputs = dataset.windows(steps)
    ours = EventSimulator(graph).run(inputs)
    lava = LavaSimulator(
        deployment,
        python=python,
        input_bits=graph.input.message_bits,
        input_shape=graph.input.shape,
        layer_names=graph.names,
    ).run(inputs, progress=lambda done, total: observer.advance(done, total))
    return Verification(
        samples=len(dataset),
        comparison=testing.compare(ours, lava),
        accuracy=float(np.mean(predict(lava) == dataset.labels)),
        seconds=lava.seconds + lava.startup_seconds,
    )


def load_model(directory: Path) -> tuple[SpikingNetwork, Recipe]:
    """Load what `train` left: the network and the recipe it came from.

    Args:
        directory: Of the run, or its model file.

    Raises:
        CheckpointError: If the model is missing, damaged, or not of this recipe.
        RecipeError: If the recipe is missing or damaged.
    """
    directory = directory.parent if directory.is_file() else directory
    recipe = Recipe.load(directory / RECIPE)
    return SpikingNetwork.load(directory / MODEL, recipe=recipe), recipe


def _iteration_callback(observer: Observer) -> Callable[[IterationRecord], None]:
    def tell(record: IterationRecord) -> None:
        note = f"epoch {record.epoch}/{record.epochs}, loss {record.loss:.3f}"
        observer.advance(record.iteration + 1, record.iterations, note)

    return tell


def _write_recipe(recipe: Recipe, directory: Path, *, resume: bool) -> None:
    """Keep the effective recipe; a directory of another run is not touched.

    Raises:
        RecipeError: If the directory belongs to a run that this does not continue.
    """
    path = directory / RECIPE
    if path.exists() and not resume:
        raise RecipeError(
            f"{directory}: holds a run already. Resume it (--resume), or name another directory "
            "(--out)."
        )
    write_text(path, recipe.to_toml())


def _write_net_record(
    path: Path,
    recipe: Recipe,
    target: Target,
    calibration: Calibration,
    net: Path,
    accuracy: Mapping[str, float],
) -> None:
    """Write what is needed to know how a netx file was made."""
    layers = [
        {"name": name, "scale": calibration.scales[name], **dataclasses.asdict(health)}
        for name, health in zip(calibration.graph.names, calibration.health, strict=True)
    ]
    record = {
        "net": net.name,
        "sha256": hashlib.sha256(net.read_bytes()).hexdigest(),
        "target": target.name,
        "steps": recipe.network.steps,
        "message_bits": calibration.graph.input.message_bits,
        "calibration": {"margin": recipe.quantization.margin, "layers": layers},
        "validation_accuracy": dict(accuracy),
        "versions": versions(),
        "recipe": recipe.to_dict(),
    }
    write_text(path, json.dumps(record, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Give the versions of everything that a result depends on."""
    found = {"neurodeploy": neurodeploy.__version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "h5py", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
