"""Plots of energy: every preset, number formats, break-evens, and what each assumption does."""

from __future__ import annotations

from collections.abc import Sequence

from neurodeploy.energy.estimates import Energy
from neurodeploy.reports.plots.drawing import (
    FAINT,
    FIRST,
    SECOND,
    draw_range,
    log_energy_axis,
    name_rows,
    new_figure,
    shortened,
    to_svg,
    wrapped,
    write_at,
)
from neurodeploy.reports.report import Report


def plot_energy(report: Report) -> str:
    """Draw the energy range of every preset, network and ANN one above the other."""
    rows = report.tiers
    with new_figure(1.0 + 0.42 * len(rows), "energy") as (figure, axes):
        for y, row in zip(range(len(rows))[::-1], rows, strict=True):
            draw_range(axes, row.network, y + 0.15, is_network=True)
            if row.ann is not None:
                draw_range(axes, row.ann, y - 0.17, is_network=False)
        name_rows(
            axes, [f"{row.network.tier.value}  {_preset_label(row.network.preset)}" for row in rows]
        )
        log_energy_axis(axes)
        handles = [
            axes.plot([], [], color=FIRST, marker="o", linewidth=3.2, label="spiking network")[0],
            axes.plot(
                [], [], color=SECOND, marker="s", markerfacecolor="none", linewidth=3.2,
                label=shortened(report.ann_label),
            )[0],
        ]  # fmt: skip
        figure.legend(
            handles=handles, loc="outside upper center", ncols=2, frameon=False, handlelength=2.4
        )
        return to_svg(figure, "energy")


def plot_formats(groups: Sequence[tuple[str, Sequence[tuple[str, Energy]]]]) -> str:
    """Draw the deployed network over the ANN in each number format, one group a tier.

    Args:
        groups: (heading, rows); a row is (label, energy), the network's first.
    """
    lines = sum(len(rows) + 1 for _, rows in groups)
    with new_figure(0.8 + 0.34 * lines, "formats") as (figure, axes):
        y, labels = lines - 1, []
        for heading, rows in groups:
            if y < lines - 1:
                axes.axhline(y + 0.5, color=FAINT, linewidth=0.8)
            labels.append(heading)
            for number, (label, energy) in enumerate(rows, 1):
                draw_range(axes, energy, y - number, is_network=number == 1)
                labels.append(label)
            y -= len(rows) + 1
        name_rows(axes, labels)
        headings = [heading for heading, _ in groups]
        for text in axes.get_yticklabels():
            if text.get_text() in headings:
                text.set_fontweight("bold")
        axes.tick_params(axis="y", length=0)
        log_energy_axis(axes)
        return to_svg(figure, "formats")


def plot_break_even(sigma: float, bands: Sequence[tuple[str, float, float]]) -> str:
    """Draw spikes per synapse of the network over where spiking networks break even.

    Args:
        sigma: Spikes per synapse per inference.
        bands: (operations counted, lowest, highest break-even); equal for a single value.
    """
    with new_figure(1.1 + 0.55 * len(bands), "breakeven") as (figure, axes):
        for y, (_, low, high) in zip(range(len(bands))[::-1], bands, strict=True):
            axes.barh(y, low, height=0.5, color=SECOND)
            if high > low:
                axes.barh(
                    y, high - low, left=low, height=0.5, facecolor="none", edgecolor=SECOND,
                    hatch="////", linewidth=1.2,
                )  # fmt: skip
            write_at(axes, f"{low:g}" if low == high else f"{low:g} to {high:g}", high, y)
        axes.axvline(sigma, color=FIRST, linewidth=2.2)
        top = len(bands) - 0.45
        write_at(axes, f"this network: {sigma:.3f}", sigma, top, weight="bold", va="baseline")
        name_rows(axes, [wrapped(name) for name, _, _ in bands])
        axes.set_xlim(0, max(sigma, *(high for _, _, high in bands)) * 1.25)
        axes.set_ylim(-0.6, len(bands) - 0.1)
        axes.set_xlabel("spikes per synapse per inference")
        return to_svg(figure, "breakeven")


def plot_sensitivity(rows: Sequence[tuple[str, float, float]]) -> str:
    """Draw the ratio of both energies from one end of each assumption to the other.

    Args:
        rows: (assumption, ratio at one end, at the other), widest first.
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    with new_figure(1.2 + 0.52 * len(rows), "sensitivity") as (figure, axes):
        for y, (_, low, high) in zip(range(len(rows))[::-1], rows, strict=True):
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
                ha=side, fontsize=9, style="italic",
            )  # fmt: skip
        name_rows(axes, [wrapped(name) for name, _, _ in rows])
        axes.set_ylim(-0.6, len(rows) - 0.1)
        axes.set_xscale("log")
        left = min([1.0, *(low for _, low, _ in rows)])
        right = max([1.0, *(high for _, _, high in rows)])
        axes.set_xlim(min(left / 2, 0.08), max(right * 2, 12.5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("energy, network / ANN (log scale)")
        return to_svg(figure, "sensitivity")


def _preset_label(name: str) -> str:
    """Show the preset itself; the one that tier B is added to stands in the table."""
    preset = name.split(" + ")[0]
    for known, label in (("cmos45_", "45 nm "), ("cmos7_", "7 nm "), ("sram45", "45 nm with SRAM")):
        preset = preset.replace(known, label)
    return shortened(preset.replace("_", " "))
