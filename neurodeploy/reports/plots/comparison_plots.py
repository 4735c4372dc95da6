"""Plots of a comparison: accuracy against energy, and the range of every network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurodeploy.reports.comparison import Candidate, NetworkComparison
from neurodeploy.reports.plots.drawing import (
    FIRST,
    INK,
    SECOND,
    draw_range,
    log_energy_axis,
    name_rows,
    new_figure,
    shortened,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 9
"""Networks up to which points are labelled by name; more are labelled by number."""


def point_label(number: int, network: Candidate, *, among: int) -> str:
    """Return the label of a point: its name, or its number where there are many."""
    return shortened(network.name) if among <= NAMED else str(number)


def plot_front(comparison: NetworkComparison, preset: str) -> str:
    """Draw accuracy against energy; the networks of the Pareto front are joined.

    Needs at least one network with an accuracy; the others are left out.
    """
    known = [
        (number, entry)
        for number, entry in enumerate(comparison.entries, 1)
        if entry.network.accuracy is not None
    ]
    name = "front-" + "".join(c if c.isalnum() else "-" for c in preset)
    with new_figure(3.6, name) as (figure, axes):
        front = sorted(
            (entry.network.energies[preset].nominal, 100 * (entry.network.accuracy or 0.0))
            for entry in comparison.front(preset)
        )
        axes.plot(*zip(*front, strict=True), color=FIRST, linewidth=1.6, drawstyle="steps-post")
        points = []
        for number, entry in known:
            network, best = entry.network, preset in entry.best_in
            energy, accuracy = network.energies[preset], 100 * (network.accuracy or 0.0)
            color = FIRST if best else INK
            if len(known) <= NAMED:
                axes.plot([energy.low, energy.high], [accuracy] * 2, color=color, linewidth=0.9)
            if len(known) <= NAMED and network.interval is not None:
                ends = [100 * end for end in network.interval]
                axes.plot([energy.nominal] * 2, ends, color=color, linewidth=0.9, alpha=0.45)
            axes.plot(
                [energy.nominal], [accuracy], color=color, marker="o", markersize=8,
                markerfacecolor=color if best else "none", markeredgewidth=1.6, linestyle="none",
            )  # fmt: skip
            points.append(
                (energy.nominal, accuracy, point_label(number, network, among=len(known)))
            )
        for x, y in _ann_points(comparison, preset):
            axes.plot(
                [x], [y], color=SECOND, marker="s", markersize=7, markerfacecolor="none",
                markeredgewidth=1.6, linestyle="none",
            )  # fmt: skip
        lines = _ann_lines(comparison, preset)
        for x in lines:
            axes.axvline(x, color=SECOND, linewidth=1.4, linestyle=(0, (5, 3)))
        axes.margins(x=0.12, y=0.12)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -1.0), min(high, 100.8))
        axes.set_ylabel("accuracy, %")
        log_energy_axis(axes)
        _label(axes, points, walls=[*lines, *(x for x, _, _ in points)])
        return to_svg(figure, name)


def plot_ranges(comparison: NetworkComparison, preset: str) -> str:
    """Draw the energy of every network from low to high, its ANN below it."""
    entries = comparison.entries
    many = len(entries) > NAMED
    with new_figure(0.9 + (0.3 if many else 0.42) * len(entries), "ranges") as (figure, axes):
        size = 5 if many else 7
        for y, entry in zip(range(len(entries))[::-1], entries, strict=True):
            own, ann = entry.network.energies[preset], entry.network.ann_energies.get(preset)
            draw_range(axes, own, y + 0.17, is_network=True, size=size)
            if ann is not None:
                draw_range(axes, ann, y - 0.17, is_network=False, size=size)
        name_rows(
            axes, [f"{n}  {shortened(entry.network.name)}" for n, entry in enumerate(entries, 1)]
        )
        log_energy_axis(axes)
        return to_svg(figure, "ranges")


def _ann_points(comparison: NetworkComparison, preset: str) -> set[tuple[float, float]]:
    """Return energy and accuracy of the ANNs whose accuracy is known."""
    return {
        (entry.network.ann_energies[preset].nominal, 100 * entry.network.ann_accuracy)
        for entry in comparison.entries
        if preset in entry.network.ann_energies and entry.network.ann_accuracy is not None
    }


def _ann_lines(comparison: NetworkComparison, preset: str) -> set[float]:
    """Return the energies of the ANNs whose accuracy is not known."""
    return {
        entry.network.ann_energies[preset].nominal
        for entry in comparison.entries
        if preset in entry.network.ann_energies and entry.network.ann_accuracy is None
    }


def _label(
    axes: Axes, points: Sequence[tuple[float, float, str]], *, walls: Sequence[float]
) -> None:
    """Write labels beside points, where they hide no other point and no other label.

    Sizes are estimated in points (1/72 inch): the reader's font is not known here.

    Args:
        axes: Where the points are drawn.
        points: (x, y, label).
        walls: Places on the x axis of upright lines that a label should not cross.
    """
    figure = axes.get_figure()
    assert figure is not None
    figure.draw_without_rendering()  # type: ignore[union-attr]  # a SubFigure has none; ours is none
    scale = 72 / figure.dpi
    pixels = axes.transData.transform([(x, y) for x, y, _ in points])
    spots = [(float(x) * scale, float(y) * scale) for x, y in pixels]
    frame = axes.get_window_extent()
    left, right = frame.x0 * scale, frame.x1 * scale
    upright = [axes.transData.transform((x, points[0][1]))[0] * scale for x in walls]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    for number, ((x, y), (energy, accuracy, text)) in enumerate(zip(spots, points, strict=True)):
        others = [spot for n, spot in enumerate(spots) if n != number]
        width, height = 6.2 * len(text) + 2, 11.0
        places = [
            (dx if is_right else -dx - width, dy)
            for reach in (0, 13, 26, 39)
            for dx, dy in ((8, 5 + reach), (8, -15 - reach))
            for is_right in (True, False)
        ]

        def cost(
            place: tuple[float, float],
            at: tuple[float, float],
            size: float,
            others: Sequence[tuple[float, float]],
        ) -> float:
            x0, y0 = at[0] + place[0], at[1] + place[1]
            x1, y1 = x0 + size, y0 + 11.0
            misleading = sum(x0 - 14 < a < x1 + 14 and y0 - 12 < b < y1 + 12 for a, b in others)
            hidden = sum(x0 < b and a < x1 and y0 < d and c < y1 for a, c, b, d in taken)
            outside = max(0.0, left - x0) + max(0.0, x1 - right)
            crossed = sum(x0 < wall < x1 for wall in upright)
            # never on top of a mark or label; then inside the frame; then clear of other points
            return float(
                1000 * hidden + 40 * outside + 15 * crossed + 60 * misleading + abs(place[1])
            )

        best = min(places, key=lambda place: cost(place, (x, y), width, others))
        taken.append((x + best[0], y + best[1], x + best[0] + width, y + best[1] + height))
        far = abs(best[1]) > 16
        axes.annotate(
            text, (energy, accuracy), xytext=best, textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6} if far else None,
        ).set_in_layout(False)  # fmt: skip
