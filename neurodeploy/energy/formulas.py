"""Energy by term: numbers and constants in, picojoules out; each function is a formula of one tier.

Source: the formulas combine Horowitz, ISSCC 2014; Davies et al., IEEE Micro 38(1), 2018; and
SANA-FE 2.2.9 (Boyle et al., IEEE TCAD 44(8), 2025). Every constant is in its preset's file.
"""

from __future__ import annotations

from math import ceil, log, log2, pow, sqrt

from neurodeploy.energy.operations import LayerAccesses, Operations
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.ir.graphs import AnnLayerMacs
from neurodeploy.ir.integer_layers import NeuronModel

KIBI = 1024
WORD_BITS = 64


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

    Args:
        preset: Constants of tier B.
        layer: Sizes of the layer.
        has_reuse: Each weight and input is read once (ideal), else once for every MAC.
        skips_zeros: Weights of zero are not read; they are stored all the same, as those of a
            spiking layer are.
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

    Args:
        preset: Constants of tier C.
        sops_dense: Synaptic operations of dense layers.
        sops_conv: Those of convolutions.
        updates_dense: Updates of every neuron at every step.
        updates_active: Those with potential, input or bias.
        spikes: Of all neurons.
        messages: Between cores.
        hops: Hops of messages between tiles, east to west and north to south.
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


def static_energy(
    preset: EnergyPreset, *, steps: int, chips: int = 1, step_time_us: float | None = None
) -> float:
    """Return the static energy of one inference, in pJ; steps take the preset's time by default."""
    duration = preset.value("step_time") if step_time_us is None else step_time_us
    return preset.value("static_power") * duration * steps * chips * 1e3  # mW · us = 1000 pJ
