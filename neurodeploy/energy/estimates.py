"""Energy of one inference: a range, with its tier, preset, evidence and what it leaves out.

- **Tier A** counts arithmetic only. Comparable with the literature, no prediction.
- **Tier B** adds memory accesses, which decide most comparisons.
- **Tier C** uses per-operation energies of Loihi 1; none are published for Loihi 2.

The formulas of the terms are in `neurodeploy.energy.formulas`. Beside energies stands the shortest
step that a chip could take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from types import MappingProxyType

from neurodeploy.chips.target import EVIDENCE, Evidence
from neurodeploy.counting.count_tables import Counts
from neurodeploy.energy.formulas import (
    Operations,
    ann_memory_terms,
    arithmetic_terms,
    chip_terms,
    memory_terms,
    operations_of,
)
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.errors import DataError
from neurodeploy.ir.graphs import AnnMacs

DEFAULT_PRESET = "cmos45_int8"

_STEP_TIMES = ("time_synaptic_op", "time_update_active", "time_update_inactive", "time_barrier")

MESH_HOPS_EAST_WEST = (8 * 8 - 1) / (3 * 8)
MESH_HOPS_NORTH_SOUTH = (4 * 4 - 1) / (3 * 4)
"""Mean hops of a message between random tiles of SANA-FE's 8 by 4 mesh."""

_NO_CHIP = ("event routing", "control and clock", "static power", "input and output")

