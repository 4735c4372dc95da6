"""Torch's functions and methods become the layers that an ONNX export of them becomes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from neurodeploy.conversion.chaining import lower_rectified
from neurodeploy.conversion.module_tracing import examine_module, trace_rectified
from neurodeploy.errors import TraceError
from neurodeploy.onnx_models.rectified_network import read_rectified_network

SHAPE = (4, 8, 8)
Step = Callable[["Steps", torch.Tensor], torch.Tensor]
SAME: dict[str, Step] = {
    "relu": lambda net, x: functional.relu(torch.relu(x).relu()),
    "relu6": lambda net, x: functional.relu6(x),
    "clamp": lambda net, x: torch.clamp(x, 0, 3.0).clamp(min=0),
    "hardtanh": lambda net, x: functional.hardtanh(x, 0.0, 2.0),
    "leaky_relu": lambda net, x: functional.leaky_relu(functional.leaky_relu(x, 0.2)),
    "prelu": lambda net, x: functional.prelu(x, net.slope),
    "avg_pool2d": lambda net, x: functional.avg_pool2d(x, 2),
    "avg_pool2d, padded": lambda net, x: functional.avg_pool2d(x, 3, 2, padding=1),
    "max_pool2d": lambda net, x: functional.max_pool2d(functional.relu(x), 2, stride=2),
    "max_pool2d, overlapping": lambda net, x: functional.max_pool2d(
        functional.relu(x), (2, 1), stride=(1, 1)
    ),
    "adaptive_avg_pool2d": lambda net, x: functional.adaptive_avg_pool2d(x, (2, 4)),
    "mean": lambda net, x: x.mean((2, 3), keepdim=True),
    "torch.mean": lambda net, x: torch.mean(x, dim=[-1, -2], keepdim=True),
    "add": lambda net, x: torch.add(x, functional.relu(x)).add(x),
    "add twice": lambda net, x: x + x,
    "iadd": lambda net, x: net.iadd(x),
    "conv2d": lambda net, x: functional.conv2d(x, net.kernel, net.shift, 2, padding=1),
    "conv2d, grouped": lambda net, x: functional.conv2d(
        x, net.kernel[:, :1], dilation=(2, 1), groups=4
    ),
    "batch_norm": lambda net, x: functional.batch_norm(
        functional.conv2d(x, net.kernel), net.mean, net.variance, net.slope, net.shift, eps=1e-3
    ),
    "batch norm on its own": lambda net, x: functional.batch_norm(
        functional.relu(x), net.mean, net.variance
    ),
    "dropout": lambda net, x: functional.dropout(x, 0.5, training=net.training),
    "identity": lambda net, x: nn.functional.dropout2d(x.contiguous(), training=net.training),
}


class Steps(nn.Module):
    """One step between a convolution and a linear layer of parameters."""

    def __init__(self, step: Step, features: int) -> None:
        super().__init__()
        self.step = step
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randn(4, 4, 1, 1, generator=generator))
        self.kernel = nn.Parameter(torch.randn(4, 4, 3, 3, generator=generator))
        self.shift = nn.Parameter(torch.randn(4, generator=generator))
        self.slope = nn.Parameter(torch.rand(4, generator=generator))
        self.mean = nn.Buffer(torch.randn(4, generator=generator))
        self.variance = nn.Buffer(torch.rand(4, generator=generator) + 0.5)
        self.matrix = nn.Parameter(torch.randn(3, features, generator=generator))

    def iadd(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(x)
        y += x
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.conv2d(x, self.first, self.shift)
        x = functional.relu(self.step(self, x))
        return functional.linear(x.view(x.size(0), -1), self.matrix)


def module_of(step: Step) -> Steps:
    features = step(Steps(step, 1).eval(), torch.zeros(1, *SHAPE)).numel()
    return Steps(step, features).eval()


@pytest.mark.parametrize("name", SAME)
def test_function_becomes_what_its_export_becomes(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    module = module_of(SAME[name])
    frames = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)) * 4 - 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the new exporter needs onnxscript
        torch.onnx.export(module, (frames[:1],), tmp_path / "model.onnx", dynamo=False)
    with torch.no_grad():
        expected = module(frames).double().numpy()
    own = lower_rectified(trace_rectified(module, SHAPE), is_signed=True)
    exported = lower_rectified(
        read_rectified_network(tmp_path / "model.onnx").graph, is_signed=True
    )
    assert [layer.shape for layer in own.layers] == [layer.shape for layer in exported.layers]
    for chain in (own, exported):
        found = chain.run(frames.double().numpy())
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


REFUSED: dict[str, tuple[Step, str]] = {
    "cat": (lambda net, x: torch.cat([x, x], 1), r"\(cat\): Add branches in place of joining"),
    "mul": (lambda net, x: x * torch.relu(x), r"mul \(mul\): Two activations cannot be multiplied"),
    "silu": (lambda net, x: functional.silu(x), r"silu \(silu\): .*retrain with ReLU"),
    "constant": (lambda net, x: x + 1, r"add \(add\): adds a constant"),
    "alpha": (lambda net, x: torch.add(x, torch.relu(x), alpha=2), r"scales a term \(alpha\)"),
    "mean": (lambda net, x: x.mean((1, 2)), r"takes the mean over axes \[1, 2\]"),
    "divisor": (lambda net, x: functional.avg_pool2d(x, 2, divisor_override=3), "divides by anoth"),
    "weights": (
        lambda net, x: functional.conv2d(x, net.kernel * 2 + x.sum()),
        "hangs on the frame",
    ),
    "statistics": (
        lambda net, x: functional.batch_norm(x, net.mean, net.variance, training=True),
        "takes statistics of the frame",
    ),
    "dropout": (lambda net, x: functional.dropout(x, 0.5), "drops values in use as well"),
    "tuple": (lambda net, x: torch.split(x, 2, 1)[0], r"split \(split\): has no place"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_functions(name: str) -> None:
    step, reason = REFUSED[name]
    with pytest.raises(TraceError, match=reason):
        trace_rectified(module_of(step), SHAPE)


def test_obstacles_behind_each_other_are_all_named() -> None:
    module = nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.Tanh(),
        nn.MaxPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3), nn.GELU(),
        nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    examined = examine_module(module.append(nn.Softmax(1)), (4, 7, 7))
    assert [(one.node, one.operator) for one in examined.obstacles] == [
        ("1", "SiLU"), ("3", "Tanh"), ("4", "MaxPool2d"), ("5", "Upsample"), ("7", "GELU"),
    ]  # fmt: skip
    assert examined.graph is None  # nothing can stand in for what changes sizes
    assert examined.after == ("Softmax",)


def test_rectifiers_stand_in_for_what_keeps_sizes() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 2))
    examined = examine_module(module, SHAPE)
    assert examined.graph is not None
    assert list(examined.graph.nodes) == ["input_1", "0", "1", "2", "3"]
    assert len(lower_rectified(examined.graph).layers) == 2
