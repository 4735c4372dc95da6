"""An ONNX model as the other side of a report: its MACs, and what it did on samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurodeploy.counting.relu_twin import AnnMacs
from neurodeploy.errors import DataError
from neurodeploy.onnx_models.macs import OnnxMacs, count_graph_macs
from neurodeploy.onnx_models.measured_zeros import (
    Number,
    OnnxActivity,
    measure_onnx,
)
from neurodeploy.onnx_models.reading import load_onnx
from neurodeploy.samples.array_archives import member_names
from neurodeploy.samples.storage import load_inputs, load_numbers

NumberArray = npt.NDArray[Number]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxBaseline:
    """An ONNX model that a spiking network is compared with.

    Attributes:
        macs: Its counts in one pass, batch 1.
        activity: What it did on samples; None if it was not run.
        samples: Where its samples came from, one phrase; empty if it was not run.
        accuracy: Share of the samples whose largest output is their label's; None without labels.
        notes: Sentences for whoever reads the report.
    """

    macs: OnnxMacs
    activity: OnnxActivity | None = None
    samples: str = ""
    accuracy: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def macs_effective(self) -> float | None:
        """Mean of a pass: products of two values other than zero; None if not measured."""
        return None if self.activity is None else self.activity.total / self.activity.samples

    def to_ann(self) -> AnnMacs:
        """Give the counts as the baseline of energies."""
        return AnnMacs(layers=self.macs.to_ann().layers, macs_effective=self.macs_effective)

    def to_json(self) -> dict[str, object]:
        """Give what a report says beyond the counts that every baseline has."""
        activity = self.activity
        return {
            "sha256": self.macs.sha256,
            "bindings": dict(self.macs.bindings),
            "precision": "int8" if self.macs.is_integer else "float",
            "int8_nodes": [one.name for one in self.macs.nodes if one.precision == "int8"],
            "samples": 0 if activity is None else activity.samples,
            "samples_from": self.samples or None,
            "macs_effective": self.macs_effective,
            "macs_effective_by_layer": None
            if activity is None
            else {
                name: value / activity.samples for name, value in activity.macs_effective.items()
            },
            "unmeasured": [] if activity is None else list(activity.unmeasured),
            "accuracy": self.accuracy,
            "elementwise_ops": {
                one.name: {"op": one.op, "size": one.size} for one in self.macs.elementwise_ops
            },
        }


def read_baseline(
    path: str | Path,
    *,
    bindings: Mapping[str, int] | None = None,
    network_inputs: NumberArray | None = None,
    samples: NumberArray | None = None,
    labels: npt.NDArray[np.integer] | None = None,
) -> OnnxBaseline:
    """Count an ONNX model and run it on samples.

    Args:
        path: The model. The first dimension of its input is bound to 1 unless said otherwise.
        bindings: Sizes of symbolic dimensions.
        network_inputs: (samples, T, ...) what the spiking network was given. Without `samples`
            the model is given its mean over the steps, if that has the size of its input.
        samples: (samples, ...) what the model is to be given.
        labels: (samples,) class numbers.

    Raises:
        OnnxError: If the model cannot be counted, or not be run on `samples`.
        DataError: If there are not as many labels as samples.
    """
    graph = load_onnx(Path(path), bindings=bindings, bind_batch=True)
    macs = count_graph_macs(graph)
    notes = []
    if macs.uncounted_ops:
        notes.append(
            f"The ANN has operators that are not counted: {', '.join(macs.uncounted_ops)}. Its "
            "MACs and energies are incomplete."
        )
    source = "given for it"
    if samples is None and network_inputs is not None:
        source = "the network's input, mean over its steps"
        shape = next(iter(graph.inputs.values()), ())
        fits = len(graph.inputs) == 1 and prod(network_inputs.shape[2:]) == prod(shape)
        if fits and not macs.uncounted_ops:
            samples = network_inputs.mean(axis=1, dtype=np.float64)
        else:
            notes.append(
                "The ANN's activations were not measured: it "
                + ("has unknown operators." if fits else "reads no input of the network's size.")
                + " Give samples of its own (--ann-input)."
            )
    if samples is None:
        return OnnxBaseline(macs=macs, notes=tuple(notes))
    activity = measure_onnx(graph, macs, samples)
    if activity.unmeasured:
        notes.append(
            f"Of the ANN, {', '.join(activity.unmeasured)} count with every MAC: their sparsity "
            "was not measured."
        )
    return OnnxBaseline(
        macs=macs,
        activity=activity,
        samples=source,
        accuracy=None if labels is None else _accuracy(activity, labels),
        notes=tuple(notes),
    )


def load_samples(path: str | Path) -> tuple[NumberArray, npt.NDArray[np.integer] | None]:
    """Read samples of an ANN: `input`, numbers of any kind, and `label` if it is there.

    Raises:
        DataError: If the file is missing or damaged, does not hold numbers, or labels that are no
            integers.
    """
    values = load_numbers(path, key="input")
    if values.ndim < 2:
        raise DataError(
            f"{path}: 'input' of shape {values.shape}, (samples, ...) is required. Write it with "
            "numpy.savez(path, input=array)."
        )
    labels = load_inputs(path, key="label") if "label" in member_names(Path(path)) else None
    return values, labels


def _accuracy(activity: OnnxActivity, labels: npt.NDArray[np.integer]) -> float:
    scores = activity.outputs.reshape(activity.samples, -1)
    if labels.shape != (activity.samples,):
        raise DataError(
            f"labels: shape {labels.shape}, ({activity.samples},) is required: one a sample."
        )
    return float(np.mean(scores.argmax(axis=1) == labels))
