"""Commands that run a `.net` file: simulate, verify."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from neurodeploy import testing
from neurodeploy.cli import console
from neurodeploy.cli.certificates import (
    CERTIFICATE,
    CertificateOptions,
    check_certificate,
    print_certificate_schema,
    write_certificate,
)
from neurodeploy.cli.option_groups import Panel, Writes
from neurodeploy.cli.options import (
    GENERAL,
    AsJson,
    Backend,
    LavaOptions,
    LongRunOptions,
    RunOptions,
)
from neurodeploy.cli.scores import Score
from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.fixedpoint import MESSAGE_MAX, STATE_MAX
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.samples.array_files import SUFFIXES
from neurodeploy.samples.sources import Samples
from neurodeploy.simulation.event_simulator import EventSimulator, conform_input
from neurodeploy.simulation.long_runs.long_run import LongRun, parts_folder, run_samples
from neurodeploy.simulation.long_runs.parts import Facts
from neurodeploy.simulation.recording import Decision, Health, Record
from neurodeploy.simulation.recording_files import load_prediction, save_recording

PLOT = Panel("Plot")


class Recorded(StrEnum):
    """The amount that `simulate` keeps."""

    ALL = "all"
    OUTPUTS = "outputs"
    COUNTS = "counts"
    EVENTS = "events"


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """The result file and its contents."""

    output: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            "--output",
            metavar="OUT",
            help="Result file: `.npz`, or `.h5`, which is faster. Holds `spikes_<k>` for each "
            "layer k, with the axes of the input, `voltage` of the last layer, `prediction`, the "
            "class of each sample, and everything else that is recorded.",
        ),
        Writes(SUFFIXES),
    ]
    record: Recorded = GENERAL.option(
        Recorded.ALL,
        "`all`: spikes of every layer, states of the last. `outputs`: spikes and states of the "
        "last layer. `counts`: events and updates of each neuron, no spikes. `events`: events "
        "only.",
    )
    spikes: list[str] | None = GENERAL.option(
        None, "Also keep the spikes of this layer. May be repeated.", metavar="LAYER"
    )
    states: list[str] | None = GENERAL.option(
        None,
        "Also keep the states (current, voltage) of this layer after every step. May be repeated.",
        metavar="LAYER",
    )

    def choose(self, layers: tuple[str, ...]) -> Record:
        """Return the choice as a simulator takes it; refuse a name that is not in `layers`."""
        spikes, states = self.spikes or (), self.states or ()
        has_counts = self.record in (Recorded.COUNTS, Recorded.EVENTS)
        outputs = () if has_counts else layers[-1:]
        Record(spikes=tuple(spikes), states=tuple(states)).resolve(layers)
        return Record(
            spikes=None if self.record is Recorded.ALL else (*outputs, *spikes),
            states=(*outputs, *states),
            counts=has_counts,
            updates=self.record is not Recorded.EVENTS,
        )


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """The picture of one sample."""

    plot: Path | None = PLOT.option(
        None,
        "Draw rates, spikes, activity maps and membranes (of --states, else of the last layer) "
        "into an `.html`, `.svg` or `.png` file.",
        metavar="FILE",
        writes=(".html", ".svg", ".png"),
    )
    sample: int = PLOT.option(
        0, "With --plot: the sample to show, counted from 0.", min=0, metavar="K"
    )
    neurons: str | None = PLOT.option(
        None,
        "With --plot: the neurons whose membranes are shown, counted from 0. Default: neurons that "
        "fire in about half of the steps.",
        metavar="N,N,...",
    )

    def chosen_neurons(self) -> list[int] | None:
        """Return the numbers of --neurons; refuse all else."""
        if self.neurons is None:
            return None
        parts = self.neurons.split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise typer.BadParameter(
                f"--neurons {self.neurons}: numbers are required, for instance 3,17."
            )
        return [int(part) for part in parts]


def simulate(
    run: RunOptions,
    record: RecordOptions,
    plot: PlotOptions,
    division: LongRunOptions,
    lava: LavaOptions,
    backend: Annotated[
        Backend,
        typer.Option(
            help="`event`: our simulator. `lava`: real Lava, the reference, installed with "
            "`neurodeploy lava install`."
        ),
    ] = Backend.EVENT,
    as_json: AsJson = False,
) -> None:
    """Run a `.net` file on samples in exact integers, even on more samples than fit into memory.

    Example: `neurodeploy simulate network.net -i samples.npz -o spikes.npz`

    `neurodeploy run digits` writes a `network.net` and a `samples.npz` to try it on.

    Finished samples are kept in OUT.parts until the run ends: continue an interrupted run with
    `--resume`.
    """
    _require_fitting(backend, division, lava)
    if plot.plot is None and plot != PlotOptions():
        raise typer.BadParameter("--sample and --neurons belong to a plot. Add --plot FILE.")
    run.timing()  # wrong usage is told before a file is read
    graph = run.graph()
    timing = run.timing(graph)
    chosen = record.choose(graph.names)
    source = run.source(graph, timing)
    if source.count is not None and plot.sample >= max(source.count, 1):
        raise DataError(
            f"--sample {plot.sample}: {source.name} holds {source.count} samples, 0 to "
            f"{source.count - 1}. Name one of them."
        )
    is_resumed = division.resume and parts_folder(record.output).is_dir()
    if backend is Backend.EVENT:
        done = _run_long(graph, source, run, record.output, chosen, division, quiet=as_json)
        facts, seconds = done.facts, done.seconds
    else:
        samples = run.samples(graph, timing)
        simulator = lava.simulator(run, graph)
        recording = run.record(
            simulator, graph, samples, label="Lava", quiet=as_json, record=chosen
        )
        recording = replace(recording, decision=Decision.of(graph))
        save_recording(record.output, recording)
        facts, seconds = Facts.of(recording), recording.seconds
    if plot.plot is not None:
        _draw(graph, facts, source, plot, run, traced=record.states or [])
    predicted = load_prediction(record.output)
    score = Score.of(run, graph, predicted, samples=facts.samples)
    if as_json:
        _warn_of_overflows(facts, graph)
        summary = _summary(facts, record.output, seconds)
        summary["accuracy"] = None if score is None else score.to_dict()
        console.print_json(summary, wrote=(record.output, plot.plot))
        return
    console.out.print(_activity_table(facts, graph))
    _warn_of_overflows(facts, graph)
    duration = _duration(facts, seconds, resume=is_resumed)
    console.out.print(f"{facts.samples} samples of {facts.steps} steps{duration}")
    if score is not None:
        console.out.print(str(score))


def _require_fitting(backend: Backend, division: LongRunOptions, lava: LavaOptions) -> None:
    """Check that no option belongs to the other simulator."""
    if backend is Backend.EVENT and lava != LavaOptions():
        raise typer.BadParameter("--lava-python and --timeout belong to Lava. Add --backend lava.")
    if backend is Backend.LAVA and division != LongRunOptions():
        raise typer.BadParameter(
            "--memory, --resume, --engine, --cluster and --workers belong to our simulator. Leave "
            "them or --backend lava out."
        )


def _run_long(
    graph: FixedPointGraph,
    source: Samples,
    run: RunOptions,
    output: Path,
    record: Record,
    division: LongRunOptions,
    *,
    quiet: bool,
) -> LongRun:
    """Run our simulator on any number of samples; tell how to go on after an interruption."""
    kept = parts_folder(output)
    advice = f"Finished samples are kept in {console.relative(kept)}: go on with --resume."
    with (
        console.resumable(kept, advice),
        console.progress("simulation", source.count or 0, quiet=quiet) as advance,
    ):
        return run_samples(
            graph,
            source,
            output,
            timing=run.timing(graph),
            feed=run.entry(graph),
            record=record,
            memory=division.memory_bytes(),
            crew=division.crew(),
            resume=division.resume,
            progress=advance,
        )


def _duration(facts: Facts, seconds: float, *, resume: bool) -> str:
    """Return the time taken; without a rate after a resumption, which computed only a part."""
    if resume:
        return f", the last part of them in {seconds:.2f} s"
    rate = facts.samples * facts.steps / max(seconds, 1e-9)
    return f" in {seconds:.2f} s ({rate:,.0f} sample-steps/s)"


def _draw(
    graph: FixedPointGraph,
    facts: Facts,
    source: Samples,
    plot: PlotOptions,
    run: RunOptions,
    *,
    traced: list[str],
) -> None:
    """Draw the activity of one sample, and rates over all."""
    from neurodeploy.reports.activity import layer_activity, observe
    from neurodeploy.reports.pages.outline import save_plot

    values = source.read(plot.sample, plot.sample + 1)
    activity = observe(
        graph,
        layer_activity(facts),
        conform_input(values, graph, feed=run.entry(graph)),
        samples=facts.samples,
        timing=run.timing(graph),
        feed=run.entry(graph),
        traced=traced,
        neurons=plot.chosen_neurons(),
        title=f"sample {plot.sample}",
    )
    assert plot.plot is not None
    save_plot(
        activity,
        plot.plot,
        title=console.relative(run.net),
        description=f"{facts.samples} samples of {facts.steps} steps, simulated in exact integers.",
    )


def verify(
    run: RunOptions,
    lava: LavaOptions,
    certificates: CertificateOptions,
    as_json: AsJson = False,
    certificate_schema: Annotated[
        bool,
        typer.Option(
            "--certificate-schema",
            callback=print_certificate_schema,
            is_eager=True,
            help="Print the JSON schema of a certificate and exit.",
            rich_help_panel=CERTIFICATE.title,
        ),
    ] = False,
) -> None:
    """Run a `.net` file on our simulator and on real Lava, and compare every spike.

    Exits with 0 only if every layer is equal; otherwise it prints the first difference.

    Example: `neurodeploy verify network.net --input samples.npz`

    With a certificate, and its check by somebody else: `neurodeploy verify network.net -i
    samples.npz --write-certificate certificate.json`, `neurodeploy verify network.net -i
    samples.npz --certificate certificate.json`
    """
    del certificate_schema
    if certificates.without_lava and certificates.certificate is None:
        raise typer.BadParameter("--without-lava belongs to --certificate. Add it.")
    if certificates.certificate is not None:
        check_certificate(certificates.certificate, run, lava, certificates, as_json=as_json)
        return
    run.timing()  # wrong usage is told before a file is read
    graph = run.graph()
    timing = run.timing(graph)
    samples = run.samples(graph, timing)
    reference = lava.simulator(run, graph)
    ours = run.record(
        EventSimulator(graph), graph, samples, label="event simulation", quiet=as_json
    )
    theirs = run.record(reference, graph, samples, label="real Lava", quiet=as_json)
    comparison = testing.compare(ours, theirs)
    _warn_of_overflows(Facts.of(ours), graph)
    if certificates.write_certificate is not None:
        write_certificate(certificates.write_certificate, run, graph, samples, ours, theirs)
    score = Score.of(run, graph, ours.prediction, samples=ours.samples)
    if as_json:
        facts = {
            "samples": ours.samples,
            "steps": ours.steps,
            "seconds": {"event": ours.seconds, "lava": theirs.seconds},
            "accuracy": None if score is None else score.to_dict(),
        }
        answer = comparison.to_dict() | facts
        console.print_json(answer, wrote=(certificates.write_certificate,))
    else:
        console.out.print(_comparison_table(comparison))
        console.out.print(
            f"event simulator {ours.seconds:.2f} s, Lava {theirs.seconds:.1f} s and "
            f"{theirs.startup_seconds:.1f} s to start"
        )
        if score is not None:
            console.out.print(str(score))
    if not comparison.is_equal:
        console.print_error(
            f"{console.relative(run.net)}: the event simulator differs from real Lava (numbers in "
            f"this order). {comparison.describe()}"
        )
        raise typer.Exit(1)
    if not as_json:
        console.out.print("equal", end=": ", style="bold green")
        console.out.print(
            f"every spike of every layer on {ours.samples} samples of "
            f"{ours.steps} steps, and every {' and '.join(ours.traces) or 'state'} of the last."
        )


def _summary(facts: Facts, output: Path, seconds: float) -> dict[str, object]:
    return {
        "output": str(output),
        "samples": facts.samples,
        "steps": facts.steps,
        "seconds": seconds,
        "layers": [
            {
                "name": name,
                "shape": list(shape),
                "spikes": spikes,
                "current_wraps": None if health is None else health.current_wraps,
                "voltage_clips": None if health is None else health.voltage_clips,
                "sum_peak": None if health is None else health.sum_peak,
                "sum_overflows": None if health is None else health.sum_overflows,
                "message_peak": None if health is None else health.message_peak,
                "message_overflows": None if health is None else health.message_overflows,
            }
            for name, shape, spikes, health in _layers_of(facts)
        ],
    }


def _layers_of(facts: Facts) -> list[tuple[str, tuple[int, ...], int | None, Health | None]]:
    health = facts.health or (None,) * len(facts.layers)
    return list(zip(facts.layers, facts.shapes, facts.spikes, health, strict=True))


def _activity_table(facts: Facts, graph: FixedPointGraph) -> Table:
    columns: tuple[str, ...] = (">wraps", ">clips")
    if graph.sends_changes:
        columns = (">largest sum", ">largest state", ">largest message")
    table = console.make_table("layer", "shape", ">spikes per sample", ">rate", *columns)
    for name, shape, spikes, health in _layers_of(facts):
        seen = ["not seen"] * len(columns)
        if health is not None:
            numbers: tuple[int, ...] = (health.current_wraps, health.voltage_clips)
            if graph.sends_changes:
                state = max(health.current_peak, health.voltage_peak)
                numbers = (health.sum_peak, state, health.message_peak)
            seen = [f"{number:,}" for number in numbers]
        per_sample = rate = "not recorded"
        if spikes is not None:
            per_sample = f"{spikes / facts.samples:,.1f}"
            rate = f"{spikes / (facts.samples * facts.steps * prod(shape)):.2%}"
        table.add_row(name, console.shape_text(shape), per_sample, rate, *seen)
    return table


def _warn_of_overflows(facts: Facts, graph: FixedPointGraph) -> None:
    """Warn of values that the chip's integers could not hold."""
    overflows, passed = [], []
    for layer, (name, _, _, health) in zip(graph, _layers_of(facts), strict=True):
        if health is None:
            continue
        if layer.neuron.is_graded:
            passed += [f"{name}: {text}" for text in _passed_limits(health)]
        elif health.current_wraps + health.voltage_clips:
            overflows.append(
                f"{name} ({health.current_wraps:,} currents wrapped, {health.voltage_clips:,} "
                "voltages clipped)"
            )
    if overflows:
        warnings.warn(
            f"24 bits were not enough in {', '.join(overflows)}: done as Lava does it, silently. "
            "Smaller weights, or a shorter current, keep them in range.",
            NeurodeployWarning,
            stacklevel=2,
        )
    if passed:
        warnings.warn(
            f"limits passed: {'; '.join(passed)}. Lava goes on, silently, and answers from there "
            "on may be wrong; the chip has no more bits. Keep frames in the range that the network "
            "was converted with, or convert it with frames like these.",
            NeurodeployWarning,
            stacklevel=2,
        )


def _passed_limits(health: Health) -> list[str]:
    """Name the limits that a layer of sigma-delta neurons passed."""
    texts = []
    for kind, count, peak, limit in (
        ("sums of a step", health.sum_overflows, health.sum_peak, STATE_MAX),
        ("messages", health.message_overflows, health.message_peak, MESSAGE_MAX),
    ):
        if count:
            texts.append(f"{count:,} {kind} beyond {limit:,}, the largest {peak:,}")
    state = max(health.current_peak, health.voltage_peak)
    if state > STATE_MAX:
        wraps = health.current_wraps + health.voltage_clips
        more = f", and {wraps:,} wrapped at 32 bits" if wraps else ""
        texts.append(f"a state of {state:,} beyond {STATE_MAX:,}{more}")
    return texts


def _comparison_table(comparison: testing.Comparison) -> Table:
    table = console.make_table("layer", ">spikes, event", ">spikes, Lava", ">differing", "")
    for layer in comparison.layers:
        table.add_row(
            layer.name,
            f"{layer.spikes_first:,}",
            f"{layer.spikes_second:,}",
            f"{layer.differing:,}",
            "equal" if layer.is_equal else Text("different", style="red"),
        )
    return table
