"""The command that counts: report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurodeploy.cli import console
from neurodeploy.cli.certificates import certificate_beside
from neurodeploy.cli.option_groups import Panel
from neurodeploy.cli.options import (
    GENERAL,
    INCOMPLETE,
    AllowIncomplete,
    AsJson,
    Bindings,
    MemoryOptions,
    PageOptions,
    RunOptions,
    parse_bindings,
)
from neurodeploy.cli.scores import Score
from neurodeploy.files import hash_file, hash_folder
from neurodeploy.provenance import versions
from neurodeploy.simulation.event_simulator import conform_input, require_fit
from neurodeploy.simulation.recording import Feed, IntArray

if TYPE_CHECKING:
    from neurodeploy.counting.counted_run import CountedRun
    from neurodeploy.counting.frame_counts import FrameCounts
    from neurodeploy.energy.estimates import System
    from neurodeploy.fixedpoint import Int64Array
    from neurodeploy.ir.graphs import FixedPointGraph, Graph
    from neurodeploy.onnx_models.measured_zeros import OnnxBaseline
    from neurodeploy.reports.report import Report
    from neurodeploy.samples.sources import Samples
    from neurodeploy.simulation.long_runs.parts import Facts

CHIP = Panel("The chip")


def _print_schema(is_given: bool) -> None:
    if is_given:
        from neurodeploy.reports.json_form import schema

        console.print_json(schema())
        raise typer.Exit


@dataclass(frozen=True, kw_only=True)
class AnnOptions:
    """The ONNX model to compare with, and both accuracies."""

    ann: Path | None = GENERAL.option(
        None,
        "ONNX model to compare with, instead of the network's ReLU twin (the same layers with ReLU "
        "in place of spiking neurons). It runs on the mean of the samples over time, on each frame "
        "of a converted network, or on --ann-input.",
        metavar="MODEL.onnx",
    )
    ann_input: Path | None = GENERAL.option(
        None,
        "Samples for the ONNX model: array `input`, and `label` to measure its accuracy.",
        metavar="FILE.npz",
    )
    bind: Bindings = None
    allow_incomplete: AllowIncomplete = False
    accuracy: float | None = GENERAL.option(
        None,
        "Accuracy of the deployed network on a test set, 0 to 1. Default: measured, if the samples "
        "have labels.",
        min=0,
        max=1,
    )
    ann_accuracy: float | None = GENERAL.option(
        None, "Accuracy of the ANN on the same test set, 0 to 1.", min=0, max=1
    )
    accuracy_gap: float = GENERAL.option(
        0.01,
        "Largest difference of the two accuracies at which the report states a headline ratio.",
        min=0,
        max=1,
    )

    def baseline(
        self, samples: Samples, feed: Feed, *, is_sequence: bool, quiet: bool
    ) -> OnnxBaseline | None:
        """Run the ONNX model, if there is one; its options need one.

        It does not run on the mean of a sequence of frames.
        """
        if self.ann is None:
            if self.ann_input is not None or self.bind or self.allow_incomplete:
                raise typer.BadParameter(
                    "--ann-input, --bind and --allow-incomplete belong to an ONNX model. Add --ann "
                    "MODEL.onnx, or leave them out."
                )
            return None
        from neurodeploy.onnx_models.measured_zeros import load_samples, read_baseline, units_note

        inputs, labels = (None, None) if self.ann_input is None else load_samples(self.ann_input)
        if is_sequence and inputs is None:
            return read_baseline(self.ann, bindings=parse_bindings(self.bind))
        with console.progress("ONNX model", samples.count or 0, quiet=quiet) as advance:
            found = read_baseline(
                self.ann,
                bindings=parse_bindings(self.bind),
                network_inputs=samples,
                has_steps=feed is not Feed.BIAS,
                samples=inputs,
                labels=labels,
                progress=advance,
            )
        notes = [] if inputs is not None or found.activity is None else units_note(samples)
        return replace(found, notes=(*found.notes, *notes))


@dataclass(frozen=True, kw_only=True)
class ChipOptions:
    """The chip that tier C is about."""

    measured: Path | None = CHIP.option(
        None,
        "Counters from a chip's profiler (syn_ops, dendrite_updates, spikes_in, axon_out), used "
        "instead of our counts in tier C; see docs/howto/energy.md.",
        metavar="FILE.json",
    )
    step_time: float | None = CHIP.option(
        None, "Duration of a step in microseconds. Default: 1000, real time.", min=0, metavar="US"
    )
    chips: int | None = CHIP.option(
        None,
        "Number of powered chips. Default: as many as the estimated cores need.",
        min=1,
        metavar="N",
    )
    hops: str | None = CHIP.option(
        None, "Mean hops of a message, east-west and north-south.", metavar="EW,NS"
    )
    destination_cores: float = CHIP.option(
        1.0, "Mean number of a layer's cores that receive a spike sent to it.", min=1, metavar="X"
    )

    def system(self) -> System:
        """Return the system that the options describe."""
        from neurodeploy.energy.estimates import System

        east_west, north_south = parse_hops(self.hops)
        return System(
            step_time_us=self.step_time,
            chips=self.chips,
            hops_east_west=east_west,
            hops_north_south=north_south,
            destination_cores=self.destination_cores,
        )


def report(
    run: RunOptions,
    page: PageOptions,
    ann: AnnOptions,
    chip: ChipOptions,
    limit: MemoryOptions,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Energy preset: a name, or the path of a TOML file. May be repeated. Default: all "
            "that come with neurodeploy.",
        ),
    ] = None,
    as_json: AsJson = False,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            callback=_print_schema,
            is_eager=True,
            help="Print the JSON schema of --json and exit.",
        ),
    ] = False,
) -> None:
    """Count synaptic operations on real samples and estimate energy, with ranges and sources.

    Example: `neurodeploy report network.net --input samples.npz --html report.html`

    Compared with an ANN: `neurodeploy report network.net -i samples.npz --ann model.onnx`. If an
    operator of the ANN cannot be counted, the count is incomplete and the command exits with 3.
    """
    del schema
    # Here and not above: only this command pays for them at its start.
    from neurodeploy.energy.measured import Measured
    from neurodeploy.energy.presets import EnergyPreset
    from neurodeploy.reports.pages.tables import terminal
    from neurodeploy.reports.report_builder import report_counts

    run.timing()  # wrong usage is told before a file is read
    graph = run.graph(refuses_fractions=not run.accept_silent_faults)
    timing = run.timing(graph)
    profile = None if chip.measured is None else Measured.load(chip.measured)
    system = chip.system()
    presets = [EnergyPreset.load(name) for name in preset] if preset else None
    samples = run.source(graph, timing)
    shape = (samples.count or 0, *samples.shape)
    require_fit(shape, graph, feed=run.entry(graph), where=samples.name)
    model = ann.baseline(samples, run.entry(graph), is_sequence=graph.sends_changes, quiet=as_json)
    counted = _count(graph, samples, run, limit, quiet=as_json)
    model, network, frame_macs = _run_on_frames(model, graph, samples, counted.frames, ann)
    score = Score.of(run, graph, counted.prediction, samples=counted.counts.samples)
    if score is not None and ann.accuracy is None:
        model = _on_the_same_samples(model, score, run, ann)
    accuracy = ann.accuracy if ann.accuracy is not None or score is None else score.accuracy
    result = report_counts(
        graph,
        counted,
        network_file=run.net,
        presets=presets,
        onnx=model,
        baseline=network,
        frame_macs=frame_macs,
        accuracy=None if accuracy is None else {"deployed": accuracy},
        ann_accuracy=ann.ann_accuracy,
        accuracy_gap=ann.accuracy_gap,
        measured=profile,
        system=system,
    )
    if page.html is not None or page.markdown_file is not None:
        first = conform_input(samples.read(0, 1), graph, feed=run.entry(graph), where=samples.name)
        _write_pages(result, graph, counted.facts, first, run, page, ann, score)
    if as_json:
        console.print_json(result.to_json(), wrote=page.files)
    else:
        console.out.print(terminal(result))
        if score is not None:
            console.out.print(str(score))
    if model is not None and model.macs.uncounted_ops and not ann.allow_incomplete:
        raise typer.Exit(INCOMPLETE)


def _on_the_same_samples(
    model: OnnxBaseline | None,
    score: Score,
    run: RunOptions,
    ann: AnnOptions,
) -> OnnxBaseline | None:
    """Take away the ANN's accuracy, with a note, if it was measured on other samples."""
    if model is None or model.accuracy is None or ann.ann_input is None:
        return model
    import numpy as np

    from neurodeploy.samples.array_files import load_inputs

    own = load_inputs(ann.ann_input, key="label")
    if np.array_equal(own, score.labels):
        return model
    note = (
        f"The ANN's accuracy is left out: labels of the {len(own)} samples in {ann.ann_input} are "
        f"not those of {run.input}. Give both the same test samples, in the same order."
    )
    return replace(model, accuracy=None, notes=(*model.notes, note))


