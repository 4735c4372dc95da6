"""The operations of one inference as plain numbers, and what they cost, by term, in picojoules.

Source: the formulas combine Horowitz, ISSCC 2014; Davies et al., IEEE Micro 38(1), 2018; and
SANA-FE 2.2.9 (Boyle et al., IEEE TCAD 44(8), 2025). Every constant is in its preset's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, log, log2, pow, prod, sqrt
from types import MappingProxyType

from neurodeploy.counting.count_tables import Counts, LayerCounts
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.errors import DataError
from neurodeploy.ir.graphs import AnnLayerMacs
from neurodeploy.ir.integer_layers import NeuronModel

KIBI = 1024
WORD_BITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAccesses:
    """Memory accesses of one synapse and its neurons in one inference; tier B needs them.

    Attributes:
        sops: Each reads a weight and reads and writes an accumulator.
        weights: Stored weights, shared ones once.
        events: Each is written to and read from a queue.
        updates: Neuron updates to charge here; 0 for a second synapse into the same neurons.
        states: State words of a neuron.

    Example:
        >>> accesses = nd.LayerAccesses(
        ...     sops=18, weights=36, events=3, source_neurons=6, neurons=6, updates=24
        ... )
        >>> operations = nd.Operations(steps=4, sops_ac=18, accesses=(accesses,))
        >>> memory, adders = map(nd.EnergyPreset.load, ("sram45", "cmos45_int8"))
        >>> round(nd.estimate_energy(operations, memory, arithmetic=adders).nominal, 1)
        342.1
    """

    sops: float
    weights: int
    events: float
    source_neurons: int
    neurons: int
    updates: float
    states: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Operations of one inference, as plain numbers.

    Attributes:
        sops_ac: Operations on binary or ternary input, through weights other than zero.
        sops_mac: Operations on graded or analog input.
        sops_conv: Those of both in convolutions, whose synapses a chip stores in another format.
        sops_stored: All operations, zero weights included; None: as many as without them.
        sops_stored_conv: Those of them in convolutions; None likewise.
        sops_saved: Multiplications that computing a static input once would save.
        updates: Neuron updates by model, every neuron at every step.
        updates_active: Those of them that are active; None if not known.
        messages: Spikes · destination layers.
        accesses: One entry a synapse; tier B needs them.

    Example:
        >>> operations = nd.Operations(steps=4, sops_ac=18, updates={"if": 12}, messages=3)
        >>> operations.updates_dense
        12
    """

    steps: int
    sops_ac: float = 0.0
    sops_mac: float = 0.0
    sops_conv: float = 0.0
    sops_stored: float | None = None
    sops_stored_conv: float | None = None
    sops_saved: float = 0.0
    updates: Mapping[NeuronModel, float] = field(default_factory=dict)
    updates_active: float | None = None
    spikes: float = 0.0
    bias_adds: float = 0.0
    messages: float = 0.0
    accesses: tuple[LayerAccesses, ...] = ()

    @property
    def updates_dense(self) -> float:
        """Updates of all neurons."""
        return sum(self.updates.values())


def operations_of(counts: Counts) -> Operations:
    """Return the operations of one inference: the mean over the samples.

    Raises:
        DataError: If there are no samples.
    """
    samples = counts.samples
    if samples < 1:
        raise DataError("energy: no samples were counted. Record at least one.")
    totals = counts.totals
    updates: dict[NeuronModel, float] = {}
    accesses = []
    for row in counts.layers:
        if row.model is not None:
            updates[row.model] = updates.get(row.model, 0.0) + row.updates_dense / samples
        for number, synapse in enumerate(row.synapses):
            accesses.append(
                LayerAccesses(
                    sops=synapse.sops / samples,
                    weights=synapse.weights,
                    events=synapse.events / samples,
                    source_neurons=synapse.source_neurons,
                    neurons=prod(row.shape),
                    updates=row.updates_dense / samples if number == 0 else 0.0,
                    states=1 if row.model is None else row.model.states,
                )
            )
    active = totals.updates_active
    return Operations(
        steps=counts.steps,
        sops_ac=totals.sops_ac / samples,
        sops_mac=totals.sops_mac / samples,
        sops_conv=sum(_conv_sops(row)[0] for row in counts.layers) / samples,
        sops_stored=totals.sops_stored / samples,
        sops_stored_conv=sum(_conv_sops(row)[1] for row in counts.layers) / samples,
        sops_saved=(totals.sops - totals.sops_cached) / samples,
        updates=MappingProxyType(updates),
        updates_active=None if active is None else active / samples,
        spikes=totals.spikes / samples,
        bias_adds=totals.bias_adds / samples,
        messages=totals.messages / samples,
        accesses=tuple(accesses),
    )


