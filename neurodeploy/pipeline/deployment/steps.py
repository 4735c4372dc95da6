"""From a trained network to a netx file: prune, quantize, fine-tune, lower, check, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy import netx
from neurodeploy.chips.cores import ChipFit, estimate_cores
from neurodeploy.chips.layer_sizes import sizes_of
from neurodeploy.chips.limits import check_limits
from neurodeploy.chips.target import Target
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.data import Dataset, load_data, range_of
from neurodeploy.errors import QuantizationError
from neurodeploy.files import (
    CERTIFICATE,
    DEPLOYMENT,
    NET,
    NET_RECORD,
    REPORT,
    SAMPLES,
    TWIN,
    hash_file,
    locked,
    replacing,
    replacing_together,
)
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.learning.checkpoints import History
from neurodeploy.learning.evaluation import evaluate
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.nn.tracing import trace
from neurodeploy.passes import (
    Carried,
    Lowered,
    lower_current_biases,
    lower_residuals,
    zero_share,
)
from neurodeploy.passes.calibration import Calibration, calibrate, check_activity, fit_input
from neurodeploy.passes.quantization import Clipping
from neurodeploy.pipeline.deployment import agreement
from neurodeploy.pipeline.deployment.agreement import BoolArray, LayerCheck
from neurodeploy.pipeline.deployment.fine_tuning import fine_tune, surrogate_of
from neurodeploy.pipeline.deployment.integer_network import IntegerNetwork
from neurodeploy.pipeline.deployment.lowering import count_neurons, fold_layers, make_twin, prune
from neurodeploy.pipeline.deployment.result import (
    Deployment,
    PruningOutcome,
    Step,
    measure_relays,
    write_net_record,
)
from neurodeploy.pipeline.directory import require_data_apart, require_no_run
from neurodeploy.pipeline.observation import Observer, Silence
from neurodeploy.pipeline.prediction import (
    accuracy_of,
    compare_with_lava,
    float_spikes,
    mean_sops,
    shown_samples,
)
from neurodeploy.recipes.recipe import Recipe
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.certified_facts import CertifiedRun
from neurodeploy.reports.report import Agreement
from neurodeploy.samples.array_files import save_samples
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Recording

FEWEST_BITS = 2
"""Where the search for weight bits ends."""


def deploy(
    network: SpikingNetwork,
    recipe: Recipe,
    directory: Path,
    *,
    lava_samples: int = 0,
    observer: Observer | None = None,
) -> Deployment:
    """Prune, quantize, fine-tune in integers, lower skip connections, and write the netx file.

    The fine-tuned weights are taken only if they are better on the validation part. Before the
    file is in its place, it is read back and run on the calibration samples: every spike of every
    original layer must be that of the network it was made from.

    Args:
        network: A trained network without branches.
        recipe: Target, calibration data and settings of the fine-tune.
        directory: Gets the file, its record and samples to try it on, in place of those of an
            earlier deployment.
        lava_samples: Number of calibration samples to run on real Lava as well.
        observer: Told of each step.

    Raises:
        NeurodeployError: If any step fails; no file is left half-written.
        QuantizationError: If the integers lose more accuracy than the recipe allows.
        OutputError: If a file to write is the recipe's own data, the directory holds a whole run,
            or another process works in it.
        TargetLimitError: With every limit of the target that the network exceeds.
        VerificationError: If the file, or Lava, makes another spike than the integer network.

    Example:
        >>> model, _ = nd.pipeline.load_model("runs/digits-1")
        >>> deployment = nd.pipeline.deploy(model, recipe, Path("deployed"))
        >>> deployment.path.name, deployment.certificate.compare_network(deployment.path)
        ('network.net', ())
    """
    require_data_apart(recipe, directory)
    target = Target.load(recipe.quantization.target)
    data = load_data(recipe)
    with locked(directory):
        require_no_run(directory)
        written, stale = (NET, SAMPLES, NET_RECORD, CERTIFICATE), (DEPLOYMENT, REPORT, TWIN)
        with replacing_together(directory, written, stale=stale) as place:
            work = _DeploymentWork(
                *(network, recipe, target, target, data, directory, place, lava_samples),
                observer or Silence(),
            )
            deployment = work.deploy()
        return dataclasses.replace(deployment, path=directory / NET, samples=directory / SAMPLES)


@dataclass(slots=True)
class _DeploymentWork:
    """One deployment under way; `target` is the chip, with the weight bits chosen so far.

    Files are written to `place`, from where they replace those of `directory` all together.
    `windows` is the input of the calibration `samples`, (samples, T, ...).
    """

    network: SpikingNetwork
    recipe: Recipe
    chip: Target
    target: Target
    data: tuple[Dataset, Dataset, Dataset]
    directory: Path
    place: Path
    lava_samples: int
    observer: Observer
    steps: list[Step] = field(default_factory=list)
    clips: bool = True
    lava: Agreement | None = None
    samples: Dataset = field(init=False)
    windows: npt.NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        count = min(self.recipe.quantization.calibration_samples, len(self.data[0]))
        self.samples = self.data[0].subset(np.arange(count))
        self.windows = self.samples.windows(self.recipe.network.steps)

    def deploy(self) -> Deployment:
        recipe, windows = self.recipe, self.windows
        self.observer.stage("quantize", f"for {self.target.name}")
        traced = trace(self.network)
        pruned = prune(self.network, pruning=recipe.pruning)
        graph = self._fold(pruned)
        self._note("trace", f"{len(traced.nodes)} nodes")
        self._note("fold", f"batch norm and averages into weights: {len(graph.nodes)} nodes")
        carried = lower_current_biases(graph, steps=recipe.network.steps)
        if carried.describe():
            self._note("bias through the current", carried.describe())
        self.clips = not carried.carriers
        calibration, tried, bits = self._quantize(graph, carried.graph)
        before = self._accuracy(calibration.graph)
        fixed, history, accuracy, choice = self._tune(calibration, before, carried)
        quantized_run = deployed_run = EventSimulator(calibration.graph).run(windows)
        if fixed is not calibration.graph:
            deployed_run = EventSimulator(fixed).run(windows)
            check_activity(fixed, deployed_run)
        floats = float_spikes(self.network, windows)
        agreement.check_accuracy(
            accuracy,
            len(self.data[1]),
            recipe.quantization.accuracy_loss_limit,
            floats=floats,
            deployed=deployed_run,
            trained=carried.channels,
        )
        carried.check_firing(deployed_run)
        self.observer.stage("check", f"{len(windows)} calibration samples")
        lowered = lower_residuals(fixed, self.target)
        if lowered.costs:
            self._note(
                "lower skips",
                f"{sum(c.channels for c in lowered.costs)} relay channels in "
                f"{len(lowered.costs)} layers, {sum(c.neurons for c in lowered.costs)} neurons",
            )
        fit = self._check_fit(lowered.graph)
        twin = make_twin(pruned, calibration.float_graph, fixed, folded=graph)
        if not any(layer.is_recurrent for layer in fixed):  # else no twin computes in one pass
            chain = dataclasses.replace(lowered.graph, relu_twin=ann_macs(twin))
            lowered = dataclasses.replace(lowered, graph=chain)
        runs = quantized_run, deployed_run
        checks, written, written_run = self._write(lowered, floats, *runs, carried)
        path = self.place / NET
        relaying = None
        if lowered.costs:
            relaying = measure_relays(fixed, written, windows, deployed_run, written_run, path)
            self._note("count relays", relaying.describe())
        outcome = self._pruning_outcome(graph, fixed, accuracy["deployed"], bits)
        shown = shown_samples(self.data[2], recipe)
        inputs = shown.windows(recipe.network.steps)
        save_samples(self.place / SAMPLES, inputs, shown.labels)
        certificate = self._certify(lowered, fixed, written, checks, inputs)
        deployment = Deployment(
            path=path,
            graph=written,
            direct=fixed,
            twin=twin,
            lowered=lowered,
            carried=carried,
            calibration=calibration,
            calibration_samples=len(windows),
            fine_tuning=history,
            validation_accuracy=accuracy,
            choice=choice,
            agreement=checks,
            pruning=outcome,
            weight_bits=bits,
            bits_tried=tried,
            fit=fit,
            relaying=relaying,
            steps=tuple(self.steps),
            samples=self.place / SAMPLES,
            certificate=certificate,
            lava=self.lava,
        )
        record = self.place / NET_RECORD
        write_net_record(
            record, recipe, self.target, deployment, network=self.network, samples=self.samples
        )
        certificate.save(self.place / CERTIFICATE)
        return deployment

    def _fold(self, graph: Graph) -> Graph:
        """Return the graph to quantize, whose input holds the values of all parts of the data."""
        return fit_input(fold_layers(graph), *range_of(self.data))

    def _check_fit(self, graph: FixedPointGraph) -> ChipFit | None:
        """Check the chip's limits; return the estimated cores of a target that has cores."""
        check_limits(graph, self.chip)
        if self.chip.core_model is None:
            return None
        fit = estimate_cores(sizes_of(graph), self.chip)
        self._note(
            "check limits",
            f"within those of {self.target.name}; {fit.cores_text} cores, an estimate; "
            f"{sum((entry.low or 0) > 1 for entry in fit.layers)} layers are split over "
            "several, which changes no spike",
        )
        return fit

    def _note(self, name: str, result: str) -> None:
        self.steps.append(Step(name=name, result=result))

    def _accuracy(self, graph: FixedPointGraph) -> float:
        """Return the accuracy on the validation part."""
        steps, advance = self.recipe.network.steps, self.observer.advance
        return accuracy_of(graph, self.data[1], steps, advance)

    def _calibrate(self, graph: Graph, bits: int) -> Calibration:
        settings = self.recipe.quantization
        return calibrate(
            graph,
            self.chip if bits == 8 else self.chip.with_weight_bits(bits),
            self.windows,
            margin=settings.margin,
            clipping=self._clipping(),
            percentile=settings.percentile,
        )

    def _clipping(self) -> Clipping:
        """Return which weights may be clipped: none where some of them are biases."""
        return self.recipe.quantization.clipping if self.clips else "max"

    def _quantize(
        self, folded: Graph, graph: Graph
    ) -> tuple[Calibration, tuple[tuple[int, float], ...], int]:
        """Quantize with the bits asked for, or with the fewest within the accuracy budget.

        `graph` is `folded` without biases on decaying currents.
        """
        settings = self.recipe.quantization
        if self.recipe.pruning.is_any:
            neurons = [count_neurons(whole) for whole in (self._fold(prune(self.network)), folded)]
            shrunk = "" if neurons[0] == neurons[1] else f", neurons {neurons[0]} -> {neurons[1]}"
            self._note("prune", f"{zero_share(folded):.1%} of the weights are zero{shrunk}")
        bits = settings.weight_bits
        best = self._calibrate(graph, bits)
        tried: list[tuple[int, float]] = []
        if settings.accuracy_budget:
            reference = self._accuracy(best.graph)
            tried.append((bits, reference))
            for fewer in range(bits - 1, FEWEST_BITS - 1, -1):
                self.observer.stage("search bits", f"{fewer} bits")
                try:
                    candidate = self._calibrate(graph, fewer)
                except QuantizationError:  # silent, or out of range: too few bits
                    break
                accuracy = self._accuracy(candidate.graph)
                tried.append((fewer, accuracy))
                if accuracy < reference - settings.accuracy_budget:
                    break
                best, bits = candidate, fewer
        if bits != 8:
            self.target = self.target.with_weight_bits(bits)
        scales = best.scales.values()
        self._note(
            "quantize",
            f"{bits}-bit weights, scales {min(scales):.4g} to {max(scales):.4g}, clipping "
            f"{self._clipping()}"
            + ("" if self._clipping() == settings.clipping else ", since some weights are biases"),
        )
        return best, tuple(tried), bits

    def _tune(
        self, calibration: Calibration, before: float, carried: Carried
    ) -> tuple[FixedPointGraph, History | None, dict[str, float], str]:
        """Fine-tune if the recipe asks for it, and choose the integers to deploy."""
        recipe, (training, validation, _) = self.recipe, self.data
        accuracy = {
            "float": evaluate(self.network, validation, progress=self.observer.advance).accuracy,
            "quantized": before,
            "deployed": before,
        }
        if not recipe.quantization.fine_tune_epochs:
            choice = "the quantized network: the recipe asks for no fine-tune"
            return calibration.graph, None, accuracy, choice
        integer = IntegerNetwork(
            calibration.float_graph,
            self.target,
            calibration.scales,
            steps=recipe.network.steps,
            surrogate=surrogate_of(self.network),
            carried=carried,
        )
        tuning = fine_tune(integer, recipe, self.directory, training, validation, self.observer)
        tuned = integer.to_fixed_point()
        after = self._accuracy(tuned)
        is_better = after > before
        accuracy |= {"fine-tuned": after, "deployed": max(before, after)}
        choice = (
            f"the {'fine-tuned' if is_better else 'quantized'} network: validation accuracy "
            f"{before:.2%} before the fine-tune, {after:.2%} after it"
        )
        self._note(
            "fine-tune",
            f"{recipe.quantization.fine_tune_epochs} epochs in integers, validation accuracy "
            f"{before:.2%} -> {after:.2%}, {'kept' if is_better else 'not kept'}",
        )
        chosen, history = (tuned, tuning) if is_better else (calibration.graph, None)
        return chosen, history, accuracy, choice

    def _write(
        self,
        lowered: Lowered,
        floats: Mapping[str, BoolArray],
        quantized: Recording,
        deployed: Recording,
        carried: Carried,
    ) -> tuple[tuple[LayerCheck, ...], FixedPointGraph, Recording]:
        """Write the file, read it back, run it, and only then put it in its place."""
        path = self.place / NET
        with replacing(path) as unchecked:
            netx.write(lowered.graph, unchecked)
            written = netx.read(unchecked)
            recording = EventSimulator(written).run(self.windows)
            self.lava = self._on_lava(unchecked, written)
            checks = agreement.compare_layers(
                floats,
                quantized,
                deployed,
                recording,
                lowered.channels,
                trained=carried.channels,
                lava=None if self.lava is None else self.lava.comparison,
            )
            agreement.check_file(checks, deployed, recording)
        size = path.stat().st_size
        self._note("write", f"{path.name}, {size / 1024:.0f} KiB, sha256 {hash_file(path)[:12]}")
        self._note(
            "check file",
            f"equal to the integer network in every spike of {len(checks)} layers, "
            f"{len(self.windows)} samples",
        )
        if self.lava is not None:
            found, samples = self.lava.comparison.describe(), self.lava.samples
            self._note("check on Lava", f"{found}, {samples} samples")
        return checks, written, recording

    def _on_lava(self, path: Path, graph: FixedPointGraph) -> Agreement | None:
        """Compare our simulator with real Lava on some of the samples, if any are asked for."""
        if not self.lava_samples:
            return None
        chosen = self.windows[: self.lava_samples]
        self.observer.stage("check on Lava", f"{len(chosen)} calibration samples")
        comparison, _, lava = compare_with_lava(path, graph, self.recipe, chosen, self.observer)
        return Agreement(
            samples=len(chosen),
            comparison=comparison,
            seconds=lava.seconds + lava.startup_seconds,
            part="calibration",
        )

    def _certify(
        self,
        lowered: Lowered,
        direct: FixedPointGraph,
        written: FixedPointGraph,
        checks: tuple[LayerCheck, ...],
        inputs: npt.NDArray[np.int32],
    ) -> Certificate:
        """Check the file once more, on the samples beside it: others can run these again."""
        run, from_file = (EventSimulator(graph).run(inputs) for graph in (direct, written))
        shown = agreement.compare_layers({}, run, run, from_file, lowered.channels)
        agreement.check_file(shown, run, from_file)
        return Certificate.of(
            self.place / NET,
            self.place / SAMPLES,
            inputs,
            from_file,
            CertifiedRun.of(written, from_file.steps),
            deployment=agreement.certify_layers(
                checks,
                "the trained network in floats",
                samples=len(self.windows),
                lava_samples=self.lava_samples,
            ),
        )

    def _pruning_outcome(
        self, graph: Graph, fixed: FixedPointGraph, accuracy: float, bits: int
    ) -> PruningOutcome | None:
        """Quantize the network without pruning as well, and compare."""
        if not self.recipe.pruning.is_one_shot:
            return None
        folded, steps = self._fold(prune(self.network)), self.recipe.network.steps
        unpruned = lower_current_biases(folded, steps=steps)
        whole = self._calibrate(unpruned.graph, bits).graph
        inputs = self.data[1].windows(self.recipe.network.steps)

        def sops(network: FixedPointGraph) -> float:
            relayed = lower_residuals(network, self.target).graph
            return mean_sops(relayed, inputs, EventSimulator(relayed).run(inputs))

        outcome = PruningOutcome(
            zero_share=zero_share(graph),
            neurons_before=sum(layer.neurons for layer in whole),
            neurons=sum(layer.neurons for layer in fixed),
            sops_before=sops(whole),
            sops=sops(fixed),
            accuracy_before=self._accuracy(whole),
            accuracy=accuracy,
        )
        self._note(
            "pruned",
            f"SOPs a sample {outcome.sops_before:,.0f} -> {outcome.sops:,.0f} "
            f"({outcome.sops_before / max(outcome.sops, 1):.2f} times fewer), validation accuracy "
            f"{outcome.accuracy_before:.2%} -> {outcome.accuracy:.2%}",
        )
        return outcome
