"""One self-contained HTML page for a run, or for a single report.

The page loads nothing: styles and plots are inside it. Everything that a user supplied is escaped.
What `RunSummary` leaves None or empty does not appear.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neurodeploy.cost.energy import Energy
from neurodeploy.cost.plots import (
    RASTER_NEURONS,
    Series,
    plot_accuracy,
    plot_curves,
    plot_energy,
    plot_raster,
    plot_sops,
)
from neurodeploy.cost.presets import EnergyPreset, Tier
from neurodeploy.cost.run_summary import Agreement, EpochPoint, Raster, RunSummary
from neurodeploy.cost.sections import Card, PageTable, Plot, Section
from neurodeploy.cost.summary import PRESETS, SIGMA_BREAK_EVEN, Comparison, Report
from neurodeploy.cost.tables import (
    ENERGY_COLUMNS,
    LAYER_COLUMNS,
    Rows,
    energy_rows,
    fact_rows,
    layer_rows,
)
from neurodeploy.cost.units import format_count, format_energy, format_percent
from neurodeploy.cost.verdict import fairness_section, fit_section, sensitivity_section
from neurodeploy.errors import TargetError
from neurodeploy.files import write_text

TIER_NAMES = {
    Tier.ARITHMETIC: "arithmetic only",
    Tier.MEMORY: "arithmetic and memory",
    Tier.CHIP: "Loihi 1, per operation",
}


def write_page(summary: RunSummary, path: Path) -> None:
    """Write the page of a run, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_text(path, render_page(summary))


def render_page(summary: RunSummary) -> str:
    """Give the page of a run as HTML."""
    return render_sections(
        title=summary.title,
        description=summary.description,
        cards=_cards(summary),
        sections=_sections(summary),
    )


