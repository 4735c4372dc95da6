"""Long runs on one and on two workers of each engine, and what handing out samples costs.

    python tests/benchmarks/clusters.py [plain local dask ray] [--networks light vgg] [--rounds 3]

`run_samples` runs a file of 3x224x224 samples of two steps with one worker and with two, in turns.
Two networks: the small one of `streaming.py`, half a millisecond a sample, and six convolutions in
the manner of VGG, 15 ms. Workers have started and run some samples before time counts. `plain` is
what the machine itself allows: bare processes, each of which reads and runs its share without any
engine. Beside the wall time stands the processor time of a sample in the process that hands out
work, and in all others, which hardly depends on the machine's load: what it takes more than in bare
processes is the overhead. `local`, processes of this machine, is run with two only: one would be
this process.
Medians of some rounds with their range. Results: tests/benchmarks/results/clusters.json; those of a
network that is not named stay. `plan.py` makes a plan of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
from memory import peak_mib
from networks import RESULTS, conv, spread, stack, write_result
from streaming import SHAPE, make_network, write_samples

import neurodeploy as nd
from neurodeploy import netx
from neurodeploy.ir.graphs import FixedInput, FixedPointGraph
from neurodeploy.simulation import Record
from neurodeploy.simulation.long_runs import memory
from neurodeploy.simulation.long_runs.long_run import parts_folder

KINDS = ("plain", "local", "dask", "ray")
WIDTHS = ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2))
SAMPLES = {"light": 8000, "vgg": 384}
WARMING = 32
"""Samples for each worker before time counts."""
PART = 16
FEW = 8
"""Samples of a piece where pieces are to be many."""
PLAIN = """
import sys, time
import neurodeploy as nd
from neurodeploy import netx
net, inputs, first, last, part = *sys.argv[1:3], *map(int, sys.argv[3:])
graph, samples = netx.read(net), nd.open_samples(inputs)
simulator = nd.EventSimulator(graph, threads=1)
record = nd.Record(spikes=graph.names[-1:], states=())
simulator.run(samples.read(first, first + part), record=record)
print("ready", flush=True)
sys.stdin.readline()
begin = time.perf_counter(), time.process_time()
for place in range(first, last, part):
    simulator.run(samples.read(place, min(place + part, last)), record=record)
print(time.perf_counter() - begin[0], time.process_time() - begin[1])
"""


def make_vgg(rng: np.random.Generator) -> FixedPointGraph:
    """Six conv layers of 64 to 256 channels on 3x224x224, of which each spikes at about 10 %."""
    # Thresholds are searched on smaller images, as they do not depend on the size.
    small = stack(rng, (3, 32, 32), [conv(rng, *shape) for shape in WIDTHS])
    layers, shape = [], SHAPE[1:]
    for layer in small:
        shape = layer.connections[0].synapse.output_shape(shape)
        layers.append(replace(layer, shape=shape))
    return FixedPointGraph(input=FixedInput(shape=SHAPE[1:]), layers=tuple(layers))


Costs = dict[str, float]
"""What a run took, by names: see `run_engine`."""


def run_plain(net: Path, inputs: Path, count: int, processes: int) -> Costs:
    """Return what a sample takes in bare processes side by side."""
    share = count // processes
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PLAIN, net, inputs,
             *map(str, (number * share, (number + 1) * share, PART))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(processes)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    found = [[float(one) for one in child.communicate()[0].split()] for child in children]
    wall, used = zip(*found, strict=True)
    return {
        "seconds": max(wall) / (share * processes),
        "elsewhere": sum(used) / (share * processes),
    }


def descendants() -> dict[int, float]:
    """Return the processor time of all running processes that descend from this one."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            number, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
            parents[number] = int(rest[1])
            ticks[number] = int(rest[11]) + int(rest[12])
    family = {os.getpid()}
    while found := {one for one, parent in parents.items() if parent in family} - family:
        family |= found
    return {one: ticks[one] / os.sysconf("SC_CLK_TCK") for one in family - {os.getpid()}}


@contextmanager
def start_workers(kind: str, workers: int) -> Iterator[nd.Crew]:
    """Start workers that stay between runs."""
    if kind == "dask":
        options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
        with import_module("distributed").LocalCluster(n_workers=workers, **options) as cluster:
            yield nd.Crew(engine="dask", cluster=cluster.scheduler_address)
    elif kind == "ray":
        ray, quiet = import_module("ray"), {"include_dashboard": False, "log_to_driver": False}
        ray.init(address="local", num_cpus=workers, logging_level=logging.ERROR, **quiet)
        try:
            yield nd.Crew(engine="ray", workers=workers)
        finally:
            ray.shutdown()
    else:
        yield nd.Crew(workers=workers)


