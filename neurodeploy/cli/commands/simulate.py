"""Commands that run a `.net` file: simulate, verify."""

from __future__ import annotations

import warnings
from math import prod
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.table import Table

from neurodeploy import testing
from neurodeploy.cli import console
from neurodeploy.cli.options import (
    LOOK,
    AcceptSilentFaults,
    AsJson,
    Backend,
    Cluster,
    EngineOption,
    FeedOption,
    InputBits,
    InputFile,
    InputKey,
    InputShape,
    IsStream,
    LavaPython,
    Memory,
    NetFile,
    Reading,
    Recorded,
    ResetInterval,
    ResetOffset,
    Resume,
    SpikeExponent,
    Steps,
    Timeout,
    WindowSteps,
    Workers,
    choose_record,
    choose_timing,
    parse_memory,
    parse_neurons,
    read_samples,
)
from neurodeploy.errors import DataError, NeurodeployWarning
from neurodeploy.files import require_writable
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.lava_bridge.lava_simulator import LavaSimulator
from neurodeploy.samples.sources import open_samples
from neurodeploy.simulation.event_simulator import EventSimulator, conform_input
from neurodeploy.simulation.long_runs.engines import Crew, Engine
from neurodeploy.simulation.long_runs.long_run import parts_folder, run_samples
from neurodeploy.simulation.long_runs.parts import Facts
from neurodeploy.simulation.recording import (
    Feed,
    Health,
    IntArray,
    Record,
    Recording,
    Simulator,
    Timing,
)
from neurodeploy.simulation.recording_files import save_recording


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(simulate)
    app.command()(verify)


def simulate(
    net: NetFile,
    input: InputFile,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="`.npz`, or `.h5`, which is faster. Gets `spikes_<k>` for every layer k, axes as "
            "in the input, `voltage` of the last, and whatever else is recorded.",
        ),
    ],
    backend: Annotated[
        Backend,
        typer.Option(
            help="`event`: our simulator. `lava`: real Lava, the reference, from "
            "`neurodeploy lava install`."
        ),
    ] = Backend.EVENT,
    window: WindowSteps = None,
    stream: IsStream = False,
    steps: Steps = None,
    reset_interval: ResetInterval = None,
    reset_offset: ResetOffset = 0,
    input_bits: InputBits = None,
    input_shape: InputShape = None,
    spike_exp: SpikeExponent = 6,
    feed: FeedOption = Feed.PORT,
    record: Annotated[
        Recorded,
        typer.Option(
            help="`all`: spikes of every layer, states of the last. `outputs`: both of the last "
            "layer only. `counts`: events of each neuron and updates, no spikes. "
            "`events`: the events alone."
        ),
    ] = Recorded.ALL,
    spikes: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Also keep this layer's spikes. May be repeated."),
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER",
            help="Also keep this layer's states (current, voltage) after every step. May be "
            "repeated.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw rates, spikes, activity maps and membranes (of --states, else of the last "
            "layer) into an `.html`, `.svg` or `.png` file.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            min=0, metavar="K", help="With --plot: the sample to show.", rich_help_panel=LOOK
        ),
    ] = 0,
    neurons: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="With --plot: neurons whose membranes are shown, counted from 0; by default those "
            "that fire in about half of the steps.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    memory: Memory = None,
    resume: Resume = False,
    engine: EngineOption = Engine.LOCAL,
    cluster: Cluster = None,
    workers: Workers = None,
    key: InputKey = "input",
    lava_python: LavaPython = None,
    timeout: Timeout = None,
    accept_silent_faults: AcceptSilentFaults = False,
    as_json: AsJson = False,
) -> None:
    """Run a `.net` file on samples, in exact integers; on more than fit into memory, if need be.

    Example: `neurodeploy simulate network.net -i samples.npz -o spikes.npz`

    Try it on what `neurodeploy run digits` leaves: `network.net` and `samples.npz`.

    What is finished is kept in OUT.parts until all is done: a run that was interrupted goes on
    with `--resume`.
    """
    if backend is Backend.EVENT and (lava_python is not None or timeout is not None):
        raise typer.BadParameter("--lava-python and --timeout belong to Lava. Add --backend lava.")
    crew = Crew(engine=engine, workers=workers, cluster=cluster)
    if backend is Backend.LAVA and (resume or memory is not None or crew != Crew()):
        raise typer.BadParameter(
            "--memory, --resume, --engine, --cluster and --workers belong to our simulator. Leave "
            "them or --backend lava out."
        )
    if plot is not None:
        from neurodeploy.reports.plots.activity_plots import (
            require_known_suffix as require_plot_suffix,
        )

        require_plot_suffix(plot)
        require_writable(plot)
    timing = choose_timing(
        window=window,
        is_stream=stream,
        steps=steps,
        reset_interval=reset_interval,
        reset_offset=reset_offset,
    )
    reading = Reading(
        net=net,
        input_bits=input_bits,
        input_shape=input_shape,
        spike_exponent=spike_exp,
        accept_silent_faults=accept_silent_faults,
    )
    require_writable(output)
    graph = reading.graph()
    chosen = choose_record(record, graph.names, spikes=spikes or [], states=states or [])
    source = open_samples(input, key=key, steps=timing.steps, port=graph.input.shape)
    if backend is Backend.EVENT:
        try:
            with console.progress("simulation", source.count or 0, quiet=as_json) as advance:
                done = run_samples(
                    graph,
                    source,
                    output,
                    timing=timing,
                    feed=feed,
                    record=chosen,
                    memory=parse_memory(memory),
                    crew=crew,
                    resume=resume,
                    progress=advance,
                )
        except KeyboardInterrupt as error:
            kept = parts_folder(output)
            if not kept.is_dir():
                raise
            raise console.RunInterruptedError(
                f"interrupted. What is finished is kept in {console.relative(kept)}: go on with "
                "--resume."
            ) from error
        facts, seconds = done.facts, done.seconds
    else:
        samples = read_samples(input, graph, timing, feed, key=key)
        simulator = _lava_simulator(reading, graph, lava_python, timeout)
        recording = _run(
            simulator, samples, timing, feed, record=chosen, label="Lava", quiet=as_json
        )
        save_recording(output, recording)
        facts, seconds = Facts.of(recording), recording.seconds
    if plot is not None:
        shown = source.read(sample, sample + 1) if sample < facts.samples else None
        _draw(
            graph, facts, shown, plot, timing=timing, feed=feed, traced=states or [],
            neurons=parse_neurons(neurons), sample=sample, title=console.relative(net),
        )  # fmt: skip
    if as_json:
        console.print_json(_summary(facts, output, seconds))
        return
    console.out.print(_activity_table(facts))
    _warn_of_overflows(facts)
    duration = _duration(facts, seconds, resume=resume)
    console.out.print(
        f"{facts.samples} samples of {facts.steps} steps{duration}, written to "
        f"{console.relative(output)}"
    )


