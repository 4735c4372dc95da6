"""Plots of a report: bars of every layer, energy by preset and format, break-evens, sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import RATE_BREAK_EVEN
from neurodeploy.reports.activity import LayerActivity
from neurodeploy.reports.numbers import format_count, format_percent
from neurodeploy.reports.plots import drawing
from neurodeploy.reports.plots.drawing import FAINT, FIRST, INK, SECOND
from neurodeploy.reports.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_LAYERS = 30
"""Layers beyond which bars stand side by side without their names."""
_RATE = "spikes per neuron and step, %"
_DOTTED = (0, (2, 2))


def plot_sops(report: Report) -> str:
    """Draw SOPs of every layer, and those that zero weights would add."""
    samples = report.counts.samples
    rows = [row for row in report.counts.layers if row.type != "injection"]
    with drawing.new_figure(rates_height(len(rows)), "sops") as (figure, axes):
        _draw_bars(
            axes,
            {row.name: row.sops / samples for row in rows},
            "SOPs per sample",
            lambda value: format_count(round(value)),
            outlines=[row.sops_stored / samples for row in rows],
        )
        return drawing.to_svg(figure, "sops")


def plot_activity(report: Report) -> str:
    """Draw how often the neurons of every layer spike, over the published break-even rate."""
    rows = [row for row in report.counts.layers if row.neurons]
    with drawing.new_figure(rates_height(len(rows)), "activity") as (figure, axes):
        _draw_bars(
            axes,
            {row.name: 100 * row.spikes / row.updates_dense for row in rows},
            _RATE,
            lambda value: f"{value:.1f}",
            mark=100 * RATE_BREAK_EVEN[0],
        )
        return drawing.to_svg(figure, "activity")


def draw_rates(axes: Axes, layers: Sequence[LayerActivity]) -> None:
    """Draw the rate of every layer into axes."""
    rates = {layer.name: 100 * (layer.rate or 0.0) for layer in layers}
    _draw_bars(axes, rates, _RATE, lambda value: format_percent(value / 100))


def rates_height(layers: int) -> float:
    """Return the height of a plot of that many layers in inches."""
    return 2.6 if layers > MANY_LAYERS else 0.9 + 0.42 * layers


def _draw_bars(
    axes: Axes,
    values: Mapping[str, float],
    label: str,
    write: Callable[[float], str],
    *,
    outlines: Sequence[float] = (),
    mark: float | None = None,
) -> None:
    """Draw a lying bar with its name for every layer, or many of them side by side."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    names, lengths, number = list(values), list(values.values()), len(values)
    many = number > MANY_LAYERS
    limit = max([*lengths, *outlines, 1.5 * (mark or 0.0), 1e-9])
    if many:
        place = np.arange(1, number + 1)
        if outlines:
            axes.step(place, outlines, where="mid", color=INK, linewidth=0.8, linestyle=_DOTTED)
        axes.bar(place, lengths, width=0.8, color=FIRST)
        axes.set_xlim(0.3, number + 0.7)
        axes.set_ylim(0, limit * 1.1)
        axes.set_xlabel(f"layer, 1 to {number} in the table's order")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="x", visible=False)
    else:
        place = np.arange(number)[::-1]
        if outlines:
            axes.barh(
                place, outlines, height=0.62, facecolor="none", edgecolor=INK, linestyle=_DOTTED
            )
        axes.barh(place, lengths, height=0.62, color=FIRST)
        for y, value, end in zip(place.tolist(), lengths, outlines or lengths, strict=True):
            drawing.write_at(axes, write(value), max(value, end), y)
        drawing.name_rows(axes, [drawing.shortened(name) for name in names])
        axes.set_xlim(0, limit * 1.22)
        axes.set_xlabel(label)
    (axes.yaxis if many else axes.xaxis).set_major_formatter(EngFormatter(sep=""))
    if mark is not None:
        line = axes.axhline if many else axes.axvline
        line(mark, color=SECOND, linewidth=1.6, linestyle=drawing.DASHED)


def plot_energy(report: Report) -> str:
    """Draw the energy range of every preset, network and ANN one above the other."""
    rows = report.tiers
    with drawing.new_figure(1.0 + 0.42 * len(rows), "energy") as (figure, axes):
        for y, row in zip(range(len(rows))[::-1], rows, strict=True):
            drawing.draw_range(axes, row.network, y + 0.15, is_network=True)
            if row.ann is not None:
                drawing.draw_range(axes, row.ann, y - 0.17, is_network=False)
        drawing.name_rows(
            axes, [f"{row.network.tier.value}  {_preset_label(row.network.preset)}" for row in rows]
        )
        drawing.log_energy_axis(axes)
        handles = [
            axes.plot([], [], color=FIRST, marker="o", linewidth=3.2, label="spiking network")[0],
            axes.plot(
                [], [], color=SECOND, marker="s", markerfacecolor="none", linewidth=3.2,
                label=drawing.shortened(report.ann_label),
            )[0],
        ]  # fmt: skip
        figure.legend(
            handles=handles, loc="outside upper center", ncols=2, frameon=False, handlelength=2.4
        )
        return drawing.to_svg(figure, "energy")


