"""From a network of another framework to a netx file whose spikes are checked at every stage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
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
    DataError,
    GraphError,
    InterchangeError,
    VerificationError,
)
from neurodeploy.files import (
    CERTIFICATE,
    NET,
    NET_RECORD,
    SAMPLES,
    hash_file,
    locked,
    replacing,
    write_text,
)
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.interchange.canonical_neuron import APPROXIMATIONS
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
from neurodeploy.passes.calibration import MARGIN, Calibration, calibrate
from neurodeploy.passes.current_bias import Carried, carry_current_biases, drive_voltages
from neurodeploy.passes.linear_chains import compose_linear, separate_paths
from neurodeploy.passes.parallel_synapses import join_parallel
from neurodeploy.pipeline.deployment.agreement import (
    LayerCheck,
    certify_layers,
    check_file,
    compare_layers,
)
from neurodeploy.pipeline.deployment.lowering import make_twin
from neurodeploy.pipeline.directory import versions
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.certified_facts import CertifiedRun
from neurodeploy.samples.array_files import save_samples
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Recording
from neurodeploy.testing import Comparison, compare

Inputs = npt.NDArray[np.int32]
CALIBRATION_SAMPLES = 256
_REAL_LEVELS = 127


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedDeployment:
    """A network of another framework in integers.

    Attributes:
        path: The netx file.
        graph: Content of the file, read back from it.
        imported: The network as it came in, and how exactly.
        calibration: Scales, and the integers before skip connections were lowered.
        lowered: The network with relay channels in place of skip connections, and their cost.
        agreement: Layer by layer, on the samples: float graph, integers, file, real Lava.
        accuracy: Share of samples whose class is right: "float" and "deployed"; empty without
            labels.
        fit: Estimated cores; None for a target without cores.
        samples: `samples.npz`: the samples as integers.
        input_scale: Value of one integer of the input.
        certificate: The file and the integers, equal on `samples`; also in `certificate.json`.
    """

    path: Path
    graph: FixedPointGraph
    imported: Imported
    calibration: Calibration
    lowered: Lowered
    agreement: tuple[LayerCheck, ...]
    accuracy: dict[str, float]
    fit: ChipFit | None
    samples: Path
    input_scale: float
    certificate: Certificate

    def describe(self) -> str:
        """Return accuracies, and how far framework, floats, integers, file and Lava agree."""
        lines = [f"accuracy, {stage}: {value:.2%}" for stage, value in self.accuracy.items()]
        if self.imported.agreement is not None:
            lines.append(f"framework and float64\n{self.imported.agreement.describe()}")
        for layer in self.agreement:
            kept = "not compared with float64"
            if layer.deployed is not None:
                kept = f"{layer.deployed:.2%} of spikes as in float64"
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
    lava_samples: int = 0,
) -> ImportedDeployment:
    """Quantize a network of another framework and write it as a netx file.

    Nothing is written unless the file, read back, makes every spike of the integer network.

    Args:
        source: A trained torch module, path of a `.nir` file, a `nir.NIRGraph`, or the result of
            `import_torch` or `import_nir`.
        samples: (samples, T, ...) numbers, typical of the data to come: 0 and 1 for spikes,
            integers, or real numbers, which are rounded (`approximate={"input-rounding"}`).
        labels: (samples,) classes, to measure the accuracy.
        target: Name of a chip, or path of its TOML file.
        out: Directory for `network.net`, `network.json`, `samples.npz` and `certificate.json`.
        convention: See `import_nir`; for a source that is not imported yet.
        dt: See `import_nir`.
        reset: See `import_nir`.
        layout: See `import_torch`; for a torch module.
        approximate: Names of departures that are allowed.
        margin: Distance of all states from the ends of their range, as a factor.
        lava_samples: Number of samples to run on real Lava as well.

    Raises:
        InterchangeError: If the network cannot be taken, or not exactly.
        DataError: If samples or labels do not fit.
        QuantizationError: If it cannot be represented in the target's integers.
        TargetLimitError: With every limit of the target that it exceeds.
        VerificationError: If the file, or Lava, makes another spike than the integer network.
    """
    allowed = check_approximations(approximate)
    if isinstance(source, Imported):
        imported = source
    elif isinstance(source, nn.Module):
        imported = import_torch(source, samples, layout=layout, approximate=allowed)
    else:
        imported = import_nir(
            source, convention=convention, dt=dt, reset=reset, approximate=allowed
        )
    chip = Target.load(target)
    entry, inputs = _integers(np.asarray(samples), imported.graph.input, allowed)
    classes = _classes(labels, len(inputs))
    unfolded, carried = _lower(imported.graph, entry, allowed)
    values = np.asarray(inputs * entry.scale, np.float64)
    floats = run_graph(carried.graph, values)
    _require_same(imported, values, floats, carried)
    calibration = calibrate(carried.graph, chip, inputs[:CALIBRATION_SAMPLES], margin=margin)
    lowered = _lower_skips(calibration, chip, unfolded, carried)
    fit = None if chip.core_model is None else estimate_cores(sizes_of(lowered.graph), chip)
    directory = Path(out)
    with locked(directory):
        written, agreement, recording = _write(
            directory / NET, lowered, calibration.graph, inputs, floats, carried, lava_samples
        )
        save_samples(directory / SAMPLES, inputs, classes)
        certified = certify_layers(
            agreement,
            f"float network, convention {imported.convention.name}",
            samples=len(inputs),
            lava_samples=lava_samples,
            approximations=allowed,
        )
        result = ImportedDeployment(
            path=directory / NET,
            graph=written,
            imported=imported,
            calibration=calibration,
            lowered=lowered,
            agreement=agreement,
            accuracy=_accuracies(floats, recording, classes, lowered),
            fit=fit,
            samples=directory / SAMPLES,
            input_scale=entry.scale,
            certificate=Certificate.of(
                directory / NET,
                directory / SAMPLES,
                inputs,
                recording,
                CertifiedRun.of(written, recording.steps),
                deployment=certified,
            ),
        )
        _write_record(directory / NET_RECORD, result, chip, allowed)
        result.certificate.save(directory / CERTIFICATE)
    return result


def _integers(
    samples: npt.NDArray[np.generic], entry: Input, allowed: set[str]
) -> tuple[Input, Inputs]:
    """Return the input's declaration for these samples, and the samples as integers."""
    if samples.dtype.kind not in "biuf" or samples.ndim < 3 or not samples.size:
        raise DataError(
            f"samples: {samples.dtype} of shape {samples.shape}; numbers (samples, T, "
            f"{', '.join(map(str, entry.shape))}) are required, at least one."
        )
    if samples[0, 0].size != np.prod(entry.shape):
        raise DataError(
            f"samples: shape {samples.shape}; the network reads (samples, T, "
            f"{', '.join(map(str, entry.shape))})."
        )
    values = samples.astype(np.float64).reshape(*samples.shape[:2], *entry.shape)
    if not np.isfinite(values).all():
        raise DataError("samples: NaN or infinity; finite numbers are required.")
    scale = 1.0
    if np.any(values != np.rint(values)):
        if "input-rounding" not in allowed:
            raise InterchangeError(
                "samples: real numbers, and a chip reads integers. Give spikes or integers, or "
                f"allow approximate={{'input-rounding'}}: {APPROXIMATIONS['input-rounding']}."
            )
        scale = float(np.abs(values).max()) / _REAL_LEVELS
    integers = np.rint(values / scale)
    if np.abs(integers).max() >= 1 << 31:
        raise DataError(f"samples: values up to {np.abs(values).max():g}, below 2**31 required.")
    largest = int(max(integers.max(), -integers.min(), 1))
    declared = Input(
        shape=entry.shape, scale=scale, largest=largest, smallest=int(min(integers.min(), 0))
    )
    return declared, integers.astype(np.int32)


