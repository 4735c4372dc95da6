"""The section about the frames of a network that sends changes."""

from __future__ import annotations

from neurodeploy.reports.numbers import format_count, format_percent
from neurodeploy.reports.pages import tables
from neurodeploy.reports.pages.elements import PageSection, PageTable, Plot
from neurodeploy.reports.plots.frame_plots import MOST_COLUMNS, plot_frames
from neurodeploy.reports.report import Report


def frames_section(report: Report) -> PageSection | None:
    """Show what each frame costs, and ordinary networks that skip what is not needed."""
    frames = report.frames
    if frames is None:
        return None
    repeats = 1 - float(frames.is_new.mean())
    binned = ""
    if frames.frames > MOST_COLUMNS:
        each = -(-frames.frames // MOST_COLUMNS)
        binned = f" Each column is the largest of {each} frames."
    zeros = (
        "Zeros of its activations were measured on these frames."
        if report.has_measured_zeros
        else "Zeros of its activations are estimated from what the deployed layers have sent; "
        "--ann MODEL.onnx measures them."
    )
    sides = (
        f"Passes: of an ordinary network for a frame. {format_percent(repeats)} of the frames "
        "repeat the one before; a frame-skipping network gives its last answer again. " + zeros
    )
    return PageSection(
        "frames",
        "Frame by frame",
        f"{format_count(frames.sequences)} "
        f"{'sequence' if frames.sequences == 1 else 'sequences'} of {format_count(frames.frames)} "
        f"frames, one a step. A frame is answered {frames.latency} steps later; its operations are "
        "those of the events that it causes. The fill of the pipeline comes before, from biases "
        "alone.",
        plots=(
            Plot(
                plot_frames(report),
                "Operations and changed input of each frame",
                "Above: synaptic operations of each frame of the first sequence; dashed: MACs of a "
                f"pass of the {report.ann_label}. Below: share of the input values that are others "
                f"than in the frame before.{binned}",
                is_wide=True,
            ),
        ),
        tables=(
            PageTable(
                "Cost of a frame; fill and unanswered frames, of a sequence",
                tables.FRAME_COLUMNS,
                tables.frame_rows(report),
                stays_open=True,
            ),
            PageTable(
                f"One frame: the network with all its costs, and the {report.ann_label}",
                tables.frame_ann_columns(report),
                tables.frame_ann_rows(report),
                stays_open=True,
            ),
            PageTable(
                "SOPs by layer",
                ("layer", *tables.FRAME_COLUMNS[1:]),
                tables.frame_layer_rows(report),
            ),
        ),
        items=(sides,),
    )
