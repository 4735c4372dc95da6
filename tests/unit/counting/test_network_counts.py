"""Counts of whole networks: feeds, timings, weights as Lava acts with them, recordings."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from neurodeploy.counting.fan_out import ann_macs
from neurodeploy.counting.network_counts import count
from neurodeploy.energy.formulas import operations_of
from neurodeploy.errors import DataError
from neurodeploy.ir import (
    Connection,
    CubaNeuron,
    FixedConv,
    FixedDense,
    FixedInput,
    FixedLayer,
    FixedPointGraph,
    Graph,
)
from neurodeploy.ir.float_layers import (
    Conv,
    Cuba,
    Dense,
    GlobalAveragePool,
    Input,
)
from neurodeploy.ir.graphs import INPUT
from neurodeploy.ir.integer_layers import FixedInjection, NeuronModel
from neurodeploy.simulation.recording import Feed, Recording


def scalar(value: int) -> np.ndarray:
    return np.array(value, dtype=np.int32)


def neuron(current_decay: int = 4096, voltage_decay: int = 0) -> CubaNeuron:
    return CubaNeuron(
        current_decay=scalar(current_decay),
        voltage_decay=scalar(voltage_decay),
        threshold=scalar(9),
    )


def layer(name, shape, *connections, bias=0, **decays):
    return FixedLayer(
        name=name,
        shape=shape,
        connections=tuple(Connection(source=s, synapse=w) for s, w in connections),
        neuron=neuron(**decays),
        bias=scalar(bias),
    )


def recording(**spikes):
    arrays = tuple(np.asarray(one, dtype=np.int32) for one in spikes.values())
    return Recording.from_spikes(tuple(spikes), arrays)


def weights(*rows):
    return FixedDense(weight=np.array(rows, dtype=np.int32))


def single(bits=0, synapse=None, **options):
    """Two inputs, one neuron."""
    synapse = synapse or weights([3, -1])
    return FixedPointGraph(
        input=FixedInput(shape=(2,), message_bits=bits),
        layers=(layer("out", (1,), (INPUT, synapse), **options),),
    )


SILENT = recording(out=np.zeros((1, 2, 1)))


def test_a_port_without_message_bits_sees_one_spike_whatever_the_value():
    counts = count(single(), np.array([[[7, 0], [1, 1]]], dtype=np.int32), SILENT)
    row = counts.layers[0]
    assert (row.kind, row.events, row.sops, row.sops_mac) == ("binary", 3, 3, 0)


def test_graded_input_multiplies_and_a_static_image_could_be_cached():
    image = np.array([[[7, 5], [7, 5]]], dtype=np.int32)
    row = count(single(bits=4), image, SILENT).layers[0]
    assert (row.kind, row.events, row.sops, row.sops_mac, row.sops_ac) == ("graded", 4, 4, 4, 0)
    assert row.sops_cached == 2


def test_a_longer_recording_repeats_the_input():
    """Three steps of a two-step input: steps 1, 2, 1."""
    inputs = np.array([[[1, 1], [0, 0]]], dtype=np.int32)
    counts = count(single(), inputs, recording(out=np.zeros((1, 3, 1))))
    assert counts.totals.events == 4


def test_weights_that_lava_turns_to_zero_are_zero():
    """Without a negative weight, more than 255 makes Lava's whole matrix zero."""
    graph = single(synapse=weights([300, 1]))
    row = count(graph, np.ones((1, 2, 2), dtype=np.int32), SILENT).layers[0]
    assert (row.sops, row.sops_stored, row.zero_weight_fraction) == (0, 4, 1.0)


@pytest.mark.parametrize(
    ("feed", "inputs", "events", "kind"),
    [
        (Feed.NEURON, np.ones((1, 2, 2), dtype=np.int32), 4, "graded"),
        (Feed.BIAS, np.ones((1, 2), dtype=np.int32), 0, "bias"),
    ],
)
def test_an_input_block_has_no_synapses(feed, inputs, events, kind):
    graph = FixedPointGraph(
        input=FixedInput(shape=(2,), message_bits=8),
        layers=(
            layer("in", (2,), (INPUT, FixedInjection())),
            layer("out", (1,), ("in", weights([3, -1]))),
        ),
    )
    spikes = np.array([[[1, 0], [1, 1]]])
    counts = count(
        graph, inputs, recording(**{"in": spikes, "out": np.zeros((1, 2, 1))}), feed=feed
    )
    first, second = counts.layers
    assert (first.type, first.kind, first.events, first.sops) == ("injection", kind, events, 0)
    assert (first.neurons, first.spikes, first.messages) == (2, 3, 0)
    assert (second.kind, second.events, second.sops) == ("binary", 3, 3)
    assert counts.totals.messages == 3


def test_two_sources_each_pay_their_own_fan_out():
    conv = FixedConv(weight=np.ones((2, 1, 3, 3), dtype=np.int32), padding=(1, 1))
    relay = FixedConv(weight=np.ones((1, 1, 1, 1), dtype=np.int32))
    a = np.eye(3, dtype=np.int32)[None, None, None]
    b = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=np.int32)[None, None, None]
    graph = FixedPointGraph(
        input=FixedInput(shape=(1, 3, 3)),
        layers=(
            layer("b", (1, 3, 3), (INPUT, relay)),
            layer("sum", (2, 3, 3), (INPUT, conv), ("b", conv)),
        ),
    )
    counts = count(graph, a, recording(b=b, sum=np.zeros((1, 1, 2, 3, 3))))
    assert [row.sops for row in counts.layers] == [3, 34 + 28]


