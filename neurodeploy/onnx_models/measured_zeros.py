"""MACs of an ONNX model that are not multiplications by zero, measured on samples.

`zero_masks` says how the products of two nonzero values are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, OnnxError
from neurodeploy.ir.graphs import AnnMacs
from neurodeploy.onnx_models.macs import OnnxMacs, count_onnx_macs, node_names
from neurodeploy.onnx_models.reading import (
    ONNX,
    inline_functions,
    read_model,
    reading_seconds,
    require_onnx,
    stored_tensors,
)
from neurodeploy.onnx_models.sessions import open_session
from neurodeploy.onnx_models.zero_masks import add_masks
from neurodeploy.samples.array_files import load_inputs, load_numbers, member_names
from neurodeploy.samples.sources import Samples
from neurodeploy.untrusted.boundary import FileKind, guarded
from neurodeploy.untrusted.isolation import run_apart, tell_progress

if TYPE_CHECKING:
    import onnx

_EXTERNAL = FileKind(
    "ONNX", ".onnx", OnnxError, "Put the file with external data beside the model."
)
LARGEST_RUN = 1 << 28
"""Values of one pass, weights included, up to which a model is run."""

_SECONDS_PER_NODE = 1e-3
_SECONDS_PER_VALUE = 2e-7
_SECONDS_PER_MAC = 2e-8
_BYTES_PER_VALUE = 64
"""Bounds of a run: beside each value, masks of it in several types are held."""

_GIVEN_BYTES = 8 * 2**20
"""Samples that are given to the process that runs a model take at most this much at a time, unless
one pass takes more."""

NumberArray = npt.NDArray[np.floating | np.integer | np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxActivity:
    """The zeros of a model on samples, and the classes that it chose.

    Attributes:
        macs_effective: By node, over all samples: products of two values other than zero.
        macs_nonzero: By node, of one sample: MACs through weights other than zero, border exact;
            activations all count.
        unmeasured: Nodes counted with every MAC (border exact): recurrent ones, those inside
            loops and branches, and sums of more than 2^24 products.
        classes: (samples,) int64, places of the largest values of the model's first output.
        by_pass: (passes,) int64, effective MACs of all nodes in each pass.
    """

    samples: int
    macs_effective: Mapping[str, int]
    macs_nonzero: Mapping[str, int]
    unmeasured: tuple[str, ...]
    classes: npt.NDArray[np.int64]
    by_pass: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """Effective MACs of all nodes over all samples."""
        return sum(self.macs_effective.values())

    def accuracy(self, labels: npt.NDArray[np.integer]) -> float:
        """Return the share of the samples whose class is their label's.

        Raises:
            DataError: If there are not as many labels as samples.
        """
        if labels.shape != (self.samples,):
            raise DataError(
                f"labels: shape {labels.shape}, ({self.samples},) is required: one a sample."
            )
        return float(np.mean(self.classes == labels))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxBaseline:
    """An ONNX model that a spiking network is compared with.

    Attributes:
        macs: Its counts for one sample.
        activity: What it did on samples; None if it was not run.
        samples: Where its samples came from, one phrase; empty if it was not run.
        accuracy: Share of the samples whose largest output is their label's; None without labels.
        has_own_input: Whether its samples were given for it, not made from the network's input.
        notes: For whoever reads the report.
    """

    macs: OnnxMacs
    activity: OnnxActivity | None = None
    samples: str = ""
    accuracy: float | None = None
    has_own_input: bool = False
    notes: tuple[str, ...] = ()

    @property
    def macs_effective(self) -> float | None:
        """Mean of a pass: products of two values other than zero; None if not measured."""
        return None if self.activity is None else self.activity.total / self.activity.samples

    def to_ann(self) -> AnnMacs:
        """Return the counts as the baseline of energies."""
        layers = self.macs.to_ann().layers
        if self.activity is not None:
            nonzero = self.activity.macs_nonzero
            layers = tuple(replace(row, macs_nonzero=nonzero[row.name]) for row in layers)
        return AnnMacs(layers=layers, macs_effective=self.macs_effective)

    def to_json(self) -> dict[str, object]:
        """Return what a report says beyond the counts that every baseline has."""
        counts, activity = self.macs.to_json(), self.activity
        by_layer = None
        if activity is not None:
            effective = activity.macs_effective
            by_layer = {name: value / activity.samples for name, value in effective.items()}
        return {
            "sha256": counts["sha256"],
            "bindings": counts["bindings"],
            "precision": "int8" if self.macs.is_integer else "float",
            "int8_nodes": counts["int8_nodes"],
            "samples": 0 if activity is None else activity.samples,
            "samples_from": self.samples or None,
            "macs_effective": self.macs_effective,
            "macs_effective_by_layer": by_layer,
            "unmeasured": [] if activity is None else list(activity.unmeasured),
            "accuracy": self.accuracy,
            "elementwise_ops": counts["elementwise_ops"],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ModelInput:
    """Reads samples for a model, a few at a time: themselves, or their mean over the steps.

    Attributes:
        count: How many there are.
        shape: Of one, without steps.
        steps: That it has; None for samples without.
        read: Returns the samples from a first to before a last one, steps included.
    """

    count: int
    shape: tuple[int, ...]
    steps: int | None
    read: Callable[[int, int], NumberArray]

    @classmethod
    def of(cls, source: NumberArray | Samples, *, has_steps: bool = False) -> _ModelInput:
        read: Callable[[int, int], NumberArray]
        if isinstance(source, np.ndarray):
            count, shape, values = len(source), source.shape[1:], source
            read = lambda first, last: values[first:last]  # noqa: E731 - one line says it
        else:
            assert source.count is not None, "samples that are read twice are known by number"
            count, shape, read = source.count, source.shape, source.read
        steps = shape[0] if has_steps else None
        return cls(count=count, shape=shape[has_steps:], steps=steps, read=read)

    @property
    def sample_bytes(self) -> int:
        """Bound on the memory of one sample while it is read."""
        return 8 * prod(self.shape) * (1 + (self.steps or 0))

    def samples(self, first: int, last: int) -> NumberArray:
        """Return what the model is given."""
        found = self.read(first, last)
        return found if self.steps is None else found.mean(axis=1, dtype=np.float64)


def measure_onnx(
    macs: OnnxMacs, samples: NumberArray, *, progress: Callable[[int, int], None] | None = None
) -> OnnxActivity:
    """Run a model on samples, pass by pass, and count its effective MACs.

    Samples are (samples, ...): each has as many values as a sample of the model's input and is
    given its shape and type. `progress` is called with the passes done and all of them.

    Raises:
        OnnxError: If the model has not one input, samples do not fit it or do not fill its passes,
            it is too large to be run, or onnxruntime refuses it.
    """
    return _measure_in_pieces(macs, _ModelInput.of(samples), progress=progress)


def _measure_in_pieces(
    macs: OnnxMacs, reader: _ModelInput, *, progress: Callable[[int, int], None] | None
) -> OnnxActivity:
    """Run a model on as many samples at a time as are given to the other process at once."""
    require_onnx(f"{macs.path}: measuring activity", "onnxruntime")
    name, shape = _single_input(macs)
    count, size = reader.count, prod(shape) // macs.samples
    if count < 1 or prod(reader.shape) != size:
        raise OnnxError(
            f"{macs.path}: input '{name}' has shape {shape}, the samples "
            f"{(count, *reader.shape)}. Give at least one sample of {size} values."
        )
    if count % macs.samples:
        raise OnnxError(
            f"{macs.path}: a pass takes {macs.samples} samples, and {count} are given. Give "
            f"a multiple of {macs.samples}, or export the model with an open batch."
        )
    at_once = macs.samples * max(1, _GIVEN_BYTES // (reader.sample_bytes * macs.samples))
    pieces: list[OnnxActivity] = []
    for first in range(0, count, at_once):

        def advance(done: int, total: int, *, before: int = first // macs.samples) -> None:
            if progress is not None:
                progress(before + done, count // macs.samples)

        samples = reader.samples(first, min(first + at_once, count))
        pieces.append(_run_passes(macs, samples, progress=advance))
    return replace(
        pieces[0],
        samples=count,
        macs_effective={
            node: sum(piece.macs_effective[node] for piece in pieces)
            for node in pieces[0].macs_effective
        },
        classes=np.concatenate([piece.classes for piece in pieces]),
        by_pass=np.concatenate([piece.by_pass for piece in pieces]),
    )


def _run_passes(
    macs: OnnxMacs, samples: NumberArray, *, progress: Callable[[int, int], None]
) -> OnnxActivity:
    """Run a model on samples that fit it, in the other process."""
    values = sum(node.weights + node.inputs + node.outputs for node in macs.nodes)
    values += sum(entry.size or 0 for entry in macs.elementwise_ops) + macs.stored
    if values > LARGEST_RUN:
        raise OnnxError(
            f"{macs.path}: a pass has {values} values, up to {LARGEST_RUN} are run. Its MACs can "
            "be counted without running it: neurodeploy macs."
        )
    return run_apart(
        _measure,
        Path(macs.path),
        macs,
        samples,
        kind=ONNX,
        more_seconds=reading_seconds(Path(macs.path))
        + len(samples)
        * (
            _SECONDS_PER_NODE * (len(macs.nodes) + len(macs.elementwise_ops))
            + _SECONDS_PER_VALUE * values
            + _SECONDS_PER_MAC * macs.macs_standard
        ),
        more_memory=_BYTES_PER_VALUE * values,
        progress=progress,
    )


def _measure(path: Path, macs: OnnxMacs, samples: NumberArray) -> OnnxActivity:
    """Run a model in this process."""
    import onnx
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    name, shape = _single_input(macs)
    passes = len(samples) // macs.samples
    model = _whole_model(path)
    measured = add_masks(model, macs)
    _require_finite(model, measured, path)
    by_weights = [f"{name}_weights" for name in measured.values()]
    kind = next(one.type.tensor_type.elem_type for one in model.graph.input if one.name == name)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    totals = dict.fromkeys(measured, 0)
    nonzero: dict[str, int] = {}
    classes, by_pass = [], []
    refusals = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented)
    try:
        session = open_session(model)
        for done, group in enumerate(np.split(samples, passes), 1):
            entry = {name: np.asarray(group, dtype=dtype).reshape(shape)}
            if by_weights and not nonzero:  # an empty list would ask for all outputs
                sums = session.run(by_weights, entry)
                nonzero = dict(zip(measured, map(int, sums), strict=True))
            first, *sums = session.run([model.graph.output[0].name, *measured.values()], entry)
            classes.append(np.asarray(first).reshape(macs.samples, -1).argmax(axis=1))
            for node, effective in zip(measured, sums, strict=True):
                totals[node] += int(effective)
            by_pass.append(sum(map(int, sums)))
            tell_progress(done, passes)
    except (*refusals, state.RuntimeException) as error:
        raise OnnxError(
            f"{path}: onnxruntime cannot run it ({' '.join(str(error).split())[:300]}). "
            "Check the model."
        ) from error
    rest = {node.name: node.macs_border_exact for node in macs.nodes if node.name not in measured}
    effective_macs = totals | {name: count * passes for name, count in rest.items()}
    return OnnxActivity(
        samples=len(samples),
        macs_effective={node.name: effective_macs[node.name] for node in macs.nodes},
        macs_nonzero={name: macs.share(count) for name, count in (nonzero | rest).items()},
        unmeasured=tuple(rest),
        classes=np.concatenate(classes),
        by_pass=np.array(by_pass, np.int64) + sum(rest.values()),
    )


def _single_input(macs: OnnxMacs) -> tuple[str, tuple[int, ...]]:
    if len(macs.inputs) != 1:
        raise OnnxError(
            f"{macs.path}: {len(macs.inputs)} inputs ({', '.join(macs.inputs) or 'none'}), "
            "exactly one is required to run it on samples. Its MACs can be counted without: "
            "neurodeploy macs."
        )
    return next(iter(macs.inputs.items()))


def _whole_model(path: Path) -> onnx.ModelProto:
    """Read a model with all its weights, functions inlined as they were for counting."""
    import onnx

    model, _ = read_model(path)
    folder = path.parent.resolve()
    for tensor in stored_tensors(model.graph):
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if tensor.data_location == onnx.TensorProto.EXTERNAL and not all(
            (folder / place).resolve().is_relative_to(folder) for place in places
        ):
            raise OnnxError(
                f"{path}: '{tensor.name}' is stored in {places[0][:200]!r}, outside the model's "
                "folder, which is not read. Put the file with external data beside the model."
            )
    with guarded(f"{path}: its weights", _EXTERNAL):
        onnx.load_external_data_for_model(model, str(folder))
    return inline_functions(model, path)


def _require_finite(model: onnx.ModelProto, names: Collection[str], path: Path) -> None:
    """Refuse a weight of these nodes that holds NaN or infinity."""
    import onnx

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node, name in zip(model.graph.node, node_names(model.graph), strict=True):
        for weight in node.input if name in names else ():
            if weight in stored:
                values = onnx.numpy_helper.to_array(stored[weight])
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    raise OnnxError(
                        f"{path}: '{weight}' of node '{name}' holds numbers that are not finite. "
                        "Train or export the model again."
                    )


def read_baseline(
    path: str | Path,
    *,
    bindings: Mapping[str, int] | None = None,
    network_inputs: NumberArray | Samples | None = None,
    has_steps: bool = True,
    samples: NumberArray | None = None,
    labels: npt.NDArray[np.integer] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> OnnxBaseline:
    """Count an ONNX model and run it on samples.

    Args:
        path: The model. The first dimension of its input is bound to 1 unless said otherwise.
        bindings: Sizes of symbolic dimensions.
        network_inputs: (samples, T, ...) what the spiking network was given. Without `samples`
            the model is given its mean over the steps, if that has the size of its input.
        has_steps: Whether it has the axis of the steps, T.
        samples: (samples, ...) what the model is to be given.
        labels: (samples,) class numbers.
        progress: Called with the passes done and all of them.

    Raises:
        OnnxError: If the model cannot be counted, or not be run on `samples`.
        DataError: If there are not as many labels as samples.
    """
    macs = count_onnx_macs(path, bindings=bindings, bind_batch=True)
    notes = []
    if macs.samples > 1:
        notes.append(
            f"A pass of the ANN takes {macs.samples} samples; its counts are those of one sample."
        )
    if macs.uncounted_ops:
        notes.append(
            f"The ANN has operators that are not counted: {', '.join(macs.uncounted_ops)}. Its "
            "MACs and energies are incomplete."
        )
    source, has_own_input = "given for it", samples is not None
    reader = None if samples is None else _ModelInput.of(samples)
    if samples is None and network_inputs is not None:
        source = "the network's input, mean over its steps"
        inputs = _ModelInput.of(network_inputs, has_steps=has_steps)
        given, size = inputs.count, sum(prod(one) for one in macs.inputs.values()) // macs.samples
        fits = len(macs.inputs) == 1 and prod(inputs.shape) == size
        whole = given - given % macs.samples
        if fits and whole and not macs.uncounted_ops:
            reader = replace(inputs, count=whole)
            if whole < given:
                notes.append(f"The ANN was measured on the first {whole} samples: whole passes.")
        elif fits and not whole:
            notes.append(
                f"The ANN's activations were not measured: a pass takes {macs.samples} samples, "
                f"and there are {given}. Give more of them, or export the model with an open batch."
            )
        else:
            reason = "has unknown operators." if fits else "reads no input of the network's size."
            notes.append(
                f"The ANN's activations were not measured: it {reason} Give samples of its own "
                "(--ann-input)."
            )
    if reader is None:
        return OnnxBaseline(macs=macs.per_sample(), notes=tuple(notes))
    activity = _measure_in_pieces(macs, reader, progress=progress)
    if activity.unmeasured:
        notes.append(
            f"Of the ANN, {', '.join(activity.unmeasured)} count with every MAC: their sparsity "
            "was not measured."
        )
    return OnnxBaseline(
        macs=macs.per_sample(),
        activity=activity,
        samples=source,
        has_own_input=has_own_input,
        accuracy=None if labels is None else activity.accuracy(labels),
        notes=tuple(notes),
    )


def units_note(network_inputs: NumberArray | Samples) -> list[str]:
    """Return a note on the units that an ANN of the user's is fed, unless they are spikes."""
    first = _ModelInput.of(network_inputs).samples(0, 1)
    low, high = float(first.min(initial=0)), float(first.max(initial=0))
    if low >= -1 and high <= 1:
        return []
    return [
        f"The ANN read the network's own integers, from {low:g} to {high:g} in the first sample. "
        "If it expects other units, such as 0 to 1, give it the same samples in those "
        "(--ann-input)."
    ]


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
