"""The report of a network: counts and energies as data, and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import cast

import numpy as np

from neurodeploy.chips.cores import ChipFit
from neurodeploy.counting.network_counts import Counts, LayerCounts
from neurodeploy.counting.neurobench import NeuroBenchMetrics
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import SIGMA_BREAK_EVEN, AnnFormat, Headline, Rule
from neurodeploy.energy.measured import MeasuredJson
from neurodeploy.energy.other_machines import NOTE, PlatformFigure, measured_runs
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.energy.sensitivity import Sensitivity
from neurodeploy.fixedpoint import Int64Array
from neurodeploy.ir.graphs import AnnMacs
from neurodeploy.onnx_models.measured_zeros import OnnxBaseline
from neurodeploy.reports.json_form import (
    AnnJson,
    EnergyJson,
    Json,
    LayerJson,
    LayerMeansJson,
    NetworkJson,
    ReportJson,
    SensitivityJson,
    StaticJson,
    TierJson,
)

AS_TRAINED = "trained network"
"""The ReLU twin's counts are those of the network before it was lowered."""

AS_STORED = "layers as stored"
"""Only the deployed layers are known: relays, merged groups and folded pools are counted, too."""


def to_document(report: Report) -> ReportJson:
    """Return a report as its JSON form declares it; dataclasses are still instances."""
    counts = report.counts
    totals = asdict(counts.totals)
    spread = {f"{name}_std": value for name, value in _spread(counts.by_sample).items()}
    return {
        "network": _network_json(report.network),
        "workload": {
            "samples": counts.samples,
            "T": counts.steps,
            "batch": 1,
            "input_kind": counts.input_kind.value,
            "changes_over_time": report.changes_over_time,
        },
        "layers": [_layer_json(layer, counts.samples) for layer in counts.layers],
        "totals": counts.totals,
        "per_sample": {**_per_sample(totals, counts.samples), **spread},
        "sigma": counts.sigma,
        "sigma_break_even": list(SIGMA_BREAK_EVEN),
        "neurobench": report.neurobench.to_dict(),
        "ann": _ann_json(report),
        "relu_twin": {
            "counted_from": report.twin_source,
            "macs_standard": report.twin.macs_standard,
            "macs_border_exact": report.twin.macs_border_exact,
        },
        "tiers": [_tier_json(entry, report.fastest_steps) for entry in report.tiers],
        "fairness": {
            "rules": list(report.rules),
            "headline": report.headline,
            "ann_narrow_activations": (
                None if report.narrow_ann is None else _energy_json(report.narrow_ann)
            ),
        },
        "sensitivity": [
            cast(
                "SensitivityJson",
                {**asdict(entry), "factor": entry.factor if isfinite(entry.factor) else None},
            )
            for entry in report.sensitivities
        ],
        "fit": [fit.to_dict() for fit in report.fits],
        "measured": report.measured,
        "context": {
            "note": NOTE,
            "unit": "pJ per inference",
            "platforms": list(report.platforms),
            "loihi2_measured": list(measured_runs()),
        },
        "assumptions": list(report.assumptions),
        "warnings": list(report.warnings),
        "uncounted_ops": [] if report.onnx is None else list(report.onnx.macs.uncounted_ops),
        "accuracy": dict(report.accuracy) or None,
    }


def _network_json(network: NetworkFile) -> NetworkJson:
    return {
        "file": network.path,
        "sha256": network.sha256,
        "hash": None if network.sha256 is None else f"sha256:{network.sha256}",
        "weights_quantised": True,
        "parameters": network.parameters,
        "weight_bytes": network.weight_bytes,
        "zero_weight_fraction": network.zero_weight_fraction,
    }


def _layer_json(layer: LayerCounts, samples: int) -> LayerJson:
    numbers = {key: getattr(layer, key) for key in LayerMeansJson.__annotations__}
    table = {
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
        "per_sample": _per_sample(numbers, samples),
        "per_sample_std": _spread(layer.by_sample),
    }
    return cast("LayerJson", table)


def _per_sample(totals: Mapping[str, int | None], samples: int) -> dict[str, float | None]:
    """Divide numbers that grow with the samples by the number of samples."""
    fixed = {"dense_exact", "dense_macs", "neurons"}
    return {
        name: value if value is None or name in fixed else value / samples
        for name, value in totals.items()
    }


def _spread(by_sample: Mapping[str, Int64Array]) -> dict[str, float]:
    """Return standard deviations over the samples (of the population, not an estimate)."""
    return {name: float(np.std(values)) for name, values in by_sample.items()}


