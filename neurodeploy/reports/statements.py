"""The conclusions that a report allows, as sentences for the terminal and the top of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import SIGMA_BREAK_EVEN
from neurodeploy.energy.presets import Tier
from neurodeploy.energy.sensitivity import RATIO, Sensitivity
from neurodeploy.reports.numbers import format_factor, format_range
from neurodeploy.reports.report import PresetComparison, Report

LESS, MORE, OVERLAP = "less", "more", "overlapping"


def statements(report: Report) -> list[str]:
    """Return the conclusions, the assumption that matters most, and the number of cores."""
    name = "ReLU twin" if report.onnx is None else "ANN"
    low, high = SIGMA_BREAK_EVEN
    sentences = [
        _ratio_statement(report, name),
        f"All {report.counts.steps} steps, the input layer as deployed and every neuron update "
        "are counted.",
        f"{report.counts.sigma:.3f} spikes pass each synapse per inference; published break-evens "
        f"with memory lie between {low} and {high}.",
    ]
    for tier, start in (
        (Tier.ARITHMETIC, "Arithmetic alone"),
        (Tier.MEMORY, "With memory accesses"),
    ):
        rows = [pair for pair in report.tier(tier) if pair.ann is not None]
        if rows:
            sentences.append(_tier_statement(start, rows, name))
    if report.sensitivities:
        sentences.append(_sensitivity_statement(report.sensitivities))
    for fit in report.fits:
        cores = (
            "does not fit"
            if fit.cores_low is None
            else f"{fit.cores_text} {'core' if fit.cores_text == '1' else 'cores'} of "
            f"{fit.cores_per_chip} a chip"
        )
        sentences.append(f"{fit.target}: {cores}, an estimate from sizes.")
    return sentences


def standing(network: Energy, ann: Energy) -> str:
    """Compare two ranges: `LESS`, `MORE` or `OVERLAP`."""
    if network.high < ann.low:
        return LESS
    return MORE if network.low > ann.high else OVERLAP


def changes_the_winner(entry: Sensitivity) -> bool:
    """Return whether one end of an assumption favours the network and the other the ANN."""
    return entry.quantity == RATIO and entry.low < 1 < entry.high


def _ratio_statement(report: Report, name: str) -> str:
    head = report.headline
    if head is not None:
        low, ratio, high = map(format_factor, (head.low, head.ratio, head.high))
        return (
            f"Spiking network / {name}, memory included ({head.preset}): {ratio}, between {low} "
            f"and {high}. All {len(report.rules)} rules of a fair comparison hold."
        )
    failed = [rule for rule in report.rules if not rule.holds]
    return (
        f"No ratio is stated as a result: {len(failed)} of {len(report.rules)} rules of a fair "
        f"comparison {'does' if len(failed) == 1 else 'do'} not hold."
    )


def _tier_statement(start: str, rows: Sequence[PresetComparison], name: str) -> str:
    first = rows[0]
    assert first.ann is not None
    ranges = f"{format_range(first.network)} against {format_range(first.ann)}"
    standings = Counter(standing(pair.network, pair.ann) for pair in rows if pair.ann is not None)
    words = {
        LESS: f"less energy than the {name}",
        MORE: f"more energy than the {name}",
        OVERLAP: f"ranges that overlap with the {name}'s",
    }
    if len(standings) == 1:
        where = f"in all {len(rows)} presets " if len(rows) > 1 else ""
        return f"{start}: {where}{words[next(iter(standings))]} ({first.network.preset}: {ranges})."
    parts = ", ".join(f"{words[key]} in {standings[key]}" for key in words if key in standings)
    return f"{start}, {len(rows)} presets: {parts} ({first.network.preset}: {ranges})."


def _sensitivity_statement(entries: Sequence[Sensitivity]) -> str:
    most = entries[0]
    text = f"The most influential assumption: {most.assumption}, a factor of "
    text += f"{format_factor(most.factor)} ({most.quantity})."
    turning = [entry.assumption for entry in entries if changes_the_winner(entry)]
    if turning:
        text += f" These change which side needs less: {'; '.join(turning)}."
    elif any(entry.quantity == RATIO for entry in entries):
        text += " None of the assumptions alone changes which side needs less."
    return text
