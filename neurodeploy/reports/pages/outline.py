"""The page of a run: its cards and sections in order, and the files that show them.

HTML and Markdown have the same content. Parts that `RunSummary` leaves None or empty do not appear.
"""

from __future__ import annotations

from pathlib import Path

from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.presets import Tier
from neurodeploy.files import require_output, write_text
from neurodeploy.reports.activity import Activity
from neurodeploy.reports.numbers import (
    format_count,
    format_energy,
    format_percent,
    wilson_interval,
)
from neurodeploy.reports.pages.activity_sections import (
    maps_section,
    membranes_section,
    rates_section,
    readout_section,
)
from neurodeploy.reports.pages.cost_sections import (
    assumptions_section,
    counts_section,
    energy_section,
    neurobench_section,
    sources_section,
)
from neurodeploy.reports.pages.elements import Card, Outline, PageSection
from neurodeploy.reports.pages.glossary import explain_words
from neurodeploy.reports.pages.rendering import render_html, render_markdown
from neurodeploy.reports.pages.run_sections import (
    accuracy_section,
    agreement_section,
    making_section,
    raster_section,
    training_section,
)
from neurodeploy.reports.pages.tables import TIER_NAMES
from neurodeploy.reports.pages.verdict_sections import (
    context_section,
    fairness_section,
    fit_section,
    measured_section,
    sensitivity_section,
    verdict_section,
)
from neurodeploy.reports.plots.activity_plots import SUFFIXES, save_drawing
from neurodeploy.reports.report import Report
from neurodeploy.reports.run_summary import RunSummary
from neurodeploy.reports.statements import verdict_in_short


def outline_of(summary: RunSummary) -> Outline:
    """Return everything that a page of the run shows."""
    cards = tuple(_cards(summary))
    return Outline(
        title=summary.title,
        description=summary.description,
        cards=cards,
        sections=tuple(explain_words(cards, _sections(summary))),
    )


def _sections(summary: RunSummary) -> list[PageSection]:
    report = summary.report
    sections = [
        None if report is None else verdict_section(report),
        accuracy_section(summary),
        agreement_section(summary.agreement),
        None if report is None else counts_section(report),
        None if report is None else neurobench_section(report),
        None if report is None else energy_section(report),
        None if report is None else measured_section(report),
        None if report is None else fairness_section(report),
        None if report is None else sensitivity_section(report),
        None if report is None else fit_section(report),
        rates_section(summary.activity, has_plot=report is None),
        raster_section(summary.raster),
        readout_section(summary.activity),
        maps_section(summary.activity),
        membranes_section(summary.activity),
        training_section(summary),
        None if report is None else context_section(report),
        None if report is None else assumptions_section(report),
        None if report is None else sources_section(report),
        making_section(summary),
        None
        if summary.recipe is None
        else PageSection(
            anchor="recipe",
            title="Recipe",
            lead="Everything this run depended on; train again with it.",
            code=summary.recipe,
        ),
    ]
    return [section for section in sections if section is not None]


def _cards(summary: RunSummary) -> list[Card]:
    cards = []
    whole = [point for point in summary.accuracy if point.samples == summary.accuracy[0].samples]
    deployed = next((point for point in reversed(whole) if point.stage != "Lava"), None)
    if deployed is not None:
        note = f"{deployed.stage} network"
        if deployed.samples:
            low, high = wilson_interval(deployed.value, deployed.samples)
            note += (
                f", {format_count(deployed.samples)} test samples; 95 % interval "
                f"{format_percent(low)} to {format_percent(high)}"
            )
        cards.append(Card(label="Accuracy", value=format_percent(deployed.value), note=note))
    if summary.agreement is not None:
        differing = summary.agreement.comparison.differing
        cards.append(
            Card(
                label="Agreement with Lava",
                value="identical" if differing == 0 else f"{format_count(differing)} differ",
                note=f"every spike of every layer, {format_count(summary.agreement.samples)} "
                "samples",
            )
        )
    if summary.report is not None:
        cards += _report_cards(summary.report)
    return cards


def _report_cards(report: Report) -> list[Card]:
    """Return operations, the first preset of tiers A and B, and whether a ratio is stated."""
    cards = [
        Card(
            label="Synaptic operations",
            value=format_count(round(report.sops_per_sample)),
            note=f"a sample, all {report.counts.steps} steps; one pass of the {report.ann_label}: "
            f"{format_count(report.ann.macs_border_exact)} MACs",
        )
    ]
    for tier in (Tier.ARITHMETIC, Tier.MEMORY):
        first = next(iter(report.tier(tier)), None)
        if first is not None and first.ann is not None:
            cards.append(
                Card(
                    label=f"Energy, {TIER_NAMES[tier]}",
                    value=_range(first.network),
                    note=f"estimate, {first.network.preset}; {report.ann_label} "
                    f"{_range(first.ann)}",
                )
            )
    failed = sum(not rule.holds for rule in report.rules)
    cards.insert(
        0,
        Card(
            label="Does it pay?",
            value=verdict_in_short(report),
            note=f"memory included; {failed} of {len(report.rules)} rules of a fair comparison "
            f"{'does' if failed == 1 else 'do'} not hold"
            if failed
            else "memory included; all rules of a fair comparison hold",
        ),
    )
    return cards


def _range(energy: Energy) -> str:
    """Write the bounds; number and unit stay on one line."""
    texts = [
        format_energy(value).replace(" ", "\N{NO-BREAK SPACE}")
        for value in (energy.low, energy.high)
    ]
    return " to ".join(dict.fromkeys(texts))


def save_plot(activity: Activity, path: Path | str, *, title: str, description: str = "") -> None:
    """Write the activity of a network: a page for `.html`, else one drawing, `.svg` or `.png`.

    Raises:
        OutputError: If it cannot be written, or its suffix is another.
    """
    path = Path(path)
    require_output(path, SUFFIXES)
    if path.suffix.lower() != ".html":
        save_drawing(activity, path)
        return
    sections = (
        rates_section(activity),
        raster_section(activity.raster),
        readout_section(activity),
        maps_section(activity),
        membranes_section(activity),
    )
    outline = Outline(
        title=title,
        description=description,
        sections=tuple(section for section in sections if section is not None),
    )
    write_text(path, render_html(outline))


def write_page(summary: RunSummary, path: Path | str) -> None:
    """Write the page of a run, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, render_html(outline_of(summary)))


def write_markdown(summary: RunSummary, path: Path | str) -> None:
    """Write the page of a run as Markdown, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, render_markdown(outline_of(summary)))
