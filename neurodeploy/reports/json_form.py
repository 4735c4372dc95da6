"""The JSON form of a report: a type for every table, and the schema made from these types."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import EnumType
from types import NoneType, UnionType
from typing import Annotated, Literal, NotRequired, TypedDict, Union

from neurodeploy.chips.cores import FitJson
from neurodeploy.chips.target import Evidence
from neurodeploy.counting.count_tables import Totals
from neurodeploy.counting.neurobench import NeuroBenchJson
from neurodeploy.energy.estimates import Energy
from neurodeploy.energy.fairness import Headline, Rule
from neurodeploy.energy.measured import MeasuredJson
from neurodeploy.energy.other_machines import PlatformFigure
from neurodeploy.energy.presets import Tier
from neurodeploy.ir.graphs import AnnLayerMacs
from neurodeploy.reports.certificate import Certificate
from neurodeploy.strict_tables import Range

Json = dict[str, object]

UNIT = "pJ per inference"


class NetworkJson(TypedDict):
    """The network's file."""

    file: str | None
    sha256: str | None
    hash: str | None
    weights_quantised: bool
    parameters: int
    weight_bytes: int
    zero_weight_fraction: float


class WorkloadJson(TypedDict):
    """The samples that were run."""

    samples: int
    T: int
    batch: int
    input_kind: str
    changes_over_time: Annotated[bool, "whether the input is another one at every step"]


class LayerMeansJson(TypedDict):
    """Counts of a layer a sample."""

    events: float | None
    sops: float | None
    sops_stored: float | None
    sops_ac: float | None
    sops_mac: float | None
    updates_dense: float | None
    updates_active: float | None
    spikes: float | None
    bias_adds: float | None
    messages: float | None


class LayerJson(TypedDict):
    """Counts of a layer over all samples; a text beside a type describes the key."""

    name: Annotated[
        str, "a recurrent synapse is a row of its own, <layer>.recurrent, without neurons"
    ]
    type: Annotated[str, "conv, dense, complex_dense, injection; joined by + where several lead in"]
    kind: Annotated[str, "declared kind of the input: binary, ternary, graded, analog, bias"]
    shape: list[int]
    neurons: int
    neuron_model: str | None
    weights: Annotated[int, "stored ones, shared ones once"]
    zero_weight_fraction: float
    dense_exact: Annotated[int, "MACs of one pass without taps on padding"]
    dense_macs: Annotated[int, "MACs of one pass by the textbook"]
    events: Annotated[int, "inputs other than zero, all samples and steps"]
    sops: Annotated[int, "synaptic operations through weights other than zero"]
    sops_stored: Annotated[int, "the same, zero weights included"]
    sops_ac: Annotated[int, "those that only add"]
    sops_mac: Annotated[int, "those on graded input, which multiply"]
    updates_dense: Annotated[int, "neurons times steps"]
    updates_active: Annotated[
        int | None, "updates with a potential, an input or a bias; null if not known"
    ]
    spikes: Annotated[int, "output events"]
    bias_adds: int
    messages: Annotated[int, "one per spike and destination layer: a lower bound"]
    per_sample: LayerMeansJson
    per_sample_std: Annotated[
        dict[str, float], "standard deviation over the samples, of the population"
    ]


class EnergyJson(TypedDict):
    """Energy of an inference by one preset."""

    tier: Tier
    preset: str
    unit: str
    low: float
    nominal: float
    high: float
    breakdown: dict[str, float]
    evidence: Evidence
    excludes: list[str]
    basis: str


class StaticJson(TypedDict):
    """Static energy of a chip."""

    power_mw: float
    chips: int
    step_time_us: float
    is_real_time: bool
    energy: float
    energy_with_static: float
    fastest_step_us: float | None
    energy_at_fastest_step: float | None


class TierJson(EnergyJson):
    """Energy of the network, and of the ANN by the same preset."""

    static: StaticJson | None
    ann: EnergyJson | None


class FormatJson(TypedDict):
    """The ANN in one number format."""

    name: str
    weight_bits: int
    activation_bits: int
    passes: Annotated[int, "T where the input changes and the ANN runs once a step"]
    tiers: list[EnergyJson]


class OperatorJson(TypedDict):
    """Element-wise operators of one ONNX node."""

    op: str
    size: int


class AnnJson(TypedDict):
    """The ReLU twin or an ONNX model; the keys that are not required are those of a model."""

    source: str
    precision: str
    passes: int
    macs_standard: int
    macs_border_exact: int
    is_comparable: Annotated[
        bool, "false for layers as stored: relays and folded pools make them more than an ANN has"
    ]
    macs_nonzero: Annotated[int | None, "through weights other than zero; null if not known"]
    macs_effective: float | None
    layers: list[AnnLayerMacs]
    formats: list[FormatJson]
    accuracy: float | None
    sha256: NotRequired[str]
    bindings: NotRequired[dict[str, int]]
    int8_nodes: NotRequired[list[str]]
    samples: NotRequired[int]
    samples_from: NotRequired[str | None]
    macs_effective_by_layer: NotRequired[dict[str, float] | None]
    unmeasured: NotRequired[list[str]]
    elementwise_ops: NotRequired[dict[str, OperatorJson]]


class CostJson(TypedDict):
    """One quantity of frames."""

    mean: Annotated[float, "of all answered frames"]
    first: Annotated[float, "of the first frame, mean of the sequences"]
    median: float
    largest: float
    fill: Annotated[float, "of a sequence, before the first frame reaches a layer"]
    rest: Annotated[float, "of a sequence, of frames whose answer comes after its end"]


class ChangeJson(TypedDict):
    """The share of input values that are others than in the frame before."""

    mean: float
    first: Annotated[float, "values other than zero"]
    median: float
    largest: float


