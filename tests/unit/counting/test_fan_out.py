"""Fan-out maps and counts of single layers: worked examples whose numbers are known by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from neurodeploy.counting.fan_out import ann_macs, conv_fan_out, dense_fan_out, synapse_fan_out
from neurodeploy.counting.neurobench import count_membrane_updates
from neurodeploy.counting.synapse_counts import (
    InputKind,
    count_events,
    count_layer,
)
from neurodeploy.errors import DataError, GraphError
from neurodeploy.ir.float_layers import Input, KeepsShape
from neurodeploy.ir.graphs import Graph
from neurodeploy.ir.integer_layers import FixedDense, FixedLayer, SigmaNeuron
from neurodeploy.simulation.counters import UpdateCounter
from neurodeploy.simulation.neurons import Dynamics

W = np.array(
    [[1, 0, -2, 0, 3, 0], [0, 0, 4, 0, 0, -1], [2, 2, 0, 0, -3, 1], [0, 5, 0, 0, 0, 6]],
    dtype=np.int32,
)
SPIKES = np.array([[1, 0, 0, 1, 0, 1], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0]], dtype=np.int32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, dtype=np.int32)


class TestLinear:
    def test_counts_instances_with_a_weight_other_than_zero(self):
        fan_out = dense_fan_out(W)
        assert fan_out.nonzero.tolist() == [2, 2, 2, 0, 2, 3]
        assert fan_out.stored.tolist() == [4] * 6

    def test_charges_each_event_its_fan_out(self):
        counted = count_layer(W, SPIKES[None], kind=InputKind.BINARY)
        assert counted.events.tolist() == [7]
        assert counted.sops.tolist() == [11]
        assert counted.sops_stored.tolist() == [28]
        assert len(SPIKES) * counted.fan_out.dense_exact == 72

    def test_counts_step_by_step(self):
        steps = [count_layer(W, row[None, None], kind=InputKind.BINARY) for row in SPIKES]
        assert [int(step.sops[0]) for step in steps] == [5, 4, 2]


class TestBorder:
    def test_leaves_out_taps_on_padding(self):
        fan_out = conv_fan_out(ones(1, 1, 3, 3), (1, 4, 4), padding=1)
        edge, inner = [4, 6, 6, 4], [6, 9, 9, 6]
        assert fan_out.stored[0].tolist() == [edge, inner, inner, edge]
        assert (fan_out.dense_exact, fan_out.dense_macs) == (100, 144)

    def test_counts_eight_output_channels(self):
        frame = np.zeros((1, 1, 1, 4, 4), dtype=np.int32)
        frame[..., 0, 0] = frame[..., 1, 1] = 1
        counted = count_layer(ones(8, 1, 3, 3), frame, padding=1, kind=InputKind.BINARY)
        assert counted.sops.tolist() == [104]
        assert (counted.fan_out.dense_exact, counted.fan_out.dense_macs) == (800, 1152)

    @pytest.mark.parametrize("n", [4, 8, 32])
    def test_agrees_with_the_closed_form(self, n):
        fan_out = conv_fan_out(ones(1, 1, 3, 3), (1, n, n), padding=1)
        assert fan_out.dense_exact * (3 * n) ** 2 == fan_out.dense_macs * (3 * n - 2) ** 2


def test_counts_stride_padding_dilation_and_groups_together():
    co, ci, ky, kx = np.ogrid[:6, :2, :3, :3]
    weight = (3 * co + 5 * ci + 2 * ky + kx) % 7 - 3
    t, c, y, x = np.ogrid[:2, :4, :5, :6]
    spikes = ((7 * t + 3 * c + 5 * y + 2 * x) % 6 == 0).astype(np.int32)
    counted = count_layer(
        weight,
        spikes[None],
        kind=InputKind.BINARY,
        stride=(2, 1),
        padding=(1, 2),
        dilation=(1, 2),
        groups=2,
    )
    fan_out = counted.fan_out
    assert (fan_out.zero_weights, fan_out.weights) == (16, 108)
    assert counted.events.tolist() == [40]
    assert counted.sops.tolist() == [336]
    assert counted.sops_stored.tolist() == [396]
    assert (fan_out.dense_exact, fan_out.dense_macs) == (1176, 1944)
    assert int(fan_out.nonzero.sum()) == 1000
    thin, thick = [5, 5, 7, 7, 4, 4], [10, 10, 16, 16, 12, 12]
    assert fan_out.nonzero[0].tolist() == [thin, thick, thin, thick, thin]


class TestKinds:
    graded = np.array([[0, 3, 0, -1, 0, 0], [2, 0, 0, 0, 0, -7]], dtype=np.int32)

    def test_counts_a_graded_event_once_whatever_its_payload(self):
        counted = count_layer(W, self.graded[None], kind=InputKind.GRADED)
        assert (counted.events.tolist(), counted.sops.tolist()) == ([4], [7])
        assert counted.encoder_macs_cached is None

    def test_counts_signs_alike(self):
        counted = count_layer(W, np.sign(self.graded)[None], kind=InputKind.TERNARY)
        assert (counted.events.tolist(), counted.sops.tolist()) == ([4], [7])

    def test_counts_analog_input_as_encoder_macs_and_not_as_sops(self):
        static = np.tile([0.5, 0, -1.2, 0.7, 0, 0.1], (1, 4, 1))
        counted = count_layer(W, static, kind=InputKind.ANALOG)
        assert counted.encoder_macs.tolist() == [28]
        assert counted.encoder_macs_cached is not None
        assert counted.encoder_macs_cached.tolist() == [7]
        assert (counted.sops.tolist(), counted.events.tolist()) == ([0], [0])
        assert 4 * counted.fan_out.dense_exact == 96

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            ([0, 2], InputKind.BINARY),
            ([0, -1], InputKind.BINARY),
            ([0, -2], InputKind.TERNARY),
            ([0.0, 1.0], InputKind.BINARY),
            ([0.5, 1.0], InputKind.GRADED),
            ([np.nan, 1.0], InputKind.ANALOG),
        ],
    )
    def test_refuses_values_that_the_sender_cannot_send(self, values, kind):
        with pytest.raises(DataError, match="input: "):
            count_layer(ones(1, 2), np.array([[values]]), kind=kind)

    def test_bias_costs_nothing(self):
        counted = count_layer(W, self.graded[None], kind=InputKind.BIAS)
        assert (counted.events.tolist(), counted.sops.tolist()) == ([0], [0])


class TestResidual:
    fan_out = conv_fan_out(ones(2, 1, 3, 3), (1, 3, 3), padding=1)
    a = np.eye(3, dtype=np.int32)[None, None, None]
    b = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=np.int32)[None, None, None]

    def test_two_edges_each_pay(self):
        assert self.fan_out.stored[0].tolist() == [[8, 12, 8], [12, 18, 12], [8, 12, 8]]
        counted = [
            int(count_events(self.fan_out, one, kind=InputKind.BINARY).sops[0])
            for one in (self.a, self.b)
        ]
        assert counted == [34, 28]

    def test_values_added_before_the_synapse_are_one_graded_event(self):
        counted = count_events(self.fan_out, self.a + self.b, kind=InputKind.GRADED)
        assert counted.sops.tolist() == [46]


def test_sum_pool_is_a_depthwise_synapse_and_leftovers_cost_nothing():
    frame = ones(1, 1, 2, 5, 5)
    counted = count_layer(ones(2, 1, 2, 2), frame, stride=2, groups=2, kind=InputKind.BINARY)
    assert counted.sops.tolist() == [32]
    assert counted.fan_out.stored[0, :4, :4].min() == 1
    assert counted.fan_out.stored[:, 4].max() == counted.fan_out.stored[:, :, 4].max() == 0


def test_counts_a_transposed_convolution():
    fan_out = conv_fan_out(
        ones(2, 3, 3, 3), (2, 2, 3), stride=2, padding=1, output_padding=1, is_transposed=True
    )
    assert fan_out.stored[0].tolist() == [[12, 18, 18], [18, 27, 27]]
    assert (fan_out.dense_exact, fan_out.dense_macs) == (240, 324)


def test_counts_one_dimensional_convolutions_and_uneven_padding():
    # five pixels, kernel 2, one zero in front: outputs 0..4, the last pixel is read once
    fan_out = conv_fan_out(ones(1, 1, 2), (1, 5), padding=1, padding_after=0)
    assert fan_out.stored.tolist() == [[2, 2, 2, 2, 1]]
    assert fan_out.dense_macs == 10


class TestPilotNet:
    """Shapes of the public PilotNet."""

    @staticmethod
    def macs(source, layers, dense):
        exact = standard = 0
        for channels, stride, padding in layers:
            weight = ones(channels, source[0], 3, 3)
            fan_out = conv_fan_out(weight, source, stride=stride, padding=padding)
            size = [(source[i + 1] + 2 * padding[i] - 3) // stride[i] + 1 for i in (0, 1)]
            source = (channels, *size)
            exact, standard = exact + fan_out.dense_exact, standard + fan_out.dense_macs
        for outputs, inputs in zip(dense[1:], dense[:-1], strict=True):
            exact, standard = exact + inputs * outputs, standard + inputs * outputs
        assert int(np.prod(source)) == dense[0]
        return standard, exact

    def test_full_size(self):
        layers = [
            (24, (2, 2), (0, 0)),
            (36, (2, 2), (0, 0)),
            (48, (2, 2), (0, 0)),
            (64, (2, 1), (1, 0)),
            (64, (1, 1), (0, 0)),
        ]
        found = self.macs((3, 66, 200), layers, [2560, 100, 50, 10, 1])
        assert found == (14_550_054, 14_144_550)

    def test_tutorial_size(self):
        layers = [
            (24, (2, 2), (0, 0)),
            (36, (2, 2), (0, 0)),
            (64, (2, 1), (1, 0)),
            (64, (1, 1), (0, 0)),
        ]
        assert self.macs((3, 33, 100), layers, [2560, 100, 50, 10, 1])[0] == 5_375_238


def _potential(values):
    """Return neurons that have one state, the voltage, of one sample."""
    return cast("Dynamics", SimpleNamespace(states=lambda: {"voltage": values[None]}))


class TestUpdates:
    drive = np.array([[0.5, 0, 0], [0, 0, 0], [0.75, 0, 1], [0, 0, 0], [0, 0.25, 0]])

    @pytest.mark.parametrize(
        ("leak", "spikes", "membrane", "active"), [(1.0, 2, 5, 7), (0.5, 1, 8, 7)]
    )
    def test_membrane_and_active_updates(self, leak, spikes, membrane, active):
        """v ← leak·v + I; s = v ≥ 1; v ← v - s, three neurons, five steps."""
        layer = SimpleNamespace(bias=np.zeros(3), shape=(3,), neurons=3, neuron=SigmaNeuron())
        counter = UpdateCounter(cast("FixedLayer", layer), 1, None)
        after, fired = [], 0
        v = np.zeros(3)
        for current in self.drive:
            counter.count_active(_potential(v), (current != 0)[None])
            v = leak * v + current
            fired += int((v >= 1).sum())
            v = v - (v >= 1)
            counter.count_changed(_potential(v))
            after.append(v)
        assert fired == spikes
        assert count_membrane_updates(np.array(after)) == membrane
        assert counter.updates.tolist() == [[active, membrane]]


@pytest.mark.parametrize(
    ("weight", "source", "options"),
    [
        (ones(2, 3, 3, 3), (2, 5, 5), {}),
        (ones(2, 3, 3, 3), (3, 2, 2), {}),
        (ones(2, 3, 3, 3), (3, 5, 5), {"stride": 0}),
        (ones(2, 3, 3, 3), (3, 5, 5), {"stride": (1, 0)}),
        (ones(2, 3, 3, 3), (3, 5, 5), {"dilation": (1, 0)}),
        (ones(3, 1, 3, 3), (2, 5, 5), {"groups": 2}),
        (ones(2, 3, 3, 3), (3, 5), {}),
        (ones(2, 3, 3, 3), (3, 5, 5), {"stride": (1, 1, 1)}),
    ],
)
def test_refuses_geometry_that_does_not_fit(weight, source, options):
    with pytest.raises(DataError, match="conv: "):
        conv_fan_out(weight, source, **options)


def test_refuses_input_of_another_size():
    with pytest.raises(DataError, match="6 values a step"):
        count_layer(W, np.zeros((1, 2, 5), dtype=np.int32), kind=InputKind.BINARY)


def test_refuses_a_synapse_of_an_unknown_kind():
    class Unknown:
        weight = W

    with pytest.raises(GraphError, match="a synapse of type Unknown"):
        synapse_fan_out(cast(FixedDense, Unknown()), (6,))


def test_refuses_unknown_keywords():
    with pytest.raises(TypeError, match="'strides'"):
        conv_fan_out(ones(2, 3, 3, 3), (3, 5, 5), strides=2)
    with pytest.raises(TypeError, match="'is_recurent'"):
        count_layer(W, SPIKES[None], kind="binary", is_recurent=True)


def test_a_layer_of_an_unknown_kind_is_no_layer_without_macs():
    class Unknown(KeepsShape):
        pass

    nodes = {"input": Input(shape=(3,)), "odd": Unknown()}
    graph = Graph(nodes=nodes, edges=(("input", "odd"),))  # type: ignore[arg-type]
    with pytest.raises(GraphError, match="'odd': a layer of type Unknown, whose MACs"):
        ann_macs(graph)


def test_a_convolution_cannot_be_recurrent():
    with pytest.raises(DataError, match="conv: only dense synapses can be recurrent"):
        count_layer(ones(1, 1, 1, 1), ones(1, 2, 1, 3, 3), kind="binary", is_recurrent=True)
