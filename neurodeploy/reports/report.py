"""The report of a network, as data and as JSON values; the summary of a run that a page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from math import isfinite
from pathlib import Path
from typing import Protocol

from neurodeploy.chips.cores import ChipFit
from neurodeploy.conversion.converting import Conversion
from neurodeploy.counting.count_tables import Counts, LayerCounts, Spread
from neurodeploy.counting.frame_counts import FrameCounts
from neurodeploy.counting.neurobench import NeuroBenchMetrics
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import SIGMA_BREAK_EVEN, AnnFormat, Headline, Rule
from neurodeploy.energy.frame_anns import FrameAnn
from neurodeploy.energy.measured import MeasuredJson
from neurodeploy.energy.other_machines import NOTE, PlatformFigure, measured_runs
from neurodeploy.energy.presets import EnergyPreset, Tier
from neurodeploy.energy.sensitivity import Sensitivity
from neurodeploy.ir.graphs import AnnMacs
from neurodeploy.onnx_models.measured_zeros import OnnxBaseline
from neurodeploy.onnx_models.twin_export import LAYERS_AS_STORED
from neurodeploy.reports import json_form as form
from neurodeploy.reports.activity import Activity, Raster
from neurodeploy.reports.certificate import Certificate
from neurodeploy.reports.frame_figures import frames_json
from neurodeploy.reports.numbers import format_count, wilson_interval
from neurodeploy.testing import Comparison

AS_TRAINED = "trained network"
"""The ReLU twin's counts are those of the network before it was lowered."""

AS_STORED = "layers as stored"
"""Only the deployed layers are known: relays, merged groups and folded pools are counted, too."""


def _document(report: Report) -> form.Json:
    """Return a report as `form.ReportJson` declares it; dataclasses are still instances."""
    counts, network, twin = report.counts, report.network, report.twin
    spread = {f"{name}_std": value for name, value in _deviations(counts.spread).items()}
    narrow = None if report.narrow_ann is None else form.energy_json(report.narrow_ann)
    return {
        "network": form.filled(
            form.NetworkJson,
            network,
            file=network.path,
            hash=None if network.sha256 is None else f"sha256:{network.sha256}",
            weights_quantised=True,
        ),
        "workload": {
            "samples": counts.samples,
            "T": counts.steps,
            "batch": 1,
            "input_kind": counts.input_kind,
            "changes_over_time": report.changes_over_time,
        },
        "layers": [_layer_json(layer, counts.samples) for layer in counts.layers],
        "totals": counts.totals,
        "per_sample": {**_per_sample(asdict(counts.totals), counts.samples), **spread},
        "frames": frames_json(report.frames, report.frame_anns, report.has_measured_zeros),
        "sigma": report.sigma,
        "sigma_break_even": SIGMA_BREAK_EVEN,
        "neurobench": report.neurobench.to_dict(),
        "ann": _ann_json(report),
        "relu_twin": form.filled(form.TwinJson, twin, counted_from=report.twin_source),
        "tiers": [
            {
                **form.energy_json(entry.network),
                "static": _static_json(entry.network, report.fastest_steps),
                "ann": None if entry.ann is None else form.energy_json(entry.ann),
            }
            for entry in report.tiers
        ],
        "fairness": {
            "rules": report.rules,
            "headline": report.headline,
            "ann_narrow_activations": narrow,
        },
        "sensitivity": [
            form.filled(
                form.SensitivityJson, one, factor=one.factor if isfinite(one.factor) else None
            )
            for one in report.sensitivities
        ],
        "fit": [fit.to_dict() for fit in report.fits],
        "measured": report.measured,
        "context": {
            "note": NOTE,
            "unit": form.UNIT,
            "platforms": report.platforms,
            "loihi2_measured": measured_runs(),
        },
        "assumptions": report.assumptions,
        "warnings": report.warnings,
        "uncounted_ops": () if report.onnx is None else report.onnx.macs.uncounted_ops,
        "accuracy": dict(report.accuracy) or None,
    }


def _layer_json(layer: LayerCounts, samples: int) -> form.Json:
    numbers = {key: getattr(layer, key) for key in form.LayerMeansJson.__annotations__}
    return form.filled(
        form.LayerJson,
        layer,
        neuron_model=layer.model,
        per_sample=_per_sample(numbers, samples),
        per_sample_std=_deviations(layer.spread),
    )


def _per_sample(totals: Mapping[str, int | None], samples: int) -> dict[str, float | None]:
    """Divide numbers that grow with the samples by the number of samples."""
    fixed = {"dense_exact", "dense_macs", "neurons"}
    return {
        name: value if value is None or name in fixed else value / samples
        for name, value in totals.items()
    }


