"""Our simulator against real Lava: same file, same input, one run, every spike compared.

    python tests/benchmarks/simulators.py [conv pilotnet mlp] [--samples N] [--lava-samples N]
    python tests/benchmarks/simulators.py --net NET --input IN.npz

Networks with random weights: six conv layers on 32x32x3 (16 to 64 channels,
and 64 to 256), PilotNet's layers with LIF neurons, and a
dense 784-512-10; thresholds are set so that each layer spikes at roughly ten per cent. Lava gets
the first samples only; the ratio is of sample-steps per second while stepping, medians of some
runs with their range, start-up left out of both and shown apart. Arrays of spikes and counts, which
ours makes when they are read, are read in what is called so. Last, one sample at a time on one
thread, calls timed as a whole. Results go to
tests/benchmarks/results/simulators_FAMILY.json, one file for each family of processors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from networks import NETWORKS, RESULTS, processor_family, random_samples, spread, write_result

from neurodeploy import netx
from neurodeploy.ir.graphs import FixedPointGraph
from neurodeploy.lava_bridge import LavaSimulator
from neurodeploy.samples.array_files import load_inputs
from neurodeploy.simulation import (
    EventSimulator,
    Record,
    Recording,
)
from neurodeploy.testing import assert_bit_exact

SAMPLES = {"conv": (256, 16), "wide": (256, 2), "pilotnet": (64, 6), "mlp": (2048, 256)}
"""Samples for us and for Lava."""
REPEATS = 7
LAVA_REPEATS = 3
LATENCIES = 64


def rate(recording: Recording) -> float:
    """Sample-steps per second while stepping."""
    return recording.samples * recording.steps / recording.seconds


def rate_with_reading(recording: Recording) -> float:
    """Sample-steps per second with arrays of all spikes and counts, which are made when read."""
    begin = time.perf_counter()
    for _ in (*recording.spikes, *(recording.events or ())):
        pass
    seconds = recording.seconds + time.perf_counter() - begin
    return recording.samples * recording.steps / seconds


def one_by_one(graph: FixedPointGraph, samples: np.ndarray) -> list[float]:
    """Return the seconds a step of calls with one sample each, all that a call does included."""
    simulator, record = EventSimulator(graph, threads=1), Record(spikes=graph.names[-1:], states=())
    simulator.run(samples[:1], record=record)
    found = []
    for number in range(LATENCIES):
        sample = samples[number % len(samples)][None]
        begin = time.perf_counter()
        simulator.run(sample, record=record)
        found.append((time.perf_counter() - begin) / samples.shape[1])
    return found


def compare(
    name: str, graph: FixedPointGraph, samples: np.ndarray, lava_samples: int, path: Path
) -> dict[str, object]:
    """Run both and print what was found."""
    simulator = EventSimulator(graph)
    begin = time.perf_counter()
    simulator.run(samples[:1])
    first = time.perf_counter() - begin
    activity = [float(np.mean(spikes != 0)) for spikes in simulator.run(samples).spikes]
    kinds = {
        "everything": Record(),
        "outputs": Record(spikes=graph.names[-1:], states=()),
        "events": Record(spikes=(), states=(), counts=True, updates=False),
        "counts": Record(spikes=(), states=(), counts=True),
    }
    read = {kind: f"{kind}, read" for kind in ("everything", "events", "counts")}
    rates: dict[str, list[float]] = {kind: [] for kind in (*kinds, *read.values(), "lava")}
    for round_ in range(REPEATS):  # in turn: what is compared meets the same moods of the machine
        for kind, record in kinds.items():
            recording = simulator.run(samples, record=record)
            rates[kind].append(rate(recording))
            if kind in read:
                rates[read[kind]].append(rate_with_reading(recording))
            del recording  # its memory is no part of the next run's
        if round_ % (REPEATS // LAVA_REPEATS) == 0:
            lava = LavaSimulator(
                path, input_bits=graph.input.message_bits, layer_names=graph.names
            ).run(samples[:lava_samples])
            rates["lava"].append(rate(lava))
    assert_bit_exact(simulator.run(samples[:lava_samples]), lava)
    latencies = one_by_one(graph, samples)
    of_lava = statistics.median(rates["lava"])
    found = {
        "network": name,
        "measured": time.strftime("%Y-%m-%d"),
        "activity": activity,
        "samples": len(samples),
        "steps": lava.steps,
        "lava_samples": lava_samples,
        "first_call_seconds": first,
        "lava_startup_seconds": lava.startup_seconds,
        "sample_steps_per_second": {kind: spread(values) for kind, values in rates.items()},
        "latency_seconds_per_step": spread(latencies),
        "latency_ratio": 1 / statistics.median(latencies) / of_lava,
        "ratio": statistics.median(rates["everything"]) / statistics.median(rates["lava"]),
        "ratio_least": min(rates["everything"]) / max(rates["lava"]),
        "ratio_most": max(rates["everything"]) / min(rates["lava"]),
    }
    shown = "; ".join(
        f"{kind} {statistics.median(values):,.4g} ({min(values):,.4g} to {max(values):,.4g})"
        for kind, values in rates.items()
    )
    print(
        f"{name}: sample-steps/s, median and range: {shown}; Lava takes "
        f"{lava.startup_seconds:.1f} s to start. With all spikes kept {found['ratio']:,.0f}x "
        f"({found['ratio_least']:,.0f}x to {found['ratio_most']:,.0f}x). Layers spike at "
        f"{', '.join(f'{one:.0%}' for one in activity)}. One sample at a time, on one thread: "
        f"{1000 * statistics.median(latencies):.3f} ms a step ({1000 * min(latencies):.3f} to "
        f"{1000 * max(latencies):.3f}), {found['latency_ratio']:,.0f}x. Every "
        f"spike of every layer is equal on "
        f"{lava_samples} samples.",
        flush=True,
    )
    return found


def write_row(found: dict[str, object]) -> None:
    """Write what was found in place of what is known of the same network."""
    name = f"simulators_{processor_family()}"
    path = RESULTS / f"{name}.json"
    known = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    rows = {row["network"]: row for row in known} | {found["network"]: found}
    write_result(name, list(rows.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=[], help=", ".join(NETWORKS))
    parser.add_argument("--net", type=Path, help="a netx file of LIF neurons with binary input")
    parser.add_argument("--input", type=Path, help=".npz with `input`, (samples, T, ...)")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--lava-samples", type=int)
    options = parser.parse_args()
    if options.net is not None:
        samples = load_inputs(options.input)[: options.samples]
        graph = netx.read(options.net)
        write_row(compare(options.net.stem, graph, samples, options.lava_samples or 1, options.net))
    else:
        for name in options.networks or NETWORKS:
            rng = np.random.default_rng(0)
            graph = NETWORKS[name](rng)
            count, lava_count = SAMPLES[name]
            samples = random_samples(rng, graph, options.samples or count)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "random.net"
                netx.write(graph, path)
                write_row(compare(name, graph, samples, options.lava_samples or lava_count, path))


if __name__ == "__main__":
    main()
