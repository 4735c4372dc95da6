"""Plots of a report page; how they are drawn is in `neurodeploy.reports.plots.drawing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import RATE_BREAK_EVEN
from neurodeploy.reports.activity import RasterLayer
from neurodeploy.reports.numbers import format_count, format_percent, wilson_interval
from neurodeploy.reports.plots.drawing import (
    FAINT,
    FIRST,
    INK,
    SECOND,
    log_energy_axis,
    new_figure,
    note_axis,
    shortened,
    to_svg,
    wrapped,
)
from neurodeploy.reports.report import Report
from neurodeploy.reports.run_summary import AccuracyPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_LAYERS = 30
"""Layers beyond which bars stand side by side without their names."""

RASTER_LAYERS = 12
"""Layers that a raster shows at most, evenly chosen, the first and the last among them."""

RASTER_NEURONS = 256
"""Neurons of a layer that a raster shows at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a curve plot.

    Attributes:
        label: Written at its end.
        x: Positions.
        y: Values.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def plot_accuracy(points: Sequence[AccuracyPoint]) -> str:
    """Draw accuracy from stage to stage, with 95 % intervals.

    Stages on as many samples as the first are joined; others are hollow and stand apart.
    """
    with new_figure(2.6, "accuracy") as (figure, axes):
        values = [100 * one.value for one in points]
        bounds = [
            tuple(100 * end for end in wilson_interval(one.value, one.samples))
            if one.samples
            else (value, value)
            for one, value in zip(points, values, strict=True)
        ]
        joined = [x for x, one in enumerate(points) if one.samples == points[0].samples]
        axes.plot(joined, [values[x] for x in joined], color=FIRST, linewidth=1.8)
        for x, (value, (low, high)) in enumerate(zip(values, bounds, strict=True)):
            axes.plot([x, x], [low, high], color=INK, linewidth=1.0, marker="_", markersize=9)
            axes.plot(
                [x], [value], color=FIRST, marker="o", markersize=7, markeredgewidth=1.6,
                markerfacecolor=FIRST if x in joined else "none",
            )  # fmt: skip
            axes.annotate(
                format_percent(points[x].value), (x, value), xytext=(6, 6), color=INK,
                textcoords="offset points", fontweight="bold",
            )  # fmt: skip
        lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
        half = max(highest - lowest, 4.0) * 0.6
        middle = (lowest + highest) / 2
        axes.set_ylim(max(middle - half, -0.9), min(middle + half, 100.9))
        axes.set_xlim(-0.3, len(points) - 0.35)
        axes.set_xticks(range(len(points)), [shortened(one.stage) for one in points])
        axes.set_ylabel("accuracy, %")
        note_axis(axes, "the axis does not start at zero")
        return to_svg(figure, "accuracy")


