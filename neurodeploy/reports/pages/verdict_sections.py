"""Sections that judge: conclusions, fairness, sensitivity, fit, measured counters, context."""

from __future__ import annotations

from collections.abc import Mapping

from neurodeploy.energy.fairness import BREAK_EVENS, RATE_BREAK_EVEN
from neurodeploy.energy.other_machines import NOTE, PlatformFigure, measured_runs
from neurodeploy.energy.sensitivity import CHIP, RATIO, Sensitivity
from neurodeploy.reports.numbers import format_count, format_energy, format_factor
from neurodeploy.reports.pages.elements import PageSection, PageTable, Plot, Rows
from neurodeploy.reports.plots.energy_plots import plot_break_even, plot_sensitivity
from neurodeploy.reports.report import Report
from neurodeploy.reports.statements import changes_the_winner, statements


def verdict_section(report: Report) -> PageSection:
    """Show the conclusions that the report allows, in a few sentences."""
    first, *others = statements(report)
    return PageSection(
        anchor="verdict",
        title="Conclusions",
        lead=first,
        items=(*others, *(f"Note: {warning}" for warning in report.warnings)),
    )


def fairness_section(report: Report) -> PageSection:
    """Show whether one ratio may stand for the comparison, and the rules that forbid it."""
    failed = [rule for rule in report.rules if not rule.holds]
    lead = "One ratio may stand for the comparison only if every rule holds. " + (
        f"{len(failed)} of {len(report.rules)} {'does' if len(failed) == 1 else 'do'} not, so "
        "none is stated."
        if failed
        else "All hold."
    )
    rate, steps, source = RATE_BREAK_EVEN
    rows: Rows = [
        (rule.name, "holds" if rule.holds else "DOES NOT HOLD", rule.found) for rule in report.rules
    ]
    return PageSection(
        anchor="fairness",
        title="Is the comparison fair?",
        lead=lead,
        plots=(
            Plot(
                svg=plot_break_even(
                    report.counts.sigma, [(name, low, high) for name, low, high, _ in BREAK_EVENS]
                ),
                title="Spikes per synapse and the break-evens",
                caption="Left of a bar's end a spiking network needs less energy; hatched: where "
                "studies disagree. Another one puts it at a mean rate of "
                f"{100 * rate:g}\N{NO-BREAK SPACE}% with {steps} steps ({source}).",
            ),
        ),
        tables=(
            PageTable(
                caption="Rules of a fair comparison",
                columns=("rule", "verdict", "facts"),
                rows=rows,
                text_columns=3,
            ),
            PageTable(
                caption="Break-evens and their sources",
                columns=("operations counted", "spikes per synapse", "source"),
                rows=[
                    (name, f"{low:g}" if low == high else f"{low:g} to {high:g}", source)
                    for name, low, high, source in BREAK_EVENS
                ],
            ),
        ),
    )


def sensitivity_section(report: Report) -> PageSection | None:
    """Show how far each assumption moves the answer, and those that reverse it."""
    entries = report.sensitivities
    if not entries:
        return None
    ratios = [
        (entry.assumption, entry.low, entry.high)
        for entry in entries
        if entry.quantity == RATIO and entry.low > 0
    ]
    plots = (
        Plot(
            svg=plot_sensitivity(ratios),
            title="The ratio of both energies under each assumption",
            caption="A bar runs from one end of an assumption to the other. Dashed: equal energy. "
            "A bar that crosses it changes which side needs less. The ratios are shown to judge "
            "the assumptions; none of them is a result.",
            is_wide=True,
        ),
    )
    return PageSection(
        anchor="sensitivity",
        title="Which assumption matters most",
        lead="Each assumption is changed by itself between the two ends named; all others stay as "
        f"in the nominal values. Largest: {entries[0].assumption}.",
        plots=plots if ratios else (),
        tables=(
            PageTable(
                caption="Sensitivity",
                columns=("assumption", "of", "from", "to", "factor", "changes the winner"),
                rows=[
                    (
                        entry.assumption,
                        entry.quantity,
                        *_ends(entry),
                        format_factor(entry.factor),
                        ("yes" if changes_the_winner(entry) else "no")
                        if entry.quantity == RATIO
                        else "",
                    )
                    for entry in entries
                ],
                text_columns=2,
            ),
        ),
    )


def _ends(entry: Sensitivity) -> tuple[str, str]:
    write = format_energy if entry.quantity == CHIP else format_factor
    return write(entry.low), write(entry.high)


def fit_section(report: Report) -> PageSection | None:
    """Show how many cores the network would take."""
    if not report.fits:
        return None
    rows: Rows = [
        (
            fit.target,
            entry.layer.name,
            "does not fit"
            if entry.low is None
            else " to ".join(dict.fromkeys((str(entry.low), str(entry.high)))),
            format_count(entry.neurons_per_core),
            entry.limiting_resource,
        )
        for fit in report.fits
        for entry in fit.layers
    ]
    totals = "; ".join(
        f"{fit.target}: "
        + (
            "does not fit"
            if fit.cores_low is None
            else f"{fit.cores_text} cores of {fit.cores_per_chip} a chip"
        )
        for fit in report.fits
    )
    return PageSection(
        anchor="fit",
        title="Chip fit, estimated",
        lead=f"{totals}. An estimate from sizes: only a compiler can tell that a network fits.",
        tables=(
            PageTable(
                caption="Cores by layer",
                columns=("target", "layer", "cores", "neurons a core", "limited by"),
                rows=rows,
                text_columns=2,
            ),
        ),
        items=tuple(f"Note: {warning}" for fit in report.fits for warning in fit.warnings),
    )


def measured_section(report: Report) -> PageSection | None:
    """Show a profiler's counters beside what was counted; None without any."""
    measured = report.measured
    if measured is None:
        return None
    counters = measured["counters"]
    assert isinstance(counters, Mapping)
    rows: Rows = [
        (str(name), format_count(pair["measured"]), format_count(pair["counted"]))
        for name, pair in counters.items()
    ]
    for key in ("static_energy", "total_energy"):
        value = measured[key]
        if isinstance(value, float):
            rows.append((key.replace("_", " "), format_energy(value), ""))
    samples = measured["samples"]
    return PageSection(
        anchor="measured",
        title="Measured on a chip",
        lead=f"From {measured['file']} ({measured['source']}), {samples} samples. Tier C takes "
        "these counters in place of the counts.",
        tables=(
            PageTable(
                caption="Per inference", columns=("counter", "measured", "counted"), rows=rows
            ),
        ),
    )


def context_section(report: Report) -> PageSection | None:
    """Show published figures of other machines times the counts, and measurements of Loihi 2."""
    if not report.platforms:
        return None
    return PageSection(
        anchor="context",
        title="Other machines, for context",
        lead=NOTE,
        tables=(
            PageTable(
                caption="Published figures times the counts",
                columns=("machine", "side", "energy", "technology", "evidence", "source"),
                rows=[_platform_row(figure) for figure in report.platforms],
                text_columns=2,
            ),
            PageTable(
                caption="Loihi 2, measured and published: other networks than this one",
                columns=("run", "cores", "per second", "static W", "total W", "energy", "source"),
                rows=[_run_row(run) for run in measured_runs()],
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


def _platform_row(figure: PlatformFigure) -> tuple[str, ...]:
    return (
        figure.name,
        "ANN" if figure.is_ann else "network",
        format_energy(figure.energy),
        figure.technology,
        figure.evidence,
        f"{figure.formula}. {figure.source}" + (f" ({figure.note})" if figure.note else ""),
    )
