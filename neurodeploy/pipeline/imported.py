"""From a network of another framework to a netx file whose spikes are checked at every stage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from neurodeploy import netx
from neurodeploy.chips.cores import ChipFit, estimate_cores
from neurodeploy.chips.layer_sizes import sizes_of
from neurodeploy.chips.limits import check_limits
from neurodeploy.chips.target import Target
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.errors import (
    GraphError,
    InterchangeError,
    VerificationError,
)
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
    write_text,
)
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.interchange.floating import FloatRun, run_graph
from neurodeploy.interchange.importing import (
    Imported,
    Reset,
    check_approximations,
    import_nir,
)
from neurodeploy.interchange.run_agreement import compare_runs
from neurodeploy.interchange.torch_importing import import_torch
from neurodeploy.ir.float_layers import Input
from neurodeploy.ir.graphs import FixedPointGraph, Graph
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.passes import (
    Lowered,
    fold_average_pool,
    fold_global_average_pool,
    lower_max_pool,
    lower_residuals,
    merge_groups,
    run_passes,
)
from neurodeploy.passes.calibration import MARGIN, Calibration, calibrate, check_activity
from neurodeploy.passes.current_bias import Carried, carry_current_biases, drive_voltages
from neurodeploy.passes.linear_chains import compose_linear, separate_paths
from neurodeploy.passes.parallel_synapses import join_parallel
from neurodeploy.pipeline.deployment.agreement import (
    LayerCheck,
    certify_layers,
    check_file,
    compare_layers,
)
from neurodeploy.pipeline.deployment.fine_tuning import FineTuned, FineTuning, tune_imported
from neurodeploy.pipeline.deployment.given_samples import (
    Inputs,
    SampleParts,
    to_classes,
    to_integers,
)
from neurodeploy.pipeline.deployment.integer_network import IntegerNetwork
from neurodeploy.pipeline.deployment.lowering import make_twin
from neurodeploy.pipeline.directory import require_no_run, versions
from neurodeploy.pipeline.observation import Observer, Silence
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.certified_facts import TRAINED_FURTHER, CertifiedRun
from neurodeploy.samples.array_files import save_samples
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Recording
from neurodeploy.testing import Comparison, compare

CALIBRATION_SAMPLES = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedDeployment:
    """A network of another framework in integers.

    Attributes:
        path: The netx file.
        graph: Content of the file, read back from it.
        imported: The network as it came in, and how exactly.
        calibration: Scales, and the integers before skip connections were lowered.
        lowered: The network with relay channels in place of skip connections, and their cost.
        agreement: Layer by layer, on `samples`: float graph, integers, file, real Lava. Where
            fine-tuned weights are deployed, only the integers before are compared with floats.
        accuracy: Share of `samples` whose class is right: "float" and "deployed", with a fine-tune
            also "quantized" and "fine-tuned", whichever is deployed; empty without labels.
        fine_tuning: The fine-tune and its choice; None without one.
        fit: Estimated cores; None for a target without cores.
        samples: `samples.npz`: the samples as integers; after a fine-tune those of the half of the
            held-out part by which nothing was chosen.
        input_scale: Value of one integer of the input.
        certificate: The file and the integers, equal on `samples`; also in `certificate.json`.

    Example:
        >>> result = nd.deploy(network, spikes, labels, weight_bits=6)
        >>> print(result.describe().splitlines()[-1])
        3 in integers: 100.00% of spikes as in float64; values that differ: file 0, Lava not run
        >>> result.certificate.result.differing, result.fit.cores_text
        (0, '2')
    """

    path: Path
    graph: FixedPointGraph
    imported: Imported
    calibration: Calibration
    lowered: Lowered
    agreement: tuple[LayerCheck, ...]
    accuracy: dict[str, float]
    fine_tuning: FineTuned | None
    fit: ChipFit | None
    samples: Path
    input_scale: float
    certificate: Certificate

    @property
    def is_trained_further(self) -> bool:
        """True if the weights are no longer those of the source."""
        return self.fine_tuning is not None and self.fine_tuning.is_better

    def describe(self) -> str:
        """Return accuracies, and how far framework, floats, integers, file and Lava agree."""
        lines = [f"accuracy, {stage}: {value:.2%}" for stage, value in self.accuracy.items()]
        if self.fine_tuning is not None:
            lines.append(f"deployed: {self.fine_tuning.describe()}")
        if self.imported.agreement is not None:
            lines.append(f"framework and float64\n{self.imported.agreement.describe()}")
        for layer in self.agreement:
            kept = "not compared with float64"
            if layer.deployed is not None:
                kept = f"{layer.deployed:.2%} of spikes as in float64"
            elif self.is_trained_further:
                kept = f"agreement with float64 {TRAINED_FURTHER}"
            on_lava = "not run" if layer.lava_differing is None else str(layer.lava_differing)
            lines.append(
                f"{layer.name} in integers: {kept}; values that differ: file "
                f"{layer.file_differing}, Lava {on_lava}"
            )
        return "\n".join(lines)


def deploy(
    source: Imported | str | Path | object,
    samples: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    *,
    target: str = "loihi2",
    out: str | Path = "deployed",
    convention: str | None = None,
    dt: float | None = None,
    reset: Reset | None = None,
    layout: str | None = None,
    approximate: Collection[str] = (),
    margin: float = MARGIN,
    weight_bits: int = 8,
    fine_tune: FineTuning | None = None,
    lava_samples: int = 0,
    observer: Observer | None = None,
) -> ImportedDeployment:
    """Quantize a network of another framework and write it as a netx file.

    Nothing is written unless the file, read back, makes every spike of the integer network.

    Args:
        source: A trained torch module, path of a `.nir` file, a `nir.NIRGraph`, or the result of
            `import_torch` or `import_nir`.
        samples: (samples, T, ...) numbers, typical of the data to come: 0 and 1 for spikes,
            integers, or real numbers, which are rounded (`approximate={"input-rounding"}`).
        labels: (samples,) classes, to measure the accuracy and to fine-tune.
        target: Name of a chip, or path of its TOML file.
        out: Directory for `network.net`, `network.json`, `samples.npz` and `certificate.json`.
        convention: See `import_nir`; for a source that is not imported yet.
        dt: See `import_nir`.
        reset: See `import_nir`.
        layout: See `import_torch`; for a torch module.
        approximate: Names of departures that are allowed.
        margin: Distance of all states from the ends of their range, as a factor.
        weight_bits: Of each weight, 2 to 8.
        fine_tune: Train the weights further, in the chip's integers, on the samples and labels;
            `FineTuning(epochs=10)`. They are taken if they are better on samples aside.
        lava_samples: Number of samples to run on real Lava as well.
        observer: Told of the fine-tune's progress.

    Raises:
        InterchangeError: If the network cannot be taken, or not exactly.
        DataError: If samples or labels do not fit.
        QuantizationError: If it cannot be represented in the target's integers.
        TrainingError: If the loss of the fine-tune is no longer finite.
        TargetLimitError: With every limit of the target that it exceeds.
        VerificationError: If the file, or Lava, makes another spike than the integer network.
        OutputError: If the files cannot be written; then all are as they were.

    Example:
        >>> result = nd.deploy(network, spikes, labels, out="deployed")  # a module
        >>> result.path.name, result.graph.names
        ('network.net', ('1', '3'))
        >>> again = nd.deploy("model.nir", spikes, convention="neurodeploy")  # a NIR file
        >>> [layer.file_differing for layer in again.agreement]
        [0, 0]
    """
    directory = Path(out)
    require_no_run(directory)
    allowed = check_approximations(approximate)
    if isinstance(source, Imported):
        imported = source
    elif isinstance(source, nn.Module):
        imported = import_torch(source, samples, layout=layout, approximate=allowed)
    else:
        imported = import_nir(
            source, convention=convention, dt=dt, reset=reset, approximate=allowed
        )
    work = _ImportedWork(
        imported,
        Target.load(target),
        np.asarray(samples),
        labels,
        allowed,
        weight_bits,
        fine_tune,
        observer or Silence(),
    )
    return work.deploy(directory, margin=margin, lava_samples=lava_samples)


class _ImportedWork:
    """One deployment under way.

    `narrowed` is the chip with weights of the bits asked for, `shown` the input on which stages
    are compared, `classes` its labels.
    """

    def __init__(
        self,
        imported: Imported,
        chip: Target,
        samples: npt.NDArray[np.generic],
        labels: npt.ArrayLike | None,
        allowed: set[str],
        weight_bits: int,
        settings: FineTuning | None,
        observer: Observer,
    ) -> None:
        self.imported, self.chip, self.allowed = imported, chip, allowed
        self.narrowed = chip if weight_bits == 8 else chip.with_weight_bits(weight_bits)
        self.settings, self.observer = settings, observer
        self.entry, self.inputs = to_integers(samples, imported.graph.input, allowed)
        classes = prod(list(imported.shapes.values())[-1])
        self.labels = to_classes(labels, samples=len(self.inputs), classes=classes)
        self.parts = (
            SampleParts.whole(len(self.inputs))
            if settings is None
            else SampleParts.split(self.labels, settings.held_out, seed=settings.seed)
        )
        self.shown = self.inputs[self.parts.shown]
        self.classes = None if self.labels is None else self.labels[self.parts.shown]

    def deploy(self, directory: Path, *, margin: float, lava_samples: int) -> ImportedDeployment:
        taken_in, carried = _lower(self.imported.graph, self.entry, self.allowed)
        values = np.asarray(self.shown * self.entry.scale, np.float64)
        floats = run_graph(carried.graph, values)
        _require_same(self.imported, values, floats, carried)
        samples = self.inputs[self.parts.training[:CALIBRATION_SAMPLES]]
        calibration = calibrate(carried.graph, self.narrowed, samples, margin=margin)
        tuned = self._tune(calibration, carried, samples)
        fixed = calibration.graph if tuned is None or not tuned.is_better else tuned.graph
        runs = {"quantized": EventSimulator(calibration.graph).run(self.shown)}
        if tuned is not None:
            runs["fine-tuned"] = EventSimulator(tuned.graph).run(self.shown)
        direct = runs["quantized" if fixed is calibration.graph else "fine-tuned"]
        lowered = self._lower_skips(calibration, fixed, taken_in, carried)
        fit = None
        if self.chip.core_model is not None:
            fit = estimate_cores(sizes_of(lowered.graph), self.chip)
        names, stale = (NET, SAMPLES, NET_RECORD, CERTIFICATE), (DEPLOYMENT, REPORT, TWIN)
        with locked(directory), replacing_together(directory, names, stale=stale) as place:
            require_no_run(directory)  # that another process may have finished meanwhile
            net, shown = place / NET, place / SAMPLES
            written, agreement, recording = self._write(
                net, lowered, (runs["quantized"], direct), floats, carried, lava_samples
            )
            save_samples(shown, self.shown, self.classes)
            certified = certify_layers(
                agreement,
                f"float network, convention {self.imported.convention.name}",
                samples=len(self.shown),
                lava_samples=lava_samples,
                approximations=self.allowed,
                is_trained_further=direct is not runs["quantized"],
            )
            run = CertifiedRun.of(written, recording.steps)
            stages = (runs if tuned is not None else {}) | {"deployed": recording}
            result = ImportedDeployment(
                path=directory / NET,
                graph=written,
                imported=self.imported,
                calibration=calibration,
                lowered=lowered,
                agreement=agreement,
                accuracy=_accuracies(floats, stages, self.classes, carried),
                fine_tuning=tuned,
                fit=fit,
                samples=directory / SAMPLES,
                input_scale=self.entry.scale,
                certificate=Certificate.of(
                    net, shown, self.shown, recording, run, deployment=certified
                ),
            )
            self._write_record(place / NET_RECORD, result, sha256=hash_file(net))
            result.certificate.save(place / CERTIFICATE)
        return result

    def _tune(
        self, calibration: Calibration, carried: Carried, samples: Inputs
    ) -> FineTuned | None:
        """Train the integers further, if asked to; check what they do on the calibration samples.

        A network that is not taken need not keep its range.
        """
        if self.settings is None or self.labels is None:
            return None
        integer = IntegerNetwork(
            calibration.float_graph,
            self.narrowed,
            calibration.scales,
            steps=self.inputs.shape[1],
            carried=carried,
        )
        tuned = tune_imported(
            integer, self.inputs, self.labels, self.parts, self.settings, self.observer
        )
        if tuned.is_better:
            run = EventSimulator(tuned.graph).run(samples)
            check_activity(tuned.graph, run)
            carried.check_firing(run)
        return tuned

    def _lower_skips(
        self, calibration: Calibration, fixed: FixedPointGraph, taken_in: Graph, carried: Carried
    ) -> Lowered:
        """Turn skips into relays, check the limits, and note the MACs of the ReLU twin.

        A recurrent network has no twin that computes in one pass.
        """
        lowered = lower_residuals(fixed, self.narrowed)
        check_limits(lowered.graph, self.chip)
        if any(layer.is_recurrent for layer in fixed):
            return lowered
        twin = ann_macs(
            make_twin(taken_in, calibration.float_graph, fixed, folded=carried.original)
        )
        return dataclasses.replace(
            lowered, graph=dataclasses.replace(lowered.graph, relu_twin=twin)
        )

    def _write(
        self,
        path: Path,
        lowered: Lowered,
        runs: tuple[Recording, Recording],
        floats: FloatRun,
        carried: Carried,
        lava_samples: int,
    ) -> tuple[FixedPointGraph, tuple[LayerCheck, ...], Recording]:
        """Write the file, read it back, run it, and only then put it in its place.

        `runs` are those right after quantization, and of the integers to deploy.
        """
        inputs = self.shown
        with replacing(path) as unchecked:
            netx.write(lowered.graph, unchecked)
            written = netx.read(unchecked)
            from_file = EventSimulator(written).run(inputs)
            lava: Comparison | None = None
            if lava_samples:
                lava = compare(
                    EventSimulator(written).run(inputs[:lava_samples]),
                    LavaSimulator(
                        unchecked,
                        input_bits=written.input.message_bits,
                        input_shape=written.input.shape,
                        layer_names=written.names,
                    ).run(inputs[:lava_samples]),
                )
            spikes = {
                name: values[:, :, : carried.channels[name]] != 0
                for name, values in floats.values.items()
                if values.dtype == np.uint8
            }
            quantized, direct = runs
            agreement = compare_layers(
                spikes,
                quantized,
                direct,
                from_file,
                lowered.channels,
                trained=carried.channels,
                lava=lava,
            )
            check_file(agreement, direct, from_file)
        if direct is not quantized:
            agreement = tuple(dataclasses.replace(layer, deployed=None) for layer in agreement)
        return written, agreement, from_file

    def _write_record(self, path: Path, result: ImportedDeployment, *, sha256: str) -> None:
        record = {
            "net": result.path.name,
            "sha256": sha256,
            "target": self.chip.name,
            "message_bits": result.graph.input.message_bits,
            "input_scale": result.input_scale,
            "convention": result.imported.convention.name,
            "dt": result.imported.convention.dt,
            "approximations_allowed": sorted(self.allowed),
            "populations": dict(result.imported.notes),
            "float_thresholds": result.imported.thresholds,
            "scales": result.calibration.scales,
            "accuracy": result.accuracy,
            "fine_tuning": None if result.fine_tuning is None else result.fine_tuning.to_dict(),
            "agreement": [dataclasses.asdict(entry) for entry in result.agreement],
            "relays": [dataclasses.asdict(cost) for cost in result.lowered.costs],
            "fit": None if result.fit is None else result.fit.to_dict(),
            "versions": versions(),
        }
        write_text(path, json.dumps(record, indent=2) + "\n")


def _lower(graph: Graph, entry: Input, allowed: set[str]) -> tuple[Graph, Carried]:
    """Return the network as it came, for its twin, and the form of it that can be quantized."""
    graph = graph.replace_nodes(changed={graph.input_name: entry})
    try:
        folded = run_passes(
            graph,
            separate_paths,
            merge_groups,
            lower_max_pool,
            fold_global_average_pool,
            compose_linear,  # of a scale and a padded convolution before pools come into it
            fold_average_pool,
            compose_linear,
            join_parallel,
        )
        if "current-bias" in allowed:
            return graph, drive_voltages(folded)
        carried = carry_current_biases(folded)
        carried.graph.check()
    except GraphError as error:
        raise InterchangeError(f"this network has no form on the chip: {error}") from error
    return graph, carried


def _require_same(imported: Imported, inputs: FloatArray, lowered: FloatRun, form: Carried) -> None:
    """Check that the float network still makes the values that it made as it came in.

    Raises:
        VerificationError: If a value differs where no rounding could decide it; a fault of ours.
    """
    if not form.is_exact:
        return
    run = run_graph(imported.graph, inputs)
    own = {
        name: lowered.values[name][:, :, : form.channels[name]].reshape(values.shape)
        for name, values in run.values.items()
    }
    agreement = compare_runs(run.values, own, run.margins, imported.thresholds)
    if agreement.unexplained is not None:
        sample, step, name = agreement.unexplained
        raise VerificationError(
            f"{name}: changed at step {step} of sample {sample} while the network was brought "
            f"into the chip's form. Please report this with the network.\n{agreement.describe()}"
        )


def _accuracies(
    floats: FloatRun,
    runs: Mapping[str, Recording],
    classes: npt.NDArray[np.int64] | None,
    carried: Carried,
) -> dict[str, float]:
    """Return the accuracy of floats and runs: the most spikes, or the largest last voltage."""
    if classes is None:
        return {}
    name, values = list(floats.values.items())[-1]
    if values.dtype == np.uint8:
        own = carried.channels[name]
        scores = {"float": values.sum(axis=1, dtype=np.int64)} | {
            stage: run.spikes_of(name)[:, :, :own].sum(axis=1) for stage, run in runs.items()
        }
    else:
        scores = {"float": values[:, -1]} | {
            stage: run.voltage[:, -1] for stage, run in runs.items()
        }
    return {
        stage: float(np.mean(score.reshape(len(classes), -1).argmax(axis=1) == classes))
        for stage, score in scores.items()
    }
