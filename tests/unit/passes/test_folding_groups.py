"""Convolutions of many groups compute the same in the few groups that Lava can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neurodeploy import netx
from neurodeploy.chips.target import Target
from neurodeploy.errors import NetxError
from neurodeploy.ir.float_layers import (
    Conv,
    Cuba,
    Input,
)
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes import merge_groups, quantize
from neurodeploy.simulation import EventSimulator


def grouped(rng: np.random.Generator, groups: int, outputs: int, inputs: int) -> Graph:
    """A convolution of so many groups, each of so many output and input channels."""
    weight = rng.normal(0, 1, (groups * outputs, inputs, 2, 3))
    nodes = {
        "input": Input(shape=(groups * inputs, 5, 6)),
        "conv": Conv(weight=weight, groups=groups, padding=(1, 1), stride=(2, 1)),
        "lif": Cuba(threshold=1.0, voltage_decay=0.5),
    }
    return Graph(nodes=nodes, edges=(("input", "conv"), ("conv", "lif")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("groups", "outputs", "inputs", "expected"),
    [(128, 1, 1, 64), (256, 2, 1, 64), (190, 1, 2, 95), (131, 1, 1, 1), (127, 1, 1, 127)],
)
def test_the_function_stays_and_lava_can_hold_the_groups(
    groups: int, outputs: int, inputs: int, expected: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(groups)
    graph = grouped(rng, groups, outputs, inputs)
    merged = merge_groups(graph)
    conv = merged.nodes["conv"]
    assert isinstance(conv, Conv)
    assert conv.groups == expected
    values = torch.from_numpy(rng.normal(0, 1, (2, groups * inputs, 5, 6)))
    ours, reference = (
        torch.nn.functional.conv2d(
            values, torch.from_numpy(c.weight), stride=c.stride, padding=c.padding, groups=c.groups
        )
        for c in (conv, graph.nodes["conv"])
    )
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)  # another order of sums
    target = Target.load("loihi2")
    fixed, plain = (quantize(g, target, steps=3) for g in (merged, graph))
    samples = (rng.random((2, 3, groups * inputs, 5, 6)) < 0.4).astype(np.int32)
    first, second = (EventSimulator(g).run(samples) for g in (fixed, plain))
    assert np.array_equal(first.spikes[0], second.spikes[0])
    assert 0.01 < first.spikes[0].mean() < 0.99
    netx.write(fixed, tmp_path / "merged.net")
    if groups > 127:
        with pytest.raises(NetxError, match="group count of"):
            netx.write(plain, tmp_path / "plain.net")
