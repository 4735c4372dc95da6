"""Commands that run a `.net` file: simulate, verify."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from neurodeploy import testing
from neurodeploy.cli import console
from neurodeploy.cli.options import (
    AcceptSilentFaults,
    AsJson,
    Backend,
    FeedOption,
    InputBits,
    InputFile,
    InputShape,
    IsStream,
    LavaPython,
    NetFile,
    Reading,
    Recorded,
    ResetInterval,
    ResetOffset,
    SpikeExponent,
    Steps,
    Timeout,
    WindowSteps,
    choose_record,
    choose_timing,
)
from neurodeploy.files import require_writable
from neurodeploy.ir.graph import FixedPointGraph
from neurodeploy.simulation.base import Feed, IntArray, Record, Recording, Simulator, Timing
from neurodeploy.simulation.event import EventSimulator, conform_input
from neurodeploy.simulation.lava import LavaSimulator
from neurodeploy.simulation.storage import load_inputs, save_recording


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
            metavar="OUT.npz",
            help="Gets `spikes_<k>` for every layer k, axes as in the input, `voltage` of the "
            "last, and whatever else is recorded.",
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
            "layer only. `counts`: events of each neuron and updates, no spikes."
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
    lava_python: LavaPython = None,
    timeout: Timeout = None,
    accept_silent_faults: AcceptSilentFaults = False,
    as_json: AsJson = False,
) -> None:
    """Run a `.net` file on samples, in exact integers.

    Example: `neurodeploy simulate network.net -i samples.npz -o spikes.npz`

    Try it on what `neurodeploy run digits` leaves: `network.net` and `samples.npz`.
    """
    if backend is Backend.EVENT and (lava_python is not None or timeout is not None):
        raise typer.BadParameter("--lava-python and --timeout belong to Lava. Add --backend lava.")
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
    samples = conform_input(load_inputs(input), graph, feed=feed)
    simulator = (
        EventSimulator(graph)
        if backend is Backend.EVENT
        else _lava_simulator(reading, graph, lava_python, timeout)
    )
    recording = _run(
        simulator,
        samples,
        timing,
        feed,
        record=chosen,
        label=f"{backend} simulation",
        quiet=as_json,
    )
    save_recording(output, recording)
    if as_json:
        console.print_json(_summary(recording, output))
        return
    console.out.print(_activity_table(recording))
    console.out.print(
        f"{recording.samples} samples of {recording.steps} steps in {recording.seconds:.2f} s "
        f"({recording.samples * recording.steps / max(recording.seconds, 1e-9):,.0f} "
        f"sample-steps/s), written to {console.relative(output)}"
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
    samples = conform_input(load_inputs(input), graph, feed=feed)
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


def _summary(recording: Recording, output: Path) -> dict[str, object]:
    return {
        "output": str(output),
        "samples": recording.samples,
        "steps": recording.steps,
        "seconds": recording.seconds,
        "startup_seconds": recording.startup_seconds,
        "layers": [
            {"name": name, "shape": list(shape), "spikes": spikes}
            for name, shape, spikes in zip(
                recording.layers, recording.shapes, recording.spike_totals(), strict=True
            )
        ],
    }


def _activity_table(recording: Recording) -> Table:
    table = Table("layer", "shape")
    for name in ("spikes per sample", "rate", "overflows"):
        table.add_column(name, justify="right")
    totals = recording.spike_totals()
    for index, (name, shape) in enumerate(zip(recording.layers, recording.shapes, strict=True)):
        overflows = "not seen"
        if recording.health is not None:
            health = recording.health[index]
            overflows = str(health.current_wraps + health.voltage_clips)
        per_sample = rate = "not recorded"
        spikes = totals[index]
        if spikes is not None:
            per_sample = f"{spikes / recording.samples:,.1f}"
            rate = f"{spikes / (recording.samples * recording.steps * prod(shape)):.2%}"
        table.add_row(name, console.shape_text(shape), per_sample, rate, overflows)
    return table


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
