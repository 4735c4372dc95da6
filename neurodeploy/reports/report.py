"""The report of a network: counts and energies as data, and as JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from math import isfinite
from pathlib import Path

import numpy as np

from neurodeploy.chips.cores import (
    ChipFit,
)
from neurodeploy.counting.counts import Counts, LayerCounts
from neurodeploy.counting.neurobench import NeuroBenchMetrics
from neurodeploy.counting.relu_twin import AnnMacs
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import SIGMA_BREAK_EVEN, Headline, Rule
from neurodeploy.energy.number_formats import AnnFormat
from neurodeploy.energy.other_machines import NOTE, PlatformFigure, measured_runs
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.energy.sensitivity import Sensitivity
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.onnx_models.measured_zeros import OnnxBaseline

Json = dict[str, object]


def schema() -> Json:
    """Return the JSON schema of a report; a test validates reports by it."""
    text = resources.files("neurodeploy.reports").joinpath("report.schema.json").read_text("utf-8")
    found: Json = json.loads(text)
    return found


def to_document(report: Report) -> Json:
    """Return a report as JSON values; counts are integers over all samples."""
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
    """Return standard deviations over the samples (of the population, not an estimate)."""
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
    """Return the static energy of a chip, at the assumed and at the fastest possible step."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """The network that was counted.

    Attributes:
        path: Its file as given; None for a network in memory.
        sha256: Of the file; None likewise.
        parameters: Stored weights.
        zero_weight_fraction: Share of them that is zero.
        weight_bytes: Bytes of the weights, with the bits that each layer's largest needs.
    """

    path: str | None
    sha256: str | None
    parameters: int
    zero_weight_fraction: float
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetComparison:
    """One preset, both sides, one inference.

    Attributes:
        network: The spiking network.
        ann: Its ReLU twin in one pass; None where no ANN can run.
    """

    network: Energy
    ann: Energy | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """Counts, energies and accuracies of a network.

    Attributes:
        network: The network.
        counts: Exact integers, over all samples.
        neurobench: The same network in NeuroBench's metrics.
        ann: MACs of the ANN: the ReLU twin, or the ONNX model.
        ann_source: The graph behind the twin, or the model's file.
        twin: MACs of the ReLU twin.
        onnx: The ONNX model that was given as the ANN; None for the twin.
        tiers: Energy by preset, the default preset first.
        presets: The constants behind them.
        ann_formats: The ANN in other number formats; empty without a preset of tier B.
        accuracy: By stage, fractions; empty if not known.
        ann_accuracy: Of the ANN on the same test set; None if not known.
        rules: Conditions for one ratio to stand for the comparison.
        headline: That ratio; None unless every rule holds.
        narrow_ann: The ANN's energy of tier B with as many bits an activation as T steps of
            spikes can hold; None without a preset of tier B.
        sensitivities: Influence of each assumption on the answer, largest first.
        fits: Estimated cores, one entry a chip; empty where the layers are not known.
        fastest_steps: Lower bound of a step's duration, us, by preset of tier C; None where it is
            not known.
        measured: Measured counters beside counted ones, as JSON values; None without any.
        platforms: Published figures of other machines times the counts, for context.
        assumptions: Sentences.
        warnings: Sentences.
    """

    network: NetworkFile
    counts: Counts
    neurobench: NeuroBenchMetrics
    ann: AnnMacs
    ann_source: str
    twin: AnnMacs
    onnx: OnnxBaseline | None
    tiers: tuple[PresetComparison, ...]
    presets: tuple[EnergyPreset, ...]
    ann_formats: tuple[AnnFormat, ...]
    accuracy: Mapping[str, float]
    ann_accuracy: float | None
    rules: tuple[Rule, ...]
    headline: Headline | None
    narrow_ann: Energy | None
    sensitivities: tuple[Sensitivity, ...]
    fits: tuple[ChipFit, ...]
    fastest_steps: Mapping[str, float | None]
    measured: Mapping[str, object] | None
    platforms: tuple[PlatformFigure, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    def tier(self, tier: Tier) -> tuple[PresetComparison, ...]:
        """Return the comparisons of one tier, in order."""
        return tuple(one for one in self.tiers if one.network.tier is tier)

    @property
    def ann_label(self) -> str:
        """Name of the ANN in tables and plots."""
        return "ReLU twin" if self.onnx is None else f"ANN {Path(self.ann_source).name}"

    @property
    def sops_per_sample(self) -> float:
        """Mean SOPs of a sample."""
        return self.counts.totals.sops / self.counts.samples

    def to_json(self) -> Json:
        """Return the report as JSON values; counts are integers over all samples.

        `neurodeploy.reports.report.schema` describes them.
        """
        return to_document(self)
