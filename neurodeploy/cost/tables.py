"""The tables of a report, and what the terminal shows of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neurodeploy.cost.presets import Tier
from neurodeploy.cost.summary import SIGMA_BREAK_EVEN, Report
from neurodeploy.cost.units import format_count, format_energy, format_percent, format_range

Rows = list[tuple[str, ...]]

TIER_NAMES = {
    Tier.ARITHMETIC: "arithmetic only",
    Tier.MEMORY: "arithmetic and memory",
    Tier.CHIP: "Loihi 1, per operation",
}

LAYER_COLUMNS = (
    "layer",
    "type",
    "input",
    "neurons",
    "events",
    "SOPs",
    "stored SOPs",
    "dense MACs",
    "spikes",
    "zero weights",
)
TERMINAL_COLUMNS = ("layer", "type", "neurons", "events", "SOPs", "dense MACs", "spikes")
"""What of `LAYER_COLUMNS` fits a terminal of 80 columns; the page and the JSON have all."""
ENERGY_COLUMNS = ("tier", "preset", "network", "nominal", "ANN", "nominal", "evidence")


def layer_rows(report: Report) -> Rows:
    """Give one row a layer, and the totals; counts are means a sample."""
    samples = report.counts.samples
    rows: Rows = [
        (
            layer.name,
            layer.type,
            layer.kind,
            format_count(layer.neurons),
            format_count(layer.events / samples),
            format_count(layer.sops / samples),
            format_count(layer.sops_stored / samples),
            format_count(layer.dense_exact),
            format_count(layer.spikes / samples),
            format_percent(layer.zero_weight_fraction),
        )
        for layer in report.counts.layers
    ]
    totals = report.counts.totals
    rows.append(
        (
            "total",
            "",
            "",
            format_count(totals.neurons),
            format_count(totals.events / samples),
            format_count(totals.sops / samples),
            format_count(totals.sops_stored / samples),
            format_count(totals.dense_exact),
            format_count(totals.spikes / samples),
            format_percent(report.network.zero_weight_fraction),
        )
    )
    return rows


def energy_rows(report: Report) -> Rows:
    """Give one row a preset: both sides with their bounds."""
    return [
        (
            one.network.tier.value,
            one.network.preset,
            format_range(one.network),
            format_energy(one.network.nominal),
            "not applicable" if one.ann is None else format_range(one.ann),
            "" if one.ann is None else format_energy(one.ann.nominal),
            one.network.evidence,
        )
        for one in report.tiers
    ]


def fact_rows(report: Report) -> Rows:
    """Give the totals that fit no table, as pairs."""
    counts, low, high = report.counts, *SIGMA_BREAK_EVEN
    effective = []
    if report.ann.macs_effective is not None:
        effective.append(("the same without zeros", f"{report.ann.macs_effective:,.0f}"))
    return [
        ("samples", format_count(counts.samples)),
        ("steps", format_count(counts.steps)),
        ("SOPs a sample", f"{report.sops_per_sample:,.0f} ± {counts.sops_by_sample.std():,.0f}"),
        (f"MACs of the {report.ann_label}", format_count(report.ann.macs_border_exact)),
        ("the same by the textbook", format_count(report.ann.macs_standard)),
        *effective,
        ("spikes per synapse", f"{counts.sigma:.3f}"),
        ("published break-even", f"{low} to {high}"),
        ("neuron updates a sample", format_count(counts.totals.updates_dense / counts.samples)),
    ]


def terminal(report: Report) -> RenderableType:
    """Give what the command line prints of a report."""
    facts = Table.grid(padding=(0, 2))
    for name, value in fact_rows(report):
        facts.add_row(Text(name, style="dim"), Text(value))
    parts: list[RenderableType] = [
        facts,
        _table(
            "Counts, mean of a sample",
            TERMINAL_COLUMNS,
            [_chosen(row) for row in layer_rows(report)],
            text_columns=2,
        ),
        _table(
            "Energy of one inference",
            ("tier", "preset", "network", report.ann_label),
            [(tier, preset, ours, twin) for tier, preset, ours, _, twin, *_ in energy_rows(report)],
            text_columns=2,
        ),
        Text(
            "Tier A: arithmetic only. B: and memory. C: Loihi 1, per operation. "
            "Estimates, not measurements.",
            style="dim",
        ),
    ]
    parts += [Text(line, style="dim") for line in verdict_lines(report)]
    parts += [Text(f"note: {one}", style="yellow") for one in report.warnings]
    return Group(*parts)


def verdict_lines(report: Report) -> list[str]:
    """Say in a few sentences what may be concluded, what matters most, and how many cores."""
    failed = [rule for rule in report.rules if not rule.holds]
    lines = []
    if report.headline is not None:
        head = report.headline
        lines.append(
            f"Network / ANN with memory ({head.preset}): {head.ratio:.3g} ({head.low:.3g} to "
            f"{head.high:.3g}); all rules of a fair comparison hold."
        )
    else:
        lines.append("No ratio is stated as a result, since it does not hold that:")
        lines += [f"- {rule.name} ({rule.found})" for rule in failed]
    if report.sensitivities:
        most = report.sensitivities[0]
        lines.append(
            f"What matters most: {most.assumption}, a factor of {most.factor:.3g} ({most.quantity})"
            "."
        )
    for fit in report.fits:
        cores = "does not fit" if fit.cores_low is None else f"{fit.cores_text} cores"
        lines.append(f"{fit.target}: {cores}, an estimate.")
    return lines


def _chosen(row: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row[LAYER_COLUMNS.index(name)] for name in TERMINAL_COLUMNS)


def _table(title: str, columns: Sequence[str], rows: Rows, *, text_columns: int) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < text_columns else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row), style="bold" if row[0] == "total" else None)
    return table
