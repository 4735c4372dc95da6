"""Tier C against the real SANA-FE: the same network, run by both, costs the same picojoules.

Our side is what a report does: simulate in Lava's time, count, apply the constants. SANA-FE builds
the network synapse by synapse, runs it itself and adds up energies of its own.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from neurodeploy.counting.network_counts import count
from neurodeploy.energy.formulas import chip_terms
from neurodeploy.energy.presets import EnergyPreset
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.simulation.event_simulator import EventSimulator
from neurodeploy.simulation.recording import Record, Stream

sanafe = pytest.importorskip("sanafe", reason="the package sanafe is not installed")
pytestmark = pytest.mark.slow

PRESET = EnergyPreset.load("loihi1_sanafe")
FORMATS = {"dense": "loihi_dense_synapse", "conv": "loihi_conv_synapse"}
PICO = 1e12


def instances(synapse, source):
    """Return (source neuron, destination neuron, weight) of every weight other than zero."""
    if isinstance(synapse, FixedDense):
        assert synapse.effective.is_exact
        return [(int(i), int(j), int(synapse.weight[j, i])) for j, i in np.argwhere(synapse.weight)]
    channels, height, width = source
    outputs, rows, columns = synapse.output_shape(source)
    found = []
    for co, oy, ox in product(range(outputs), range(rows), range(columns)):
        for ci, ky, kx in np.argwhere(synapse.weight[co]):
            y = oy * synapse.stride[0] + ky - synapse.padding[0]
            x = ox * synapse.stride[1] + kx - synapse.padding[1]
            if 0 <= y < height and 0 <= x < width:
                sender = (ci * height + y) * width + x
                receiver = (co * rows + oy) * columns + ox
                found.append((int(sender), receiver, int(synapse.weight[co, ci, ky, kx])))
    assert channels == synapse.weight.shape[1]
    return found


def run_sanafe(graph, inputs, places, form):
    """Run a chain in SANA-FE.

    Args:
        graph: Layers one after the other.
        inputs: (T, ...) of zeros and ones.
        places: (tile, core) of the input and of every layer; a list of them for a layer that is
            split evenly.
        form: Format of each layer's synapses.
    """
    architecture = sanafe.load_loihi()
    network = sanafe.Network()
    flat = inputs.reshape(len(inputs), -1)
    group = network.create_neuron_group("input", flat.shape[1])
    for number in range(flat.shape[1]):
        group[number].set_attributes(
            soma_hw_name=f"loihi_inputs[{number}]",
            model_attributes={"spikes": [bool(one) for one in flat[:, number]]},
        )
    groups = [group]
    for layer, name in zip(graph.layers, form, strict=True):
        neuron = layer.neuron
        group = network.create_neuron_group(
            layer.name,
            layer.neurons,
            model_attributes={
                "threshold": float(neuron.threshold),
                "leak_decay": 1 - int(neuron.voltage_decay) / 4096,
                "input_decay": 0.0,
                "bias": float(layer.bias),
                "reset_mode": "hard",
                "reverse_reset_mode": "none",
            },
            soma_hw_name="loihi_lif",
            default_synapse_hw_name=FORMATS[name],
        )
        connection = layer.connections[0]
        for sender, receiver, weight in instances(
            connection.synapse, graph.shape_of(connection.source)
        ):
            groups[-1][sender].connect_to_neuron(group[receiver], {"weight": float(weight)})
        groups.append(group)
    for group, cores in zip(groups, places, strict=True):
        share = -(-len(group.neurons) // len(cores))
        for number in range(len(group.neurons)):
            tile, core = cores[number // share]
            group[number].map_to_core(architecture.tiles[tile].cores[core])
    chip = sanafe.SpikingChip(architecture)
    chip.load(network)
    return chip.sim(len(flat), timing_model="simple")


def route(graph, recording, inputs, places):
    """Count messages (one per spike and core with a target) and their hops on the mesh."""
    sent = [inputs.reshape(len(inputs), -1)]
    sent += [one.reshape(recording.steps, -1) for one in recording.spikes]
    messages = east_west = north_south = 0
    for index, layer in enumerate(graph.layers):
        connection = layer.connections[0]
        share = -(-layer.neurons // len(places[index + 1]))
        reached = {
            (sender, receiver // share)
            for sender, receiver, _ in instances(
                connection.synapse, graph.shape_of(connection.source)
            )
        }
        spikes = np.count_nonzero(sent[index], axis=0)
        own = -(-len(spikes) // len(places[index]))
        for sender, part in reached:
            (tile, _), (other, _) = places[index][sender // own], places[index + 1][part]
            messages += spikes[sender]
            # tiles are numbered along the four rows of the mesh's eight columns
            east_west += spikes[sender] * abs(tile // 4 - other // 4)
            north_south += spikes[sender] * abs(tile % 4 - other % 4)
    return int(messages), int(east_west), int(north_south)


def layer(name, source, shape, synapse, *, threshold, leak=0, bias=0):
    return FixedLayer(
        name=name,
        shape=shape,
        connections=(Connection(source=source, synapse=synapse),),
        neuron=CubaNeuron(
            current_decay=np.array(4096, dtype=np.int32),
            voltage_decay=np.array(leak, dtype=np.int32),
            threshold=np.array(threshold, dtype=np.int32),
        ),
        bias=np.array(bias, dtype=np.int32),
    )


def compare(graph, inputs, places, form):
    """Return our terms and SANA-FE's parts, in pJ, with its counters."""
    recording = EventSimulator(graph).run(inputs[None], timing=Stream(), record=Record(counts=True))
    counts = count(graph, inputs[None], recording)
    conv = sum(row.sops for row, name in zip(counts.layers, form, strict=True) if name == "conv")
    messages, east_west, north_south = route(graph, recording, inputs, places)
    totals = counts.totals
    ours = chip_terms(
        PRESET,
        sops_dense=totals.sops - conv,
        sops_conv=conv,
        updates_dense=totals.updates_dense,
        updates_active=totals.updates_active,
        spikes=totals.spikes,
        messages=messages,
        hops=(east_west, north_south),
    )
    theirs = run_sanafe(graph, inputs, places, form)
    return counts, messages, ours, theirs


