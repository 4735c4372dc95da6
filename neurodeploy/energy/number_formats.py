"""The ordinary network in the number formats that it would be deployed in.

A spiking network deployed in 8-bit integers is to be compared with an ordinary one that is given
the same: 8-bit integers, and activations no wider than T steps of spikes can tell apart. 32-bit
floats, which most papers compare with, stand beside them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import ceil, log2
from types import MappingProxyType

from neurodeploy.energy.estimates import Energy, ann_energy
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.ir.graphs import AnnMacs

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
        passes: Passes of an inference.
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
        macs: Of the ordinary network.
        memory: Preset of tier B; without it there are no formats.
        arithmetic: Preset of tier A for the integers.
        steps: T of the spiking network, which sets the narrow width.
        has_step_passes: Add the ordinary network in T passes, one a step: where the input changes
            from step to step, a single pass sees only its mean.

    Raises:
        TargetError: If a preset is missing or malformed.
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
        stored = ann_energy(
            macs,
            _with_bits(memory, weight_bits=weight_bits, activation_bits=bits),
            arithmetic=numbers,
        )
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
        if name == "int8" and has_step_passes:
            formats.append(_repeated(formats[-1], steps))
    return tuple(formats)


def _repeated(form: AnnFormat, passes: int) -> AnnFormat:
    """Return several passes of an ordinary network."""

    def times(energy: Energy) -> Energy:
        return dataclasses.replace(
            energy,
            low=energy.low * passes,
            nominal=energy.nominal * passes,
            high=energy.high * passes,
            breakdown=MappingProxyType({k: v * passes for k, v in energy.breakdown.items()}),
            basis=f"{energy.basis}; {passes} passes",
        )

    return dataclasses.replace(
        form,
        name=f"{form.name}, {passes} passes (one a step)",
        arithmetic=times(form.arithmetic),
        memory=times(form.memory),
        passes=passes,
    )


def _with_bits(preset: EnergyPreset, **bits: int) -> EnergyPreset:
    """Return a preset of tier B with other widths of weights or activations in memory."""
    changed = {
        name: dataclasses.replace(preset.constants[name], value=float(value))
        for name, value in bits.items()
    }
    return dataclasses.replace(preset, constants=MappingProxyType({**preset.constants, **changed}))
