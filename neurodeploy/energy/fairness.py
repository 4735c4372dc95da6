"""When a ratio of energies may be a headline: only if every rule holds.

Most published ratios compare networks of different accuracy, count arithmetic alone, or give the
ordinary network no integers and no reuse. The rules are those that must hold before one number may
stand for a comparison; a report names those that do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.number_formats import activation_bits
from neurodeploy.energy.presets import Tier

ACCURACY_GAP = 0.01
"""Largest difference of accuracy that a headline allows, as a fraction."""

SIGMA_BREAK_EVEN = (0.15, 1.38)
"""Spikes per synapse per inference below which spiking networks were found to need less energy
than ANNs, memory included. Source: Dampfhoffer et al., IEEE TETCI 7(3):731-741, 2023, abstract."""

BREAK_EVENS: tuple[tuple[str, float, float, str], ...] = (
    (
        "memory included",
        *SIGMA_BREAK_EVEN,
        "Dampfhoffer et al., IEEE TETCI 7(3):731-741, 2023, abstract",
    ),
    ("arithmetic alone, 8-bit integers", 3.0, 3.0, "e_mac / e_ac of cmos45_int8"),
    ("arithmetic alone, 32-bit floats", 5.1, 5.1, "e_mac / e_ac of cmos45_fp32"),
)
"""(operations counted, lowest, highest, source): spikes per synapse per inference below which a
spiking network was found, or follows, to need less energy than an ordinary one."""

RATE_BREAK_EVEN = (0.057, 5, "arXiv 2409.08290 v4, abstract")
"""Mean rate below which a spiking network was found to win, at how many steps, and the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a fair comparison and its verdict.

    Attributes:
        name: The condition.
        holds: Whether it is met.
        found: The facts behind the verdict, in one sentence.
    """

    name: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one ratio that may be stated, both sides with memory.

    Attributes:
        preset: Constants of both sides.
        ratio: Energy of the spiking network over that of the other, nominal values.
        low: Lower bound of the first over upper bound of the second.
        high: Upper bound of the first over lower bound of the second.
    """

    preset: str
    ratio: float
    low: float
    high: float


def judge(
    pairs: Sequence[tuple[Energy, Energy | None]],
    *,
    narrow: Energy | None,
    steps: int,
    accuracy: float | None,
    ann_accuracy: float | None,
    ann_name: str,
    macs_effective: float | None,
    gap: float = ACCURACY_GAP,
) -> tuple[tuple[Rule, ...], Headline | None]:
    """Judge every rule, and return the headline if all of them hold.

    Args:
        pairs: Energies of network and ANN, one pair a preset.
        narrow: The ANN's energy with narrow activations.
        steps: T.
        accuracy: Of the deployed network on a test set, a fraction; None if not known.
        ann_accuracy: Of the ANN on the same test set; None if not known.
        ann_name: Name of the ANN in sentences.
        macs_effective: MACs of the ANN with activations other than zero; None if not measured.
        gap: Largest difference of the two accuracies.
    """
    memory = [(own, ann) for own, ann in pairs if own.tier is Tier.MEMORY and ann is not None]
    rules = (
        _accuracy_rule(accuracy, ann_accuracy, ann_name, gap),
        Rule(
            name=f"the ANN also runs on 8-bit integers, and with {activation_bits(steps)}-bit "
            "activations",
            holds=narrow is not None,
            found="no preset of tier B was asked for"
            if narrow is None
            else "both are in the report",
        ),
        Rule(
            name="the ANN reads each weight once, and is also shown with its activation sparsity",
            holds=bool(memory) and macs_effective is not None,
            found="ideal reuse is its lower bound and nominal value"
            + (
                "; its activations were not measured (--ann MODEL.onnx measures them)"
                if macs_effective is None
                else ""
            ),
        ),
        Rule(
            name="same tier, preset and memory on both sides, batch 1",
            holds=bool(memory),
            found="both sides of a row have the same constants"
            if memory
            else "no preset of tier B was asked for",
        ),
    )
    if not all(rule.holds for rule in rules):
        return rules, None
    network, ann = memory[0]
    if not ann.low:  # an ANN that computes nothing
        return rules, None
    return rules, Headline(
        preset=network.preset,
        ratio=network.nominal / ann.nominal,
        low=network.low / ann.high,
        high=network.high / ann.low,
    )


def _accuracy_rule(
    accuracy: float | None, ann_accuracy: float | None, ann_name: str, gap: float
) -> Rule:
    name = f"accuracies on the same test set differ by at most {100 * gap:g} points"
    if accuracy is None or ann_accuracy is None:
        side = "the network" if accuracy is None else ann_name
        text = f"the accuracy of {side} is not known: give both (--accuracy, --ann-accuracy)"
        return Rule(name=name, holds=False, found=text)
    difference = abs(accuracy - ann_accuracy)
    return Rule(name=name, holds=difference <= gap, found=f"{100 * difference:.2f} points apart")
