"""The parts of a page that stand beside the estimates: measured counters, other machines."""

from __future__ import annotations

from collections.abc import Mapping

from neurodeploy.energy.other_machines import (
    NOTE,
    PlatformFigure,
    measured_runs,
)
from neurodeploy.reports.network_report import Report
from neurodeploy.reports.numbers import format_count, format_energy
from neurodeploy.reports.pages.elements import PageTable, Section
from neurodeploy.reports.pages.tables import Rows


def measured_section(report: Report) -> Section | None:
    """Show a profiler's counters beside what was counted; None without any."""
    measured = report.measured
    if measured is None:
        return None
    rows: Rows = []
    counters = measured["counters"]
    assert isinstance(counters, Mapping)
    for name, pair in counters.items():
        rows.append((str(name), format_count(pair["measured"]), format_count(pair["counted"])))
    for key in ("static_energy", "total_energy"):
        value = measured[key]
        if isinstance(value, float):
            rows.append((key.replace("_", " "), format_energy(value), ""))
    samples = measured["samples"]
    return Section(
        anchor="measured",
        title="Measured on a chip",
        lead=f"From {measured['file']} ({measured['source']}), {samples} samples. Tier C takes "
        "these counters in place of the counts.",
        tables=(
            PageTable(
                caption="Per inference",
                columns=("counter", "measured", "counted"),
                rows=rows,
                text_columns=1,
            ),
        ),
    )


def context_section(report: Report) -> Section | None:
    """Show published figures of other machines times the counts, and measurements of Loihi 2."""
    if not report.platforms:
        return None
    return Section(
        anchor="context",
        title="Other machines, for context",
        lead=NOTE,
        tables=(
            PageTable(
                caption="Published figures times the counts",
                columns=("machine", "side", "energy", "technology", "evidence", "source"),
                rows=[_platform_row(one) for one in report.platforms],
                text_columns=2,
            ),
            PageTable(
                caption="Loihi 2, measured and published: other networks than this one",
                columns=("run", "cores", "per second", "static W", "total W", "energy", "source"),
                rows=[_run_row(run) for run in measured_runs()],
                text_columns=1,
            ),
        ),
    )


def _run_row(run: Mapping[str, object]) -> tuple[str, ...]:
    figures = ("name", "cores", "inferences_per_second", "static_w", "total_w")
    return (
        *(str(run[key]) for key in figures),
        f"{run['total_mj']} mJ",
        f"{run['source']} ({run['note']})",
    )


def _platform_row(one: PlatformFigure) -> tuple[str, ...]:
    return (
        one.name,
        "ANN" if one.is_ann else "network",
        format_energy(one.energy),
        one.technology,
        one.evidence,
        f"{one.formula}. {one.source}" + (f" ({one.note})" if one.note else ""),
    )