def _conv_sops(row: LayerCounts) -> tuple[int, int]:
    """Return the SOPs, and the stored ones, of a row's convolutions."""
    convs = [synapse for synapse in row.synapses if synapse.type == "conv"]
    return sum(size.sops for size in convs), sum(size.sops_stored for size in convs)


def arithmetic_terms(preset: EnergyPreset, operations: Operations) -> dict[str, float]:
    """Return tier A of a spiking network, by term, in pJ.

    E = AC·e_ac + MAC·e_mac + updates·(m·e_mac + a·e_ac) + spikes·e_ac + bias adds·e_ac
    """
    mac, ac = preset.value("mac"), preset.value("ac")
    updates = [
        (NeuronModel(model), number)  # type: ignore[call-arg]  # a look-up, not a new member
        for model, number in operations.updates.items()
    ]
    return {
        "accumulates": operations.sops_ac * ac,
        "multiply-accumulates": operations.sops_mac * mac,
        "neuron updates": sum(n * (model.macs * mac + model.acs * ac) for model, n in updates),
        "spikes": operations.spikes * ac,
        "biases": operations.bias_adds * ac,
    }


def access_energy(
    preset: EnergyPreset, size: float, *, on_chip_limit: float | None = None
) -> float:
    """Return the energy of one 64-bit access to a memory of `size` bytes, in pJ.

    Power laws join the anchors at 8 KiB, 32 KiB and 1 MiB; below 8 KiB it is constant, above
    1 MiB it grows with the square root. Beyond `on_chip_limit` bytes the memory is DRAM.
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
    preset: EnergyPreset, layer: LayerAccesses, *, is_word_wide: bool = False
) -> dict[str, float]:
    """Return the memory accesses of one spiking layer, by term, in pJ.

    An access is charged its packed bits, or a whole 64-bit word if `is_word_wide`.
    """
    weight_bits, accumulator_bits, state_bits = (
        preset.value(name) for name in ("weight_bits", "accumulator_bits", "state_bits")
    )
    # an event names its sender, which takes this many bits
    event_bits = ceil(log2(layer.source_neurons)) if layer.source_neurons > 1 else 1

    def access(bits: float, size: float) -> float:
        energy = access_energy(preset, size)
        return energy if is_word_wide else bits * energy / WORD_BITS

    accumulators = layer.neurons * accumulator_bits / 8
    states = layer.neurons * layer.states * state_bits / 8
    return {
        "weights": layer.sops * access(weight_bits, layer.weights * weight_bits / 8),
        "accumulators": layer.sops * 2 * access(accumulator_bits, accumulators),
        "states": layer.updates * 2 * layer.states * access(state_bits, states),
        "event queues": layer.events * 2 * access(event_bits, 8 * KIBI),
    }


def ann_memory_terms(
    preset: EnergyPreset, layer: AnnLayerMacs, *, has_reuse: bool, skips_zeros: bool = False
) -> dict[str, float]:
    """Return the memory accesses of one ANN layer in one pass, by term, in pJ.

    With reuse each weight and input is read once (ideal), else once for every MAC. Skipped weights
    of zero are not read; they are stored all the same, as those of a spiking layer are.
    """
    weight_bits, bits = preset.value("weight_bits"), preset.value("activation_bits")

    def access(width: float, size: float) -> float:
        return width * access_energy(preset, size) / WORD_BITS

    weight_reads, input_reads = layer.weights, layer.inputs
    if skips_zeros:
        weight_reads -= layer.zero_weights
    if not has_reuse:
        macs = layer.macs_border_exact
        if skips_zeros and layer.macs_nonzero is not None:
            macs = layer.macs_nonzero
        weight_reads = input_reads = macs
    return {
        "weights": weight_reads * access(weight_bits, layer.weights * weight_bits / 8),
        "activations read": input_reads * access(bits, layer.inputs * bits / 8),
        "activations written": layer.outputs * access(bits, layer.outputs * bits / 8),
    }


def chip_terms(
    preset: EnergyPreset,
    *,
    sops_dense: float = 0.0,
    sops_conv: float = 0.0,
    updates_dense: float,
    updates_active: float,
    spikes: float,
    messages: float,
    hops: tuple[float, float] = (0.0, 0.0),
) -> dict[str, float]:
    """Return the dynamic energy of a Loihi-style chip, by term, in pJ.

    A preset with one `synaptic_op` splits updates into active and inactive ones; one with
    `update_access` charges every update an access and the active ones more.

    Active updates are those with potential, input or bias. Messages go between cores, with hops
    between tiles east to west and north to south.
    """
    east_west, north_south = hops
    shared = {
        "messages": messages * preset.value("message"),
        "hops": east_west * preset.value("hop_east_west")
        + north_south * preset.value("hop_north_south"),
    }
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
