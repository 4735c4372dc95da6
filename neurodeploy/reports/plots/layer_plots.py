"""Plots with one bar a layer: operations, activity, rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.energy.fairness import RATE_BREAK_EVEN
from neurodeploy.reports.activity import LayerActivity
from neurodeploy.reports.numbers import format_count, format_percent
from neurodeploy.reports.plots.drawing import (
    FIRST,
    INK,
    SECOND,
    name_rows,
    new_figure,
    shortened,
    to_svg,
    write_at,
)
from neurodeploy.reports.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_LAYERS = 30
"""Layers beyond which bars stand side by side without their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bars:
    """One bar a layer.

    Attributes:
        names: Of the layers.
        values: Lengths of the bars.
        label: Of the axis.
        write: Writes a value beside its bar.
        outlines: Lengths of dashed outlines around the bars; None for none.
        mark: Place of a dashed line; None for none.
    """

    names: Sequence[str]
    values: Sequence[float]
    label: str
    write: Callable[[float], str]
    outlines: Sequence[float] | None = None
    mark: float | None = None

    @property
    def limit(self) -> float:
        """End of the axis, before any room for texts."""
        outer = self.values if self.outlines is None else self.outlines
        return max([*self.values, *outer, 1.5 * (self.mark or 0.0), 1e-9])


def plot_sops(report: Report) -> str:
    """Draw SOPs of every layer, and those that zero weights would add."""
    samples = report.counts.samples
    rows = [row for row in report.counts.layers if row.type != "injection"]
    bars = _Bars(
        names=[row.name for row in rows],
        values=[row.sops / samples for row in rows],
        outlines=[row.sops_stored / samples for row in rows],
        label="SOPs per sample",
        write=lambda value: format_count(round(value)),
    )
    return _plot(bars, "sops")


def plot_activity(report: Report) -> str:
    """Draw how often the neurons of every layer spike, over the published break-even rate."""
    rows = [row for row in report.counts.layers if row.neurons]
    bars = _Bars(
        names=[row.name for row in rows],
        values=[100 * row.spikes / row.updates_dense for row in rows],
        label="spikes per neuron and step, %",
        write=lambda value: f"{value:.1f}",
        mark=100 * RATE_BREAK_EVEN[0],
    )
    return _plot(bars, "activity")


def draw_rates(axes: Axes, layers: Sequence[LayerActivity]) -> None:
    """Draw the rate of every layer into axes."""
    bars = _Bars(
        names=[layer.name for layer in layers],
        values=[100 * (layer.rate or 0.0) for layer in layers],
        label="spikes per neuron and step, %",
        write=lambda value: format_percent(value / 100),
    )
    _draw(axes, bars)


def rates_height(layers: int) -> float:
    """Return the height of a plot of that many layers in inches."""
    return 2.6 if layers > MANY_LAYERS else 0.9 + 0.42 * layers


def _plot(bars: _Bars, name: str) -> str:
    with new_figure(rates_height(len(bars.names)), name) as (figure, axes):
        _draw(axes, bars)
        return to_svg(figure, name)


def _draw(axes: Axes, bars: _Bars) -> None:
    """Draw lying bars with their names, or many of them side by side."""
    from matplotlib.ticker import EngFormatter

    many = len(bars.names) > MANY_LAYERS
    (_draw_standing if many else _draw_lying)(axes, bars)
    (axes.yaxis if many else axes.xaxis).set_major_formatter(EngFormatter(sep=""))
    if bars.mark is not None:
        line = axes.axhline if many else axes.axvline
        line(bars.mark, color=SECOND, linewidth=1.6, linestyle=(0, (5, 3)))


def _draw_lying(axes: Axes, bars: _Bars) -> None:
    place = np.arange(len(bars.names))[::-1]
    outer = bars.values if bars.outlines is None else bars.outlines
    if bars.outlines is not None:
        axes.barh(place, outer, height=0.62, facecolor="none", edgecolor=INK, linestyle=(0, (2, 2)))
    axes.barh(place, bars.values, height=0.62, color=FIRST)
    for y, value, end in zip(place, bars.values, outer, strict=True):
        write_at(axes, bars.write(value), max(value, end), y)
    name_rows(axes, [shortened(name) for name in bars.names])
    axes.set_xlim(0, bars.limit * 1.22)
    axes.set_xlabel(bars.label)


def _draw_standing(axes: Axes, bars: _Bars) -> None:
    from matplotlib.ticker import MaxNLocator

    number = len(bars.names)
    place = np.arange(1, number + 1)
    if bars.outlines is not None:
        axes.step(
            place, bars.outlines, where="mid", color=INK, linewidth=0.8, linestyle=(0, (2, 2))
        )
    axes.bar(place, bars.values, width=0.8, color=FIRST)
    axes.set_xlim(0.3, number + 0.7)
    axes.set_ylim(0, bars.limit * 1.1)
    axes.set_xlabel(f"layer, 1 to {number} in the table's order")
    axes.set_ylabel(bars.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
