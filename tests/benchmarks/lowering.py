"""Time and memory of lowering full-size residual networks, and what their relays cost.

    python tests/benchmarks/lowering.py [resnet18 resnet34 …] [--json FILE]

Random weights, CIFAR stem, full width, T = 4: batch norm folded, quantized, skip connections turned
into relay channels, chip limits looked at, netx file written. Memory is the growth of the process's
peak, the torch network included. The loop over networks runs each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from memory import peak_mib
from torch import nn

from neurodeploy import netx
from neurodeploy.chips.limits import find_violations
from neurodeploy.chips.target import Target
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.passes import (
    choose_scales,
    lower_residuals,
    quantize,
)
from neurodeploy.pipeline import lower
from neurodeploy.pipeline.deployment.result import without_skips
from neurodeploy.provenance import provenance
from neurodeploy.recipes.recipe import Architecture

PACKAGES = ("torch", "numpy", "h5py")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["resnet18", "resnet34"])
    parser.add_argument("--json", type=Path, help="write the numbers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    found: dict[str, dict[str, float]] = {}
    for name in options.networks:
        result = subprocess.run(
            [sys.executable, __file__, "--one", name], capture_output=True, text=True, check=True
        )
        found[name] = json.loads(result.stdout)
        print(f"{name}:", ", ".join(f"{key} {value}" for key, value in found[name].items()))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "command": "python tests/benchmarks/lowering.py",
            **provenance(Path(__file__).parent, code=("neurodeploy", "tests"), packages=PACKAGES),
            "networks": found,
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measure(name: str) -> dict[str, float]:
    """Lower one network and write it."""
    before = peak_mib()
    table = {
        "shape": [3, 32, 32],
        "classes": 10,
        "input_bits": 8,
        "network": {"architecture": name, "steps": 4, "initial_weights": "kaiming"},
        "neuron": {},
        "branches": [],
    }
    network = SpikingNetwork(Architecture.from_dict(table, where=name)).eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    target = Target.load("loihi2")
    start = time.perf_counter()
    graph = lower(network)
    scales = choose_scales(graph, target, steps=4, guard_overflow=False)
    fixed = quantize(graph, target, steps=4, scales=scales)
    lowered = lower_residuals(fixed, target)
    violations = find_violations(lowered.graph, target)
    lowering = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "lowered.net", Path(folder) / "plain.net"
        netx.write(lowered.graph, path)
        writing = time.perf_counter() - start - lowering
        peak = peak_mib()
        netx.read(path)
        netx.write(without_skips(fixed), plain)
        size, without_relays = path.stat().st_size, plain.stat().st_size
    relays = sum(cost.neurons for cost in lowered.costs)
    return {
        "seconds to lower": round(lowering, 1),
        "seconds to write": round(writing, 1),
        "peak MiB": round(peak - before),
        "peak MiB of the process": round(peak),
        "neurons": sum(layer.neurons for layer in fixed),
        "relay neurons": relays,
        "weights": sum(c.synapse.weight.size for layer in fixed for c in layer.connections),
        "relay weights": sum(cost.weights for cost in lowered.costs),
        "file MiB": round(size / 2**20, 1),
        "file MiB without relays": round(without_relays / 2**20, 1),
        "limits exceeded": len(violations),
    }


if __name__ == "__main__":
    main()
