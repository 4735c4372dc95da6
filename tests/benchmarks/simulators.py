"""Our simulator against real Lava: same file, same input, one run, every spike compared.

    python tests/benchmarks/simulators.py [conv pilotnet mlp] [--samples N] [--lava-samples N]
    python tests/benchmarks/simulators.py --net NET --input IN.npz

Networks with random weights: six conv layers on 32x32x3 (16 to 64 channels,
and 64 to 256), PilotNet's layers with LIF neurons, and a
dense 784-512-10; thresholds are set so that each layer spikes at roughly ten per cent. Lava gets
the first samples only; the ratio is of sample-steps per second while stepping, the best of some
runs for both, start-up left out of both and shown apart. Results go to
tests/benchmarks/results/simulators.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from networks import NETWORKS, random_samples, write_result

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


def rate(recording: Recording) -> float:
    """Sample-steps per second while stepping."""
    return recording.samples * recording.steps / recording.seconds


def compare(
    name: str, graph: FixedPointGraph, samples: np.ndarray, lava_samples: int, path: Path
) -> dict[str, object]:
    """Run both and print what was found."""
    simulator = EventSimulator(graph)
    begin = time.perf_counter()
    simulator.run(samples[:1])
    first = time.perf_counter() - begin
    ours = simulator.run(samples)
    rates = [rate(simulator.run(samples)) for _ in range(REPEATS)]
    best = max(rates)
    several = {
        "outputs": Record(spikes=graph.names[-1:], states=()),
        "events": Record(spikes=(), states=(), counts=True, updates=False),
        "counts": Record(spikes=(), states=(), counts=True),
    }
    best_of = dict.fromkeys(several, 0.0)
    for _ in range(REPEATS):  # in turn: what is compared meets the same moods of the machine
        for kind, record in several.items():
            best_of[kind] = max(best_of[kind], rate(simulator.run(samples, record=record)))
    lava_rates = []
    for _ in range(LAVA_REPEATS):
        lava = LavaSimulator(
            path, input_bits=graph.input.message_bits, layer_names=graph.names
        ).run(samples[:lava_samples])
        lava_rates.append(rate(lava))
    lava_best = max(lava_rates)
    assert_bit_exact(simulator.run(samples[:lava_samples]), lava)
    found = {
        "network": name,
        "activity": [float(np.mean(spikes != 0)) for spikes in ours.spikes],
        "samples": len(samples),
        "steps": ours.steps,
        "ours": best,
        "ours_of_all_runs": rates,
        "ours_outputs_only": best_of["outputs"],
        "ours_events_only": best_of["events"],
        "ours_counts_only": best_of["counts"],
        "ours_first_call_seconds": first,
        "lava": lava_best,
        "lava_of_all_runs": lava_rates,
        "lava_samples": lava_samples,
        "lava_startup_seconds": lava.startup_seconds,
        "ratio": best / lava_best,
    }
    activity = ", ".join(f"{one:.0%}" for one in found["activity"])
    print(
        f"{name}: {best:,.0f} sample-steps/s with all spikes kept, "
        f"{best_of['outputs']:,.0f} outputs only, {best_of['events']:,.0f} events only, "
        f"{best_of['counts']:,.0f} with updates; Lava {min(lava_rates):,.1f} to {lava_best:,.1f} "
        f"({lava.startup_seconds:.1f} s to start): {best / lava_best:,.0f}x. "
        f"Layers spike at {activity}. Every spike of every layer is equal on {lava_samples} "
        "samples.",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=[], help=", ".join(NETWORKS))
    parser.add_argument("--net", type=Path, help="a netx file of LIF neurons with binary input")
    parser.add_argument("--input", type=Path, help=".npz with `input`, (samples, T, ...)")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--lava-samples", type=int)
    options = parser.parse_args()
    results = []
    if options.net is not None:
        samples = load_inputs(options.input)[: options.samples]
        graph = netx.read(options.net)
        results.append(
            compare(options.net.stem, graph, samples, options.lava_samples or 1, options.net)
        )
    else:
        for name in options.networks or NETWORKS:
            rng = np.random.default_rng(0)
            graph = NETWORKS[name](rng)
            count, lava_count = SAMPLES[name]
            samples = random_samples(rng, graph, options.samples or count)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "random.net"
                netx.write(graph, path)
                results.append(
                    compare(name, graph, samples, options.lava_samples or lava_count, path)
                )
    write_result("simulators", results)


if __name__ == "__main__":
    main()
