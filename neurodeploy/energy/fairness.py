"""When a ratio of energies may be a headline: only if every rule holds.

Most published ratios compare networks of different accuracy, count arithmetic alone, or give the
ordinary network no integers and no reuse. The rules are those that must hold before one number may
stand for a comparison; a report names those that do not.

A spiking network deployed in 8-bit integers is to be compared with an ordinary one that is given
the same: 8-bit integers, and activations no wider than T steps of spikes can tell apart. 32-bit
floats, which most papers compare with, stand beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2
from types import MappingProxyType

from neurodeploy.energy.estimates import Energy, ann_energy, repeated
from neurodeploy.energy.presets import EnergyPreset, Tier
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

FLOATS = {"cmos45_int8": "cmos45_fp32", "cmos7_int8": "cmos7_fp32"}
"""The preset of 32-bit floats in the same technology."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One condition of a fair comparison, and the facts behind its verdict in one sentence."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one ratio that may be stated, both sides with memory.

    Attributes:
        preset: Constants of both sides.
        ratio: Nominal energy of the spiking network over that of the other; both skip zero weights.
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
        ann_name: As in sentences.
        is_as_trained: Whether these are counts of the ANN itself, not of the deployed layers.
        uncounted: Operators of the ANN that its count leaves out.
        changes_over_time: Whether the network's input changes from step to step.
        has_own_input: Whether the ANN was given samples of its own, not the mean over the steps.
        repeats: Of sequences of frames, the share that repeats the frame before; else None.
    """

    accuracy: float | None
    ann_accuracy: float | None
    ann_name: str
    macs: AnnMacs
    is_as_trained: bool
    uncounted: tuple[str, ...] = ()
    changes_over_time: bool = False
    has_own_input: bool = False
    repeats: float | None = None


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
        facts: Those beside the energies.
        narrow: The ANN's energy with narrow activations.
        sparse: The ANN's energy with zero weights skipped, by the first preset of tier B.
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
        _ann_rule(facts),
        _input_rule(facts, gap),
        *([] if facts.repeats is None else [_frames_rule(facts.repeats)]),
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


def _ann_rule(facts: ComparisonFacts) -> Rule:
    found = "relays, merged groups and folded pools are not counted"
    if not facts.is_as_trained:
        found = (
            "only the layers as stored are known: deploy the network again, or give --ann "
            "MODEL.onnx of the trained one"
        )
    elif facts.uncounted:
        found = f"operators are left out of its count: {', '.join(facts.uncounted)}"
    return Rule(
        name="the ANN is counted as trained, not as lowered for the chip",
        holds=facts.is_as_trained and not facts.uncounted,
        found=found,
    )


def _accuracy_rule(facts: ComparisonFacts, gap: float) -> Rule:
    points = f"{100 * gap:g} {'point' if gap == 0.01 else 'points'}"
    name = f"the network is at most {points} less accurate than the ANN, on the same test set"
    if facts.accuracy is None or facts.ann_accuracy is None:
        side = "the network" if facts.accuracy is None else facts.ann_name
        text = (
            f"the accuracy of {side} is not known: give samples with labels (--input, "
            "--ann-input), or both figures (--accuracy, --ann-accuracy)"
        )
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


def _frames_rule(repeats: float) -> Rule:
    return Rule(
        name="the ANN does not run for a frame that repeats the one before",
        holds=True,
        found=f"{100 * repeats:.1f} % of the frames do; the ratio is to an ANN that skips them",
    )


# ----------------------------------------------- number formats of the ordinary network


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnFormat:
    """The ordinary network in one number format, such as "int8, 3-bit activations".

    Bits are those in memory; the energies are of one inference, by tiers A and B.
    """

    name: str
    weight_bits: int
    activation_bits: int
    arithmetic: Energy
    memory: Energy
    passes: int = 1


def activation_bits(steps: int) -> int:
    """Return the bits of an ordinary activation that can hold as much as T steps of spikes.

    Source: Yan et al., arXiv 2409.08290: ⌈log2(T + 1)⌉.
    """
    return max(1, ceil(log2(steps + 1)))


def narrow_ann_energy(
    macs: AnnMacs, preset: EnergyPreset | None, *, arithmetic: EnergyPreset, steps: int
) -> Energy | None:
    """Return the ordinary network's energy with ⌈log2(T + 1)⌉-bit activations, tier B only."""
    if preset is None or preset.tier is not Tier.MEMORY:
        return None
    narrowed = _with_bits(preset, activation_bits=activation_bits(steps))
    return ann_energy(macs, narrowed, arithmetic=arithmetic)


def ann_formats(
    macs: AnnMacs,
    memory: EnergyPreset | None,
    *,
    arithmetic: EnergyPreset,
    steps: int,
    has_step_passes: bool = False,
) -> tuple[AnnFormat, ...]:
    """Return the ordinary network's energies in each format, narrowest first.

    Narrow activations save memory accesses; their products are charged as 8-bit ones. Floats are
    left out where `arithmetic` has no counterpart in floats (`FLOATS`).

    Args:
        macs: Of one pass.
        memory: Preset of tier B; without it there are no formats.
        arithmetic: Preset of tier A for the integers.
        steps: T, which sets the narrow width.
        has_step_passes: Add T passes, one a step: where the input changes over the steps, a single
            pass sees only its mean.
    """
    if memory is None:
        return ()
    narrow = activation_bits(steps)
    widths = [("int8", 8, 8, arithmetic)]
    if narrow < 8:
        widths.insert(0, (f"int8, {narrow}-bit activations", 8, narrow, arithmetic))
    if arithmetic.name in FLOATS:
        widths.append(("fp32", 32, 32, EnergyPreset.load(FLOATS[arithmetic.name])))
    formats = []
    for name, weight_bits, bits, numbers in widths:
        plain = ann_energy(macs, numbers)
        widened = _with_bits(memory, weight_bits=weight_bits, activation_bits=bits)
        stored = ann_energy(macs, widened, arithmetic=numbers)
        assert plain is not None
        assert stored is not None
        form = AnnFormat(
            name=name,
            weight_bits=weight_bits,
            activation_bits=bits,
            arithmetic=plain,
            memory=stored,
        )
        formats.append(form)
        if name == "int8" and has_step_passes:
            formats.append(_repeated(form, steps))
    return tuple(formats)


def _repeated(form: AnnFormat, passes: int) -> AnnFormat:
    """Return several passes of an ordinary network."""
    return replace(
        form,
        name=f"{form.name}, {passes} passes (one a step)",
        arithmetic=repeated(form.arithmetic, passes),
        memory=repeated(form.memory, passes),
        passes=passes,
    )


def _with_bits(preset: EnergyPreset, **bits: int) -> EnergyPreset:
    """Return a preset of tier B with other widths of weights or activations in memory."""
    changed = {
        name: replace(preset.constants[name], value=float(value)) for name, value in bits.items()
    }
    return replace(preset, constants=MappingProxyType({**preset.constants, **changed}))
