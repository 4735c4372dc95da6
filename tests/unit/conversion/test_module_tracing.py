"""Torch modules and ONNX exports of them become the same network, equal to torch's results."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from neurodeploy.conversion.chaining import lower_rectified
from neurodeploy.conversion.module_tracing import trace_rectified
from neurodeploy.errors import NeurodeployWarning, TraceError
from neurodeploy.pipeline.converted import convert


class Residual(nn.Module):
    """Everything that is possible, in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.skip = nn.Conv2d(6, 8, 1, stride=2)
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding="same", groups=8), nn.ReLU6())
        self.bottleneck = nn.Conv2d(8, 4, 1)
        self.slope = nn.PReLU(8)
        self.expand = nn.Conv2d(4, 8, 1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        y = torch.relu(self.down(x))
        x = (self.conv2(y) + self.skip(x)).relu()
        x = self.bottleneck(self.depthwise(x))
        x = self.slope(self.expand(x))
        x = functional.adaptive_avg_pool2d(x, 1)
        return self.softmax(self.head(self.drop(torch.flatten(x, 1))))


def trained(module: nn.Module, frames: torch.Tensor) -> nn.Module:
    """Give batch norms statistics of their own."""
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(frames)
    return module.eval()


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (40, 2, 8, 8), generator=generator) / 255


def test_chain_equals_torch(frames: torch.Tensor) -> None:
    torch.manual_seed(0)
    module = trained(Residual(), frames)
    chain = lower_rectified(trace_rectified(module, (2, 8, 8)))
    module.softmax = nn.Identity()
    with torch.no_grad():
        expected = module(frames).double().numpy()
    found = chain.run(frames.double().numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_module_and_its_onnx_export_become_the_same(frames: torch.Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    ).eval()
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the new exporter needs onnxscript
        torch.onnx.export(module, (frames[:1],), path, dynamo=False)
        warnings.simplefilter("ignore", NeurodeployWarning)
        first = convert(module, frames.numpy(), thresholds="none")
        second = convert(path, frames.numpy(), thresholds="none")
    assert [layer.shape for layer in first.graph] == [layer.shape for layer in second.graph]
    np.testing.assert_array_equal(first.run(frames[None].numpy()), second.run(frames[None].numpy()))


def test_softmax_at_the_end_is_left_to_the_host() -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.Softmax(dim=1)).eval()
    frames = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeurodeployWarning)
        conversion = convert(module, frames.numpy(), thresholds="none")
    with torch.no_grad():
        expected = module[:3](frames).double().numpy()
    np.testing.assert_allclose(conversion.chain.run(frames.double().numpy()), expected, atol=1e-6)


def test_network_that_ends_with_flat_maps(frames: torch.Tensor) -> None:
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten()).eval()
    with torch.no_grad():
        expected = module(frames).double().numpy()
    chain = lower_rectified(trace_rectified(module, (2, 8, 8)))
    np.testing.assert_allclose(chain.run(frames.double().numpy()), expected, atol=1e-6)


def test_all_refusals_are_in_one_error() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.silu = nn.SiLU()
            self.gate = nn.Sigmoid()
            self.norm = nn.GroupNorm(1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            return torch.cat([self.silu(x), torch.relu(x), self.gate(x) + 1])

    with pytest.raises(TraceError) as refusal:
        trace_rectified(Gated(), (1, 5, 5))
    for name in ("silu (SiLU)", "gate (Sigmoid)"):
        assert name in str(refusal.value)


def test_a_forward_that_depends_on_values() -> None:
    class Depends(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(TraceError, match="cannot be followed"):
        trace_rectified(Depends(), (1, 5, 5))
