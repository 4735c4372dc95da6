"""The parts of a page that tell of a run: accuracy, agreement, raster, training, making."""

from __future__ import annotations

from neurodeploy.reports.activity import Raster
from neurodeploy.reports.numbers import format_count, format_percent, wilson_interval
from neurodeploy.reports.pages.elements import (
    PageTable,
    Plot,
    Section,
)
from neurodeploy.reports.pages.tables import Rows
from neurodeploy.reports.plots.report_plots import (
    RASTER_LAYERS,
    RASTER_NEURONS,
    Series,
    plot_accuracy,
    plot_curves,
    plot_raster,
)
from neurodeploy.reports.run_summary import AccuracyPoint, Agreement, EpochPoint, RunSummary


def accuracy_section(summary: RunSummary) -> Section | None:
    """Show accuracy from stage to stage."""
    if not summary.accuracy:
        return None
    numbers = {one.samples for one in summary.accuracy}
    rows: Rows = [
        (
            one.stage,
            format_percent(one.value),
            _interval(one),
            format_count(one.samples) if one.samples else "",
            one.note,
        )
        for one in summary.accuracy
    ]
    return Section(
        anchor="accuracy",
        title="Accuracy through the pipeline",
        lead="What deployment costs: the same network after each step on its way to the chip.",
        plots=(
            Plot(
                svg=plot_accuracy(summary.accuracy),
                title="Accuracy after each stage",
                caption="Accuracy on test samples; thin lines are 95 % intervals."
                + (
                    " Hollow: on other samples than the first, not to be compared with it."
                    if len(numbers) > 1
                    else ""
                ),
            ),
        ),
        tables=(
            PageTable(
                caption="Accuracy",
                columns=("stage", "accuracy", "95 % interval", "samples", "what was measured"),
                rows=rows,
                text_columns=1,
            ),
        ),
    )


def _interval(point: AccuracyPoint) -> str:
    if not point.samples:
        return ""
    low, high = wilson_interval(point.value, point.samples)
    return f"{100 * low:.1f} to {format_percent(high)}"


def agreement_section(agreement: Agreement | None) -> Section | None:
    """Show the comparison with Lava, layer by layer."""
    if agreement is None:
        return None
    is_equal = agreement.differing_spikes == 0
    lead = (
        f"{format_count(agreement.samples)} samples ran on our simulator and on real Lava. "
        + ("Every spike of every layer was the same." if is_equal else "")
        + (
            ""
            if is_equal
            else f"{format_count(agreement.differing_spikes)} values differ: do not trust the "
            "deployed network before this is understood."
        )
    )
    if agreement.seconds is not None:
        lead += f" Lava took {agreement.seconds:.1f} s."
    rows: Rows = [
        (
            layer.name,
            format_count(layer.compared),
            format_count(layer.spikes),
            format_count(layer.differing),
            "identical" if layer.differing == 0 else "DIFFERS",
        )
        for layer in agreement.layers
    ]
    table = PageTable(
        caption="Agreement with Lava by layer",
        columns=("layer", "values compared", "spikes", "differing", "verdict"),
        rows=rows,
        text_columns=1,
    )
    return Section(
        anchor="agreement", title="Agreement with Lava", lead=lead, tables=(table,) if rows else ()
    )


def raster_section(raster: Raster | None) -> Section | None:
    """Show the spikes of one sample."""
    if raster is None or not raster.layers:
        return None
    return Section(
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
                text_columns=1,
            ),
        ),
    )


