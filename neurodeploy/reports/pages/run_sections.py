"""Sections about the run itself: accuracy, agreement with Lava, raster, training, making."""

from __future__ import annotations

from collections.abc import Sequence

from neurodeploy.reports.activity import Raster
from neurodeploy.reports.numbers import format_count, format_percent, wilson_interval
from neurodeploy.reports.pages.elements import PageSection, PageTable, Plot, Rows
from neurodeploy.reports.plots.run_plots import (
    RASTER_LAYERS,
    RASTER_NEURONS,
    Series,
    plot_accuracy,
    plot_curves,
    plot_raster,
)
from neurodeploy.reports.run_summary import AccuracyPoint, Agreement, Epoch, RunSummary


def accuracy_section(summary: RunSummary) -> PageSection | None:
    """Show accuracy from stage to stage."""
    if not summary.accuracy:
        return None
    numbers = {point.samples for point in summary.accuracy}
    rows: Rows = [
        (
            point.stage,
            format_percent(point.value),
            _interval(point),
            format_count(point.samples) if point.samples else "",
            point.note,
        )
        for point in summary.accuracy
    ]
    return PageSection(
        anchor="accuracy",
        title="Accuracy through the pipeline",
        lead="What deployment costs: the same network after each step on its way to the chip.",
        plots=(
            Plot(
                svg=plot_accuracy(summary.accuracy),
                title="Accuracy after each stage",
                caption="Accuracy on test samples; thin lines are 95 % intervals."
                + (
                    " Hollow: on fewer samples; compare them with each other only."
                    if len(numbers) > 1
                    else ""
                ),
            ),
        ),
        tables=(
            PageTable(
                caption="Accuracy",
                columns=("stage", "accuracy", "95 % interval", "samples", "measurement"),
                rows=rows,
            ),
        ),
    )


def _interval(point: AccuracyPoint) -> str:
    if not point.samples:
        return ""
    low, high = wilson_interval(point.value, point.samples)
    return f"{100 * low:.1f} to {format_percent(high)}"


def agreement_section(agreement: Agreement | None) -> PageSection | None:
    """Show the comparison with Lava, layer by layer."""
    if agreement is None:
        return None
    differing = agreement.comparison.differing
    lead = f"{format_count(agreement.samples)} samples ran on our simulator and on real Lava. "
    if differing:
        lead += (
            f"{format_count(differing)} values differ: do not trust the deployed network before "
            "this is understood."
        )
    else:
        lead += "Every spike of every layer was the same."
    if agreement.seconds is not None:
        lead += f" Lava took {agreement.seconds:.1f} s."
    rows: Rows = [
        (
            layer.name,
            format_count(layer.compared),
            format_count(layer.spikes_first),
            format_count(layer.differing),
            "identical" if layer.is_equal else "DIFFERS",
        )
        for layer in agreement.comparison.layers
    ]
    table = PageTable(
        caption="Agreement with Lava by layer",
        columns=("layer", "values compared", "spikes", "differing", "verdict"),
        rows=rows,
    )
    return PageSection(
        anchor="agreement", title="Agreement with Lava", lead=lead, tables=(table,) if rows else ()
    )


def raster_section(raster: Raster | None) -> PageSection | None:
    """Show the spikes of one sample."""
    if raster is None or not raster.layers:
        return None
    return PageSection(
        anchor="raster",
        title="Spikes of one sample",
        lead=f"{raster.title[:1].upper()}{raster.title[1:]}. Each mark is a neuron that fired in "
        "that step.",
        plots=(
            Plot(
                svg=plot_raster(raster.layers),
                title="Spike raster",
                caption=f"A strip a layer, first neuron on top; at most {RASTER_NEURONS} neurons "
                "of a layer are drawn, evenly chosen. Input: values other than zero."
                + (
                    f" {RASTER_LAYERS} of {len(raster.layers)} layers are drawn."
                    if len(raster.layers) > RASTER_LAYERS
                    else ""
                ),
                is_wide=True,
            ),
        ),
        tables=(
            PageTable(
                caption="Activity of this sample",
                columns=("layer", "neurons", "spikes", "rate per neuron and step"),
                rows=[
                    (
                        layer.name,
                        format_count(layer.fired.shape[1]),
                        format_count(int(layer.fired.sum())),
                        format_percent(float(layer.fired.mean())),
                    )
                    for layer in raster.layers
                ],
            ),
        ),
    )


