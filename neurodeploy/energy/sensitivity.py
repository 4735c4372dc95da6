"""Influence of each assumption on the answer: one is changed, all others stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neurodeploy.counting.counts import Counts
from neurodeploy.energy.estimates import System, ann_energy, network_energy
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.ir.graphs import AnnMacs

RATIO = "network / ANN"
CHIP = "network on Loihi 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Influence of one assumption on a figure.

    Attributes:
        assumption: The assumption and its two ends.
        quantity: The figure: `RATIO`, or `CHIP` in pJ.
        low: Its smallest value.
        high: Its largest.
    """

    assumption: str
    quantity: str
    low: float
    high: float

    @property
    def factor(self) -> float:
        """Largest value over smallest."""
        return self.high / self.low if self.low > 0 else float("inf")


def find_sensitivities(
    counts: Counts,
    macs: AnnMacs | None,
    presets: Sequence[EnergyPreset],
    *,
    arithmetic: EnergyPreset,
    system: System = System(),  # noqa: B008 - a frozen value, not shared state
) -> tuple[Sensitivity, ...]:
    """Change one assumption after the other.

    Args:
        counts: Of the network.
        macs: Of the ANN; None for no ratios.
        presets: Those of the report.
        arithmetic: Constants of tier A that tier B is added to.
        system: Step time, chips and placement.

    Returns:
        Largest factor first; assumptions that change nothing are left out, and ratios to an ANN
        that computes nothing.
    """
    entries = _chip(counts, presets, system)
    if macs is not None and macs.macs_border_exact:
        entries = [*_ratios(counts, macs, presets, arithmetic), *entries]
    entries = [entry for entry in entries if entry.factor > 1.0005]  # shown as 1 otherwise
    return tuple(sorted(entries, key=lambda entry: -entry.factor))


def _ratios(
    counts: Counts, macs: AnnMacs, presets: Sequence[EnergyPreset], arithmetic: EnergyPreset
) -> Iterator[Sensitivity]:
    """Yield the influence of every assumption on the ratio of network and ANN."""
    plain = [
        _ratio(counts, macs, preset, preset) for preset in presets if preset.tier is Tier.ARITHMETIC
    ]
    if len(plain) > 1:
        yield _between("which numbers are multiplied (presets of tier A)", plain)
    base = _ratio(counts, macs, arithmetic, arithmetic)
    for preset in presets:
        if preset.tier is not Tier.MEMORY:
            continue
        network = network_energy(counts, preset, arithmetic=arithmetic)
        ann = ann_energy(macs, preset, arithmetic=arithmetic)
        assert ann is not None
        nominal = network.nominal / ann.nominal
        stored = network_energy(_with_zeros(counts), preset, arithmetic=arithmetic)
        without = ann_energy(macs, preset, arithmetic=arithmetic, skips_zeros=True)
        assert without is not None
        yield _between(f"memory counted or not ({preset.name})", [base, nominal])
        yield _between(
            "the network's memory accesses: packed bits or whole words",
            [nominal, network.high / ann.nominal],
        )
        yield _between(
            "the ANN's weights: each read once, or at every use",
            [nominal, network.nominal / ann.high],
        )
        yield _between(
            "zero weights on both sides: skipped, or fetched like others",
            [network.nominal / without.nominal, stored.nominal / ann.nominal],
        )
    cached, ann = network_energy(counts, arithmetic), ann_energy(macs, arithmetic)
    assert ann is not None
    yield _between(
        "a static image: computed once, or at every step (tier A)",
        [cached.low / ann.nominal, cached.nominal / ann.nominal],
    )


def _chip(counts: Counts, presets: Sequence[EnergyPreset], system: System) -> list[Sensitivity]:
    """Return the influence of every assumption on the energy of a chip."""
    chips = [preset for preset in presets if preset.tier is Tier.CHIP]
    if not chips:
        return []
    energies = [network_energy(counts, preset, system=system) for preset in chips]
    first, static = energies[0], energies[0].static
    assert static is not None
    powered = "one chip for" if static.chips == 1 else f"{static.chips} chips,"
    ends = [
        network_energy(_with_activity(counts, is_active=is_active), chips[0]).nominal
        for is_active in (False, True)
    ]
    return [
        _between(
            "which published figures of Loihi 1", [energy.nominal for energy in energies], CHIP
        ),
        _between(
            f"static power: none, or {powered} {static.step_time_us / 1000:g} ms a step",
            [first.nominal, first.total],
            CHIP,
        ),
        _between("neuron updates: all idle, or all active", ends, CHIP),
    ]


def _between(assumption: str, values: Sequence[float], quantity: str = RATIO) -> Sensitivity:
    return Sensitivity(assumption=assumption, quantity=quantity, low=min(values), high=max(values))


def _ratio(counts: Counts, macs: AnnMacs, preset: EnergyPreset, arithmetic: EnergyPreset) -> float:
    network = network_energy(counts, preset, arithmetic=arithmetic)
    ann = ann_energy(macs, preset, arithmetic=arithmetic)
    assert ann is not None
    return network.nominal / ann.nominal if ann.nominal else 0.0


def _with_activity(counts: Counts, *, is_active: bool) -> Counts:
    """Take all neuron updates as active, or none."""
    rows = tuple(
        dataclasses.replace(row, updates_active=row.updates_dense if is_active else 0)
        for row in counts.layers
    )
    return dataclasses.replace(counts, layers=rows)


def _with_zeros(counts: Counts) -> Counts:
    """Charge zero weights like others."""
    rows = []
    for row in counts.layers:
        extra = row.sops_stored - row.sops
        mac = row.sops_stored if row.sops_mac == row.sops else row.sops_mac
        rows.append(
            dataclasses.replace(
                row,
                sops=row.sops_stored,
                sops_mac=mac,
                sops_cached=row.sops_cached + extra,
                synapses=tuple(
                    dataclasses.replace(synapse, sops=synapse.sops_stored)
                    for synapse in row.synapses
                ),
            )
        )
    return dataclasses.replace(counts, layers=tuple(rows))
