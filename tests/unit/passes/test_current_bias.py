"""Biases on decaying currents, carried by neurons that always fire, change no spike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from neurodeploy.errors import GraphError
from neurodeploy.ir.float_layers import Conv, Cuba, Dense, Flatten, Input, Layer
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.current_bias import carry_current_biases, drive_voltages

RNG = np.random.default_rng(3)
SLOW = Cuba(threshold=1.0, current_decay=0.5, voltage_decay=0.25)
FAST = Cuba(threshold=1.0, voltage_decay=0.25)


def chain(**nodes: Layer) -> Graph:
    return Graph(nodes=nodes, edges=tuple(itertools.pairwise(nodes)))


def dense(outputs: int, inputs: int, *, has_bias: bool = True) -> Dense:
    bias = RNG.normal(size=outputs) / 4 if has_bias else None
    return Dense(weight=RNG.normal(size=(outputs, inputs)), bias=bias)


def conv(outputs: int, inputs: int, **options: object) -> Conv:
    weight = RNG.normal(size=(outputs, inputs, 3, 3)) / 2
    return Conv(weight=weight, bias=RNG.normal(size=outputs) / 4, **options)  # type: ignore[arg-type]


def spikes_of(graph: Graph, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Every population's spikes, (T, ...), from the equations in `Cuba`'s docstring."""
    shapes, spikes = graph.shapes(), {}
    state = {name: [np.zeros(shape), np.zeros(shape)] for name, shape in shapes.items()}
    for step in inputs:
        values: dict[str, np.ndarray] = {}
        for name, layer in graph.nodes.items():
            x = sum((values[source] for source in graph.sources(name)), np.zeros(()))
            bias = getattr(layer, "bias", None)
            if isinstance(layer, Input):
                values[name] = step * layer.scale
            elif isinstance(layer, Flatten):
                values[name] = x.ravel()
            elif isinstance(layer, Dense):
                values[name] = layer.weight @ x.ravel() + (0 if bias is None else bias)
            elif isinstance(layer, Conv):
                values[name] = functional.conv2d(
                    torch.from_numpy(x[None]),
                    torch.from_numpy(layer.weight),
                    None if bias is None else torch.from_numpy(bias),
                    stride=layer.stride,
                    padding=layer.padding,
                )[0].numpy()
            else:
                assert isinstance(layer, Cuba)
                u, v = state[name]
                u = (1 - np.asarray(layer.current_decay)) * u + x
                v = (1 - np.asarray(layer.voltage_decay)) * v + u + (0 if bias is None else bias)
                values[name] = (v > layer.threshold).astype(float)
                state[name] = [u, np.where(v > layer.threshold, 0, v)]
                spikes.setdefault(name, []).append(values[name])
    return {name: np.array(found) for name, found in spikes.items()}


NETWORKS = {
    "behind a layer": chain(
        input=Input(shape=(3,)), a=dense(4, 3), fast=FAST, b=dense(5, 4), slow=SLOW
    ),
    "behind the input": chain(
        input=Input(shape=(3,), scale=0.5), a=dense(4, 3), slow=SLOW, b=dense(5, 4), next=SLOW
    ),
    "of convolutions": chain(
        input=Input(shape=(2, 5, 4)),
        a=conv(3, 2, padding=(1, 1)),
        fast=FAST,
        b=conv(4, 3, padding=(1, 1), stride=(2, 1)),
        slow=SLOW,
        flat=Flatten(),
        c=dense(3, 4 * 3 * 4),
        last=SLOW,
    ),
    "beside a skip": Graph(
        nodes={
            "input": Input(shape=(2, 4, 4)),
            "a": conv(3, 2, padding=(1, 1)),
            "one": FAST,
            "b": conv(3, 3, padding=(1, 1)),
            "two": SLOW,
            "c": conv(3, 3, padding=(1, 1)),
            "three": SLOW,
        },
        edges=(
            *itertools.pairwise(["input", "a", "one", "b", "two", "c", "three"]),
            ("one", "two"),
            ("two", "three"),
        ),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_stays(name: str) -> None:
    graph = NETWORKS[name]
    carried = carry_current_biases(graph)
    carried.graph.check()
    assert (carried.relay is not None) == (name == "behind the input")
    for node, layer in carried.graph.nodes.items():
        if isinstance(layer, Conv | Dense) and isinstance(graph.nodes.get(node), Conv | Dense):
            (reader,) = carried.graph.destinations(node)
            assert layer.bias is None or carried.graph.nodes[reader] is not SLOW
    inputs = (np.random.default_rng(4).random((12, *graph.input.shape)) < 0.4).astype(float)
    before, after = spikes_of(graph, inputs), spikes_of(carried.graph, inputs)
    for population, expected in before.items():
        own = after[population][:, : carried.channels[population]]
        assert np.array_equal(own, expected), population
        assert after[population][:, carried.channels[population] :].all()
        assert 0 < expected.mean() < 1


def test_what_needs_no_carrier_stays_as_it_is() -> None:
    """A bias behind a current of one step, and a decaying current without a bias."""
    graph = chain(
        input=Input(shape=(3,)),
        a=dense(4, 3),
        fast=FAST,
        b=dense(5, 4, has_bias=False),
        slow=SLOW,
    )
    assert carry_current_biases(graph).graph is graph
    assert drive_voltages(graph).is_exact


def test_biases_of_all_synapses_drive_the_voltage_together() -> None:
    two = Graph(
        nodes={
            "input": Input(shape=(2,)),
            "a": Dense(weight=np.eye(2), bias=np.array([1.0, 2.0])),
            "b": Dense(weight=np.eye(2), bias=np.array([0.5, -1.0])),
            "slow": Cuba(threshold=1.0, current_decay=0.5, bias=np.array([0.25, 0.0])),
        },
        edges=(("input", "a"), ("input", "b"), ("a", "slow"), ("b", "slow")),
    )
    driven = drive_voltages(two)
    slow = driven.graph.nodes["slow"]
    assert isinstance(slow, Cuba)
    assert slow.bias is not None
    assert slow.bias.tolist() == [3.25, 2.0]
    assert not driven.is_exact


@pytest.mark.parametrize("options", [{"padding": (3, 3)}, {"padding": (1, 1), "dilation": (2, 2)}])
def test_a_kernel_without_a_tap_on_the_map_is_refused(options: dict[str, object]) -> None:
    graph = chain(
        input=Input(shape=(2, 6, 6)),
        a=conv(3, 2, padding=(1, 1)),
        fast=FAST,
        b=conv(4, 3, **options),
        slow=SLOW,
    )
    with pytest.raises(GraphError, match=r"b: padding .* no tap lies on the map"):
        carry_current_biases(graph)


@pytest.mark.parametrize(
    "entry",
    [Input(shape=(3,), largest=15), Input(shape=(3,), smallest=-1)],
    ids=["graded", "ternary"],
)
def test_input_of_more_than_spikes_cannot_be_relayed(entry: Input) -> None:
    graph = chain(input=entry, a=dense(4, 3), slow=SLOW)
    with pytest.raises(GraphError, match=r"input: .*only binary input can be relayed"):
        carry_current_biases(graph)