@pytest.mark.parametrize(
    ("form", "place", "total"),
    [("dense", (0, 1), 1716.0), ("conv", (0, 1), 1509.0), ("dense", (2, 0), 1741.2)],
)
def test_the_worked_example(form, place, total):
    """4 inputs, three spike once, 6 targets, 2 steps; then with two hops a message."""
    graph = FixedPointGraph(
        input=FixedInput(shape=(4,)),
        layers=(
            layer("out", INPUT, (6,), FixedDense(weight=np.ones((6, 4), np.int32)), threshold=100),
        ),
    )
    inputs = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], np.int32)
    counts, messages, ours, theirs = compare(graph, inputs, [[(0, 0)], [place]], [form])
    totals = counts.totals
    assert (totals.sops, totals.updates_dense, totals.updates_active) == (18, 12, 6)
    assert messages == totals.messages == theirs["packets_sent"] == 3
    assert round(sum(ours.values()), 6) == round(theirs["energy"]["total"] * PICO, 6) == total


def random_weight(rng, shape):
    """Even weights of both signs, some of them zero."""
    return 2 * rng.integers(-4, 6, shape, dtype=np.int32)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_of_hundreds_of_neurons(seed):
    """Two convolutions and two dense layers over five tiles, one layer split over two cores."""
    rng = np.random.default_rng(seed)
    conv1 = FixedConv(weight=random_weight(rng, (6, 2, 3, 3)), padding=(1, 1))
    conv2 = FixedConv(weight=random_weight(rng, (8, 6, 3, 3)), stride=(2, 2), padding=(1, 1))
    graph = FixedPointGraph(
        input=FixedInput(shape=(2, 8, 8)),
        layers=(
            layer("conv1", INPUT, (6, 8, 8), conv1, threshold=20, leak=1024),
            layer("conv2", "conv1", (8, 4, 4), conv2, threshold=30, leak=512),
            layer(
                "dense", "conv2", (40,), FixedDense(weight=random_weight(rng, (40, 128))),
                threshold=40, bias=3,
            ),
            layer("out", "dense", (10,), FixedDense(weight=random_weight(rng, (10, 40))),
                  threshold=25),
        ),
    )  # fmt: skip
    inputs = (rng.random((12, 2, 8, 8)) < 0.2).astype(np.int32)
    places = [[(0, 0)], [(0, 1), (5, 0)], [(9, 2)], [(30, 3)], [(31, 0)]]
    form = ["conv", "conv", "dense", "dense"]
    counts, messages, ours, theirs = compare(graph, inputs, places, form)
    totals = counts.totals
    assert min(row.spikes for row in counts.layers) > 0
    assert totals.neurons == 384 + 128 + 40 + 10
    assert totals.spikes + int(inputs.sum()) == theirs["neurons_fired"]
    assert totals.updates_active + int(inputs.sum()) == theirs["neurons_updated"]
    assert messages == theirs["packets_sent"]
    energy = {name: value * PICO for name, value in theirs["energy"].items()}
    # sums of tens of thousands of doubles in another order: nine digits
    assert ours["synaptic operations"] == pytest.approx(energy["synapse"], rel=1e-9)
    assert ours["neuron updates"] + ours["spikes"] == pytest.approx(energy["soma"], rel=1e-9)
    assert ours["messages"] + ours["hops"] == pytest.approx(energy["network"], rel=1e-9)
    assert sum(ours.values()) == pytest.approx(energy["total"], rel=1e-9)
