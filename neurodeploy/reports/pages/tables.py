"""Tables of counts and energies, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neurodeploy.counting.count_tables import LayerCounts, Spread, Totals
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import SIGMA_BREAK_EVEN
from neurodeploy.energy.presets import Tier
from neurodeploy.reports.frame_figures import changed_figures, cost_figures
from neurodeploy.reports.numbers import (
    format_bounds,
    format_count,
    format_energy,
    format_percent,
    format_range,
)
from neurodeploy.reports.pages.elements import Rows
from neurodeploy.reports.report import Report
from neurodeploy.reports.statements import statements

TIER_NAMES = {
    Tier.ARITHMETIC: "arithmetic only",
    Tier.MEMORY: "arithmetic and memory",
    Tier.CHIP: "Loihi 1, per operation",
}

LAYER_COLUMNS = (
    "layer", "type", "input", "neurons", "events", "SOPs", "stored SOPs", "dense MACs", "spikes",
    "rate", "active", "zero weights",
)  # fmt: skip
FRAME_COLUMNS = ("of a frame", "mean", "first", "median", "largest", "fill", "unanswered")
ZERO_SKIPPING = ("zero-skipping", "frame- and zero-skipping")
TERMINAL_COLUMNS = ("layer", "type", "neurons", "events", "SOPs", "dense MACs", "spikes")
"""The part of `LAYER_COLUMNS` that fits a terminal of 80 columns."""
ENERGY_COLUMNS = ("tier", "preset", "network", "nominal", "ANN", "nominal", "evidence")


def layer_rows(report: Report) -> Rows:
    """Return one row a layer, and the totals; counts are means a sample."""
    samples = report.counts.samples

    def row(
        names: tuple[str, str, str], counts: LayerCounts | Totals, sops: Spread, zeros: float
    ) -> tuple[str, ...]:
        return (
            *names,
            format_count(counts.neurons),
            format_count(counts.events / samples),
            format_count(counts.sops / samples) + _deviation(sops),
            format_count(counts.sops_stored / samples),
            format_count(counts.dense_exact),
            format_count(counts.spikes / samples) if counts.neurons else "",
            _share(counts.spikes, counts.updates_dense),
            _share(counts.updates_active, counts.updates_dense),
            format_percent(zeros),
        )

    rows = []
    for one in report.counts.layers:
        names = (one.name, one.type, one.kind)
        rows.append(row(names, one, one.spread["sops"], one.zero_weight_fraction))
    totals, sops = report.counts.totals, report.counts.spread["sops"]
    return [*rows, row(("total", "", ""), totals, sops, report.network.zero_weight_fraction)]


def _deviation(spread: Spread) -> str:
    """Write the standard deviation over the samples, where there are several."""
    return f" ± {spread.deviation:,.0f}" if spread.samples > 1 else ""


def _share(part: int | None, whole: int) -> str:
    """Write a share of all neurons and steps; nothing where there are none, or it is not known."""
    return "" if part is None or not whole else format_percent(part / whole)


def frame_rows(report: Report) -> Rows:
    """Return what frames cost: one row a quantity, with the columns of `FRAME_COLUMNS`."""
    frames = report.frames
    if frames is None:
        return []
    names = ("mean", "first", "median", "largest", "fill", "rest")

    def row(name: str, figures: Mapping[str, float]) -> tuple[str, ...]:
        return (name, *(format_count(round(figures[key], 1)) for key in names))

    changed = changed_figures(frames)
    updates = format_count(frames.updates)
    latency = frames.updates * frames.latency
    return [
        row("SOPs", cost_figures(frames.all_sops)),
        row("messages", cost_figures(frames.messages)),
        ("neuron updates", *[updates] * 4, format_count(latency), ""),
        ("changed input", *(format_percent(changed[key]) for key in names[:4]), "", ""),
    ]


def frame_layer_rows(report: Report) -> Rows:
    """Return the SOPs of frames by layer."""
    frames = report.frames
    if frames is None:
        return []
    rows = []
    for name, costs in frames.sops.items():
        figures = cost_figures(costs)
        rows.append((name, *(format_count(round(value, 1)) for value in figures.values())))
    return rows


def frame_ann_rows(report: Report) -> Rows:
    """Return one row for the network and for each way to run the ANN, all for one frame."""
    frames = report.frames
    if frames is None:
        return []
    of_tiers = [next(iter(report.tier(tier)), None) for tier in (Tier.ARITHMETIC, Tier.MEMORY)]
    pairs = [pair for pair in of_tiers if pair is not None]
    names = [pair.network.preset.split(" + ")[0] for pair in pairs]

    def energy(one: Energy) -> str:
        return format_bounds(one.low / frames.frames, one.high / frames.frames)

    sops = report.sops_per_sample / frames.frames
    rows = [
        (
            "sigma-delta network",
            "1",
            f"{format_count(round(sops))} SOPs",
            *(energy(pair.network) for pair in pairs),
        )
    ]
    for ann in report.frame_anns:
        is_known = report.has_measured_zeros or ann.name not in ZERO_SKIPPING
        count = format_count(round(ann.macs / frames.frames))
        rows.append(
            (
                ann.name,
                f"{ann.passes / frames.frames:.3g}",
                f"{count} MACs" + ("" if is_known else ", estimated"),
                *(energy(ann.energies[name]) for name in names if name in ann.energies),
            )
        )
    return rows


def frame_ann_columns(report: Report) -> tuple[str, ...]:
    """Return the heads of `frame_ann_rows`."""
    names = {Tier.ARITHMETIC: "energy, arithmetic", Tier.MEMORY: "energy, with memory"}
    tiers = [names[tier] for tier in names if report.tier(tier)]
    return ("side", "passes", "operations", *tiers)


def energy_rows(report: Report) -> Rows:
    """Return one row a preset: both sides with their bounds."""
    return [
        (
            pair.network.tier.value,
            pair.network.preset,
            format_range(pair.network),
            format_energy(pair.network.nominal),
            "not applicable" if pair.ann is None else format_range(pair.ann),
            "" if pair.ann is None else format_energy(pair.ann.nominal),
            pair.network.evidence,
        )
        for pair in report.tiers
    ]


def fact_rows(report: Report) -> Rows:
    """Return the totals that fit no table, as pairs."""
    counts, low, high = report.counts, *SIGMA_BREAK_EVEN
    effective: Rows = []
    if report.ann.macs_effective is not None:
        effective.append(
            ("the same without zeros", f"{report.ann.passes * report.ann.macs_effective:,.0f}")
        )
    last = list(report.accuracy.values())[-1:]
    accuracies: Rows = [("accuracy", format_percent(value)) for value in last]
    if report.ann_accuracy is not None:
        name = f"accuracy of the {report.ann_label}"
        accuracies.append((name, format_percent(report.ann_accuracy)))
    return [
        *accuracies,
        ("samples", format_count(counts.samples)),
        ("steps", format_count(counts.steps)),
        ("SOPs a sample", f"{report.sops_per_sample:,.0f}{_deviation(counts.spread['sops'])}"),
        (
            f"MACs of the {report.ann_label}"
            + (f", {report.ann.passes} frames" if report.ann.passes > 1 else ""),
            format_count(report.ann.macs_border_exact),
        ),
        ("the same by the textbook", format_count(report.ann.macs_standard)),
        *effective,
        ("spikes per synapse", f"{report.sigma:.3f}"),
        ("published break-even", f"{low} to {high}"),
        ("neuron updates a sample", format_count(counts.totals.updates_dense / counts.samples)),
    ]


def terminal(report: Report) -> RenderableType:
    """Return a report as the command line prints it."""
    facts = Table.grid(padding=(0, 2))
    for name, value in fact_rows(report):
        facts.add_row(Text(name, style="dim"), Text(value))
    verdict, *others = statements(report)
    chosen = [LAYER_COLUMNS.index(name) for name in TERMINAL_COLUMNS]
    parts: list[RenderableType] = [
        Text(verdict, style="bold"),
        facts,
        _table(
            "Counts, mean of a sample",
            TERMINAL_COLUMNS,
            [tuple(row[n].partition(" ±")[0] for n in chosen) for row in layer_rows(report)],
        ),
        *_frame_tables(report),
        _table(
            "Energy of one inference" + _extent(report),
            ("tier", "preset", "network", report.ann_label),
            [(tier, preset, ours, twin) for tier, preset, ours, _, twin, *_ in energy_rows(report)],
        ),
        Text(
            "Tier A: arithmetic only. B: and memory. C: Loihi 1, per operation. "
            "Estimates, not measurements.",
            style="dim",
        ),
    ]
    remarks = Table.grid(padding=(0, 1))
    for sentence in others:
        remarks.add_row(Text("-"), Text(sentence))
    for rule in report.rules:
        if not rule.holds:
            text = f"Rule that does not hold: {rule.name} ({rule.found})."
            remarks.add_row(Text("!"), Text(text))
    for warning in report.warnings:
        remarks.add_row(Text("!"), Text(f"Note: {warning}", style="yellow"))
    return Group(*parts, remarks)


def _extent(report: Report) -> str:
    """Return the length of a sequence, where an inference is one."""
    return "" if report.frames is None else f": a sequence of {report.frames.frames} frames"


def _frame_tables(report: Report) -> list[Table]:
    if report.frames is None:
        return []
    title = f"One frame: the network, and the {report.ann_label}"
    return [
        _table("Frames", FRAME_COLUMNS, frame_rows(report), 1),
        _table(title, frame_ann_columns(report), frame_ann_rows(report), 1),
    ]


def _table(title: str, columns: Sequence[str], rows: Rows, text_columns: int = 2) -> Table:
    """Return a table for the terminal, whose first columns are text."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for number, column in enumerate(columns):
        side: Literal["left", "right"] = "left" if number < text_columns else "right"
        table.add_column(column, justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row), style="bold" if row[0] == "total" else None)
    return table
