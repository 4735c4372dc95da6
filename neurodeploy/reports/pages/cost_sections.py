"""Sections with the figures of a report: counts, energy, assumptions, constants."""

from __future__ import annotations

from neurodeploy.counting.neurobench import NOTES, VERSION as NEUROBENCH
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import RATE_BREAK_EVEN, SIGMA_BREAK_EVEN
from neurodeploy.energy.presets import Tier
from neurodeploy.reports.numbers import format_energy
from neurodeploy.reports.pages.elements import PageSection, PageTable, Plot, Rows
from neurodeploy.reports.pages.tables import (
    ENERGY_COLUMNS,
    LAYER_COLUMNS,
    TIER_NAMES,
    energy_rows,
    fact_rows,
    layer_rows,
)
from neurodeploy.reports.plots.energy_plots import plot_energy, plot_formats
from neurodeploy.reports.plots.layer_plots import MANY_LAYERS, plot_activity, plot_sops
from neurodeploy.reports.report import Report


def counts_section(report: Report) -> PageSection:
    """Show the exact counts, layer by layer."""
    low, high = SIGMA_BREAK_EVEN
    rate, steps, source = RATE_BREAK_EVEN
    return PageSection(
        anchor="counts",
        title="Operations",
        lead="Exact counts on the deployed integer weights. "
        f"{report.counts.sigma:.3f} spikes pass each synapse per inference; published studies that "
        f"include memory put the break-even with ordinary networks between {low} and {high}.",
        plots=(
            Plot(
                svg=plot_sops(report),
                title="Synaptic operations of each layer",
                caption="Filled: operations through weights other than zero. Dashed: "
                "zero weights charged as well."
                + _largest([(row.name, row.sops) for row in report.counts.layers]),
            ),
            Plot(
                svg=plot_activity(report),
                title="Activity of each layer",
                caption="Share of neurons that spike in a step. Dashed: "
                f"{100 * rate:g}\N{NO-BREAK SPACE}%, the mean rate below which one study finds "
                f"spiking networks ahead at {steps} steps ({source}).",
            ),
        ),
        tables=(
            PageTable(caption="Totals", columns=("figure", "value"), rows=fact_rows(report)),
            PageTable(
                caption="Counts by layer, mean of a sample",
                columns=LAYER_COLUMNS,
                rows=layer_rows(report),
                text_columns=3,
                has_total=True,
            ),
        ),
    )


def _largest(values: list[tuple[str, int]]) -> str:
    """Name the largest layers where the plot has no room for names."""
    if len(values) <= MANY_LAYERS:
        return ""
    ranked = sorted(enumerate(values, 1), key=lambda one: -one[1][1])[:3]
    return " Largest: " + ", ".join(f"{name} (layer {n})" for n, (name, _) in ranked) + "."


def neurobench_section(report: Report) -> PageSection:
    """Show the network in NeuroBench's metrics, and where they differ from the counts above."""
    rows: Rows = [
        (name, "not known" if value is None else f"{value:,.4f}".rstrip("0").rstrip("."))
        for name, value in report.neurobench.to_dict().items()
        if name not in ("version", "note")
    ]
    return PageSection(
        anchor="neurobench",
        title="In NeuroBench's metrics",
        lead=f"Mean of a sample, by the names and definitions of NeuroBench {NEUROBENCH}.",
        tables=(PageTable(caption="NeuroBench", columns=("metric", "value"), rows=rows),),
        items=NOTES,
    )