def _run_on_frames(
    model: OnnxBaseline | None,
    graph: FixedPointGraph,
    samples: Samples,
    frames: FrameCounts | None,
    ann: AnnOptions,
) -> tuple[OnnxBaseline | None, Graph | None, Int64Array | None]:
    """Run the ANN on every frame that is answered, as the network's integers have it.

    Returns:
        None, the ANN, and its MACs for each frame without products with zero. Where it did not run
        on them, the model as it was given, with a note if it is to be compared by frame.
    """
    if model is None or model.activity is not None or frames is None:
        return model, None, None
    from neurodeploy.pipeline.converted import examine, frame_macs_of

    assert ann.ann is not None
    assert samples.count is not None, "files know how many samples they hold"
    if graph.frame_scales is None:
        reason = "the file does not say what its integers mean"
    else:
        source = examine(ann.ann, None, bindings=parse_bindings(ann.bind))
        network = source.graph
        if (
            network is not None
            and not source.obstacles
            and network.input.shape == graph.input.shape
        ):
            values = samples.read(0, samples.count)
            values = values.reshape(*values.shape[:2], *graph.input.shape)
            return None, network, frame_macs_of(network, graph, values, frames)
        reason = "it is no network that could have been converted to this file"
    note = f"The ANN's activations were not measured: {reason}. Give frames for it (--ann-input)."
    return replace(model, notes=(*model.notes, note)), None, None


