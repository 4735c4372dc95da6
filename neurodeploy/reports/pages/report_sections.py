"""Sections about a report: conclusions, counts, energy, fairness, chips, constants."""

from __future__ import annotations

from neurodeploy.counting.neurobench import NOTES, VERSION as NEUROBENCH
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import BREAK_EVENS, RATE_BREAK_EVEN, SIGMA_BREAK_EVEN
from neurodeploy.energy.other_machines import NOTE, measured_runs
from neurodeploy.energy.presets import Tier
from neurodeploy.energy.sensitivity import CHIP, RATIO
from neurodeploy.reports.numbers import format_count, format_energy, format_factor
from neurodeploy.reports.pages import tables
from neurodeploy.reports.pages.elements import PageSection, PageTable, Plot, Rows
from neurodeploy.reports.plots import report_plots
from neurodeploy.reports.report import Report
from neurodeploy.reports.statements import changes_the_winner, statements


def verdict_section(report: Report) -> PageSection:
    """Show what the report allows to conclude beyond the verdict, which is the page's own."""
    notes = [f"Note: {warning}" for warning in report.warnings]
    return PageSection("verdict", "Conclusions", items=(*statements(report)[1:], *notes))


def counts_section(report: Report) -> PageSection:
    """Show the exact counts, layer by layer."""
    low, high = SIGMA_BREAK_EVEN
    rate, steps, source = RATE_BREAK_EVEN
    layers = report.counts.layers
    largest = ""
    if len(layers) > report_plots.MANY_LAYERS:  # the plot has no room for names
        ranked = sorted(enumerate(layers, 1), key=lambda one: -one[1].sops)[:3]
        largest = " Largest: " + ", ".join(f"{row.name} (layer {n})" for n, row in ranked) + "."
    return PageSection(
        "counts",
        "Operations",
        "Exact counts on the deployed integer weights. "
        f"{report.sigma:.3f} spikes pass each synapse per {report.inference}; published studies "
        f"that include memory put the break-even with ordinary networks between {low} and {high}.",
        plots=(
            Plot(
                report_plots.plot_sops(report),
                "Synaptic operations of each layer",
                "Filled: operations through weights other than zero. Dashed: zero weights charged "
                f"as well.{largest}",
            ),
            Plot(
                report_plots.plot_activity(report),
                "Activity of each layer",
                "Share of neurons that spike in a step. Dashed: "
                f"{100 * rate:g}\N{NO-BREAK SPACE}%, the mean rate below which one study finds "
                f"spiking networks ahead at {steps} steps ({source}).",
            ),
        ),
        tables=(
            PageTable("Totals", ("figure", "value"), tables.fact_rows(report)),
            PageTable(
                "Counts by layer, mean of a sample",
                tables.LAYER_COLUMNS,
                tables.layer_rows(report),
                3,
                True,
            ),
        ),
    )


def neurobench_section(report: Report) -> PageSection:
    """Show the network in NeuroBench's metrics, and where they differ from the counts above."""
    rows: Rows = [
        (name, "not known" if value is None else f"{value:,.4f}".rstrip("0").rstrip("."))
        for name, value in report.neurobench.to_dict().items()
        if name not in ("version", "note")
    ]
    return PageSection(
        "neurobench",
        "In NeuroBench's metrics",
        f"Mean of a sample, by the names and definitions of NeuroBench {NEUROBENCH}.",
        tables=(PageTable("NeuroBench", ("metric", "value"), rows),),
        items=NOTES,
    )


def energy_section(report: Report) -> PageSection:
    """Show every preset's energies, both sides, and their terms."""
    plots = [
        Plot(
            report_plots.plot_energy(report),
            "Energy by preset",
            "Tier A: arithmetic only. B: and memory. C: Loihi 1, per operation, where an ordinary "
            "network cannot run.",
            is_wide=True,
        )
    ]
    columns = (*tables.ENERGY_COLUMNS[:4], report.ann_label, *tables.ENERGY_COLUMNS[5:])
    found = [PageTable("Energy by preset", columns, tables.energy_rows(report), 2)]
    formats = _format_groups(report)
    if formats:
        plots.append(
            Plot(
                report_plots.plot_formats(formats),
                f"The deployed network and the {report.ann_label} in other numbers",
                "Fewer bits an activation save memory accesses; their products are charged as "
                "8-bit ones. Narrow: as many bits as T steps of spikes can tell apart.",
                is_wide=True,
            )
        )
        rows: Rows = [
            (heading, label, *map(format_energy, (pair.low, pair.nominal, pair.high)))
            for heading, group in formats
            for label, pair in group
        ]
        heads = ("tier", "side", "low", "nominal", "high")
        found.append(PageTable("Both sides by number format", heads, rows, 2))
    terms: Rows = []
    for pair in report.tiers:
        own = pair.network
        parts = [f"{term} {format_energy(value)}" for term, value in own.breakdown.items() if value]
        terms.append((own.preset, "; ".join(parts), own.basis))
    found.append(
        PageTable(
            "Terms of the nominal values, and the meaning of the bounds",
            ("preset", "nominal value", "bounds"),
            terms,
        )
    )
    return PageSection(
        "energy",
        "Energy of one inference"
        + ("" if report.frames is None else f": a sequence of {report.frames.frames} frames"),
        "Estimates from published constants, not measurements. Bars span low to high, marks are "
        "nominal values. Compare only within a row: both sides of a row have the same technology.",
        plots=tuple(plots),
        tables=tuple(found),
    )


