"""Long runs on one and on two workers of each engine, and what handing out samples costs.

    python tests/benchmarks/clusters.py [dask ray] [--samples 2000] [--rounds 3]

`run_samples` runs the network of `streaming.py` on 3x224x224 inputs of two steps, with one worker
and with two, each with N and with 3 N samples; the difference is free of starting workers. Medians
of some rounds with their range. The overhead of an engine is what a sample takes beyond the same
run in this process on one thread, with one worker. Results: tests/benchmarks/results/clusters.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from networks import spread, write_result
from streaming import make_network, write_samples

import neurodeploy as nd
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.simulation import Record

ENGINES = ("dask", "ray")
RECORD = Record(spikes=("dense",), states=())
PART = 60


def seconds_per_sample(
    graph: FixedPointGraph, samples: np.ndarray, output: Path, crew: nd.Crew
) -> float:
    """Return the seconds a sample, from runs with a third of the samples and with all."""
    taken = []
    for count in (len(samples) // 3, len(samples)):
        begin = time.perf_counter()
        nd.run_samples(graph, samples[:count], output, crew=crew, record=RECORD)
        taken.append(time.perf_counter() - begin)
        output.unlink()
    return (taken[1] - taken[0]) / (len(samples) - len(samples) // 3)


def seconds_here(graph: FixedPointGraph, samples: np.ndarray) -> float:
    """Return the seconds a sample of the same, read and run in this process on one thread."""
    simulator, count = nd.EventSimulator(graph, threads=1), len(samples) // 3
    begin = time.perf_counter()
    for first in range(0, count, PART):
        simulator.run(samples[first : min(first + PART, count)], record=RECORD)
    return (time.perf_counter() - begin) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    graph = make_network(rng)
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "in.npy", Path(folder) / "out.h5"
        write_samples(path, options.samples, rng)
        samples = np.load(path, mmap_mode="r")
        here = [seconds_here(graph, samples) for _ in range(options.rounds)]
        found["here_seconds_per_sample"] = spread(here)
        for engine in options.engines:
            taken: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(options.rounds):
                for workers, times in taken.items():
                    crew = nd.Crew(engine=engine, workers=workers)
                    times.append(seconds_per_sample(graph, samples, output, crew))
            one, two = (statistics.median(times) for times in taken.values())
            print(
                f"{engine}: {1000 * one:.2f} ms a sample with one worker, {1000 * two:.2f} with "
                f"two: {one / two:.2f}x; here {1000 * statistics.median(here):.2f}",
                flush=True,
            )
            found[engine] = {
                "seconds_per_sample": {n: spread(times) for n, times in taken.items()},
                "ratio": one / two,
                "overhead_seconds_per_sample": one - statistics.median(here),
            }
    write_result("clusters", found)


if __name__ == "__main__":
    main()