def render_sections(
    *, title: str, description: str, cards: Sequence[Card], sections: Sequence[Section]
) -> str:
    """Give a page of any content as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurodeploy.cost", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title, description=description, cards=cards, sections=sections
    )


def _cards(summary: RunSummary) -> list[Card]:
    cards = []
    deployed = next((one for one in reversed(summary.accuracy) if one.stage != "Lava"), None)
    if deployed is not None:
        note = f"{deployed.stage} network"
        if deployed.samples:
            note += f", {format_count(deployed.samples)} test samples"
        cards.append(Card(label="Accuracy", value=format_percent(deployed.value), note=note))
    if summary.agreement is not None:
        differing = summary.agreement.differing_spikes
        cards.append(
            Card(
                label="Agreement with Lava",
                value="identical" if differing == 0 else f"{format_count(differing)} differ",
                note=f"every spike of every layer, {format_count(summary.agreement.samples)} "
                "samples",
            )
        )
    report = summary.report
    if report is not None:
        cards.append(
            Card(
                label="Synaptic operations",
                value=format_count(round(report.sops_per_sample)),
                note=f"a sample, all {report.counts.steps} steps",
            )
        )
        cards.append(
            Card(
                label="ReLU twin",
                value=format_count(report.ann.macs_border_exact),
                note="MACs, one pass of an ordinary network of the same shape",
            )
        )
        cards += _energy_cards(report)
    return cards


def _energy_cards(report: Report) -> list[Card]:
    """One card for each of tiers A and B: the span over presets, both sides."""
    cards = []
    for tier in (Tier.ARITHMETIC, Tier.MEMORY):
        rows = report.tier(tier)
        twins = [row.ann for row in rows if row.ann is not None]
        if not rows or not twins:
            continue
        network = _span([row.network for row in rows])
        many = f" over {len(rows)} presets" if len(rows) > 1 else ""
        cards.append(
            Card(
                label=f"Energy, {TIER_NAMES[tier]}",
                value=network,
                note=f"estimate{many}; ReLU twin {_span(twins)}",
            )
        )
    return cards


def _span(energies: Sequence[Energy]) -> str:
    """Write the lowest and the highest bound; number and unit stay on one line."""
    low, high = min(one.low for one in energies), max(one.high for one in energies)
    texts = [format_energy(value).replace(" ", "\N{NO-BREAK SPACE}") for value in (low, high)]
    return " to ".join(dict.fromkeys(texts))


def _sections(summary: RunSummary) -> list[Section]:
    report = summary.report
    sections = [
        _accuracy_section(summary),
        _agreement_section(summary.agreement),
        None if report is None else _counts_section(report),
        None if report is None else _energy_section(report),
        None if report is None else fairness_section(report),
        None if report is None else sensitivity_section(report),
        None if report is None else fit_section(report),
        _raster_section(summary.raster),
        _training_section(summary),
        None if report is None else _assumptions_section(report),
        None if report is None else _sources_section(report),
        _making_section(summary),
        None
        if summary.recipe is None
        else Section(
            anchor="recipe",
            title="Recipe",
            lead="Everything this run depended on; train again with it.",
            code=summary.recipe,
        ),
    ]
    return [section for section in sections if section is not None]


def _accuracy_section(summary: RunSummary) -> Section | None:
    if not summary.accuracy:
        return None
    points = [(one.stage, one.value) for one in summary.accuracy]
    numbers = {one.samples for one in summary.accuracy}
    rows: Rows = [
        (
            one.stage,
            format_percent(one.value),
            format_count(one.samples) if one.samples else "",
            one.note,
        )
        for one in summary.accuracy
    ]
    return Section(
        anchor="accuracy",
        title="Accuracy through the pipeline",
        lead="What deployment costs: the same network after each step on its way to the chip.",
        plots=(
            Plot(
                svg=plot_accuracy(points),
                title="Accuracy after each stage",
                caption="Accuracy on test samples."
                + (" Their number differs: see the table." if len(numbers) > 1 else ""),
            ),
        ),
        tables=(
            PageTable(
                caption="Accuracy",
                columns=("stage", "accuracy", "samples", "what was measured"),
                rows=rows,
                text_columns=1,
            ),
        ),
    )


def _agreement_section(agreement: Agreement | None) -> Section | None:
    if agreement is None:
        return None
    is_equal = agreement.differing_spikes == 0
    lead = (
        f"{format_count(agreement.samples)} samples ran on our simulator and on real Lava. "
        + ("Every spike of every layer was the same." if is_equal else "")
        + (
            ""
            if is_equal
            else f"{format_count(agreement.differing_spikes)} values differ: do not trust the "
            "deployed network before this is understood."
        )
    )
    if agreement.seconds is not None:
        lead += f" Lava took {agreement.seconds:.1f} s."
    rows: Rows = [
        (
            layer.name,
            format_count(layer.compared),
            format_count(layer.spikes),
            format_count(layer.differing),
            "identical" if layer.differing == 0 else "DIFFERS",
        )
        for layer in agreement.layers
    ]
    table = PageTable(
        caption="Agreement with Lava by layer",
        columns=("layer", "values compared", "spikes", "differing", "verdict"),
        rows=rows,
        text_columns=1,
    )
    return Section(
        anchor="agreement", title="Agreement with Lava", lead=lead, tables=(table,) if rows else ()
    )


def _counts_section(report: Report) -> Section:
    low, high = SIGMA_BREAK_EVEN
    return Section(
        anchor="counts",
        title="Operations",
        lead="Exact counts on the deployed integer weights. "
        f"{report.counts.sigma:.3f} spikes pass each synapse per inference; published studies that "
        f"include memory put the break-even with ordinary networks between {low} and {high}.",
        plots=(
            Plot(
                svg=plot_sops(report),
                title="Synaptic operations of each layer",
                caption="Filled: operations through weights other than zero. Dashed outline: "
                "zero weights charged as well.",
            ),
        ),
        tables=(
            PageTable(
                caption="Counts by layer, mean of a sample",
                columns=LAYER_COLUMNS,
                rows=layer_rows(report),
                text_columns=3,
                has_total=True,
            ),
            PageTable(
                caption="Totals",
                columns=("figure", "value"),
                rows=fact_rows(report),
                text_columns=1,
            ),
        ),
    )


def _energy_section(report: Report) -> Section:
    breakdown: Rows = [
        (one.network.preset, term, format_energy(value), one.network.basis if not number else "")
        for one in report.tiers
        if one.network.preset == report.tiers[0].network.preset or one.network.tier is Tier.MEMORY
        for number, (term, value) in enumerate(one.network.breakdown.items())
    ]
    return Section(
        anchor="energy",
        title="Energy of one inference",
        lead="Estimates from published constants, not measurements. Bars span low to high, marks "
        "are nominal values. Compare only within a row: both sides of a row have the same "
        "technology. No ratio is stated, because the answer depends on the row.",
        plots=(
            Plot(
                svg=plot_energy(report),
                title="Energy by preset",
                caption="Tier A: arithmetic only. B: and memory. C: Loihi 1, per operation, "
                "where an ordinary network cannot run.",
                is_wide=True,
            ),
        ),
        tables=(
            PageTable(
                caption="Energy by preset",
                columns=ENERGY_COLUMNS,
                rows=energy_rows(report),
                text_columns=2,
            ),
            PageTable(
                caption="What the nominal values consist of",
                columns=("preset", "term", "energy", "bounds"),
                rows=breakdown,
                text_columns=2,
            ),
        ),
    )


def _raster_section(raster: Raster | None) -> Section | None:
    if raster is None or not raster.layers:
        return None
    return Section(
        anchor="raster",
        title="Spikes of one sample",
        lead=f"{raster.title}. Each mark is a neuron that fired in that step.",
        plots=(
            Plot(
                svg=plot_raster(raster.layers),
                title="Spike raster",
                caption=f"A strip a layer, first neuron on top; at most {RASTER_NEURONS} neurons "
                "of a layer are drawn, evenly chosen. Input: values other than zero.",
                is_wide=True,
            ),
        ),
        tables=(
            PageTable(
                caption="Activity of this sample",
                columns=("layer", "neurons", "spikes", "rate per neuron and step"),
                rows=[
                    (
                        layer.name,
                        format_count(layer.fired.shape[1]),
                        format_count(int(layer.fired.sum())),
                        format_percent(float(layer.fired.mean())),
                    )
                    for layer in raster.layers
                ],
                text_columns=1,
            ),
        ),
    )


def _training_section(summary: RunSummary) -> Section | None:
    history = summary.history
    if not history:
        return None
    epochs = tuple(float(one.epoch) for one in history)
    plots = [
        Plot(
            svg=plot_curves(
                [Series(label="loss", x=epochs, y=tuple(one.loss for one in history))],
                name="loss",
                x_label="epoch",
                y_label="training loss",
            ),
            title="Training loss",
            caption="Mean loss of each epoch, branches included.",
        ),
        Plot(
            svg=plot_curves(
                [
                    Series(
                        label="training",
                        x=epochs,
                        y=tuple(100 * one.train_accuracy for one in history),
                    ),
                    Series(
                        label="validation",
                        x=epochs,
                        y=tuple(100 * one.validation_accuracy for one in history),
                    ),
                ],
                name="learning",
                x_label="epoch",
                y_label="accuracy, %",
            ),
            title="Accuracy while training",
            caption="Training accuracy is measured while weights still change.",
        ),
    ]
    shares = [(one.iterations, one.branch_weight) for one in history]
    known = [(float(x), y) for x, y in shares if y is not None]
    if known and any(y for _, y in known):
        plots.append(
            Plot(
                svg=plot_curves(
                    [Series(label="λ", x=tuple(x for x, _ in known), y=tuple(y for _, y in known))],
                    name="branches",
                    x_label="iteration",
                    y_label="λ, share of the branches",
                ),
                title="Share of the branches",
                caption="Weight λ of the shortcut branches in the loss. They are removed after "
                "training.",
            )
        )
    rates = [(float(one.iterations), one.learning_rate) for one in history]
    known = [(x, y) for x, y in rates if y is not None]
    if known:
        plots.append(
            Plot(
                svg=plot_curves(
                    [
                        Series(
                            label="rate", x=tuple(x for x, _ in known), y=tuple(y for _, y in known)
                        )
                    ],
                    name="rate",
                    x_label="iteration",
                    y_label="learning rate",
                ),
                title="Learning rate",
                caption="At the end of each epoch.",
            )
        )
    tables = [_epoch_table("Training", history)]
    if summary.fine_tuning:
        tables.append(_epoch_table("Fine-tuning in integers", summary.fine_tuning))
    return Section(anchor="training", title="Training", plots=tuple(plots), tables=tuple(tables))


def _epoch_table(caption: str, history: tuple[EpochPoint, ...]) -> PageTable:
    return PageTable(
        caption=f"{caption}: epochs",
        columns=("epoch", "loss", "training accuracy", "validation accuracy", "λ"),
        rows=[
            (
                str(one.epoch),
                f"{one.loss:.4f}",
                format_percent(one.train_accuracy),
                format_percent(one.validation_accuracy),
                "" if one.branch_weight is None else f"{one.branch_weight:.3f}",
            )
            for one in history
        ],
        text_columns=1,
    )


def _assumptions_section(report: Report) -> Section:
    left_out = tuple(
        dict.fromkeys(
            f"Left out of tier {one.network.tier.value} ({TIER_NAMES[one.network.tier]}): "
            f"{', '.join(one.network.excludes)}."
            for one in report.tiers
        )
    )
    return Section(
        anchor="assumptions",
        title="Assumptions and what is left out",
        items=(
            *(f"Note: {one}" for one in report.warnings),
            *report.assumptions,
            *left_out,
        ),
    )


def _sources_section(report: Report) -> Section | None:
    rows: Rows = []
    for one in report.tiers:
        rows += _preset_rows(one)
    if not rows:
        return None
    return Section(
        anchor="sources",
        title="Constants and their sources",
        lead="Evidence: source, read in the named source or log; abstract; secondary, a text that "
        "quotes the primary one; unverified, from memory; inferred, our own.",
        tables=(
            PageTable(
                caption="Every constant",
                columns=("preset", "constant", "value", "evidence", "source"),
                rows=rows,
                text_columns=2,
            ),
        ),
    )


def _preset_rows(comparison: Comparison) -> Rows:
    """List the constants of a preset that comes with neurodeploy; a user's own has its file."""
    name = comparison.network.preset.split(" + ")[0]
    if name not in PRESETS:
        return []
    try:
        preset = EnergyPreset.load(name)
    except TargetError:
        return []
    return [
        (preset.name, key, f"{one.value:g} {one.unit}", one.evidence, one.source)
        for key, one in preset.constants.items()
    ]


def _making_section(summary: RunSummary) -> Section | None:
    tables = []
    if summary.seconds:
        rows: Rows = [(name, f"{value:.1f} s") for name, value in summary.seconds.items()]
        rows.append(("total", f"{sum(summary.seconds.values()):.1f} s"))
        tables.append(
            PageTable(
                caption="Wall time",
                columns=("stage", "time"),
                rows=rows,
                text_columns=1,
                has_total=True,
            )
        )
    if summary.versions:
        tables.append(
            PageTable(
                caption="Versions",
                columns=("software", "version"),
                rows=[(name, value) for name, value in summary.versions.items()],
                text_columns=1,
            )
        )
    items = []
    if summary.command:
        items.append(f"Command: {summary.command}")
    if summary.created:
        items.append(f"Made: {summary.created}")
    if summary.report is not None and summary.report.network.sha256:
        network = summary.report.network
        items.append(f"Network: {network.path}, SHA-256 {network.sha256}")
    if not (tables or items):
        return None
    return Section(
        anchor="making", title="How this was made", tables=tuple(tables), items=tuple(items)
    )
