"""Our simulator against dense torch on the same integers: time over activity.

    python tests/benchmarks/against_torch.py [--samples N]

Torch computes conv2d or linear in float32, exact for these integers, over all samples and steps at
once, and the simplest vectorised LIF; both keep the spikes of every layer and use the same number
of threads. The network's thresholds are set so that every layer is as active as its input; the
spikes of both are compared. Times are medians of runs in turn, with their range. Results:
tests/benchmarks/results/against_torch.json and .png.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import matplotlib
import numpy as np
import torch
from networks import RESULTS, conv, dense, random_samples, spread, stack, write_result
from torch.nn import functional

from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import FixedConv
from neurodeploy.simulation import EventSimulator, Record

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ACTIVITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
CONV = ((64, 1), (64, 1), (128, 2), (128, 1))
REPEATS = 15


def times_of_both(
    one: Callable[[], object], other: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Return the times of two, run in turn after one of each to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(REPEATS + 1):
        for found, work in zip(times, (one, other), strict=True):
            begin = time.perf_counter()
            work()
            if repeat:
                found.append(time.perf_counter() - begin)
    return times


def in_torch(graph: FixedPointGraph, samples: np.ndarray) -> list[torch.Tensor]:
    """Run the network densely; give the spikes of every layer, (samples, T, ...)."""
    spikes = torch.tensor(samples, dtype=torch.float32)
    kept = []
    for layer in graph:
        synapse = layer.connections[0].synapse
        flat = spikes.flatten(0, 1)
        if isinstance(synapse, FixedConv):
            weight = torch.tensor(synapse.weight, dtype=torch.float32)
            sums = functional.conv2d(flat, weight, stride=synapse.stride, padding=synapse.padding)
        else:
            weight = torch.tensor(synapse.weight, dtype=torch.float32)
            sums = functional.linear(flat.flatten(1), weight)
        currents = sums.unflatten(0, spikes.shape[:2]) * 64
        leak = 1 - int(layer.neuron.voltage_decay) / 4096  # a power of two: exact
        threshold = int(layer.neuron.threshold) * 64
        voltage = torch.zeros_like(currents[:, 0])
        fired = torch.empty_like(currents)
        for step in range(currents.shape[1]):
            voltage = torch.trunc(voltage * leak) + currents[:, step]
            fired[:, step] = voltage > threshold
            voltage = voltage * (1 - fired[:, step])
        spikes = fired
        kept.append(spikes)
    return kept


def measure(name: str, activity: float, samples: int) -> dict[str, object]:
    """Run both at one activity."""
    rng = np.random.default_rng(0)
    if name == "conv":
        layers = [conv(rng, *shape) for shape in CONV]
        graph = stack(rng, (64, 32, 32), layers, activity=activity)
    else:
        graph = stack(rng, (784,), [dense(rng, 512), dense(rng, 512)], activity=activity)
        samples *= 32
    inputs = random_samples(rng, graph, samples, activity)
    simulator, record = EventSimulator(graph), Record(states=())
    recording = simulator.run(inputs, record=record)
    with torch.inference_mode():
        for ours, theirs in zip(recording.spikes, in_torch(graph, inputs), strict=True):
            assert np.array_equal(ours, theirs.numpy().astype(np.uint8))
        times, torch_times = times_of_both(
            lambda: simulator.run(inputs, record=record), lambda: in_torch(graph, inputs)
        )
    found = float(np.mean([np.mean(spikes) for spikes in recording.spikes]))
    seconds, torch_seconds = spread(times), spread(torch_times)
    ratio = torch_seconds["median"] / seconds["median"]
    least, most = min(torch_times) / max(times), max(torch_times) / min(times)
    print(
        f"{name} at {activity:.1%} (layers {found:.1%}): {ratio:.2f}x ({least:.2f}x to "
        f"{most:.2f}x), medians {seconds['median'] * 1000:.1f} ms, torch "
        f"{torch_seconds['median'] * 1000:.1f} ms",
        flush=True,
    )
    return {
        "network": name,
        "activity": activity,
        "layers": found,
        "seconds": seconds,
        "torch_seconds": torch_seconds,
        "ratio": ratio,
        "ratio_least": least,
        "ratio_most": most,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    results = [
        measure(name, activity, options.samples)
        for name in ("conv", "dense")
        for activity in ACTIVITIES
    ]
    write_result("against_torch", results)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name in ("conv", "dense"):
        rows = [row for row in results if row["network"] == name]
        shares = [100 * row["activity"] for row in rows]
        (line,) = axes.loglog(shares, [row["ratio"] for row in rows], "o-", label=name)
        axes.fill_between(
            shares,
            [row["ratio_least"] for row in rows],
            [row["ratio_most"] for row in rows],
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xlabel="activity in %", ylabel="times as fast as dense torch, float32")
    axes.legend()
    figure.savefig(RESULTS / "against_torch.png", dpi=120)


if __name__ == "__main__":
    main()
