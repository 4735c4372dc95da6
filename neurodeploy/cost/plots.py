"""Plots of a report page; how they are drawn is in `neurodeploy.cost.drawing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurodeploy.cost.drawing import (
    FAINT,
    FIRST,
    INK,
    SECOND,
    decade,
    new_figure,
    note_axis,
    note_point,
    shortened,
    to_svg,
    wrapped,
)
from neurodeploy.cost.run_summary import RasterLayer
from neurodeploy.cost.summary import Report
from neurodeploy.cost.units import format_count, format_percent

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


def plot_accuracy(points: Sequence[tuple[str, float]]) -> str:
    """Draw accuracy from stage to stage.

    Args:
        points: (stage, fraction) in order.
    """
    with new_figure(2.6, "accuracy") as (figure, axes):
        values = [100 * value for _, value in points]
        place = list(range(len(points)))
        axes.plot(place, values, color=FIRST, marker="o", markersize=7, linewidth=1.8)
        for x, value, (_, fraction) in zip(place, values, points, strict=True):
            note_point(axes, format_percent(fraction), x, value, up=10)
        middle = (max(values) + min(values)) / 2
        half = max(max(values) - min(values), 4.0) * 0.75
        axes.set_ylim(middle - half, min(middle + half, 100.9))
        axes.set_xlim(-0.45, len(points) - 0.55)
        axes.set_xticks(place, [label for label, _ in points])
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
    from matplotlib.ticker import EngFormatter

    samples = report.counts.samples
    rows = [row for row in report.counts.layers if row.type != "injection"]
    with new_figure(0.9 + 0.42 * len(rows), "sops") as (figure, axes):
        place = np.arange(len(rows))[::-1]
        nonzero = [row.sops / samples for row in rows]
        stored = [row.sops_stored / samples for row in rows]
        axes.barh(
            place, stored, height=0.62, facecolor="none", edgecolor=INK, linestyle=(0, (2, 2))
        )
        axes.barh(place, nonzero, height=0.62, color=FIRST)
        for y, value, outer in zip(place, nonzero, stored, strict=True):
            axes.annotate(
                format_count(round(value)),
                (max(value, outer), y),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
            )
        axes.set_yticks(place, [shortened(row.name) for row in rows])
        axes.set_xlim(0, max([*stored, 1.0]) * 1.22)
        axes.set_xlabel("SOPs per sample")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "sops")


def plot_energy(report: Report) -> str:
    """Draw the energy range of every preset, network and ReLU twin one above the other."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    rows = report.tiers
    with new_figure(1.0 + 0.42 * len(rows), "energy") as (figure, axes):
        for number, row in enumerate(rows):
            y = len(rows) - 1 - number
            sides = [(row.network, 0.15, FIRST, "o", FIRST)]
            if row.ann is not None:
                sides.append((row.ann, -0.17, SECOND, "s", "none"))
            for energy, offset, color, marker, face in sides:
                low, high = max(energy.low, 1e-3), max(energy.high, 1e-3)
                if low < high:
                    axes.plot([low, high], [y + offset] * 2, color=color, linewidth=3.2)
                axes.plot(
                    [max(energy.nominal, 1e-3)],
                    [y + offset],
                    color=color,
                    marker=marker,
                    markersize=7,
                    markerfacecolor=face,
                    markeredgewidth=1.6,
                    linestyle="none",
                )
        names = [f"{one.network.tier.value}  {_preset_label(one.network.preset)}" for one in rows]
        axes.set_yticks(range(len(rows))[::-1], names)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("energy of one inference (log scale)")
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="y", visible=False)
        handles = [
            axes.plot([], [], color=FIRST, marker="o", linewidth=3.2, label="spiking network")[0],
            axes.plot(
                [], [], color=SECOND, marker="s", markerfacecolor="none", linewidth=3.2,
                label="ReLU twin (ANN)",
            )[0],
        ]  # fmt: skip
        legend = figure.legend(
            handles=handles, loc="outside upper center", ncols=2, frameon=False, handlelength=2.4
        )
        for text in legend.get_texts():
            text.set_color(INK)
        return to_svg(figure, "energy")


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


def plot_front(points: Sequence[tuple[str, float, float, bool]]) -> str:
    """Draw accuracy against energy; the networks that none beats are joined.

    Args:
        points: (label, energy in pJ, accuracy as a fraction, whether none beats it).
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    with new_figure(3.4, "front") as (figure, axes):
        front = sorted((energy, 100 * accuracy) for _, energy, accuracy, best in points if best)
        axes.plot(*zip(*front, strict=True), color=FIRST, linewidth=1.8, drawstyle="steps-post")
        for name, energy, accuracy, is_best in points:
            axes.plot(
                [energy], [100 * accuracy], color=FIRST if is_best else SECOND,
                marker="o" if is_best else "s", markersize=8,
                markerfacecolor=FIRST if is_best else "none", linestyle="none",
            )  # fmt: skip
            axes.annotate(
                shortened(name), (energy, 100 * accuracy), xytext=(7, 6),
                textcoords="offset points", color=INK,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.margins(x=0.15, y=0.2)
        axes.set_ylim(top=min(axes.get_ylim()[1], 101.0))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: decade(value)))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("energy of one inference (log scale)")
        axes.set_ylabel("accuracy, %")
        return to_svg(figure, "front")


def plot_sensitivity(rows: Sequence[tuple[str, float]]) -> str:
    """Draw by how much each assumption can change the answer.

    Args:
        rows: (assumption, factor), largest first.
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    with new_figure(0.9 + 0.5 * len(rows), "sensitivity") as (figure, axes):
        for number, (_, factor) in enumerate(rows):
            y = len(rows) - 1 - number
            axes.barh(y, factor - 1, left=1, height=0.55, color=FIRST)
            axes.annotate(
                f"x {factor:.3g}", (factor, y), xytext=(5, 0), textcoords="offset points",
                va="center", color=INK,
            )  # fmt: skip
        axes.set_yticks(range(len(rows))[::-1], [wrapped(name) for name, _ in rows])
        axes.set_xscale("log")
        axes.set_xlim(1, max(factor for _, factor in rows) * 2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("factor between both ends (log scale)")
        axes.grid(axis="y", visible=False)
        return to_svg(figure, "sensitivity")


def plot_raster(layers: Sequence[RasterLayer]) -> str:
    """Draw the spikes of one sample: a strip a layer, a mark a spike."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    with new_figure(0.7 + 0.75 * len(layers), "raster") as (figure, axes):
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
        return to_svg(figure, "raster")


def _preset_label(name: str) -> str:
    """Show the preset itself; what tier B is added to stands in the table."""
    preset = name.split(" + ")[0]
    for known, label in (("cmos45_", "45 nm "), ("cmos7_", "7 nm "), ("sram45", "45 nm with SRAM")):
        preset = preset.replace(known, label)
    return shortened(preset.replace("_", " "))
