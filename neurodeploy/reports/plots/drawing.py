"""How plots of a page are drawn: SVG to be set into HTML, in the page's own colours.

Colours are CSS variables of the page, so one drawing serves light and dark. Nothing is told by
colour alone: series differ in marker and dash and are labelled at the line. Text stays text.
Matplotlib is imported when the first plot is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

from neurodeploy.reports.numbers import format_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, FIRST, SECOND = "#010101", "#020202", "#030303", "#040404"
"""Stand-ins that become CSS variables of the page."""
_VARIABLES = {INK: "--ink", FAINT: "--faint", FIRST: "--series-1", SECOND: "--series-2"}

WIDTH = 4.9
"""Inches: narrow enough that text stays legible on a phone."""


@contextmanager
def new_figure(height: float, name: str) -> Iterator[tuple[Figure, Axes]]:
    """Return an empty figure in the page's style, without touching anybody's settings."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": name,
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": FAINT,
            "grid.linewidth": 0.5,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "text.parse_math": False,
            "path.simplify": False,
        }
    ):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        yield figure, axes


def to_svg(figure: Figure, name: str) -> str:
    """Return a drawing as an element for the page; `name` is unique within it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05,
                   metadata={"Date": None})  # fmt: skip
    return _themed(buffer.getvalue(), name)


def _themed(svg: str, name: str) -> str:
    """Make a drawing part of a page: no prologue, no metadata, own ids, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    svg = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font: \1px var(--sans)", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    return svg.strip()


def note_axis(axes: Axes, text: str) -> None:
    """Write a remark above the left end of the axes."""
    axes.text(0.0, 1.02, text, transform=axes.transAxes, fontsize=8, color=INK, style="italic")


def shortened(name: str) -> str:
    """Cut the middle out of a long name."""
    return name if len(name) <= 20 else f"{name[:9]}…{name[-9:]}"


def wrapped(text: str) -> str:
    """Break a label of an axis into lines."""
    return "\n".join(wrap(text, 26))


def log_energy_axis(axes: Axes) -> None:
    """Make the x axis one of energies in pJ: logarithmic, with units at its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 20 * low:  # decades alone would leave one tick, or none
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("energy of one inference (log scale)")


def _tick(picojoules: float) -> str:
    number, unit = format_energy(picojoules).split(" ")
    return f"{float(number):g} {unit}"
