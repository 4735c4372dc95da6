"""The stages of a run: train, deploy, verify. Each can be called by itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy import netx, testing
from neurodeploy.calibration import Calibration, calibrate
from neurodeploy.errors import TraceError
from neurodeploy.files import write_text
from neurodeploy.ir.graph import FixedPointGraph, Graph
from neurodeploy.learning.data import Dataset, load_data
from neurodeploy.learning.engine import Engine
from neurodeploy.learning.records import History, IterationRecord
from neurodeploy.learning.trainer import Trainer
from neurodeploy.nn.fake_quantization import IntegerNetwork
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.neuron import LIF, CubaLIF
from neurodeploy.nn.shortcut import remove_branches
from neurodeploy.nn.surrogate import Surrogate
from neurodeploy.passes import (
    fold_average_pool,
    fold_batchnorm,
    fold_global_average_pool,
    lower_max_pool,
    lower_residuals,
    run_passes,
)
from neurodeploy.pipeline.directory import (
    MODEL,
    NET,
    NET_RECORD,
    SAMPLES,
    begin_run,
    versions,
)
from neurodeploy.pipeline.observation import Observer, Silence
from neurodeploy.recipe import Recipe, ShortcutSection
from neurodeploy.simulation.base import Recording
from neurodeploy.simulation.event import EventSimulator
from neurodeploy.simulation.lava import LavaSimulator
from neurodeploy.simulation.storage import save_samples
from neurodeploy.target import Target
from neurodeploy.tracing import trace


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
        validation_accuracy: "quantized": the integers right after quantization; "fine-tuned":
            after the fine-tune, if there was one; "deployed": those in the file.
        choice: Which of them are in the file and why, one sentence.
        samples: `samples.npz`: the first test samples, with labels.
    """

    path: Path
    graph: FixedPointGraph
    calibration: Calibration
    fine_tuning: History | None
    validation_accuracy: dict[str, float]
    choice: str
    samples: Path


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


def train(
    recipe: Recipe,
    directory: Path,
    *,
    resume: bool = False,
    observer: Observer | None = None,
    engine: Engine | None = None,
) -> TrainingResult:
    """Train the recipe's network and save it without its branches.

    Args:
        recipe: What to do.
        directory: Of the run; gets recipe, checkpoints and model.
        resume: Go on from the checkpoint in the directory.
        observer: Told of each iteration.
        engine: The processes that train together, this one alone by default. Each of them calls
            this function; the first writes the files.

    Raises:
        NeurodeployError: With what went wrong; the last checkpoint stays usable.
    """
    observer = observer or Silence()
    engine = engine or Engine()
    training, validation, _ = load_data(recipe)
    engine.first(lambda: begin_run(recipe, directory, resume=resume))
    observer.stage("train", f"{recipe.training.epochs} epochs")
    network = SpikingNetwork.from_recipe(recipe)
    history = Trainer(
        recipe.training,
        seed=recipe.recipe.seed,
        shortcut=recipe.shortcut,
        shift=recipe.data.shift,
        directory=directory / "training",
        engine=engine,
        on_iteration=_iteration_callback(observer),
    ).fit(network, training, validation, resume=resume)
    network = remove_branches(network)
    network.eval()
    engine.first(lambda: network.save(directory / MODEL))
    return TrainingResult(network=network, history=history)


def lower(network: SpikingNetwork) -> Graph:
    """Trace a network without branches and fold what the chip does not have.

    Raises:
        TraceError: If the network holds something that has no counterpart.
        GraphError: If something cannot be folded.
    """
    return run_passes(
        trace(network),
        fold_batchnorm,
        lower_max_pool,
        fold_average_pool,
        fold_global_average_pool,
    )