def _count(
    graph: FixedPointGraph, samples: Samples, run: RunOptions, limit: MemoryOptions, *, quiet: bool
) -> CountedRun:
    """Simulate and count the samples, a few in memory at a time."""
    from neurodeploy.counting.counted_run import count_samples

    timing, memory = run.timing(graph), limit.memory_bytes()
    with console.progress("simulation", samples.count or 0, quiet=quiet) as advance:
        return count_samples(
            graph, samples, timing=timing, feed=run.entry(graph), memory=memory, progress=advance
        )


def _write_pages(
    result: Report,
    graph: FixedPointGraph,
    facts: Facts,
    first: IntArray,
    run: RunOptions,
    page: PageOptions,
    ann: AnnOptions,
    score: Score | None,
) -> None:
    """Write the report for people, with the activity on its first sample."""
    from neurodeploy.reports.activity import layer_activity, observe
    from neurodeploy.reports.pages.outline import write_markdown, write_page
    from neurodeploy.reports.report import RunSummary, SourceFile

    activity = observe(
        graph,
        layer_activity(facts),
        first,
        samples=facts.samples,
        timing=run.timing(graph),
        feed=run.entry(graph),
    )
    files = (("input", run.input), ("ANN", ann.ann), ("input of the ANN", ann.ann_input))
    shown = RunSummary(
        title=console.relative(run.net),
        description="" if score is None else f"{score}.",
        report=result,
        raster=activity.raster,
        activity=activity,
        certificate=certificate_beside(run.net),
        versions=versions("numpy", "h5py", "llvmlite", "onnx", "onnxruntime"),
        files=tuple(
            SourceFile(
                role=role,
                path=console.relative(path),
                sha256=hash_folder(path) if path.is_dir() else hash_file(path),
            )
            for role, path in files
            if path is not None
        ),
        command=console.command_line(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    if page.markdown_file is not None:
        write_markdown(shown, page.markdown_file)
    if page.html is not None:
        write_page(shown, page.html)


def parse_hops(text: str | None) -> tuple[float, float]:
    """Read "EW,NS", none by default; refuse all else."""
    if text is None:
        return 0.0, 0.0
    try:
        east_west, north_south = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"--hops {text}: EW,NS is required, for instance 2.6,1.25."
        ) from error
    return east_west, north_south
