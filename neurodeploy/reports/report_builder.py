"""The report of a deployed network: counts, its ReLU twin, energy, and the assumptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, prod
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from neurodeploy.chips.cores import estimate_cores
from neurodeploy.chips.layer_sizes import LayerSize, sizes_of
from neurodeploy.chips.target import Target
from neurodeploy.counting.count_tables import Counts
from neurodeploy.counting.counted_run import CountedRun
from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.counting.frame_counts import FrameCounts
from neurodeploy.counting.network_counts import count
from neurodeploy.counting.neurobench import metrics_of_counts
from neurodeploy.counting.synapse_counts import InputKind
from neurodeploy.energy import estimates, fairness
from neurodeploy.energy.estimates import DEFAULT_PRESET, System
from neurodeploy.energy.formulas import Operations, operations_of
from neurodeploy.energy.frame_anns import FrameAnn, frame_anns
from neurodeploy.energy.measured import Measured
from neurodeploy.energy.other_machines import platform_figures
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.energy.sensitivity import find_sensitivities
from neurodeploy.errors import DataError
from neurodeploy.files import hash_file
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.graphs import AnnMacs, FixedPointGraph, Graph
from neurodeploy.onnx_models.measured_zeros import OnnxBaseline
from neurodeploy.reports.report import AS_STORED, AS_TRAINED, NetworkFile, PresetComparison, Report
from neurodeploy.simulation.recording import Feed, Recording

PRESETS = (
    DEFAULT_PRESET,
    "cmos45_int8_narrow",
    "cmos45_int32",
    "cmos45_fp16",
    "cmos45_fp32",
    "cmos7_int8",
    "cmos7_fp32",
    "sram45",
    "loihi1_davies2018",
    "loihi1_sanafe",
)
"""Presets that a report uses if none are named; the first is the default."""


class ReportOptions(TypedDict, total=False):
    """Keywords of `report` and `report_counts`.

    Attributes:
        network_file: The network's file, to be named with its hash.
        baseline: The trained network before it was lowered, for the MACs of its ReLU twin; by
            default the counts that the deployed network brings along (`relu_twin`).
        onnx: An ONNX model to compare with, in place of the ReLU twin.
        twin_run: The ReLU twin as an ONNX model that ran: its accuracy and activation zeros.
        presets: Energy presets; by default `PRESETS`. Those of tier B are added to the first of
            tier A.
        accuracy: Accuracy by stage, fractions; the last stage is the deployed network's.
        ann_accuracy: Of the ANN on the same test set, a fraction.
        accuracy_gap: Largest difference of the two that allows a headline.
        system: Step time, chips and placement for tier C; by default real time, as many Loihi 1
            chips as the estimate of cores asks for, and no placement.
        measured: Counters measured on a chip, which tier C takes in place of counted ones.
        frame_macs: Of a network that sends changes: (sequences, frames) MACs that the ordinary
            network needs for each frame without products with zero. By default those measured
            with `onnx` or `twin_run`, if they ran on the frames.
    """

    network_file: Path | str | None
    baseline: Graph | None
    onnx: OnnxBaseline | None
    twin_run: OnnxBaseline | None
    presets: Sequence[EnergyPreset] | None
    accuracy: Mapping[str, float] | None
    ann_accuracy: float | None
    accuracy_gap: float
    system: System
    measured: Measured | None
    frame_macs: npt.NDArray[np.number] | None


def report(
    graph: FixedPointGraph,
    inputs: npt.NDArray[np.integer],
    recording: Recording,
    *,
    feed: Feed = Feed.PORT,
    active_updates: Mapping[str, Int64Array] | None = None,
    **options: Unpack[ReportOptions],
) -> Report:
    """Count a deployed network on recorded samples and estimate its energy.

    Samples that do not fit into memory are counted by `count_samples`, and reported by
    `report_counts`.

    Args:
        graph: The network.
        inputs: The samples of a simulation.
        recording: Its result.
        feed: Entry of the input.
        active_updates: Active updates a sample, by layer, where the simulator counted them.
        **options: See `ReportOptions`.

    Raises:
        DataError: If graph, input and recording do not belong together, or there are no samples.
        TargetError: If a preset is missing or malformed.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> report = nd.report(example.graph, example.inputs, recording)
        >>> report.sops_per_sample, report.tiers[0].network.preset
        (7095.03125, 'cmos45_int8')
    """
    _check_options(options, "report")
    if recording.samples < 1 or recording.steps < 1:
        raise DataError("report: the recording is empty. Record at least one sample.")
    counts = count(graph, inputs, recording, feed=feed, active_updates=active_updates)
    run = CountedRun.of(graph, counts, inputs, recording, feed=feed)
    return report_counts(graph, run, **options)


def report_counts(
    graph: FixedPointGraph, counted_run: CountedRun, **options: Unpack[ReportOptions]
) -> Report:
    """Estimate the energy of a deployed network whose samples were counted by `count_samples`.

    The options are explained in `ReportOptions`.

    Raises:
        TargetError: If a preset is missing or malformed.

    Example:
        >>> example = nd.load_example()
        >>> run = nd.count_samples(example.graph, example.samples)
        >>> nd.report_counts(example.graph, run).sops_per_sample
        7095.03125
    """
    _check_options(options, "report_counts")
    counts, frames = counted_run.counts, counted_run.frames
    changes_over_time = counted_run.changes_over_time and frames is None  # it sees each frame
    twin, twin_source = _twin_of(graph, options.get("baseline"))
    onnx = options.get("onnx")
    run = onnx or options.get("twin_run")
    macs, frame_macs, is_measured = _macs_of_frames(
        _run_macs(twin, onnx, run), frames, options.get("frame_macs"), run
    )
    ann_accuracy = options.get("ann_accuracy")
    if ann_accuracy is None and run is not None:
        ann_accuracy = run.accuracy
    sizes = sizes_of(graph)
    fits = tuple(estimate_cores(sizes, Target.load(name)) for name in ("loihi1", "loihi2"))
    system = options.get("system", System())
    system = replace(system, chips=system.chips or fits[0].chips_low or 1)
    presets = _presets_of(options)
    of_tier = {preset.tier: preset for preset in reversed(presets)}
    arithmetic = of_tier.get(Tier.ARITHMETIC) or EnergyPreset.load(DEFAULT_PRESET)
    memory = of_tier.get(Tier.MEMORY)
    measured, counted = options.get("measured"), operations_of(counts)
    # Narrow activations hold as much as T steps of spikes; graded values need all eight bits.
    width_of = counts.steps if frames is None else 255
    narrow = fairness.narrow_ann_energy(macs, memory, arithmetic=arithmetic, steps=width_of)
    cores = {entry.layer.name: entry.high for entry in fits[0].layers}
    anns = _anns_on(frames, frame_macs, macs, presets, arithmetic)
    found = Report(
        network=_network_file(options.get("network_file"), counts, sizes),
        counts=counts,
        neurobench=metrics_of_counts(
            counts,
            biases=sum(layer.bias.size for layer in graph if layer.bias.any()),
            states=sum(row.neurons * row.model.states for row in counts.layers if row.model),
        ),
        ann=macs,
        twin=twin,
        twin_source=twin_source,
        onnx=onnx,
        tiers=_compare(presets, arithmetic, counted, macs, system, measured, anns),
        presets=presets if arithmetic in presets else (arithmetic, *presets),
        ann_formats=fairness.ann_formats(
            macs, memory, arithmetic=arithmetic, steps=width_of,
            has_step_passes=changes_over_time,
        ),
        accuracy=dict(options.get("accuracy") or {}),
        ann_accuracy=ann_accuracy,
        changes_over_time=changes_over_time,
        narrow_ann=narrow,
        fits=fits,
        fastest_steps=estimates.fastest_steps(counts, presets, cores=cores),
        measured=None if measured is None else measured.to_dict(counted),
        platforms=platform_figures(counted, macs.macs_border_exact),
        is_answered=frames is not None or not graph.sends_changes,
        frames=frames,
        frame_anns=anns,
        has_measured_zeros=is_measured,
    )  # fmt: skip
    gap = options.get("accuracy_gap", fairness.ACCURACY_GAP)
    rules, headline = _judge(found, memory, arithmetic=arithmetic, gap=gap)
    ratio_macs = macs if found.is_comparable else None
    return replace(
        found,
        rules=rules,
        headline=headline,
        sensitivities=find_sensitivities(
            counts, ratio_macs, presets, arithmetic=arithmetic, system=system
        ),
        assumptions=_assumptions(found, system, measured),
        warnings=(*_warnings(found, graph), *(() if run is None else run.notes)),
    )


def _check_options(options: ReportOptions, function: str) -> None:
    unknown = sorted(options.keys() - ReportOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"{function}() got an unexpected keyword argument '{unknown[0]}'")


def _presets_of(options: ReportOptions) -> tuple[EnergyPreset, ...]:
    named = options.get("presets")
    return tuple(map(EnergyPreset.load, PRESETS) if named is None else named)


def _twin_of(graph: FixedPointGraph, baseline: Graph | None) -> tuple[AnnMacs, str]:
    """Return the MACs of the ReLU twin, and the layers that they were counted on."""
    trained = graph.relu_twin if baseline is None else ann_macs(baseline)
    return (ann_macs(graph), AS_STORED) if trained is None else (trained, AS_TRAINED)


def _macs_of_frames(
    macs: AnnMacs,
    frames: FrameCounts | None,
    given: npt.NDArray[np.number] | None,
    run: OnnxBaseline | None,
) -> tuple[AnnMacs, npt.NDArray[np.number] | None, bool]:
    """Return the MACs of an ANN that makes a pass for each frame, of an answer without frames.

    Beside them (sequences, frames) MACs without products with zero, and whether these were measured
    on the frames; else the share of zeros is that of the deployed layers.
    """
    if frames is None:
        return macs, None, False
    one, shape = replace(macs, passes=1), frames.changed.shape
    macs = replace(macs, passes=frames.frames)
    if given is not None and given.shape != shape:
        raise DataError(f"report: frame_macs of shape {given.shape}, {shape} is required.")
    if given is None and run is not None and run.activity is not None:
        by_pass = run.activity.by_pass
        given = by_pass.reshape(shape) if by_pass.size == prod(shape) else None
    if given is not None:
        return replace(macs, macs_effective=float(given.mean())), given, True
    if frames.nonzero is None or not frames.possible or one.macs_nonzero is None:
        return macs, None, False
    return macs, frames.nonzero * (one.macs_nonzero / frames.possible), False


def _anns_on(
    frames: FrameCounts | None,
    effective: npt.NDArray[np.number] | None,
    macs: AnnMacs,
    presets: Sequence[EnergyPreset],
    arithmetic: EnergyPreset,
) -> tuple[FrameAnn, ...]:
    if frames is None:
        return ()
    return frame_anns(
        macs, presets, arithmetic=arithmetic, is_new=frames.is_new, effective=effective
    )


def _with_skips(pair: PresetComparison, anns: Sequence[FrameAnn]) -> PresetComparison:
    """Lower the lower bound of an ANN to that of one that skips frames and zeros."""
    name = pair.network.preset.split(" + ")[0]
    energies = [ann.energies[name] for ann in anns if name in ann.energies]
    if pair.ann is None or not energies:
        return pair
    low = min(pair.ann.low, *(energy.low for energy in energies))
    basis = f"{pair.ann.basis}; low: frames that repeat are skipped as well"
    return replace(pair, ann=replace(pair.ann, low=low, basis=basis))


def _run_macs(twin: AnnMacs, onnx: OnnxBaseline | None, run: OnnxBaseline | None) -> AnnMacs:
    """Return the MACs of the ONNX model, or those of the twin as it ran, if it did."""
    if onnx is not None:
        return onnx.to_ann()
    return twin if run is None else replace(twin, macs_effective=run.macs_effective)


def _judge(
    report: Report, memory: EnergyPreset | None, *, arithmetic: EnergyPreset, gap: float
) -> tuple[tuple[fairness.Rule, ...], fairness.Headline | None]:
    sparse = None
    if memory is not None:
        sparse = estimates.ann_energy(report.ann, memory, arithmetic=arithmetic, skips_zeros=True)
    repeats = None
    if report.frames is not None:
        repeats = 1 - float(report.frames.is_new.mean())
        sparse = None if sparse is None else estimates.repeated(sparse, 1 - repeats)
    facts = fairness.ComparisonFacts(
        accuracy=list(report.accuracy.values())[-1] if report.accuracy else None,
        ann_accuracy=report.ann_accuracy,
        ann_name=f"the {report.ann_name}",
        macs=report.ann,
        is_as_trained=report.is_comparable,
        uncounted=() if report.onnx is None else report.onnx.macs.uncounted_ops,
        changes_over_time=report.changes_over_time,
        has_own_input=report.onnx is not None and report.onnx.has_own_input,
        repeats=repeats,
    )
    return fairness.judge(
        [(pair.network, pair.ann) for pair in report.tiers],
        facts,
        narrow=report.narrow_ann,
        sparse=sparse,
        steps=report.counts.steps,
        gap=gap,
    )


def _compare(
    presets: Sequence[EnergyPreset],
    arithmetic: EnergyPreset,
    counted: Operations,
    macs: AnnMacs,
    system: System,
    measured: Measured | None,
    anns: Sequence[FrameAnn],
) -> tuple[PresetComparison, ...]:
    """Estimate the energy of both sides by every preset."""
    on_chip = counted
    if measured is not None:
        on_chip = measured.apply(counted)
        if "axon_out" in measured.counters:  # counts every copy of a message
            system = replace(system, destination_cores=1.0)
    pairs = (
        PresetComparison(
            network=estimates.estimate_energy(
                on_chip if preset.tier is Tier.CHIP else counted,
                preset,
                arithmetic=arithmetic,
                system=system,
            ),
            ann=estimates.ann_energy(macs, preset, arithmetic=arithmetic),
        )
        for preset in presets
    )
    return tuple(_with_skips(pair, anns) for pair in pairs)


def _network_file(
    path: Path | str | None, counts: Counts, sizes: Sequence[LayerSize]
) -> NetworkFile:
    weights = sum(row.weights for row in counts.layers)
    zeros = sum(row.zero_weights for row in counts.layers)
    bits = {size.name: size.weight_bits for size in sizes}
    stored = sum(  # a recurrent row belongs to the layer whose name it begins with
        row.weights * bits.get(row.name, bits.get(row.name.removesuffix(".recurrent"), 8))
        for row in counts.layers
    )
    return NetworkFile(
        path=None if path is None else str(path),
        sha256=None if path is None else hash_file(path),
        parameters=weights,
        zero_weight_fraction=zeros / weights if weights else 0.0,
        weight_bytes=ceil(stored / 8),
    )


def _assumptions(report: Report, system: System, measured: Measured | None) -> tuple[str, ...]:
    counts = report.counts
    kinds = {
        InputKind.GRADED: "Input values enter as graded events: one event each, and each of its "
        "synaptic operations is a multiply-accumulate, at every step anew.",
        InputKind.BINARY: "Input events are binary: their synaptic operations are accumulates.",
        InputKind.BIAS: "The input is set as biases: its layer has no synaptic operations.",
    }
    messages = "one per spike and destination layer, a lower bound for any mapping to cores."
    if system.destination_cores != 1:
        cores = f"{system.destination_cores:g} cores of each destination layer"
        messages = f"a spike goes to {cores}, as given."
    counters = []
    if measured is not None:
        counters.append(
            f"Tier C takes {', '.join(measured.counters) or 'nothing'} from {measured.path} "
            f"({measured.source}) in place of counts."
        )
    step = "1 ms a step (real time)."
    if system.step_time_us is not None:
        step = f"{system.step_time_us:g} us a step, as given."
    return (
        "Counts use the deployed integer weights. A weight of zero costs nothing in SOPs; stored "
        "SOPs charge it as well.",
        "Taps on zero padding are no synapses.",
        *([kinds[counts.input_kind]] if counts.input_kind in kinds else []),
        f"All {counts.steps} steps of every sample count, and every neuron is updated at every "
        "step.",
        f"Messages: {messages}",
        *counters,
        f"Static energy of tier C: {system.chips} powered "
        f"{'chip' if system.chips == 1 else 'chips'}, {step}",
        *(
            [
                f"A sample is a sequence of {report.ann.passes} frames, one a step, each answered "
                f"{report.frames.latency} steps later. The {report.ann_name} makes a "
                "pass for each: its MACs and energies are those of all. The network's are those of "
                "all steps, the fill of the pipeline included."
            ]
            if report.frames is not None
            else []
        ),
        _ann_assumption(report),
        "Energies are per inference: the mean over the samples.",
        "Loihi 1 figures stand in for Loihi 2, of which no per-operation energies are published.",
    )


def _ann_assumption(report: Report) -> str:
    onnx = report.onnx
    if onnx is None and report.ann_source == AS_STORED:
        return (
            "The ANN's columns count the layers as stored, in one pass at batch 1. Relays, merged "
            "groups and folded pools make them more than a ReLU twin has: nothing is concluded."
        )
    if onnx is None:
        zeros = "zero" if report.ann.macs_effective is None else "zero, activations as measured"
        return (
            "The ReLU twin has the layers and weights of the trained network before it was "
            "lowered for the chip, and runs one pass at batch 1. Nominal values and upper bounds "
            f"have every MAC; lower bounds skip products with {zeros}."
        )
    text = f"The ANN is {onnx.macs.path}: one pass at batch 1, in the numbers of each preset."
    if onnx.activity is not None:
        text += (
            " Lower bounds skip products with zero, measured on "
            f"{onnx.activity.samples} samples ({onnx.samples})."
        )
    return text


def _warnings(report: Report, graph: FixedPointGraph) -> tuple[str, ...]:
    warnings = []
    counts = report.counts
    totals, samples = counts.totals, counts.samples
    if report.changes_over_time and (report.onnx is None or not report.onnx.has_own_input):
        warnings.append(
            f"The input changes over the steps. The {report.ann_name} sees only their mean, in one "
            f"pass, and may be unable to do the task. In {counts.steps} passes, one a step, it "
            f"would need {counts.steps * report.ann.macs_border_exact:,} MACs."
        )
    if totals.updates_active is None:
        warnings.append(
            "How many neuron updates were active is not known from this recording; the nominal "
            "values of tier C take all of them as active."
        )
    if totals.sops_cached != totals.sops:
        warnings.append(
            "The input of a layer is the same at every step: computed once, the network would need "
            f"{totals.sops_cached / samples:,.0f} instead of {totals.sops / samples:,.0f} SOPs a "
            "sample. The lower bounds of tier A say so."
        )
    rows = [row for row in counts.layers if row.neurons]  # no recurrent rows
    for layer, row in zip(graph.layers[:-1], rows, strict=False):
        if row.spikes == 0:
            warnings.append(
                f"Layer {layer.name} never spikes: nothing reaches the layers after it."
            )
    highest = fairness.SIGMA_BREAK_EVEN[1]
    if report.sigma > highest:
        warnings.append(
            f"{report.sigma:.2f} spikes per synapse per {report.inference}: above {highest}, "
            "published studies that include memory find the ANN cheaper."
        )
    return tuple(warnings)
