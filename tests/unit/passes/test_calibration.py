"""Calibration ends where rounding moves states by more than they exceed their range."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.chips.target import Target
from neurodeploy.ir.float_layers import Cuba, Dense, Input, Integrator
from neurodeploy.ir.graphs import Graph
from neurodeploy.passes.calibration import MARGIN, calibrate


@pytest.mark.parametrize("seed", [32, 74, 132, 306, 371])  # stuck without a push, as 4 % are
def test_scales_that_rounding_holds_up_are_lowered_further(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = Graph(
        nodes={
            "input": Input(shape=(6,), scale=1 / 16, largest=255),
            "fc": Dense(weight=rng.normal(size=(4, 6)) / 3, bias=rng.normal(size=4) / 5),
            "lif": Cuba(threshold=0.5, voltage_decay=0.5),
            "out": Dense(weight=rng.normal(size=(2, 4)), bias=None),
            "readout": Integrator(),
        },
        edges=(("input", "fc"), ("fc", "lif"), ("lif", "out"), ("out", "readout")),
    )
    inputs = np.repeat(rng.integers(0, 256, (64, 1, 6)), 4, axis=1).astype(np.int32)
    found = calibrate(graph, Target.load("loihi2"), inputs)
    assert max(health.voltage_peak for health in found.health) <= (1 << 23) / MARGIN
