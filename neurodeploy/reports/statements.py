"""The conclusions that a report allows, as sentences for the terminal and the top of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import SIGMA_BREAK_EVEN
from neurodeploy.energy.presets import Tier
from neurodeploy.energy.sensitivity import RATIO, Sensitivity
from neurodeploy.reports.frame_figures import changed_figures, cost_figures
from neurodeploy.reports.numbers import (
    format_bounds,
    format_count,
    format_factor,
    format_percent,
    format_range,
)
from neurodeploy.reports.report import PresetComparison, Report

LESS, MORE, OVERLAP = "less", "more", "overlapping"

_MEMORY = "memory included"
UPDATE_TERMS = ("neuron updates", "states")
"""Terms of an energy that grow with the number of neurons and steps alone."""


def statements(report: Report) -> list[str]:
    """Return the verdict, what it rests on, the assumption that matters most, and the cores."""
    name = report.ann_name
    low, high = SIGMA_BREAK_EVEN
    sentences = [
        verdict(report),
        *([_rules_statement(report)] if report.is_comparable else []),
        f"All {report.counts.steps} steps, the input layer as deployed and every neuron update "
        "are counted.",
        *_frame_statements(report),
        f"{report.sigma:.3f} spikes pass each synapse per {report.inference}; published "
        f"break-evens with memory lie between {low} and {high}, a hint on which the "
        "verdict does not rest.",
    ]
    starts = {
        Tier.ARITHMETIC: "Arithmetic alone, memory left out",
        Tier.MEMORY: "With memory accesses",
    }
    for tier, start in starts.items():
        rows = [pair for pair in report.tier(tier) if pair.ann is not None]
        if rows and report.is_comparable:
            sentences.append(_tier_statement(start, rows, name))
    sentences += _chip_statement(report)
    if report.sensitivities:
        sentences.append(_sensitivity_statement(report.sensitivities))
    for fit in report.fits:
        cores = f"{fit.cores_text} {'core' if fit.cores_text == '1' else 'cores'} of "
        cores += f"{fit.cores_per_chip} a chip"
        cores = "does not fit" if fit.cores_low is None else cores
        sentences.append(f"{fit.target}: {cores}, an estimate from sizes.")
    return sentences


def verdict(report: Report) -> str:
    """Return the answer to "does it pay?": who needs less energy, memory included."""
    name = report.ann_name
    if not report.is_answered:
        return (
            f"No comparison: the sequences end after {report.counts.steps} steps, before a frame "
            "is answered. Repeat their last frame until it is."
        )
    if not report.is_comparable:
        return (
            "No comparison: the counts at hand are those of the layers as stored, with relays and "
            "folded pools that an ordinary network has not. Deploy the network again, or give "
            "--ann MODEL.onnx of the trained one."
        )
    outcome, factors = _outcome(report)
    if outcome != OVERLAP:
        return f"The spiking network needs {factors}{outcome} energy than the {name}, {_MEMORY}."
    if factors:
        return (
            f"It is open which side needs less: the spiking network needs {factors}the energy of "
            f"the {name}, {_MEMORY}."
        )
    if not report.tier(Tier.MEMORY):
        return "Which side needs less energy is open: no preset that includes memory was asked for."
    return f"It is open whether the spiking network or the {name} needs less energy, {_MEMORY}."


def _frame_statements(report: Report) -> list[str]:
    """Return the cost of a frame, beside that of the ANN in each of its forms."""
    frames = report.frames
    if frames is None:
        return []
    sops, changed = cost_figures(frames.all_sops), changed_figures(frames)
    mean, first, largest = (
        format_count(round(sops[name])) for name in ("mean", "first", "largest")
    )
    sentences = [
        f"A frame costs {mean} SOPs in the mean, {first} the first and {largest} at most, and "
        f"{format_count(frames.updates)} neuron updates. {format_percent(changed['mean'])} of the "
        "input change from frame to frame."
    ]
    if report.is_comparable:
        costs = ", ".join(
            f"{format_count(round(ann.macs / frames.frames))} {ann.name}"
            for ann in report.frame_anns
        )
        repeats = format_percent(1 - float(frames.is_new.mean()))
        zeros = "measured on them" if report.has_measured_zeros else "estimated"
        sentences.append(
            f"MACs a frame of the {report.ann_name}: {costs}; {repeats} of the frames repeat the "
            f"one before, zeros are {zeros}."
        )
    return [*sentences, _updates_statement(report, frames.updates)]


def _updates_statement(report: Report, updates: int) -> str:
    """Return the share of the energy that updates take, which no still input saves."""
    parts: list[tuple[Energy, float]] = []
    largest = 0.0
    for pair in report.tiers:
        if pair.network.tier is Tier.CHIP or any(one.tier is pair.network.tier for one, _ in parts):
            continue
        energy = pair.network
        spent = sum(energy.breakdown.get(term, 0.0) for term in UPDATE_TERMS)
        share = spent / energy.nominal if energy.nominal else 0.0
        largest = max(largest, share)
        parts.append((energy, share))
    shares = " and ".join(f"{format_percent(share)} by {one.preset}" for one, share in parts)
    text = f"{format_count(updates)} neurons are updated at every step, changed or not"
    text += f"; of the energy that is {shares}." if shares else "."
    if largest > 0.5:
        return f"Neuron updates dominate. {text} A still input does not save them."
    return text


def verdict_in_short(report: Report) -> str:
    """Return the verdict in a few words: "no: needs 2.4 to 82 times more energy"."""
    if not report.is_comparable:
        return "no comparison"
    outcome, factors = _outcome(report)
    if outcome == OVERLAP:
        return f"open: needs {factors}the energy" if factors else "open"
    return f"{'yes' if outcome == LESS else 'no'}: needs {factors}{outcome} energy"


def _outcome(report: Report) -> tuple[str, str]:
    """Return `LESS`, `MORE` or `OVERLAP`, and the factors if every rule of fairness holds."""
    head = report.headline
    if head is not None:
        low, high, outcome = head.low, head.high, MORE if head.low > 1 else OVERLAP
        if high < 1:
            low, high, outcome = 1 / head.high, 1 / head.low, LESS
        return outcome, f"{format_factor(low)} to {format_factor(high)} times "
    for pair in report.tier(Tier.MEMORY):
        if pair.ann is not None:
            return standing(pair.network, pair.ann), ""
    return OVERLAP, ""


def _rules_statement(report: Report) -> str:
    head = report.headline
    if head is None:
        return f"No factor is stated: {broken_rules(report)}."
    ratio = (
        f"Nominal ratio {format_factor(head.ratio)} ({head.preset}), both sides without weights "
    )
    return f"{ratio}of zero. All {len(report.rules)} rules of a fair comparison hold."


def broken_rules(report: Report) -> str:
    """Return "3 of 7 rules of a fair comparison do not hold", or nothing if all hold."""
    failed = sum(not rule.holds for rule in report.rules)
    verb = "does" if failed == 1 else "do"
    text = f"{failed} of {len(report.rules)} rules of a fair comparison {verb} not hold"
    return text if failed else ""


def standing(network: Energy, ann: Energy) -> str:
    """Compare two ranges: `LESS`, `MORE` or `OVERLAP`."""
    if network.high < ann.low:
        return LESS
    return MORE if network.low > ann.high else OVERLAP


def changes_the_winner(entry: Sensitivity) -> bool:
    """Return whether one end of an assumption favours the network and the other the ANN."""
    return entry.quantity == RATIO and entry.low < 1 < entry.high


def _tier_statement(start: str, rows: Sequence[PresetComparison], name: str) -> str:
    first = rows[0]
    assert first.ann is not None
    ranges = f"{format_range(first.network)} against {format_range(first.ann)}"
    standings = Counter(standing(pair.network, pair.ann) for pair in rows if pair.ann is not None)
    words = {one: f"{one} energy than the {name}" for one in (LESS, MORE)}
    words[OVERLAP] = f"ranges that overlap with the {name}'s"
    if len(standings) == 1:
        where = f"in all {len(rows)} presets " if len(rows) > 1 else ""
        return f"{start}: {where}{words[next(iter(standings))]} ({first.network.preset}: {ranges})."
    parts = ", ".join(f"{words[key]} in {standings[key]}" for key in words if key in standings)
    return f"{start}, {len(rows)} presets: {parts} ({first.network.preset}: {ranges})."


def _chip_statement(report: Report) -> list[str]:
    """Return the energy on the chip, which has no counterpart of the ANN to be compared with."""
    chips = [pair.network for pair in report.tier(Tier.CHIP)]
    if not chips:
        return []
    bounds = format_bounds(min(one.low for one in chips), max(one.high for one in chips))
    return [
        f"On the chip itself, by {' and '.join(one.preset for one in chips)}: {bounds}. No such "
        f"figures are published of Loihi 2; the {report.ann_name} would run on another machine, so "
        "this is no comparison."
    ]


def _sensitivity_statement(entries: Sequence[Sensitivity]) -> str:
    most = next((entry for entry in entries if entry.quantity == RATIO), entries[0])
    moved = "ratio of energies" if most.quantity == RATIO else f"energy of the {most.quantity}"
    text = f"The assumption that moves the {moved} most: {most.assumption}, a factor of "
    text += f"{format_factor(most.factor)}."
    turning = [entry.assumption for entry in entries if changes_the_winner(entry)]
    if turning:
        text += f" These change which side needs less: {'; '.join(turning)}."
    elif any(entry.quantity == RATIO for entry in entries):
        text += " None of the assumptions alone changes which side needs less."
    return text