def _deviations(spread: Mapping[str, Spread]) -> dict[str, float]:
    """Return standard deviations over the samples, of the population."""
    return {name: one.deviation for name, one in spread.items()}


def _ann_json(report: Report) -> form.Json:
    formats = [
        form.filled(
            form.FormatJson,
            entry,
            tiers=[form.energy_json(entry.arithmetic), form.energy_json(entry.memory)],
        )
        for entry in report.ann_formats
    ]
    return {
        "source": report.ann_source,
        "precision": "that of each preset",
        "passes": report.ann.passes,
        "macs_standard": report.ann.macs_standard,
        "macs_border_exact": report.ann.macs_border_exact,
        "macs_nonzero": report.ann.macs_nonzero,
        "is_comparable": report.is_comparable,
        "macs_effective": report.ann.macs_effective,
        "layers": report.ann.layers,
        "formats": formats,
        **({} if report.onnx is None else report.onnx.to_json()),
        "accuracy": report.ann_accuracy,
    }


def _static_json(energy: Energy, fastest: Mapping[str, float | None]) -> form.Json | None:
    """Return the static energy of a chip, at the assumed and at the fastest possible step."""
    static = energy.static
    if static is None:
        return None
    shortest = fastest.get(energy.preset)
    at_fastest = None
    if shortest is not None:
        step = static.step_time_us
        at_fastest = static.energy * shortest / step if step else 0.0
    return form.filled(
        form.StaticJson,
        static,
        energy_with_static=energy.total,
        fastest_step_us=shortest,
        energy_at_fastest_step=at_fastest,
    )


