"""The section about an ordinary network's conversion to sigma-delta neurons."""

from __future__ import annotations

from neurodeploy.reports.numbers import format_count, format_percent
from neurodeploy.reports.pages.elements import PageSection, PageTable, Rows
from neurodeploy.reports.report import RunSummary


def conversion_section(summary: RunSummary) -> PageSection | None:
    """Show how close the integers are to the network, and to their limits."""
    found = summary.conversion
    if found is None:
        return None
    has_labels = summary.report is not None and summary.report.ann_accuracy is not None
    kind = "accuracy" if has_labels else "same answers"
    stages: Rows = [("network in floats", format_percent(found.baseline), "0.0 %", "")]
    for name, trial in (("rounded", found.rounded), ("with thresholds", found.final)):
        stages.append(
            (
                name,
                format_percent(trial.accuracy),
                format_percent(trial.error),
                format_count(round(trial.operations)),
            )
        )
    layers: Rows = [
        (
            row.name,
            "" if row.threshold is None else str(row.threshold),
            f"{row.weight_error:.2f}",
            *map(format_count, (row.sum, row.state, row.message)),
            f"{row.margin:.1f}",
        )
        for row in found.margins
    ]
    drift, proofs = found.drift, found.proofs
    inputs = f"inputs from {proofs.low} to {proofs.high}"
    growth: Rows = [
        (format_count(number), format_percent(error))
        for number, error in zip(drift.frames, drift.errors, strict=True)
    ]
    limits: Rows = [
        (
            one.layer,
            one.quantity,
            *map(format_count, (one.limit, one.peak)),
            f"{one.margin:.1f}",
            {"every input": "every input", "inputs in range": inputs}.get(
                one.scope, f"{proofs.frames} frames"
            ),
        )
        for one in proofs.tightest
    ]
    columns = ("layer", "threshold", "weight error", "sum", "state", "message", "margin")
    return PageSection(
        "conversion",
        "From the network to integers",
        f"The sigma-delta network answers within {format_percent(found.final.error)} of the "
        "network's results (rms, in their deviations) on these frames. A frame's integers are its "
        f"values times {found.input_scale:g}, rounded; its results the sums of the last layer over "
        f"{found.output_scale:g}, {found.latency} steps later.",
        tables=(
            PageTable(
                "Steps of the conversion, fill of the pipeline included",
                ("stage", kind, "rms error", "SOPs a frame"),
                stages,
                stays_open=True,
            ),
            PageTable(
                "Largest integers of each layer, and how many times they fit into their limits",
                columns,
                layers,
            ),
            PageTable("Error without a refresh", ("frames since the start", "rms error"), growth),
            PageTable(
                f"Limits over {proofs.steps} steps, and the inputs that they hold for",
                ("layer", "limit of", "limit", "largest seen", "margin", "holds for"),
                limits,
                2,
            ),
        ),
        items=found.remarks,
    )
