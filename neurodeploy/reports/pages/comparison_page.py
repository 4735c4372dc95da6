"""The page of a comparison, as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neurodeploy.files import write_text
from neurodeploy.reports.comparison import Bounds, Candidate, NetworkComparison
from neurodeploy.reports.numbers import (
    format_bounds,
    format_count,
    format_energy,
    format_interval,
    format_percent,
)
from neurodeploy.reports.pages import elements
from neurodeploy.reports.pages.elements import Card, Outline, PageSection, PageTable, Plot, Rows
from neurodeploy.reports.pages.tables import TIER_NAMES
from neurodeploy.reports.plots.comparison_plots import NAMED, plot_front, plot_ranges


def write_comparison(comparison: NetworkComparison, path: Path | str) -> None:
    """Write the page as HTML, whole or not at all.

    Raises:
        OutputError: If it cannot be written.

    Example:
        >>> example = nd.load_example()
        >>> run = nd.count_samples(example.graph, example.samples)
        >>> report = nd.report_counts(example.graph, run)
        >>> _ = Path("digits.json").write_text(json.dumps(report.to_json()))
        >>> comparison = nd.compare_networks([nd.read_candidate("digits.json")])
        >>> nd.write_comparison(comparison, "comparison.html")
    """
    write_text(path, elements.render_html(outline_of_comparison(comparison)))


def write_comparison_markdown(comparison: NetworkComparison, path: Path | str) -> None:
    """Write the page as Markdown, whole or not at all.

    Raises:
        OutputError: If it cannot be written.

    Example:
        >>> example = nd.load_example()
        >>> run = nd.count_samples(example.graph, example.samples)
        >>> report = nd.report_counts(example.graph, run)
        >>> _ = Path("digits.json").write_text(json.dumps(report.to_json()))
        >>> comparison = nd.compare_networks([nd.read_candidate("digits.json")])
        >>> nd.write_comparison_markdown(comparison, "comparison.md")
    """
    write_text(path, elements.render_markdown(outline_of_comparison(comparison)))


def outline_of_comparison(comparison: NetworkComparison) -> Outline:
    """Return everything that the page of a comparison shows."""
    cards = tuple(_cards(comparison))
    sections = (
        _networks_section(comparison),
        _presets_section(comparison),
        _sources_section(comparison),
    )
    return Outline(
        "Networks compared",
        "Energies are estimates of one inference, with the same constants for all.",
        cards,
        tuple(elements.explain_words(cards, sections)),
    )


def _cards(comparison: NetworkComparison) -> Iterator[Card]:
    preset, networks = comparison.preset, [entry.network for entry in comparison.entries]
    note = f"{len(comparison.front(preset))} on the Pareto front"
    yield Card("Networks", format_count(len(networks)), note)
    first = networks[0]
    if first.accuracy is not None:
        note = first.name
        if first.interval is not None:
            note += "; 95 % interval " + " to ".join(map(format_percent, first.interval))
        yield Card("Most accurate", format_percent(first.accuracy), note)
    least = min(networks, key=lambda one: one.energies[preset].nominal)
    yield Card("Least energy", _range(least.energies[preset]), f"{least.name}, {preset}")
    always = [e.network.name for e in comparison.entries if e.best_in == comparison.presets]
    note = ", ".join(always[:3]) + (" and others" if len(always) > 3 else "")
    yield Card("On the Pareto front for every preset", format_count(len(always)), note)


def _networks_section(comparison: NetworkComparison) -> PageSection:
    preset = comparison.preset
    tier = comparison.tier(preset)
    plots = [
        Plot(
            plot_ranges(comparison, preset),
            "Energy of each network and of its ANN",
            "Circle: spiking network. Square: the ordinary network of its report, one pass. Bars "
            "span low to high.",
        )
    ]
    if comparison.entries[0].network.accuracy is not None:  # those with one come first
        plots.insert(0, _front_plot(comparison, preset, "Accuracy against energy"))
    return PageSection(
        "networks",
        "Accuracy against energy",
        f"{preset}, tier {tier.value} ({TIER_NAMES[tier]}). {len(comparison.front(preset))} of "
        f"{len(comparison.entries)} networks are on the Pareto front: no other is at least as "
        "accurate for less energy.",
        plots=tuple(plots),
        tables=(_networks_table(comparison),),
        items=tuple(f"Note: {warning}" for warning in comparison.warnings),
    )


def _front_plot(comparison: NetworkComparison, preset: str, title: str) -> Plot:
    marks = "Thin lines: low to high, and the 95 % interval of the accuracy."
    if len(comparison.entries) > NAMED:
        marks = "Numbers are those of the table, which has the bounds."
    caption = f"Filled and joined: the Pareto front, by nominal values. {marks} "
    known = {
        entry.network.ann_accuracy is not None
        for entry in comparison.entries
        if preset in entry.network.ann_energies
    }
    anns = {
        True: "Squares: the ordinary networks of these reports.",
        False: "Dashed: the energy of an ordinary network whose accuracy is not known.",
    }
    caption += " ".join(text for is_known, text in anns.items() if is_known in known)
    return Plot(plot_front(comparison, preset), title, caption, is_wide=True)


def _networks_table(comparison: NetworkComparison) -> PageTable:
    preset, networks = comparison.preset, [entry.network for entry in comparison.entries]
    stages = tuple(dict.fromkeys(stage for one in networks for stage in list(one.stages)[:-1]))

    def cells(network: Candidate) -> tuple[str, ...]:
        energy, ann = network.energies[preset], network.ann_energies.get(preset)
        return (
            network.name,
            *(_percent(network.stages.get(stage)) for stage in stages),
            _percent(network.accuracy),
            format_interval(network.interval),
            "" if network.steps is None else str(network.steps),
            format_count(round(network.sops)),
            *map(format_energy, (energy.nominal, energy.low, energy.high)),
            "" if ann is None else _range(ann),
            network.describe_lava(),
        )

    rows: Rows = [
        (
            str(number),
            *cells(entry.network),
            "on the Pareto front" if preset in entry.best_in else "",
        )
        for number, entry in enumerate(comparison.entries, 1)
    ]
    figures = ("deployed", "95 % interval", "T", "SOPs", "nominal", "low", "high", "ANN")
    columns = ("number", "network", *stages, *figures, "Lava (samples)", "verdict")
    return PageTable("Networks", columns, rows, 2, stays_open=True)


def _presets_section(comparison: NetworkComparison) -> PageSection:
    """Show the Pareto front for each set of constants."""
    plots = []
    first_of = {comparison.tier(preset): preset for preset in reversed(comparison.presets)}
    first_of.pop(comparison.tier(comparison.preset))
    if comparison.entries[0].network.accuracy is not None:
        for tier, preset in sorted(first_of.items()):
            title = f"Tier {tier.value}, {TIER_NAMES[tier]}: {preset}"
            plots.append(_front_plot(comparison, preset, title))
    return PageSection(
        "presets",
        "The Pareto front for each set of constants",
        "The same networks by every preset that all reports share: nominal energies, a star where "
        "the network is on the Pareto front.",
        plots=tuple(plots),
        tables=(_presets_table(comparison),),
    )


def _presets_table(comparison: NetworkComparison) -> PageTable:
    """Return nominal energies by network and preset; the longer side of the two goes down."""
    entries, presets = comparison.entries, comparison.presets
    cells = [
        [
            format_energy(entry.network.energies[preset].nominal)
            + (" *" if preset in entry.best_in else "")
            for preset in presets
        ]
        + [f"{len(entry.best_in)} of {len(presets)}"]
        for entry in entries
    ]
    names, caption = [entry.network.name for entry in entries], "Nominal energy by preset"
    heads = (*presets, "stars")
    if len(entries) > len(presets):
        rows = [(name, *row) for name, row in zip(names, cells, strict=True)]
        return PageTable(caption, ("network", *heads), rows)
    rows = [(head, *row) for head, row in zip(heads, zip(*cells, strict=True), strict=True)]
    return PageTable(caption, ("preset", *names), rows, has_total=True, stays_open=True)


def _sources_section(comparison: NetworkComparison) -> PageSection:
    rows: Rows = [
        (
            network.name,
            format_count(network.test_samples),
            network.test_digest or "not known",
            network.source,
            network.sha256,
        )
        for network in (entry.network for entry in comparison.entries)
    ]
    columns = ("network", "test samples", "test data", "file", "SHA-256")
    return PageSection(
        "sources",
        "Sources of the figures",
        "The report of every network lists the constants, their sources and the costs that each "
        "tier leaves out.",
        tables=(PageTable("Files", columns, rows),),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else format_percent(value)


def _range(energy: Bounds) -> str:
    return format_bounds(energy.low, energy.high)