def _classes(labels: npt.ArrayLike | None, samples: int) -> npt.NDArray[np.int64] | None:
    if labels is None:
        return None
    classes = np.asarray(labels)
    if classes.shape != (samples,) or classes.dtype.kind not in "iu":
        raise DataError(
            f"labels: {classes.dtype} of shape {classes.shape}; {samples} integers are required."
        )
    return classes.astype(np.int64)


def _lower(graph: Graph, entry: Input, allowed: set[str]) -> tuple[Graph, Carried]:
    """Return the network with one synapse a source, before and after pools were folded."""
    graph = graph.replace_nodes(changed={graph.input_name: entry})
    try:
        unfolded = run_passes(graph, separate_paths)
        folded = run_passes(
            unfolded,
            merge_groups,
            lower_max_pool,
            fold_global_average_pool,
            fold_average_pool,
            compose_linear,
            join_parallel,
        )
        if "current-bias" in allowed:
            return unfolded, drive_voltages(folded)
        carried = carry_current_biases(folded)
        carried.graph.check()
    except GraphError as error:
        raise InterchangeError(f"this network has no form on the chip: {error}") from error
    return unfolded, carried


def _lower_skips(
    calibration: Calibration, chip: Target, unfolded: Graph, carried: Carried
) -> Lowered:
    """Turn skips into relays, check the limits, and note the MACs of the ReLU twin.

    A recurrent network has no twin that computes in one pass.
    """
    lowered = lower_residuals(calibration.graph, chip)
    check_limits(lowered.graph, chip)
    if any(layer.is_recurrent for layer in calibration.graph):
        return lowered
    lowering = calibration.float_graph, calibration.graph
    twin = ann_macs(make_twin(unfolded, *lowering, folded=carried.original))
    return dataclasses.replace(lowered, graph=dataclasses.replace(lowered.graph, relu_twin=twin))


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