def _plain(value: object) -> object:
    """Return a value as JSON has it: tables, lists, texts and numbers."""
    if is_dataclass(value):
        value = {spec.name: getattr(value, spec.name) for spec in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.value if isinstance(value, Enum) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFile:
    """The network that was counted.

    Attributes:
        path: Its file as given, and `sha256` of that; None for a network in memory.
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
    """One preset, both sides, one inference; `ann` is None where no ANN can run."""

    network: Energy
    ann: Energy | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """Counts, energies and accuracies of a network.

    Attributes:
        counts: Exact integers, over all samples.
        ann: MACs of the ANN: the ReLU twin, or the ONNX model.
        twin_source: `AS_TRAINED`, or `AS_STORED` where only the deployed layers are known.
        onnx: The ONNX model that was given as the ANN; None for the twin.
        tiers: Energy by preset, the default preset first.
        presets: The constants behind them.
        ann_formats: Other number formats; empty without a preset of tier B.
        accuracy: By stage, fractions; empty if not known.
        ann_accuracy: Of the ANN on the same test set; None if not known.
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
        is_answered: False where sequences end before a network that sends changes answers a frame.
        frames: Counts of every frame of a network that sends changes; None of others.
        frame_anns: Ways to run the ANN on these frames; empty without.
        has_measured_zeros: Whether the ANN itself ran on them; else its zeros are estimated from
            the deployed layers.

    Example:
        >>> example = nd.load_example()
        >>> recording = nd.EventSimulator(example.graph).run(example.inputs)
        >>> report = nd.report(example.graph, example.inputs, recording)
        >>> pair = report.tiers[0]  # arithmetic only, pJ per sample
        >>> round(pair.network.nominal), round(pair.ann.nominal)
        (1564, 1442)
        >>> report.to_json()["layers"][0]["sops"]
        69984
    """

    network: NetworkFile
    counts: Counts
    neurobench: NeuroBenchMetrics
    ann: AnnMacs
    twin: AnnMacs
    twin_source: str
    onnx: OnnxBaseline | None
    tiers: tuple[PresetComparison, ...]
    presets: tuple[EnergyPreset, ...]
    ann_formats: tuple[AnnFormat, ...]
    accuracy: Mapping[str, float]
    ann_accuracy: float | None
    changes_over_time: bool
    narrow_ann: Energy | None
    fits: tuple[ChipFit, ...]
    fastest_steps: Mapping[str, float | None]
    measured: MeasuredJson | None
    platforms: tuple[PlatformFigure, ...]
    rules: tuple[Rule, ...] = ()
    headline: Headline | None = None
    sensitivities: tuple[Sensitivity, ...] = ()
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_answered: bool = True
    frames: FrameCounts | None = None
    frame_anns: tuple[FrameAnn, ...] = ()
    has_measured_zeros: bool = False

    def tier(self, tier: Tier) -> tuple[PresetComparison, ...]:
        """Return the comparisons of one tier, in order."""
        return tuple(one for one in self.tiers if one.network.tier is tier)

    @property
    def ann_source(self) -> str:
        """`AS_TRAINED` or `AS_STORED`, or the model's file."""
        return self.twin_source if self.onnx is None else self.onnx.macs.path

    @property
    def is_comparable(self) -> bool:
        """True if these are counts of the ANN, and not of the layers as stored."""
        if not self.is_answered:
            return False
        if self.onnx is not None:
            return self.onnx.macs.name != LAYERS_AS_STORED
        return self.twin_source != AS_STORED

    @property
    def ann_name(self) -> str:
        """Name of the other side in sentences."""
        return "ReLU twin" if self.onnx is None else "ANN"

    @property
    def ann_label(self) -> str:
        """Name of the ANN in tables and plots."""
        if self.onnx is not None:
            return f"ANN {Path(self.ann_source).name}"
        return "ReLU twin" if self.is_comparable else AS_STORED

    @property
    def inference(self) -> str:
        """Word for what the ANN answers in one pass: a frame of a sequence, or all of a sample."""
        return "inference" if self.frames is None else "frame"

    @property
    def sigma(self) -> float:
        """Spikes that pass each synapse in the time of one pass of the ANN."""
        return self.counts.sigma / self.ann.passes

    @property
    def sops_per_sample(self) -> float:
        """Mean SOPs of a sample."""
        return self.counts.totals.sops / self.counts.samples

    def to_json(self) -> form.Json:
        """Return the report as JSON values; counts are integers over all samples.

        `neurodeploy.reports.json_form.schema` describes them.
        """
        return {key: _plain(value) for key, value in _document(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPoint:
    """Accuracy after one stage.

    Attributes:
        stage: "float", "quantized", "integer" or "Lava".
        samples: Number of test samples; 0 if not known.
        note: The network and the simulator, in a few words.
    """

    stage: str
    value: float
    samples: int = 0
    note: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the accuracy; None where the number of samples is not known."""
        return wilson_interval(self.value, self.samples) if self.samples else None


class Epoch(Protocol):
    """One epoch of training, as the training side records it."""

    @property
    def epoch(self) -> int:
        """Number, from 1."""

    @property
    def iterations(self) -> int:
        """Iterations so far."""

    @property
    def loss(self) -> float:
        """Training loss."""

    @property
    def train_accuracy(self) -> float:
        """Fraction."""

    @property
    def validation_accuracy(self) -> float:
        """Fraction."""

    @property
    def branch_weight(self) -> float | None:
        """λ, the branches' share of the loss; None where there are none."""

    @property
    def learning_rate(self) -> float | None:
        """Rate at the end of the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The simulator, whose spikes come first in the comparison, against Lava in `seconds`.

    `part` says of which part of the data the samples are, "test" or "calibration"; None if they
    are just those given.
    """

    samples: int
    comparison: Comparison
    seconds: float | None = None
    part: str | None = None

    def describe_samples(self) -> str:
        """Return their number and part."""
        part = "" if self.part is None else f"{self.part} "
        return f"{format_count(self.samples)} {part}samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """Shares of neurons and steps in which integers spike as the float network does, by layer.

    Attributes:
        samples: Samples compared.
        layers: Name, share right after quantization, and share of the deployed integers.
    """

    samples: int
    layers: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that the result depends on; its role is "input" or "ANN"."""

    role: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunSummary:
    """Content of a page. Whatever is None or empty is left out.

    Attributes:
        title: The recipe's name, or the network's file.
        description: One sentence.
        accuracy: Stage after stage.
        rounding: The deployed integers against floats.
        agreement: With Lava.
        activity: Rates and overflow of all samples, maps and membranes of one.
        history: Training, epoch after epoch.
        fine_tuning: The same of the fine-tune in integers.
        seconds: Wall time by stage.
        versions: Of everything the result depends on.
        files: Further inputs, beside the network's file.
        recipe: The effective recipe, TOML.
        certificate: Of the network's file.
        conversion: The ordinary network's conversion, where it was one.
        created: Date and time, as text.

    Example:
        >>> example = nd.load_example()
        >>> summary = nd.RunSummary(title="digits", certificate=example.certificate)
        >>> nd.write_markdown(summary, "report.md")
        >>> Path("report.md").read_text().splitlines()[0]
        '# digits'
    """

    title: str
    description: str = ""
    accuracy: tuple[AccuracyPoint, ...] = ()
    rounding: Rounding | None = None
    agreement: Agreement | None = None
    report: Report | None = None
    raster: Raster | None = None
    activity: Activity | None = None
    history: tuple[Epoch, ...] = ()
    fine_tuning: tuple[Epoch, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    files: tuple[SourceFile, ...] = ()
    recipe: str | None = None
    certificate: Certificate | None = None
    conversion: Conversion | None = None
    command: str | None = None
    created: str | None = None
