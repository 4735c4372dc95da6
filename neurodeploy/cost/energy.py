"""Energy of one inference: a range, with its tier, preset, evidence and what it leaves out.

- **Tier A** counts arithmetic only. Comparable with the literature, no prediction.
- **Tier B** adds memory accesses, which decide most comparisons.
- **Tier C** uses per-operation energies of Loihi 1; none are published for Loihi 2.

Each model is a function of plain numbers (`arithmetic_terms`, `memory_terms`, `chip_terms`) that
gives its breakdown; `network_energy` and `ann_energy` apply them to counts, per sample.

Source: the formulas combine Horowitz, ISSCC 2014; Davies et al., IEEE Micro 38(1), 2018; and
SANA-FE 2.2.9 (Boyle et al., IEEE TCAD 44(8), 2025). Every constant is in its preset's file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log, log2, pow, prod, sqrt
from types import MappingProxyType

from neurodeploy.cost.ann import AnnMacs
from neurodeploy.cost.operations import Counts, LayerCounts, NeuronModel
from neurodeploy.cost.presets import EnergyPreset, Tier
from neurodeploy.errors import DataError
from neurodeploy.target import EVIDENCE

KIBI = 1024
WORD_BITS = 64
DEFAULT_PRESET = "cmos45_int8"

UPDATE_OPERATIONS: Mapping[NeuronModel, tuple[int, int]] = MappingProxyType(
    {
        NeuronModel.IF: (0, 1),
        NeuronModel.LIF: (1, 1),
        NeuronModel.CUBA: (2, 1),
        NeuronModel.SIGMA_DELTA: (0, 3),
        NeuronModel.RESONATE_FIRE: (4, 0),
    }
)
"""(MACs, ACs) of one update. Resonate-and-fire: two sums of two products onto an input."""

STATES: Mapping[NeuronModel, int] = MappingProxyType(
    {
        NeuronModel.IF: 1,
        NeuronModel.LIF: 1,
        NeuronModel.CUBA: 2,
        NeuronModel.SIGMA_DELTA: 3,
        NeuronModel.RESONATE_FIRE: 2,
    }
)
"""State words read and written in one update."""

MESH_HOPS_EAST_WEST = (8 * 8 - 1) / (3 * 8)
MESH_HOPS_NORTH_SOUTH = (4 * 4 - 1) / (3 * 4)
"""Mean hops of a message between random tiles of SANA-FE's 8 by 4 mesh."""

