"""Read an ONNX model as a `Graph` of convolutions, linear layers, pools and rectifiers.

Every node that has no place in such a network is named in one error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurodeploy.errors import Obstacle, OnnxError, list_obstacles
from neurodeploy.fixedpoint import FloatArray
from neurodeploy.ir.float_layers import Layer
from neurodeploy.ir.graphs import Graph
from neurodeploy.onnx_models.macs import node_names
from neurodeploy.onnx_models.reading import (
    ONNX,
    load_onnx,
    read_model,
    reading_seconds,
    require_onnx,
)
from neurodeploy.onnx_models.rectified_nodes import NodeReading, find_hopeless
from neurodeploy.onnx_models.sessions import open_session
from neurodeploy.untrusted.isolation import run_apart

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RectifiedNetwork:
    """The network of a model.

    Attributes:
        graph: Its layers by the names of their nodes.
        sha256: Of the file.
        before: What the host does to frames first: (operator, constant).
        after: Operators that the host applies to the results.
    """

    graph: Graph
    sha256: str
    before: tuple[tuple[str, FloatArray], ...]
    after: tuple[str, ...]

    def prepare(self, frames: FloatArray) -> FloatArray:
        """Return frames as the first layer reads them."""
        for operator, constant in self.before:
            match operator:
                case "Add":
                    frames = frames + constant
                case "Sub":
                    frames = frames - constant
                case "Mul":
                    frames = frames * constant
                case "Div":
                    frames = frames / constant
        return frames


@dataclass(frozen=True, slots=True, eq=False)
class ExaminedModel:
    """A model and all that stands in its way.

    Attributes:
        network: The network; with obstacles, the one that is left if rectifiers take their places,
            or None where that makes none.
        obstacles: Nodes without a place in a network of rectified layers.
    """

    network: RectifiedNetwork | None
    obstacles: tuple[Obstacle, ...]


def examine_model(path: str | Path, *, bindings: Mapping[str, int] | None = None) -> ExaminedModel:
    """Read a model in a process of its own, whatever its nodes are.

    Args:
        path: ONNX file; weights in files beside it are not read.
        bindings: Sizes of symbolic dimensions; that of the batch is 1.

    Raises:
        OnnxError: If the file is damaged, or a size is open.
    """
    path = Path(path)
    require_onnx(str(path), "onnxruntime")
    nodes, edges, sha256, before, after, obstacles = run_apart(
        _read, path, dict(bindings or {}), kind=ONNX, more_seconds=reading_seconds(path)
    )
    if not nodes:
        return ExaminedModel(None, obstacles)
    graph = Graph(nodes=nodes, edges=edges)
    network = RectifiedNetwork(graph=graph, sha256=sha256, before=before, after=after)
    return ExaminedModel(network, obstacles)


def read_rectified_network(
    path: str | Path, *, bindings: Mapping[str, int] | None = None
) -> RectifiedNetwork:
    """Return the network of `examine_model`.

    Raises:
        OnnxError: As there; and if a node has no place in a network of rectified layers, all such
            nodes are named.
    """
    examined = examine_model(path, bindings=bindings)
    if examined.obstacles:
        raise list_obstacles(OnnxError, f"{path}: ", examined.obstacles)
    assert examined.network is not None
    return examined.network


def run_reference(path: Path, frames: FloatArray, bindings: Mapping[str, int]) -> FloatArray:
    """Return what onnxruntime gives for frames (n, ...), in a process of its own.

    Raises:
        OnnxError: If onnxruntime cannot run the model.
    """
    seconds = reading_seconds(path) + 60.0
    return run_apart(_run, path, frames, dict(bindings), kind=ONNX, more_seconds=seconds)


def _run(path: Path, frames: FloatArray, bindings: dict[str, int]) -> FloatArray:
    loaded = load_onnx(path, bindings=bindings, bind_batch=True)
    ((name, shape),) = loaded.inputs.items()
    model, _ = read_model(path)
    session = open_session(model)
    results = []
    for frame in frames.astype(np.float32):
        (result,) = session.run(None, {name: frame.reshape(shape)})
        results.append(np.asarray(result, np.float64).reshape(-1))
    return np.stack(results)


_Answer = tuple[
    dict[str, Layer],
    tuple[tuple[str, str], ...],
    str,
    tuple[tuple[str, FloatArray], ...],
    tuple[str, ...],
    tuple[Obstacle, ...],
]


def _read(path: Path, bindings: dict[str, int]) -> _Answer:
    model, _ = read_model(path)
    try:
        loaded = load_onnx(path, bindings=bindings, bind_batch=True)
    except OnnxError as error:  # an open size must not hide what no size would help
        hopeless = find_hopeless(model.graph)
        if hopeless:
            sizes = Obstacle("", "", str(error).removeprefix(f"{path}: "))
            raise list_obstacles(OnnxError, f"{path}: ", [*hopeless, sizes]) from error
        raise
    if not loaded.inputs:
        raise OnnxError(f"{path}: no input; one is required.")
    reading = NodeReading(loaded.model.graph, loaded.scope, _weights_of(model, path))
    (name, shape), *others = loaded.inputs.items()
    reading.begin(name, shape, path)
    if others:
        reading.held |= {other: None for other, _ in others}
        text = f"{len(loaded.inputs)} inputs ({', '.join(loaded.inputs)}); one is required."
        reading.obstacles.append(Obstacle("", "", text))
    for label, node in zip(node_names(loaded.model.graph), loaded.model.graph.node, strict=True):
        reading.take(label, node)
    ends = [output.name for output in loaded.model.graph.output]
    if len(ends) != 1:
        text = f"{len(ends)} outputs ({', '.join(ends)}); one is required."
        reading.obstacles.append(Obstacle("", "", text))
    end = reading.held.get(ends[0]) if len(ends) == 1 else None
    if end is None:
        return {}, (), loaded.sha256, (), (), tuple(reading.obstacles)
    graph = Graph(nodes=reading.nodes, edges=tuple(reading.edges))
    if reading.obstacles:  # a gate that is left out leaves a branch that leads nowhere
        graph = graph.up_to(end)
    return (
        dict(graph.nodes),
        graph.edges,
        loaded.sha256,
        tuple(reading.before),
        tuple(reading.after),
        tuple(reading.obstacles),
    )


def _weights_of(model: onnx.ModelProto, path: Path) -> dict[str, FloatArray]:
    import onnx

    weights = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise OnnxError(
                f"{path}: '{tensor.name}' is stored in another file, which is not read. Save the "
                "model in one file (onnx.save_model without save_as_external_data)."
            )
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype.kind in "biuf":
            weights[tensor.name] = value.astype(np.float64)
    return weights
