"""The page of a comparison, as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neurodeploy.energy.presets import Tier
from neurodeploy.files import write_text
from neurodeploy.reports.comparison import Bounds, Candidate, NetworkComparison
from neurodeploy.reports.numbers import format_bounds, format_count, format_energy, format_percent
from neurodeploy.reports.pages.elements import Card, Outline, PageSection, PageTable, Plot
from neurodeploy.reports.pages.glossary import explain_words
from neurodeploy.reports.pages.rendering import render_html, render_markdown
from neurodeploy.reports.pages.tables import TIER_NAMES
from neurodeploy.reports.plots.comparison_plots import NAMED, plot_front, plot_ranges


def write_comparison(comparison: NetworkComparison, path: Path | str) -> None:
    """Write the page as HTML, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, render_html(outline_of_comparison(comparison)))


def write_comparison_markdown(comparison: NetworkComparison, path: Path | str) -> None:
    """Write the page as Markdown, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, render_markdown(outline_of_comparison(comparison)))


def outline_of_comparison(comparison: NetworkComparison) -> Outline:
    """Return everything that the page of a comparison shows."""
    cards = tuple(_cards(comparison))
    sections = [
        _networks_section(comparison),
        _presets_section(comparison),
        _sources_section(comparison),
    ]
    return Outline(
        title="Networks compared",
        description="Energies are estimates of one inference, with the same constants for all.",
        cards=cards,
        sections=tuple(explain_words(cards, sections)),
    )


def _cards(comparison: NetworkComparison) -> Iterator[Card]:
    networks = [entry.network for entry in comparison.entries]
    yield Card(
        label="Networks",
        value=format_count(len(networks)),
        note=f"{len(comparison.front(comparison.preset))} on the Pareto front",
    )
    first = networks[0]
    if first.accuracy is not None:
        yield Card(label="Most accurate", value=format_percent(first.accuracy), note=_named(first))
    least = min(networks, key=lambda one: one.energies[comparison.preset].nominal)
    yield Card(
        label="Least energy",
        value=_range(least.energies[comparison.preset]),
        note=f"{least.name}, {comparison.preset}",
    )
    always = [
        e.network.name for e in comparison.entries if len(e.best_in) == len(comparison.presets)
    ]
    yield Card(
        label="On the Pareto front for every preset",
        value=format_count(len(always)),
        note=", ".join(always[:3]) + (" and others" if len(always) > 3 else ""),
    )


def _named(network: Candidate) -> str:
    if network.interval is None:
        return network.name
    low, high = network.interval
    return f"{network.name}; 95 % interval {format_percent(low)} to {format_percent(high)}"


def _networks_section(comparison: NetworkComparison) -> PageSection:
    preset = comparison.preset
    plots = [
        Plot(
            svg=plot_ranges(comparison, preset),
            title="Energy of each network and of its ANN",
            caption="Circle: spiking network. Square: the ordinary network of its report, one "
            "pass. Bars span low to high.",
        )
    ]
    if any(entry.network.accuracy is not None for entry in comparison.entries):
        plots.insert(0, _front_plot(comparison, preset, "Accuracy against energy"))
    best = comparison.front(preset)
    return PageSection(
        anchor="networks",
        title="Accuracy against energy",
        lead=f"{preset}, tier {comparison.tier(preset).value} "
        f"({TIER_NAMES[comparison.tier(preset)]}). {len(best)} of {len(comparison.entries)} "
        "networks are on the Pareto front: no other is at least as accurate for less energy.",
        plots=tuple(plots),
        tables=(_networks_table(comparison),),
        items=tuple(f"Note: {warning}" for warning in comparison.warnings),
    )


def _front_plot(comparison: NetworkComparison, preset: str, title: str) -> Plot:
    many = len(comparison.entries) > NAMED
    return Plot(
        svg=plot_front(comparison, preset),
        title=title,
        caption="Filled and joined: the Pareto front, by nominal values. "
        + (
            "Numbers are those of the table, which has the bounds. "
            if many
            else "Thin lines: low to high, and the 95 % interval of the accuracy. "
        )
        + _ann_caption(comparison, preset),
        is_wide=True,
    )


def _ann_caption(comparison: NetworkComparison, preset: str) -> str:
    known = {
        entry.network.ann_accuracy is not None
        for entry in comparison.entries
        if preset in entry.network.ann_energies
    }
    texts = {
        True: "Squares: the ordinary networks of these reports.",
        False: "Dashed: the energy of an ordinary network whose accuracy is not known.",
    }
    return " ".join(texts[is_known] for is_known in (True, False) if is_known in known)


def _networks_table(comparison: NetworkComparison) -> PageTable:
    preset = comparison.preset
    stages = tuple(
        dict.fromkeys(stage for e in comparison.entries for stage in list(e.network.stages)[:-1])
    )
    rows = []
    for number, entry in enumerate(comparison.entries, 1):
        network = entry.network
        energy, ann = network.energies[preset], network.ann_energies.get(preset)
        interval = network.interval
        rows.append(
            (
                str(number),
                network.name,
                *(_percent(network.stages.get(stage)) for stage in stages),
                _percent(network.accuracy),
                ""
                if interval is None
                else f"{100 * interval[0]:.1f} to {format_percent(interval[1])}",
                "" if network.steps is None else str(network.steps),
                format_count(round(network.sops)),
                format_energy(energy.nominal),
                format_energy(energy.low),
                format_energy(energy.high),
                "" if ann is None else _range(ann),
                "on the Pareto front" if preset in entry.best_in else "",
            )
        )
    return PageTable(
        caption="Networks",
        columns=(
            "number",
            "network",
            *stages,
            "deployed",
            "95 % interval",
            "T",
            "SOPs",
            "energy",
            "low",
            "high",
            "ANN",
            "verdict",
        ),
        rows=rows,
        text_columns=2,
        stays_open=True,
    )


def _presets_section(comparison: NetworkComparison) -> PageSection:
    """Show the Pareto front for each set of constants."""
    leading = comparison.tier(comparison.preset)
    plots = []
    if any(entry.network.accuracy is not None for entry in comparison.entries):
        for tier in Tier:
            first = next((p for p in comparison.presets if comparison.tier(p) is tier), None)
            if first is not None and tier is not leading:
                title = f"Tier {tier.value}, {TIER_NAMES[tier]}: {first}"
                plots.append(_front_plot(comparison, first, title))
    return PageSection(
        anchor="presets",
        title="The Pareto front for each set of constants",
        lead="The same networks by every preset that all reports share: nominal energies, a star "
        "where the network is on the Pareto front.",
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
        for entry in entries
    ]
    stars = [f"{len(entry.best_in)} of {len(presets)}" for entry in entries]
    names = [entry.network.name for entry in entries]
    caption = "Nominal energy by preset"
    if len(entries) > len(presets):
        rows = [(name, *row, star) for name, row, star in zip(names, cells, stars, strict=True)]
        columns = ("network", *presets, "stars")
        return PageTable(caption=caption, columns=columns, rows=rows)
    rows = [(preset, *row) for preset, row in zip(presets, zip(*cells, strict=True), strict=True)]
    return PageTable(
        caption=caption,
        columns=("preset", *names),
        rows=[*rows, ("stars", *stars)],
        has_total=True,
        stays_open=True,
    )


def _sources_section(comparison: NetworkComparison) -> PageSection:
    return PageSection(
        anchor="sources",
        title="Sources of the figures",
        lead="The report of every network lists the constants, their sources and the costs that "
        "each tier leaves out.",
        tables=(
            PageTable(
                caption="Files",
                columns=("network", "test samples", "test data", "file", "SHA-256"),
                rows=[
                    (
                        network.name,
                        "not known"
                        if network.test_samples is None
                        else format_count(network.test_samples),
                        network.test_digest or "not known",
                        network.source,
                        network.sha256,
                    )
                    for network in (entry.network for entry in comparison.entries)
                ],
            ),
        ),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else format_percent(value)


def _range(energy: Bounds) -> str:
    return format_bounds(energy.low, energy.high)
