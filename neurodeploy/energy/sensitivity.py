"""Influence of each assumption on the answer: one is changed, all others stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from neurodeploy.counting.count_tables import Counts
from neurodeploy.energy.estimates import Energy, System, ann_energy, network_energy
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.ir.graphs import AnnMacs

RATIO = "network / ANN"
CHIP = "network on Loihi 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Range of a figure, `RATIO` or `CHIP` (in pJ), between the ends of an assumption."""

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
    """Change one assumption after the other; the largest factor comes first.

    Assumptions that change nothing are left out, and ratios to an ANN that computes nothing.

    Tier B is added to the `arithmetic` of tier A; without MACs of an ANN there are no ratios.
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

    def energies(
        preset: EnergyPreset, network: Counts = counts, *, skips_zeros: bool = False
    ) -> tuple[Energy, Energy]:
        ann = ann_energy(macs, preset, arithmetic=arithmetic, skips_zeros=skips_zeros)
        assert ann is not None  # as in tier C, of which no ratios are made
        return network_energy(network, preset, arithmetic=arithmetic), ann

    def ratio(network: float, ann: float) -> float:
        return network / ann if ann else 0.0

    own, other = energies(arithmetic)
    base = ratio(own.nominal, other.nominal)
    pairs = [energies(preset) for preset in presets if preset.tier is Tier.ARITHMETIC]
    if len(pairs) > 1:
        plain = [ratio(network.nominal, ann.nominal) for network, ann in pairs]
        yield _between("which numbers are multiplied (presets of tier A)", plain)
    for preset in presets:
        if preset.tier is not Tier.MEMORY:
            continue
        network, ann = energies(preset)
        nominal = network.nominal / ann.nominal
        _, without = energies(preset, skips_zeros=True)
        stored, _ = energies(preset, _with_zeros(counts))
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
    yield _between(
        "a static image: computed once, or at every step (tier A)",
        [ratio(own.low, other.nominal), base],
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


def _with_activity(counts: Counts, *, is_active: bool) -> Counts:
    """Take all neuron updates as active, or none."""
    rows = (
        replace(row, updates_active=row.updates_dense if is_active else 0) for row in counts.layers
    )
    return replace(counts, layers=tuple(rows))


def _with_zeros(counts: Counts) -> Counts:
    """Charge zero weights like others."""
    rows = []
    for row in counts.layers:
        macs = row.sops_stored if row.sops_mac == row.sops else row.sops_mac
        charged = replace(
            row,
            sops=row.sops_stored,
            sops_ac=row.sops_stored - macs,
            sops_mac=macs,
            sops_cached=row.sops_cached + row.sops_stored - row.sops,
            synapses=tuple(replace(one, sops=one.sops_stored) for one in row.synapses),
        )
        rows.append(charged)
    return replace(counts, layers=tuple(rows))