def _duration(facts: Facts, seconds: float, *, resume: bool) -> str:
    """Say how long it took; no rate after a resumption, which computed a part of the samples."""
    if resume:
        return f", the last part of them in {seconds:.2f} s"
    rate = facts.samples * facts.steps / max(seconds, 1e-9)
    return f" in {seconds:.2f} s ({rate:,.0f} sample-steps/s)"


def _draw(
    graph: FixedPointGraph,
    facts: Facts,
    values: npt.NDArray[np.integer] | None,
    path: Path,
    *,
    timing: Timing,
    feed: Feed,
    traced: list[str],
    neurons: list[int] | None,
    sample: int,
    title: str,
) -> None:
    """Draw what the network did.

    Raises:
        DataError: If there is no such sample, or no such neuron.
    """
    from neurodeploy.reports.activity import layer_activity, observe
    from neurodeploy.reports.pages.outline import save_plot

    if values is None:
        raise DataError(f"--sample {sample}: there are {facts.samples}, from 0.")
    layers = layer_activity(
        layers=facts.layers,
        shapes=facts.shapes,
        spikes=facts.spikes,
        health=facts.health,
        samples=facts.samples,
        steps=facts.steps,
    )
    activity = observe(
        graph,
        layers,
        conform_input(values, graph, feed=feed),
        samples=facts.samples,
        timing=timing,
        feed=feed,
        traced=traced,
        neurons=neurons,
        title=f"sample {sample}",
    )
    save_plot(
        activity,
        path,
        title=title,
        description=f"{facts.samples} samples of {facts.steps} steps, simulated in exact integers.",
    )