def _preset_label(name: str) -> str:
    """Show the preset itself; the one that tier B is added to stands in the table."""
    preset = name.split(" + ")[0]
    for known, label in (("cmos45_", "45 nm "), ("cmos7_", "7 nm "), ("sram45", "45 nm with SRAM")):
        preset = preset.replace(known, label)
    return drawing.shortened(preset.replace("_", " "))


def plot_formats(groups: Sequence[tuple[str, Sequence[tuple[str, Energy]]]]) -> str:
    """Draw the deployed network over the ANN in each number format, one group a tier.

    Args:
        groups: (heading, rows); a row is (label, energy), the network's first.
    """
    lines = sum(len(rows) + 1 for _, rows in groups)
    with drawing.new_figure(0.8 + 0.34 * lines, "formats") as (figure, axes):
        y, labels = lines - 1, []
        for heading, rows in groups:
            if y < lines - 1:
                axes.axhline(y + 0.5, color=FAINT, linewidth=0.8)
            labels.append(heading)
            for number, (label, energy) in enumerate(rows, 1):
                drawing.draw_range(axes, energy, y - number, is_network=number == 1)
                labels.append(label)
            y -= len(rows) + 1
        drawing.name_rows(axes, labels)
        headings = [heading for heading, _ in groups]
        for text in axes.get_yticklabels():
            if text.get_text() in headings:
                text.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        drawing.log_energy_axis(axes)
        return drawing.to_svg(figure, "formats")


def plot_break_even(sigma: float, bands: Sequence[tuple[str, float, float]]) -> str:
    """Draw spikes per synapse of the network over where spiking networks break even.

    Args:
        sigma: Spikes per synapse per inference.
        bands: (operations counted, lowest, highest break-even); equal for a single value.
    """
    with drawing.new_figure(1.1 + 0.55 * len(bands), "breakeven") as (figure, axes):
        for y, (_, low, high) in zip(range(len(bands))[::-1], bands, strict=True):
            axes.barh(y, low, height=0.5, color=SECOND)
            if high > low:
                axes.barh(
                    y, high - low, left=low, height=0.5, facecolor="none", edgecolor=SECOND,
                    hatch="////", linewidth=1.2,
                )  # fmt: skip
            drawing.write_at(axes, f"{low:g}" if low == high else f"{low:g} to {high:g}", high, y)
        axes.axvline(sigma, color=FIRST, linewidth=2.2)
        text, top = f"this network: {sigma:.3f}", len(bands) - 0.45
        drawing.write_at(axes, text, sigma, top, weight="bold", va="baseline")
        drawing.name_rows(axes, [drawing.wrapped(name) for name, _, _ in bands])
        axes.set_xlim(0, max(sigma, *(high for _, _, high in bands)) * 1.25)
        axes.set_ylim(-0.6, len(bands) - 0.1)
        axes.set_xlabel("spikes per synapse per inference")
        return drawing.to_svg(figure, "breakeven")


def plot_sensitivity(rows: Sequence[tuple[str, float, float]]) -> str:
    """Draw the ratio of both energies from one end of each assumption to the other.

    Args:
        rows: (assumption, ratio at one end, at the other), widest first.
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    with drawing.new_figure(1.2 + 0.52 * len(rows), "sensitivity") as (figure, axes):
        for y, (_, low, high) in zip(range(len(rows))[::-1], rows, strict=True):
            axes.plot([low, high], [y, y], color=FIRST, linewidth=5, solid_capstyle="butt")
            for end in (low, high):
                axes.plot([end], [y], color=FIRST, marker="|", markersize=12, markeredgewidth=2)
        axes.axvline(1.0, color=SECOND, linewidth=1.6, linestyle=drawing.DASHED)
        for text, side, shift in (
            ("network needs less", "right", -6),
            ("ANN needs less", "left", 6),
        ):
            axes.annotate(
                text, (1.0, len(rows) - 0.45), xytext=(shift, 0), textcoords="offset points",
                ha=side, fontsize=9, style="italic",
            )  # fmt: skip
        drawing.name_rows(axes, [drawing.wrapped(name) for name, _, _ in rows])
        axes.set_ylim(-0.6, len(rows) - 0.1)
        axes.set_xscale("log")
        left = min([1.0, *(low for _, low, _ in rows)])
        right = max([1.0, *(high for _, _, high in rows)])
        axes.set_xlim(min(left / 2, 0.08), max(right * 2, 12.5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("energy, network / ANN (log scale)")
        return drawing.to_svg(figure, "sensitivity")
