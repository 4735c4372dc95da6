"""When a ratio of energies may be a headline: only if every rule holds.

Most published ratios compare networks of different accuracy, count arithmetic alone, or give the
ordinary network no integers and no reuse. The rules are those that must hold before one number may
stand for a comparison; a report names those that do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from types import MappingProxyType

from neurodeploy.counting.relu_twin import AnnMacs
from neurodeploy.energy.estimates import Energy, ann_energy
from neurodeploy.energy.presets import EnergyPreset, Tier

ACCURACY_GAP = 0.01
"""Largest difference of accuracy that a headline allows, as a fraction."""

BREAK_EVENS: tuple[tuple[str, float, float, str], ...] = (
    (
        "memory included",
        0.15,
        1.38,
        "Dampfhoffer et al., IEEE TETCI 7(3):731-741, 2023, abstract",
    ),
    ("arithmetic alone, 8-bit integers", 3.0, 3.0, "e_mac / e_ac of cmos45_int8"),
    ("arithmetic alone, 32-bit floats", 5.1, 5.1, "e_mac / e_ac of cmos45_fp32"),
)
"""(what is counted, lowest, highest, source): spikes per synapse per inference below which a
spiking network was found, or follows, to need less energy than an ordinary one."""

RATE_BREAK_EVEN = (0.057, 5, "arXiv 2409.08290 v4, abstract")
"""Mean rate below which a spiking network was found to win, at how many steps, and the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule and what was found.

    Attributes:
        name: What must hold.
        holds: Whether it does.
        found: What was found, one sentence.
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
        low: Lower bound of the one over upper bound of the other.
        high: Upper bound of the one over lower bound of the other.
    """

    preset: str
    ratio: float
    low: float
    high: float


def activation_bits(steps: int) -> int:
    """Return the bits of an ordinary activation that can hold as much as T steps of spikes.

    Source: Yan et al., arXiv 2409.08290: ⌈log2(T + 1)⌉.
    """
    return max(1, ceil(log2(steps + 1)))


def with_activation_bits(preset: EnergyPreset, bits: int) -> EnergyPreset:
    """Return a preset of tier B with narrower activations of the ordinary network."""
    constant = dataclasses.replace(preset.constants["activation_bits"], value=float(bits))
    constants = {**preset.constants, "activation_bits": constant}
    return dataclasses.replace(preset, constants=MappingProxyType(constants))


def narrow_ann_energy(
    macs: AnnMacs, preset: EnergyPreset, *, arithmetic: EnergyPreset, steps: int
) -> Energy | None:
    """Return the ordinary network's energy with ⌈log2(T + 1)⌉-bit activations, tier B only."""
    if preset.tier is not Tier.MEMORY:
        return None
    narrowed = with_activation_bits(preset, activation_bits(steps))
    return ann_energy(macs, narrowed, arithmetic=arithmetic)


def judge(
    pairs: Sequence[tuple[Energy, Energy | None]],
    *,
    narrow: Energy | None,
    sigma: float,
    steps: int,
    accuracy: float | None,
    ann_accuracy: float | None,
    ann_name: str,
    macs_effective: float | None,
    gap: float = ACCURACY_GAP,
) -> tuple[tuple[Rule, ...], Headline | None]:
    """Look at every rule, and give the headline if all of them hold.

    Args:
        pairs: Energies of network and ANN, one pair a preset.
        narrow: The ANN's energy with narrow activations.
        sigma: Spikes per synapse per inference.
        steps: T.
        accuracy: Of the deployed network on a test set, a fraction; None if not known.
        ann_accuracy: Of the ANN on the same test set; None if not known.
        ann_name: What the ANN is called.
        macs_effective: MACs of the ANN with activations other than zero; None if not measured.
        gap: Largest difference of the two accuracies.
    """
    memory = [(one, ann) for one, ann in pairs if one.tier is Tier.MEMORY and ann is not None]
    is_known = accuracy is not None and ann_accuracy is not None
    difference = abs(accuracy - ann_accuracy) if is_known else None  # type: ignore[operator]  # known
    rules = (
        Rule(
            name=f"accuracies on the same test set differ by at most {100 * gap:g} points",
            holds=difference is not None and difference <= gap,
            found=f"{100 * difference:.2f} points apart"
            if difference is not None
            else f"the accuracy of {ann_name if accuracy is not None else 'the network'} is not "
            "known: give both (--accuracy, --ann-accuracy)",
        ),
        Rule(
            name=f"the ANN also runs on 8-bit integers, and with {activation_bits(steps)}-bit "
            "activations",
            holds=narrow is not None,
            found="both are in the report"
            if narrow is not None
            else "no preset of tier B was asked for",
        ),
        Rule(
            name="the ANN reads each weight once, and is also shown with its activation sparsity",
            holds=bool(memory) and macs_effective is not None,
            found="ideal reuse is its lower bound and nominal value"
            + (
                ""
                if macs_effective is not None
                else "; its activations were not measured (--ann MODEL.onnx measures them)"
            ),
        ),
        Rule(
            name="same tier, preset and memory on both sides, batch 1",
            holds=bool(memory),
            found="both sides of a row have the same constants"
            if memory
            else "no preset of tier B was asked for",
        ),
        Rule(
            name="all steps, the input layer and every neuron update count",
            holds=True,
            found=f"all {steps} steps, input events as deployed, every neuron at every step",
        ),
        Rule(
            name="spikes per synapse stand beside the published break-evens",
            holds=True,
            found=f"{sigma:.3f} per inference; published 0.15 to 1.38",
        ),
    )
    if not all(rule.holds for rule in rules) or not memory:
        return rules, None
    network, ann = memory[0]
    assert ann is not None
    if not ann.low:  # an ANN that computes nothing
        return rules, None
    return rules, Headline(
        preset=network.preset,
        ratio=network.nominal / ann.nominal,
        low=network.low / ann.high,
        high=network.high / ann.low,
    )


