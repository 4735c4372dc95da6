"""ONNX models as networks of rectified layers, and all that stands in the way."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neurodeploy.errors import OnnxError
from neurodeploy.onnx_models.rectified_network import examine_model, read_rectified_network

pytest.importorskip("onnxruntime")


class Gated(nn.Module):
    """A squeeze-and-excitation gate between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        x = x * self.gate(x)
        return self.last(x.view(x.size(0), -1))


def export(module: nn.Module, path: Path, *, has_open_batch: bool = False) -> Path:
    axes = {"x": {0: "batch"}} if has_open_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the new exporter needs onnxscript
        torch.onnx.export(
            module.eval(), (torch.zeros(1, 1, 8, 8),), path,
            dynamo=False, input_names=["x"], dynamic_axes=axes,
        )  # fmt: skip
    return path


def test_a_gate_is_named_and_left_out(tmp_path: Path) -> None:
    path = export(Gated(), tmp_path / "gated.onnx")
    examined = examine_model(path)
    assert [one.operator for one in examined.obstacles] == ["Sigmoid", "Mul"]
    assert examined.network is not None
    # a rectifier stands where the gate multiplied, and the branch that led to it is gone
    kinds = [type(layer).__name__ for layer in examined.network.graph.nodes.values()]
    assert kinds == ["Input", "Conv", "Rectifier", "Rectifier", "Flatten", "Dense"]
    with pytest.raises(OnnxError, match="Sigmoid") as refusal:
        read_rectified_network(path)
    assert refusal.value.obstacles == examined.obstacles


def test_sizes_that_are_computed_are_no_layers(tmp_path: Path) -> None:
    class Reshaped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x).relu()
            return self.last(x.view(x.size(0), -1))

    module = Reshaped()
    path = export(module, tmp_path / "open.onnx", has_open_batch=True)
    graph = read_rectified_network(path).graph
    assert [type(layer).__name__ for layer in graph.nodes.values()] == [
        "Input", "Conv", "Rectifier", "Flatten", "Dense",
    ]  # fmt: skip
    weight = module.last.weight.detach().double().numpy()
    np.testing.assert_array_equal(list(graph.nodes.values())[-1].weight, weight)  # type: ignore[union-attr]


def test_several_inputs_and_outputs_are_obstacles_as_well(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(one, TensorProto.FLOAT, (1, 2)) for one in "xyabc"]
    nodes = [
        helper.make_node("Add", ["x", "y"], ["a"], "add"),
        helper.make_node("Tanh", ["x"], ["b"], "tanh"),
        helper.make_node("Tanh", ["y"], ["c"], "other"),
    ]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "many.onnx")
    examined = examine_model(tmp_path / "many.onnx")
    assert examined.network is None
    assert [(one.node, one.reason.partition(";")[0]) for one in examined.obstacles] == [
        ("", "2 inputs (x, y)"),
        ("tanh", "Sigma-delta neurons rectify: retrain with ReLU."),
        ("other", "Sigma-delta neurons rectify: retrain with ReLU."),
        ("", "3 outputs (a, b, c)"),
    ]
