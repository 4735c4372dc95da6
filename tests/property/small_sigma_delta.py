"""A sigma-delta network that can be computed by hand, and frames for it."""

from __future__ import annotations

import numpy as np

from neurodeploy.ir.graphs import INPUT, FixedInput, FixedPointGraph
from neurodeploy.ir.integer_layers import (
    Connection,
    DeltaNeuron,
    FixedDense,
    FixedInjection,
    FixedLayer,
    SigmaDeltaNeuron,
    SigmaNeuron,
)

FRAMES = np.array([[[1, 0], [1, 0], [0, 2], [0, 2], [0, 2]]], np.int32)
"""Three frames, the last one repeated until it is answered."""


def small_network() -> FixedPointGraph:
    """Two inputs, two hidden neurons, one of them with a bias, and one output."""

    def layer(name: str, source: str, weight: list[list[int]] | None, neuron, bias) -> FixedLayer:
        synapse = FixedInjection() if weight is None else FixedDense(weight=np.int32(weight))
        size = 2 if weight is None else len(weight)
        return FixedLayer(
            name=name,
            shape=(size,),
            connections=(Connection(source=source, synapse=synapse),),
            neuron=neuron,
            bias=np.int32(bias),
        )

    return FixedPointGraph(
        input=FixedInput(shape=(2,)),
        layers=(
            layer("in", INPUT, None, DeltaNeuron(threshold=0, spike_exponent=0), 0),
            layer(
                "hidden", "in", [[64, 0], [64, -64]],
                SigmaDeltaNeuron(threshold=1, spike_exponent=0), [0, 1],
            ),
            layer("out", "hidden", [[64, 64]], SigmaNeuron(), 0),
        ),
    )  # fmt: skip
