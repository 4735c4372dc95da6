"""What a network did as a file of its own: a page or one drawing."""

from __future__ import annotations

from pathlib import Path

from neurodeploy.files import write_text
from neurodeploy.reports.activity import Activity
from neurodeploy.reports.pages.activity_sections import (
    maps_section,
    membranes_section,
    rates_section,
)
from neurodeploy.reports.pages.elements import Outline
from neurodeploy.reports.pages.rendering import render_html
from neurodeploy.reports.pages.run_sections import raster_section
from neurodeploy.reports.plots.activity_plots import save_drawing


def save_plot(activity: Activity, path: Path | str, *, title: str, description: str = "") -> None:
    """Write what is shown of a run: a page for `.html`, else one drawing, `.svg` or `.png`.

    Raises:
        OutputError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        save_drawing(activity, path)
        return
    sections = (
        rates_section(activity),
        raster_section(activity.raster),
        maps_section(activity),
        membranes_section(activity),
    )
    outline = Outline(
        title=title,
        description=description,
        sections=tuple(one for one in sections if one is not None),
    )
    write_text(path, render_html(outline))