EXCLUDES: Mapping[Tier, tuple[str, ...]] = MappingProxyType(
    {
        Tier.ARITHMETIC: (
            "memory accesses",
            "event routing",
            "control and clock",
            "static power",
            "input and output",
        ),
        Tier.MEMORY: (
            "event routing",
            "control and clock",
            "static power",
            "input and output",
        ),
        Tier.CHIP: (
            "static power (in the upper bound only)",
            "hops between tiles (in the upper bound only)",
            "embedded processors",
            "input and output",
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one inference in picojoules.

    Attributes:
        tier: What the model covers.
        preset: Name of the constants.
        low: Lower bound, pJ.
        nominal: The model's value, pJ.
        high: Upper bound, pJ.
        breakdown: Terms of the nominal value, pJ.
        evidence: Weakest evidence among the energies used.
        excludes: What is left out.
        basis: What the bounds stand for.
    """

    tier: Tier
    preset: str
    low: float
    nominal: float
    high: float
    breakdown: Mapping[str, float]
    evidence: str
    excludes: tuple[str, ...]
    basis: str


# --------------------------------------------------------------------------- tier A


def arithmetic_terms(
    preset: EnergyPreset,
    *,
    sops_ac: float,
    sops_mac: float = 0.0,
    updates: Mapping[NeuronModel, float] | None = None,
    spikes: float = 0.0,
    bias_adds: float = 0.0,
) -> dict[str, float]:
    """Give tier A of a spiking network, by term, in pJ.

        E = AC·e_ac + MAC·e_mac + updates·(m·e_mac + a·e_ac) + spikes·e_ac + bias adds·e_ac

    Args:
        preset: Constants of tier A.
        sops_ac: Synaptic operations on binary or ternary input.
        sops_mac: Synaptic operations on graded input, and MACs of an analog encoder.
        updates: Neuron updates by model, every neuron at every step.
        spikes: Spikes; each is one subtraction.
        bias_adds: Additions of biases.
    """
    mac, ac = preset.value("mac"), preset.value("ac")
    operations = [(UPDATE_OPERATIONS[model], number) for model, number in (updates or {}).items()]
    return {
        "accumulates": sops_ac * ac,
        "multiply-accumulates": sops_mac * mac,
        "neuron updates": sum(n * (m * mac + a * ac) for (m, a), n in operations),
        "spikes": spikes * ac,
        "biases": bias_adds * ac,
    }


# --------------------------------------------------------------------------- tier B


def access_energy(
    preset: EnergyPreset, size: float, *, on_chip_limit: float | None = None
) -> float:
    """Give the energy of one 64-bit access to a memory of `size` bytes, in pJ.

    Power laws join the anchors at 8 KiB, 32 KiB and 1 MiB; below 8 KiB it is constant, above
    1 MiB it grows with the square root.

    Args:
        preset: Constants of tier B.
        size: Bytes.
        on_chip_limit: Bytes beyond which the memory is DRAM; None for no limit.
    """
    small, medium, large = (
        preset.value(name) for name in ("access_8_kib", "access_32_kib", "access_1_mib")
    )
    if on_chip_limit is not None and size > on_chip_limit:
        return preset.value("access_dram")
    if size <= 8 * KIBI:
        return small
    if size <= 32 * KIBI:
        return small * pow(size / (8 * KIBI), log(medium / small, 4))
    if size <= KIBI * KIBI:
        return medium * pow(size / (32 * KIBI), log(large / medium, 32))
    return large * sqrt(size / (KIBI * KIBI))


def memory_terms(
    preset: EnergyPreset,
    *,
    sops: float,
    weights: int,
    events: float,
    source_neurons: int,
    neurons: int,
    updates: float,
    states: int = 1,
    on_chip_limit: float | None = None,
    is_word_wide: bool = False,
) -> dict[str, float]:
    """Give the memory accesses of one spiking layer, by term, in pJ.

    Args:
        preset: Constants of tier B.
        sops: Synaptic operations; each reads a weight and reads and writes an accumulator.
        weights: Stored weights, shared ones once.
        events: Events; each is written to and read from a queue.
        source_neurons: Senders, which sets the width of an event.
        neurons: Neurons of the layer.
        updates: Neuron updates; each reads and writes the states.
        states: State words of a neuron.
        on_chip_limit: Bytes beyond which a memory is DRAM.
        is_word_wide: Charge every access a whole 64-bit word, not its packed bits.
    """
    weight_bits, accumulator_bits, state_bits = (
        preset.value(name) for name in ("weight_bits", "accumulator_bits", "state_bits")
    )
    event_bits = ceil(log2(source_neurons)) if source_neurons > 1 else 1

    def access(bits: float, size: float) -> float:
        energy = access_energy(preset, size, on_chip_limit=on_chip_limit)
        return energy if is_word_wide else bits * energy / WORD_BITS

    return {
        "weights": sops * access(weight_bits, weights * weight_bits / 8),
        "accumulators": sops * 2 * access(accumulator_bits, neurons * accumulator_bits / 8),
        "states": updates * 2 * states * access(state_bits, neurons * states * state_bits / 8),
        "event queues": events * 2 * access(event_bits, 8 * KIBI),
    }


def ann_memory_terms(
    preset: EnergyPreset,
    *,
    macs: float,
    weights: int,
    inputs: int,
    outputs: int,
    has_reuse: bool,
    on_chip_limit: float | None = None,
) -> dict[str, float]:
    """Give the memory accesses of one ANN layer in one pass, by term, in pJ.

    Args:
        preset: Constants of tier B.
        macs: Multiply-accumulates.
        weights: Stored weights.
        inputs: Values read.
        outputs: Values written.
        has_reuse: Each weight and input is read once (ideal), else once for every MAC.
        on_chip_limit: Bytes beyond which a memory is DRAM.
    """
    weight_bits, bits = preset.value("weight_bits"), preset.value("activation_bits")

    def access(width: float, size: float) -> float:
        return width * access_energy(preset, size, on_chip_limit=on_chip_limit) / WORD_BITS

    weight_reads, input_reads = (weights, inputs) if has_reuse else (macs, macs)
    return {
        "weights": weight_reads * access(weight_bits, weights * weight_bits / 8),
        "activations read": input_reads * access(bits, inputs * bits / 8),
        "activations written": outputs * access(bits, outputs * bits / 8),
    }


# --------------------------------------------------------------------------- tier C


def chip_terms(
    preset: EnergyPreset,
    *,
    sops_dense: float = 0.0,
    sops_conv: float = 0.0,
    updates_dense: float,
    updates_active: float,
    spikes: float,
    messages: float,
    hops_east_west: float = 0.0,
    hops_north_south: float = 0.0,
) -> dict[str, float]:
    """Give the dynamic energy of a Loihi-style chip, by term, in pJ.

    A preset with one `synaptic_op` splits updates into active and inactive ones; one with
    `update_access` charges every update an access and the active ones more.

    Args:
        preset: Constants of tier C.
        sops_dense: Synaptic operations of dense layers.
        sops_conv: Synaptic operations of convolutions.
        updates_dense: Updates of every neuron at every step.
        updates_active: Those with potential, input or bias.
        spikes: Spikes.
        messages: Messages between cores.
        hops_east_west: Hops of messages between tiles.
        hops_north_south: The same along the other axis.
    """
    hops = hops_east_west * preset.value("hop_east_west")
    hops += hops_north_south * preset.value("hop_north_south")
    shared = {"messages": messages * preset.value("message"), "hops": hops}
    if "synaptic_op" in preset.constants:
        idle = updates_dense - updates_active
        return {
            "synaptic operations": (sops_dense + sops_conv) * preset.value("synaptic_op"),
            "neuron updates": updates_active * preset.value("update_active")
            + idle * preset.value("update_inactive"),
            **shared,
        }
    return {
        "synaptic operations": sops_dense * preset.value("synaptic_op_dense")
        + sops_conv * preset.value("synaptic_op_conv"),
        "neuron updates": updates_dense * preset.value("update_access")
        + updates_active * preset.value("update_active"),
        "spikes": spikes * preset.value("spike"),
        **shared,
    }


def static_energy(preset: EnergyPreset, *, steps: int, chips: int = 1) -> float:
    """Give the static energy of one inference in real time, in pJ.

    Args:
        preset: Constants of tier C.
        steps: Steps of an inference.
        chips: Chips that are powered.
    """
    milliwatts, microseconds = preset.value("static_power"), preset.value("step_time")
    return milliwatts * microseconds * steps * chips * 1e3  # mW · us = nJ = 1000 pJ


# ------------------------------------------------------------------- a whole network


def network_energy(
    counts: Counts,
    preset: EnergyPreset,
    *,
    arithmetic: EnergyPreset | None = None,
) -> Energy:
    """Give the energy of one inference of a spiking network: the mean over its samples.

    Args:
        counts: From `neurodeploy.cost.operations.count`.
        preset: Constants of any tier.
        arithmetic: Constants of tier A to which a preset of tier B is added.

    Raises:
        DataError: If tier B is asked for without constants of tier A, or there are no samples.
    """
    if counts.samples < 1:
        raise DataError("energy: no samples were counted. Record at least one.")
    if preset.tier is Tier.ARITHMETIC:
        return _arithmetic_energy(counts, preset)
    if preset.tier is Tier.MEMORY:
        if arithmetic is None or arithmetic.tier is not Tier.ARITHMETIC:
            raise DataError(
                f"energy: preset '{preset.name}' counts memory only. Give the preset of tier A "
                f"that it is added to, for instance '{DEFAULT_PRESET}'."
            )
        return _memory_energy(counts, preset, arithmetic)
    return _chip_energy(counts, preset)


def ann_energy(
    macs: AnnMacs, preset: EnergyPreset, *, arithmetic: EnergyPreset | None = None
) -> Energy | None:
    """Give the energy of one pass of an ANN, or None for tier C: ANNs do not run there.

    Args:
        macs: From `neurodeploy.cost.ann.ann_macs`.
        preset: Constants of tier A or B.
        arithmetic: Constants of tier A to which a preset of tier B is added.

    Raises:
        DataError: If tier B is asked for without constants of tier A.
    """
    if preset.tier is Tier.CHIP:
        return None
    base = arithmetic if preset.tier is Tier.MEMORY else preset
    if base is None:
        raise DataError(f"energy: preset '{preset.name}' needs one of tier A to be added to.")
    terms = {"multiply-accumulates": macs.macs_border_exact * base.value("mac")}
    skipped = None
    if macs.macs_effective is not None:
        skipped = (macs.macs_border_exact - macs.macs_effective) * base.value("mac")
    if preset.tier is Tier.ARITHMETIC:
        value = sum(terms.values())
        if skipped is None:
            return _energy(preset, value, terms, value, "one pass, every MAC, no sparsity")
        basis = "low: no products with zero, as measured; nominal and high: every MAC of a pass"
        return _energy(preset, value - skipped, terms, value, basis)
    reads = {
        has_reuse: [
            ann_memory_terms(
                preset,
                macs=row.macs_border_exact,
                weights=row.weights,
                inputs=row.inputs,
                outputs=row.outputs,
                has_reuse=has_reuse,
            )
            for row in macs.layers
        ]
        for has_reuse in (True, False)
    }
    ideal, none = terms | _summed(reads[True]), terms | _summed(reads[False])
    basis = "low and nominal: every weight and activation is read once; high: no reuse"
    if skipped is not None:
        basis += "; low: also no products with zero, as measured"
    return _energy(
        preset,
        sum(ideal.values()) - (skipped or 0.0),
        ideal,
        sum(none.values()),
        basis,
        also=base,
    )


def _arithmetic_energy(counts: Counts, preset: EnergyPreset) -> Energy:
    nominal = _arithmetic_of(counts, preset, is_cached=False)
    cached = _arithmetic_of(counts, preset, is_cached=True)
    value, low = sum(nominal.values()), sum(cached.values())
    basis = "no range: the counts are exact"
    if low != value:
        basis = "low: the static image's current is computed once a sample, not at every step"
    return _energy(preset, low, nominal, value, basis)


def _memory_energy(counts: Counts, preset: EnergyPreset, arithmetic: EnergyPreset) -> Energy:
    base = _arithmetic_of(counts, arithmetic, is_cached=False)
    packed = base | _memory_of(counts, preset, is_word_wide=False)
    words = base | _memory_of(counts, preset, is_word_wide=True)
    return _energy(
        preset,
        sum(packed.values()),
        packed,
        sum(words.values()),
        "low and nominal: packed bits; high: one 64-bit word an access",
        also=arithmetic,
    )


def _chip_energy(counts: Counts, preset: EnergyPreset) -> Energy:
    samples = counts.samples
    totals = counts.totals
    conv = sum(_sops_of(row, "conv", "sops_stored") for row in counts.layers)
    active = totals.updates_dense if totals.updates_active is None else totals.updates_active
    stored = {
        "sops_dense": (totals.sops_stored - conv) / samples,
        "sops_conv": conv / samples,
        "updates_dense": totals.updates_dense / samples,
        "spikes": totals.spikes / samples,
        "messages": totals.messages / samples,
    }
    nominal = chip_terms(preset, **stored, updates_active=active / samples)
    conv_nonzero = sum(_sops_of(row, "conv", "sops") for row in counts.layers)
    nonzero = stored | {
        "sops_dense": (totals.sops - conv_nonzero) / samples,
        "sops_conv": conv_nonzero / samples,
    }
    low = chip_terms(preset, **nonzero, updates_active=0.0)
    every = stored | {"sops_dense": totals.sops_stored / samples, "sops_conv": 0.0}
    high = chip_terms(
        preset,
        **every,
        updates_active=totals.updates_dense / samples,
        hops_east_west=MESH_HOPS_EAST_WEST * totals.messages / samples,
        hops_north_south=MESH_HOPS_NORTH_SOUTH * totals.messages / samples,
    )
    known = "every neuron taken as active" if totals.updates_active is None else "active counted"
    return _energy(
        preset,
        sum(low.values()),
        nominal,
        sum(high.values()) + static_energy(preset, steps=counts.steps),
        f"low: zero weights cost nothing, idle neurons; nominal: {known}, no hops, no static "
        "power; high: all active, hops of a random placement, one chip powered for 1 ms a step",
    )


def _sops_of(row: LayerCounts, kind: str, name: str) -> int:
    return sum(
        one.sops if name == "sops" else one.sops_stored for one in row.synapses if one.type == kind
    )


def _arithmetic_of(counts: Counts, preset: EnergyPreset, *, is_cached: bool) -> dict[str, float]:
    totals, samples = counts.totals, counts.samples
    saved = totals.sops - totals.sops_cached if is_cached else 0
    updates: dict[NeuronModel, float] = {}
    for row in counts.layers:
        if row.model is not None:
            updates[row.model] = updates.get(row.model, 0.0) + row.updates_dense / samples
    return arithmetic_terms(
        preset,
        sops_ac=totals.sops_ac / samples,
        sops_mac=(totals.sops_mac - saved) / samples,
        updates=updates,
        spikes=totals.spikes / samples,
        bias_adds=totals.bias_adds / samples,
    )


def _memory_of(counts: Counts, preset: EnergyPreset, *, is_word_wide: bool) -> dict[str, float]:
    samples = counts.samples
    rows = []
    for layer in counts.layers:
        states = STATES[layer.model] if layer.model is not None else 1
        for number, synapse in enumerate(layer.synapses):
            rows.append(
                memory_terms(
                    preset,
                    sops=synapse.sops / samples,
                    weights=synapse.weights,
                    events=synapse.events / samples,
                    source_neurons=synapse.source_neurons,
                    neurons=prod(layer.shape),
                    updates=layer.updates_dense / samples if number == 0 else 0.0,
                    states=states,
                    is_word_wide=is_word_wide,
                )
            )
    return _summed(rows)


def _summed(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
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
) -> Energy:
    grades = [preset.evidence] if also is None else [preset.evidence, also.evidence]
    return Energy(
        tier=preset.tier,
        preset=preset.name if also is None else f"{preset.name} + {also.name}",
        low=low,
        nominal=sum(nominal.values()),
        high=high,
        breakdown=MappingProxyType(dict(nominal)),
        evidence=max(grades, key=EVIDENCE.index),
        excludes=EXCLUDES[preset.tier],
        basis=basis,
    )
