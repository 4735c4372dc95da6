"""Graphs of floats: numbers that are none are refused wherever a network comes from."""

from __future__ import annotations

import numpy as np
import pytest

from neurodeploy.errors import GraphError
from neurodeploy.ir.float_layers import Dense, Input
from neurodeploy.ir.graphs import Graph


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["weight", "bias"])
def test_weights_that_are_not_finite_are_refused(key: str, value: float) -> None:
    numbers = {"weight": np.ones((3, 2)), "bias": np.ones(3)}
    graph = Graph(
        nodes={"input": Input(shape=(2,)), "dense": Dense(**numbers)},
        edges=(("input", "dense"),),
    )
    graph.check()
    numbers[key].flat[1] = value
    with pytest.raises(GraphError, match=f"'dense': {key} holds NaN or infinity"):
        graph.check()
