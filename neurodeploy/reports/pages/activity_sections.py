"""Sections about the activity of a network: rates and overflow, maps, membranes, read-out."""

from __future__ import annotations

from neurodeploy.reports.activity import Activity
from neurodeploy.reports.numbers import format_count, format_percent
from neurodeploy.reports.pages.elements import PageSection, PageTable, Plot, Rows
from neurodeploy.reports.plots.activity_plots import ActivityPanel, panels_of, plot_panel


def rates_section(activity: Activity | None, *, has_plot: bool = True) -> PageSection | None:
    """Show the rate of each layer, and the values that its 24 bits could not hold.

    Args:
        activity: Of a run; None for nothing.
        has_plot: Draw the rates, too; not where the section of operations draws them.
    """
    if activity is None:
        return None
    rates = panels_of(activity).get("rates") if has_plot else None
    rows: Rows = [
        (
            layer.name,
            "not recorded" if layer.spikes is None else f"{layer.spikes / activity.samples:,.1f}",
            "not recorded" if layer.rate is None else format_percent(layer.rate),
            *(
                ("not seen",) * 4
                if layer.health is None
                else (
                    format_count(layer.health.current_peak),
                    format_count(layer.health.current_wraps),
                    format_count(layer.health.voltage_peak),
                    format_count(layer.health.voltage_clips),
                )
            ),
        )
        for layer in activity.layers
    ]
    return PageSection(
        anchor="activity",
        title="Activity",
        lead=f"Over {format_count(activity.samples)} samples of {activity.steps} steps. "
        + _overflow_sentence(activity),
        plots=()
        if rates is None
        else (
            _plot(rates, "Spikes of a layer divided by neurons and steps, mean of all samples."),
        ),
        tables=(
            PageTable(
                caption="Activity and range of each layer, in the chip's 24 bits: up to 8,388,607",
                columns=(
                    "layer",
                    "spikes per sample",
                    "rate",
                    "largest current",
                    "wrapped",
                    "largest voltage",
                    "clipped",
                ),
                rows=rows,
            ),
        ),
    )


def _overflow_sentence(activity: Activity) -> str:
    if activity.overflows is None:
        return "This simulator cannot tell whether 24 bits were enough."
    if activity.overflows == 0:
        return "No current was wrapped and no voltage clipped: 24 bits were enough everywhere."
    names = [
        layer.name
        for layer in activity.layers
        if layer.health is not None and layer.health.current_wraps + layer.health.voltage_clips
    ]
    return (
        f"WARNING: 24 bits were not enough {format_count(activity.overflows)} times, in "
        f"{', '.join(names)}. Lava does the same, silently: wrapped currents change their sign."
    )


def maps_section(activity: Activity | None) -> PageSection | None:
    """Show the places of events in each spatial layer."""
    if activity is None or "maps" not in (panels := panels_of(activity)):
        return None
    shown, there = len(activity.maps), activity.spatial_layers
    some = "" if shown == there else f" {shown} of {there} layers, evenly chosen."
    title = "one sample" if activity.raster is None else activity.raster.title
    return PageSection(
        anchor="maps",
        title="Activity maps",
        lead=f"Events of {title} at each place, channels and steps added up; the number below a "
        f"map is that of its strongest cell.{some}",
        plots=(_plot(panels["maps"], "Each map has a scale of its own. Large ones are averaged."),),
    )


def readout_section(activity: Activity | None) -> PageSection | None:
    """Show the potential of every class, and the one that wins."""
    if activity is None or activity.readout is None:
        return None
    readout = activity.readout
    title = "one sample" if activity.raster is None else activity.raster.title
    return PageSection(
        anchor="readout",
        title="Decision",
        lead=f"The network decides for class {readout.winner} ({title}): the largest potential of "
        f"layer {readout.layer} after the last step wins, of equal ones the first.",
        plots=(
            _plot(
                panels_of(activity)["readout"],
                "A line a class, in units of the weights: the chip's state divided by 64.",
            ),
        ),
        tables=(
            PageTable(
                caption="Potential after the last step",
                columns=("class", "potential", "verdict"),
                rows=[
                    (str(number), f"{value:,.1f}", "wins" if number == readout.winner else "")
                    for number, value in enumerate(readout.values[-1].tolist())
                ],
            ),
        ),
    )


def membranes_section(activity: Activity | None) -> PageSection | None:
    """Show the potential of single neurons as they charge and fire."""
    if activity is None or "membranes" not in (panels := panels_of(activity)):
        return None
    title = "one sample" if activity.raster is None else activity.raster.title
    return PageSection(
        anchor="membranes",
        title="Membranes",
        lead=f"Potential of {title} after each step (after the reset where a neuron fires), in "
        "units of the weights: the chip's state divided by 64. Ticks on top are spikes, the dashed "
        "line is the threshold.",
        plots=(_plot(panels["membranes"], "Neurons are counted from 0, in C order."),),
    )


def _plot(panel: ActivityPanel, caption: str) -> Plot:
    return Plot(svg=plot_panel(panel), title=panel.title, caption=caption, is_wide=True)