def training_section(summary: RunSummary) -> Section | None:
    """Show training and fine-tuning, epoch by epoch."""
    history = summary.history
    if not history:
        return None
    epochs = tuple(float(one.epoch) for one in history)
    plots = [
        Plot(
            svg=plot_curves(
                [Series(label="loss", x=epochs, y=tuple(one.loss for one in history))],
                name="loss",
                x_label="epoch",
                y_label="training loss",
            ),
            title="Training loss",
            caption="Mean loss of each epoch, branches included.",
        ),
        Plot(
            svg=plot_curves(
                [
                    Series(
                        label="training",
                        x=epochs,
                        y=tuple(100 * one.train_accuracy for one in history),
                    ),
                    Series(
                        label="validation",
                        x=epochs,
                        y=tuple(100 * one.validation_accuracy for one in history),
                    ),
                ],
                name="learning",
                x_label="epoch",
                y_label="accuracy, %",
            ),
            title="Accuracy while training",
            caption="Training accuracy is measured while weights still change.",
        ),
    ]
    shares = [(one.iterations, one.branch_weight) for one in history]
    known = [(float(x), y) for x, y in shares if y is not None]
    if known and any(y for _, y in known):
        plots.append(
            Plot(
                svg=plot_curves(
                    [Series(label="λ", x=tuple(x for x, _ in known), y=tuple(y for _, y in known))],
                    name="branches",
                    x_label="iteration",
                    y_label="λ, share of the branches",
                ),
                title="Share of the branches",
                caption="Weight λ of the shortcut branches in the loss. They are removed after "
                "training.",
            )
        )
    rates = [(float(one.iterations), one.learning_rate) for one in history]
    known = [(x, y) for x, y in rates if y is not None]
    if known:
        plots.append(
            Plot(
                svg=plot_curves(
                    [
                        Series(
                            label="rate", x=tuple(x for x, _ in known), y=tuple(y for _, y in known)
                        )
                    ],
                    name="rate",
                    x_label="iteration",
                    y_label="learning rate",
                ),
                title="Learning rate",
                caption="At the end of each epoch.",
            )
        )
    tables = [_epoch_table("Training", history)]
    if summary.fine_tuning:
        tables.append(_epoch_table("Fine-tuning in integers", summary.fine_tuning))
    return Section(anchor="training", title="Training", plots=tuple(plots), tables=tuple(tables))


def _epoch_table(caption: str, history: tuple[EpochPoint, ...]) -> PageTable:
    return PageTable(
        caption=f"{caption}: epochs",
        columns=("epoch", "loss", "training accuracy", "validation accuracy", "λ"),
        rows=[
            (
                str(one.epoch),
                f"{one.loss:.4f}",
                format_percent(one.train_accuracy),
                format_percent(one.validation_accuracy),
                "" if one.branch_weight is None else f"{one.branch_weight:.3f}",
            )
            for one in history
        ],
        text_columns=1,
    )


def making_section(summary: RunSummary) -> Section | None:
    """Say with what, when and from what the page was made."""
    tables = []
    if summary.seconds:
        rows: Rows = [(name, f"{value:.1f} s") for name, value in summary.seconds.items()]
        rows.append(("total", f"{sum(summary.seconds.values()):.1f} s"))
        tables.append(
            PageTable(
                caption="Wall time",
                columns=("stage", "time"),
                rows=rows,
                text_columns=1,
                has_total=True,
            )
        )
    if summary.versions:
        tables.append(
            PageTable(
                caption="Versions",
                columns=("software", "version"),
                rows=[(name, value) for name, value in summary.versions.items()],
                text_columns=1,
            )
        )
    network = None if summary.report is None else summary.report.network
    files: Rows = []
    if network is not None and network.sha256 is not None:
        files.append(("network", network.path or "", network.sha256))
    files += [(one.role, one.path, one.sha256) for one in summary.files]
    if files:
        tables.append(
            PageTable(
                caption="Files", columns=("role", "file", "SHA-256"), rows=files, text_columns=3
            )
        )
    items = [f"Made: {summary.created}"] if summary.created else []
    if not (tables or items or summary.command):
        return None
    return Section(
        anchor="making",
        title="How this was made",
        tables=tuple(tables),
        items=tuple(items),
        code=summary.command or "",
    )
