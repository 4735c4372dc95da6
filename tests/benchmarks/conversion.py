"""Time and memory of converting an ordinary ResNet-18 to a sigma-delta file.

    python tests/benchmarks/conversion.py [--width 64] [--frames 100] [--profile]

CIFAR stem, 32x32 input, 10 classes, random weights; batch norm takes its statistics from scikit-
learn's digits, enlarged to 32x32 with noise. The module is traced, lowered, rounded, run in Lava's
own time and written; integers are then simulated once more and compared with the module. Memory is
the peak of the process, torch included. Results: tests/benchmarks/results/conversion.json.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from memory import peak_mib
from networks import write_result
from sklearn.datasets import load_digits
from torch import nn

import neurodeploy as nd
from neurodeploy import netx
from neurodeploy.errors import NeurodeployWarning


class Block(nn.Module):
    """Two convolutions and a skip connection, projected where its shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the rectified sum of both branches."""
        inner = self.relu1(self.norm1(self.conv1(values)))
        return self.relu2(self.norm2(self.conv2(inner)) + self.skip(values))


def resnet18(width: int) -> nn.Module:
    """Return a ResNet-18 of a width with random weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    inputs = width
    for stage in range(4):
        for block in range(2):
            outputs = width << stage
            layers.append(Block(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def images(count: int) -> np.ndarray:
    """Return (count, 3, 32, 32) pixels in [0, 1]: digits in a colour, with noise."""
    rng = np.random.default_rng(0)
    digits = np.kron(load_digits().images[:count, None] / 16, np.ones((1, 1, 4, 4)))
    coloured = digits * rng.uniform(0.3, 1, (count, 3, 1, 1))
    noisy = np.clip(coloured + 0.05 * rng.normal(size=coloured.shape), 0, 1)
    return np.round(255 * noisy) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--profile", action="store_true", help="print where time goes")
    options = parser.parse_args()
    module, frames = resnet18(options.width), images(options.frames)
    with torch.no_grad():
        for _ in range(3):  # statistics of batch norm
            module.train()(torch.tensor(frames, dtype=torch.float32))
        results = module.eval()(torch.tensor(frames[:8], dtype=torch.float32)).numpy()
    floor, profile = peak_mib(), cProfile.Profile()
    begin, processor = time.perf_counter(), time.process_time()
    marks: list[tuple[str, float]] = []

    def note(line: str) -> None:
        marks.append((line, time.perf_counter() - begin))
        print(f"{marks[-1][1]:.1f} s: {line}", flush=True)

    if options.profile:
        profile.enable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeurodeployWarning)  # no order in time
        conversion = nd.convert(
            module,
            frames,
            tell=note,
        )
    profile.disable()
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    peak = peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        conversion.write(Path(folder) / "resnet18.net")
        size = (Path(folder) / "resnet18.net").stat().st_size
        neurons = sum(layer.neurons for layer in netx.read(Path(folder) / "resnet18.net"))
    error = np.sqrt(np.mean((conversion.run(frames[:8, None])[:, 0] - results) ** 2))
    found = {
        "width": options.width,
        "frames": options.frames,
        "layers": len(conversion.graph.layers),
        "neurons": neurons,
        "seconds": seconds,
        "processor_seconds": processor,
        "marks": marks,
        "peak_mib": peak,
        "peak_mib_before": floor,
        "file_mib": size / 2**20,
        "rms_error": float(error / results.std()),
        "operations": conversion.rounded.operations,
        "remarks": conversion.remarks,
    }
    print(found)
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    else:
        write_result("conversion", found)


if __name__ == "__main__":
    main()
