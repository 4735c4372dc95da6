"""How our simulator's time and memory grow with events, samples, channels and steps, and threads.

    python tests/benchmarks/scaling.py [CASE ...] [--rounds 7]

Cases: events, samples, channels, steps, threads, counting, start. Those that are named are measured
and take the place of earlier results in tests/benchmarks/results/scaling.json, the others stay;
scaling.png shows all. Times are medians with their range. What grows is measured in processor time,
of all threads, which depends little on other work on the machine: events in rounds that run every
size once; samples, channels and steps, tenfold, by `run_samples` from a file to a file, each size
in a process of its own, which states its peak memory. Threads and counting are in wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from networks import RESULTS, STEPS, conv, conv_net, random_samples, spread, stack, write_result

from neurodeploy import netx
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation import EventSimulator, Record

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FACTORS = (1, 2, 5, 10)
SAMPLES = 512
ACTIVITIES = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
MEMORY = 400 * 10**6
NOTHING = Record(spikes=(), states=())
EVENTS = Record(spikes=(), states=(), counts=True, updates=False)
COUNTS = Record(spikes=(), states=(), counts=True)
Results = dict[str, object]
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
FROM_FILE = """
import json, sys, time
from memory import peak_mib
import neurodeploy as nd
from neurodeploy import netx
net, inputs, output, memory, rounds = *sys.argv[1:4], *map(int, sys.argv[4:])
graph, record, seconds = netx.read(net), nd.Record(spikes=(), states=()), []
for _ in range(1 + rounds):
    begin = time.process_time()
    nd.run_samples(graph, inputs, output, record=record, memory=memory)
    seconds.append(time.process_time() - begin)
print(json.dumps([seconds[1:], peak_mib()]))
"""


def in_turns(works: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Return the seconds of each, run in turns, after one round to warm up."""
    seconds: list[list[float]] = [[] for _ in works]
    for number in range(1 + rounds):
        for work, times in zip(works, seconds, strict=True):
            taken = work()
            if number:
                times.append(taken)
    return seconds


def runner(
    simulator: EventSimulator, inputs: np.ndarray, record: Record = NOTHING
) -> Callable[[], float]:
    """Return a function that runs samples, and returns the wall time of it."""
    return lambda: simulator.run(inputs, record=record).seconds


def processor_seconds(simulator: EventSimulator, inputs: np.ndarray) -> float:
    """Run samples; return the processor time of it."""
    begin = time.process_time()
    simulator.run(inputs, record=NOTHING)
    return time.process_time() - begin


def events(rounds: int) -> Results:
    """Grow the events into one layer."""
    rng = np.random.default_rng(0)
    single = stack(rng, (64, 32, 32), [conv(rng, 64, 1)])
    simulator = EventSimulator(single, threads=1)
    inputs = [random_samples(rng, single, 32, activity) for activity in ACTIVITIES]
    seconds = in_turns([partial(processor_seconds, simulator, one) for one in inputs], rounds)
    return {"count": [int(one.sum()) for one in inputs], "seconds": list(map(spread, seconds))}


