"""Compiled resonators and input blocks against their NumPy twins.

    python tests/benchmarks/neuron_kinds.py [--rounds N]

Random weights: 256 values into 512 resonate-and-fire neurons that fire by threshold; blocks of
3x64x64 LIF and delta neurons that are fed images, in front of a dense layer of 10. Runs in turn;
speeds are medians with their range. All that both give is compared. Sigma-delta layers:
`sigma_delta.py`. Results: tests/benchmarks/results/neuron_kinds.json.
"""

from __future__ import annotations

import argparse

import numpy as np
from networks import dense, spread, write_result
from sigma_delta import in_turn, ratios, shown

from neurodeploy.ir.graphs import FixedInput, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    DeltaNeuron,
    FixedComplexDense,
    FixedInjection,
    FixedLayer,
    Neuron,
    ResonateFireNeuron,
    SigmaNeuron,
    Synapse,
)
from neurodeploy.simulation import EventSimulator, Feed
from neurodeploy.testing import assert_bit_exact

IMAGE = (3, 64, 64)
SAMPLES, STEPS = 64, 16


def number(value: int) -> np.ndarray:
    """Return a parameter that all neurons share."""
    return np.array(value, np.int32)


def layer(
    name: str, source: str, synapse: Synapse, shape: tuple[int, ...], neuron: Neuron
) -> FixedLayer:
    """Return a layer without biases."""
    return FixedLayer(
        name=name,
        shape=shape,
        connections=(Connection(source=source, synapse=synapse),),
        neuron=neuron,
        bias=number(0),
    )


def resonators(rng: np.random.Generator) -> FixedPointGraph:
    """256 binary inputs into 512 resonators."""
    real, imaginary = (dense(rng, 512)((256,)) for _ in range(2))
    neuron = ResonateFireNeuron(sine_decay=1000, cosine_decay=3900, threshold=600, is_phase=False)
    synapse = FixedComplexDense(real=real, imaginary=imaginary)
    return FixedPointGraph(
        input=FixedInput(shape=(256,)),
        layers=(layer("resonators", "input", synapse, (512,), neuron),),
    )


def block(rng: np.random.Generator, first: Neuron, last: Neuron) -> FixedPointGraph:
    """Image into a block of neurons, and a dense layer."""
    return FixedPointGraph(
        input=FixedInput(shape=IMAGE, message_bits=8),
        layers=(
            layer("block", "input", FixedInjection(), IMAGE, first),
            layer("dense", "block", dense(rng, 10)(IMAGE), (10,), last),
        ),
    )


def lif(threshold: int) -> CubaNeuron:
    """Neurons whose current does not outlive its step."""
    return CubaNeuron(
        current_decay=number(4096), voltage_decay=number(128), threshold=number(threshold)
    )


def networks(
    rng: np.random.Generator,
) -> dict[str, tuple[FixedPointGraph, np.ndarray, Feed]]:
    """Name the networks, with inputs and how they are fed."""
    spikes = (rng.random((SAMPLES, STEPS, 256)) < 0.1).astype(np.int32)
    images = rng.integers(0, 256, (SAMPLES, STEPS, *IMAGE), dtype=np.int32)
    images[:, 1:][rng.random(images[:, 1:].shape) < 0.9] = 0
    return {
        "resonators": (resonators(rng), spikes, Feed.PORT),
        "LIF block": (block(rng, lif(200), lif(1 << 14)), images, Feed.NEURON),
        "delta block": (
            block(rng, DeltaNeuron(threshold=60, spike_exponent=0), SigmaNeuron()),
            images,
            Feed.NEURON,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    found: dict[str, object] = {}
    for name, (graph, inputs, feed) in networks(np.random.default_rng(0)).items():
        compiled, plain = EventSimulator(graph), EventSimulator(graph, is_compiled=False)
        runs = {
            "ours": lambda one=compiled, x=inputs, feed=feed: one.run(x, feed=feed),
            "numpy": lambda one=plain, x=inputs, feed=feed: one.run(x, feed=feed),
        }
        ours, expected = (run() for run in runs.values())
        assert_bit_exact(ours, expected)
        assert ours.health == expected.health
        activity = float(np.mean(ours.spikes[0] != 0))
        rates = in_turn(runs, options.rounds)
        ratio = ratios(rates, "ours", "numpy")
        print(f"{name}, sending at {activity:.1%}: {shown(ratio)} NumPy", flush=True)
        found[name] = {
            "activity": activity,
            "sample_steps_per_second": {kind: spread(values) for kind, values in rates.items()},
            "ratio": ratio,
        }
    write_result("neuron_kinds", found)


if __name__ == "__main__":
    main()
