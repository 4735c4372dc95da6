"""Rendering of an outline as one HTML page, or as Markdown.

An HTML page loads nothing: styles, plots and the script that sorts tables are inside it. Markdown
has the same sections and tables, without the plots. Everything that a user supplied is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from neurodeploy.reports.pages.elements import Outline, PageSection, PageTable
from neurodeploy.reports.plots.drawing import DARK, LIGHT, css_variables


def render_html(outline: Outline) -> str:
    """Return a page of any content as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurodeploy.reports", "pages"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        page=outline, light=css_variables(LIGHT), dark=css_variables(DARK)
    )


def render_markdown(outline: Outline) -> str:
    """Return a page of any content as Markdown; what a user supplied is escaped."""
    lines = [f"# {_escape(outline.title)}", ""]
    if outline.description:
        lines += [_escape(outline.description), ""]
    for card in outline.cards:
        note = f" ({_escape(card.note)})" if card.note else ""
        lines.append(f"- {_escape(card.label)}: **{_escape(card.value)}**{note}")
    for section in outline.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: PageSection) -> Iterator[str]:
    yield from ("", f"## {_escape(section.title)}", "")
    if section.lead:
        yield from (_escape(section.lead), "")
    if section.words:
        yield from (f"*{_escape(word)}*: {_escape(meaning)}.  " for word, meaning in section.words)
        yield ""
    for table in section.tables:
        if table.caption != section.title:
            yield from (f"### {_escape(table.caption)}", "")
        yield from _table(table)
        yield ""
    yield from (f"- {_escape(item)}" for item in section.items)
    if section.code:
        # Indented, not fenced: no text can end the block.
        yield from (f"    {line}" for line in section.code.strip("\n").split("\n"))


def _table(table: PageTable) -> Iterator[str]:
    sides = [
        "---:" if table.style(column) == "number" else "---" for column in range(len(table.columns))
    ]
    for cells in (table.columns, sides, *table.rows):
        yield "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(text: str) -> str:
    """Leave only characters that stand for themselves; underscores inside words do."""
    text = re.sub(r"([\\`*\[\]<|]|(?<!\w)_|_(?!\w)|^[#>])", r"\\\1", text)
    return " ".join(text.split())