def verify(
    net: NetFile,
    input: InputFile,
    window: WindowSteps = None,
    stream: IsStream = False,
    steps: Steps = None,
    reset_interval: ResetInterval = None,
    reset_offset: ResetOffset = 0,
    input_bits: InputBits = None,
    input_shape: InputShape = None,
    spike_exp: SpikeExponent = 6,
    feed: FeedOption = Feed.PORT,
    lava_python: LavaPython = None,
    timeout: Timeout = None,
    key: InputKey = "input",
    accept_silent_faults: AcceptSilentFaults = False,
    as_json: AsJson = False,
) -> None:
    """Run a `.net` file on our simulator and on real Lava, and compare every spike.

    Exits with 0 only when every layer is equal; else it names the first difference.

    Example: `neurodeploy verify network.net --input samples.npz`
    """
    timing = choose_timing(
        window=window,
        is_stream=stream,
        steps=steps,
        reset_interval=reset_interval,
        reset_offset=reset_offset,
    )
    reading = Reading(
        net=net,
        input_bits=input_bits,
        input_shape=input_shape,
        spike_exponent=spike_exp,
        accept_silent_faults=accept_silent_faults,
    )
    graph = reading.graph()
    samples = read_samples(input, graph, timing, feed, key=key)
    reference = _lava_simulator(reading, graph, lava_python, timeout)
    simulator = EventSimulator(graph)
    ours = _run(simulator, samples, timing, feed, label="event simulation", quiet=as_json)
    lava = _run(reference, samples, timing, feed, label="real Lava", quiet=as_json)
    comparison = testing.compare(ours, lava)
    if as_json:
        console.print_json(
            comparison.to_dict()
            | {
                "samples": ours.samples,
                "steps": ours.steps,
                "seconds": {"event": ours.seconds, "lava": lava.seconds},
            }
        )
    else:
        console.out.print(_comparison_table(comparison))
        console.out.print(
            f"event simulator {ours.seconds:.2f} s, Lava {lava.seconds:.1f} s and "
            f"{lava.startup_seconds:.1f} s to start"
        )
    if not comparison.is_equal:
        console.print_error(
            f"{console.relative(net)}: the event simulator differs from real Lava (numbers in this "
            f"order). {comparison.describe()}"
        )
        raise typer.Exit(1)
    if not as_json:
        console.out.print(
            f"[bold green]equal[/]: every spike of every layer on {ours.samples} samples of "
            f"{ours.steps} steps, and every {' and '.join(ours.traces) or 'state'} of the last."
        )


def _lava_simulator(
    reading: Reading, graph: FixedPointGraph, python: Path | None, timeout: float | None
) -> LavaSimulator:
    return LavaSimulator(
        reading.net,
        python=python,
        input_bits=graph.input.message_bits,
        input_shape=graph.input.shape,
        spike_exponent=reading.spike_exponent,
        layer_names=graph.names,
        timeout=timeout,
    )


def _run(
    simulator: Simulator,
    samples: IntArray,
    timing: Timing,
    feed: Feed,
    *,
    label: str,
    quiet: bool,
    record: Record = Record(),  # noqa: B008 - a frozen value
) -> Recording:
    with console.progress(label, len(samples), quiet=quiet) as advance:
        return simulator.run(samples, timing=timing, feed=feed, record=record, progress=advance)


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
            }
            for name, shape, spikes, health in _layers_of(facts)
        ],
    }


def _layers_of(
    facts: Facts,
) -> list[tuple[str, tuple[int, ...], int | None, Health | None]]:
    health = facts.health or (None,) * len(facts.layers)
    return list(zip(facts.layers, facts.shapes, facts.spikes, health, strict=True))


def _activity_table(facts: Facts) -> Table:
    table = Table("layer", "shape")
    for name in ("spikes per sample", "rate", "wraps", "clips"):
        table.add_column(name, justify="right")
    for name, shape, spikes, health in _layers_of(facts):
        wraps = clips = "not seen"
        if health is not None:
            wraps, clips = f"{health.current_wraps:,}", f"{health.voltage_clips:,}"
        per_sample = rate = "not recorded"
        if spikes is not None:
            per_sample = f"{spikes / facts.samples:,.1f}"
            rate = f"{spikes / (facts.samples * facts.steps * prod(shape)):.2%}"
        table.add_row(name, console.shape_text(shape), per_sample, rate, wraps, clips)
    return table


def _warn_of_overflows(facts: Facts) -> None:
    found = [
        f"{name} ({health.current_wraps:,} currents wrapped, {health.voltage_clips:,} voltages "
        "clipped)"
        for name, _, _, health in _layers_of(facts)
        if health is not None and health.current_wraps + health.voltage_clips
    ]
    if found:
        warnings.warn(
            f"24 bits were not enough in {', '.join(found)}: done as Lava does it, silently. "
            "Smaller weights, or a shorter current, keep them in range.",
            NeurodeployWarning,
            stacklevel=2,
        )


def _comparison_table(comparison: testing.Comparison) -> Table:
    table = Table("layer")
    for name in ("spikes, event", "spikes, Lava", "differing"):
        table.add_column(name, justify="right")
    table.add_column("")
    for layer in comparison.layers:
        table.add_row(
            layer.name,
            f"{layer.spikes_first:,}",
            f"{layer.spikes_second:,}",
            f"{layer.differing:,}",
            "equal" if layer.is_equal else "[red]different[/]",
        )
    return table
