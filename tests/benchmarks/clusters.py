"""Long runs on one and on two workers of each engine, and what handing out samples costs.

    python tests/benchmarks/clusters.py [plain dask ray] [--networks light vgg] [--rounds 3]

`run_samples` runs a file of 3x224x224 samples of two steps with one worker and with two, in turns.
Two networks: the small one of `streaming.py`, half a millisecond a sample, and six convolutions in
the manner of VGG, tens of milliseconds. Samples a second are counted from the moment at which a
quarter of them is finished, so that starting workers is left out. `plain` is what the machine
itself allows: bare processes, each of which reads and runs its share without any engine. Beside
the wall time stands the processor time of a sample in the process that hands out work, and in all
others, which hardly depends on the machine's load: what it takes more than in bare processes is the
overhead. Medians of some rounds with their range. Results: tests/benchmarks/results/clusters.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from networks import conv, spread, stack, write_result
from streaming import SHAPE, make_network, write_samples

import neurodeploy as nd
from neurodeploy import netx
from neurodeploy.ir.graphs import FixedInput, FixedPointGraph
from neurodeploy.simulation import Record

KINDS = ("plain", "dask", "ray")
WIDTHS = ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2))
SAMPLES = {"light": 8000, "vgg": 384}
SKIPPED = 4
"""The part of the samples after whose end time counts: a quarter."""
PART = 16
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


def run_plain(net: Path, inputs: Path, count: int, processes: int) -> tuple[float, float, float]:
    """Return the seconds a sample takes in bare processes side by side, as `Moment` has them."""
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
    return max(wall) / (share * processes), 0.0, sum(used) / (share * processes)


@dataclass(frozen=True)
class Moment:
    """A moment of a run: samples finished, wall time, processor time of this and other processes.

    Others are all that descend from this one: schedulers, workers and what they start.
    """

    done: int
    wall: float
    here: float
    others: float

    @classmethod
    def now(cls, done: int) -> Moment:
        return cls(done, time.perf_counter(), time.process_time(), seconds_of_descendants())

    def per_sample(self, later: Moment) -> tuple[float, float, float]:
        """Return the seconds a sample from here to a later moment: wall, here and others."""
        times = zip(astuple(later)[1:], astuple(self)[1:], strict=True)
        wall, here, others = ((one - other) / (later.done - self.done) for one, other in times)
        return wall, here, others


def seconds_of_descendants() -> float:
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
    return sum(ticks[one] for one in family - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def run_engine(
    graph: FixedPointGraph, inputs: Path, count: int, crew: nd.Crew
) -> tuple[float, float, float]:
    """Return the seconds a sample by an engine, once a quarter is finished: see `Moment`."""
    moments: list[Moment] = []

    def note(done: int, total: int) -> None:
        if done == total or (not moments and done >= total // SKIPPED):
            moments.append(Moment.now(done))

    output = inputs.with_name("out.h5")
    record = Record(spikes=graph.names[-1:], states=())
    nd.run_samples(graph, inputs, output, crew=crew, record=record, progress=note)
    output.unlink()
    return moments[0].per_sample(moments[1])


def measure(
    kinds: list[str], graph: FixedPointGraph, inputs: Path, count: int, rounds: int
) -> dict[str, object]:
    """Run everything in turns."""
    net = inputs.with_name("a.net")
    netx.write(graph, net)
    taken: dict[str, dict[int, list[tuple[float, float, float]]]] = {
        kind: {1: [], 2: []} for kind in kinds
    }
    for _ in range(rounds):
        for kind, by_workers in taken.items():
            for workers, times in by_workers.items():
                if kind == "plain":
                    times.append(run_plain(net, inputs, count, workers))
                else:
                    crew = nd.Crew(engine=kind, workers=workers)
                    times.append(run_engine(graph, inputs, count, crew))
    return {kind: describe(kind, by_workers) for kind, by_workers in taken.items()}


def describe(kind: str, taken: dict[int, list[tuple[float, float, float]]]) -> dict[str, object]:
    """Print and return the medians and ranges of one engine."""
    ratios = [one[0] / two[0] for one, two in zip(*taken.values(), strict=True)]
    found: dict[str, object] = {"two_workers_to_one": spread(ratios)}
    for workers, times in taken.items():
        wall, here, others = (spread(list(each)) for each in zip(*times, strict=True))
        found[f"workers_{workers}"] = {
            "seconds": wall, "processor_seconds_here": here, "processor_seconds_elsewhere": others
        }  # fmt: skip
        print(
            f"  {kind}, {workers} worker{'s' * (workers > 1)}: a sample takes {in_ms(wall)}; "
            f"processor time here {in_ms(here)}, elsewhere {in_ms(others)}"
        )
    print(f"  {kind}: {ratios_text(ratios)} as fast with two", flush=True)
    return found


def in_ms(found: dict[str, float]) -> str:
    return "{median:.2f} ms ({least:.2f} to {most:.2f})".format(
        **{name: 1000 * one for name, one in found.items()}
    )


def ratios_text(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}x to {max(ratios):.2f}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--networks", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--samples", type=int, help="of the light network; of vgg a twentieth")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, object] = {}
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
    write_result("clusters", found)


if __name__ == "__main__":
    main()
