"""Advice on public architectures, built small with weights of our own and exported to ONNX.

    python tests/benchmarks/advice.py [lenet5 resnet18 ...] [--frames]

Weights are random, batch norm has the statistics of the frames. The frames are real: handwritten
digits of scikit-learn, enlarged, that drift by a pixel a frame over a still background, 2 sequences
of 16. Each model named gets advice without frames or, with --frames, from them. Results join those
in tests/benchmarks/results/advice.json; advice.md has the verdicts, and what a sceptic says.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import RESULTS, write_result
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import neurodeploy as nd
from neurodeploy.errors import NeurodeployWarning

Shape = tuple[int, int, int]


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution with batch norm."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


def lenet5() -> nn.Module:
    """LeCun et al. 1998, with ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def alexnet() -> nn.Module:
    """Krizhevsky et al. 2012, an eighth as wide, for 32x32."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 24, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(),
        nn.Linear(128, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 10),
    )  # fmt: skip


def vgg11() -> nn.Module:
    """Simonyan and Zisserman 2015, with batch norm, an eighth as wide."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (8, 0, 16, 0, 32, 32, 0, 64, 64, 0, 64, 64, 0):
        if width:
            layers += [conv(channels, width, 3), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))


class Residual(nn.Module):
    """A block of He et al. 2016: basic, or a bottleneck."""

    def __init__(self, inputs: int, width: int, stride: int, *, is_bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if is_bottleneck else width
        if is_bottleneck:
            self.body = nn.Sequential(
                conv(inputs, width, 1), nn.ReLU(), conv(width, width, 3, stride), nn.ReLU(),
                conv(width, outputs, 1),
            )  # fmt: skip
        else:
            self.body = nn.Sequential(
                conv(inputs, width, 3, stride), nn.ReLU(), conv(width, width, 3)
            )
        is_same = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if is_same else conv(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the skip to the body."""
        return functional.relu(self.body(x) + self.skip(x))


def resnet(blocks: Sequence[int], width: int, *, is_bottleneck: bool) -> nn.Module:
    """Return a ResNet for 32x32."""
    layers: list[nn.Module] = [conv(3, width, 3), nn.ReLU()]
    channels = width
    for stage, number in enumerate(blocks):
        for index in range(number):
            stride = 2 if stage and not index else 1
            own = width << stage
            layers.append(Residual(channels, own, stride, is_bottleneck=is_bottleneck))
            channels = 4 * own if is_bottleneck else own
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return nn.Sequential(*layers, *head)


class Inverted(nn.Module):
    """An inverted residual of Sandler et al. 2018, or with a gate of Tan and Le 2019."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, has_gate: bool) -> None:
        super().__init__()
        wide = 4 * inputs
        act = nn.SiLU if has_gate else nn.ReLU6
        self.expand = nn.Sequential(
            conv(inputs, wide, 1), act(), conv(wide, wide, 3, stride, wide), act()
        )
        self.gate = None
        if has_gate:
            self.gate = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), nn.SiLU(), nn.Conv2d(4, wide, 1),
                nn.Sigmoid(),
            )  # fmt: skip
        self.project = conv(wide, outputs, 1)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Expand, filter, gate, project, add."""
        y = self.expand(x)
        if self.gate is not None:
            y = y * self.gate(y)
        y = self.project(y)
        return x + y if self.has_skip else y


def mobilenet(*, has_gate: bool) -> nn.Module:
    """MobileNetV2 with ReLU6, or EfficientNet with SiLU and squeeze-and-excitation, narrow."""
    act = nn.SiLU if has_gate else nn.ReLU6
    layers: list[nn.Module] = [conv(3, 8, 3, 2), act()]
    for inputs, outputs, stride in ((8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1)):
        layers.append(Inverted(inputs, outputs, stride, has_gate=has_gate))
    layers += [conv(16, 64, 1), act(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


class Fire(nn.Module):
    """A block of SqueezeNet, Iandola et al. 2016."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.small = nn.Conv2d(squeezed, outputs, 1)
        self.large = nn.Conv2d(squeezed, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Join both widths."""
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.small(x)), functional.relu(self.large(x))], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet, narrow, for 32x32."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), Fire(16, 4, 16), Fire(32, 4, 16), nn.MaxPool2d(2),
        Fire(32, 8, 32), Fire(64, 8, 32), nn.Conv2d(64, 10, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class DenseLayer(nn.Module):
    """A layer of DenseNet, Huang et al. 2017."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Join new features to the old ones."""
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)