def test_recurrence_reads_the_step_before_and_is_a_row_of_its_own():
    again = FixedDense(weight=np.array([[5]], dtype=np.int32), partner=scalar(3)[None, None])
    graph = FixedPointGraph(
        input=FixedInput(shape=(1,)),
        layers=(layer("out", (1,), (INPUT, weights([3])), ("out", again)),),
    )
    counts = count(graph, np.zeros((1, 3, 1), dtype=np.int32), recording(out=[[[1], [0], [1]]]))
    assert [(row.name, row.events) for row in counts.layers] == [("out", 0), ("out.recurrent", 1)]
    assert (counts.totals.spikes, counts.totals.neurons) == (2, 1)


@pytest.mark.parametrize(
    ("decays", "model"),
    [
        ({}, NeuronModel.IF),
        ({"voltage_decay": 5}, NeuronModel.LIF),
        ({"current_decay": 5}, NeuronModel.CUBA),
    ],
)
def test_names_the_arithmetic_of_a_neuron(decays, model):
    counts = count(single(**decays), np.zeros((1, 2, 2), dtype=np.int32), SILENT)
    assert counts.layers[0].model is model


def test_updates_are_active_where_every_neuron_has_a_bias_and_else_unknown():
    zeros = np.zeros((1, 2, 2), dtype=np.int32)
    assert count(single(bias=3), zeros, SILENT).totals.updates_active == 2
    assert count(single(), zeros, SILENT).totals.updates_active is None
    given = count(single(), zeros, SILENT, active_updates={"out": np.array([1])})
    assert given.totals.updates_active == 1


def test_biases_are_adds_and_not_operations():
    totals = count(single(bias=3), np.zeros((1, 2, 2), dtype=np.int32), SILENT).totals
    assert (totals.bias_adds, totals.sops) == (2, 0)


def test_counts_of_the_worked_example(mlp, mlp_run):
    counts = count(mlp, *mlp_run)
    totals = counts.totals
    assert (totals.events, totals.spikes, totals.updates_dense) == (912, 138, 2660)
    assert totals.sops == totals.sops_stored == 201_984
    assert totals.messages == 912
    assert ann_macs(mlp).macs_standard == 203_264
    assert counts.sigma == 201_984 / 203_264


def test_the_twin_of_a_float_network_pools_before_it_is_dense():
    """Deployment folds the pool into the dense layer; the twin pays 4 · 2 MACs, not 36 · 2."""
    nodes = {
        "in": Input(shape=(1, 3, 3)),
        "conv": Conv(weight=np.ones((4, 1, 3, 3)), padding=(1, 1)),
        "neuron": Cuba(threshold=1.0),
        "pool": GlobalAveragePool(),
        "dense": Dense(weight=np.ones((2, 4))),
    }
    names = list(nodes)
    graph = Graph(nodes=nodes, edges=tuple(pairwise(names)))
    macs = ann_macs(graph)
    assert macs.macs_standard == 4 * 81 + 8
    assert macs.macs_border_exact == 4 * 49 + 8


@pytest.mark.parametrize(
    ("inputs", "record", "message"),
    [
        (np.zeros((2, 2, 2)), SILENT, "recording has 1 samples"),
        (np.zeros((1, 2, 3)), SILENT, "2 values a step"),
        (np.zeros((1, 2, 2)), recording(other=np.zeros((1, 2, 1))), "recording is of layers other"),
        (np.zeros((1, 2, 2)), recording(out=np.zeros((1, 2, 4))), "recorded spikes of shape"),
        (np.zeros((1, 2, 2)), recording(out=np.full((1, 2, 1), 3)), None),
    ],
)
def test_refuses_what_does_not_belong_together(inputs, record, message):
    if message is None:  # nobody reads the last layer's spikes: their values are not checked here
        assert count(single(), inputs.astype(np.int32), record).totals.spikes == 2
        return
    with pytest.raises(DataError, match=message):
        count(single(), inputs.astype(np.int32), record)


def test_several_synapses_from_one_source_share_its_messages():
    """Three events reach the layer's cores once each, whichever synapses they pass there."""
    graph = FixedPointGraph(
        input=FixedInput(shape=(2,)),
        layers=(layer("out", (1,), (INPUT, weights([3, -1])), (INPUT, weights([2, -2]))),),
    )
    inputs = np.array([[[1, 0], [1, 1]]], dtype=np.int32)
    row = count(graph, inputs, SILENT).layers[0]
    assert (row.messages, row.events, row.sops) == (3, 6, 6)


def test_a_layer_with_biases_adds_one_to_every_neuron():
    """Hardware holds a bias for each neuron of a layer; a zero among them is added as well."""
    graph = FixedPointGraph(
        input=FixedInput(shape=(2,)),
        layers=(layer("out", (2,), (INPUT, weights([3, -1], [1, -1])), bias=[0, 5]),),
    )
    silent = recording(out=np.zeros((1, 2, 2)))
    totals = count(graph, np.zeros((1, 2, 2), dtype=np.int32), silent).totals
    assert totals.bias_adds == 4


def test_neurons_with_two_synapses_are_updated_once_a_step():
    graph = FixedPointGraph(
        input=FixedInput(shape=(2,)),
        layers=(layer("out", (1,), (INPUT, weights([3, -1])), (INPUT, weights([2, -2]))),),
    )
    counts = count(graph, np.ones((1, 2, 2), dtype=np.int32), SILENT)
    operations = operations_of(counts)
    assert [access.updates for access in operations.accesses] == [2, 0]
    assert operations.updates_dense == 2
