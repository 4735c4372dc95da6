"""Plot of a sequence: operations of every frame over the share of the input that changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurodeploy.reports.numbers import format_count
from neurodeploy.reports.plots import drawing
from neurodeploy.reports.plots.drawing import FIRST, SECOND
from neurodeploy.reports.report import Report

MOST_COLUMNS = 400
"""Columns of a plot at most; of longer sequences each is the largest of several frames."""


def plot_frames(report: Report) -> str:
    """Draw the first sequence of a report that has frames."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    frames = report.frames
    assert frames is not None
    sops = _columns(frames.all_sops.frames[0])
    changed = _columns(100 * frames.changed[0] / frames.inputs)
    edges = np.linspace(0.5, frames.frames + 0.5, len(sops) + 1)
    one_pass = report.ann.macs_border_exact / frames.frames
    with drawing.new_figure(3.6, "frames") as (figure, whole):
        whole.remove()
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
        above.stairs(sops, edges, fill=True, color=FIRST)
        above.axhline(one_pass, color=SECOND, linewidth=1.6, linestyle=drawing.DASHED)
        above.annotate(
            f"one pass: {format_count(one_pass)} MACs", (1, one_pass), xytext=(0, 3),
            xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
        )  # fmt: skip
        above.set_ylim(0, 1.15 * max(float(sops.max(initial=0.0)), one_pass, 1.0))
        above.set_ylabel("SOPs")
        above.yaxis.set_major_formatter(EngFormatter(sep=""))
        below.stairs(changed, edges, fill=True, color=FIRST)
        below.set_ylim(0, max(1.1 * float(changed.max(initial=0.0)), 1.0))
        below.set_ylabel("changed, %")
        below.set_xlabel("frame")
        below.set_xlim(0.5, frames.frames + 0.5)
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (above, below):
            axes.grid(axis="x", visible=False)
        figure.align_ylabels()
        return drawing.to_svg(figure, "frames")


def _columns(values: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    """Return at most so many values as a plot has columns: the largest of each group."""
    each = -(-len(values) // MOST_COLUMNS)
    starts = np.arange(0, len(values), each)
    return np.maximum.reduceat(values.astype(np.float64), starts)