def densenet() -> nn.Module:
    """DenseNet, two blocks."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), *(DenseLayer(16 + 8 * index) for index in range(3)),
        nn.Conv2d(40, 20, 1), nn.AvgPool2d(2), *(DenseLayer(20 + 8 * index) for index in range(3)),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(44, 10),
    )  # fmt: skip


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021, two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 8, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(5))
        self.qkv = nn.ModuleList(nn.Linear(32, 96) for _ in range(2))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(2)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend, twice."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        for index in range(2):
            q, k, v = self.qkv[index](self.norms[2 * index](x)).chunk(3, dim=-1)
            x = x + torch.softmax(q @ k.transpose(1, 2) / 32**0.5, dim=-1) @ v
            x = x + self.mlps[index](self.norms[2 * index + 1](x))
        return self.head(self.norms[4](x).mean(1))


class UNet(nn.Module):
    """Ronneberger et al. 2015, one level."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(conv(3, 8, 3), nn.ReLU())
        self.deep = nn.Sequential(nn.MaxPool2d(2), conv(8, 16, 3), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.out = nn.Sequential(conv(16, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Join what was seen before the pool."""
        x = self.down(x)
        return self.out(torch.cat([x, self.up(self.deep(x))], 1))


def pilotnet() -> nn.Module:
    """Bojarski et al. 2016, with ReLU."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 5, 2), nn.ReLU(), nn.Conv2d(24, 36, 5, 2), nn.ReLU(),
        nn.Conv2d(36, 48, 5, 2), nn.ReLU(), nn.Conv2d(48, 64, 3), nn.ReLU(),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 100), nn.ReLU(),
        nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10), nn.ReLU(), nn.Linear(10, 1),
    )  # fmt: skip


def ds_cnn() -> nn.Module:
    """Zhang et al. 2017, keyword spotting: 49 frames of 10 coefficients."""
    blocks: list[nn.Module] = []
    for _ in range(4):
        blocks += [conv(64, 64, 3, 1, 64), nn.ReLU(), conv(64, 64, 1), nn.ReLU()]
    first = nn.Sequential(nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64))
    return nn.Sequential(
        first, nn.ReLU(), *blocks, nn.AvgPool2d((5, 5)), nn.Flatten(), nn.Linear(320, 12)
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "lenet5": (lenet5, (1, 28, 28)),
    "alexnet": (alexnet, (3, 32, 32)),
    "vgg11": (vgg11, (3, 32, 32)),
    "resnet18": (lambda: resnet((2, 2, 2, 2), 8, is_bottleneck=False), (3, 32, 32)),
    "resnet50": (lambda: resnet((3, 4, 6, 3), 4, is_bottleneck=True), (3, 32, 32)),
    "mobilenet_v2": (lambda: mobilenet(has_gate=False), (3, 32, 32)),
    "efficientnet": (lambda: mobilenet(has_gate=True), (3, 32, 32)),
    "squeezenet": (squeezenet, (3, 32, 32)),
    "densenet": (densenet, (3, 32, 32)),
    "vision_transformer": (VisionTransformer, (3, 32, 32)),
    "unet": (UNet, (3, 32, 32)),
    "pilotnet": (pilotnet, (3, 66, 200)),
    "ds_cnn": (ds_cnn, (1, 49, 10)),
}


def drifting(shape: Shape, sequences: int = 2, steps: int = 16) -> np.ndarray:
    """Return digits that drift over a still background: (sequences, T, *shape) of 0 to 1."""
    generator = np.random.default_rng(0)
    digits = load_digits().images / 16
    _, height, width = shape
    size = min(height, width)
    frames = np.empty((sequences, steps, *shape))
    for index in range(sequences):
        ground = generator.integers(0, 64, shape) / 255
        digit = np.kron(digits[index], np.ones((max(1, size // 16),) * 2))[:size, :size]
        rows, columns = digit.shape
        for step in range(steps):
            frame = ground.copy()
            left = (step + index) % (width - columns + 1)
            top = (height - rows) // 2
            window = frame[:, top : top + rows, left : left + columns]
            frame[:, top : top + rows, left : left + columns] = np.maximum(window, digit)
            frames[index, step] = np.rint(frame * 255) / 255
    return frames


def export(name: str, folder: Path) -> tuple[Path, np.ndarray]:
    """Build a model, settle its batch norms, and write it; return its path and frames."""
    torch.manual_seed(0)
    build, shape = MODELS[name]
    module, frames = build(), drifting(shape)
    batch = torch.from_numpy(frames.reshape(-1, *shape)).float()
    module.train()
    with torch.no_grad():
        for _ in range(5):
            module(batch)
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the new exporter needs onnxscript
        torch.onnx.export(module.eval(), (batch[:1],), path, dynamo=False)
    return path, frames


def main() -> None:
    """Build, advise, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--frames", action="store_true", help="convert, and run on frames")
    options = parser.parse_args()
    warnings.simplefilter("ignore", NeurodeployWarning)
    path = RESULTS / "advice.json"
    found = json.loads(path.read_text("utf-8"))["results"] if path.exists() else {}
    kind = "with frames" if options.frames else "without frames"
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            model, frames = export(name, Path(folder))
            start = time.perf_counter()
            advice = nd.advise(model, frames if options.frames else None)
            seconds = round(time.perf_counter() - start, 1)
            print(f"\n{nd.advice_text(advice)}\n{seconds} s", flush=True)
            found.setdefault(name, {})[kind] = {"seconds": seconds, **advice.to_dict()}
            keep({name: found[name] for name in MODELS if name in found})


def keep(found: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Write all results, and the page of verdicts."""
    write_result("advice", found)
    lines = ["# Advice on public architectures", "", "Made by `tests/benchmarks/advice.py`."]
    for name, kinds in found.items():
        lines += ["", f"## {name}", ""]
        lines += [f"- {key}: {one['verdict']}" for key, one in kinds.items()]
        last = list(kinds.values())[-1]
        lines += ["", "A sceptic would say:", "", *(f"- {doubt}" for doubt in last["doubts"])]
    (RESULTS / "advice.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
