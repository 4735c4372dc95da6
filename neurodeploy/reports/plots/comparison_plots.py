"""Plots of a comparison: accuracy against energy, and the range of every network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurodeploy.reports.comparison import NetworkComparison
from neurodeploy.reports.plots import drawing
from neurodeploy.reports.plots.drawing import FIRST, INK, SECOND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 9
"""Networks up to which points are labelled by name; more are labelled by number."""


def plot_front(comparison: NetworkComparison, preset: str) -> str:
    """Draw accuracy against energy; the networks of the Pareto front are joined.

    Needs at least one network with an accuracy; the others are left out.
    """
    known = [
        (number, entry)
        for number, entry in enumerate(comparison.entries, 1)
        if entry.network.accuracy is not None
    ]
    many = len(known) > NAMED
    name = "front-" + "".join(c if c.isalnum() else "-" for c in preset)
    with drawing.new_figure(3.6, name) as (figure, axes):
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
            if not many:
                axes.plot([energy.low, energy.high], [accuracy] * 2, color=color, linewidth=0.9)
            if not many and network.interval is not None:
                ends = [100 * end for end in network.interval]
                axes.plot([energy.nominal] * 2, ends, color=color, linewidth=0.9, alpha=0.45)
            axes.plot(
                [energy.nominal], [accuracy], color=color, marker="o", markersize=8,
                markerfacecolor=color if best else "none", markeredgewidth=1.6, linestyle="none",
            )  # fmt: skip
            label = str(number) if many else drawing.shortened(network.name)
            points.append((energy.nominal, accuracy, label))
        anns = [
            (entry.network.ann_energies[preset].nominal, entry.network.ann_accuracy)
            for entry in comparison.entries
            if preset in entry.network.ann_energies
        ]
        lines = {energy for energy, accuracy in anns if accuracy is None}
        squares = {(x, 100 * y) for x, y in anns if y is not None}
        for x, y in squares:
            axes.plot(
                [x], [y], color=SECOND, marker="s", markersize=7, markerfacecolor="none",
                markeredgewidth=1.6, linestyle="none",
            )  # fmt: skip
        for x in lines:
            axes.axvline(x, color=SECOND, linewidth=1.4, linestyle=(0, (5, 3)))
        axes.margins(x=0.12, y=0.12)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -1.0), min(high, 100.8))
        axes.set_ylabel("accuracy, %")
        drawing.log_energy_axis(axes)
        _label(axes, points, walls=[*lines, *(x for x, _, _ in points)], squares=[*squares])
        return drawing.to_svg(figure, name)


def plot_ranges(comparison: NetworkComparison, preset: str) -> str:
    """Draw the energy of every network from low to high, its ANN below it."""
    entries = comparison.entries
    row, size = (0.3, 5) if len(entries) > NAMED else (0.42, 7)
    with drawing.new_figure(0.9 + row * len(entries), "ranges") as (figure, axes):
        for y, entry in zip(range(len(entries))[::-1], entries, strict=True):
            own, ann = entry.network.energies[preset], entry.network.ann_energies.get(preset)
            drawing.draw_range(axes, own, y + 0.17, is_network=True, size=size)
            if ann is not None:
                drawing.draw_range(axes, ann, y - 0.17, is_network=False, size=size)
        names = [drawing.shortened(entry.network.name) for entry in entries]
        drawing.name_rows(axes, [f"{number}  {name}" for number, name in enumerate(names, 1)])
        drawing.log_energy_axis(axes)
        return drawing.to_svg(figure, "ranges")


def _label(
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    *,
    walls: Sequence[float],
    squares: Sequence[tuple[float, float]],
) -> None:
    """Write labels beside points, where they hide no other point and no other label.

    Sizes are estimated in points (1/72 inch): the reader's font is not known here. Labels should
    not cross the upright lines at `walls` on the x axis.
    """
    figure = axes.get_figure()
    assert figure is not None
    figure.draw_without_rendering()  # type: ignore[union-attr]  # a SubFigure has none; ours is none
    scale = 72 / figure.dpi
    pixels = axes.transData.transform([*((x, y) for x, y, _ in points), *squares])
    spots = [(float(x) * scale, float(y) * scale) for x, y in pixels]
    frame = axes.get_window_extent()
    left, right = frame.x0 * scale, frame.x1 * scale
    upright = [axes.transData.transform((x, points[0][1]))[0] * scale for x in walls]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in spots]

    def cost(box: tuple[float, float, float, float], number: int) -> float:
        x0, y0, x1, y1 = box
        others = spots[:number] + spots[number + 1 :]
        misleading = sum(x0 - 14 < a < x1 + 14 and y0 - 12 < b < y1 + 12 for a, b in others)
        hidden = sum(x0 < b and a < x1 and y0 < d and c < y1 for a, c, b, d in taken)
        outside = max(0.0, left - x0) + max(0.0, x1 - right)
        crossed = sum(x0 < wall < x1 for wall in upright)
        # never on top of a mark or label; then inside the frame; then clear of other points
        return float(1000 * hidden + 40 * outside + 15 * crossed + 60 * misleading)

    for number, ((x, y), (energy, accuracy, text)) in enumerate(zip(spots, points, strict=False)):
        width, height = 6.2 * len(text) + 2, 11.0
        boxes = {
            (dx, dy): (x + dx, y + dy, x + dx + width, y + dy + height)
            for reach in (0, 13, 26, 39)
            for dy in (5 + reach, -15 - reach)
            for dx in (8, -8 - width)
        }
        best = min(boxes, key=lambda place: cost(boxes[place], number) + abs(place[1]))
        taken.append(boxes[best])
        far = abs(best[1]) > 16
        axes.annotate(
            text, (energy, accuracy), xytext=best, textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6} if far else None,
        ).set_in_layout(False)  # fmt: skip
