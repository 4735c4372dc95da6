"""Plots of a run: accuracy by stage, training curves, and a network's activity.

Plots of the activity stand on a page, or in a file of their own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.files import replacing, write_text
from neurodeploy.reports.activity import Activity, ActivityMap, Membrane, RasterLayer, Readout
from neurodeploy.reports.numbers import format_count, format_percent
from neurodeploy.reports.plots import drawing
from neurodeploy.reports.plots.drawing import FAINT, FIRST, INK, SECOND
from neurodeploy.reports.plots.report_plots import draw_rates, rates_height
from neurodeploy.reports.report import AccuracyPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

SUFFIXES = (".html", ".svg", ".png")
RASTER_LAYERS = 12
"""Layers that a raster shows at most, evenly chosen, the first and the last among them."""
RASTER_NEURONS = 256
"""Neurons of a layer that a raster shows at most."""

_CELLS = 48
"""Cells of a map along its longer side at most; larger maps are averaged."""
_SHADES = 12
_COLUMNS = 4
_DPI = 160
_CLASSES = 16
"""Classes up to which each line of a read-out is named; of more, only the highest half of them."""
_BROKEN = (0, (4, 2))


Curve = tuple[Sequence[float], Sequence[float]]
"""The values of a line: x, y."""


@dataclass(frozen=True, slots=True)
class ActivityPanel:
    """One plot of the activity: its height in inches, and the function that draws it."""

    title: str
    height: float
    draw: Callable[[FigureBase], None]


def plot_accuracy(points: Sequence[AccuracyPoint]) -> str:
    """Draw accuracy from stage to stage, with 95 % intervals.

    Stages on as many samples as the first are joined. Those on others are hollow, stand apart and
    are joined among themselves, with their number of samples below.
    """
    with drawing.new_figure(2.8, "accuracy") as (figure, axes):
        values = [100 * point.value for point in points]
        bounds = [
            tuple(100 * end for end in point.interval or (point.value, point.value))
            for point in points
        ]
        first = points[0].samples
        for number in dict.fromkeys(point.samples for point in points):
            group = [x for x, point in enumerate(points) if point.samples == number]
            dash = "-" if number == first else _BROKEN
            axes.plot(group, [values[x] for x in group], color=FIRST, linewidth=1.8, linestyle=dash)
            if group[0]:
                axes.axvline(group[0] - 0.5, color=FAINT, linewidth=1.0)
        labels = []
        for x, (point, value, (low, high)) in enumerate(zip(points, values, bounds, strict=True)):
            axes.plot([x, x], [low, high], color=INK, linewidth=1.0, marker="_", markersize=9)
            is_whole = point.samples == first
            axes.plot(
                [x], [value], color=FIRST, marker="o", markersize=7, markeredgewidth=1.6,
                markerfacecolor=FIRST if is_whole else "none",
            )  # fmt: skip
            axes.annotate(
                format_percent(point.value), (x, value), xytext=(6, 6),
                textcoords="offset points", fontweight="bold",
            )  # fmt: skip
            samples = "" if is_whole else f"\non {format_count(point.samples)}"
            labels.append(drawing.shortened(point.stage) + samples)
        lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
        half = max(highest - lowest, 4.0) * 0.6
        middle = (lowest + highest) / 2
        axes.set_ylim(max(middle - half, -0.9), min(middle + half, 100.9))
        axes.set_xlim(-0.3, len(points) - 0.35)
        axes.set_xticks(range(len(points)), labels)
        axes.set_ylabel("accuracy, %")
        axes.text(
            0.0, 1.02, "the axis does not start at zero", transform=axes.transAxes, fontsize=8,
            style="italic",
        )  # fmt: skip
        return drawing.to_svg(figure, "accuracy")


def plot_curves(curves: Mapping[str, Curve], name: str, x_label: str, y_label: str) -> str:
    """Draw one or two curves, by label, over training; `name` is unique within the page."""
    styles = ((FIRST, "-", "o"), (SECOND, _BROKEN, "s"))
    with drawing.new_figure(2.6, name) as (figure, axes):
        for (label, (x, y)), (color, dash, marker) in zip(curves.items(), styles, strict=False):
            axes.plot(
                x, y, color=color, linestyle=dash, linewidth=1.8, marker=marker, label=label,
                markersize=4 if len(x) <= 60 else 0, markevery=max(1, len(x) // 12),
            )  # fmt: skip
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(x=0.03, y=0.1)
        if len(curves) > 1:
            axes.legend(frameon=False, loc="best", handlelength=2.6)
        return drawing.to_svg(figure, name)


def plot_raster(layers: Sequence[RasterLayer]) -> str:
    """Draw the spikes of one sample: a strip a layer, a mark a spike."""
    with drawing.new_figure(_raster_height(layers), "raster") as (figure, axes):
        _draw_raster(axes, layers)
        return drawing.to_svg(figure, "raster")


def panels_of(activity: Activity) -> dict[str, ActivityPanel]:
    """Return the plots that have any content, by name, in order."""
    panels: dict[str, ActivityPanel] = {}

    def add(name: str, title: str, height: float, draw: Callable[[FigureBase], None]) -> None:
        panels[name] = ActivityPanel(title, height, draw)

    rows = [layer for layer in activity.layers if layer.rate is not None]
    raster, readout, maps = activity.raster, activity.readout, activity.maps
    if rows:
        height = rates_height(len(rows))
        add(
            "rates",
            "Rate of each layer",
            height,
            lambda figure: draw_rates(figure.subplots(), rows),
        )
    if raster is not None and raster.layers:
        strips = raster.layers
        add(
            "spikes", f"Spikes of {raster.title}", _raster_height(strips),
            lambda figure: _draw_raster(figure.subplots(), strips),
        )  # fmt: skip
    if maps:
        height = 0.15 + 1.6 * -(-len(maps) // _COLUMNS)
        add("maps", "Where the events are", height, lambda figure: _draw_maps(figure, maps))
    if readout is not None:
        add(
            "readout",
            "Potential of every class",
            3.4,
            lambda figure: _draw_readout(figure, readout),
        )
    if activity.membranes:
        height = 0.5 + 1.05 * len(activity.membranes)
        add(
            "membranes", "Potential of single neurons", height,
            lambda figure: _draw_membranes(figure, activity.membranes),
        )  # fmt: skip
    return panels


def plot_panel(name: str, panel: ActivityPanel) -> str:
    """Draw one plot as SVG for a page."""
    name = f"activity-{name}"
    with drawing.new_figure(panel.height, name) as (figure, axes):
        axes.remove()
        panel.draw(figure)
        return drawing.to_svg(figure, name)


def save_drawing(activity: Activity, path: Path) -> None:
    """Write all plots, one below the other, to an SVG or PNG file, whole or not at all.

    An SVG file follows the reader's choice of light or dark; a PNG file is light.

    Raises:
        OutputError: If it cannot be written.
    """
    panels = list(panels_of(activity).values())
    heights = [panel.height + 0.45 for panel in panels]
    with drawing.new_figure(sum(heights), "activity") as (figure, axes):
        axes.remove()
        rows = figure.subfigures(len(panels), squeeze=False, height_ratios=heights)
        for subfigure, panel in zip(rows[:, 0], panels, strict=True):
            panel.draw(subfigure)
            subfigure.suptitle(panel.title, x=0.01, ha="left", fontweight="bold", fontsize=11)
        if path.suffix.lower() == ".svg":
            write_text(path, drawing.as_file(drawing.to_svg(figure, "activity")))
            return
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="png", dpi=_DPI, facecolor=drawing.LIGHT["--paper"], bbox_inches="tight",
            pad_inches=0.15, metadata={"Software": None},
        )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _raster_height(layers: Sequence[RasterLayer]) -> float:
    return 0.7 + 0.75 * min(len(layers), RASTER_LAYERS)


def _draw_raster(axes: Axes, layers: Sequence[RasterLayer]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    if len(layers) > RASTER_LAYERS:
        layers = [layers[n] for n in np.linspace(0, len(layers) - 1, RASTER_LAYERS).astype(int)]
    labels = []
    for base, layer in zip(range(len(layers))[::-1], layers, strict=True):
        neurons = layer.fired.shape[1]
        shown = np.unique(np.linspace(0, neurons - 1, RASTER_NEURONS).astype(int))
        when, who = np.nonzero(layer.fired[:, shown])
        height = base + 0.06 + 0.88 * (1 - (who + 0.5) / len(shown))
        # one path for all spikes of a layer: an element each would make a page many times larger
        corners = np.empty((2 * len(when), 2))
        corners[0::2] = np.stack([when + 0.58, height], axis=1)
        corners[1::2] = np.stack([when + 1.42, height], axis=1)
        codes = np.tile([Outline.MOVETO, Outline.LINETO], len(when))
        width = float(np.clip(60 / len(shown), 0.45, 3.0))
        if len(when):
            outline = Outline(corners, codes)
            axes.add_patch(PathPatch(outline, edgecolor=FIRST, fill=False, linewidth=width))
        axes.axhline(base, color=FAINT, linewidth=0.8)
        labels.append(f"{drawing.shortened(layer.name)}\n{format_count(neurons)} {layer.unit}")
    axes.set_yticks([len(layers) - 0.5 - number for number in range(len(layers))], labels)
    steps = max(layer.fired.shape[0] for layer in layers)
    axes.set_xlim(0.5, steps + 0.5)
    axes.set_ylim(0, len(layers))
    _label_steps(axes, steps)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)


def _label_steps(axes: Axes, steps: int) -> None:
    axes.set_xlabel("step")
    if steps <= 12:
        axes.set_xticks(range(1, steps + 1))


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
            square = ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
            corners = np.stack([np.stack([x + dx, y + dy], 1) for dx, dy in square], axis=1)
            codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY] * len(x)
            axes.add_patch(
                PathPatch(
                    Outline(corners.reshape(-1, 2).astype(float), codes), facecolor=FIRST,
                    linewidth=0, alpha=level / _SHADES, antialiased=False, clip_on=False,
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
        axes.set_title(drawing.shortened(grid_map.layer), fontsize=9, pad=3)
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
    _label_steps(axes, len(steps))
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
        reach = [0.0, *membrane.values]
        axes.axhline(0, color=FAINT, linewidth=0.8)
        if membrane.threshold is not None:
            reach.append(membrane.threshold)
            axes.axhline(membrane.threshold, color=SECOND, linewidth=1.2, linestyle=_BROKEN)
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
        margin = 0.1 * (max(reach) - min(reach) or 1.0)
        axes.set_ylim(min(reach) - margin, max(reach) + 2.5 * margin)
        axes.set_title(
            f"{drawing.shortened(membrane.layer)}, neuron {format_count(membrane.neuron)}",
            loc="left", fontsize=9, pad=3,
        )  # fmt: skip
        axes.locator_params(axis="y", nbins=3)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="x", visible=False)
    grid[-1, 0].set_xlim(0.5, len(membranes[0].values) + 0.5)
    _label_steps(grid[-1, 0], len(membranes[0].values))
