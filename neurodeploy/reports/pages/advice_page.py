"""Advice on a model: one page of a terminal, and the same as HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurodeploy.energy.predicted_costs import Interval
from neurodeploy.files import write_text
from neurodeploy.reports.advice import (
    Advice,
    Figures,
    FrameCost,
    data_words,
    energy_text,
    obstacle_kinds,
    share_text,
    span_text,
)
from neurodeploy.reports.numbers import format_count, format_energy
from neurodeploy.reports.pages import elements
from neurodeploy.reports.pages.elements import Card, Outline, PageSection, PageTable, Rows

WIDTH = 100
_KINDS_SHOWN = 8
_NODES_SHOWN = 3
_COLUMNS = ("a frame costs", "senders", "operations", "arithmetic", "with memory")
_FORMS = {
    "sigma-delta": "Sigma-delta neurons",
    "spiking": "A spiking network",
    "ann": "The ordinary network",
    "open": "Open",
    "none": "None as it is",
}


def advice_text(advice: Advice) -> str:
    """Return the advice as lines of 100 characters at most, 45 lines at most.

    Example:
        >>> lines = nd.advice_text(nd.advise(relu, shape=(1, 8, 8))).splitlines()
        >>> lines[0][:54]
        'Sequential can be converted (3 cores, 1 chip of loihi2'
    """
    lines = _wrapped(advice.verdict)
    if advice.obstacles:
        lines += ["", "In the way", *_obstacle_lines(advice)]
    figures = advice.figures
    if figures is None:
        if advice.ann_macs is not None:
            lines += ["", f"One pass of it: {format_count(advice.ann_macs)} MACs."]
    else:
        network = [line for one in _network_lines(figures) for line in _wrapped(one)]
        lines += ["", *network, "", *_aligned([_COLUMNS, *_cost_rows(figures)])]
    for title, sentences in (
        ("Assumed", advice.assumptions),
        ("A sceptic would say", advice.doubts),
    ):
        if sentences:
            lines += ["", title]
            lines += [line for one in sentences for line in _wrapped(one, "- ")]
    return "\n".join(lines)


def write_advice(advice: Advice, path: Path | str) -> None:
    """Write the advice as an HTML page, whole or not at all.

    Raises:
        OutputError: If it cannot be written.

    Example:
        >>> nd.write_advice(nd.advise(relu, shape=(1, 8, 8)), "advice.html")
    """
    write_text(path, elements.render_html(outline_of_advice(advice)))


def write_advice_markdown(advice: Advice, path: Path | str) -> None:
    """Write the advice as a Markdown page, whole or not at all.

    Raises:
        OutputError: If it cannot be written.

    Example:
        >>> nd.write_advice_markdown(nd.advise(relu, shape=(1, 8, 8)), "advice.md")
        >>> Path("advice.md").read_text().splitlines()[0]
        '# Sequential'
    """
    write_text(path, elements.render_markdown(outline_of_advice(advice)))


def outline_of_advice(advice: Advice) -> Outline:
    """Return everything that a page of the advice shows."""
    figures = advice.figures
    cards = [Card("Suited by the figures", _FORMS[advice.suits])]
    sections = []
    if advice.obstacles:
        rows: Rows = [
            (operator, format_count(len(nodes)), ", ".join(nodes), reason)
            for (operator, reason), nodes in obstacle_kinds(advice.obstacles).items()
        ]
        columns = ("operator", "nodes", "facts", "meaning")
        sections.append(_section("obstacles", "In the way", PageTable("Nodes", columns, rows)))
    if figures is not None:
        for need in figures.cores:
            cards.append(Card(f"Cores on {need.target}", need.text, need.problem or "an estimate"))
        table = PageTable("Costs of a frame", _COLUMNS, list(_cost_rows(figures)))
        sections.append(_section("costs", "Costs of a frame", table, _network_lines(figures)))
    sections.append(_section("assumptions", "Assumed", items=advice.assumptions))
    sections.append(_section("doubts", "A sceptic would say", items=advice.doubts))
    shown = [section for section in sections if section.items or section.tables]
    explained = tuple(elements.explain_words(cards, shown, verdict=advice.verdict))
    return Outline(advice.model, "", tuple(cards), explained, advice.verdict)


def _section(
    anchor: str, title: str, table: PageTable | None = None, items: Sequence[str] = ()
) -> PageSection:
    tables = () if table is None else (table,)
    return PageSection(anchor, title, tables=tables, items=tuple(items))


def _obstacle_lines(advice: Advice) -> Iterator[str]:
    """Yield the kinds of obstacles, a few nodes of each; JSON has all of them."""
    kinds = list(obstacle_kinds(advice.obstacles).items())
    for (operator, reason), nodes in kinds[:_KINDS_SHOWN]:
        named = ", ".join(node for node in nodes[:_NODES_SHOWN] if node)
        more = f" and {len(nodes) - _NODES_SHOWN} more" if len(nodes) > _NODES_SHOWN else ""
        yield from _wrapped(f"{operator} ({named}{more}): {reason}" if named else reason, "- ")
    if len(kinds) > _KINDS_SHOWN:
        yield f"- {len(kinds) - _KINDS_SHOWN} more kinds of nodes; --json lists every node."


def _network_lines(figures: Figures) -> list[str]:
    cores = "; ".join(f"{need.target} {need.text}" for need in figures.cores)
    return [
        f"Cores, an estimate: {cores}.",
        f"{span_text(figures.neurons)} neurons; the answer to a frame comes "
        f"{span_text(figures.latency)} steps after it.",
        data_words(figures),
    ]


def _cost_rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    for cost in figures.frames:
        yield (
            f"{cost.kind}, {_basis_of(cost)}",
            share_text(cost.share),
            f"{span_text(cost.sops)} SOPs",
            energy_text(cost.arithmetic),
            energy_text(cost.memory),
        )
    ann = figures.ann
    yield (
        "int8 network, a pass",
        "",
        f"{format_count(figures.ann_macs)} MACs",
        format_energy(ann.arithmetic),
        energy_text(ann.memory),
    )
    steps = span_text(figures.spiking_steps)
    yield (
        f"LIF network, {steps} {'step' if steps == '1' else 'steps'}",
        "",
        f"{span_text(figures.spiking_sops)} SOPs",
        "",
        energy_text(figures.spiking),
    )
    surely, best = (max(0.0, min(1.0, end)) for end in figures.break_even)
    yield ("cheaper than a pass up to", share_text(Interval(surely, best)), "", "", "")


def _basis_of(cost: FrameCost) -> str:
    if cost.is_measured:
        return "measured"
    return "assumed" if cost.share.high else "exact"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines, numbers on the right of their columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _wrapped(text: str, first: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=True,
        break_on_hyphens=False,
    )