class FrameLayerJson(TypedDict):
    """A layer's synaptic operations."""

    name: str
    sops: CostJson


class OverTimeJson(TypedDict):
    """Every frame of the first sequence."""

    sops: list[int]
    messages: list[int]
    changed: Annotated[list[int], "values of the input"]


class FrameAnnJson(TypedDict):
    """One way to run the ANN on the frames; numbers are a sequence's mean."""

    name: str
    passes: float
    macs: Annotated[float, "without taps on padding"]
    macs_per_frame: float
    tiers: list[EnergyJson]


class FramesJson(TypedDict):
    """Counts by frame of a network that sends changes."""

    frames: Annotated[int, "of a sequence, that are answered"]
    latency: Annotated[int, "steps between a frame and its answer"]
    sops: CostJson
    messages: Annotated[CostJson, "events that reach some synapse"]
    updates: Annotated[int, "neurons, each of which is updated at every step"]
    updates_per_frame: Annotated[float, "those of all steps, over the answered frames"]
    inputs: Annotated[int, "values of a frame"]
    changed: ChangeJson
    repeated: Annotated[int, "frames equal to the one before, in all sequences"]
    layers: list[FrameLayerJson]
    first_sequence: OverTimeJson
    zeros: Annotated[
        str, "of the ANN's activations: measured on these frames, or estimated from the network's"
    ]
    anns: list[FrameAnnJson]


class TwinJson(TypedDict):
    """MACs of the ReLU twin."""

    counted_from: Annotated[
        str, "trained network; or layers as stored, with relays and folded pools: no twin"
    ]
    macs_standard: int
    macs_border_exact: int


class FairnessJson(TypedDict):
    """Conditions of one ratio for the whole comparison."""

    rules: list[Rule]
    headline: Headline | None
    ann_narrow_activations: EnergyJson | None


class SensitivityJson(TypedDict):
    """Effect of one assumption."""

    assumption: str
    quantity: str
    low: float
    high: float
    factor: float | None


class ContextJson(TypedDict):
    """Published figures of other machines."""

    note: str
    unit: str
    platforms: list[PlatformFigure]
    loihi2_measured: list[dict[str, object]]


class ReportJson(TypedDict):
    """A whole report."""

    network: NetworkJson
    workload: WorkloadJson
    layers: list[LayerJson]
    totals: Annotated[
        Totals, "sums of the layers; sops_cached: sops if a static graded input were computed once"
    ]
    per_sample: Annotated[
        dict[str, float | None], "means of the totals, and <name>_std over the samples"
    ]
    frames: Annotated[FramesJson | None, "of networks that send changes; null for others"]
    sigma: Annotated[float, "spikes per synapse per inference"]
    sigma_break_even: list[float]
    neurobench: NeuroBenchJson
    ann: Annotated[AnnJson, "the ReLU twin or an ONNX model; one of ONNX says more"]
    relu_twin: TwinJson
    tiers: list[TierJson]
    fairness: FairnessJson
    sensitivity: list[SensitivityJson]
    fit: list[FitJson]
    measured: MeasuredJson | None
    context: ContextJson
    assumptions: list[str]
    warnings: list[str]
    uncounted_ops: list[str]
    accuracy: dict[str, float] | None
    wrote: NotRequired[Annotated[list[str], "the pages written with it, by --html and --markdown"]]


def filled(kind: type, source: object, **given: object) -> Json:
    """Return a table with the keys of a declared type: as given, or attributes of `source`."""
    keys = kind.__annotations__
    return {key: given[key] if key in given else getattr(source, key) for key in keys}


def energy_json(energy: Energy) -> Json:
    """Return an energy as `EnergyJson` declares it."""
    return filled(EnergyJson, energy, unit=UNIT)


def schema() -> Json:
    """Return the JSON schema of a report."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "neurodeploy report",
        "description": "What `neurodeploy report NET --json` prints. Counts are integers over all "
        "samples; energies are pJ of one inference.",
        **_schema_of(ReportJson),
    }


def certificate_schema() -> Json:
    """Return the JSON schema of a certificate of verification."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "neurodeploy certificate",
        "description": "What `neurodeploy deploy` and `neurodeploy verify --write-certificate` "
        "write, and `neurodeploy verify --certificate` checks.",
        **_schema_of(Certificate),
    }


def _schema_of(kind: object) -> Json:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is NotRequired:
        return _schema_of(arguments[0])
    if origin is Annotated:
        form = _schema_of(arguments[0])
        for note in arguments[1:]:
            if isinstance(note, Range):
                limits = {"minimum": note.minimum, "maximum": note.maximum}
                form |= {name: value for name, value in limits.items() if value is not None}
            else:
                form["description"] = note
        return form
    if origin in (Union, UnionType):
        return {"anyOf": [_schema_of(member) for member in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if isinstance(kind, EnumType):
        return {"enum": list(kind)}
    if origin in (list, tuple):
        return {"type": "array", "items": _schema_of(arguments[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    if isinstance(kind, type) and (typing.is_typeddict(kind) or is_dataclass(kind)):
        types = typing.get_type_hints(kind, include_extras=True)
        keys = [spec.name for spec in fields(kind)] if is_dataclass(kind) else list(types)
        return {
            "type": "object",
            "properties": {key: _schema_of(types[key]) for key in keys},
            "required": [key for key in keys if typing.get_origin(types[key]) is not NotRequired],
            "additionalProperties": False,
        }
    return dict(_SCALARS[kind])


_SCALARS: Mapping[object, Json] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},  # every integer of a report is a count
    float: {"type": "number"},
    object: {},
    NoneType: {"type": "null"},
}