def run_engine(graph: FixedPointGraph, inputs: Path, kind: str, workers: int) -> Costs:
    """Return what an engine takes for a whole run, by workers that have run some samples before.

    Wall time and processor time here and elsewhere, for each sample; processor time here for each
    piece; bytes of a sample's result; the peak memory of the largest process but this one.
    """
    output = inputs.with_name("out.h5")
    record = Record(spikes=graph.names[-1:], states=())
    pieces = results = peak = 0
    others: dict[int, float] = {}

    def note(done: int, total: int) -> None:
        nonlocal pieces, results, peak
        pieces += 1
        if done == total:
            results = sum(one.stat().st_size for one in parts_folder(output).glob("part-*"))
            others.update(descendants())
            peak = max(peak_mib(one) for one in others)

    with start_workers(kind, workers) as crew:
        some = np.load(inputs, mmap_mode="r")[: WARMING * workers]
        nd.run_samples(graph, some, output, crew=crew, record=record)
        before = sum(descendants().values())
        begin, used = time.perf_counter(), time.process_time()
        run = nd.run_samples(graph, inputs, output, crew=crew, record=record, progress=note)
        seconds, here = time.perf_counter() - begin, time.process_time() - used
    output.unlink()
    samples = run.facts.samples
    return {
        "seconds": seconds / samples,
        "here": here / samples,
        "elsewhere": (sum(others.values()) - before) / samples,
        "here_a_piece": here / pieces,
        "result_bytes": results / samples,
        "peak_mib": peak,
    }


def measure(
    kinds: list[str], graph: FixedPointGraph, inputs: Path, count: int, rounds: int
) -> dict[str, object]:
    """Run everything in turns."""
    net = inputs.with_name("a.net")
    netx.write(graph, net)
    taken: dict[str, dict[int, list[Costs]]] = {
        kind: {number: [] for number in ((2,) if kind == "local" else (1, 2))} for kind in kinds
    }
    for _ in range(rounds):
        for kind, by_workers in taken.items():
            for workers, costs in by_workers.items():
                if kind == "plain":
                    costs.append(run_plain(net, inputs, count, workers))
                else:
                    costs.append(run_engine(graph, inputs, kind, workers))
    return {kind: describe(kind, by_workers) for kind, by_workers in taken.items()}


def measure_pieces(
    kinds: list[str], graph: FixedPointGraph, inputs: Path, rounds: int
) -> dict[str, dict[str, float]]:
    """Return the processor time here for a piece, in runs of many small ones on two workers."""
    taken: dict[str, list[float]] = {kind: [] for kind in kinds if kind != "plain"}
    most, memory.SAMPLES_MAX = memory.SAMPLES_MAX, FEW
    try:
        for _ in range(rounds):
            for kind, costs in taken.items():
                costs.append(run_engine(graph, inputs, kind, 2)["here_a_piece"])
    finally:
        memory.SAMPLES_MAX = most
    found = {kind: spread(costs) for kind, costs in taken.items()}
    for kind, each in found.items():
        print(f"  {kind}: a piece of {FEW} takes {in_ms(each)} of processor time here", flush=True)
    return found


def describe(kind: str, taken: dict[int, list[Costs]]) -> dict[str, object]:
    """Print and return the medians and ranges of one engine."""
    found: dict[str, object] = {}
    for workers, costs in taken.items():
        spreads = {name: spread([one[name] for one in costs]) for name in costs[0]}
        found[f"workers_{workers}"] = spreads
        print(
            f"  {kind}, {workers} worker{'s' * (workers > 1)}: a sample takes "
            f"{in_ms(spreads['seconds'])}; processor time elsewhere {in_ms(spreads['elsewhere'])}"
            + (f", here {in_ms(spreads['here'])}" if kind != "plain" else "")
        )
    if len(taken) > 1:
        ratios = [one["seconds"] / two["seconds"] for one, two in zip(*taken.values(), strict=True)]
        found["two_workers_to_one"] = ratio = spread(ratios)
        text = "{median:.2f}x ({least:.2f}x to {most:.2f}x)".format(**ratio)
        print(f"  {kind}: {text} as fast with two", flush=True)
    return found


def in_ms(found: dict[str, float]) -> str:
    return "{median:.2f} ms ({least:.2f} to {most:.2f})".format(
        **{name: 1000 * one for name, one in found.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--networks", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--samples", type=int, help="of the light network; of vgg a twentieth")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kept, earlier = RESULTS / "clusters.json", {}
    if set(options.networks) != set(SAMPLES) and kept.exists():
        earlier = json.loads(kept.read_text(encoding="utf-8"))["results"]
    found, pieces = (earlier.get(key, {}) for key in ("networks", "seconds_here_a_piece"))
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            rng = np.random.default_rng(0)
            graph = make_network(rng) if name == "light" else make_vgg(rng)
            count = SAMPLES[name]
            if options.samples:
                count = options.samples * count // SAMPLES["light"]
            path = Path(folder) / "in.npy"
            write_samples(path, count, rng)
            print(f"{name}, {count} samples:", flush=True)
            found[name] = measure(options.kinds, graph, path, count, options.rounds)
            if name == "light":
                pieces = measure_pieces(options.kinds, graph, path, options.rounds)
            write_result("clusters", {"networks": found, "seconds_here_a_piece": pieces})


if __name__ == "__main__":
    main()
