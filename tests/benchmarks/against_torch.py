"""Our simulator against dense torch on the same integers: time over activity.

    python tests/benchmarks/against_torch.py [--samples 16 --rounds 9]
    python tests/benchmarks/avx2.py against_torch.py     # code for AVX2 alone

Torch computes conv2d or linear in float32, exact for these integers, over all samples and steps at
once, and the simplest vectorised LIF; both keep the spikes of every layer and use the same number
of threads. Weights are torch's before time counts; the samples are bytes for both. Thresholds
are set so that every layer is as active as its input; the spikes of both are compared. Every round
runs each case once, ours and torch's after each other. Results: against_torch_FAMILY.json in
tests/benchmarks/results, for each kind of code, and against_torch.png of all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import matplotlib
import numpy as np
import torch
from networks import (
    RESULTS,
    conv,
    dense,
    processor_family,
    random_samples,
    spread,
    stack,
    write_result,
)
from torch.nn import functional

from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.ir.integer_layers import FixedConv, FixedDense
from neurodeploy.simulation import EventSimulator, Record

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ACTIVITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
CONV = ((64, 1), (64, 1), (128, 2), (128, 1))
DENSE = (512, 512)
SHIFT = 40
"""Added to weights of -120 to 120 where more than `HALF` are to spike; else at most half do."""
HALF = 0.4
PAUSE_S = 0.02
"""Before each run: the threads of torch's last one keep processors busy, waiting for work."""
RECORD = Record(states=())
STYLES = {"avx512": "-", "avx2": "-.", "avx2_code": "--"}
LABELS = {"avx512": "AVX-512", "avx2": "AVX2", "avx2_code": "AVX2 code on AVX-512"}
Maker = Callable[[tuple[int, ...]], FixedConv | FixedDense]


@dataclass(frozen=True)
class Case:
    """A network at one activity, with samples and the weights in float32."""

    network: str
    activity: float
    simulator: EventSimulator
    samples: np.ndarray
    weights: list[torch.Tensor]
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def run_ours(self) -> object:
        return self.simulator.run(self.samples, record=RECORD)

    def run_torch(self) -> list[torch.Tensor]:
        return in_torch(self.simulator.graph, self.weights, self.samples)


def shifted(make: Maker) -> Maker:
    """Make a synapse whose weights are larger by `SHIFT`."""

    def make_shifted(shape: tuple[int, ...]) -> FixedConv | FixedDense:
        synapse = make(shape)
        return replace(synapse, weight=synapse.weight + SHIFT)

    return make_shifted


def make_case(network: str, activity: float, samples: int) -> Case:
    """Search thresholds, draw samples, and compare the spikes of both."""
    rng = np.random.default_rng(0)
    if network == "conv":
        layers, port = [conv(rng, *shape) for shape in CONV], (64, 32, 32)
    else:
        layers, port, samples = [dense(rng, number) for number in DENSE], (784,), 32 * samples
    if activity > HALF:
        layers = [shifted(make) for make in layers]
    graph = stack(rng, port, layers, activity=activity)
    weights = [
        torch.tensor(layer.connections[0].synapse.weight, dtype=torch.float32) for layer in graph
    ]
    inputs = random_samples(rng, graph, samples, activity).astype(np.uint8)
    case = Case(network, activity, EventSimulator(graph), inputs, weights)
    recording = case.simulator.run(inputs, record=RECORD)
    for ours, theirs in zip(recording.spikes, case.run_torch(), strict=True):
        assert np.array_equal(ours, theirs.numpy().astype(np.uint8))
    found = ", ".join(f"{np.mean(spikes):.1%}" for spikes in recording.spikes)
    print(f"{network} at {activity:.0%}: layers spike at {found}", flush=True)
    return case


def in_torch(
    graph: FixedPointGraph, weights: Sequence[torch.Tensor], samples: np.ndarray
) -> list[torch.Tensor]:
    """Run the network densely; give the spikes of every layer, (samples, T, ...)."""
    spikes = torch.tensor(samples, dtype=torch.float32)
    kept = []
    for layer, weight in zip(graph, weights, strict=True):
        synapse = layer.connections[0].synapse
        flat = spikes.flatten(0, 1)
        if isinstance(synapse, FixedConv):
            sums = functional.conv2d(flat, weight, stride=synapse.stride, padding=synapse.padding)
        else:
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


def measure(cases: Sequence[Case], rounds: int) -> None:
    """Run all cases in each round, after one round to warm up."""
    for number in range(rounds + 1):
        for case in cases:
            for work, times in ((case.run_ours, case.ours), (case.run_torch, case.theirs)):
                time.sleep(PAUSE_S)
                begin = time.perf_counter()
                work()
                if number:
                    times.append(time.perf_counter() - begin)


def describe(case: Case) -> dict[str, object]:
    """Print and return medians and ranges; ratios are of the two runs of a round."""
    ratios = [theirs / ours for ours, theirs in zip(case.ours, case.theirs, strict=True)]
    seconds, torch_seconds, ratio = spread(case.ours), spread(case.theirs), spread(ratios)
    print(
        f"{case.network} at {case.activity:.0%}: "
        "{median:.2f}x ({least:.2f}x to {most:.2f}x)".format(**ratio)
        + f", {1000 * seconds['median']:.1f} ms, torch {1000 * torch_seconds['median']:.1f} ms",
        flush=True,
    )
    return {
        "network": case.network,
        "activity": case.activity,
        "seconds": seconds,
        "torch_seconds": torch_seconds,
        "ratio": ratio,
    }


def plot() -> None:
    """Draw the results of all kinds of code that there are."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for family, style in STYLES.items():
        path = RESULTS / f"against_torch_{family}.json"
        if not path.exists():
            continue
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        for network, color in (("conv", "tab:blue"), ("dense", "tab:orange")):
            rows = [row for row in results if row["network"] == network]
            shares = [100 * row["activity"] for row in rows]
            least, median, most = (
                [row["ratio"][key] for row in rows] for key in ("least", "median", "most")
            )
            axes.fill_between(shares, least, most, color=color, alpha=0.15, linewidth=0)
            axes.loglog(
                shares, median, f"o{style}", color=color, label=f"{network}, {LABELS[family]}"
            )
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(
        xlabel="neurons and inputs that spike in a step, in %",
        ylabel="times as fast as dense torch, float32",
    )
    places = [100 * activity for activity in ACTIVITIES]
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xticks([], minor=True)
    marks = (0.5, 1, 2, 5, 10, 20, 50)
    axes.set_yticks(marks, [f"{mark:g}x" for mark in marks])
    axes.set_yticks([], minor=True)
    axes.legend()
    figure.savefig(RESULTS / "against_torch.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16, help="of conv; dense takes 32 times it")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    make = partial(make_case, samples=options.samples)
    with torch.inference_mode():
        cases = [make(name, activity) for name in ("conv", "dense") for activity in ACTIVITIES]
        measure(cases, options.rounds)
    results = [describe(case) for case in cases]
    write_result(f"against_torch_{processor_family()}", results)
    plot()
    for row in results:
        if row["activity"] == 0.1:
            ratio = "{median:.2f}x ({least:.2f}x to {most:.2f}x)".format(**row["ratio"])
            print(f"at 10 %, {row['network']}: {ratio} dense torch, {LABELS[processor_family()]}")


if __name__ == "__main__":
    main()
