"""How our simulator's time grows with events, samples, channels and steps, and with threads.

    python tests/benchmarks/scaling.py

Times are medians of several runs, with their range; also what counting takes, and a start. Samples,
channels and steps grow tenfold, with a sixteenth as many samples for channels and steps. Results:
tests/benchmarks/results/scaling.json and .png.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import matplotlib
import numpy as np
from memory import peak_mib
from networks import (
    RESULTS,
    STEPS,
    conv,
    conv_net,
    random_samples,
    spread,
    stack,
    write_result,
)

from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation import EventSimulator, Record

matplotlib.use("Agg")
from matplotlib import pyplot as plt

REPEATS = 7
FACTORS = (1, 2, 5, 10)
NOTHING = Record(spikes=(), states=())
EVENTS = Record(spikes=(), states=(), counts=True, updates=False)
COUNTS = Record(spikes=(), states=(), counts=True)
START = """
import time; begin = time.perf_counter()
import numpy as np
from neurodeploy.simulation import EventSimulator
from neurodeploy import netx
import neurodeploy.ir.integer_layers as f, neurodeploy.ir.graphs as g
i = lambda x: np.array(x, np.int32)
layer = f.FixedLayer(name="a", shape=(2, 4, 4), connections=(f.Connection(source="input",
    synapse=f.FixedConv(weight=np.ones((2, 1, 3, 3), np.int32), padding=(1, 1))),),
    neuron=f.CubaNeuron(current_decay=i(4096), voltage_decay=i(9), threshold=i(2)), bias=i(0))
graph = g.FixedPointGraph(input=g.FixedInput(shape=(1, 4, 4)), layers=(layer,))
EventSimulator(graph).run(np.ones((1, 2, 1, 4, 4), np.int32))
print(time.perf_counter() - begin)
"""


def times(
    simulator: EventSimulator, inputs: np.ndarray, record: Record = NOTHING
) -> dict[str, float]:
    """Median and range of the seconds that runs take, after one to warm up."""
    simulator.run(inputs, record=record)
    return spread([simulator.run(inputs, record=record).seconds for _ in range(REPEATS)])


def counting(simulator: EventSimulator, inputs: np.ndarray) -> dict[str, dict[str, float]]:
    """Median and range of what counting takes, as a ratio of runs in turn."""
    records = {"nothing": NOTHING, "events": EVENTS, "events and updates": COUNTS}
    seconds: dict[str, list[float]] = {name: [] for name in records}
    for repeat in range(1 + REPEATS):
        for name, record in records.items():
            taken = simulator.run(inputs, record=record).seconds
            if repeat:
                seconds[name].append(taken)
    without = seconds.pop("nothing")
    return {
        name: spread([one / other for one, other in zip(taken, without, strict=True)])
        for name, taken in seconds.items()
    }


def starts() -> dict[str, object]:
    """Seconds from a new process to its first result, with an empty cache and a filled one."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        runs = [
            float(
                subprocess.run(
                    [sys.executable, "-c", START],
                    env=environment, capture_output=True, text=True, check=True,
                ).stdout
            )
            for _ in range(1 + REPEATS)
        ]  # fmt: skip
    return {"first": runs[0], "later": spread(runs[1:])}


def main() -> None:
    rng = np.random.default_rng(0)
    graph = conv_net(rng)
    inputs = random_samples(rng, graph, 256)
    found: dict[str, object] = {"start_seconds": starts()}
    threads = len(os.sched_getaffinity(0))
    found["threads"] = {
        number: times(EventSimulator(graph, threads=number), inputs)
        for number in range(1, threads + 1)
    }
    simulator = EventSimulator(graph)
    found["counting"] = counting(simulator, inputs)
    found["samples"] = by_samples = growing(simulator, graph, rng)
    inputs = random_samples(rng, graph, 16)
    found["steps"] = by_steps = {
        STEPS * factor: times(simulator, np.tile(inputs, (1, factor, 1, 1, 1)))
        for factor in FACTORS
    }
    found["channels"] = by_channels = {}
    for factor in FACTORS:
        wide = stack(rng, (3, 32, 32), [conv(rng, 16 * factor, 1), conv(rng, 16, 1)])
        by_channels[16 * factor] = times(EventSimulator(wide), random_samples(rng, wide, 16))
    single = stack(rng, (64, 32, 32), [conv(rng, 64, 1)])
    events, seconds = [], []
    for activity in (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        inputs = random_samples(rng, single, 32, activity)
        events.append(int(inputs.sum()))
        seconds.append(times(EventSimulator(single), inputs))
    found["events"] = {"count": events, "seconds": seconds}
    write_result("scaling", found)
    print(found)
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    plot(axes[0], np.array(events) / 1e6, seconds)
    axes[0].set(xlabel="million events into a 64-64 conv layer", ylabel="seconds")
    plot(axes[1], list(by_samples), [one["seconds"] for one in by_samples.values()])
    axes[1].set(xlabel="samples, six conv layers")
    memory = axes[1].twinx()
    peaks = [one["peak_mib"] for one in by_samples.values()]
    memory.plot(list(by_samples), peaks, "s--", color="tab:orange")
    memory.set(ylabel="peak memory of the process in MiB (dashed)", ylim=(0, None))
    plot(axes[2], list(by_channels), list(by_channels.values()))
    axes[2].set(xlabel="channels between two conv layers, 16 samples")
    plot(axes[3], list(by_steps), list(by_steps.values()))
    axes[3].set(xlabel="steps, six conv layers, 16 samples")
    for one in axes:
        one.set_ylim(0, None)
    figure.savefig(RESULTS / "scaling.png", dpi=120)


def growing(
    simulator: EventSimulator, graph: FixedPointGraph, rng: np.random.Generator
) -> dict[int, dict[str, object]]:
    """Times and peak memory for more and more samples."""
    found: dict[int, dict[str, object]] = {}
    for factor in FACTORS:
        count = 128 * factor
        seconds = times(simulator, random_samples(rng, graph, count))
        found[count] = {"seconds": seconds, "peak_mib": peak_mib()}
    return found


def plot(axes: plt.Axes, places: Sequence[float], found: Sequence[dict[str, float]]) -> None:
    """Plot medians with their ranges."""
    medians = np.array([one["median"] for one in found])
    below = medians - [one["least"] for one in found]
    above = np.array([one["most"] for one in found]) - medians
    axes.errorbar(places, medians, yerr=(below, above), fmt="o-", capsize=3)


if __name__ == "__main__":
    main()
