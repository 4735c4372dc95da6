"""The HTML page of a comparison."""

from __future__ import annotations

from pathlib import Path

from neurodeploy.cost.comparison import NetworkComparison
from neurodeploy.cost.page import render_html
from neurodeploy.cost.plots import plot_front
from neurodeploy.cost.sections import Card, Outline, PageTable, Plot, Section
from neurodeploy.cost.units import format_count, format_energy, format_percent
from neurodeploy.files import write_text


def write_comparison(comparison: NetworkComparison, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, render_comparison(comparison))


def render_comparison(comparison: NetworkComparison) -> str:
    """Give the page as HTML."""
    entries = comparison.entries
    known = [entry for entry in entries if entry.accuracy is not None]
    best = [entry for entry in entries if entry.is_best]
    cards = [Card(label="Networks", value=format_count(len(entries)), note=comparison.preset)]
    if known:
        cards.append(
            Card(
                label="Most accurate",
                value=format_percent(known[0].accuracy or 0.0),
                note=known[0].name,
            )
        )
    least = min(entries, key=lambda entry: entry.nominal)
    cards.append(Card(label="Least energy", value=format_energy(least.nominal), note=least.name))
    plots: tuple[Plot, ...] = ()
    if known:
        plots = (
            Plot(
                svg=plot_front([(e.name, e.nominal, e.accuracy or 0.0, e.is_best) for e in known]),
                title="Accuracy against energy",
                caption="Filled and joined: no other is at least as accurate for less energy. "
                "Nominal values.",
                is_wide=True,
            ),
        )
    section = Section(
        anchor="networks",
        title="Networks",
        lead="Energies are estimates with the same constants for all; accuracies must be of the "
        f"same test set. {len(best)} of {len(entries)} are beaten by none.",
        plots=plots,
        tables=(
            PageTable(
                caption="Networks",
                columns=(
                    "number",
                    "network",
                    "accuracy",
                    "T",
                    "SOPs",
                    "energy",
                    "low",
                    "high",
                    "verdict",
                ),
                rows=[
                    (
                        str(number),
                        entry.name,
                        "" if entry.accuracy is None else format_percent(entry.accuracy),
                        "" if entry.steps is None else str(entry.steps),
                        format_count(round(entry.sops)),
                        format_energy(entry.nominal),
                        format_energy(entry.low),
                        format_energy(entry.high),
                        "beaten by none" if entry.is_best else "",
                    )
                    for number, entry in enumerate(entries, 1)
                ],
                text_columns=2,
            ),
        ),
    )
    return render_html(
        Outline(
            title="Networks compared",
            description=comparison.preset,
            cards=tuple(cards),
            sections=(section,),
        )
    )
