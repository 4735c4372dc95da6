"""MACs of an ONNX model that are not multiplications by zero, measured on samples.

Beside every node that multiplies, the same operator is run on masks: 1 where an operand is not
zero, 0 where it is. The sum of its outputs is the number of products of two nonzero values. That
holds for any geometry, and for weights and activations alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from neurodeploy.errors import DataError, OnnxError
from neurodeploy.ir.graphs import AnnMacs
from neurodeploy.onnx_models.isolation import run_apart
from neurodeploy.onnx_models.macs import OnnxMacs, count_onnx_macs, node_names
from neurodeploy.onnx_models.operators import OPERANDS, operator_key
from neurodeploy.onnx_models.reading import inline_functions, require_onnx
from neurodeploy.samples.array_files import load_inputs, load_numbers, member_names

if TYPE_CHECKING:
    import onnx

LARGEST_RUN = 1 << 28
"""Values of one pass, weights included, up to which a model is run."""

_SECONDS_PER_MAC = 2e-8
_BYTES_PER_VALUE = 64
"""Bounds of a run: beside each value, masks of it in several types are held."""

_EXACT_IN_FLOAT32 = 1 << 24
"""Products added up in one output beyond which float32 masks would round."""

_FLOAT, _INT64, _BOOL, _DOUBLE = 1, 7, 9, 11
"""ONNX's numbers of these types (`TensorProto.DataType`)."""

_ZERO_POINTS: Mapping[str, tuple[int, int]] = {
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "QLinearConv": (2, 5),
    "QLinearMatMul": (2, 5),
}
"""Positions of the zero points of the two operands."""

_RUN_AS: Mapping[str, str] = {
    "Conv": "Conv",
    "ConvInteger": "Conv",
    "QLinearConv": "Conv",
    "ConvTranspose": "ConvTranspose",
    "Gemm": "MatMul",
    "MatMul": "MatMul",
    "MatMulInteger": "MatMul",
    "QLinearMatMul": "MatMul",
    "Einsum": "Einsum",
}
"""Operators that have a counterpart on masks, and which."""

