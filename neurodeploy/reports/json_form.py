"""The report as JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.counting.counts import LayerCounts
from neurodeploy.counting.fan_out import Int64Array
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.other_machines import NOTE, measured_runs

if TYPE_CHECKING:
    from neurodeploy.reports.network_report import Report

SIGMA_BREAK_EVEN = (0.15, 1.38)
"""Spikes per synapse per inference below which spiking networks were found to need less energy
than ANNs, memory included. Source: Dampfhoffer et al., IEEE TETCI 7(3):731-741, 2023, abstract."""

Json = dict[str, object]


def schema() -> Json:
    """Give the JSON schema of a report; a test validates reports by it."""
    text = resources.files("neurodeploy.reports").joinpath("report.schema.json").read_text("utf-8")
    found: Json = json.loads(text)
    return found


def to_document(report: Report) -> Json:
    """Give a report as JSON values; counts are integers over all samples."""
    counts = report.counts
    totals = asdict(counts.totals)
    document: Json = {
        "network": {
            "file": report.network.path,
            "sha256": report.network.sha256,
            "hash": None if report.network.sha256 is None else f"sha256:{report.network.sha256}",
            "weights_quantised": True,
            "parameters": report.network.parameters,
            "weight_bytes": report.network.weight_bytes,
            "zero_weight_fraction": report.network.zero_weight_fraction,
        },
        "workload": {
            "samples": counts.samples,
            "T": counts.steps,
            "batch": 1,
            "input_kind": counts.input_kind.value,
        },
        "layers": [_layer_json(layer, counts.samples) for layer in counts.layers],
        "totals": totals,
        "per_sample": {
            **_per_sample(totals, counts.samples),
            **{f"{name}_std": value for name, value in _spread(counts.by_sample).items()},
        },
        "sigma": counts.sigma,
        "sigma_break_even": list(SIGMA_BREAK_EVEN),
        "neurobench": report.neurobench.to_dict(),
        "ann": {
            "source": report.ann_source,
            "precision": "that of each preset",
            "passes": 1,
            "macs_standard": report.ann.macs_standard,
            "macs_border_exact": report.ann.macs_border_exact,
            "macs_effective": report.ann.macs_effective,
            "layers": [asdict(layer) for layer in report.ann.layers],
            "formats": [
                {
                    "name": one.name,
                    "weight_bits": one.weight_bits,
                    "activation_bits": one.activation_bits,
                    "tiers": [_energy_json(one.arithmetic), _energy_json(one.memory)],
                }
                for one in report.ann_formats
            ],
            **({} if report.onnx is None else report.onnx.to_json()),
            "accuracy": report.ann_accuracy,
        },
        "relu_twin": {
            "macs_standard": report.twin.macs_standard,
            "macs_border_exact": report.twin.macs_border_exact,
        },
        "tiers": [
            {
                **_energy_json(one.network),
                "static": _static_json(one.network, report.fastest_steps),
                "ann": None if one.ann is None else _energy_json(one.ann),
            }
            for one in report.tiers
        ],
        "fairness": {
            "rules": [asdict(rule) for rule in report.rules],
            "headline": None if report.headline is None else asdict(report.headline),
            "ann_narrow_activations": None
            if report.narrow_ann is None
            else _energy_json(report.narrow_ann),
        },
        "sensitivity": [
            {**asdict(one), "factor": one.factor if isfinite(one.factor) else None}
            for one in report.sensitivities
        ],
        "fit": [fit.to_dict() for fit in report.fits],
        "measured": None if report.measured is None else dict(report.measured),
        "context": {
            "note": NOTE,
            "unit": "pJ per inference",
            "platforms": [asdict(one) for one in report.platforms],
            "loihi2_measured": list(measured_runs()),
        },
        "assumptions": list(report.assumptions),
        "warnings": list(report.warnings),
        "uncounted_ops": [] if report.onnx is None else list(report.onnx.macs.uncounted_ops),
        "accuracy": dict(report.accuracy) or None,
    }
    return document


def _layer_json(layer: LayerCounts, samples: int) -> Json:
    numbers = {
        "events": layer.events,
        "sops": layer.sops,
        "sops_stored": layer.sops_stored,
        "sops_ac": layer.sops_ac,
        "sops_mac": layer.sops_mac,
        "updates_dense": layer.updates_dense,
        "updates_active": layer.updates_active,
        "spikes": layer.spikes,
        "bias_adds": layer.bias_adds,
        "messages": layer.messages,
    }
    return {
        "name": layer.name,
        "type": layer.type,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "neurons": layer.neurons,
        "neuron_model": None if layer.model is None else layer.model.value,
        "weights": layer.weights,
        "zero_weight_fraction": layer.zero_weight_fraction,
        "dense_exact": layer.dense_exact,
        "dense_macs": layer.dense_macs,
        **numbers,
        "per_sample": {
            name: None if value is None else value / samples for name, value in numbers.items()
        },
        "per_sample_std": _spread(layer.by_sample),
    }


def _per_sample(totals: Mapping[str, int | None], samples: int) -> Json:
    """Divide what grows with the samples by their number."""
    fixed = {"dense_exact", "dense_macs", "neurons"}
    return {
        name: value if value is None or name in fixed else value / samples
        for name, value in totals.items()
    }


def _spread(by_sample: Mapping[str, Int64Array]) -> Json:
    """Give standard deviations over the samples (of the population, not an estimate)."""
    return {name: float(np.std(values)) for name, values in by_sample.items()}


def _energy_json(energy: Energy) -> Json:
    return {
        "tier": energy.tier.value,
        "preset": energy.preset,
        "unit": "pJ per inference",
        "low": energy.low,
        "nominal": energy.nominal,
        "high": energy.high,
        "breakdown": dict(energy.breakdown),
        "evidence": energy.evidence,
        "excludes": list(energy.excludes),
        "basis": energy.basis,
    }


def _static_json(energy: Energy, fastest: Mapping[str, float | None]) -> Json | None:
    """Give the static energy of a chip, at the assumed and at the fastest possible step."""
    static = energy.static
    if static is None:
        return None
    shortest = fastest.get(energy.preset)
    return {
        **asdict(static),
        "energy_with_static": energy.total,
        "fastest_step_us": shortest,
        "energy_at_fastest_step": None
        if shortest is None
        else static.energy * shortest / static.step_time_us
        if static.step_time_us
        else 0.0,
    }
