"""ResNet-18 at full width (CIFAR stem), lowered to relay channels, on our simulator.

    python tests/benchmarks/resnet.py [--samples N]

Random weights and batch norm, thresholds that make layers spike at ten per cent, T = 4, random
8-bit images. The share of time in relay channels is what the network with true skip connections
saves; outputs of both are compared. Results go to tests/benchmarks/results/resnet.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from memory import peak_mib
from networks import ACTIVITY, write_result
from torch import nn

from neurodeploy.chips.target import Target
from neurodeploy.ir import FixedLayer, FixedPointGraph
from neurodeploy.nn.network import SpikingNetwork
from neurodeploy.passes import (
    choose_scales,
    lower_residuals,
    quantize,
)
from neurodeploy.pipeline import lower
from neurodeploy.recipes.recipe import Architecture
from neurodeploy.simulation import EventSimulator, Record

STEPS = 4
REPEATS = 3


def with_activity(graph: FixedPointGraph, inputs: np.ndarray) -> FixedPointGraph:
    """Search thresholds so that every layer but the last spikes at about `ACTIVITY`."""
    layers: list[FixedLayer] = []
    for layer in graph.layers[:-1]:
        low, high = 1, 1 << 16
        while high - low > 1:
            middle = (low + high) // 2
            neuron = replace(layer.neuron, threshold=np.array(middle, np.int32))
            tried = replace(layer, neuron=neuron)
            part = FixedPointGraph(input=graph.input, layers=(*layers, tried))
            rate = EventSimulator(part).run(inputs).spikes_of(-1).mean()
            low, high = (middle, high) if rate > ACTIVITY else (low, middle)
        layers.append(tried)
    return FixedPointGraph(input=graph.input, layers=(*layers, graph.layers[-1]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    table = {
        "shape": [3, 32, 32],
        "classes": 10,
        "input_bits": 8,
        "network": {"architecture": "resnet18", "steps": STEPS, "initial_weights": "kaiming"},
        "neuron": {},
        "branches": [],
    }
    torch.manual_seed(0)
    network = SpikingNetwork(Architecture.from_dict(table, where="resnet18")).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    target = Target.load("loihi2")
    graph = lower(network)
    scales = choose_scales(graph, target, steps=STEPS, guard_overflow=False)
    fixed = quantize(graph, target, steps=STEPS, scales=scales)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.samples, 1, 3, 32, 32)).astype(np.int32)
    inputs = np.repeat(images, STEPS, axis=1)
    fixed = with_activity(fixed, inputs[:1])
    lowered = lower_residuals(fixed, target).graph
    found: dict[str, object] = {"samples": options.samples, "steps": STEPS}
    before = peak_mib()
    outputs = []
    for name, one in (("lowered", lowered), ("with_skips", fixed)):
        simulator = EventSimulator(one)
        counted = simulator.run(inputs, record=Record(spikes=(), states=(), counts=True))
        record = Record(spikes=one.names[-1:])
        runs = [simulator.run(inputs, record=record) for _ in range(REPEATS)]
        seconds = min(run.seconds for run in runs)
        outputs.append(runs[0].voltage)
        sizes = [layer.neurons * STEPS * options.samples for layer in one]
        rates = [n / size for n, size in zip(counted.spike_totals(), sizes, strict=True)]
        found[name] = {
            "sample_steps_per_second": options.samples * STEPS / seconds,
            "seconds": seconds,
            "rates": rates,
        }
    assert np.array_equal(*outputs)
    found["peak_growth_mib"] = peak_mib() - before
    found["relay_share"] = 1 - found["with_skips"]["seconds"] / found["lowered"]["seconds"]
    write_result("resnet", found)
    print(found)


if __name__ == "__main__":
    main()
