"""Networks with random weights for the benchmarks, and a home for their results."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import avx2
import numpy as np
from llvmlite.binding import get_host_cpu_features

from neurodeploy.files import write_text
from neurodeploy.ir.graphs import FixedInput, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedLayer,
    Synapse,
)
from neurodeploy.provenance import provenance
from neurodeploy.simulation import EventSimulator

STEPS = 4
ACTIVITY = 0.1
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numba", "numpy")


def random_samples(
    rng: np.random.Generator, graph: FixedPointGraph, count: int, activity: float = ACTIVITY
) -> np.ndarray:
    """Return (count, T, *port) int32 spikes."""
    return (rng.random((count, STEPS, *graph.input.shape)) < activity).astype(np.int32)


def stack(
    rng: np.random.Generator,
    port: tuple[int, ...],
    synapses: Sequence[Callable[[tuple[int, ...]], Synapse]],
    *,
    activity: float = ACTIVITY,
    voltage_decay: int = 2048,
) -> FixedPointGraph:
    """Chain layers whose thresholds are searched so that each spikes at about `activity`."""
    layers: list[FixedLayer] = []
    source, shape = "input", port
    graph = FixedPointGraph(input=FixedInput(shape=port), layers=_one(rng, port))
    samples = random_samples(rng, graph, 4, activity)
    for index, make in enumerate(synapses):
        synapse = make(shape)
        shape = synapse.output_shape(shape)
        low, high = 1, 1 << 16
        while high - low > 1:
            threshold = (low + high) // 2
            layer = FixedLayer(
                name=f"{'conv' if isinstance(synapse, FixedConv) else 'dense'}{index}",
                shape=shape,
                connections=(Connection(source=source, synapse=synapse),),
                neuron=CubaNeuron(
                    current_decay=np.array(4096, np.int32),
                    voltage_decay=np.array(voltage_decay, np.int32),
                    threshold=np.array(threshold, np.int32),
                ),
                bias=np.zeros((), np.int32),
            )
            graph = FixedPointGraph(input=FixedInput(shape=port), layers=(*layers, layer))
            found = EventSimulator(graph).run(samples).spikes_of(-1).mean()
            low, high = (threshold, high) if found > activity else (low, threshold)
        layers.append(layer)
        source = layer.name
    return graph


def _one(rng: np.random.Generator, port: tuple[int, ...]) -> tuple[FixedLayer, ...]:
    """Any layer: only the port of the first graph matters."""
    synapse = dense(rng, 1)(port)
    return (
        FixedLayer(
            name="any",
            shape=(1,),
            connections=(Connection(source="input", synapse=synapse),),
            neuron=CubaNeuron(
                current_decay=np.array(0, np.int32),
                voltage_decay=np.array(0, np.int32),
                threshold=np.array(1, np.int32),
            ),
            bias=np.zeros((), np.int32),
        ),
    )


def conv(
    rng: np.random.Generator, channels: int, stride: int | tuple[int, int], padding: object = 1
) -> Callable[[tuple[int, ...]], FixedConv]:
    """3x3 with even 8-bit weights."""

    def make(shape: tuple[int, ...]) -> FixedConv:
        weight = 2 * rng.integers(-60, 61, (channels, shape[0], 3, 3)).astype(np.int32)
        strides = (stride, stride) if isinstance(stride, int) else stride
        paddings = (padding, padding) if isinstance(padding, int) else padding
        return FixedConv(weight=weight, stride=strides, padding=paddings)

    return make


def dense(rng: np.random.Generator, outputs: int) -> Callable[[tuple[int, ...]], FixedDense]:
    """All-to-all with even 8-bit weights."""

    def make(shape: tuple[int, ...]) -> FixedDense:
        weight = 2 * rng.integers(-60, 61, (outputs, int(np.prod(shape)))).astype(np.int32)
        weight[0, 0] = -2
        weight[-1, -1] = 2
        return FixedDense(weight=weight)

    return make


def conv_net(rng: np.random.Generator) -> FixedPointGraph:
    """Six conv layers on 32x32x3."""
    shapes = ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1))
    return stack(rng, (3, 32, 32), [conv(rng, *shape) for shape in shapes])


def pilotnet(rng: np.random.Generator) -> FixedPointGraph:
    """PilotNet's layers on 3x66x200, all of LIF neurons."""
    shapes = ((24, 2, 0), (36, 2, 0), (48, 2, 0), (64, (2, 1), (1, 0)), (64, 1, 0))
    layers = [conv(rng, *shape) for shape in shapes]
    return stack(rng, (3, 66, 200), [*layers, *(dense(rng, n) for n in (100, 50, 10, 1))])


def mlp(rng: np.random.Generator) -> FixedPointGraph:
    """Dense 784-512-10."""
    return stack(rng, (784,), [dense(rng, 512), dense(rng, 10)])


def wide_conv_net(rng: np.random.Generator) -> FixedPointGraph:
    """Six conv layers on 32x32x3, four times as wide."""
    shapes = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1))
    return stack(rng, (3, 32, 32), [conv(rng, *shape) for shape in shapes])


NETWORKS = {"conv": conv_net, "wide": wide_conv_net, "pilotnet": pilotnet, "mlp": mlp}


def processor_family() -> str:
    """Name of the widest vectors that kernels are compiled for here, as in a result's file name.

    Limited to AVX2 on a processor that knows more (`avx2.py`), it is another name than that of a
    processor that knows no more.
    """
    return "avx2_code" if avx2.is_limited() else widest_vectors()


def widest_vectors() -> str:
    """Name of the widest vectors that the processor knows."""
    features = get_host_cpu_features()
    return next((name for name in ("avx512f", "avx2") if features.get(name)), "other").rstrip("f")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def write_result(name: str, found: object) -> None:
    """Write a result with the command, commit and machine behind it."""
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    limited = {}
    if avx2.is_limited():
        command.insert(0, "avx2.py")
        limited = {"code": f"AVX2, on a processor with {widest_vectors()}"}
    document = {
        "command": f"python tests/benchmarks/{' '.join(command)}",
        **limited,
        "seed": 0,
        **provenance(Path(__file__).parent, code=("neurodeploy", "tests"), packages=PACKAGES),
        "results": found,
    }
    write_text(RESULTS / f"{name}.json", json.dumps(document, indent=2) + "\n")
