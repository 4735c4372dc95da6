"""Shared parts of all plots: figures in the page's style, axes, marks, SVG.

Plots are drawn in the page's light colours. An SVG names CSS variables in their place, so one
drawing serves light and dark; a PNG keeps them. Nothing is told by colour alone: series differ in
marker and dash and are labelled at the line. Text stays text. Matplotlib is imported when the first
plot is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

from neurodeploy.energy.estimates import Energy
from neurodeploy.reports.comparison import Bounds
from neurodeploy.reports.numbers import format_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

LIGHT = {
    "--paper": "#ffffff", "--ink": "#1b2130", "--faint": "#c9cfd9",
    "--series-1": "#1f5fbf", "--series-2": "#b3540e",
}  # fmt: skip
DARK = {
    "--paper": "#12151c", "--ink": "#e7eaf1", "--faint": "#3b4454",
    "--series-1": "#7db1ff", "--series-2": "#f0a35e",
}  # fmt: skip
"""Colours of the page by CSS variable."""

INK, FAINT, FIRST, SECOND = (
    LIGHT[name] for name in ("--ink", "--faint", "--series-1", "--series-2")
)
_VARIABLES = {color: f"var({name})" for name, color in LIGHT.items()}

_STYLE: dict[RcKeyType, object] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.parse_math": False,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "grid.color": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "grid.linewidth": 0.5, "path.simplify": False,
}  # fmt: skip

DASHED = (0, (5, 3))
_MARGIN = 12

WIDTH = 4.9
"""Inches: narrow enough that text stays legible on a phone."""


def css_variables(colors: Mapping[str, str]) -> str:
    """Return the colours of a page as CSS declarations."""
    return " ".join(f"{name}: {value};" for name, value in colors.items())


@contextmanager
def new_figure(height: float, name: str) -> Iterator[tuple[Figure, Axes]]:
    """Yield an empty figure in the page's style, without touching anybody's settings."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # a salt of its own: ids that are the same every time
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.add_subplot()


def to_svg(figure: Figure, name: str) -> str:
    """Return a drawing as an element for the page; `name` is unique within it.

    Matplotlib's prologue, metadata and size go; ids begin with the name, so that two drawings can
    share a page; colours and the font become the page's.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05,
                   metadata={"Date": None})  # fmt: skip
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for size in ("width", "height"):
        svg = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    svg = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font: \1px var(--sans)", svg)
    svg = re.sub(
        r"((?:fill|stroke): )(#[0-9a-f]{6})", lambda m: m[1] + _VARIABLES.get(m[2], m[2]), svg
    )
    return svg.strip()


def as_file(svg: str) -> str:
    """Turn a drawing for a page into a file of its own."""
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    assert box is not None, "matplotlib states it"
    width, height = (float(entry) + 2 * _MARGIN for entry in box.groups())
    place = f'x="-{_MARGIN}" y="-{_MARGIN}" width="{width:g}" height="{height:g}"'
    style = (
        f"<style>:root{{{css_variables(LIGHT)} --sans: system-ui, sans-serif;}}"
        f"@media (prefers-color-scheme:dark){{:root{{{css_variables(DARK)}}}}}</style>"
        f'<rect {place} style="fill:var(--paper)"/>'
    )
    svg = svg.replace(box[0], f'viewBox="-{_MARGIN} -{_MARGIN} {width:g} {height:g}"', 1)
    svg = svg.replace("<svg", f'<svg width="{1.5 * width:.0f}" height="{1.5 * height:.0f}"', 1)
    end = svg.index(">") + 1
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:end]}{style}{svg[end:]}\n'


def write_at(
    axes: Axes, text: str, x: float, y: float, *, va: str = "center", weight: str = "normal"
) -> None:
    """Write a value just to the right of a point."""
    axes.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va=va, fontweight=weight)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write names at the left of rows, the first on top: row n is at y = len(names) - 1 - n."""
    axes.set_yticks(range(len(names))[::-1], names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="y", visible=False)


def draw_range(
    axes: Axes, energy: Energy | Bounds, y: float, *, is_network: bool, size: float = 7
) -> None:
    """Draw a range as a bar and its nominal value as a mark; sides differ in mark and colour."""
    color = FIRST if is_network else SECOND
    # an ANN that computes nothing needs 0 pJ, which a log axis cannot show
    low, nominal, high = (max(end, 1e-3) for end in (energy.low, energy.nominal, energy.high))
    if low < high:
        axes.plot([low, high], [y, y], color=color, linewidth=3.2, solid_capstyle="butt")
    axes.plot(
        [nominal], [y], color=color, marker="o" if is_network else "s", markersize=size,
        markerfacecolor=color if is_network else "none", markeredgewidth=1.6, linestyle="none",
    )  # fmt: skip


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
