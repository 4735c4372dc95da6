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
from neurodeploy.ir.graphs import AnnMacs

ACCURACY_GAP = 0.01
"""Largest loss of accuracy against the ANN that a headline allows, as a fraction."""

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
        ratio: Energy of the spiking network over that of the other, nominal values; both skip
            weights of zero.
        low: Lower bound of the first over upper bound of the second.
        high: Upper bound of the first over lower bound of the second.
    """

    preset: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFacts:
    """The facts about both sides, beside their energies, that the rules ask for.

    Attributes:
        accuracy: Of the deployed network on a test set, a fraction; None if not known.
        ann_accuracy: Of the ANN on the same test set; None if not known.
        ann_name: Name of the ANN in sentences.
        macs: Of the ANN.
        is_as_trained: Whether these are counts of the ANN itself, not of the deployed layers.
        changes_over_time: Whether the network's input changes from step to step.
        has_own_input: Whether the ANN was given samples of its own, not the mean over the steps.
    """

    accuracy: float | None
    ann_accuracy: float | None
    ann_name: str
    macs: AnnMacs
    is_as_trained: bool
    changes_over_time: bool = False
    has_own_input: bool = False


def judge(
    pairs: Sequence[tuple[Energy, Energy | None]],
    facts: ComparisonFacts,
    *,
    narrow: Energy | None,
    sparse: Energy | None,
    steps: int,
    gap: float = ACCURACY_GAP,
) -> tuple[tuple[Rule, ...], Headline | None]:
    """Judge every rule, and return the headline if all of them hold.

    Args:
        pairs: Energies of network and ANN, one pair a preset.
        facts: About both sides.
        narrow: The ANN's energy with narrow activations.
        sparse: The ANN's energy with its weights of zero skipped, by the first preset of tier B.
        steps: T.
        gap: Largest accuracy that the network may lose against the ANN.
    """
    memory = [(own, ann) for own, ann in pairs if own.tier is Tier.MEMORY and ann is not None]
    no_memory = "no preset of tier B was asked for"
    is_measured = facts.macs.macs_effective is not None
    rules = (
        _accuracy_rule(facts, gap),
        Rule(
            name=f"the ANN also runs on 8-bit integers, and with {activation_bits(steps)}-bit "
            "activations",
            holds=narrow is not None,
            found=no_memory if narrow is None else "both are in the report",
        ),
        Rule(
            name="the ANN reads each weight once, and is also shown with its activation sparsity",
            holds=bool(memory) and is_measured,
            found="ideal reuse is its lower bound and nominal value"
            + (
                "" if is_measured else "; its activations were not measured (give --ann MODEL.onnx)"
            ),
        ),
        Rule(
            name="same tier, preset and memory on both sides, batch 1",
            holds=bool(memory),
            found="both sides of a row have the same constants" if memory else no_memory,
        ),
        _sparsity_rule(facts.macs),
        Rule(
            name="the ANN is counted as trained, not as lowered for the chip",
            holds=facts.is_as_trained,
            found="relays, merged groups and folded pools are not counted"
            if facts.is_as_trained
            else "only the layers as stored are known: deploy the network again, or give --ann "
            "MODEL.onnx of the trained one",
        ),
        _input_rule(facts, gap),
    )
    if not all(rule.holds for rule in rules):
        return rules, None
    network, ann = memory[0]
    if sparse is None or not ann.low:  # an ANN that computes nothing
        return rules, None
    return rules, Headline(
        preset=network.preset,
        ratio=network.nominal / sparse.nominal,
        low=network.low / ann.high,
        high=network.high / ann.low,
    )


def _accuracy_rule(facts: ComparisonFacts, gap: float) -> Rule:
    points = f"{100 * gap:g} {'point' if gap == 0.01 else 'points'}"
    name = f"the network is at most {points} less accurate than the ANN, on the same test set"
    if facts.accuracy is None or facts.ann_accuracy is None:
        side = "the network" if facts.accuracy is None else facts.ann_name
        text = f"the accuracy of {side} is not known: give both (--accuracy, --ann-accuracy)"
        return Rule(name=name, holds=False, found=text)
    lead = facts.accuracy - facts.ann_accuracy
    found = f"{100 * abs(lead):.2f} points {'more' if lead > 0 else 'less'} accurate"
    return Rule(name=name, holds=lead >= -gap, found=found if lead else "equally accurate")


def _sparsity_rule(macs: AnnMacs) -> Rule:
    name = "weights of zero are skipped on both sides"
    if macs.macs_nonzero is None:
        found = "the ANN's weights were not looked at: run it on samples (--ann-input)"
        return Rule(name=name, holds=False, found=found)
    share = 1 - macs.macs_nonzero / macs.macs_border_exact if macs.macs_border_exact else 0.0
    found = f"{100 * share:.1f} % of the ANN's MACs are products with such a weight"
    return Rule(name=name, holds=True, found=found)


def _input_rule(facts: ComparisonFacts, gap: float) -> Rule:
    name = "the ANN can do the task with its input"
    if not facts.changes_over_time:
        return Rule(name=name, holds=True, found="the input is the same at every step")
    if facts.has_own_input:
        return Rule(name=name, holds=True, found="it was given samples of its own")
    seen = f"the input changes over the steps, {facts.ann_name} sees only their mean"
    if facts.accuracy is None or facts.ann_accuracy is None:
        return Rule(name=name, holds=False, found=f"{seen}, and one accuracy is not known")
    is_able = facts.ann_accuracy >= facts.accuracy - gap
    found = f"{seen}, {'which is enough' if is_able else 'and is less accurate'}"
    return Rule(name=name, holds=is_able, found=found)