def _write(
    path: Path,
    lowered: Lowered,
    direct: FixedPointGraph,
    inputs: Inputs,
    floats: FloatRun,
    carried: Carried,
    lava_samples: int,
) -> tuple[FixedPointGraph, tuple[LayerCheck, ...], Recording]:
    """Write the file, read it back, run it, and only then put it in its place."""
    with replacing(path) as unchecked:
        netx.write(lowered.graph, unchecked)
        written = netx.read(unchecked)
        run = EventSimulator(direct).run(inputs)
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
        agreement = compare_layers(
            spikes, run, run, from_file, lowered.channels, trained=carried.channels, lava=lava
        )
        check_file(agreement, run, from_file)
    return written, agreement, from_file


def _accuracies(
    floats: FloatRun,
    recording: Recording,
    classes: npt.NDArray[np.int64] | None,
    lowered: Lowered,
) -> dict[str, float]:
    """Return the accuracy of floats and file: the most spikes, or the largest last voltage."""
    if classes is None:
        return {}
    name = recording.layers[-1]
    values = floats.values[name]
    if values.dtype == np.uint8:
        spikes = recording.spikes_of(name)[:, :, : lowered.channels[name]]
        scores = {"float": values.sum(axis=1, dtype=np.int64), "deployed": spikes.sum(axis=1)}
    else:
        scores = {"float": values[:, -1], "deployed": recording.voltage[:, -1]}
    return {
        stage: float(np.mean(score.reshape(len(classes), -1).argmax(axis=1) == classes))
        for stage, score in scores.items()
    }


def _write_record(path: Path, result: ImportedDeployment, chip: Target, allowed: set[str]) -> None:
    record = {
        "net": result.path.name,
        "sha256": hash_file(result.path),
        "target": chip.name,
        "message_bits": result.graph.input.message_bits,
        "input_scale": result.input_scale,
        "convention": result.imported.convention.name,
        "dt": result.imported.convention.dt,
        "approximations_allowed": sorted(allowed),
        "populations": dict(result.imported.notes),
        "float_thresholds": result.imported.thresholds,
        "scales": result.calibration.scales,
        "accuracy": result.accuracy,
        "agreement": [dataclasses.asdict(entry) for entry in result.agreement],
        "relays": [dataclasses.asdict(cost) for cost in result.lowered.costs],
        "fit": None if result.fit is None else result.fit.to_dict(),
        "versions": versions(),
    }
    write_text(path, json.dumps(record, indent=2) + "\n")