def deploy(
    network: SpikingNetwork,
    recipe: Recipe,
    directory: Path,
    *,
    observer: Observer | None = None,
) -> Deployment:
    """Quantize, fine-tune in integers, and write the netx file.

    The fine-tuned weights are taken only if they are better on the validation part.

    Args:
        network: Trained, without branches.
        recipe: Says for which target, on which data to calibrate and how to fine-tune.
        directory: Gets the file, its record and samples to try it on; what an earlier deployment
            left is replaced.
        observer: Told of each step.

    Raises:
        NeurodeployError: With what went wrong; no file is left half-written.
    """
    observer = observer or Silence()
    target = Target.load(recipe.quantization.target)
    training, validation, test = load_data(recipe)
    steps = recipe.network.steps
    observer.stage("quantize", f"for {target.name}")
    graph = lower(network)
    samples = training.subset(
        np.arange(min(recipe.quantization.calibration_samples, len(training)))
    ).windows(steps)
    calibration = calibrate(graph, target, samples, margin=recipe.quantization.margin)
    fixed, history = calibration.graph, None
    before = accuracy_of(fixed, validation, steps)
    accuracy = {"quantized": before, "deployed": before}
    choice = "the quantized network: the recipe asks for no fine-tune"
    if recipe.quantization.fine_tune_epochs:
        integer = IntegerNetwork(
            graph, target, calibration.scales, steps=steps, surrogate=_surrogate(network)
        )
        tuning = _fine_tune(integer, recipe, directory, training, validation, observer)
        tuned = integer.to_fixed_point()
        after = accuracy_of(tuned, validation, steps)
        is_better = after > before
        if is_better:
            fixed, history = tuned, tuning
        accuracy = {"quantized": before, "fine-tuned": after, "deployed": max(before, after)}
        choice = (
            f"the {'fine-tuned' if is_better else 'quantized'} network: validation accuracy "
            f"{before:.2%} before the fine-tune, {after:.2%} after it"
        )
    path = directory / NET
    netx.write(lower_residuals(fixed, target).graph, path)
    written = netx.read(path)
    _write_net_record(directory / NET_RECORD, recipe, target, calibration, path, accuracy, choice)
    shown = _shown(test, recipe)
    save_samples(directory / SAMPLES, shown.windows(steps), shown.labels)
    return Deployment(
        path=path,
        graph=written,
        calibration=calibration,
        fine_tuning=history,
        validation_accuracy=accuracy,
        choice=choice,
        samples=directory / SAMPLES,
    )


def _fine_tune(
    integer: IntegerNetwork,
    recipe: Recipe,
    directory: Path,
    training: Dataset,
    validation: Dataset,
    observer: Observer,
) -> History:
    settings = recipe.quantization
    observer.stage("fine-tune", f"{settings.fine_tune_epochs} epochs in integers")
    section = dataclasses.replace(
        recipe.training,
        epochs=settings.fine_tune_epochs,
        learning_rate=settings.fine_tune_learning_rate,
        weight_decay=0.0,
        keep="best",
    )
    return Trainer(
        section,
        seed=recipe.recipe.seed,
        shortcut=ShortcutSection(),
        shift=recipe.data.shift,
        directory=directory / "fine_tuning",
        on_iteration=_iteration_callback(observer),
    ).fit(integer, training, validation)


def verify(
    deployment: Deployment,
    recipe: Recipe,
    test: Dataset,
    *,
    observer: Observer | None = None,
) -> Verification:
    """Run the first test samples on our simulator and on real Lava and compare every layer.

    Args:
        deployment: What to run.
        recipe: Says on how many samples, and with which Lava.
        test: The test part.
        observer: Told of progress.

    Raises:
        LavaRuntimeError: If Lava is missing or fails.
    """
    observer = observer or Silence()
    shown = _shown(test, recipe)
    graph = deployment.graph
    observer.stage("verify", f"{len(shown)} samples on real Lava")
    inputs = shown.windows(recipe.network.steps)
    ours = EventSimulator(graph).run(inputs)
    lava = LavaSimulator(
        deployment.path,
        python=recipe.verification.lava_python,
        input_bits=graph.input.message_bits,
        input_shape=graph.input.shape,
        layer_names=graph.names,
    ).run(inputs, progress=observer.advance)
    return Verification(
        samples=len(shown),
        comparison=testing.compare(ours, lava),
        accuracy=float(np.mean(predict(lava) == shown.labels)),
        seconds=lava.seconds + lava.startup_seconds,
    )


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


def _shown(test: Dataset, recipe: Recipe) -> Dataset:
    """Give the test samples that Lava is asked about."""
    return test.subset(np.arange(min(recipe.verification.lava_samples, len(test))))


def _surrogate(network: SpikingNetwork) -> Surrogate:
    """Give the surrogate that the network was trained with."""
    for module in network.modules():
        if isinstance(module, LIF | CubaLIF):
            return module.surrogate
    raise TraceError("network: no spiking layer. There is nothing to fine-tune.")


def _iteration_callback(observer: Observer) -> Callable[[IterationRecord], None]:
    def tell(record: IterationRecord) -> None:
        note = f"epoch {record.epoch}/{record.epochs}, loss {record.loss:.3f}"
        observer.advance(record.iteration + 1, record.iterations, note)

    return tell


def _write_net_record(
    path: Path,
    recipe: Recipe,
    target: Target,
    calibration: Calibration,
    net: Path,
    accuracy: Mapping[str, float],
    choice: str,
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
        "deployed": choice,
        "versions": versions(),
        "recipe": recipe.to_dict(),
    }
    write_text(path, json.dumps(record, indent=2) + "\n")
