"""Sections about a run: accuracy, agreement with Lava, activity, training, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from neurodeploy.reports.activity import Activity, Raster
from neurodeploy.reports.numbers import format_count, format_interval, format_percent
from neurodeploy.reports.pages.elements import PageSection, PageTable, Plot, Rows
from neurodeploy.reports.plots import run_plots
from neurodeploy.reports.report import Agreement, Epoch, Rounding, RunSummary


def accuracy_section(summary: RunSummary) -> PageSection | None:
    """Show accuracy from stage to stage."""
    points = summary.accuracy
    if not points:
        return None
    rows: Rows = [
        (
            point.stage,
            format_percent(point.value),
            format_interval(point.interval),
            format_count(point.samples) if point.samples else "",
            point.note,
        )
        for point in points
    ]
    caption = "Accuracy on test samples; thin lines are 95 % intervals."
    if len({point.samples for point in points}) > 1:
        caption += " Hollow: on fewer samples; compare them with each other only."
    columns = ("stage", "accuracy", "95 % interval", "samples", "measurement")
    return PageSection(
        "accuracy",
        "Accuracy through the pipeline",
        "What deployment costs: the same network after each step on its way to the chip.",
        plots=(Plot(run_plots.plot_accuracy(points), "Accuracy after each stage", caption),),
        tables=(PageTable("Accuracy", columns, rows),),
    )


def agreement_section(rounding: Rounding | None, lava: Agreement | None) -> PageSection | None:
    """Show, layer by layer, how far integers spike as floats do, and Lava as our simulator."""
    leads, tables = [], []
    if rounding is not None and rounding.layers:
        shares = [format_percent(share) for share in sorted(s for *_, s in rounding.layers)]
        leads.append(
            f"The deployed integers spike as the trained floats do in "
            f"{' to '.join(dict.fromkeys((shares[0], shares[-1])))} of a layer's neurons and steps "
            f"({format_count(rounding.samples)} calibration samples): rounding changes the others."
        )
        rows: Rows = [
            (name, *(f"{100 * share:.2f} %" for share in both)) for name, *both in rounding.layers
        ]
        columns = ("layer", "quantized", "deployed")
        tables.append(PageTable("Neurons and steps as in floats", columns, rows))
    if lava is not None:
        differing = lava.comparison.differing
        verdict = "Every spike of every layer was the same: what was deployed is what runs."
        if differing:
            verdict = (
                f"{format_count(differing)} values differ: do not trust the deployed network "
                "before this is understood."
            )
        lasted = "" if lava.seconds is None else f" Lava took {lava.seconds:.1f} s."
        leads.append(
            f"{lava.describe_samples()} ran on our simulator and on real Lava. {verdict}{lasted}"
        )
        rows = [
            (
                layer.name,
                *map(format_count, (layer.compared, layer.spikes_first, layer.differing)),
                "identical" if layer.is_equal else "DIFFERS",
            )
            for layer in lava.comparison.layers
        ]
        heads = ("layer", "values compared", "spikes", "differing", "verdict")
        tables.append(PageTable("Our simulator and Lava", heads, rows))
    if not leads:
        return None
    kept = tuple(table for table in tables if table.rows)
    return PageSection("agreement", "Floats, integers and Lava", " ".join(leads), tables=kept)


def rates_section(activity: Activity | None, *, has_plot: bool = True) -> PageSection | None:
    """Show the rate of each layer, and the values that its 24 bits could not hold."""
    if activity is None:
        return None
    caption = "Spikes of a layer divided by neurons and steps, mean of all samples."
    rows: Rows = []
    short = []
    for layer in activity.layers:
        cells = ["not recorded"] * 2
        if layer.spikes is not None and layer.rate is not None:
            cells = [f"{layer.spikes / activity.samples:,.1f}", format_percent(layer.rate)]
        health, seen = layer.health, ["not seen"] * 4
        if health is not None:
            seen = [
                format_count(health.current_peak), format_count(health.current_wraps),
                format_count(health.voltage_peak), format_count(health.voltage_clips),
            ]  # fmt: skip
            if health.overflows:
                short.append(layer.name)
        rows.append((layer.name, *cells, *seen))
    bits = "24 bits"
    if any(layer.health and layer.health.message_overflows for layer in activity.layers):
        bits = "24 bits, or the 16 of messages,"
    verdict = (
        f"WARNING: {bits} were not enough {format_count(activity.overflows)} times, in "
        f"{', '.join(short)}. Lava does the same, silently: wrapped currents change their sign."
    )
    if activity.overflows is None:
        verdict = "This simulator cannot tell whether 24 bits were enough."
    elif activity.overflows == 0:
        verdict = "No current was wrapped and no voltage clipped: 24 bits were enough everywhere."
    return PageSection(
        "activity",
        "Activity",
        f"Over {format_count(activity.samples)} samples of {activity.steps} steps. {verdict}",
        plots=_panel(activity, "rates", caption) if has_plot else (),
        tables=(
            PageTable(
                "Activity and range of each layer, in the chip's 24 bits: up to 8,388,607",
                (
                    "layer", "spikes per sample", "rate", "largest current", "wrapped",
                    "largest voltage", "clipped",
                ),
                rows,
            ),
        ),
    )  # fmt: skip


def raster_section(raster: Raster | None) -> PageSection | None:
    """Show the spikes of one sample."""
    if raster is None or not raster.layers:
        return None
    caption = (
        f"A strip a layer, first neuron on top; at most {run_plots.RASTER_NEURONS} neurons of a "
        "layer are drawn, evenly chosen. Input: values other than zero."
    )
    if len(raster.layers) > run_plots.RASTER_LAYERS:
        caption += f" {run_plots.RASTER_LAYERS} of {len(raster.layers)} layers are drawn."
    rows: Rows = [
        (
            layer.name,
            format_count(layer.fired.shape[1]),
            format_count(int(layer.fired.sum())),
            format_percent(float(layer.fired.mean())),
        )
        for layer in raster.layers
    ]
    columns = ("layer", "neurons", "spikes", "rate per neuron and step")
    return PageSection(
        "raster",
        "Spikes of one sample",
        f"{raster.title[:1].upper()}{raster.title[1:]}. Each mark is a neuron that fired in that "
        "step.",
        plots=(Plot(run_plots.plot_raster(raster.layers), "Spike raster", caption, is_wide=True),),
        tables=(PageTable("Activity of this sample", columns, rows),),
    )


def readout_section(activity: Activity | None) -> PageSection | None:
    """Show the potential of every class, and the one that wins."""
    if activity is None or activity.readout is None:
        return None
    readout = activity.readout
    rows: Rows = [
        (str(number), f"{value:,.1f}", "wins" if number == readout.winner else "")
        for number, value in enumerate(readout.values[-1].tolist())
    ]
    caption = "A line a class, in units of the weights: the chip's state divided by 64."
    return PageSection(
        "readout",
        "Decision",
        f"The network decides for class {readout.winner} ({activity.title}): the largest potential "
        f"of layer {readout.layer} after the last step wins, of equal ones the first.",
        plots=_panel(activity, "readout", caption),
        tables=(
            PageTable("Potential after the last step", ("class", "potential", "verdict"), rows),
        ),
    )


def maps_section(activity: Activity | None) -> PageSection | None:
    """Show the places of events in each spatial layer."""
    if activity is None or not activity.maps:
        return None
    shown, there = len(activity.maps), activity.spatial_layers
    some = "" if shown == there else f" {shown} of {there} layers, evenly chosen."
    return PageSection(
        "maps",
        "Activity maps",
        f"Events of {activity.title} at each place, channels and steps added up; the number below "
        f"a map is that of its strongest cell.{some}",
        plots=_panel(activity, "maps", "Each map has a scale of its own. Large ones are averaged."),
    )


def membranes_section(activity: Activity | None) -> PageSection | None:
    """Show the potential of single neurons as they charge and fire."""
    if activity is None or not activity.membranes:
        return None
    return PageSection(
        "membranes",
        "Membranes",
        f"Potential of {activity.title} after each step (after the reset where a neuron fires), in "
        "units of the weights: the chip's state divided by 64. Ticks on top are spikes, the dashed "
        "line is the threshold.",
        plots=_panel(activity, "membranes", "Neurons are counted from 0, in C order."),
    )


def _panel(activity: Activity, name: str, caption: str) -> tuple[Plot, ...]:
    panel = run_plots.panels_of(activity).get(name)
    if panel is None:
        return ()
    return (Plot(run_plots.plot_panel(name, panel), panel.title, caption, is_wide=True),)


_CURVES = (
    ("loss", "Training loss", "epoch", "training loss",
     "Mean loss of each epoch, branches included."),
    ("learning", "Accuracy while training", "epoch", "accuracy, %",
     "Training accuracy is measured while weights still change."),
    ("branches", "Share of the branches", "iteration", "λ, share of the branches",
     "Weight λ of the shortcut branches in the loss. They are removed after training."),
    ("rate", "Learning rate", "iteration", "learning rate", "At the end of each epoch."),
)  # fmt: skip
"""(name, title, x axis, y axis, caption)."""


def training_section(summary: RunSummary) -> PageSection | None:
    """Show training and fine-tuning, epoch by epoch."""
    history = summary.history
    if not history:
        return None

    def curve(places: Sequence[int], values: Sequence[float | None]) -> run_plots.Curve:
        known = [(float(x), y) for x, y in zip(places, values, strict=True) if y is not None]
        return [x for x, _ in known], [y for _, y in known]

    epochs, iterations = [e.epoch for e in history], [e.iterations for e in history]
    shares, rates = [e.branch_weight for e in history], [e.learning_rate for e in history]
    curves = {
        "loss": {"loss": curve(epochs, [e.loss for e in history])},
        "learning": {
            "training": curve(epochs, [100 * e.train_accuracy for e in history]),
            "validation": curve(epochs, [100 * e.validation_accuracy for e in history]),
        },
        "branches": {"λ": curve(iterations, shares)} if any(shares) else {},
        "rate": {"rate": curve(iterations, rates)} if set(rates) != {None} else {},
    }
    plots = [
        Plot(run_plots.plot_curves(curves[name], name, x_label, y_label), title, caption)
        for name, title, x_label, y_label, caption in _CURVES
        if curves[name]
    ]
    tables = [_epoch_table("Training", history)]
    if summary.fine_tuning:
        tables.append(_epoch_table("Fine-tuning in integers", summary.fine_tuning))
    return PageSection("training", "Training", plots=tuple(plots), tables=tuple(tables))


def _epoch_table(caption: str, history: Sequence[Epoch]) -> PageTable:
    rows: Rows = [
        (
            str(epoch.epoch),
            f"{epoch.loss:.4f}",
            format_percent(epoch.train_accuracy),
            format_percent(epoch.validation_accuracy),
            "" if epoch.branch_weight is None else f"{epoch.branch_weight:.3f}",
        )
        for epoch in history
    ]
    columns = ("epoch", "loss", "training accuracy", "validation accuracy", "λ")
    return PageTable(f"{caption}: epochs", columns, rows)


def making_section(summary: RunSummary) -> PageSection | None:
    """Show the command, its inputs, versions and wall time."""
    tables = []
    if summary.seconds:
        total = ("total", sum(summary.seconds.values()))
        rows: Rows = [(name, f"{value:.1f} s") for name, value in (*summary.seconds.items(), total)]
        tables.append(PageTable("Wall time", ("stage", "time"), rows, has_total=True))
    if summary.versions:
        rows = list(summary.versions.items())
        tables.append(PageTable("Versions", ("software", "version"), rows))
    files: Rows = [(file.role, file.path, file.sha256) for file in summary.files]
    network = None if summary.report is None else summary.report.network
    if network is not None and network.sha256 is not None:
        files.insert(0, ("network", network.path or "", network.sha256))
    if files:
        tables.append(PageTable("Files", ("role", "file", "SHA-256"), files, 3))
    items = [f"Made: {summary.created}"] if summary.created else []
    if summary.certificate is not None:
        items.append(f"Certificate: {summary.certificate.describe()}")
    if not (tables or items or summary.command):
        return None
    return PageSection(
        "making",
        "How this was made",
        tables=tuple(tables),
        items=tuple(items),
        code=summary.command or "",
    )
