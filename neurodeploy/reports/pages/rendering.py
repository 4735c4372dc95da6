"""One self-contained HTML page for a run, a single report or a comparison.

The page loads nothing: styles, plots and the script that sorts tables are inside it. Everything
that a user supplied is escaped.
"""

from __future__ import annotations

from pathlib import Path

from neurodeploy.files import write_text
from neurodeploy.reports.pages.elements import Outline
from neurodeploy.reports.pages.outline import outline_of
from neurodeploy.reports.run_summary import RunSummary


def write_page(summary: RunSummary, path: Path | str) -> None:
    """Write the page of a run, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, render_page(summary))


def render_page(summary: RunSummary) -> str:
    """Give the page of a run as HTML."""
    return render_html(outline_of(summary))


def render_html(outline: Outline) -> str:
    """Give a page of any content as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurodeploy.reports", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=outline.title,
        description=outline.description,
        cards=outline.cards,
        sections=outline.sections,
    )