# The ordinary network in the number formats that it would be deployed in.
#
# A spiking network deployed in 8-bit integers is to be compared with an ordinary one that is given
# the same: 8-bit integers, and activations no wider than T steps of spikes can tell apart. 32-bit
# floats, which most papers compare with, stand beside them.

FLOATS = {"cmos45_int8": "cmos45_fp32", "cmos7_int8": "cmos7_fp32"}
"""The preset of 32-bit floats in the same technology."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnFormat:
    """The ordinary network in one number format.

    Attributes:
        name: Such as "int8, 3-bit activations".
        weight_bits: Bits of a weight in memory.
        activation_bits: Bits of an activation in memory.
        arithmetic: Energy of one inference, tier A.
        memory: The same of tier B.
    """

    name: str
    weight_bits: int
    activation_bits: int
    arithmetic: Energy
    memory: Energy


def ann_formats(
    macs: AnnMacs, memory: EnergyPreset, *, arithmetic: EnergyPreset, steps: int
) -> tuple[AnnFormat, ...]:
    """Return the ordinary network's energies in each format, narrowest first.

    Narrow activations save memory accesses; their products are charged as 8-bit ones. Floats are
    left out where `arithmetic` has no counterpart in floats (`FLOATS`).

    Args:
        macs: Of the ordinary network.
        memory: Preset of tier B.
        arithmetic: Preset of tier A for the integers.
        steps: T of the spiking network, which sets the narrow width.

    Raises:
        TargetError: If a preset is missing or malformed.
    """
    narrow = activation_bits(steps)
    wanted = [("int8", 8, 8, arithmetic)]
    if narrow < 8:
        wanted.insert(0, (f"int8, {narrow}-bit activations", 8, narrow, arithmetic))
    if arithmetic.name in FLOATS:
        wanted.append(("fp32", 32, 32, EnergyPreset.load(FLOATS[arithmetic.name])))
    formats = []
    for name, weight_bits, bits, numbers in wanted:
        plain = ann_energy(macs, numbers)
        stored = ann_energy(macs, _with_bits(memory, weight_bits, bits), arithmetic=numbers)
        assert plain is not None
        assert stored is not None
        formats.append(
            AnnFormat(
                name=name,
                weight_bits=weight_bits,
                activation_bits=bits,
                arithmetic=plain,
                memory=stored,
            )
        )
    return tuple(formats)


def _with_bits(preset: EnergyPreset, weight_bits: int, bits: int) -> EnergyPreset:
    changed = {
        name: dataclasses.replace(preset.constants[name], value=float(value))
        for name, value in (("weight_bits", weight_bits), ("activation_bits", bits))
    }
    return dataclasses.replace(preset, constants=MappingProxyType({**preset.constants, **changed}))


SIGMA_BREAK_EVEN = (0.15, 1.38)
"""Spikes per synapse per inference below which spiking networks were found to need less energy
than ANNs, memory included. Source: Dampfhoffer et al., IEEE TETCI 7(3):731-741, 2023, abstract."""