def _format_groups(report: Report) -> list[tuple[str, list[tuple[str, Energy]]]]:
    """Return, for tiers A and B, the deployed network and the ANN in each number format."""
    groups = []
    for tier, heading in ((Tier.ARITHMETIC, "A, arithmetic"), (Tier.MEMORY, "B, with memory")):
        rows = report.tier(tier)
        if rows and report.ann_formats:
            formats = [
                (f"ANN, {form.name}", form.arithmetic if tier is Tier.ARITHMETIC else form.memory)
                for form in report.ann_formats
            ]
            groups.append((heading, [("spiking, as deployed", rows[0].network), *formats]))
    return groups


def measured_section(report: Report) -> PageSection | None:
    """Show a profiler's counters beside what was counted; None without any."""
    measured = report.measured
    if measured is None:
        return None
    rows: Rows = [
        (str(name), format_count(pair["measured"]), format_count(pair["counted"]))
        for name, pair in measured["counters"].items()
    ]
    for key in ("static_energy", "total_energy"):
        value = measured[key]
        if isinstance(value, float):
            rows.append((key.replace("_", " "), format_energy(value), ""))
    return PageSection(
        "measured",
        "Measured on a chip",
        f"From {measured['file']} ({measured['source']}), {measured['samples']} samples. Tier C "
        "takes these counters in place of the counts.",
        tables=(PageTable("Per inference", ("counter", "measured", "counted"), rows),),
    )


def fairness_section(report: Report) -> PageSection:
    """Show whether one ratio may stand for the comparison, and the rules that forbid it."""
    failed = sum(not rule.holds for rule in report.rules)
    facts = (
        f"{failed} of {len(report.rules)} {'does' if failed == 1 else 'do'} not, so none is stated."
    )
    rate, steps, source = RATE_BREAK_EVEN
    rules: Rows = [
        (rule.name, "holds" if rule.holds else "DOES NOT HOLD", rule.found) for rule in report.rules
    ]
    break_evens: Rows = [
        (name, f"{low:g}" if low == high else f"{low:g} to {high:g}", source)
        for name, low, high, source in BREAK_EVENS
    ]
    bands = [(name, low, high) for name, low, high, _ in BREAK_EVENS]
    return PageSection(
        "fairness",
        "Is the comparison fair?",
        "One ratio may stand for the comparison only if every rule holds. "
        f"{facts if failed else 'All hold.'}",
        plots=(
            Plot(
                report_plots.plot_break_even(report.sigma, bands),
                "Spikes per synapse and the break-evens",
                "Left of a bar's end a spiking network needs less energy; hatched: where studies "
                "disagree. Another one puts it at a mean rate of "
                f"{100 * rate:g}\N{NO-BREAK SPACE}% with {steps} steps ({source}).",
            ),
        ),
        tables=(
            PageTable("Rules of a fair comparison", ("rule", "verdict", "facts"), rules, 3),
            PageTable(
                "Break-evens and their sources",
                ("operations counted", "spikes per synapse", "source"),
                break_evens,
            ),
        ),
    )


def sensitivity_section(report: Report) -> PageSection | None:
    """Show how far each assumption moves the answer, and those that reverse it."""
    entries = report.sensitivities
    if not entries:
        return None
    ratios = [(e.assumption, e.low, e.high) for e in entries if e.quantity == RATIO and e.low > 0]
    rows: Rows = []
    for entry in entries:
        write = format_energy if entry.quantity == CHIP else format_factor
        turns = {True: "yes", False: "no"}[changes_the_winner(entry)]
        rows.append(
            (
                entry.assumption, entry.quantity, write(entry.low), write(entry.high),
                format_factor(entry.factor), turns if entry.quantity == RATIO else "",
            )
        )  # fmt: skip
    plot = Plot(
        report_plots.plot_sensitivity(ratios),
        "The ratio of both energies under each assumption",
        "A bar runs from one end of an assumption to the other. Dashed: equal energy. A bar that "
        "crosses it changes which side needs less. The ratios are shown to judge the assumptions; "
        "none of them is a result.",
        is_wide=True,
    )
    columns = ("assumption", "of", "from", "to", "factor", "changes the winner")
    return PageSection(
        "sensitivity",
        "Which assumption matters most",
        "Each assumption is changed by itself between the two ends named; all others stay as in "
        f"the nominal values. Largest: {entries[0].assumption}.",
        plots=(plot,) if ratios else (),
        tables=(PageTable("Sensitivity", columns, rows, 2),),
    )


