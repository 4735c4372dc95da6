"""Commands that run a `.net` file: simulate, verify, inspect."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
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
    ResetInterval,
    ResetOffset,
    SpikeExponent,
    Steps,
    Timeout,
    WindowSteps,
    choose_timing,
)
from neurodeploy.ir.fixed_layers import (
    FixedComplexDense,
    FixedConv,
    FixedDense,
    FixedInjection,
    FixedLayer,
)
from neurodeploy.ir.graph import FixedPointGraph
from neurodeploy.simulation.base import Feed, Progress, Recording, Simulator, Timing
from neurodeploy.simulation.event import EventSimulator
from neurodeploy.simulation.lava import LavaSimulator
from neurodeploy.simulation.storage import load_inputs, save_recording


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(simulate)
    app.command()(verify)
    app.command()(inspect)


def simulate(
    net: NetFile,
    input: InputFile,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.npz",
            help="Gets `spikes_<k>` for every layer k and `voltage` of the last.",
        ),
    ],
    backend: Annotated[
        Backend, typer.Option(help="`event`: our simulator. `lava`: real Lava, the reference.")
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
    lava_python: LavaPython = None,
    timeout: Timeout = None,
    accept_silent_faults: AcceptSilentFaults = False,
    as_json: AsJson = False,
) -> None:
    """Run a `.net` file on samples, in exact integers.

    Example: `neurodeploy simulate network.net --input samples.npz --output spikes.npz`
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
    samples = load_inputs(input)
    simulator = _simulator(backend, reading, graph, lava_python, timeout)
    recording = _run(simulator, samples, timing, feed, label=f"{backend} simulation", quiet=as_json)
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
    samples = load_inputs(input)
    ours = _run(
        EventSimulator(graph), samples, timing, feed, label="event simulation", quiet=as_json
    )
    lava = _run(
        _simulator(Backend.LAVA, reading, graph, lava_python, timeout),
        samples,
        timing,
        feed,
        label="real Lava",
        quiet=as_json,
    )
    comparison = testing.compare(ours, lava)
    if as_json:
        console.print_json(
            comparison.to_dict() | {"seconds": {"event": ours.seconds, "lava": lava.seconds}}
        )
    else:
        console.out.print(_comparison_table(comparison))
        console.out.print(
            f"event {ours.seconds:.2f} s, Lava {lava.seconds:.1f} s "
            f"(+ {lava.startup_seconds:.1f} s to start)"
        )
    if not comparison.is_equal:
        console.print_error(comparison.describe())
        raise typer.Exit(1)
    if not as_json:
        console.out.print("[bold green]equal[/]: every spike of every layer.")


def inspect(
    net: NetFile,
    input_bits: InputBits = None,
    input_shape: InputShape = None,
    accept_silent_faults: AcceptSilentFaults = False,
    as_json: AsJson = False,
) -> None:
    """Show what is in a `.net` file.

    Example: `neurodeploy inspect network.net`
    """
    graph = Reading(
        net=net,
        input_bits=input_bits,
        input_shape=input_shape,
        spike_exponent=6,
        accept_silent_faults=accept_silent_faults,
    ).graph()
    rows = [_describe(layer) for layer in graph]
    if as_json:
        console.print_json(
            {
                "input": {"shape": graph.input.shape, "message_bits": graph.input.message_bits},
                "layers": rows,
            }
        )
        return
    bits = graph.input.message_bits
    kind = f"graded, {bits} bits" if bits else "binary"
    console.out.print(f"{console.relative(net)}: input {_shape(graph.input.shape)} ({kind})")
    table = Table(
        "layer", "type", "shape", "neurons", "weights", "range", "zeros", "neuron", "bias"
    )
    for layer, row in zip(graph, rows, strict=True):
        table.add_row(
            layer.name,
            str(row["type"]),
            _shape(layer.shape),
            f"{row['neurons']:,}",
            f"{row['weights']:,}",
            str(row["weight_range"]),
            f"{row['zero_weight_fraction']:.1%}",
            str(row["neuron"]),
            str(row["bias"]),
        )
    console.out.print(table)


def _simulator(
    backend: Backend,
    reading: Reading,
    graph: FixedPointGraph,
    python: Path | None,
    timeout: float | None,
) -> Simulator:
    if backend is Backend.EVENT:
        return EventSimulator(graph)
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
    samples: np.ndarray[tuple[int, ...], np.dtype[np.integer]],
    timing: Timing,
    feed: Feed,
    *,
    label: str,
    quiet: bool,
) -> Recording:
    with console.progress_bar(quiet=quiet) as bar:
        task = bar.add_task(label, total=len(samples) if samples.ndim else None, note="")

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        progress: Progress = advance
        return simulator.run(samples, timing=timing, feed=feed, progress=progress)


def _summary(recording: Recording, output: Path) -> dict[str, object]:
    return {
        "output": str(output),
        "samples": recording.samples,
        "steps": recording.steps,
        "seconds": recording.seconds,
        "startup_seconds": recording.startup_seconds,
        "layers": [
            {
                "name": name,
                "shape": list(spikes.shape[2:]),
                "spikes": int(np.count_nonzero(spikes)),
            }
            for name, spikes in zip(recording.layers, recording.spikes, strict=True)
        ],
    }


def _activity_table(recording: Recording) -> Table:
    table = Table("layer", "shape", "spikes per sample", "rate", "overflows")
    for index, (name, spikes) in enumerate(zip(recording.layers, recording.spikes, strict=True)):
        overflows = "not seen"
        if recording.health is not None:
            health = recording.health[index]
            overflows = str(health.current_wraps + health.voltage_clips)
        table.add_row(
            name,
            _shape(spikes.shape[2:]),
            f"{np.count_nonzero(spikes) / recording.samples:,.1f}",
            f"{np.count_nonzero(spikes) / spikes.size:.2%}",
            overflows,
        )
    return table


def _comparison_table(comparison: testing.Comparison) -> Table:
    table = Table("layer", "spikes (event)", "spikes (Lava)", "differing", "")
    for layer in comparison.layers:
        table.add_row(
            layer.name,
            f"{layer.spikes_first:,}",
            f"{layer.spikes_second:,}",
            f"{layer.differing:,}",
            "equal" if layer.is_equal else "[red]different[/]",
        )
    return table


def _describe(layer: FixedLayer) -> dict[str, str | int | float]:
    weights = [
        connection.synapse.weight.ravel()
        for connection in layer.connections
        if isinstance(connection.synapse, FixedConv | FixedDense)
    ]
    joined = np.concatenate(weights) if weights else np.zeros(0, np.int32)
    first = layer.connections[0].synapse
    neuron = ", ".join(
        f"{field.name} {_values(np.asarray(getattr(layer.neuron, field.name)))}"
        for field in dataclasses.fields(layer.neuron)
    )
    return {
        "name": layer.name,
        "type": _SYNAPSE_NAMES[type(first)] + (", recurrent" if layer.is_recurrent else ""),
        "neurons": layer.neurons,
        "weights": int(joined.size),
        "weight_range": _values(joined) if joined.size else "-",
        "zero_weight_fraction": float(np.mean(joined == 0)) if joined.size else 0.0,
        "neuron": f"{type(layer.neuron).__name__}: {neuron}",
        "bias": _values(layer.bias),
    }


_SYNAPSE_NAMES: dict[type[object], str] = {
    FixedConv: "conv",
    FixedDense: "dense",
    FixedComplexDense: "complex dense",
    FixedInjection: "input",
}


def _values(array: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> str:
    low, high = int(array.min()), int(array.max())
    return str(low) if low == high else f"{low} to {high}"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