def plot_curves(
    series: Sequence[Series],
    *,
    name: str,
    x_label: str,
    y_label: str,
    is_step: bool = False,
) -> str:
    """Draw one or two series over training.

    Args:
        series: At most two.
        name: Unique within the page.
        x_label: Of the axis.
        y_label: Of the axis.
        is_step: Whether values hold until the next.
    """
    styles = ((FIRST, "-", "o"), (SECOND, (0, (4, 2)), "s"))
    with new_figure(2.6, name) as (figure, axes):
        for one, (color, dash, marker) in zip(series, styles, strict=False):
            axes.plot(
                one.x,
                one.y,
                color=color,
                linestyle=dash,
                linewidth=1.8,
                marker=marker,
                markersize=4 if len(one.x) <= 60 else 0,
                markevery=max(1, len(one.x) // 12),
                drawstyle="steps-post" if is_step else "default",
                label=one.label,
            )
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(x=0.03, y=0.1)
        if len(series) > 1:
            legend = axes.legend(frameon=False, loc="best", handlelength=2.6)
            for text in legend.get_texts():
                text.set_color(INK)
        return to_svg(figure, name)


def plot_sops(report: Report) -> str:
    """Draw SOPs of every layer, and those that zero weights would add."""
    samples = report.counts.samples
    rows = [row for row in report.counts.layers if row.type != "injection"]
    return _plot_layers(
        [row.name for row in rows],
        [row.sops / samples for row in rows],
        outlines=[row.sops_stored / samples for row in rows],
        name="sops",
        label="SOPs per sample",
        write=lambda value: format_count(round(value)),
    )


def plot_activity(report: Report) -> str:
    """Draw how often the neurons of every layer spike, over the published break-even rate."""
    rows = [row for row in report.counts.layers if row.neurons]
    return _plot_layers(
        [row.name for row in rows],
        [100 * row.spikes / row.updates_dense for row in rows],
        name="activity",
        label="spikes per neuron and step, %",
        write=lambda value: f"{value:.1f}",
        mark=100 * RATE_BREAK_EVEN[0],
    )


def _plot_layers(
    names: Sequence[str],
    values: Sequence[float],
    *,
    name: str,
    label: str,
    write: Callable[[float], str],
    outlines: Sequence[float] | None = None,
    mark: float | None = None,
) -> str:
    """Draw one bar a layer: lying and labelled, or standing side by side where they are many."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    many = len(names) > MANY_LAYERS
    height = 2.6 if many else 0.9 + 0.42 * len(names)
    outer = list(values if outlines is None else outlines)
    limit = max([*values, *outer, 1.5 * (mark or 0.0), 1e-9])
    with new_figure(height, name) as (figure, axes):
        value_axis = axes.yaxis if many else axes.xaxis
        if many:
            place = np.arange(1, len(names) + 1)
            if outlines is not None:
                axes.step(
                    place, outer, where="mid", color=INK, linewidth=0.8, linestyle=(0, (2, 2))
                )
            axes.bar(place, values, width=0.8, color=FIRST)
            axes.set_xlim(0.3, len(names) + 0.7)
            axes.set_ylim(0, limit * 1.1)
            axes.set_xlabel(f"layer, 1 to {len(names)} in the table's order")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(axis="x", visible=False)
        else:
            place = np.arange(len(names))[::-1]
            if outlines is not None:
                axes.barh(
                    place, outer, height=0.62, facecolor="none", edgecolor=INK,
                    linestyle=(0, (2, 2)),
                )  # fmt: skip
            axes.barh(place, values, height=0.62, color=FIRST)
            for y, value, end in zip(place, values, outer, strict=True):
                axes.annotate(
                    write(value), (max(value, end), y), xytext=(5, 0), va="center", color=INK,
                    textcoords="offset points",
                )  # fmt: skip
            axes.set_yticks(place, [shortened(one) for one in names])
            axes.set_xlim(0, limit * 1.22)
            axes.set_xlabel(label)
            axes.grid(axis="y", visible=False)
        value_axis.set_major_formatter(EngFormatter(sep=""))
        if mark is not None:
            (axes.axhline if many else axes.axvline)(
                mark, color=SECOND, linewidth=1.6, linestyle=(0, (5, 3))
            )
        return to_svg(figure, name)


def plot_energy(report: Report) -> str:
    """Draw the energy range of every preset, network and ANN one above the other."""
    rows = report.tiers
    with new_figure(1.0 + 0.42 * len(rows), "energy") as (figure, axes):
        for number, row in enumerate(rows):
            y = len(rows) - 1 - number
            _energy_mark(axes, row.network, y + 0.15, is_network=True)
            if row.ann is not None:
                _energy_mark(axes, row.ann, y - 0.17, is_network=False)
        names = [f"{one.network.tier.value}  {_preset_label(one.network.preset)}" for one in rows]
        axes.set_yticks(range(len(rows))[::-1], names)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        log_energy_axis(axes)
        axes.grid(axis="y", visible=False)
        handles = [
            axes.plot([], [], color=FIRST, marker="o", linewidth=3.2, label="spiking network")[0],
            axes.plot(
                [], [], color=SECOND, marker="s", markerfacecolor="none", linewidth=3.2,
                label=shortened(report.ann_label),
            )[0],
        ]  # fmt: skip
        legend = figure.legend(
            handles=handles, loc="outside upper center", ncols=2, frameon=False, handlelength=2.4
        )
        for text in legend.get_texts():
            text.set_color(INK)
        return to_svg(figure, "energy")


def plot_formats(groups: Sequence[tuple[str, Sequence[tuple[str, Energy]]]]) -> str:
    """Draw the deployed network over the ANN in each number format, one group a tier.

    Args:
        groups: (heading, rows); a row is (label, energy), the network's first.
    """
    lines = sum(len(rows) + 1 for _, rows in groups)
    with new_figure(0.8 + 0.34 * lines, "formats") as (figure, axes):
        y, ticks, labels = float(lines), [], []
        for heading, rows in groups:
            y -= 1.0
            ticks.append(y)
            labels.append(heading)
            for number, (label, energy) in enumerate(rows):
                y -= 1.0
                _energy_mark(axes, energy, y, is_network=number == 0)
                ticks.append(y)
                labels.append(label)
            if y > 0:
                axes.axhline(y - 0.5, color=FAINT, linewidth=0.8)
        axes.set_yticks(ticks, labels)
        headings = [heading for heading, _ in groups]
        for text in axes.get_yticklabels():
            if text.get_text() in headings:
                text.set_fontweight("bold")
        axes.set_ylim(-0.6, lines - 0.4)
        axes.tick_params(axis="y", length=0)
        log_energy_axis(axes)
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "formats")


def _energy_mark(axes: Axes, energy: Energy, y: float, *, is_network: bool) -> None:
    """Draw a range as a bar and its nominal value as a mark; sides differ in mark and colour."""
    color = FIRST if is_network else SECOND
    low, nominal, high = (max(one, 1e-3) for one in (energy.low, energy.nominal, energy.high))
    if low < high:
        axes.plot([low, high], [y, y], color=color, linewidth=3.2, solid_capstyle="butt")
    axes.plot(
        [nominal], [y], color=color, marker="o" if is_network else "s", markersize=7,
        markerfacecolor=color if is_network else "none", markeredgewidth=1.6, linestyle="none",
    )  # fmt: skip


def plot_break_even(sigma: float, bands: Sequence[tuple[str, float, float]]) -> str:
    """Draw spikes per synapse of the network over where spiking networks break even.

    Args:
        sigma: Spikes per synapse per inference.
        bands: (what is counted, lowest, highest break-even); equal for a single value.
    """
    with new_figure(1.1 + 0.55 * len(bands), "breakeven") as (figure, axes):
        right = max(sigma, *(high for _, _, high in bands)) * 1.25
        for number, (_, low, high) in enumerate(bands):
            y = len(bands) - 1 - number
            axes.barh(y, low, height=0.5, color=SECOND)
            if high > low:
                axes.barh(
                    y, high - low, left=low, height=0.5, facecolor="none", edgecolor=SECOND,
                    hatch="////", linewidth=1.2,
                )  # fmt: skip
            axes.annotate(
                f"{low:g}" if low == high else f"{low:g} to {high:g}",
                (high, y), xytext=(5, 0), textcoords="offset points", va="center", color=INK,
            )  # fmt: skip
        axes.axvline(sigma, color=FIRST, linewidth=2.2)
        axes.annotate(
            f"this network: {sigma:.3f}", (sigma, len(bands) - 0.45), xytext=(5, 0),
            textcoords="offset points", color=INK, fontweight="bold",
        )  # fmt: skip
        axes.set_yticks(range(len(bands))[::-1], [wrapped(name) for name, _, _ in bands])
        axes.set_xlim(0, right)
        axes.set_ylim(-0.6, len(bands) - 0.1)
        axes.set_xlabel("spikes per synapse per inference")
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "breakeven")


def plot_sensitivity(rows: Sequence[tuple[str, float, float]]) -> str:
    """Draw the ratio of both energies from one end of each assumption to the other.

    Args:
        rows: (assumption, ratio at one end, at the other), widest first.
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    with new_figure(1.2 + 0.52 * len(rows), "sensitivity") as (figure, axes):
        for number, (_, low, high) in enumerate(rows):
            y = len(rows) - 1 - number
            axes.plot([low, high], [y, y], color=FIRST, linewidth=5, solid_capstyle="butt")
            for end in (low, high):
                axes.plot([end], [y], color=FIRST, marker="|", markersize=12, markeredgewidth=2)
        axes.axvline(1.0, color=SECOND, linewidth=1.6, linestyle=(0, (5, 3)))
        for text, side, shift in (
            ("network needs less", "right", -6),
            ("ANN needs less", "left", 6),
        ):
            axes.annotate(
                text, (1.0, len(rows) - 0.45), xytext=(shift, 0), textcoords="offset points",
                ha=side, color=INK, fontsize=9, style="italic",
            )  # fmt: skip
        axes.set_yticks(range(len(rows))[::-1], [wrapped(name) for name, _, _ in rows])
        axes.set_xscale("log")
        left = min(1.0, *(low for _, low, _ in rows))
        right = max(1.0, *(high for _, _, high in rows))
        axes.set_xlim(min(left / 2, 0.08), max(right * 2, 12.5))
        axes.set_ylim(-0.6, len(rows) - 0.1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("energy, network / ANN (log scale)")
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "sensitivity")


def plot_raster(layers: Sequence[RasterLayer]) -> str:
    """Draw the spikes of one sample: a strip a layer, a mark a spike."""
    with new_figure(raster_height(layers), "raster") as (figure, axes):
        draw_raster(axes, layers)
        return to_svg(figure, "raster")


def raster_height(layers: Sequence[RasterLayer]) -> float:
    """Return the height of a raster in inches."""
    return 0.7 + 0.75 * min(len(layers), RASTER_LAYERS)


def draw_raster(axes: Axes, layers: Sequence[RasterLayer]) -> None:
    """Draw what `plot_raster` does into axes."""
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


def _preset_label(name: str) -> str:
    """Show the preset itself; what tier B is added to stands in the table."""
    preset = name.split(" + ")[0]
    for known, label in (("cmos45_", "45 nm "), ("cmos7_", "7 nm "), ("sram45", "45 nm with SRAM")):
        preset = preset.replace(known, label)
    return shortened(preset.replace("_", " "))
