"""Ordinary networks beside one that sends changes: they, too, can skip what is not needed.

The plainest makes a whole pass for every frame. One that skips zeros leaves out products with a
weight or an activation of zero. One that skips frames runs only if a frame is another than the one
before, and else gives its last answer again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from neurodeploy.energy.estimates import Energy, ann_energy, repeated
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.ir.graphs import AnnMacs


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAnn:
    """One way to run an ordinary network on sequences of frames; numbers are a sequence's mean.

    Attributes:
        name: "dense", "zero-skipping", "frame-skipping" or "frame- and zero-skipping".
        passes: How often it runs.
        macs: Its multiply-accumulates, without taps on padding.
        energies: By preset, those of tiers A and B.
    """

    name: str
    passes: float
    macs: float
    energies: Mapping[str, Energy]


def frame_anns(
    macs: AnnMacs,
    presets: Sequence[EnergyPreset],
    *,
    arithmetic: EnergyPreset,
    is_new: npt.NDArray[np.bool_],
    effective: npt.NDArray[np.number] | None,
) -> tuple[FrameAnn, ...]:
    """Return the ways to run an ordinary network, the plainest first.

    Args:
        macs: Of the network.
        presets: Constants; those of tier C are left out, since ordinary networks do not run there.
        arithmetic: Constants of tier A to which those of tier B are added.
        is_new: (sequences, frames), whether a frame is another than the one before.
        effective: (sequences, frames) MACs of each frame's pass without products with zero; None
            where they are not known: nothing is said of networks that skip zeros then.
    """
    sequences, frames = is_new.shape
    needed = float(is_new.sum()) / sequences
    one = replace(macs, passes=1, macs_effective=None)
    exact = one.macs_border_exact
    found: list[tuple[str, float, float, float | None]] = [
        ("dense", float(frames), exact * frames, None)
    ]
    if effective is not None:
        found.append(
            ("zero-skipping", float(frames), effective.sum() / sequences, effective.mean())
        )
    found.append(("frame-skipping", needed, exact * needed, None))
    if effective is not None:
        kept = float(effective[is_new].sum()) / sequences
        found.append(("frame- and zero-skipping", needed, kept, kept / needed))
    return tuple(
        FrameAnn(
            name=name,
            passes=passes,
            macs=total,
            energies=_energies(replace(one, macs_effective=mean), presets, arithmetic, passes),
        )
        for name, passes, total, mean in found
    )


def _energies(
    one: AnnMacs, presets: Sequence[EnergyPreset], arithmetic: EnergyPreset, passes: float
) -> Mapping[str, Energy]:
    energies = {}
    for preset in presets:
        if preset.tier is Tier.CHIP:
            continue
        energy = ann_energy(
            one,
            preset,
            arithmetic=arithmetic,
            skips_activations=one.macs_effective is not None,
        )
        assert energy is not None
        energies[preset.name] = repeated(energy, passes)
    return MappingProxyType(energies)