def training_section(summary: RunSummary) -> PageSection | None:
    """Show training and fine-tuning, epoch by epoch."""
    history = summary.history
    if not history:
        return None
    epochs = [float(epoch.epoch) for epoch in history]
    iterations = [float(epoch.iterations) for epoch in history]
    plots = [
        _curves(
            "Training loss",
            "Mean loss of each epoch, branches included.",
            [Series(label="loss", x=epochs, y=[epoch.loss for epoch in history])],
            name="loss",
            y_label="training loss",
        ),
        _curves(
            "Accuracy while training",
            "Training accuracy is measured while weights still change.",
            [
                Series(label="training", x=epochs, y=[100 * e.train_accuracy for e in history]),
                Series(
                    label="validation", x=epochs, y=[100 * e.validation_accuracy for e in history]
                ),
            ],
            name="learning",
            y_label="accuracy, %",
        ),
    ]
    shares = _known("λ", iterations, [epoch.branch_weight for epoch in history])
    if any(shares.y):
        plots.append(
            _curves(
                "Share of the branches",
                "Weight λ of the shortcut branches in the loss. They are removed after training.",
                [shares],
                name="branches",
                x_label="iteration",
                y_label="λ, share of the branches",
            )
        )
    rates = _known("rate", iterations, [epoch.learning_rate for epoch in history])
    if rates.y:
        plots.append(
            _curves(
                "Learning rate",
                "At the end of each epoch.",
                [rates],
                name="rate",
                x_label="iteration",
                y_label="learning rate",
            )
        )
    tables = [_epoch_table("Training", history)]
    if summary.fine_tuning:
        tables.append(_epoch_table("Fine-tuning in integers", summary.fine_tuning))
    return PageSection(
        anchor="training", title="Training", plots=tuple(plots), tables=tuple(tables)
    )


def _known(label: str, x: Sequence[float], values: Sequence[float | None]) -> Series:
    points = [(place, y) for place, y in zip(x, values, strict=True) if y is not None]
    return Series(label=label, x=[x for x, _ in points], y=[y for _, y in points])


def _curves(
    title: str,
    caption: str,
    series: Sequence[Series],
    *,
    name: str,
    y_label: str,
    x_label: str = "epoch",
) -> Plot:
    svg = plot_curves(series, name=name, x_label=x_label, y_label=y_label)
    return Plot(svg=svg, title=title, caption=caption)


def _epoch_table(caption: str, history: tuple[Epoch, ...]) -> PageTable:
    return PageTable(
        caption=f"{caption}: epochs",
        columns=("epoch", "loss", "training accuracy", "validation accuracy", "λ"),
        rows=[
            (
                str(epoch.epoch),
                f"{epoch.loss:.4f}",
                format_percent(epoch.train_accuracy),
                format_percent(epoch.validation_accuracy),
                "" if epoch.branch_weight is None else f"{epoch.branch_weight:.3f}",
            )
            for epoch in history
        ],
    )


def making_section(summary: RunSummary) -> PageSection | None:
    """Show the command, its inputs, versions and wall time."""
    tables = []
    if summary.seconds:
        rows: Rows = [(name, f"{value:.1f} s") for name, value in summary.seconds.items()]
        rows.append(("total", f"{sum(summary.seconds.values()):.1f} s"))
        tables.append(
            PageTable(caption="Wall time", columns=("stage", "time"), rows=rows, has_total=True)
        )
    if summary.versions:
        tables.append(
            PageTable(
                caption="Versions",
                columns=("software", "version"),
                rows=[(name, value) for name, value in summary.versions.items()],
            )
        )
    network = None if summary.report is None else summary.report.network
    files: Rows = []
    if network is not None and network.sha256 is not None:
        files.append(("network", network.path or "", network.sha256))
    files += [(file.role, file.path, file.sha256) for file in summary.files]
    if files:
        tables.append(
            PageTable(
                caption="Files", columns=("role", "file", "SHA-256"), rows=files, text_columns=3
            )
        )
    items = [f"Made: {summary.created}"] if summary.created else []
    if not (tables or items or summary.command):
        return None
    return PageSection(
        anchor="making",
        title="How this was made",
        tables=tuple(tables),
        items=tuple(items),
        code=summary.command or "",
    )
