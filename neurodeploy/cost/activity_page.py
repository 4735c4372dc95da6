"""What a network did as a file of its own: a page or one drawing."""

from __future__ import annotations

from pathlib import Path

from neurodeploy.cost.activity import Activity
from neurodeploy.cost.activity_plots import save_drawing
from neurodeploy.cost.activity_sections import maps_section, membranes_section, rates_section
from neurodeploy.cost.page import render_html
from neurodeploy.cost.run_sections import raster_section
from neurodeploy.cost.sections import Outline
from neurodeploy.files import write_text


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