def fit_section(report: Report) -> PageSection | None:
    """Show how many cores the network would take."""
    if not report.fits:
        return None
    rows: Rows = []
    totals = []
    for fit in report.fits:
        cores = f"{fit.cores_text} cores of {fit.cores_per_chip} a chip"
        totals.append(f"{fit.target}: {'does not fit' if fit.cores_low is None else cores}")
        for entry in fit.layers:
            ends = " to ".join(dict.fromkeys((str(entry.low), str(entry.high))))
            rows.append(
                (
                    fit.target, entry.layer.name, "does not fit" if entry.low is None else ends,
                    format_count(entry.neurons_per_core), entry.limiting_resource,
                )
            )  # fmt: skip
    columns = ("target", "layer", "cores", "neurons a core", "limited by")
    return PageSection(
        "fit",
        "Chip fit, estimated",
        f"{'; '.join(totals)}. An estimate from sizes: only a compiler can tell that a network "
        "fits.",
        tables=(PageTable("Cores by layer", columns, rows, 2),),
        items=tuple(f"Note: {warning}" for fit in report.fits for warning in fit.warnings),
    )


def context_section(report: Report) -> PageSection | None:
    """Show published figures of other machines times the counts, and measurements of Loihi 2."""
    if not report.platforms:
        return None
    figures: Rows = [
        (
            one.name,
            "ANN" if one.is_ann else "network",
            format_energy(one.energy),
            one.technology,
            one.evidence,
            f"{one.formula}. {one.source}" + (f" ({one.note})" if one.note else ""),
        )
        for one in report.platforms
    ]
    keys = ("name", "cores", "inferences_per_second", "static_w", "total_w")
    runs: Rows = [
        (*(str(run[k]) for k in keys), f"{run['total_mj']} mJ", f"{run['source']} ({run['note']})")
        for run in measured_runs()
    ]
    return PageSection(
        "context",
        "Other machines, for context",
        NOTE,
        tables=(
            PageTable(
                "Published figures times the counts",
                ("machine", "side", "energy", "technology", "evidence", "source"),
                figures,
                2,
            ),
            PageTable(
                "Loihi 2, measured and published: other networks than this one",
                ("run", "cores", "per second", "static W", "total W", "energy", "source"),
                runs,
            ),
        ),
    )


def assumptions_section(report: Report) -> PageSection:
    """Show the assumptions, and the costs that are left out."""
    left_out = [
        f"Left out of tier {pair.network.tier.value} ({tables.TIER_NAMES[pair.network.tier]}): "
        f"{', '.join(pair.network.excludes)}."
        for pair in report.tiers
    ]
    uncounted = () if report.onnx is None else report.onnx.macs.uncounted_ops
    if uncounted:
        left_out.append(
            f"Left out of the ANN, operators that are not counted: {', '.join(uncounted)}."
        )
    items = (*report.assumptions, *dict.fromkeys(left_out))
    return PageSection("assumptions", "Assumptions and costs left out", items=items)


def sources_section(report: Report) -> PageSection:
    """List every constant with its source and the grade of its evidence."""
    presets: Rows = [
        (one.name, one.tier.value, one.technology, one.evidence, one.description)
        for one in report.presets
    ]
    constants: Rows = [
        (one.name, key, f"{constant.value:g} {constant.unit}", constant.evidence, constant.source)
        for one in report.presets
        for key, constant in one.constants.items()
    ]
    return PageSection(
        "sources",
        "Constants and their sources",
        "Evidence: source, read in the named source or log; abstract, read in the paper's "
        "abstract; secondary, a text that quotes the primary one; unverified, from memory; "
        "inferred, our own.",
        tables=(
            PageTable(
                "Presets",
                ("preset", "tier", "technology", "weakest evidence", "meaning"),
                presets,
                4,
            ),
            PageTable(
                "Every constant",
                ("preset", "constant", "value", "evidence", "source"),
                constants,
                2,
            ),
        ),
    )
