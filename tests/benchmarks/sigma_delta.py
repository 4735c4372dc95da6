"""Compiled sigma-delta layers against their NumPy twin and real Lava.

    python tests/benchmarks/sigma_delta.py [golden pilotnet] [--samples N] [--rounds N] [--no-lava]

Two parts, each all in turn in one run; speeds are medians with their range.

- The five-layer golden network of trained digits, input block included, in Lava's own time: each of
  its 160 frames, one stream by itself and 16 side by side. Lava runs the one stream. Every message
  of every layer is compared.
- PilotNet's layers with random weights, by activity, 3x66x200 input of which one value in ten
  changes at a step: thresholds are searched for several shares of neurons that send. All that both
  give is compared.

Results go to tests/benchmarks/results/sigma_delta_FAMILY.json, one for each family of processors.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from networks import conv, dense, processor_family, spread, write_result

from neurodeploy import netx
from neurodeploy.ir.graphs import FixedInput, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    FixedLayer,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.lava_bridge import LavaSimulator
from neurodeploy.simulation import EventSimulator, Feed, Record, Recording, Stream
from neurodeploy.testing import assert_bit_exact

PORT = (3, 66, 200)
STEPS = 8
ACTIVITIES = (0.02, 0.1, 0.3)
LAVA_ROUNDS = 3
GOLDEN = Path(__file__).parents[1] / "golden/sigma_delta/11_digits_trained.net"
Runs = dict[str, Callable[[], Recording]]


def in_turn(runs: Runs, rounds: int) -> dict[str, list[float]]:
    """Sample-steps per second while stepping, of each run in each round; Lava in a few of them."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds):
        for name, run in runs.items():
            if name == "lava" and round_ % max(1, rounds // LAVA_ROUNDS):
                continue
            recording = run()
            rates[name].append(recording.samples * recording.steps / recording.seconds)
    return rates


def ratios(rates: dict[str, list[float]], ours: str, other: str) -> dict[str, float]:
    """Ratio of the medians, and the least and the most that the ranges allow."""
    one, two = rates[ours], rates[other]
    return {
        "median": statistics.median(one) / statistics.median(two),
        "least": min(one) / max(two),
        "most": max(one) / min(two),
    }


def shown(found: dict[str, float]) -> str:
    """Median and range in words."""
    return f"{found['median']:,.4g}x ({found['least']:,.4g}x to {found['most']:,.4g}x)"


def golden(rounds: int, *, with_lava: bool) -> dict[str, object]:
    """Measure the five-layer golden network."""
    graph = netx.read(GOLDEN)
    with np.load(GOLDEN.with_suffix(".npz")) as file:
        frames = file["x"].astype(np.int32)[None]
    frames = np.concatenate([frames, frames[:, -1:].repeat(len(graph.layers) - 1, axis=1)], axis=1)
    many = np.stack([np.roll(frames[0], 4 * shift, axis=0) for shift in range(16)])
    compiled, plain = EventSimulator(graph), EventSimulator(graph, is_compiled=False)
    lava = LavaSimulator(GOLDEN, layer_names=graph.names) if with_lava else None
    options = {"timing": Stream(), "feed": Feed.NEURON}
    answers = Record(spikes=graph.names[-1:], states=())
    runs: Runs = {
        "ours": lambda: compiled.run(frames, **options),
        "ours, answers alone": lambda: compiled.run(frames, record=answers, **options),
        "numpy": lambda: plain.run(frames, **options),
        "ours, 16 streams": lambda: compiled.run(many, **options),
        "numpy, 16 streams": lambda: plain.run(many, **options),
    }
    for run in (*runs.values(),):
        run()
    if lava is not None:
        runs["lava"] = lambda: lava.run(frames, **options)
        assert_bit_exact(compiled.run(frames, **options), runs["lava"]())
    for values in (frames, many):
        ours, expected = compiled.run(values, **options), plain.run(values, **options)
        assert_bit_exact(ours, expected)
        assert ours.health == expected.health
    rates = in_turn(runs, rounds)
    pairs = [("ours", "numpy"), ("ours, 16 streams", "numpy, 16 streams")]
    if with_lava:
        pairs += [("ours", "lava"), ("ours, answers alone", "lava")]
    found = {f"{one} / {two}": ratios(rates, one, two) for one, two in pairs}
    for name, ratio in found.items():
        print(f"golden network, {name}: {shown(ratio)}", flush=True)
    return {
        "network": GOLDEN.stem,
        "frames": frames.shape[1],
        "sample_steps_per_second": {name: spread(one) for name, one in rates.items()},
        "ratios": found,
    }


def pilotnet(rng: np.random.Generator, inputs: np.ndarray, activity: float) -> FixedPointGraph:
    """Make five conv and three dense layers of sigma-delta neurons, and one that sums.

    The threshold of each is searched so that about `activity` of its neurons send at a step.
    """
    shapes = ((24, 2, 0), (36, 2, 0), (48, 2, 0), (64, (2, 1), (1, 0)), (64, 1, 0))
    makers = [conv(rng, *one) for one in shapes] + [dense(rng, n) for n in (100, 50, 10, 1)]
    layers: list[FixedLayer] = []
    source, shape = "input", PORT
    for index, make in enumerate(makers):
        synapse = make(shape)
        shape = synapse.output_shape(shape)
        low, high = (0, 1 << 16) if index < len(makers) - 1 else (0, 0)
        while True:
            threshold = (low + high) // 2
            layer = FixedLayer(
                name=f"layer{index}",
                shape=shape,
                connections=(Connection(source=source, synapse=synapse),),
                neuron=SigmaDeltaNeuron(threshold=threshold, spike_exponent=0)
                if index < len(makers) - 1
                else SigmaNeuron(),
                bias=np.zeros((), np.int32),
            )
            graph = FixedPointGraph(
                input=FixedInput(shape=PORT, message_bits=8), layers=(*layers, layer)
            )
            if high - low <= 1:
                break
            sent = EventSimulator(graph).run(inputs[:1]).spikes_of(-1)
            low, high = (threshold, high) if np.mean(sent != 0) > activity else (low, threshold)
        layers.append(layer)
        source = layer.name
    return graph


def changes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return (count, T, *port) int32: values at the first step, then changes of one in ten."""
    values = rng.integers(-2, 3, (count, STEPS, *PORT), dtype=np.int32)
    values[:, 1:][rng.random(values[:, 1:].shape) >= 0.1] = 0
    return values


def by_activity(wanted: float, samples: int, rounds: int) -> dict[str, object]:
    """Measure PilotNet's layers at one activity."""
    rng = np.random.default_rng(0)
    inputs = changes(rng, samples)
    graph = pilotnet(rng, inputs, wanted)
    compiled, plain = EventSimulator(graph), EventSimulator(graph, is_compiled=False)
    ours, expected = compiled.run(inputs), plain.run(inputs)
    assert_bit_exact(ours, expected)
    assert ours.health == expected.health
    rates = in_turn(
        {"ours": lambda: compiled.run(inputs), "numpy": lambda: plain.run(inputs)}, rounds
    )
    activity = float(np.mean([np.mean(spikes != 0) for spikes in ours.spikes[:-1]]))
    ratio = ratios(rates, "ours", "numpy")
    print(f"PilotNet's layers, sending at {activity:.1%}: {shown(ratio)} NumPy", flush=True)
    return {
        "activity": activity,
        "sample_steps_per_second": {name: spread(one) for name, one in rates.items()},
        "ratio": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["golden", "pilotnet"])
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-lava", action="store_true")
    options = parser.parse_args()
    found: dict[str, object] = {}
    if "golden" in options.parts:
        found["golden"] = golden(3 * options.rounds, with_lava=not options.no_lava)
    if "pilotnet" in options.parts:
        found["pilotnet"] = [
            by_activity(activity, options.samples, options.rounds) for activity in ACTIVITIES
        ]
    write_result(f"sigma_delta_{processor_family()}", found)


if __name__ == "__main__":
    main()
