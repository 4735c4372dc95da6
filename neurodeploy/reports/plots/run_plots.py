"""Plots of a run: accuracy by stage, training curves, the spikes of one sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.reports.activity import RasterLayer
from neurodeploy.reports.numbers import format_count, format_percent, wilson_interval
from neurodeploy.reports.plots.drawing import (
    FAINT,
    FIRST,
    INK,
    SECOND,
    new_figure,
    note_axis,
    shortened,
    to_svg,
)
from neurodeploy.reports.run_summary import AccuracyPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RASTER_LAYERS = 12
"""Layers that a raster shows at most, evenly chosen, the first and the last among them."""

RASTER_NEURONS = 256
"""Neurons of a layer that a raster shows at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a curve plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def plot_accuracy(points: Sequence[AccuracyPoint]) -> str:
    """Draw accuracy from stage to stage, with 95 % intervals.

    Stages on as many samples as the first are joined. Those on others are hollow, stand apart and
    are joined among themselves, with their number of samples below.
    """
    with new_figure(2.8, "accuracy") as (figure, axes):
        values = [100 * point.value for point in points]
        bounds = [
            tuple(100 * end for end in wilson_interval(point.value, point.samples))
            if point.samples
            else (value, value)
            for point, value in zip(points, values, strict=True)
        ]
        first = points[0].samples
        for number in dict.fromkeys(point.samples for point in points):
            group = [x for x, point in enumerate(points) if point.samples == number]
            dash = "-" if number == first else (0, (4, 2))
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
            labels.append(shortened(point.stage) + samples)
        lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
        half = max(highest - lowest, 4.0) * 0.6
        middle = (lowest + highest) / 2
        axes.set_ylim(max(middle - half, -0.9), min(middle + half, 100.9))
        axes.set_xlim(-0.3, len(points) - 0.35)
        axes.set_xticks(range(len(points)), labels)
        axes.set_ylabel("accuracy, %")
        note_axis(axes, "the axis does not start at zero")
        return to_svg(figure, "accuracy")


def plot_curves(series: Sequence[Series], *, name: str, x_label: str, y_label: str) -> str:
    """Draw one or two series over training; `name` is unique within the page."""
    styles = ((FIRST, "-", "o"), (SECOND, (0, (4, 2)), "s"))
    with new_figure(2.6, name) as (figure, axes):
        for line, (color, dash, marker) in zip(series, styles, strict=False):
            axes.plot(
                line.x,
                line.y,
                color=color,
                linestyle=dash,
                linewidth=1.8,
                marker=marker,
                markersize=4 if len(line.x) <= 60 else 0,
                markevery=max(1, len(line.x) // 12),
                label=line.label,
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(x=0.03, y=0.1)
        if len(series) > 1:
            axes.legend(frameon=False, loc="best", handlelength=2.6)
        return to_svg(figure, name)


def plot_raster(layers: Sequence[RasterLayer]) -> str:
    """Draw the spikes of one sample: a strip a layer, a mark a spike."""
    with new_figure(raster_height(layers), "raster") as (figure, axes):
        draw_raster(axes, layers)
        return to_svg(figure, "raster")


def raster_height(layers: Sequence[RasterLayer]) -> float:
    """Return the height of a raster in inches."""
    return 0.7 + 0.75 * min(len(layers), RASTER_LAYERS)


def draw_raster(axes: Axes, layers: Sequence[RasterLayer]) -> None:
    """Draw the spikes of one sample into axes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    if len(layers) > RASTER_LAYERS:
        layers = [layers[n] for n in np.linspace(0, len(layers) - 1, RASTER_LAYERS).astype(int)]
    steps = max(layer.fired.shape[0] for layer in layers)
    labels = []
    for number, layer in enumerate(layers):
        base = len(layers) - 1 - number
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
        labels.append(f"{shortened(layer.name)}\n{format_count(neurons)} {layer.unit}")
    axes.set_yticks([len(layers) - 0.5 - number for number in range(len(layers))], labels)
    axes.set_xlim(0.5, steps + 0.5)
    axes.set_ylim(0, len(layers))
    axes.set_xlabel("step")
    if steps <= 12:
        axes.set_xticks(range(1, steps + 1))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
