"""The command that counts: report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from neurodeploy.cli import console
from neurodeploy.cli.commands.macs import BindOption, parse_bindings
from neurodeploy.cli.options import (
    AcceptSilentFaults,
    AsJson,
    FeedOption,
    InputBits,
    InputFile,
    InputKey,
    InputShape,
    IsStream,
    NetFile,
    Reading,
    ResetInterval,
    ResetOffset,
    SpikeExponent,
    Steps,
    WindowSteps,
    choose_timing,
    read_samples,
)
from neurodeploy.files import hash_file, require_writable
from neurodeploy.provenance import versions
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Feed, Record

CHIP = "The chip"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(report)


def _print_schema(wanted: bool) -> None:
    if wanted:
        from neurodeploy.reports.report import schema

        console.print_json(schema())
        raise typer.Exit


def report(
    net: NetFile,
    input: InputFile,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained HTML page.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write Markdown.")
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Energy preset by name or TOML path; may be repeated. By default all that come "
            "with neurodeploy.",
        ),
    ] = None,
    ann: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL.onnx",
            help="An ONNX model to compare with, in place of the network's ReLU twin. It is run "
            "on the samples' mean over the steps, or on --ann-input.",
        ),
    ] = None,
    ann_input: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Samples for the ONNX model: `input`, and `label` for its accuracy.",
        ),
    ] = None,
    bind: BindOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if an operator is not counted.")
    ] = False,
    accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of the deployed network on a test set, 0 to 1."),
    ] = None,
    ann_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the ANN on the same test set, 0 to 1.")
    ] = None,
    accuracy_gap: Annotated[
        float, typer.Option(min=0, max=1, help="Largest difference that allows a headline ratio.")
    ] = 0.01,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Counters of a chip's profiler (syn_ops, dendrite_updates, spikes_in, axon_out) "
            "in place of counts in tier C; see hardware/README.md.",
            rich_help_panel=CHIP,
        ),
    ] = None,
    step_time: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="US",
            help="Duration of a step, us; by default 1000, real time.",
            rich_help_panel=CHIP,
        ),
    ] = None,
    chips: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Powered chips; by default what the estimate of cores needs.",
            rich_help_panel=CHIP,
        ),
    ] = None,
    hops: Annotated[
        str | None,
        typer.Option(
            metavar="EW,NS",
            help="Mean hops of a message, east-west and north-south.",
            rich_help_panel=CHIP,
        ),
    ] = None,
    destination_cores: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="X",
            help="Mean cores of a layer that a spike is sent to.",
            rich_help_panel=CHIP,
        ),
    ] = 1.0,
    window: WindowSteps = None,
    stream: IsStream = False,
    steps: Steps = None,
    reset_interval: ResetInterval = None,
    reset_offset: ResetOffset = 0,
    input_bits: InputBits = None,
    input_shape: InputShape = None,
    spike_exp: SpikeExponent = 6,
    feed: FeedOption = Feed.PORT,
    key: InputKey = "input",
    accept_silent_faults: AcceptSilentFaults = False,
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

    With an ANN: `neurodeploy report network.net -i samples.npz --ann model.onnx`
    """
    del schema
    # Here and not above: only this command pays for them at its start.
    from neurodeploy.energy.estimates import System
    from neurodeploy.energy.measured import Measured
    from neurodeploy.energy.presets import EnergyPreset
    from neurodeploy.reports.activity import layer_activity_of, observe
    from neurodeploy.reports.pages.tables import terminal
    from neurodeploy.reports.report_builder import report as make_report
    from neurodeploy.reports.run_summary import RunSummary, SourceFile

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
    for file in filter(None, (html, markdown_file)):
        require_writable(file)
    graph = reading.graph(refuses_fractions=not accept_silent_faults)
    profile = None if measured is None else Measured.load(measured)
    east_west, north_south = parse_hops(hops)
    presets = [EnergyPreset.load(name) for name in preset] if preset else None
    samples = read_samples(input, graph, timing, feed, key=key)
    model = None
    if ann is not None:
        from neurodeploy.onnx_models.measured_zeros import load_samples, read_baseline

        values, labels = (None, None) if ann_input is None else load_samples(ann_input)
        model = read_baseline(
            ann,
            bindings=parse_bindings(bind),
            network_inputs=samples[:, None] if feed is Feed.BIAS else samples,
            samples=values,
            labels=labels,
        )
    has_page = html is not None or markdown_file is not None
    with console.progress("simulation", len(samples), quiet=as_json) as advance:
        recording = EventSimulator(graph).run(
            samples,
            timing=timing,
            feed=feed,
            record=Record(spikes=(), states=(), counts=True),
            progress=advance,
        )
    result = make_report(
        graph,
        samples,
        recording,
        network_file=net,
        feed=feed,
        presets=presets,
        onnx=model,
        accuracy=None if accuracy is None else {"deployed": accuracy},
        ann_accuracy=ann_accuracy,
        accuracy_gap=accuracy_gap,
        measured=profile,
        system=System(
            step_time_us=step_time,
            chips=chips,
            hops_east_west=east_west,
            hops_north_south=north_south,
            destination_cores=destination_cores,
        ),
    )
    activity = None
    if has_page:
        activity = observe(
            graph,
            layer_activity_of(recording),
            samples[:1],
            samples=recording.samples,
            timing=timing,
            feed=feed,
        )
    shown = RunSummary(
        title=console.relative(net),
        report=result,
        raster=None if activity is None else activity.raster,
        activity=activity,
        versions=versions("numpy", "h5py", "numba", "onnx", "onnxruntime"),
        files=tuple(
            SourceFile(role=role, path=console.relative(path), sha256=hash_file(path))
            for role, path in (("input", input), ("ANN", ann), ("input of the ANN", ann_input))
            if path is not None
        ),
        command=console.command_line(),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    if markdown_file is not None:
        from neurodeploy.reports.pages.outline import write_markdown

        write_markdown(shown, markdown_file)
    if html is not None:
        from neurodeploy.reports.pages.outline import write_page

        write_page(shown, html)
    if as_json:
        console.print_json(result.to_json())
    else:
        console.out.print(terminal(result))
    if strict and model is not None and model.macs.uncounted_ops:
        raise typer.Exit(1)


def parse_hops(text: str | None) -> tuple[float, float]:
    """Read "EW,NS"; without any there are none.

    Raises:
        typer.BadParameter: If the text is anything else.
    """
    if text is None:
        return 0.0, 0.0
    try:
        east_west, north_south = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"--hops {text}: EW,NS is required, for instance 2.6,1.25."
        ) from error
    return east_west, north_south