EXCLUDES: Mapping[Tier, tuple[str, ...]] = MappingProxyType(
    {
        Tier.ARITHMETIC: ("memory accesses", *_NO_CHIP),
        Tier.MEMORY: _NO_CHIP,
        Tier.CHIP: (
            "static power (stated apart; in the upper bound)",
            "hops between tiles where no placement is given (in the upper bound)",
            "embedded processors",
            "input and output",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Placement of a network on chips: figures that are given, since they cannot be counted.

    Attributes:
        step_time_us: None: real time, as the preset says.
        chips: Powered ones; None: one, in a report as many as the network needs.
        hops_east_west: Mean hops of a message along the rows of tiles.
        hops_north_south: The same along the columns.
        destination_cores: Mean number of cores of a layer that a spike is sent to; 1 at the least.

    Example:
        >>> operations = nd.Operations(steps=4, sops_ac=18, updates={"if": 12}, messages=3)
        >>> preset = nd.EnergyPreset.load("loihi1_sanafe")
        >>> fast = nd.System(step_time_us=10, chips=1)
        >>> nd.estimate_energy(operations, preset, system=fast).static
        StaticEnergy(power_mw=104.0, chips=1, step_time_us=10, is_real_time=False, energy=4160000.0)
    """

    step_time_us: float | None = None
    chips: int | None = None
    hops_east_west: float = 0.0
    hops_north_south: float = 0.0
    destination_cores: float = 1.0

    def __post_init__(self) -> None:
        for name, least in (
            ("step_time_us", 0), ("chips", 1), ("hops_east_west", 0), ("hops_north_south", 0),
            ("destination_cores", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value >= least):
                raise DataError(f"system: {name} {value}, a number of at least {least} is needed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticEnergy:
    """Energy, in pJ, of powered chips in one inference; a step in real time is an assumption."""

    power_mw: float
    chips: int
    step_time_us: float
    is_real_time: bool
    energy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one inference in picojoules.

    Attributes:
        preset: Name of the constants.
        breakdown: Terms of the nominal value.
        evidence: Weakest evidence among the energies used.
        excludes: Costs that are left out.
        basis: Meaning of the bounds.
        static: Static energy, not in `nominal`; None for other tiers than C.

    Example:
        >>> operations = nd.Operations(steps=4, sops_ac=1000, updates={"if": 12})
        >>> energy = nd.estimate_energy(operations, nd.EnergyPreset.load("cmos7_int8"))
        >>> round(energy.low), round(energy.nominal), round(energy.high), str(energy.evidence)
        (30, 30, 30, 'unverified')
    """

    tier: Tier
    preset: str
    low: float
    nominal: float
    high: float
    breakdown: Mapping[str, float]
    evidence: Evidence
    excludes: tuple[str, ...]
    basis: str
    static: StaticEnergy | None = None

    @property
    def total(self) -> float:
        """The nominal value with static energy, pJ."""
        return self.nominal + (0.0 if self.static is None else self.static.energy)


def estimate_energy(
    operations: Operations,
    preset: EnergyPreset,
    *,
    arithmetic: EnergyPreset | None = None,
    system: System = System(),
) -> Energy:
    """Return the energy of one inference from totals, whoever counted them.

    Tier B is added to the `arithmetic` of tier A; the system matters to tier C only.

    Raises:
        DataError: If tier B is asked for without constants of tier A, or without accesses.

    Example:
        >>> operations = nd.Operations(steps=4, sops_ac=18, updates={"if": 12}, messages=3)
        >>> energy = nd.estimate_energy(operations, nd.EnergyPreset.load("loihi1_sanafe"))
        >>> {name: round(pj) for name, pj in energy.breakdown.items() if pj}
        {'synaptic operations': 639, 'neuron updates': 874, 'messages': 333}
    """
    if preset.tier is Tier.ARITHMETIC:
        return _arithmetic_energy(operations, preset)
    if preset.tier is Tier.CHIP:
        return _chip_energy(operations, preset, system)
    if arithmetic is None or arithmetic.tier is not Tier.ARITHMETIC:
        raise DataError(
            f"energy: preset '{preset.name}' counts memory only. Give the preset of tier A "
            f"that it is added to, for instance '{DEFAULT_PRESET}'."
        )
    if not operations.accesses:
        raise DataError(
            f"energy: preset '{preset.name}' needs the size of every layer. Give `accesses`."
        )
    return _memory_energy(operations, preset, arithmetic)


def network_energy(
    counts: Counts,
    preset: EnergyPreset,
    *,
    arithmetic: EnergyPreset | None = None,
    system: System = System(),
) -> Energy:
    """Return `estimate_energy` of a counted network: the mean over its samples.

    Raises:
        DataError: If tier B is asked for without constants of tier A, or there are no samples.
    """
    return estimate_energy(operations_of(counts), preset, arithmetic=arithmetic, system=system)


def ann_energy(
    macs: AnnMacs,
    preset: EnergyPreset,
    *,
    arithmetic: EnergyPreset | None = None,
    skips_zeros: bool = False,
    skips_activations: bool = False,
) -> Energy | None:
    """Return the energy of an ANN's inference, or None for tier C: ANNs do not run there.

    The lower bound skips weights of zero, as the spiking network does, and activations of zero
    where they were measured.

    Args:
        macs: Of one inference.
        preset: Constants of any tier.
        arithmetic: Constants of tier A to which a preset of tier B is added.
        skips_zeros: Weights of zero are skipped in the nominal value and the upper bound, too.
        skips_activations: Products with an activation of zero as well, where they were measured;
            but for memory without reuse.

    Raises:
        DataError: If tier B is asked for without constants of tier A.
    """
    if preset.tier is Tier.CHIP:
        return None
    base = arithmetic if preset.tier is Tier.MEMORY else preset
    if base is None:
        raise DataError(f"energy: preset '{preset.name}' needs one of tier A to be added to.")
    mac, exact = base.value("mac"), macs.macs_border_exact
    nonzero = exact if macs.macs_nonzero is None else macs.macs_nonzero
    measured = exact if macs.macs_effective is None else macs.passes * macs.macs_effective
    fewest = min(nonzero, measured)
    skips_zeros = skips_zeros or skips_activations
    counted = fewest if skips_activations else nonzero if skips_zeros else exact
    passes = "one pass" if macs.passes == 1 else f"{macs.passes} passes, one a frame"
    basis = "no products with a weight of zero" if skips_zeros else f"every MAC of {passes}"
    if skips_activations:
        basis = "no products with zero"
    fewer = "no products with zero" + ("" if macs.macs_effective is None else ", as measured")
    terms = {"multiply-accumulates": counted * mac}
    if preset.tier is Tier.ARITHMETIC:
        value = counted * mac
        if fewest < counted:
            basis = f"low: {fewer}; nominal and high: {basis}"
        return _energy(preset, fewest * mac, terms, value, basis)

    def memory(*, has_reuse: bool, skips: bool) -> dict[str, float]:
        terms = _summed(
            ann_memory_terms(preset, row, has_reuse=has_reuse, skips_zeros=skips)
            for row in macs.layers
        )
        return {name: macs.passes * value for name, value in terms.items()}

    least = fewest * mac + sum(memory(has_reuse=True, skips=True).values())
    ideal = terms | memory(has_reuse=True, skips=skips_zeros)
    most = sum((terms | memory(has_reuse=False, skips=skips_zeros)).values())
    reads = "low and nominal: every weight and activation is read once; high: no reuse"
    if least < sum(ideal.values()):
        reads += f"; low: also {fewer}"
    return _energy(preset, least, ideal, most, reads, also=base)


def repeated(energy: Energy, passes: float) -> Energy:
    """Return the energy of several passes of an ordinary network."""
    return replace(
        energy,
        low=energy.low * passes,
        nominal=energy.nominal * passes,
        high=energy.high * passes,
        breakdown=MappingProxyType({k: v * passes for k, v in energy.breakdown.items()}),
        basis=f"{energy.basis}; {passes:g} passes",
    )


def fastest_steps(
    counts: Counts, presets: Sequence[EnergyPreset], *, cores: Mapping[str, int | None]
) -> dict[str, float | None]:
    """Return the shortest mean duration of a step, us, by preset of tier C.

    It is the barrier and the busiest core, a lower bound: no mapping to cores is known, so a
    layer's work is shared out evenly over the most cores that it may take. Bursts of activity,
    routing and input take longer. None where a preset states no times, or no number of cores can
    hold a layer.
    """
    chips = [preset for preset in presets if preset.tier is Tier.CHIP]
    return {preset.name: _fastest_step(counts, preset, cores) for preset in chips}


def _fastest_step(
    counts: Counts, preset: EnergyPreset, cores: Mapping[str, int | None]
) -> float | None:
    if any(name not in preset.constants for name in _STEP_TIMES):
        return None
    operation, active, idle, barrier = map(preset.value, _STEP_TIMES)
    work: dict[str, float] = {}
    for row in counts.layers:
        busy = row.updates_dense if row.updates_active is None else row.updates_active
        name = row.name if row.name in cores else row.name.removesuffix(".recurrent")
        work[name] = work.get(name, 0.0) + (
            row.sops_stored * operation + busy * active + (row.updates_dense - busy) * idle
        )
    busiest = 0.0
    for name, nanoseconds in work.items():
        number = cores.get(name)
        if number is None:
            return None
        busiest = max(busiest, nanoseconds / number / counts.steps / counts.samples)
    return (barrier + busiest) / 1000


def _arithmetic_energy(operations: Operations, preset: EnergyPreset) -> Energy:
    nominal = arithmetic_terms(preset, operations)
    saving = replace(operations, sops_mac=operations.sops_mac - operations.sops_saved)
    low = sum(arithmetic_terms(preset, saving).values())
    value = sum(nominal.values())
    basis = "no range: the counts are exact"
    if low != value:
        basis = "low: the static image's current is computed once a sample, not at every step"
    return _energy(preset, low, nominal, value, basis)


def _memory_energy(
    operations: Operations, preset: EnergyPreset, arithmetic: EnergyPreset
) -> Energy:
    base = arithmetic_terms(arithmetic, operations)
    packed, words = (
        base | _summed(memory_terms(preset, one, is_word_wide=wide) for one in operations.accesses)
        for wide in (False, True)
    )
    basis = "low and nominal: packed bits; high: one 64-bit word an access"
    return _energy(
        preset, sum(packed.values()), packed, sum(words.values()), basis, also=arithmetic
    )


def _chip_energy(operations: Operations, preset: EnergyPreset, system: System) -> Energy:
    sops = operations.sops_ac + operations.sops_mac
    stored = sops if operations.sops_stored is None else operations.sops_stored
    conv = operations.sops_conv
    stored_conv = conv if operations.sops_stored_conv is None else operations.sops_stored_conv
    dense = operations.updates_dense
    active = dense if operations.updates_active is None else operations.updates_active
    messages = operations.messages * system.destination_cores
    has_hops = bool(system.hops_east_west or system.hops_north_south)
    hops = (system.hops_east_west * messages, system.hops_north_south * messages)
    random_hops = (MESH_HOPS_EAST_WEST * messages, MESH_HOPS_NORTH_SOUTH * messages)
    terms = partial(chip_terms, preset, updates_dense=dense, spikes=operations.spikes)
    nominal = terms(
        sops_dense=stored - stored_conv,
        sops_conv=stored_conv,
        updates_active=active,
        messages=messages,
        hops=hops,
    )
    low = terms(
        sops_dense=sops - conv, sops_conv=conv, updates_active=0.0, messages=operations.messages
    )
    high = terms(
        sops_dense=stored,
        updates_active=dense,
        messages=messages,
        hops=hops if has_hops else random_hops,
    )
    static = _static_of(operations, preset, system)
    is_known = operations.updates_active is not None
    known = "active counted" if is_known else "every neuron taken as active"
    placed = "hops as given" if has_hops else "no hops"
    most = "hops as given" if has_hops else "hops of a random placement"
    chips = "one chip" if static.chips == 1 else f"{static.chips} chips"
    return _energy(
        preset,
        sum(low.values()),
        nominal,
        sum(high.values()) + static.energy,
        f"low: zero weights cost nothing, idle neurons, no hops; nominal: {known}, {placed}, no "
        f"static power; high: all active, {most}, {chips} powered for "
        f"{static.step_time_us / 1000:g} ms a step",
        static=static,
    )


def _static_of(operations: Operations, preset: EnergyPreset, system: System) -> StaticEnergy:
    given, power, chips = system.step_time_us, preset.value("static_power"), system.chips or 1
    step_time = preset.value("step_time") if given is None else given
    return StaticEnergy(
        power_mw=power,
        chips=chips,
        step_time_us=step_time,
        is_real_time=given is None,
        energy=power * step_time * operations.steps * chips * 1e3,  # mW · us = 1000 pJ
    )


def _summed(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for row in rows:
        for term, value in row.items():
            total[term] = total.get(term, 0.0) + value
    return total


def _energy(
    preset: EnergyPreset,
    low: float,
    nominal: Mapping[str, float],
    high: float,
    basis: str,
    *,
    also: EnergyPreset | None = None,
    static: StaticEnergy | None = None,
) -> Energy:
    value = sum(nominal.values())
    grades = [preset.evidence] if also is None else [preset.evidence, also.evidence]
    return Energy(
        tier=preset.tier,
        preset=preset.name if also is None else f"{preset.name} + {also.name}",
        low=min(low, value),  # measured counters may lie outside the counted bounds
        nominal=value,
        high=max(high, value),
        breakdown=MappingProxyType(dict(nominal)),
        evidence=max(grades, key=EVIDENCE.index),
        excludes=EXCLUDES[preset.tier],
        basis=basis,
        static=static,
    )