NumberArray = npt.NDArray[np.floating | np.integer | np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxActivity:
    """The zeros of a model on samples, and its outputs.

    Attributes:
        samples: Number of samples.
        macs_effective: By node, over all samples: products of two values other than zero.
        macs_nonzero: By node, of one sample: MACs through weights other than zero, border exact;
            activations all count.
        unmeasured: Nodes counted with every MAC (border exact): recurrent ones, those inside
            loops and branches, and sums of more than 2^24 products.
        outputs: (samples, ...) the model's first output.
    """

    samples: int
    macs_effective: Mapping[str, int]
    macs_nonzero: Mapping[str, int]
    unmeasured: tuple[str, ...]
    outputs: npt.NDArray[np.floating]

    @property
    def total(self) -> int:
        """Effective MACs of all nodes over all samples."""
        return sum(self.macs_effective.values())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxBaseline:
    """An ONNX model that a spiking network is compared with.

    Attributes:
        macs: Its counts for one sample.
        activity: What it did on samples; None if it was not run.
        samples: Where its samples came from, one phrase; empty if it was not run.
        accuracy: Share of the samples whose largest output is their label's; None without labels.
        has_own_input: Whether its samples were given for it, not made from the network's input.
        notes: Sentences for whoever reads the report.
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


def measure_onnx(macs: OnnxMacs, samples: NumberArray) -> OnnxActivity:
    """Run a model on samples, pass by pass, and count its effective MACs.

    Args:
        macs: The counts of the model.
        samples: (samples, ...); each has as many values as a sample of the model's input and is
            given its shape and type.

    Raises:
        OnnxError: If the model has not one input, samples do not fit it or do not fill its passes,
            it is too large to be run, or onnxruntime refuses it.
    """
    require_onnx(f"{macs.path}: measuring activity", "onnxruntime")
    name, shape = _single_input(macs)
    size = prod(shape) // macs.samples
    if len(samples) < 1 or prod(samples.shape[1:]) != size:
        raise OnnxError(
            f"{macs.path}: input '{name}' has shape {shape}, the samples {samples.shape}. Give "
            f"at least one sample of {size} values."
        )
    if len(samples) % macs.samples:
        raise OnnxError(
            f"{macs.path}: a pass takes {macs.samples} samples, and {len(samples)} are given. Give "
            f"a multiple of {macs.samples}, or export the model with an open batch."
        )
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
        more_seconds=60 + _SECONDS_PER_MAC * macs.macs_standard * len(samples),
        more_memory=_BYTES_PER_VALUE * values,
    )


def _measure(path: Path, macs: OnnxMacs, samples: NumberArray) -> OnnxActivity:
    """Run a model in this process."""
    import onnx
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import (
        Fail,
        InvalidArgument,
        InvalidGraph,
        NotImplemented as NotRunnable,
        RuntimeException,
    )

    name, shape = _single_input(macs)
    passes = len(samples) // macs.samples
    model = _whole_model(path)
    measured = _add_masks(model, macs)
    by_weights = [f"{name}_weights" for name in measured.values()]
    refusals = (Fail, InvalidArgument, InvalidGraph, NotRunnable, RuntimeException)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        kind = next(one.type.tensor_type.elem_type for one in model.graph.input if one.name == name)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        totals = dict.fromkeys(measured, 0)
        entry = {name: np.asarray(samples[: macs.samples], dtype=dtype).reshape(shape)}
        nonzero = {}
        if by_weights:  # an empty list would ask for all outputs
            sums = session.run(by_weights, entry)
            nonzero = dict(zip(measured, map(int, sums), strict=True))
        outputs = []
        for group in np.split(samples, passes):
            first, *sums = session.run(
                [model.graph.output[0].name, *measured.values()],
                {name: np.asarray(group, dtype=dtype).reshape(shape)},
            )
            outputs.append(np.asarray(first, dtype=np.float64))
            for node, effective in zip(measured, sums, strict=True):
                totals[node] += int(effective)
    except refusals as error:
        raise OnnxError(
            f"{path}: onnxruntime cannot run it ({' '.join(str(error).split())[:300]}). "
            "Check the model."
        ) from error
    rest = {node.name: node.macs_border_exact for node in macs.nodes if node.name not in measured}
    return OnnxActivity(
        samples=len(samples),
        macs_effective={
            node.name: totals.get(node.name, rest.get(node.name, 0) * passes) for node in macs.nodes
        },
        macs_nonzero={name: macs.share(count) for name, count in (nonzero | rest).items()},
        unmeasured=tuple(rest),
        outputs=np.stack(outputs) if macs.samples == 1 else np.concatenate(outputs),
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

    try:
        model = onnx.load(str(path))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise OnnxError(
            f"{path}: its weights cannot be read ({' '.join(str(error).split())[:300]}). Put the "
            "file with external data beside it."
        ) from error
    return inline_functions(model, path)


def _add_masks(model: onnx.ModelProto, macs: OnnxMacs) -> dict[str, str]:
    """Add, for every node that can be measured, an output with its effective MACs.

    A second output, called the same with "_weights", takes activations as other than zero.

    Returns:
        Name of the added output by name of the node.
    """
    from onnx import helper

    counted = {node.name: node for node in macs.nodes}
    constant = {entry.name for entry in model.graph.initializer} | {""}
    added: list[onnx.NodeProto] = []
    outputs: list[str] = []
    measured: dict[str, str] = {}
    for number, (node, name) in enumerate(
        zip(model.graph.node, node_names(model.graph), strict=True)
    ):
        if constant.issuperset(node.input):
            constant.update(node.output)
        found = counted.get(name)
        if found is None or operator_key(node) not in _RUN_AS or not found.macs_standard:
            continue
        if found.macs_standard // max(found.outputs, 1) >= _EXACT_IN_FLOAT32:
            continue
        measured[name] = f"neurodeploy_{number}_effective"
        for suffix, ones in (("", frozenset()), ("_weights", frozenset(node.input) - constant)):
            nodes, result = _mask_nodes(node, prefix=f"neurodeploy_{number}{suffix}", ones=ones)
            total = f"{measured[name]}{suffix}"
            nodes.append(helper.make_node("Cast", [result], [f"{result}_double"], to=_DOUBLE))
            nodes.append(helper.make_node("ReduceSum", [f"{result}_double"], [total], keepdims=0))
            added += nodes
            outputs.append(total)
    model.graph.node.extend(added)
    model.graph.output.extend(helper.make_tensor_value_info(name, _DOUBLE, []) for name in outputs)
    return measured


def _mask_nodes(
    node: onnx.NodeProto, *, prefix: str, ones: frozenset[str]
) -> tuple[list[onnx.NodeProto], str]:
    """Return the nodes that run an operator on masks, and the name of their result.

    The mask of an operand in `ones` is 1 everywhere.
    """
    from onnx import helper

    positions = range(len(node.input)) if node.op_type == "Einsum" else OPERANDS[node.op_type]
    zero_points = _ZERO_POINTS.get(node.op_type, ())
    options = {one.name: one for one in node.attribute}
    nodes: list[onnx.NodeProto] = []
    masks = []
    for side, position in enumerate(positions):
        value, mask = node.input[position], f"{prefix}_mask{side}"
        point = node.input[zero_points[side]] if _has(node, zero_points, side) else ""
        if point:
            nodes += _centered(value, point, mask, is_conv="Conv" in node.op_type, side=side)
            value = f"{mask}_centered"
        if node.input[position] in ones:
            one = helper.make_tensor("", _FLOAT, [1], [1.0])
            nodes.append(helper.make_node("Shape", [value], [f"{mask}_size"]))
            nodes.append(helper.make_node("ConstantOfShape", [f"{mask}_size"], [mask], value=one))
        else:
            nodes.append(helper.make_node("Cast", [value], [f"{mask}_bool"], to=_BOOL))
            nodes.append(helper.make_node("Cast", [f"{mask}_bool"], [mask], to=_FLOAT))
        turned = options.get("transA" if side == 0 else "transB")
        if node.op_type == "Gemm" and turned is not None and turned.i:
            nodes.append(helper.make_node("Transpose", [mask], [f"{mask}_t"], perm=[1, 0]))
            mask = f"{mask}_t"
        masks.append(mask)
    result = f"{prefix}_products"
    copy = helper.make_node(_RUN_AS[node.op_type], masks, [result])
    if copy.op_type != "MatMul":
        copy.attribute.extend(node.attribute)
    nodes.append(copy)
    return nodes, result


def _has(node: onnx.NodeProto, positions: tuple[int, ...], side: int) -> bool:
    return len(positions) > side and len(node.input) > positions[side]


def _centered(
    value: str, point: str, mask: str, *, is_conv: bool, side: int
) -> list[onnx.NodeProto]:
    """Return the nodes that take the zero point off an integer operand.

    One of several values belongs to an output channel of a convolution's weight, a row of a
    product's left side or a column of its right side.
    """
    from onnx import helper

    nodes = [
        helper.make_node("Cast", [value], [f"{mask}_value"], to=_FLOAT),
        helper.make_node("Cast", [point], [f"{mask}_point"], to=_FLOAT),
    ]
    shift = f"{mask}_point"
    if is_conv and side == 1:
        nodes += [
            helper.make_node(
                "Constant", [], [f"{mask}_shape"], value=helper.make_tensor("", _INT64, [1], [-1])
            ),
            helper.make_node("Reshape", [shift, f"{mask}_shape"], [f"{mask}_flat"]),
            helper.make_node("Transpose", [f"{mask}_value"], [f"{mask}_last"]),
            helper.make_node("Sub", [f"{mask}_last", f"{mask}_flat"], [f"{mask}_moved"]),
            helper.make_node("Transpose", [f"{mask}_moved"], [f"{mask}_centered"]),
        ]
        return nodes
    if not is_conv and side == 0:
        nodes += [
            helper.make_node(
                "Constant",
                [],
                [f"{mask}_shape"],
                value=helper.make_tensor("", _INT64, [2], [-1, 1]),
            ),
            helper.make_node("Reshape", [shift, f"{mask}_shape"], [f"{mask}_rows"]),
        ]
        shift = f"{mask}_rows"
    nodes.append(helper.make_node("Sub", [f"{mask}_value", shift], [f"{mask}_centered"]))
    return nodes


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
    if samples is None and network_inputs is not None:
        source = "the network's input, mean over its steps"
        size = sum(prod(shape) for shape in macs.inputs.values()) // macs.samples
        fits = len(macs.inputs) == 1 and prod(network_inputs.shape[2:]) == size
        whole = len(network_inputs) - len(network_inputs) % macs.samples
        if fits and whole and not macs.uncounted_ops:
            samples = network_inputs[:whole].mean(axis=1, dtype=np.float64)
            if whole < len(network_inputs):
                notes.append(f"The ANN was measured on the first {whole} samples: whole passes.")
        elif fits and not whole:
            notes.append(
                f"The ANN's activations were not measured: a pass takes {macs.samples} samples, "
                f"and there are {len(network_inputs)}. Give more of them, or export the model "
                "with an open batch."
            )
        else:
            notes.append(
                "The ANN's activations were not measured: it "
                + ("has unknown operators." if fits else "reads no input of the network's size.")
                + " Give samples of its own (--ann-input)."
            )
    if samples is None:
        return OnnxBaseline(macs=macs.per_sample(), notes=tuple(notes))
    activity = measure_onnx(macs, samples)
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