def _ann_json(report: Report) -> AnnJson:
    table = {
        "source": report.ann_source,
        "precision": "that of each preset",
        "passes": 1,
        "macs_standard": report.ann.macs_standard,
        "macs_border_exact": report.ann.macs_border_exact,
        "macs_nonzero": report.ann.macs_nonzero,
        "is_comparable": report.is_comparable,
        "macs_effective": report.ann.macs_effective,
        "layers": list(report.ann.layers),
        "formats": [
            {
                "name": entry.name,
                "weight_bits": entry.weight_bits,
                "activation_bits": entry.activation_bits,
                "passes": entry.passes,
                "tiers": [_energy_json(entry.arithmetic), _energy_json(entry.memory)],
            }
            for entry in report.ann_formats
        ],
        **({} if report.onnx is None else report.onnx.to_json()),
        "accuracy": report.ann_accuracy,
    }
    return cast("AnnJson", table)


def _tier_json(entry: PresetComparison, fastest: Mapping[str, float | None]) -> TierJson:
    return {
        **_energy_json(entry.network),
        "static": _static_json(entry.network, fastest),
        "ann": None if entry.ann is None else _energy_json(entry.ann),
    }


def _energy_json(energy: Energy) -> EnergyJson:
    return {
        "tier": energy.tier,
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


def _static_json(energy: Energy, fastest: Mapping[str, float | None]) -> StaticJson | None:
    """Return the static energy of a chip, at the assumed and at the fastest possible step."""
    static = energy.static
    if static is None:
        return None
    shortest = fastest.get(energy.preset)
    at_fastest = None
    if shortest is not None:
        step = static.step_time_us
        at_fastest = static.energy * shortest / step if step else 0.0
    more = {
        "energy_with_static": energy.total,
        "fastest_step_us": shortest,
        "energy_at_fastest_step": at_fastest,
    }
    return cast("StaticJson", {**asdict(static), **more})


def _plain(value: object) -> object:
    """Return a value as JSON has it: tables, lists, texts and numbers."""
    if is_dataclass(value):
        return {spec.name: _plain(getattr(value, spec.name)) for spec in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.value if isinstance(value, Enum) else value


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
        ann_source: `AS_TRAINED` or `AS_STORED`, or the model's file.
        twin: MACs of the ReLU twin.
        twin_source: `AS_TRAINED`, or `AS_STORED` where only the deployed layers are known.
        onnx: The ONNX model that was given as the ANN; None for the twin.
        tiers: Energy by preset, the default preset first.
        presets: The constants behind them.
        ann_formats: The ANN in other number formats; empty without a preset of tier B.
        accuracy: By stage, fractions; empty if not known.
        ann_accuracy: Of the ANN on the same test set; None if not known.
        is_comparable: Whether the ANN was counted as it is, not by the deployed layers.
        changes_over_time: Whether the input changes from step to step.
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
    twin_source: str
    onnx: OnnxBaseline | None
    tiers: tuple[PresetComparison, ...]
    presets: tuple[EnergyPreset, ...]
    ann_formats: tuple[AnnFormat, ...]
    accuracy: Mapping[str, float]
    ann_accuracy: float | None
    is_comparable: bool
    changes_over_time: bool
    rules: tuple[Rule, ...]
    headline: Headline | None
    narrow_ann: Energy | None
    sensitivities: tuple[Sensitivity, ...]
    fits: tuple[ChipFit, ...]
    fastest_steps: Mapping[str, float | None]
    measured: MeasuredJson | None
    platforms: tuple[PlatformFigure, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    def tier(self, tier: Tier) -> tuple[PresetComparison, ...]:
        """Return the comparisons of one tier, in order."""
        return tuple(one for one in self.tiers if one.network.tier is tier)

    @property
    def ann_label(self) -> str:
        """Name of the ANN in tables and plots."""
        if self.onnx is not None:
            return f"ANN {Path(self.ann_source).name}"
        return "ReLU twin" if self.is_comparable else AS_STORED

    @property
    def sops_per_sample(self) -> float:
        """Mean SOPs of a sample."""
        return self.counts.totals.sops / self.counts.samples

    def to_json(self) -> Json:
        """Return the report as JSON values; counts are integers over all samples.

        `neurodeploy.reports.json_form.schema` describes them.
        """
        return cast("Json", _plain(to_document(self)))
