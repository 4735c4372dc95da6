"""Counts equal a brute-force enumeration of every synapse instance, in plain Python loops."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings, strategies as st

from neurodeploy.counting.network_counts import count
from neurodeploy.counting.synapse_counts import (
    InputKind,
    count_layer,
)
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
from neurodeploy.simulation.recording import Recording

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
small = st.integers(1, 3)


def enumerate_conv(weight, events, stride, padding, dilation, groups):
    """Visit every output, every tap: (sops, sops_stored, dense_exact) by definition."""
    outputs, per_group, *kernel = weight.shape
    _, height, width = events.shape[2:]
    size = [
        (extent + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i, extent in enumerate((height, width))
    ]
    sops = [0] * events.shape[0]
    stored = [0] * events.shape[0]
    dense = 0
    for co, oy, ox in product(range(outputs), range(size[0]), range(size[1])):
        first = co // (outputs // groups) * per_group
        for ci, ky, kx in product(range(per_group), range(kernel[0]), range(kernel[1])):
            y = oy * stride[0] - padding[0] + ky * dilation[0]
            x = ox * stride[1] - padding[1] + kx * dilation[1]
            if not (0 <= y < height and 0 <= x < width):
                continue
            dense += 1
            for sample, step in product(range(events.shape[0]), range(events.shape[1])):
                if events[sample, step, first + ci, y, x] != 0:
                    stored[sample] += 1
                    sops[sample] += int(weight[co, ci, ky, kx] != 0)
    return sops, stored, dense


@settings(max_examples=60, deadline=None)
@given(
    random=generators,
    groups=st.integers(1, 2),
    channels=st.tuples(small, small),
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    extra=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_conv_counts_equal_enumeration(
    random, groups, channels, kernel, stride, padding, dilation, extra
):
    weight = random.integers(-1, 2, (groups * channels[0], channels[1], *kernel))
    frame = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) + extra[i] for i in (0, 1)]
    events = random.integers(0, 2, (2, 2, groups * channels[1], *frame))
    counted = count_layer(
        weight,
        events,
        kind=InputKind.BINARY,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    sops, stored, dense = enumerate_conv(weight, events, stride, padding, dilation, groups)
    assert counted.sops.tolist() == sops
    assert counted.sops_stored.tolist() == stored
    assert counted.fan_out.dense_exact == dense


@settings(max_examples=30, deadline=None)
@given(random=generators, inputs=st.integers(1, 6), outputs=st.integers(1, 6))
def test_dense_counts_equal_enumeration(random, inputs, outputs):
    weight = random.integers(-1, 2, (outputs, inputs))
    events = random.integers(-1, 2, (2, 3, inputs))
    counted = count_layer(weight, events, kind=InputKind.TERNARY)
    for sample in range(2):
        instances = [
            weight[j, i]
            for step, i, j in product(range(3), range(inputs), range(outputs))
            if events[sample, step, i] != 0
        ]
        assert int(counted.sops_stored[sample]) == len(instances)
        assert int(counted.sops[sample]) == sum(int(one != 0) for one in instances)


def neuron() -> CubaNeuron:
    return CubaNeuron(
        current_decay=np.array(4096, dtype=np.int32),
        voltage_decay=np.array(0, dtype=np.int32),
        threshold=np.array(10, dtype=np.int32),
    )


@settings(max_examples=20, deadline=None)
@given(random=generators, samples=st.integers(1, 3), steps=st.integers(1, 3))
def test_network_counts_equal_enumeration(random, samples, steps):
    """Conv, then dense on the flattened map with recurrence and a zero column: every row."""
    conv = random.integers(-2, 3, (2, 1, 2, 2)).astype(np.int32)
    dense = random.integers(-100, 100, (3, 2 * 2 * 3)).astype(np.int32)
    dense[0, 0], dense[0, 1], dense[:, 5] = 7, -7, 0
    again = random.integers(-100, 100, (3, 3)).astype(np.int32)
    graph = FixedPointGraph(
        input=FixedInput(shape=(1, 3, 4), message_bits=4),
        layers=(
            FixedLayer(
                name="conv",
                shape=(2, 2, 3),
                connections=(Connection(source=INPUT, synapse=FixedConv(weight=conv)),),
                neuron=neuron(),
                bias=np.array(0, dtype=np.int32),
            ),
            FixedLayer(
                name="dense",
                shape=(3,),
                connections=(
                    Connection(source="conv", synapse=FixedDense(weight=dense, partner=again)),
                    Connection(source="dense", synapse=FixedDense(weight=again, partner=dense)),
                ),
                neuron=neuron(),
                bias=np.array([1, 2, 3], dtype=np.int32),
            ),
        ),
    )
    pixels = random.integers(0, 3, (samples, steps, 1, 3, 4)).astype(np.int32)
    first = random.integers(0, 2, (samples, steps, 2, 2, 3)).astype(np.int32)
    second = random.integers(0, 2, (samples, steps, 3)).astype(np.int32)
    recording = Recording.from_spikes(("conv", "dense"), (first, second))
    counts = count(graph, pixels, recording)

    sops, stored, dense_exact = enumerate_conv(conv, pixels, (1, 1), (0, 0), (1, 1), 1)
    rows = {row.name: row for row in counts.layers}
    assert rows["conv"].sops == rows["conv"].sops_mac == sum(sops)
    assert rows["conv"].sops_stored == sum(stored)
    assert rows["conv"].dense_exact == dense_exact
    by_sample = list(sops)
    for sample, step in product(range(samples), range(steps)):
        for i in np.flatnonzero(first[sample, step].reshape(-1)):
            by_sample[sample] += int(np.count_nonzero(dense[:, i]))
        if step > 0:
            for i in np.flatnonzero(second[sample, step - 1]):
                by_sample[sample] += int(np.count_nonzero(again[:, i]))
    assert counts.sops_by_sample.tolist() == by_sample
    assert counts.totals.sops == sum(by_sample)
    assert rows["dense"].updates_active == rows["dense"].updates_dense == 3 * samples * steps
    assert rows["conv"].updates_active is None
    assert rows["dense.recurrent"].neurons == 0
    assert counts.totals.spikes == int(first.sum() + second.sum())
