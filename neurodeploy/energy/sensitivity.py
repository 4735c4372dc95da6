"""Which assumption moves the answer most: each is changed by itself, all others stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from neurodeploy.counting.counts import Counts
from neurodeploy.counting.relu_twin import AnnMacs
from neurodeploy.energy.estimates import Energy, System, ann_energy, network_energy
from neurodeploy.energy.presets import EnergyPreset, Tier

RATIO = "network / ANN"
CHIP = "network on Loihi 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What one assumption can do.

    Attributes:
        assumption: What was changed, and between what.
        quantity: Which figure: `RATIO`, or `CHIP` in pJ.
        low: The figure at one end.
        high: At the other.
    """

    assumption: str
    quantity: str
    low: float
    high: float

    @property
    def factor(self) -> float:
        """How many times larger the figure can become."""
        return self.high / self.low if self.low > 0 else float("inf")


def find_sensitivities(
    counts: Counts,
    macs: AnnMacs,
    presets: Sequence[EnergyPreset],
    *,
    arithmetic: EnergyPreset,
    system: System = System(),  # noqa: B008 - a frozen value, not shared state
) -> tuple[Sensitivity, ...]:
    """Change one assumption after the other.

    Args:
        counts: Of the network.
        macs: Of the ANN.
        presets: Those of the report.
        arithmetic: Constants of tier A that tier B is added to.
        system: Step time, chips and placement.

    Returns:
        Largest factor first; assumptions that change nothing are left out, and ratios to an ANN
        that computes nothing.
    """
    if not macs.macs_border_exact:
        return _ordered(_chip(counts, presets, system))
    found: list[Sensitivity] = []
    plain = [preset for preset in presets if preset.tier is Tier.ARITHMETIC]
    ratios = [_ratio(counts, macs, preset, preset) for preset in plain]
    if len(ratios) > 1:
        found.append(_between("which numbers are multiplied (presets of tier A)", ratios))
    base = _ratio(counts, macs, arithmetic, arithmetic)
    for preset in presets:
        if preset.tier is not Tier.MEMORY:
            continue
        network = network_energy(counts, preset, arithmetic=arithmetic)
        ann = ann_energy(macs, preset, arithmetic=arithmetic)
        assert ann is not None
        nominal = network.nominal / ann.nominal
        found.append(_between(f"memory counted or not ({preset.name})", [base, nominal]))
        found.append(
            _between(
                "the network's memory accesses: packed bits or whole words",
                [nominal, network.high / ann.nominal],
            )
        )
        found.append(
            _between(
                "the ANN's weights: each read once, or at every use",
                [nominal, network.nominal / ann.high],
            )
        )
        stored = network_energy(_with_zeros(counts), preset, arithmetic=arithmetic)
        found.append(
            _between(
                "zero weights: skipped, or fetched like others",
                [nominal, stored.nominal / ann.nominal],
            )
        )
    cached = network_energy(counts, arithmetic)
    ann = ann_energy(macs, arithmetic)
    assert ann is not None
    found.append(
        _between(
            "a static image: computed once, or at every step (tier A)",
            [cached.low / ann.nominal, cached.nominal / ann.nominal],
        )
    )
    found += _chip(counts, presets, system)
    return _ordered(found)


def _ordered(found: Sequence[Sensitivity]) -> tuple[Sensitivity, ...]:
    return tuple(sorted((one for one in found if one.factor > 1.0005), key=lambda one: -one.factor))


def _chip(counts: Counts, presets: Sequence[EnergyPreset], system: System) -> list[Sensitivity]:
    chips = [preset for preset in presets if preset.tier is Tier.CHIP]
    energies = [network_energy(counts, preset, system=system) for preset in chips]
    if not energies:
        return []
    found = []
    if len(energies) > 1:
        values = [energy.nominal for energy in energies]
        found.append(_between("which published figures of Loihi 1", values, CHIP))
    for preset, energy in zip(chips[:1], energies[:1], strict=True):
        assert energy.static is not None
        duration = energy.static.step_time_us / 1000
        found.append(
            _between(
                f"static power: none, or one chip for {duration:g} ms a step"
                if energy.static.chips == 1
                else f"static power: none, or {energy.static.chips} chips, {duration:g} ms a step",
                [energy.nominal, energy.total],
                CHIP,
            )
        )
        ends = [
            network_energy(
                dataclasses.replace(
                    counts,
                    layers=tuple(
                        dataclasses.replace(
                            row, updates_active=row.updates_dense if is_active else 0
                        )
                        for row in counts.layers
                    ),
                ),
                preset,
            ).nominal
            for is_active in (False, True)
        ]
        found.append(_between("neuron updates: all idle, or all active", ends, CHIP))
    return found


def _between(assumption: str, values: Sequence[float], quantity: str = RATIO) -> Sensitivity:
    return Sensitivity(assumption=assumption, quantity=quantity, low=min(values), high=max(values))


def _ratio(counts: Counts, macs: AnnMacs, preset: EnergyPreset, arithmetic: EnergyPreset) -> float:
    network: Energy = network_energy(counts, preset, arithmetic=arithmetic)
    ann = ann_energy(macs, preset, arithmetic=arithmetic)
    assert ann is not None
    return network.nominal / ann.nominal if ann.nominal else 0.0


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
                    dataclasses.replace(one, sops=one.sops_stored) for one in row.synapses
                ),
            )
        )
    return dataclasses.replace(counts, layers=tuple(rows))
