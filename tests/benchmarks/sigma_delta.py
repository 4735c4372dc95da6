"""Compiled sigma-delta layers against the NumPy path: PilotNet's layers, by activity.

    python tests/benchmarks/sigma_delta.py [--samples N]

Random weights, 3x66x200 input of which one value in ten changes at a step. The neurons' thresholds
are searched for several shares of neurons that send. All that both give is compared; speeds are
the best of some runs, in turn. Results go to tests/benchmarks/results/sigma_delta.json.
"""

from __future__ import annotations

import argparse

import numpy as np
from networks import conv, dense, write_result

from neurodeploy.ir.graphs import FixedInput, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    FixedLayer,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.simulation import EventSimulator

PORT = (3, 66, 200)
STEPS = 8
ACTIVITIES = (0.02, 0.1, 0.3)
REPEATS = 3


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args()
    results = []
    for wanted in ACTIVITIES:
        rng = np.random.default_rng(0)
        inputs = changes(rng, options.samples)
        graph = pilotnet(rng, inputs, wanted)
        compiled, plain = EventSimulator(graph), EventSimulator(graph, is_compiled=False)
        ours, expected = compiled.run(inputs), plain.run(inputs)
        assert ours.health == expected.health
        for one, other in zip(ours.spikes, expected.spikes, strict=True):
            assert np.array_equal(one, other)
        speeds = [0.0, 0.0]
        for _ in range(REPEATS):
            for number, simulator in enumerate((compiled, plain)):
                speed = options.samples * STEPS / simulator.run(inputs).seconds
                speeds[number] = max(speeds[number], speed)
        activity = float(np.mean([np.mean(spikes != 0) for spikes in ours.spikes[:-1]]))
        found = {
            "activity": activity,
            "compiled": speeds[0],
            "numpy": speeds[1],
            "ratio": speeds[0] / speeds[1],
        }
        print(
            f"layers send at {activity:.1%}: {speeds[0]:,.0f} "
            f"sample-steps/s, NumPy {speeds[1]:,.0f}: {found['ratio']:.1f}x",
            flush=True,
        )
        results.append(found)
    write_result("sigma_delta", results)


if __name__ == "__main__":
    main()
