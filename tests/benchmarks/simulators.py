"""Our simulator against real Lava: same file, same input, one run, spikes compared.

    python tests/benchmarks/simulators.py [--net NET --input IN.npz] [--lava-samples N]

Without --net a network of six conv layers on 32x32x3 with random weights is made. Lava gets the
first samples only; the ratio is of sample-steps per second while stepping, start-up left out of
both and shown apart.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np

from neurodeploy import netx
from neurodeploy.ir.fixed_layers import Connection, CubaNeuron, FixedConv, FixedLayer
from neurodeploy.ir.graph import FixedInput, FixedPointGraph
from neurodeploy.simulation import EventSimulator, LavaSimulator, Recording
from neurodeploy.simulation.storage import load_inputs
from neurodeploy.testing import assert_bit_exact

STEPS = 4
LAYERS = ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1))
"""(channels, stride) of each layer of the network that is made."""


def make_network(rng: np.random.Generator) -> FixedPointGraph:
    """Six conv layers whose thresholds are set so that each spikes at roughly ten per cent."""
    layers: list[FixedLayer] = []
    source, shape = "input", (3, 32, 32)
    samples = make_samples(rng, 4)
    for index, (channels, stride) in enumerate(LAYERS):
        weight = 2 * rng.integers(-60, 61, (channels, shape[0], 3, 3)).astype(np.int32)
        synapse = FixedConv(weight=weight, stride=(stride, stride), padding=(1, 1))
        shape = synapse.output_shape(shape)
        low, high = 1, 1 << 16
        while high - low > 1:
            threshold = (low + high) // 2
            layer = FixedLayer(
                name=f"conv{index}",
                shape=shape,
                connections=(Connection(source=source, synapse=synapse),),
                neuron=CubaNeuron(
                    current_decay=np.array(4096, np.int32),
                    voltage_decay=np.array(2048, np.int32),
                    threshold=np.array(threshold, np.int32),
                ),
                bias=np.zeros((), np.int32),
            )
            graph = FixedPointGraph(input=FixedInput(shape=(3, 32, 32)), layers=(*layers, layer))
            rate = EventSimulator(graph).run(samples).spikes[-1].mean()
            low, high = (threshold, high) if rate > 0.1 else (low, threshold)
        layers.append(layer)
        source = layer.name
    return graph


def make_samples(rng: np.random.Generator, count: int) -> np.ndarray:
    """Give (count, T, 3, 32, 32) spikes at ten per cent."""
    return (rng.random((count, STEPS, 3, 32, 32)) < 0.1).astype(np.int32)


def rate(recording: Recording) -> float:
    """Sample-steps per second while stepping."""
    return recording.samples * recording.steps / recording.seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Our simulator against real Lava.")
    parser.add_argument("--net", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--lava-samples", type=int, default=4)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        if options.net is None:
            path, samples = Path(folder) / "conv6.net", make_samples(rng, options.samples)
            netx.write(make_network(rng), path)
        else:
            path, samples = options.net, load_inputs(options.input)[: options.samples]
        graph = netx.read(path)
        EventSimulator(graph).run(samples[:1])
        ours = EventSimulator(graph).run(samples)
        few = samples[: options.lava_samples]
        lava = LavaSimulator(
            path, input_bits=graph.input.message_bits, layer_names=graph.names
        ).run(few)
        assert_bit_exact(EventSimulator(graph).run(few), lava)
    activity = ", ".join(f"{spikes.mean():.0%}" for spikes in ours.spikes)
    print(f"{path.name}: {len(graph.layers)} layers, activity {activity}; {platform.machine()}")
    print(f"ours {rate(ours):12,.1f} sample-steps/s ({ours.samples} samples)")
    print(
        f"Lava {rate(lava):12,.1f} sample-steps/s ({lava.samples} samples; "
        f"+ {lava.startup_seconds:.1f} s to start)"
    )
    print(f"ratio {rate(ours) / rate(lava):,.0f}, every spike equal")


if __name__ == "__main__":
    main()
