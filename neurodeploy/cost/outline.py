"""What stands on the page of a run, in order; HTML and Markdown show the same.

What `RunSummary` leaves None or empty does not appear.
"""

from __future__ import annotations

from collections.abc import Sequence

from neurodeploy.cost.energy import Energy
from neurodeploy.cost.presets import Tier
from neurodeploy.cost.report_sections import (
    assumptions_section,
    counts_section,
    energy_section,
    sources_section,
)
from neurodeploy.cost.run_sections import (
    accuracy_section,
    agreement_section,
    making_section,
    raster_section,
    training_section,
)
from neurodeploy.cost.run_summary import RunSummary
from neurodeploy.cost.sections import Card, Outline, Section
from neurodeploy.cost.summary import Report
from neurodeploy.cost.tables import TIER_NAMES
from neurodeploy.cost.units import format_count, format_energy, format_percent
from neurodeploy.cost.verdict import fairness_section, fit_section, sensitivity_section


def outline_of(summary: RunSummary) -> Outline:
    """Give everything that a page of the run shows."""
    return Outline(
        title=summary.title,
        description=summary.description,
        cards=tuple(_cards(summary)),
        sections=tuple(_sections(summary)),
    )


def _sections(summary: RunSummary) -> list[Section]:
    report = summary.report
    sections = [
        accuracy_section(summary),
        agreement_section(summary.agreement),
        None if report is None else counts_section(report),
        None if report is None else energy_section(report),
        None if report is None else fairness_section(report),
        None if report is None else sensitivity_section(report),
        None if report is None else fit_section(report),
        raster_section(summary.raster),
        training_section(summary),
        None if report is None else assumptions_section(report),
        None if report is None else sources_section(report),
        making_section(summary),
        None
        if summary.recipe is None
        else Section(
            anchor="recipe",
            title="Recipe",
            lead="Everything this run depended on; train again with it.",
            code=summary.recipe,
        ),
    ]
    return [section for section in sections if section is not None]


def _cards(summary: RunSummary) -> list[Card]:
    cards = []
    deployed = next((one for one in reversed(summary.accuracy) if one.stage != "Lava"), None)
    if deployed is not None:
        note = f"{deployed.stage} network"
        if deployed.samples:
            note += f", {format_count(deployed.samples)} test samples"
        cards.append(Card(label="Accuracy", value=format_percent(deployed.value), note=note))
    if summary.agreement is not None:
        differing = summary.agreement.differing_spikes
        cards.append(
            Card(
                label="Agreement with Lava",
                value="identical" if differing == 0 else f"{format_count(differing)} differ",
                note=f"every spike of every layer, {format_count(summary.agreement.samples)} "
                "samples",
            )
        )
    report = summary.report
    if report is not None:
        cards.append(
            Card(
                label="Synaptic operations",
                value=format_count(round(report.sops_per_sample)),
                note=f"a sample, all {report.counts.steps} steps",
            )
        )
        cards.append(
            Card(
                label="ReLU twin",
                value=format_count(report.ann.macs_border_exact),
                note="MACs, one pass of an ordinary network of the same shape",
            )
        )
        cards += _energy_cards(report)
    return cards


def _energy_cards(report: Report) -> list[Card]:
    """One card for each of tiers A and B: the span over presets, both sides."""
    cards = []
    for tier in (Tier.ARITHMETIC, Tier.MEMORY):
        rows = report.tier(tier)
        twins = [row.ann for row in rows if row.ann is not None]
        if not rows or not twins:
            continue
        network = _span([row.network for row in rows])
        many = f" over {len(rows)} presets" if len(rows) > 1 else ""
        cards.append(
            Card(
                label=f"Energy, {TIER_NAMES[tier]}",
                value=network,
                note=f"estimate{many}; ReLU twin {_span(twins)}",
            )
        )
    return cards


def _span(energies: Sequence[Energy]) -> str:
    """Write the lowest and the highest bound; number and unit stay on one line."""
    low, high = min(one.low for one in energies), max(one.high for one in energies)
    texts = [format_energy(value).replace(" ", "\N{NO-BREAK SPACE}") for value in (low, high)]
    return " to ".join(dict.fromkeys(texts))