def energy_section(report: Report) -> PageSection:
    """Show every preset's energies, both sides, and their terms."""
    breakdown: Rows = [
        (
            pair.network.preset,
            "; ".join(
                f"{term} {format_energy(value)}"
                for term, value in pair.network.breakdown.items()
                if value
            ),
            pair.network.basis,
        )
        for pair in report.tiers
    ]
    plots = [
        Plot(
            svg=plot_energy(report),
            title="Energy by preset",
            caption="Tier A: arithmetic only. B: and memory. C: Loihi 1, per operation, "
            "where an ordinary network cannot run.",
            is_wide=True,
        )
    ]
    tables = [
        PageTable(
            caption="Energy by preset",
            columns=(*ENERGY_COLUMNS[:4], report.ann_label, *ENERGY_COLUMNS[5:]),
            rows=energy_rows(report),
            text_columns=2,
        )
    ]
    formats = _format_groups(report)
    if formats:
        plots.append(
            Plot(
                svg=plot_formats(formats),
                title=f"The deployed network and the {report.ann_label} in other numbers",
                caption="Fewer bits an activation save memory accesses; their products are charged "
                "as 8-bit ones. Narrow: as many bits as T steps of spikes can tell apart.",
                is_wide=True,
            )
        )
        tables.append(
            PageTable(
                caption="Both sides by number format",
                columns=("tier", "side", "low", "nominal", "high"),
                rows=[
                    (
                        heading,
                        label,
                        format_energy(pair.low),
                        format_energy(pair.nominal),
                        format_energy(pair.high),
                    )
                    for heading, rows in formats
                    for label, pair in rows
                ],
                text_columns=2,
            )
        )
    tables.append(
        PageTable(
            caption="Terms of the nominal values, and the meaning of the bounds",
            columns=("preset", "nominal value", "bounds"),
            rows=breakdown,
        )
    )
    return PageSection(
        anchor="energy",
        title="Energy of one inference",
        lead="Estimates from published constants, not measurements. Bars span low to high, marks "
        "are nominal values. Compare only within a row: both sides of a row have the same "
        "technology.",
        plots=tuple(plots),
        tables=tuple(tables),
    )


def _format_groups(report: Report) -> list[tuple[str, list[tuple[str, Energy]]]]:
    """Return, for tiers A and B, the deployed network and the ANN in each number format."""
    if not report.ann_formats:
        return []
    groups = []
    for tier, heading in ((Tier.ARITHMETIC, "A, arithmetic"), (Tier.MEMORY, "B, with memory")):
        rows = report.tier(tier)
        if rows:
            formats = [
                (f"ANN, {form.name}", form.arithmetic if tier is Tier.ARITHMETIC else form.memory)
                for form in report.ann_formats
            ]
            groups.append((heading, [("spiking, as deployed", rows[0].network), *formats]))
    return groups


def assumptions_section(report: Report) -> PageSection:
    """Show the assumptions, and the costs that are left out."""
    left_out = tuple(
        dict.fromkeys(
            f"Left out of tier {pair.network.tier.value} ({TIER_NAMES[pair.network.tier]}): "
            f"{', '.join(pair.network.excludes)}."
            for pair in report.tiers
        )
    )
    uncounted = () if report.onnx is None else report.onnx.macs.uncounted_ops
    if uncounted:
        left_out += (
            f"Left out of the ANN, operators that are not counted: {', '.join(uncounted)}.",
        )
    return PageSection(
        anchor="assumptions",
        title="Assumptions and costs left out",
        items=(*report.assumptions, *left_out),
    )


def sources_section(report: Report) -> PageSection:
    """List every constant with its source and the grade of its evidence."""
    constants: Rows = [
        (
            preset.name,
            key,
            f"{constant.value:g} {constant.unit}",
            constant.evidence,
            constant.source,
        )
        for preset in report.presets
        for key, constant in preset.constants.items()
    ]
    return PageSection(
        anchor="sources",
        title="Constants and their sources",
        lead="Evidence: source, read in the named source or log; abstract, read in the paper's "
        "abstract; secondary, a text that quotes the primary one; unverified, from memory; "
        "inferred, our own.",
        tables=(
            PageTable(
                caption="Presets",
                columns=("preset", "tier", "technology", "weakest evidence", "meaning"),
                rows=[
                    (
                        preset.name,
                        preset.tier.value,
                        preset.technology,
                        preset.evidence,
                        preset.description,
                    )
                    for preset in report.presets
                ],
                text_columns=4,
            ),
            PageTable(
                caption="Every constant",
                columns=("preset", "constant", "value", "evidence", "source"),
                rows=constants,
                text_columns=2,
            ),
        ),
    )
