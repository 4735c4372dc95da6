"""Bounds of a sigma-delta network's integers: no input passes them, and some input reaches them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from strategies import generators

from neurodeploy.conversion.assembly import run_stream
from neurodeploy.conversion.proofs import prove
from neurodeploy.fixedpoint import MESSAGE_MAX, STATE_MAX
from neurodeploy.ir import (
    Connection,
    DeltaNeuron,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    SigmaDeltaNeuron,
    SigmaNeuron,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import FixedInjection, Neuron, Synapse

SHAPE = (2, 4, 4)


def network(rng: np.random.Generator, size: int, exponent: int) -> FixedPointGraph:
    """An input block, two conv layers, a dense one, and sums."""

    def integers(*shape: int, step: int = 2) -> np.ndarray:
        return step * rng.integers(-size, size + 1, shape, dtype=np.int32)

    def neuron() -> SigmaDeltaNeuron:
        return SigmaDeltaNeuron(threshold=int(rng.integers(1, 9)), spike_exponent=exponent)

    groups = int(rng.choice([1, 2]))
    block = DeltaNeuron(threshold=int(rng.choice([0, 3])), spike_exponent=exponent)
    # Weights that are multiples of 64 drop nothing, others do.
    relays = integers(2, 2 // groups, 1, 1, step=int(rng.choice([2, 64])))
    parts: list[tuple[str, Synapse, Neuron, tuple[int, ...]]] = [
        ("frame", FixedInjection(), block, SHAPE),
        ("first", FixedConv(weight=integers(3, 2, 3, 3), padding=(1, 1)), neuron(), (3, 4, 4)),
        ("second", FixedConv(weight=integers(2, 3, 2, 2), stride=(2, 2)), neuron(), (2, 2, 2)),
        ("third", FixedConv(weight=relays, groups=groups), neuron(), (2, 2, 2)),
        ("sums", FixedDense(weight=integers(3, 8)), SigmaNeuron(), (3,)),
    ]
    layers, source = [], INPUT
    for name, synapse, kind, shape in parts:
        bias = np.zeros((), np.int32)
        if isinstance(kind, SigmaDeltaNeuron):
            bias = rng.integers(-3, 4, (shape[0], 1, 1), dtype=np.int32)
        connections = (Connection(source=source, synapse=synapse),)
        layers.append(
            FixedLayer(name=name, shape=shape, connections=connections, neuron=kind, bias=bias)
        )
        source = name
    return FixedPointGraph(input=FixedInput(shape=SHAPE), layers=tuple(layers))


@settings(max_examples=30)
@given(generators)
def test_no_input_passes_a_bound(rng: np.random.Generator) -> None:
    exponent = int(rng.choice([0, 3, 6]))
    graph = network(rng, int(rng.choice([1, 20])), exponent)
    low, high = sorted(map(int, rng.integers(-40, 41, 2)))
    frames = rng.choice([low, high, 0], (4, 10, *SHAPE))
    frames = np.clip(frames, low, high)
    run = run_stream(graph, frames)
    proofs = prove(graph, run, low=low, high=high, frames=40, steps=14)
    assert len(proofs.obligations) == 2 + 3 * 3 + 2
    is_proved = True
    for one in proofs.obligations:
        assert one.bound is not None
        assert one.widest_bound is not None
        assert one.peak <= one.bound <= one.widest_bound
        assert one.limit == (MESSAGE_MAX if one.quantity == "message" else STATE_MAX)
        # What comes after a limit that may be passed is not proved either.
        is_proved = is_proved and one.bound <= one.limit
        assert (one.scope != "frames") == is_proved
        assert one.scope != "every input" or one.widest_bound <= one.limit


def test_the_worst_input_reaches_the_bound_of_the_first_layer() -> None:
    rng = np.random.default_rng(5)
    graph = network(rng, 20, 6)
    block, first, *rest = graph.layers
    block = replace(block, neuron=DeltaNeuron(threshold=0, spike_exponent=6))
    graph = replace(graph, layers=(block, first, *rest))
    synapse = first.connections[0].synapse
    # The frame that fits the kernel of a channel at one place best: its sigma is the largest.
    worst = []
    for channel in range(3):
        for sign in (1, -1):
            frame = np.zeros(SHAPE, np.int64)
            frame[:, :3, :3] = np.where(sign * synapse.weight[channel] > 0, 50, -50)
            worst += [np.stack([frame, -frame])]
    run = run_stream(graph, np.stack(worst))
    proofs = prove(graph, run, low=-50, high=50, frames=12, steps=6)
    found = {(one.layer, one.quantity): one for one in proofs.obligations}
    state = found["first", "state"]
    assert state.peak == state.bound
    change = found["first", "sum of a step"]
    assert change.peak == change.bound


def test_relays_drop_nothing_however_long_a_stream_is() -> None:
    """Weights of 64 pass on what comes: bounds do not grow with the steps."""
    ones = FixedConv(weight=64 * np.eye(2, dtype=np.int32).reshape(2, 2, 1, 1))
    neuron = SigmaDeltaNeuron(threshold=1, spike_exponent=6)
    layers, source = [], INPUT
    parts: list[tuple[str, Synapse, Neuron]] = [
        ("frame", FixedInjection(), DeltaNeuron(threshold=0, spike_exponent=6)),
        ("relay", ones, neuron),
        ("again", ones, neuron),
        ("sums", ones, SigmaNeuron()),
    ]
    for name, synapse, kind in parts:
        connections = (Connection(source=source, synapse=synapse),)
        bias = np.zeros((), np.int32)
        layers.append(
            FixedLayer(name=name, shape=SHAPE, connections=connections, neuron=kind, bias=bias)
        )
        source = name
    graph = FixedPointGraph(input=FixedInput(shape=SHAPE), layers=tuple(layers))
    frames = np.random.default_rng(0).integers(0, 101, (1, 20, *SHAPE))
    run = run_stream(graph, frames)
    short = prove(graph, run, low=0, high=100, frames=20, steps=23)
    long = prove(graph, run, low=0, high=100, frames=20, steps=10**9)
    assert short.obligations == long.obligations
    assert "frames" not in {one.scope for one in short.obligations}
    assert long.obligations[-1].bound == 100 * 64 * 64
