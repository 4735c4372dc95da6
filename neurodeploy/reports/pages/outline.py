"""The page of a run: its cards and sections in order, and the files that show them.

HTML and Markdown have the same content. Parts that `RunSummary` leaves None or empty do not appear.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neurodeploy.counting.frame_counts import FrameCounts
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.presets import Tier
from neurodeploy.files import require_output, write_text
from neurodeploy.reports.activity import Activity
from neurodeploy.reports.frame_figures import cost_figures
from neurodeploy.reports.numbers import format_count, format_energy, format_percent
from neurodeploy.reports.pages import elements, report_sections as costs, run_sections as runs
from neurodeploy.reports.pages.conversion_section import conversion_section
from neurodeploy.reports.pages.elements import Card, Outline, PageSection
from neurodeploy.reports.pages.frame_section import frames_section
from neurodeploy.reports.pages.tables import TIER_NAMES
from neurodeploy.reports.plots.run_plots import SUFFIXES, save_drawing
from neurodeploy.reports.report import Report, RunSummary
from neurodeploy.reports.statements import broken_rules, statements, verdict_in_short


def outline_of(summary: RunSummary) -> Outline:
    """Return everything that a page of the run shows."""
    cards = tuple(_cards(summary))
    verdict = "" if summary.report is None else statements(summary.report)[0]
    sections = tuple(elements.explain_words(cards, _sections(summary), verdict=verdict))
    return Outline(summary.title, summary.description, cards, sections, verdict)


def _sections(summary: RunSummary) -> list[PageSection]:
    report, activity = summary.report, summary.activity

    def of_report(*parts: Callable[[Report], PageSection | None]) -> list[PageSection | None]:
        return [] if report is None else [part(report) for part in parts]

    recipe = None
    if summary.recipe is not None:
        lead = "Everything this run depended on; train again with it."
        recipe = PageSection("recipe", "Recipe", lead, code=summary.recipe)
    return _present(
        *of_report(costs.verdict_section),
        runs.accuracy_section(summary),
        conversion_section(summary),
        runs.agreement_section(summary.rounding, summary.agreement),
        *of_report(
            frames_section,
            costs.counts_section,
            costs.neurobench_section,
            costs.energy_section,
            costs.measured_section,
            costs.fairness_section,
            costs.sensitivity_section,
            costs.fit_section,
        ),
        runs.rates_section(activity, has_plot=report is None),  # operations show rates, too
        runs.raster_section(summary.raster),
        runs.readout_section(activity),
        runs.maps_section(activity),
        runs.membranes_section(activity),
        runs.training_section(summary),
        *of_report(costs.context_section, costs.assumptions_section, costs.sources_section),
        runs.making_section(summary),
        recipe,
    )


def _present(*sections: PageSection | None) -> list[PageSection]:
    return [section for section in sections if section is not None]


def _cards(summary: RunSummary) -> list[Card]:
    """Return the verdict, accuracy, agreement, operations, and energy of tiers A and B."""
    cards = []
    points, agreement, report = summary.accuracy, summary.agreement, summary.report
    if report is not None:
        failed = broken_rules(report)
        note = f"memory included; {failed or 'all rules of a fair comparison hold'}"
        cards.append(Card("Does it pay?", verdict_in_short(report), note))
    whole = [point for point in points if point.samples == points[0].samples]
    deployed = next((point for point in reversed(whole) if point.stage != "Lava"), None)
    if deployed is not None:
        note = f"{deployed.stage} network"
        if deployed.interval is not None:
            note += (
                f", {format_count(deployed.samples)} test samples; 95 % interval "
                + " to ".join(map(format_percent, deployed.interval))
            )
        cards.append(Card("Accuracy", format_percent(deployed.value), note))
    if agreement is not None:
        differing = agreement.comparison.differing
        verdict = "identical" if differing == 0 else f"{format_count(differing)} differ"
        note = f"every spike of every layer, {agreement.describe_samples()}"
        cards.append(Card("Agreement with Lava", verdict, note))
    if report is None:
        return cards
    frames = report.frames
    if frames is not None:
        cards.append(_frame_card(report, frames))
    sops = format_count(round(report.sops_per_sample))
    note = (
        f"a sample, all {report.counts.steps} steps; {_passes_of(report)} of the "
        f"{report.ann_label}: {format_count(report.ann.macs_border_exact)} MACs"
    )
    cards.append(Card("Synaptic operations", sops, note))
    for tier in (Tier.ARITHMETIC, Tier.MEMORY):
        first = next(iter(report.tier(tier)), None)
        if first is not None and first.ann is not None:
            own, ann = first.network, first.ann
            note = f"estimate, {own.preset}; {report.ann_label} {_range(ann)}"
            cards.append(Card(f"Energy, {TIER_NAMES[tier]}", _range(own), note))
    return cards


def _passes_of(report: Report) -> str:
    passes = report.ann.passes
    return "one pass" if passes == 1 else f"{format_count(passes)} passes"


def _frame_card(report: Report, frames: FrameCounts) -> Card:
    costs = cost_figures(frames.all_sops)
    first, largest = (format_count(round(costs[name])) for name in ("first", "largest"))
    note = (
        f"mean of {format_count(frames.frames)} frames; the first {first}, the largest {largest}; "
        f"and {format_count(frames.updates)} neuron updates each"
    )
    return Card("SOPs a frame", format_count(round(costs["mean"])), note)


def _range(energy: Energy) -> str:
    """Write the bounds; number and unit stay on one line."""
    ends = [
        format_energy(end).replace(" ", "\N{NO-BREAK SPACE}") for end in (energy.low, energy.high)
    ]
    return " to ".join(dict.fromkeys(ends))


def save_plot(activity: Activity, path: Path | str, *, title: str, description: str = "") -> None:
    """Write the activity of a network: a page for `.html`, else one drawing, `.svg` or `.png`.

    Raises:
        OutputError: If it cannot be written, or its suffix is another.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> layers = nd.layer_activity_of(recording)
        >>> activity = nd.observe(example.graph, layers, example.inputs[:1], samples=32)
        >>> nd.save_plot(activity, "activity.svg", title="digits")
    """
    path = Path(path)
    require_output(path, SUFFIXES)
    if path.suffix.lower() != ".html":
        save_drawing(activity, path)
        return
    sections = _present(
        runs.rates_section(activity),
        runs.raster_section(activity.raster),
        runs.readout_section(activity),
        runs.maps_section(activity),
        runs.membranes_section(activity),
    )
    write_text(path, elements.render_html(Outline(title, description, sections=tuple(sections))))


def write_page(summary: RunSummary, path: Path | str) -> None:
    """Write the page of a run, whole or not at all.

    Raises:
        OutputError: If it cannot be written.

    Example:
        >>> summary = nd.RunSummary(title="digits", certificate=nd.load_example().certificate)
        >>> nd.write_page(summary, "report.html")
        >>> Path("report.html").stat().st_size > 10_000
        True
    """
    write_text(path, elements.render_html(outline_of(summary)))


def write_markdown(summary: RunSummary, path: Path | str) -> None:
    """Write the page of a run as Markdown, whole or not at all.

    Raises:
        OutputError: If it cannot be written.

    Example:
        >>> summary = nd.RunSummary(title="digits", certificate=nd.load_example().certificate)
        >>> nd.write_markdown(summary, "report.md")
        >>> Path("report.md").read_text().splitlines()[0]
        '# digits'
    """
    write_text(path, elements.render_markdown(outline_of(summary)))
