"""Plots of a network's activity, for a page or for a file of their own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.files import replacing, write_text
from neurodeploy.reports.activity import Activity, ActivityMap, Membrane, Readout
from neurodeploy.reports.numbers import format_count
from neurodeploy.reports.plots.drawing import (
    DARK,
    FAINT,
    FIRST,
    INK,
    LIGHT,
    SECOND,
    css_variables,
    new_figure,
    shortened,
    to_svg,
)
from neurodeploy.reports.plots.layer_plots import draw_rates, rates_height
from neurodeploy.reports.plots.run_plots import draw_raster, raster_height

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

_CELLS = 48
"""Cells of a map along its longer side at most; larger maps are averaged."""
_SHADES = 12
_COLUMNS = 4
_DPI = 160
_MARGIN = 12
_CLASSES = 16
"""Classes up to which each line of a read-out is named; of more, only the highest half of them."""
SUFFIXES = (".html", ".svg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityPanel:
    """One plot: its height in inches, and the function that draws it."""

    name: str
    title: str
    height: float
    draw: Callable[[FigureBase], None]


def panels_of(activity: Activity) -> dict[str, ActivityPanel]:
    """Return the plots that have any content, by name, in order."""
    panels = []
    rows = [layer for layer in activity.layers if layer.rate is not None]
    if rows:
        panels.append(
            ActivityPanel(
                name="rates",
                title="Rate of each layer",
                height=rates_height(len(rows)),
                draw=lambda figure: draw_rates(figure.subplots(), rows),
            )
        )
    raster = activity.raster
    if raster is not None and raster.layers:
        panels.append(
            ActivityPanel(
                name="spikes",
                title=f"Spikes of {raster.title}",
                height=raster_height(raster.layers),
                draw=lambda figure: draw_raster(figure.subplots(), raster.layers),
            )
        )
    if activity.maps:
        panels.append(
            ActivityPanel(
                name="maps",
                title="Where the events are",
                height=0.15 + 1.6 * -(-len(activity.maps) // _COLUMNS),
                draw=lambda figure: _draw_maps(figure, activity.maps),
            )
        )
    readout = activity.readout
    if readout is not None:
        panels.append(
            ActivityPanel(
                name="readout",
                title="Potential of every class",
                height=3.4,
                draw=lambda figure: _draw_readout(figure, readout),
            )
        )
    if activity.membranes:
        panels.append(
            ActivityPanel(
                name="membranes",
                title="Potential of single neurons",
                height=0.5 + 1.05 * len(activity.membranes),
                draw=lambda figure: _draw_membranes(figure, activity.membranes),
            )
        )
    return {panel.name: panel for panel in panels}


def plot_panel(panel: ActivityPanel) -> str:
    """Draw one plot as SVG for a page."""
    name = f"activity-{panel.name}"
    with new_figure(panel.height, name) as (figure, axes):
        axes.remove()
        panel.draw(figure)
        return to_svg(figure, name)


def save_drawing(activity: Activity, path: Path) -> None:
    """Write all plots, one below the other, to an SVG or PNG file, whole or not at all.

    An SVG file follows the reader's choice of light or dark; a PNG file is light.

    Raises:
        OutputError: If it cannot be written.
    """
    panels = list(panels_of(activity).values())
    with new_figure(sum(panel.height + 0.45 for panel in panels), "activity") as (figure, axes):
        axes.remove()
        rows = figure.subfigures(
            len(panels), squeeze=False, height_ratios=[panel.height + 0.45 for panel in panels]
        )
        for subfigure, panel in zip(rows[:, 0], panels, strict=True):
            panel.draw(subfigure)
            subfigure.suptitle(panel.title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        if path.suffix.lower() == ".svg":
            write_text(path, _alone(to_svg(figure, "activity")))
            return
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="png", dpi=_DPI, facecolor=LIGHT["--paper"], bbox_inches="tight",
            pad_inches=0.15, metadata={"Software": None},
        )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _draw_maps(figure: FigureBase, maps: Sequence[ActivityMap]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    rows = -(-len(maps) // _COLUMNS)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(maps) :]:
        axes.remove()
    for axes, grid_map in zip(grid.flat, maps, strict=False):
        cells = _averaged(grid_map.counts)
        height, width = cells.shape
        peak = float(cells.max())
        shade = np.ceil(_SHADES * cells / peak).astype(int) if peak else np.zeros_like(cells, int)
        # one path a shade: an image would be a bitmap, which cannot follow the page's colours
        for level in range(1, _SHADES + 1):
            y, x = np.nonzero(shade == level)
            if not len(x):
                continue
            corners = np.stack(
                [np.stack([x + dx, y + dy], 1) for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))]
                + [np.stack([x, y], 1)],
                axis=1,
            ).reshape(-1, 2)
            codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY] * len(x)
            axes.add_patch(
                PathPatch(
                    Outline(corners.astype(float), codes), facecolor=FIRST, linewidth=0,
                    alpha=level / _SHADES, antialiased=False, clip_on=False,
                )
            )  # fmt: skip
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(True)
        most = int(grid_map.counts.max())
        axes.set_title(shortened(grid_map.layer), fontsize=9, pad=3)
        axes.set_xlabel(f"most: {format_count(most)}", fontsize=8, labelpad=2)


def _averaged(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Average blocks of a map that has more cells than are drawn; the last may be smaller."""
    block = -(-max(counts.shape) // _CELLS)
    rows, columns = (np.arange(0, extent, block) for extent in counts.shape)
    sums = np.add.reduceat(np.add.reduceat(counts, rows, axis=0), columns, axis=1)
    heights = np.diff([*rows, counts.shape[0]])
    widths = np.diff([*columns, counts.shape[1]])
    return np.asarray(sums / np.outer(heights, widths), dtype=np.float64)


def _draw_readout(figure: FigureBase, readout: Readout) -> None:
    """Draw a line a class; the winner's is thick, and its label says so."""
    axes = figure.subplots()
    steps = np.arange(1, len(readout.values) + 1)
    last = readout.values[-1]
    order = np.argsort(last, kind="stable")
    named = {*(order if len(order) <= _CLASSES else order[-_CLASSES // 2 :]).tolist()}
    named.add(readout.winner)  # of equal potentials the first wins, which comes first here
    low, high = float(readout.values.min()), float(readout.values.max())
    apart = 0.065 * (high - low or 1.0)  # labels closer than a line of text would overlap
    names = [number for number in order.tolist() if number in named]
    places = dict(zip(names, _spread(last[names], apart), strict=True))
    for number in order.tolist():
        wins = number == readout.winner
        axes.plot(
            steps, readout.values[:, number], color=FIRST if wins else INK, zorder=3 if wins else 2,
            linewidth=2.4 if wins else 0.9, alpha=1.0 if wins else 0.6,
            marker="o" if len(steps) <= 24 else "", markersize=5 if wins else 2,
        )  # fmt: skip
        if number in named:
            axes.annotate(
                f"class {number} wins" if wins else str(number), (steps[-1], places[number]),
                xytext=(6, 0), textcoords="offset points", va="center", fontsize=9,
                fontweight="bold" if wins else "normal", annotation_clip=False,
            )  # fmt: skip
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xlim(0.5 if len(steps) > 1 else 0.8, steps[-1] + 0.1)
    axes.margins(y=0.08)
    if len(steps) <= 12:
        axes.set_xticks(steps)
    axes.set_xlabel("step")
    axes.set_ylabel("potential")
    axes.grid(axis="x", visible=False)


def _spread(values: npt.NDArray[np.float64], apart: float) -> list[float]:
    """Return places for labels, in the order of the ascending `values`, not closer than `apart`."""
    places = [float(value) for value in values]
    for _ in range(100):  # neighbours push each other away in equal parts
        for lower in range(len(places) - 1):
            push = (apart - (places[lower + 1] - places[lower])) / 2
            if push > 0:
                places[lower] -= push
                places[lower + 1] += push
    return places


def _draw_membranes(figure: FigureBase, membranes: Sequence[Membrane]) -> None:
    grid = figure.subplots(len(membranes), 1, squeeze=False, sharex=True)
    for axes, membrane in zip(grid[:, 0], membranes, strict=True):
        steps = np.arange(1, len(membrane.values) + 1)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        if membrane.threshold is not None:
            axes.axhline(membrane.threshold, color=SECOND, linewidth=1.2, linestyle=(0, (4, 2)))
            axes.annotate(
                "threshold", (1, membrane.threshold), xycoords=("axes fraction", "data"),
                xytext=(3, 0), textcoords="offset points", va="center", fontsize=8,
                annotation_clip=False,
            )  # fmt: skip
        axes.plot(
            steps, membrane.values, color=FIRST, linewidth=1.5,
            marker="o" if len(steps) <= 24 else "", markersize=3,
        )  # fmt: skip
        fired = steps[membrane.fired]
        axes.plot(
            fired, np.full(len(fired), 0.93), color=FIRST, marker="|", markersize=7,
            markeredgewidth=1.6, linestyle="none", transform=axes.get_xaxis_transform(),
        )  # fmt: skip
        reach = [
            0.0,
            *membrane.values,
            *([] if membrane.threshold is None else [membrane.threshold]),
        ]
        margin = 0.1 * (max(reach) - min(reach) or 1.0)
        axes.set_ylim(min(reach) - margin, max(reach) + 2.5 * margin)
        axes.set_title(
            f"{shortened(membrane.layer)}, neuron {format_count(membrane.neuron)}",
            loc="left", fontsize=9, pad=3,
        )  # fmt: skip
        axes.locator_params(axis="y", nbins=3)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="x", visible=False)
    last = grid[-1, 0]
    last.set_xlim(0.5, len(membranes[0].values) + 0.5)
    if len(membranes[0].values) <= 12:
        last.set_xticks(range(1, len(membranes[0].values) + 1))
    last.set_xlabel("step")


def _alone(svg: str) -> str:
    """Turn a drawing for a page into a file of its own."""
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    assert box is not None, "matplotlib states it"
    width, height = (float(entry) + 2 * _MARGIN for entry in box.groups())
    style = (
        f"<style>:root{{{css_variables(LIGHT)} --sans: system-ui, sans-serif;}}"
        f"@media (prefers-color-scheme:dark){{:root{{{css_variables(DARK)}}}}}</style>"
        f'<rect x="-{_MARGIN}" y="-{_MARGIN}" width="{width:g}" height="{height:g}" '
        'style="fill:var(--paper)"/>'
    )
    larger = f'viewBox="-{_MARGIN} -{_MARGIN} {width:g} {height:g}"'
    svg = svg.replace(box[0], larger, 1)
    svg = svg.replace("<svg", f'<svg width="{1.5 * width:.0f}" height="{1.5 * height:.0f}"', 1)
    end = svg.index(">") + 1
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:end]}{style}{svg[end:]}\n'
