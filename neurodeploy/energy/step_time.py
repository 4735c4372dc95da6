"""Duration of a step on a chip: a lower bound, since no mapping to cores is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neurodeploy.counting.counts import Counts
from neurodeploy.energy.presets import EnergyPreset, Tier

_NEEDED = ("time_synaptic_op", "time_update_active", "time_update_inactive", "time_barrier")


def fastest_steps(
    counts: Counts, presets: Sequence[EnergyPreset], *, cores: Mapping[str, int | None]
) -> dict[str, float | None]:
    """Return the shortest mean duration of a step, us, by preset of tier C."""
    return {
        preset.name: fastest_step(counts, preset, cores=cores)
        for preset in presets
        if preset.tier is Tier.CHIP
    }


def fastest_step(
    counts: Counts, preset: EnergyPreset, *, cores: Mapping[str, int | None]
) -> float | None:
    """Return the shortest mean duration of a step, us: the barrier and the busiest core.

    A layer's work is shared out evenly over the most cores that it may take; the busiest core does
    at least that much. Bursts of activity, routing and input take longer.

    Args:
        counts: Of the network.
        preset: Constants of tier C.
        cores: By layer; None where no number of cores can hold it.

    Returns:
        Microseconds, or None where the preset states no times or a layer does not fit.
    """
    if any(name not in preset.constants for name in _NEEDED):
        return None
    operation, active, idle, barrier = (preset.value(name) for name in _NEEDED)
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