def from_files(cases: dict[int, tuple[FixedPointGraph, np.ndarray]], rounds: int) -> Results:
    """Run each size from files in a process of its own."""
    found: dict[int, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        net, inputs, output = (Path(folder) / name for name in ("a.net", "in.npy", "out.npz"))
        for size, (graph, samples) in cases.items():
            netx.write(graph, net)
            np.save(inputs, samples.astype(np.uint8))
            arguments = [net, inputs, output, str(MEMORY), str(rounds)]
            child = subprocess.run(
                [sys.executable, "-c", FROM_FILE, *map(str, arguments)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            seconds, peak = json.loads(child.stdout)
            found[size] = {"seconds": spread(seconds), "peak_mib": peak}
    return {
        "sizes": list(found),
        "seconds": [one["seconds"] for one in found.values()],
        "peak_mib": [one["peak_mib"] for one in found.values()],
    }


def samples(rounds: int) -> Results:
    """Grow the number of samples."""
    rng = np.random.default_rng(0)
    graph = conv_net(rng)
    sizes = [SAMPLES * factor for factor in FACTORS]
    return from_files({one: (graph, random_samples(rng, graph, one)) for one in sizes}, rounds)


def channels(rounds: int) -> Results:
    """Grow the channels between two conv layers: events and the neurons that they reach."""
    rng = np.random.default_rng(0)
    cases = {}
    for factor in FACTORS:
        wide = stack(rng, (16, 32, 32), [conv(rng, 16 * factor, 1), conv(rng, 16, 1)])
        cases[16 * factor] = wide, random_samples(rng, wide, 64)
    return from_files(cases, rounds)


def steps(rounds: int) -> Results:
    """Grow the steps of a sample."""
    rng = np.random.default_rng(0)
    graph = conv_net(rng)
    inputs = random_samples(rng, graph, 64)
    cases = {STEPS * factor: (graph, np.tile(inputs, (1, factor, 1, 1, 1))) for factor in FACTORS}
    return from_files(cases, rounds)


def threads(rounds: int) -> Results:
    """Run on one thread and on more."""
    rng = np.random.default_rng(0)
    graph = conv_net(rng)
    inputs = random_samples(rng, graph, 256)
    numbers = range(1, 1 + len(os.sched_getaffinity(0)))
    works = [runner(EventSimulator(graph, threads=number), inputs) for number in numbers]
    return dict(zip(map(str, numbers), map(spread, in_turns(works, rounds)), strict=True))


def counting(rounds: int) -> Results:
    """Count events, and updates too: ratios to runs that count nothing, in turns."""
    rng = np.random.default_rng(0)
    graph = conv_net(rng)
    inputs, simulator = random_samples(rng, graph, 256), EventSimulator(graph)
    records = {"nothing": NOTHING, "events": EVENTS, "events and updates": COUNTS}
    works = [runner(simulator, inputs, record) for record in records.values()]
    without, *others = in_turns(works, rounds)
    return {
        name: spread([one / other for one, other in zip(taken, without, strict=True)])
        for name, taken in zip(list(records)[1:], others, strict=True)
    }


def start(rounds: int) -> Results:
    """Run a small file in new processes, with nothing compiled and with everything."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        runs = [
            float(
                subprocess.run(
                    [sys.executable, "-c", START],
                    env=environment, capture_output=True, text=True, check=True,
                ).stdout
            )
            for _ in range(1 + rounds)
        ]  # fmt: skip
    return {"first": runs[0], "later": spread(runs[1:])}


CASES = {
    function.__name__: function
    for function in (events, samples, channels, steps, threads, counting, start)
}


def plot(found: Results) -> None:
    """Draw what there is of the cases that grow."""
    figure, axes = plt.subplots(1, 4, figsize=(16, 3.8), layout="constrained")
    labels = {
        "events": "million events into a layer\n64 to 64 channels, 32x32, 32 samples",
        "samples": "samples of four steps\nsix conv layers",
        "channels": "channels between two conv layers\n64 samples of four steps",
        "steps": "steps of a sample\nsix conv layers, 64 samples",
    }
    for one, (name, label) in zip(axes, labels.items(), strict=True):
        one.set(xlabel=label, ylabel="processor time, seconds")
        if name not in found:
            continue
        result = found[name]
        places = np.array(result["count"]) / 1e6 if name == "events" else result["sizes"]
        medians = np.array([each["median"] for each in result["seconds"]])
        below = medians - [each["least"] for each in result["seconds"]]
        above = np.array([each["most"] for each in result["seconds"]]) - medians
        one.errorbar(
            places,
            medians,
            yerr=(below, above),
            fmt="o-",
            capsize=3,
            label="time, median and range",
        )
        # What is linear has a straight line through its first and its last size.
        ends = [0, len(places) - 1]
        one.plot(np.take(places, ends), medians[ends], ":", color="grey", label="first to last")
        one.set(xlim=(0, None), ylim=(0, None))
        if name != "events":
            memory = one.twinx()
            memory.plot(places, result["peak_mib"], "s--", color="tab:orange", label="memory")
            memory.set(ylim=(0, 2 * max(result["peak_mib"])))
            memory.set_ylabel("peak memory of the process, MiB", color="tab:orange")
        one.legend(loc="upper left", frameon=False)
    figure.savefig(RESULTS / "scaling.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"{', '.join(unknown)}: cases are {', '.join(CASES)}.")
    path = RESULTS / "scaling.json"
    found: Results = {}
    if set(options.cases) != set(CASES) and path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))["results"]
    for name in options.cases:
        found[name] = CASES[name](options.rounds)
        print(name, json.dumps(found[name]), flush=True)
        write_result("scaling", found)
    plot(found)


if __name__ == "__main__":
    main()
