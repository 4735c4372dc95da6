"""Figures of the frames of a network that sends changes, for JSON, tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurodeploy.counting.frame_counts import Costs, FrameCounts
from neurodeploy.energy.frame_anns import FrameAnn
from neurodeploy.reports import json_form as form


def frames_json(
    frames: FrameCounts | None, anns: Sequence[FrameAnn], has_measured_zeros: bool
) -> form.Json | None:
    """Return the counts of frames, and the ways to run the ANN on them; None without frames."""
    if frames is None:
        return None
    sops, count = frames.all_sops, frames.frames
    return {
        "frames": count,
        "latency": frames.latency,
        "sops": cost_figures(sops),
        "messages": cost_figures(frames.messages),
        "updates": frames.updates,
        "updates_per_frame": frames.updates * frames.steps / count,
        "inputs": frames.inputs,
        "changed": changed_figures(frames),
        "repeated": int(frames.is_new.size - frames.is_new.sum()),
        "layers": [
            {"name": name, "sops": cost_figures(costs)} for name, costs in frames.sops.items()
        ],
        "first_sequence": {
            "sops": sops.frames[0].tolist(),
            "messages": frames.messages.frames[0].tolist(),
            "changed": frames.changed[0].tolist(),
        },
        "zeros": "measured" if has_measured_zeros else "estimated",
        "anns": [
            form.filled(
                form.FrameAnnJson,
                ann,
                macs_per_frame=ann.macs / count,
                tiers=[form.energy_json(energy) for energy in ann.energies.values()],
            )
            for ann in anns
        ],
    }


def cost_figures(costs: Costs) -> dict[str, float]:
    """Return mean, first, median and largest of frames; fill and rest a sequence."""
    return {
        **_spread_of(costs.frames),
        "fill": float(costs.fill.mean()),
        "rest": float(costs.rest.mean()),
    }


def changed_figures(frames: FrameCounts) -> dict[str, float]:
    """Return the share of the input that changes: mean, first, median and largest of frames."""
    return _spread_of(frames.changed / frames.inputs)


def _spread_of(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "first": float(values[:, 0].mean()),
        "median": float(np.median(values)),
        "largest": float(values.max()),
    }
