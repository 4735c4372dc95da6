"""How our simulator's time grows with events, samples and threads, and what it takes to start.

    python tests/benchmarks/scaling.py

Times are medians of several runs, with their range. Results:
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
from networks import RESULTS, conv, conv_net, random_samples, spread, stack, write_result

from neurodeploy.simulation import EventSimulator, Record

matplotlib.use("Agg")
from matplotlib import pyplot as plt

REPEATS = 7
NOTHING = Record(spikes=(), states=())
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


def counting(simulator: EventSimulator, inputs: np.ndarray) -> dict[str, float]:
    """Median and range of what counting takes, as a ratio of runs in turn."""
    for record in (NOTHING, COUNTS):
        simulator.run(inputs, record=record)
    ratios = []
    for _ in range(REPEATS):
        seconds = [simulator.run(inputs, record=record).seconds for record in (NOTHING, COUNTS)]
        ratios.append(seconds[1] / seconds[0])
    return spread(ratios)


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
    samples, peaks = (64, 128, 256, 512, 1024), []
    by_samples = []
    for count in samples:
        by_samples.append(times(simulator, random_samples(rng, graph, count)))
        peaks.append(peak_mib())
    found["samples"] = {"count": samples, "seconds": by_samples, "peak_mib": peaks}
    single = stack(rng, (64, 32, 32), [conv(rng, 64, 1)])
    events, seconds = [], []
    for activity in (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        inputs = random_samples(rng, single, 32, activity)
        events.append(int(inputs.sum()))
        seconds.append(times(EventSimulator(single), inputs))
    found["events"] = {"count": events, "seconds": seconds}
    write_result("scaling", found)
    print(found)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    plot(axes[0], np.array(events) / 1e6, seconds)
    axes[0].set(xlabel="million events into a 64-64 conv layer", ylabel="seconds", ylim=(0, None))
    plot(axes[1], samples, by_samples)
    axes[1].set(xlabel="samples, six conv layers", ylabel="seconds", ylim=(0, None))
    memory = axes[1].twinx()
    memory.plot(samples, peaks, "s--", color="tab:orange")
    memory.set(ylabel="peak memory of the process in MiB (dashed)", ylim=(0, None))
    of_threads = found["threads"]
    axes[2].bar([str(n) for n in of_threads], [1 / one["median"] for one in of_threads.values()])
    axes[2].set(xlabel="threads", ylabel="runs a second")
    figure.savefig(RESULTS / "scaling.png", dpi=120)


def plot(axes: plt.Axes, places: Sequence[float], found: Sequence[dict[str, float]]) -> None:
    """Plot medians with their ranges."""
    medians = np.array([one["median"] for one in found])
    below = medians - [one["least"] for one in found]
    above = np.array([one["most"] for one in found]) - medians
    axes.errorbar(places, medians, yerr=(below, above), fmt="o-", capsize=3)


if __name__ == "__main__":
    main()
