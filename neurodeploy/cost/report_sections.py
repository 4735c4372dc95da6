"""The parts of a page that hold the figures of a report: counts, energy, constants."""

from __future__ import annotations

from neurodeploy.cost.plots import plot_energy, plot_sops
from neurodeploy.cost.presets import EnergyPreset, Tier
from neurodeploy.cost.sections import PageTable, Plot, Section
from neurodeploy.cost.summary import PRESETS, SIGMA_BREAK_EVEN, Comparison, Report
from neurodeploy.cost.tables import (
    ENERGY_COLUMNS,
    LAYER_COLUMNS,
    TIER_NAMES,
    Rows,
    energy_rows,
    fact_rows,
    layer_rows,
)
from neurodeploy.cost.units import format_energy
from neurodeploy.errors import TargetError


def counts_section(report: Report) -> Section:
    """Show the exact counts, layer by layer."""
    low, high = SIGMA_BREAK_EVEN
    return Section(
        anchor="counts",
        title="Operations",
        lead="Exact counts on the deployed integer weights. "
        f"{report.counts.sigma:.3f} spikes pass each synapse per inference; published studies that "
        f"include memory put the break-even with ordinary networks between {low} and {high}.",
        plots=(
            Plot(
                svg=plot_sops(report),
                title="Synaptic operations of each layer",
                caption="Filled: operations through weights other than zero. Dashed outline: "
                "zero weights charged as well.",
            ),
        ),
        tables=(
            PageTable(
                caption="Counts by layer, mean of a sample",
                columns=LAYER_COLUMNS,
                rows=layer_rows(report),
                text_columns=3,
                has_total=True,
            ),
            PageTable(
                caption="Totals",
                columns=("figure", "value"),
                rows=fact_rows(report),
                text_columns=1,
            ),
        ),
    )


def energy_section(report: Report) -> Section:
    """Show every preset's energies, both sides, and what they consist of."""
    breakdown: Rows = [
        (one.network.preset, term, format_energy(value), one.network.basis if not number else "")
        for one in report.tiers
        if one.network.preset == report.tiers[0].network.preset or one.network.tier is Tier.MEMORY
        for number, (term, value) in enumerate(one.network.breakdown.items())
    ]
    return Section(
        anchor="energy",
        title="Energy of one inference",
        lead="Estimates from published constants, not measurements. Bars span low to high, marks "
        "are nominal values. Compare only within a row: both sides of a row have the same "
        "technology. No ratio is stated, because the answer depends on the row.",
        plots=(
            Plot(
                svg=plot_energy(report),
                title="Energy by preset",
                caption="Tier A: arithmetic only. B: and memory. C: Loihi 1, per operation, "
                "where an ordinary network cannot run.",
                is_wide=True,
            ),
        ),
        tables=(
            PageTable(
                caption="Energy by preset",
                columns=ENERGY_COLUMNS,
                rows=energy_rows(report),
                text_columns=2,
            ),
            PageTable(
                caption="What the nominal values consist of",
                columns=("preset", "term", "energy", "bounds"),
                rows=breakdown,
                text_columns=2,
            ),
        ),
    )


def assumptions_section(report: Report) -> Section:
    """Say what is assumed and what is left out."""
    left_out = tuple(
        dict.fromkeys(
            f"Left out of tier {one.network.tier.value} ({TIER_NAMES[one.network.tier]}): "
            f"{', '.join(one.network.excludes)}."
            for one in report.tiers
        )
    )
    return Section(
        anchor="assumptions",
        title="Assumptions and what is left out",
        items=(
            *(f"Note: {one}" for one in report.warnings),
            *report.assumptions,
            *left_out,
        ),
    )


def sources_section(report: Report) -> Section | None:
    """List every constant with its source and the grade of its evidence."""
    rows: Rows = []
    for one in report.tiers:
        rows += _preset_rows(one)
    if not rows:
        return None
    return Section(
        anchor="sources",
        title="Constants and their sources",
        lead="Evidence: source, read in the named source or log; abstract; secondary, a text that "
        "quotes the primary one; unverified, from memory; inferred, our own.",
        tables=(
            PageTable(
                caption="Every constant",
                columns=("preset", "constant", "value", "evidence", "source"),
                rows=rows,
                text_columns=2,
            ),
        ),
    )


def _preset_rows(comparison: Comparison) -> Rows:
    """List the constants of a preset that comes with neurodeploy; a user's own has its file."""
    name = comparison.network.preset.split(" + ")[0]
    if name not in PRESETS:
        return []
    try:
        preset = EnergyPreset.load(name)
    except TargetError:
        return []
    return [
        (preset.name, key, f"{one.value:g} {one.unit}", one.evidence, one.source)
        for key, one in preset.constants.items()
    ]
